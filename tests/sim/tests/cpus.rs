// SPDX-License-Identifier: BSD-2-Clause
//! How the work on packets is portioned and shared: critical sections, processors, queues.

use hostkern::backend::Family;
use hostkern::misc::SECTION_BYTES;
use hostkern::sim::for_seeds;
use wgsim_tests::{
    Conf, Node, PORT, PeerConf, assert_ping, drops, finish, handshakes, millis, packet, pair,
    private_key, secs, try_send, world,
};

/// Packets of one peer that have waited for a handshake are many and may be large. None of the sections in which the
/// CPU does nothing else is longer than one datagram.
#[test]
fn no_critical_section_is_longer_than_a_datagram() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let all: Vec<_> = (0..128)
            .map(|tag| packet("10.0.0.1", "10.0.0.2", tag, 60_000))
            .collect();
        for p in &all {
            a.send(&sim, p).expect("output");
        }
        let mut got = Vec::new();
        sim.run_until(secs(5), || {
            got.extend(b.received(&sim));
            got.len() == all.len()
        });
        // The network keeps no order; the tags do.
        got.sort_unstable();
        let mut sent = all;
        sent.sort_unstable();
        assert!(got == sent, "{} of {} arrive", got.len(), sent.len());
        // A module from a file brings a cipher that nobody watches.
        if std::env::var_os("IF_WG_KO").is_none() && std::env::var_os("WG_CRYPTO").is_none() {
            let longest = sim.kernel().take_section_bytes();
            assert!(
                (60_000..=SECTION_BYTES).contains(&longest),
                "{longest} bytes in one section"
            );
        }
        finish(sim, &[&a, &b]);
    });
}

/// A CPU whose thread gets no time, because of an interrupt thread that does not end, holds nobody up: the others
/// finish what it was given. All peers' packets arrive while it stands still, the last ones too, after which no other
/// comes.
#[test]
fn a_cpu_without_time_holds_nobody_up() {
    for_seeds(24, |seed| {
        let sim = world(seed);
        let hub = Node::new(&sim, sim.host("hub", &["192.0.2.1"]), 1);
        let others: Vec<_> = (2..=5)
            .map(|n| {
                let address = format!("192.0.2.{n}");
                let node = Node::new(&sim, sim.host(&format!("peer {n}"), &[&address]), n);
                let prefix = format!("10.0.0.{n}/32");
                hub.peer(
                    &sim,
                    PeerConf::node(n, &[&prefix]).at(&format!("{address}:51820")),
                );
                node.peer(
                    &sim,
                    PeerConf::node(1, &["10.0.0.1/32"]).at("192.0.2.1:51820"),
                );
                assert!(try_send(&sim, &hub, &node, 1, secs(5)));
                node
            })
            .collect();
        let cpu = seed as usize % 4;
        for round in 0..8 {
            sim.stall_cpu(cpu, true);
            // Some rounds have one packet only, and some begin before anybody can know that the CPU stands still.
            let count = [1, 40][round as usize % 2];
            for tag in 0..count {
                for node in &others {
                    let len = if (tag + round) % 3 == 0 { 64 } else { 1000 };
                    let (own, tag) = (format!("10.0.0.{}", node.n), tag + (round << 8));
                    hub.send(&sim, &packet("10.0.0.1", &own, tag, len)).unwrap();
                    node.send(&sim, &packet(&own, "10.0.0.1", tag, len))
                        .unwrap();
                }
            }
            sim.run_for(millis(100));
            let all = count as usize;
            for node in &others {
                assert_eq!(node.received(&sim).len(), all, "to peer {}", node.n);
            }
            assert_eq!(hub.received(&sim).len(), all * others.len(), "to the hub");
            sim.stall_cpu(cpu, round % 3 == 0);
            sim.run_for(millis(50));
        }
        sim.stall_cpu(cpu, false);
        let nodes: Vec<_> = others.iter().chain([&hub]).collect();
        finish(sim, &nodes);
    });
}

/// However many peers want something at one moment, each gets it then: there is no number of them from which they
/// would have to try again.
#[test]
fn every_peer_with_an_event_has_a_place() {
    const PEERS: u64 = 4_500;
    let sim = world(1);
    let node = Node::bare(&sim, sim.host("a", &["192.0.2.1"]), 1);
    let there = sim.host("there", &["192.0.2.2"]);
    sim.listen(&there, Family::V4, 51820);
    let mut peers = Vec::new();
    for n in 0..PEERS {
        let mut key = [7; 32];
        key[..8].copy_from_slice(&n.to_le_bytes());
        peers.push(PeerConf {
            key,
            endpoint: Some("192.0.2.2:51820".parse().unwrap()),
            keepalive: Some(25),
            ..PeerConf::default()
        });
    }
    let conf = Conf {
        key: Some(private_key(1)),
        port: Some(PORT),
        peers,
        ..Conf::default()
    };
    node.set(&sim, &conf).expect("the peers");
    // No task runs before all have asked for a keepalive, which takes a handshake.
    sim.preempt_one_in(0);
    let (begun, before) = (sim.now(), sim.stats().sent);
    node.up(&sim, true);
    sim.settle();
    assert_eq!(sim.now(), begun, "no time has passed");
    assert_eq!(sim.stats().sent - before, PEERS, "initiations");
    finish(sim, &[&node]);
}

/// Handshakes have threads of their own: key agreements that take long hold no packet up, nor does a CPU that is busy
/// with packets hold up a handshake.
#[test]
fn handshakes_and_packets_do_not_wait_for_each_other() {
    for_seeds(16, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        for cpu in 0..4 {
            sim.stall_cpu(cpu, true);
        }
        a.send(&sim, &packet("10.0.0.1", "10.0.0.2", 1, 1000))
            .unwrap();
        assert!(sim.run_until(secs(1), || handshakes(&sim) == 1));
        for cpu in 0..4 {
            sim.stall_cpu(cpu, false);
        }
        sim.run_for(millis(50));
        assert_eq!(b.received(&sim).len(), 1);
        assert_ping(&sim, &a, &b);
        sim.stall_slow_tasks(true);
        let from = sim.host("flooder", &["192.0.2.66"]);
        for _ in 0..600 {
            let to = "192.0.2.2:51820".parse().unwrap();
            let mut initiation = [0; 148];
            initiation[0] = 1;
            sim.send_datagram(&from, 7, to, &initiation).unwrap();
        }
        let all: Vec<_> = (0..100)
            .map(|tag| packet("10.0.0.1", "10.0.0.2", tag, 1000))
            .collect();
        for p in &all {
            a.send(&sim, p).unwrap();
        }
        sim.run_for(millis(100));
        let mut got = b.received(&sim);
        got.sort_unstable();
        assert!(got == all, "{} of {}", got.len(), all.len());
        assert_eq!(drops(&sim, "bad_mac"), 0, "they wait");
        sim.stall_slow_tasks(false);
        sim.run_for(millis(100));
        assert_eq!(drops(&sim, "bad_mac"), 600);
        finish(sim, &[&a, &b]);
    });
}

/// An interface that never was up has no queues, which are what is large.
#[test]
fn an_interface_that_never_was_up_is_small() {
    let sim = world(1);
    let live = |sim: &hostkern::sim::Sim| sim.account().stats().live_bytes;
    let host = sim.host("a", &["192.0.2.1"]);
    let before = live(&sim);
    let node = Node::bare(&sim, host, 1);
    let empty = live(&sim) - before;
    assert!(empty < 32 << 10, "{empty} bytes");
    node.up(&sim, true);
    assert!(live(&sim) - before > 128 << 10, "it has queues now");
    node.up(&sim, false);
    node.up(&sim, true);
    finish(sim, &[&node]);
}
