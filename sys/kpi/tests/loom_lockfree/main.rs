// SPDX-License-Identifier: BSD-2-Clause
//! loom models of the lock-free parts: every interleaving (with a bounded number of preemptions), and every
//! value that a weakly ordered machine may return.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p kpi --test loom_lockfree --release`
//!
//! Each protocol also runs with one of its spots broken (`atomics::Mutant`); loom must find that. A
//! model that could not fail would prove nothing.
#![cfg(loom)]

#[path = "../../src/atomics.rs"]
mod atomics;
#[path = "../../src/crew.rs"]
mod crew;
#[path = "../../src/epoch.rs"]
#[expect(dead_code, reason = "not every function has a model here")]
mod epoch;
#[path = "../../src/queue.rs"]
mod queue;
#[path = "../../src/serial.rs"]
mod serial;

mod crew_model;
mod epoch_model;
mod fake_epoch;
mod queue_model;
mod serial_model;

use std::panic::{AssertUnwindSafe, catch_unwind};

use atomics::Mutant;
use hostkern_malloc::Account;
use loom::model::Builder;

/// All executions with at most `preemptions` involuntary switches.
fn executions(preemptions: usize) -> Builder {
    let mut b = Builder::new();
    b.preemption_bound = Some(preemptions);
    b
}

/// Checks `f`, also for leaks.
fn check(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    executions(preemptions).check(move || {
        let account = Account::new();
        let scope = account.enter();
        f();
        drop(scope);
        account.assert_no_leaks();
    });
}

/// Checks that loom finds `f` wrong with `spot` broken, and that one of `symptoms` is in what it says.
fn check_bites(
    spot: Mutant,
    symptoms: &[&str],
    preemptions: usize,
    f: impl Fn() + Sync + Send + 'static,
) {
    atomics::set_mutant(Some(spot));
    let outcome = catch_unwind(AssertUnwindSafe(|| executions(preemptions).check(f)));
    atomics::set_mutant(None);
    let Err(found) = outcome else {
        panic!("loom found nothing wrong with {spot:?}")
    };
    let text = found
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| found.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without text");
    assert!(
        symptoms.iter().any(|s| text.contains(s)),
        "{spot:?} made another failure: {text}"
    );
}

/// What loom says when two accesses of a cell have no order.
const RACE: &str = "Causality violation";
