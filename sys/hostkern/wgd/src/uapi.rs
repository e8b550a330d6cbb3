// SPDX-License-Identifier: BSD-2-Clause
//! The cross-platform text protocol of userspace WireGuard implementations.
//!
//! This module is pure: bytes in, requests out ([`parse`]); values in, bytes out ([`ReplyWriter`]). It knows no
//! socket, no driver and no clock. What follows is our reading of the protocol as `wg(8)` speaks it:
//!
//! ```text
//! get=1            set=1
//! <empty line>     private_key=<64 hex digits>        0..1 device keys first
//!                  public_key=<64 hex digits>         starts a peer
//!                  allowed_ip=192.0.2.0/24            peer keys follow
//!                  <empty line>
//! ```
//!
//! A `get` reply is `key=value` lines; both replies end with `errno=<n>` and an empty line.
//!
//! Two deliberate differences from implementations that work line by line: a `set` is read **to its empty line
//! before anything of it is applied**, and a request cut short by the end of the stream is an error that changes
//! nothing.

mod format;
mod parse;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use zeroize::Zeroizing;

pub use format::{ErrnoStyle, PeerView, ReplyWriter, write_errno};
pub use parse::{Decoder, Event, Hangup, ZoneLookup};

/// Length of every WireGuard key, in bytes.
pub const KEY_LEN: usize = 32;

/// The longest line accepted, in bytes without its newline. The longest that means anything is an endpoint with a
/// zone, under 100.
pub const MAX_LINE: usize = 512;

/// The largest request accepted, in bytes. It holds some two million allowed IPs, and bounds what a broken client can
/// make the daemon remember.
pub const MAX_REQUEST: usize = 64 << 20;

/// A key that must not leak: wiped when dropped, never printed. Boxed, so that moving it leaves no copy behind.
pub struct Secret(Box<Zeroizing<[u8; KEY_LEN]>>);

impl Secret {
    /// Takes the key over. The caller's copy remains the caller's to wipe.
    #[must_use]
    pub fn new(key: &[u8; KEY_LEN]) -> Secret {
        let mut boxed = Box::new(Zeroizing::new([0; KEY_LEN]));
        boxed.copy_from_slice(key);
        Secret(boxed)
    }

    /// The key's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

/// One complete request.
pub enum Request {
    /// `get=1`: report the whole configuration.
    Get,
    /// `set=1`: change what is named and leave the rest alone.
    Set(SetRequest),
}

/// A complete and well-formed `set`. A `None` field was not mentioned.
#[derive(Default)]
pub struct SetRequest {
    /// The interface's private key; all zero removes it.
    pub private_key: Option<Secret>,
    /// The UDP port; 0 lets the system choose.
    pub listen_port: Option<u16>,
    /// The mark put on outgoing datagrams; 0 puts none.
    pub fwmark: Option<u32>,
    /// Whether every peer that exists goes before `peers` is applied.
    pub replace_peers: bool,
    /// Changes to peers, in the order of the request. A key may occur more than once.
    pub peers: Vec<PeerChange>,
}

/// What a `set` says of one peer.
pub struct PeerChange {
    /// Which peer; created if there is none, unless `remove` or `update_only`.
    pub public_key: [u8; KEY_LEN],
    /// Remove the peer. The rest of the entry was checked and has no effect.
    pub remove: bool,
    /// Change the peer if it exists and do nothing otherwise.
    pub update_only: bool,
    /// All zero removes the key.
    pub preshared_key: Option<Secret>,
    /// Where the peer is.
    pub endpoint: Option<SocketAddr>,
    /// Seconds; 0 turns it off.
    pub persistent_keepalive: Option<u16>,
    /// Clear the peer's list before `allowed_ips` is applied.
    pub replace_allowed_ips: bool,
    /// Changes to the allowed IPs, in order.
    pub allowed_ips: Vec<AllowedIpChange>,
}

impl PeerChange {
    /// An entry that names a peer and changes nothing else.
    #[must_use]
    pub fn new(public_key: [u8; KEY_LEN]) -> PeerChange {
        PeerChange {
            public_key,
            remove: false,
            update_only: false,
            preshared_key: None,
            endpoint: None,
            persistent_keepalive: None,
            replace_allowed_ips: false,
            allowed_ips: Vec::new(),
        }
    }
}

/// Addition or removal of one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedIpChange {
    /// The address; bits beyond `cidr` are for the driver to mask.
    pub addr: IpAddr,
    /// Prefix length, at most 32 or 128 by the address's family.
    pub cidr: u8,
    /// Remove this very prefix from this peer instead of adding it.
    pub remove: bool,
}

/// Why a request was refused. The text is for the log and never holds a value from the request, which may be secret
/// or may be terminal escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the client is told, a number of this host.
    pub errno: Errno,
    /// The line within the request, counted from 1.
    pub line: u32,
    /// What is wrong with it.
    pub what: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}
