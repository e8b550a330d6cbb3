// SPDX-License-Identifier: BSD-2-Clause
//! The WireGuard configuration that `SIOCSWG` and `SIOCGWG` carry.
//!
//! Key names, types and error numbers are those of FreeBSD 14.2's if_wg(4) and wg(8). A key whose
//! value has the wrong *type* counts as absent and an unknown key is ignored, as there; a value of
//! the right type that is out of range is an error. What differs: a `SET` is validated whole
//! before anything of it is used, endpoints are checked, and allowed-ip flags work.
//!
//! One key is our own, ignored by other drivers: `update-only` in a peer means "only if the peer
//! exists", which the text protocol and generic netlink can ask for.

use core::fmt;
use core::iter::FusedIterator;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::{Error, Item, List, ReadArray, ReadList};

mod get;
mod set;

pub use get::{
    GetInterface, GetPeer, GetPeerEntry, GetPeers, GetReply, GetWriter, get_size, get_write,
};
pub use set::{
    PeerEntry, Peers, SetInterface, SetPeer, SetRequest, SetWriter, set_size, set_write,
};

/// Bytes of every key.
pub const KEY_LEN: usize = 32;

/// FreeBSD's address families.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 28;

const EINVAL: i32 = 22;
const EOPNOTSUPP: i32 = 45;

mod key {
    //! Names of the nvlist keys.
    pub const ALLOWED_IPS: &str = "allowed-ips";
    pub const CIDR: &str = "cidr";
    pub const ENDPOINT: &str = "endpoint";
    pub const FLAGS: &str = "flags";
    pub const IPV4: &str = "ipv4";
    pub const IPV6: &str = "ipv6";
    pub const KEEPALIVE: &str = "persistent-keepalive-interval";
    pub const LAST_HANDSHAKE: &str = "last-handshake-time";
    pub const LISTEN_PORT: &str = "listen-port";
    pub const PEERS: &str = "peers";
    pub const PRESHARED_KEY: &str = "preshared-key";
    pub const PRIVATE_KEY: &str = "private-key";
    pub const PUBLIC_KEY: &str = "public-key";
    pub const REMOVE: &str = "remove";
    pub const REPLACE_ALLOWED_IPS: &str = "replace-allowedips";
    pub const REPLACE_PEERS: &str = "replace-peers";
    pub const RX_BYTES: &str = "rx-bytes";
    pub const TX_BYTES: &str = "tx-bytes";
    pub const UPDATE_ONLY: &str = "update-only";
    pub const USER_COOKIE: &str = "user-cookie";
}

/// Why a configuration was refused: an error number and the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfError {
    errno: i32,
    cause: Option<Error>,
    field: Field,
}

impl ConfError {
    /// FreeBSD's error number, as the ioctl returns it.
    pub const fn errno(&self) -> i32 {
        self.errno
    }

    /// The field that was refused.
    pub const fn field(&self) -> Field {
        self.field
    }

    /// The defect of the encoding, when it was that.
    pub const fn cause(&self) -> Option<Error> {
        self.cause
    }

    const fn new(errno: i32, field: Field) -> ConfError {
        ConfError {
            errno,
            cause: None,
            field,
        }
    }
}

impl From<Error> for ConfError {
    fn from(e: Error) -> ConfError {
        ConfError {
            errno: e.errno(),
            cause: Some(e),
            field: Field::interface(""),
        }
    }
}

impl fmt::Display for ConfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Some(e) => write!(f, "{e}"),
            None => write!(f, "{}: error {}", self.field, self.errno),
        }
    }
}

impl core::error::Error for ConfError {}

/// The place of a value in a configuration. Displays as `peers[3].allowed-ips[1].cidr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    peer: Option<usize>,
    allowed_ip: Option<usize>,
    key: &'static str,
}

impl Field {
    const fn interface(key: &'static str) -> Field {
        Field {
            peer: None,
            allowed_ip: None,
            key,
        }
    }

    const fn peer(peer: usize, key: &'static str) -> Field {
        Field {
            peer: Some(peer),
            allowed_ip: None,
            key,
        }
    }

    /// The nvlist key itself; empty when the message as a whole was refused.
    pub const fn key(&self) -> &'static str {
        self.key
    }

    /// The peer's place in the request, counted from 0.
    pub const fn peer_index(&self) -> Option<usize> {
        self.peer
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(i) = self.peer {
            write!(f, "{}[{i}].", key::PEERS)?;
        }
        if let Some(i) = self.allowed_ip {
            write!(f, "{}[{i}].", key::ALLOWED_IPS)?;
        }
        f.write_str(self.key)
    }
}

/// An allowed IP prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedIp {
    /// The address as sent: bits beyond the prefix are not masked.
    pub addr: IpAddr,
    /// Length of the prefix: at most 32 or 128.
    pub cidr: u8,
    /// Take it from the peer instead of giving it. Never set in a `GET`.
    pub remove: bool,
}

/// Iterator over a peer's allowed IPs.
///
/// Elements without an address or without a length are left out, as the driver in 14.2 does.
#[derive(Clone)]
pub struct AllowedIps<'a, L: ReadList<'a> = List<'a>> {
    elements: Option<<L::Array as ReadArray<'a>>::Elements>,
}

impl<'a, L: ReadList<'a>> Iterator for AllowedIps<'a, L> {
    type Item = AllowedIp;

    fn next(&mut self) -> Option<AllowedIp> {
        // The request was validated: an error cannot come, and would count as an absent element.
        self.elements
            .as_mut()?
            .find_map(|e| allowed_ip(&e).ok().flatten())
    }
}

impl<'a, L: ReadList<'a>> FusedIterator for AllowedIps<'a, L> where
    <L::Array as ReadArray<'a>>::Elements: FusedIterator
{
}

/// Reads an element of `allowed-ips`. `Ok(None)`: to be skipped. The error has the number and key.
fn allowed_ip<'a>(list: &impl ReadList<'a>) -> Result<Option<AllowedIp>, (i32, &'static str)> {
    let (mut cidr, mut v4, mut v6, mut flags) = (None, None, None, None);
    for (name, item) in list.items() {
        let is = |key| list.names(name, key);
        // In a list that permits duplicates the first one of the right type counts, as in libnv.
        match item {
            Item::Number(n) if is(key::CIDR) => cidr = cidr.or(Some(n)),
            Item::Number(n) if is(key::FLAGS) => flags = flags.or(Some(n)),
            Item::Binary(b) if is(key::IPV4) => v4 = v4.or(Some(b)),
            Item::Binary(b) if is(key::IPV6) => v6 = v6.or(Some(b)),
            _ => {}
        }
    }
    let flags = flags.unwrap_or(0);
    if flags & !1 != 0 {
        return Err((EOPNOTSUPP, key::FLAGS));
    }
    let Some(cidr) = cidr else { return Ok(None) };
    let (addr, most) = if let Some(b) = v4 {
        let bytes: [u8; 4] = b.try_into().map_err(|_| (EINVAL, key::IPV4))?;
        (IpAddr::V4(Ipv4Addr::from(bytes)), 32)
    } else if let Some(b) = v6 {
        let bytes: [u8; 16] = b.try_into().map_err(|_| (EINVAL, key::IPV6))?;
        (IpAddr::V6(Ipv6Addr::from(bytes)), 128)
    } else {
        return Ok(None);
    };
    match u8::try_from(cidr) {
        Ok(cidr) if cidr <= most => Ok(Some(AllowedIp {
            addr,
            cidr,
            remove: flags & 1 != 0,
        })),
        _ => Err((EINVAL, key::CIDR)),
    }
}

/// Decodes the bytes of a FreeBSD `sockaddr_in` or `sockaddr_in6`.
///
/// `None` unless length, length byte and family agree and the port is not 0.
pub fn endpoint_from_bytes(bytes: &[u8]) -> Option<SocketAddr> {
    let (&[len, family], rest) = bytes.split_first_chunk()?;
    let (port, rest) = rest.split_first_chunk()?;
    let port = u16::from_be_bytes(*port);
    if usize::from(len) != bytes.len() || port == 0 {
        return None;
    }
    match (family, len) {
        (AF_INET, 16) => {
            let ip = Ipv4Addr::from(*rest.first_chunk::<4>()?);
            Some(SocketAddr::V4(SocketAddrV4::new(ip, port)))
        }
        (AF_INET6, 28) => {
            let (flow, rest) = rest.split_first_chunk()?;
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            let scope = rest.first_chunk()?;
            Some(SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::from(*ip),
                port,
                u32::from_be_bytes(*flow),
                u32::from_ne_bytes(*scope),
            )))
        }
        _ => None,
    }
}

/// Encodes an endpoint as a FreeBSD `sockaddr_in` (16 bytes) or `sockaddr_in6` (28 bytes), and
/// passes it to `f`.
pub fn endpoint_bytes<R>(addr: &SocketAddr, f: impl FnOnce(&[u8]) -> R) -> R {
    let [p0, p1] = addr.port().to_be_bytes();
    match addr {
        SocketAddr::V4(a) => {
            let [i0, i1, i2, i3] = a.ip().octets();
            f(&[16, AF_INET, p0, p1, i0, i1, i2, i3, 0, 0, 0, 0, 0, 0, 0, 0])
        }
        SocketAddr::V6(a) => {
            let mut bytes = [0; 28];
            let fields = [28, AF_INET6, p0, p1]
                .into_iter()
                .chain(a.flowinfo().to_be_bytes())
                .chain(a.ip().octets())
                .chain(a.scope_id().to_ne_bytes());
            for (to, from) in bytes.iter_mut().zip(fields) {
                *to = from;
            }
            f(&bytes)
        }
    }
}
