// SPDX-License-Identifier: BSD-2-Clause
//! `BoundedQueue`: values arrive whole and once, and none is left behind a wake-up.

use kpi_alloc::How;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::atomics::Mutant;
use crate::queue::BoundedQueue;
use crate::{RACE, check, check_bites};

/// A value that loom watches.
struct Value(UnsafeCell<u32>);

impl Value {
    fn new(v: u32) -> Self {
        Self(UnsafeCell::new(v))
    }

    fn read(self) -> u32 {
        // SAFETY: checked by the model.
        self.0.with(|v| unsafe { *v })
    }
}

// SAFETY: checked by the model.
unsafe impl Send for Value {}

fn queue() -> Arc<BoundedQueue<Value>> {
    Arc::new(BoundedQueue::with_capacity(2, How::NoWait).unwrap())
}

/// Two producers; each drains after its push, as one that wakes a consumer would have it done.
fn two_producers() {
    let q = queue();
    let side = |q: Arc<BoundedQueue<Value>>, v| {
        move || {
            assert!(q.push(Value::new(v)).is_ok());
            let mut got = vec![];
            while let Some(v) = q.pop() {
                got.push(v.read());
            }
            got
        }
    };
    let other = thread::spawn(side(q.clone(), 1));
    let mut got = side(q.clone(), 2)();
    got.extend(other.join().unwrap());
    got.sort_unstable();
    assert_eq!(got, [1, 2], "left behind or doubled");
    assert!(q.pop().is_none());
}

/// A producer goes round the ring while a consumer empties it.
fn round_the_ring() {
    let q = queue();
    let producer = {
        let q = q.clone();
        thread::spawn(move || {
            (1..=3)
                .take_while(|&v| q.push(Value::new(v)).is_ok())
                .count()
        })
    };
    let mut got = vec![];
    for _ in 0..2 {
        got.extend(q.pop().map(Value::read));
    }
    let pushed = producer.join().unwrap();
    while let Some(v) = q.pop() {
        got.push(v.read());
    }
    assert!(got.into_iter().eq(1..=pushed as u32));
}

/// What is left in the queue goes with it.
fn dropped_full() {
    let q = Arc::new(BoundedQueue::with_capacity(2, How::NoWait).unwrap());
    let value = Arc::new(());
    let producer = {
        let (q, value) = (q.clone(), value.clone());
        thread::spawn(move || drop(q.push(value)))
    };
    drop(q.pop());
    drop(q);
    producer.join().unwrap();
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn nothing_is_left_behind() {
    check(3, two_producers);
}

#[test]
fn full_and_empty() {
    check(3, round_the_ring);
}

#[test]
fn remaining_values_are_dropped() {
    check(3, dropped_full);
}

#[test]
fn bites_unpublished_slots() {
    for spot in [Mutant::FillRelaxed, Mutant::FullRelaxed] {
        check_bites(spot, &[RACE], 3, round_the_ring);
    }
    for spot in [Mutant::DrainRelaxed, Mutant::EmptyRelaxed] {
        check_bites(spot, &[RACE], 3, round_the_ring);
    }
}

#[test]
fn bites_missing_fence() {
    check_bites(Mutant::EmptyUnfenced, &["left behind"], 3, two_producers);
}
