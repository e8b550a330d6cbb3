// SPDX-License-Identifier: BSD-2-Clause
//! Inner IP packets and padding.

mod common;

use std::net::IpAddr;

use common::TestRng;
use wg::ip::{HEAD_LEN, IpError, inspect, padded_len};

fn v4(len: u16, ihl: u8) -> [u8; 20] {
    let [l0, l1] = len.to_be_bytes();
    let mut head = [0; 20];
    head[..9].copy_from_slice(&[0x40 | ihl, 0xb9, l0, l1, 0, 0, 0x20, 0, 64]);
    head[12..].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    head
}

fn v6(payload: u16, next: u8) -> [u8; 40] {
    let mut head = [0; 40];
    let [l0, l1] = payload.to_be_bytes();
    head[..8].copy_from_slice(&[0x6b, 0x91, 2, 3, l0, l1, next, 64]);
    head[8] = 0xfd;
    head[23] = 1;
    head[24] = 0xfd;
    head[39] = 2;
    head
}

#[test]
fn v4_fields() {
    // A fragment, at that.
    let info = inspect(&v4(100, 5), 112).unwrap();
    assert_eq!(info.src, "10.0.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(info.dst, "10.0.0.2".parse::<IpAddr>().unwrap());
    assert_eq!((info.len, info.header_len), (100, 20));
    assert_eq!((info.tos, info.dscp(), info.ecn()), (0xb9, 0x2e, 1));
    assert!(info.is_v4());
}

#[test]
fn v6_fields() {
    let info = inspect(&v6(60, 17), 112).unwrap();
    assert_eq!(info.src, "fd00::1".parse::<IpAddr>().unwrap());
    assert_eq!(info.dst, "fd00::2".parse::<IpAddr>().unwrap());
    assert_eq!((info.len, info.header_len), (100, 40));
    assert_eq!((info.tos, info.dscp(), info.ecn()), (0xb9, 0x2e, 1));
    assert!(!info.is_v4());
}

#[test]
fn lengths() {
    use IpError::*;
    let cases: [(&[u8], usize, Result<usize, IpError>); 24] = [
        (&[], 0, Err(Empty)),
        (&[], 20, Err(Truncated)),
        (&[0x45], 1, Err(Truncated)),
        (&[0x60; 39], 39, Err(Truncated)),
        (&[0x00; 40], 40, Err(Version)),
        (&[0x55; 40], 40, Err(Version)),
        (&[0xf0; 40], 40, Err(Version)),
        (&v4(20, 5), 20, Ok(20)),
        (&v4(20, 5), 32, Ok(20)),
        (&v4(20, 5)[..19], 20, Err(Truncated)),
        (&v4(21, 5), 20, Err(TotalLength)),
        (&v4(65535, 5), 65535, Ok(65535)),
        (&v4(65535, 5), 65534, Err(TotalLength)),
        (&v4(0, 5), 20, Err(HeaderLength)),
        (&v4(19, 5), 20, Err(HeaderLength)),
        (&v4(60, 15), 60, Ok(60)),
        (&v4(59, 15), 60, Err(HeaderLength)),
        (&v4(100, 4), 100, Err(HeaderLength)),
        (&v4(100, 0), 100, Err(HeaderLength)),
        (&v6(0, 59), 48, Ok(40)),
        (&v6(0, 0), 48, Err(Jumbogram)),
        (&v6(8, 0), 48, Ok(48)),
        (&v6(9, 17), 48, Err(TotalLength)),
        (&v6(65535, 17), 65575, Ok(65575)),
    ];
    for (i, (head, len, expected)) in cases.into_iter().enumerate() {
        assert_eq!(inspect(head, len).map(|i| i.len), expected, "case {i}");
    }
}

#[test]
fn total() {
    let mut rng = TestRng::new(1);
    for _ in 0..if cfg!(miri) { 200 } else { 200_000 } {
        let mut bytes = [0; HEAD_LEN];
        bytes.iter_mut().for_each(|b| *b = rng.next() as u8);
        bytes[0] = bytes[0] & 0x0f | [0x40, 0x60][rng.next() as usize % 2];
        let n = rng.next() as usize % (HEAD_LEN + 1);
        let len = rng.next() as usize % 70_000;
        if let Ok(info) = inspect(&bytes[..n], len) {
            assert!(info.len <= len && info.header_len <= info.len);
            assert_eq!(info.src.is_ipv4(), info.dst.is_ipv4());
        }
    }
}

#[test]
fn padding() {
    let cases = [
        (0, 1420, 0),
        (1, 1420, 16),
        (15, 1420, 16),
        (16, 1420, 16),
        (17, 1420, 32),
        (1408, 1420, 1408),
        (1409, 1420, 1420),
        (1419, 1420, 1420),
        (1420, 1420, 1420),
        // Longer than the MTU: the last piece counts.
        (1421, 1420, 1436),
        (2840, 1420, 2840),
        (2841, 1420, 2856),
        (2839, 1420, 2840),
        // No limit.
        (0, 0, 0),
        (1, 0, 16),
        (65535, 0, 65536),
        (usize::MAX, 0, usize::MAX),
        (usize::MAX, 1420, usize::MAX),
        // The MTU not a multiple, tiny, or huge.
        (30, 31, 31),
        (5, 7, 7),
        (1, 1, 1),
        (9, 1, 9),
        (1, usize::MAX, 16),
        (65535, 65535, 65535),
        (9000, 9000, 9000),
        (8990, 9000, 8992),
    ];
    for (len, mtu, expected) in cases {
        assert_eq!(padded_len(len, mtu), expected, "{len} at {mtu}");
    }
    for mtu in [0usize, 1, 16, 576, 1280, 1419, 1420] {
        for len in 0..=2000 {
            let padded = padded_len(len, mtu);
            assert!(padded >= len && padded < len + 16);
            if mtu == 0 || len <= mtu {
                assert!(padded.is_multiple_of(16) || padded == mtu);
                assert!(mtu == 0 || padded <= mtu);
            }
        }
    }
}
