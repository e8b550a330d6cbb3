// SPDX-License-Identifier: BSD-2-Clause
//! `Crew`: every job is done once, by whoever comes, and no call is lost.

use kpi_alloc::How;
use loom::sync::Arc;
use loom::thread;

use crate::atomics::Mutant;
use crate::crew::Crew;
use crate::{check, check_bites};

fn crew() -> Arc<Crew<u32>> {
    Arc::new(Crew::new(2, 2, 1000, How::NoWait).unwrap())
}

/// What a worker does that was woken.
fn come(crew: &Crew<u32>, at: usize, got: &mut Vec<u32>) {
    crew.begin(at);
    got.extend(core::iter::from_fn(|| crew.take(at)));
}

/// Two producers give a job each to one worker, and whoever is told to wake it does its work. A worker is not woken
/// twice at a time in a kernel; here it may be, which is harder.
fn one_worker() {
    let crew = crew();
    let side = |crew: Arc<Crew<u32>>, job| {
        move || {
            let mut got = vec![];
            if let Some(at) = crew.push(0, job, 0).unwrap() {
                come(&crew, at, &mut got);
            }
            got
        }
    };
    let other = thread::spawn(side(crew.clone(), 1));
    let mut got = side(crew.clone(), 2)();
    got.extend(other.join().unwrap());
    got.sort_unstable();
    assert_eq!(got, [1, 2], "left behind or doubled");
}

/// A job for a worker that never comes, then one for a worker that does: both are done.
fn one_of_two_workers() {
    let crew = crew();
    let producer = {
        let crew = crew.clone();
        thread::spawn(move || {
            let _never = crew.push(0, 1, 0).unwrap();
            crew.push(1, 2, 0).unwrap()
        })
    };
    // It is at work already when the jobs come.
    let mut got = vec![];
    come(&crew, 1, &mut got);
    if let Some(at) = producer.join().unwrap() {
        assert_eq!(at, 1);
        come(&crew, at, &mut got);
    }
    got.sort_unstable();
    assert_eq!(got, [1, 2], "left behind or doubled");
}

#[test]
fn no_call_is_lost() {
    check(3, one_worker);
}

#[test]
fn others_do_what_one_does_not() {
    check(3, one_of_two_workers);
}

#[test]
fn bites_calls() {
    for spot in [Mutant::CallRelaxed, Mutant::BeginLate] {
        check_bites(spot, &["left behind"], 3, one_worker);
    }
}

#[test]
fn bites_own_jobs_only() {
    check_bites(Mutant::TakeOwn, &["left behind"], 3, one_of_two_workers);
}
