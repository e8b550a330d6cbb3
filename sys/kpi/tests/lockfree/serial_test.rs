// SPDX-License-Identifier: BSD-2-Clause
//! The serial queue: order, exactly-once delivery, limits, memory; alone and on threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use crate::serial::{Deliver, Drained, Serial, Ticket};
use crate::{Rng, audited, rounds};

fn drain_all(q: &Serial<u32>) -> (Vec<u32>, Drained) {
    let mut got = vec![];
    let why = q.drain(usize::MAX, |j| got.push(j));
    (got, why)
}

#[test]
fn the_finished_prefix_in_order() {
    audited(|_| {
        let q = Serial::new();
        assert_eq!(drain_all(&q), (vec![], Drained::Empty));
        let [mut a, b, c] = [1, 2, 3].map(|i| q.push(i).unwrap());
        assert_eq!((q.len(), *a), (3, 1));
        c.finish();
        assert_eq!(drain_all(&q), (vec![], Drained::Empty));
        *a = 10;
        a.finish();
        assert_eq!(drain_all(&q), (vec![10], Drained::Empty));
        drop(b);
        assert_eq!(drain_all(&q), (vec![2, 3], Drained::Empty));
        assert!(q.is_empty());
        q.push(4).unwrap().finish();
        assert_eq!(drain_all(&q), (vec![4], Drained::Empty));
    });
}

#[test]
fn limits_keep_the_right_until_resumed() {
    audited(|_| {
        let q = Serial::new();
        for i in 0..5 {
            q.push(i).unwrap().finish();
        }
        let mut got = vec![];
        assert_eq!(q.drain(0, |j| got.push(j)), Drained::Limit);
        assert_eq!(drain_all(&q), (vec![], Drained::Elsewhere));
        assert_eq!(q.resume(2, |j| got.push(j)), Drained::Limit);
        assert_eq!(drain_all(&q), (vec![], Drained::Elsewhere));
        q.push(5).unwrap().finish();
        assert_eq!(q.resume(4, |j| got.push(j)), Drained::Empty);
        assert_eq!(got, [0, 1, 2, 3, 4, 5]);
        // Nothing is parked: harmless.
        assert_eq!(q.resume(9, |j| got.push(j)), Drained::Elsewhere);
        q.push(6).unwrap().finish();
        assert_eq!(q.drain(1, |j| got.push(j)), Drained::Empty);
        assert_eq!(got.len(), 7);
        // Dropped while parked.
        q.push(7).unwrap().finish();
        assert_eq!(q.drain(0, |_| ()), Drained::Limit);
    });
}

/// Notes each delivery as it is and each settling as a bar.
struct Batches<'a>(&'a mut Vec<Option<u32>>);

impl Deliver<u32> for Batches<'_> {
    fn deliver(&mut self, job: u32) {
        self.0.push(Some(job));
    }

    fn settle(&mut self) {
        self.0.push(None);
    }
}

#[test]
fn batches_settle_before_the_right_goes() {
    audited(|_| {
        let q = Serial::new();
        for i in 0..3 {
            q.push(i).unwrap().finish();
        }
        let mut got = vec![];
        assert_eq!(q.drain(2, Batches(&mut got)), Drained::Limit);
        assert_eq!(q.drain(2, Batches(&mut got)), Drained::Elsewhere);
        assert_eq!(got, [Some(0), Some(1), None]);
        got.clear();
        assert_eq!(q.resume(2, Batches(&mut got)), Drained::Empty);
        // Settled, then woken by the call above, looked again and settled again.
        assert_eq!(got, [Some(2), None, None]);
    });
}

#[test]
fn delivery_may_push_and_drain() {
    audited(|_| {
        let q = Serial::new();
        q.push(3).unwrap().finish();
        let mut got = vec![];
        let why = q.drain(usize::MAX, |j| {
            got.push(j);
            if j > 0 {
                q.push(j - 1).unwrap().finish();
                assert_eq!(q.drain(usize::MAX, |_| ()), Drained::Elsewhere);
            }
        });
        assert_eq!((got, why), (vec![3, 2, 1, 0], Drained::Empty));
    });
}

#[test]
fn no_memory_gives_the_job_back() {
    audited(|account| {
        let q = Serial::new();
        account.fail_nth(1);
        assert!(q.push(Box::new(5_u8)).is_err_and(|job| *job == 5));
        assert_eq!(q.len(), 0);
        q.push(Box::new(6)).unwrap().finish();
        assert_eq!(
            q.drain(1, |job: Box<u8>| assert_eq!(*job, 6)),
            Drained::Empty
        );
    });
}

#[test]
fn the_queue_may_go_first() {
    audited(|_| {
        let v = Arc::new(());
        let q = Serial::new();
        let [a, b, c, d] = [(); 4].map(|()| q.push(v.clone()).unwrap());
        a.finish();
        c.finish();
        assert_eq!(q.drain(1, drop), Drained::Empty);
        assert_eq!(Arc::strong_count(&v), 4);
        drop(q);
        assert_eq!(Arc::strong_count(&v), 3);
        assert!(Arc::ptr_eq(&b, &v));
        b.finish();
        drop(d);
        assert_eq!(Arc::strong_count(&v), 1);
    });
}

#[test]
fn like_a_plain_queue() {
    for seed in 0..rounds(300) as u64 {
        audited(|_| {
            let mut rng = Rng(seed);
            let q = Serial::new();
            let mut twin: VecDeque<(u32, bool)> = VecDeque::new();
            let mut tickets: Vec<Ticket<u32>> = vec![];
            let mut parked = false;
            for i in 0..80 {
                match rng.below(4) {
                    0 | 1 => {
                        tickets.push(q.push(i).unwrap());
                        twin.push_back((i, false));
                    }
                    2 if !tickets.is_empty() => {
                        let t = tickets.swap_remove(rng.below(tickets.len() as u64) as usize);
                        twin.iter_mut()
                            .filter(|j| j.0 == *t)
                            .for_each(|j| j.1 = true);
                        t.finish();
                    }
                    _ => {
                        let limit = rng.below(4) as usize;
                        let mut got = vec![];
                        let why = if parked {
                            q.resume(limit, |j| got.push(j))
                        } else {
                            q.drain(limit, |j| got.push(j))
                        };
                        let mut want = vec![];
                        while want.len() < limit && twin.front().is_some_and(|j| j.1) {
                            want.extend(twin.pop_front().map(|j| j.0));
                        }
                        parked = twin.front().is_some_and(|j| j.1);
                        let expected = if parked {
                            Drained::Limit
                        } else {
                            Drained::Empty
                        };
                        assert_eq!((got, why), (want, expected), "seed {seed}");
                    }
                }
                assert_eq!(q.len(), twin.len(), "seed {seed}");
            }
        });
    }
}

/// Producers push in one agreed order; workers finish in any order and drain, some with a limit. In the
/// end, and without a further wake-up, everything is delivered once, in order.
#[test]
fn workers_on_threads() {
    const WORKERS: usize = 3;
    let n = rounds(30_000);
    let q = &Serial::<(usize, u64)>::new();
    let delivered = &Mutex::new(Vec::new());
    let (busy, order) = (&AtomicBool::new(false), &Mutex::new(0));
    let deliver = &|job| {
        assert!(
            !busy.swap(true, Ordering::Relaxed),
            "two contexts deliver at once"
        );
        delivered.lock().unwrap().push(job);
        busy.store(false, Ordering::Relaxed);
    };
    let pushed = &AtomicUsize::new(0);
    thread::scope(|s| {
        let (to, from): (Vec<_>, Vec<_>) = (0..WORKERS)
            .map(|_| mpsc::channel::<Ticket<(usize, u64)>>())
            .unzip();
        for (i, tickets) in from.into_iter().enumerate() {
            s.spawn(move || {
                for mut t in tickets {
                    t.1 = t.0 as u64 * 3;
                    t.finish();
                    let limit = if i == 0 { 2 } else { usize::MAX };
                    let mut why = q.drain(limit, deliver);
                    while why == Drained::Limit {
                        why = q.resume(limit, deliver);
                    }
                }
            });
        }
        for _ in 0..2 {
            let to = to.clone();
            s.spawn(move || {
                loop {
                    let i = {
                        let mut next = order.lock().unwrap();
                        let i = *next;
                        if i == n {
                            break;
                        }
                        *next += 1;
                        to[i % WORKERS].send(q.push((i, 0)).unwrap()).unwrap();
                        i
                    };
                    pushed.fetch_max(i + 1, Ordering::Relaxed);
                    if q.len() > 100 {
                        thread::yield_now();
                    }
                }
            });
        }
    });
    assert_eq!((q.len(), pushed.load(Ordering::Relaxed)), (0, n));
    let got = delivered.lock().unwrap();
    assert!(got.iter().copied().eq((0..n).map(|i| (i, i as u64 * 3))));
}
