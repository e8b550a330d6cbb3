// SPDX-License-Identifier: BSD-2-Clause
//! Requests in the text protocol, as `wgd` reads them.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use wgd::uapi::{
    AllowedIpChange, Decoder, Event, Hangup, MAX_LINE, PeerChange, Request, Secret, SetRequest,
};
use wgtools::backend::text::write_change;
use wgtools::change::{self, Change};
use wgtools::key::{PublicKey, SecretKey};

use crate::plain::hex;

/// An event without its secrets' types, to be compared and printed.
#[derive(Debug, PartialEq)]
enum Seen {
    Get,
    /// The request in the protocol's own words.
    Set(String),
    /// Line and error number.
    Fault(u32, i32),
    Hangup(Hangup),
}

/// A stream of requests means the same however it is cut into pieces; it means what a naive reader of its lines says; a
/// `set` written down again is the same `set`, also when wg(8) does the writing; and no error message repeats what the
/// client sent.
///
/// The first byte of the input is the size of the pieces.
pub fn uapi_request(input: &[u8]) {
    let Some((&step, stream)) = input.split_first() else {
        return;
    };
    let whole = run(stream, usize::MAX);
    assert_eq!(run(stream, 1), whole, "byte by byte");
    assert_eq!(
        run(stream, usize::from(step).max(1)),
        whole,
        "{step} bytes at a time"
    );
    assert_eq!(naive(stream), whole);
    for event in whole {
        if let Seen::Set(text) = event {
            assert_eq!(run(text.as_bytes(), usize::MAX), [Seen::Set(text)]);
        }
    }
}

fn zone(name: &str) -> Option<u32> {
    (name == "eth7").then_some(7)
}

fn run(stream: &[u8], step: usize) -> Vec<Seen> {
    let mut decoder = Decoder::new(zone);
    let mut seen = Vec::new();
    for piece in stream.chunks(step) {
        let mut rest = piece;
        while !rest.is_empty() {
            let before = rest.len();
            let event = decoder.feed(&mut rest);
            assert!(rest.len() < before, "feed takes something");
            let Some(event) = event else { continue };
            seen.push(see(event));
            if let Some(Seen::Hangup(_)) = seen.last() {
                return seen;
            }
        }
    }
    seen.extend(decoder.end().map(see));
    seen
}

fn see(event: Event) -> Seen {
    match event {
        Event::Request(Request::Get) => Seen::Get,
        Event::Request(Request::Set(set)) => {
            sent_by_wg(&set);
            Seen::Set(text(&set))
        }
        Event::Hangup(hangup) => Seen::Hangup(hangup),
        Event::Fault(_, fault) => {
            assert!(
                fault.what.bytes().all(|b| (b' '..=b'~').contains(&b)) && fault.what.len() < 100
            );
            Seen::Fault(fault.line, fault.errno.raw_os_error())
        }
    }
}

/// wg(8) can send this request, and it is understood as it was meant. What it says of a peer besides that it goes, wg(8)
/// leaves out; and zones get names, which are this machine's own.
fn sent_by_wg(set: &SetRequest) {
    let meant = SetRequest {
        private_key: set.private_key.as_ref().map(|key| Secret::new(key.bytes())),
        listen_port: set.listen_port,
        fwmark: set.fwmark,
        replace_peers: set.replace_peers,
        peers: set.peers.iter().map(meant).collect(),
    };
    let secret = |key: &Option<Secret>| key.as_ref().map(|key| SecretKey::new(key.bytes()));
    let change = Change {
        private_key: secret(&meant.private_key),
        listen_port: meant.listen_port,
        fwmark: meant.fwmark,
        replace_peers: meant.replace_peers,
        peers: meant
            .peers
            .iter()
            .map(|p| change::PeerChange {
                public_key: PublicKey(p.public_key),
                remove: p.remove,
                update_only: p.update_only,
                preshared_key: secret(&p.preshared_key),
                endpoint: p.endpoint,
                persistent_keepalive: p.persistent_keepalive,
                replace_allowed_ips: p.replace_allowed_ips,
                allowed_ips: p
                    .allowed_ips
                    .iter()
                    .map(|ip| change::AllowedIpChange {
                        ip: ip.addr,
                        cidr: ip.cidr,
                        remove: ip.remove,
                    })
                    .collect(),
            })
            .collect(),
    };
    let mut sent = Vec::new();
    write_change(&mut sent, &change).expect("a vector takes anything");
    let mut rest = &sent[..];
    match Decoder::new(zone).feed(&mut rest) {
        Some(Event::Request(Request::Set(got))) => assert_eq!(text(&got), text(&meant)),
        _ => panic!("refused: {}", String::from_utf8_lossy(&sent)),
    }
    assert!(rest.is_empty());
}

fn meant(peer: &PeerChange) -> PeerChange {
    let mut meant = PeerChange::new(peer.public_key);
    meant.remove = peer.remove;
    if !peer.remove {
        meant.update_only = peer.update_only;
        meant.preshared_key = peer
            .preshared_key
            .as_ref()
            .map(|key| Secret::new(key.bytes()));
        meant.endpoint = peer
            .endpoint
            .filter(|e| !matches!(e, SocketAddr::V6(v6) if v6.scope_id() != 0));
        meant.persistent_keepalive = peer.persistent_keepalive;
        meant.replace_allowed_ips = peer.replace_allowed_ips;
        meant.allowed_ips = peer.allowed_ips.clone();
    }
    meant
}

/// A request in the protocol's words.
fn text(set: &SetRequest) -> String {
    let mut out = String::from("set=1\n");
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        writeln!(out, "{name}={value}").expect("a string grows");
    };
    if let Some(key) = &set.private_key {
        line("private_key", &hex(key.bytes()));
    }
    if let Some(port) = set.listen_port {
        line("listen_port", &port);
    }
    if let Some(mark) = set.fwmark {
        line("fwmark", &mark);
    }
    if set.replace_peers {
        line("replace_peers", &true);
    }
    for peer in &set.peers {
        line("public_key", &hex(&peer.public_key));
        for (name, yes) in [
            ("remove", peer.remove),
            ("update_only", peer.update_only),
            ("replace_allowed_ips", peer.replace_allowed_ips),
        ] {
            if yes {
                line(name, &true);
            }
        }
        if let Some(key) = &peer.preshared_key {
            line("preshared_key", &hex(key.bytes()));
        }
        if let Some(endpoint) = peer.endpoint {
            line("endpoint", &endpoint);
        }
        if let Some(seconds) = peer.persistent_keepalive {
            line("persistent_keepalive_interval", &seconds);
        }
        for ip in &peer.allowed_ips {
            let minus = if ip.remove { "-" } else { "" };
            line("allowed_ip", &format!("{minus}{}/{}", ip.addr, ip.cidr));
        }
    }
    out + "\n"
}

/// What the lines of a stream mean, by the words of the protocol's description.
fn naive(stream: &[u8]) -> Vec<Seen> {
    const PROTO: i32 = 71;
    const TOO_BIG: i32 = 7;
    const INVAL: i32 = 22;
    enum At {
        Idle,
        Get,
        Set(SetRequest),
        Skip,
    }
    let mut at = At::Idle;
    let mut seen = Vec::new();
    let mut number = 0;
    for line in stream.split_inclusive(|&b| b == b'\n') {
        number += 1;
        let complete = line.last() == Some(&b'\n');
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.len() > MAX_LINE {
            match at {
                At::Idle => seen.push(Seen::Hangup(Hangup::UnknownOperation)),
                At::Skip => seen.push(Seen::Hangup(Hangup::TooLong)),
                At::Get | At::Set(_) => {
                    seen.push(Seen::Fault(number, TOO_BIG));
                    at = At::Skip;
                    continue;
                }
            }
            return seen;
        }
        if !complete {
            break;
        }
        match (&mut at, line) {
            (At::Idle | At::Skip, b"") => (at, number) = (At::Idle, 0),
            (At::Idle, b"get=1") => at = At::Get,
            (At::Idle, b"set=1") => at = At::Set(SetRequest::default()),
            (At::Idle, _) => {
                seen.push(Seen::Hangup(Hangup::UnknownOperation));
                return seen;
            }
            (At::Skip, _) => {}
            (At::Get, b"") => {
                seen.push(Seen::Get);
                (at, number) = (At::Idle, 0);
            }
            (At::Get, _) => {
                seen.push(Seen::Fault(number, INVAL));
                at = At::Skip;
            }
            (At::Set(set), b"") => {
                seen.push(Seen::Set(text(set)));
                (at, number) = (At::Idle, 0);
            }
            (At::Set(set), line) => {
                let bad = if line.contains(&b'=') { INVAL } else { PROTO };
                if naive_line(set, line).is_none() {
                    seen.push(Seen::Fault(number, bad));
                    at = At::Skip;
                }
            }
        }
    }
    if matches!(at, At::Get | At::Set(_)) {
        // The number of the last whole line; a line cut short does not count.
        let whole = stream.split_inclusive(|&b| b == b'\n').next_back();
        let cut = whole.is_some_and(|l| l.last() != Some(&b'\n'));
        seen.push(Seen::Fault(number - u32::from(cut), PROTO));
    }
    seen
}

fn naive_line(set: &mut SetRequest, line: &[u8]) -> Option<()> {
    let (key, value) = std::str::from_utf8(line).ok()?.split_once('=')?;
    let yes = || (value == "true").then_some(true);
    let in_peer = !set.peers.is_empty();
    match key {
        "public_key" => set.peers.push(PeerChange::new(naive_key(value)?)),
        "private_key" if !in_peer => set.private_key = Some(Secret::new(&naive_key(value)?)),
        "listen_port" if !in_peer => set.listen_port = Some(digits(value)?.try_into().ok()?),
        "fwmark" if !in_peer => set.fwmark = Some(digits(value)?.try_into().ok()?),
        "replace_peers" if !in_peer => set.replace_peers = yes()?,
        _ => {
            let peer = set.peers.last_mut()?;
            match key {
                "remove" => peer.remove = yes()?,
                "update_only" => peer.update_only = yes()?,
                "replace_allowed_ips" => {
                    peer.replace_allowed_ips = yes()?;
                    peer.allowed_ips = Vec::new();
                }
                "preshared_key" => peer.preshared_key = Some(Secret::new(&naive_key(value)?)),
                "endpoint" => peer.endpoint = Some(naive_endpoint(value)?),
                "persistent_keepalive_interval" => {
                    peer.persistent_keepalive = Some(digits(value)?.try_into().ok()?);
                }
                "allowed_ip" => {
                    let remove = value.starts_with('-');
                    let (addr, cidr) = value[usize::from(remove)..].split_once('/')?;
                    let addr: IpAddr = addr.parse().ok()?;
                    let most = if addr.is_ipv4() { 32 } else { 128 };
                    let cidr = u8::try_from(digits(cidr)?).ok().filter(|&c| c <= most)?;
                    peer.allowed_ips
                        .push(AllowedIpChange { addr, cidr, remove });
                }
                "protocol_version" => return (value == "1").then_some(()),
                _ => return None,
            }
        }
    }
    Some(())
}

fn digits(text: &str) -> Option<u128> {
    let good = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    // Longer than any number is too large as well, unless it is zeros that make it long.
    let text = text.trim_start_matches('0');
    match text.len() {
        _ if !good => None,
        0 => Some(0),
        1..=38 => text.parse().ok(),
        _ => Some(u128::MAX),
    }
}

fn naive_key(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<_>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits.filter(|d| d.len() == 64)?;
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|d| u8::try_from(d[0] << 4 | d[1]))
        .collect::<Result<_, _>>()
        .ok()?;
    bytes.try_into().ok()
}

fn naive_endpoint(text: &str) -> Option<SocketAddr> {
    let colon = text.rfind(':')?;
    let (host, port) = (&text[..colon], &text[colon + 1..]);
    let port = u16::try_from(digits(port)?).ok().filter(|&p| p != 0)?;
    if !host.starts_with('[') {
        return host
            .parse()
            .ok()
            .map(|ip| SocketAddr::new(IpAddr::V4(ip), port));
    }
    let host = host.strip_prefix('[')?.strip_suffix(']')?;
    let (ip, scope) = match host.find('%') {
        None => (host, 0),
        Some(at) => {
            let name = &host[at + 1..];
            let number = digits(name).and_then(|n| u32::try_from(n).ok());
            (&host[..at], number.or_else(|| zone(name))?)
        }
    };
    let ip: Ipv6Addr = ip.parse().ok()?;
    Some(match ip.to_ipv4_mapped() {
        Some(v4) => SocketAddr::new(IpAddr::V4(v4), port),
        None => std::net::SocketAddrV6::new(ip, port, 0, scope).into(),
    })
}
