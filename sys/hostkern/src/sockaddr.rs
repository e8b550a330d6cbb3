// SPDX-License-Identifier: BSD-2-Clause
//! FreeBSD's socket addresses, as bytes.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 28;

/// A `sockaddr_in` or `sockaddr_in6`, with its length in the first byte.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct Sockaddr([u8; 28]);

impl From<&SocketAddr> for Sockaddr {
    fn from(a: &SocketAddr) -> Self {
        let mut b = [0; 28];
        b[2..4].copy_from_slice(&a.port().to_be_bytes());
        match a {
            SocketAddr::V4(a) => {
                b[0] = 16;
                b[1] = AF_INET;
                b[4..8].copy_from_slice(&a.ip().octets());
            }
            SocketAddr::V6(a) => {
                b[0] = 28;
                b[1] = AF_INET6;
                b[8..24].copy_from_slice(&a.ip().octets());
                b[24..28].copy_from_slice(&a.scope_id().to_ne_bytes());
            }
        }
        Self(b)
    }
}

impl Sockaddr {
    pub fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    /// The bytes that count.
    pub fn bytes(&self) -> &[u8] {
        &self.0[..usize::from(self.0[0])]
    }

    /// Reads one from C; none if the length and the family do not belong together.
    ///
    /// # Safety
    /// `p` points to as many bytes as its first one says.
    pub unsafe fn read(p: *const u8) -> Option<SocketAddr> {
        // SAFETY: as the caller says.
        let (len, family) = unsafe { (p.read(), p.add(1).read()) };
        let mut b = [0; 28];
        let n = match (family, len) {
            (AF_INET, 16) => 16,
            (AF_INET6, 28) => 28,
            _ => return None,
        };
        // SAFETY: as above.
        unsafe { core::ptr::copy_nonoverlapping(p, b.as_mut_ptr(), n) };
        let port = u16::from_be_bytes([b[2], b[3]]);
        if family == AF_INET {
            let ip: [u8; 4] = b[4..8].try_into().ok()?;
            return Some(SocketAddr::new(IpAddr::from(ip), port));
        }
        let ip: [u8; 16] = b[8..24].try_into().ok()?;
        let scope = u32::from_ne_bytes(b[24..28].try_into().ok()?);
        Some(SocketAddr::V6(SocketAddrV6::new(ip.into(), port, 0, scope)))
    }
}
