// SPDX-License-Identifier: BSD-2-Clause
//! SIOCSWG and SIOCGWG: every error, and that an error changes nothing.

use hostkern::sim::{Rng, Sim, for_seeds};
use hostkern::{Errno, as_user};
use wgsim_tests::errno::{
    E2BIG, EBADMSG, EFAULT, EINVAL, ENOSPC, ENOTTY, ENXIO, EOPNOTSUPP, EPERM,
};
use wgsim_tests::{
    Body, Conf, Node, PeerConf, SIOCGWG, SIOCSWG, accepted, assert_ping, finish, pack, packed,
    pair, private_key, public_key, refused, world,
};

/// A request with one peer, of which `body` writes all but the key.
fn one_peer(n: u8, body: &mut Body<'_>) -> Vec<u8> {
    pack(&mut |w| {
        w.begin_array("peers", 1)?;
        w.begin_element()?;
        w.binary("public-key", &public_key(n))?;
        body(w)?;
        w.end_element()
    })
}

/// A request with one peer with one good allowed IP and one that `body` writes.
fn one_ip(n: u8, body: &mut Body<'_>) -> Vec<u8> {
    one_peer(n, &mut |w| {
        w.begin_array("allowed-ips", 2)?;
        w.begin_element()?;
        w.number("cidr", 8)?;
        w.binary("ipv4", &[11, 0, 0, 0])?;
        w.end_element()?;
        w.begin_element()?;
        body(w)?;
        w.end_element()
    })
}

#[test]
fn errors_of_the_interface_s_keys() {
    for_seeds(2, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let bad = |what: &str, body: &mut Body<'_>| refused(&sim, &a, what, pack(body), EINVAL);
        bad("port 65536", &mut |w| w.number("listen-port", 65536));
        bad("port 2^64-1", &mut |w| w.number("listen-port", u64::MAX));
        bad("key of 31", &mut |w| w.binary("private-key", &[1; 31]));
        bad("key of 33", &mut |w| w.binary("private-key", &[1; 33]));
        bad("cookie 2^32", &mut |w| w.number("user-cookie", 1 << 32));
        bad("good ones first", &mut |w| {
            w.boolean("replace-peers", true)?;
            w.binary("private-key", &private_key(7))?;
            w.number("listen-port", 4444)?;
            w.number("user-cookie", u64::MAX)
        });
        // A value of another type counts as absent, an unknown key is ignored.
        let before = a.get_raw(&sim);
        accepted(
            &sim,
            &a,
            "other types",
            pack(&mut |w| {
                w.string("listen-port", "4444")?;
                w.number("private-key", 1)?;
                w.boolean("user-cookie", true)?;
                w.number("replace-peers", 1)?;
                w.binary("peers", &[1])?;
                w.null("nothing")?;
                w.number("mtu", 9)
            }),
        );
        accepted(
            &sim,
            &a,
            "false",
            pack(&mut |w| w.boolean("replace-peers", false)),
        );
        accepted(&sim, &a, "nothing", pack(&mut |_| Ok(())));
        assert_eq!(a.get_raw(&sim), before);
        assert_ping(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn errors_of_a_peer_s_keys() {
    for_seeds(2, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        // Of a new peer, and of one that is there (robustness 2).
        for n in [2, 50] {
            let bad = |what: &str, body: &mut Body<'_>| {
                refused(&sim, &a, what, one_peer(n, body), EINVAL)
            };
            bad("psk of 31", &mut |w| w.binary("preshared-key", &[1; 31]));
            bad("psk of 1", &mut |w| w.binary("preshared-key", &[1]));
            bad("psk of 64", &mut |w| w.binary("preshared-key", &[1; 64]));
            bad("keepalive 65536", &mut |w| {
                w.number("persistent-keepalive-interval", 65536)
            });
            for (what, bytes) in [
                ("one byte", vec![16]),
                ("15 bytes", [&[15, 2, 1, 1][..], &[1; 11]].concat()),
                ("17 bytes", [&[17, 2, 1, 1][..], &[1; 13]].concat()),
                (
                    "another length byte",
                    [&[28, 2, 1, 1][..], &[1; 12]].concat(),
                ),
                ("another family", [&[16, 28, 1, 1][..], &[1; 12]].concat()),
                ("AF_LOCAL", [&[16, 1, 1, 1][..], &[1; 12]].concat()),
                ("port 0", [&[16, 2, 0, 0][..], &[1; 12]].concat()),
                ("IPv6 port 0", [&[28, 28, 0, 0][..], &[1; 24]].concat()),
                ("IPv6 of AF_INET", [&[28, 2, 1, 1][..], &[1; 24]].concat()),
                ("29 bytes", [&[29, 28, 1, 1][..], &[1; 25]].concat()),
                ("256 bytes", vec![0; 256]),
            ] {
                bad(&format!("endpoint: {what}"), &mut |w| {
                    w.binary("endpoint", &bytes)
                });
            }
            bad("good ones first", &mut |w| {
                w.binary(
                    "endpoint",
                    &[16, 2, 1, 1, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0],
                )?;
                w.boolean("replace-allowedips", true)?;
                w.number("persistent-keepalive-interval", 70000)
            });
        }
        for (what, len) in [("public key of 31", 31), ("of 33", 33)] {
            refused(
                &sim,
                &a,
                what,
                pack(&mut |w| {
                    w.begin_array("peers", 1)?;
                    w.begin_element()?;
                    w.binary("public-key", &vec![5; len])?;
                    w.end_element()
                }),
                EINVAL,
            );
        }
        for key in ["", "public-kex"] {
            refused(
                &sim,
                &a,
                "no public key",
                pack(&mut |w| {
                    w.boolean("replace-peers", true)?;
                    w.begin_array("peers", 2)?;
                    w.begin_element()?;
                    w.binary("public-key", &public_key(60))?;
                    w.end_element()?;
                    w.begin_element()?;
                    w.binary(key, &public_key(61))?;
                    w.end_element()
                }),
                EINVAL,
            );
        }
        // Of a peer to be removed nothing else is looked at, as by the C driver; one that is not there is no error.
        accepted(
            &sim,
            &a,
            "remove",
            one_peer(51, &mut |w| {
                w.boolean("remove", true)?;
                w.binary("preshared-key", &[1; 3])
            }),
        );
        assert_eq!(a.state(&sim).peers.len(), 1);
        assert_ping(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn errors_of_allowed_ips() {
    for_seeds(2, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        for n in [2, 50] {
            let bad = |what: &str, errno, body: &mut Body<'_>| {
                refused(&sim, &a, what, one_ip(n, body), errno)
            };
            for (key, len, cidr) in [
                ("ipv4", 4, 33),
                ("ipv4", 4, u64::MAX),
                ("ipv6", 16, 129),
                ("ipv6", 16, 256),
            ] {
                bad(&format!("{key}/{cidr}"), EINVAL, &mut |w| {
                    w.number("cidr", cidr)?;
                    w.binary(key, &vec![1; len])
                });
            }
            for (key, len) in [("ipv4", 3), ("ipv4", 16), ("ipv6", 4), ("ipv6", 17)] {
                bad(&format!("{key} of {len}"), EINVAL, &mut |w| {
                    w.number("cidr", 8)?;
                    w.binary(key, &vec![1; len])
                });
            }
            for flags in [2, 3, 1 << 32, u64::MAX] {
                bad("flags", EOPNOTSUPP, &mut |w| {
                    w.number("flags", flags)?;
                    w.number("cidr", 8)?;
                    w.binary("ipv4", &[1; 4])
                });
            }
        }
        // Without an address or a length an entry is passed over; IPv4 wins over IPv6.
        accepted(
            &sim,
            &a,
            "no cidr",
            one_ip(50, &mut |w| w.binary("ipv4", &[1; 4])),
        );
        accepted(
            &sim,
            &a,
            "no address",
            one_ip(50, &mut |w| w.number("cidr", 200)),
        );
        accepted(
            &sim,
            &a,
            "both",
            one_ip(50, &mut |w| {
                w.binary("ipv6", &[1; 16])?;
                w.binary("ipv4", &[12, 0, 0, 1])?;
                w.number("cidr", 24)
            }),
        );
        let got: Vec<_> = a
            .about(&sim, 50)
            .allowed
            .iter()
            .map(|(ip, n)| format!("{ip}/{n}"))
            .collect();
        assert_eq!(got, ["11.0.0.0/8", "12.0.0.0/24"]);
        finish(sim, &[&a, &b]);
    });
}

/// Robustness 2: the error is in the very last thing of a long request.
#[test]
fn a_request_fails_as_a_whole() {
    for_seeds(2, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let good = Conf {
            replace_peers: true,
            port: Some(4444),
            key: Some(private_key(9)),
            cookie: Some(7),
            peers: (10..60)
                .map(|n| PeerConf {
                    psk: Some([n; 32]),
                    keepalive: Some(5),
                    ..PeerConf::node(n, &["10.0.0.2/32", "0.0.0.0/0"]).at("192.0.2.9:9")
                })
                .collect(),
        };
        let mut bad = good.clone();
        bad.peers[49].allowed.push("10.0.0.0/32".into());
        let bytes = packed(&bad);
        // The last cidr in the message: 33 instead of 32.
        let name = b"cidr\0";
        let at = bytes.windows(5).rposition(|w| w == name).unwrap() + 5;
        assert_eq!(bytes[at], 32);
        let mut broken = bytes.clone();
        broken[at] = 33;
        refused(
            &sim,
            &a,
            "the last allowed IP of the last peer",
            broken,
            EINVAL,
        );
        assert_ping(&sim, &a, &b);
        refused(
            &sim,
            &a,
            "cut off",
            bytes[..bytes.len() - 1].to_vec(),
            EBADMSG,
        );
        accepted(&sim, &a, "the whole", bytes);
        let state = a.state(&sim);
        assert_eq!(
            (state.port, state.cookie, state.public),
            (4444, 7, Some(public_key(9)))
        );
        assert_eq!(state.peers.len(), 50);
        assert_eq!(a.about(&sim, 59).allowed.len(), 3);
        finish(sim, &[&a, &b]);
    });
}

/// A `struct wg_data_io` with any pointer and size.
fn raw(sim: &Sim, a: &Node, cmd: u64, pointer: usize, size: usize) -> Result<usize, Errno> {
    let mut io = [0; 32];
    io[..a.ifname.len()].copy_from_slice(a.ifname.as_bytes());
    io[16..24].copy_from_slice(&pointer.to_ne_bytes());
    io[24..32].copy_from_slice(&size.to_ne_bytes());
    sim.ioctl(&a.host, cmd, &mut io)?;
    Ok(usize::from_ne_bytes(io[24..32].try_into().unwrap()))
}

#[test]
fn preliminaries_of_set_in_their_order() {
    for_seeds(2, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let before = a.get_raw(&sim);
        let set = |pointer, size| raw(&sim, &a, SIOCSWG, pointer, size);
        assert_eq!(as_user(|| set(0, 0)), Err(EPERM), "privilege first");
        assert_eq!(as_user(|| a.set(&sim, &Conf::default())), Err(EPERM));
        assert_eq!(set(0, 0), Err(EFAULT));
        assert_eq!(set(0x10000, 0), Err(EFAULT));
        assert_eq!(set(0, 100), Err(EFAULT));
        for size in [
            2_147_483_647,
            2_147_483_648,
            1 << 40,
            usize::MAX,
            (64 << 20) + 1,
        ] {
            assert_eq!(set(0x10000, size), Err(E2BIG), "{size}");
        }
        // Kernel memory, and the page at 0.
        assert_eq!(set(usize::MAX - 50, 100), Err(EFAULT));
        assert_eq!(set(0xffff_8000_0000_0000, 100), Err(EFAULT));
        assert_eq!(set(16, 100), Err(EFAULT));
        // Not an nvlist.
        for bytes in [
            vec![0],
            vec![0x6c],
            vec![0; 19],
            vec![0xff; 500],
            b"listen_port=1\n\n".to_vec(),
        ] {
            refused(&sim, &a, "not an nvlist", bytes, EBADMSG);
        }
        assert_eq!(a.get_raw(&sim), before);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn get_tells_the_size_and_takes_no_less() {
    for_seeds(2, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let whole = a.get_raw(&sim);
        let get = |buf: &mut [u8]| sim.ioctl_data(&a.host, &a.ifname, SIOCGWG, buf);
        assert_eq!(get(&mut []), Ok(whole.len()));
        for size in [1, 19, 58, whole.len() - 1] {
            let mut buf = vec![0xaa; size];
            assert_eq!(get(&mut buf), Err(ENOSPC), "{size}");
            assert!(buf.iter().all(|&b| b == 0xaa), "nothing was written");
        }
        let mut buf = vec![0xaa; whole.len() + 100];
        assert_eq!(get(&mut buf), Ok(whole.len()));
        assert_eq!(buf[..whole.len()], whole);
        assert!(buf[whole.len()..].iter().all(|&b| b == 0xaa));
        assert_eq!(raw(&sim, &a, SIOCGWG, 0, whole.len()), Err(EFAULT));
        assert_eq!(raw(&sim, &a, SIOCGWG, 0, 0), Ok(whole.len()));
        assert_eq!(
            raw(&sim, &a, SIOCGWG, usize::MAX - 10, usize::MAX),
            Err(EFAULT)
        );
        // An interface with nothing set; and one with a port only.
        let c = Node::bare(&sim, sim.host("c", &["192.0.2.3"]), 3);
        assert_eq!(c.get_raw(&sim).len(), 19);
        c.set(
            &sim,
            &Conf {
                port: Some(51820),
                ..Conf::default()
            },
        )
        .unwrap();
        assert_eq!(c.get_raw(&sim).len(), 58);
        finish(sim, &[&a, &b, &c]);
    });
}

#[test]
fn secrets_are_for_the_privileged() {
    for_seeds(2, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        let psk: [u8; 32] = core::array::from_fn(|i| 0x80 | i as u8);
        a.peer(
            &sim,
            PeerConf {
                psk: Some(psk),
                ..PeerConf::node(2, &[])
            },
        );
        let has = |bytes: &[u8], secret: &[u8]| bytes.windows(secret.len()).any(|w| w == secret);
        let mut clamped = private_key(1);
        clamped[0] &= 0xf8;
        clamped[31] = clamped[31] & 0x7f | 0x40;
        let root = a.get_raw(&sim);
        assert!(has(&root, &clamped) && has(&root, &psk) && has(&root, b"preshared-key"));
        let user = as_user(|| a.get_raw(&sim));
        assert!(!has(&user, &clamped[1..31]) && !has(&user, &psk));
        assert!(!has(&user, b"private-key") && !has(&user, b"preshared-key"));
        assert!(
            has(&user, &public_key(1)) && has(&user, &public_key(2)),
            "all else is there"
        );
        let (mut seen, whole) = (as_user(|| a.state(&sim)), a.state(&sim));
        seen.peers[0].psk = true;
        assert_eq!(seen, whole);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn mtu_has_bounds() {
    for_seeds(2, |seed| {
        let sim = world(seed);
        let a = Node::bare(&sim, sim.host("a", &["192.0.2.1"]), 1);
        assert_eq!(a.ifnet(&sim).mtu(), 1420);
        let set = |mtu| sim.kernel().set_mtu(&a.host, &a.ifname, mtu);
        for mtu in [72, 1280, 65455] {
            set(mtu).unwrap();
            assert_eq!(a.ifnet(&sim).mtu(), mtu);
        }
        for mtu in [65456, 65535, 0, -1, i32::MIN, i32::MAX] {
            assert_eq!(set(mtu), Err(EINVAL), "{mtu}");
            assert_eq!(a.ifnet(&sim).mtu(), 65455);
        }
        assert_eq!(as_user(|| set(1000)), Err(EPERM));
        finish(sim, &[&a]);
    });
}

#[test]
fn other_ioctls() {
    for_seeds(2, |seed| {
        let sim = world(seed);
        let a = Node::new(&sim, sim.host("a", &["192.0.2.1"]), 1);
        let io = |cmd: u64, name: &str| {
            let mut io = [0; 256];
            io[..name.len()].copy_from_slice(name.as_bytes());
            sim.ioctl(&a.host, cmd, &mut io)
        };
        // SIOCSIFADDR, SIOCADDMULTI, SIOCDELMULTI: nothing to do.
        for cmd in [0x8020_690c, 0x8020_6931, 0x8020_6932] {
            assert_eq!(io(cmd, "wg0"), Ok(()));
        }
        // Nor do these wait for a lock: the stack may send them from where it must not sleep.
        for cmd in [0x8020_690c, 0x8020_6931, 0x8020_6932] {
            let said = sim.kernel().ioctl_of_the_stack(&a.host, "wg0", cmd);
            assert_eq!(said, Ok(()));
        }
        // The 32-bit layout of our own, and what is not ours.
        for cmd in [
            0xc018_69d2,
            0xc018_69d3,
            0xc020_69d4,
            0xc020_69d1,
            0x8020_6910 ^ 0x7f,
            0xc020_6998,
        ] {
            assert_eq!(io(cmd, "wg0"), Err(ENOTTY), "{cmd:x}");
        }
        assert_eq!(io(SIOCGWG, "wg1"), Err(ENXIO));
        let mut rng = Rng::new(seed, 501);
        for _ in 0..2000 {
            let cmd = 0xc020_6900 | rng.below(256);
            if ![0x69d2, 0x69d3, 0x6928, 0x6910].contains(&(cmd & 0xffff)) {
                let _ = io(cmd, "wg0");
            }
        }
        assert_eq!(a.ifnet(&sim).name(), "wg0");
        finish(sim, &[&a]);
    });
}
