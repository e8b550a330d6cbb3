// SPDX-License-Identifier: BSD-2-Clause
//! What needs no kernel: addresses, lines, error numbers.

use core::fmt::Write;
use core::net::SocketAddr;

use kpi::Errno;
use kpi::log::Line;
use kpi::net::{Family, SOCKADDR_IN_LEN, Show, decode_sockaddr, encode_sockaddr};

#[test]
fn sockaddr_round_trip() {
    for text in [
        "192.0.2.1:51820",
        "0.0.0.0:0",
        "[2001:db8::1]:1",
        "[fe80::1%7]:65535",
    ] {
        let addr: SocketAddr = text.parse().unwrap();
        let mut out = [0xaa; 28];
        let n = encode_sockaddr(&addr, &mut out);
        assert_eq!(decode_sockaddr(&out[..n]), Some(addr), "{text}");
        assert_eq!(n, usize::from(out[0]));
    }
}

#[test]
fn sockaddr_bytes() {
    let mut out = [0; 28];
    assert_eq!(
        encode_sockaddr(&"192.0.2.7:258".parse().unwrap(), &mut out),
        SOCKADDR_IN_LEN
    );
    assert_eq!(
        out[..16],
        [16, 2, 1, 2, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0]
    );
}

#[test]
fn bad_sockaddrs() {
    let mut good = [0; 28];
    let n = encode_sockaddr(&"[2001:db8::1]:1".parse().unwrap(), &mut good);
    for len in 0..n {
        assert_eq!(decode_sockaddr(&good[..len]), None, "{len} bytes");
    }
    for (len, family) in [(28, 2), (16, 28), (0, 28), (28, 0), (28, 30), (29, 28)] {
        let mut bad = good;
        (bad[0], bad[1]) = (len, family);
        assert_eq!(decode_sockaddr(&bad), None, "length {len}, family {family}");
    }
}

/// Inside the kernel the scope of a link-local address is in its second word.
#[test]
fn embedded_scope() {
    let mut bytes = [0; 28];
    encode_sockaddr(&"[fe80:5::1]:9".parse().unwrap(), &mut bytes);
    assert_eq!(
        decode_sockaddr(&bytes),
        Some("[fe80::1%5]:9".parse().unwrap())
    );
    encode_sockaddr(&"[2001:5::1]:9".parse().unwrap(), &mut bytes);
    assert_eq!(
        decode_sockaddr(&bytes),
        Some("[2001:5::1]:9".parse().unwrap())
    );
}

#[test]
fn shown_addresses() {
    for (text, want) in [
        ("192.0.2.1:51820", "192.0.2.1:51820"),
        ("[2001:db8::1]:1", "[2001:db8:0:0:0:0:0:1]:1"),
        ("[fe80::1%7]:65535", "[fe80:0:0:0:0:0:0:1%7]:65535"),
    ] {
        assert_eq!(Show(&text.parse().unwrap()).to_string(), want);
    }
}

#[test]
fn lines_are_cut() {
    let mut line = Line::new();
    for _ in 0..100 {
        assert!(line.write_str("0123456789").is_ok());
    }
    assert_eq!(line.as_bytes().len(), Line::CAPACITY);
    assert!(line.as_bytes().starts_with(b"01234567890123"));
}

#[test]
fn errnos() {
    assert_eq!(Errno::check(0), Ok(()));
    assert_eq!(Errno::check(22), Err(Errno::EINVAL));
    assert_eq!(Errno::from_result(Err(Errno::ENOBUFS)), 55);
    assert_eq!(Errno::check(12345).map_err(Errno::to_raw), Err(12345));
    assert_eq!(
        (format!("{}", Errno::ELOOP), Errno::ENOTRECOVERABLE.to_raw()),
        ("ELOOP".into(), 95)
    );
    assert_eq!(Family::from_af(28), Some(Family::V6));
    assert_eq!(Family::of_version(0x45), Some(Family::V4));
    assert_eq!(Family::of_version(0x50), None);
}
