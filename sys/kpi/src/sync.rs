// SPDX-License-Identifier: BSD-2-Clause
//! Locks around data.
//!
//! | type | kernel | waiting | holder may sleep |
//! |---|---|---|---|
//! | [`Mutex`] | `mtx(9)`, `MTX_DEF` | spins or blocks on a turnstile | no |
//! | [`RwLock`] | `rwlock(9)` | the same | no |
//! | [`SxLock`] | `sx(9)` | sleeps, hence `&Sleepable` | yes |
//!
//! None is recursive. The lock order is checked by WITNESS in the kernel and by `hostkern`
//! elsewhere, by the names given at creation.
//!
//! # Why a lock may be moved
//!
//! `new` returns the lock by value, so it is moved at least once after the kernel initialised it.
//! Nothing in the kernel keeps the address of a lock that nobody holds or waits for: initialising
//! fills in flags, the name and WITNESS's class record, which is found by name; turnstiles and
//! sleep queues are found by hashing the address while somebody waits; WITNESS lists a lock's
//! address while it is held. Whoever holds or waits borrows the Rust value (a guard, or `&self` in
//! the call), so a move can only happen in between. A leaked guard (`mem::forget`) leaves the lock
//! held for ever, an error that WITNESS reports when the thread leaves the kernel.

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use freebsd_kernel_sys as sys;
use kpi_alloc::{KBox, Sleepable};

/// Makes a guard `!Send`: the kernel wants a lock released by its taker.
type NotSend = PhantomData<*mut ()>;

macro_rules! guard {
    (
        $(#[$doc:meta])*
        $guard:ident of $lock:ident, unlock $unlock:ident $(, $mutable:ident)?
    ) => {
        $(#[$doc])*
        #[must_use = "the lock is released when the guard is dropped"]
        pub struct $guard<'a, T: ?Sized> {
            lock: &'a $lock<T>,
            _thread: NotSend,
        }

        // SAFETY: sharing the guard shares only `&T`.
        unsafe impl<T: ?Sized + Sync> Sync for $guard<'_, T> {}

        impl<T: ?Sized> Deref for $guard<'_, T> {
            type Target = T;
            fn deref(&self) -> &T {
                // SAFETY: the lock is held, so nobody else writes.
                unsafe { &*self.lock.data.get() }
            }
        }

        $(impl<T: ?Sized> $mutable for $guard<'_, T> {
            fn deref_mut(&mut self) -> &mut T {
                // SAFETY: the lock is held exclusively, and `&mut self` is the only way through
                // this guard.
                unsafe { &mut *self.lock.data.get() }
            }
        })?

        impl<T: ?Sized> Drop for $guard<'_, T> {
            fn drop(&mut self) {
                // SAFETY: taken by this thread (the guard cannot leave it), released once.
                unsafe { sys::$unlock(self.lock.raw.get()) };
            }
        }
    };
}

macro_rules! lock {
    ($(#[$doc:meta])* $lock:ident is $raw:ident, init $init:ident, destroy $destroy:ident) => {
        $(#[$doc])*
        pub struct $lock<T: ?Sized> {
            raw: UnsafeCell<sys::$raw>,
            data: UnsafeCell<T>,
        }

        // SAFETY: moving the lock moves the value; an unheld lock may be moved (module
        // documentation).
        unsafe impl<T: ?Sized + Send> Send for $lock<T> {}

        impl<T> $lock<T> {
            /// A free lock around `data`. `name` tells its class in the lock order: one name for
            /// locks that are never held together with another of the same name.
            pub fn new(name: &'static CStr, data: T) -> Self {
                // SAFETY: all-zero is a valid value of the structure: numbers and null pointers.
                let raw = UnsafeCell::new(unsafe { MaybeUninit::<sys::$raw>::zeroed().assume_init() });
                // SAFETY: zeroed memory that nobody else knows, and a static name.
                unsafe { sys::$init(raw.get(), name.as_ptr()) };
                Self { raw, data: UnsafeCell::new(data) }
            }

            /// Takes the data out.
            pub fn into_inner(self) -> T {
                let this = core::mem::ManuallyDrop::new(self);
                // SAFETY: owned, so neither held nor waited for; destroyed once, as `drop` does not
                // run.
                unsafe { sys::$destroy(this.raw.get()) };
                // SAFETY: read once, as `drop` does not run.
                unsafe { this.data.get().read() }
            }
        }

        impl<T: ?Sized> $lock<T> {
            /// The data, without locking: `&mut self` says that nobody else is there.
            pub fn get_mut(&mut self) -> &mut T {
                self.data.get_mut()
            }
        }

        impl<T: ?Sized> Drop for $lock<T> {
            fn drop(&mut self) {
                // SAFETY: initialised, and with `&mut self` neither held nor waited for.
                unsafe { sys::$destroy(self.raw.get()) };
            }
        }
    };
}

lock! {
    /// A mutex (`mtx(9)`, `MTX_DEF`). Any context but an interrupt filter; the holder must not
    /// sleep.
    Mutex is mtx, init kpi_mtx_init, destroy kpi_mtx_destroy
}

// SAFETY: the lock hands the value to one thread at a time.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the mutex and takes it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        // SAFETY: initialised; the guard releases it.
        unsafe { sys::kpi_mtx_lock(self.raw.get()) };
        MutexGuard {
            lock: self,
            _thread: PhantomData,
        }
    }

    /// Takes the mutex if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        // SAFETY: initialised; the guard releases it when it was taken.
        let taken = unsafe { sys::kpi_mtx_trylock(self.raw.get()) };
        // Made only then: a guard that is dropped releases.
        (taken != 0).then(|| MutexGuard {
            lock: self,
            _thread: PhantomData,
        })
    }
}

guard! {
    /// The right to use what a [`Mutex`] protects.
    MutexGuard of Mutex, unlock kpi_mtx_unlock, DerefMut
}

lock! {
    /// A reader/writer lock (`rwlock(9)`). Any context but an interrupt filter; the holder must not
    /// sleep.
    RwLock is rwlock, init kpi_rw_init, destroy kpi_rw_destroy
}

// SAFETY: many readers share `&T`, one writer has it alone.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

impl<T: ?Sized> RwLock<T> {
    /// Waits until there is no writer.
    pub fn read(&self) -> ReadGuard<'_, T> {
        // SAFETY: initialised; the guard releases it.
        unsafe { sys::kpi_rw_rlock(self.raw.get()) };
        ReadGuard {
            lock: self,
            _thread: PhantomData,
        }
    }

    /// Waits until there is nobody else.
    pub fn write(&self) -> WriteGuard<'_, T> {
        // SAFETY: initialised; the guard releases it.
        unsafe { sys::kpi_rw_wlock(self.raw.get()) };
        WriteGuard {
            lock: self,
            _thread: PhantomData,
        }
    }
}

guard! {
    /// The right to read what an [`RwLock`] protects.
    ReadGuard of RwLock, unlock kpi_rw_runlock
}
guard! {
    /// The right to change what an [`RwLock`] protects.
    WriteGuard of RwLock, unlock kpi_rw_wunlock, DerefMut
}

lock! {
    /// A shared/exclusive lock (`sx(9)`): waits by sleeping, and its holder may sleep.
    SxLock is sx, init kpi_sx_init, destroy kpi_sx_destroy
}

// SAFETY: many sharers share `&T`, one exclusive holder has it alone.
unsafe impl<T: ?Sized + Send + Sync> Sync for SxLock<T> {}

impl<T: ?Sized> SxLock<T> {
    /// Waits until there is no exclusive holder.
    pub fn read(&self, _cx: &Sleepable) -> SharedGuard<'_, T> {
        // SAFETY: initialised; may sleep: `_cx`; the guard releases it.
        unsafe { sys::kpi_sx_slock(self.raw.get()) };
        SharedGuard {
            lock: self,
            _thread: PhantomData,
        }
    }

    /// Waits until there is nobody else.
    pub fn write(&self, _cx: &Sleepable) -> ExclusiveGuard<'_, T> {
        // SAFETY: initialised; may sleep: `_cx`; the guard releases it.
        unsafe { sys::kpi_sx_xlock(self.raw.get()) };
        ExclusiveGuard {
            lock: self,
            _thread: PhantomData,
        }
    }
}

impl<T: ?Sized> SxLock<T> {
    /// Takes it exclusively if nobody holds it. Does not wait, so any context will do that a holder
    /// may be in.
    pub fn try_write(&self) -> Option<ExclusiveGuard<'_, T>> {
        // SAFETY: initialised; the guard releases it when it was taken.
        let taken = unsafe { sys::kpi_sx_try_xlock(self.raw.get()) };
        (taken != 0).then(|| ExclusiveGuard {
            lock: self,
            _thread: PhantomData,
        })
    }
}

guard! {
    /// The right to read what an [`SxLock`] protects.
    SharedGuard of SxLock, unlock kpi_sx_sunlock
}
guard! {
    /// The right to change what an [`SxLock`] protects.
    ExclusiveGuard of SxLock, unlock kpi_sx_xunlock, DerefMut
}

/// A value that is set once, later than its owner is made, and then stays as long as that.
///
/// # Invariants
///
/// `value` is null, or from [`KBox::into_raw`] and ours; it changes once, from the one to the other.
pub struct SetOnce<T> {
    value: AtomicPtr<T>,
    _owns: PhantomData<KBox<T>>,
}

// SAFETY: owns a `T`, which may move to another thread.
unsafe impl<T: Send> Send for SetOnce<T> {}
// SAFETY: lends `&T`, and takes a `T` from any thread, to be dropped on another.
unsafe impl<T: Send + Sync> Sync for SetOnce<T> {}

impl<T> SetOnce<T> {
    /// Without a value.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            value: AtomicPtr::new(ptr::null_mut()),
            _owns: PhantomData,
        }
    }

    /// The value, if it has been set. Any context.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        // Acquire: the value is seen whole.
        let value = self.value.load(Ordering::Acquire);
        // SAFETY: null, or a value that stays until `self` is dropped (type invariant).
        unsafe { value.as_ref() }
    }

    /// Sets the value, or gives it back if there is one.
    pub fn set(&self, value: KBox<T>) -> Result<(), KBox<T>> {
        let value = KBox::into_raw(value);
        let (null, order) = (ptr::null_mut(), Ordering::Release);
        match self
            .value
            .compare_exchange(null, value, order, Ordering::Relaxed)
        {
            Ok(_) => Ok(()),
            // SAFETY: from `into_raw` above, and nobody else has got it.
            Err(_) => Err(unsafe { KBox::from_raw(value) }),
        }
    }
}

impl<T> Default for SetOnce<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for SetOnce<T> {
    fn drop(&mut self) {
        let value = *self.value.get_mut();
        if !value.is_null() {
            // SAFETY: ours, from `into_raw` (type invariant); nobody has a reference any more.
            drop(unsafe { KBox::from_raw(value) });
        }
    }
}
