// SPDX-License-Identifier: BSD-2-Clause
//! ICMP errors for a host's own stack, which in real mode has nobody else to make them.
//!
//! The address that an error comes from is the one that could not be reached: the tunnel's interface may have none.

use core::ffi::c_int;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

/// Errors a second, as `net.inet.icmp.icmplim` of FreeBSD.
const A_SECOND: u64 = 200;

/// Bytes of the packet that an error quotes at most, so that it stays below 576 and 1280 bytes (RFC 1812 4.3.2.3,
/// RFC 4443 3.1).
const QUOTE_V4: usize = 548;
const QUOTE_V6: usize = 1232;

/// A limit of errors a second.
pub(crate) struct Limit(AtomicU64);

impl Limit {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether one more may be sent at `now`, nanoseconds since boot.
    pub(crate) fn allow(&self, now: u64) -> bool {
        let second = now / 1_000_000_000;
        let step = |last: u64| {
            let sent = if last >> 16 == second & 0xffff_ffff_ffff {
                last & 0xffff
            } else {
                0
            };
            (sent < A_SECOND).then_some(second << 16 | (sent + 1))
        };
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
            .is_ok()
    }
}

/// The answer to `packet`, for a reason of kpi_shim.h. None for what must not be answered (RFC 1122 3.2.2, RFC 4443
/// 2.4): errors, multicast, fragments but the first, and what names no sender.
pub(crate) fn error(packet: &[u8], reason: c_int, mtu: u32) -> Option<Vec<u8>> {
    match packet.first()? >> 4 {
        4 => error_v4(packet, reason, mtu),
        6 => error_v6(packet, reason, mtu),
        _ => None,
    }
}

fn error_v4(packet: &[u8], reason: c_int, mtu: u32) -> Option<Vec<u8>> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let length = usize::from(header[0] & 15) * 4;
    let src = Ipv4Addr::from(*header[12..].first_chunk::<4>()?);
    let dst = Ipv4Addr::from(*header[16..].first_chunk::<4>()?);
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    let no_sender = src.is_unspecified() || src.is_multicast() || src.is_broadcast();
    if fragment != 0 || no_sender || dst.is_multicast() || dst.is_broadcast() {
        return None;
    }
    if header[9] == 1 && !matches!(packet.get(length)?, 0 | 8 | 13..=18) {
        return None;
    }
    let code = match reason {
        0 => 1,
        1 => 4,
        _ => 0,
    };
    let quote = &packet[..packet.len().min(QUOTE_V4)];
    let next_mtu = if reason == 1 { mtu as u16 } else { 0 };
    let mut message = vec![3, code, 0, 0, 0, 0];
    message.extend(next_mtu.to_be_bytes());
    message.extend(quote);
    let sum = checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut out = vec![0x45, 0xc0];
    out.extend((20 + message.len() as u16).to_be_bytes());
    out.extend([0, 0, 0, 0, 64, 1, 0, 0]);
    out.extend(dst.octets());
    out.extend(src.octets());
    let sum = checksum(&[&out]);
    out[10..12].copy_from_slice(&sum.to_be_bytes());
    out.extend(message);
    Some(out)
}

fn error_v6(packet: &[u8], reason: c_int, mtu: u32) -> Option<Vec<u8>> {
    let header: &[u8; 40] = packet.first_chunk()?;
    let src = Ipv6Addr::from(*header[8..].first_chunk::<16>()?);
    let dst = Ipv6Addr::from(*header[24..].first_chunk::<16>()?);
    let too_big = reason == 1;
    if src.is_unspecified() || src.is_multicast() || (dst.is_multicast() && !too_big) {
        return None;
    }
    if header[6] == 58 && *packet.get(40)? < 128 {
        return None;
    }
    let (kind, code) = match reason {
        0 => (1, 3),
        1 => (2, 0),
        _ => (1, 0),
    };
    let mut message = vec![kind, code, 0, 0];
    message.extend(if too_big { mtu } else { 0 }.to_be_bytes());
    message.extend(&packet[..packet.len().min(QUOTE_V6)]);
    let length = (message.len() as u32).to_be_bytes();
    let (from, to) = (dst.octets(), src.octets());
    let sum = checksum(&[&from, &to, &length, &[0, 0, 0, 58], &message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut out = vec![0x60, 0, 0, 0];
    out.extend((message.len() as u16).to_be_bytes());
    out.extend([58, 64]);
    out.extend(from);
    out.extend(to);
    out.extend(message);
    Some(out)
}

/// The Internet checksum (RFC 1071) of parts that all but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = words
        .map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| u32::from(*b)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut p = vec![
            0x45,
            0,
            0,
            20 + payload.len() as u8,
            0,
            0,
            0,
            0,
            64,
            protocol,
            0,
            0,
        ];
        p.extend([10, 0, 0, 1, 10, 0, 0, 9]);
        p.extend(payload);
        p
    }

    #[test]
    fn answers_are_whole() {
        let p = v4(17, &[1; 8]);
        let e = error(&p, 2, 0).unwrap();
        assert_eq!(checksum(&[&e[..20]]), 0);
        assert_eq!(checksum(&[&e[20..]]), 0);
        assert_eq!((e[9], e[20], e[21]), (1, 3, 0));
        assert_eq!(e[12..20], [10, 0, 0, 9, 10, 0, 0, 1]);
        assert_eq!(e[28..], p);

        let mut p = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
        p.extend([0xfd; 16]);
        p.extend([0xfc; 16]);
        p.extend([7; 8]);
        let e = error(&p, 0, 0).unwrap();
        assert_eq!((e[6], e[40], e[41]), (58, 1, 3));
        let length = (e.len() as u32 - 40).to_be_bytes();
        assert_eq!(checksum(&[&e[8..40], &length, &[0, 0, 0, 58], &e[40..]]), 0);
        assert_eq!(e[48..], p);
    }

    #[test]
    fn what_must_not_be_answered() {
        for kind in 0..=255u8 {
            let answered = error(&v4(1, &[kind, 0, 0, 0]), 0, 0).is_some();
            assert_eq!(
                answered,
                matches!(kind, 0 | 8 | 13..=18),
                "ICMP type {kind}"
            );
        }
        let mut fragment = v4(17, &[0; 8]);
        fragment[7] = 1;
        assert!(error(&fragment, 0, 0).is_none());
        let mut multicast = v4(17, &[0; 8]);
        multicast[16] = 224;
        assert!(error(&multicast, 0, 0).is_none());
        let mut nobody = v4(17, &[0; 8]);
        nobody[12..16].fill(0);
        assert!(error(&nobody, 0, 0).is_none());
        for len in 0..20 {
            assert!(error(&v4(17, &[])[..len], 0, 0).is_none());
        }
    }

    #[test]
    fn no_more_than_so_many_a_second() {
        let limit = Limit::new();
        let second = 5_000_000_000;
        assert_eq!((0..1000).filter(|_| limit.allow(second)).count(), 200);
        assert!(limit.allow(second + 1_000_000_000));
    }
}
