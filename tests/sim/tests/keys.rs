// SPDX-License-Identifier: BSD-2-Clause
//! Keys, ports and socket options that change while the tunnel runs.

use hostkern::backend::Family;
use hostkern::sim::{Sim, for_seeds};
use wgsim_tests::errno::{EADDRINUSE, EINVAL, EPERM};
use wgsim_tests::{
    Conf, Ghost, Msg, Node, PeerConf, Wire, assert_ping, assert_works, drops, finish, handshakes,
    millis, packet, pair, private_key, public_key, secs, try_send, world,
};

const SIOCGTUNFIB: u64 = 0xc020_695e;
const SIOCSTUNFIB: u64 = 0x8020_695f;

fn psk(n: u8) -> Option<[u8; 32]> {
    Some([n; 32])
}

fn restart(sim: &Sim, a: &Node) {
    a.up(sim, false);
    a.up(sim, true);
}

#[test]
fn preshared_keys_match_mismatch_and_change() {
    for_seeds(12, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let set = |n: &Node, other: u8, key| {
            n.peer(
                &sim,
                PeerConf {
                    psk: key,
                    ..PeerConf::node(other, &[])
                },
            )
        };
        set(&a, 2, psk(7));
        let bad = drops(&sim, "bad_handshake");
        assert!(!try_send(&sim, &a, &b, 1, secs(20)), "one side has one");
        assert!(drops(&sim, "bad_handshake") > bad);
        set(&b, 1, psk(8));
        assert!(!try_send(&sim, &a, &b, 2, secs(20)), "they differ");
        set(&b, 1, psk(7));
        assert_works(&sim, &a, &b);
        assert!(a.about(&sim, 2).psk && b.about(&sim, 1).psk);
        // A change concerns the next handshake; the session goes on.
        set(&a, 2, psk(9));
        assert_ping(&sim, &a, &b);
        restart(&sim, &a);
        assert!(!try_send(&sim, &a, &b, 3, secs(20)));
        set(&b, 1, psk(9));
        assert_works(&sim, &a, &b);
        // Zeros are none.
        set(&a, 2, Some([0; 32]));
        set(&b, 1, Some([0; 32]));
        assert!(!a.about(&sim, 2).psk);
        restart(&sim, &a);
        assert_works(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_new_private_key_takes_effect_at_once() {
    for_seeds(24, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        // One packet of the old session is under way to a.
        let wire = Wire::filter(&sim, |d| d.from == 0);
        b.send(&sim, &packet("10.0.0.2", "10.0.0.1", 5, 64))
            .unwrap();
        sim.run_for(millis(10));
        let held = wire.take();
        let wire = Wire::record(&sim);
        b.set(
            &sim,
            &Conf {
                replace_peers: false,
                peers: vec![PeerConf::node(3, &["10.0.0.1/32"]).at("192.0.2.1:51820")],
                ..Conf::default()
            },
        )
        .unwrap();
        a.set(
            &sim,
            &Conf {
                key: Some(private_key(3)),
                ..Conf::default()
            },
        )
        .unwrap();
        assert_eq!(a.state(&sim).public, Some(public_key(3)));
        sim.spoof_datagram(&b.host, held[0].src, held[0].dst, &held[0].payload);
        sim.run_for(millis(100));
        assert_eq!(a.received(&sim).len(), 1, "old sessions still receive");
        let _ = wire.take();
        // The next packet goes over a new session of the new key, though the last handshake was just now.
        let before = handshakes(&sim);
        let p = packet("10.0.0.1", "10.0.0.2", 6, 64);
        a.send(&sim, &p).unwrap();
        sim.run_for(secs(1));
        assert_eq!(wire.take()[0].kind(), Msg::Initiation);
        assert_eq!(b.received(&sim), [p]);
        assert_eq!(handshakes(&sim), before + 2);
        assert!(try_send(&sim, &b, &a, 7, secs(1)));
        // The same key again is no change.
        let _ = wire.take();
        a.set(
            &sim,
            &Conf {
                key: Some(private_key(3)),
                ..Conf::default()
            },
        )
        .unwrap();
        assert!(try_send(&sim, &a, &b, 8, secs(1)));
        assert!(wire.take().iter().all(|d| d.kind() == Msg::Data));
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_key_change_during_a_handshake() {
    for_seeds(32, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        b.peer(&sim, PeerConf::node(3, &[]).at("192.0.2.1:51820"));
        a.send(&sim, &packet("10.0.0.1", "10.0.0.2", 5, 64))
            .unwrap();
        sim.run_for(millis(seed % 12));
        a.set(
            &sim,
            &Conf {
                key: Some(private_key(3)),
                ..Conf::default()
            },
        )
        .unwrap();
        b.peer(&sim, PeerConf::node(3, &["10.0.0.1/32", "fd00::1/128"]));
        sim.run_for(secs(12));
        assert_works(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_peer_with_the_interface_s_own_key() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let key = |n| Conf {
            key: Some(private_key(n)),
            ..Conf::default()
        };
        // Ignored when it is added.
        let before = a.get_raw(&sim);
        a.peer(&sim, PeerConf::node(1, &["10.0.0.99/32"]).at("192.0.2.9:1"));
        assert_eq!(a.get_raw(&sim), before);
        // Its prefixes are not stolen from anybody, either.
        a.peer(&sim, PeerConf::node(1, &["10.0.0.2/32"]));
        assert_eq!(a.get_raw(&sim), before);
        assert_ping(&sim, &a, &b);
        // Removed when the key becomes the interface's, with its allowed IPs.
        a.peer(&sim, PeerConf::node(5, &["10.0.0.5/32"]));
        a.set(&sim, &key(5)).unwrap();
        let state = a.state(&sim);
        assert_eq!(
            state.peers.iter().map(|p| p.key).collect::<Vec<_>>(),
            [public_key(2)]
        );
        assert!(
            a.send(&sim, &packet("10.0.0.1", "10.0.0.5", 1, 64))
                .is_err()
        );
        // In one request: the new key counts for the peers in it.
        let mut conf = key(6);
        conf.peers = vec![
            PeerConf::node(6, &["10.0.0.6/32"]),
            PeerConf::node(5, &["10.0.0.5/32"]),
        ];
        a.set(&sim, &conf).unwrap();
        let keys: Vec<_> = a.state(&sim).peers.iter().map(|p| p.key).collect();
        assert_eq!(keys, [public_key(2), public_key(5)]);
        // With the peers replaced, too.
        conf.replace_peers = true;
        conf.key = Some(private_key(5));
        a.set(&sim, &conf).unwrap();
        let keys: Vec<_> = a.state(&sim).peers.iter().map(|p| p.key).collect();
        assert_eq!(keys, [public_key(6)]);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_peer_that_becomes_ourselves_during_traffic() {
    for_seeds(24, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        for i in 0..20 {
            a.send(&sim, &packet("10.0.0.1", "10.0.0.2", i, 64))
                .unwrap();
            b.send(&sim, &packet("10.0.0.2", "10.0.0.1", i, 64))
                .unwrap();
        }
        sim.run_for(std::time::Duration::from_micros(seed * 400));
        a.set(
            &sim,
            &Conf {
                key: Some(private_key(2)),
                ..Conf::default()
            },
        )
        .unwrap();
        assert!(a.state(&sim).peers.is_empty());
        sim.run_for(secs(20));
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_zero_key_removes_the_identity() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        a.set(
            &sim,
            &Conf {
                key: Some([0; 32]),
                ..Conf::default()
            },
        )
        .unwrap();
        assert_eq!(a.state(&sim).public, None);
        assert_eq!(a.state(&sim).peers.len(), 1);
        assert!(!try_send(&sim, &a, &b, 1, secs(20)));
        // What comes is received until the session ends, and no handshake answered.
        assert!(try_send(&sim, &b, &a, 2, secs(1)));
        let wire = Wire::record(&sim);
        sim.run_for(secs(200));
        assert!(!try_send(&sim, &b, &a, 3, secs(20)));
        assert_eq!(
            wire.count_from(0, Msg::Initiation) + wire.count_from(0, Msg::Response),
            0
        );
        a.set(
            &sim,
            &Conf {
                key: Some(private_key(1)),
                ..Conf::default()
            },
        )
        .unwrap();
        assert_works(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn unusable_public_keys_do_no_harm() {
    for_seeds(4, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        // The points of small order.
        for (i, key) in [
            [0; 32],
            {
                let mut k = [0; 32];
                k[0] = 1;
                k
            },
            [0xff; 32],
        ]
        .into_iter()
        .enumerate()
        {
            let peer = PeerConf {
                key,
                keepalive: Some(1),
                ..PeerConf::node(9, &["10.1.0.0/24"])
            };
            a.peer(&sim, peer.at("192.0.2.2:51820"));
            let wire = Wire::record(&sim);
            a.send(&sim, &packet("10.0.0.1", "10.1.0.1", 1, 64))
                .unwrap();
            sim.run_for(secs(20));
            if i < 2 {
                assert_eq!(
                    wire.count(Msg::Initiation),
                    0,
                    "nothing is sent under a known secret"
                );
            }
        }
        assert_eq!(a.state(&sim).peers.len(), 4);
        assert_ping(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn the_listen_port_changes_while_running() {
    for_seeds(16, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let port = |p| Conf {
            port: Some(p),
            ..Conf::default()
        };
        a.set(&sim, &port(4444)).unwrap();
        assert_eq!(a.state(&sim).port, 4444);
        let sockets = sim.sockets(&a.host);
        assert_eq!(sockets.len(), 2, "the old ones are closed");
        assert!(sockets.iter().all(|s| s.port == 4444));
        assert!(try_send(&sim, &a, &b, 1, secs(1)), "the session goes on");
        assert_eq!(b.about(&sim, 1).endpoint.unwrap().port(), 4444);
        assert!(try_send(&sim, &b, &a, 2, secs(1)));
        // Any port: the same for both families, told by GET, and kept.
        a.set(&sim, &port(0)).unwrap();
        let any = a.state(&sim).port;
        assert!(any != 0 && any != 4444);
        assert!(sim.sockets(&a.host).iter().all(|s| s.port == any));
        assert!(try_send(&sim, &a, &b, 3, secs(1)));
        restart(&sim, &a);
        assert_eq!(a.state(&sim).port, any);
        // While down it is remembered.
        a.up(&sim, false);
        assert!(sim.sockets(&a.host).is_empty());
        a.set(&sim, &port(5555)).unwrap();
        assert_eq!(a.state(&sim).port, 5555);
        assert!(sim.sockets(&a.host).is_empty());
        a.up(&sim, true);
        assert!(sim.sockets(&a.host).iter().all(|s| s.port == 5555));
        assert_works(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_port_in_use_changes_nothing() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let c = Node::bare(&sim, a.host.clone(), 3);
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
        // One that another interface has, and one that is taken in IPv6 only.
        sim.listen(&a.host, Family::V6, 7777);
        for port in [4444, 7777] {
            let before = (a.get_raw(&sim), sim.sockets(&a.host));
            let conf = Conf {
                port: Some(port),
                key: Some(private_key(9)),
                cookie: Some(77),
                replace_peers: true,
                peers: vec![PeerConf::node(8, &["10.0.0.0/8"]).at("192.0.2.8:1")],
            };
            assert_eq!(a.set(&sim, &conf), Err(EADDRINUSE));
            assert_eq!(
                (a.get_raw(&sim), sim.sockets(&a.host)),
                before,
                "nothing has changed"
            );
            assert_ping(&sim, &a, &b);
        }
        // To come up on such a port fails; the interface stays down, and comes up when the port is free.
        let d = Node::bare(&sim, a.host.clone(), 4);
        d.set(
            &sim,
            &Conf {
                port: Some(4444),
                ..Conf::default()
            },
        )
        .unwrap();
        d.up(&sim, true);
        assert!(!d.ifnet(&sim).is_running());
        assert_ne!(d.ifnet(&sim).link_state(), 2);
        assert_eq!(sim.sockets(&a.host).len(), 4);
        sim.destroy(&c.host, &c.ifname).unwrap();
        d.up(&sim, true);
        assert!(d.ifnet(&sim).is_running());
        finish(sim, &[&a, &b, &d]);
    });
}

#[test]
fn a_port_change_under_traffic() {
    for_seeds(24, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        for round in 0..6 {
            for i in 0..20 {
                a.send(&sim, &packet("10.0.0.1", "10.0.0.2", i, 64))
                    .unwrap();
                b.send(&sim, &packet("10.0.0.2", "10.0.0.1", i, 64))
                    .unwrap();
            }
            sim.run_for(millis(seed % 7));
            a.set(
                &sim,
                &Conf {
                    port: Some(4000 + round),
                    ..Conf::default()
                },
            )
            .unwrap();
        }
        sim.run_for(secs(1));
        assert!(try_send(&sim, &a, &b, 100, secs(1)));
        assert!(try_send(&sim, &b, &a, 101, secs(1)));
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn user_cookie_and_tunnel_fib_reach_the_sockets() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let cookie = |c| Conf {
            cookie: Some(c),
            ..Conf::default()
        };
        let cookies =
            || -> Vec<u32> { sim.sockets(&a.host).iter().map(|s| s.user_cookie).collect() };
        a.set(&sim, &cookie(0xdead_beef)).unwrap();
        assert_eq!(cookies(), [0xdead_beef; 2]);
        assert_eq!(a.state(&sim).cookie, 0xdead_beef);
        a.set(
            &sim,
            &Conf {
                port: Some(4444),
                ..Conf::default()
            },
        )
        .unwrap();
        assert_eq!(cookies(), [0xdead_beef; 2], "new sockets get it");
        a.set(
            &sim,
            &Conf {
                port: Some(4445),
                ..cookie(5)
            },
        )
        .unwrap();
        assert_eq!(cookies(), [5; 2], "with a new port in one request");
        restart(&sim, &a);
        assert_eq!(cookies(), [5; 2]);
        a.set(&sim, &cookie(0)).unwrap();
        assert_eq!(cookies(), [0; 2]);
        assert_eq!(a.state(&sim).cookie, 0);

        let fib = |cmd, value: u32| {
            let mut io = [0; 32];
            io[..a.ifname.len()].copy_from_slice(a.ifname.as_bytes());
            io[16..20].copy_from_slice(&value.to_ne_bytes());
            sim.ioctl(&a.host, cmd, &mut io)
                .map(|()| u32::from_ne_bytes(io[16..20].try_into().unwrap()))
        };
        let fibs = || -> Vec<u32> { sim.sockets(&a.host).iter().map(|s| s.fib).collect() };
        assert_eq!(fib(SIOCGTUNFIB, 9), Ok(0));
        fib(SIOCSTUNFIB, 3).unwrap();
        assert_eq!((fib(SIOCGTUNFIB, 9), fibs()), (Ok(3), vec![3, 3]));
        restart(&sim, &a);
        a.set(
            &sim,
            &Conf {
                port: Some(4446),
                ..Conf::default()
            },
        )
        .unwrap();
        assert_eq!(fibs(), [3, 3]);
        assert_eq!(fib(SIOCSTUNFIB, 65_536), Err(EINVAL));
        assert_eq!(hostkern::as_user(|| fib(SIOCSTUNFIB, 1)), Err(EPERM));
        assert_eq!(hostkern::as_user(|| fib(SIOCGTUNFIB, 0)), Ok(3));
        a.up(&sim, false);
        fib(SIOCSTUNFIB, 0).unwrap();
        a.up(&sim, true);
        assert_eq!(fibs(), [0, 0]);
        assert_works(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_session_of_a_removed_key_ends_with_its_peer() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let a = Node::new(&sim, sim.host("a", &["192.0.2.1"]), 1);
        let host = sim.host("ghost", &["192.0.2.2"]);
        let mut ghost = Ghost::new(&sim, &host, 2, 4000, &public_key(1));
        let to = "192.0.2.1:51820".parse().unwrap();
        a.peer(&sim, PeerConf::node(2, &["10.0.0.2/32"]));
        ghost.connect(&sim, to);
        let p = packet("10.0.0.2", "10.0.0.1", 1, 64);
        ghost.send(&sim, to, &ghost.seal(&p));
        sim.run_for(millis(50));
        assert_eq!(a.received(&sim).len(), 1);
        a.peer(
            &sim,
            PeerConf {
                remove: true,
                ..PeerConf::node(2, &[])
            },
        );
        // Added anew it is another peer: nothing of the old one is left.
        a.peer(&sim, PeerConf::node(2, &["10.0.0.2/32"]));
        let unknown = drops(&sim, "unknown_index");
        ghost.send(&sim, to, &ghost.seal(&p));
        sim.run_for(millis(50));
        assert_eq!(drops(&sim, "unknown_index"), unknown + 1);
        let peer = a.about(&sim, 2);
        assert_eq!(
            (peer.rx, peer.tx, peer.handshake, peer.endpoint),
            (0, 0, 0, None)
        );
        finish(sim, &[&a]);
    });
}

#[test]
fn an_interface_without_its_creator_s_jail_cannot_change_ports() {
    for_seeds(4, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        sim.kernel().remove_prison(&a.host).unwrap();
        a.up(&sim, true);
        assert!(!a.ifnet(&sim).is_running());
        a.set(
            &sim,
            &Conf {
                port: Some(1234),
                ..Conf::default()
            },
        )
        .unwrap();
        assert!(sim.sockets(&a.host).is_empty());
        finish(sim, &[&a, &b]);
    });
}
