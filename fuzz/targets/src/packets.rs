// SPDX-License-Identifier: BSD-2-Clause
//! What comes in from the network: WireGuard's own messages, and IP packets from inside the tunnel.

use std::net::IpAddr;

use wg::ip::{HEAD_LEN, IpInfo, inspect, padded_len};
use wg::messages::{DataHeader, Message, ParseError};

/// Parsing a UDP payload agrees with a table of types and lengths; the fields of a message, put side by side, are the
/// message; and nothing behind or in front of it is looked at.
pub fn messages(input: &[u8]) {
    let kind = input.first_chunk().map(|b| u32::from_le_bytes(*b));
    let expected = match (kind, input.len()) {
        (Some(1), 148) | (Some(2), 92) | (Some(3), 64) | (Some(4), 32..) => Ok(()),
        (Some(1..=4), _) => Err(ParseError::Length),
        _ => Err(ParseError::Type),
    };
    let read = Message::parse(input);
    assert_eq!(read.as_ref().map(|_| ()).map_err(|e| *e), expected);
    let number = |n: u32| n.to_le_bytes();
    match read {
        Ok(Message::Initiation(m)) => {
            let parts: [&[u8]; 7] = [
                &number(1),
                &number(m.sender()),
                m.ephemeral(),
                m.sealed_static(),
                m.sealed_timestamp(),
                m.mac1(),
                m.mac2(),
            ];
            assert_eq!(parts.concat(), input);
            assert_eq!(m.bytes(), input);
        }
        Ok(Message::Response(m)) => {
            let parts: [&[u8]; 7] = [
                &number(2),
                &number(m.sender()),
                &number(m.receiver()),
                m.ephemeral(),
                m.sealed_empty(),
                m.mac1(),
                m.mac2(),
            ];
            assert_eq!(parts.concat(), input);
            assert_eq!(m.bytes(), input);
        }
        Ok(Message::CookieReply(m)) => {
            let parts: [&[u8]; 4] = [
                &number(3),
                &number(m.receiver()),
                m.nonce(),
                m.sealed_cookie(),
            ];
            assert_eq!(parts.concat(), input);
            assert_eq!(m.bytes(), input);
        }
        Ok(Message::Data(m)) => {
            assert_eq!([&m.header.to_bytes(), m.sealed].concat(), input);
            assert_eq!(DataHeader::peek(input), Some(m.header));
        }
        Err(_) => {}
    }
    // The typed parsers accept what the general one gives to them, and nothing else.
    use wg::messages::{CookieReply, Initiation, Response};
    let typed = [
        Initiation::parse(input).is_ok(),
        Response::parse(input).is_ok(),
        CookieReply::parse(input).is_ok(),
    ];
    let one = |n| kind == Some(n) && expected.is_ok();
    assert_eq!(typed, [one(1), one(2), one(3)]);
}

/// The header of an inner packet: a naive reading of the RFCs' layouts finds the same; what lies beyond the packet and
/// beyond [`HEAD_LEN`] makes no difference; padding stays within its rules.
///
/// The first two bytes of the input are the MTU.
pub fn inner_ip(input: &[u8]) {
    let Some((mtu, packet)) = input.split_first_chunk::<2>() else {
        return;
    };
    let mtu = usize::from(u16::from_le_bytes(*mtu));
    let read = inspect(packet, packet.len());
    assert_eq!(read.ok(), naive(packet), "{read:?}");

    let head = packet.get(..HEAD_LEN).unwrap_or(packet);
    assert_eq!(inspect(head, packet.len()), read, "only the head is read");
    if let Ok(info) = read {
        assert!((20..=packet.len()).contains(&info.len) && info.header_len <= info.len);
        assert_eq!(inspect(packet, info.len), read, "the padding is not read");
        assert!(
            inspect(packet, info.len - 1).is_err(),
            "a byte less is too short"
        );
        assert_eq!(info.tos, info.dscp() << 2 | info.ecn());
    }
    pads(packet.len(), mtu);
}

fn pads(len: usize, mtu: usize) {
    let padded = padded_len(len, mtu);
    assert!(padded >= len && padded - len < 16);
    if mtu == 0 {
        assert_eq!(padded % 16, 0);
        return;
    }
    // All that can be said of one packet that fits: a multiple of 16, or cut at the MTU.
    if len <= mtu {
        assert!(
            padded == mtu || padded.is_multiple_of(16),
            "{len} {mtu} {padded}"
        );
        assert!(padded <= mtu);
    }
}

fn naive(packet: &[u8]) -> Option<IpInfo> {
    let word =
        |at: usize| Some(usize::from(*packet.get(at)?) << 8 | usize::from(*packet.get(at + 1)?));
    let address = |at: usize, n: usize| -> Option<IpAddr> {
        let bytes = packet.get(at..at + n)?;
        Some(match n {
            4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
            _ => <[u8; 16]>::try_from(bytes).ok()?.into(),
        })
    };
    let info = match packet.first()? >> 4 {
        4 => IpInfo {
            src: address(12, 4)?,
            dst: address(16, 4)?,
            len: word(2)?,
            header_len: usize::from(packet[0] & 15) * 4,
            tos: packet[1],
        },
        6 => IpInfo {
            src: address(8, 16)?,
            dst: address(24, 16)?,
            len: word(4)? + 40,
            header_len: 40,
            tos: u8::try_from(word(0)? >> 4 & 0xff).ok()?,
        },
        _ => return None,
    };
    let jumbo = info.header_len == 40 && packet[0] >> 4 == 6 && info.len == 40 && packet[6] == 0;
    let fits = info.header_len >= 20 && info.header_len <= info.len && info.len <= packet.len();
    (fits && !jumbo).then_some(info)
}
