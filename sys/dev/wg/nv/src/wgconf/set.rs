// SPDX-License-Identifier: BSD-2-Clause
//! `SIOCSWG`: the request, read and written.

use core::iter::FusedIterator;
use core::net::SocketAddr;

use super::{
    AllowedIp, AllowedIps, ConfError, EINVAL, Field, KEY_LEN, allowed_ip, endpoint_bytes,
    endpoint_from_bytes, key,
};
use crate::{Item, List, ReadArray, ReadList, Sink, WriteError, WriteList};

/// A configuration request that was validated whole: what its accessors return is in range, and
/// iterating it cannot fail.
#[derive(Clone, Copy)]
pub struct SetRequest<'a, L: ReadList<'a> = List<'a>> {
    /// Remove all peers before anything else.
    pub replace_peers: bool,
    /// Port to listen on; 0 lets the kernel choose.
    pub listen_port: Option<u16>,
    /// New private key, not clamped. All zero means: remove the identity.
    pub private_key: Option<&'a [u8; KEY_LEN]>,
    /// Value for `SO_USER_COOKIE`; 0 is none.
    pub user_cookie: Option<u32>,
    peers: Option<L::Array>,
}

impl<'a> SetRequest<'a> {
    /// Validates a packed request and returns a view of it.
    ///
    /// All peers and all allowed IPs are looked at, so that no error remains for the time when the
    /// interface is being changed. Two things only the driver can judge are left to it: whether a
    /// peer's key is the interface's own (then the entry is skipped), and how many peers there
    /// may be. Of a peer with `remove` only the public key is read, as in 14.2.
    ///
    /// # Errors
    /// EBADMSG or E2BIG when the encoding is bad ([`crate::Error`]), EINVAL for a value out of
    /// range, EOPNOTSUPP for unknown allowed-ip flags.
    pub fn parse(message: &'a [u8]) -> Result<SetRequest<'a>, ConfError> {
        SetRequest::read(List::parse(message)?)
    }
}

impl<'a, L: ReadList<'a>> SetRequest<'a, L> {
    /// The same of a message that another codec has unpacked.
    ///
    /// # Errors
    /// As [`parse`](SetRequest::parse), but for the encoding.
    pub fn read(list: L) -> Result<SetRequest<'a, L>, ConfError> {
        let bad = |key| ConfError::new(EINVAL, Field::interface(key));
        let mut request = SetRequest::<L> {
            replace_peers: false,
            listen_port: None,
            private_key: None,
            user_cookie: None,
            peers: None,
        };
        // The outermost list has no duplicates: `List::parse` permits no flags there.
        for (name, item) in list.items() {
            let is = |key| list.names(name, key);
            match item {
                Item::Bool(b) if is(key::REPLACE_PEERS) => request.replace_peers = b,
                Item::Number(n) if is(key::LISTEN_PORT) => {
                    let port = u16::try_from(n).map_err(|_| bad(key::LISTEN_PORT))?;
                    request.listen_port = Some(port);
                }
                Item::Binary(b) if is(key::PRIVATE_KEY) => {
                    let key = b.try_into().map_err(|_| bad(key::PRIVATE_KEY))?;
                    request.private_key = Some(key);
                }
                Item::Number(n) if is(key::USER_COOKIE) => {
                    let cookie = u32::try_from(n).map_err(|_| bad(key::USER_COOKIE))?;
                    request.user_cookie = Some(cookie);
                }
                Item::Lists(a) if is(key::PEERS) => request.peers = Some(a),
                _ => {}
            }
        }
        if let Some(peers) = request.peers {
            for (i, element) in peers.elements().enumerate() {
                let entry = PeerEntry::read(&element)
                    .map_err(|key| ConfError::new(EINVAL, Field::peer(i, key)))?;
                let Some(ips) = entry.allowed_ips else {
                    continue;
                };
                for (j, ip) in ips.elements().enumerate() {
                    allowed_ip(&ip).map_err(|(errno, key)| {
                        let field = Field {
                            peer: Some(i),
                            allowed_ip: Some(j),
                            key,
                        };
                        ConfError::new(errno, field)
                    })?;
                }
            }
        }
        Ok(request)
    }

    /// The peer entries in their order.
    pub fn peers(&self) -> Peers<'a, L> {
        Peers {
            elements: self.peers.map(|p| p.elements()),
        }
    }

    /// Number of peer entries.
    pub fn peer_count(&self) -> usize {
        self.peers.map_or(0, |p| p.count())
    }
}

/// Iterator over the peers of a request.
#[derive(Clone)]
pub struct Peers<'a, L: ReadList<'a> = List<'a>> {
    elements: Option<<L::Array as ReadArray<'a>>::Elements>,
}

impl<'a, L: ReadList<'a>> Iterator for Peers<'a, L> {
    type Item = PeerEntry<'a, L>;

    fn next(&mut self) -> Option<PeerEntry<'a, L>> {
        // Validated: no entry fails.
        self.elements
            .as_mut()?
            .find_map(|e| PeerEntry::read(&e).ok())
    }
}

impl<'a, L: ReadList<'a>> FusedIterator for Peers<'a, L> where
    <L::Array as ReadArray<'a>>::Elements: FusedIterator
{
}

/// What a request asks about one peer.
#[derive(Clone, Copy)]
pub struct PeerEntry<'a, L: ReadList<'a> = List<'a>> {
    /// Names the peer.
    pub public_key: &'a [u8; KEY_LEN],
    /// Remove the peer; the other fields are then at their defaults.
    pub remove: bool,
    /// Do nothing unless the peer exists (our own extension).
    pub update_only: bool,
    /// Empty the peer's allowed IPs before giving it new ones.
    pub replace_allowed_ips: bool,
    /// New endpoint.
    pub endpoint: Option<SocketAddr>,
    /// New preshared key; all zero is none.
    pub preshared_key: Option<&'a [u8; KEY_LEN]>,
    /// New persistent keepalive interval in seconds; 0 is off.
    pub keepalive: Option<u16>,
    allowed_ips: Option<L::Array>,
}

impl<'a, L: ReadList<'a>> PeerEntry<'a, L> {
    /// The allowed IPs to give or take, in their order.
    pub fn allowed_ips(&self) -> AllowedIps<'a, L> {
        AllowedIps {
            elements: self.allowed_ips.map(|a| a.elements()),
        }
    }

    /// Reads an element of `peers`, all but its allowed IPs. The error is the key at fault, the
    /// number is always EINVAL.
    fn read(list: &L) -> Result<PeerEntry<'a, L>, &'static str> {
        let (mut public, mut psk, mut endpoint, mut keepalive) = (None, None, None, None);
        let (mut remove, mut replace, mut update_only) = (None, None, None);
        let mut allowed_ips = None;
        for (name, item) in list.items() {
            let is = |key| list.names(name, key);
            // The first one of the right type counts, see `allowed_ip`.
            match item {
                Item::Binary(b) if is(key::PUBLIC_KEY) => public = public.or(Some(b)),
                Item::Binary(b) if is(key::PRESHARED_KEY) => psk = psk.or(Some(b)),
                Item::Binary(b) if is(key::ENDPOINT) => endpoint = endpoint.or(Some(b)),
                Item::Number(n) if is(key::KEEPALIVE) => keepalive = keepalive.or(Some(n)),
                Item::Bool(b) if is(key::REMOVE) => remove = remove.or(Some(b)),
                Item::Bool(b) if is(key::REPLACE_ALLOWED_IPS) => replace = replace.or(Some(b)),
                Item::Bool(b) if is(key::UPDATE_ONLY) => update_only = update_only.or(Some(b)),
                Item::Lists(a) if is(key::ALLOWED_IPS) => allowed_ips = allowed_ips.or(Some(a)),
                _ => {}
            }
        }
        let public_key = public
            .and_then(|b| b.try_into().ok())
            .ok_or(key::PUBLIC_KEY)?;
        let mut entry = PeerEntry {
            public_key,
            remove: remove.unwrap_or(false),
            update_only: update_only.unwrap_or(false),
            replace_allowed_ips: false,
            endpoint: None,
            preshared_key: None,
            keepalive: None,
            allowed_ips: None,
        };
        if entry.remove {
            return Ok(entry);
        }
        entry.replace_allowed_ips = replace.unwrap_or(false);
        if let Some(b) = endpoint {
            entry.endpoint = Some(endpoint_from_bytes(b).ok_or(key::ENDPOINT)?);
        }
        if let Some(b) = psk {
            entry.preshared_key = Some(b.try_into().map_err(|_| key::PRESHARED_KEY)?);
        }
        if let Some(n) = keepalive {
            entry.keepalive = Some(u16::try_from(n).map_err(|_| key::KEEPALIVE)?);
        }
        entry.allowed_ips = allowed_ips;
        Ok(entry)
    }
}

/// The interface's part of a request to be written.
#[derive(Clone, Copy, Default)]
pub struct SetInterface<'a> {
    /// As in [`SetRequest`].
    pub replace_peers: bool,
    /// As in [`SetRequest`].
    pub listen_port: Option<u16>,
    /// As in [`SetRequest`].
    pub private_key: Option<&'a [u8; KEY_LEN]>,
    /// As in [`SetRequest`].
    pub user_cookie: Option<u32>,
}

/// A peer's part of a request to be written.
#[derive(Clone, Copy)]
pub struct SetPeer<'a> {
    /// As in [`PeerEntry`].
    pub public_key: &'a [u8; KEY_LEN],
    /// As in [`PeerEntry`].
    pub remove: bool,
    /// As in [`PeerEntry`].
    pub update_only: bool,
    /// As in [`PeerEntry`].
    pub replace_allowed_ips: bool,
    /// As in [`PeerEntry`].
    pub endpoint: Option<SocketAddr>,
    /// As in [`PeerEntry`].
    pub preshared_key: Option<&'a [u8; KEY_LEN]>,
    /// As in [`PeerEntry`].
    pub keepalive: Option<u16>,
}

impl<'a> SetPeer<'a> {
    /// An entry that names the peer and asks nothing else.
    pub const fn new(public_key: &'a [u8; KEY_LEN]) -> SetPeer<'a> {
        SetPeer {
            public_key,
            remove: false,
            update_only: false,
            replace_allowed_ips: false,
            endpoint: None,
            preshared_key: None,
            keepalive: None,
        }
    }
}

/// The length in bytes of the request that `body` writes.
///
/// # Errors
/// As [`crate::measure`].
pub fn set_size(
    body: &mut dyn FnMut(&mut SetWriter<'_, '_>) -> Result<(), WriteError>,
) -> Result<usize, WriteError> {
    crate::measure(&mut |w| body(&mut SetWriter { w }))
}

/// Writes a request of `size` bytes, as [`set_size`] gave it for an equal `body`.
///
/// # Errors
/// As [`crate::write()`].
pub fn set_write(
    sink: &mut dyn Sink,
    size: usize,
    body: &mut dyn FnMut(&mut SetWriter<'_, '_>) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    crate::write(sink, size, &mut |w| body(&mut SetWriter { w }))
}

/// Streams a request: [`interface`](Self::interface), then [`peers`](Self::peers), then each peer
/// from [`begin_peer`](Self::begin_peer) to [`end_peer`](Self::end_peer).
pub struct SetWriter<'w, 's> {
    w: &'w mut (dyn WriteList + 's),
}

impl<'w, 's> SetWriter<'w, 's> {
    /// Writes by a codec that is at the beginning of a message.
    pub fn over(w: &'w mut (dyn WriteList + 's)) -> SetWriter<'w, 's> {
        SetWriter { w }
    }

    /// Writes the interface's keys.
    ///
    /// # Errors
    /// This and the other functions: as [`WriteList`].
    pub fn interface(&mut self, i: &SetInterface<'_>) -> Result<(), WriteError> {
        if let Some(key) = i.private_key {
            self.w.binary(key::PRIVATE_KEY, key)?;
        }
        if let Some(port) = i.listen_port {
            self.w.number(key::LISTEN_PORT, port.into())?;
        }
        if let Some(cookie) = i.user_cookie {
            self.w.number(key::USER_COOKIE, cookie.into())?;
        }
        if i.replace_peers {
            self.w.boolean(key::REPLACE_PEERS, true)?;
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
    pub fn begin_peer(&mut self, p: &SetPeer<'_>, allowed_ips: usize) -> Result<(), WriteError> {
        self.w.begin_element()?;
        self.w.binary(key::PUBLIC_KEY, p.public_key)?;
        if let Some(key) = p.preshared_key {
            self.w.binary(key::PRESHARED_KEY, key)?;
        }
        if let Some(seconds) = p.keepalive {
            self.w.number(key::KEEPALIVE, seconds.into())?;
        }
        if let Some(addr) = &p.endpoint {
            endpoint_bytes(addr, |b| self.w.binary(key::ENDPOINT, b))?;
        }
        for (name, set) in [
            (key::REMOVE, p.remove),
            (key::UPDATE_ONLY, p.update_only),
            (key::REPLACE_ALLOWED_IPS, p.replace_allowed_ips),
        ] {
            if set {
                self.w.boolean(name, true)?;
            }
        }
        if allowed_ips == 0 {
            Ok(())
        } else {
            self.w.begin_array(key::ALLOWED_IPS, allowed_ips)
        }
    }

    /// Writes one allowed IP.
    pub fn allowed_ip(&mut self, ip: &AllowedIp) -> Result<(), WriteError> {
        self.w.begin_element()?;
        if ip.remove {
            self.w.number(key::FLAGS, 1)?;
        }
        self.w.number(key::CIDR, ip.cidr.into())?;
        super::get::address(self.w, ip.addr)?;
        self.w.end_element()
    }

    /// Ends a peer.
    pub fn end_peer(&mut self) -> Result<(), WriteError> {
        self.w.end_element()
    }
}
