// SPDX-License-Identifier: BSD-2-Clause
//! The lock-free parts of `kpi` on threads of the host, small enough for Miri.
//!
//! The sources are compiled into this test, so that it needs no kernel but the few symbols below, and
//! Miri and the sanitizers see nothing but them. The loom models are in `../loom_lockfree`.
#![cfg(not(loom))]

#[path = "../../src/atomics.rs"]
mod atomics;
#[path = "../../src/crew.rs"]
mod crew;
#[path = "../../src/epoch.rs"]
mod epoch;
#[path = "../../src/queue.rs"]
mod queue;
#[path = "../../src/serial.rs"]
mod serial;

mod crew_test;
mod epoch_test;
mod fake_epoch;
mod queue_test;
mod serial_test;

use hostkern_malloc::Account;

/// `full` times, or a few under Miri.
fn rounds(full: usize) -> usize {
    if cfg!(miri) { full.min(40) } else { full }
}

/// Runs `f` on books of its own and checks that it freed everything.
fn audited<R>(f: impl FnOnce(&Account) -> R) -> R {
    let account = Account::new();
    let scope = account.enter();
    let r = f(&account);
    drop(scope);
    account.assert_no_leaks();
    r
}

/// A small generator, so that the tests replay.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % n
    }
}
