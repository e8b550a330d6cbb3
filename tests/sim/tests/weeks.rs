// SPDX-License-Identifier: BSD-2-Clause
//! Virtual weeks.

use hostkern::sim::{Link, Sim, for_seeds};
use wgsim_tests::{
    Msg, Node, PeerConf, Wire, assert_works, finish, handshakes, packet, pair, secs, try_send,
    world,
};

const DAY: u64 = 86_400;

/// Live blocks of the driver's memory, when nothing is under way.
fn blocks(sim: &Sim) -> usize {
    sim.settle();
    sim.account().stats().live_objects
}

fn counted(sim: &Sim) -> Wire {
    Wire::record(sim)
}

#[test]
fn an_idle_tunnel_is_idle_for_four_weeks() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let empty = blocks(&sim);
        let wire = counted(&sim);
        sim.run_for(secs(28 * DAY));
        assert!(wire.take().is_empty() && handshakes(&sim) == 0);
        assert!(try_send(&sim, &a, &b, 1, secs(5)));
        let _ = wire.take();
        sim.run_for(secs(28 * DAY));
        assert_eq!(wire.shape(), [(1, Msg::Keepalive, 32)]);
        assert_eq!(handshakes(&sim), 2);
        assert_eq!(blocks(&sim), empty, "sessions are gone with their keys");
        assert!(try_send(&sim, &b, &a, 2, secs(5)));
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_week_with_persistent_keepalive() {
    for_seeds(1, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        a.peer(
            &sim,
            PeerConf {
                keepalive: Some(25),
                ..PeerConf::node(2, &[])
            },
        );
        sim.run_for(secs(3600));
        let early = blocks(&sim);
        let (mut keepalives, mut initiations) = (0, 0);
        let wire = counted(&sim);
        for _ in 0..7 * 24 {
            sim.run_for(secs(3600));
            keepalives += wire.count_from(0, Msg::Keepalive);
            initiations += wire.count_from(0, Msg::Initiation);
            assert_eq!(
                wire.count_from(1, Msg::Initiation),
                0,
                "the other side has no reason to"
            );
            let _ = wire.take();
        }
        // A keepalive each 25 s at most, a handshake at the first one from 120 s on.
        let week = 7 * DAY as usize;
        assert!(
            (week / 26..=week / 25 + week / 120).contains(&keepalives),
            "{keepalives} keepalives"
        );
        assert!(
            (week / 150..=week / 120).contains(&initiations),
            "{initiations} handshakes"
        );
        assert!(blocks(&sim).abs_diff(early) < 40, "memory does not grow");
        assert!(try_send(&sim, &b, &a, 1, secs(1)));
        finish(sim, &[&a, &b]);
    });
}

fn busy_week(sim: &Sim, a: &Node, b: &Node) {
    let wire = counted(sim);
    let mut early = 0;
    let mut initiations = 0;
    let minutes = 7 * 24 * 60;
    for i in 0..minutes {
        // A question and its answer.
        a.send(sim, &packet("10.0.0.1", "10.0.0.2", i, 100))
            .unwrap();
        sim.run_for(secs(1));
        b.send(sim, &packet("10.0.0.2", "10.0.0.1", i, 100))
            .unwrap();
        sim.run_for(secs(59));
        assert_eq!(
            (a.received(sim).len(), b.received(sim).len()),
            (1, 1),
            "minute {i}"
        );
        let seen = wire.take();
        initiations += seen.iter().filter(|d| d.kind() == Msg::Initiation).count() as u64;
        if i == 60 {
            early = blocks(sim);
        }
    }
    // One each two to three minutes, or two if both begin at once.
    let handshakes = initiations;
    assert!(
        (minutes / 3..=minutes).contains(&handshakes),
        "{handshakes} initiations in {minutes} minutes"
    );
    assert!(blocks(sim).abs_diff(early) < 40, "memory does not grow");
}

#[test]
fn a_busy_week() {
    for_seeds(1, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        busy_week(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_busy_week_with_persistent_keepalive_on_both_sides() {
    for_seeds(1, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        a.peer(
            &sim,
            PeerConf {
                keepalive: Some(45),
                ..PeerConf::node(2, &[])
            },
        );
        sim.run_for(secs(1));
        b.peer(
            &sim,
            PeerConf {
                keepalive: Some(50),
                ..PeerConf::node(1, &[])
            },
        );
        sim.run_for(secs(1));
        busy_week(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_week_with_a_bad_network_and_outages() {
    for_seeds(2, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        a.peer(
            &sim,
            PeerConf {
                keepalive: Some(25),
                ..PeerConf::node(2, &[])
            },
        );
        for day in 0..7 {
            sim.link(&a.host, &b.host, Link::bad());
            sim.run_for(secs(4 * 3600));
            sim.link(
                &a.host,
                &b.host,
                Link {
                    cut: true,
                    ..Link::default()
                },
            );
            sim.run_for(secs(600 + 1000 * day));
            sim.link(&a.host, &b.host, Link::default());
            // The next keepalive at the latest brings it back.
            sim.run_for(secs(60));
            assert!(try_send(&sim, &b, &a, day, secs(5)), "day {day}");
        }
        assert_works(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}
