// SPDX-License-Identifier: BSD-2-Clause
//! `wg-quick save`, which is also what `SaveConfig` does.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use zeroize::Zeroizing;

use crate::cmd;
use crate::config::Config;
use crate::dns;
use crate::file::Job;
use crate::host::{Failure, Host, failed};
use crate::os::{Os, State};
use crate::query::{self, QueryError};

/// Makes the file say what the interface is. Comments are lost.
///
/// # Errors
/// The interface cannot be asked, or the file not be written; it is then as it was.
pub fn save(host: &mut dyn Host, os: &dyn Os, job: &Job) -> Result<(), Failure> {
    let as_it_was = |failure: Failure| match failure {
        Failure::Failed(text) => {
            Failure::Failed(format!("{text}; `{}' is as it was", job.path.display()))
        }
        interrupted => interrupted,
    };
    let state = os.state(host, job).map_err(as_it_was)?;
    let list = os.resolvconf(host, &job.name).list;
    // Not every resolvconf can list.
    let listed = match query::text(host, &list) {
        Ok(text) => dns::listed(&text),
        Err(QueryError::NotAsked(Failure::Interrupted(signal))) => {
            return Err(Failure::Interrupted(signal));
        }
        Err(_) => Vec::new(),
    };
    let showconf = cmd!["wg", "showconf", job.name];
    host.say(&format!("[#] {showconf}"));
    let shown = host.query(&showconf)?;
    if !shown.ok {
        let error = QueryError::Failed {
            cmd: showconf,
            said: shown.said,
        };
        return Err(as_it_was(error.into()));
    }
    let Some(text) = compose(&job.config, &state, &listed, &shown.out) else {
        // Not which words: there are keys among them.
        let text = format!("`{showconf}' printed what is not understood");
        return Err(as_it_was(Failure::Failed(text)));
    };
    write(&job.path, &text).or_else(|e| {
        failed(format!(
            "cannot write `{}': {}",
            job.path.display(),
            wgtools::error_text(&e)
        ))
    })
}

/// The new text: our keys, then what `wg showconf` prints. `None` if that is something else.
pub fn compose(
    config: &Config,
    state: &State,
    listed: &[String],
    shown: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let rest = shown.strip_prefix(b"[Interface]\n")?;
    let mut own = b"[Interface]\n".to_vec();
    let mut line = |key: &str, value: &[u8]| {
        for part in [key.as_bytes(), b" = ", value, b"\n"] {
            own.extend_from_slice(part);
        }
    };
    let mut put = |key: &str, value: &str| line(key, value.as_bytes());
    for address in &state.addresses {
        put("Address", address);
    }
    // A resolvconf that cannot list leaves what the file said.
    let known = config.dns.iter().chain(&config.search);
    for server in if listed.is_empty() {
        known.collect()
    } else {
        listed.iter().collect::<Vec<_>>()
    } {
        put("DNS", server);
    }
    if config.mtu.is_some() {
        put("MTU", &state.mtu.to_string());
    }
    if let Some(table) = &config.table {
        put("Table", &table.to_string());
    }
    if config.save {
        put("SaveConfig", "true");
    }
    let hooks = [
        ("PreUp", &config.pre_up),
        ("PostUp", &config.post_up),
        ("PreDown", &config.pre_down),
        ("PostDown", &config.post_down),
    ];
    for (key, list) in hooks {
        for code in list {
            line(key, code.bytes());
        }
    }
    let mut text = Zeroizing::new(Vec::with_capacity(own.len() + rest.len()));
    text.extend_from_slice(&own);
    text.extend_from_slice(rest);
    Some(text)
}

/// Replaces a file as a whole: whoever opens it, whenever the machine stops, finds the old text or the new one. Only
/// the owner may read it.
///
/// # Errors
/// The system's; then nothing has changed.
pub fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    // Made with mode 0600, and removed again unless it is renamed.
    let mut new = tempfile::Builder::new()
        .prefix(".wg-quick.")
        .suffix(".tmp")
        .tempfile_in(folder)?;
    new.write_all(text)?;
    new.as_file().sync_all()?;
    new.persist(path)?;
    File::open(folder)?.sync_all()
}
