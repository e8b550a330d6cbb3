// SPDX-License-Identifier: BSD-2-Clause
//! Interfaces that come and go: units, names, vnets, jails, the module.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hostkern::sim::{Host, Sim, for_seeds};
use hostkern::{Errno, Kernel};
use wgsim_tests::errno::{EBUSY, EEXIST, EINVAL, ENXIO, EPERM};
use wgsim_tests::{
    Conf, Node, PORT, PeerConf, SIOCGWG, SIOCSTUNFIB, accepted, assert_ping, assert_works, finish,
    handshakes, module, packed, packet, pair, private_key, public_key, refused, secs, try_send,
    world,
};

#[test]
fn units_are_named_and_numbered() {
    for_seeds(4, |seed| {
        let sim = world(seed);
        let h = sim.host("a", &["192.0.2.1"]);
        let make = |name: &str| sim.create(&h, name);
        assert_eq!(make("wg").unwrap(), "wg0");
        assert_eq!(make("wg2").unwrap(), "wg2");
        assert_eq!(make("wg").unwrap(), "wg1");
        assert_eq!(make("wg").unwrap(), "wg3");
        assert_eq!(make("wg1"), Err(EEXIST));
        for name in ["wgx", "wg01", "wg-1", "wg1x", "tun0", ""] {
            assert_eq!(make(name), Err(EINVAL), "{name}");
        }
        assert_eq!(make("wg32767").unwrap(), "wg32767");
        sim.destroy(&h, "wg1").unwrap();
        assert_eq!(sim.destroy(&h, "wg1"), Err(ENXIO));
        assert_eq!(make("wg").unwrap(), "wg1", "a free unit is used again");
        // Another vnet counts for itself.
        let other = sim.host("b", &["192.0.2.2"]);
        assert_eq!(sim.create(&other, "wg").unwrap(), "wg0");
        // What a new one looks like.
        let ifnet = sim.interface(&h, "wg0");
        assert_eq!(ifnet.mtu(), 1420);
        assert_eq!(ifnet.flags() & 0x8081, 0x8080, "NOARP, MULTICAST, not UP");
        assert_eq!(ifnet.setup(), (true, 0), "IPv6 and DLT_NULL");
        assert!(!ifnet.is_running());
        // The rest goes with the module.
        sim.finish();
    });
}

#[test]
fn a_jail_that_asks_by_netlink_gets_no_socket_of_the_hosts() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (host, jail) = (
            sim.host("host", &["192.0.2.1"]),
            sim.host("jail", &["192.0.2.2"]),
        );
        // The kernel's thread is in the jail's vnet, with the host's credential.
        let by_netlink = |vnet, name| sim.kernel().create_as(vnet, name, &host);
        for name in ["wg", "wg0", "wg7"] {
            assert_eq!(by_netlink(&jail, name), Err(EPERM), "{name}");
        }
        assert!(sim.kernel().interfaces(&jail).is_empty());
        // The host has what it asks for, by the same road.
        assert_eq!(by_netlink(&host, "wg").unwrap(), "wg0");
        sim.set_up(&host, "wg0", true).unwrap();
        assert_eq!(sim.sockets(&host).len(), 2);
        // So has the jail by an ioctl, and its sockets are its own.
        assert_eq!(sim.create(&jail, "wg").unwrap(), "wg0", "no unit is lost");
        sim.set_up(&jail, "wg0", true).unwrap();
        assert_eq!(sim.sockets(&jail).len(), 2);
        assert_eq!(sim.sockets(&host).len(), 2);
        sim.finish();
    });
}

#[test]
fn create_and_destroy_in_a_loop() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        for i in 0..30 {
            if i % 3 == 0 {
                assert!(try_send(&sim, &a, &b, i, secs(20)));
            }
            sim.destroy(&a.host, "wg0").unwrap();
            assert_eq!(sim.create(&a.host, "wg").unwrap(), "wg0");
            let mut conf = Conf {
                key: Some(private_key(1)),
                port: Some(PORT),
                ..Conf::default()
            };
            conf.peers
                .push(PeerConf::node(2, &["10.0.0.2/32", "fd00::2/128"]).at("192.0.2.2:51820"));
            a.set(&sim, &conf).unwrap();
            a.up(&sim, true);
        }
        assert_works(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_renamed_interface_is_the_same() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (mut a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let done = handshakes(&sim);
        sim.kernel().rename(&a.host, "wg0", "tunnel").unwrap();
        assert_eq!(sim.ioctl_data(&a.host, "wg0", SIOCGWG, &mut []), Err(ENXIO));
        a.ifname = "tunnel".into();
        assert_ping(&sim, &a, &b);
        assert_eq!(handshakes(&sim), done, "without a new handshake");
        assert_eq!(a.state(&sim).peers.len(), 1);
        // Its unit stays taken.
        assert_eq!(sim.create(&a.host, "wg").unwrap(), "wg1");
        assert_eq!(sim.kernel().rename(&a.host, "tunnel", "wg1"), Err(EEXIST));
        sim.kernel().rename(&a.host, "tunnel", "wg0").unwrap();
        a.ifname = "wg0".into();
        assert_ping(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn down_forgets_sessions_and_up_begins_anew() {
    for_seeds(16, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let ifnet = a.ifnet(&sim);
        assert!(ifnet.is_running());
        assert_eq!(ifnet.link_state(), 2);
        for round in 0..5 {
            let done = handshakes(&sim);
            a.up(&sim, false);
            assert!(!ifnet.is_running());
            assert_eq!(ifnet.link_state(), 1);
            assert!(sim.sockets(&a.host).is_empty());
            assert!(
                a.send(&sim, &packet("10.0.0.1", "10.0.0.2", 1, 64))
                    .is_err()
            );
            assert!(!try_send(&sim, &b, &a, round, secs(1)));
            // Down twice, up twice.
            a.up(&sim, false);
            a.up(&sim, true);
            a.up(&sim, true);
            assert_eq!(sim.sockets(&a.host).len(), 2);
            assert!(try_send(&sim, &a, &b, 100 + round, secs(1)), "at once");
            assert!(try_send(&sim, &b, &a, 200 + round, secs(1)));
            assert_eq!(handshakes(&sim), done + 2);
        }
        assert_eq!(a.state(&sim).port, PORT);
        finish(sim, &[&a, &b]);
    });
}

/// Where its creator is, the sockets stay: packets of the other vnet leave by the first one's network.
#[test]
fn an_interface_in_another_vnet_than_its_sockets() {
    for_seeds(16, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        // A jail without any address of its own.
        let jail = sim.host("jail", &[]);
        sim.kernel().move_to(&a.host, "wg0", &jail).unwrap();
        assert!(
            !sim.interface(&jail, "wg0").is_running(),
            "it goes down on its way"
        );
        assert!(sim.sockets(&a.host).is_empty());
        let moved = Node {
            host: jail.clone(),
            ifname: "wg0".into(),
            n: 1,
        };
        assert_eq!(
            moved.state(&sim).public,
            Some(public_key(1)),
            "with all its configuration"
        );
        sim.set_up(&jail, "wg0", false).unwrap();
        sim.set_up(&jail, "wg0", true).unwrap();
        assert!(sim.sockets(&jail).is_empty());
        assert_eq!(sim.sockets(&a.host).len(), 2, "the sockets are at home");
        assert_ping(&sim, &moved, &b);
        assert!(try_send(&sim, &moved, &b, 1, secs(1)));
        the_sockets_are_another_s(&sim, &moved, &a.host);
        // ICMP goes to the vnet where the sender is.
        assert!(
            moved
                .send(&sim, &packet("10.0.0.1", "10.5.5.5", 1, 64))
                .is_err()
        );
        assert_eq!((sim.icmp(&jail).len(), sim.icmp(&a.host).len()), (1, 0));
        // And back again.
        sim.kernel().move_to(&jail, "wg0", &a.host).unwrap();
        a.up(&sim, true);
        assert_works(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

/// The root of the jail that an interface was given to may set what is the interface's, but not how its sockets present
/// themselves in the network of its home.
fn the_sockets_are_another_s(sim: &Sim, moved: &Node, home: &Host) {
    let sockets = || {
        let of = sim.sockets(home);
        assert_eq!(of.len(), 2);
        of
    };
    let before = sockets();
    for conf in [
        Conf {
            port: Some(4444),
            ..Conf::default()
        },
        Conf {
            port: Some(0),
            ..Conf::default()
        },
        Conf {
            cookie: Some(7),
            ..Conf::default()
        },
        Conf {
            cookie: Some(7),
            key: Some(private_key(9)),
            replace_peers: true,
            ..Conf::default()
        },
    ] {
        refused(sim, moved, "another's sockets", packed(&conf), EPERM);
    }
    assert_eq!(tunnel_fib(sim, moved, 3), Err(EPERM));
    assert_eq!(sockets(), before);
    // The values that they have are no change; all else is the jail's.
    let same = Conf {
        port: Some(PORT),
        cookie: Some(0),
        peers: vec![PeerConf::node(9, &["10.9.0.0/16"])],
        ..Conf::default()
    };
    accepted(sim, moved, "what they have", packed(&same));
    assert_eq!(tunnel_fib(sim, moved, 0), Ok(()));
    let peer = PeerConf {
        remove: true,
        ..PeerConf::node(9, &[])
    };
    moved.peer(sim, peer);
}

/// `ifconfig wg0 tunnelfib N`.
fn tunnel_fib(sim: &Sim, node: &Node, fib: u32) -> Result<(), Errno> {
    let mut io = [0; 32];
    io[..node.ifname.len()].copy_from_slice(node.ifname.as_bytes());
    io[16..20].copy_from_slice(&fib.to_ne_bytes());
    sim.ioctl(&node.host, SIOCSTUNFIB, &mut io)
}

/// Root of a jail has the say over the sockets of jails within it.
#[test]
fn sockets_that_live_in_a_jail_of_ours() {
    for_seeds(4, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let outer = sim.host("outer", &[]);
        let middle = sim.host("middle", &[]);
        middle.set_parent(&outer);
        a.host.set_parent(&middle);
        sim.kernel().move_to(&a.host, "wg0", &outer).unwrap();
        let moved = Node {
            host: outer,
            ifname: "wg0".into(),
            n: 1,
        };
        moved.up(&sim, true);
        let conf = Conf {
            port: Some(4444),
            cookie: Some(5),
            ..Conf::default()
        };
        accepted(&sim, &moved, "port and cookie", packed(&conf));
        assert!(sim.sockets(&a.host).iter().all(|s| s.port == 4444));
        assert_eq!(tunnel_fib(&sim, &moved, 3), Ok(()));
        assert_works(&sim, &moved, &b);
        finish(sim, &[&moved, &b]);
    });
}

/// The hook that tells of a jail's end has run before the interface is there.
#[test]
fn no_interface_is_made_in_a_jail_on_its_way_out() {
    for_seeds(4, |seed| {
        let sim = world(seed);
        let h = sim.host("a", &["192.0.2.1"]);
        assert_eq!(sim.create(&h, "wg").unwrap(), "wg0");
        sim.destroy(&h, "wg0").unwrap();
        sim.kernel().remove_prison(&h).unwrap();
        for _ in 0..3 {
            assert_eq!(sim.create(&h, "wg"), Err(EBUSY));
        }
        assert!(sim.kernel().interfaces(&h).is_empty());
        // No credential is left that would hold the jail.
        sim.finish();
    });
}

/// What the host does in the moment in which a jail's request holds the configuration and sleeps.
fn amid_a_request(sim: &Sim, a: &Node, f: impl FnOnce(&Arc<Kernel>) + Send + 'static) {
    let done = Arc::new(AtomicBool::new(false));
    let mark = done.clone();
    sim.amid_sleep(move |k| {
        f(k);
        mark.store(true, Ordering::SeqCst);
    });
    // It waits for the old sockets' epoch, with the configuration held.
    let conf = Conf {
        port: Some(4444),
        ..Conf::default()
    };
    a.set(sim, &conf).expect("the request");
    assert!(done.load(Ordering::SeqCst), "it came in between");
}

#[test]
fn a_jail_goes_amid_a_request() {
    for_seeds(16, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        // Another one's end, too, does not wait for this jail's request.
        let other = sim.host("other", &[]);
        amid_a_request(&sim, &a, move |k| k.remove_prison(&other).unwrap());
        assert!(a.ifnet(&sim).is_running());
        assert_ping(&sim, &a, &b);
        let home = a.host.clone();
        a.set(
            &sim,
            &Conf {
                port: Some(PORT),
                ..Conf::default()
            },
        )
        .unwrap();
        amid_a_request(&sim, &a, move |k| k.remove_prison(&home).unwrap());
        assert!(!a.ifnet(&sim).is_running());
        assert_eq!(a.ifnet(&sim).link_state(), 1);
        assert!(sim.sockets(&a.host).is_empty());
        a.up(&sim, true);
        assert!(!a.ifnet(&sim).is_running(), "it has no home any more");
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn an_interface_moves_amid_a_request() {
    for_seeds(16, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let done = handshakes(&sim);
        let (from, to) = (a.host.clone(), sim.host("jail", &[]));
        let there = to.clone();
        amid_a_request(&sim, &a, move |k| k.move_to(&from, "wg0", &there).unwrap());
        let moved = Node {
            host: to,
            ifname: "wg0".into(),
            n: 1,
        };
        assert!(!moved.ifnet(&sim).is_running());
        assert!(sim.sockets(&a.host).is_empty());
        moved.up(&sim, false);
        moved.up(&sim, true);
        assert_works(&sim, &moved, &b);
        assert!(handshakes(&sim) > done, "its sessions were wiped");
        finish(sim, &[&moved, &b]);
    });
}

#[test]
fn a_jail_that_goes_takes_its_sockets() {
    for_seeds(16, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        // Made in a's jail, living elsewhere.
        let elsewhere = sim.host("elsewhere", &[]);
        sim.kernel().move_to(&a.host, "wg0", &elsewhere).unwrap();
        sim.set_up(&elsewhere, "wg0", true).unwrap();
        let moved = Node {
            host: elsewhere.clone(),
            ifname: "wg0".into(),
            n: 1,
        };
        assert_works(&sim, &moved, &b);
        // Another jail's end does not concern it.
        sim.kernel().remove_prison(&elsewhere).unwrap();
        assert!(moved.ifnet(&sim).is_running());
        sim.kernel().remove_prison(&a.host).unwrap();
        assert!(!moved.ifnet(&sim).is_running());
        assert!(sim.sockets(&a.host).is_empty());
        sim.set_up(&elsewhere, "wg0", false).unwrap();
        sim.set_up(&elsewhere, "wg0", true).unwrap();
        assert!(
            !moved.ifnet(&sim).is_running(),
            "it cannot come up any more"
        );
        assert!(moved.state(&sim).peers.len() == 1, "but be looked at");
        sim.kernel().remove_prison(&a.host).unwrap();
        finish(sim, &[&moved, &b]);
    });
}

/// `can_unload` and the order of the end.
#[test]
fn unload_with_interfaces_up() {
    for_seeds(16, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let c = Node::new(&sim, sim.host("c", &["192.0.2.3"]), 3);
        c.peer(
            &sim,
            PeerConf::node(2, &["10.0.0.2/32"]).at("192.0.2.2:51820"),
        );
        // What kldunload(8) does: every interface is destroyed by its cloner, then the module goes.
        sim.unload().unwrap();
        assert_eq!(sim.create(&a.host, "wg"), Err(ENXIO));
        assert_eq!(sim.unload(), Err(ENXIO));
        sim.assert_no_leaks();
        // And it can be loaded again.
        sim.load(module()).unwrap();
        assert_eq!(sim.load(module()), Err(EEXIST));
        let a = Node::new(&sim, a.host, 1);
        let b = Node::new(&sim, b.host, 2);
        a.peer(
            &sim,
            PeerConf::node(2, &["10.0.0.2/32"]).at("192.0.2.2:51820"),
        );
        b.peer(&sim, PeerConf::node(1, &["10.0.0.1/32"]));
        assert!(try_send(&sim, &a, &b, 1, secs(1)));
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn unload_is_refused_while_an_interface_exists() {
    for_seeds(4, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let unload = |sim: &Sim| sim.kernel().unload_alone();
        assert_eq!(unload(&sim), Err(EBUSY));
        assert_ping(&sim, &a, &b);
        sim.destroy(&a.host, &a.ifname).unwrap();
        assert_eq!(unload(&sim), Err(EBUSY));
        sim.destroy(&b.host, &b.ifname).unwrap();
        assert_eq!(unload(&sim), Ok(()));
        sim.finish();
    });
}

#[test]
fn the_module_says_what_it_is() {
    for_seeds(1, |seed| {
        let sim = world(seed);
        let crypto = sim.kernel().sysctl_text("net.wg.crypto").unwrap();
        let wanted = std::env::var("WG_CRYPTO").unwrap_or("ring".to_string());
        assert!(crypto.starts_with(&wanted), "{crypto}");
        assert_eq!(handshakes(&sim), 0);
        sim.finish();
    });
}
