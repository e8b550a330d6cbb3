// SPDX-License-Identifier: BSD-2-Clause
//! The file format of `wg setconf`.
//!
//! ```text
//! [Interface]                      # once or more often; the last value counts
//! ListenPort = 51820               # number or name of a UDP service
//! FwMark = 0xca6c                  # or off
//! PrivateKey = <44 characters of base64>
//!
//! [Peer]                           # each one is a new peer
//! PublicKey = <44 characters>      # required
//! PresharedKey = <44 characters>
//! Endpoint = host:port             # [v6 address]:port
//! AllowedIPs = 192.0.2.0/24, +2001:db8::/32, -198.51.100.1
//! PersistentKeepalive = 25         # or off
//! ```
//!
//! Names are read without regard to case. Whitespace has no meaning anywhere, not even inside of names and values. A
//! program that adds names to `[Interface]`, as wg-quick(8) does, says so in [`Options::own`].

#[cfg(test)]
mod tests;
mod value;

use std::net::SocketAddr;

use zeroize::Zeroizing;

use crate::change::{AllowedIpChange, Change, PeerChange};
use crate::endpoint::{EndpointError, Resolve};
use crate::key::{PublicKey, SecretKey};

pub use value::{fwmark, keepalive, key_file, public_key};

/// Something to say about a line. It displays as the text alone, which is what wg(8) prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The line, counted from 1; 0 if it is none's fault.
    pub line: usize,
    /// What is wrong. It names the value, unless that is a secret.
    pub text: String,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ConfigError {}

/// Where a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Before the first heading.
    None,
    /// Below `[Interface]`.
    Interface,
    /// Below `[Peer]`.
    Peer,
}

/// A line of a file that is not empty.
pub struct Line<'a> {
    /// Counted from 1.
    pub number: usize,
    /// The section. A heading belongs to the section that it begins.
    pub section: Section,
    /// Whether this is a section's heading.
    pub heading: bool,
    /// As it is in the file, without its end.
    pub raw: &'a [u8],
    /// Without comment and without whitespace; not empty.
    pub clean: &'a [u8],
}

impl<'a> Line<'a> {
    /// The value, cleaned, if this line assigns one to this name.
    #[must_use]
    pub fn value_of(&self, name: &str) -> Option<&'a [u8]> {
        let (head, rest) = self.clean.split_at_checked(name.len())?;
        match rest {
            [b'=', value @ ..] if !value.is_empty() => {
                head.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
            }
            _ => None,
        }
    }
}

/// What [`Options::own`] answers.
pub enum Claim {
    /// The line is wg(8)'s, or nobody's.
    No,
    /// The caller has taken it.
    Yes,
    /// It is the caller's, and wrong.
    Wrong(String),
}

/// How to read a file.
pub struct Options<'a> {
    /// `addconf`: what the file does not mention stays. Otherwise the file replaces everything.
    pub append: bool,
    /// Read on after an error, to find all of them.
    pub all_errors: bool,
    /// What to make of endpoints.
    pub resolver: &'a mut dyn Resolve,
    /// Called for what is odd but no error.
    pub warn: &'a mut dyn FnMut(ConfigError),
    /// Called for each line, before it is looked at any further. `None` for wg(8)'s own format.
    pub own: Option<&'a mut dyn FnMut(&Line<'_>) -> Claim>,
}

/// Reads a configuration file.
///
/// # Errors
/// All that is wrong, or the first of it, in the order of the lines; never an empty list.
pub fn parse(text: &[u8], options: Options<'_>) -> Result<Change, Vec<ConfigError>> {
    let mut parser = Parser {
        change: Change::default(),
        lines: Vec::new(),
        has_key: false,
        section: Section::None,
        number: 0,
        clean: Zeroizing::new(Vec::with_capacity(512)),
        options,
    };
    if !parser.options.append {
        parser.change.replace_peers = true;
        parser.change.private_key = Some(SecretKey::zero());
        parser.change.listen_port = Some(0);
        parser.change.fwmark = Some(0);
    }
    let mut errors = Vec::new();
    let whole = text.strip_suffix(b"\n").unwrap_or(text);
    for raw in whole.split(|&b| b == b'\n') {
        parser.number += 1;
        if let Err(e) = parser.line(raw) {
            errors.push(e);
            if !parser.options.all_errors {
                return Err(errors);
            }
        }
    }
    parser.end_of_peer(&mut errors);
    if errors.is_empty() {
        Ok(parser.change)
    } else {
        errors.sort_by_key(|e| e.line);
        Err(errors)
    }
}

/// The text of [`ConfigError`] for a peer without a key. Its line is that of the heading.
pub const NO_PUBLIC_KEY: &str = "A peer is missing a public key";

struct Parser<'a> {
    change: Change,
    /// The lines of the peers' headings that turned out to have no key.
    lines: Vec<usize>,
    /// Whether the latest peer has its key.
    has_key: bool,
    section: Section,
    number: usize,
    /// The latest line, cleaned.
    clean: Zeroizing<Vec<u8>>,
    options: Options<'a>,
}

impl Parser<'_> {
    fn line(&mut self, raw: &[u8]) -> Result<(), ConfigError> {
        let mut clean = std::mem::replace(&mut self.clean, Zeroizing::new(Vec::new()));
        if clean.capacity() < raw.len() {
            // Growing in place could leave a copy behind.
            clean = Zeroizing::new(Vec::with_capacity(raw.len()));
        }
        clean.clear();
        // A NUL ends the line too: stock wg(8) reads it into a C string.
        let end = raw
            .iter()
            .position(|&b| b == b'#' || b == 0)
            .unwrap_or(raw.len());
        clean.extend(raw[..end].iter().filter(|&&b| !is_space(b)));
        let done = if clean.is_empty() {
            Ok(())
        } else {
            self.clean_line(raw, &clean)
        };
        self.clean = clean;
        done.map_err(|bad| match bad {
            Bad::Line(text) => ConfigError {
                line: self.number,
                text,
            },
            Bad::Setting(text) => ConfigError { line: 0, text },
        })
    }

    fn clean_line(&mut self, raw: &[u8], clean: &[u8]) -> Result<(), Bad> {
        let heading = if clean.eq_ignore_ascii_case(b"[Interface]") {
            Some(Section::Interface)
        } else if clean.eq_ignore_ascii_case(b"[Peer]") {
            Some(Section::Peer)
        } else {
            None
        };
        if let Some(section) = heading {
            self.section = section;
        }
        let line = Line {
            number: self.number,
            section: self.section,
            heading: heading.is_some(),
            raw,
            clean,
        };
        if let Some(own) = &mut self.options.own {
            match own(&line) {
                Claim::No => {}
                Claim::Yes => return Ok(()),
                Claim::Wrong(text) => return Err(Bad::Line(text)),
            }
        }
        if heading == Some(Section::Peer) {
            self.begin_peer();
        }
        if heading.is_some() {
            return Ok(());
        }
        let known = match self.section {
            Section::None => false,
            Section::Interface => self.interface_line(&line)?,
            Section::Peer => self.peer_line(&line)?,
        };
        if known {
            return Ok(());
        }
        Err(Bad::Line(format!(
            "Line unrecognized: `{}'",
            value::shown(clean)
        )))
    }

    fn interface_line(&mut self, line: &Line<'_>) -> Result<bool, Bad> {
        if let Some(value) = line.value_of("ListenPort") {
            self.change.listen_port = Some(value::listen_port(value)?);
        } else if let Some(value) = line.value_of("FwMark") {
            self.change.fwmark = Some(value::fwmark(value)?);
        } else if let Some(value) = line.value_of("PrivateKey") {
            self.change.private_key = Some(value::secret_key(value)?);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn begin_peer(&mut self) {
        self.end_of_peer_heading();
        let mut peer = PeerChange::new(PublicKey([0; 32]));
        peer.replace_allowed_ips = true;
        self.change.peers.push(peer);
        self.has_key = false;
        self.lines.push(self.number);
    }

    /// Forgets the heading of a peer that got its key.
    fn end_of_peer_heading(&mut self) {
        if self.has_key {
            self.lines.pop();
        }
        self.has_key = false;
    }

    fn end_of_peer(&mut self, errors: &mut Vec<ConfigError>) {
        self.end_of_peer_heading();
        let missing = |&line: &usize| ConfigError {
            line,
            text: NO_PUBLIC_KEY.to_owned(),
        };
        let most = if self.options.all_errors {
            usize::MAX
        } else {
            1
        };
        errors.extend(self.lines.iter().take(most).map(missing));
    }

    fn peer_line(&mut self, line: &Line<'_>) -> Result<bool, Bad> {
        let Some(peer) = self.change.peers.last_mut() else {
            return Ok(false);
        };
        if let Some(value) = line.value_of("PublicKey") {
            peer.public_key = value::public_key(value)?;
            self.has_key = true;
        } else if let Some(value) = line.value_of("AllowedIPs") {
            let number = self.number;
            let warn = &mut *self.options.warn;
            allowed_ips(peer, value, &mut |text| {
                warn(ConfigError { line: number, text })
            })?;
        } else if let Some(value) = line.value_of("Endpoint") {
            if let Some(address) = endpoint(self.options.resolver, value)? {
                peer.endpoint = Some(address);
            }
        } else if let Some(value) = line.value_of("PersistentKeepalive") {
            peer.persistent_keepalive = Some(value::keepalive(value)?);
        } else if let Some(value) = line.value_of("PresharedKey") {
            peer.preshared_key = Some(value::secret_key(value)?);
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}

/// What is wrong: with the line, or with the environment.
enum Bad {
    Line(String),
    Setting(String),
}

impl From<String> for Bad {
    fn from(text: String) -> Bad {
        Bad::Line(text)
    }
}

/// Looks an endpoint up.
fn endpoint(resolver: &mut dyn Resolve, value: &[u8]) -> Result<Option<SocketAddr>, Bad> {
    resolver
        .endpoint(&String::from_utf8_lossy(value))
        .map_err(|e| match e {
            EndpointError::Endpoint(text) => Bad::Line(text),
            EndpointError::Setting(text) => Bad::Setting(text),
        })
}

/// Adds a comma list of allowed IPs to a peer: `[+|-]address[/length],...`. A list without signs replaces the peer's; a
/// sign anywhere makes all of them additions and removals. `value` has no whitespace; an empty one is an empty list.
///
/// # Errors
/// The first entry that is wrong.
pub fn allowed_ips(
    peer: &mut PeerChange,
    value: &[u8],
    warn: &mut dyn FnMut(String),
) -> Result<(), String> {
    let signed = |peer: &PeerChange| !peer.replace_allowed_ips && !peer.allowed_ips.is_empty();
    let mut replace = !signed(peer);
    if !value.is_empty() {
        for entry in value.split(|&b| b == b',') {
            let (sign, rest) = match entry {
                [sign @ (b'+' | b'-'), rest @ ..] => (Some(*sign), rest),
                rest => (None, rest),
            };
            replace &= sign.is_none();
            let (ip, cidr) = value::prefix(rest, entry)?;
            if value::has_host_part(ip, cidr) {
                let text = crate::visible(rest);
                warn(format!("Warning: AllowedIP has nonzero host part: {text}"));
            }
            peer.allowed_ips.push(AllowedIpChange {
                ip,
                cidr,
                remove: sign == Some(b'-'),
            });
        }
    }
    peer.replace_allowed_ips = replace;
    Ok(())
}

/// C's whitespace, in no locale: tab to carriage return, and space.
#[must_use]
pub fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ')
}
