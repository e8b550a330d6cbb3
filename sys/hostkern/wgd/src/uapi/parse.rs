// SPDX-License-Identifier: BSD-2-Clause
//! Reading requests from a stream that arrives in pieces of any size.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use rustix::io::Errno;
use zeroize::Zeroizing;

use super::{
    AllowedIpChange, Fault, KEY_LEN, MAX_LINE, MAX_REQUEST, PeerChange, Request, Secret, SetRequest,
};

/// Finds the number of an interface from its name, for the zone of a link-local endpoint.
pub type ZoneLookup = fn(&str) -> Option<u32>;

/// What the stream produced.
pub enum Event {
    /// A complete request.
    Request(Request),
    /// A `set` or `get` that is wrong: to be answered with its error. What remains of it is skipped silently, and
    /// then the next request is read.
    Fault(super::ErrnoStyle, Fault),
    /// The stream is of no use any more.
    Hangup(Hangup),
}

/// Why a connection must be closed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// The first line is neither `get=1` nor `set=1`.
    UnknownOperation,
    /// More than [`MAX_REQUEST`] bytes, or an endless line, within a request that was already refused.
    TooLong,
}

enum State {
    /// Between requests.
    Idle,
    Get,
    Set(SetRequest),
    /// Inside a request that has been answered with an error.
    Skip,
}

/// Incremental reader of one connection.
pub struct Decoder {
    state: State,
    /// The line that is not complete yet.
    partial: Zeroizing<[u8; MAX_LINE]>,
    partial_len: usize,
    /// Whether the line that is not complete yet was too long, and has been answered.
    overlong: bool,
    /// Bytes and lines of the request so far.
    bytes: usize,
    lines: u32,
    zone: ZoneLookup,
}

impl Decoder {
    /// A reader at the beginning of a connection.
    #[must_use]
    pub fn new(zone: ZoneLookup) -> Decoder {
        Decoder {
            state: State::Idle,
            partial: Zeroizing::new([0; MAX_LINE]),
            partial_len: 0,
            overlong: false,
            bytes: 0,
            lines: 0,
            zone,
        }
    }

    /// Whether a request has begun and is not complete.
    #[must_use]
    pub fn mid_request(&self) -> bool {
        self.partial_len != 0 || self.overlong || !matches!(self.state, State::Idle)
    }

    /// Takes bytes from the front of `input` up to the end of a request or of the input, and leaves `input` at what
    /// is not consumed. `None` means that everything was taken and more is needed.
    pub fn feed(&mut self, input: &mut &[u8]) -> Option<Event> {
        while let Some(end) = input.iter().position(|&b| b == b'\n') {
            let (head, rest) = input.split_at(end);
            *input = rest.get(1..).unwrap_or_default();
            self.bytes = self.bytes.saturating_add(head.len() + 1);
            let overlong = std::mem::take(&mut self.overlong);
            let fits = overlong || self.partial_len + head.len() <= MAX_LINE;
            let event = if self.bytes > MAX_REQUEST || !fits {
                self.partial_len = 0;
                self.too_long()
            } else if overlong {
                None
            } else if self.partial_len == 0 {
                self.line(head)
            } else {
                self.append(head);
                let len = std::mem::take(&mut self.partial_len);
                let line = std::mem::replace(&mut self.partial, Zeroizing::new([0; MAX_LINE]));
                self.line(line.get(..len).unwrap_or_default())
            };
            if event.is_some() {
                return event;
            }
        }
        let rest = std::mem::take(input);
        self.bytes = self.bytes.saturating_add(rest.len());
        let fits = self.overlong || self.append(rest);
        if !fits || self.bytes > MAX_REQUEST {
            self.partial_len = 0;
            // The rest of the line must not be taken for a line.
            self.overlong = true;
            return self.too_long();
        }
        None
    }

    /// What the end of the stream means: nothing between requests, and an error within a `set` or `get`, of which
    /// nothing is applied.
    #[must_use]
    pub fn end(&mut self) -> Option<Event> {
        let cut_short = "the request ends without an empty line";
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle | State::Skip => None,
            State::Get => Some(self.fault(super::ErrnoStyle::Get, Errno::PROTO, cut_short)),
            State::Set(_) => Some(self.fault(super::ErrnoStyle::Set, Errno::PROTO, cut_short)),
        }
    }

    /// Adds to the incomplete line; false if it does not fit.
    fn append(&mut self, piece: &[u8]) -> bool {
        let end = self.partial_len.saturating_add(piece.len());
        match self.partial.get_mut(self.partial_len..end) {
            Some(room) => {
                room.copy_from_slice(piece);
                self.partial_len = end;
                true
            }
            None => false,
        }
    }

    fn too_long(&mut self) -> Option<Event> {
        self.lines = self.lines.saturating_add(1);
        let what = if self.bytes > MAX_REQUEST {
            "the request is too long"
        } else {
            "the line is too long"
        };
        match std::mem::replace(&mut self.state, State::Skip) {
            State::Set(_) => Some(self.fault(super::ErrnoStyle::Set, Errno::TOOBIG, what)),
            State::Get => Some(self.fault(super::ErrnoStyle::Get, Errno::TOOBIG, what)),
            State::Idle => Some(Event::Hangup(Hangup::UnknownOperation)),
            State::Skip => Some(Event::Hangup(Hangup::TooLong)),
        }
    }

    fn line(&mut self, line: &[u8]) -> Option<Event> {
        self.lines = self.lines.saturating_add(1);
        let zone = self.zone;
        match &mut self.state {
            State::Idle => {
                // Blank lines between requests are harmless.
                match line {
                    b"" => self.reset(),
                    b"get=1" => self.state = State::Get,
                    b"set=1" => self.state = State::Set(SetRequest::default()),
                    _ => return Some(Event::Hangup(Hangup::UnknownOperation)),
                }
                None
            }
            State::Skip => {
                if line.is_empty() {
                    self.reset();
                }
                None
            }
            State::Get => {
                if line.is_empty() {
                    self.reset();
                    return Some(Event::Request(Request::Get));
                }
                Some(self.refuse(
                    super::ErrnoStyle::Get,
                    Errno::INVAL,
                    "a get has no further lines",
                ))
            }
            State::Set(request) => {
                if line.is_empty() {
                    let request = std::mem::take(request);
                    self.reset();
                    return Some(Event::Request(Request::Set(request)));
                }
                match set_line(request, line, zone) {
                    Ok(()) => None,
                    Err((errno, what)) => Some(self.refuse(super::ErrnoStyle::Set, errno, &what)),
                }
            }
        }
    }

    fn reset(&mut self) {
        self.state = State::Idle;
        self.bytes = 0;
        self.lines = 0;
    }

    fn refuse(&mut self, style: super::ErrnoStyle, errno: Errno, what: &str) -> Event {
        self.state = State::Skip;
        self.fault(style, errno, what)
    }

    fn fault(&self, style: super::ErrnoStyle, errno: Errno, what: &str) -> Event {
        Event::Fault(
            style,
            Fault {
                errno,
                line: self.lines,
                what: what.to_owned(),
            },
        )
    }
}

/// An error of one line, before its number is known.
type LineError = (Errno, String);

fn set_line(request: &mut SetRequest, line: &[u8], zone: ZoneLookup) -> Result<(), LineError> {
    let no_equals = || (Errno::PROTO, "no '=' in the line".to_owned());
    let equals = line.iter().position(|&b| b == b'=').ok_or_else(no_equals)?;
    let (key, value) = line.split_at_checked(equals).ok_or_else(no_equals)?;
    let value = value.get(1..).unwrap_or_default();
    if key == b"public_key" {
        request.peers.push(PeerChange::new(
            *hex_key(value).ok_or_else(|| bad(key, HEX))?,
        ));
        return Ok(());
    }
    match request.peers.last_mut() {
        None => device_line(request, key, value),
        Some(peer) => peer_line(peer, key, value, zone),
    }
}

const HEX: &str = "not 64 hexadecimal digits";
const TRUE: &str = "only `true` is a value";

fn device_line(request: &mut SetRequest, key: &[u8], value: &[u8]) -> Result<(), LineError> {
    match key {
        b"private_key" => {
            let secret = hex_key(value).ok_or_else(|| bad(key, HEX))?;
            request.private_key = Some(Secret::new(&secret));
        }
        b"listen_port" => {
            request.listen_port =
                Some(number(value).ok_or_else(|| bad(key, "not a number from 0 to 65535"))?);
        }
        b"fwmark" => {
            request.fwmark =
                Some(number(value).ok_or_else(|| bad(key, "not a number from 0 to 4294967295"))?);
        }
        b"replace_peers" => {
            is_true(value).ok_or_else(|| bad(key, TRUE))?;
            request.replace_peers = true;
        }
        _ => return Err(unknown(key, "the device")),
    }
    Ok(())
}

fn peer_line(
    peer: &mut PeerChange,
    key: &[u8],
    value: &[u8],
    zone: ZoneLookup,
) -> Result<(), LineError> {
    match key {
        b"remove" => {
            is_true(value).ok_or_else(|| bad(key, TRUE))?;
            peer.remove = true;
        }
        b"update_only" => {
            is_true(value).ok_or_else(|| bad(key, TRUE))?;
            peer.update_only = true;
        }
        b"preshared_key" => {
            let secret = hex_key(value).ok_or_else(|| bad(key, HEX))?;
            peer.preshared_key = Some(Secret::new(&secret));
        }
        b"endpoint" => {
            peer.endpoint = Some(
                endpoint(value, zone)
                    .ok_or_else(|| bad(key, "not a numeric address and a port from 1 to 65535"))?,
            );
        }
        b"persistent_keepalive_interval" => {
            peer.persistent_keepalive =
                Some(number(value).ok_or_else(|| bad(key, "not a number from 0 to 65535"))?);
        }
        b"replace_allowed_ips" => {
            is_true(value).ok_or_else(|| bad(key, TRUE))?;
            peer.replace_allowed_ips = true;
            // It clears the list as it is at this line, earlier lines included.
            peer.allowed_ips.clear();
        }
        b"allowed_ip" => {
            peer.allowed_ips.push(
                allowed_ip(value).ok_or_else(|| bad(key, "not an address and prefix length"))?,
            );
        }
        b"protocol_version" => {
            if value != b"1" {
                return Err(bad(key, "only version 1 is known"));
            }
        }
        _ => return Err(unknown(key, "a peer")),
    }
    Ok(())
}

fn bad(key: &[u8], what: &str) -> LineError {
    (
        Errno::INVAL,
        format!("{}: {what}", String::from_utf8_lossy(key)),
    )
}

/// The key is not ours, so it is not echoed.
fn unknown(key: &[u8], of: &str) -> LineError {
    (
        Errno::INVAL,
        format!("unknown key of {of} ({} bytes long)", key.len()),
    )
}

fn is_true(value: &[u8]) -> Option<()> {
    (value == b"true").then_some(())
}

/// Decimal digits only: no sign, no space, no base prefix.
fn number<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn hex_key(value: &[u8]) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    let (pairs, rest) = value.as_chunks::<2>();
    if pairs.len() != KEY_LEN || !rest.is_empty() {
        return None;
    }
    let mut wrong = 0;
    for (byte, [high, low]) in key.iter_mut().zip(pairs) {
        let (high, bad_high) = nibble(*high);
        let (low, bad_low) = nibble(*low);
        *byte = (high << 4) | low;
        wrong |= bad_high | bad_low;
    }
    (wrong == 0).then_some(key)
}

/// The digit's value, and non-zero if it is none. Without branches or tables: the digits may be a secret's.
fn nibble(c: u8) -> (u8, u8) {
    // All ones when `low <= c <= high`.
    let within = |low: u8, high: u8| {
        let (c, low, high) = (u16::from(c), u16::from(low), u16::from(high));
        let outside = (c.wrapping_sub(low) | high.wrapping_sub(c)) >> 8;
        u8::try_from(outside & 0xff).map_or(0, |o| !o)
    };
    let digit = within(b'0', b'9');
    let lower = within(b'a', b'f');
    let upper = within(b'A', b'F');
    let value = (digit & c.wrapping_sub(b'0'))
        | (lower & c.wrapping_sub(b'a' - 10))
        | (upper & c.wrapping_sub(b'A' - 10));
    (value & 15, !(digit | lower | upper))
}

/// `1.2.3.4:5` or `[v6]:5`, where v6 may end with `%zone`, a number or a name. An IPv4 address written as IPv6 is
/// taken as what it means. Port 0 cannot be sent to.
fn endpoint(value: &[u8], zone: ZoneLookup) -> Option<SocketAddr> {
    let text = std::str::from_utf8(value).ok()?;
    let (host, port) = text.rsplit_once(':')?;
    let port = number::<u16>(port.as_bytes()).filter(|&p| p != 0)?;
    let Some(host) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) else {
        return Some(SocketAddr::V4(SocketAddrV4::new(
            host.parse::<Ipv4Addr>().ok()?,
            port,
        )));
    };
    let (addr, scope) = match host.split_once('%') {
        None => (host, 0),
        Some((addr, name)) => (addr, number(name.as_bytes()).or_else(|| zone(name))?),
    };
    let addr = addr.parse::<Ipv6Addr>().ok()?;
    Some(match addr.to_ipv4_mapped() {
        Some(v4) => SocketAddr::V4(SocketAddrV4::new(v4, port)),
        None => SocketAddr::V6(SocketAddrV6::new(addr, port, 0, scope)),
    })
}

/// `address/length`, with `-` in front to remove.
fn allowed_ip(value: &[u8]) -> Option<AllowedIpChange> {
    let (remove, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let text = std::str::from_utf8(value).ok()?;
    let (addr, cidr) = text.split_once('/')?;
    let addr = addr.parse::<IpAddr>().ok()?;
    let longest = if addr.is_ipv4() { 32 } else { 128 };
    let cidr = number::<u8>(cidr.as_bytes()).filter(|&c| c <= longest)?;
    Some(AllowedIpChange { addr, cidr, remove })
}
