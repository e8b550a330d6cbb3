// SPDX-License-Identifier: BSD-2-Clause
//! Name servers, by resolvconf(8): openresolv's, Debian's, or systemd's stand-in for it.

use zeroize::Zeroizing;

use crate::config::Config;
use crate::host::{Failure, Host, failed};

/// The program.
pub const PROGRAM: &str = "resolvconf";

/// What resolvconf reads; empty if the file has no `DNS`.
pub fn record(config: &Config) -> Zeroizing<Vec<u8>> {
    let mut text: String = config
        .dns
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect();
    if !config.search.is_empty() {
        text += &format!("search {}\n", config.search.join(" "));
    }
    Zeroizing::new(text.into_bytes())
}

/// Whether the file wants name servers or domains.
pub fn wanted(config: &Config) -> bool {
    !config.dns.is_empty() || !config.search.is_empty()
}

/// Checks that what `DNS` asks for can be done.
///
/// # Errors
/// There is no resolvconf.
pub fn check(host: &mut dyn Host, config: &Config) -> Result<(), Failure> {
    if wanted(config) && !host.has_program(PROGRAM) {
        return failed("DNS= needs resolvconf(8), which is not installed; nothing was changed");
    }
    Ok(())
}

/// What `resolvconf -l` said, made into values of `DNS`: servers first, then domains.
pub fn listed(text: &str) -> Vec<String> {
    let (mut servers, mut domains) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let list = match words.next() {
            Some("nameserver") => &mut servers,
            Some("search" | "domain") => &mut domains,
            _ => continue,
        };
        for word in words.take_while(|word| !word.starts_with('#')) {
            if !list.iter().any(|known| known == word) {
                list.push(word.to_owned());
            }
        }
    }
    servers.append(&mut domains);
    servers
}
