// SPDX-License-Identifier: BSD-2-Clause
//! Peers that move, networks that translate addresses, hosts with several addresses.

use hostkern::sim::{Link, for_seeds};
use wgsim_tests::{
    Conf, Node, PeerConf, Wire, assert_ping, assert_works, counter, drops, finish, millis, packet,
    pair, private_key, secs, try_send, world,
};

#[test]
fn each_end_and_both_ends_roam() {
    for_seeds(24, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        // One end.
        sim.move_host(&a.host, &["198.51.100.1", "2001:db8:1::1"]);
        sim.run_for(secs(1));
        // The address that a spoke from is gone; the first packet finds that out.
        let _ = try_send(&sim, &a, &b, 1, secs(1));
        assert!(try_send(&sim, &a, &b, 2, secs(1)));
        assert_eq!(
            b.about(&sim, 1).endpoint,
            Some("198.51.100.1:51820".parse().unwrap())
        );
        assert!(try_send(&sim, &b, &a, 3, secs(1)), "the other end follows");
        // The other end.
        sim.move_host(&b.host, &["203.0.113.2", "2001:db8:2::2"]);
        let _ = try_send(&sim, &b, &a, 4, secs(1));
        assert!(try_send(&sim, &b, &a, 5, secs(1)));
        assert_eq!(
            a.about(&sim, 2).endpoint,
            Some("203.0.113.2:51820".parse().unwrap())
        );
        assert!(try_send(&sim, &a, &b, 6, secs(1)));
        // Both at once, back home: each has the other's configured endpoint from then.
        sim.move_host(&a.host, &["192.0.2.1", "2001:db8::1"]);
        sim.move_host(&b.host, &["192.0.2.2", "2001:db8::2"]);
        a.peer(&sim, PeerConf::node(2, &[]).at("192.0.2.2:51820"));
        assert_works(&sim, &a, &b);
        assert_eq!(
            b.about(&sim, 1).endpoint,
            Some("192.0.2.1:51820".parse().unwrap())
        );
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn roaming_changes_the_family() {
    for_seeds(16, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        a.peer(&sim, PeerConf::node(2, &[]).at("[2001:db8::2]:51820"));
        assert_ping(&sim, &a, &b);
        assert_eq!(
            b.about(&sim, 1).endpoint,
            Some("[2001:db8::1]:51820".parse().unwrap())
        );
        a.peer(&sim, PeerConf::node(2, &[]).at("192.0.2.2:51820"));
        assert_ping(&sim, &a, &b);
        assert_eq!(
            b.about(&sim, 1).endpoint,
            Some("192.0.2.1:51820".parse().unwrap())
        );
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_handshake_moves_the_endpoint_too() {
    for_seeds(16, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        a.up(&sim, false);
        sim.move_host(&a.host, &["198.51.100.1"]);
        a.up(&sim, true);
        let wire = Wire::filter(&sim, |d| d.payload.len() == 148);
        a.send(&sim, &packet("10.0.0.1", "10.0.0.2", 1, 64))
            .unwrap();
        sim.run_for(secs(1));
        assert_eq!(wire.take().len(), 2);
        assert_eq!(
            b.about(&sim, 1).endpoint,
            Some("198.51.100.1:51820".parse().unwrap())
        );
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn nat_with_and_without_keepalive() {
    for_seeds(16, |seed| {
        let sim = world(seed);
        let nat = sim.nat(&["192.0.2.100"], secs(30));
        let inside = Node::new(&sim, sim.host_behind(nat, "inside", &["10.9.0.5"]), 1);
        let outside = Node::new(&sim, sim.host("outside", &["192.0.2.2"]), 2);
        inside.peer(
            &sim,
            PeerConf::node(2, &["10.0.0.2/32"]).at("192.0.2.2:51820"),
        );
        outside.peer(&sim, PeerConf::node(1, &["10.0.0.1/32"]));
        assert!(
            outside
                .send(&sim, &packet("10.0.0.2", "10.0.0.1", 0, 64))
                .is_err(),
            "no endpoint yet"
        );
        assert!(try_send(&sim, &inside, &outside, 1, secs(1)));
        assert_eq!(
            outside.about(&sim, 1).endpoint,
            Some("192.0.2.100:51820".parse().unwrap())
        );
        assert!(try_send(&sim, &outside, &inside, 2, secs(1)));
        // Without a keepalive the box forgets.
        sim.run_for(secs(60));
        assert!(!try_send(&sim, &outside, &inside, 3, secs(1)));
        // With one it does not, however long nobody says anything.
        inside.peer(
            &sim,
            PeerConf {
                keepalive: Some(20),
                ..PeerConf::node(2, &[])
            },
        );
        for i in 0..5 {
            sim.run_for(secs(300));
            assert!(
                try_send(&sim, &outside, &inside, 10 + i, secs(1)),
                "after {} s",
                300 * (i + 1)
            );
        }
        // The box gives another port: the next keepalive tells the outside.
        sim.rebind(nat);
        sim.run_for(secs(21));
        assert_ne!(
            outside.about(&sim, 1).endpoint,
            Some("192.0.2.100:51820".parse().unwrap())
        );
        assert!(try_send(&sim, &outside, &inside, 20, secs(1)));
        // And another address.
        sim.renumber(nat, &["192.0.2.101"]);
        sim.forget(nat);
        sim.run_for(secs(21));
        assert!(try_send(&sim, &outside, &inside, 21, secs(1)));
        finish(sim, &[&inside, &outside]);
    });
}

#[test]
fn two_hosts_behind_one_nat() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let nat = sim.nat(&["192.0.2.100"], secs(30));
        let x = Node::new(&sim, sim.host_behind(nat, "x", &["10.9.0.5"]), 1);
        let y = Node::new(&sim, sim.host_behind(nat, "y", &["10.9.0.6"]), 3);
        let hub = Node::new(&sim, sim.host("hub", &["192.0.2.2"]), 2);
        hub.peer(&sim, PeerConf::node(1, &["10.0.0.1/32"]));
        hub.peer(&sim, PeerConf::node(3, &["10.0.0.3/32"]));
        for n in [&x, &y] {
            n.peer(
                &sim,
                PeerConf::node(2, &["10.0.0.0/24"]).at("192.0.2.2:51820"),
            );
            assert!(try_send(&sim, n, &hub, 1, secs(1)));
        }
        assert_ne!(hub.about(&sim, 1).endpoint, hub.about(&sim, 3).endpoint);
        assert!(try_send(&sim, &hub, &x, 2, secs(1)));
        assert!(try_send(&sim, &hub, &y, 3, secs(1)));
        finish(sim, &[&x, &y, &hub]);
    });
}

#[test]
fn replies_leave_from_the_address_that_was_used() {
    for_seeds(16, |seed| {
        let sim = world(seed);
        let a = Node::new(&sim, sim.host("a", &["192.0.2.1", "2001:db8::1"]), 1);
        let addresses = ["192.0.2.2", "192.0.2.22", "2001:db8::2", "2001:db8::22"];
        let b = Node::new(&sim, sim.host("b", &addresses), 2);
        b.peer(&sim, PeerConf::node(1, &["10.0.0.1/32"]));
        for used in [
            "192.0.2.22",
            "192.0.2.2",
            "[2001:db8::22]",
            "[2001:db8::2]",
            "192.0.2.22",
        ] {
            a.peer(
                &sim,
                PeerConf::node(2, &["10.0.0.2/32"]).at(&format!("{used}:51820")),
            );
            a.up(&sim, false);
            a.up(&sim, true);
            let wire = Wire::record(&sim);
            assert!(try_send(&sim, &a, &b, 1, secs(1)));
            assert!(try_send(&sim, &b, &a, 2, secs(1)));
            let used: std::net::IpAddr = used.trim_matches(['[', ']']).parse().unwrap();
            let from_b = wire.seen_of(1);
            assert!(from_b.len() >= 2, "a response and data");
            assert!(from_b.iter().all(|d| d.src.ip() == used), "{from_b:?}");
            assert_eq!(
                a.about(&sim, 2).endpoint.unwrap().ip(),
                used,
                "so a sees no roaming"
            );
        }
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_source_address_that_goes_away_is_forgotten() {
    for_seeds(16, |seed| {
        let sim = world(seed);
        let a = Node::new(&sim, sim.host("a", &["192.0.2.1"]), 1);
        let b = Node::new(&sim, sim.host("b", &["192.0.2.2", "192.0.2.22"]), 2);
        b.peer(&sim, PeerConf::node(1, &["10.0.0.1/32"]));
        a.peer(
            &sim,
            PeerConf::node(2, &["10.0.0.2/32"]).at("192.0.2.22:51820"),
        );
        assert!(try_send(&sim, &a, &b, 1, secs(1)));
        assert!(try_send(&sim, &b, &a, 2, secs(1)));
        sim.move_host(&b.host, &["192.0.2.2", "192.0.2.3"]);
        let failed = drops(&sim, "send_failed");
        let _ = try_send(&sim, &b, &a, 3, secs(1));
        assert!(drops(&sim, "send_failed") <= failed + 1);
        assert!(
            try_send(&sim, &b, &a, 4, secs(1)),
            "routing chooses another"
        );
        assert_eq!(
            a.about(&sim, 2).endpoint,
            Some("192.0.2.2:51820".parse().unwrap())
        );
        assert!(try_send(&sim, &a, &b, 5, secs(1)));
        // A handshake does not even lose a message.
        b.up(&sim, false);
        b.up(&sim, true);
        assert!(try_send(&sim, &b, &a, 6, secs(1)));
        sim.move_host(&b.host, &["192.0.2.3"]);
        sim.run_for(secs(130));
        let wire = Wire::record(&sim);
        let _ = b.send(&sim, &packet("10.0.0.2", "10.0.0.1", 7, 64));
        sim.run_for(secs(60));
        assert!(
            wire.seen_of(1)
                .iter()
                .all(|d| d.src.ip().to_string() == "192.0.2.3")
        );
        assert_works(&sim, &b, &a);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn an_unreachable_network_is_an_error_and_no_more() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        sim.link_one_way(
            &a.host,
            &b.host,
            Link {
                unreachable: true,
                ..Link::default()
            },
        );
        let (failed, errors) = (
            drops(&sim, "send_failed"),
            a.ifnet(&sim).counter(counter::OERRORS),
        );
        for i in 0..5 {
            assert!(!try_send(&sim, &a, &b, i, millis(100)));
        }
        assert_eq!(drops(&sim, "send_failed"), failed + 5);
        assert_eq!(a.ifnet(&sim).counter(counter::OERRORS), errors + 5);
        sim.link(&a.host, &b.host, Link::default());
        assert_ping(&sim, &a, &b);
        // A host without the endpoint's family.
        sim.move_host(&a.host, &["2001:db8::1"]);
        for i in 0..3 {
            assert!(!try_send(&sim, &a, &b, 10 + i, millis(100)));
        }
        a.peer(&sim, PeerConf::node(2, &[]).at("[2001:db8::2]:51820"));
        assert!(try_send(&sim, &a, &b, 20, secs(1)));
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn an_endpoint_that_comes_later_sends_what_waits() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let a = Node::new(&sim, sim.host("a", &["192.0.2.1"]), 1);
        let b = Node::new(&sim, sim.host("b", &["192.0.2.2"]), 2);
        b.peer(&sim, PeerConf::node(1, &["10.0.0.1/32"]));
        // An endpoint where nobody is.
        a.peer(
            &sim,
            PeerConf::node(2, &["10.0.0.2/32"]).at("192.0.2.77:51820"),
        );
        let p = packet("10.0.0.1", "10.0.0.2", 1, 64);
        a.send(&sim, &p).unwrap();
        sim.run_for(secs(12));
        a.peer(&sim, PeerConf::node(2, &[]).at("192.0.2.2:51820"));
        sim.run_for(secs(6));
        assert_eq!(b.received(&sim), [p]);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn several_interfaces_of_one_host() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let host = sim.host("a", &["192.0.2.1"]);
        let a = Node::new(&sim, host.clone(), 1);
        let c = Node::bare(&sim, host, 3);
        c.set(
            &sim,
            &Conf {
                key: Some(private_key(3)),
                port: Some(4444),
                ..Conf::default()
            },
        )
        .unwrap();
        c.up(&sim, true);
        a.peer(
            &sim,
            PeerConf::node(3, &["10.0.0.3/32"]).at("192.0.2.1:4444"),
        );
        c.peer(&sim, PeerConf::node(1, &["10.0.0.1/32"]));
        assert_works(&sim, &a, &c);
        finish(sim, &[&a, &c]);
    });
}

/// The peer uses our second address while the first uplink is down. Answers leave by it, and when we renew the session
/// routing chooses again: the first uplink is back in use within two minutes, whatever the peer does.
#[test]
fn our_own_rekey_chooses_the_source_anew() {
    for_seeds(16, |seed| {
        let sim = world(seed);
        let a = Node::new(&sim, sim.host("a", &["192.0.2.1", "198.51.100.1"]), 1);
        let b = Node::new(&sim, sim.host("b", &["192.0.2.2"]), 2);
        // The packet that asks for the new session comes by the old road. Should it arrive after the
        // initiation, the peer would answer there, and rightly.
        let in_order = Link {
            fifo: true,
            ..Link::default()
        };
        sim.link(&a.host, &b.host, in_order);
        a.peer(
            &sim,
            PeerConf::node(2, &["10.0.0.2/32"]).at("192.0.2.2:51820"),
        );
        b.peer(&sim, PeerConf::node(1, &["10.0.0.1/32"]));
        assert!(try_send(&sim, &a, &b, 1, secs(1)), "a opens the session");
        let seen = |sim: &_| b.about(sim, 1).endpoint.unwrap().ip().to_string();
        b.peer(&sim, PeerConf::node(1, &[]).at("198.51.100.1:51820"));
        for i in 0..10 {
            assert!(try_send(&sim, &b, &a, 10 + i, secs(1)));
            assert!(try_send(&sim, &a, &b, 30 + i, secs(1)));
            assert_eq!(seen(&sim), "198.51.100.1", "the source is sticky");
            sim.run_for(secs(5));
        }
        // Past the 120 s after which the opener renews the session, however short the pings were.
        sim.run_for(secs(75));
        assert!(try_send(&sim, &a, &b, 50, secs(1)));
        sim.run_for(secs(1));
        assert_eq!(seen(&sim), "192.0.2.1", "what routing says");
        assert!(try_send(&sim, &b, &a, 51, secs(1)));
        assert!(try_send(&sim, &a, &b, 52, secs(1)));
        assert_eq!(seen(&sim), "192.0.2.1", "and it stays");
        finish(sim, &[&a, &b]);
    });
}
