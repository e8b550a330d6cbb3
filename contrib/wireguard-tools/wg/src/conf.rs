// SPDX-License-Identifier: BSD-2-Clause
//! `wg setconf`, `wg addconf`, `wg syncconf` and `wg check`.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;

use wgtools::backend::Backend;
use wgtools::change::{Change, PeerChange};
use wgtools::config::{self, ConfigError, Options};
use wgtools::device::Device;
use wgtools::endpoint;
use wgtools::key::{PublicKey, SecretKey};
use wgtools::secret;

use crate::set::{apply as set, short_name};
use crate::usage::Usage;
use crate::{Failure, Outcome, Program};

/// What to do with a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It replaces everything.
    Set,
    /// It is added.
    Add,
    /// As `Set`, but without touching what stays the same.
    Sync,
}

/// `wg setconf`, `wg addconf` and `wg syncconf`.
pub fn apply(program: &Program, how: How, args: &[OsString]) -> Outcome {
    let [name, file] = args else {
        return Err(Failure::Usage(Usage::Conf(match how {
            How::Set => "setconf",
            How::Add => "addconf",
            How::Sync => "syncconf",
        })));
    };
    let text = read(Path::new(file))?;
    let mut announce = |text: &str| eprintln!("{text}");
    let read = config::parse(
        &text,
        Options {
            append: how == How::Add,
            all_errors: false,
            resolver: &mut endpoint::System::new(&mut announce),
            warn: &mut |warning| eprintln!("{warning}"),
            own: None,
        },
    );
    let mut change = match read {
        Ok(change) => change,
        Err(errors) => {
            for error in errors {
                eprintln!("{error}");
                if error.text == config::NO_PUBLIC_KEY {
                    eprintln!("Invalid configuration");
                } else if error.line != 0 {
                    eprintln!("Configuration parsing error");
                }
            }
            return Err(Failure::Said);
        }
    };
    drop(text);
    if how == How::Sync && !change.peers.is_empty() {
        let current = program.interfaces.get(&short_name(name)).map_err(|e| {
            Failure::system("Unable to retrieve current interface configuration", &e)
        })?;
        synchronize(&mut change, &current);
    }
    set(program, name, &change)
}

fn read(file: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, Failure> {
    secret::read(file).map_err(|e| Failure::system("fopen", &e))
}

/// Makes a replacement of all peers into the changes that lead to the same from `current`, so that the sessions of
/// peers that stay go on.
fn synchronize(change: &mut Change, current: &Device) {
    if current.peers.is_empty() {
        return;
    }
    change.replace_peers = false;
    let running: HashMap<PublicKey, _> = current.peers.iter().map(|p| (p.public_key, p)).collect();
    let mut kept = HashSet::new();
    for peer in &mut change.peers {
        let Some(running) = running.get(&peer.public_key) else {
            continue;
        };
        // What a peer has and the file does not mention goes. Only the first entry of a peer may say so, since a
        // second one would undo what the first one sets.
        if kept.insert(peer.public_key) {
            if running.preshared_key.is_some() && peer.preshared_key.is_none() {
                peer.preshared_key = Some(SecretKey::zero());
            }
            if running.persistent_keepalive != 0 && peer.persistent_keepalive.is_none() {
                peer.persistent_keepalive = Some(0);
            }
        }
    }
    let gone = current
        .peers
        .iter()
        .filter(|peer| !kept.contains(&peer.public_key));
    let mut peers: Vec<PeerChange> = gone
        .map(|peer| PeerChange {
            remove: true,
            ..PeerChange::new(peer.public_key)
        })
        .collect();
    peers.append(&mut change.peers);
    change.peers = peers;
}

/// `wg check`.
pub fn check(program: &Program, args: &[OsString]) -> Outcome {
    let [file] = args else {
        return Err(Failure::Usage(Usage::Check));
    };
    if crate::is_help(file) {
        return Usage::Check.help(program);
    }
    let path = file.to_string_lossy();
    let text = secret::read(Path::new(file)).map_err(|e| Failure::system(&path, &e))?;
    let mut found: Vec<ConfigError> = Vec::new();
    let mut headings = Vec::new();
    let mut interface = None;
    let mut has_key = false;
    let mut typed = Vec::new();
    let mut own = |line: &config::Line<'_>| {
        typed.extend(typography(line));
        if line.heading && line.section == config::Section::Peer {
            headings.push(line.number);
        }
        if line.section == config::Section::Interface {
            interface.get_or_insert(line.number);
            has_key |= line.value_of("PrivateKey").is_some();
        }
        match QUICK.iter().find(|name| line.value_of(name).is_some()) {
            Some(name) if line.section == config::Section::Interface => config::Claim::Wrong(
                format!("{name} is for wg-quick(8); `wg setconf' does not know it"),
            ),
            _ => config::Claim::No,
        }
    };
    let read = config::parse(
        &text,
        Options {
            append: false,
            all_errors: true,
            resolver: &mut endpoint::Syntax,
            warn: &mut |warning| found.push(warning),
            own: Some(&mut own),
        },
    );
    let failed = read.is_err();
    match read {
        Ok(change) => found.extend(odd(&change, &headings)),
        Err(errors) => found.extend(errors),
    }
    found.append(&mut typed);
    if !has_key {
        let text = "Warning: there is no PrivateKey; `wg setconf' and `wg syncconf' take away the one that the \
                    interface has";
        found.push(ConfigError {
            line: interface.unwrap_or(1),
            text: text.to_owned(),
        });
    }
    found.sort_by_key(|e| e.line);
    for ConfigError { line, text } in &found {
        eprintln!("{path}:{line}: {text}");
    }
    if failed { Err(Failure::Said) } else { Ok(()) }
}

/// What wg-quick(8) adds to the format.
const QUICK: [&str; 9] = [
    "Address",
    "DNS",
    "MTU",
    "Table",
    "PreUp",
    "PostUp",
    "PreDown",
    "PostDown",
    "SaveConfig",
];

/// A character that a word processor or a web page has put in the place of one that can be typed. In a value it is
/// hard to tell from the right one, and what may be a secret is not shown at all.
fn typography(line: &config::Line<'_>) -> Option<ConfigError> {
    let text = String::from_utf8_lossy(line.clean);
    let odd = |&c: &char| {
        matches!(c,
            '\'' | '"' | '\u{2018}'..='\u{201f}' | '«' | '»' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{a0}' | '\u{ad}'
            | '\u{200b}'..='\u{200f}' | '\u{202f}' | '\u{2060}' | '\u{3000}' | '\u{feff}' | '\u{ff01}'..='\u{ff5e}')
    };
    let c = text.chars().find(odd)?;
    let what = if matches!(c, '\'' | '"') {
        format!("Warning: quotes have no meaning here; the {c} is part of the text")
    } else {
        format!(
            "Warning: U+{:04X} ({}) is in this line, which no setting wants",
            u32::from(c),
            wgtools::visible(c.to_string().as_bytes())
        )
    };
    Some(ConfigError {
        line: line.number,
        text: what,
    })
}

/// What is no error, and hardly what was meant. `headings` has the lines of the peers.
fn odd(change: &Change, headings: &[usize]) -> Vec<ConfigError> {
    let mut found = Vec::new();
    let mut keys: HashMap<PublicKey, usize> = HashMap::new();
    let mut owners: HashMap<(IpAddr, u8), (PublicKey, usize)> = HashMap::new();
    for (peer, &line) in change.peers.iter().zip(headings) {
        if let Some(first) = keys.insert(peer.public_key, line) {
            let text = format!(
                "Warning: peer {} is the one of line {first} again; this one is applied after it",
                peer.public_key
            );
            found.push(ConfigError { line, text });
        }
        for ip in peer.allowed_ips.iter().filter(|ip| !ip.remove) {
            let prefix = (network(ip.ip, ip.cidr), ip.cidr);
            if let Some((owner, first)) = owners.insert(prefix, (peer.public_key, line))
                && owner != peer.public_key
            {
                let (ip, cidr) = prefix;
                let text = format!(
                    "Warning: {ip}/{cidr} is taken from the peer of line {first}, which has it too"
                );
                found.push(ConfigError { line, text });
            }
        }
    }
    found
}

/// The address without the bits beyond the prefix.
fn network(ip: IpAddr, cidr: u8) -> IpAddr {
    let host = |bits: u32| bits - u32::from(cidr);
    match ip {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(host(32)).unwrap_or(0);
            IpAddr::V4((a.to_bits() & mask).into())
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(host(128)).unwrap_or(0);
            IpAddr::V6((a.to_bits() & mask).into())
        }
    }
}
