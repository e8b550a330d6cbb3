// SPDX-License-Identifier: BSD-2-Clause
//! A shared heap value.

use core::fmt;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, offset_of};
use core::ops::Deref;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering, fence};

use crate::{AllocError, How, KBox};

/// At this many references the count is about to overflow: the value is never freed from then on.
const LIMIT: usize = usize::MAX / 2;
/// Where an overflowing count is put: far from zero and far from wrapping, whatever races with it.
const SATURATED: usize = LIMIT + LIMIT / 2;

/// A reference-counted value on the kernel heap, without weak references: the header is one word.
///
/// A count that would overflow saturates, and then the value is leaked: neither an abort nor a
/// use after free.
///
/// # Invariants
///
/// `ptr` points at a live `Shared` made by [`KArc::new_with`], and one of its counted references
/// belongs to this handle.
pub struct KArc<T> {
    ptr: NonNull<Shared<T>>,
    _owns: PhantomData<Shared<T>>,
}

#[repr(C)]
struct Shared<T> {
    refs: AtomicUsize,
    value: T,
}

// SAFETY: handles give `&T` on every thread that has one, hence `T: Sync`; the last one drops `T` on its
// own thread, hence `T: Send`.
unsafe impl<T: Send + Sync> Send for KArc<T> {}
// SAFETY: `&KArc<T>` can be cloned into a handle, so the same conditions apply.
unsafe impl<T: Send + Sync> Sync for KArc<T> {}

impl<T> KArc<T> {
    /// Moves `v` to the heap with one reference. On failure `v` is dropped.
    pub fn new(v: T, how: How<'_>) -> Result<Self, AllocError> {
        Self::new_with(how, || v)
    }

    /// Allocates first, then stores what `init` returns; see [`KBox::new_with`].
    pub fn new_with(how: How<'_>, init: impl FnOnce() -> T) -> Result<Self, AllocError> {
        let b = KBox::new_with(how, || Shared {
            refs: AtomicUsize::new(1),
            value: init(),
        })?;
        // SAFETY: a box's pointer is not null.
        let ptr = unsafe { NonNull::new_unchecked(KBox::into_raw(b)) };
        // INVARIANT: live, and the first reference is ours.
        Ok(Self {
            ptr,
            _owns: PhantomData,
        })
    }

    /// Whether both handles refer to the same value.
    #[must_use]
    pub fn ptr_eq(a: &Self, b: &Self) -> bool {
        ptr::addr_eq(a.ptr.as_ptr(), b.ptr.as_ptr())
    }

    /// Where the value is; valid while any handle exists.
    #[must_use]
    pub fn as_ptr(this: &Self) -> *const T {
        // Without a reference in between, so that the pointer may reach the whole allocation.
        // SAFETY: the offset of a field stays within the allocation.
        unsafe { &raw const (*this.ptr.as_ptr()).value }
    }

    /// The value, if no other handle exists.
    #[must_use]
    pub fn get_mut(this: &mut Self) -> Option<&mut T> {
        // Acquire: the other handles' uses came before their Release decrements.
        if this.shared().refs.load(Ordering::Acquire) != 1 {
            return None;
        }
        // SAFETY: the only reference is ours and `&mut` keeps it from being cloned meanwhile.
        Some(unsafe { &mut (*this.ptr.as_ptr()).value })
    }

    /// Moves the value out if this is the only handle, else gives the handle back.
    ///
    /// Two handles that try this at the same time may both fail; see [`KArc::into_inner`].
    pub fn try_unwrap(this: Self) -> Result<T, Self> {
        let this = ManuallyDrop::new(this);
        // Acquire: the other handles' uses came before their Release decrements. Relaxed on failure, as
        // nothing is concluded from that.
        match this
            .shared()
            .refs
            .compare_exchange(1, 0, Ordering::Acquire, Ordering::Relaxed)
        {
            // SAFETY: the count went from our one reference to zero by our hand alone.
            Ok(_) => Ok(unsafe { Self::take(this.ptr) }),
            Err(_) => Err(ManuallyDrop::into_inner(this)),
        }
    }

    /// Drops this handle; moves the value out if it was the last. When all handles end this way, exactly
    /// one of them gets the value, which a destructor that must not recurse can build on.
    #[must_use]
    pub fn into_inner(this: Self) -> Option<T> {
        let this = ManuallyDrop::new(this);
        if !this.release() {
            return None;
        }
        // SAFETY: the last reference was ours and is given up.
        Some(unsafe { Self::take(this.ptr) })
    }

    /// Gives up the handle but not its reference, for the argument of a C callback.
    #[must_use]
    pub fn into_raw(this: Self) -> *const T {
        let this = ManuallyDrop::new(this);
        Self::as_ptr(&this)
    }

    /// Takes back what [`KArc::into_raw`] gave up.
    ///
    /// To use such a pointer without taking it back, wrap the result in [`ManuallyDrop`].
    ///
    /// # Safety
    ///
    /// `p` came from [`KArc::into_raw`] of the same type and its reference was not taken back since.
    #[must_use]
    pub unsafe fn from_raw(p: *const T) -> Self {
        let shared = p
            .wrapping_byte_sub(offset_of!(Shared<T>, value))
            .cast_mut()
            .cast();
        // SAFETY: by the contract this is the pointer of a former handle, which is not null.
        let ptr = unsafe { NonNull::new_unchecked(shared) };
        // INVARIANT: the reference that the former handle owned is ours now.
        Self {
            ptr,
            _owns: PhantomData,
        }
    }

    fn shared(&self) -> &Shared<T> {
        // SAFETY: by the invariant it is live; others only share it, as `get_mut` needs a count of one.
        unsafe { self.ptr.as_ref() }
    }

    /// Gives up one reference; true if it was the last, and then all uses by others happened before.
    fn release(&self) -> bool {
        let refs = &self.shared().refs;
        // Release: our uses of the value come before its destruction by whoever is last.
        let old = refs.fetch_sub(1, Ordering::Release);
        if old != 1 {
            if old > LIMIT {
                refs.store(SATURATED, Ordering::Relaxed);
            }
            return false;
        }
        // Pairs with the Release decrements of the other handles.
        fence(Ordering::Acquire);
        true
    }

    /// Moves the value out and frees the memory.
    ///
    /// # Safety
    ///
    /// `p` is the pointer of a former handle, its count is zero, and the caller took the last reference.
    unsafe fn take(p: NonNull<Shared<T>>) -> T {
        // SAFETY: `new_with` got this pointer from `into_raw`; nobody refers to it any more.
        let b = unsafe { KBox::from_raw(p.as_ptr()) };
        KBox::into_inner(b).value
    }
}

impl<T> Clone for KArc<T> {
    fn clone(&self) -> Self {
        // Relaxed: this handle keeps the value alive, and whoever passes the new one on orders that.
        let refs = &self.shared().refs;
        if refs.fetch_add(1, Ordering::Relaxed) >= LIMIT {
            refs.store(SATURATED, Ordering::Relaxed);
        }
        // INVARIANT: live by `self`, and the reference just counted is the new handle's.
        Self {
            ptr: self.ptr,
            _owns: PhantomData,
        }
    }
}

impl<T> Drop for KArc<T> {
    fn drop(&mut self) {
        if self.release() {
            // SAFETY: the count is zero by our hand; `new_with` got this pointer from `into_raw`.
            drop(unsafe { KBox::from_raw(self.ptr.as_ptr()) });
        }
    }
}

impl<T> Deref for KArc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.shared().value
    }
}

impl<T> AsRef<T> for KArc<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: fmt::Debug> fmt::Debug for KArc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: PartialEq> PartialEq for KArc<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for KArc<T> {}

const _: () = assert!(size_of::<Shared<u64>>() == size_of::<u64>() + 8);
