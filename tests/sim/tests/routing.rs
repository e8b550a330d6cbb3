// SPDX-License-Identifier: BSD-2-Clause
//! Allowed IPs: which peer a packet goes to, and which packets a peer may send (paper, section 3).

use std::collections::BTreeMap;
use std::net::IpAddr;

use hostkern::sim::{Rng, Sim, for_seeds};
use wgsim_tests::errno::{EHOSTUNREACH, ENETUNREACH};
use wgsim_tests::{
    Conf, Ghost, Node, PeerConf, drops, finish, millis, packet, pair, public_key, secs, world,
};

/// An interface with the peers 2.. that the test plays, at 192.0.2.2 and so on.
fn star(sim: &Sim, peers: &[(u8, &[&str])]) -> (Node, Vec<Ghost>) {
    let a = Node::new(sim, sim.host("a", &["192.0.2.1"]), 1);
    let ghosts = peers
        .iter()
        .map(|(n, allowed)| {
            let host = sim.host("ghost", &[&format!("192.0.2.{n}")]);
            let mut ghost = Ghost::new(sim, &host, *n, 4000, &public_key(1));
            a.peer(sim, PeerConf::node(*n, allowed));
            ghost.connect(sim, "192.0.2.1:51820".parse().unwrap());
            let _ = ghost.take(sim);
            ghost
        })
        .collect();
    (a, ghosts)
}

fn src_of(dst: &str) -> &'static str {
    if dst.contains(':') {
        "fd99::1"
    } else {
        "10.99.0.1"
    }
}

/// The peers that get a packet to `dst`, by what arrives at each.
fn receivers(sim: &Sim, a: &Node, ghosts: &[Ghost], dst: &str) -> Vec<usize> {
    let p = packet(src_of(dst), dst, 7, 64);
    let _ = a.send(sim, &p);
    sim.run_for(millis(20));
    let got = |g: &Ghost| {
        g.take(sim)
            .iter()
            .filter_map(|m| g.open(m))
            .any(|plain| plain.starts_with(&p))
    };
    ghosts
        .iter()
        .enumerate()
        .filter(|(_, g)| got(g))
        .map(|(i, _)| i)
        .collect()
}

/// Whether `a` accepts a packet from `src` by this peer.
fn accepts(sim: &Sim, a: &Node, ghost: &Ghost, src: &str) -> bool {
    let dst = if src.contains(':') {
        "fd00::1"
    } else {
        "10.0.0.1"
    };
    let p = packet(src, dst, 7, 64);
    ghost.send(sim, "192.0.2.1:51820".parse().unwrap(), &ghost.seal(&p));
    sim.run_for(millis(20));
    let got = a.received(sim);
    assert!(got.is_empty() || got == [p]);
    !got.is_empty()
}

#[test]
fn the_longest_prefix_decides_both_ways() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, g) = star(
            &sim,
            &[
                (2, &["10.0.0.0/8", "10.1.1.0/24", "fd00::/8", "::/0"]),
                (3, &["10.1.0.0/16", "0.0.0.0/0", "fd00:1::/32"]),
                (4, &["10.1.1.7/32", "fd00:1::7/128", "192.168.0.0/31"]),
            ],
        );
        for (addr, who) in [
            ("10.2.3.4", 0),
            ("10.1.2.3", 1),
            ("10.1.1.6", 0),
            ("10.1.1.7", 2),
            ("8.8.8.8", 1),
            ("192.168.0.0", 2),
            ("192.168.0.1", 2),
            ("192.168.0.2", 1),
            ("fd00:2::1", 0),
            ("fd00:1::1", 1),
            ("fd00:1::7", 2),
            ("2001:db8::1", 0),
        ] {
            assert_eq!(receivers(&sim, &a, &g, addr), [who], "to {addr}");
            for (i, ghost) in g.iter().enumerate() {
                assert_eq!(
                    accepts(&sim, &a, ghost, addr),
                    i == who,
                    "from {addr} by {i}"
                );
            }
        }
        finish(sim, &[&a]);
    });
}

#[test]
fn a_source_that_is_not_the_peer_s_is_counted_and_dropped() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, g) = star(&sim, &[(2, &["10.0.0.2/32"]), (3, &["10.0.0.3/32"])]);
        let before = drops(&sim, "source_not_allowed");
        for src in [
            "10.0.0.3",
            "10.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "127.0.0.1",
            "fd00::2",
            "::",
        ] {
            assert!(!accepts(&sim, &a, &g[0], src), "{src}");
        }
        assert_eq!(drops(&sim, "source_not_allowed"), before + 7);
        assert!(accepts(&sim, &a, &g[0], "10.0.0.2"));
        finish(sim, &[&a]);
    });
}

fn allowed(sim: &Sim, a: &Node, n: u8) -> Vec<String> {
    a.about(sim, n)
        .allowed
        .iter()
        .map(|(ip, len)| format!("{ip}/{len}"))
        .collect()
}

/// What GET says, given to SET again, is what GET says: in one request, for peers that stay and for an interface
/// that begins anew. A prefix that its peer gets once more stays where it is.
#[test]
fn the_order_of_prefixes_survives_a_cycle() {
    for_seeds(16, |seed| {
        let sim = world(seed);
        let a = Node::bare(&sim, sim.host("a", &["192.0.2.1"]), 1);
        let mut given: Vec<String> = (0..40u32)
            .map(|n| n.wrapping_mul(0x9e37_79b9).wrapping_add(seed as u32))
            .map(|n| format!("10.{}.{}.0/24", n >> 24, n >> 16 & 255))
            .chain(["::/0", "0.0.0.0/0", "fd00::/8"].map(String::from))
            .collect();
        given.rotate_left(seed as usize);
        let words: Vec<&str> = given.iter().map(String::as_str).collect();
        a.peer(&sim, PeerConf::node(2, &words));
        assert_eq!(allowed(&sim, &a, 2), given);
        for cycle in 0..3 {
            let saved = allowed(&sim, &a, 2);
            let words: Vec<&str> = saved.iter().map(String::as_str).collect();
            let conf = Conf {
                replace_peers: cycle == 1,
                peers: vec![PeerConf {
                    replace_allowed_ips: cycle != 0,
                    ..PeerConf::node(2, &words)
                }],
                ..Conf::default()
            };
            a.set(&sim, &conf).unwrap();
            assert_eq!(allowed(&sim, &a, 2), given, "cycle {cycle}");
        }
        finish(sim, &[&a]);
    });
}

#[test]
fn order_stealing_replacing_removing() {
    for_seeds(2, |seed| {
        let sim = world(seed);
        let a = Node::bare(&sim, sim.host("a", &["192.0.2.1"]), 1);
        // As they were given; host bits are masked off; both families in one list.
        a.peer(
            &sim,
            PeerConf::node(2, &["10.0.0.1/8", "fd00::1/64", "10.1.0.0/16", "0.0.0.0/0"]),
        );
        assert_eq!(
            allowed(&sim, &a, 2),
            ["10.0.0.0/8", "fd00::/64", "10.1.0.0/16", "0.0.0.0/0"]
        );
        a.peer(&sim, PeerConf::node(2, &["192.168.0.0/24"]));
        assert_eq!(allowed(&sim, &a, 2).len(), 5, "added, not replaced");
        assert_eq!(allowed(&sim, &a, 2)[4], "192.168.0.0/24");
        // Duplicates in one request, in several spellings.
        a.peer(
            &sim,
            PeerConf::node(2, &["10.9.0.0/16", "10.9.1.2/16", "10.9.0.0/16"]),
        );
        assert_eq!(allowed(&sim, &a, 2).len(), 6);
        // Stealing: the prefix moves, others of the same address do not.
        a.peer(&sim, PeerConf::node(3, &["10.0.0.0/8", "::/0"]));
        assert_eq!(allowed(&sim, &a, 3), ["10.0.0.0/8", "::/0"]);
        assert!(!allowed(&sim, &a, 2).contains(&"10.0.0.0/8".into()));
        // There and back in one request: the last one has it.
        let conf = Conf {
            peers: vec![
                PeerConf::node(2, &["10.0.0.0/8"]),
                PeerConf::node(3, &["10.0.0.0/8"]),
                PeerConf::node(2, &["10.0.0.0/8"]),
            ],
            ..Conf::default()
        };
        a.set(&sim, &conf).unwrap();
        assert_eq!(allowed(&sim, &a, 3), ["::/0"]);
        assert_eq!(
            allowed(&sim, &a, 2).last().map(String::as_str),
            Some("10.0.0.0/8")
        );
        // Removal by flag: exact prefix, own ones only, absent ones are no error.
        a.peer(&sim, PeerConf::node(2, &["-10.0.0.0/8"]));
        a.peer(
            &sim,
            PeerConf::node(2, &["-10.0.0.0/8", "-1.2.3.4/32", "-::/0", "-10.1.0.0/15"]),
        );
        assert_eq!(allowed(&sim, &a, 3), ["::/0"], "of another peer: stays");
        assert!(allowed(&sim, &a, 2).contains(&"10.1.0.0/16".into()));
        assert!(!allowed(&sim, &a, 2).contains(&"10.0.0.0/8".into()));
        a.peer(&sim, PeerConf::node(2, &["-10.1.255.255/16"]));
        assert!(
            !allowed(&sim, &a, 2).contains(&"10.1.0.0/16".into()),
            "host bits do not matter"
        );
        // Added and removed in one request, in that order and the other.
        a.peer(
            &sim,
            PeerConf::node(
                2,
                &["10.7.0.0/16", "-10.7.0.0/16", "-10.8.0.0/16", "10.8.0.0/16"],
            ),
        );
        assert_eq!(
            allowed(&sim, &a, 2).last().map(String::as_str),
            Some("10.8.0.0/16")
        );
        assert!(!allowed(&sim, &a, 2).contains(&"10.7.0.0/16".into()));
        // Replacing.
        a.peer(
            &sim,
            PeerConf {
                replace_allowed_ips: true,
                ..PeerConf::node(2, &["10.5.0.0/16"])
            },
        );
        assert_eq!(allowed(&sim, &a, 2), ["10.5.0.0/16"]);
        a.peer(
            &sim,
            PeerConf {
                replace_allowed_ips: true,
                ..PeerConf::node(2, &[])
            },
        );
        assert!(allowed(&sim, &a, 2).is_empty());
        assert_eq!(allowed(&sim, &a, 3), ["::/0"]);
        // Removing a peer frees its prefixes; a second time is no error.
        for _ in 0..2 {
            a.peer(
                &sim,
                PeerConf {
                    remove: true,
                    ..PeerConf::node(3, &["10.6.0.0/16"])
                },
            );
        }
        assert_eq!(a.state(&sim).peers.len(), 1);
        // Replacing in the middle of a request clears what came before it.
        let conf = Conf {
            peers: vec![
                PeerConf::node(2, &["10.1.0.0/16"]),
                PeerConf {
                    replace_allowed_ips: true,
                    ..PeerConf::node(2, &["10.2.0.0/16"])
                },
                PeerConf::node(2, &["10.3.0.0/16"]),
            ],
            ..Conf::default()
        };
        a.set(&sim, &conf).unwrap();
        assert_eq!(allowed(&sim, &a, 2), ["10.2.0.0/16", "10.3.0.0/16"]);
        finish(sim, &[&a]);
    });
}

#[test]
fn peers_are_listed_as_they_were_added() {
    for_seeds(4, |seed| {
        let sim = world(seed);
        let a = Node::bare(&sim, sim.host("a", &["192.0.2.1"]), 1);
        let order = |wanted: &[u8]| {
            let keys: Vec<_> = a.state(&sim).peers.iter().map(|p| p.key).collect();
            assert_eq!(
                keys,
                wanted.iter().map(|&n| public_key(n)).collect::<Vec<_>>()
            );
        };
        for n in [9, 3, 7, 5] {
            a.peer(&sim, PeerConf::node(n, &[]));
        }
        order(&[9, 3, 7, 5]);
        a.peer(&sim, PeerConf::node(3, &["10.0.0.0/8"]));
        order(&[9, 3, 7, 5]);
        a.peer(
            &sim,
            PeerConf {
                remove: true,
                ..PeerConf::node(9, &[])
            },
        );
        a.peer(&sim, PeerConf::node(9, &[]));
        order(&[3, 7, 5, 9]);
        // Removed and added in one request; only if it exists.
        let mut conf = Conf::default();
        conf.peers.push(PeerConf {
            remove: true,
            ..PeerConf::node(7, &[])
        });
        conf.peers.push(PeerConf::node(7, &["10.7.0.0/16"]));
        conf.peers.push(PeerConf {
            update_only: true,
            ..PeerConf::node(100, &["10.100.0.0/16"])
        });
        conf.peers.push(PeerConf {
            update_only: true,
            ..PeerConf::node(5, &["10.5.0.0/16"])
        });
        a.set(&sim, &conf).unwrap();
        order(&[3, 5, 9, 7]);
        assert_eq!(allowed(&sim, &a, 5), ["10.5.0.0/16"]);
        // All replaced.
        conf = Conf {
            replace_peers: true,
            ..Conf::default()
        };
        conf.peers = vec![PeerConf::node(5, &[]), PeerConf::node(1, &["10.1.0.0/16"])];
        a.set(&sim, &conf).unwrap();
        order(&[5, 1]);
        assert!(allowed(&sim, &a, 5).is_empty());
        a.set(
            &sim,
            &Conf {
                replace_peers: true,
                ..Conf::default()
            },
        )
        .unwrap();
        order(&[]);
        finish(sim, &[&a]);
    });
}

#[test]
fn random_changes_agree_with_a_naive_table() {
    for_seeds(24, |seed| {
        let sim = world(seed);
        let a = Node::bare(&sim, sim.host("a", &["192.0.2.1"]), 1);
        let mut rng = Rng::new(seed, 300);
        // Prefix to owner.
        let mut model: BTreeMap<String, u8> = BTreeMap::new();
        let mut known: Vec<u8> = Vec::new();
        for _ in 0..60 {
            let mut conf = Conf::default();
            if rng.chance(0.03) {
                conf.replace_peers = true;
                model.clear();
                known.clear();
            }
            for _ in 0..rng.below(4) {
                let n = 2 + rng.below(5) as u8;
                let mut peer = PeerConf::node(n, &[]);
                if rng.chance(0.1) {
                    peer.remove = true;
                    model.retain(|_, owner| *owner != n);
                    known.retain(|k| *k != n);
                } else {
                    if !known.contains(&n) {
                        known.push(n);
                    }
                    if rng.chance(0.15) {
                        peer.replace_allowed_ips = true;
                        model.retain(|_, owner| *owner != n);
                    }
                    for _ in 0..rng.below(5) {
                        let p = match rng.below(4) {
                            0 => format!("10.{}.0.0/16", rng.below(4)),
                            1 => format!("10.{}.{}.0/24", rng.below(4), rng.below(3)),
                            2 => format!("fd00:{}::/32", rng.below(5) + 1),
                            _ => ["0.0.0.0/0", "::/0", "10.0.0.0/8"][rng.below(3) as usize].into(),
                        };
                        if rng.chance(0.3) {
                            peer.allowed.push(format!("-{p}"));
                            if model.get(&p) == Some(&n) {
                                model.remove(&p);
                            }
                        } else {
                            model.insert(p.clone(), n);
                            peer.allowed.push(p);
                        }
                    }
                }
                conf.peers.push(peer);
            }
            a.set(&sim, &conf).unwrap();
            let state = a.state(&sim);
            assert_eq!(
                state.peers.iter().map(|p| p.key).collect::<Vec<_>>(),
                known.iter().map(|&n| public_key(n)).collect::<Vec<_>>()
            );
            let mut got = BTreeMap::new();
            for (p, n) in state.peers.iter().zip(&known) {
                for (ip, len) in &p.allowed {
                    assert_eq!(got.insert(format!("{ip}/{len}"), *n), None, "listed twice");
                }
            }
            assert_eq!(got, model);
        }
        finish(sim, &[&a]);
    });
}

#[test]
fn prefixes_move_between_peers_under_traffic() {
    for_seeds(12, |seed| {
        let sim = world(seed);
        let (a, g) = star(&sim, &[(2, &["10.5.0.0/16"]), (3, &[])]);
        for round in 0..20 {
            let (from, to) = (round % 2, (round + 1) % 2);
            assert_eq!(receivers(&sim, &a, &g, "10.5.0.1"), [from]);
            for _ in 0..10 {
                let _ = a.send(&sim, &packet("10.99.0.1", "10.5.0.1", 1, 64));
            }
            a.peer(&sim, PeerConf::node(2 + to as u8, &["10.5.0.0/16"]));
            sim.run_for(millis(20));
            assert!(!accepts(&sim, &a, &g[from], "10.5.0.1"));
            assert!(accepts(&sim, &a, &g[to], "10.5.0.1"));
            let _ = (g[0].take(&sim), g[1].take(&sim));
        }
        finish(sim, &[&a]);
    });
}

#[test]
fn senders_without_peer_or_endpoint_are_told() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        a.peer(&sim, PeerConf::node(3, &["10.3.0.0/16", "fd00:3::/32"]));
        let (no_peer, no_endpoint) = (drops(&sim, "no_peer"), drops(&sim, "no_endpoint"));
        for (dst, errno, reason) in [
            ("10.4.0.1", ENETUNREACH, 2),
            ("fd00:4::1", ENETUNREACH, 2),
            ("10.3.0.1", EHOSTUNREACH, 0),
            ("fd00:3::1", EHOSTUNREACH, 0),
        ] {
            let p = packet(src_of(dst), dst, 7, 300);
            assert_eq!(a.send(&sim, &p), Err(errno), "{dst}");
            let icmp = sim.icmp(&a.host);
            assert_eq!(icmp.len(), 1, "{dst}");
            assert_eq!(
                (icmp[0].interface.as_str(), icmp[0].reason),
                ("wg0", reason),
                "{dst}"
            );
            assert_eq!(icmp[0].packet, p, "about the packet that was sent");
        }
        assert_eq!(drops(&sim, "no_peer"), no_peer + 2);
        assert_eq!(drops(&sim, "no_endpoint"), no_endpoint + 2);
        sim.run_for(secs(1));
        assert!(b.received(&sim).is_empty());
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn many_prefixes_are_dumped_whole() {
    for_seeds(1, |seed| {
        let sim = world(seed);
        let a = Node::bare(&sim, sim.host("a", &["192.0.2.1"]), 1);
        // As many as Linux's test has in one interface, over 255 peers.
        let mut conf = Conf::default();
        for n in 2..=255u8 {
            let mut peer = PeerConf::node(n, &[]);
            peer.allowed = (0..514u32)
                .map(|i| {
                    let bits = (u32::from(n) << 16) + i;
                    if i % 2 == 0 {
                        format!("{}/32", IpAddr::from(bits.to_be_bytes()))
                    } else {
                        format!("{}/128", IpAddr::from(u128::from(bits).to_be_bytes()))
                    }
                })
                .collect();
            conf.peers.push(peer);
        }
        a.set(&sim, &conf).unwrap();
        let state = a.state(&sim);
        assert_eq!(state.peers.len(), 254);
        for (p, wanted) in state.peers.iter().zip(&conf.peers) {
            let got: Vec<_> = p
                .allowed
                .iter()
                .map(|(ip, len)| format!("{ip}/{len}"))
                .collect();
            assert_eq!(got, wanted.allowed);
        }
        finish(sim, &[&a]);
    });
}
