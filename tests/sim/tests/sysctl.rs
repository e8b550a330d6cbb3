// SPDX-License-Identifier: BSD-2-Clause
//! What an operator watches and tunes: `net.wg`.

use std::collections::BTreeSet;

use hostkern::sim::{Sim, for_seeds};
use wgsim_tests::errno::{EINVAL, EPERM};
use wgsim_tests::{
    Msg, Node, PeerConf, Wire, assert_ping, drops, finish, handshakes, millis, module, packet,
    pair, secs, world,
};

/// Name, least value, greatest value, value at first.
const LIMITS: [(&str, u64, u64, u64); 7] = [
    ("net.wg.max_interfaces", 1, 32_768, 256),
    ("net.wg.max_peers", 1, 16_777_216, 131_072),
    ("net.wg.max_allowed_ips", 1, 67_108_864, 1_048_576),
    ("net.wg.max_staged", 1, 65_536, 128),
    ("net.wg.max_in_flight", 64, 65_536, 1024),
    ("net.wg.max_packets", 64, 65_536, 1024),
    ("net.wg.max_handshakes", 64, 65_536, 4096),
];

fn number(sim: &Sim, name: &str) -> u64 {
    sim.kernel().sysctl_number(name).expect(name)
}

#[test]
fn limits_have_bounds() {
    let sim = world(1);
    let k = sim.kernel();
    for (name, least, greatest, first) in LIMITS {
        assert_eq!(k.sysctl_number(name), Ok(first), "{name}");
        for bad in [0, least - 1, greatest + 1, u64::MAX] {
            assert_eq!(k.set_sysctl(name, bad), Err(EINVAL), "{name} {bad}");
            assert_eq!(k.sysctl_number(name), Ok(first), "{name} after {bad}");
        }
        for good in [least, greatest, first] {
            assert_eq!(k.set_sysctl(name, good), Ok(()), "{name} {good}");
            assert_eq!(k.sysctl_number(name), Ok(good), "{name}");
        }
    }
    sim.finish();
}

#[test]
fn limits_are_tunables() {
    for (name, least, greatest, first) in LIMITS {
        for (value, then) in [
            (greatest.to_string(), greatest),
            (least.to_string(), least),
            // As the kernel does: it says that the value is bad, and leaves it.
            ((greatest + 1).to_string(), first),
            ("0".to_string(), first),
        ] {
            let sim = Sim::new(1);
            sim.kernel().set_tunable(name, &value);
            sim.load(module()).expect("the module loads");
            assert_eq!(number(&sim, name), then, "{name}={value}");
            sim.finish();
        }
    }
}

#[test]
fn counters_cannot_be_set() {
    let sim = world(1);
    let names = sim.kernel().sysctl_names();
    let writable: BTreeSet<_> = LIMITS.iter().map(|l| l.0).collect();
    assert!(names.len() > 25, "{names:?}");
    for name in names.iter().filter(|n| !writable.contains(n.as_str())) {
        assert_eq!(sim.kernel().set_sysctl(name, 1), Err(EPERM), "{name}");
    }
    sim.finish();
}

#[test]
fn the_manual_has_every_variable_and_no_other() {
    let manual = include_str!("../../../share/man/man4/wg.4");
    let told: BTreeSet<&str> = manual
        .lines()
        .filter(|line| line.starts_with(".It Va net.wg."))
        .flat_map(|line| line.split([' ', ',']).filter(|w| w.starts_with("net.wg.")))
        .collect();
    let sim = world(1);
    let names = sim.kernel().sysctl_names();
    let there: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(told, there);
    sim.finish();
}

#[test]
fn packets_that_wait_for_a_handshake_are_limited() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let a = Node::new(&sim, sim.host("a", &["192.0.2.1"]), 1);
        a.peer(
            &sim,
            PeerConf::node(2, &["10.0.0.2/32"]).at("192.0.2.2:51820"),
        );
        let send = |n: u64| {
            for tag in 0..n {
                a.send(&sim, &packet("10.0.0.1", "10.0.0.2", tag, 100))
                    .expect("output");
            }
        };
        let set = |n| sim.kernel().set_sysctl("net.wg.max_staged", n).unwrap();
        set(4);
        send(10);
        assert_eq!(drops(&sim, "no_session"), 6);
        // A lower one holds from the next packet on.
        set(2);
        send(1);
        assert_eq!(drops(&sim, "no_session"), 9);
        set(128);
        send(126);
        assert_eq!(drops(&sim, "no_session"), 9);
        send(1);
        assert_eq!(drops(&sim, "no_session"), 10);
        finish(sim, &[&a]);
    });
}

#[test]
fn packets_under_way_are_limited() {
    for limit in ["net.wg.max_in_flight", "net.wg.max_packets"] {
        for_seeds(8, |seed| {
            let sim = Sim::new(seed);
            sim.kernel().set_tunable(limit, "64");
            sim.load(module()).expect("the module loads");
            // So that no task runs between two packets.
            sim.preempt_one_in(0);
            let (a, b) = pair(&sim);
            assert_ping(&sim, &a, &b);
            let burst = || {
                let before = drops(&sim, "queue_full");
                for tag in 0..1000 {
                    a.send(&sim, &packet("10.0.0.1", "10.0.0.2", tag, 100))
                        .expect("output");
                }
                drops(&sim, "queue_full") - before
            };
            // Four CPUs have a queue each.
            let room = if limit.ends_with("packets") { 256 } else { 64 };
            assert_eq!(burst(), 1000 - room, "{limit}");
            sim.run_for(secs(5));
            let got = b.received(&sim).len() as u64;
            assert!((1..=room).contains(&got), "{got} of {room} arrived");
            sim.kernel().set_sysctl(limit, 4096).unwrap();
            // Queues have their length from when the interface was made.
            let dropped = burst();
            assert_eq!(dropped == 0, limit.ends_with("in_flight"), "{dropped}");
            finish(sim, &[&a, &b]);
        });
    }
}

#[test]
fn packets_that_are_received_are_limited() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let wire = Wire::record(&sim);
        a.send(&sim, &packet("10.0.0.1", "10.0.0.2", 1, 100))
            .expect("output");
        sim.run_for(secs(1));
        sim.off_wire();
        let data = wire.take().into_iter().find(|d| d.kind() == Msg::Data);
        let data = data.expect("a data message");
        // Its copies are opened before they are found to be copies. Many come before a task runs.
        sim.latency(millis(100));
        let flood = || {
            let before = (drops(&sim, "queue_full"), drops(&sim, "replayed"));
            for _ in 0..900 {
                sim.spoof_datagram(&a.host, data.src, data.dst, &data.payload);
            }
            sim.run_for(secs(1));
            let full = drops(&sim, "queue_full") - before.0;
            assert_eq!(full + drops(&sim, "replayed") - before.1, 900);
            full
        };
        assert_eq!(flood(), 0, "there is room for 1024");
        sim.kernel().set_sysctl("net.wg.max_in_flight", 64).unwrap();
        assert!(flood() > 0, "more than 64 were under way");
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn handshakes_are_counted() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let counts = || {
            ["initiations_sent", "initiations_answered", "abandoned"]
                .map(|name| number(&sim, &format!("net.wg.handshake_{name}")))
        };
        assert_eq!(counts(), [0, 0, 0]);
        a.send(&sim, &packet("10.0.0.1", "10.0.0.2", 1, 100))
            .expect("output");
        sim.run_for(secs(2));
        assert_eq!(counts(), [1, 1, 0]);
        assert_eq!(handshakes(&sim), 2, "both sides count");
        // Nobody answers: a try each five seconds, for ninety.
        b.up(&sim, false);
        a.up(&sim, false);
        a.up(&sim, true);
        a.send(&sim, &packet("10.0.0.1", "10.0.0.2", 2, 100))
            .expect("output");
        sim.run_for(secs(200));
        let [sent, answered, abandoned] = counts();
        assert!((15..=25).contains(&sent), "{sent} initiations");
        assert_eq!((answered, abandoned, handshakes(&sim)), (1, 1, 2));
        finish(sim, &[&a, &b]);
    });
}
