// SPDX-License-Identifier: BSD-2-Clause
//! Packets inside the tunnel: what is not IP, tunnels in tunnels, loops, and writes by bpf(4).

use std::net::SocketAddr;

use hostkern::sim::{Rng, Sim, for_seeds};
use hostkern::{RouteArg, as_user};
use wgsim_tests::errno::{EAFNOSUPPORT, EINVAL, ENETDOWN, ENETUNREACH};
use wgsim_tests::{
    Conf, Ghost, Node, PeerConf, Wire, assert_ping, assert_works, counter, drops, finish, millis,
    packet, pair, private_key, public_key, secs, try_send, world,
};

const A: &str = "192.0.2.1:51820";

fn ghost(sim: &Sim) -> (Node, Ghost, SocketAddr) {
    let a = Node::new(sim, sim.host("a", &["192.0.2.1"]), 1);
    let host = sim.host("ghost", &["192.0.2.2"]);
    let mut ghost = Ghost::new(sim, &host, 2, 4000, &public_key(1));
    a.peer(sim, PeerConf::node(2, &["10.0.0.0/8", "fd00::/8"]));
    let to = A.parse().unwrap();
    ghost.connect(sim, to);
    let _ = ghost.take(sim);
    (a, ghost, to)
}

fn v4() -> Vec<u8> {
    packet("10.0.0.2", "10.0.0.1", 1, 60)
}

fn v6() -> Vec<u8> {
    packet("fd00::2", "fd00::1", 1, 60)
}

fn with(mut p: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    p[at..at + bytes.len()].copy_from_slice(bytes);
    p
}

/// Robustness 14, first half: all that is not IP.
#[test]
fn malformed_packets_in_the_tunnel_are_dropped() {
    for_seeds(6, |seed| {
        let sim = world(seed);
        let (a, ghost, to) = ghost(&sim);
        let mut bad: Vec<(String, Vec<u8>)> = Vec::new();
        for version in [0, 1, 2, 3, 5, 7, 8, 15] {
            bad.push((
                format!("version {version}"),
                with(v4(), 0, &[version << 4 | 5]),
            ));
        }
        for ihl in 0..5 {
            bad.push((
                format!("header of {ihl} words"),
                with(v4(), 0, &[0x40 | ihl]),
            ));
        }
        bad.push(("header longer than the packet".into(), {
            let p = with(v4(), 2, &28u16.to_be_bytes());
            with(p, 0, &[0x4f])
        }));
        for total in [0u16, 1, 19, 97, 1000, 65535] {
            let p = with(v4(), 2, &total.to_be_bytes());
            bad.push((
                format!("total length {total} of 80, padded to 96"),
                [p, vec![0; 16]].concat(),
            ));
        }
        for len in [1, 4, 19] {
            bad.push((format!("IPv4 of {len} bytes"), v4()[..len].to_vec()));
        }
        for len in [1, 8, 24, 39] {
            bad.push((format!("IPv6 of {len} bytes"), v6()[..len].to_vec()));
        }
        for payload in [61u16, 100, 65535] {
            bad.push((
                format!("IPv6 payload {payload} of 60"),
                with(v6(), 4, &payload.to_be_bytes()),
            ));
        }
        bad.push(("jumbogram".into(), with(with(v6(), 4, &[0, 0]), 6, &[0])));
        bad.push(("zeros".into(), vec![0; 16]));
        bad.push(("ones".into(), vec![0xff; 48]));
        for (what, p) in bad {
            let before = (
                drops(&sim, "bad_inner_packet"),
                a.ifnet(&sim).counter(counter::IERRORS),
            );
            ghost.send(&sim, to, &ghost.seal(&p));
            sim.run_for(millis(20));
            assert!(a.received(&sim).is_empty(), "{what}");
            let after = (
                drops(&sim, "bad_inner_packet"),
                a.ifnet(&sim).counter(counter::IERRORS),
            );
            assert_eq!(after, (before.0 + 1, before.1 + 1), "{what}");
        }
        ghost.send(&sim, to, &ghost.seal(&v4()));
        sim.run_for(millis(20));
        assert_eq!(a.received(&sim), [v4()], "and the tunnel works");
        finish(sim, &[&a]);
    });
}

/// Robustness 14, second half: what is odd and yet IP.
#[test]
fn odd_packets_in_the_tunnel_are_delivered() {
    for_seeds(6, |seed| {
        let sim = world(seed);
        let (a, ghost, to) = ghost(&sim);
        let fragment = |bits: u16| with(v4(), 6, &bits.to_be_bytes());
        let good = [
            ("first fragment", fragment(0x2000)),
            ("middle fragment", fragment(0x2010)),
            ("last fragment", fragment(0x0020)),
            ("options", with(v4(), 0, &[0x4f])),
            (
                "a header and nothing else",
                with(v4(), 2, &20u16.to_be_bytes())[..20].to_vec(),
            ),
            (
                "an IPv6 header and nothing else",
                with(with(v6(), 4, &[0, 0]), 6, &[59])[..40].to_vec(),
            ),
            ("an IPv6 fragment header", with(v6(), 6, &[44])),
            ("extension headers", with(v6(), 6, &[0])),
            ("to a group", packet("10.0.0.2", "224.0.0.5", 1, 60)),
            ("to an IPv6 group", packet("fd00::2", "ff02::1", 1, 60)),
        ];
        for (what, p) in good {
            for padding in [0, 1, 16, 200] {
                let padded = [p.clone(), vec![0xaa; padding]].concat();
                ghost.send(&sim, to, &ghost.seal(&padded));
                sim.run_for(millis(20));
                assert_eq!(
                    a.received(&sim),
                    std::slice::from_ref(&p),
                    "{what}, {padding} bytes of padding"
                );
            }
        }
        finish(sim, &[&a]);
    });
}

#[test]
fn random_packets_in_the_tunnel() {
    for_seeds(12, |seed| {
        let sim = world(seed);
        let (a, ghost, to) = ghost(&sim);
        let mut rng = Rng::new(seed, 400);
        for i in 0..400 {
            let mut p = if i % 2 == 0 { v4() } else { v6() };
            for _ in 0..rng.below(6) {
                let at = rng.below(p.len().min(44) as u64) as usize;
                p[at] = rng.below(256) as u8;
            }
            p.truncate(rng.below(p.len() as u64 + 1) as usize);
            ghost.send(&sim, to, &ghost.seal(&p));
        }
        sim.run_for(millis(100));
        for got in a.received(&sim) {
            assert!(matches!(got[0] >> 4, 4 | 6));
        }
        finish(sim, &[&a]);
    });
}

/// Only of TCP and UDP the sum is known to be right; a header that nobody has summed is not said to be.
#[test]
fn what_is_said_of_checksums() {
    const DATA_AND_PSEUDO_HEADER: u32 = 0x0c00_0000;
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let v4 = |protocol: u8, fragment: u16| {
            let mut p = packet("10.0.0.1", "10.0.0.2", 1, 60);
            p[6..8].copy_from_slice(&fragment.to_be_bytes());
            p[9] = protocol;
            p
        };
        let v6 = |protocol: u8| {
            let mut p = packet("fd00::1", "fd00::2", 1, 60);
            p[6] = protocol;
            p
        };
        for (p, valid) in [
            (v4(6, 0), true),
            (v4(17, 0), true),
            (v4(17, 0x4000), true), // Do not fragment.
            (v4(17, 0x2000), false),
            (v4(17, 0x0010), false),
            (v4(1, 0), false),
            (v4(4, 0), false),  // gif(4)
            (v4(41, 0), false), // the same, with IPv6 in it
            (v4(47, 0), false), // gre(4)
            (v4(50, 0), false), // ipsec(4)
            (v6(6), true),
            (v6(17), true),
            (v6(44), false), // a fragment
            (v6(58), false),
            (v6(4), false),
            (v6(41), false),
            (v6(47), false),
            (v6(50), false),
        ] {
            a.send(&sim, &p).unwrap();
            sim.run_for(secs(1));
            let got = sim.delivered(&b.host, &b.ifname);
            assert_eq!(got.len(), 1);
            assert_eq!(got[0].packet, p);
            let flags = if valid { DATA_AND_PSEUDO_HEADER } else { 0 };
            assert_eq!(got[0].csum_flags, flags, "{:x?}", &p[..20]);
            assert_eq!(got[0].checksums_valid, valid);
        }
        finish(sim, &[&a, &b]);
    });
}

/// What is delivered has its length cut to the IP length, and nothing of the outer packet.
#[test]
fn delivered_packets_are_clean() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        b.ifnet(&sim).tap();
        a.ifnet(&sim).tap();
        let p = packet("10.0.0.1", "10.0.0.2", 1, 61);
        a.send(&sim, &p).unwrap();
        sim.run_for(secs(1));
        let got = sim.delivered(&b.host, &b.ifname);
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].packet, p);
        assert_eq!((got[0].tags, got[0].fib), (0, 0));
        // bpf(4) has seen it on both sides, with its family before it.
        assert_eq!(a.ifnet(&sim).take_tap(), [(2, p.clone())]);
        assert_eq!(b.ifnet(&sim).take_tap(), [(2, p)]);
        let p = packet("fd00::1", "fd00::2", 1, 61);
        a.send(&sim, &p).unwrap();
        sim.run_for(secs(1));
        assert_eq!(a.ifnet(&sim).take_tap(), [(28, p)]);
        finish(sim, &[&a, &b]);
    });
}

/// What is dropped counts as an error and not as received, whoever drops it.
#[test]
fn what_is_dropped_was_not_received() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let ifnet = b.ifnet(&sim);
        let counts = || {
            let of = [counter::IPACKETS, counter::IBYTES, counter::IERRORS];
            (of.map(|n| ifnet.counter(n)), b.about(&sim, 1).rx)
        };
        let good = packet("10.0.0.1", "10.0.0.2", 1, 100);
        let ([packets, bytes, errors], rx) = counts();
        // The peer may not use that address.
        a.send(&sim, &packet("10.0.0.9", "10.0.0.2", 1, 100))
            .unwrap();
        sim.run_for(millis(100));
        assert_eq!(counts(), ([packets, bytes, errors + 1], rx));
        // The stack does not take it, as the interface was marked down.
        let down = drops(&sim, "down");
        sim.kernel().mark_down(&b.host, &b.ifname).unwrap();
        a.send(&sim, &good).unwrap();
        sim.run_for(millis(100));
        assert_eq!(counts(), ([packets, bytes, errors + 2], rx));
        assert_eq!(drops(&sim, "down"), down + 1);
        assert!(b.received(&sim).is_empty());
        b.up(&sim, true);
        a.send(&sim, &good).unwrap();
        sim.run_for(millis(100));
        // Header, padding to 16 bytes and tag.
        let len = 16 + 128 + 16;
        let ([got, _, bad], now) = counts();
        assert_eq!((got, bad), (packets + 1, errors + 2));
        assert_eq!(b.received(&sim), [good]);
        assert!((120 + 32..=len).contains(&(now - rx)), "{}", now - rx);
        finish(sim, &[&a, &b]);
    });
}

/// Robustness 12.
#[test]
fn a_bpf_write_of_any_length_and_family_is_an_error_at_most() {
    for_seeds(6, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let mut rng = Rng::new(seed, 401);
        let write = |p: &[u8], sa: &[u8]| sim.kernel().output_raw(&a.host, &a.ifname, p, sa);
        // AF_UNSPEC and pseudo_AF_HDRCMPLT: the family is in the data, as bpf(4) passes DLT_NULL.
        for family in [0u8, 31] {
            for af in [0u32, 1, 2, 18, 28, 30, 31, 255, 256, 0x0200_0000, u32::MAX] {
                for len in [0, 1, 3, 4, 19, 20, 39, 40, 100, 2000, 65535] {
                    let mut p = vec![0; len];
                    rng.fill(&mut p);
                    let mut sa = vec![16, family];
                    sa.extend(af.to_ne_bytes());
                    let got = write(&p, &sa);
                    if af != 2 && af != 28 {
                        assert_eq!(got, Err(EAFNOSUPPORT), "family {family}/{af}, {len} bytes");
                    } else if len == 0 {
                        assert_eq!(got, Err(EINVAL));
                    }
                }
            }
        }
        // Any family of the sockaddr with good and bad packets.
        for family in 0..=255u8 {
            for p in [&v4()[..], &v6()[..], &[][..], &[0x45][..]] {
                let _ = write(p, &[16, family]);
            }
        }
        sim.run_for(secs(1));
        let _ = b.received(&sim);
        // The right ones pass.
        for (p, af) in [
            (packet("10.0.0.1", "10.0.0.2", 1, 64), 2u32),
            (packet("fd00::1", "fd00::2", 1, 64), 28),
        ] {
            for sa in [vec![16, 0], vec![16, 31]] {
                write(&p, &[sa, af.to_ne_bytes().to_vec()].concat()).unwrap();
                sim.run_for(secs(1));
                assert_eq!(b.received(&sim), std::slice::from_ref(&p));
            }
            // Of the other family.
            let sa = [vec![16, 0], (30 - af).to_ne_bytes().to_vec()].concat();
            assert_eq!(write(&p, &sa), Err(EAFNOSUPPORT));
        }
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn output_of_what_is_not_ip() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let write = |p: &[u8]| sim.kernel().output_raw(&a.host, &a.ifname, p, &[16, 2]);
        let good = packet("10.0.0.1", "10.0.0.2", 1, 60);
        assert_eq!(write(&with(good.clone(), 0, &[0x55])), Err(EINVAL));
        assert_eq!(write(&with(good.clone(), 0, &[0x44])), Err(EINVAL));
        assert_eq!(write(&with(good.clone(), 2, &[1, 0])), Err(EINVAL));
        assert_eq!(write(&good[..12]), Err(EINVAL));
        assert_eq!(
            write(&packet("fd00::1", "fd00::2", 1, 60)),
            Err(EAFNOSUPPORT)
        );
        // The route's family counts, not that of the next hop (RFC 5549).
        let route = RouteArg { af: 2, mtu: 0 };
        let v6_hop = Some("fd00::2".parse().unwrap());
        sim.kernel()
            .output(&a.host, &a.ifname, &good, v6_hop, Some(route))
            .unwrap();
        sim.run_for(secs(1));
        assert_eq!(b.received(&sim), std::slice::from_ref(&good));
        assert_eq!(
            sim.kernel().output(&a.host, &a.ifname, &good, v6_hop, None),
            Err(EAFNOSUPPORT)
        );
        a.up(&sim, false);
        assert_eq!(a.send(&sim, &good), Err(ENETDOWN));
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn transmit_without_netmap_takes_nothing() {
    for_seeds(4, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let mut rng = Rng::new(seed, 402);
        let errors = a.ifnet(&sim).counter(counter::OERRORS);
        for len in [0, 1, 13, 14, 15, 34, 100, 1500, 9000] {
            let mut p = vec![0; len];
            rng.fill(&mut p);
            let _ = as_user(|| sim.kernel().transmit(&a.host, &a.ifname, &p));
        }
        let _ = sim.kernel().transmit(&a.host, &a.ifname, &v4());
        sim.run_for(secs(1));
        assert!(b.received(&sim).is_empty());
        assert_eq!(a.ifnet(&sim).counter(counter::OERRORS), errors + 10);
        finish(sim, &[&a, &b]);
    });
}

/// Robustness 15.
#[test]
fn a_tunnel_in_itself_is_cut_off_and_counted() {
    for_seeds(12, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        a.peer(&sim, PeerConf::node(2, &["192.0.2.2/32"]));
        sim.route(&a.host, "192.0.2.2", 32, &a.ifname).unwrap();
        let loops = drops(&sim, "loop");
        for i in 0..10 {
            assert!(!try_send(&sim, &a, &b, i, millis(100)));
        }
        assert_eq!(drops(&sim, "loop"), loops + 10, "each once");
        // Handshakes and keepalives run into it as well, and it all stays finite.
        sim.run_for(secs(700));
        for i in 0..10 {
            let _ = a.send(&sim, &packet("10.0.0.1", "10.0.0.2", i, 64));
            sim.run_for(secs(20));
        }
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn two_tunnels_in_each_other_are_cut_off() {
    for_seeds(12, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        // A second interface on each host; then each one's endpoint is routed through the other.
        let second = |host: &hostkern::sim::Host, n: u8, other: u8, at: &str| {
            let node = Node::bare(&sim, host.clone(), n);
            let mut conf = Conf {
                key: Some(private_key(n)),
                port: Some(4444),
                ..Conf::default()
            };
            conf.peers
                .push(PeerConf::node(other, &["0.0.0.0/0"]).at(at));
            node.set(&sim, &conf).unwrap();
            node.up(&sim, true);
            node
        };
        sim.move_host(&b.host, &["192.0.2.2", "192.0.2.22", "2001:db8::2"]);
        let c = second(&a.host, 3, 4, "192.0.2.22:4444");
        let d = second(&b.host, 4, 3, "192.0.2.1:4444");
        assert_works(&sim, &c, &d);
        a.peer(&sim, PeerConf::node(2, &["0.0.0.0/0"]));
        sim.route(&a.host, "192.0.2.2", 32, &c.ifname).unwrap();
        sim.route(&a.host, "192.0.2.22", 32, &a.ifname).unwrap();
        let wire = Wire::record(&sim);
        let loops = drops(&sim, "loop");
        for (i, node) in [&a, &c, &a, &c].into_iter().enumerate() {
            let _ = node.send(&sim, &packet("10.0.0.1", "10.0.0.2", i as u64, 64));
            sim.run_for(secs(1));
            assert_eq!(
                drops(&sim, "loop"),
                loops + i as u64 + 1,
                "through both and cut off"
            );
        }
        assert!(
            wire.take().iter().all(|d| d.from != a.host.id),
            "nothing has left the host"
        );
        finish(sim, &[&a, &b, &c, &d]);
    });
}

#[test]
fn a_tunnel_in_a_tunnel_works() {
    for_seeds(16, |seed| {
        let sim = world(seed);
        // Outside IPv6, in between 10.0.0.0/24, inside 10.9.0.0/24.
        let make = |name: &str, n: u8| {
            let host = sim.host(name, &[&format!("2001:db8::{n}"), &format!("10.0.0.{n}")]);
            let outer = Node::new(&sim, host.clone(), n);
            let inner = Node::bare(&sim, host, n + 10);
            let conf = Conf {
                key: Some(private_key(n + 10)),
                port: Some(4444),
                ..Conf::default()
            };
            inner.set(&sim, &conf).unwrap();
            inner.up(&sim, true);
            (outer, inner)
        };
        let ((a, c), (b, d)) = (make("a", 1), make("b", 2));
        for (outer, inner, other) in [(&a, &c, 2u8), (&b, &d, 1)] {
            let at = format!("[2001:db8::{other}]:51820");
            outer.peer(
                &sim,
                PeerConf::node(other, &[&format!("10.0.0.{other}/32")]).at(&at),
            );
            let at = format!("10.0.0.{other}:4444");
            inner.peer(
                &sim,
                PeerConf::node(other + 10, &[&format!("10.9.0.{other}/32")]).at(&at),
            );
            sim.route(&outer.host, &format!("10.0.0.{other}"), 32, &outer.ifname)
                .unwrap();
        }
        let wire = Wire::record(&sim);
        for i in 0..30 {
            let p = packet("10.9.0.1", "10.9.0.2", i, 100);
            c.send(&sim, &p).unwrap();
            let mut got = Vec::new();
            sim.run_until(secs(20), || {
                got.extend(d.received(&sim));
                !got.is_empty()
            });
            assert_eq!(got, [p]);
            let p = packet("10.9.0.2", "10.9.0.1", i, 100);
            d.send(&sim, &p).unwrap();
            sim.run_for(secs(10));
            assert_eq!(c.received(&sim), [p]);
        }
        assert!(
            wire.take().iter().all(|d| d.dst.is_ipv6()),
            "nothing of the inner one is on the wire"
        );
        assert_eq!(drops(&sim, "loop"), 0);
        finish(sim, &[&a, &b, &c, &d]);
    });
}

#[test]
fn a_router_between_two_tunnels_forwards() {
    for_seeds(12, |seed| {
        let sim = world(seed);
        let hub = Node::new(&sim, sim.host("hub", &["192.0.2.9"]), 9);
        let spokes: Vec<Node> = (1..4)
            .map(|n| {
                let node = Node::new(&sim, sim.host("spoke", &[&format!("192.0.2.{n}")]), n);
                node.peer(
                    &sim,
                    PeerConf::node(9, &["10.0.0.0/24"]).at("192.0.2.9:51820"),
                );
                hub.peer(&sim, PeerConf::node(n, &[&format!("10.0.0.{n}/32")]));
                node
            })
            .collect();
        sim.forward(&hub.host, true);
        sim.route(&hub.host, "10.0.0.0", 24, &hub.ifname).unwrap();
        for s in &spokes {
            // So that the hub knows where each one is.
            let _ = s.send(&sim, &packet(&format!("10.0.0.{}", s.n), "10.0.0.9", 0, 64));
        }
        sim.run_for(secs(1));
        // In by one peer and out by another of one interface: that is no loop.
        for from in &spokes {
            for to in &spokes {
                if from.n != to.n {
                    assert!(
                        try_send(&sim, from, to, 1, secs(1)),
                        "{} to {}",
                        from.n,
                        to.n
                    );
                }
            }
        }
        assert_eq!(drops(&sim, "loop"), 0);
        let lost = packet("10.0.0.1", "10.0.0.77", 1, 64);
        assert_eq!(hub.send(&sim, &lost), Err(ENETUNREACH));
        let nodes: Vec<&Node> = spokes.iter().chain([&hub]).collect();
        finish(sim, &nodes);
    });
}
