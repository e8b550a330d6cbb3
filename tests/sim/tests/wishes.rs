// SPDX-License-Identifier: BSD-2-Clause
//! What was wanted and could not be done is done as soon as it can be.

use hostkern::sim::{Host, Link, Sim, for_seeds};
use wgsim_tests::{
    Conf, Msg, PeerConf, Wire, drops, finish, kind, millis, packet, pair, private_key, secs,
    try_send, world,
};

const SEEDS: u64 = 16;

fn ping(tag: u64) -> Vec<u8> {
    packet("10.0.0.1", "10.0.0.2", tag, 64)
}

fn pong(tag: u64) -> Vec<u8> {
    packet("10.0.0.2", "10.0.0.1", tag, 64)
}

fn keepalive(seconds: u16, other: u8) -> PeerConf {
    PeerConf {
        keepalive: Some(seconds),
        ..PeerConf::node(other, &[])
    }
}

fn key(n: u8) -> Conf {
    Conf {
        key: Some(private_key(n)),
        ..Conf::default()
    }
}

fn unreachable(sim: &Sim, from: &Host, to: &Host, unreachable: bool) {
    let link = Link {
        unreachable,
        ..Link::default()
    };
    sim.link_one_way(from, to, link);
}

#[test]
fn a_responder_that_waits_for_confirmation_opens_no_handshake() {
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        // What would confirm the session is lost on the way.
        let wire = Wire::filter(&sim, |d| d.from != 0 || kind(&d.payload) != Msg::Data);
        a.send(&sim, &ping(1)).unwrap();
        sim.run_for(millis(8));
        for i in 0..40 {
            b.send(&sim, &pong(i)).unwrap();
            sim.run_for(millis(100));
        }
        assert_eq!(wire.count_from(1, Msg::Response), 1);
        assert_eq!(wire.count_from(1, Msg::Initiation), 0, "it waits");
        // With what it has to send it does not wait for ever, though nothing more happens.
        sim.run_for(millis(1500));
        assert_eq!(wire.count_from(1, Msg::Initiation), 1, "after 5 s");
        assert_eq!(a.received(&sim).len(), 40);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_confirmed_responder_opens_no_handshake_later() {
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let wire = Wire::record(&sim);
        a.send(&sim, &ping(1)).unwrap();
        sim.run_for(millis(7));
        // Wanted while the confirmation is under way.
        b.send(&sim, &pong(1)).unwrap();
        sim.run_for(secs(60));
        assert_eq!(a.received(&sim), [pong(1)]);
        assert_eq!(b.received(&sim), [ping(1)]);
        assert_eq!(wire.count(Msg::Initiation), 1);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_persistent_keepalive_outlasts_a_network_that_is_not_there_yet() {
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        // No route, or no address, for longer than a handshake is tried.
        match seed % 3 {
            0 => unreachable(&sim, &a.host, &b.host, true),
            1 => sim.move_host(&a.host, &[]),
            _ => sim.fail_every(1),
        }
        let set = a.set(
            &sim,
            &Conf {
                peers: vec![keepalive(25, 2)],
                ..Conf::default()
            },
        );
        if set.is_err() {
            sim.fail_every(0);
            a.peer(&sim, keepalive(25, 2));
            sim.fail_every(1);
        }
        sim.run_for(secs(110));
        sim.fail_every(0);
        unreachable(&sim, &a.host, &b.host, false);
        sim.move_host(&a.host, &["192.0.2.1", "2001:db8::1"]);
        sim.run_for(secs(26));
        assert!(a.about(&sim, 2).handshake > 0, "it comes by itself");
        assert!(try_send(&sim, &b, &a, 1, secs(1)));
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_private_key_that_comes_last() {
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        a.set(
            &sim,
            &Conf {
                key: Some([0; 32]),
                ..Conf::default()
            },
        )
        .unwrap();
        if seed % 2 == 0 {
            a.peer(&sim, keepalive(25, 2));
        } else {
            a.send(&sim, &ping(7)).unwrap();
        }
        sim.run_for(secs(seed));
        a.set(&sim, &key(1)).unwrap();
        sim.run_for(secs(1));
        assert!(a.about(&sim, 2).handshake > 0, "at once");
        if seed % 2 != 0 {
            assert_eq!(b.received(&sim), [ping(7)]);
        }
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn what_waits_for_a_key_does_not_wait_for_ever() {
    for_seeds(4, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        a.set(
            &sim,
            &Conf {
                key: Some([0; 32]),
                ..Conf::default()
            },
        )
        .unwrap();
        let lost = drops(&sim, "no_session");
        a.send(&sim, &ping(7)).unwrap();
        sim.run_for(secs(120));
        assert_eq!(drops(&sim, "no_session"), lost + 1);
        a.set(&sim, &key(1)).unwrap();
        sim.run_for(secs(20));
        assert!(b.received(&sim).is_empty());
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn an_endpoint_that_is_put_right() {
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        a.peer(&sim, keepalive(3600, 2).at("192.0.2.99:51820"));
        // Given up meanwhile, and the next keepalive is an hour off.
        sim.run_for(secs(200));
        a.peer(&sim, PeerConf::node(2, &[]).at("192.0.2.2:51820"));
        sim.run_for(secs(1));
        assert!(a.about(&sim, 2).handshake > 0, "at once");
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_failed_send_is_a_packet_that_was_not_answered() {
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert!(try_send(&sim, &a, &b, 1, secs(1)));
        sim.run_for(secs(30));
        // The address that b knows a by is gone, and b has lost its keys.
        sim.move_host(&a.host, &["192.0.2.11"]);
        b.up(&sim, false);
        b.up(&sim, true);
        a.send(&sim, &ping(2)).unwrap();
        sim.run_for(secs(17));
        assert!(try_send(&sim, &a, &b, 3, secs(1)), "one packet is enough");
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn the_last_minute_of_an_old_session_is_of_no_account() {
    for_seeds(SEEDS, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert!(try_send(&sim, &a, &b, 1, secs(1)));
        sim.run_for(secs(110));
        // A packet of the first session is held up on the way.
        let held = Wire::filter(&sim, |_| false);
        b.send(&sim, &pong(2)).unwrap();
        sim.run_for(millis(10));
        let held = held.take();
        let wire = Wire::record(&sim);
        sim.run_for(secs(12));
        assert!(try_send(&sim, &a, &b, 3, secs(1)));
        sim.run_for(secs(1));
        assert_eq!(wire.count(Msg::Initiation), 1, "renewed");
        sim.run_for(secs(40));
        sim.spoof_datagram(&b.host, held[0].src, held[0].dst, &held[0].payload);
        sim.run_for(secs(2));
        assert_eq!(a.received(&sim), [pong(2)], "it is received");
        assert_eq!(wire.count(Msg::Initiation), 1, "and that is all");
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn what_was_sent_while_going_down_does_not_leave_at_the_next_up() {
    for_seeds(100, |seed| {
        let sim = world(seed);
        sim.preempt_one_in(2);
        let (a, b) = pair(&sim);
        if seed % 2 == 0 {
            assert!(try_send(&sim, &a, &b, 1, secs(1)));
        }
        // Both at one moment, so that each may come between any two steps of the other.
        let (host, ifname) = (a.host.clone(), a.ifname.clone());
        for i in 0..4 {
            sim.output_at(millis(1), &a.host, &a.ifname, ping(100 + i));
        }
        sim.at(millis(1), move |k| {
            k.set_up(&host, &ifname, false).unwrap();
        });
        sim.run_for(secs(1));
        let _ = b.received(&sim);
        a.up(&sim, true);
        sim.run_for(secs(1));
        a.send(&sim, &ping(5)).unwrap();
        sim.run_for(secs(7));
        assert_eq!(b.received(&sim), [ping(5)], "nothing of before");
        finish(sim, &[&a, &b]);
    });
}
