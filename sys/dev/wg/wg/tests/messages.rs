// SPDX-License-Identifier: BSD-2-Clause
//! Parsing is total; the constants are those of the paper.

mod common;

use common::TestRng;
use wg::messages::*;
use wg::wg_crypto::Rng;

fn kind(m: &Message<'_>) -> u32 {
    match m {
        Message::Initiation(_) => 1,
        Message::Response(_) => 2,
        Message::CookieReply(_) => 3,
        Message::Data(_) => 4,
    }
}

/// WireGuard paper, section 6.1, and the figures of section 5.4.
#[test]
fn constants() {
    let s = 1_000_000_000;
    assert_eq!(REKEY_AFTER_MESSAGES, 1u64 << 60);
    assert_eq!(
        u128::from(REJECT_AFTER_MESSAGES),
        (1u128 << 64) - (1 << 13) - 1
    );
    assert_eq!(REKEY_AFTER_TIME, 120 * s);
    assert_eq!(REJECT_AFTER_TIME, 180 * s);
    assert_eq!(REKEY_ATTEMPT_TIME, 90 * s);
    assert_eq!(REKEY_TIMEOUT, 5 * s);
    assert_eq!(KEEPALIVE_TIMEOUT, 10 * s);
    assert_eq!(REKEY_ON_RECEIVE_TIME, 165 * s);
    assert_eq!(COOKIE_SECRET_LIFETIME, 120 * s);
    assert_eq!(COOKIE_USE_TIME, 115 * s);
    assert_eq!(INITIATION_INTERVAL, s / 50);
    assert_eq!(
        [INITIATION_LEN, RESPONSE_LEN, COOKIE_REPLY_LEN, DATA_MIN_LEN],
        [148, 92, 64, 32]
    );
}

/// Every type byte (known or not) at every length up to past the longest message.
#[test]
fn every_type_and_length() {
    let types = if cfg!(miri) { 0..=5u8 } else { 0..=255 };
    for first in types {
        // Under Miri around the lengths that matter.
        let near = |len: &usize| {
            [2usize, 32, 64, 92, 148]
                .iter()
                .any(|l| l.abs_diff(*len) <= 2)
        };
        for len in (0..=200).filter(|len| !cfg!(miri) || near(len)) {
            let mut bytes = vec![0xa5; len];
            bytes
                .iter_mut()
                .zip([first, 0, 0, 0])
                .for_each(|(b, t)| *b = t);
            let expected = match (first, len) {
                (_, 0..4) => Err(ParseError::Type),
                (1, 148) => Ok(1),
                (2, 92) => Ok(2),
                (3, 64) => Ok(3),
                (4, 32..) => Ok(4),
                (1..=4, _) => Err(ParseError::Length),
                _ => Err(ParseError::Type),
            };
            assert_eq!(
                Message::parse(&bytes).map(|m| kind(&m)),
                expected,
                "{first} {len}"
            );
        }
    }
}

#[test]
fn reserved_bytes_are_zero() {
    for len in [148, 92, 64, 32] {
        for kind in 1..=4 {
            for at in 1..4 {
                let mut bytes = vec![0; len];
                bytes[0] = kind;
                bytes[at] = 1;
                assert_eq!(Message::parse(&bytes).err(), Some(ParseError::Type));
                assert_eq!(DataHeader::peek(&bytes), None);
            }
        }
    }
}

/// The fields of each message cover it without gap or overlap, in the order of the paper.
#[test]
fn fields_are_in_place() {
    let bytes: Vec<u8> = (0..148).collect();
    let at = |kind: u8, len: usize| {
        let mut b = bytes[..len].to_vec();
        b[..4].copy_from_slice(&[kind, 0, 0, 0]);
        b
    };
    let index = |i: u8| u32::from_le_bytes([i, i + 1, i + 2, i + 3]);

    let b = at(1, 148);
    let m = Initiation::parse(&b).unwrap();
    assert_eq!(m.sender(), index(4));
    assert_eq!(m.ephemeral()[..], b[8..40]);
    assert_eq!(m.sealed_static()[..], b[40..88]);
    assert_eq!(m.sealed_timestamp()[..], b[88..116]);
    assert_eq!((&m.mac1()[..], &m.mac2()[..]), (&b[116..132], &b[132..]));
    assert_eq!(m.bytes()[..], b);

    let b = at(2, 92);
    let m = Response::parse(&b).unwrap();
    assert_eq!((m.sender(), m.receiver()), (index(4), index(8)));
    assert_eq!(m.ephemeral()[..], b[12..44]);
    assert_eq!(m.sealed_empty()[..], b[44..60]);
    assert_eq!((&m.mac1()[..], &m.mac2()[..]), (&b[60..76], &b[76..]));

    let b = at(3, 64);
    let m = CookieReply::parse(&b).unwrap();
    assert_eq!(m.receiver(), index(4));
    assert_eq!(
        (&m.nonce()[..], &m.sealed_cookie()[..]),
        (&b[8..32], &b[32..])
    );

    let b = at(4, 40);
    let Ok(Message::Data(m)) = Message::parse(&b) else {
        panic!("not a data message")
    };
    assert_eq!(m.header.receiver, index(4));
    assert_eq!(
        m.header.counter,
        u64::from_le_bytes(b[8..16].try_into().unwrap())
    );
    assert_eq!(m.sealed, &b[16..]);
    assert_eq!(m.header.to_bytes()[..], b[..16]);
    assert_eq!(DataHeader::peek(&b), Some(m.header));
}

#[test]
fn random_bytes_never_panic() {
    let mut rng = TestRng::new(4);
    for _ in 0..if cfg!(miri) { 30 } else { 100_000 } {
        let mut bytes = vec![0; (rng.next() % 180) as usize];
        rng.fill(&mut bytes);
        if let Some(b) = bytes.first_mut() {
            *b %= 6;
        }
        if rng.next().is_multiple_of(2) {
            bytes.iter_mut().skip(1).take(3).for_each(|b| *b = 0);
        }
        let _ = Message::parse(&bytes);
    }
}

/// Robustness: padding is to 16 bytes and never past the MTU.
#[test]
fn padding() {
    let step = if cfg!(miri) { 397 } else { 1 };
    for mtu in [0, 1, 15, 16, 17, 1280, 1420, 1423, 65455] {
        for len in (0..3000).step_by(step).chain([1419, 1420, 1421, 65535]) {
            let padded = padded_len(len, mtu);
            assert!(padded >= len && padded - len < PADDING, "{len} {mtu}");
            if mtu == 0 || len.next_multiple_of(16) <= mtu {
                assert_eq!(padded, len.next_multiple_of(16), "{len} {mtu}");
            }
            if len <= mtu {
                assert!(padded <= mtu, "{len} {mtu}");
            }
        }
    }
    assert_eq!(padded_len(1420, 1420), 1420);
    assert_eq!(padded_len(1419, 1420), 1420);
    assert_eq!(padded_len(0, 1420), 0);
    // The last unit of an oversized packet is what is padded.
    assert_eq!(padded_len(1421, 1420), 1420 + 16);
    assert_eq!(padded_len(usize::MAX, 0), usize::MAX);
}
