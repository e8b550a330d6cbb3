// SPDX-License-Identifier: BSD-2-Clause
//! An owned heap value.

use core::borrow::{Borrow, BorrowMut};
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::{self, NonNull};

use zeroize::Zeroize;

use crate::{AllocError, How, raw};

/// An owned value on the kernel heap.
///
/// # Invariants
///
/// `ptr` points at an initialised value that this box alone owns. If the value's size is not zero, it
/// starts a block of the kernel allocator, also owned by this box.
pub struct KBox<T: ?Sized> {
    ptr: NonNull<T>,
    _owns: PhantomData<T>,
}

// SAFETY: a box is its value: nobody else has the pointer, and the allocator's blocks may be freed on
// any thread.
unsafe impl<T: ?Sized + Send> Send for KBox<T> {}
// SAFETY: `&KBox<T>` gives `&T` and nothing more.
unsafe impl<T: ?Sized + Sync> Sync for KBox<T> {}

impl<T> KBox<T> {
    /// Moves `v` to the heap. On failure `v` is dropped.
    pub fn new(v: T, how: How<'_>) -> Result<Self, AllocError> {
        Self::new_with(how, || v)
    }

    /// Allocates first, then stores what `init` returns. For a large value this lets the compiler build
    /// it in place, where [`KBox::new`] would need room for it on the kernel's small stack.
    pub fn new_with(how: How<'_>, init: impl FnOnce() -> T) -> Result<Self, AllocError> {
        // Owns the block while `init` runs, so that an unwinding host does not leak it.
        let room = crate::KVec::<T>::with_capacity(1, how)?;
        // Straight to its place: a push could fail, and would keep the value on the stack for that.
        // SAFETY: the vector has room for one value, or T has no size.
        unsafe { room.as_non_null().write(init()) };
        let room = ManuallyDrop::new(room);
        // INVARIANT: the vector's buffer is one block (or nothing, if `T` has no size), its first
        // element was just written, and the vector that owned both is forgotten.
        Ok(Self {
            ptr: room.as_non_null(),
            _owns: PhantomData,
        })
    }

    /// Moves the value out and frees the memory.
    #[must_use]
    pub fn into_inner(b: Self) -> T {
        let b = ManuallyDrop::new(b);
        // SAFETY: by the invariant the value is initialised and ours; the box is not dropped, so this is
        // the only time that it is moved out.
        let v = unsafe { b.ptr.read() };
        if size_of::<T>() != 0 {
            // SAFETY: by the invariant a sized value starts a block of ours; the value is out of it.
            unsafe { raw::free(b.ptr) };
        }
        v
    }
}

impl<T: ?Sized> KBox<T> {
    /// Gives up ownership of value and memory; [`KBox::from_raw`] takes them back.
    #[must_use]
    pub fn into_raw(b: Self) -> *mut T {
        ManuallyDrop::new(b).ptr.as_ptr()
    }

    /// Takes back what [`KBox::into_raw`] gave up.
    ///
    /// # Safety
    ///
    /// `p` came from [`KBox::into_raw`] of a box of the same type (or was unsized from there), is taken
    /// back once, and no other reference to the value is used after.
    #[must_use]
    pub unsafe fn from_raw(p: *mut T) -> Self {
        // SAFETY: `into_raw` returned a non-null pointer.
        let ptr = unsafe { NonNull::new_unchecked(p) };
        // INVARIANT: held for the box that was given up, and the caller returns that ownership.
        Self {
            ptr,
            _owns: PhantomData,
        }
    }
}

impl<T: ?Sized> Drop for KBox<T> {
    fn drop(&mut self) {
        // Asked before the drop: the size of a trait object is not to be read from a dead value.
        let sized = size_of_val(&**self) != 0;
        // SAFETY: by the invariant the value is initialised and ours, and this runs once.
        unsafe { ptr::drop_in_place(self.ptr.as_ptr()) };
        if sized {
            // SAFETY: by the invariant the value started a block of ours; the value is dead.
            unsafe { raw::free(self.ptr) };
        }
    }
}

impl<T: ?Sized> Deref for KBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: by the invariant the value is live; `&self` excludes mutation for the borrow.
        unsafe { self.ptr.as_ref() }
    }
}

impl<T: ?Sized> DerefMut for KBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: by the invariant the value is live and only ours; `&mut self` makes the borrow unique.
        unsafe { self.ptr.as_mut() }
    }
}

impl<T: ?Sized> AsRef<T> for KBox<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: ?Sized> AsMut<T> for KBox<T> {
    fn as_mut(&mut self) -> &mut T {
        self
    }
}

impl<T: ?Sized> Borrow<T> for KBox<T> {
    fn borrow(&self) -> &T {
        self
    }
}

impl<T: ?Sized> BorrowMut<T> for KBox<T> {
    fn borrow_mut(&mut self) -> &mut T {
        self
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for KBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + PartialEq> PartialEq for KBox<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: ?Sized + Eq> Eq for KBox<T> {}

/// So that `Zeroizing<KBox<_>>` works.
impl<Z: ?Sized + Zeroize> Zeroize for KBox<Z> {
    fn zeroize(&mut self) {
        (**self).zeroize();
    }
}
