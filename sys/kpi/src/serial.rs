// SPDX-License-Identifier: BSD-2-Clause
//! Work that is done in any order, by any CPU, and delivered in the order of its arrival.
//!
//! # States of a node
//!
//! ```text
//!   push            Ticket::finish          drain            unlink
//! -------> PENDING ----------------> FINISHED ------> TAKEN --------> freed
//!             |                          |               |
//!             |          drop of the Serial itself       |
//!             v                          v               v
//!         ABANDONED --finish--> freed   freed          freed
//! ```
//!
//! # Why no wake-up is lost
//!
//! `wakeups` counts the calls of [`Serial::drain`] since the queue was last left. The one that raises it
//! from 0 serves the queue; the others leave at once. The server goes only by a compare-exchange from 1 to
//! 0, which fails if anyone has called since, and then it looks again. All of these are read-modify-write
//! operations on one word: they have one order that all CPUs agree on, and each sees everything that
//! those before it released. So a call either sees 0 and serves, or makes the server look again with what
//! the caller finished in sight. Acquire and release suffice; nothing here compares two words, which is
//! what would need sequential consistency.

use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};
use core::ptr::{self, NonNull};

use kpi_alloc::{How, KBox};

use crate::atomics::{
    AtomicPtr, AtomicU8, AtomicUsize, Mutant, Ordering, UnsafeCell, broken, mutant, weak,
};

/// In `wakeups`: the holder of the drain right stopped at its limit and will resume.
const PARKED: usize = 1 << (usize::BITS - 1);
/// Calls beyond so many in one round are not counted, so that the count stays out of `PARKED`.
const FLOOD: usize = 1 << (usize::BITS - 2);

/// The ticket is out; the job belongs to it.
const PENDING: u8 = 0;
/// The ticket is gone; the job belongs to the drainer.
const FINISHED: u8 = 1;
/// The job is delivered; the node is a placeholder.
const TAKEN: u8 = 2;
/// The queue is gone; node and job belong to the ticket.
const ABANDONED: u8 = 3;

/// A queue of jobs that are worked on concurrently and delivered in order.
///
/// `push` gives each job a place in the order and a [`Ticket`]. Whoever has the ticket works on the job, in
/// whatever order, finishes the ticket, and then calls [`Serial::drain`]. That delivers the jobs that are
/// finished from the front on. One context delivers at a time; the others leave it a note and go on.
///
/// # Invariants
///
/// - `last` is null, or the node that was pushed last. From `first`, following `next`, all nodes are reached in
///   the order of `push`, save those behind a push that has set `last` but not yet its predecessor's
///   `next` (or `first`, if it had no predecessor).
/// - The *drain right* is held by one context at most: by the one that raised `wakeups` from 0 or took
///   `PARKED` out of it, until it puts 0 or `PARKED` back. Only its holder reads `first`, takes jobs and frees
///   nodes. `first` is written by the holder, and by a push that found `last` null.
/// - A node is freed by the holder only when no push can still write its `next`.
pub struct Serial<J: Send> {
    first: AtomicPtr<Node<J>>,
    last: AtomicPtr<Node<J>>,
    wakeups: AtomicUsize,
    /// Nodes pushed and not yet taken.
    len: AtomicUsize,
}

struct Node<J> {
    next: AtomicPtr<Node<J>>,
    state: AtomicU8,
    /// Initialised in all states but `TAKEN`.
    job: UnsafeCell<MaybeUninit<J>>,
}

/// Why [`Serial::drain`] or [`Serial::resume`] returned.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Drained {
    /// No finished job is at the front. Whoever finishes the next one drains.
    Empty,
    /// Another context has the drain right and will see what this one finished.
    Elsewhere,
    /// As many jobs as allowed were delivered and at least one more is ready. The drain right stays taken:
    /// some context must call [`Serial::resume`], soon, or the queue stands still.
    Limit,
}

/// Where a [`Serial`] delivers to. A closure over a job is one that settles nothing.
pub trait Deliver<J> {
    /// The next job in order.
    fn deliver(&mut self, job: J);

    /// Called before another context may deliver: what was collected must go out now, or what that context delivers
    /// overtakes it.
    fn settle(&mut self) {}
}

impl<J, F: FnMut(J)> Deliver<J> for F {
    fn deliver(&mut self, job: J) {
        self(job);
    }
}

impl<J: Send> Serial<J> {
    /// An empty queue; allocates nothing.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            first: AtomicPtr::new(ptr::null_mut()),
            last: AtomicPtr::new(ptr::null_mut()),
            wakeups: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
        }
    }

    /// An empty queue (loom's atomics cannot be made in a constant).
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self {
            first: AtomicPtr::new(ptr::null_mut()),
            last: AtomicPtr::new(ptr::null_mut()),
            wakeups: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
        }
    }

    /// Appends `job`, or gives it back if there is no memory. Never sleeps; any context.
    ///
    /// The holder of the ticket finishes it and then calls [`Serial::drain`].
    pub fn push(&self, job: J) -> Result<Ticket<J>, J> {
        let node = Node {
            next: AtomicPtr::new(ptr::null_mut()),
            state: AtomicU8::new(PENDING),
            job: UnsafeCell::new(MaybeUninit::uninit()),
        };
        // The job is not moved in before there is memory, so that it can be given back.
        let Ok(node) = KBox::new(node, How::NoWait) else {
            return Err(job);
        };
        // SAFETY: nobody else knows the node yet.
        node.job.with_mut(|p| unsafe { (*p).write(job) });
        // SAFETY: a box's pointer is not null.
        let node = unsafe { NonNull::new_unchecked(KBox::into_raw(node)) };

        self.len.fetch_add(1, Ordering::Relaxed);
        // AcqRel: what the predecessor's push (or the drainer that set null) wrote comes before the write
        // below; and our node before that of our successor.
        let prev = self
            .last
            .swap(node.as_ptr(), weak(Mutant::LastRelaxed, Ordering::AcqRel));
        let link = match NonNull::new(prev) {
            None => &self.first,
            // SAFETY: the predecessor is alive: the drainer frees it only after it has seen `next` set,
            // which is ours to do, or has replaced it in `last`, and then we had not found it there.
            Some(prev) => unsafe { &(*prev.as_ptr()).next },
        };
        // Release: whoever finds the node finds it initialised.
        link.store(node.as_ptr(), weak(Mutant::LinkRelaxed, Ordering::Release));
        // INVARIANT: the node is PENDING and this is its only ticket.
        Ok(Ticket {
            node,
            _owns: PhantomData,
        })
    }

    /// How many jobs were pushed and not yet delivered; other contexts may change it meanwhile.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether [`Serial::len`] is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Delivers finished jobs from the front, in order, at most `limit` of them, unless another context is
    /// at it, which then does it. Any context that `to` may run in.
    ///
    /// `to` may push, finish and call `drain` (which returns [`Drained::Elsewhere`]). Deliveries of different
    /// calls are ordered, also those that [`Deliver::settle`] makes. Should `to` unwind (on a host), the drain right
    /// stays taken and the queue stands still.
    pub fn drain(&self, limit: usize, mut to: impl Deliver<J>) -> Drained {
        // Acquire: what the previous holder of the right did. Release: what our caller finished.
        let before = self
            .wakeups
            .fetch_add(1, weak(Mutant::WakeRelaxed, Ordering::AcqRel));
        if before == 0 {
            // INVARIANT: raised from 0, so the right is ours.
            return self.serve(limit, &mut to);
        }
        if before & !PARKED >= FLOOD {
            // The holder has more than enough to notice. Release, as above.
            self.wakeups.fetch_sub(1, Ordering::Release);
        }
        Drained::Elsewhere
    }

    /// Goes on after [`Drained::Limit`], in the same context or another. Where nothing was left to go on
    /// with, this does nothing and returns [`Drained::Elsewhere`].
    pub fn resume(&self, limit: usize, mut to: impl Deliver<J>) -> Drained {
        // Acquire: what the context that stopped at its limit did.
        let acquire = weak(Mutant::ResumeRelaxed, Ordering::AcqRel);
        if self.wakeups.fetch_and(!PARKED, acquire) & PARKED == 0 {
            return Drained::Elsewhere;
        }
        // INVARIANT: `PARKED` was taken out by us, so the right is ours.
        self.serve(limit, &mut to)
    }

    /// Delivers. Called with the drain right, which it gives up or parks.
    fn serve(&self, limit: usize, to: &mut impl Deliver<J>) -> Drained {
        let mut left = limit;
        loop {
            while let Some(head) = self.finished() {
                let Some(less) = left.checked_sub(1) else {
                    to.settle();
                    // INVARIANT: the right is parked. Release: for whoever resumes.
                    self.wakeups
                        .fetch_or(PARKED, weak(Mutant::ParkRelaxed, Ordering::Release));
                    return Drained::Limit;
                };
                left = less;
                // SAFETY: we have the right, and `head` is finished and at the front.
                to.deliver(unsafe { self.take(head) });
            }
            if !mutant(Mutant::SettleLate) {
                to.settle();
            }
            if mutant(Mutant::ForgetWakeups) {
                self.wakeups.store(0, Ordering::Release);
                return Drained::Empty;
            }
            // INVARIANT: if this succeeds the right is given up. Release: for the next holder.
            let release = weak(Mutant::LeaveRelaxed, Ordering::Release);
            match self
                .wakeups
                .compare_exchange(1, 0, release, Ordering::Relaxed)
            {
                Ok(_) => {
                    if mutant(Mutant::SettleLate) {
                        to.settle();
                    }
                    return Drained::Empty;
                }
                // Someone called since we began: look again. The count starts over from 1, so that it
                // cannot grow without bound. Acquire: what the callers finished, also those that came
                // after `n` was read (they stay counted and cost one more look).
                Err(n) => {
                    let acquire = weak(Mutant::AgainRelaxed, Ordering::Acquire);
                    self.wakeups.fetch_sub(n.wrapping_sub(1), acquire); // n > 1
                }
            }
        }
    }

    /// The node at the front, if it is finished. Called with the drain right.
    fn finished(&self) -> Option<NonNull<Node<J>>> {
        loop {
            // Acquire: the push's initialisation of the node.
            let head = NonNull::new(
                self.first
                    .load(weak(Mutant::FirstRelaxed, Ordering::Acquire)),
            )?;
            // SAFETY: a node that is linked is alive until a holder of the right unlinks it.
            let state = unsafe { &(*head.as_ptr()).state };
            // Acquire: the ticket's work on the job.
            match state.load(weak(Mutant::TakeRelaxed, Ordering::Acquire)) {
                FINISHED => return Some(head),
                // SAFETY: we have the right, and the node is at the front without a job.
                TAKEN if unsafe { self.unlink(head) } => {}
                // Pending, or a placeholder with a push in progress behind it. The holder of that push's
                // ticket is yet to call `drain`.
                _ => return None,
            }
        }
    }

    /// Moves the job out of the node at the front.
    ///
    /// # Safety
    ///
    /// The caller has the drain right; `head` is `first` and was seen `FINISHED` with Acquire.
    unsafe fn take(&self, head: NonNull<Node<J>>) -> J {
        // SAFETY: linked, hence alive.
        let node = unsafe { &*head.as_ptr() };
        // SAFETY: finished: the ticket is gone and the job is the drainer's, which moves it out once, as
        // the state changes next.
        let job = node.job.with(|p| unsafe { (*p).assume_init_read() });
        // Relaxed: only holders of the right look at it from here on.
        node.state.store(TAKEN, Ordering::Relaxed);
        self.len.fetch_sub(1, Ordering::Relaxed);
        // If a push is in progress behind it, the node stays for a later look.
        // SAFETY: we have the right, and the node is at the front without a job.
        let _gone = unsafe { self.unlink(head) };
        job
    }

    /// Removes and frees the node at the front, unless a push is in progress right behind it: waiting for
    /// that could take long, should the pushing thread be preempted.
    ///
    /// # Safety
    ///
    /// The caller has the drain right; `head` is `first` and `TAKEN`. If true is returned it is gone.
    unsafe fn unlink(&self, head: NonNull<Node<J>>) -> bool {
        // SAFETY: linked, hence alive. Acquire: the successor's initialisation.
        let next =
            unsafe { &(*head.as_ptr()).next }.load(weak(Mutant::NextRelaxed, Ordering::Acquire));
        self.first.store(next, Ordering::Relaxed);
        if next.is_null() {
            // `first` was set before: as soon as `last` is null, a push may write it. Release orders the
            // two for that push. Failure concludes nothing from the value.
            let (gone, null) = (head.as_ptr(), ptr::null_mut());
            if self
                .last
                .compare_exchange(gone, null, Ordering::Release, Ordering::Relaxed)
                .is_err()
            {
                // `last` is not null and stays so until a holder of the right has passed this node, so no
                // push writes `first` now.
                self.first.store(head.as_ptr(), Ordering::Relaxed);
                return false;
            }
        }
        if broken() {
            return true; // leaked, so that loom finds the missing order and not the freed memory
        }
        // SAFETY: `push` got the pointer from `into_raw`. No push writes `next` any more: either it was
        // done, or none finds the node in `last`. Its ticket is gone. So nobody refers to it. The job was
        // moved out; the box does not drop it.
        drop(unsafe { KBox::from_raw(head.as_ptr()) });
        true
    }
}

impl<J: Send> Default for Serial<J> {
    fn default() -> Self {
        Self::new()
    }
}

impl<J: Send> fmt::Debug for Serial<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serial")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<J: Send> Drop for Serial<J> {
    fn drop(&mut self) {
        // `&mut`: no push or drain is in progress, so all nodes are linked. Only tickets are still about.
        let mut next = self.first.load(Ordering::Relaxed);
        while let Some(node) = NonNull::new(next) {
            let state = {
                // SAFETY: alive: neither taken off nor abandoned yet.
                let node = unsafe { &*node.as_ptr() };
                // Before the state is changed: after that the ticket may free the node at any time.
                next = node.next.load(Ordering::Relaxed);
                // Acquire: the ticket's work. Release: our reading of `next`.
                node.state
                    .swap(ABANDONED, weak(Mutant::AbandonRelaxed, Ordering::AcqRel))
            };
            match state {
                // SAFETY: the ticket is gone and the job was not delivered: both are ours.
                FINISHED => unsafe { dispose(node) },
                // SAFETY: a placeholder, from `into_raw`, that only the queue knew.
                TAKEN => drop(unsafe { KBox::from_raw(node.as_ptr()) }),
                // The ticket will see to it.
                _ => {}
            }
        }
    }
}

/// Drops a node with its job.
///
/// # Safety
///
/// The job is initialised and nobody else refers to the node, now or later.
unsafe fn dispose<J>(node: NonNull<Node<J>>) {
    // SAFETY: `push` got the pointer from `into_raw`, and by the contract it is ours.
    let node = unsafe { KBox::from_raw(node.as_ptr()) };
    // SAFETY: initialised by the contract; the box does not drop it, so this is the only time.
    node.job.with_mut(|p| unsafe { (*p).assume_init_drop() });
}

/// The right to work on a job that has its place in a [`Serial`].
///
/// Finishing or dropping it hands the job to the queue as it is. It may outlive the queue.
///
/// # Invariants
///
/// `node` is alive; its state is `PENDING` or `ABANDONED`; this is its only ticket, so the job belongs to it.
#[must_use = "a dropped ticket counts as finished"]
pub struct Ticket<J: Send> {
    node: NonNull<Node<J>>,
    _owns: PhantomData<J>,
}

// SAFETY: a ticket is exclusive access to its job, which may move between threads; the rest of the node is
// atomic.
unsafe impl<J: Send> Send for Ticket<J> {}
// SAFETY: `&Ticket` gives `&J` and nothing more.
unsafe impl<J: Send + Sync> Sync for Ticket<J> {}

impl<J: Send> Ticket<J> {
    /// The job is done. Call [`Serial::drain`] next.
    pub fn finish(self) {}

    fn node(&self) -> &Node<J> {
        // SAFETY: alive by the invariant; others use only its atomics while the ticket exists.
        unsafe { &*self.node.as_ptr() }
    }
}

impl<J: Send> Drop for Ticket<J> {
    fn drop(&mut self) {
        // Release: the work on the job, for the drainer. Acquire: the end of the queue's uses, if it is
        // gone. Unless it is, the node is not touched after this: the drainer may free it at once.
        let order = weak(Mutant::FinishRelaxed, Ordering::AcqRel);
        if self.node().state.swap(FINISHED, order) == ABANDONED {
            // SAFETY: the queue gave the node up; the job was ours all the time.
            unsafe { dispose(self.node) };
        }
    }
}

impl<J: Send> Deref for Ticket<J> {
    type Target = J;

    fn deref(&self) -> &J {
        // SAFETY: the job is initialised and, by the invariant, this ticket's; `&self` shares it.
        self.node().job.with(|p| unsafe { (*p).assume_init_ref() })
    }
}

impl<J: Send> DerefMut for Ticket<J> {
    fn deref_mut(&mut self) -> &mut J {
        // SAFETY: the job is initialised and, by the invariant, this ticket's; `&mut self` is unique.
        self.node()
            .job
            .with_mut(|p| unsafe { (*p).assume_init_mut() })
    }
}

// A peer has two of these, most of them idle.
#[cfg(not(loom))]
const _: () = assert!(size_of::<Serial<KBox<u8>>>() <= 40);
