// SPDX-License-Identifier: BSD-2-Clause
//! The IP packets that the demonstration sends.

use std::net::Ipv4Addr;

const ICMP: u8 = 1;
const UDP: u8 = 17;
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// An ICMP echo request or reply with 56 bytes of data, as ping(8) sends.
pub(super) fn echo(src: Ipv4Addr, dst: Ipv4Addr, sequence: u16, reply: bool) -> Vec<u8> {
    let mut icmp = vec![if reply { 0 } else { 8 }, 0, 0, 0];
    // An identifier of our own choice.
    icmp.extend([0x77, 0x67]);
    icmp.extend(sequence.to_be_bytes());
    icmp.extend(0..56u8);
    let sum = checksum(&icmp).to_be_bytes();
    icmp.splice(2..4, sum);
    ip(src, dst, ICMP, &icmp)
}

/// A UDP datagram that carries its number, and after it bytes that follow from the number.
pub(super) fn numbered(src: Ipv4Addr, dst: Ipv4Addr, number: usize, payload: usize) -> Vec<u8> {
    let mut udp = Vec::with_capacity(UDP_HEADER + payload);
    udp.extend(9000u16.to_be_bytes());
    udp.extend(9000u16.to_be_bytes());
    udp.extend(
        u16::try_from(UDP_HEADER + payload)
            .unwrap_or(u16::MAX)
            .to_be_bytes(),
    );
    // No checksum: IPv4 permits that.
    udp.extend([0, 0]);
    udp.extend(number.to_be_bytes());
    udp.resize(UDP_HEADER + payload, filler(number));
    ip(src, dst, UDP, &udp)
}

/// The number of such a datagram; `None` if anything about it is wrong.
pub(super) fn number(packet: &[u8]) -> Option<usize> {
    let payload = packet.get(IP_HEADER + UDP_HEADER..)?;
    let (number, rest) = payload.split_first_chunk()?;
    let number = usize::from_be_bytes(*number);
    let valid = checksum(packet.get(..IP_HEADER)?) == 0;
    (valid && rest.iter().all(|&b| b == filler(number))).then_some(number)
}

fn filler(number: usize) -> u8 {
    number.to_le_bytes()[0] ^ 0x5a
}

fn ip(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(IP_HEADER + payload.len()).unwrap_or(u16::MAX);
    // Version and header length, service; length; identification; don't fragment; hops.
    let mut packet = vec![0x45, 0];
    packet.extend(len.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(src.octets());
    packet.extend(dst.octets());
    let sum = checksum(&packet).to_be_bytes();
    packet.splice(10..12, sum);
    packet.extend(payload);
    packet
}

/// RFC 1071.
fn checksum(data: &[u8]) -> u16 {
    let (pairs, rest) = data.as_chunks::<2>();
    let tail = rest.first().map_or(0, |&b| u32::from(b) << 8);
    let sum = pairs
        .iter()
        .fold(tail, |sum, pair| sum + u32::from(u16::from_be_bytes(*pair)));
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    #[test]
    fn checksums_verify() {
        let packet = echo(A, B, 7, false);
        assert_eq!(packet.len(), 84);
        assert_eq!(checksum(&packet[..IP_HEADER]), 0);
        assert_eq!(checksum(&packet[IP_HEADER..]), 0);
        // RFC 1071's example.
        assert_eq!(
            !checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            0xddf2
        );
    }

    #[test]
    fn numbers_are_found_and_damage_too() {
        let mut packet = numbered(A, B, 12345, 100);
        assert_eq!(number(&packet), Some(12345));
        packet[100] ^= 1;
        assert_eq!(number(&packet), None);
        assert_eq!(number(&packet[..20]), None);
    }
}
