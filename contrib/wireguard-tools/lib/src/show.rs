// SPDX-License-Identifier: BSD-2-Clause
//! What `wg show IF FIELD` and `wg showconf` print: for programs, with tabs, and with all keys.

use std::io::{self, Write};

use crate::device::{AllowedIp, Device, Peer};
use crate::endpoint;
use crate::key::{PublicKey, SecretKey};

/// What to show of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The interface's public key.
    PublicKey,
    /// The interface's private key.
    PrivateKey,
    /// The UDP port.
    ListenPort,
    /// The mark.
    Fwmark,
    /// The peers' keys.
    Peers,
    /// Preshared keys by peer.
    PresharedKeys,
    /// Endpoints by peer.
    Endpoints,
    /// Allowed IPs by peer, separated by spaces.
    AllowedIps,
    /// Unix seconds by peer, 0 for never.
    LatestHandshakes,
    /// Bytes received and sent by peer.
    Transfer,
    /// Seconds by peer, or `off`.
    PersistentKeepalive,
    /// All of it: a line for the interface and one for each peer.
    Dump,
}

impl Field {
    /// Every field, in the order of `wg show --help`.
    pub const ALL: [(&'static str, Field); 12] = [
        ("public-key", Field::PublicKey),
        ("private-key", Field::PrivateKey),
        ("listen-port", Field::ListenPort),
        ("fwmark", Field::Fwmark),
        ("peers", Field::Peers),
        ("preshared-keys", Field::PresharedKeys),
        ("endpoints", Field::Endpoints),
        ("allowed-ips", Field::AllowedIps),
        ("latest-handshakes", Field::LatestHandshakes),
        ("transfer", Field::Transfer),
        ("persistent-keepalive", Field::PersistentKeepalive),
        ("dump", Field::Dump),
    ];

    /// The field of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Field> {
        Field::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|&(_, field)| field)
    }
}

/// Writes one field. With `named` every line begins with the interface's name.
///
/// # Errors
/// The writer's.
pub fn field(out: &mut impl Write, device: &Device, field: Field, named: bool) -> io::Result<()> {
    match field {
        Field::PublicKey => {
            name(out, device, named)?;
            public(out, device.public_key.as_ref())?;
        }
        Field::PrivateKey => {
            name(out, device, named)?;
            secret(out, device.private_key.as_ref())?;
        }
        Field::ListenPort => {
            name(out, device, named)?;
            write!(out, "{}", device.listen_port)?;
        }
        Field::Fwmark => {
            name(out, device, named)?;
            fwmark(out, device.fwmark)?;
        }
        Field::Dump => return dump(out, device, named),
        _ => {
            for peer in &device.peers {
                name(out, device, named)?;
                public(out, Some(&peer.public_key))?;
                of_peer(out, peer, field)?;
                out.write_all(b"\n")?;
            }
            return Ok(());
        }
    }
    out.write_all(b"\n")
}

/// What follows a peer's key.
fn of_peer(out: &mut impl Write, peer: &Peer, field: Field) -> io::Result<()> {
    match field {
        Field::PresharedKeys => {
            out.write_all(b"\t")?;
            secret(out, peer.preshared_key.as_ref())
        }
        Field::Endpoints => {
            out.write_all(b"\t")?;
            endpoint_or_none(out, peer)
        }
        Field::AllowedIps => {
            out.write_all(b"\t")?;
            allowed_ips(out, &peer.allowed_ips, b" ")
        }
        Field::LatestHandshakes => write!(out, "\t{}", seconds(peer)),
        Field::Transfer => write!(out, "\t{}\t{}", peer.rx_bytes, peer.tx_bytes),
        Field::PersistentKeepalive => {
            out.write_all(b"\t")?;
            keepalive(out, peer)
        }
        _ => Ok(()),
    }
}

fn dump(out: &mut impl Write, device: &Device, named: bool) -> io::Result<()> {
    name(out, device, named)?;
    secret(out, device.private_key.as_ref())?;
    out.write_all(b"\t")?;
    public(out, device.public_key.as_ref())?;
    write!(out, "\t{}\t", device.listen_port)?;
    fwmark(out, device.fwmark)?;
    out.write_all(b"\n")?;
    for peer in &device.peers {
        name(out, device, named)?;
        public(out, Some(&peer.public_key))?;
        out.write_all(b"\t")?;
        secret(out, peer.preshared_key.as_ref())?;
        out.write_all(b"\t")?;
        endpoint_or_none(out, peer)?;
        out.write_all(b"\t")?;
        allowed_ips(out, &peer.allowed_ips, b",")?;
        write!(
            out,
            "\t{}\t{}\t{}\t",
            seconds(peer),
            peer.rx_bytes,
            peer.tx_bytes
        )?;
        keepalive(out, peer)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Writes an interface in the format of [`crate::config`].
///
/// # Errors
/// The writer's.
pub fn showconf(out: &mut impl Write, device: &Device) -> io::Result<()> {
    out.write_all(b"[Interface]\n")?;
    if device.listen_port != 0 {
        writeln!(out, "ListenPort = {}", device.listen_port)?;
    }
    if device.fwmark != 0 {
        writeln!(out, "FwMark = {:#x}", device.fwmark)?;
    }
    if let Some(key) = &device.private_key {
        key.with_base64(|text| writeln!(out, "PrivateKey = {text}"))?;
    }
    out.write_all(b"\n")?;
    for (i, peer) in device.peers.iter().enumerate() {
        if i != 0 {
            out.write_all(b"\n")?;
        }
        out.write_all(b"[Peer]\nPublicKey = ")?;
        public(out, Some(&peer.public_key))?;
        out.write_all(b"\n")?;
        if let Some(key) = &peer.preshared_key {
            key.with_base64(|text| writeln!(out, "PresharedKey = {text}"))?;
        }
        if !peer.allowed_ips.is_empty() {
            out.write_all(b"AllowedIPs = ")?;
            allowed_ips(out, &peer.allowed_ips, b", ")?;
            out.write_all(b"\n")?;
        }
        if let Some(address) = &peer.endpoint {
            out.write_all(b"Endpoint = ")?;
            endpoint::write(out, address)?;
            out.write_all(b"\n")?;
        }
        if peer.persistent_keepalive != 0 {
            writeln!(out, "PersistentKeepalive = {}", peer.persistent_keepalive)?;
        }
    }
    Ok(())
}

const NONE: &[u8] = b"(none)";

fn name(out: &mut impl Write, device: &Device, named: bool) -> io::Result<()> {
    if named {
        write!(out, "{}\t", device.name)
    } else {
        Ok(())
    }
}

fn public(out: &mut impl Write, key: Option<&PublicKey>) -> io::Result<()> {
    match key {
        Some(key) => key.with_base64(|text| out.write_all(text.as_bytes())),
        None => out.write_all(NONE),
    }
}

fn secret(out: &mut impl Write, key: Option<&SecretKey>) -> io::Result<()> {
    match key {
        Some(key) => key.with_base64(|text| out.write_all(text.as_bytes())),
        None => out.write_all(NONE),
    }
}

fn fwmark(out: &mut impl Write, mark: u32) -> io::Result<()> {
    if mark == 0 {
        out.write_all(b"off")
    } else {
        write!(out, "{mark:#x}")
    }
}

fn endpoint_or_none(out: &mut impl Write, peer: &Peer) -> io::Result<()> {
    match &peer.endpoint {
        Some(address) => endpoint::write(out, address),
        None => out.write_all(NONE),
    }
}

fn allowed_ips(out: &mut impl Write, list: &[AllowedIp], between: &[u8]) -> io::Result<()> {
    if list.is_empty() {
        return out.write_all(NONE);
    }
    for (i, prefix) in list.iter().enumerate() {
        if i != 0 {
            out.write_all(between)?;
        }
        endpoint::write_ip(out, prefix.ip)?;
        write!(out, "/{}", prefix.cidr)?;
    }
    Ok(())
}

fn seconds(peer: &Peer) -> u64 {
    peer.last_handshake.map_or(0, |(seconds, _)| seconds)
}

fn keepalive(out: &mut impl Write, peer: &Peer) -> io::Result<()> {
    match peer.persistent_keepalive {
        0 => out.write_all(b"off"),
        seconds => write!(out, "{seconds}"),
    }
}
