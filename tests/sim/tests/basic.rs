// SPDX-License-Identifier: BSD-2-Clause
//! The plain life of a tunnel.

use hostkern::sim::for_seeds;
use wgsim_tests::{assert_ping, pair, world};

#[test]
fn a_tunnel_carries_packets_both_ways() {
    for_seeds(64, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        let state = a.state(&sim);
        assert_eq!(state.peers.len(), 1);
        assert_ne!(state.peers[0].handshake, 0);
        sim.destroy(&a.host, &a.ifname).unwrap();
        sim.destroy(&b.host, &b.ifname).unwrap();
        drop((a, b));
        sim.finish();
    });
}
