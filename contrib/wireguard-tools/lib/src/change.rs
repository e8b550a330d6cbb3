// SPDX-License-Identifier: BSD-2-Clause
//! What an interface is asked to become.

use std::net::{IpAddr, SocketAddr};

use crate::key::{PublicKey, SecretKey};

/// A change of an interface. What is `None` stays as it is.
#[derive(Debug, Default)]
pub struct Change {
    /// The new private key; zeros remove it.
    pub private_key: Option<SecretKey>,
    /// The UDP port; 0 lets the system choose.
    pub listen_port: Option<u16>,
    /// The mark on outgoing datagrams; 0 is none.
    pub fwmark: Option<u32>,
    /// Whether all present peers go before `peers` is applied.
    pub replace_peers: bool,
    /// Applied in this order. A key may occur more than once.
    pub peers: Vec<PeerChange>,
}

/// A change of one peer, which is created if there is none.
#[derive(Debug)]
pub struct PeerChange {
    /// Names the peer.
    pub public_key: PublicKey,
    /// Remove the peer; nothing else of this entry counts.
    pub remove: bool,
    /// Do nothing unless the peer exists.
    pub update_only: bool,
    /// The new preshared key; zeros remove it.
    pub preshared_key: Option<SecretKey>,
    /// Where the peer is.
    pub endpoint: Option<SocketAddr>,
    /// Seconds; 0 is off.
    pub persistent_keepalive: Option<u16>,
    /// Whether the peer's present allowed IPs go before `allowed_ips` is applied.
    pub replace_allowed_ips: bool,
    /// Applied in this order.
    pub allowed_ips: Vec<AllowedIpChange>,
}

impl PeerChange {
    /// An entry that names a peer and asks nothing else.
    #[must_use]
    pub fn new(public_key: PublicKey) -> PeerChange {
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

/// Addition of a prefix to a peer, which takes it from the peer that had it; or its removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedIpChange {
    /// The address; the interface masks the bits beyond the prefix.
    pub ip: IpAddr,
    /// Length of the prefix: at most 32 or 128.
    pub cidr: u8,
    /// Take this very prefix from this peer instead of giving it.
    pub remove: bool,
}
