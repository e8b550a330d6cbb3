// SPDX-License-Identifier: BSD-2-Clause
//! What an interface reports.

use std::net::{IpAddr, SocketAddr};

use crate::key::{PublicKey, SecretKey};

/// An interface with its peers.
#[derive(Debug)]
pub struct Device {
    /// The interface's name.
    pub name: String,
    /// Present when the interface has an identity.
    pub public_key: Option<PublicKey>,
    /// Present when the interface has an identity and the caller may see it.
    pub private_key: Option<SecretKey>,
    /// The UDP port; 0 while there is none.
    pub listen_port: u16,
    /// The mark on outgoing datagrams (FreeBSD: `SO_USER_COOKIE`); 0 is none.
    pub fwmark: u32,
    /// In the order in which the interface reports them.
    pub peers: Vec<Peer>,
}

impl Device {
    /// An interface that has nothing yet.
    #[must_use]
    pub fn new(name: &str) -> Device {
        Device {
            name: name.to_owned(),
            public_key: None,
            private_key: None,
            listen_port: 0,
            fwmark: 0,
            peers: Vec::new(),
        }
    }
}

/// A peer and what was counted of it.
#[derive(Debug)]
pub struct Peer {
    /// Names the peer.
    pub public_key: PublicKey,
    /// `None` when there is none (on the wire that is zeros) or the caller may not see it.
    pub preshared_key: Option<SecretKey>,
    /// Where the peer is, once that is known; with the zone of a link-local address.
    pub endpoint: Option<SocketAddr>,
    /// In the order in which the interface reports them.
    pub allowed_ips: Vec<AllowedIp>,
    /// Time of the latest handshake: seconds and nanoseconds of the wall clock; `None` before the first one.
    pub last_handshake: Option<(u64, u32)>,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Seconds; 0 is off.
    pub persistent_keepalive: u16,
}

impl Peer {
    /// A peer of which nothing is known but its name.
    #[must_use]
    pub fn new(public_key: PublicKey) -> Peer {
        Peer {
            public_key,
            preshared_key: None,
            endpoint: None,
            allowed_ips: Vec::new(),
            last_handshake: None,
            rx_bytes: 0,
            tx_bytes: 0,
            persistent_keepalive: 0,
        }
    }
}

/// A prefix whose packets go to and may come from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AllowedIp {
    /// The address.
    pub ip: IpAddr,
    /// Length of the prefix: at most 32 or 128.
    pub cidr: u8,
}
