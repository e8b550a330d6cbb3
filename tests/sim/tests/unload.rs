// SPDX-License-Identifier: BSD-2-Clause
//! Nothing that points into the module outlives it. `Kernel::points_into_module` counts what does at every successful
//! unload of every test; here is what only some tests would have.

use hostkern::Packet;
use hostkern::sim::for_seeds;
use wgsim_tests::errno::EBUSY;
use wgsim_tests::{Node, assert_ping, assert_works, finish, packet, pair, secs, world};

/// Sizes of packets: inside of an mbuf, in each kind of cluster, and beyond all of them.
const SIZES: [usize; 9] = [60, 500, 2_000, 4_000, 9_000, 16_000, 16_300, 30_000, 65_000];

fn jumbo(sim: &hostkern::sim::Sim, nodes: &[&Node]) {
    for n in nodes {
        sim.kernel().set_mtu(&n.host, &n.ifname, 65_455).unwrap();
    }
}

/// A socket keeps what it has received when the tunnel's module is gone.
#[test]
fn unread_packets_outlive_the_module() {
    for_seeds(24, |seed| {
        let sim = world(seed);
        sim.shapes(seed % 2 == 0);
        let (a, b) = pair(&sim);
        jumbo(&sim, &[&a, &b]);
        sim.keep_unread(&b.host);
        let sent: Vec<_> = (0u8..)
            .zip(SIZES)
            .map(|(n, len)| packet("10.0.0.1", "10.0.0.2", n.into(), len - 28))
            .collect();
        for p in &sent {
            a.send(&sim, p).unwrap();
            sim.run_for(secs(1));
        }
        assert!(b.received(&sim) == sent);
        sim.unload().unwrap();
        assert!(sim.read_unread(&b.host) == sent, "what was not read");
        sim.finish();
    });
}

/// Nor does a packet hold it that goes on into another tunnel, or comes back as an ICMP error.
#[test]
fn large_packets_leave_in_memory_of_the_kernels() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        jumbo(&sim, &[&a, &b]);
        assert_ping(&sim, &a, &b);
        // b forwards what is not its own back into its tunnel, where nobody has that address.
        sim.forward(&b.host, true);
        sim.route(&b.host, "10.9.0.0", 16, &b.ifname).unwrap();
        a.peer(
            &sim,
            wgsim_tests::PeerConf::node(2, &["10.0.0.2/32", "10.9.0.0/16"]),
        );
        let p = packet("10.0.0.1", "10.9.0.1", 1, 50_000);
        a.send(&sim, &p).unwrap();
        sim.run_for(secs(1));
        let errors = sim.icmp(&b.host);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].packet == p);
        // It was forwarded: the stack answers as on the interface that it came by.
        assert_eq!(errors[0].received_by, Some(b.ifname.clone()));
        finish(sim, &[&a, &b]);
    });
}

/// Without memory for it the packet is lost and counted, and the next one is not.
#[test]
fn a_large_packet_that_cannot_be_moved_is_counted() {
    for_seeds(8, |seed| {
        let sim = world(seed);
        sim.shapes(false);
        let (a, b) = pair(&sim);
        jumbo(&sim, &[&a, &b]);
        assert_ping(&sim, &a, &b);
        let p = packet("10.0.0.1", "10.0.0.2", 1, 40_000);
        let drops = || {
            ["drop_no_memory", "drop_send_failed"]
                .map(|name| {
                    sim.kernel()
                        .sysctl_number(&format!("net.wg.{name}"))
                        .unwrap()
                })
                .iter()
                .sum::<u64>()
        };
        // Every allocation on its way fails once. A few are those of the simulated kernel, with which it brings
        // the datagram.
        let (mut lost, mut theirs) = (0, 0);
        for n in 1.. {
            let before = drops();
            let refused = sim.account().stats().refused;
            sim.fail_nth(n);
            // In two pieces, so that it has to be copied.
            let pieces = || Packet::from_pieces(&[&p[..30_000], &p[30_000..]]);
            let to = "10.0.0.2".parse().unwrap();
            let sent = sim.kernel().output_packet(&a.host, &a.ifname, to, pieces);
            sim.run_for(secs(1));
            let failed = sim.account().stats().refused > refused;
            sim.fail_nth(0);
            let arrived = b.received(&sim);
            if arrived.is_empty() && sent.is_ok() {
                match drops() > before {
                    true => lost += 1,
                    false => theirs += 1,
                }
            }
            if !failed {
                assert!(arrived == [p.clone()]);
                break;
            }
        }
        // Twenty clusters and as many mbufs.
        assert!(lost > 40, "{lost}");
        assert!(theirs <= 3, "{theirs} lost without a count");
        assert_works(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

/// An allocation that stays, whoever holds it: the module stays too, and whole.
#[test]
fn an_unload_waits_for_the_last_allocation() {
    for_seeds(4, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let held = sim.kernel().hold_module_memory();
        drop((a, b));
        assert_eq!(sim.unload(), Err(EBUSY));
        // It is there as before, without its interfaces.
        let (c, d) = (
            Node::new(&sim, sim.host("c", &["192.0.2.7"]), 1),
            Node::new(&sim, sim.host("d", &["192.0.2.8"]), 2),
        );
        use wgsim_tests::PeerConf;
        c.peer(
            &sim,
            PeerConf::node(2, &["10.0.0.2/32", "fd00::2/128"]).at("192.0.2.8:51820"),
        );
        d.peer(
            &sim,
            PeerConf::node(1, &["10.0.0.1/32", "fd00::1/128"]).at("192.0.2.7:51820"),
        );
        assert_works(&sim, &c, &d);
        assert_eq!(sim.unload(), Err(EBUSY));
        drop((c, d));
        drop(held);
        sim.unload().unwrap();
        sim.finish();
    });
}
