// SPDX-License-Identifier: BSD-2-Clause
//! The network epoch: reading shared data without locks, and freeing it when no reader is left.
//!
//! A thread inside the epoch may use whatever it found there until it leaves. The kernel's tracker of such a
//! section is linked into a per-CPU list by its address, so a guard value that can be moved or
//! forgotten would be unsound: a section is a call with a closure.
//!
//! What is reclaimed through the epoch runs code of this module later. Before the module's text goes
//! away, [`epoch_drain_callbacks`] must have returned with nothing left that could be reclaimed after it.

use core::fmt;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit, offset_of};
use core::ops::Deref;
use core::ptr::{self, NonNull};

use freebsd_kernel_sys as sys;
use kpi_alloc::{AllocError, How, KBox, Sleepable};

use crate::atomics::{AtomicPtr, AtomicUsize, Mutant, Ordering, UnsafeCell, fence, mutant, weak};

/// Proof that the running thread is inside the network epoch.
///
/// Found only behind a reference whose lifetime is that of the section, and neither `Send` nor `Sync`:
/// it cannot leave the section or the thread.
///
/// ```compile_fail
/// let escaped = kpi::epoch::net_epoch(|e| e);
/// ```
///
/// ```compile_fail
/// fn both<T: Send + Sync>() {}
/// both::<kpi::epoch::Epoch>();
/// ```
#[derive(Debug)]
pub struct Epoch(PhantomData<*mut ()>);

/// Runs `f` inside the network epoch. Sections nest. Any context; `f` must not sleep, but it may take a `mtx`
/// or a `rw` lock.
///
/// Nothing borrowed from the section can be returned:
///
/// ```compile_fail
/// use kpi::epoch::{EpochCell, net_epoch};
/// let cell = EpochCell::<u32>::empty();
/// let stale = net_epoch(|e| cell.load(e));
/// ```
///
/// Nor can it sleep by a proof from outside. `Send` is how the compiler is told: `f` does not go to
/// another thread, but a reference to a [`Sleepable`], and what holds one, is among the few things that
/// are not `Send` (others are raw pointers and guards of locks, which a section may borrow through).
///
/// ```compile_fail
/// use kpi::Sleepable;
/// use kpi::epoch::{epoch_wait, net_epoch};
/// fn waits_for_itself(cx: &Sleepable) {
///     net_epoch(|_| epoch_wait(cx));
/// }
/// ```
///
/// ```compile_fail
/// use kpi::epoch::net_epoch;
/// use kpi::{How, KBox};
/// fn sleeps_for_memory(how: How<'_>) {
///     net_epoch(|_| KBox::new(1u8, how).is_ok());
/// }
/// ```
///
/// ```
/// use kpi::epoch::net_epoch;
/// use kpi::{How, KBox};
/// fn does_not_sleep(number: &u8) {
///     net_epoch(|_| KBox::new(*number, How::NoWait).is_ok());
/// }
/// ```
pub fn net_epoch<R>(f: impl for<'e> FnOnce(&'e Epoch) -> R + Send) -> R {
    section(f)
}

/// [`net_epoch`] for this crate, where closures have raw pointers: they must not have a [`Sleepable`].
pub(crate) fn section<R>(f: impl for<'e> FnOnce(&'e Epoch) -> R) -> R {
    /// Leaves the section also when `f` unwinds on a host.
    struct Leave(*mut sys::epoch_tracker);

    impl Drop for Leave {
        fn drop(&mut self) {
            // SAFETY: the tracker was entered by this thread and not left since; it has not moved.
            unsafe { sys::_epoch_exit_preempt(net(), self.0) };
        }
    }

    let mut tracker = MaybeUninit::uninit();
    let tracker = tracker.as_mut_ptr();
    // SAFETY: the tracker lives in this frame, is only used through this pointer, and `Leave`, dropped
    // before the frame ends, unlinks it. Enter initialises it.
    unsafe { sys::_epoch_enter_preempt(net(), tracker) };
    let _leave = Leave(tracker);
    f(&Epoch(PhantomData))
}

/// Runs `f` with the proof that the kernel has entered the network epoch already, as it does before it calls
/// `if_output` or a UDP tunnel's input.
///
/// # Safety
///
/// The current thread is inside the network epoch and stays there until this returns.
pub unsafe fn in_net_epoch<R>(f: impl for<'e> FnOnce(&'e Epoch) -> R) -> R {
    f(&Epoch(PhantomData))
}

/// Waits until every section that was running when this was called has ended. Sleeps.
pub fn epoch_wait(_cx: &Sleepable) {
    // SAFETY: the token proves that we may sleep, and so that we are in no section ourselves.
    unsafe { sys::epoch_wait_preempt(net()) };
}

/// Waits until everything that was given up for reclaiming before this was called is reclaimed. Sleeps.
///
/// If a reclaimed value's destructor gives up further values, those need another call.
pub fn epoch_drain_callbacks(_cx: &Sleepable) {
    // SAFETY: the token proves that we may sleep, and so that we are in no section ourselves.
    unsafe { sys::epoch_drain_callbacks(net()) };
}

fn net() -> *mut sys::epoch {
    // Miri cannot read a variable of another object; the host's epoch functions do not look at it.
    if cfg!(miri) {
        return ptr::null_mut();
    }
    // SAFETY: set once while the kernel boots, before any module runs.
    unsafe { sys::net_epoch_preempt }
}

/// At this many references the count is about to overflow: the value is never freed from then on.
const LIMIT: usize = usize::MAX / 2;
/// Where an overflowing count is put: far from zero and far from wrapping, whatever races with it.
const SATURATED: usize = LIMIT + LIMIT / 2;

/// A reference-counted value that outlives its last reference by an epoch.
///
/// When the last reference goes, the value's destructor and the freeing of its memory are left to the
/// epoch (`epoch_call`), so an [`EpochRef`] stays valid to the end of its section. References may be
/// dropped in any context. The destructor runs in a task of the kernel, where it must not sleep.
///
/// # Invariants
///
/// `ptr` points at a `Shared` made by [`EpochArc::new_with`] and not yet given to `epoch_call`, and one of its
/// counted references belongs to this handle.
pub struct EpochArc<T: Send + Sync + 'static> {
    ptr: NonNull<Shared<T>>,
    _owns: PhantomData<Shared<T>>,
}

#[repr(C)]
struct Shared<T> {
    /// For `epoch_call`; unused until the count is zero. First, so that its address is the value's.
    context: UnsafeCell<MaybeUninit<sys::epoch_context>>,
    refs: AtomicUsize,
    value: T,
}

// SAFETY: handles give `&T` on every thread that has one, hence `T: Sync`; the destructor runs on a thread of
// the kernel, hence `T: Send` and `'static`.
unsafe impl<T: Send + Sync> Send for EpochArc<T> {}
// SAFETY: `&EpochArc<T>` can be cloned into a handle, so the same conditions apply.
unsafe impl<T: Send + Sync> Sync for EpochArc<T> {}

impl<T: Send + Sync + 'static> EpochArc<T> {
    /// Moves `v` to the heap with one reference. On failure `v` is dropped.
    pub fn new(v: T, how: How<'_>) -> Result<Self, AllocError> {
        Self::new_with(how, || v)
    }

    /// Allocates first, then stores what `init` returns; see [`KBox::new_with`].
    pub fn new_with(how: How<'_>, init: impl FnOnce() -> T) -> Result<Self, AllocError> {
        let b = KBox::new_with(how, || Shared {
            context: UnsafeCell::new(MaybeUninit::uninit()),
            refs: AtomicUsize::new(1),
            value: init(),
        })?;
        // SAFETY: a box's pointer is not null.
        let ptr = unsafe { NonNull::new_unchecked(KBox::into_raw(b)) };
        // INVARIANT: fresh, and the first reference is ours.
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

    /// A reference for this section that does not borrow the handle.
    #[must_use]
    pub fn pin<'e>(this: &Self, _e: &'e Epoch) -> EpochRef<'e, T> {
        // INVARIANT: the handle keeps the value for now; whenever the last one goes, this section has
        // begun before, and the value waits for its end.
        EpochRef {
            ptr: this.ptr,
            _section: PhantomData,
        }
    }

    /// Where the value is; valid while any handle exists.
    #[must_use]
    pub fn as_ptr(this: &Self) -> *const T {
        // Without a reference in between, so that the pointer may reach the whole allocation.
        // SAFETY: the offset of a field stays within the allocation.
        unsafe { &raw const (*this.ptr.as_ptr()).value }
    }

    /// Gives up the handle but not its reference, for the argument of a C callback.
    #[must_use]
    pub fn into_raw(this: Self) -> *const T {
        let this = ManuallyDrop::new(this);
        Self::as_ptr(&this)
    }

    /// Takes back what [`EpochArc::into_raw`] gave up.
    ///
    /// To use such a pointer without taking it back, wrap the result in [`ManuallyDrop`].
    ///
    /// # Safety
    ///
    /// `p` came from [`EpochArc::into_raw`] of the same type and its reference was not taken back since.
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

    /// Takes the value out of the last handle after waiting for the epoch, for values whose end may sleep. Gives
    /// the handle back if it is not the last one.
    pub fn into_inner(this: Self, cx: &Sleepable) -> Result<T, Self> {
        // From 1 to 0 in one step: no cell has the value, and from here on no reader can take a handle of it out
        // of its section and put it into one. (To look for 1 before and after the wait would not do: a handle
        // may have come and gone, and left a reader behind.) Acquire: the uses of the other handles.
        // Release: as in `drop`, for an `upgrade` that sees 0.
        let refs = &this.shared().refs;
        if refs
            .compare_exchange(1, 0, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            return Err(this);
        }
        let this = ManuallyDrop::new(this);
        epoch_wait(cx);
        // SAFETY: `new_with` got the pointer from `into_raw`. The only handle was `this`, which is not dropped, and
        // all sections that could have an `EpochRef` have ended, so nobody refers to it.
        let shared = unsafe { KBox::from_raw(this.ptr.as_ptr()) };
        Ok(KBox::into_inner(shared).value)
    }

    fn shared(&self) -> &Shared<T> {
        // SAFETY: alive by the invariant, and only ever shared.
        unsafe { &*self.ptr.as_ptr() }
    }
}

/// Drops and frees a `Shared` when its grace period is over.
///
/// # Safety
///
/// `context` heads a `Shared<T>` whose last reference gave it to `epoch_call`, and the grace period is over.
unsafe extern "C" fn reclaim<T>(context: *mut sys::epoch_context) {
    // SAFETY: the context is at offset 0, and the pointer was made from that of the whole, which `new_with`
    // got from `into_raw`. No handle is left, and no section that could have an `EpochRef`.
    drop(unsafe { KBox::from_raw(context.cast::<Shared<T>>()) });
}

impl<T: Send + Sync> Clone for EpochArc<T> {
    fn clone(&self) -> Self {
        // Relaxed: this handle keeps the value alive, and whoever passes the new one on orders that.
        let refs = &self.shared().refs;
        if refs.fetch_add(1, Ordering::Relaxed) >= LIMIT {
            refs.store(SATURATED, Ordering::Relaxed);
        }
        // INVARIANT: alive by `self`, and the reference just counted is the new handle's.
        Self {
            ptr: self.ptr,
            _owns: PhantomData,
        }
    }
}

impl<T: Send + Sync> Drop for EpochArc<T> {
    fn drop(&mut self) {
        let refs = &self.shared().refs;
        // Release: our uses of the value come before its destruction by whoever is last.
        let old = refs.fetch_sub(1, weak(Mutant::DropRelaxed, Ordering::Release));
        if old != 1 {
            if old > LIMIT {
                refs.store(SATURATED, Ordering::Relaxed);
            }
            return;
        }
        // Pairs with the Release decrements of the other handles.
        if !mutant(Mutant::DropUnfenced) {
            fence(Ordering::Acquire);
        }
        let context = self.ptr.as_ptr().cast::<sys::epoch_context>();
        // SAFETY: the count went to zero by our hand, and `upgrade` never raises it from there, so this
        // is called once for this value. Its memory stays until the callback, which gets what it asks
        // for. Any context may call it.
        unsafe { sys::epoch_call(net(), Some(reclaim::<T>), context) };
    }
}

impl<T: Send + Sync> Deref for EpochArc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.shared().value
    }
}

impl<T: Send + Sync + fmt::Debug> fmt::Debug for EpochArc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A reference to the value of an [`EpochArc`] that is valid to the end of an epoch section, also if the last
/// handle goes meanwhile.
///
/// # Invariants
///
/// The value's memory was not given to `epoch_call` before the section `'e` began, so the value lives as long
/// as `'e`, its count possibly zero.
pub struct EpochRef<'e, T: Send + Sync + 'static> {
    ptr: NonNull<Shared<T>>,
    _section: PhantomData<(&'e Epoch, &'e T)>,
}

impl<'e, T: Send + Sync + 'static> EpochRef<'e, T> {
    /// The plain reference.
    #[must_use]
    pub fn get(self) -> &'e T {
        &self.shared().value
    }

    /// A handle that may leave the section. None if the last handle is gone already.
    #[must_use]
    pub fn upgrade(self) -> Option<EpochArc<T>> {
        let refs = &self.shared().refs;
        if mutant(Mutant::UpgradeBlind) {
            refs.fetch_add(1, Ordering::Relaxed);
            return Some(EpochArc {
                ptr: self.ptr,
                _owns: PhantomData,
            });
        }
        let mut n = refs.load(Ordering::Acquire);
        loop {
            // Acquire, where this is read: whoever sees zero also sees that the value was taken out of
            // where it was found.
            if n == 0 {
                return None;
            }
            if n >= LIMIT {
                refs.store(SATURATED, Ordering::Relaxed);
                break;
            }
            let more = n.wrapping_add(1); // below LIMIT
            // Relaxed: as in `clone`, a reference that was counted keeps the value alive.
            match refs.compare_exchange_weak(n, more, Ordering::Relaxed, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => n = now,
            }
        }
        // INVARIANT: raised from above zero, so it was not given to `epoch_call`, and the reference just
        // counted (or one of endlessly many) is the new handle's.
        Some(EpochArc {
            ptr: self.ptr,
            _owns: PhantomData,
        })
    }

    /// Whether `arc` is a handle of the same value.
    #[must_use]
    pub fn is(self, arc: &EpochArc<T>) -> bool {
        ptr::addr_eq(self.ptr.as_ptr(), arc.ptr.as_ptr())
    }

    fn shared(self) -> &'e Shared<T> {
        // SAFETY: alive to the end of `'e` by the invariant, and only ever shared.
        unsafe { &*self.ptr.as_ptr() }
    }
}

impl<T: Send + Sync> Copy for EpochRef<'_, T> {}

impl<T: Send + Sync> Clone for EpochRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Send + Sync> Deref for EpochRef<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.get()
    }
}

impl<T: Send + Sync + fmt::Debug> fmt::Debug for EpochRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// A place for an [`EpochArc`] or nothing, which threads inside the epoch read without a lock while others
/// change it. Writers that decide by what they read must exclude each other.
///
/// # Invariants
///
/// `ptr` is null, or the pointer of a handle that this cell owns.
pub struct EpochCell<T: Send + Sync + 'static> {
    ptr: AtomicPtr<Shared<T>>,
}

impl<T: Send + Sync + 'static> EpochCell<T> {
    /// A cell without value.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            ptr: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// A cell without value (loom's atomics cannot be made in a constant).
    #[cfg(loom)]
    #[must_use]
    pub fn empty() -> Self {
        Self {
            ptr: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// A cell that holds `v`.
    #[must_use]
    pub fn new(v: Option<EpochArc<T>>) -> Self {
        Self {
            ptr: AtomicPtr::new(into_ptr(v)),
        }
    }

    /// The value at this moment, valid to the end of the section.
    #[must_use]
    pub fn load<'e>(&self, _e: &'e Epoch) -> Option<EpochRef<'e, T>> {
        // Acquire: what the value's maker and the writer of this cell did before.
        let p = self.ptr.load(weak(Mutant::LoadRelaxed, Ordering::Acquire));
        // INVARIANT: the cell had a handle of it. Giving that up comes after taking it out of the cell;
        // a section that still sees it there began before the grace period that starts then.
        Some(EpochRef {
            ptr: NonNull::new(p)?,
            _section: PhantomData,
        })
    }

    /// A handle of the value at this moment, which may leave the section.
    #[must_use]
    pub fn load_arc(&self, e: &Epoch) -> Option<EpochArc<T>> {
        loop {
            // If it cannot be upgraded, it is out of the cell by now, and we see what came after it.
            if let Some(arc) = self.load(e)?.upgrade() {
                return Some(arc);
            }
        }
    }

    /// Puts `v` in place and returns what was there. Any context.
    #[must_use = "use `set` to drop the old value"]
    pub fn swap(&self, v: Option<EpochArc<T>>) -> Option<EpochArc<T>> {
        // Release: what was done to `v` so far. Acquire: the same for the old value.
        let old = self
            .ptr
            .swap(into_ptr(v), weak(Mutant::SwapRelaxed, Ordering::AcqRel));
        // INVARIANT: the handle that the cell owned is ours now.
        NonNull::new(old).map(|ptr| EpochArc {
            ptr,
            _owns: PhantomData,
        })
    }

    /// Puts `v` in place and drops what was there. Any context.
    pub fn set(&self, v: Option<EpochArc<T>>) {
        drop(self.swap(v));
    }

    /// Empties the cell and returns what was there. Any context.
    #[must_use = "use `set` to drop the old value"]
    pub fn take(&self) -> Option<EpochArc<T>> {
        self.swap(None)
    }
}

fn into_ptr<T: Send + Sync>(v: Option<EpochArc<T>>) -> *mut Shared<T> {
    v.map_or(ptr::null_mut(), |arc| ManuallyDrop::new(arc).ptr.as_ptr())
}

impl<T: Send + Sync> Default for EpochCell<T> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<T: Send + Sync> Drop for EpochCell<T> {
    fn drop(&mut self) {
        self.set(None);
    }
}

impl<T: Send + Sync> fmt::Debug for EpochCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochCell").finish_non_exhaustive()
    }
}
