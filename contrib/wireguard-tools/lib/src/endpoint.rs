// SPDX-License-Identifier: BSD-2-Clause
//! Host names and service names made into addresses, and addresses made into text.
//!
//! Numbers are read here; everything else is for the system's getaddrinfo(3), with the hints that stock wg(8) gives.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, getaddrinfo};
use rustix::io::Errno;

use crate::visible;

/// The variable with the number of times that a transient failure is tried again.
pub const RETRIES: &str = "WG_ENDPOINT_RESOLUTION_RETRIES";

/// Tries if [`RETRIES`] is not set.
const DEFAULT_RETRIES: u32 = 15;

/// Why an endpoint is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointError {
    /// What is wrong with it.
    Endpoint(String),
    /// It was not looked at, because [`RETRIES`] makes no sense.
    Setting(String),
}

/// Makes an endpoint's text into an address.
pub trait Resolve {
    /// `None` if the text is right and the name is not looked up.
    ///
    /// # Errors
    /// What wg(8) prints, which names the text.
    fn endpoint(&mut self, text: &str) -> Result<Option<SocketAddr>, EndpointError>;
}

/// Asks the system, again and again for a name server that does not answer.
pub struct System<'a> {
    /// Value of [`RETRIES`].
    retries: Option<String>,
    /// Told that there is another try to come, before the pause.
    announce: &'a mut dyn FnMut(&str),
}

impl<'a> System<'a> {
    /// With the setting of the environment.
    pub fn new(announce: &'a mut dyn FnMut(&str)) -> System<'a> {
        let retries = std::env::var_os(RETRIES).map(|v| v.to_string_lossy().into_owned());
        System { retries, announce }
    }

    /// That asks once, whatever the environment says.
    pub fn once(announce: &'a mut dyn FnMut(&str)) -> System<'a> {
        let retries = Some("0".to_owned());
        System { retries, announce }
    }
}

impl Resolve for System<'_> {
    fn endpoint(&mut self, text: &str) -> Result<Option<SocketAddr>, EndpointError> {
        let mut left = match self.retries.as_deref() {
            None => Some(DEFAULT_RETRIES),
            Some("infinity") => None,
            Some(number) => Some(retries(number).ok_or_else(|| {
                EndpointError::Setting(format!("Unable to parse {RETRIES}: `{number}'"))
            })?),
        };
        let (host, service) = split(text)?;
        if let Some(address) = numeric(host, service) {
            return Ok(Some(address));
        }
        check_number(service, text)?;
        let mut pause = 1_000_000;
        loop {
            let failure = match lookup(Some(host), service, 0) {
                Ok(address) => return address.map(Some).ok_or_else(|| neither(text)),
                Err(e) => e,
            };
            use LookupErrorKind::{Fail, NoData, NoName, Service};
            let permanent =
                matches!(failure.kind(), NoName | Fail | NoData | Service) || left == Some(0);
            let reason = reason(failure);
            if permanent {
                return Err(wrong(&reason, text));
            }
            let seconds = pause as f64 / 1e6;
            (self.announce)(&format!(
                "{reason}: `{}'. Trying again in {seconds:.2} seconds...",
                visible(text.as_bytes())
            ));
            sleep(Duration::from_micros(pause));
            pause = (pause * 6 / 5).min(20_000_000);
            left = left.map(|n| n - 1);
        }
    }
}

/// Looks at the text alone: it must have a host that can be one and a port, and the port be known to this machine.
pub struct Syntax;

impl Resolve for Syntax {
    fn endpoint(&mut self, text: &str) -> Result<Option<SocketAddr>, EndpointError> {
        let (host, service) = split(text)?;
        if let Some(address) = numeric(host, service) {
            return Ok(Some(address));
        }
        if host.is_empty() {
            return Err(wrong("Unable to find host of endpoint", text));
        }
        if !can_be_host(host) {
            return Err(wrong(
                "Host of endpoint is neither a name nor an IP address",
                text,
            ));
        }
        port(service).map_err(|reason| wrong(&reason, text))?;
        Ok(None)
    }
}

/// An endpoint that a process reports: numbers, and perhaps the name of a zone.
///
/// # Errors
/// EPROTO if it is not written as an endpoint, ENETUNREACH if no such address exists here.
pub fn reported(text: &str) -> io::Result<SocketAddr> {
    let (host, service) = split(text).map_err(|_| Errno::PROTO)?;
    match numeric(host, service) {
        Some(address) => Ok(address),
        None => {
            let flags = libc::AI_NUMERICHOST | libc::AI_NUMERICSERV;
            let found = lookup(Some(host), service, flags).ok().flatten();
            found.ok_or_else(|| Errno::NETUNREACH.into())
        }
    }
}

/// A port from its number or its service's name. Numbers over 65535 are refused, which glibc would cut to 16 bits.
///
/// # Errors
/// The reason.
pub fn port(text: &str) -> Result<u16, String> {
    if let Some(number) = number(text) {
        return number.ok_or_else(|| NO_PORT.to_owned());
    }
    match lookup(None, text, libc::AI_PASSIVE) {
        Ok(Some(address)) => Ok(address.port()),
        Ok(None) => Err("Neither IPv4 nor IPv6 address found".to_owned()),
        Err(e) => Err(reason(e)),
    }
}

/// Writes an endpoint as getnameinfo(3) does: numbers, brackets around IPv6, the zone by name where it has one.
///
/// # Errors
/// The writer's.
pub fn write(out: &mut (impl io::Write + ?Sized), address: &SocketAddr) -> io::Result<()> {
    let port = address.port();
    match address {
        SocketAddr::V6(a) if a.scope_id() != 0 => {
            let flags = libc::NI_NUMERICHOST | libc::NI_NUMERICSERV | libc::NI_DGRAM;
            match dns_lookup::getnameinfo(address, flags) {
                Ok((host, port)) => write!(out, "[{host}]:{port}"),
                Err(_) => write!(out, "[{}%{}]:{port}", a.ip(), a.scope_id()),
            }
        }
        SocketAddr::V6(a) => {
            out.write_all(b"[")?;
            write_ip(out, IpAddr::V6(*a.ip()))?;
            write!(out, "]:{port}")
        }
        SocketAddr::V4(a) => write!(out, "{}:{port}", a.ip()),
    }
}

/// Writes an address as inet_ntop(3) does. It differs from the standard library in the lowest IPv6 addresses, which it
/// takes for "IPv4-compatible" ones.
///
/// # Errors
/// The writer's.
pub fn write_ip(out: &mut (impl io::Write + ?Sized), ip: IpAddr) -> io::Result<()> {
    if let IpAddr::V6(v6) = ip {
        let [high @ .., g, h] = v6.segments();
        if high == [0; 6] && g != 0 {
            let [g0, g1] = g.to_be_bytes();
            let [h0, h1] = h.to_be_bytes();
            return write!(out, "::{g0}.{g1}.{h0}.{h1}");
        }
    }
    write!(out, "{ip}")
}

/// Host and service of an endpoint; neither is looked at.
fn split(text: &str) -> Result<(&str, &str), EndpointError> {
    let fail = |what: &str| Err(wrong(&format!("{what} endpoint"), text));
    if text.is_empty() {
        return Err(EndpointError::Endpoint(
            "Unable to parse empty endpoint".to_owned(),
        ));
    }
    let found = if let Some(inner) = text.strip_prefix('[') {
        let Some((host, rest)) = inner.split_once(']') else {
            return fail("Unable to find matching brace of");
        };
        rest.strip_prefix(':').map(|service| (host, service))
    } else {
        text.rsplit_once(':')
    };
    match found {
        Some((_, "")) | None => fail("Unable to find port of"),
        Some(both) => Ok(both),
    }
}

/// The address, if both parts are plain numbers.
fn numeric(host: &str, service: &str) -> Option<SocketAddr> {
    Some(SocketAddr::new(host.parse().ok()?, number(service)??))
}

/// `None`: not a number. `Some(None)`: not a port's, which glibc does not notice.
fn number(text: &str) -> Option<Option<u16>> {
    let text = text.trim_ascii_start();
    let digits = text.strip_prefix('+').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok())
}

fn check_number(service: &str, text: &str) -> Result<(), EndpointError> {
    match number(service) {
        Some(None) => Err(wrong(NO_PORT, text)),
        _ => Ok(()),
    }
}

fn neither(text: &str) -> EndpointError {
    wrong("Neither IPv4 nor IPv6 address found", text)
}

/// The first address that the system finds.
fn lookup(
    host: Option<&str>,
    service: &str,
    flags: i32,
) -> Result<Option<SocketAddr>, LookupError> {
    let hints = AddrInfoHints {
        flags,
        socktype: libc::SOCK_DGRAM,
        protocol: libc::IPPROTO_UDP,
        ..AddrInfoHints::default()
    };
    let mut found = getaddrinfo(host, Some(service), Some(hints))?;
    Ok(found.next().and_then(Result::ok).map(|info| info.sockaddr))
}

fn wrong(reason: &str, text: &str) -> EndpointError {
    EndpointError::Endpoint(format!("{reason}: `{}'", visible(text.as_bytes())))
}

/// The reason for EAI_SERVICE, whose text is about the arguments of getaddrinfo(3).
const NO_PORT: &str = "Port is neither a number up to 65535 nor the name of a UDP service";

/// Whether the resolver can make something of a host that is no plain address: another spelling of an address, one with
/// a zone, or a name. Not so what has a port too many, a scheme, or the length of a prefix.
fn can_be_host(host: &str) -> bool {
    if host.contains(':') {
        let (address, zone) = host.split_once('%').unwrap_or((host, "0"));
        return address.parse::<std::net::Ipv6Addr>().is_ok() && !zone.is_empty();
    }
    // inet_aton(3) takes more than four decimals; but with three dots between decimals it is nothing else.
    let decimal = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = host.split('.').collect();
    if parts.len() == 4 && parts.iter().all(|p| !p.is_empty() && decimal(p)) {
        return parts
            .iter()
            .all(|p| p.starts_with('0') || p.parse::<u8>().is_ok());
    }
    !host
        .chars()
        .any(|c| c.is_whitespace() || c.is_control() || "/@[],;\"".contains(c))
}

/// The system's own words, where they are of use.
fn reason(failure: LookupError) -> String {
    if matches!(failure.kind(), LookupErrorKind::Service) {
        return NO_PORT.to_owned();
    }
    let text = crate::error_text(&io::Error::from(failure));
    match text.strip_prefix("failed to lookup address information: ") {
        Some(words) => words.to_owned(),
        None => text,
    }
}

/// As strtoul(3) reads it, up to the largest `int`.
fn retries(text: &str) -> Option<u32> {
    if text.is_empty() {
        return Some(0);
    }
    let digits = text.trim_ascii_start();
    let number: u32 = digits.strip_prefix('+').unwrap_or(digits).parse().ok()?;
    (number <= i32::MAX as u32).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(address: &str) -> String {
        let mut out = Vec::new();
        write_ip(&mut out, address.parse().unwrap()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn addresses_as_inet_ntop() {
        for same in [
            "0.0.0.0",
            "192.0.2.1",
            "::",
            "::1",
            "fd00::",
            "2001:db8::1:0",
            "::ffff:1.2.3.4",
        ] {
            assert_eq!(text(same), same);
        }
        assert_eq!(text("::1.2.3.4"), "::1.2.3.4");
        assert_eq!(text("::1:0"), "::0.1.0.0");
        assert_eq!(text("::1:2:3"), "::1:2:3");
    }

    #[test]
    fn ports() {
        assert_eq!(port("0"), Ok(0));
        assert_eq!(port("65535"), Ok(65535));
        for bad in [
            "65536",
            "-1",
            "+70000",
            "99999999999999999999",
            "no-such-service",
            "0x10",
        ] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn endpoints_without_a_lookup() {
        let at = |text| Syntax.endpoint(text);
        assert_eq!(at("192.0.2.1:7"), Ok(Some("192.0.2.1:7".parse().unwrap())));
        assert_eq!(at("[::1]:65535"), Ok(Some("[::1]:65535".parse().unwrap())));
        assert_eq!(at("::1:80"), Ok(Some("[::1]:80".parse().unwrap())));
        for name in [
            "host.example:51820",
            "[host.example]:1",
            "127.1:1",
            "0x7f.1:1",
            "010.0.0.1:1",
            "[fe80::1%em0]:7",
            "x_y.example.:1",
            "1.2.3.4.example:1",
            "1.2.3.4.in-addr.arpa:1",
        ] {
            assert_eq!(at(name), Ok(None), "{name}");
        }
        for (bad, why) in [
            ("", "Unable to parse empty endpoint"),
            ("host", "Unable to find port of endpoint: `host'"),
            ("host:", "Unable to find port of endpoint: `host:'"),
            ("[::1", "Unable to find matching brace of endpoint: `[::1'"),
            ("[::1]", "Unable to find port of endpoint: `[::1]'"),
            ("[::1]80", "Unable to find port of endpoint: `[::1]80'"),
            ("[::1]:", "Unable to find port of endpoint: `[::1]:'"),
            (":80", "Unable to find host of endpoint: `:80'"),
            (
                "host.example:1:2",
                "Host of endpoint is neither a name nor an IP address: `host.example:1:2'",
            ),
            (
                "192.0.2.1:1:2",
                "Host of endpoint is neither a name nor an IP address: `192.0.2.1:1:2'",
            ),
            (
                "https://host.example:1",
                "Host of endpoint is neither a name nor an IP address: `https://host.example:1'",
            ),
            (
                "10.0.0.1/24:1",
                "Host of endpoint is neither a name nor an IP address: `10.0.0.1/24:1'",
            ),
            (
                "10.0.0.256:1",
                "Host of endpoint is neither a name nor an IP address: `10.0.0.256:1'",
            ),
            (
                "host:no-such-service",
                "Port is neither a number up to 65535 nor the name of a UDP service: `host:no-such-service'",
            ),
            (
                "h\u{feff}ost",
                "Unable to find port of endpoint: `h\\u{feff}ost'",
            ),
        ] {
            assert_eq!(
                at(bad),
                Err(EndpointError::Endpoint(why.to_owned())),
                "{bad}"
            );
        }
        assert!(at("host.example:65536").is_err());
    }

    #[test]
    fn numbers_of_retries() {
        assert_eq!(retries(""), Some(0));
        assert_eq!(retries("7"), Some(7));
        assert_eq!(retries("2147483647"), Some(2_147_483_647));
        for bad in ["2147483648", "-1", "x", "1x", "1 "] {
            assert_eq!(retries(bad), None, "{bad}");
        }
    }
}
