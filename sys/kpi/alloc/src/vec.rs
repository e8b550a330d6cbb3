// SPDX-License-Identifier: BSD-2-Clause
//! A growable array whose growth can fail.

use core::fmt;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ops::{Deref, DerefMut};
use core::ptr::{self, NonNull};
use core::{iter::FusedIterator, slice};

use zeroize::Zeroize;

use crate::{AllocError, How, KBox, raw};

/// A growable array on the kernel heap. Capacity doubles when it runs out and never shrinks.
///
/// # Invariants
///
/// - If `cap` is not zero, `ptr` starts a block of the kernel allocator with room for `cap` values,
///   owned by this vector. `cap` is zero for types without size and for vectors that own no block; then
///   `ptr` is dangling but aligned.
/// - The first `len` values are initialised and owned; `len <= self.capacity()`.
pub struct KVec<T> {
    ptr: NonNull<T>,
    cap: usize,
    len: usize,
    _owns: PhantomData<T>,
}

// SAFETY: a vector owns its elements and its block; blocks may be freed on any thread.
unsafe impl<T: Send> Send for KVec<T> {}
// SAFETY: `&KVec<T>` gives `&[T]` and nothing more.
unsafe impl<T: Sync> Sync for KVec<T> {}

impl<T> KVec<T> {
    /// An empty vector; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ptr: NonNull::dangling(),
            cap: 0,
            len: 0,
            _owns: PhantomData,
        }
    }

    /// An empty vector with room for exactly `n` values.
    pub fn with_capacity(n: usize, how: How<'_>) -> Result<Self, AllocError> {
        let ptr = raw::allocate::<T>(n, how)?;
        let cap = if size_of::<T>() == 0 { 0 } else { n };
        // INVARIANT: `allocate` made room for `n` values, and nothing at all if that is zero bytes.
        Ok(Self {
            ptr,
            cap,
            len: 0,
            _owns: PhantomData,
        })
    }

    /// How many values fit without another allocation.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        if size_of::<T>() == 0 {
            usize::MAX
        } else {
            self.cap
        }
    }

    /// Makes room for `n` more values. On failure nothing has changed.
    pub fn try_reserve(&mut self, n: usize, how: How<'_>) -> Result<(), AllocError> {
        let need = self.len.checked_add(n).ok_or(AllocError)?;
        if need <= self.capacity() {
            return Ok(());
        }
        // Doubling keeps pushes cheap on average; from 4, because the first pushes would else copy most.
        let cap = need.max(self.cap.saturating_mul(2)).max(4);
        let new = raw::allocate::<T>(cap, how)?;
        let len = self.len;
        // SAFETY: both blocks hold at least `len` values and are distinct, as the new one is fresh. The
        // old values are not dropped below, so they are moved, not duplicated.
        unsafe { ptr::copy_nonoverlapping(self.ptr.as_ptr(), new.as_ptr(), len) };
        let (old, old_cap) = (self.ptr, self.cap);
        // INVARIANT: the fresh block has room for `cap >= need` values, `len` of them initialised. `T`
        // has a size here, since otherwise the capacity would have sufficed.
        (self.ptr, self.cap) = (new, cap);
        if old_cap != 0 {
            // SAFETY: by the invariant this was our block; no field refers to it any more.
            unsafe { raw::free(old) };
        }
        Ok(())
    }

    /// Appends `v`. On failure `v` is dropped and the vector has not changed.
    pub fn try_push(&mut self, v: T, how: How<'_>) -> Result<(), AllocError> {
        self.try_reserve(1, how)?;
        self.push_within_capacity(v).map_err(|_| AllocError)
    }

    /// Appends `v` if that needs no allocation, else gives it back.
    pub fn push_within_capacity(&mut self, v: T) -> Result<(), T> {
        if self.len >= self.capacity() {
            return Err(v);
        }
        // SAFETY: `len` is less than the capacity, so this slot exists and holds no value.
        unsafe { self.ptr.add(self.len).write(v) };
        self.len = self.len.wrapping_add(1); // below the capacity: no overflow
        Ok(())
    }

    /// Appends every value of `iter`. On failure the values so far are kept, the rest of `iter` is lost.
    pub fn try_extend(
        &mut self,
        iter: impl IntoIterator<Item = T>,
        how: How<'_>,
    ) -> Result<(), AllocError> {
        let iter = iter.into_iter();
        self.try_reserve(iter.size_hint().0, how)?;
        for v in iter {
            self.try_push(v, how)?;
        }
        Ok(())
    }

    /// Removes and returns the last value.
    pub fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: the value was within `len` until just now: initialised, and now no longer ours.
        Some(unsafe { self.ptr.add(self.len).read() })
    }

    /// Drops all values from index `n` on. Nothing happens if there are not that many.
    pub fn truncate(&mut self, n: usize) {
        let Some(excess) = self.len.checked_sub(n) else {
            return;
        };
        self.len = n;
        // SAFETY: `n` and `excess` lie within the block.
        let tail = ptr::slice_from_raw_parts_mut(unsafe { self.ptr.add(n) }.as_ptr(), excess);
        // SAFETY: these values were initialised and are beyond `len` now, so nobody drops them again,
        // not even if one of their destructors unwinds.
        unsafe { ptr::drop_in_place(tail) };
    }

    /// Drops all values and keeps the capacity.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Removes the value at `i` and puts the last one in its place: O(1), order is lost.
    pub fn swap_remove(&mut self, i: usize) -> Option<T> {
        let last = self.len.checked_sub(1)?;
        if i > last {
            return None;
        }
        self.deref_mut().swap(i, last); // both are below `len`
        self.pop()
    }

    /// Removes the value at `i` and moves the later ones down.
    pub fn remove(&mut self, i: usize) -> Option<T> {
        let after = self.len.checked_sub(i)?.checked_sub(1)?;
        // SAFETY: `i < len`.
        let hole = unsafe { self.ptr.add(i) };
        // SAFETY: an initialised value of ours; its slot is overwritten or left beyond `len` below.
        let v = unsafe { hole.read() };
        // SAFETY: the `after` values behind `i` move down by one slot; the ranges lie within `len`.
        unsafe { ptr::copy(hole.as_ptr().wrapping_add(1), hole.as_ptr(), after) };
        self.len = self.len.wrapping_sub(1); // `i < len`, so it was not zero
        Some(v)
    }

    /// Puts `v` before the value at `i`; an `i` beyond the end appends. On failure `v` is dropped.
    pub fn insert(&mut self, i: usize, v: T, how: How<'_>) -> Result<(), AllocError> {
        self.try_push(v, how)?;
        // Rotating the new last value into place cannot go wrong half way.
        if let Some(tail) = self.get_mut(i..) {
            tail.rotate_right(usize::from(!tail.is_empty()));
        }
        Ok(())
    }

    /// Keeps the values for which `keep` says so, in order, and drops the others.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.retain_mut(|v| keep(v));
    }

    /// Like [`KVec::retain`], and `keep` may change the values.
    pub fn retain_mut(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        // Kept values are swapped to the front; every slot stays initialised all the time, so neither an
        // unwinding `keep` nor an unwinding destructor can do harm.
        let mut kept = 0_usize;
        for i in 0..self.len {
            let Some(v) = self.get_mut(i) else { break };
            if keep(v) {
                self.deref_mut().swap(kept, i); // kept <= i < len
                kept = kept.wrapping_add(1); // at most len
            }
        }
        self.truncate(kept);
    }

    /// The values as a slice.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        self
    }

    /// The values as a mutable slice.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        self
    }

    /// The slots behind the last value, for a caller that fills them and then calls
    /// [`KVec::set_len`]. Empty for types without size.
    pub fn spare_capacity_mut(&mut self) -> &mut [MaybeUninit<T>] {
        let spare = self.cap.saturating_sub(self.len);
        if spare == 0 {
            return &mut [];
        }
        // SAFETY: `len < cap`: within the block.
        let first = unsafe { self.ptr.add(self.len) };
        // SAFETY: `spare` slots from there to the end of the block, which `&mut self` owns alone;
        // `MaybeUninit` needs no initialised value.
        unsafe { slice::from_raw_parts_mut(first.as_ptr().cast(), spare) }
    }

    /// Says how many values are initialised.
    ///
    /// # Safety
    ///
    /// `n` is at most the capacity and the first `n` slots hold values that nobody else owns.
    pub unsafe fn set_len(&mut self, n: usize) {
        self.len = n;
    }

    /// The same values as a boxed slice. Needs no allocation: spare capacity stays with the block.
    #[must_use]
    pub fn into_boxed(self) -> KBox<[T]> {
        if self.len == 0 {
            // A box of zero bytes owns no block, so dropping the empty vector frees ours.
            drop(self);
            let none = ptr::slice_from_raw_parts_mut(NonNull::<T>::dangling().as_ptr(), 0);
            // SAFETY: an empty slice owns neither value nor block, so this is what a box that was
            // given up would have been.
            return unsafe { KBox::from_raw(none) };
        }
        let v = ManuallyDrop::new(self);
        let all = ptr::slice_from_raw_parts_mut(v.ptr.as_ptr(), v.len);
        // SAFETY: `len` initialised values at the start of our block (or of no block, if they have no
        // size), which the forgotten vector hands over.
        unsafe { KBox::from_raw(all) }
    }

    /// Where the first value is or would be.
    pub(crate) const fn as_non_null(&self) -> NonNull<T> {
        self.ptr
    }
}

impl<T: Copy> KVec<T> {
    /// A copy of `s`.
    pub fn from_slice(s: &[T], how: How<'_>) -> Result<Self, AllocError> {
        let mut v = Self::new();
        v.try_extend_from_slice(s, how)?;
        Ok(v)
    }

    /// Appends a copy of `s`. On failure nothing has changed.
    pub fn try_extend_from_slice(&mut self, s: &[T], how: How<'_>) -> Result<(), AllocError> {
        self.try_reserve(s.len(), how)?;
        // SAFETY: `len` is within the capacity.
        let end = unsafe { self.ptr.add(self.len) };
        // SAFETY: room for `s.len()` more values was just made sure of; `s` cannot overlap with slots
        // that `&mut self` owns alone.
        unsafe { ptr::copy_nonoverlapping(s.as_ptr(), end.as_ptr(), s.len()) };
        // INVARIANT: that many more are initialised; `try_reserve` checked that the sum exists.
        self.len = self.len.wrapping_add(s.len());
        Ok(())
    }

    /// Grows to `n` values by copies of `v`, or shrinks to `n`. On failure nothing has changed.
    pub fn try_resize(&mut self, n: usize, v: T, how: How<'_>) -> Result<(), AllocError> {
        self.truncate(n);
        self.try_reserve(n.saturating_sub(self.len), how)?;
        while self.len < n && self.push_within_capacity(v).is_ok() {}
        Ok(())
    }

    /// A copy of the whole vector.
    pub fn try_clone(&self, how: How<'_>) -> Result<Self, AllocError> {
        Self::from_slice(self, how)
    }
}

impl<T> Drop for KVec<T> {
    fn drop(&mut self) {
        self.clear();
        if self.cap != 0 {
            // SAFETY: by the invariant this is our block; its values are dead.
            unsafe { raw::free(self.ptr) };
        }
    }
}

impl<T> Deref for KVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: by the invariant `len` initialised values; `&self` excludes mutation for the borrow.
        unsafe { slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for KVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: by the invariant `len` initialised values; `&mut self` makes the borrow unique.
        unsafe { slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl<T> Default for KVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> AsRef<[T]> for KVec<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T> AsMut<[T]> for KVec<T> {
    fn as_mut(&mut self) -> &mut [T] {
        self
    }
}

impl<T: fmt::Debug> fmt::Debug for KVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: PartialEq> PartialEq for KVec<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for KVec<T> {}

impl<T> From<KVec<T>> for KBox<[T]> {
    fn from(v: KVec<T>) -> Self {
        v.into_boxed()
    }
}

impl<T> From<KBox<[T]>> for KVec<T> {
    fn from(b: KBox<[T]>) -> Self {
        let n = b.len();
        let cap = if size_of::<T>() == 0 { 0 } else { n };
        let p = KBox::into_raw(b).cast::<T>();
        // SAFETY: a box's pointer is not null.
        let ptr = unsafe { NonNull::new_unchecked(p) };
        // INVARIANT: the box owned `n` initialised values at the start of a block, or no block if they
        // are zero bytes, in which case `cap` is zero as well.
        Self {
            ptr,
            cap,
            len: n,
            _owns: PhantomData,
        }
    }
}

/// So that `Zeroizing<KVec<_>>` works: wipes the values, then the spare capacity, and empties the
/// vector. Buffers that the vector left behind when it grew are not reached.
impl<Z: Zeroize> Zeroize for KVec<Z> {
    fn zeroize(&mut self) {
        self.iter_mut().for_each(Zeroize::zeroize);
        self.clear();
        self.spare_capacity_mut().zeroize();
    }
}

impl<T> IntoIterator for KVec<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        let v = ManuallyDrop::new(self);
        // INVARIANT: the forgotten vector hands over its block and its first `len` values.
        IntoIter {
            ptr: v.ptr,
            cap: v.cap,
            next: 0,
            end: v.len,
            _owns: PhantomData,
        }
    }
}

impl<'a, T> IntoIterator for &'a KVec<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> slice::Iter<'a, T> {
        self.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut KVec<T> {
    type Item = &'a mut T;
    type IntoIter = slice::IterMut<'a, T>;

    fn into_iter(self) -> slice::IterMut<'a, T> {
        self.iter_mut()
    }
}

/// Moves the values out of a [`KVec`], first to last; dropping it drops the rest.
///
/// # Invariants
///
/// `ptr` and `cap` are as in [`KVec`]. The slots from `next` to `end` hold initialised, owned values.
pub struct IntoIter<T> {
    ptr: NonNull<T>,
    cap: usize,
    next: usize,
    end: usize,
    _owns: PhantomData<T>,
}

// SAFETY: owns values and block just as the vector did.
unsafe impl<T: Send> Send for IntoIter<T> {}
// SAFETY: `&IntoIter<T>` gives no access to values.
unsafe impl<T: Sync> Sync for IntoIter<T> {}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.next >= self.end {
            return None;
        }
        // SAFETY: `next < end`: within the block.
        let slot = unsafe { self.ptr.add(self.next) };
        self.next = self.next.wrapping_add(1); // at most `end`
        // SAFETY: the slot held an owned value until `next` moved past it.
        Some(unsafe { slot.read() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let n = self.end.saturating_sub(self.next);
        (n, Some(n))
    }
}

impl<T> DoubleEndedIterator for IntoIter<T> {
    fn next_back(&mut self) -> Option<T> {
        if self.next >= self.end {
            return None;
        }
        self.end = self.end.wrapping_sub(1); // was above `next`
        // SAFETY: `end` is within the block.
        let slot = unsafe { self.ptr.add(self.end) };
        // SAFETY: the slot held an owned value until `end` moved before it.
        Some(unsafe { slot.read() })
    }
}

impl<T> ExactSizeIterator for IntoIter<T> {}
impl<T> FusedIterator for IntoIter<T> {}

impl<T> Drop for IntoIter<T> {
    fn drop(&mut self) {
        self.for_each(drop);
        if self.cap != 0 {
            // SAFETY: by the invariant this is our block; all its values are moved out.
            unsafe { raw::free(self.ptr) };
        }
    }
}

impl<T> fmt::Debug for IntoIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoIter")
            .field("left", &self.len())
            .finish()
    }
}
