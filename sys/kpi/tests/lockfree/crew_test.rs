// SPDX-License-Identifier: BSD-2-Clause
//! `Crew`: turns, room, workers that are late, and threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kpi_alloc::How;

use crate::crew::Crew;
use crate::{audited, rounds};

const PATIENCE: usize = 10;

fn crew(n: usize, jobs: usize) -> Crew<usize> {
    Crew::new(n, jobs, PATIENCE, How::NoWait).unwrap()
}

#[test]
fn a_worker_is_woken_once_until_it_comes() {
    audited(|_| {
        let c = crew(2, 4);
        assert_eq!(c.push(0, 1, 0), Ok(Some(0)));
        assert_eq!(c.push(0, 2, 0), Ok(None), "it will come");
        assert!(!c.call(0, 0));
        c.begin(0);
        assert_eq!(c.push(2, 3, 0), Ok(Some(0)), "modulo their number");
        assert_eq!(
            [c.take(0), c.take(0), c.take(0)],
            [Some(1), Some(2), Some(3)]
        );
        assert_eq!(c.take(0), None);
    });
}

#[test]
fn a_job_goes_to_the_next_with_room() {
    audited(|_| {
        let c = crew(3, 2);
        let woken: Vec<_> = (0..6).map(|job| c.push(1, job, 0)).collect();
        let one = |at| [Ok(Some(at)), Ok(None)];
        assert_eq!(woken, [one(1), one(2), one(0)].concat());
        assert!(!c.has_room(0));
        assert_eq!(c.push(1, 6, 0), Err(6), "all are full");
        assert_eq!(c.take(0), Some(4), "its own first");
        assert!(c.has_room(0));
        assert!(!c.is_free(0));
        assert_eq!(c.take(0), Some(5));
        assert!(c.is_free(3));
        // Then those of the others, from the next on.
        let rest: Vec<_> = std::iter::from_fn(|| c.take(0)).collect();
        assert_eq!(rest, [0, 1, 2, 3]);
    });
}

#[test]
fn one_that_is_late_gets_nothing_and_is_relieved() {
    audited(|_| {
        let c = crew(3, 4);
        assert!(!c.is_waiting());
        assert_eq!(c.push(0, 1, 100), Ok(Some(0)));
        assert!(c.is_waiting());
        assert_eq!(c.push(0, 2, 100 + PATIENCE), Ok(None), "not yet");
        assert_eq!(c.relieve(100 + PATIENCE), None);
        let late = 101 + PATIENCE;
        assert_eq!(c.push(0, 3, late), Ok(Some(1)), "the next one's");
        assert_eq!(c.relieve(late), Some(2), "1 has been called already");
        assert_eq!(c.relieve(late), None, "all have been");
        c.begin(2);
        assert_eq!(
            [c.take(2), c.take(2), c.take(2)],
            [Some(1), Some(2), Some(3)]
        );
        c.begin(1);
        assert_eq!(c.relieve(late), None, "nothing is left");
        // When all are late one has to take it.
        for at in 0..3 {
            c.begin(at);
            assert!(c.call(at, 0));
        }
        assert_eq!(c.push(1, 4, 200), Ok(None));
        assert_eq!(c.relieve(200), None);
        c.begin(1);
        assert_eq!(c.take(1), Some(4));
        // Times wrap.
        c.begin(0);
        assert!(c.call(0, usize::MAX));
        assert_eq!(c.push(0, 5, PATIENCE - 1), Ok(None));
        assert_eq!(c.push(0, 6, PATIENCE), Ok(Some(1)));
        assert_eq!([c.take(0), c.take(0)], [Some(5), Some(6)]);
    });
}

/// Producers and workers at once, one of whom never comes: each job is done once.
#[test]
fn on_threads() {
    const WORKERS: usize = 3;
    let total = rounds(20_000);
    audited(|account| {
        let c = crew(WORKERS, 8);
        let (woken, stop) = (
            [const { AtomicBool::new(false) }; WORKERS],
            AtomicBool::new(false),
        );
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|s| {
            for at in 1..WORKERS {
                let (c, woken, stop, done) = (&c, &woken, &stop, &done);
                s.spawn(move || {
                    let mut got = vec![];
                    loop {
                        let last = stop.load(Ordering::Acquire);
                        if woken[at].swap(false, Ordering::AcqRel) {
                            c.begin(at);
                            got.extend(std::iter::from_fn(|| c.take(at)));
                        } else if last {
                            break;
                        }
                        std::thread::yield_now();
                    }
                    done.lock().unwrap().extend(got);
                });
            }
            let producers: Vec<_> = (0..2)
                .map(|_| {
                    s.spawn(|| {
                        loop {
                            let job = next.fetch_add(1, Ordering::Relaxed);
                            if job >= total {
                                break;
                            }
                            let mut back = job;
                            loop {
                                // Time passes with the jobs, so that the one who does not come is late.
                                match c.push(job, back, job) {
                                    Ok(Some(at)) => break woken[at].store(true, Ordering::Release),
                                    Ok(None) => break,
                                    Err(job) => back = job,
                                }
                                std::thread::yield_now();
                            }
                        }
                    })
                })
                .collect();
            producers.into_iter().for_each(|p| p.join().unwrap());
            // The last jobs may be in the queue of the one who does not come.
            for (at, woken) in woken.iter().enumerate().skip(1) {
                if c.call(at, total) {
                    woken.store(true, Ordering::Release);
                }
            }
            stop.store(true, Ordering::Release);
        });
        let mut done = done.into_inner().unwrap();
        done.sort_unstable();
        assert!(
            done.iter().copied().eq(0..total),
            "{} of {total}",
            done.len()
        );
        let _ = account;
    });
}
