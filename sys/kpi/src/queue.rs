// SPDX-License-Identifier: BSD-2-Clause
//! A bounded queue without locks.

use core::fmt;
use core::mem::MaybeUninit;

use kpi_alloc::{AllocError, How, KBox, KVec};

use crate::atomics::{AtomicUsize, Mutant, Ordering, UnsafeCell, fence, mutant, weak};

/// Bytes between the two hot words: two cache lines, as some machines fetch lines in pairs. Padding and
/// not alignment, because the kernel's allocator does not align to lines.
const APART: usize = 128;

/// A first-in first-out ring of fixed capacity; any context may push and pop (after D. Vyukov).
///
/// A `push` that is interrupted between claiming its slot and filling it hides later values from `pop`
/// until it goes on. So **each** context pops after its own push, or wakes one that does, until there is
/// nothing; then no value is left behind: of several that overlap, one finds all slots filled.
///
/// # Invariants
///
/// With `n` slots and a slot at index `i`, for the positions `p` with `p % n == i` in turn: `seq == p`
/// says that the slot is empty and belongs to whoever moves `tail` from `p` to `p + 1`;
/// `seq == p + 1` says that it holds a value and belongs to whoever moves `head` from `p` to `p + 1`.
/// The number of slots is a power of two and at least 2 (with one slot, "full at `p`" and "empty at
/// `p + 1`" would look the same).
#[repr(C)]
pub struct BoundedQueue<T> {
    /// Position of the next pop.
    head: AtomicUsize,
    _apart: [u8; APART],
    /// Position of the next push.
    tail: AtomicUsize,
    _apart_too: [u8; APART],
    slots: KBox<[Slot<T>]>,
    /// Number of slots less one.
    mask: usize,
}

struct Slot<T> {
    seq: AtomicUsize,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: values move from one context to another, hence `T: Send`; no two contexts refer to the same
// value, as a slot belongs to one at a time (type invariant).
unsafe impl<T: Send> Send for BoundedQueue<T> {}
// SAFETY: as above; all shared access is to atomics and to slots that were claimed.
unsafe impl<T: Send> Sync for BoundedQueue<T> {}

impl<T> BoundedQueue<T> {
    /// An empty queue for at least `n` values; the capacity is the next power of two, at least 2.
    pub fn with_capacity(n: usize, how: How<'_>) -> Result<Self, AllocError> {
        let n = n.max(2).checked_next_power_of_two().ok_or(AllocError)?;
        let mut slots = KVec::with_capacity(n, how)?;
        // INVARIANT: every slot is empty and at its first position.
        slots.try_extend(
            (0..n).map(|i| Slot {
                seq: AtomicUsize::new(i),
                value: UnsafeCell::new(MaybeUninit::uninit()),
            }),
            how,
        )?;
        Ok(Self {
            head: AtomicUsize::new(0),
            _apart: [0; APART],
            tail: AtomicUsize::new(0),
            _apart_too: [0; APART],
            slots: slots.into_boxed(),
            mask: n.wrapping_sub(1), // at least 2
        })
    }

    /// How many values fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Appends `v`, or gives it back if the queue is full.
    pub fn push(&self, v: T) -> Result<(), T> {
        let mut pos = self.tail.load(Ordering::Relaxed);
        loop {
            let Some(slot) = self.slots.get(pos & self.mask) else {
                return Err(v);
            };
            // Acquire: the pop that emptied the slot is done with it.
            let seq = slot.seq.load(weak(Mutant::EmptyRelaxed, Ordering::Acquire));
            match distance(seq, pos) {
                0 => match self.claim(&self.tail, pos) {
                    Ok(()) => {
                        // SAFETY: empty at `pos`, and the claim made it ours (type invariant).
                        slot.value.with_mut(|p| unsafe { (*p).write(v) });
                        // Release: whoever sees the slot full sees the value.
                        slot.seq.store(
                            pos.wrapping_add(1),
                            weak(Mutant::FillRelaxed, Ordering::Release),
                        );
                        return Ok(());
                    }
                    Err(now) => pos = now,
                },
                // Still holds the value of one round ago.
                d if d < 0 => return Err(v),
                // Another push has been here.
                _ => pos = self.tail.load(Ordering::Relaxed),
            }
        }
    }

    /// Takes the oldest value. None if there is none, or if the oldest is not complete yet.
    pub fn pop(&self) -> Option<T> {
        let mut pos = self.head.load(Ordering::Relaxed);
        let mut fenced = mutant(Mutant::EmptyUnfenced);
        loop {
            let slot = self.slots.get(pos & self.mask)?;
            // Acquire: the value that filled the slot is visible.
            let seq = slot.seq.load(weak(Mutant::FullRelaxed, Ordering::Acquire));
            match distance(seq, pos.wrapping_add(1)) {
                0 => match self.claim(&self.head, pos) {
                    Ok(()) => {
                        // SAFETY: full at `pos`, and the claim made it ours (type invariant); the
                        // value counts as moved out from here on.
                        let v = slot.value.with(|p| unsafe { (*p).assume_init_read() });
                        // Release: the push of the next round does not overtake the read.
                        slot.seq.store(
                            pos.wrapping_add(self.mask).wrapping_add(1),
                            weak(Mutant::DrainRelaxed, Ordering::Release),
                        );
                        return Some(v);
                    }
                    Err(now) => pos = now,
                },
                // Not filled yet in this round.
                d if d < 0 && fenced => return None,
                // Two contexts that have each filled a slot and now look at the other's must not both
                // see the past. This is the one pattern (a store, then a load of another word) that
                // acquire and release do not order, and even x86 does not. The price is paid only
                // where there is nothing to do.
                d if d < 0 => {
                    fence(Ordering::SeqCst);
                    fenced = true;
                    pos = self.head.load(Ordering::Relaxed);
                }
                // Another pop has been here.
                _ => pos = self.head.load(Ordering::Relaxed),
            }
        }
    }

    /// About how many values there are: exact when nobody pushes or pops meanwhile.
    #[must_use]
    pub fn len_hint(&self) -> usize {
        // Head first: read the other way round, pops in between could make the difference negative.
        let head = self.head.load(Ordering::Relaxed);
        let n = distance(self.tail.load(Ordering::Relaxed), head);
        usize::try_from(n).unwrap_or(0).min(self.capacity())
    }

    /// Moves `end` on from `pos`, or says where it is now.
    ///
    /// Relaxed: what the slot's owners tell each other goes through its `seq`.
    fn claim(&self, end: &AtomicUsize, pos: usize) -> Result<(), usize> {
        let next = pos.wrapping_add(1);
        end.compare_exchange_weak(pos, next, Ordering::Relaxed, Ordering::Relaxed)
            .map(drop)
    }
}

/// `a - b` of two positions, which wrap and are never further apart than half of their range.
const fn distance(a: usize, b: usize) -> isize {
    a.wrapping_sub(b).cast_signed()
}

impl<T> Drop for BoundedQueue<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

impl<T> fmt::Debug for BoundedQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedQueue")
            .field("len", &self.len_hint())
            .field("capacity", &self.capacity())
            .finish()
    }
}
