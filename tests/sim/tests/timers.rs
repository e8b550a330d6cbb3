// SPDX-License-Identifier: BSD-2-Clause
//! The timers of the paper, section 6, as an observer of the wire sees them.

use hostkern::sim::{Link, Sim, for_seeds};
use wgsim_tests::{
    Conf, Msg, Node, PeerConf, Wire, assert_ping, assert_works, drops, finish, handshakes, millis,
    packet, pair, secs, try_send, world,
};

const SEEDS: u64 = 16;

fn ping(tag: u64) -> Vec<u8> {
    packet("10.0.0.1", "10.0.0.2", tag, 64)
}

fn pong(tag: u64) -> Vec<u8> {
    packet("10.0.0.2", "10.0.0.1", tag, 64)
}

/// A pair with a session that `a` opened; returns when it was made. What the wire has seen is forgotten.
fn session(sim: &Sim) -> (Node, Node, Wire, u64) {
    let (a, b) = pair(sim);
    let wire = Wire::record(sim);
    a.send(sim, &ping(1)).unwrap();
    sim.run_for(secs(1));
    assert_eq!(a.received(sim).len() + b.received(sim).len(), 1);
    let seen = wire.take();
    let kinds: Vec<_> = seen.iter().map(|d| (d.from, d.kind())).collect();
    assert_eq!(
        kinds,
        [(0, Msg::Initiation), (1, Msg::Response), (0, Msg::Data)]
    );
    (a, b, wire, seen[1].at)
}

fn sleep_until(sim: &Sim, start: u64, seconds: u64) {
    let until = start + seconds * 1_000_000_000;
    sim.run_for(std::time::Duration::from_nanos(until - sim.now()));
}

#[test]
fn a_silent_receiver_sends_one_keepalive_after_ten_seconds() {
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b, wire, start) = session(&sim);
        sim.run_for(secs(400));
        let seen = wire.take();
        assert_eq!(seen.len(), 1, "nothing but the keepalive");
        assert_eq!(
            (seen[0].from, seen[0].kind(), seen[0].payload.len()),
            (1, Msg::Keepalive, 32)
        );
        assert_eq!(seen[0].secs_since(start), 10);
        assert!(
            b.received(&sim).is_empty() && a.received(&sim).is_empty(),
            "a keepalive is not delivered"
        );
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn unanswered_data_opens_a_handshake_after_fifteen_seconds() {
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b, wire, start) = session(&sim);
        sleep_until(&sim, start, 20);
        let _ = wire.take();
        sim.link_one_way(
            &b.host,
            &a.host,
            Link {
                cut: true,
                ..Link::default()
            },
        );
        let sent = sim.now();
        a.send(&sim, &ping(2)).unwrap();
        sim.run_for(secs(14));
        assert_eq!(wire.count_from(0, Msg::Initiation), 0);
        sim.run_for(millis(1400));
        assert_eq!(
            wire.count_from(0, Msg::Initiation),
            1,
            "15 s and at most a third of one"
        );
        sim.run_for(secs(11));
        let times: Vec<u64> = wire
            .take()
            .iter()
            .filter(|d| d.from == 0 && d.kind() == Msg::Initiation)
            .map(|d| d.secs_since(sent))
            .collect();
        assert_eq!(times.len(), 3, "again every 5 s: {times:?}");
        sim.link(&a.host, &b.host, Link::default());
        assert_works(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn the_initiator_renews_a_busy_session_after_two_minutes() {
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b, wire, start) = session(&sim);
        let mut sent = 0;
        for i in 0..60 {
            // The responder talks most; it is not the one who renews.
            b.send(&sim, &pong(i)).unwrap();
            sim.run_for(secs(3));
            a.send(&sim, &ping(i)).unwrap();
            sim.run_for(secs(4));
            sent += 1;
        }
        let got = (a.received(&sim).len(), b.received(&sim).len());
        assert_eq!(got, (sent, sent), "nothing is lost at a change of sessions");
        let seen = wire.take();
        let times: Vec<u64> = seen
            .iter()
            .filter(|d| d.kind() == Msg::Initiation)
            .map(|d| d.secs_since(start))
            .collect();
        assert!(
            seen.iter()
                .all(|d| d.kind() != Msg::Initiation || d.from == 0),
            "only the initiator"
        );
        assert_eq!(times.len(), 3, "{times:?}");
        let mut last = 0;
        for t in times {
            assert!(
                (120..=128).contains(&(t - last)),
                "renewed {} s after the last",
                t - last
            );
            last = t;
        }
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_receiving_initiator_renews_in_the_last_minute() {
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b, wire, start) = session(&sim);
        sleep_until(&sim, start, 164);
        let _ = wire.take();
        b.send(&sim, &pong(1)).unwrap();
        sim.run_for(millis(900));
        assert_eq!(wire.shape().len(), 1, "not before 165 s");
        sleep_until(&sim, start, 166);
        b.send(&sim, &pong(2)).unwrap();
        sim.run_for(millis(500));
        let kinds: Vec<_> = wire.take().iter().map(|d| (d.from, d.kind())).collect();
        assert_eq!(
            kinds[..3],
            [(1, Msg::Data), (0, Msg::Initiation), (1, Msg::Response)]
        );
        assert_eq!(a.received(&sim).len(), 2);
        assert_ping(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_receiving_responder_does_not_renew() {
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        // b opens it, so a answers; and a must be told nothing by its own sending.
        b.send(&sim, &pong(0)).unwrap();
        sim.run_for(secs(170));
        let wire = Wire::record(&sim);
        a.send(&sim, &ping(1)).unwrap();
        sim.run_for(millis(500));
        let seen = wire.shape();
        assert_eq!(seen[0].1, Msg::Data);
        assert_eq!(
            seen[1].0, 1,
            "the initiator, b, renews on receiving; not a on sending"
        );
        assert_eq!(seen[1].1, Msg::Initiation);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_session_ends_after_three_minutes() {
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b, _, start) = session(&sim);
        // Two packets are held up on the way.
        let held = Wire::filter(&sim, |_| false);
        a.send(&sim, &ping(8)).unwrap();
        sim.run_for(millis(10));
        a.send(&sim, &ping(9)).unwrap();
        sim.run_for(millis(10));
        let held = held.take();
        assert_eq!(held.len(), 2);
        let wire = Wire::record(&sim);
        // b answers, so that a has no reason for a new handshake.
        b.send(&sim, &pong(1)).unwrap();
        sleep_until(&sim, start, 179);
        sim.spoof_datagram(&a.host, held[0].src, held[0].dst, &held[0].payload);
        sim.run_for(millis(500));
        assert_eq!(b.received(&sim), [ping(8)], "at 179 s it is received");
        sleep_until(&sim, start, 181);
        let expired = drops(&sim, "expired_session");
        sim.spoof_datagram(&a.host, held[1].src, held[1].dst, &held[1].payload);
        sim.run_for(millis(500));
        assert!(b.received(&sim).is_empty(), "at 181 s it is not");
        assert_eq!(drops(&sim, "expired_session"), expired + 1);
        // What is sent now needs a new one, by the responder of old too.
        let _ = wire.take();
        b.send(&sim, &pong(2)).unwrap();
        sim.run_for(secs(1));
        assert_eq!(wire.take()[0].kind(), Msg::Initiation);
        assert_eq!(a.received(&sim), [pong(1), pong(2)]);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn keys_are_wiped_after_nine_minutes() {
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b, _, start) = session(&sim);
        let held = Wire::filter(&sim, |_| false);
        a.send(&sim, &ping(9)).unwrap();
        sim.run_for(millis(10));
        let held = held.take();
        sim.off_wire();
        b.send(&sim, &pong(1)).unwrap();
        let replay = |at: u64, reason: &str| {
            sleep_until(&sim, start, at);
            let before = drops(&sim, reason);
            sim.spoof_datagram(&a.host, held[0].src, held[0].dst, &held[0].payload);
            sim.run_for(millis(100));
            assert_eq!(drops(&sim, reason), before + 1, "{reason} at {at} s");
        };
        replay(538, "expired_session");
        replay(542, "unknown_index");
        assert!(b.received(&sim).is_empty());
        let before = handshakes(&sim);
        assert_ping(&sim, &a, &b);
        assert_eq!(handshakes(&sim), before + 2, "data needs a new handshake");
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_handshake_is_given_up_after_ninety_seconds_and_revived_by_data() {
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        sim.link(
            &a.host,
            &b.host,
            Link {
                cut: true,
                ..Link::default()
            },
        );
        let wire = Wire::record(&sim);
        let start = sim.now();
        a.send(&sim, &ping(1)).unwrap();
        sim.run_for(secs(89));
        let tries = wire.count(Msg::Initiation);
        assert!((17..=18).contains(&tries), "{tries} initiations in 89 s");
        let lost = drops(&sim, "no_session");
        sim.run_for(secs(300));
        let seen = wire.take();
        assert!(
            seen.iter()
                .all(|d| d.kind() == Msg::Initiation && d.from == 0)
        );
        assert_eq!(seen.len(), 18);
        assert!(
            seen[17].secs_since(start) <= 92,
            "the last one {} s in",
            seen[17].secs_since(start)
        );
        assert!(
            seen.windows(2)
                .all(|w| (5_000..=5_334).contains(&((w[1].at - w[0].at) / 1_000_000)))
        );
        assert_eq!(
            drops(&sim, "no_session"),
            lost + 1,
            "what waited is dropped"
        );
        // The way is free again: nothing happens by itself.
        sim.link(&a.host, &b.host, Link::default());
        sim.run_for(secs(100));
        assert!(wire.take().is_empty() && b.received(&sim).is_empty());
        assert_ping(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn new_data_prolongs_the_attempts() {
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        sim.link(
            &a.host,
            &b.host,
            Link {
                cut: true,
                ..Link::default()
            },
        );
        let wire = Wire::record(&sim);
        for i in 0..8 {
            a.send(&sim, &ping(i)).unwrap();
            sim.run_for(secs(30));
        }
        // 240 s of traffic and never a pause of 90 s without a try.
        let tries = wire.count(Msg::Initiation);
        assert!((40..=49).contains(&tries), "{tries} initiations in 240 s");
        sim.link(&a.host, &b.host, Link::default());
        sim.run_for(secs(6));
        assert_eq!(b.received(&sim).len(), 8, "all that waited is sent");
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn persistent_keepalive_keeps_time() {
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let wire = Wire::record(&sim);
        let start = sim.now();
        a.peer(
            &sim,
            PeerConf {
                keepalive: Some(8),
                ..PeerConf::node(2, &[])
            },
        );
        sim.run_for(secs(27));
        let times = |wire: &Wire| -> Vec<u64> {
            let seen = wire.take();
            seen.iter()
                .filter(|d| d.kind() == Msg::Keepalive)
                .map(|d| d.secs_since(start))
                .collect()
        };
        assert_eq!(times(&wire), [0, 8, 16, 24], "at once, then each 8 s");
        // Data in between moves it, both what is sent and what is received.
        a.send(&sim, &ping(1)).unwrap();
        sim.run_for(secs(3));
        b.send(&sim, &pong(1)).unwrap();
        sim.run_for(secs(18));
        assert_eq!(times(&wire), [38, 46], "8 s after the last packet");
        // Off.
        a.peer(
            &sim,
            PeerConf {
                keepalive: Some(0),
                ..PeerConf::node(2, &[])
            },
        );
        sim.run_for(secs(200));
        assert!(wire.take().is_empty());
        // The same value again is no change.
        a.peer(
            &sim,
            PeerConf {
                keepalive: Some(0),
                ..PeerConf::node(2, &[])
            },
        );
        sim.run_for(secs(60));
        assert!(wire.take().is_empty());
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn persistent_keepalive_follows_the_interface_up_and_down() {
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        a.up(&sim, false);
        let wire = Wire::record(&sim);
        a.peer(
            &sim,
            PeerConf {
                keepalive: Some(30),
                ..PeerConf::node(2, &[])
            },
        );
        sim.run_for(secs(100));
        assert!(wire.take().is_empty(), "down, it sends nothing");
        a.up(&sim, true);
        sim.run_for(secs(1));
        let kinds: Vec<_> = wire.take().iter().map(|d| (d.from, d.kind())).collect();
        assert_eq!(
            kinds,
            [
                (0, Msg::Initiation),
                (1, Msg::Response),
                (0, Msg::Keepalive)
            ],
            "up, it sends at once"
        );
        a.up(&sim, false);
        sim.run_for(secs(100));
        assert!(wire.take().is_empty());
        a.up(&sim, true);
        sim.run_for(secs(1));
        assert_eq!(
            wire.count(Msg::Initiation),
            1,
            "without regard to when the last one was"
        );
        // A peer that is added while the interface is up starts at once, too.
        let c = Node::new(&sim, sim.host("c", &["192.0.2.3"]), 3);
        let _ = wire.take();
        let peer = PeerConf::node(2, &["10.0.0.2/32"]).at("192.0.2.2:51820");
        c.peer(
            &sim,
            PeerConf {
                keepalive: Some(5),
                ..peer
            },
        );
        b.peer(&sim, PeerConf::node(3, &["10.0.0.3/32"]));
        sim.run_for(secs(8));
        assert!(wire.count_from(2, Msg::Keepalive) >= 1);
        assert!(
            try_send(&sim, &b, &c, 5, secs(5)),
            "which is how b knows where c is"
        );
        finish(sim, &[&a, &b, &c]);
    });
}

#[test]
fn simultaneous_initiation_leaves_a_working_tunnel() {
    for_seeds(64, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let wire = Wire::record(&sim);
        a.send(&sim, &ping(1)).unwrap();
        b.send(&sim, &pong(1)).unwrap();
        sim.run_for(secs(12));
        assert_eq!(wire.count(Msg::Initiation), 2, "both, and none again");
        assert_eq!(
            (a.received(&sim), b.received(&sim)),
            (vec![pong(1)], vec![ping(1)])
        );
        let mut sent = 0;
        for i in 0..40 {
            a.send(&sim, &ping(i)).unwrap();
            b.send(&sim, &pong(i)).unwrap();
            sent += 1;
            sim.run_for(secs(5));
        }
        assert_eq!(wire.count(Msg::Initiation), 3, "one of them renews");
        for got in [a.received(&sim).len(), b.received(&sim).len()] {
            assert_eq!(got, sent, "nothing is lost");
        }
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_rekey_is_followed_by_a_handshake_the_other_way() {
    // Keys of one side are lost (down and up) right after a handshake: the next one must not have to wait.
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b, _, _) = session(&sim);
        b.up(&sim, false);
        b.up(&sim, true);
        assert!(
            try_send(&sim, &b, &a, 7, secs(1)),
            "b opens a new one at once"
        );
        assert!(try_send(&sim, &a, &b, 8, secs(1)));
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn handshakes_survive_a_bad_network() {
    for_seeds(24, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let worse = Link {
            loss: 0.3,
            duplicate: 0.3,
            reorder: 0.3,
            corrupt: 0.2,
            jitter: millis(400),
            ..Link::default()
        };
        sim.link(
            &a.host,
            &b.host,
            if seed % 2 == 0 { Link::bad() } else { worse },
        );
        assert_works(&sim, &a, &b);
        // Traffic over several sessions: nothing twice, nothing damaged.
        let (mut got_a, mut got_b) = (Vec::new(), Vec::new());
        for i in 0..150 {
            a.send(&sim, &ping(i)).unwrap();
            b.send(&sim, &pong(i)).unwrap();
            sim.run_for(secs(4));
            got_a.extend(a.received(&sim));
            got_b.extend(b.received(&sim));
        }
        for (got, make) in [(got_a, pong as fn(u64) -> Vec<u8>), (got_b, ping)] {
            let mut seen = std::collections::BTreeSet::new();
            for p in got {
                let tag = u64::from_be_bytes(p[20..28].try_into().unwrap());
                assert!(seen.insert(tag), "{tag} came twice");
                assert_eq!(p, make(tag), "what arrives is what was sent");
            }
            assert!(seen.len() > 40, "{} of 150", seen.len());
        }
        sim.link(&a.host, &b.host, Link::default());
        sim.run_for(secs(10));
        let _ = (a.received(&sim), b.received(&sim));
        assert_works(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn nothing_is_sent_to_nobody() {
    for_seeds(4, |seed| {
        let sim = world(seed);
        let wire = Wire::record(&sim);
        let a = Node::new(&sim, sim.host("a", &["192.0.2.1"]), 1);
        // No endpoint; and a persistent keepalive.
        a.peer(
            &sim,
            PeerConf {
                keepalive: Some(5),
                ..PeerConf::node(2, &["10.0.0.2/32"])
            },
        );
        // No private key.
        let b = Node::bare(&sim, sim.host("b", &["192.0.2.2"]), 2);
        b.set(
            &sim,
            &Conf {
                port: Some(51820),
                ..Conf::default()
            },
        )
        .unwrap();
        b.up(&sim, true);
        let peer = PeerConf::node(1, &["10.0.0.1/32"]).at("192.0.2.1:51820");
        b.peer(
            &sim,
            PeerConf {
                keepalive: Some(5),
                ..peer
            },
        );
        let _ = b.send(&sim, &pong(1));
        sim.run_for(secs(60));
        assert!(wire.take().is_empty());
        finish(sim, &[&a, &b]);
    });
}
