// SPDX-License-Identifier: BSD-2-Clause
//! Seeds that are not text.

use nv::wgconf::{
    AllowedIp, GetInterface, GetPeer, SetInterface, SetPeer, get_size, get_write, set_size,
    set_write,
};
use nv::{FnSink, WriteError, Writer};

use super::Add;
use crate::nvlist::pack;

pub(super) fn messages(add: &mut Add<'_>) {
    for (name, kind, len) in [
        ("initiation", 1u32, 148usize),
        ("response", 2, 92),
        ("cookie-reply", 3, 64),
        ("data", 4, 48),
    ] {
        let bytes: Vec<u8> = (0..len).map(|i| (i % 256) as u8).collect();
        let with = |kind: u32, len: usize| {
            let mut bytes = bytes.clone();
            bytes[..4].copy_from_slice(&kind.to_le_bytes());
            bytes.resize(len, 0xaa);
            bytes
        };
        add("messages", name, with(kind, len));
        add("messages", &format!("{name}-short"), with(kind, len - 1));
        add("messages", &format!("{name}-long"), with(kind, len + 1));
        add(
            "messages",
            &format!("{name}-reserved-byte"),
            with(kind | 0x100, len),
        );
    }
    add(
        "messages",
        "keepalive",
        [&4u32.to_le_bytes()[..], &[0; 28]].concat(),
    );
    add(
        "messages",
        "keepalive-short",
        [&4u32.to_le_bytes()[..], &[0; 27]].concat(),
    );
    add("messages", "type-alone", 1u32.to_le_bytes().to_vec());
    add("messages", "type-cut", vec![1, 0, 0]);
    add("messages", "type-0", vec![0; 148]);
    add(
        "messages",
        "type-5",
        [&5u32.to_le_bytes()[..], &[0; 144]].concat(),
    );
    add("messages", "empty", Vec::new());
}

pub(super) fn inner_ip(add: &mut Add<'_>) {
    let v4 = |ihl: u8, len: u16| {
        let mut packet = vec![0; 64];
        packet[0] = 0x40 | ihl;
        packet[1] = 0xb9;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet
    };
    let v6 = |next: u8, payload: u16| {
        let mut packet = vec![0; 64];
        packet[..2].copy_from_slice(&[0x6b, 0x91]);
        packet[4..6].copy_from_slice(&payload.to_be_bytes());
        packet[6] = next;
        (packet[8], packet[23], packet[24], packet[39]) = (0xfd, 1, 0xfd, 2);
        packet
    };
    let mtu = 1420u16.to_le_bytes();
    for (name, packet) in [
        ("v4", v4(5, 60)),
        ("v4-whole", v4(5, 64)),
        ("v4-options", v4(15, 64)),
        ("v4-header-too-short", v4(4, 60)),
        ("v4-header-past-length", v4(6, 20)),
        ("v4-length-0", v4(5, 0)),
        ("v4-length-past-end", v4(5, 65)),
        ("v4-cut", v4(5, 60)[..19].to_vec()),
        ("v6", v6(17, 20)),
        ("v6-whole", v6(17, 24)),
        ("v6-no-payload", v6(59, 0)),
        ("v6-jumbogram", v6(0, 0)),
        ("v6-hop-by-hop", v6(0, 8)),
        ("v6-length-past-end", v6(17, 25)),
        ("v6-length-65535", v6(17, 65535)),
        ("v6-cut", v6(17, 0)[..39].to_vec()),
        ("version-5", [0x55; 40].to_vec()),
        ("keepalive", Vec::new()),
    ] {
        add("inner_ip", name, [&mtu[..], &packet].concat());
    }
    for (name, mtu) in [("mtu-0", 0u16), ("mtu-1", 1), ("mtu-50", 50)] {
        add(
            "inner_ip",
            name,
            [&mtu.to_le_bytes()[..], &v4(5, 60)].concat(),
        );
    }
}

/// A message that needs no mending, and one that does.
fn both(add: &mut Add<'_>, target: &'static str, name: &str, bytes: &[u8]) {
    add(target, name, [&[0], bytes].concat());
    add(target, &format!("{name}-to-mend"), [&[1], bytes].concat());
}

/// A pair as no writer makes it: little-endian.
fn pair(kind: u8, name: &[u8], size: u64, items: u64, data: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend((name.len() as u16).to_le_bytes());
    out.extend(size.to_le_bytes());
    out.extend(items.to_le_bytes());
    out.extend(name);
    out.extend(data);
    out
}

fn header(flags: u8) -> Vec<u8> {
    let mut out = vec![0; 19];
    (out[0], out[2]) = (b'l', flags);
    out
}

pub(super) fn nvlist(add: &mut Add<'_>) {
    let all = pack(&mut |w| {
        w.null("null")?;
        w.boolean("bool", true)?;
        w.number("number", u64::MAX)?;
        w.string("string", "text")?;
        w.binary("binary", &[1, 2, 3])?;
        w.list("list", &mut |w| w.number("inside", 7))?;
        w.begin_array("array", 3)?;
        for i in 0..3 {
            w.begin_element()?;
            if i == 1 {
                w.number("inside", 7)?;
            }
            w.end_element()?;
        }
        w.boolean("last", false)
    });
    both(add, "nvlist", "every-type-of-the-writer", &all);
    both(add, "nvlist", "empty", &pack(&mut |_| Ok(())));
    fn nested(w: &mut Writer<'_>, depth: usize) -> Result<(), WriteError> {
        match depth {
            0 => w.number("deep", 1),
            _ => w.list("l", &mut |w| nested(w, depth - 1)),
        }
    }
    both(add, "nvlist", "eight-deep", &pack(&mut |w| nested(w, 7)));
    both(add, "nvlist", "nine-deep", &pack(&mut |w| nested(w, 8)));
    let mut hostile = |name: &str, flags: u8, pairs: &[Vec<u8>]| {
        add(
            "nvlist",
            name,
            [&[1], &header(flags)[..], &pairs.concat()].concat(),
        );
    };
    let number = |name: &[u8]| pair(3, name, 8, 0, &7u64.to_le_bytes());
    hostile("bool-array", 0, &[pair(8, b"b\0", 3, 3, &[0, 1, 2])]);
    hostile("number-array", 0, &[pair(9, b"n\0", 16, 2, &[1; 16])]);
    hostile("string-array", 0, &[pair(10, b"s\0", 4, 2, b"a\0b\0")]);
    hostile(
        "string-array-count",
        0,
        &[pair(10, b"s\0", 4, 3, b"a\0b\0")],
    );
    hostile("descriptor", 0, &[pair(6, b"d\0", 8, 0, &[0; 8])]);
    hostile("descriptor-array", 0, &[pair(12, b"d\0", 8, 1, &[0; 8])]);
    hostile("duplicate", 0, &[number(b"n\0"), number(b"n\0")]);
    hostile(
        "prefix-of-a-name",
        0,
        &[number(b"name\0"), number(b"nam\0"), number(b"\0")],
    );
    hostile("unknown-flag", 4, &[]);
    hostile("public-flags", 3, &[]);
    hostile(
        "big-endian",
        0x80,
        &[[&[3, 0, 2], &[0; 7][..], &[8], &[0; 8], b"n\0", &[7; 8]].concat()],
    );
    let list = |flags: u8, pairs: &[Vec<u8>], end: Option<u8>| {
        let mut body = [header(flags), pairs.concat()].concat();
        body.extend(end.map_or(Vec::new(), |kind| pair(kind, b"\0", 0, 0, &[])));
        body
    };
    let array = |items: u64, lists: &[Vec<u8>]| pair(11, b"a\0", 0, items, &lists.concat());
    let twice = [number(b"n\0"), number(b"N\0"), number(b"n\0")];
    hostile(
        "duplicates-permitted",
        0,
        &[array(1, &[list(2, &twice, Some(254))])],
    );
    hostile(
        "case-ignored",
        0,
        &[array(1, &[list(1, &twice[..2], Some(254))])],
    );
    hostile("wrong-end", 0, &[array(1, &[list(0, &[], Some(255))])]);
    hostile("end-of-nothing", 0, &[pair(254, b"\0", 0, 0, &[])]);
    hostile(
        "end-with-size",
        0,
        &[array(
            1,
            &[[header(0), pair(254, b"x\0", 3, 0, &[1, 2, 3])].concat()],
        )],
    );
    hostile(
        "message-ends-inside",
        0,
        &[array(
            2,
            &[list(0, &[number(b"n\0"), vec![]], None), vec![]],
        )],
    );
    hostile(
        "message-ends-between",
        0,
        &[array(2, &[list(0, &[number(b"n\0")], Some(254))])],
    );
    hostile(
        "too-many-items",
        0,
        &[array(u64::MAX, &[list(0, &[], Some(254))])],
    );
    hostile(
        "order-of-an-element",
        0,
        &[array(1, &[list(0x80, &[], Some(254))]), number(b"n\0")],
    );
    hostile("no-items", 0, &[array(0, &[])]);
    hostile("name-without-end", 0, &[number(b"n")]);
    hostile("name-with-nul", 0, &[number(b"a\0b\0")]);
    hostile("size-past-end", 0, &[pair(7, b"b\0", u64::MAX, 0, &[1])]);
    hostile("empty-binary", 0, &[pair(7, b"b\0", 0, 0, &[])]);
    hostile("bool-2", 0, &[pair(2, b"b\0", 1, 0, &[2])]);
    let names: Vec<_> = (0..129u8)
        .map(|i| number(&[i | 0x80, 1 + i / 128, 0]))
        .collect();
    hostile("names-128", 0, &names[..128]);
    hostile("names-129", 0, &names);
}

fn written(write: impl FnOnce(&mut dyn nv::Sink) -> Result<(), WriteError>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut sink = FnSink(|b: &[u8]| {
        out.extend_from_slice(b);
        Ok(())
    });
    write(&mut sink).expect("a vector takes anything");
    out
}

pub(super) fn wgconf(add: &mut Add<'_>) {
    let (key, psk) = ([1; 32], [2; 32]);
    let interface = SetInterface {
        replace_peers: true,
        listen_port: Some(51820),
        private_key: Some(&psk),
        user_cookie: Some(7),
    };
    let ips = [
        AllowedIp {
            addr: [10, 0, 0, 0].into(),
            cidr: 8,
            remove: false,
        },
        AllowedIp {
            addr: [0xfd00, 0, 0, 0, 0, 0, 0, 0].into(),
            cidr: 8,
            remove: true,
        },
    ];
    let whole = SetPeer {
        update_only: true,
        replace_allowed_ips: true,
        endpoint: Some(([192, 0, 2, 1], 51820).into()),
        preshared_key: Some(&psk),
        keepalive: Some(25),
        ..SetPeer::new(&key)
    };
    let v6 = SetPeer {
        endpoint: Some(([0xfe80, 0, 0, 0, 0, 0, 0, 1], 7).into()),
        ..SetPeer::new(&psk)
    };
    let gone = SetPeer {
        remove: true,
        ..SetPeer::new(&key)
    };
    let set = |interface: &SetInterface<'_>, peers: &[SetPeer<'_>]| {
        written(|sink| {
            let body = &mut |w: &mut nv::wgconf::SetWriter<'_, '_>| {
                w.interface(interface)?;
                w.peers(peers.len())?;
                for peer in peers {
                    let ips = if peer.remove { &[][..] } else { &ips };
                    w.begin_peer(peer, ips.len())?;
                    for ip in ips {
                        w.allowed_ip(ip)?;
                    }
                    w.end_peer()?;
                }
                Ok(())
            };
            let size = set_size(body)?;
            set_write(sink, size, body)
        })
    };
    both(
        add,
        "wgconf_set",
        "everything",
        &set(&interface, &[whole, v6, gone]),
    );
    both(
        add,
        "wgconf_set",
        "nothing",
        &set(&SetInterface::default(), &[]),
    );
    both(
        add,
        "wgconf_set",
        "remove",
        &set(&SetInterface::default(), &[gone]),
    );
    let bodies: [(&str, Body<'_>); 12] = [
        ("long-key", &mut |w| w.binary("private-key", &[1; 33])),
        ("port-65536", &mut |w| w.number("listen-port", 65536)),
        ("cookie-2-to-32", &mut |w| w.number("user-cookie", 1 << 32)),
        ("types-that-do-not-count", &mut |w| {
            w.binary("listen-port", &[1])?;
            w.number("private-key", 1)?;
            w.number("replace-peers", 1)
        }),
        ("peer-without-key", &mut |w| peer(w, &mut |_| Ok(()))),
        ("peer-keepalive", &mut |w| {
            peer(w, &mut |w| {
                w.binary("public-key", &[1; 32])?;
                w.number("persistent-keepalive-interval", 65536)
            })
        }),
        ("peer-endpoint", &mut |w| {
            peer(w, &mut |w| {
                w.binary("public-key", &[1; 32])?;
                w.binary("endpoint", &[16, 2, 0, 1, 1, 2, 3, 4])
            })
        }),
        ("peer-removed-with-a-bad-key", &mut |w| {
            peer(w, &mut |w| {
                w.binary("public-key", &[1; 32])?;
                w.boolean("remove", true)?;
                w.binary("preshared-key", &[1; 3])
            })
        }),
        ("ip-cidr-33", &mut |w| {
            ip(w, &mut |w| {
                w.number("cidr", 33)?;
                w.binary("ipv4", &[10, 0, 0, 0])
            })
        }),
        ("ip-both", &mut |w| {
            ip(w, &mut |w| {
                w.number("cidr", 32)?;
                w.binary("ipv6", &[1; 16])?;
                w.binary("ipv4", &[10, 0, 0, 0])
            })
        }),
        ("ip-flags-2", &mut |w| ip(w, &mut |w| w.number("flags", 2))),
        ("ip-skipped", &mut |w| ip(w, &mut |w| w.number("cidr", 999))),
    ];
    for (name, body) in bodies {
        both(add, "wgconf_set", name, &pack(body));
    }

    let reply = GetInterface {
        listen_port: 51820,
        user_cookie: 7,
        public_key: Some(&key),
        private_key: Some(&psk),
    };
    let one = GetPeer {
        public_key: &key,
        preshared_key: Some(&psk),
        endpoint: Some(([192, 0, 2, 1], 51820).into()),
        keepalive: 25,
        last_handshake: (1_700_000_000, 999_999_999),
        rx_bytes: u64::MAX,
        tx_bytes: 1,
    };
    let get = |interface: &GetInterface<'_>, peers: &[GetPeer<'_>]| {
        written(|sink| {
            let body = &mut |w: &mut nv::wgconf::GetWriter<'_, '_>| {
                w.interface(interface)?;
                w.peers(peers.len())?;
                for (i, peer) in peers.iter().enumerate() {
                    w.begin_peer(peer, if i == 0 { ips.len() } else { 0 })?;
                    for ip in ips.iter().filter(|_| i == 0) {
                        w.allowed_ip(ip.addr, ip.cidr)?;
                    }
                    w.end_peer()?;
                }
                Ok(())
            };
            let size = get_size(body)?;
            get_write(sink, size, body)
        })
    };
    let bare = GetPeer {
        preshared_key: None,
        endpoint: None,
        ..one
    };
    both(add, "wgconf_get", "everything", &get(&reply, &[one, bare]));
    both(
        add,
        "wgconf_get",
        "nothing",
        &get(&GetInterface::default(), &[]),
    );
    let time = &mut |w: &mut Writer<'_>| {
        peer(w, &mut |w| {
            w.binary("public-key", &[1; 32])?;
            w.binary("last-handshake-time", &[1; 15])
        })
    };
    both(add, "wgconf_get", "short-time", &pack(time));
    let odd_endpoint = &mut |w: &mut Writer<'_>| {
        peer(w, &mut |w| {
            w.binary("public-key", &[1; 32])?;
            w.binary("endpoint", &[28; 28])
        })
    };
    both(add, "wgconf_get", "odd-endpoint", &pack(odd_endpoint));
}

type Body<'a> = &'a mut dyn FnMut(&mut Writer<'_>) -> Result<(), WriteError>;

fn peer(w: &mut Writer<'_>, body: Body<'_>) -> Result<(), WriteError> {
    w.begin_array("peers", 1)?;
    w.begin_element()?;
    body(w)?;
    w.end_element()
}

fn ip(w: &mut Writer<'_>, body: Body<'_>) -> Result<(), WriteError> {
    peer(w, &mut |w| {
        w.binary("public-key", &[1; 32])?;
        w.begin_array("allowed-ips", 1)?;
        w.begin_element()?;
        body(w)?;
        w.end_element()
    })
}

/// An attribute in the order of the machine that the seeds are made on, which is little-endian.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = (value.len() as u16 + 4).to_le_bytes().to_vec();
    out.extend(kind.to_le_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn nest(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | 0x8000, &parts.concat())
}

pub(super) fn netlink(add: &mut Add<'_>) {
    let v4 = |cidr: u8| {
        nest(
            0,
            &[
                attribute(3, &[cidr]),
                attribute(1, &[2, 0]),
                attribute(2, &[10, 0, 0, 0]),
            ],
        )
    };
    let v6 = nest(
        0,
        &[
            attribute(3, &[8]),
            attribute(1, &[10, 0]),
            attribute(2, &[0xfd; 16]),
        ],
    );
    let whole = nest(
        0,
        &[
            attribute(1, &[1; 32]),
            attribute(2, &[2; 32]),
            attribute(6, &[&[1, 0, 0, 0, 0, 0, 0, 0, 5], &[0; 7][..]].concat()),
            attribute(5, &[25, 0]),
            attribute(8, &[7; 8]),
            attribute(7, &[9; 8]),
            attribute(10, &[1, 0, 0, 0]),
            attribute(4, &[2, 0, 0xca, 0x6c, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            nest(9, &[v4(8), v6.clone()]),
        ],
    );
    let more = nest(0, &[attribute(1, &[1; 32]), nest(9, &[v4(16)])]);
    let mut ipv6 = vec![10, 0, 0, 7];
    ipv6.extend([0xfe; 24]);
    let other = nest(
        0,
        &[
            attribute(1, &[3; 32]),
            attribute(2, &[0; 32]),
            attribute(4, &ipv6),
        ],
    );
    let device = [
        attribute(6, &[0x6c, 0xca]),
        attribute(7, &[9, 0, 0, 0]),
        attribute(1, &[4, 0, 0, 0]),
        attribute(2, b"wg7\0"),
        attribute(3, &[4; 32]),
        attribute(4, &[5; 32]),
    ]
    .concat();
    let in_ip = |parts: &[Vec<u8>]| {
        nest(
            8,
            &[nest(
                0,
                &[attribute(1, &[1; 32]), nest(9, &[nest(0, parts)])],
            )],
        )
    };
    for (name, bytes) in [
        ("device", device.clone()),
        (
            "everything",
            [device, nest(8, &[whole.clone(), more.clone(), other])].concat(),
        ),
        ("continued", [nest(8, &[whole]), nest(8, &[more])].concat()),
        ("empty", Vec::new()),
        ("no-peers", nest(8, &[])),
        (
            "peer-without-key",
            nest(8, &[nest(0, &[attribute(2, &[0; 32])])]),
        ),
        ("key-of-31", attribute(3, &[0; 31])),
        ("name-without-end", attribute(2, b"wg")),
        (
            "ip-without-family",
            in_ip(&[attribute(3, &[8]), attribute(2, &[10, 0, 0, 0])]),
        ),
        (
            "ip-cidr-33",
            in_ip(&[
                attribute(3, &[33]),
                attribute(1, &[2, 0]),
                attribute(2, &[0; 4]),
            ]),
        ),
        (
            "ip-long-address",
            in_ip(&[
                attribute(3, &[8]),
                attribute(1, &[2, 0]),
                attribute(2, &[0; 16]),
            ]),
        ),
        ("length-3", vec![3, 0, 1, 0]),
        ("length-past-end", vec![200, 0, 8, 0x80, 1, 2, 3, 4]),
        ("no-header", vec![0; 3]),
        (
            "unknown",
            [
                attribute(99, &[1]),
                attribute(0x3fff, &[]),
                attribute(0, &[]),
            ]
            .concat(),
        ),
        (
            "link",
            [
                vec![0; 16],
                attribute(3, b"wg0\0"),
                nest(18, &[attribute(1, b"wireguard\0")]),
            ]
            .concat(),
        ),
    ] {
        both(add, "netlink_dump", name, &bytes);
    }
    let message = |kind: u16, flags: u16, sequence: u32, payload: &[u8]| {
        let mut out = (payload.len() as u32 + 16).to_le_bytes().to_vec();
        out.extend(kind.to_le_bytes());
        out.extend(flags.to_le_bytes());
        out.extend(sequence.to_le_bytes());
        out.extend([0; 4]);
        out.extend(payload);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    };
    let done = |code: i32| message(3, 2, 5, &code.to_le_bytes());
    let error = |code: i32| message(2, 0, 5, &[&code.to_le_bytes()[..], &[0; 16]].concat());
    for (name, bytes) in [
        (
            "parts",
            [
                message(27, 2, 5, &[1, 2, 3]),
                message(27, 2, 5, &[4]),
                done(0),
            ]
            .concat(),
        ),
        (
            "not-ours",
            [message(27, 2, 4, &[9]), message(3, 2, 4, &[0; 4]), done(0)].concat(),
        ),
        (
            "interrupted",
            [message(27, 0x12, 5, &[1]), done(0)].concat(),
        ),
        (
            "others-interruption",
            [message(27, 0x12, 4, &[1]), done(0)].concat(),
        ),
        ("done-with-error", done(-95)),
        ("done-with-length", done(1234)),
        ("done-empty", message(3, 2, 5, &[])),
        ("done-cut", message(3, 2, 5, &[0])),
        ("acknowledged", error(0)),
        ("no-device", error(-19)),
        ("error-least", error(i32::MIN)),
        ("error-cut", message(2, 0, 5, &[0, 0])),
        (
            "nothing-and-overrun",
            [message(1, 0, 5, &[]), message(4, 0, 5, &[])].concat(),
        ),
        (
            "length-15",
            [&[15, 0, 0, 0], &message(27, 0, 5, &[])[4..]].concat(),
        ),
        (
            "length-past-end",
            [&[24, 0, 0, 0], &message(27, 0, 5, &[0; 4])[4..]].concat(),
        ),
        (
            "length-greatest",
            [&[255; 4], &message(27, 0, 5, &[0; 4])[4..]].concat(),
        ),
        ("cut", vec![16, 0, 0]),
        ("empty", Vec::new()),
    ] {
        add("netlink_datagram", name, bytes);
    }
}
