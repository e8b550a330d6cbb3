// SPDX-License-Identifier: BSD-2-Clause
//! `wg show --json`.
//!
//! The schema is stable: within one `version` names are added, never changed or removed. What is unknown or switched
//! off is `null`.
//!
//! ```text
//! { "version": 1,
//!   "interfaces": [
//!     { "name": "wg0",
//!       "public_key": "base64" | null,
//!       "private_key": "base64" | "(hidden)" | null,      the key with WG_HIDE_KEYS=never
//!       "listen_port": 51820 | null,
//!       "fwmark": 51820 | null,
//!       "peers": [
//!         { "public_key": "base64",
//!           "preshared_key": "base64" | "(hidden)" | null,
//!           "endpoint": "192.0.2.1:51820" | "[2001:db8::1]:51820" | null,
//!           "allowed_ips": ["10.0.0.0/24", ...],
//!           "latest_handshake": 1700000000 | null,        seconds since 1970
//!           "rx_bytes": 0,
//!           "tx_bytes": 0,
//!           "persistent_keepalive": 25 | null } ] } ] }   seconds
//! ```

use std::io::{self, Write};

use serde::{Serialize, Serializer};
use wgtools::device::{AllowedIp, Device, Peer};
use wgtools::endpoint;
use wgtools::key::SecretKey;

use crate::out::Out;
use crate::show;
use crate::{Outcome, Program};

/// The schema's.
const VERSION: u32 = 1;

/// Prints one interface or all.
pub fn print(program: &Program, target: Option<&str>) -> Outcome {
    let keys = show::keys_are_shown();
    let mut devices = Vec::new();
    let done = show::each(program, target, |device, _| {
        devices.push(device);
        Ok(())
    });
    if done.is_err() && devices.is_empty() {
        return done;
    }
    let interfaces = devices
        .iter()
        .map(|device| interface(device, keys))
        .collect();
    let mut out = Out::new();
    serde_json::to_writer_pretty(
        &mut out,
        &Document {
            version: VERSION,
            interfaces,
        },
    )
    .map_err(io::Error::from)?;
    out.write_all(b"\n")?;
    out.finish()
}

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    interfaces: Vec<Interface<'a>>,
}

#[derive(Serialize)]
struct Interface<'a> {
    name: &'a str,
    public_key: Option<String>,
    private_key: Option<Secret<'a>>,
    listen_port: Option<u16>,
    fwmark: Option<u32>,
    peers: Vec<PeerView<'a>>,
}

#[derive(Serialize)]
struct PeerView<'a> {
    public_key: String,
    preshared_key: Option<Secret<'a>>,
    endpoint: Option<String>,
    allowed_ips: Vec<String>,
    latest_handshake: Option<u64>,
    rx_bytes: u64,
    tx_bytes: u64,
    persistent_keepalive: Option<u16>,
}

/// A key that becomes text only inside of the output's buffer.
enum Secret<'a> {
    Hidden,
    Shown(&'a SecretKey),
}

impl<'a> Secret<'a> {
    fn of(key: &'a SecretKey, keys: bool) -> Secret<'a> {
        if keys {
            Secret::Shown(key)
        } else {
            Secret::Hidden
        }
    }
}

impl Serialize for Secret<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Secret::Hidden => to.serialize_str("(hidden)"),
            Secret::Shown(key) => key.with_base64(|text| to.serialize_str(text)),
        }
    }
}

fn interface(device: &Device, keys: bool) -> Interface<'_> {
    Interface {
        name: &device.name,
        public_key: device.public_key.map(|key| key.to_string()),
        private_key: device.private_key.as_ref().map(|key| Secret::of(key, keys)),
        listen_port: Some(device.listen_port).filter(|&port| port != 0),
        fwmark: Some(device.fwmark).filter(|&mark| mark != 0),
        peers: device.peers.iter().map(|p| peer(p, keys)).collect(),
    }
}

fn peer(peer: &Peer, keys: bool) -> PeerView<'_> {
    PeerView {
        public_key: peer.public_key.to_string(),
        preshared_key: peer.preshared_key.as_ref().map(|key| Secret::of(key, keys)),
        endpoint: peer
            .endpoint
            .as_ref()
            .map(|at| text(|out| endpoint::write(out, at))),
        allowed_ips: peer.allowed_ips.iter().map(prefix).collect(),
        latest_handshake: peer
            .last_handshake
            .map(|(seconds, _)| seconds)
            .filter(|&s| s != 0),
        rx_bytes: peer.rx_bytes,
        tx_bytes: peer.tx_bytes,
        persistent_keepalive: Some(peer.persistent_keepalive).filter(|&seconds| seconds != 0),
    }
}

fn prefix(prefix: &AllowedIp) -> String {
    let mut written = text(|out| endpoint::write_ip(out, prefix.ip));
    written.push_str(&format!("/{}", prefix.cidr));
    written
}

/// What `f` writes, which is ASCII. A vector takes everything.
fn text(f: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    let _ = f(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}
