// SPDX-License-Identifier: BSD-2-Clause
//! Configuration requests and replies.

mod common;

use std::net::SocketAddr;

use common::{Raw, V1, hex, packed};
use nv::wgconf::{
    AllowedIp, GetInterface, GetPeer, GetReply, SetInterface, SetPeer, SetRequest, get_size,
    get_write, set_size, set_write,
};
use nv::{FnSink, SliceSink, WriteError, Writer};

const EINVAL: i32 = 22;
const EBADMSG: i32 = 89;
const EOPNOTSUPP: i32 = 45;

/// The error of a request: number and place.
fn error(bytes: &[u8]) -> (i32, String) {
    match SetRequest::parse(bytes) {
        Ok(_) => (0, String::new()),
        Err(e) => (e.errno(), e.field().to_string()),
    }
}

fn outer(body: impl FnMut(&mut Writer<'_>) -> Result<(), WriteError>) -> (i32, String) {
    error(&packed(body))
}

/// A request with a good peer and then one that `body` writes, which has a key already.
fn with_peer(mut body: impl FnMut(&mut Writer<'_>) -> Result<(), WriteError>) -> Vec<u8> {
    packed(|w| {
        w.begin_array("peers", 2)?;
        w.begin_element()?;
        w.binary("public-key", &[1; 32])?;
        w.end_element()?;
        w.begin_element()?;
        w.binary("public-key", &[2; 32])?;
        body(w)?;
        w.end_element()
    })
}

fn with_ip(mut body: impl FnMut(&mut Writer<'_>) -> Result<(), WriteError>) -> Vec<u8> {
    with_peer(|w| {
        w.begin_array("allowed-ips", 2)?;
        w.begin_element()?;
        w.end_element()?;
        w.begin_element()?;
        body(w)?;
        w.end_element()
    })
}

#[test]
fn v1() {
    let bytes = hex(V1);
    let set = SetRequest::parse(&bytes).unwrap();
    assert_eq!(set.listen_port, Some(51820));
    assert!(set.replace_peers);
    assert!(set.private_key.is_none() && set.user_cookie.is_none());
    assert_eq!(set.peer_count(), 1);
    let peer = set.peers().next().unwrap();
    assert_eq!(peer.public_key[31], 32);
    assert!(!peer.remove && !peer.replace_allowed_ips && !peer.update_only);
    let ips: Vec<_> = peer.allowed_ips().collect();
    let ip = |addr: &str, cidr| AllowedIp {
        addr: addr.parse().unwrap(),
        cidr,
        remove: false,
    };
    assert_eq!(ips, [ip("10.0.0.0", 24), ip("fd00::", 8)]);
}

#[test]
fn no_bit_flip_panics() {
    let bytes = hex(V1);
    for bit in (0..bytes.len() * 8).step_by(common::STRIDE) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let verdict = error(&flipped);
        assert_eq!(verdict, error(&flipped));
        if let Ok(set) = SetRequest::parse(&flipped) {
            let n: usize = set.peers().map(|p| p.allowed_ips().count()).sum();
            assert!(n <= 2);
        }
        if let Ok(get) = GetReply::parse(&flipped) {
            assert!(get.peers().map(|p| p.allowed_ips().count()).sum::<usize>() <= 2);
        }
    }
}

#[test]
fn interface_keys() {
    assert_eq!(outer(|_| Ok(())), (0, "".into()));
    assert_eq!(outer(|w| w.number("listen-port", 65535)).0, 0);
    assert_eq!(
        outer(|w| w.number("listen-port", 65536)),
        (EINVAL, "listen-port".into())
    );
    assert_eq!(outer(|w| w.number("user-cookie", 0xffff_ffff)).0, 0);
    assert_eq!(
        outer(|w| w.number("user-cookie", 1 << 32)),
        (EINVAL, "user-cookie".into())
    );
    assert_eq!(
        outer(|w| w.binary("private-key", &[0; 31])),
        (EINVAL, "private-key".into())
    );
    assert_eq!(error(b"nonsense"), (EBADMSG, "".into()));
    assert_eq!(error(b""), (EBADMSG, "".into()));

    let bytes = packed(|w| w.binary("private-key", &[0; 32]));
    assert_eq!(
        SetRequest::parse(&bytes).unwrap().private_key,
        Some(&[0; 32])
    );

    // Wrong types and unknown names.
    let bytes = packed(|w| {
        w.binary("listen-port", &[1, 2])?;
        w.number("private-key", 1)?;
        w.string("user-cookie", "x")?;
        w.number("replace-peers", 1)?;
        w.boolean("peers", true)?;
        w.number("jc", 1)
    });
    let set = SetRequest::parse(&bytes).unwrap();
    assert!(!set.replace_peers && set.listen_port.is_none() && set.private_key.is_none());
    assert!(set.user_cookie.is_none() && set.peers().next().is_none());
}

#[test]
fn peer_keys() {
    let bad = |key: &str| (EINVAL, format!("peers[1].{key}"));
    assert_eq!(error(&with_peer(|_| Ok(()))).0, 0);
    assert_eq!(
        error(&with_peer(|w| w.binary("preshared-key", &[0; 33]))),
        bad("preshared-key")
    );
    let keepalive = "persistent-keepalive-interval";
    assert_eq!(
        error(&with_peer(|w| w.number(keepalive, 65536))),
        bad(keepalive)
    );
    assert_eq!(error(&with_peer(|w| w.number(keepalive, 65535))).0, 0);
    assert_eq!(
        error(&with_peer(|w| w.binary("endpoint", &[0; 29]))),
        bad("endpoint")
    );

    // The rest of a removal is not looked at.
    let bytes = with_peer(|w| {
        w.boolean("remove", true)?;
        w.boolean("replace-allowedips", true)?;
        w.binary("endpoint", &[1])?;
        w.begin_array("allowed-ips", 1)?;
        w.begin_element()?;
        w.number("flags", 2)?;
        w.end_element()
    });
    let peer = SetRequest::parse(&bytes).unwrap().peers().last().unwrap();
    assert!(peer.remove && !peer.replace_allowed_ips && peer.allowed_ips().next().is_none());

    // No public key, of the wrong type, of the wrong size.
    type Body = fn(&mut Writer<'_>) -> Result<(), WriteError>;
    let keys: [Body; 3] = [
        |_| Ok(()),
        |w| w.number("public-key", 1),
        |w| w.binary("public-key", &[1; 31]),
    ];
    for key in keys {
        let verdict = outer(|w| {
            w.begin_array("peers", 1)?;
            w.begin_element()?;
            key(w)?;
            w.end_element()
        });
        assert_eq!(verdict, (EINVAL, "peers[0].public-key".into()));
    }
}

#[test]
fn endpoints() {
    let v4 = [16, 2, 0x12, 0x34, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut v6 = [0u8; 28];
    v6[..4].copy_from_slice(&[28, 28, 0x12, 0x34]);
    v6[8..12].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    v6[23] = 1;
    v6[24..].copy_from_slice(&7u32.to_ne_bytes());
    let read = |b: &[u8]| {
        let bytes = with_peer(|w| w.binary("endpoint", b));
        SetRequest::parse(&bytes)
            .ok()
            .and_then(|s| s.peers().last())
            .and_then(|p| p.endpoint)
    };
    assert_eq!(read(&v4), Some("192.0.2.1:4660".parse().unwrap()));
    assert_eq!(read(&v6), Some("[2001:db8::1%7]:4660".parse().unwrap()));
    let change = |b: &[u8], at: usize, to: u8| {
        let mut b = b.to_vec();
        b[at] = to;
        b
    };
    for (at, to) in [(0, 0), (0, 28), (1, 0), (1, 28), (1, 10)] {
        assert_eq!(read(&change(&v4, at, to)), None, "{at} {to}");
    }
    for (at, to) in [(0, 16), (1, 2), (1, 10)] {
        assert_eq!(read(&change(&v6, at, to)), None, "{at} {to}");
    }
    let no_port = change(&change(&v4, 2, 0), 3, 0);
    assert_eq!(read(&no_port), None);
    assert_eq!(read(&v4[..15]), None);
    assert_eq!(read(&v6[..16]), None);
    assert_eq!(read(&[16]), None);
    for addr in ["198.51.100.7:1", "[fe80::1%3]:65535", "[2001:db8::]:9"] {
        let addr: SocketAddr = addr.parse().unwrap();
        assert_eq!(nv::wgconf::endpoint_bytes(&addr, read), Some(addr));
    }
}

#[test]
fn allowed_ips() {
    let bad = |errno, key: &str| (errno, format!("peers[1].allowed-ips[1].{key}"));
    let ip4 = |cidr, flags: Option<u64>| {
        with_ip(move |w| {
            if let Some(flags) = flags {
                w.number("flags", flags)?;
            }
            w.number("cidr", cidr)?;
            w.binary("ipv4", &[10, 1, 2, 3])
        })
    };
    let ip6 = |cidr| {
        with_ip(move |w| {
            w.binary("ipv6", &[9; 16])?;
            w.number("cidr", cidr)
        })
    };
    assert_eq!(error(&ip4(32, None)).0, 0);
    assert_eq!(error(&ip4(33, None)), bad(EINVAL, "cidr"));
    assert_eq!(error(&ip4(256 + 24, None)), bad(EINVAL, "cidr"));
    assert_eq!(error(&ip6(128)).0, 0);
    assert_eq!(error(&ip6(129)), bad(EINVAL, "cidr"));
    assert_eq!(error(&ip4(24, Some(1))).0, 0);
    assert_eq!(error(&ip4(24, Some(2))), bad(EOPNOTSUPP, "flags"));
    assert_eq!(
        error(&ip4(240, Some(3))),
        bad(EOPNOTSUPP, "flags"),
        "before the address"
    );
    let size = with_ip(|w| {
        w.number("cidr", 1)?;
        w.binary("ipv4", &[0; 5])
    });
    assert_eq!(error(&size), bad(EINVAL, "ipv4"));
    let size = with_ip(|w| {
        w.number("cidr", 1)?;
        w.binary("ipv6", &[0; 4])
    });
    assert_eq!(error(&size), bad(EINVAL, "ipv6"));

    let read = |bytes: &[u8]| -> Vec<AllowedIp> {
        SetRequest::parse(bytes)
            .unwrap()
            .peers()
            .last()
            .unwrap()
            .allowed_ips()
            .collect()
    };
    let ip = |addr: &str, cidr, remove| AllowedIp {
        addr: addr.parse().unwrap(),
        cidr,
        remove,
    };
    assert_eq!(read(&ip4(24, Some(1))), [ip("10.1.2.3", 24, true)]);
    assert_eq!(read(&ip4(0, Some(0))), [ip("10.1.2.3", 0, false)]);
    assert_eq!(read(&with_ip(|w| w.number("cidr", 200))), [], "no address");
    assert_eq!(
        read(&with_ip(|w| w.binary("ipv4", &[1; 9]))),
        [],
        "no length"
    );
    let both = with_ip(|w| {
        w.binary("ipv6", &[1; 3])?;
        w.binary("ipv4", &[10, 0, 0, 1])?;
        w.number("cidr", 32)
    });
    assert_eq!(read(&both), [ip("10.0.0.1", 32, false)], "ipv4 wins");
}

/// A message that announces peers and ends: libnv takes the missing ones as empty, so they lack a key.
#[test]
fn missing_peers() {
    let mut raw = Raw::default();
    raw.header(0)
        .array("peers", 2)
        .header(0)
        .value(7, "public-key", &[1; 32]);
    assert_eq!(error(&raw.finish()), (EINVAL, "peers[1].public-key".into()));
}

#[test]
fn set_round_trip() {
    let key = |n| [n; 32];
    let (private, a, b, psk) = (key(9), key(1), key(2), key(3));
    let endpoint = "[2001:db8::1]:51820".parse().unwrap();
    let ips = [
        AllowedIp {
            addr: "10.0.0.0".parse().unwrap(),
            cidr: 8,
            remove: false,
        },
        AllowedIp {
            addr: "fd00::1".parse().unwrap(),
            cidr: 128,
            remove: true,
        },
    ];
    let mut body = |w: &mut nv::wgconf::SetWriter<'_, '_>| {
        w.interface(&SetInterface {
            replace_peers: true,
            listen_port: Some(0),
            private_key: Some(&private),
            user_cookie: Some(5),
        })?;
        w.peers(2)?;
        let peer = SetPeer {
            replace_allowed_ips: true,
            update_only: true,
            endpoint: Some(endpoint),
            preshared_key: Some(&psk),
            keepalive: Some(25),
            ..SetPeer::new(&a)
        };
        w.begin_peer(&peer, ips.len())?;
        ips.iter().try_for_each(|ip| w.allowed_ip(ip))?;
        w.end_peer()?;
        w.begin_peer(
            &SetPeer {
                remove: true,
                ..SetPeer::new(&b)
            },
            0,
        )?;
        w.end_peer()
    };
    let size = set_size(&mut body).unwrap();
    let mut bytes = vec![0; size];
    set_write(&mut SliceSink::new(&mut bytes), size, &mut body).unwrap();
    let set = SetRequest::parse(&bytes).unwrap();
    assert!(set.replace_peers);
    assert_eq!((set.listen_port, set.user_cookie), (Some(0), Some(5)));
    assert_eq!(set.private_key, Some(&private));
    let peers: Vec<_> = set.peers().collect();
    assert_eq!(peers.len(), 2);
    assert_eq!((peers[0].public_key, peers[1].public_key), (&a, &b));
    assert!(peers[0].replace_allowed_ips && peers[0].update_only && !peers[0].remove);
    assert_eq!(peers[0].endpoint, Some(endpoint));
    assert_eq!(
        (peers[0].preshared_key, peers[0].keepalive),
        (Some(&psk), Some(25))
    );
    assert!(peers[0].allowed_ips().eq(ips));
    assert!(peers[1].remove);
}

#[test]
fn get_round_trip() {
    let key = |n| [n; 32];
    let (private, public, a, b, psk) = (key(9), key(8), key(1), key(2), key(3));
    let many: u32 = if cfg!(miri) { 50 } else { 65_536 };
    let mut body = |w: &mut nv::wgconf::GetWriter<'_, '_>| {
        w.interface(&GetInterface {
            listen_port: 51820,
            user_cookie: 7,
            public_key: Some(&public),
            private_key: Some(&private),
        })?;
        w.peers(2)?;
        let mut peer = GetPeer {
            public_key: &a,
            preshared_key: Some(&psk),
            endpoint: Some("192.0.2.1:9".parse().unwrap()),
            keepalive: 25,
            last_handshake: (1_700_000_000, 999_999_999),
            rx_bytes: 1 << 40,
            tx_bytes: 1 << 41,
        };
        w.begin_peer(&peer, many as usize)?;
        for i in 0..many {
            w.allowed_ip(std::net::Ipv4Addr::from(i).into(), 32)?;
        }
        w.end_peer()?;
        (peer.public_key, peer.preshared_key, peer.endpoint) = (&b, None, None);
        w.begin_peer(&peer, 0)?;
        w.end_peer()
    };
    let size = get_size(&mut body).unwrap();
    let mut bytes = vec![0; size];
    get_write(&mut SliceSink::new(&mut bytes), size, &mut body).unwrap();
    let short = get_write(&mut SliceSink::new(&mut bytes[..size - 1]), size, &mut body);
    assert_eq!(short, Err(WriteError::NoSpace));
    get_write(&mut SliceSink::new(&mut bytes), size, &mut body).unwrap();

    let get = GetReply::parse(&bytes).unwrap();
    assert_eq!((get.listen_port, get.user_cookie), (51820, 7));
    assert_eq!(
        (get.public_key, get.private_key),
        (Some(&public), Some(&private))
    );
    assert_eq!(get.peer_count(), 2);
    let peers: Vec<_> = get.peers().collect();
    let p = peers[0].peer;
    assert_eq!(
        (p.public_key, p.preshared_key, p.keepalive),
        (&a, Some(&psk), 25)
    );
    assert_eq!(p.endpoint, Some("192.0.2.1:9".parse().unwrap()));
    assert_eq!(p.last_handshake, (1_700_000_000, 999_999_999));
    assert_eq!((p.rx_bytes, p.tx_bytes), (1 << 40, 1 << 41));
    let expected = (0..many).map(|i| AllowedIp {
        addr: std::net::Ipv4Addr::from(i).into(),
        cidr: 32,
        remove: false,
    });
    assert!(peers[0].allowed_ips().eq(expected));
    assert!(peers[1].peer.endpoint.is_none() && peers[1].peer.preshared_key.is_none());
}

/// Sizes that abi documentation gives for budgeting.
#[test]
fn get_sizes() {
    assert_eq!(
        get_size(&mut |w| w.interface(&GetInterface::default())),
        Ok(19)
    );
    let port = GetInterface {
        listen_port: 1,
        ..GetInterface::default()
    };
    assert_eq!(get_size(&mut |w| w.interface(&port)), Ok(58));
    // A reply to which the caller's room is not enough names the right error.
    let mut sink = FnSink(|_: &[u8]| Err(WriteError::NoMemory));
    assert_eq!(
        get_write(&mut sink, 19, &mut |_| Ok(()))
            .unwrap_err()
            .errno(),
        12
    );
}
