// SPDX-License-Identifier: BSD-2-Clause
//! Writing replies.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use zeroize::Zeroizing;

use super::KEY_LEN;

/// Which sign an error number carries.
///
/// `wg(8)` disagrees with itself: after a `set` it takes the number as a kernel-style negative one, after a `get` it
/// insists on a leading digit. Each reply therefore has the sign with which a stock `wg` prints the right message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrnoStyle {
    /// Reply to a `get`: positive.
    Get,
    /// Reply to a `set`: negative.
    Set,
}

/// Appends the end of a reply: `errno=` line and empty line.
pub fn write_errno(out: &mut Vec<u8>, errno: Option<Errno>, style: ErrnoStyle) {
    let number = errno.map_or(0, Errno::raw_os_error);
    let signed = match style {
        ErrnoStyle::Get => number,
        ErrnoStyle::Set => number.wrapping_neg(),
    };
    put(out, format_args!("errno={signed}\n\n"));
}

/// What a `get` reports of one peer, apart from its allowed IPs.
pub struct PeerView<'a> {
    /// The peer's public key.
    pub public_key: &'a [u8; KEY_LEN],
    /// All zero when there is none.
    pub preshared_key: &'a [u8; KEY_LEN],
    /// Absent until one is configured or learned.
    pub endpoint: Option<SocketAddr>,
    /// Wall clock seconds and nanoseconds of the latest handshake; zeros before the first.
    pub last_handshake: (u64, u64),
    /// Bytes received from the peer.
    pub rx_bytes: u64,
    /// Bytes sent to the peer.
    pub tx_bytes: u64,
    /// Seconds; 0 is off.
    pub persistent_keepalive: u16,
}

/// Builds a `get` reply. Device keys must be written before the first peer, and a peer's allowed IPs right after it.
pub struct ReplyWriter {
    out: Zeroizing<Vec<u8>>,
}

impl ReplyWriter {
    /// `capacity` should be no less than the reply's size: growing a buffer that holds keys leaves copies of them in
    /// freed memory.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> ReplyWriter {
        ReplyWriter {
            out: Zeroizing::new(Vec::with_capacity(capacity)),
        }
    }

    /// The interface's private key.
    pub fn private_key(&mut self, key: &[u8; KEY_LEN]) {
        self.hex("private_key", key);
    }

    /// The UDP port.
    pub fn listen_port(&mut self, port: u16) {
        put(&mut self.out, format_args!("listen_port={port}\n"));
    }

    /// The mark.
    pub fn fwmark(&mut self, mark: u32) {
        put(&mut self.out, format_args!("fwmark={mark}\n"));
    }

    /// One peer.
    pub fn peer(&mut self, peer: &PeerView<'_>) {
        self.hex("public_key", peer.public_key);
        self.hex("preshared_key", peer.preshared_key);
        put(&mut self.out, format_args!("protocol_version=1\n"));
        if let Some(endpoint) = peer.endpoint {
            put(&mut self.out, format_args!("endpoint={endpoint}\n"));
        }
        put(
            &mut self.out,
            format_args!(
                "last_handshake_time_sec={}\nlast_handshake_time_nsec={}\ntx_bytes={}\nrx_bytes={}\n\
                 persistent_keepalive_interval={}\n",
                peer.last_handshake.0,
                peer.last_handshake.1,
                peer.tx_bytes,
                peer.rx_bytes,
                peer.persistent_keepalive,
            ),
        );
    }

    /// One prefix of the latest peer.
    pub fn allowed_ip(&mut self, addr: IpAddr, cidr: u8) {
        put(&mut self.out, format_args!("allowed_ip={addr}/{cidr}\n"));
    }

    /// Ends the reply successfully.
    #[must_use]
    pub fn finish(mut self) -> Zeroizing<Vec<u8>> {
        write_errno(&mut self.out, None, ErrnoStyle::Get);
        self.out
    }

    fn hex(&mut self, name: &str, key: &[u8; KEY_LEN]) {
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'=');
        for byte in key {
            self.out.push(hex_digit(byte >> 4));
            self.out.push(hex_digit(byte & 15));
        }
        self.out.push(b'\n');
    }
}

/// Arithmetic instead of a table, so that the digits of a secret leave no trace in the data cache.
fn hex_digit(nibble: u8) -> u8 {
    let n = u16::from(nibble);
    let letter = (9u16.wrapping_sub(n) >> 8) & u16::from(b'a' - b'0' - 10);
    u8::try_from(n + u16::from(b'0') + letter).unwrap_or(b'?')
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a `Vec` cannot fail.
    let _ = out.write_fmt(text);
}
