// SPDX-License-Identifier: BSD-2-Clause
//! The configuration file: wg(8)'s, and in `[Interface]` some keys of our own.
//!
//! Which lines are ours follows the stock script to the byte, so that `strip` prints what it prints. What the values
//! mean is then checked in full, ours here and the rest by [`wgtools::config`], and every error is told.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use wgtools::config::Options;
use wgtools::endpoint::Resolve;
use wgtools::visible;
use zeroize::Zeroizing;

use crate::hook::Code;

/// Something wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line number, from 1.
    pub line: usize,
    /// What it is, naming the value.
    pub text: String,
}

/// `Address`: of the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// As it was written.
    pub text: String,
    /// The address.
    pub ip: IpAddr,
    /// Length of the prefix in bits, if there was one.
    pub len: Option<u8>,
}

impl Address {
    /// The network that it makes reachable.
    pub fn net(&self) -> IpNet {
        let all = if self.ip.is_ipv4() { 32 } else { 128 };
        IpNet::new_assert(self.ip, self.len.unwrap_or(all)).trunc()
    }
}

/// `Table`: where routes go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Table {
    /// The usual table, with a default route handled in the system's own way.
    #[default]
    Auto,
    /// No routes.
    Off,
    /// FreeBSD's FIB number, Linux's table by number or name.
    Other(String),
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Table::Auto => "auto",
            Table::Off => "off",
            Table::Other(name) => name,
        })
    }
}

/// A whole file.
#[derive(Default)]
pub struct Config {
    /// `Address`, in order.
    pub addresses: Vec<Address>,
    /// `MTU` in bytes.
    pub mtu: Option<u32>,
    /// `DNS`: addresses of name servers, as written.
    pub dns: Vec<String>,
    /// `DNS`: domains to search.
    pub search: Vec<String>,
    /// `Table`, if the file has it.
    pub table: Option<Table>,
    /// `PreUp` and so on: shell code, `%i` not yet replaced.
    pub pre_up: Vec<Code>,
    /// See [`Config::pre_up`].
    pub post_up: Vec<Code>,
    /// See [`Config::pre_up`].
    pub pre_down: Vec<Code>,
    /// See [`Config::pre_up`].
    pub post_down: Vec<Code>,
    /// `SaveConfig`.
    pub save: bool,
    /// The lines that are for wg(8), each with a line feed.
    pub passed: Zeroizing<Vec<u8>>,
    /// `AllowedIPs` of all peers.
    pub allowed_ips: Vec<IpNet>,
    /// `Endpoint` of all peers, as far as the resolver knows them.
    pub endpoints: Vec<SocketAddr>,
    /// `FwMark`, if there is one.
    pub fwmark: Option<u32>,
    /// What is wrong, by line. `up` wants none of it.
    pub problems: Vec<Problem>,
    /// That `SaveConfig` was wrong, which even `strip` refuses.
    pub bad_save: Option<Problem>,
}

impl Config {
    /// Where routes are to go.
    pub fn table(&self) -> Table {
        self.table.clone().unwrap_or_default()
    }

    /// Reads a file, given as its bytes. `resolver` turns endpoints into addresses.
    pub fn parse(file: &[u8], resolver: &mut dyn Resolve) -> Config {
        let mut config = Config::default();
        // Room for all at once: a buffer that grows leaves copies of keys behind.
        config.passed.reserve(file.len() + 1);
        let mut numbered = Zeroizing::new(Vec::with_capacity(2 * file.len() + 1));
        let mut in_interface = false;
        for (number, line) in lines(file).enumerate() {
            let split = Split::new(&line);
            if split.key.starts_with(b"[") {
                in_interface = split.key.eq_ignore_ascii_case(b"[Interface]");
            }
            if !(in_interface && config.take(number + 1, &split)) {
                config.passed.extend_from_slice(&line);
                config.passed.push(b'\n');
                numbered.extend_from_slice(&line);
            }
            numbered.push(b'\n');
        }
        config.check_passed(&numbered, resolver);
        config.problems.sort_by_key(|p| p.line);
        config
    }

    /// Takes a line if its key is ours.
    fn take(&mut self, line: usize, split: &Split<'_>) -> bool {
        let key = split.key.to_ascii_lowercase();
        let value = String::from_utf8_lossy(split.value);
        let words = || {
            value
                .split([',', ' ', '\t'])
                .filter(|word| !word.is_empty())
        };
        let wrong = match key.as_slice() {
            b"address" => {
                let (good, bad) = sort_out(words(), address);
                self.addresses.extend(good);
                bad
            }
            b"dns" => {
                let (good, bad) = sort_out(words(), name_server);
                for (word, is_address) in good {
                    if is_address {
                        &mut self.dns
                    } else {
                        &mut self.search
                    }
                    .push(word);
                }
                bad
            }
            // Without a value it is as if the line were not there, nor one before it.
            b"mtu" if value.is_empty() => set(&mut self.mtu, Ok(None)),
            b"table" if value.is_empty() => set(&mut self.table, Ok(None)),
            b"mtu" => set(&mut self.mtu, mtu(&value).map(Some)),
            b"table" => set(&mut self.table, table(&value).map(Some)),
            b"preup" => hook(&mut self.pre_up, split),
            b"postup" => hook(&mut self.post_up, split),
            b"predown" => hook(&mut self.pre_down, split),
            b"postdown" => hook(&mut self.post_down, split),
            b"saveconfig" => {
                let wrong = set(&mut self.save, truth(&value));
                if let Some(text) = wrong.first() {
                    let text = text.clone();
                    self.bad_save.get_or_insert(Problem { line, text });
                }
                wrong
            }
            _ => return false,
        };
        self.problems
            .extend(wrong.into_iter().map(|text| Problem { line, text }));
        true
    }

    /// Reads what is for wg(8), given with an empty line for each of ours.
    fn check_passed(&mut self, numbered: &[u8], resolver: &mut dyn Resolve) {
        let options = Options {
            append: true,
            all_errors: true,
            resolver,
            // wg(8) warns when it gets the file.
            warn: &mut |_| {},
            own: None,
        };
        match wgtools::config::parse(numbered, options) {
            Ok(change) => {
                self.fwmark = change.fwmark;
                self.endpoints = change.peers.iter().filter_map(|p| p.endpoint).collect();
                let ips = change.peers.iter().flat_map(|p| &p.allowed_ips);
                let added = ips.filter(|a| !a.remove);
                self.allowed_ips = added
                    .map(|a| IpNet::new_assert(a.ip, a.cidr).trunc())
                    .collect();
            }
            Err(errors) => self.problems.extend(errors.into_iter().map(|e| Problem {
                line: e.line,
                text: e.text,
            })),
        }
    }
}

/// Stores a good value, or returns what is wrong with it.
fn set<T>(place: &mut T, value: Result<T, String>) -> Vec<String> {
    match value {
        Ok(value) => {
            *place = value;
            Vec::new()
        }
        Err(text) => vec![text],
    }
}

fn sort_out<'a, T>(
    words: impl Iterator<Item = &'a str>,
    read: impl Fn(&str) -> Result<T, String>,
) -> (Vec<T>, Vec<String>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for word in words {
        match read(word) {
            Ok(value) => good.push(value),
            Err(text) => bad.push(text),
        }
    }
    (good, bad)
}

fn address(word: &str) -> Result<Address, String> {
    let wrong = || {
        let word = visible(word.as_bytes());
        format!("Address is not an IP address with an optional prefix length: `{word}'")
    };
    let (ip, len) = match word.split_once('/') {
        Some((ip, len)) => (
            ip,
            Some(decimal(len).or_else(|| mask(len)).ok_or_else(wrong)?),
        ),
        None => (word, None),
    };
    let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
    // ip(8) takes a mask as well, and only of IPv4; ifconfig(8) takes none after a slash.
    let masked = word.rsplit('/').next().is_some_and(|m| m.contains('.'));
    if len.is_some_and(|len: u8| IpNet::new(ip, len).is_err() || masked && ip.is_ipv6()) {
        return Err(wrong());
    }
    let text = match len {
        Some(len) if masked => format!("{ip}/{len}"),
        _ => word.to_owned(),
    };
    Ok(Address { text, ip, len })
}

/// The length of a prefix that is written as a mask, such as 255.255.255.0.
fn mask(text: &str) -> Option<u8> {
    let bits = text.parse::<Ipv4Addr>().ok()?.to_bits();
    let ones = bits.leading_ones();
    (bits.count_ones() == ones).then(|| u8::try_from(ones).ok())?
}

/// A name server (`true`) or a domain to search, as the stock script tells them apart. What they may look like is for
/// resolvconf(8) and for who reads its output: systemd takes `~corp.example`, for one.
fn name_server(word: &str) -> Result<(String, bool), String> {
    let wrong = || {
        Err(format!(
            "DNS is neither an IP address nor a domain name: `{}'",
            visible(word.as_bytes())
        ))
    };
    if word.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
        return wrong();
    }
    if word.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        // In full, or as inet_aton(3) shortens it.
        let parts: Vec<&str> = word.split('.').collect();
        let (last, bytes) = parts.split_last().unwrap_or((&"", &[]));
        let room = 1u64 << (8 * 4usize.saturating_sub(bytes.len()));
        let fits = bytes.len() < 4
            && bytes.iter().all(|part| part.parse::<u8>().is_ok())
            && last.parse::<u64>().is_ok_and(|n| n < room);
        return if fits {
            Ok((word.to_owned(), true))
        } else {
            wrong()
        };
    }
    Ok((word.to_owned(), word.contains(':')))
}

fn mtu(value: &str) -> Result<u32, String> {
    decimal(value)
        .filter(|n| (68..=65_535).contains(n))
        .ok_or_else(|| {
            let value = visible(value.as_bytes());
            format!("MTU is not a number from 68 to 65535: `{value}'")
        })
}

fn table(value: &str) -> Result<Table, String> {
    if value.eq_ignore_ascii_case("auto") {
        return Ok(Table::Auto);
    }
    if value.eq_ignore_ascii_case("off") {
        return Ok(Table::Off);
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if value.is_empty() || value.starts_with('-') || !value.bytes().all(fits) {
        return Err(format!(
            "Table is neither auto, off nor the name of a table: `{}'",
            visible(value.as_bytes())
        ));
    }
    Ok(Table::Other(value.to_owned()))
}

fn truth(value: &str) -> Result<bool, String> {
    if value.eq_ignore_ascii_case("true") {
        return Ok(true);
    }
    if value.eq_ignore_ascii_case("false") {
        return Ok(false);
    }
    Err(format!(
        "SaveConfig is neither true nor false: `{}'",
        visible(value.as_bytes())
    ))
}

fn hook(list: &mut Vec<Code>, split: &Split<'_>) -> Vec<String> {
    if !split.raw_value.is_empty() {
        list.push(Code::new(split.raw_value));
    }
    Vec::new()
}

fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    // The library also takes a sign.
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

/// The lines of a file as bash's `read -r` gives them: without NUL bytes, and without blanks at either end. A last
/// line without a line feed counts if something is in it.
fn lines(file: &[u8]) -> impl Iterator<Item = Zeroizing<Vec<u8>>> + '_ {
    let mut parts: Vec<&[u8]> = file.split(|b| *b == b'\n').collect();
    let last = parts.pop().map(line).filter(|last| !last.is_empty());
    parts.into_iter().map(line).chain(last)
}

fn line(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut kept = Zeroizing::new(Vec::with_capacity(bytes.len()));
    kept.extend(bytes.iter().filter(|b| **b != 0));
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let end = kept.iter().rposition(|b| !blank(b)).map_or(0, |at| at + 1);
    kept.truncate(end);
    let begin = kept.iter().position(|b| !blank(b)).unwrap_or(0);
    kept.drain(..begin);
    kept
}

/// A line taken apart as the stock script does it: a line without `=` is key and value in one.
struct Split<'a> {
    key: &'a [u8],
    /// Without a comment.
    value: &'a [u8],
    /// With what looks like a comment, for shell code.
    raw_value: &'a [u8],
}

impl<'a> Split<'a> {
    fn new(line: &'a [u8]) -> Split<'a> {
        let before =
            |text: &'a [u8], mark: u8| text.split(|b| *b == mark).next().unwrap_or_default();
        let stripped = before(line, b'#');
        let key = before(stripped, b'=');
        let after = |text: &'a [u8]| {
            if key.len() < stripped.len() {
                &text[key.len() + 1..]
            } else {
                stripped
            }
        };
        Split {
            key: trim(key),
            value: trim(after(stripped)),
            raw_value: trim(after(line)),
        }
    }
}

fn trim(mut text: &[u8]) -> &[u8] {
    // isspace(3) of the C locale; the library's idea of white space has no vertical tab.
    let space = |b: &u8| matches!(b, b' ' | b'\t'..=b'\r');
    while let [first, rest @ ..] = text
        && space(first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && space(last)
    {
        text = rest;
    }
    text
}
