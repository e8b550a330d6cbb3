// SPDX-License-Identifier: BSD-2-Clause
//! Many packets from many CPUs at once: all of them, in order, once (robustness 4); and that a run is a function of its
//! seed.

use std::time::Duration;

use hostkern::Config;
use hostkern::sim::{Link, Rng, Sim, for_seeds};
use wgsim_tests::{
    Ghost, Node, PeerConf, PeerState, Wire, assert_ping, drops, finish, millis, packet, pair,
    public_key, secs, try_send, world,
};

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

fn tag(p: &[u8]) -> u64 {
    u64::from_be_bytes(p[20..28].try_into().unwrap())
}

fn with_cpus(seed: u64, ncpu: usize) -> Sim {
    let sim = Sim::with(seed, &Config { ncpu, log: false });
    sim.load(wgsim_tests::module()).unwrap();
    sim
}

fn counter(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload[8..16].try_into().unwrap())
}

#[test]
fn nothing_stalls_and_nothing_is_lost() {
    for_seeds(24, |seed| {
        let sim = with_cpus(seed, [1, 2, 4, 8][seed as usize % 4]);
        sim.preempt_one_in(2);
        let (a, b) = pair(&sim);
        sim.link(
            &a.host,
            &b.host,
            Link {
                fifo: true,
                ..Link::default()
            },
        );
        assert!(try_send(&sim, &a, &b, 1, secs(20)) && try_send(&sim, &b, &a, 1, secs(20)));
        let before = [a.about(&sim, 2), b.about(&sim, 1)];
        let mut bytes = 0;
        let wire = Wire::record(&sim);
        let mut rng = Rng::new(seed, 800);
        // Bursts of up to 100 packets at one moment from each side, so that all CPUs have work, in eight flows.
        let (mut at, mut sent) = (0, 0u64);
        while sent < 1500 {
            let burst = rng.below(100);
            for _ in 0..burst {
                for (node, src, dst) in [(&a, "10.0.0.1", "10.0.0.2"), (&b, "10.0.0.2", "10.0.0.1")]
                {
                    let p = packet(src, dst, sent, 20 + rng.below(400) as usize);
                    bytes += p.len() as u64;
                    sim.output_at(micros(at), &node.host, &node.ifname, p);
                }
                sent += 1;
            }
            at += rng.below(300);
        }
        sim.run_for(micros(at) + millis(50));
        for (node, other) in [(&a, 1), (&b, 0)] {
            let mut got: Vec<u64> = node.received(&sim).iter().map(|p| tag(p)).collect();
            assert_eq!(
                got.len() as u64,
                sent,
                "all of them, without another packet to push them"
            );
            got.sort_unstable();
            got.dedup();
            assert_eq!(got.len() as u64, sent, "each once");
            // On the wire they are in the order of their counters.
            let seen = wire.seen_of(other);
            let counters: Vec<u64> = seen.iter().map(|d| counter(&d.payload)).collect();
            assert!(
                counters.windows(2).all(|w| w[1] == w[0] + 1),
                "a gap or a swap"
            );
        }
        // No byte is counted twice or not at all, whichever CPUs received (CVE-2024-26861).
        let after = [a.about(&sim, 2), b.about(&sim, 1)];
        let rx = |p: &[PeerState; 2]| p[0].rx + p[1].rx;
        let tx = |p: &[PeerState; 2]| p[0].tx + p[1].tx;
        assert_eq!(rx(&after) - rx(&before), bytes + 2 * sent * 32);
        let on_wire: usize = wire.take().iter().map(|d| d.payload.len()).sum();
        assert_eq!(tx(&after) - tx(&before), on_wire as u64);
        for reason in [
            "queue_full",
            "replayed",
            "bad_tag",
            "no_session",
            "no_memory",
        ] {
            assert_eq!(drops(&sim, reason), 0, "{reason}");
        }
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn one_flow_arrives_in_order() {
    for_seeds(16, |seed| {
        let sim = with_cpus(seed, 8);
        let (a, b) = pair(&sim);
        sim.link(
            &a.host,
            &b.host,
            Link {
                fifo: true,
                ..Link::default()
            },
        );
        assert!(try_send(&sim, &a, &b, 1, secs(20)));
        // One sender, one path, and no CPU that takes a datagram before an earlier one is handed over: 8 CPUs seal
        // and open, and the order stays.
        sim.preempt_one_in(0);
        let mut next = 0;
        for _ in 0..40 {
            for _ in 0..50 {
                a.send(&sim, &packet("10.0.0.1", "10.0.0.2", next, 64))
                    .unwrap();
                next += 1;
            }
            sim.run_for(millis(6));
        }
        sim.run_for(millis(50));
        let got: Vec<u64> = b.received(&sim).iter().map(|p| tag(p)).collect();
        assert_eq!(got, (0..next).collect::<Vec<_>>());
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn what_waits_for_a_handshake_is_sent_in_order() {
    for_seeds(32, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        sim.link(
            &a.host,
            &b.host,
            Link {
                fifo: true,
                ..Link::default()
            },
        );
        sim.preempt_one_in(if seed % 2 == 0 { 0 } else { 2 });
        let wire = Wire::record(&sim);
        for i in 0..128 {
            a.send(&sim, &packet("10.0.0.1", "10.0.0.2", i, 64))
                .unwrap();
        }
        sim.run_for(secs(1));
        let mut got: Vec<u64> = b.received(&sim).iter().map(|p| tag(p)).collect();
        if seed % 2 != 0 {
            got.sort_unstable();
        }
        assert_eq!(got, (0..128).collect::<Vec<_>>());
        let counters: Vec<u64> = wire.seen_of(0)[1..]
            .iter()
            .map(|d| counter(&d.payload))
            .collect();
        assert_eq!(counters, (0..128).collect::<Vec<_>>());
        assert_eq!(drops(&sim, "no_session"), 0);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn too_many_waiting_packets_give_way_oldest_first() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        sim.link(
            &a.host,
            &b.host,
            Link {
                fifo: true,
                ..Link::default()
            },
        );
        sim.preempt_one_in(0);
        for i in 0..300 {
            a.send(&sim, &packet("10.0.0.1", "10.0.0.2", i, 64))
                .unwrap();
        }
        sim.run_for(secs(1));
        let got: Vec<u64> = b.received(&sim).iter().map(|p| tag(p)).collect();
        assert_eq!(got, (172..300).collect::<Vec<_>>());
        assert_eq!(drops(&sim, "no_session"), 172);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn full_queues_drop_and_go_on() {
    for_seeds(6, |seed| {
        let sim = world(seed);
        sim.preempt_one_in(if seed % 2 == 0 { 0 } else { 64 });
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        for _ in 0..3 {
            // Far more than all queues hold, before any CPU comes to work on it; both ways.
            for i in 0..6000 {
                let _ = a.send(&sim, &packet("10.0.0.1", "10.0.0.2", i, 20));
                let _ = b.send(&sim, &packet("10.0.0.2", "10.0.0.1", i, 20));
            }
            sim.run_for(millis(100));
            let got = (a.received(&sim).len(), b.received(&sim).len());
            assert!(got.0 >= 500 && got.1 >= 500, "{got:?}");
            assert!(drops(&sim, "queue_full") > 0);
            // The next ones pass at once.
            assert!(try_send(&sim, &a, &b, 1, millis(20)));
            assert!(try_send(&sim, &b, &a, 2, millis(20)));
        }
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn many_peers_at_once() {
    for_seeds(2, |seed| {
        let sim = world(seed);
        let hub = Node::new(&sim, sim.host("hub", &["192.0.2.1"]), 1);
        let to = "192.0.2.1:51820".parse().unwrap();
        let mut ghosts: Vec<Ghost> = (2..102)
            .map(|n| {
                let host = sim.host("ghost", &[&format!("198.51.100.{n}")]);
                hub.peer(&sim, PeerConf::node(n, &[&format!("10.0.0.{n}/32")]));
                Ghost::new(&sim, &host, n, 4000, &public_key(1))
            })
            .collect();
        for g in &mut ghosts {
            let m = g.initiation(&sim);
            g.send(&sim, to, &m);
        }
        sim.run_for(millis(100));
        for g in &mut ghosts {
            let answer = g.take(&sim);
            assert!(answer.iter().any(|m| g.complete(&sim, m)));
        }
        for i in 0..20 {
            for (n, g) in ghosts.iter().enumerate() {
                g.send(
                    &sim,
                    to,
                    &g.seal(&packet(&format!("10.0.0.{}", n + 2), "10.0.0.1", i, 64)),
                );
            }
        }
        sim.run_for(millis(100));
        assert_eq!(hub.received(&sim).len(), 2000);
        for (n, g) in ghosts.iter().enumerate() {
            hub.send(
                &sim,
                &packet("10.0.0.1", &format!("10.0.0.{}", n + 2), 1, 64),
            )
            .unwrap();
            sim.run_for(millis(11));
            assert!(g.take(&sim).iter().any(|m| g.open(m).is_some()));
        }
        finish(sim, &[&hub]);
    });
}

/// Steps, trace, counters and all that arrived in a run of everything at once.
fn run(seed: u64) -> (u64, String, String, Vec<Vec<u8>>) {
    let sim = world(seed);
    sim.preempt_one_in(4);
    let (a, b) = pair(&sim);
    sim.link(&a.host, &b.host, Link::bad());
    let mut rng = Rng::new(seed, 801);
    let mut got = Vec::new();
    for i in 0..200 {
        let _ = a.send(&sim, &packet("10.0.0.1", "10.0.0.2", i, 64));
        sim.output_at(
            micros(rng.below(5000)),
            &b.host,
            &b.ifname,
            packet("10.0.0.2", "10.0.0.1", i, 64),
        );
        sim.run_for(micros(rng.below(4_000_000)));
        if i % 50 == 25 {
            a.up(&sim, false);
            a.up(&sim, true);
        }
        got.extend(a.received(&sim));
        got.extend(b.received(&sim));
    }
    let facts = format!(
        "{:?} {:?} {:?} {:?}",
        sim.stats(),
        sim.account().stats(),
        a.state(&sim),
        b.state(&sim)
    );
    let out = (sim.steps(), sim.trace(), facts, got);
    finish(sim, &[&a, &b]);
    out
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    for_seeds(6, |seed| {
        let (one, two) = (run(seed), run(seed));
        assert_eq!(one.0, two.0, "steps");
        assert_eq!(one.1, two.1, "trace");
        assert_eq!(one.2, two.2, "counters");
        assert!(one.3 == two.3, "packets");
        assert!(one.3.len() > 100);
    });
    assert_ne!(run(1).1, run(2).1);
}
