// SPDX-License-Identifier: BSD-2-Clause
//! Requests that change an interface.
//!
//! A change that does not fit one message becomes several. The first carries what concerns the interface itself, so that
//! peers are replaced once and not once a message; the part of a peer that does not fit is its last allowed IPs, and the
//! next message names that peer again, without the flag that would take away what it has just got.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::message::{ACKNOWLEDGED, Message};
use super::{SET_DEVICE, VERSION};
use crate::change::{AllowedIpChange, Change, PeerChange};

/// Numbers of attributes and flags (`linux/wireguard.h`), by what they belong to.
pub(super) mod device {
    pub const IFNAME: u16 = 2;
    pub const PRIVATE_KEY: u16 = 3;
    pub const PUBLIC_KEY: u16 = 4;
    pub const FLAGS: u16 = 5;
    pub const LISTEN_PORT: u16 = 6;
    pub const FWMARK: u16 = 7;
    pub const PEERS: u16 = 8;

    pub const REPLACE_PEERS: u32 = 1;
}

pub(super) mod peer {
    pub const PUBLIC_KEY: u16 = 1;
    pub const PRESHARED_KEY: u16 = 2;
    pub const FLAGS: u16 = 3;
    pub const ENDPOINT: u16 = 4;
    pub const PERSISTENT_KEEPALIVE: u16 = 5;
    pub const LAST_HANDSHAKE: u16 = 6;
    pub const RX_BYTES: u16 = 7;
    pub const TX_BYTES: u16 = 8;
    pub const ALLOWED_IPS: u16 = 9;

    pub const REMOVE: u32 = 1;
    pub const REPLACE_ALLOWED_IPS: u32 = 2;
    pub const UPDATE_ONLY: u32 = 4;
}

pub(super) mod ip {
    pub const FAMILY: u16 = 1;
    pub const ADDRESS: u16 = 2;
    pub const CIDR: u16 = 3;
    pub const FLAGS: u16 = 4;

    pub const REMOVE: u32 = 1;
}

pub(super) use device::IFNAME;

/// Linux's numbers of address families.
pub(super) const AF_INET: u16 = 2;
pub(super) const AF_INET6: u16 = 10;

/// Bytes that the shortest limit must leave for peers: the largest peer and an allowed IP.
const LEAST: usize = 512;

/// The requests that make up a change.
pub struct Requests<'a> {
    family: u16,
    name: &'a str,
    change: &'a Change,
    limit: usize,
    /// The next peer to be written; past the last one when all is done.
    peer: usize,
    /// Of that peer: the next allowed IP, once the peer itself has been written.
    allowed_ip: Option<usize>,
    begun: bool,
}

impl<'a> Requests<'a> {
    /// The requests for the family of that number, each of at most `limit` bytes, but not less than some hundred.
    ///
    /// # Errors
    /// As [`Message::name`].
    pub fn new(
        family: u16,
        name: &'a str,
        change: &'a Change,
        limit: usize,
    ) -> io::Result<Requests<'a>> {
        let limit = limit.max(LEAST + name.len());
        let requests = Requests {
            family,
            name,
            change,
            limit,
            peer: 0,
            allowed_ip: None,
            begun: false,
        };
        requests.start()?;
        Ok(requests)
    }

    /// The next request; `None` after the last one. There is at least one, which changes nothing if nothing was to be
    /// changed, and tells whether there is such an interface.
    pub fn next_message(&mut self) -> Option<Message> {
        if self.begun && self.peer >= self.change.peers.len() {
            return None;
        }
        // The name was accepted in `new`.
        let mut message = self.start().ok()?;
        if !self.begun {
            self.begun = true;
            self.interface(&mut message);
        }
        if self.peer < self.change.peers.len()
            && let Some(peers) = message.open(device::PEERS)
        {
            while self.peer < self.change.peers.len() && self.peer(&mut message) {}
            message.close(&peers);
        }
        Some(message)
    }

    fn start(&self) -> io::Result<Message> {
        let mut message = Message::with_limit(self.family, ACKNOWLEDGED, self.limit);
        message.raw(&[SET_DEVICE, VERSION, 0, 0]);
        message.name(IFNAME, self.name)?;
        Ok(message)
    }

    fn interface(&self, message: &mut Message) {
        if let Some(key) = &self.change.private_key {
            message.put(device::PRIVATE_KEY, key.bytes());
        }
        if let Some(port) = self.change.listen_port {
            message.put(device::LISTEN_PORT, &port.to_ne_bytes());
        }
        if let Some(mark) = self.change.fwmark {
            message.put(device::FWMARK, &mark.to_ne_bytes());
        }
        if self.change.replace_peers {
            message.put(device::FLAGS, &device::REPLACE_PEERS.to_ne_bytes());
        }
    }

    /// Writes the next peer, or what is left of it; false when the message is full.
    fn peer(&mut self, message: &mut Message) -> bool {
        let Some(peer) = self.change.peers.get(self.peer) else {
            return false;
        };
        let Some(nest) = message.open(0) else {
            return false;
        };
        let written = match self.allowed_ip {
            None => whole(peer, message),
            Some(_) => continued(peer, message),
        };
        if !written {
            message.take_back(&nest);
            return false;
        }
        let ips = if peer.remove {
            &[][..]
        } else {
            &peer.allowed_ips
        };
        let from = self.allowed_ip.unwrap_or(0);
        let left = ips.get(from..).unwrap_or_default();
        let mut put = 0;
        if !left.is_empty()
            && let Some(list) = message.open(peer::ALLOWED_IPS)
        {
            put = left.iter().take_while(|ip| allowed_ip(ip, message)).count();
            message.close(&list);
        }
        message.close(&nest);
        if put < left.len() {
            self.allowed_ip = Some(from + put);
            return false;
        }
        self.allowed_ip = None;
        self.peer += 1;
        true
    }
}

/// A peer but for its allowed IPs; false if it does not fit.
fn whole(peer: &PeerChange, message: &mut Message) -> bool {
    let mut fits = message.put(peer::PUBLIC_KEY, &peer.public_key.0);
    if peer.remove {
        return fits && message.put(peer::FLAGS, &peer::REMOVE.to_ne_bytes());
    }
    let mut flags = 0;
    if peer.replace_allowed_ips {
        flags |= peer::REPLACE_ALLOWED_IPS;
    }
    if peer.update_only {
        flags |= peer::UPDATE_ONLY;
    }
    if flags != 0 {
        fits = fits && message.put(peer::FLAGS, &flags.to_ne_bytes());
    }
    if let Some(key) = &peer.preshared_key {
        fits = fits && message.put(peer::PRESHARED_KEY, key.bytes());
    }
    if let Some(endpoint) = &peer.endpoint {
        fits = fits && put_endpoint(endpoint, message);
    }
    if let Some(seconds) = peer.persistent_keepalive {
        fits = fits && message.put(peer::PERSISTENT_KEEPALIVE, &seconds.to_ne_bytes());
    }
    fits
}

/// A peer whose further allowed IPs follow; false if it does not fit. If the peer was not to be created, then not by
/// this either.
fn continued(peer: &PeerChange, message: &mut Message) -> bool {
    message.put(peer::PUBLIC_KEY, &peer.public_key.0)
        && (!peer.update_only || message.put(peer::FLAGS, &peer::UPDATE_ONLY.to_ne_bytes()))
}

/// Writes an endpoint as Linux's `struct sockaddr_in` or `sockaddr_in6`; false if it does not fit.
fn put_endpoint(endpoint: &SocketAddr, message: &mut Message) -> bool {
    let port = endpoint.port().to_be_bytes();
    match endpoint {
        SocketAddr::V4(v4) => {
            let parts: [&[u8]; 4] = [&AF_INET.to_ne_bytes(), &port, &v4.ip().octets(), &[0; 8]];
            message.put(peer::ENDPOINT, &parts.concat())
        }
        SocketAddr::V6(v6) => {
            let parts: [&[u8]; 5] = [
                &AF_INET6.to_ne_bytes(),
                &port,
                &v6.flowinfo().to_be_bytes(),
                &v6.ip().octets(),
                &v6.scope_id().to_ne_bytes(),
            ];
            message.put(peer::ENDPOINT, &parts.concat())
        }
    }
}

/// An allowed IP; false, and nothing written, if it does not fit.
fn allowed_ip(change: &AllowedIpChange, message: &mut Message) -> bool {
    let Some(nest) = message.open(0) else {
        return false;
    };
    let fits = match change.ip {
        IpAddr::V4(v4) => {
            message.put(ip::FAMILY, &AF_INET.to_ne_bytes())
                && message.put(ip::ADDRESS, &v4.octets())
        }
        IpAddr::V6(v6) => {
            message.put(ip::FAMILY, &AF_INET6.to_ne_bytes())
                && message.put(ip::ADDRESS, &v6.octets())
        }
    } && message.put(ip::CIDR, &[change.cidr])
        && (!change.remove || message.put(ip::FLAGS, &ip::REMOVE.to_ne_bytes()));
    if fits {
        message.close(&nest);
    } else {
        message.take_back(&nest);
    }
    fits
}
