// SPDX-License-Identifier: BSD-2-Clause
//! The backends of the packet cipher: each carries packets, and the kernel's crypto framework may
//! misbehave as it likes.

use hostkern::CryptoDriver;
use hostkern::sim::{Sim, for_seeds};
use wgsim_tests::errno::{EIO, ENOENT, ENOMEM, ENOTRECOVERABLE, EOPNOTSUPP};
use wgsim_tests::{
    Msg, Node, Wire, assert_ping, assert_works, drops, finish, handshakes, kind, millis, module,
    packet, pair, secs,
};

/// A world in which the module was told to use this backend.
fn with_backend(seed: u64, name: &str) -> Sim {
    let sim = Sim::new(seed);
    sim.kernel().set_tunable("net.wg.crypto", name);
    sim.load(module()).expect("the module loads");
    sim
}

fn backend(sim: &Sim) -> String {
    sim.kernel().sysctl_text("net.wg.crypto").expect("a name")
}

/// Has the framework's driver behave so from when `a`'s next data message is on the wire: it was
/// sealed by a sound one.
fn when_sent(sim: &Sim, a: &Node, driver: CryptoDriver) -> Wire {
    let (kernel, from) = (sim.kernel().clone(), a.host.id);
    Wire::filter(sim, move |d| {
        if d.from == from && matches!(kind(&d.payload), Msg::Data | Msg::Keepalive) {
            kernel.set_crypto_driver(driver);
        }
        true
    })
}

#[test]
fn every_backend_carries_packets() {
    for (name, shown) in [
        ("portable", "portable"),
        ("ring", "ring"),
        ("auto", "ring"),
        ("ocf", "ocf (fakecrypto0)"),
    ] {
        for_seeds(8, |seed| {
            let sim = with_backend(seed, name);
            assert_eq!(backend(&sim), shown);
            let (a, b) = pair(&sim);
            assert_ping(&sim, &a, &b);
            // Jumbo packets, and those of the smallest size.
            for len in [8, 1400, 9000] {
                let p = packet("10.0.0.1", "10.0.0.2", 7, len);
                a.send(&sim, &p).expect("output");
                sim.run_for(millis(500));
                assert_eq!(b.received(&sim), [p], "{name}, {len} bytes");
            }
            assert_eq!(sim.kernel().crypto_requests() > 0, name == "ocf");
            finish(sim, &[&a, &b]);
        });
    }
}

#[test]
fn a_backend_that_is_not_there_refuses_the_load() {
    let refused = |driver, name: &str| {
        let sim = Sim::new(1);
        sim.kernel().set_crypto_driver(driver);
        sim.kernel().set_tunable("net.wg.crypto", name);
        let errno = sim.load(module()).expect_err("a module that must not load");
        assert!(
            sim.kernel().leaks().is_empty(),
            "{:?}",
            sim.kernel().leaks()
        );
        // Nothing is left of it, so the next try is as good as the first.
        sim.kernel().set_crypto_driver(CryptoDriver::Sound);
        sim.kernel().set_tunable("net.wg.crypto", "ocf");
        sim.load(module()).expect("the second time");
        sim.finish();
        errno
    };
    assert_eq!(refused(CryptoDriver::Sound, "nonsense"), ENOENT);
    assert_eq!(refused(CryptoDriver::Absent, "ocf"), EOPNOTSUPP);
    assert_eq!(refused(CryptoDriver::Asynchronous, "ocf"), EOPNOTSUPP);
    assert_eq!(refused(CryptoDriver::NoSession(EIO), "ocf"), EIO);
    // The self-test sees to these.
    assert_eq!(refused(CryptoDriver::BAD_TAG, "ocf"), ENOTRECOVERABLE);
    assert_eq!(refused(CryptoDriver::Refuses(EIO), "ocf"), ENOTRECOVERABLE);
}

/// CVE-2026-58085: the answer to a request is in `crp_etype`, and `crypto_dispatch` returns 0.
#[test]
fn a_bad_tag_in_the_request_is_a_bad_tag() {
    for_seeds(16, |seed| {
        let sim = with_backend(seed, "ocf");
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        sim.run_for(secs(15));
        let (dropped, before) = (drops(&sim, "bad_tag"), b.about(&sim, 1));
        // The shortest one would pass as a keepalive.
        for (i, len) in [0, 8, 100, 1400, 9000].into_iter().enumerate() {
            sim.kernel().set_crypto_driver(CryptoDriver::Sound);
            let _wire = when_sent(&sim, &a, CryptoDriver::BAD_TAG);
            let p = packet("10.0.0.1", "10.0.0.2", i as u64, len);
            a.send(&sim, &p).expect("output");
            sim.run_for(millis(500));
            sim.off_wire();
        }
        assert_eq!(drops(&sim, "bad_tag"), dropped + 5);
        assert_eq!(b.received(&sim), [[0; 0]; 0]);
        let after = b.about(&sim, 1);
        assert_eq!((after.rx, after.endpoint), (before.rx, before.endpoint));
        sim.kernel().set_crypto_driver(CryptoDriver::Sound);
        assert_works(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn what_cannot_be_sealed_is_not_sent() {
    for fault in [CryptoDriver::Fails(EIO), CryptoDriver::Refuses(ENOMEM)] {
        for_seeds(8, |seed| {
            let sim = with_backend(seed, "ocf");
            let (a, b) = pair(&sim);
            assert_ping(&sim, &a, &b);
            sim.run_for(secs(15));
            let before = drops(&sim, "send_failed");
            sim.kernel().set_crypto_driver(fault);
            let wire = Wire::record(&sim);
            for tag in 0..10 {
                a.send(&sim, &packet("10.0.0.1", "10.0.0.2", tag, 100))
                    .expect("output");
            }
            sim.run_for(secs(2));
            let sent = wire.take();
            assert!(sent.is_empty(), "{:?}", sent.first());
            sim.off_wire();
            assert_eq!(drops(&sim, "send_failed"), before + 10);
            sim.kernel().set_crypto_driver(CryptoDriver::Sound);
            assert_works(&sim, &a, &b);
            finish(sim, &[&a, &b]);
        });
    }
}

#[test]
fn requests_that_are_put_off_are_waited_for() {
    for_seeds(16, |seed| {
        let sim = with_backend(seed, "ocf");
        let (a, b) = pair(&sim);
        assert_ping(&sim, &a, &b);
        sim.kernel().set_crypto_driver(CryptoDriver::PutsOff);
        for tag in 0..50 {
            a.send(&sim, &packet("10.0.0.1", "10.0.0.2", tag, 100))
                .expect("output");
            b.send(&sim, &packet("10.0.0.2", "10.0.0.1", tag, 900))
                .expect("output");
        }
        sim.run_for(secs(5));
        assert_eq!((a.received(&sim).len(), b.received(&sim).len()), (50, 50));
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn a_session_that_the_framework_replaced_is_used_or_given_up() {
    for driver in [CryptoDriver::Replaced, CryptoDriver::ReplacedByAsynchronous] {
        for_seeds(8, |seed| {
            let sim = with_backend(seed, "ocf");
            let (a, b) = pair(&sim);
            assert_ping(&sim, &a, &b);
            for tag in 0..4 {
                sim.kernel().set_crypto_driver(driver);
                a.send(&sim, &packet("10.0.0.1", "10.0.0.2", tag, 100))
                    .expect("output");
                sim.run_for(millis(500));
            }
            let _ = b.received(&sim);
            assert_works(&sim, &a, &b);
            finish(sim, &[&a, &b]);
        });
    }
}

#[test]
fn without_a_session_of_the_framework_there_is_no_handshake() {
    for_seeds(8, |seed| {
        let sim = with_backend(seed, "ocf");
        let (a, b) = pair(&sim);
        sim.kernel()
            .set_crypto_driver(CryptoDriver::NoSession(ENOMEM));
        let wire = Wire::record(&sim);
        a.send(&sim, &packet("10.0.0.1", "10.0.0.2", 1, 100))
            .expect("output");
        sim.run_for(secs(20));
        assert_eq!(handshakes(&sim), 0);
        assert!(drops(&sim, "no_memory") > 0);
        assert_eq!(wire.count(Msg::Data) + wire.count(Msg::Response), 0);
        sim.off_wire();
        sim.kernel().set_crypto_driver(CryptoDriver::Sound);
        assert_works(&sim, &a, &b);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn sessions_of_the_framework_go_with_their_keys() {
    for_seeds(4, |seed| {
        let sim = with_backend(seed, "ocf");
        let (a, b) = pair(&sim);
        // One is the module's own, to test with.
        assert_eq!(sim.kernel().crypto_sessions(), 1);
        for _ in 0..30 {
            assert_ping(&sim, &a, &b);
            sim.run_for(secs(60));
            let now = sim.kernel().crypto_sessions();
            assert!((3..=7).contains(&now), "{now} sessions for two peers");
        }
        assert!(handshakes(&sim) > 20);
        a.up(&sim, false);
        b.up(&sim, false);
        sim.run_for(secs(1));
        assert_eq!(sim.kernel().crypto_sessions(), 1);
        finish(sim, &[&a, &b]);
    });
}
