// SPDX-License-Identifier: BSD-2-Clause
//! IP packets inside the tunnel: total parsing of their headers, and the length they are padded to.
//!
//! A packet that comes out of a session is as hostile as its sender, and one that goes in may be
//! malformed too, so both directions look at headers only through [`inspect`]. Field layouts are
//! those of RFC 791 §3.1 and RFC 8200 §3. Header checksums are not verified: decryption has shown
//! that the bytes are as the peer sent them, and routing depends on addresses only.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used
)]

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// As many bytes of a packet as [`inspect`] ever looks at.
pub const HEAD_LEN: usize = 40;

/// Plaintext is padded to a multiple of so many bytes (WireGuard paper §5.4.6).
pub const PADDING: usize = 16;

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
/// IPv6 "hop-by-hop options", the only home of the jumbo payload option (RFC 2675).
const HOP_BY_HOP: u8 = 0;

/// What a packet's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpInfo {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Length of the packet in bytes, header included; never more than what was received. What
    /// follows is padding.
    pub len: usize,
    /// Length of the header in bytes: with options for IPv4, without extension headers for IPv6.
    pub header_len: usize,
    /// The IPv4 type of service or IPv6 traffic class: DSCP in the upper 6 bits, ECN in the lower 2.
    pub tos: u8,
}

impl IpInfo {
    /// Whether it is an IPv4 packet; otherwise it is IPv6.
    pub const fn is_v4(&self) -> bool {
        matches!(self.src, IpAddr::V4(_))
    }

    /// The congestion notification field (RFC 3168).
    pub const fn ecn(&self) -> u8 {
        self.tos & 3
    }

    /// The differentiated services code point (RFC 2474).
    pub const fn dscp(&self) -> u8 {
        self.tos >> 2
    }
}

/// Why a packet is not an IP packet that the tunnel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IpError {
    /// No bytes at all: in a session, a keepalive.
    Empty,
    /// Neither version 4 nor version 6.
    Version,
    /// Shorter than its header.
    Truncated,
    /// IPv4 header length below 20 bytes or past the packet's total length.
    HeaderLength,
    /// Total length past the end of the packet.
    TotalLength,
    /// An IPv6 jumbogram, whose length does not fit a datagram.
    Jumbogram,
}

impl fmt::Display for IpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IpError::Empty => "empty packet",
            IpError::Version => "neither IPv4 nor IPv6",
            IpError::Truncated => "packet shorter than its header",
            IpError::HeaderLength => "bad IPv4 header length",
            IpError::TotalLength => "packet shorter than its total length",
            IpError::Jumbogram => "IPv6 jumbogram",
        })
    }
}

impl core::error::Error for IpError {}

/// Reads the header of a packet of `packet_len` bytes, of which `head` is the beginning: the first
/// [`HEAD_LEN`] bytes, or all of a shorter packet. More does no harm, less is an error.
///
/// # Errors
/// See [`IpError`]. Fragments are not an error: they have addresses, and reassembly is the
/// receiving host's matter.
pub fn inspect(head: &[u8], packet_len: usize) -> Result<IpInfo, IpError> {
    match head.first() {
        None => Err(if packet_len == 0 {
            IpError::Empty
        } else {
            IpError::Truncated
        }),
        Some(b) if b >> 4 == 4 => inspect_v4(head, packet_len),
        Some(b) if b >> 4 == 6 => inspect_v6(head, packet_len),
        Some(_) => Err(IpError::Version),
    }
}

fn inspect_v4(head: &[u8], packet_len: usize) -> Result<IpInfo, IpError> {
    let header: &[u8; V4_HEADER] = head.first_chunk().ok_or(IpError::Truncated)?;
    let [
        vihl,
        tos,
        l0,
        l1,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        s0,
        s1,
        s2,
        s3,
        d0,
        d1,
        d2,
        d3,
    ] = *header;
    let header_len = usize::from(vihl & 15).saturating_mul(4);
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    // A total length of 0 stands for "computed by hardware" on some send paths. It is not valid on
    // the wire, and falls under this.
    if header_len < V4_HEADER || header_len > len {
        return Err(IpError::HeaderLength);
    }
    if len > packet_len {
        return Err(IpError::TotalLength);
    }
    let src = IpAddr::V4(Ipv4Addr::new(s0, s1, s2, s3));
    let dst = IpAddr::V4(Ipv4Addr::new(d0, d1, d2, d3));
    Ok(IpInfo {
        src,
        dst,
        len,
        header_len,
        tos,
    })
}

fn inspect_v6(head: &[u8], packet_len: usize) -> Result<IpInfo, IpError> {
    let (fixed, rest) = head.split_first_chunk().ok_or(IpError::Truncated)?;
    let (src, rest) = rest.split_first_chunk::<16>().ok_or(IpError::Truncated)?;
    let dst: &[u8; 16] = rest.first_chunk().ok_or(IpError::Truncated)?;
    let [v, class, _, _, l0, l1, next, _hops] = *fixed;
    let payload = usize::from(u16::from_be_bytes([l0, l1]));
    if payload == 0 && next == HOP_BY_HOP {
        return Err(IpError::Jumbogram);
    }
    let len = payload.saturating_add(V6_HEADER);
    if len > packet_len {
        return Err(IpError::TotalLength);
    }
    let src = IpAddr::V6(Ipv6Addr::from(*src));
    let dst = IpAddr::V6(Ipv6Addr::from(*dst));
    Ok(IpInfo {
        src,
        dst,
        len,
        header_len: V6_HEADER,
        tos: v << 4 | class >> 4,
    })
}

/// The padded length of a plaintext of `len` bytes: up to the next multiple of [`PADDING`], but
/// never past `mtu`, the route's or the interface's; 0 is no limit.
///
/// A packet longer than the MTU was made so on purpose (a path MTU lower than the interface's, a
/// segment still to be cut); its last piece is then what counts.
pub const fn padded_len(len: usize, mtu: usize) -> usize {
    let last = match len.checked_rem(mtu) {
        Some(rest) if len > mtu => rest,
        _ => len,
    };
    // Rounds up; at the very end of the range, where there is no multiple, pads nothing.
    let padded = match last.checked_next_multiple_of(PADDING) {
        Some(padded) => padded,
        None => last,
    };
    let padded = if mtu != 0 && padded > mtu {
        mtu
    } else {
        padded
    };
    len.saturating_add(padded.saturating_sub(last))
}
