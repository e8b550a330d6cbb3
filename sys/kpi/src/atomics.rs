// SPDX-License-Identifier: BSD-2-Clause
//! Atomics and cells that the loom model checker can take the place of.
//!
//! With `--cfg loom` the lock-free modules run under a checker that tries every interleaving and every
//! value that a weakly ordered machine may return. A check that never fails proves nothing, so the
//! protocols also have named weak spots: [`weak`] and [`mutant`] change nothing in a normal build, and in
//! a model they break one spot on request, and a test asserts that loom finds it.

#[cfg(loom)]
extern crate std;

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::cell::UnsafeCell;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{Ordering, fence};

/// One way to break a protocol, for models only.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// `Ticket::finish` does not publish the job.
    FinishRelaxed,
    /// The drainer does not acquire what `finish` published.
    TakeRelaxed,
    /// A push does not publish its node.
    LinkRelaxed,
    /// The drainer does not acquire the node that it finds in front.
    FirstRelaxed,
    /// The drainer does not acquire the node that it finds behind one that it removes.
    NextRelaxed,
    /// Successive pushes do not see each other.
    LastRelaxed,
    /// A call of `drain` neither publishes nor acquires.
    WakeRelaxed,
    /// The drainer does not acquire what came with the calls that make it look again.
    AgainRelaxed,
    /// The drainer leaves without looking for calls that came meanwhile.
    ForgetWakeups,
    /// The drainer lets go before what it collected is out.
    SettleLate,
    /// The drain right is given up without what was done under it.
    LeaveRelaxed,
    /// The drain right is parked without what was done under it.
    ParkRelaxed,
    /// The drain right is resumed without what was done under it.
    ResumeRelaxed,
    /// A dropped queue does not acquire the jobs that it drops.
    AbandonRelaxed,
    /// `push` does not publish the value.
    FillRelaxed,
    /// `pop` does not acquire the value.
    FullRelaxed,
    /// `pop` does not publish that it is done with the slot.
    DrainRelaxed,
    /// `push` does not acquire the slot.
    EmptyRelaxed,
    /// `pop` says that there is nothing without a fence.
    EmptyUnfenced,
    /// A worker is called without the job being published.
    CallRelaxed,
    /// A worker that comes takes the call for one that is yet to be answered.
    BeginLate,
    /// A worker takes its own jobs only.
    TakeOwn,
    /// `EpochCell` does not publish what it gets.
    SwapRelaxed,
    /// `EpochCell` does not acquire what it gives.
    LoadRelaxed,
    /// `EpochRef::upgrade` takes a reference that may be the first after the last.
    UpgradeBlind,
    /// A handle does not publish its uses when it goes.
    DropRelaxed,
    /// The last handle does not wait for the uses of the others.
    DropUnfenced,
}

/// Weakens `strong` to relaxed in the model of `spot`.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) const fn weak(_spot: Mutant, strong: Ordering) -> Ordering {
    strong
}

/// Whether this is the model of `spot`.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) const fn mutant(_spot: Mutant) -> bool {
    false
}

/// Whether this is the model of any [`Mutant`].
#[cfg(not(loom))]
#[inline(always)]
pub(crate) const fn broken() -> bool {
    false
}

/// A cell whose accesses a model can watch: loom's interface over the plain cell.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(v: T) -> Self {
        Self(core::cell::UnsafeCell::new(v))
    }

    /// Runs `f` with a pointer to read through.
    #[inline(always)]
    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get().cast_const())
    }

    /// Runs `f` with a pointer to read and write through.
    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

#[cfg(loom)]
mod model {
    use super::{Mutant, Ordering, std};
    use loom::sync::atomic as plain;
    use std::cell::Cell;
    use std::ops::Deref;

    /// Makes a loom atomic whose loads depend on each other.
    ///
    /// loom 0.7 remembers only the last access of an atomic. After "A loads, B loads, B stores" it has
    /// forgotten A's load and never tries the store before it, so races with code that looks before it
    /// writes go unseen. A relaxed swap on a second word before each load makes loom try both orders of
    /// the loads, and so reach the rest.
    macro_rules! atomic {
        ($name:ident $(<$p:ident>)?, $value:ty) => {
            #[derive(Debug)]
            pub(crate) struct $name $(<$p>)? {
                word: plain::$name $(<$p>)?,
                loads: plain::AtomicBool,
            }

            impl $(<$p>)? $name $(<$p>)? {
                pub(crate) fn new(v: $value) -> Self {
                    Self { word: plain::$name::new(v), loads: plain::AtomicBool::new(false) }
                }

                pub(crate) fn load(&self, order: Ordering) -> $value {
                    self.loads.swap(true, Ordering::Relaxed);
                    self.word.load(order)
                }
            }

            /// Everything but `load`.
            impl $(<$p>)? Deref for $name $(<$p>)? {
                type Target = plain::$name $(<$p>)?;

                fn deref(&self) -> &Self::Target {
                    &self.word
                }
            }
        };
    }

    atomic!(AtomicUsize, usize);
    atomic!(AtomicU8, u8);
    atomic!(AtomicPtr<T>, *mut T);

    std::thread_local! {
        // loom runs all threads of a model on the thread that called it.
        static SPOT: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Breaks `spot` in the models that the calling test runs from now on.
    #[allow(
        dead_code,
        reason = "called by the models; `kpi` itself is compiled for loom without them"
    )]
    pub(crate) fn set_mutant(spot: Option<Mutant>) {
        SPOT.with(|s| s.set(spot));
    }

    pub(crate) fn mutant(spot: Mutant) -> bool {
        SPOT.with(|s| s.get() == Some(spot))
    }

    pub(crate) fn broken() -> bool {
        SPOT.with(|s| s.get().is_some())
    }

    pub(crate) fn weak(spot: Mutant, strong: Ordering) -> Ordering {
        if mutant(spot) {
            Ordering::Relaxed
        } else {
            strong
        }
    }
}
#[cfg(loom)]
#[allow(unused_imports, reason = "`set_mutant`, as above")]
pub(crate) use model::{AtomicPtr, AtomicU8, AtomicUsize, broken, mutant, set_mutant, weak};
