// SPDX-License-Identifier: BSD-2-Clause
//! Hostile requests (robustness 13): an errno or success, never a panic, and no effect of what fails.

use hostkern::sim::{Rng, for_seeds};
use nv::{WriteError, Writer};
use wgsim_tests::errno::{E2BIG, EBADMSG, EINVAL, EOPNOTSUPP};
use wgsim_tests::{
    Conf, Node, PeerConf, accepted, assert_ping, finish, pack, packed, pair, private_key, refused,
    secs, world,
};

#[test]
fn every_flipped_bit_of_a_request() {
    for_seeds(1, |seed| {
        let sim = world(seed);
        let a = Node::bare(&sim, sim.host("a", &["192.0.2.1"]), 1);
        let start = Conf {
            replace_peers: true,
            key: Some(private_key(1)),
            peers: vec![PeerConf::node(7, &["10.7.0.0/16"])],
            ..Conf::default()
        };
        let mut peer = PeerConf::node(2, &["10.0.0.0/24", "fd00::/8"]).at("192.0.2.2:51820");
        peer.keepalive = Some(25);
        let request = packed(&Conf {
            port: Some(51820),
            peers: vec![peer],
            ..Conf::default()
        });
        let mut codes = std::collections::BTreeMap::new();
        a.set(&sim, &start).unwrap();
        let mut before = a.get_raw(&sim);
        for bit in 0..request.len() * 8 {
            let mut m = request.clone();
            m[bit / 8] ^= 1 << (bit % 8);
            let got = a.set_raw(&sim, &mut m);
            *codes.entry(got.err().unwrap_or(0)).or_insert(0) += 1;
            // `state` parses it all.
            let _ = a.state(&sim);
            if got.is_err() {
                assert_eq!(
                    a.get_raw(&sim),
                    before,
                    "bit {bit}: an error that changed something"
                );
            } else {
                a.set(&sim, &start).unwrap();
                before = a.get_raw(&sim);
            }
        }
        let kinds: Vec<_> = codes.keys().copied().collect();
        assert!(
            kinds
                .iter()
                .all(|k| [0, E2BIG, EINVAL, EOPNOTSUPP, EBADMSG].contains(k)),
            "{codes:?}"
        );
        assert!(codes[&EBADMSG] > 500 && codes[&0] > 100, "{codes:?}");
        finish(sim, &[&a]);
    });
}

#[test]
fn random_mutations_of_requests_on_a_live_interface() {
    for_seeds(24, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let mut rng = Rng::new(seed, 500);
        let mut peer =
            PeerConf::node(2, &["10.0.0.0/24", "fd00::/8", "-1.0.0.0/8"]).at("192.0.2.2:51820");
        peer.psk = Some([0; 32]);
        let request = packed(&Conf {
            port: Some(51820),
            cookie: Some(1),
            key: Some(private_key(1)),
            peers: vec![peer, PeerConf::node(3, &["10.3.0.0/16"])],
            ..Conf::default()
        });
        for _ in 0..150 {
            let mut m = request.clone();
            match rng.below(4) {
                0 => m.truncate(rng.below(m.len() as u64 + 1) as usize),
                1 => {
                    // A piece of it again somewhere else.
                    let (from, to) = (
                        rng.below(m.len() as u64) as usize,
                        rng.below(m.len() as u64) as usize,
                    );
                    let n = (rng.below(60) as usize)
                        .min(m.len() - from)
                        .min(m.len() - to);
                    m.copy_within(from..from + n, to);
                }
                2 => m.extend(vec![0; rng.below(40) as usize + 1]),
                _ => {}
            }
            for _ in 0..rng.below(4) {
                if !m.is_empty() {
                    let at = rng.below(m.len() as u64) as usize;
                    m[at] = [0, 1, 5, 6, 7, 11, 12, 0x7f, 0x80, 0xfe, 0xff][rng.below(11) as usize];
                }
            }
            let before = a.state(&sim);
            let got = a.set_raw(&sim, &mut m);
            let after = a.state(&sim);
            assert!(got.is_ok() || after == before, "{got:?} changed something");
        }
        sim.run_for(secs(5));
        finish(sim, &[&a, &b]);
    });
}

/// Robustness 13: types 6 and 12, hostile lengths, depth, duplicates.
#[test]
fn hostile_nvlists() {
    for_seeds(1, |seed| {
        let sim = world(seed);
        let a = Node::bare(&sim, sim.host("a", &["192.0.2.1"]), 1);
        let good = pack(&mut |w| w.number("listen-port", 51820));
        let change = |at: usize, bytes: &[u8]| {
            let mut m = good.clone();
            m[at..at + bytes.len()].copy_from_slice(bytes);
            m
        };
        for kind in [0, 6, 12, 13, 100, 253] {
            refused(
                &sim,
                &a,
                &format!("type {kind}"),
                change(19, &[kind]),
                EBADMSG,
            );
        }
        for at in [3, 11, 22] {
            for value in [1, u64::from(u32::MAX), 1 << 63, u64::MAX, u64::MAX - 18] {
                refused(
                    &sim,
                    &a,
                    "a length",
                    change(at, &value.to_le_bytes()),
                    EBADMSG,
                );
            }
        }
        refused(&sim, &a, "public flags", change(2, &[1]), EBADMSG);
        refused(&sim, &a, "public flags", change(2, &[2]), EBADMSG);
        refused(&sim, &a, "magic", change(0, &[0x6d]), EBADMSG);
        refused(
            &sim,
            &a,
            "trailing byte",
            [good.clone(), vec![0]].concat(),
            EBADMSG,
        );
        refused(
            &sim,
            &a,
            "duplicates",
            pack(&mut |w| {
                w.number("listen-port", 1)?;
                w.number("listen-port", 2)
            }),
            EBADMSG,
        );
        fn nest(w: &mut Writer<'_>, depth: usize) -> Result<(), WriteError> {
            if depth == 0 {
                w.null("x")
            } else {
                w.list("n", &mut |w| nest(w, depth - 1))
            }
        }
        accepted(&sim, &a, "some depth", pack(&mut |w| nest(w, 3)));
        refused(&sim, &a, "too deep", pack(&mut |w| nest(w, 16)), EBADMSG);
        refused(
            &sim,
            &a,
            "far too many names",
            pack(&mut |w| (0..5000).try_for_each(|i| w.number(&format!("key{i}"), i))),
            EBADMSG,
        );
        accepted(&sim, &a, "the good one", good);
        finish(sim, &[&a]);
    });
}
