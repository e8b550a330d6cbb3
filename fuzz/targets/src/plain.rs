// SPDX-License-Identifier: BSD-2-Clause
//! Configurations as text that says everything, secrets too, to be compared and shown: a fuzzer has no secrets.

use std::fmt::Write as _;

use wgtools::change::Change;
use wgtools::device::Device;
use wgtools::key::SecretKey;

/// A key in hexadecimal.
pub(crate) fn hex(key: &[u8]) -> String {
    key.iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn secret(key: Option<&SecretKey>) -> String {
    key.map_or("-".to_owned(), |key| hex(key.bytes()))
}

/// All of an interface.
pub(crate) fn device(d: &Device) -> String {
    let mut out = format!(
        "{:?} private {} public {:?} port {} mark {}\n",
        d.name,
        secret(d.private_key.as_ref()),
        d.public_key.map(|key| hex(key.bytes())),
        d.listen_port,
        d.fwmark
    );
    for p in &d.peers {
        let key = hex(p.public_key.bytes());
        let psk = secret(p.preshared_key.as_ref());
        let ips: Vec<_> = p.allowed_ips.iter().map(|ip| (ip.ip, ip.cidr)).collect();
        let rest = (
            p.endpoint,
            p.last_handshake,
            p.rx_bytes,
            p.tx_bytes,
            p.persistent_keepalive,
            ips,
        );
        writeln!(out, "{key} psk {psk} {rest:?}").expect("a string grows");
    }
    out
}

/// All of a change.
pub(crate) fn change(c: &Change) -> String {
    let mut out = format!(
        "private {} port {:?} mark {:?} replace {}\n",
        secret(c.private_key.as_ref()),
        c.listen_port,
        c.fwmark,
        c.replace_peers
    );
    for p in &c.peers {
        let key = hex(p.public_key.bytes());
        let psk = secret(p.preshared_key.as_ref());
        let flags = (p.remove, p.update_only, p.replace_allowed_ips);
        let rest = (flags, p.endpoint, p.persistent_keepalive, &p.allowed_ips);
        writeln!(out, "{key} psk {psk} {rest:?}").expect("a string grows");
    }
    out
}
