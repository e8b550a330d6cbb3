// SPDX-License-Identifier: BSD-2-Clause
//! What `wg show` prints for people.

use std::cmp::Reverse;
use std::fmt::{self, Display};
use std::io::{self, Write};

use crate::device::{Device, Peer};
use crate::endpoint;
use crate::key::SecretKey;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// With the terminal's colours.
    pub colour: bool,
    /// With the private and preshared keys instead of `(hidden)`.
    pub keys: bool,
    /// The wall clock, in seconds.
    pub now: u64,
}

/// One of the terminal's escapes, or nothing.
#[derive(Clone, Copy)]
struct Code(&'static str);

impl Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The escapes that are in use.
#[derive(Clone, Copy)]
struct Codes {
    reset: Code,
    bold: Code,
    red: Code,
    green: Code,
    yellow: Code,
    cyan: Code,
}

impl Codes {
    fn of(colour: bool) -> Codes {
        let code = |text| Code(if colour { text } else { "" });
        Codes {
            reset: code("\x1b[0m"),
            bold: code("\x1b[1m"),
            red: code("\x1b[31m"),
            green: code("\x1b[32m"),
            yellow: code("\x1b[33m"),
            cyan: code("\x1b[36m"),
        }
    }
}

/// Writes an interface, its peers by their latest handshake, the newest first. Peers of the same time stay in their
/// order.
///
/// # Errors
/// The writer's.
pub fn device(out: &mut impl Write, device: &Device, style: &Style) -> io::Result<()> {
    let c = Codes::of(style.colour);
    let Codes {
        reset, bold, green, ..
    } = c;
    writeln!(
        out,
        "{reset}{green}{bold}interface{reset}: {green}{}{reset}",
        device.name
    )?;
    if let Some(key) = &device.public_key {
        writeln!(out, "  {bold}public key{reset}: {key}")?;
    }
    if let Some(key) = &device.private_key {
        secret(out, c, "private key", key, style)?;
    }
    if device.listen_port != 0 {
        writeln!(out, "  {bold}listening port{reset}: {}", device.listen_port)?;
    }
    if device.fwmark != 0 {
        writeln!(out, "  {bold}fwmark{reset}: {:#x}", device.fwmark)?;
    }
    let mut peers: Vec<&Peer> = device.peers.iter().collect();
    peers.sort_by_key(|peer| Reverse(peer.last_handshake));
    for peer in peers {
        writeln!(out)?;
        write_peer(out, c, peer, style)?;
    }
    Ok(())
}

fn write_peer(out: &mut impl Write, c: Codes, peer: &Peer, style: &Style) -> io::Result<()> {
    let Codes {
        reset,
        bold,
        yellow,
        cyan,
        ..
    } = c;
    writeln!(
        out,
        "{yellow}{bold}peer{reset}: {yellow}{}{reset}",
        peer.public_key
    )?;
    if let Some(key) = &peer.preshared_key {
        secret(out, c, "preshared key", key, style)?;
    }
    if let Some(address) = &peer.endpoint {
        write!(out, "  {bold}endpoint{reset}: ")?;
        endpoint::write(out, address)?;
        writeln!(out)?;
    }
    write!(out, "  {bold}allowed ips{reset}: ")?;
    for (i, prefix) in peer.allowed_ips.iter().enumerate() {
        if i != 0 {
            out.write_all(b", ")?;
        }
        endpoint::write_ip(out, prefix.ip)?;
        write!(out, "{cyan}/{reset}{}", prefix.cidr)?;
    }
    writeln!(
        out,
        "{}",
        if peer.allowed_ips.is_empty() {
            "(none)"
        } else {
            ""
        }
    )?;
    if let Some((seconds, _)) = peer.last_handshake.filter(|&(seconds, _)| seconds != 0) {
        write!(out, "  {bold}latest handshake{reset}: ")?;
        ago(out, c, seconds, style.now)?;
        writeln!(out)?;
    }
    if peer.rx_bytes != 0 || peer.tx_bytes != 0 {
        write!(out, "  {bold}transfer{reset}: ")?;
        bytes(out, c, peer.rx_bytes)?;
        out.write_all(b" received, ")?;
        bytes(out, c, peer.tx_bytes)?;
        out.write_all(b" sent\n")?;
    }
    if peer.persistent_keepalive != 0 {
        write!(out, "  {bold}persistent keepalive{reset}: every ")?;
        span(out, c, peer.persistent_keepalive.into())?;
        writeln!(out)?;
    }
    Ok(())
}

fn secret(
    out: &mut impl Write,
    c: Codes,
    label: &str,
    key: &SecretKey,
    style: &Style,
) -> io::Result<()> {
    write!(out, "  {}{label}{}: ", c.bold, c.reset)?;
    if style.keys {
        key.with_base64(|text| out.write_all(text.as_bytes()))?;
    } else {
        out.write_all(b"(hidden)")?;
    }
    out.write_all(b"\n")
}

/// Time since `then`.
fn ago(out: &mut impl Write, c: Codes, then: u64, now: u64) -> io::Result<()> {
    match now.checked_sub(then) {
        Some(0) => out.write_all(b"Now"),
        Some(seconds) => {
            span(out, c, seconds)?;
            out.write_all(b" ago")
        }
        None => write!(
            out,
            "({}System clock wound backward; connection problems may ensue.{})",
            c.red, c.reset
        ),
    }
}

/// A length of time in words. A year has 365 days.
fn span(out: &mut impl Write, c: Codes, mut seconds: u64) -> io::Result<()> {
    const UNITS: [(&str, u64); 5] = [
        ("year", 365 * 86400),
        ("day", 86400),
        ("hour", 3600),
        ("minute", 60),
        ("second", 1),
    ];
    let mut between = "";
    for (unit, size) in UNITS {
        let n = seconds / size;
        seconds %= size;
        if n != 0 {
            let plural = if n == 1 { "" } else { "s" };
            write!(out, "{between}{n} {}{unit}{plural}{}", c.cyan, c.reset)?;
            between = ", ";
        }
    }
    Ok(())
}

/// A number of bytes in a readable unit.
fn bytes(out: &mut impl Write, c: Codes, n: u64) -> io::Result<()> {
    let (text, unit) = scaled(n);
    write!(out, "{text} {}{unit}{}", c.cyan, c.reset)
}

/// A number of bytes as a number and its unit: `1.50` and `KiB`.
#[must_use]
pub fn scaled(n: u64) -> (String, &'static str) {
    if n < 1024 {
        return (n.to_string(), "B");
    }
    let exact = n as f64;
    let (divisor, unit) = match n {
        0..0x10_0000 => (1024.0, "KiB"),
        0x10_0000..0x4000_0000 => (1024.0 * 1024.0, "MiB"),
        0x4000_0000..0x100_0000_0000 => (1024.0 * 1024.0 * 1024.0, "GiB"),
        _ => (1024.0 * 1024.0 * 1024.0 * 1024.0, "TiB"),
    };
    (format!("{:.2}", exact / divisor), unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(f: impl FnOnce(&mut Vec<u8>, Codes) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        f(&mut out, Codes::of(false)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times() {
        for (then, text) in [
            (1000, "Now"),
            (999, "1 second ago"),
            (935, "1 minute, 5 seconds ago"),
            (
                1001,
                "(System clock wound backward; connection problems may ensue.)",
            ),
        ] {
            assert_eq!(plain(|out, c| ago(out, c, then, 1000)), text);
        }
        let long = 2 * 365 * 86400 + 86400 + 2 * 3600;
        assert_eq!(
            plain(|out, c| span(out, c, long)),
            "2 years, 1 day, 2 hours"
        );
    }

    #[test]
    fn sizes() {
        for (n, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1_048_575, "1024.00 KiB"),
            (1_048_576, "1.00 MiB"),
            (3 << 29, "1.50 GiB"),
            (1 << 40, "1.00 TiB"),
            (u64::MAX, "16777216.00 TiB"),
        ] {
            assert_eq!(plain(|out, c| bytes(out, c, n)), text);
        }
    }
}
