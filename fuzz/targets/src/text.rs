// SPDX-License-Identifier: BSD-2-Clause
//! Replies in the text protocol, as wg(8) reads them.

use std::io::Read;

use wgd::uapi::{PeerView, ReplyWriter};
use wgtools::backend::text::read_device;
use wgtools::device::Device;

use crate::plain;

/// A reply means the same however it arrives; one that is cut short is none; and what `wgd` writes for the interface
/// that was read is read as the same interface.
///
/// The first byte of the input says where to cut and how many bytes arrive at a time.
pub fn text_reply(input: &[u8]) {
    let Some((&mode, reply)) = input.split_first() else {
        return;
    };
    // Keys are multiplied, which takes time.
    if reply.len() > 8192 {
        return;
    }
    let read = read_device("wg0", reply);
    let seen = read
        .as_ref()
        .map(plain::device)
        .map_err(|e| e.raw_os_error());
    let step = usize::from(mode % 16) + 1;
    let dripping = read_device("wg0", Dripping { rest: reply, step });
    let dripping = dripping
        .as_ref()
        .map(plain::device)
        .map_err(|e| e.raw_os_error());
    assert_eq!(dripping, seen, "{step} bytes at a time");
    let Ok(device) = read else {
        assert!(
            matches!(seen, Err(Some(errno)) if errno != 0),
            "an error that says nothing"
        );
        return;
    };
    let end = if reply.starts_with(b"\n") {
        1
    } else {
        2 + reply.windows(2).position(|w| w == b"\n\n").expect("an end")
    };
    let cut = end * usize::from(mode) / 256;
    let cut = read_device("wg0", &reply[..cut]);
    assert_eq!(
        cut.err().and_then(|e| e.raw_os_error()),
        Some(71),
        "a piece is no reply"
    );
    let again = read_device("wg0", &written(&device)[..]).expect("wgd writes replies");
    assert_eq!(plain::device(&again), plain::device(&device));
}

/// Gives out so many bytes at a time.
struct Dripping<'a> {
    rest: &'a [u8],
    step: usize,
}

impl Read for Dripping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let step = self.step.min(buffer.len());
        self.rest.read(&mut buffer[..step])
    }
}

fn written(device: &Device) -> Vec<u8> {
    let mut reply = ReplyWriter::with_capacity(1 << 12);
    if let Some(key) = &device.private_key {
        reply.private_key(key.bytes());
    }
    if device.listen_port != 0 {
        reply.listen_port(device.listen_port);
    }
    if device.fwmark != 0 {
        reply.fwmark(device.fwmark);
    }
    for peer in &device.peers {
        let (seconds, nanoseconds) = peer.last_handshake.unwrap_or_default();
        reply.peer(&PeerView {
            public_key: peer.public_key.bytes(),
            preshared_key: peer
                .preshared_key
                .as_ref()
                .map_or(&[0; 32], |key| key.bytes()),
            endpoint: peer.endpoint,
            last_handshake: (seconds, nanoseconds.into()),
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
            persistent_keepalive: peer.persistent_keepalive,
        });
        for ip in &peer.allowed_ips {
            reply.allowed_ip(ip.ip, ip.cidr);
        }
    }
    reply.finish().to_vec()
}
