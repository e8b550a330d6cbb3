// SPDX-License-Identifier: BSD-2-Clause
//! Configuration files: wg(8)'s and wg-quick(8)'s.

use std::fmt::Write as _;
use std::net::SocketAddr;

use wg_quick::config::Config;
use wgtools::change::Change;
use wgtools::config::{ConfigError, Options, parse};
use wgtools::endpoint::{EndpointError, Resolve};
use wgtools::key::SecretKey;

use crate::plain;

/// Numbers only: no fuzzer asks a name server.
struct Numbers;

impl Resolve for Numbers {
    fn endpoint(&mut self, text: &str) -> Result<Option<SocketAddr>, EndpointError> {
        match text.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) if text == "name:1" => Ok(None),
            Err(_) => Err(EndpointError::Endpoint(format!("no endpoint: `{text}'"))),
        }
    }
}

/// What one reading of a file says: the change or the errors, and the warnings.
type Said = (Result<Change, Vec<ConfigError>>, Vec<ConfigError>);

fn read(text: &[u8], append: bool, all_errors: bool) -> Said {
    let mut warnings = Vec::new();
    let options = Options {
        append,
        all_errors,
        resolver: &mut Numbers,
        warn: &mut |warning| warnings.push(warning),
        own: None,
    };
    (parse(text, options), warnings)
}

/// Reading a file is total, and finds the same with the first error and with all of them; errors are in the order of
/// the lines; whitespace, comments and line ends of another system make no difference; and the file that says what was
/// read is read as the same.
///
/// The lowest bit of the first byte of the input says whether the file is for `addconf`.
pub fn config(input: &[u8]) {
    let Some((&mode, text)) = input.split_first() else {
        return;
    };
    let append = mode & 1 != 0;
    let (read_all, warnings) = read(text, append, true);
    let (read_first, _) = read(text, append, false);
    let lines = text.split(|&b| b == b'\n').count();
    for said in read_all
        .as_ref()
        .err()
        .into_iter()
        .flatten()
        .chain(&warnings)
    {
        assert!((1..=lines).contains(&said.line) && !said.text.is_empty());
        assert!(!said.text.contains('\n'), "a message is a line");
    }
    let spread = read(&spread(text), append, true);
    let change = match (read_all, read_first) {
        (Ok(change), Ok(first)) => {
            assert_eq!(plain::change(&first), plain::change(&change));
            assert_eq!(
                spread.0.as_ref().map(plain::change),
                Ok(plain::change(&change))
            );
            assert_eq!(spread.1, warnings);
            change
        }
        (Err(all), Err(first)) => {
            assert!(all.is_sorted_by_key(|e| e.line));
            assert!(
                first.len() == 1 && all.contains(&first[0]),
                "{first:?} of {all:?}"
            );
            assert_eq!(spread.0.err(), Some(all));
            return;
        }
        (all, first) => panic!("{} {}", all.is_ok(), first.is_ok()),
    };
    for peer in &change.peers {
        for ip in &peer.allowed_ips {
            assert!(ip.cidr <= if ip.ip.is_ipv4() { 32 } else { 128 });
            assert!(!(ip.remove && peer.replace_allowed_ips));
        }
    }
    let again = file(&change);
    let (again, none) = read(again.as_bytes(), append, false);
    assert_eq!(
        again.as_ref().map(plain::change),
        Ok(plain::change(&change))
    );
    assert_eq!(none.len(), warnings.len());
}

/// The same file with blanks wherever they mean nothing. NUL ends a line as a comment does.
fn spread(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in text.split_inclusive(|&b| b == b'\n') {
        let (line, end): (_, &[u8]) = match line.strip_suffix(b"\n") {
            Some(line) => (line, b"\r# a comment\n"),
            None => (line, b" \x0b\x0c"),
        };
        for byte in line {
            out.extend([b'\t', *byte, b' ']);
        }
        out.extend(end);
    }
    out
}

/// The file that says this.
fn file(change: &Change) -> String {
    let mut out = String::from("[interface]\n");
    let base64 = |key: &SecretKey| key.with_base64(str::to_owned);
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        writeln!(out, "{name} = {value}").expect("a string grows");
    };
    if let Some(key) = &change.private_key {
        line("PRIVATEKEY", &base64(key));
    }
    if let Some(port) = change.listen_port {
        line("listenport", &port);
    }
    if let Some(mark) = change.fwmark {
        line("FwMark", &format!("0x{mark:x}"));
    }
    for peer in &change.peers {
        line("[Peer] #", &"");
        line("PublicKey", &peer.public_key);
        if let Some(key) = &peer.preshared_key {
            line("PresharedKey", &base64(key));
        }
        if let Some(endpoint) = peer.endpoint {
            line("Endpoint", &endpoint);
        }
        if let Some(seconds) = peer.persistent_keepalive {
            line("PersistentKeepalive", &seconds);
        }
        // A sign anywhere means that the list is one of changes.
        for ip in &peer.allowed_ips {
            let sign = match (ip.remove, peer.replace_allowed_ips) {
                (true, _) => "-",
                (false, true) => "",
                (false, false) => "+",
            };
            line("AllowedIPs", &format!("{sign}{}/{}", ip.ip, ip.cidr));
        }
    }
    out
}

/// wg-quick's reading is total; problems are in the order of the lines; what it passes on to wg(8) is some of the
/// file's lines in their order, has none of its own left, is passed on unchanged a second time, and means for wg(8)
/// what wg-quick took from it.
pub fn quick_config(text: &[u8]) {
    let config = Config::parse(text, &mut Numbers);
    let lines = text.split(|&b| b == b'\n').count();
    assert!(config.problems.is_sorted_by_key(|p| p.line));
    for problem in &config.problems {
        assert!((1..=lines).contains(&problem.line) && !problem.text.is_empty());
    }
    if let Some(bad) = &config.bad_save {
        assert!(config.problems.contains(bad));
    }
    let readable: Vec<u8> = text.iter().copied().filter(|&b| b != 0).collect();
    for address in &config.addresses {
        assert!(
            readable
                .windows(address.text.len())
                .any(|w| w == address.text.as_bytes())
        );
        assert_eq!(address.net().addr().is_ipv4(), address.ip.is_ipv4());
    }
    assert!(config.mtu.is_none_or(|mtu| (68..=65_535).contains(&mtu)));

    let passed = config.passed.to_vec();
    let mut rest = text.split(|&b| b == b'\n').map(unblank);
    for line in passed
        .strip_suffix(b"\n")
        .unwrap_or(&passed)
        .split(|&b| b == b'\n')
    {
        assert!(
            passed.is_empty() || rest.any(|l| l == line),
            "a line of the file"
        );
    }
    let again = Config::parse(&passed, &mut Numbers);
    assert_eq!(*again.passed, passed, "what is passed on is passed on");
    let own = [
        &again.pre_up,
        &again.post_up,
        &again.pre_down,
        &again.post_down,
    ];
    assert!(own.iter().all(|hooks| hooks.is_empty()) && again.addresses.is_empty());
    assert!(again.mtu.is_none() && again.table.is_none() && !again.save);
    assert!(again.dns.is_empty() && again.search.is_empty());

    let (change, _) = read(&passed, true, true);
    if config.problems.is_empty() {
        let change = change.expect("what has no problems is a configuration");
        assert_eq!(change.fwmark, config.fwmark);
        let endpoints: Vec<_> = change.peers.iter().filter_map(|p| p.endpoint).collect();
        assert_eq!(endpoints, config.endpoints);
        let ips = change
            .peers
            .iter()
            .flat_map(|p| &p.allowed_ips)
            .filter(|ip| !ip.remove);
        assert_eq!(ips.count(), config.allowed_ips.len());
    } else if change.is_err() {
        assert!(again.problems.len() <= config.problems.len() && !again.problems.is_empty());
    }
}

/// A line without NULs, and without blanks at its ends.
fn unblank(line: &[u8]) -> Vec<u8> {
    let mut line: Vec<u8> = line.iter().copied().filter(|&b| b != 0).collect();
    let blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    while blank(line.last()) {
        line.pop();
    }
    while blank(line.first()) {
        line.remove(0);
    }
    line
}
