// SPDX-License-Identifier: BSD-2-Clause
//! The generic netlink back end without a kernel: vectors, and replies that make no sense.
#![cfg(target_os = "linux")]

mod model;

use std::net::{IpAddr, SocketAddr};

use wgtools::backend::genetlink::message::{Message, Replies};
use wgtools::backend::genetlink::read::{Assembler, wireguard_link};
use wgtools::backend::genetlink::write::Requests;
use wgtools::change::{AllowedIpChange, Change, PeerChange};
use wgtools::device::Device;
use wgtools::key::{PublicKey, SecretKey};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn requests(change: &Change, limit: usize) -> Vec<Vec<u8>> {
    let mut requests = Requests::new(27, "wg0", change, limit).unwrap();
    let mut messages = Vec::new();
    while let Some(mut message) = requests.next_message() {
        messages.push(message.finish(messages.len() as u32 + 1).to_vec());
    }
    messages
}

/// An attribute as the kernel lays it out, written down once more.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = (value.len() as u16 + 4).to_ne_bytes().to_vec();
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn nest(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    let mut out = attribute(kind | 0x8000, &parts.concat());
    let len = parts.concat().len() as u16 + 4;
    out[..2].copy_from_slice(&len.to_ne_bytes());
    out
}

/// A message with its header.
fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32 + 16).to_ne_bytes().to_vec();
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend([0; 4]);
    out.extend(payload);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// The bytes of a request with everything in it. Little-endian, as on the machines that these tests run on.
#[test]
#[cfg(target_endian = "little")]
fn a_request_byte_by_byte() {
    let mut peer = PeerChange::new(PublicKey([0x11; 32]));
    peer.update_only = true;
    peer.replace_allowed_ips = true;
    peer.preshared_key = Some(SecretKey::new(&[0x22; 32]));
    peer.endpoint = Some("192.0.2.1:51820".parse().unwrap());
    peer.persistent_keepalive = Some(25);
    peer.allowed_ips = vec![
        AllowedIpChange {
            ip: "10.0.0.0".parse().unwrap(),
            cidr: 8,
            remove: false,
        },
        AllowedIpChange {
            ip: "fd00::".parse().unwrap(),
            cidr: 7,
            remove: true,
        },
    ];
    let mut gone = PeerChange::new(PublicKey([0x33; 32]));
    gone.remove = true;
    gone.endpoint = Some("192.0.2.1:1".parse().unwrap());
    let change = Change {
        private_key: Some(SecretKey::new(&[0x44; 32])),
        listen_port: Some(51820),
        fwmark: Some(0x1234),
        replace_peers: true,
        peers: vec![peer, gone],
    };
    let expected = hex(&format!(
        "4c010000 1b00 0500 01000000 00000000   01 01 0000
         0800 0200 77673000
         2400 0300 {k44}
         0600 0600 6cca 0000
         0800 0700 34120000
         0800 0500 01000000
         f400 0880
           c000 0080
             2400 0100 {k11}
             0800 0300 06000000
             2400 0200 {k22}
             1400 0400 0200 ca6c c0000201 0000000000000000
             0600 0500 1900 0000
             5000 0980
               1c00 0080  0600 0100 0200 0000  0800 0200 0a000000  0500 0300 08 000000
               3000 0080  0600 0100 0a00 0000  1400 0200 fd000000000000000000000000000000
                          0500 0300 07 000000  0800 0400 01000000
           3000 0080
             2400 0100 {k33}
             0800 0300 01000000",
        k11 = "11".repeat(32),
        k22 = "22".repeat(32),
        k33 = "33".repeat(32),
        k44 = "44".repeat(32),
    ));
    let messages = requests(&change, usize::MAX);
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0], expected);
}

#[test]
fn an_empty_change_is_still_one_request() {
    let messages = requests(&Change::default(), usize::MAX);
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].len(), 16 + 4 + 8);
}

#[test]
fn names_are_checked() {
    let change = Change::default();
    let refused = |name: &str| {
        Requests::new(27, name, &change, 4096)
            .err()
            .unwrap()
            .raw_os_error()
    };
    assert_eq!(refused("a\0b"), Some(22));
    assert_eq!(refused(&"x".repeat(300)), Some(34));
    let mut message = Message::generic(1, 0, 0, 1);
    assert!(
        message.name(2, "sixteen-letters-").is_ok(),
        "the kernel says what is wrong with it"
    );
}

/// Endpoints of a family that this knows in the form that Linux has.
#[test]
fn ipv6_endpoint() {
    let mut peer = PeerChange::new(PublicKey([1; 32]));
    peer.endpoint = Some(SocketAddr::V6(std::net::SocketAddrV6::new(
        "fe80::1".parse().unwrap(),
        51820,
        0,
        7,
    )));
    let change = Change {
        peers: vec![peer],
        ..Change::default()
    };
    let bytes = &requests(&change, usize::MAX)[0];
    let tail = &bytes[bytes.len() - 28..];
    let mut expected = 10u16.to_ne_bytes().to_vec();
    expected.extend([0xca, 0x6c, 0, 0, 0, 0, 0xfe, 0x80]);
    expected.extend([0; 13]);
    expected.push(1);
    expected.extend(7u32.to_ne_bytes());
    assert_eq!(tail, expected);
    // And back.
    let peers = [nest(0, &[attribute(1, &[1; 32]), attribute(4, tail)])];
    let device = assembled(&[vec![nest(8, &peers)]]).unwrap();
    assert_eq!(device.peers[0].endpoint, change.peers[0].endpoint);
}

fn assembled(messages: &[Vec<Vec<u8>>]) -> std::io::Result<Device> {
    let mut assembler = Assembler::new("asked");
    for attributes in messages {
        assembler.add(&[vec![0, 1, 0, 0], attributes.concat()].concat())?;
    }
    Ok(assembler.finish())
}

fn prefix(ip: &str, cidr: u8) -> Vec<u8> {
    let (family, address) = match ip.parse().unwrap() {
        IpAddr::V4(v4) => (2u16, v4.octets().to_vec()),
        IpAddr::V6(v6) => (10u16, v6.octets().to_vec()),
    };
    nest(
        0,
        &[
            attribute(3, &[cidr]),
            attribute(1, &family.to_ne_bytes()),
            attribute(2, &address),
        ],
    )
}

/// Lists that go on: a peer's allowed IPs over three messages, and peers after it.
#[test]
fn a_dump_in_pieces() {
    let time = [1_700_000_000u64.to_ne_bytes(), 5u64.to_ne_bytes()].concat();
    let whole = nest(
        0,
        &[
            attribute(1, &[1; 32]),
            attribute(2, &[0; 32]),
            attribute(6, &time),
            attribute(5, &25u16.to_ne_bytes()),
            attribute(8, &7u64.to_ne_bytes()),
            attribute(7, &9u64.to_ne_bytes()),
            attribute(10, &1u32.to_ne_bytes()),
            nest(9, &[prefix("10.0.0.0", 8)]),
        ],
    );
    let more = |ips: &[Vec<u8>]| nest(0, &[attribute(1, &[1; 32]), nest(9, ips)]);
    let psk = nest(
        0,
        &[
            attribute(1, &[2; 32]),
            attribute(2, &[3; 32]),
            attribute(6, &[0; 16]),
        ],
    );
    let device = assembled(&[
        vec![
            attribute(6, &51820u16.to_ne_bytes()),
            attribute(7, &9u32.to_ne_bytes()),
            attribute(1, &4u32.to_ne_bytes()),
            attribute(2, b"wg7\0"),
            attribute(3, &[4; 32]),
            attribute(4, &[5; 32]),
            nest(8, &[whole]),
        ],
        vec![nest(8, &[more(&[prefix("fd00::", 8)])])],
        vec![nest(
            8,
            &[more(&[prefix("10.1.0.0", 16), prefix("10.2.0.0", 16)]), psk],
        )],
    ])
    .unwrap();
    assert_eq!(
        (&*device.name, device.listen_port, device.fwmark),
        ("wg7", 51820, 9)
    );
    assert_eq!(device.private_key.as_ref().unwrap().bytes(), &[4; 32]);
    assert_eq!(device.public_key, Some(PublicKey([5; 32])));
    let [first, second] = &device.peers[..] else {
        panic!("{} peers", device.peers.len())
    };
    assert!(first.preshared_key.is_none(), "zeros are none");
    assert_eq!(first.last_handshake, Some((1_700_000_000, 5)));
    assert_eq!(
        (first.persistent_keepalive, first.tx_bytes, first.rx_bytes),
        (25, 7, 9)
    );
    let ips: Vec<_> = first
        .allowed_ips
        .iter()
        .map(|p| format!("{}/{}", p.ip, p.cidr))
        .collect();
    assert_eq!(
        ips,
        ["10.0.0.0/8", "fd00::/8", "10.1.0.0/16", "10.2.0.0/16"]
    );
    assert_eq!(second.preshared_key.as_ref().unwrap().bytes(), &[3; 32]);
    assert_eq!(second.last_handshake, None);
    assert!(second.endpoint.is_none() && second.allowed_ips.is_empty());
}

#[test]
fn values_that_make_no_sense() {
    let key = || attribute(1, &[1; 32]);
    let in_peer = |parts: &[Vec<u8>]| vec![nest(8, &[nest(0, parts)])];
    let in_ip = |parts: &[Vec<u8>]| in_peer(&[key(), nest(9, &[nest(0, parts)])]);
    let (family, v4) = (
        attribute(1, &2u16.to_ne_bytes()),
        attribute(2, &[10, 0, 0, 0]),
    );
    let bad: Vec<Vec<Vec<u8>>> = vec![
        vec![attribute(3, &[0; 31])],
        vec![attribute(4, &[0; 33])],
        vec![attribute(6, &[0; 4])],
        vec![attribute(7, &[0; 2])],
        vec![attribute(2, b"no end")],
        in_peer(&[attribute(2, &[0; 32])]),
        in_peer(&[attribute(1, &[1; 16])]),
        in_peer(&[key(), attribute(2, &[0; 1])]),
        in_peer(&[key(), attribute(5, &[0; 4])]),
        in_peer(&[key(), attribute(6, &[0; 8])]),
        in_peer(&[key(), attribute(6, &[0xff; 16])]),
        in_peer(&[key(), attribute(7, &[0; 4])]),
        in_ip(&[family.clone(), v4.clone()]),
        in_ip(&[attribute(3, &[8]), v4.clone()]),
        in_ip(&[attribute(3, &[8]), family.clone()]),
        in_ip(&[attribute(3, &[33]), family.clone(), v4.clone()]),
        in_ip(&[attribute(3, &[8]), family, attribute(2, &[0; 16])]),
        in_ip(&[
            attribute(3, &[8]),
            attribute(1, &10u16.to_ne_bytes()),
            v4.clone(),
        ]),
        in_ip(&[attribute(3, &[8]), attribute(1, &7u16.to_ne_bytes()), v4]),
        // Lengths that do not add up.
        vec![vec![3, 0, 1, 0]],
        vec![vec![200, 0, 8, 0x80, 0, 0, 0, 0]],
        vec![vec![0; 2]],
    ];
    for (i, attributes) in bad.into_iter().enumerate() {
        let error = assembled(&[attributes])
            .err()
            .unwrap_or_else(|| panic!("case {i}"));
        assert_eq!(error.raw_os_error(), Some(74), "case {i}");
    }
    assert_eq!(
        Assembler::new("x")
            .add(&[0, 1])
            .err()
            .unwrap()
            .raw_os_error(),
        Some(74)
    );
    // An endpoint of another family or length is none; unknown attributes and padding are passed over.
    let fine = in_peer(&[
        key(),
        attribute(4, &[9; 16]),
        attribute(4, &[2; 3]),
        attribute(0, &[]),
    ]);
    let device = assembled(&[fine, vec![attribute(99, &[1, 2, 3])]]).unwrap();
    assert!(device.peers[0].endpoint.is_none());
    assert_eq!(device.name, "asked");
}

#[test]
fn links() {
    let fixed = vec![0; 16];
    let kind = |kind: &[u8]| nest(18, &[attribute(1, kind)]);
    let link = |parts: &[Vec<u8>]| wireguard_link(&[fixed.clone(), parts.concat()].concat());
    let name = attribute(3, b"tun7\0");
    assert_eq!(
        link(&[name.clone(), kind(b"wireguard\0")])
            .unwrap()
            .as_deref(),
        Some("tun7")
    );
    assert_eq!(
        link(&[kind(b"wireguard\0"), name.clone()])
            .unwrap()
            .as_deref(),
        Some("tun7")
    );
    assert_eq!(link(&[name.clone(), kind(b"wireguard2\0")]).unwrap(), None);
    assert_eq!(link(&[name.clone(), kind(b"vlan\0")]).unwrap(), None);
    assert_eq!(link(&[name]).unwrap(), None);
    assert_eq!(link(&[kind(b"wireguard\0")]).unwrap(), None);
    assert!(link(&[attribute(3, b"tun7")]).is_err());
    assert!(wireguard_link(&[0; 15]).is_err());
}

#[test]
fn replies() {
    let done = |code: i32| message(3, 2, 5, &code.to_ne_bytes());
    let error = |code: i32| message(2, 0, 5, &[&code.to_ne_bytes()[..], &[0; 16]].concat());
    let read = |datagram: &[u8]| {
        let mut replies = Replies::new(datagram, 5);
        let all: Vec<_> = replies
            .by_ref()
            .map(|r| r.map_err(|e| e.raw_os_error()))
            .collect();
        let all: Vec<String> = all.iter().map(|r| format!("{r:?}")).collect();
        (all.join(" "), replies.inconsistent)
    };
    let text = |datagram: &[u8]| read(datagram).0;
    assert_eq!(text(&[]), "");
    assert_eq!(text(&done(0)), "Ok(End(Ok(())))");
    assert_eq!(text(&done(-95)), "Ok(End(Err(95)))");
    assert_eq!(text(&done(1234)), "Ok(End(Ok(())))");
    assert_eq!(text(&message(3, 2, 5, &[])), "Ok(End(Ok(())))");
    assert_eq!(text(&error(0)), "Ok(End(Ok(())))");
    assert_eq!(text(&error(-19)), "Ok(End(Err(19)))");
    assert_eq!(text(&error(i32::MIN)), "Err(Some(74))");
    // Two parts and the end; an answer to another request in between; alignment of odd lengths.
    let parts = [
        message(27, 2, 5, &[1, 2, 3]),
        message(27, 2, 4, &[9]),
        message(1, 2, 5, &[]),
        message(27, 2, 5, &[4]),
        done(0),
    ]
    .concat();
    assert_eq!(
        text(&parts),
        "Ok(Part(27, [1, 2, 3])) Ok(Part(27, [4])) Ok(End(Ok(())))"
    );
    // A dump that is not one state says so in any message of it, but not in another's.
    assert!(read(&[message(27, 0x12, 5, &[1]), done(0)].concat()).1);
    assert!(!read(&[message(27, 0x12, 4, &[1]), done(0)].concat()).1);
    assert_eq!(text(&message(4, 0, 5, &[])), "Err(Some(105))");
    for malformed in [
        &hex("0f000000 1b00 0000 05000000 00000000")[..],
        &[0; 3],
        &[0; 16],
    ] {
        assert_eq!(text(malformed), "Err(Some(74))", "{malformed:?}");
    }
    let mut long = message(27, 2, 5, &[1, 2, 3, 4]);
    long[0] += 4;
    assert_eq!(text(&long), "Err(Some(74))");
    assert_eq!(text(&message(2, 0, 5, &[0, 0])), "Err(Some(74))");
    assert_eq!(text(&message(3, 0, 5, &[0, 0])), "Err(Some(74))");
}
