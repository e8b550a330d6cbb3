// SPDX-License-Identifier: BSD-2-Clause
//! Socket addresses: `core::net` here, `struct sockaddr_in` and `sockaddr_in6` in the kernel.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use freebsd_kernel_sys as sys;

/// Bytes of a `sockaddr_in`.
pub const SOCKADDR_IN_LEN: usize = size_of::<sys::sockaddr_in>();
/// Bytes of a `sockaddr_in6`.
pub const SOCKADDR_IN6_LEN: usize = size_of::<sys::sockaddr_in6>();

/// A `sockaddr_in` or `sockaddr_in6` as the kernel wants it: its length and family first, so C can
/// tell them apart.
#[repr(C, align(8))]
pub(super) struct Sockaddr([u8; SOCKADDR_IN6_LEN]);

impl Sockaddr {
    pub(super) fn new(addr: &SocketAddr) -> Self {
        let mut bytes = [0; SOCKADDR_IN6_LEN];
        encode_sockaddr(addr, &mut bytes);
        Self(bytes)
    }

    pub(super) const fn as_ptr(&self) -> *const sys::sockaddr {
        self.0.as_ptr().cast()
    }
}

/// Writes the bytes of `addr` as a `sockaddr_in` (16) or `sockaddr_in6` (28) and returns how many.
/// The rest of `out` is left as it is.
pub fn encode_sockaddr(addr: &SocketAddr, out: &mut [u8; SOCKADDR_IN6_LEN]) -> usize {
    // Offsets: length 0, family 1, port 2, then IPv4 address 4 and zeros; or flow 4, IPv6 address
    // 8, scope 24.
    let mut put = Writer(out.iter_mut());
    match addr {
        SocketAddr::V4(a) => {
            put.bytes(&[SOCKADDR_IN_LEN as u8, sys::AF_INET as u8]);
            put.bytes(&a.port().to_be_bytes());
            put.bytes(&a.ip().octets());
            put.bytes(&[0; 8]);
            SOCKADDR_IN_LEN
        }
        SocketAddr::V6(a) => {
            put.bytes(&[SOCKADDR_IN6_LEN as u8, sys::AF_INET6 as u8]);
            put.bytes(&a.port().to_be_bytes());
            put.bytes(&a.flowinfo().to_be_bytes());
            put.bytes(&a.ip().octets());
            put.bytes(&a.scope_id().to_ne_bytes());
            SOCKADDR_IN6_LEN
        }
    }
}

struct Writer<'a>(core::slice::IterMut<'a, u8>);

impl Writer<'_> {
    fn bytes(&mut self, from: &[u8]) {
        // In this order: `zip` takes from its left side first, and would lose a byte of `out`.
        for (from, to) in from.iter().zip(self.0.by_ref()) {
            *to = *from;
        }
    }
}

/// Reads a `sockaddr_in` or `sockaddr_in6`. `None` unless length, family and number of bytes agree.
/// A scope embedded in a link-local address, the kernel's inner form, is moved to the scope id.
#[must_use]
pub fn decode_sockaddr(bytes: &[u8]) -> Option<SocketAddr> {
    let (&[len, family], rest) = bytes.split_first_chunk::<2>()?;
    if usize::from(len) != bytes.len() {
        return None;
    }
    let (&port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(port);
    match (u32::from(family), bytes.len()) {
        (sys::AF_INET, SOCKADDR_IN_LEN) => {
            let ip = Ipv4Addr::from_octets(*rest.first_chunk()?);
            Some(SocketAddrV4::new(ip, port).into())
        }
        (sys::AF_INET6, SOCKADDR_IN6_LEN) => {
            let (&flow, rest) = rest.split_first_chunk()?;
            let (&ip, rest) = rest.split_first_chunk::<16>()?;
            let scope = u32::from_ne_bytes(*rest.first_chunk()?);
            let (ip, scope) = recover_scope(ip, scope);
            Some(SocketAddrV6::new(ip, port, u32::from_be_bytes(flow), scope).into())
        }
        _ => None,
    }
}

/// Shows an address and port in a message, as [`SocketAddr`] itself would but that IPv6 zeros are
/// not left out. The core library's own text of addresses can be padded, and that code has places
/// that panic; this has none.
pub struct Show<'a>(pub &'a SocketAddr);

impl fmt::Display for Show<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SocketAddr::V4(a) => ShowIp((*a.ip()).into()).fmt(f)?,
            SocketAddr::V6(a) => {
                f.write_str("[")?;
                ShowIp((*a.ip()).into()).fmt(f)?;
                if a.scope_id() != 0 {
                    f.write_str("%")?;
                    fmt::Display::fmt(&a.scope_id(), f)?;
                }
                f.write_str("]")?;
            }
        }
        f.write_str(":")?;
        fmt::Display::fmt(&self.0.port(), f)
    }
}

/// The same for an address alone.
pub struct ShowIp(pub IpAddr);

impl fmt::Display for ShowIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        match self.0 {
            IpAddr::V4(ip) => {
                for n in ip.octets() {
                    f.write_str(separator)?;
                    fmt::Display::fmt(&n, f)?;
                    separator = ".";
                }
            }
            IpAddr::V6(ip) => {
                for n in ip.segments() {
                    f.write_str(separator)?;
                    fmt::LowerHex::fmt(&n, f)?;
                    separator = ":";
                }
            }
        }
        Ok(())
    }
}

/// Undoes the KAME form: bytes 2 and 3 of a link-local address hold the interface's index inside
/// the kernel.
fn recover_scope(mut octets: [u8; 16], scope: u32) -> (Ipv6Addr, u32) {
    let ip = Ipv6Addr::from_octets(octets);
    if !is_link_local(&ip) {
        return (ip, scope);
    }
    let [_, _, high, low, ..] = &mut octets;
    let embedded = u32::from(u16::from_be_bytes([*high, *low]));
    (*high, *low) = (0, 0);
    (
        Ipv6Addr::from_octets(octets),
        if embedded != 0 { embedded } else { scope },
    )
}

/// fe80::/10, ff02::/16 and ff01::/16: addresses that mean something on one link only.
fn is_link_local(ip: &Ipv6Addr) -> bool {
    let [a, b, ..] = ip.octets();
    ip.is_unicast_link_local() || (a == 0xff && matches!(b & 0x0f, 1 | 2))
}

/// `src` as the source of a datagram to `dst`: no port, and a link-local address on its link, which
/// is that of `dst` if nothing else is said. `dst` may well have a wider scope and no link.
pub(super) fn source_for(src: &SocketAddr, dst: &SocketAddr) -> SocketAddr {
    match (src, dst) {
        (SocketAddr::V6(s), SocketAddr::V6(d)) if is_link_local(s.ip()) => {
            let scope = match s.scope_id() {
                0 => d.scope_id(),
                own => own,
            };
            SocketAddrV6::new(*s.ip(), 0, 0, scope).into()
        }
        _ => SocketAddr::new(src.ip(), 0),
    }
}

/// Reads element `index` of an array of addresses of one family.
///
/// # Safety
///
/// `sa` points to an array of more than `index` whole `sockaddr_in`, or `sockaddr_in6`, as the
/// first one's family says.
pub(super) unsafe fn read_sockaddr(sa: *const sys::sockaddr, index: usize) -> Option<SocketAddr> {
    // SAFETY: the first one is there.
    let family = u32::from(unsafe { (*sa).sa_family });
    let size = match family {
        sys::AF_INET => SOCKADDR_IN_LEN,
        sys::AF_INET6 => SOCKADDR_IN6_LEN,
        _ => return None,
    };
    // SAFETY: element `index` of the array, and its bytes are set.
    let bytes =
        unsafe { core::slice::from_raw_parts(sa.cast::<u8>().add(size.wrapping_mul(index)), size) };
    decode_sockaddr(bytes)
}
