// SPDX-License-Identifier: BSD-2-Clause
//! Fallible kernel allocation: [`KBox`], [`KVec`] and [`KArc`] over malloc(9).
//!
//! The `alloc` crate panics or aborts when memory runs out and does not know whether its caller may
//! sleep. Here every allocating call returns a [`Result`] and takes a [`How`]: sleeping for memory
//! needs a [`Sleepable`], which epochs, callouts and no-sleep tasks do not have.
//!
//! Nothing in this crate panics by itself (indexing through `Deref` to a slice is the caller's matter).
//! Freed memory is not wiped, also not the old buffer of a vector that grew: secrets wipe themselves,
//! and a vector of secrets gets its capacity before the first secret moves in.
#![no_std]

mod arc;
mod boxed;
mod raw;
mod vec;

use core::fmt;
use core::marker::PhantomData;

pub use arc::KArc;
pub use boxed::KBox;
pub use raw::MAX_ALIGN;
pub use vec::{IntoIter, KVec};

/// Proof that the running context may sleep.
///
/// Passed by reference down the call chain from the entry that knows its context (an ioctl, a cloner,
/// module load). It is neither `Send` nor `Sync`: the fact belongs to the thread that proved it.
///
/// A closure for an epoch section must be `Send` for that reason alone, so it cannot capture such a
/// reference. Under a lock nothing of the kind helps; the host kernel panics when somebody sleeps there.
#[derive(Debug)]
pub struct Sleepable(PhantomData<*mut ()>);

impl Sleepable {
    /// States that the caller may sleep.
    ///
    /// # Safety
    ///
    /// For as long as the value or a borrow of it is used, the current thread is outside of every
    /// epoch section, holds no non-sleepable lock (mtx, rw) and runs neither in a callout nor in an
    /// interrupt handler.
    #[must_use]
    pub const unsafe fn assume() -> Self {
        Self(PhantomData)
    }
}

/// What an allocation may do when memory is short. Both kinds can fail.
#[derive(Copy, Clone, Debug)]
pub enum How<'a> {
    /// Fail at once (`M_NOWAIT`); allowed in every context.
    NoWait,
    /// Sleep until there is memory (`M_WAITOK`). Sizes that the kernel refuses still fail.
    Wait(&'a Sleepable),
}

/// There was no memory, or the size asked for cannot exist. `ENOMEM` where an errno is needed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct AllocError;

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory")
    }
}

impl core::error::Error for AllocError {}
