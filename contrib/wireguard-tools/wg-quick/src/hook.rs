// SPDX-License-Identifier: BSD-2-Clause
//! The user's shell code, and what it may know.

use std::fmt;

use crate::config::Config;
use crate::file::Job;

/// Shell code as it is in the file. It need not be UTF-8: what its bytes mean is for the shell.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(Vec<u8>);

impl Code {
    /// From the bytes of the file.
    pub fn new(bytes: &[u8]) -> Code {
        Code(bytes.to_vec())
    }

    /// For the shell.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// With the interface's name for `%i`.
    #[must_use]
    pub fn for_interface(&self, name: &str) -> Code {
        let mut code = Vec::with_capacity(self.0.len());
        let mut rest = &self.0[..];
        while let Some((first, after)) = rest.split_first() {
            if let Some(after) = rest.strip_prefix(b"%i") {
                code.extend_from_slice(name.as_bytes());
                rest = after;
            } else {
                code.push(*first);
                rest = after;
            }
        }
        Code(code)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl PartialEq<&str> for Code {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

/// Names of the variables that are lists: arrays in bash, and elsewhere words with blanks between them.
pub const LISTS: [&str; 3] = ["ADDRESSES", "DNS", "DNS_SEARCH"];

/// The variables that code may look at: those of the stock script that hold something about the interface and no key.
/// What the file does not have is empty.
pub fn variables(job: &Job) -> Vec<(&'static str, String)> {
    let Config {
        addresses,
        dns,
        search,
        mtu,
        table,
        save,
        ..
    } = &job.config;
    let addresses: Vec<_> = addresses.iter().map(|a| a.text.as_str()).collect();
    vec![
        ("PROGRAM", "wg-quick".to_owned()),
        ("CONFIG_FILE", job.path.to_string_lossy().into_owned()),
        ("INTERFACE", job.name.clone()),
        ("ADDRESSES", addresses.join(" ")),
        ("DNS", dns.join(" ")),
        ("DNS_SEARCH", search.join(" ")),
        ("MTU", mtu.map(|n| n.to_string()).unwrap_or_default()),
        (
            "TABLE",
            table.as_ref().map(ToString::to_string).unwrap_or_default(),
        ),
        ("SAVE_CONFIG", u8::from(*save).to_string()),
    ]
}
