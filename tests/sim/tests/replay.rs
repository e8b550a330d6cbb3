// SPDX-License-Identifier: BSD-2-Clause
//! Attacks with recorded, altered and forged messages.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use hostkern::sim::{Rng, Sim, for_seeds};
use wgsim_tests::{
    Ghost, Msg, Node, PeerConf, Wire, assert_ping, counter, drops, finish, handshakes, millis,
    packet, pair, public_key, secs, try_send, world,
};

const A: &str = "192.0.2.1:51820";

/// An interface `a` with the peer 2, which the test plays from two addresses.
fn ghost(sim: &Sim) -> (Node, Ghost, SocketAddr) {
    let a = Node::new(sim, sim.host("a", &["192.0.2.1"]), 1);
    let host = sim.host("ghost", &["192.0.2.2", "192.0.2.22"]);
    let mut ghost = Ghost::new(sim, &host, 2, 4000, &public_key(1));
    a.peer(sim, PeerConf::node(2, &["10.0.0.2/32"]));
    let to = A.parse().unwrap();
    ghost.connect(sim, to);
    let _ = ghost.take(sim);
    assert_eq!(
        a.about(sim, 2).endpoint,
        Some("192.0.2.2:4000".parse().unwrap())
    );
    (a, ghost, to)
}

fn pong(tag: u64) -> Vec<u8> {
    packet("10.0.0.2", "10.0.0.1", tag, 64)
}

fn elsewhere(ghost: &Ghost) -> SocketAddr {
    ghost.address("192.0.2.22")
}

#[test]
fn recorded_messages_are_worth_nothing() {
    for_seeds(16, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let wire = Wire::record(&sim);
        assert_ping(&sim, &a, &b);
        for i in 0..40 {
            a.send(&sim, &packet("10.0.0.1", "10.0.0.2", i, 100))
                .unwrap();
            b.send(&sim, &pong(i)).unwrap();
            sim.run_for(millis(200));
        }
        assert_eq!((a.received(&sim).len(), b.received(&sim).len()), (40, 40));
        sim.run_for(secs(12));
        let seen = wire.take();
        sim.off_wire();
        let before = (a.state(&sim), b.state(&sim), handshakes(&sim));
        let c = sim.host("c", &["198.51.100.1"]);
        let mut rng = Rng::new(seed, 100);
        let spoofed: SocketAddr = "198.51.100.1:1".parse().unwrap();
        for _ in 0..3 * seen.len() {
            // In any order, from where they came and from elsewhere.
            let d = &seen[rng.below(seen.len() as u64) as usize];
            let src = if rng.chance(0.5) { d.src } else { spoofed };
            sim.spoof_datagram(&c, src, d.dst, &d.payload);
            sim.run_for(millis(rng.below(40)));
        }
        sim.run_for(secs(12));
        assert!(a.received(&sim).is_empty() && b.received(&sim).is_empty());
        assert_eq!(
            (a.state(&sim), b.state(&sim), handshakes(&sim)),
            before,
            "nothing has changed"
        );
        assert_ping(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn every_message_again_at_once_is_delivered_once() {
    for_seeds(24, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        // Each datagram is sent three times by the network, from the start.
        let link = hostkern::sim::Link {
            duplicate: 1.0,
            jitter: millis(20),
            ..hostkern::sim::Link::default()
        };
        sim.link(&a.host, &b.host, link);
        assert!(try_send(&sim, &a, &b, 1000, secs(20)));
        for i in 0..200 {
            a.send(&sim, &packet("10.0.0.1", "10.0.0.2", i, 100))
                .unwrap();
            if i % 8 == 0 {
                sim.run_for(millis(5));
            }
        }
        sim.run_for(secs(1));
        let got = b.received(&sim);
        assert_eq!(got.len(), 200);
        assert_eq!(got.iter().collect::<BTreeSet<_>>().len(), 200);
        assert!(drops(&sim, "replayed") >= 200);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn the_replay_window_has_its_limits() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, ghost, to) = ghost(&sim);
        let window = wg::replay::WINDOW;
        // (counter, delivered)
        let script = [
            (5, true),
            (5, false),
            (4, true),
            (100, true),
            (99, true),
            (99, false),
            (50 + window, true),
            (49, false),
            (50, true),
            (50, false),
            (51, true),
            (20 * window, true),
            (100, false),
            (19 * window - 1, false),
            (19 * window, true),
            (19 * window + 1, true),
            (20 * window - 1, true),
            (20 * window - 1, false),
            (20 * window, false),
            ((1 << 60) + 5, true),
            ((1 << 60) + 5, false),
            (1 << 60, true),
        ];
        for (n, (counter, ok)) in script.into_iter().enumerate() {
            let p = pong(n as u64);
            ghost.send(&sim, to, &ghost.seal_at(counter, &p));
            sim.run_for(millis(50));
            let got = a.received(&sim);
            assert_eq!(got == [p], ok, "step {n}, counter {counter}");
        }
        finish(sim, &[&a]);
    });
}

#[test]
fn counters_past_the_last_are_refused() {
    for_seeds(4, |seed| {
        let sim = world(seed);
        let (a, ghost, to) = ghost(&sim);
        let last = u64::MAX - (1 << 13);
        for (counter, ok) in [
            (last, false),
            (u64::MAX, false),
            (last - 1, true),
            (last + 1, false),
        ] {
            ghost.send(&sim, to, &ghost.seal_at(counter, &pong(counter)));
            sim.run_for(millis(50));
            assert_eq!(a.received(&sim).len(), usize::from(ok), "counter {counter}");
        }
        finish(sim, &[&a]);
    });
}

#[test]
fn reordering_within_the_window_loses_nothing() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, ghost, to) = ghost(&sim);
        let mut all: Vec<_> = (0..600).map(|i| ghost.seal(&pong(i))).collect();
        let mut rng = Rng::new(seed, 101);
        for i in (1..all.len()).rev() {
            all.swap(i, rng.below(i as u64 + 1) as usize);
        }
        for m in &all {
            ghost.send(&sim, to, m);
            sim.run_for(std::time::Duration::from_micros(100));
        }
        sim.run_for(millis(100));
        let got = a.received(&sim);
        assert_eq!(got.len(), 600);
        assert_eq!(got.iter().collect::<BTreeSet<_>>().len(), 600);
        finish(sim, &[&a]);
    });
}

/// Robustness 1: CVE-2026-58085.
#[test]
fn a_wrong_tag_does_nothing_in_whatever_byte() {
    for_seeds(3, |seed| {
        let sim = world(seed);
        let (a, ghost, to) = ghost(&sim);
        // A data packet, and a keepalive of 32 bytes.
        for plain in [pong(1), Vec::new()] {
            let good = ghost.seal(&plain);
            let before = a.get_raw(&sim);
            let (errors, bad) = (
                a.ifnet(&sim).counter(counter::IERRORS),
                drops(&sim, "bad_tag"),
            );
            let mut sent = 0;
            for at in 0..good.len() {
                for bit in [0, 7] {
                    let mut m = good.clone();
                    m[at] ^= 1 << bit;
                    // From elsewhere: an authentic packet would move the endpoint.
                    sim.spoof_datagram(&ghost.host, elsewhere(&ghost), to, &m);
                    sent += 1;
                    sim.run_for(millis(6));
                }
            }
            assert!(a.received(&sim).is_empty(), "nothing is delivered");
            assert_eq!(
                a.get_raw(&sim),
                before,
                "nothing has changed: no byte counted, no endpoint moved"
            );
            assert_eq!(
                a.ifnet(&sim).counter(counter::IERRORS),
                errors + sent,
                "each is counted"
            );
            // Type and reserved bytes make it malformed, the index unknown, the rest a wrong tag.
            assert_eq!(drops(&sim, "bad_tag"), bad + sent - 16);
            // The genuine one is still new, and moves the endpoint.
            sim.spoof_datagram(&ghost.host, elsewhere(&ghost), to, &good);
            sim.run_for(millis(50));
            assert_eq!(a.received(&sim).len(), usize::from(!plain.is_empty()));
            assert_eq!(a.about(&sim, 2).endpoint, Some(elsewhere(&ghost)));
            ghost.send(&sim, to, &ghost.seal(&[]));
            sim.run_for(millis(50));
            assert_eq!(a.about(&sim, 2).endpoint, Some(ghost.address("192.0.2.2")));
        }
        finish(sim, &[&a]);
    });
}

#[test]
fn truncated_and_lengthened_messages_are_dropped() {
    for_seeds(4, |seed| {
        let sim = world(seed);
        let (a, mut ghost, to) = ghost(&sim);
        let data = ghost.seal(&pong(1));
        let initiation = ghost.initiation(&sim);
        let before = a.get_raw(&sim);
        for good in [&data[..], &ghost.seal(&[])[..], &initiation[..]] {
            for len in (0..good.len()).chain([good.len() + 1, good.len() + 16, 1500]) {
                let mut m = good.to_vec();
                m.resize(len, 0);
                sim.spoof_datagram(&ghost.host, elsewhere(&ghost), to, &m);
                sim.run_for(millis(1));
            }
        }
        sim.run_for(millis(50));
        assert_eq!(a.get_raw(&sim), before);
        assert!(a.received(&sim).is_empty());
        ghost.send(&sim, to, &data);
        sim.run_for(millis(50));
        assert_eq!(a.received(&sim).len(), 1);
        finish(sim, &[&a]);
    });
}

#[test]
fn a_corrupted_handshake_message_has_no_effect() {
    for_seeds(2, |seed| {
        let sim = world(seed);
        let a = Node::new(&sim, sim.host("a", &["192.0.2.1"]), 1);
        let host = sim.host("ghost", &["192.0.2.2"]);
        let mut ghost = Ghost::new(&sim, &host, 2, 4000, &public_key(1));
        a.peer(&sim, PeerConf::node(2, &["10.0.0.2/32"]));
        let good = ghost.initiation(&sim);
        let before = a.get_raw(&sim);
        // All but the second MAC, which nobody looks at without load.
        for at in 0..132 {
            let mut m = good;
            m[at] ^= 1 << (at % 8);
            ghost.send(&sim, A.parse().unwrap(), &m);
            sim.run_for(millis(60));
        }
        assert!(ghost.take(&sim).is_empty(), "no answer to any");
        assert_eq!(a.get_raw(&sim), before);
        ghost.send(&sim, A.parse().unwrap(), &good);
        sim.run_for(millis(60));
        let answer = ghost.take(&sim);
        assert_eq!(answer.len(), 1, "the genuine one is not spoilt");
        assert!(ghost.complete(&sim, &answer[0]));
        // And once only.
        ghost.send(&sim, A.parse().unwrap(), &good);
        sim.run_for(millis(60));
        assert!(ghost.take(&sim).is_empty());
        finish(sim, &[&a]);
    });
}

#[test]
fn a_corrupted_response_has_no_effect() {
    for_seeds(2, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let wire = Wire::filter(&sim, |d| d.payload.len() != 92);
        a.send(&sim, &packet("10.0.0.1", "10.0.0.2", 1, 64))
            .unwrap();
        sim.run_for(millis(100));
        let seen = wire.take();
        let good = seen.iter().find(|d| d.kind() == Msg::Response).unwrap();
        let before = a.get_raw(&sim);
        sim.off_wire();
        for at in 0..76 {
            let mut m = good.payload.clone();
            m[at] ^= 1 << (at % 8);
            sim.spoof_datagram(&b.host, good.src, good.dst, &m);
            sim.run_for(millis(10));
        }
        assert_eq!(a.get_raw(&sim), before);
        sim.spoof_datagram(&b.host, good.src, good.dst, &good.payload);
        sim.run_for(millis(100));
        assert_eq!(
            b.received(&sim).len(),
            1,
            "the genuine one completes the handshake"
        );
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn unknown_and_foreign_indices() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, first, to) = ghost(&sim);
        let mut second = Ghost::new(&sim, &first.host, 3, 5000, &public_key(1));
        a.peer(&sim, PeerConf::node(3, &["10.0.0.3/32"]));
        second.connect(&sim, to);
        let _ = second.take(&sim);
        let before = a.get_raw(&sim);
        let unknown = drops(&sim, "unknown_index");
        let mut rng = Rng::new(seed, 102);
        for _ in 0..100 {
            let mut m = first.seal(&pong(1));
            rng.fill(&mut m[4..8]);
            sim.spoof_datagram(&first.host, elsewhere(&first), to, &m);
        }
        sim.run_for(millis(100));
        assert_eq!(drops(&sim, "unknown_index"), unknown + 100);
        // The receiver index of the one with the keys of the other.
        let bad = drops(&sim, "bad_tag");
        let mut m = first.seal(&pong(1));
        m[4..8].copy_from_slice(&second.seal(&[])[4..8]);
        first.send(&sim, to, &m);
        sim.run_for(millis(100));
        assert_eq!(drops(&sim, "bad_tag"), bad + 1);
        // Responses and cookie replies for nobody, and for a session.
        for index in [m[4..8].to_vec(), vec![1, 2, 3, 4]] {
            for (kind, len) in [(2, 92), (3, 64)] {
                let mut m = vec![0; len];
                m[0] = kind;
                let at = if kind == 2 { 8 } else { 4 };
                m[at..at + 4].copy_from_slice(&index);
                first.send(&sim, to, &m);
            }
        }
        sim.run_for(millis(100));
        assert_eq!(a.get_raw(&sim), before);
        assert!(a.received(&sim).is_empty());
        finish(sim, &[&a]);
    });
}

/// Robustness 8: CVE-2021-46873.
#[test]
fn a_clock_that_steps_back_neither_locks_out_nor_opens_to_replay() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        sim.step_clock(365 * 86_400);
        let wire = Wire::record(&sim);
        assert_ping(&sim, &a, &b);
        let seen = wire.take();
        let initiation = seen.iter().find(|d| d.kind() == Msg::Initiation).unwrap();
        sim.step_clock(-2 * 365 * 86_400);
        for _ in 0..3 {
            // New handshakes from both sides, in spite of timestamps from the future.
            for (from, to) in [(&a, &b), (&b, &a)] {
                from.up(&sim, false);
                from.up(&sim, true);
                sim.run_for(secs(1));
                assert!(
                    try_send(&sim, from, to, 1, secs(1)),
                    "a handshake after a step back"
                );
            }
        }
        let (before, done) = (b.state(&sim), handshakes(&sim));
        sim.spoof_datagram(&a.host, initiation.src, initiation.dst, &initiation.payload);
        sim.run_for(secs(1));
        assert_eq!(
            (b.state(&sim), handshakes(&sim)),
            (before, done),
            "the old one is a replay"
        );
        finish(sim, &[&a, &b]);
    });
}
