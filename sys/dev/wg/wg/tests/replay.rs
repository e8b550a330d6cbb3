// SPDX-License-Identifier: BSD-2-Clause
//! Replay window: a table of cases and a comparison with a set.

mod common;

use std::collections::BTreeSet;

use common::TestRng;
use wg::replay::{REJECT_AFTER_MESSAGES, ReplayWindow, WINDOW};

#[test]
fn table() {
    const T: u64 = WINDOW;
    let cases: [&[(u64, bool)]; 14] = [
        &[
            (0, true),
            (0, false),
            (1, true),
            (1, false),
            (9, true),
            (8, true),
            (7, true),
            (7, false),
        ],
        &[(T, true), (0, true), (0, false), (T, false)],
        &[(T + 1, true), (0, false), (1, true)],
        &[
            (0, true),
            (T, true),
            (0, false),
            (T + 1, true),
            (1, true),
            (0, false),
        ],
        &[
            (64, true),
            (0, true),
            (63, true),
            (64, false),
            (65, true),
            (0, false),
        ],
        // Forward by exactly the ring, by more than it, and by so much that blocks come round.
        &[
            (1, true),
            (1 + 8192, true),
            (1, false),
            (1 + 8192 - T, true),
            (8192 - T, false),
        ],
        &[
            (5, true),
            (5 + 8192 * 7, true),
            (5 + 8192 * 7 - 1, true),
            (5 + 8192 * 6, false),
        ],
        &[
            (63, true),
            (64, true),
            (64 + 8191, true),
            (64 + 8128, true),
            (64 + 63, true),
            (126, false),
        ],
        // Bits from a turn ago in the block after a full one.
        &[
            (1, true),
            (8191, true),
            (8194, true),
            (8193, true),
            (8192, true),
        ],
        // The end of all counters.
        &[(REJECT_AFTER_MESSAGES, false), (u64::MAX, false), (0, true)],
        &[
            (REJECT_AFTER_MESSAGES - 1, true),
            (REJECT_AFTER_MESSAGES - 1, false),
            (0, false),
        ],
        &[
            (REJECT_AFTER_MESSAGES - 1, true),
            (REJECT_AFTER_MESSAGES - 1 - T, true),
            (REJECT_AFTER_MESSAGES - 2 - T, false),
            (REJECT_AFTER_MESSAGES, false),
        ],
        &[
            (u64::MAX, false),
            (u64::MAX - 8193, true),
            (u64::MAX - 8192, false),
        ],
        &[
            (T / 2, true),
            (T, true),
            (0, true),
            (T / 2, false),
            (2 * T, true),
            (T - 1, false),
            (T, false),
        ],
    ];
    assert_eq!(WINDOW, 8128);
    assert_eq!(size_of::<ReplayWindow>(), 1032);
    for (i, case) in cases.into_iter().enumerate() {
        let mut window = ReplayWindow::new();
        for (j, &(counter, expected)) in case.iter().enumerate() {
            assert_eq!(window.would_accept(counter), expected, "case {i}, step {j}");
            assert_eq!(window.accept(counter), expected, "case {i}, step {j}");
        }
    }
}

#[test]
fn in_order_and_backwards() {
    let n = if cfg!(miri) { 9000 } else { 100_000 };
    let mut window = ReplayWindow::new();
    assert!((0..n).all(|c| window.accept(c)));
    assert!(!(0..n).any(|c| window.accept(c)));
    let mut window = ReplayWindow::new();
    assert!((0..=WINDOW).rev().all(|c| window.accept(c)));
    assert!(!(0..=WINDOW).any(|c| window.accept(c)));
}

/// The rule, as a set: once each, and not too far behind.
#[derive(Default)]
struct Model {
    seen: BTreeSet<u64>,
}

impl Model {
    fn accept(&mut self, counter: u64) -> bool {
        let greatest = self.seen.last().copied().unwrap_or(0);
        let fresh = greatest.saturating_sub(counter) <= WINDOW;
        counter < REJECT_AFTER_MESSAGES && fresh && self.seen.insert(counter)
    }
}

#[test]
fn random_against_a_set() {
    let seed = common::seed();
    let mut rng = TestRng::new(seed);
    for round in 0..if cfg!(miri) { 2 } else { 60 } {
        let mut window = ReplayWindow::new();
        let mut model = Model::default();
        let mut base = if round % 3 == 0 {
            REJECT_AFTER_MESSAGES - 20_000
        } else {
            0
        };
        for step in 0..if cfg!(miri) { 500 } else { 20_000 } {
            let counter = match rng.next() % 16 {
                0 => {
                    base = base.saturating_add(rng.next() % 20_000);
                    base
                }
                1..=3 => base.saturating_add(rng.next() % 200),
                4 => base.saturating_sub(WINDOW - 64 + rng.next() % 128),
                5 => rng.next(),
                _ => base.saturating_add(100).saturating_sub(rng.next() % 9000),
            };
            // A jump to the end would leave nothing to test.
            let counter = if rng.next().is_multiple_of(1000) {
                counter
            } else {
                counter.min(base.saturating_add(30_000))
            };
            let expected = model.accept(counter);
            assert_eq!(
                window.accept(counter),
                expected,
                "SEED={seed} {round} {step} {counter}"
            );
            base = base.max(if expected { counter } else { 0 });
        }
    }
}
