// SPDX-License-Identifier: BSD-2-Clause
//! What one read from the TUN device holds: a packet, or many segments of one flow.
//!
//! Everything is sized by the packet at hand. What is known of the interface's MTU is late when it has just been
//! raised, and may be out of reach when the interface has moved to another network namespace.

use std::io;

use tun_rs::{VIRTIO_NET_HDR_LEN, VirtioNetHdr, checksum, gso_split};

/// Flags and types of `struct virtio_net_hdr`.
const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// The most that one read can give: the largest IP packet with its header, and some more, so that nothing is ever
/// cut off unnoticed.
pub(super) const LARGEST_READ: usize = VIRTIO_NET_HDR_LEN + 65_536 + 1024;

/// Takes reads apart, with memory that is kept for the next one.
#[derive(Default)]
pub(super) struct Splitter {
    room: Vec<u8>,
    sizes: Vec<usize>,
}

impl Splitter {
    /// The packets in `read`, which begins with the header that the host puts before each.
    ///
    /// # Errors
    /// When the header and the packet do not fit each other. The packet is lost.
    pub(super) fn split<'a>(
        &'a mut self,
        read: &'a mut [u8],
    ) -> io::Result<impl Iterator<Item = &'a [u8]> + use<'a>> {
        let header = VirtioNetHdr::decode(read)?;
        let packet = read.get_mut(VIRTIO_NET_HDR_LEN..).unwrap_or_default();
        let len = packet.len();
        let mut one = None;
        let (mut size, mut count) = (1, 0);
        if header.gso_type == GSO_NONE {
            if header.flags & NEEDS_CSUM != 0 {
                complete_checksum(packet, &header)?;
            }
            one = Some(&*packet);
        } else {
            let (header, v6) = completed(header, packet)?;
            let payload = len.saturating_sub(header.hdr_len.into());
            let each = payload.min(header.gso_size.into());
            if each == 0 {
                return Err(wrong("segments of nothing"));
            }
            count = payload.div_ceil(each);
            size = usize::from(header.hdr_len) + each;
            // Never shrinks: the next flow may have other segments.
            self.room.resize(self.room.len().max(size * count), 0);
            self.sizes.resize(self.sizes.len().max(count), 0);
            let mut pieces: Vec<_> = self.room.chunks_exact_mut(size).take(count).collect();
            count = gso_split(packet, header, &mut pieces, &mut self.sizes, 0, v6)?;
        }
        let segments = self.room.chunks_exact(size).zip(&self.sizes).take(count);
        let segments = segments.filter_map(|(piece, &size)| piece.get(..size));
        Ok(one.into_iter().chain(segments))
    }
}

/// The header with its own length, and whether the packet is IPv6. Where a packet is only passing through, the host
/// counts its first segment's payload to the header, so the length is taken from the packet.
fn completed(mut header: VirtioNetHdr, packet: &[u8]) -> io::Result<(VirtioNetHdr, bool)> {
    let v6 = match packet.first().map(|b| b >> 4) {
        Some(4) => false,
        Some(6) => true,
        _ => return Err(wrong("not IP")),
    };
    let transport = match header.gso_type & !GSO_ECN {
        GSO_UDP_L4 => 8,
        _ => {
            let at = usize::from(header.csum_start) + 12;
            let offset = packet.get(at).ok_or_else(|| wrong("no TCP header"))?;
            u16::from(offset >> 4) * 4
        }
    };
    header.hdr_len = header
        .csum_start
        .checked_add(transport)
        .filter(|&end| usize::from(end) <= packet.len())
        .ok_or_else(|| wrong("too short for its headers"))?;
    Ok((header, v6))
}

/// Computes the transport's checksum, whose field holds the sum of the pseudo header.
fn complete_checksum(packet: &mut [u8], header: &VirtioNetHdr) -> io::Result<()> {
    let outside = || wrong("checksum outside of the packet");
    let at = usize::from(header.csum_offset);
    let body = packet
        .get_mut(header.csum_start.into()..)
        .ok_or_else(outside)?;
    let field: &mut [u8; 2] = body
        .get_mut(at..)
        .and_then(<[u8]>::first_chunk_mut)
        .ok_or_else(outside)?;
    let pseudo = u16::from_be_bytes(std::mem::take(field));
    let sum = !checksum(body, pseudo.into());
    if let Some(field) = body.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *field = sum.to_be_bytes();
    }
    Ok(())
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCPV4: u8 = 1;
    const TCPV6: u8 = 4;
    const ACK_PSH: u8 = 0x18;

    /// One's complement sum of a transport's bytes and the pseudo header: 0xffff when the checksum is right.
    fn transport_sum(packet: &[u8], v6: bool, protocol: u8) -> u16 {
        let (addresses, at) = if v6 { (8..40, 40) } else { (12..20, 20) };
        let mut bytes = packet[addresses].to_vec();
        bytes.extend([0, protocol]);
        bytes.extend(u16::try_from(packet.len() - at).unwrap().to_be_bytes());
        bytes.extend(&packet[at..]);
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&b| b.into());
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    /// A read with `payload` bytes of TCP, or of UDP.
    fn read(v6: bool, udp: bool, payload: usize, segment: usize, kind: u8) -> Vec<u8> {
        let ip = if v6 { 40 } else { 20 };
        let transport = if udp { 8 } else { 32 };
        let len = ip + transport + payload;
        let mut out = vec![0; VIRTIO_NET_HDR_LEN + len];
        out[0] = NEEDS_CSUM;
        out[1] = kind;
        // The header's length as a forwarded packet has it: with the first segment's payload.
        let words = [len.min(9000), segment, ip, if udp { 6 } else { 16 }];
        for (at, word) in (2..).step_by(2).zip(words) {
            out[at..at + 2].copy_from_slice(&u16::try_from(word).unwrap().to_ne_bytes());
        }
        let p = &mut out[VIRTIO_NET_HDR_LEN..];
        let total = u16::try_from(len).unwrap();
        if v6 {
            p[0] = 0x60;
            p[4..6].copy_from_slice(&(total - 40).to_be_bytes());
            p[6] = if udp { 17 } else { 6 };
            p[8..40].copy_from_slice(&[7; 32]);
        } else {
            p[0] = 0x45;
            p[2..4].copy_from_slice(&total.to_be_bytes());
            p[9] = if udp { 17 } else { 6 };
            p[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        }
        if !udp {
            p[ip + 12] = 8 << 4;
            p[ip + 13] = ACK_PSH;
        }
        for (n, byte) in p[ip + transport..].iter_mut().enumerate() {
            *byte = n.to_le_bytes()[0];
        }
        // The sum of the pseudo header alone.
        let field = ip + if udp { 6 } else { 16 };
        let protocol = p[if v6 { 6 } else { 9 }];
        let mut head = p[..ip].to_vec();
        head.resize(len, 0);
        let pseudo = transport_sum(&head, v6, protocol);
        p[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
        out
    }

    fn packets(read: &mut [u8]) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::default();
        let all = splitter.split(read).unwrap();
        all.map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn one_packet_of_any_size_gets_its_checksum() {
        for (v6, udp, payload) in [
            (false, true, 0),
            (true, true, 1),
            (false, false, 1383),
            (true, false, 8999),
            (false, true, 65_535 - 28),
            (true, true, 65_535 - 48),
        ] {
            let mut whole = read(v6, udp, payload, 0, GSO_NONE);
            let len = whole.len() - VIRTIO_NET_HDR_LEN;
            let all = packets(&mut whole);
            assert_eq!(all.len(), 1);
            assert_eq!(all[0].len(), len);
            let protocol = if udp { 17 } else { 6 };
            assert_eq!(transport_sum(&all[0], v6, protocol), 0xffff);
        }
    }

    #[test]
    fn segments_of_any_size_and_number() {
        for (v6, udp, kind) in [
            (false, false, TCPV4),
            (true, false, TCPV6),
            (false, true, GSO_UDP_L4),
            (true, true, GSO_UDP_L4),
            (false, false, TCPV4 | GSO_ECN),
        ] {
            for segment in [36, 536, 1368, 8948, 60_000] {
                let payload = 64_000;
                let all = packets(&mut read(v6, udp, payload, segment, kind));
                assert_eq!(all.len(), payload.div_ceil(segment), "{segment}");
                let head = if v6 { 40 } else { 20 } + if udp { 8 } else { 32 };
                let joined: Vec<u8> = all.iter().flat_map(|p| p[head..].to_vec()).collect();
                let expected: Vec<u8> = (0..payload).map(|n: usize| n.to_le_bytes()[0]).collect();
                assert_eq!(joined, expected);
                for p in &all {
                    let said = if v6 { (4, 40) } else { (2, 0) };
                    let len = u16::from_be_bytes([p[said.0], p[said.0 + 1]]);
                    assert_eq!(usize::from(len) + said.1, p.len());
                    assert_eq!(transport_sum(p, v6, if udp { 17 } else { 6 }), 0xffff);
                }
            }
        }
    }

    #[test]
    fn a_small_flow_after_a_large_one() {
        let mut splitter = Splitter::default();
        for (payload, segment) in [(60_000, 1000), (10, 3), (30_000, 10_000)] {
            let mut whole = read(false, false, payload, segment, TCPV4);
            let lens: Vec<_> = splitter
                .split(&mut whole)
                .unwrap()
                .map(<[u8]>::len)
                .collect();
            assert_eq!(lens.len(), usize::div_ceil(payload, segment));
            assert_eq!(lens.iter().sum::<usize>(), lens.len() * 52 + payload);
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        let good = read(false, false, 5000, 1000, TCPV4);
        for len in 0..VIRTIO_NET_HDR_LEN + 52 {
            let mut splitter = Splitter::default();
            assert!(splitter.split(&mut good[..len].to_vec()).is_err(), "{len}");
        }
        for (at, value) in [(1, 0x7f), (1, TCPV6), (4, 0), (6, 0xff), (10, 0x20)] {
            let mut bad = good.clone();
            bad[at..at + 2].copy_from_slice(&[value, 0]);
            if at == 6 {
                bad[7] = 0xff;
            }
            assert!(Splitter::default().split(&mut bad).is_err(), "{at}");
        }
        let mut outside = read(false, true, 100, 0, GSO_NONE);
        outside[6] = 127;
        assert!(Splitter::default().split(&mut outside).is_err());
    }
}
