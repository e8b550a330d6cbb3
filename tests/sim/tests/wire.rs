// SPDX-License-Identifier: BSD-2-Clause
//! Exactly what is on the wire: kinds, sizes, padding, indices, counters.

use std::collections::BTreeSet;

use hostkern::RouteArg;
use hostkern::sim::{Sim, for_seeds};
use wgsim_tests::{
    Ghost, Msg, Node, PeerConf, Wire, counter, finish, millis, packet, pair, public_key, secs,
    world,
};

/// Length of the message that carries an inner packet of `len` bytes.
fn message(len: usize, mtu: usize) -> usize {
    let last = if len > mtu { len % mtu } else { len };
    32 + len - last + last.next_multiple_of(16).min(mtu)
}

fn v4(len: usize) -> Vec<u8> {
    let mut p = packet("10.0.0.1", "10.0.0.2", len as u64, (len - 20).max(8));
    p.truncate(len);
    p
}

fn v6(len: usize) -> Vec<u8> {
    let mut p = packet("fd00::1", "fd00::2", len as u64, (len - 40).max(8));
    p.truncate(len);
    let payload = (len - 40) as u16;
    p[4..6].copy_from_slice(&payload.to_be_bytes());
    p
}

/// Sends `p` and checks the size of its message, and that it arrives as it was.
fn check(sim: &Sim, a: &Node, b: &Node, wire: &Wire, p: &mut [u8], mtu: usize) {
    if p[0] >> 4 == 4 {
        let len = p.len() as u16;
        p[2..4].copy_from_slice(&len.to_be_bytes());
    }
    let _ = (wire.take(), b.received(sim));
    a.send(sim, p).unwrap();
    // Short, so that the passive keepalive stays out of it.
    sim.run_for(millis(50));
    let shape = wire.shape();
    assert_eq!(shape.len(), 1, "one message for {} bytes", p.len());
    assert_eq!(
        shape[0].2,
        message(p.len(), mtu),
        "message of {} bytes, MTU {mtu}",
        p.len()
    );
    assert_eq!(b.received(sim), [p.to_vec()], "{} bytes", p.len());
}

#[test]
fn handshake_and_first_data() {
    for_seeds(32, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let wire = Wire::record(&sim);
        a.send(&sim, &v4(84)).unwrap();
        sim.run_for(secs(30));
        assert_eq!(
            wire.shape(),
            [
                (0, Msg::Initiation, 148),
                (1, Msg::Response, 92),
                (0, Msg::Data, 32 + 96),
                (1, Msg::Keepalive, 32),
            ]
        );
        // A handshake for no data, by persistent keepalive, is confirmed by a keepalive.
        let (c, d) = (sim.host("c", &["192.0.2.3"]), sim.host("d", &["192.0.2.4"]));
        let (c, d) = (Node::new(&sim, c, 3), Node::new(&sim, d, 4));
        d.peer(&sim, PeerConf::node(3, &[]));
        let peer = PeerConf::node(4, &[]).at("192.0.2.4:51820");
        c.peer(
            &sim,
            PeerConf {
                keepalive: Some(60),
                ..peer
            },
        );
        sim.run_for(secs(5));
        assert_eq!(
            wire.shape(),
            [
                (2, Msg::Initiation, 148),
                (3, Msg::Response, 92),
                (2, Msg::Keepalive, 32)
            ]
        );
        finish(sim, &[&a, &b, &c, &d]);
    });
}

#[test]
fn padding_goes_to_sixteen_and_never_past_the_mtu() {
    for_seeds(6, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let wire = Wire::record(&sim);
        a.send(&sim, &v4(84)).unwrap();
        sim.run_for(secs(1));
        for payload in [0, 1, 15, 16, 17, 31, 32, 33, 1371, 1372, 1373, 1379, 1380] {
            check(&sim, &a, &b, &wire, &mut v6(payload + 40), 1420);
        }
        for payload in [0, 1, 15, 16, 17, 44, 45, 1387, 1388, 1389, 1398, 1399, 1400] {
            check(&sim, &a, &b, &wire, &mut v4(payload + 20), 1420);
        }
        // Longer than the MTU: the stack says so only by a route of its own, or before it cuts segments.
        for len in [1421, 1436, 2840, 2841, 4000] {
            check(&sim, &a, &b, &wire, &mut v4(len), 1420);
        }
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn padding_knows_the_mtu_of_the_route_and_of_the_interface() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let wire = Wire::record(&sim);
        a.send(&sim, &v4(84)).unwrap();
        sim.run_for(secs(1));
        let _ = b.received(&sim);
        for (len, mtu) in [(1290, 1300), (1297, 1300), (1300, 1300), (70, 73)] {
            let _ = wire.take();
            let mut p = v4(len);
            p[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            let route = RouteArg {
                af: 0,
                mtu: mtu as u32,
            };
            sim.output_routed(&a.host, &a.ifname, &p, route).unwrap();
            sim.run_for(secs(1));
            assert_eq!(
                wire.shape()[0].2,
                message(len, mtu),
                "{len} over a route of {mtu}"
            );
            assert_eq!(b.received(&sim), [p]);
        }
        for mtu in [1400, 1280, 576, 72] {
            sim.kernel().set_mtu(&a.host, &a.ifname, mtu).unwrap();
            for len in [mtu - 17, mtu - 1, mtu] {
                check(&sim, &a, &b, &wire, &mut v4(len as usize), mtu as usize);
            }
        }
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn jumbo_mtus() {
    for_seeds(6, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let wire = Wire::record(&sim);
        a.send(&sim, &v4(84)).unwrap();
        sim.run_for(secs(1));
        for mtu in [9000, 65455] {
            for n in [&a, &b] {
                sim.kernel().set_mtu(&n.host, &n.ifname, mtu).unwrap();
            }
            for len in [
                4095, 4096, 4097, 8984, 8999, 9000, 16384, 30000, 65439, 65455,
            ] {
                if len <= mtu {
                    check(&sim, &a, &b, &wire, &mut v4(len as usize), mtu as usize);
                    check(
                        &sim,
                        &b,
                        &a,
                        &wire,
                        &mut swap(v6(len as usize)),
                        mtu as usize,
                    );
                }
            }
        }
        finish(sim, &[&a, &b]);
    });
}

/// The same packet the other way.
fn swap(mut p: Vec<u8>) -> Vec<u8> {
    let (src, dst) = p[8..40].split_at_mut(16);
    src.swap_with_slice(dst);
    p
}

#[test]
fn padding_is_zeros_and_nothing_else() {
    for_seeds(16, |seed| {
        let sim = world(seed);
        let a = Node::new(&sim, sim.host("a", &["192.0.2.1"]), 1);
        let host = sim.host("ghost", &["192.0.2.2"]);
        let mut ghost = Ghost::new(&sim, &host, 2, 4000, &public_key(1));
        a.peer(&sim, PeerConf::node(2, &["10.0.0.2/32"]));
        ghost.connect(&sim, "192.0.2.1:51820".parse().unwrap());
        let _ = ghost.take(&sim);
        for len in 28..60 {
            let mut p = packet("10.0.0.1", "10.0.0.2", 0xfefe_fefe_fefe_fefe, len - 20);
            p[20..].fill(0xfe);
            a.send(&sim, &p).unwrap();
            sim.run_for(millis(50));
            let got = ghost.take(&sim);
            assert_eq!(got.len(), 1);
            let plain = ghost.open(&got[0]).expect("an authentic packet");
            assert_eq!(plain[..len], p);
            assert!(
                plain[len..].iter().all(|&b| b == 0),
                "padding {:?}",
                &plain[len..]
            );
        }
        finish(sim, &[&a]);
    });
}

#[test]
fn counters_count_and_indices_are_random() {
    let mut indices = BTreeSet::new();
    let seeds = std::cell::Cell::new(0);
    let all = std::cell::RefCell::new(&mut indices);
    for_seeds(16, |seed| {
        seeds.set(seeds.get() + 1);
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let wire = Wire::record(&sim);
        for i in 0..50 {
            a.send(&sim, &packet("10.0.0.1", "10.0.0.2", i, 64))
                .unwrap();
            if i % 7 == 0 {
                sim.run_for(secs(1));
            }
        }
        sim.run_for(secs(1));
        let seen = wire.take();
        let index = |d: &[u8]| u32::from_le_bytes(d[4..8].try_into().unwrap());
        let data: Vec<_> = seen
            .iter()
            .filter(|d| d.kind() == Msg::Data && d.from == 0)
            .collect();
        let counters: Vec<u64> = data
            .iter()
            .map(|d| u64::from_le_bytes(d.payload[8..16].try_into().unwrap()))
            .collect();
        assert_eq!(
            counters,
            (0..50).collect::<Vec<_>>(),
            "in order, each once, from 0"
        );
        for d in seen
            .iter()
            .filter(|d| matches!(d.kind(), Msg::Initiation | Msg::Response))
        {
            all.borrow_mut().insert(index(&d.payload));
        }
        assert_eq!(b.received(&sim).len(), 50);
        finish(sim, &[&a, &b]);
    });
    // Two a world, of all 32 bits.
    assert_eq!(indices.len(), 2 * seeds.get());
    assert_eq!(indices.iter().fold(0, |a, b| a | b) >> 20, 0xfff);
}

#[test]
fn byte_counters_follow_the_wire() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let wire = Wire::record(&sim);
        for i in 0..20 {
            a.send(&sim, &packet("10.0.0.1", "10.0.0.2", i, 30 + i as usize))
                .unwrap();
            b.send(&sim, &packet("10.0.0.2", "10.0.0.1", i, 90))
                .unwrap();
            sim.run_for(secs(1));
        }
        sim.run_for(secs(20));
        let sent = |n| -> u64 { wire.seen_of(n).iter().map(|d| d.payload.len() as u64).sum() };
        let (from_a, from_b) = (sent(0), sent(1));
        assert_eq!(a.about(&sim, 2).tx, from_a);
        assert_eq!(b.about(&sim, 1).tx, from_b);
        // Data counts without its padding on the receiving side.
        assert!(b.about(&sim, 1).rx < from_a && b.about(&sim, 1).rx > from_a - 20 * 16);
        let ifnet = a.ifnet(&sim);
        assert_eq!(
            (
                ifnet.counter(counter::OBYTES),
                ifnet.counter(counter::IBYTES)
            ),
            (from_a, a.about(&sim, 2).rx)
        );
        assert_eq!(
            (
                ifnet.counter(counter::IERRORS),
                ifnet.counter(counter::OERRORS)
            ),
            (0, 0),
            "no errors"
        );
        finish(sim, &[&a, &b]);
    });
}
