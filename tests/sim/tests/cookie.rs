// SPDX-License-Identifier: BSD-2-Clause
//! Floods of handshake messages: cookies and the rate limit (paper, section 5.3).

use std::net::{IpAddr, SocketAddr};

use hostkern::sim::{Rng, Sim, for_seeds};
use wg::wg_cookie::Macs;
use wgsim_tests::{
    Ghost, Msg, Node, PeerConf, Wire, drops, finish, handshakes, millis, packet, pair, public_key,
    secs, try_send, world,
};

const B: &str = "192.0.2.2:51820";
/// Messages of one wave: more than make the interface count as loaded.
const WAVE: usize = 1200;

/// Sends one wave of initiations from made-up sources to `b`, with a valid first MAC if `mac` says so.
fn flood(sim: &Sim, from: &hostkern::sim::Host, rng: &mut Rng, mac: bool) {
    let mut macs = Macs::new(&public_key(2));
    for _ in 0..WAVE {
        let mut m = [0; 148];
        rng.fill(&mut m);
        m[..4].copy_from_slice(&[1, 0, 0, 0]);
        if mac {
            macs.add_to_initiation(&mut m, sim.now());
        }
        let src = SocketAddr::new(
            IpAddr::from([198, 18, rng.below(256) as u8, rng.below(256) as u8]),
            1024 + rng.below(60000) as u16,
        );
        sim.spoof_datagram(from, src, B.parse().unwrap(), &m);
    }
}

/// The interface `b`, and hosts of an attacker.
fn target(sim: &Sim) -> (Node, hostkern::sim::Host) {
    let b = Node::new(sim, sim.host("b", &["192.0.2.2", "2001:db8::2"]), 2);
    (b, sim.host("evil", &["198.51.100.66"]))
}

#[test]
fn a_real_peer_gets_through_a_flood() {
    for_seeds(3, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let evil = sim.host("evil", &["198.51.100.66"]);
        let wire = Wire::record(&sim);
        let mut rng = Rng::new(seed, 200);
        let p = packet("10.0.0.1", "10.0.0.2", 1, 64);
        let mut got = Vec::new();
        for i in 0..60 {
            flood(&sim, &evil, &mut rng, true);
            if i == 10 {
                a.send(&sim, &p).unwrap();
            }
            sim.run_for(millis(200));
            got.extend(b.received(&sim));
        }
        assert_eq!(got, [p], "with a cookie it passes");
        let seen = wire.take();
        let of_a: Vec<_> = seen.iter().filter(|d| d.from == 0).collect();
        let initiations: Vec<_> = of_a
            .iter()
            .filter(|d| d.kind() == Msg::Initiation)
            .map(|d| &d.payload[132..])
            .collect();
        assert_eq!(initiations.len(), 2, "one for a cookie, one with it");
        assert_eq!(initiations[0], [0; 16]);
        assert_ne!(initiations[1], [0; 16]);
        let of_b: Vec<_> = seen.iter().filter(|d| d.from == 1).collect();
        let to_a = |d: &&&wgsim_tests::Sent| d.dst == "192.0.2.1:51820".parse().unwrap();
        assert_eq!(
            of_b.iter()
                .filter(to_a)
                .filter(|d| d.kind() == Msg::Cookie)
                .count(),
            1
        );
        // The others got nothing but cookies, each at the address that it claimed.
        assert!(
            of_b.iter()
                .filter(|d| !to_a(d))
                .all(|d| d.kind() == Msg::Cookie && d.payload.len() == 64)
        );
        assert!(
            of_b.len() > 10_000,
            "and they did get those: {}",
            of_b.len()
        );
        assert_eq!(handshakes(&sim), 2);
        let counter = |name: &str| sim.kernel().sysctl_number(name).expect("a counter");
        assert_eq!(counter("net.wg.handshake_cookies_received"), 1);
        let sent = of_b.iter().filter(|d| d.kind() == Msg::Cookie).count();
        assert_eq!(counter("net.wg.handshake_cookies_sent"), sent as u64);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn messages_with_a_wrong_first_mac_get_no_answer() {
    for_seeds(3, |seed| {
        let sim = world(seed);
        let (b, evil) = target(&sim);
        let wire = Wire::record(&sim);
        let mut rng = Rng::new(seed, 201);
        for _ in 0..10 {
            flood(&sim, &evil, &mut rng, false);
            sim.run_for(millis(100));
        }
        assert!(wire.seen_of(b.host.id).is_empty(), "no cookie, nothing");
        assert_eq!(
            drops(&sim, "bad_mac") + drops(&sim, "handshake_queue_full"),
            10 * WAVE as u64
        );
        finish(sim, &[&b]);
    });
}

#[test]
fn without_load_no_cookie_is_asked_for() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (b, _) = target(&sim);
        let host = sim.host("ghost", &["192.0.2.1"]);
        let mut ghost = Ghost::new(&sim, &host, 1, 4000, &public_key(2));
        b.peer(&sim, PeerConf::node(1, &[]));
        for _ in 0..20 {
            let m = ghost.initiation(&sim);
            assert_eq!(m[132..], [0; 16]);
            ghost.send(&sim, B.parse().unwrap(), &m);
            sim.run_for(millis(100));
            let answer = ghost.take(&sim);
            assert_eq!(answer.len(), 1);
            assert_eq!(wgsim_tests::kind(&answer[0]), Msg::Response);
        }
        assert_eq!(drops(&sim, "cookie_demanded"), 0);
        finish(sim, &[&b]);
    });
}

/// Brings `b` under load; the ghost then asks for a session from (`host`, `port`) with the MACs it has, and gets the
/// answers that this returns.
fn ask_under_load(
    sim: &Sim,
    evil: &hostkern::sim::Host,
    rng: &mut Rng,
    ghost: &mut Ghost,
) -> Vec<Vec<u8>> {
    flood(sim, evil, rng, true);
    sim.run_for(millis(40));
    let _ = ghost.take(sim);
    let m = ghost.initiation(sim);
    ghost.send(sim, B.parse().unwrap(), &m);
    sim.run_for(millis(100));
    ghost.take(sim)
}

#[test]
fn a_cookie_is_good_for_one_address_and_port_only() {
    for_seeds(4, |seed| {
        let sim = world(seed);
        let (b, evil) = target(&sim);
        b.peer(&sim, PeerConf::node(1, &[]));
        let mut rng = Rng::new(seed, 202);
        let home = sim.host("home", &["192.0.2.1"]);
        let other = sim.host("other", &["192.0.2.9"]);
        let mut ghost = Ghost::new(&sim, &home, 1, 4000, &public_key(2));
        for host in [&home, &other] {
            for port in [4000, 4001] {
                sim.listen(host, hostkern::backend::Family::V4, port);
            }
        }
        let answer = ask_under_load(&sim, &evil, &mut rng, &mut ghost);
        assert_eq!(answer.len(), 1);
        assert_eq!(wgsim_tests::kind(&answer[0]), Msg::Cookie);
        assert!(ghost.take_cookie(&sim, &answer[0]));
        assert!(
            !ghost.take_cookie(&sim, &answer[0]),
            "one message, one cookie"
        );
        for (host, port, kind) in [
            (&home, 4001, Msg::Cookie),
            (&other, 4000, Msg::Cookie),
            (&other, 4001, Msg::Cookie),
            (&home, 4000, Msg::Response),
        ] {
            ghost.host = host.clone();
            ghost.port = port;
            let answer = ask_under_load(&sim, &evil, &mut rng, &mut ghost);
            assert_eq!(answer.len(), 1, "{} {port}", host.name);
            assert_eq!(wgsim_tests::kind(&answer[0]), kind, "{} {port}", host.name);
        }
        // It ages: after two minutes it is good for nothing.
        sim.run_for(secs(121));
        assert_eq!(
            ghost.initiation(&sim)[132..],
            [0; 16],
            "its holder does not even use it"
        );
        let answer = ask_under_load(&sim, &evil, &mut rng, &mut ghost);
        assert_eq!(wgsim_tests::kind(&answer[0]), Msg::Cookie);
        finish(sim, &[&b]);
    });
}

#[test]
fn a_source_with_a_cookie_may_ask_only_so_often() {
    for_seeds(4, |seed| {
        let sim = world(seed);
        let (b, evil) = target(&sim);
        b.peer(&sim, PeerConf::node(1, &[]));
        b.peer(&sim, PeerConf::node(3, &[]));
        let mut rng = Rng::new(seed, 203);
        let (h1, h3) = (
            sim.host("one", &["192.0.2.1"]),
            sim.host("three", &["192.0.2.3"]),
        );
        let mut ghost = Ghost::new(&sim, &h1, 1, 4000, &public_key(2));
        let mut quiet = Ghost::new(&sim, &h3, 3, 4000, &public_key(2));
        for g in [&mut ghost, &mut quiet] {
            let answer = ask_under_load(&sim, &evil, &mut rng, g);
            assert!(g.take_cookie(&sim, &answer[0]));
        }
        flood(&sim, &evil, &mut rng, true);
        sim.run_for(millis(40));
        let limited = drops(&sim, "rate_limited");
        let m = quiet.initiation(&sim);
        for i in 0..105 {
            let m = ghost.initiation(&sim);
            ghost.send(&sim, B.parse().unwrap(), &m);
            if i % 5 == 0 {
                sim.run_for(millis(1));
            }
        }
        quiet.send(&sim, B.parse().unwrap(), &m);
        sim.run_for(millis(100));
        // Five at once, and one for each 50 ms.
        assert!((98..=100).contains(&(drops(&sim, "rate_limited") - limited)));
        assert!(ghost.take(&sim).len() <= 7);
        assert_eq!(quiet.take(&sim).len(), 1, "another source is not affected");
        // Later it may again.
        sim.run_for(secs(2));
        let answer = ask_under_load(&sim, &evil, &mut rng, &mut ghost);
        assert_eq!(wgsim_tests::kind(&answer[0]), Msg::Response);
        finish(sim, &[&b]);
    });
}

#[test]
fn load_goes_by_and_data_is_not_delayed_by_it() {
    for_seeds(3, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let evil = sim.host("evil", &["198.51.100.66"]);
        let mut rng = Rng::new(seed, 204);
        assert!(try_send(&sim, &a, &b, 1, secs(1)));
        for i in 0..10 {
            flood(&sim, &evil, &mut rng, true);
            sim.run_for(millis(50));
            assert!(
                try_send(&sim, &a, &b, 10 + i, millis(50)),
                "data passes during a flood"
            );
        }
        sim.run_for(secs(3));
        let demanded = drops(&sim, "cookie_demanded");
        a.up(&sim, false);
        a.up(&sim, true);
        assert!(
            try_send(&sim, &a, &b, 99, secs(1)),
            "no cookie is needed afterwards"
        );
        assert_eq!(drops(&sim, "cookie_demanded"), demanded);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_flood_of_valid_initiations_of_a_peer_is_slowed_down() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (b, _) = target(&sim);
        b.peer(&sim, PeerConf::node(1, &[]));
        let host = sim.host("ghost", &["192.0.2.1"]);
        let mut ghost = Ghost::new(&sim, &host, 1, 4000, &public_key(2));
        for _ in 0..100 {
            let m = ghost.initiation(&sim);
            ghost.send(&sim, B.parse().unwrap(), &m);
            sim.run_for(millis(1));
        }
        sim.run_for(millis(100));
        let answers = ghost.take(&sim);
        assert!(
            (4..=7).contains(&answers.len()),
            "{} answers in 100 ms",
            answers.len()
        );
        // What was dropped as flood has consumed no timestamp: the next one is accepted.
        let m = ghost.initiation(&sim);
        ghost.send(&sim, B.parse().unwrap(), &m);
        sim.run_for(millis(100));
        assert!(ghost.take(&sim).iter().any(|m| ghost.complete(&sim, m)));
        finish(sim, &[&b]);
    });
}

#[test]
fn forged_cookie_replies_are_refused() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let wire = Wire::filter(&sim, |d| d.payload.len() != 92);
        a.send(&sim, &packet("10.0.0.1", "10.0.0.2", 1, 64))
            .unwrap();
        sim.run_for(millis(50));
        let seen = wire.take();
        let mut rng = Rng::new(seed, 205);
        for _ in 0..20 {
            let mut m = [0; 64];
            rng.fill(&mut m);
            m[..4].copy_from_slice(&[3, 0, 0, 0]);
            m[4..8].copy_from_slice(&seen[0].payload[4..8]);
            sim.spoof_datagram(&b.host, seen[0].dst, seen[0].src, &m);
        }
        sim.run_for(secs(6));
        let again = wire.take();
        assert_eq!(
            again.iter().filter(|d| d.kind() == Msg::Initiation).count(),
            1
        );
        let again = again.iter().find(|d| d.kind() == Msg::Initiation).unwrap();
        assert_eq!(
            again.payload[132..],
            [0; 16],
            "no second MAC from a cookie of nobody"
        );
        sim.off_wire();
        sim.run_for(secs(6));
        assert_eq!(b.received(&sim).len(), 1);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn cookies_and_the_rate_limit_know_ipv6() {
    for_seeds(3, |seed| {
        let sim = world(seed);
        let (b, evil) = target(&sim);
        b.peer(&sim, PeerConf::node(1, &[]));
        let mut rng = Rng::new(seed, 206);
        let home = sim.host("home", &["2001:db8:1::1", "2001:db8:1::2", "2001:db8:2::1"]);
        let to: SocketAddr = "[2001:db8::2]:51820".parse().unwrap();
        let mut ghost = Ghost::new(&sim, &home, 1, 4000, &public_key(2));
        // Sends from one of its addresses; the answers, by kind.
        let mut ask = |from: &str, times: usize| {
            flood(&sim, &evil, &mut rng, true);
            sim.run_for(millis(40));
            let _ = ghost.take(&sim);
            for _ in 0..times {
                let m = ghost.initiation(&sim);
                let src = SocketAddr::new(from.parse().unwrap(), 4000);
                sim.spoof_datagram(&home, src, to, &m);
            }
            sim.run_for(millis(40));
            let answers = ghost.take(&sim);
            let kinds: Vec<_> = answers.iter().map(|m| wgsim_tests::kind(m)).collect();
            let _ = ghost.take_cookie(&sim, answers.last().map_or(&[], |m| m));
            kinds
        };
        assert_eq!(ask("2001:db8:1::1", 1), [Msg::Cookie]);
        assert_eq!(ask("2001:db8:1::1", 1), [Msg::Response]);
        assert_eq!(ask("2001:db8:1::2", 1), [Msg::Cookie], "of another address");
        assert_eq!(ask("2001:db8:2::1", 1), [Msg::Cookie]);
        assert_eq!(ask("2001:db8:2::1", 1), [Msg::Response]);
        sim.run_for(secs(1));
        let limited = drops(&sim, "rate_limited");
        assert!(ask("2001:db8:2::1", 30).len() <= 3);
        assert!(drops(&sim, "rate_limited") >= limited + 24);
        finish(sim, &[&b]);
    });
}
