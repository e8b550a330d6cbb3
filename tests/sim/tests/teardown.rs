// SPDX-License-Identifier: BSD-2-Clause
//! Whatever goes away or changes does so under traffic in both directions, at any moment (robustness 6 and 9).

use std::collections::BTreeSet;
use std::time::Duration;

use hostkern::sim::{Link, Rng, Sim, for_seeds};
use wgsim_tests::errno::ENOSPC;
use wgsim_tests::{
    Conf, Ghost, Node, PORT, PeerConf, SIOCGWG, SIOCSWG, State, assert_works, finish, millis,
    packed, packet, pair, private_key, public_key, secs, try_send, world,
};

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

/// A pair with traffic both ways for the next 100 ms, and other work of other CPUs wherever it could be. In half of
/// the worlds there is a session already.
fn busy_pair(sim: &Sim, rng: &mut Rng) -> (Node, Node) {
    sim.preempt_one_in(2 + rng.below(4));
    let (a, b) = pair(sim);
    sim.link(
        &a.host,
        &b.host,
        Link {
            delay: micros(500),
            jitter: micros(rng.below(800)),
            ..Link::default()
        },
    );
    if rng.chance(0.5) {
        assert!(try_send(sim, &a, &b, 1, secs(20)));
    }
    traffic(sim, &a, &b, rng);
    (a, b)
}

fn traffic(sim: &Sim, a: &Node, b: &Node, rng: &mut Rng) {
    for i in 0..150 {
        let (node, src, dst) = if i % 2 == 0 {
            (a, "10.0.0.1", "10.0.0.2")
        } else {
            (b, "10.0.0.2", "10.0.0.1")
        };
        let p = packet(src, dst, i, 20 + rng.below(1300) as usize);
        // Some at one and the same moment.
        let delay = micros(rng.below(200) * 500);
        sim.output_at(delay, &node.host, &node.ifname, p);
    }
}

fn pause(sim: &Sim, rng: &mut Rng) {
    sim.run_for(micros(rng.below(100_000)));
}

fn to_b() -> PeerConf {
    PeerConf::node(2, &["10.0.0.2/32", "fd00::2/128"]).at("192.0.2.2:51820")
}

#[test]
fn peer_removal() {
    for_seeds(120, |seed| {
        let sim = world(seed);
        let mut rng = Rng::new(seed, 600);
        let (a, b) = busy_pair(&sim, &mut rng);
        pause(&sim, &mut rng);
        match seed % 3 {
            0 => a.peer(
                &sim,
                PeerConf {
                    remove: true,
                    ..to_b()
                },
            ),
            1 => a
                .set(
                    &sim,
                    &Conf {
                        replace_peers: true,
                        ..Conf::default()
                    },
                )
                .unwrap(),
            _ => b.peer(
                &sim,
                PeerConf {
                    remove: true,
                    ..PeerConf::node(1, &[])
                },
            ),
        }
        let left = a.state(&sim).peers.len() + b.state(&sim).peers.len();
        assert_eq!(left, 1);
        if seed % 2 == 0 {
            pause(&sim, &mut rng);
            a.peer(&sim, to_b());
            b.peer(&sim, PeerConf::node(1, &["10.0.0.1/32", "fd00::1/128"]));
            assert_works(&sim, &a, &b);
        }
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn interface_destroy() {
    for_seeds(120, |seed| {
        let sim = world(seed);
        let mut rng = Rng::new(seed, 601);
        let (a, b) = busy_pair(&sim, &mut rng);
        pause(&sim, &mut rng);
        sim.destroy(&a.host, &a.ifname).unwrap();
        if seed % 2 == 0 {
            let again = Node::new(&sim, a.host.clone(), 1);
            again.peer(&sim, to_b());
            assert_works(&sim, &again, &b);
            sim.destroy(&a.host, &a.ifname).unwrap();
        }
        finish(sim, &[&b]);
    });
}

#[test]
fn module_unload() {
    for_seeds(120, |seed| {
        let sim = world(seed);
        let mut rng = Rng::new(seed, 602);
        let (a, b) = busy_pair(&sim, &mut rng);
        let c = Node::new(&sim, sim.host("c", &["192.0.2.3"]), 3);
        c.peer(
            &sim,
            PeerConf {
                keepalive: Some(1),
                ..to_b()
            },
        );
        b.peer(&sim, PeerConf::node(3, &["10.0.0.3/32"]));
        pause(&sim, &mut rng);
        sim.unload().unwrap();
        drop((a, b, c));
        sim.assert_no_leaks();
        sim.finish();
    });
}

#[test]
fn down_and_up() {
    for_seeds(80, |seed| {
        let sim = world(seed);
        let mut rng = Rng::new(seed, 603);
        let (a, b) = busy_pair(&sim, &mut rng);
        for _ in 0..4 {
            sim.run_for(micros(rng.below(30_000)));
            let n = if rng.chance(0.5) { &a } else { &b };
            n.up(&sim, false);
            if rng.chance(0.5) {
                sim.run_for(micros(rng.below(5_000)));
            }
            n.up(&sim, true);
        }
        assert_works(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

/// Keys do not outlive the interface's being up, whatever handshakes are under way.
#[test]
fn down_leaves_nothing_of_a_session() {
    for_seeds(150, |seed| {
        let sim = world(seed);
        let mut rng = Rng::new(seed, 609);
        let (a, b) = pair(&sim);
        let blocks = |sim: &Sim| {
            sim.run_for(secs(1));
            sim.settle();
            sim.account().stats().live_objects
        };
        a.up(&sim, false);
        b.up(&sim, false);
        let idle = blocks(&sim);
        a.up(&sim, true);
        b.up(&sim, true);
        sim.preempt_one_in(2);
        for i in 0..4 {
            let at = micros(rng.below(10_000));
            sim.output_at(
                at,
                &a.host,
                &a.ifname,
                packet("10.0.0.1", "10.0.0.2", i, 64),
            );
            sim.output_at(
                at,
                &b.host,
                &b.ifname,
                packet("10.0.0.2", "10.0.0.1", i, 64),
            );
        }
        // Handshakes are under way at this moment.
        sim.run_for(micros(rng.below(25_000)));
        let mut steps = rng.below(4);
        sim.run_until(secs(1), || {
            steps = steps.saturating_sub(1);
            steps == 0
        });
        a.up(&sim, false);
        b.up(&sim, false);
        assert_eq!(blocks(&sim), idle);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn vnet_move_and_jail_removal() {
    for_seeds(80, |seed| {
        let sim = world(seed);
        let mut rng = Rng::new(seed, 604);
        let (a, b) = busy_pair(&sim, &mut rng);
        pause(&sim, &mut rng);
        if seed % 2 == 0 {
            let jail = sim.host("jail", &[]);
            sim.kernel().move_to(&a.host, "wg0", &jail).unwrap();
            let moved = Node {
                host: jail.clone(),
                ifname: "wg0".into(),
                n: 1,
            };
            moved.up(&sim, false);
            moved.up(&sim, true);
            traffic(&sim, &moved, &b, &mut rng);
            pause(&sim, &mut rng);
            if seed % 4 == 0 {
                assert_works(&sim, &moved, &b);
                sim.kernel().remove_prison(&a.host).unwrap();
            }
            finish(sim, &[&moved, &b]);
        } else {
            sim.kernel().remove_prison(&a.host).unwrap();
            assert!(sim.sockets(&a.host).is_empty());
            if seed % 4 == 1 {
                sim.run_for(millis(50));
            }
            finish(sim, &[&a, &b]);
        }
    });
}

#[test]
fn key_port_and_route_changes() {
    for_seeds(80, |seed| {
        let sim = world(seed);
        let mut rng = Rng::new(seed, 605);
        let (a, b) = busy_pair(&sim, &mut rng);
        let mut key = 1;
        for i in 0..12u16 {
            sim.run_for(micros(rng.below(15_000)));
            match rng.below(5) {
                0 => {
                    key = if key == 1 { 7 } else { 1 };
                    a.set(
                        &sim,
                        &Conf {
                            key: Some(private_key(key)),
                            ..Conf::default()
                        },
                    )
                    .unwrap();
                    b.peer(
                        &sim,
                        PeerConf::node(key, &["10.0.0.1/32"]).at("192.0.2.1:51820"),
                    );
                }
                1 => a
                    .set(
                        &sim,
                        &Conf {
                            port: Some(4000 + i),
                            ..Conf::default()
                        },
                    )
                    .unwrap(),
                2 => a.peer(
                    &sim,
                    PeerConf {
                        psk: Some([0; 32]),
                        replace_allowed_ips: true,
                        ..to_b()
                    },
                ),
                3 => a.peer(
                    &sim,
                    PeerConf {
                        keepalive: Some(i),
                        ..to_b()
                    },
                ),
                _ => sim
                    .kernel()
                    .set_mtu(&a.host, &a.ifname, 576 + i32::from(i))
                    .unwrap(),
            }
        }
        a.set(
            &sim,
            &Conf {
                port: Some(PORT),
                ..Conf::default()
            },
        )
        .unwrap();
        b.peer(
            &sim,
            PeerConf::node(key, &["10.0.0.1/32"]).at("192.0.2.1:51820"),
        );
        assert_works(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

/// Robustness 9.
#[test]
fn remove_and_add_in_a_loop_during_handshakes() {
    for_seeds(60, |seed| {
        let sim = world(seed);
        let mut rng = Rng::new(seed, 606);
        sim.preempt_one_in(2);
        let (a, b) = pair(&sim);
        for i in 0..60 {
            let _ = a.send(&sim, &packet("10.0.0.1", "10.0.0.2", i, 64));
            let _ = b.send(&sim, &packet("10.0.0.2", "10.0.0.1", i, 64));
            sim.run_for(micros(rng.below(25_000)));
            let n = if rng.chance(0.5) { &a } else { &b };
            let (other, at) = if n.n == 1 {
                (2, "192.0.2.2:51820")
            } else {
                (1, "192.0.2.1:51820")
            };
            let add = PeerConf::node(other, &[&format!("10.0.0.{other}/32")]).at(at);
            let remove = PeerConf {
                remove: true,
                ..add.clone()
            };
            if rng.chance(0.5) {
                // In one request.
                n.set(
                    &sim,
                    &Conf {
                        peers: vec![remove, add],
                        ..Conf::default()
                    },
                )
                .unwrap();
            } else {
                n.peer(&sim, remove);
                sim.run_for(micros(rng.below(3_000)));
                n.peer(&sim, add);
            }
        }
        assert_works(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn destroy_in_the_middle_of_everything() {
    // No pause of any kind between configuration, traffic and the end.
    for_seeds(100, |seed| {
        let sim = world(seed);
        let mut rng = Rng::new(seed, 607);
        sim.preempt_one_in(2);
        let (a, b) = pair(&sim);
        for i in 0..10 {
            let _ = a.send(&sim, &packet("10.0.0.1", "10.0.0.2", i, 64));
            let _ = b.send(&sim, &packet("10.0.0.2", "10.0.0.1", i, 64));
        }
        let steps = rng.below(12);
        let mut left = steps;
        sim.run_until(secs(1), || {
            left = left.saturating_sub(1);
            left == 0
        });
        finish(sim, &[&a, &b]);
    });
}

/// Robustness 5: CVE-2024-26950, CVE-2024-26951.
#[test]
fn state_is_read_while_peers_come_and_go() {
    for_seeds(24, |seed| {
        let sim = world(seed);
        let mut rng = Rng::new(seed, 608);
        let (a, b) = busy_pair(&sim, &mut rng);
        for n in 3..40u8 {
            let at = micros(rng.below(100_000));
            let (host, name) = (a.host.clone(), a.ifname.clone());
            let remove = rng.chance(0.5);
            let peer = PeerConf {
                remove,
                ..PeerConf::node(3 + n % 4, &["10.0.0.3/32", "::/0"])
            };
            let mut request = packed(&Conf {
                peers: vec![peer],
                ..Conf::default()
            });
            // Changes at moments of their own, between and above what else happens.
            sim.at(at, move |k| {
                k.ioctl_data(&host, &name, SIOCSWG, &mut request)
                    .expect("a change");
            });
        }
        for _ in 0..60 {
            sim.run_for(micros(rng.below(2_500)));
            let size = sim
                .ioctl_data(&a.host, &a.ifname, SIOCGWG, &mut [])
                .expect("the size");
            // It may have grown since.
            let mut bytes = vec![0; size + rng.below(200) as usize];
            sim.run_for(micros(rng.below(500)));
            match sim.ioctl_data(&a.host, &a.ifname, SIOCGWG, &mut bytes) {
                Ok(size) => {
                    let state = State::parse(&bytes[..size]);
                    let all: Vec<_> = state.peers.iter().flat_map(|p| &p.allowed).collect();
                    let distinct: BTreeSet<_> = all.iter().collect();
                    assert_eq!(all.len(), distinct.len(), "a prefix belongs to one peer");
                }
                Err(e) => assert_eq!(e, ENOSPC),
            }
        }
        sim.run_for(millis(100));
        assert_works(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

/// What no task has looked at when the end comes is thrown away, and what it refers to with it.
#[test]
fn destroy_and_peer_removal_with_full_queues() {
    for_seeds(12, |seed| {
        let sim = world(seed);
        sim.preempt_one_in(0);
        let a = Node::new(&sim, sim.host("a", &["192.0.2.1"]), 1);
        let to = "192.0.2.1:51820".parse().unwrap();
        let mut ghosts: Vec<Ghost> = (2..122)
            .map(|n| {
                let host = sim.host("ghost", &[&format!("198.51.100.{n}")]);
                let peer = PeerConf::node(n, &[&format!("10.0.0.{n}/32")]);
                a.peer(
                    &sim,
                    PeerConf {
                        keepalive: Some(9),
                        ..peer
                    },
                );
                Ghost::new(&sim, &host, n, 4000, &public_key(1))
            })
            .collect();
        for g in &mut ghosts[..6] {
            g.connect(&sim, to);
        }
        // More packets than all CPUs take in one turn, and no CPU gets to run.
        for i in 0..900 {
            for g in 2..8 {
                let p = packet("10.0.0.1", &format!("10.0.0.{g}"), i, 20);
                a.send(&sim, &p).unwrap();
            }
        }
        if seed % 2 == 0 {
            // And as many the other way, of which half has arrived.
            for i in 0..600 {
                for (n, g) in ghosts[..6].iter().enumerate() {
                    let p = packet(&format!("10.0.0.{}", n + 2), "10.0.0.1", i, 20);
                    g.send(&sim, to, &g.seal(&p));
                }
            }
            let arrived = sim.stats().delivered;
            sim.run_until(secs(1), || sim.stats().delivered >= arrived + 1800);
        }
        // Events of every peer, as many as that.
        let all = |keepalive| Conf {
            peers: (2..122)
                .map(|n| PeerConf {
                    keepalive: Some(keepalive),
                    ..PeerConf::node(n, &[])
                })
                .collect(),
            ..Conf::default()
        };
        a.set(&sim, &all(7)).unwrap();
        match seed % 3 {
            0 => {}
            1 => a
                .set(
                    &sim,
                    &Conf {
                        replace_peers: true,
                        ..Conf::default()
                    },
                )
                .unwrap(),
            _ => a.up(&sim, false),
        }
        finish(sim, &[&a]);
    });
}
