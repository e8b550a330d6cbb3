// SPDX-License-Identifier: BSD-2-Clause
//! What a request costs, in nodes and entries that were looked at: bounded by its size and that of the tables, never by
//! their product. Time is not measured.

use hostkern::sim::Sim;
use hostkern::{Errno, as_user};
use wgsim_tests::errno::{EADDRINUSE, ENOSPC};
use wgsim_tests::{
    Conf, Node, PORT, PeerConf, SIOCGWG, accepted, finish, packed, private_key, public_key,
    refused, world,
};

/// Sizes of the table and of the request. The product of the last ones is beyond every bound below.
const SIZES: [usize; 4] = [50, 200, 800, 3200];
/// For each entry of the request and of the table: a few ways through tries whose paths have at most 33 nodes (in these
/// tables, 20), and a few nodes of hash tables.
const FACTOR: u64 = 80;
/// For the request itself.
const CONSTANT: u64 = 500;

fn steps(sim: &Sim) -> u64 {
    sim.kernel()
        .sysctl_number("net.wg.config_steps")
        .expect("a counter")
}

fn key(n: usize) -> [u8; 32] {
    let mut key = [0x42; 32];
    key[..8].copy_from_slice(&(n as u64).to_le_bytes());
    key
}

/// The `n`th prefix of table `table`.
fn ip(table: usize, n: usize) -> String {
    format!("{}.{}.{}.{}/32", 10 + table, n >> 16, n >> 8 & 255, n & 255)
}

fn peer(n: usize, allowed: impl IntoIterator<Item = String>) -> PeerConf {
    PeerConf {
        key: key(n),
        allowed: allowed.into_iter().collect(),
        ..PeerConf::default()
    }
}

fn removed(n: usize) -> PeerConf {
    PeerConf {
        remove: true,
        ..peer(n, [])
    }
}

fn replaced(n: usize, allowed: impl IntoIterator<Item = String>) -> PeerConf {
    PeerConf {
        replace_allowed_ips: true,
        ..peer(n, allowed)
    }
}

fn peers(peers: impl IntoIterator<Item = PeerConf>) -> Conf {
    Conf {
        peers: peers.into_iter().collect(),
        ..Conf::default()
    }
}

/// Over all sizes: an interface with `table` (of size T), a request of size R. The steps must be within the bound of
/// T + R. What the interface then has, `check` compares.
fn bounded(
    what: &str,
    table: impl Fn(usize) -> Conf,
    request: impl Fn(usize, usize) -> Conf,
    check: impl Fn(&Sim, &Node, usize, usize),
) {
    for t in SIZES {
        for r in SIZES {
            let sim = world(1);
            let node = Node::bare(&sim, sim.host("a", &["192.0.2.1"]), 1);
            node.set(&sim, &table(t)).expect("the table");
            let request = request(t, r);
            let size = request
                .peers
                .iter()
                .map(|p| 1 + p.allowed.len())
                .sum::<usize>();
            let before = steps(&sim);
            accepted(&sim, &node, what, packed(&request));
            let took = steps(&sim) - before;
            let bound = FACTOR * (t + size) as u64 + CONSTANT;
            assert!(
                took <= bound,
                "{what}: {took} steps with a table of {t} and a request of {r}, more than {bound}"
            );
            check(&sim, &node, t, r);
            finish(sim, &[&node]);
        }
    }
}

/// T prefixes of two peers.
fn two(t: usize) -> Conf {
    peers([
        peer(0, (0..t / 2).map(|n| ip(0, n))),
        peer(1, (t / 2..t).map(|n| ip(0, n))),
    ])
}

/// T peers with a prefix each.
fn many(t: usize) -> Conf {
    peers((0..t).map(|n| peer(n, [ip(0, n)])))
}

fn counts(sim: &Sim, node: &Node) -> Vec<usize> {
    node.state(sim)
        .peers
        .iter()
        .map(|p| p.allowed.len())
        .collect()
}

#[test]
fn a_peer_that_is_replaced_again_and_again() {
    bounded(
        "replace-allowedips",
        two,
        |_, r| peers((0..r).map(|n| replaced(0, [ip(1, n)]))),
        |sim, node, t, _| assert_eq!(counts(sim, node), [1, t - t / 2]),
    );
    // With a large list the first time, which each of the others takes away.
    bounded(
        "replace-allowedips of a list",
        two,
        |_, r| {
            let first = replaced(0, (0..r).map(|n| ip(1, n)));
            peers(
                [first]
                    .into_iter()
                    .chain((0..r).map(|_| replaced(0, [ip(1, 0), ip(1, 1)]))),
            )
        },
        |sim, node, t, _| assert_eq!(counts(sim, node), [2, t - t / 2]),
    );
}

#[test]
fn peers_that_are_replaced_in_turn() {
    bounded(
        "replace-allowedips of two",
        two,
        |t, r| peers((0..r).map(|n| replaced(n % 2, [ip(0, n % t)]))),
        |sim, node, _, _| assert_eq!(counts(sim, node), [1, 1]),
    );
}

#[test]
fn a_peer_that_comes_and_goes() {
    bounded(
        "remove and add",
        two,
        |_, r| peers((0..r).flat_map(|n| [removed(0), peer(0, [ip(1, n)])])),
        |sim, node, t, _| assert_eq!(counts(sim, node), [t - t / 2, 1]),
    );
}

#[test]
fn prefixes_that_move_to_and_fro() {
    bounded(
        "moving one",
        two,
        |_, r| peers((0..r).map(|n| peer(n % 2, [ip(0, 0)]))),
        // The sizes are even: it ends with the second one.
        |sim, node, t, _| assert_eq!(counts(sim, node), [t / 2 - 1, t - t / 2 + 1]),
    );
    bounded(
        "moving all",
        two,
        |t, r| peers((0..4).map(|n| peer(n % 2, (0..r.min(t)).map(|n| ip(0, n))))),
        |sim, node, t, r| {
            let moved = r.min(t).min(t / 2);
            assert_eq!(counts(sim, node), [t / 2 - moved, t - t / 2 + moved]);
        },
    );
}

#[test]
fn prefixes_that_are_taken_one_by_one() {
    bounded(
        "flags remove",
        two,
        |t, r| peers([peer(0, (0..r).map(|n| format!("-{}", ip(0, n * 2 % t))))]),
        |sim, node, t, r| {
            let gone: std::collections::BTreeSet<_> =
                (0..r).map(|n| n * 2 % t).filter(|&n| n < t / 2).collect();
            assert_eq!(counts(sim, node), [t / 2 - gone.len(), t - t / 2]);
        },
    );
    bounded(
        "flags remove of the same",
        two,
        |_, r| peers((0..r).map(|_| peer(0, [format!("-{}", ip(0, 0))]))),
        |sim, node, t, _| assert_eq!(counts(sim, node), [t / 2 - 1, t - t / 2]),
    );
}

#[test]
fn all_peers_replaced() {
    bounded(
        "replace-peers",
        many,
        |_, r| Conf {
            replace_peers: true,
            ..peers((0..r).map(|n| replaced(n, [ip(0, n)])))
        },
        |sim, node, _, r| assert_eq!(counts(sim, node), vec![1; r]),
    );
}

#[test]
fn peers_removed() {
    bounded(
        "removal",
        many,
        |t, r| peers((0..r).map(|n| removed(n % t))),
        |sim, node, t, r| assert_eq!(counts(sim, node), vec![1; t - r.min(t)]),
    );
}

#[test]
fn another_identity() {
    bounded(
        "private-key",
        many,
        |_, r| Conf {
            key: Some(private_key(7)),
            // The key is that of a peer of ours, and the request speaks of it too.
            peers: (0..r)
                .map(|_| PeerConf::node(7, &["10.0.0.0/32"]))
                .collect(),
            ..Conf::default()
        },
        |sim, node, t, _| assert_eq!(counts(sim, node), vec![1; t]),
    );
}

/// A request that fails at its end costs no more than one that does not: here the port is somebody else's.
#[test]
fn a_request_that_fails_at_the_end() {
    for t in SIZES {
        for r in SIZES {
            let sim = world(1);
            let host = sim.host("a", &["192.0.2.1"]);
            let (other, node) = (Node::new(&sim, host.clone(), 2), Node::bare(&sim, host, 1));
            node.set(&sim, &two(t)).expect("the table");
            node.up(&sim, true);
            let request = peers((0..r).map(|n| replaced(n % 2, [ip(0, n)])));
            let request = packed(&Conf {
                port: Some(PORT),
                ..request
            });
            let before = steps(&sim);
            refused(&sim, &node, "a port in use", request, EADDRINUSE);
            // With two times that the state is read.
            let took = steps(&sim) - before;
            assert!(took <= FACTOR * (t + r) as u64 + CONSTANT, "{took} steps");
            finish(sim, &[&node, &other]);
        }
    }
}

/// Everybody may ask how long the answer is: that does not walk the allowed IPs. Nor does a call without room for it.
#[test]
fn reading_is_cheap_until_there_is_room() {
    for t in SIZES {
        let sim = world(1);
        let node = Node::bare(&sim, sim.host("a", &["192.0.2.1"]), 1);
        node.set(
            &sim,
            &Conf {
                key: Some(private_key(1)),
                ..two(t)
            },
        )
        .expect("the table");
        let six = peer(2, (0..t / 2).map(|n| format!("fd00::{n:x}/128")));
        node.set(&sim, &peers([six, peer(3, [])])).expect("more");
        let cost = |buf: &mut [u8]| -> (Result<usize, Errno>, u64) {
            let before = steps(&sim);
            let said = sim.ioctl_data(&node.host, &node.ifname, SIOCGWG, buf);
            (said, steps(&sim) - before)
        };
        for ask in [|f: &mut dyn FnMut()| f(), |f: &mut dyn FnMut()| as_user(f)] {
            ask(&mut || {
                let (size, took) = cost(&mut []);
                let size = size.expect("a size");
                assert!(took <= 10, "{took} steps for four peers and {t} prefixes");
                let (said, took) = cost(&mut vec![0; size - 1]);
                assert_eq!(said, Err(ENOSPC));
                assert!(took <= 10, "{took} steps");
                let (said, took) = cost(&mut vec![0; size]);
                assert_eq!(said, Ok(size), "the length was foretold");
                let all = (t + t / 2) as u64;
                assert!(
                    (all..=FACTOR * all + CONSTANT).contains(&took),
                    "{took} steps for {all}"
                );
            });
        }
        assert_eq!(counts(&sim, &node), [t / 2, t - t / 2, t / 2, 0]);
        assert_eq!(node.state(&sim).public, Some(public_key(1)));
        finish(sim, &[&node]);
    }
}
