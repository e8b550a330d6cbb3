// SPDX-License-Identifier: BSD-2-Clause
//! `Serial`: exactly once, in order, whole, and never left behind.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::atomics::Mutant;
use crate::serial::{Deliver, Drained, Serial, Ticket};
use crate::{RACE, check, check_bites};

/// A job: its number, and what a worker made of it.
struct Job {
    number: u32,
    result: UnsafeCell<u32>,
}

fn job(number: u32) -> Job {
    Job {
        number,
        result: UnsafeCell::new(0),
    }
}

/// The queue and what it delivered. The log is a plain cell: loom fails if two contexts deliver at once
/// or one does not see what the other delivered.
struct World {
    q: Serial<Job>,
    log: UnsafeCell<Vec<u32>>,
}

// SAFETY: the model itself checks the accesses to the log.
unsafe impl Sync for World {}
// SAFETY: as above.
unsafe impl Send for World {}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            q: Serial::new(),
            log: UnsafeCell::new(vec![]),
        })
    }

    fn push(&self, number: u32) -> Ticket<Job> {
        self.q.push(job(number)).ok().expect("no memory")
    }

    fn deliver(&self, j: Job) {
        // SAFETY: checked by the model.
        let result = j.result.with(|r| unsafe { *r });
        assert_eq!(result, j.number * 3, "job {} is not whole", j.number);
        // SAFETY: checked by the model.
        self.log.with_mut(|log| unsafe { (*log).push(j.number) });
    }

    /// Works on a job, finishes it and drains, as every worker does.
    fn work(&self, t: Ticket<Job>, limit: usize) {
        // SAFETY: checked by the model.
        t.result.with_mut(|r| unsafe { *r = t.number * 3 });
        t.finish();
        self.drain(limit);
    }

    fn drain(&self, limit: usize) {
        let mut why = self.q.drain(limit, |j| self.deliver(j));
        while why == Drained::Limit {
            why = self.q.resume(limit, |j| self.deliver(j));
        }
    }

    /// After all is done and nobody calls any more: everything is delivered, in order.
    fn settled(&self, want: &[u32]) {
        // SAFETY: checked by the model.
        self.log
            .with(|log| unsafe { assert_eq!(*log, want, "left behind or out of order") });
        assert!(self.q.is_empty());
    }
}

/// Two workers finish while a producer pushes and finishes a third job.
fn workers_and_producer(limit: usize) {
    let w = World::new();
    let (a, b) = (w.push(1), w.push(2));
    let workers = [a, b].map(|t| {
        let w = w.clone();
        thread::spawn(move || w.work(t, limit))
    });
    let c = w.push(3);
    w.work(c, limit);
    for worker in workers {
        worker.join().unwrap();
    }
    w.settled(&[1, 2, 3]);
}

/// Two workers alone, in every interleaving with more preemptions.
fn two_workers(limit: usize) {
    let w = World::new();
    let (a, b) = (w.push(1), w.push(2));
    let worker = {
        let w = w.clone();
        thread::spawn(move || w.work(a, limit))
    };
    w.work(b, limit);
    worker.join().unwrap();
    w.settled(&[1, 2]);
}

/// The queue runs empty and is filled again, over and over, from two sides: the hard part of a linked
/// queue is its last node.
fn last_node() {
    let w = World::new();
    let other = {
        let w = w.clone();
        thread::spawn(move || {
            let t = w.push(1);
            w.work(t, 9);
        })
    };
    for _ in 0..2 {
        let t = w.push(1);
        w.work(t, 9);
    }
    other.join().unwrap();
    w.settled(&[1, 1, 1]);
}

/// A push overlaps with the delivery of its predecessor, and its ticket ends on a third thread.
fn handed_over() {
    let w = World::new();
    let a = w.push(1);
    let worker = {
        let w = w.clone();
        thread::spawn(move || w.work(a, 9))
    };
    let b = w.push(2);
    let third = {
        let w = w.clone();
        thread::spawn(move || w.work(b, 9))
    };
    worker.join().unwrap();
    third.join().unwrap();
    w.settled(&[1, 2]);
}

/// One context stops at its limit, and another resumes for it.
fn resumed_elsewhere() {
    let w = World::new();
    let (a, b) = (w.push(1), w.push(2));
    let worker = {
        let w = w.clone();
        thread::spawn(move || w.work(a, 1))
    };
    // SAFETY: checked by the model.
    b.result.with_mut(|r| unsafe { *r = 6 });
    b.finish();
    // May find nothing parked, or another context at it, or be the one that goes on.
    let mut why = w.q.resume(1, |j| w.deliver(j));
    while why == Drained::Limit {
        why = w.q.resume(1, |j| w.deliver(j));
    }
    w.drain(1);
    worker.join().unwrap();
    w.settled(&[1, 2]);
}

/// The queue goes while tickets are out: each job is dropped once, each node freed once (the books of
/// `check` see to that).
fn queue_goes_first() {
    let q = Arc::new(Serial::new());
    let drops = Arc::new(());
    let (a, b) = (
        q.push(drops.clone()).unwrap(),
        q.push(drops.clone()).unwrap(),
    );
    let worker = {
        let q = q.clone();
        thread::spawn(move || {
            b.finish();
            drop(q);
        })
    };
    drop(q);
    a.finish();
    worker.join().unwrap();
    assert_eq!(Arc::strong_count(&drops), 1);
}

/// Collects what is delivered and sends it on when told to settle.
struct Collector<'a>(&'a World, Vec<Job>);

impl Deliver<Job> for Collector<'_> {
    fn deliver(&mut self, job: Job) {
        self.1.push(job);
    }

    fn settle(&mut self) {
        for j in self.1.drain(..) {
            self.0.deliver(j);
        }
    }
}

/// Two workers that deliver in batches: the batches do not overtake each other.
fn collected(limit: usize) {
    let w = World::new();
    let (a, b) = (w.push(1), w.push(2));
    let side = move |w: &World, t: Ticket<Job>| {
        // SAFETY: checked by the model.
        t.result.with_mut(|r| unsafe { *r = t.number * 3 });
        t.finish();
        let mut why = w.q.drain(limit, Collector(w, vec![]));
        while why == Drained::Limit {
            why = w.q.resume(limit, Collector(w, vec![]));
        }
    };
    let worker = {
        let w = w.clone();
        thread::spawn(move || side(&w, a))
    };
    side(&w, b);
    worker.join().unwrap();
    w.settled(&[1, 2]);
}

/// As above, and the jobs that the queue drops were worked on elsewhere.
fn queue_goes_with_finished_jobs() {
    struct Noted(Job);

    impl Drop for Noted {
        fn drop(&mut self) {
            // SAFETY: checked by the model.
            let result = self.0.result.with(|r| unsafe { *r });
            assert_eq!(result, 5);
        }
    }

    // SAFETY: checked by the model.
    unsafe impl Send for Noted {}

    let q = Serial::new();
    let t = q.push(Noted(job(1))).ok().expect("no memory");
    let worker = thread::spawn(move || {
        // SAFETY: checked by the model.
        t.0.result.with_mut(|r| unsafe { *r = 5 });
        t.finish();
    });
    drop(q);
    worker.join().unwrap();
}

/// Two pushes, one behind the other, on two threads.
fn pushed_by_two() {
    let w = World::new();
    let other = {
        let w = w.clone();
        thread::spawn(move || {
            let t = w.push(1);
            w.work(t, 9);
        })
    };
    let t = w.push(1);
    w.work(t, 9);
    other.join().unwrap();
    w.settled(&[1, 1]);
}

#[test]
fn no_wakeup_is_lost() {
    check(3, || two_workers(9));
    check(2, || workers_and_producer(9));
}

#[test]
fn no_wakeup_is_lost_with_limits() {
    check(3, || two_workers(1));
    check(2, || workers_and_producer(1));
    check(3, resumed_elsewhere);
}

#[test]
fn the_last_node() {
    check(3, last_node);
    check(3, pushed_by_two);
    check(3, handed_over);
}

#[test]
fn batches_stay_in_order() {
    check(3, || collected(9));
    check(3, || collected(1));
}

#[test]
fn bites_late_batches() {
    check_bites(Mutant::SettleLate, &[RACE, "out of order"], 3, || {
        collected(9)
    });
}

#[test]
fn the_queue_may_go_first() {
    check(3, queue_goes_first);
    check(3, queue_goes_with_finished_jobs);
}

#[test]
fn bites_forgotten_wakeups() {
    check_bites(Mutant::ForgetWakeups, &["left behind"], 3, || {
        two_workers(9)
    });
}

#[test]
fn bites_unpublished_wakeups() {
    for spot in [Mutant::WakeRelaxed, Mutant::AgainRelaxed] {
        check_bites(spot, &[RACE, "left behind"], 3, || two_workers(9));
    }
}

#[test]
fn bites_unpublished_jobs() {
    for spot in [Mutant::FinishRelaxed, Mutant::TakeRelaxed] {
        check_bites(spot, &[RACE], 3, || two_workers(9));
    }
    check_bites(
        Mutant::AbandonRelaxed,
        &[RACE],
        3,
        queue_goes_with_finished_jobs,
    );
}

#[test]
fn bites_unpublished_nodes() {
    check_bites(Mutant::LinkRelaxed, &[RACE], 3, handed_over);
    check_bites(Mutant::FirstRelaxed, &[RACE], 3, pushed_by_two);
    check_bites(Mutant::NextRelaxed, &[RACE], 3, pushed_by_two);
    check_bites(
        Mutant::LastRelaxed,
        &[RACE, "left behind"],
        3,
        pushed_by_two,
    );
}

#[test]
fn bites_unpublished_drain_right() {
    check_bites(Mutant::LeaveRelaxed, &[RACE], 3, || two_workers(9));
    for spot in [Mutant::ParkRelaxed, Mutant::ResumeRelaxed] {
        check_bites(spot, &[RACE], 3, resumed_elsewhere);
    }
}
