// SPDX-License-Identifier: BSD-2-Clause
//! What one network stack may have: interfaces, peers, allowed IPs. A jail's root makes them of the host's memory.

use hostkern::sim::{Host, Sim};
use wgsim_tests::errno::{EADDRINUSE, ENOSPC};
use wgsim_tests::{Conf, Node, PORT, PeerConf, accepted, finish, packed, refused, world};

fn key(n: u16) -> [u8; 32] {
    let mut key = [0x42; 32];
    key[..2].copy_from_slice(&n.to_le_bytes());
    key
}

/// Peers of these numbers with `ips` prefixes each.
fn peers(numbers: impl IntoIterator<Item = u16>, ips: u16) -> Conf {
    let peer = |n| PeerConf {
        key: key(n),
        allowed: (0..ips).map(|i| format!("10.{n}.{i}.0/24")).collect(),
        ..PeerConf::default()
    };
    Conf {
        peers: numbers.into_iter().map(peer).collect(),
        ..Conf::default()
    }
}

fn removed(numbers: impl IntoIterator<Item = u16>) -> Conf {
    let mut conf = peers(numbers, 0);
    conf.peers.iter_mut().for_each(|p| p.remove = true);
    conf
}

fn limit(sim: &Sim, what: &str, n: u64) {
    sim.kernel()
        .set_sysctl(&format!("net.wg.max_{what}"), n)
        .expect("a limit");
}

/// What sysctl(8) says on a host: interfaces, peers, allowed IPs.
fn used(sim: &Sim, host: &Host) -> [u64; 3] {
    let number = |name| sim.kernel().sysctl_number(name).expect("a number");
    sim.process(host, || {
        ["net.wg.interfaces", "net.wg.peers", "net.wg.allowed_ips"].map(number)
    })
}

fn refusals(sim: &Sim) -> u64 {
    sim.kernel()
        .sysctl_number("net.wg.limit_refusals")
        .expect("a counter")
}

fn node(sim: &Sim, host: &Host) -> Node {
    Node::bare(sim, host.clone(), 1)
}

#[test]
fn interfaces() {
    let sim = world(1);
    let (a, b) = (sim.host("a", &["192.0.2.1"]), sim.host("b", &["192.0.2.2"]));
    limit(&sim, "interfaces", 2);
    assert_eq!(sim.create(&a, "wg").unwrap(), "wg0");
    assert_eq!(sim.create(&a, "wg").unwrap(), "wg1");
    assert_eq!(sim.create(&a, "wg"), Err(ENOSPC));
    assert_eq!(sim.create(&a, "wg7"), Err(ENOSPC));
    assert_eq!(
        (used(&sim, &a), used(&sim, &b), refusals(&sim)),
        ([2, 0, 0], [0; 3], 2)
    );
    // Another network stack has as many of its own.
    assert_eq!(sim.create(&b, "wg").unwrap(), "wg0");
    sim.destroy(&a, "wg0").unwrap();
    assert_eq!(sim.create(&a, "wg").unwrap(), "wg0");
    // One that moves counts where it is, even if there are too many.
    sim.kernel().rename(&a, "wg1", "one").unwrap();
    sim.kernel().rename(&a, "wg0", "two").unwrap();
    sim.kernel().move_to(&a, "one", &b).unwrap();
    sim.kernel().move_to(&a, "two", &b).unwrap();
    assert_eq!((used(&sim, &a), used(&sim, &b)), ([0; 3], [3, 0, 0]));
    assert_eq!(sim.create(&b, "wg5"), Err(ENOSPC));
    for name in ["one", "two", "wg0"] {
        sim.destroy(&b, name).unwrap();
    }
    assert_eq!(used(&sim, &b), [0; 3]);
    // A lower limit takes nothing away.
    assert_eq!(sim.create(&b, "wg").unwrap(), "wg0");
    assert_eq!(sim.create(&b, "wg").unwrap(), "wg1");
    limit(&sim, "interfaces", 1);
    assert_eq!(used(&sim, &b), [2, 0, 0]);
    sim.destroy(&b, "wg1").unwrap();
    assert_eq!(sim.create(&b, "wg"), Err(ENOSPC));
    sim.finish();
}

#[test]
fn peers_of_all_interfaces() {
    let sim = world(1);
    let (host, other) = (sim.host("a", &["192.0.2.1"]), sim.host("b", &["192.0.2.2"]));
    let (a, b, c) = (node(&sim, &host), node(&sim, &host), node(&sim, &other));
    limit(&sim, "peers", 10);
    accepted(&sim, &a, "six", packed(&peers(0..6, 1)));
    accepted(&sim, &b, "three", packed(&peers(0..3, 1)));
    refused(&sim, &a, "two more", packed(&peers(6..8, 1)), ENOSPC);
    refused(
        &sim,
        &b,
        "with what is there",
        packed(&peers(0..5, 1)),
        ENOSPC,
    );
    assert_eq!((used(&sim, &host), refusals(&sim)), ([2, 9, 9], 2));
    accepted(&sim, &b, "one more", packed(&peers(0..4, 1)));
    accepted(&sim, &c, "elsewhere", packed(&peers(0..10, 1)));
    // Who goes makes room, for the next request.
    refused(&sim, &a, "full", packed(&peers([9], 1)), ENOSPC);
    accepted(&sim, &a, "removal", packed(&removed(0..2)));
    assert_eq!(used(&sim, &host), [2, 8, 8]);
    accepted(&sim, &a, "in their place", packed(&peers(20..22, 1)));
    // As many in place of all.
    let all = Conf {
        replace_peers: true,
        ..peers(30..36, 1)
    };
    accepted(&sim, &a, "all others", packed(&all));
    assert_eq!(used(&sim, &host), [2, 10, 10]);
    refused(
        &sim,
        &a,
        "and one",
        packed(&Conf {
            replace_peers: true,
            ..peers(40..47, 1)
        }),
        ENOSPC,
    );
    // A request that fails for another reason has taken nothing.
    accepted(&sim, &a, "room", packed(&removed(30..34)));
    let up = Node::new(&sim, host.clone(), 2);
    a.up(&sim, true);
    refused(
        &sim,
        &a,
        "port",
        packed(&Conf {
            port: Some(PORT),
            ..peers(0..4, 1)
        }),
        EADDRINUSE,
    );
    assert_eq!(used(&sim, &host), [3, 6, 6]);
    // Destruction gives back.
    sim.destroy(&host, &a.ifname).unwrap();
    assert_eq!(
        (used(&sim, &host), used(&sim, &other)),
        ([2, 4, 4], [1, 10, 10])
    );
    // And it goes with the interface.
    sim.kernel().rename(&other, "wg0", "moved").unwrap();
    sim.kernel().move_to(&other, "moved", &host).unwrap();
    assert_eq!(
        (used(&sim, &host), used(&sim, &other)),
        ([3, 14, 14], [0; 3])
    );
    let moved = Node {
        host,
        ifname: "moved".into(),
        n: 1,
    };
    refused(&sim, &moved, "too many", packed(&peers([50], 0)), ENOSPC);
    accepted(&sim, &moved, "fewer", packed(&removed(0..9)));
    accepted(&sim, &moved, "again", packed(&peers([50], 0)));
    finish(sim, &[&b, &up, &moved]);
}

#[test]
fn allowed_ips_of_all_interfaces() {
    let sim = world(1);
    let host = sim.host("a", &["192.0.2.1"]);
    let (a, b) = (node(&sim, &host), node(&sim, &host));
    limit(&sim, "allowed_ips", 20);
    accepted(&sim, &a, "twelve", packed(&peers(0..2, 6)));
    accepted(&sim, &b, "eight", packed(&peers(0..1, 8)));
    refused(&sim, &b, "one more", packed(&peers(0..1, 9)), ENOSPC);
    refused(&sim, &a, "with a new peer", packed(&peers([7], 1)), ENOSPC);
    assert_eq!((used(&sim, &host), refusals(&sim)), ([2, 3, 20], 2));
    // Those that it has, and those that move between peers, are no more.
    accepted(&sim, &a, "the same", packed(&peers(0..2, 6)));
    let mut moved = peers(0..1, 0);
    moved.peers[0].allowed = (0..6).map(|i| format!("10.1.{i}.0/24")).collect();
    accepted(&sim, &a, "moved", packed(&moved));
    assert_eq!(used(&sim, &host), [2, 3, 20]);
    // What a request takes away first makes room in it.
    let mut replaced = peers(0..1, 12);
    replaced.peers[0].replace_allowed_ips = true;
    accepted(&sim, &a, "replaced", packed(&replaced));
    assert_eq!(used(&sim, &host), [2, 3, 20]);
    replaced.peers[0].allowed.truncate(2);
    accepted(&sim, &a, "fewer", packed(&replaced));
    assert_eq!(used(&sim, &host), [2, 3, 10]);
    accepted(&sim, &b, "with their peer", packed(&removed(0..1)));
    assert_eq!(used(&sim, &host), [2, 2, 2]);
    accepted(&sim, &b, "again", packed(&peers(0..3, 6)));
    assert_eq!(used(&sim, &host), [2, 5, 20]);
    finish(sim, &[&a, &b]);
}
