// SPDX-License-Identifier: BSD-2-Clause
//! Allocation failure at every allocation point in turn: nothing leaks, nothing is half applied, and the tunnel works
//! afterwards.

use hostkern::Errno;
use hostkern::sim::{Host, Rng, Sim, for_seeds};
use wgsim_tests::errno::{ENOBUFS, ENOMEM, ENOSPC};
use wgsim_tests::{
    Conf, Node, PORT, PeerConf, State, assert_works, packet, pair, private_key, secs, world,
};

/// What an administrator has set, without what traffic changes.
fn configuration(sim: &Sim, node: &Node) -> State {
    // Reading needs memory, too; the one failure of a run may hit it.
    let bytes = node.try_get_raw(sim).or_else(|e| {
        assert_eq!(e, ENOMEM);
        node.try_get_raw(sim)
    });
    let mut state = State::parse(&bytes.expect("the second time"));
    for p in &mut state.peers {
        (p.rx, p.tx, p.handshake) = (0, 0, 0);
    }
    state
}

/// Does `f`; if memory runs out, checks that it had no effect and does it again.
fn set(sim: &Sim, node: &Node, conf: &Conf) {
    let before = configuration(sim, node);
    if let Err(e) = node.set(sim, conf) {
        assert_eq!(e, ENOMEM);
        assert_eq!(configuration(sim, node), before, "half applied");
        node.set(sim, conf).expect("the second time");
    }
}

fn create(sim: &Sim, host: &Host, n: u8) -> Node {
    let made = sim.create(host, "wg").or_else(|e: Errno| {
        assert!([ENOMEM, ENOSPC].contains(&e), "errno {e}");
        assert!(sim.kernel().interfaces(host).is_empty(), "half created");
        sim.create(host, "wg")
    });
    Node {
        host: host.clone(),
        ifname: made.expect("the second time"),
        n,
    }
}

fn up(sim: &Sim, node: &Node) {
    node.up(sim, true);
    if !node.ifnet(sim).is_running() {
        assert!(sim.sockets(&node.host).is_empty(), "half up");
        node.up(sim, true);
    }
    assert!(node.ifnet(sim).is_running(), "the second time");
}

/// Packets both ways. They may be lost, or wait for the next handshake, but come whole or not at all.
fn exchange(sim: &Sim, a: &Node, b: &Node) {
    let all = [
        packet("10.0.0.1", "10.0.0.2", 1, 100),
        packet("10.0.0.2", "10.0.0.1", 2, 1400),
        packet("10.0.0.1", "10.0.0.2", 3, 9000),
    ];
    for (p, (from, to)) in all.iter().zip([(a, b), (b, a), (a, b)]) {
        if let Err(e) = from.send(sim, p) {
            assert_eq!(e, ENOBUFS);
        }
        sim.run_for(secs(1));
        assert!(to.received(sim).iter().all(|got| all.contains(got)));
    }
}

/// Create, configure, handshake, data both ways, reconfigure, rekey, destroy, unload. Says whether an allocation was
/// refused; the `n`th was to be.
fn life(seed: u64, n: u64) -> bool {
    let sim = Sim::new(seed);
    // With failures that the moment decides too, the moments of a run differ little from those of the last.
    let hosts = [sim.host("a", &["192.0.2.1"]), sim.host("b", &["192.0.2.2"])];
    sim.fail_nth(n);
    if let Err(e) = sim.load(wgsim_tests::module()) {
        assert_eq!(e, ENOMEM);
        sim.load(wgsim_tests::module()).expect("the second time");
    }
    let (a, b) = (create(&sim, &hosts[0], 1), create(&sim, &hosts[1], 2));
    let peer = |n: u8| {
        let prefix = format!("10.0.0.{n}/32");
        let peer = PeerConf::node(n, &[&prefix, &format!("fd00::{n}/128"), "10.77.0.0/16"]);
        peer.at(&format!("192.0.2.{n}:51820"))
    };
    for (node, other) in [(&a, 2), (&b, 1)] {
        let mut conf = Conf {
            key: Some(private_key(node.n)),
            port: Some(PORT),
            ..Conf::default()
        };
        conf.peers = vec![peer(other), PeerConf::node(9, &["10.9.0.0/16"])];
        set(&sim, node, &conf);
        up(&sim, node);
    }
    exchange(&sim, &a, &b);
    sim.run_for(secs(30));
    exchange(&sim, &a, &b);
    // Reconfigure while it runs.
    let more = PeerConf::node(8, &["10.8.0.0/16", "0.0.0.0/0", "::/0", "-10.8.0.0/16"]);
    set(
        &sim,
        &a,
        &Conf {
            peers: vec![more, peer(2)],
            ..Conf::default()
        },
    );
    set(
        &sim,
        &a,
        &Conf {
            port: Some(4444),
            cookie: Some(5),
            ..Conf::default()
        },
    );
    let replaced = PeerConf {
        replace_allowed_ips: true,
        keepalive: Some(20),
        ..peer(2)
    };
    let gone = PeerConf {
        remove: true,
        ..PeerConf::node(9, &[])
    };
    set(
        &sim,
        &a,
        &Conf {
            peers: vec![replaced, gone],
            ..Conf::default()
        },
    );
    exchange(&sim, &a, &b);
    // Rekey; then all anew.
    sim.run_for(secs(125));
    exchange(&sim, &a, &b);
    let again = Conf {
        replace_peers: true,
        key: Some(private_key(3)),
        peers: vec![peer(2), PeerConf::node(8, &["10.8.0.0/16"])],
        ..Conf::default()
    };
    set(&sim, &a, &again);
    set(
        &sim,
        &b,
        &Conf {
            peers: vec![PeerConf {
                key: wgsim_tests::public_key(3),
                ..peer(1)
            }],
            ..Conf::default()
        },
    );
    exchange(&sim, &a, &b);
    b.up(&sim, false);
    up(&sim, &b);
    assert_works(&sim, &a, &b);
    for node in [&a, &b] {
        sim.destroy(&node.host, &node.ifname)
            .expect("destroy does not fail");
    }
    sim.unload().expect("nor does unload");
    let refused = sim.account().stats().refused != 0;
    sim.fail_nth(0);
    sim.finish();
    refused
}

fn every_point(seed: u64, first: u64, step: u64) {
    let mut n = first;
    while {
        let run = std::panic::catch_unwind(|| life(seed, n));
        run.unwrap_or_else(|e| {
            eprintln!("seed {seed}, allocation {n}");
            std::panic::resume_unwind(e)
        })
    } {
        n += step;
    }
    assert!(n > 300, "only {n} allocations");
}

// Two halves, so that two CPUs share the work.
#[test]
fn the_nth_allocation_fails_odd() {
    (1..4).for_each(|seed| every_point(seed, 1, 2));
}

#[test]
fn the_nth_allocation_fails_even() {
    (1..4).for_each(|seed| every_point(seed, 2, 2));
}

#[test]
fn some_allocations_fail_all_the_time() {
    for_seeds(24, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let mut rng = Rng::new(seed, 700);
        sim.fail_every([2, 3, 5, 20, 100][seed as usize % 5]);
        for i in 0..200 {
            match rng.below(8) {
                0 => {
                    let before = a.try_get_raw(&sim);
                    let prefix = format!("10.{i}.0.0/16");
                    let conf = Conf {
                        port: Some(4000 + i as u16),
                        peers: vec![PeerConf::node(2, &[]), PeerConf::node(i as u8, &[&prefix])],
                        ..Conf::default()
                    };
                    if let Err(e) = a.set(&sim, &conf) {
                        assert_eq!(e, ENOMEM);
                        let after = a.try_get_raw(&sim);
                        if let (Ok(before), Ok(after)) = (before, after) {
                            assert_eq!(State::parse(&before).port, State::parse(&after).port);
                            assert_eq!(
                                State::parse(&before).peers.len(),
                                State::parse(&after).peers.len()
                            );
                        }
                    }
                }
                1 => {
                    b.up(&sim, false);
                    b.up(&sim, true);
                }
                _ => {
                    let _ = a.send(&sim, &packet("10.0.0.1", "10.0.0.2", i, 100));
                    let _ = b.send(&sim, &packet("10.0.0.2", "10.0.0.1", i, 3000));
                }
            }
            sim.run_for(secs(rng.below(10)));
        }
        sim.fail_every(0);
        let _ = (a.received(&sim), b.received(&sim));
        b.up(&sim, true);
        a.set(
            &sim,
            &Conf {
                port: Some(PORT),
                ..Conf::default()
            },
        )
        .unwrap();
        assert_works(&sim, &a, &b);
        sim.finish();
    });
}

#[test]
fn destroy_and_unload_need_no_memory() {
    for_seeds(24, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let mut rng = Rng::new(seed, 701);
        for i in 0..50 {
            a.send(&sim, &packet("10.0.0.1", "10.0.0.2", i, 100))
                .unwrap();
            let delay = std::time::Duration::from_micros(rng.below(15_000));
            sim.output_at(
                delay,
                &b.host,
                &b.ifname,
                packet("10.0.0.2", "10.0.0.1", i, 100),
            );
        }
        sim.run_for(std::time::Duration::from_micros(rng.below(15_000)));
        sim.fail_every(1);
        a.up(&sim, false);
        sim.destroy(&a.host, &a.ifname).unwrap();
        sim.unload().unwrap();
        sim.fail_every(0);
        sim.finish();
    });
}
