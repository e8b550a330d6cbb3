// SPDX-License-Identifier: BSD-2-Clause
//! `SIOCGWG`: the reply, written and read.

use core::iter::FusedIterator;
use core::net::{IpAddr, SocketAddr};

use super::{
    AllowedIps, ConfError, Field, KEY_LEN, allowed_ip, endpoint_bytes, endpoint_from_bytes, key,
};
use crate::{Item, List, ReadArray, ReadList, Sink, WriteError, WriteList};

const EBADMSG: i32 = 89;

/// The interface's part of a reply.
#[derive(Clone, Copy, Default)]
pub struct GetInterface<'a> {
    /// Bound port; 0 is left out.
    pub listen_port: u16,
    /// Value of `SO_USER_COOKIE`; 0 is left out.
    pub user_cookie: u32,
    /// Present when there is an identity.
    pub public_key: Option<&'a [u8; KEY_LEN]>,
    /// Present when there is an identity and the caller may see it.
    pub private_key: Option<&'a [u8; KEY_LEN]>,
}

/// A peer's part of a reply.
#[derive(Clone, Copy)]
pub struct GetPeer<'a> {
    /// Names the peer.
    pub public_key: &'a [u8; KEY_LEN],
    /// Present when the caller may see it; all zero when there is none.
    pub preshared_key: Option<&'a [u8; KEY_LEN]>,
    /// Present when one is known.
    pub endpoint: Option<SocketAddr>,
    /// Seconds; 0 is off.
    pub keepalive: u16,
    /// Wall clock seconds and nanoseconds; zeros are never.
    pub last_handshake: (u64, u64),
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
}

/// The length in bytes of the reply that `body` writes.
///
/// # Errors
/// As [`crate::measure`].
pub fn get_size(
    body: &mut dyn FnMut(&mut GetWriter<'_, '_>) -> Result<(), WriteError>,
) -> Result<usize, WriteError> {
    crate::measure(&mut |w| body(&mut GetWriter { w }))
}

/// Writes a reply of `size` bytes, as [`get_size`] gave it for an equal `body`. Hold the
/// configuration's lock over both.
///
/// # Errors
/// As [`crate::write()`].
pub fn get_write(
    sink: &mut dyn Sink,
    size: usize,
    body: &mut dyn FnMut(&mut GetWriter<'_, '_>) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    crate::write(sink, size, &mut |w| body(&mut GetWriter { w }))
}

/// Streams a reply: [`interface`](Self::interface), then [`peers`](Self::peers), then each peer
/// from [`begin_peer`](Self::begin_peer) to [`end_peer`](Self::end_peer).
pub struct GetWriter<'w, 's> {
    w: &'w mut (dyn WriteList + 's),
}

impl<'w, 's> GetWriter<'w, 's> {
    /// Writes by a codec that is at the beginning of a message.
    pub fn over(w: &'w mut (dyn WriteList + 's)) -> GetWriter<'w, 's> {
        GetWriter { w }
    }

    /// Writes the interface's keys.
    ///
    /// # Errors
    /// This and the other functions: as [`WriteList`].
    pub fn interface(&mut self, i: &GetInterface<'_>) -> Result<(), WriteError> {
        if i.listen_port != 0 {
            self.w.number(key::LISTEN_PORT, i.listen_port.into())?;
        }
        if i.user_cookie != 0 {
            self.w.number(key::USER_COOKIE, i.user_cookie.into())?;
        }
        if let Some(key) = i.public_key {
            self.w.binary(key::PUBLIC_KEY, key)?;
        }
        if let Some(key) = i.private_key {
            self.w.binary(key::PRIVATE_KEY, key)?;
        }
        Ok(())
    }

    /// Announces exactly `count` peers; 0 writes nothing.
    pub fn peers(&mut self, count: usize) -> Result<(), WriteError> {
        if count == 0 {
            Ok(())
        } else {
            self.w.begin_array(key::PEERS, count)
        }
    }

    /// Begins a peer with exactly `allowed_ips` allowed IPs, which must follow.
    pub fn begin_peer(&mut self, p: &GetPeer<'_>, allowed_ips: usize) -> Result<(), WriteError> {
        self.w.begin_element()?;
        self.w.binary(key::PUBLIC_KEY, p.public_key)?;
        if let Some(key) = p.preshared_key {
            self.w.binary(key::PRESHARED_KEY, key)?;
        }
        if let Some(addr) = &p.endpoint {
            endpoint_bytes(addr, |b| self.w.binary(key::ENDPOINT, b))?;
        }
        // Two 64-bit numbers in the order of the machine, as the kernel copies its struct.
        let mut time = [0; 16];
        let (seconds, nanos) = p.last_handshake;
        for (to, from) in time
            .iter_mut()
            .zip(seconds.to_ne_bytes().into_iter().chain(nanos.to_ne_bytes()))
        {
            *to = from;
        }
        self.w.binary(key::LAST_HANDSHAKE, &time)?;
        self.w.number(key::KEEPALIVE, p.keepalive.into())?;
        self.w.number(key::RX_BYTES, p.rx_bytes)?;
        self.w.number(key::TX_BYTES, p.tx_bytes)?;
        if allowed_ips == 0 {
            Ok(())
        } else {
            self.w.begin_array(key::ALLOWED_IPS, allowed_ips)
        }
    }

    /// Writes one allowed IP. The customary order is the most recently added one first.
    pub fn allowed_ip(&mut self, addr: IpAddr, cidr: u8) -> Result<(), WriteError> {
        self.w.begin_element()?;
        address(self.w, addr)?;
        self.w.number(key::CIDR, cidr.into())?;
        self.w.end_element()
    }

    /// Ends a peer.
    pub fn end_peer(&mut self) -> Result<(), WriteError> {
        self.w.end_element()
    }
}

/// Writes the address of an allowed IP.
pub(super) fn address(w: &mut dyn WriteList, addr: IpAddr) -> Result<(), WriteError> {
    match addr {
        IpAddr::V4(a) => w.binary(key::IPV4, &a.octets()),
        IpAddr::V6(a) => w.binary(key::IPV6, &a.octets()),
    }
}

/// A reply that was validated whole.
#[derive(Clone, Copy)]
pub struct GetReply<'a, L: ReadList<'a> = List<'a>> {
    /// Bound port; 0 when absent.
    pub listen_port: u16,
    /// Value of `SO_USER_COOKIE`; 0 when absent.
    pub user_cookie: u32,
    /// Present when there is an identity.
    pub public_key: Option<&'a [u8; KEY_LEN]>,
    /// Present when there is an identity and the caller may see it.
    pub private_key: Option<&'a [u8; KEY_LEN]>,
    peers: Option<L::Array>,
}

impl<'a> GetReply<'a> {
    /// Validates a packed reply.
    ///
    /// # Errors
    /// EBADMSG when the encoding is bad or a known key has a value out of range. A key of the wrong
    /// type counts as absent. An endpoint that is not one is left out, as 14.2's driver can hold
    /// such.
    pub fn parse(message: &'a [u8]) -> Result<GetReply<'a>, ConfError> {
        GetReply::read(List::parse(message)?)
    }
}

impl<'a, L: ReadList<'a>> GetReply<'a, L> {
    /// The same of a message that another codec has unpacked.
    ///
    /// # Errors
    /// As [`parse`](GetReply::parse), but for the encoding.
    pub fn read(list: L) -> Result<GetReply<'a, L>, ConfError> {
        let bad = |key| ConfError::new(EBADMSG, Field::interface(key));
        let mut reply = GetReply::<L> {
            listen_port: 0,
            user_cookie: 0,
            public_key: None,
            private_key: None,
            peers: None,
        };
        for (name, item) in list.items() {
            let is = |key| list.names(name, key);
            match item {
                Item::Number(n) if is(key::LISTEN_PORT) => {
                    reply.listen_port = u16::try_from(n).map_err(|_| bad(key::LISTEN_PORT))?;
                }
                Item::Number(n) if is(key::USER_COOKIE) => {
                    reply.user_cookie = u32::try_from(n).map_err(|_| bad(key::USER_COOKIE))?;
                }
                Item::Binary(b) if is(key::PUBLIC_KEY) => {
                    reply.public_key = Some(b.try_into().map_err(|_| bad(key::PUBLIC_KEY))?);
                }
                Item::Binary(b) if is(key::PRIVATE_KEY) => {
                    reply.private_key = Some(b.try_into().map_err(|_| bad(key::PRIVATE_KEY))?);
                }
                Item::Lists(a) if is(key::PEERS) => reply.peers = Some(a),
                _ => {}
            }
        }
        if let Some(peers) = reply.peers {
            for (i, element) in peers.elements().enumerate() {
                let entry = GetPeerEntry::read(&element)
                    .map_err(|key| ConfError::new(EBADMSG, Field::peer(i, key)))?;
                let Some(ips) = entry.allowed_ips else {
                    continue;
                };
                for (j, ip) in ips.elements().enumerate() {
                    allowed_ip(&ip).map_err(|(_, key)| {
                        let field = Field {
                            peer: Some(i),
                            allowed_ip: Some(j),
                            key,
                        };
                        ConfError::new(EBADMSG, field)
                    })?;
                }
            }
        }
        Ok(reply)
    }

    /// The peers in their order.
    pub fn peers(&self) -> GetPeers<'a, L> {
        GetPeers {
            elements: self.peers.map(|p| p.elements()),
        }
    }

    /// Number of peers.
    pub fn peer_count(&self) -> usize {
        self.peers.map_or(0, |p| p.count())
    }
}

/// Iterator over the peers of a reply.
#[derive(Clone)]
pub struct GetPeers<'a, L: ReadList<'a> = List<'a>> {
    elements: Option<<L::Array as ReadArray<'a>>::Elements>,
}

impl<'a, L: ReadList<'a>> Iterator for GetPeers<'a, L> {
    type Item = GetPeerEntry<'a, L>;

    fn next(&mut self) -> Option<GetPeerEntry<'a, L>> {
        // Validated: no entry fails.
        self.elements
            .as_mut()?
            .find_map(|e| GetPeerEntry::read(&e).ok())
    }
}

impl<'a, L: ReadList<'a>> FusedIterator for GetPeers<'a, L> where
    <L::Array as ReadArray<'a>>::Elements: FusedIterator
{
}

/// A peer in a reply.
#[derive(Clone, Copy)]
pub struct GetPeerEntry<'a, L: ReadList<'a> = List<'a>> {
    /// The peer's state.
    pub peer: GetPeer<'a>,
    allowed_ips: Option<L::Array>,
}

impl<'a, L: ReadList<'a>> GetPeerEntry<'a, L> {
    /// The peer's allowed IPs in their order.
    pub fn allowed_ips(&self) -> AllowedIps<'a, L> {
        AllowedIps {
            elements: self.allowed_ips.map(|a| a.elements()),
        }
    }

    /// Reads an element of `peers`; the error is the key at fault.
    fn read(list: &L) -> Result<GetPeerEntry<'a, L>, &'static str> {
        let (mut public, mut psk, mut endpoint, mut time) = (None, None, None, None);
        let (mut keepalive, mut rx, mut tx, mut allowed_ips) = (None, None, None, None);
        for (name, item) in list.items() {
            let is = |key| list.names(name, key);
            match item {
                Item::Binary(b) if is(key::PUBLIC_KEY) => public = public.or(Some(b)),
                Item::Binary(b) if is(key::PRESHARED_KEY) => psk = psk.or(Some(b)),
                Item::Binary(b) if is(key::ENDPOINT) => endpoint = endpoint.or(Some(b)),
                Item::Binary(b) if is(key::LAST_HANDSHAKE) => time = time.or(Some(b)),
                Item::Number(n) if is(key::KEEPALIVE) => keepalive = keepalive.or(Some(n)),
                Item::Number(n) if is(key::RX_BYTES) => rx = rx.or(Some(n)),
                Item::Number(n) if is(key::TX_BYTES) => tx = tx.or(Some(n)),
                Item::Lists(a) if is(key::ALLOWED_IPS) => allowed_ips = allowed_ips.or(Some(a)),
                _ => {}
            }
        }
        let public_key = public
            .and_then(|b| b.try_into().ok())
            .ok_or(key::PUBLIC_KEY)?;
        let preshared_key = match psk {
            Some(b) => Some(b.try_into().map_err(|_| key::PRESHARED_KEY)?),
            None => None,
        };
        let last_handshake = match time {
            Some(b) => wall_clock(b).ok_or(key::LAST_HANDSHAKE)?,
            None => (0, 0),
        };
        let keepalive = u16::try_from(keepalive.unwrap_or(0)).map_err(|_| key::KEEPALIVE)?;
        let peer = GetPeer {
            public_key,
            preshared_key,
            endpoint: endpoint.and_then(endpoint_from_bytes),
            keepalive,
            last_handshake,
            rx_bytes: rx.unwrap_or(0),
            tx_bytes: tx.unwrap_or(0),
        };
        Ok(GetPeerEntry { peer, allowed_ips })
    }
}

/// Two 64-bit numbers in the order of the machine: seconds, nanoseconds.
fn wall_clock(bytes: &[u8]) -> Option<(u64, u64)> {
    let (seconds, rest) = bytes.split_first_chunk()?;
    let nanos: &[u8; 8] = rest.try_into().ok()?;
    Some((u64::from_ne_bytes(*seconds), u64::from_ne_bytes(*nanos)))
}
