// SPDX-License-Identifier: BSD-2-Clause
//! The bounded queue against a plain one, and on threads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;

use kpi_alloc::How;

use crate::queue::BoundedQueue;
use crate::{Rng, audited, rounds};

#[test]
fn capacities() {
    for (asked, got) in [(0, 2), (1, 2), (2, 2), (3, 4), (1000, 1024)] {
        audited(|_| {
            let q = BoundedQueue::<Box<u8>>::with_capacity(asked, How::NoWait).unwrap();
            assert_eq!((q.capacity(), q.len_hint()), (got, 0));
        });
    }
    audited(|account| {
        assert!(BoundedQueue::<u64>::with_capacity(usize::MAX, How::NoWait).is_err());
        account.fail_nth(1);
        assert!(BoundedQueue::<u64>::with_capacity(8, How::NoWait).is_err());
    });
}

#[test]
fn like_a_plain_queue() {
    for seed in 0..rounds(200) as u64 {
        audited(|_| {
            let mut rng = Rng(seed);
            let q = BoundedQueue::with_capacity(4, How::NoWait).unwrap();
            let mut twin = VecDeque::new();
            for i in 0..60 {
                if rng.below(2) == 0 {
                    let full = twin.len() == 4;
                    let v = Box::new(i);
                    assert_eq!(
                        q.push(v.clone()),
                        if full { Err(v) } else { Ok(()) },
                        "seed {seed}"
                    );
                    if !full {
                        twin.push_back(i);
                    }
                } else {
                    assert_eq!(q.pop().map(|b| *b), twin.pop_front(), "seed {seed}");
                }
                assert_eq!(q.len_hint(), twin.len(), "seed {seed}");
            }
        });
    }
}

#[test]
fn remaining_values_are_dropped() {
    let v = Arc::new(());
    let q = BoundedQueue::with_capacity(8, How::NoWait).unwrap();
    for _ in 0..5 {
        q.push(v.clone()).unwrap();
    }
    drop(q.pop());
    assert_eq!(Arc::strong_count(&v), 5);
    drop(q);
    assert_eq!(Arc::strong_count(&v), 1);
}

#[test]
fn producers_and_consumers() {
    const EACH: usize = 2;
    let n = rounds(50_000);
    let q = BoundedQueue::with_capacity(8, How::NoWait).unwrap();
    let q = &q;
    let mut all: Vec<(usize, usize)> = thread::scope(|s| {
        for producer in 0..EACH {
            s.spawn(move || {
                for i in 0..n {
                    let mut v = Box::new((producer, i));
                    while let Err(back) = q.push(v) {
                        v = back;
                        thread::yield_now();
                    }
                }
            });
        }
        let consumers = [(); EACH].map(|()| {
            s.spawn(move || {
                let mut got = Vec::new();
                while got.len() < n {
                    match q.pop() {
                        Some(v) => got.push(*v),
                        None => thread::yield_now(),
                    }
                }
                // What one consumer got from one producer is in order.
                for p in 0..EACH {
                    let of_one = got.iter().filter(|v| v.0 == p);
                    assert!(of_one.is_sorted_by(|a, b| a.1 < b.1));
                }
                got
            })
        });
        consumers
            .into_iter()
            .flat_map(|c| c.join().unwrap())
            .collect()
    });
    all.sort_unstable();
    assert!(
        all.into_iter()
            .eq((0..EACH).flat_map(|p| (0..n).map(move |i| (p, i))))
    );
    assert!(q.pop().is_none());
}
