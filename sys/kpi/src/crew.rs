// SPDX-License-Identifier: BSD-2-Clause
//! Jobs that are given to several workers in turn, and that any of them may do.
//!
//! Each worker has a queue of its own, so that those who give out jobs seldom meet. A worker that
//! has done its own takes those of others before it rests: one that gets no time on its CPU holds
//! nothing up. One that was called and has not come for long gets no more jobs until it does.
//!
//! ```text
//!               push, call                   begin
//!   resting ----------------> called ---------------------> at work --> resting
//!      ^                                                       |
//!      +------------- take, from all queues: nothing ----------+
//! ```

use core::fmt;

use kpi_alloc::{AllocError, How, KBox, KVec};

use crate::atomics::{AtomicU8, AtomicUsize, Mutant, Ordering, mutant, weak};
use crate::queue::BoundedQueue;

/// `called`: the worker will come, and will look at its queue after it has come.
const CALLED: u8 = 1;

/// The queues of some workers, who are numbered from 0.
///
/// # Invariants
///
/// Of a worker whose queue holds a job, `called` is set, or it is at work and has yet to find its queue
/// empty, or the one who pushed the job has yet to set it.
pub struct Crew<J> {
    workers: KBox<[Worker<J>]>,
    /// How late a worker is that gets no more jobs.
    patience: usize,
}

struct Worker<J> {
    jobs: BoundedQueue<J>,
    called: AtomicU8,
    /// When it was called. A hint: it is written after `called`.
    since: AtomicUsize,
}

impl<J> Crew<J> {
    /// `n` workers with room for `jobs` each. Times are in whatever unit the caller tells them;
    /// `patience` is the time after which a worker that was called counts as late.
    pub fn new(n: usize, jobs: usize, patience: usize, how: How<'_>) -> Result<Self, AllocError> {
        let mut workers = KVec::with_capacity(n, how)?;
        for _ in 0..n {
            let jobs = BoundedQueue::with_capacity(jobs, how)?;
            workers.try_push(
                Worker {
                    jobs,
                    called: AtomicU8::new(0),
                    since: AtomicUsize::new(0),
                },
                how,
            )?;
        }
        Ok(Self {
            workers: workers.into_boxed(),
            patience,
        })
    }

    /// Gives `job` to worker `first`, modulo their number, or to the next that has room and is not late, or, if there
    /// is none, to the next that has room; `Err` gives it back. A number that is returned is that of a worker who is to
    /// be woken, so that it does what [`Crew::begin`] says.
    #[must_use = "somebody may have to be woken"]
    pub fn push(&self, first: usize, job: J, now: usize) -> Result<Option<usize>, J> {
        let mut job = job;
        for with_late in [false, true] {
            for (at, worker) in self.after(first) {
                if !with_late && worker.is_late(now, self.patience) {
                    continue;
                }
                match worker.jobs.push(job) {
                    Ok(()) => return Ok(self.call(at, now).then_some(at)),
                    Err(back) => job = back,
                }
            }
        }
        Err(job)
    }

    /// Notes that worker `at` has to come. True if it is to be woken: it had not been called before.
    #[must_use = "somebody may have to be woken"]
    pub fn call(&self, at: usize, now: usize) -> bool {
        let Some(worker) = self.workers.get(at) else {
            return false;
        };
        // A read-modify-write here and in `begin`: one of them comes first. If this does, the worker finds
        // the job (release here, acquire there). If the other does, it is seen here that the worker must
        // be called again.
        let order = weak(Mutant::CallRelaxed, Ordering::AcqRel);
        if worker.called.swap(CALLED, order) == CALLED {
            return false;
        }
        worker.since.store(now, Ordering::Relaxed);
        true
    }

    /// Worker `at` has come. It [`Crew::take`]s jobs until there is none, or calls itself again.
    pub fn begin(&self, at: usize) {
        if let Some(worker) = self.workers.get(at)
            && !mutant(Mutant::BeginLate)
        {
            // See `call`. The fence of a pop that finds nothing would acquire, too.
            worker.called.swap(0, Ordering::AcqRel);
        }
    }

    /// A job for worker `at`: the oldest of its own, or else of the next worker that has one.
    #[must_use]
    pub fn take(&self, at: usize) -> Option<J> {
        let mut workers = self.after(at).map(|(_, worker)| &worker.jobs);
        if let Some(job) = workers.next().and_then(BoundedQueue::pop) {
            return Some(job);
        }
        if mutant(Mutant::TakeOwn) {
            return None;
        }
        // A look is enough, which costs less than a pop: what is overlooked now has a worker that was
        // called for it.
        workers
            .filter(|jobs| jobs.len_hint() != 0)
            .find_map(BoundedQueue::pop)
    }

    /// Somebody to be woken because another worker, who has jobs, is late.
    #[must_use = "somebody may have to be woken"]
    pub fn relieve(&self, now: usize) -> Option<usize> {
        let late =
            |worker: &Worker<J>| worker.jobs.len_hint() != 0 && worker.is_late(now, self.patience);
        let (first, _) = self.after(0).find(|(_, worker)| late(worker))?;
        self.after(first)
            .skip(1)
            .map(|(at, _)| at)
            .find(|at| self.call(*at, now))
    }

    /// Whether a worker has been called and has not come.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        let called = |worker: &Worker<J>| worker.called.load(Ordering::Relaxed) == CALLED;
        self.workers.iter().any(called)
    }

    /// Whether there is room for a job, as far as one can tell without taking it. Worker `first` is
    /// asked first.
    #[must_use]
    pub fn has_room(&self, first: usize) -> bool {
        self.after(first)
            .any(|(_, worker)| worker.jobs.len_hint() < worker.jobs.capacity())
    }

    /// Whether worker `at`, modulo their number, has no job, as far as one can tell.
    #[must_use]
    pub fn is_free(&self, at: usize) -> bool {
        self.after(at)
            .next()
            .is_some_and(|(_, worker)| worker.jobs.len_hint() == 0)
    }

    /// All workers from `first`, modulo their number.
    fn after(&self, first: usize) -> impl Iterator<Item = (usize, &Worker<J>)> {
        let at = first.checked_rem(self.workers.len()).unwrap_or(0);
        let (before, from) = self.workers.split_at_checked(at).unwrap_or((&[], &[]));
        let from = from
            .iter()
            .enumerate()
            .map(move |(i, w)| (at.wrapping_add(i), w));
        from.chain(before.iter().enumerate())
    }
}

impl<J> Worker<J> {
    fn is_late(&self, now: usize, patience: usize) -> bool {
        self.called.load(Ordering::Relaxed) == CALLED
            && now
                .wrapping_sub(self.since.load(Ordering::Relaxed))
                .cast_signed()
                > patience.cast_signed()
    }
}

impl<J> fmt::Debug for Crew<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew")
            .field("workers", &self.workers.len())
            .finish_non_exhaustive()
    }
}
