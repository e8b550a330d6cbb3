// SPDX-License-Identifier: BSD-2-Clause
//! A timer (`callout(9)`) with a target.
//!
//! ```text
//!            arm_at(t)                time comes
//!   idle  ------------->  pending  -------------->  running expire()  --> idle
//!    ^                     |   ^                        |
//!    +------- stop() ------+   +------- arm_at(t) ------+
//!
//!   drain(), from any state: waits for a running expire(), then dead for ever; arm_at() does nothing.
//! ```

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU64, Ordering, fence};

use core::cell::UnsafeCell;

use freebsd_kernel_sys as sys;
use kpi_alloc::{AllocError, How, KBox, Sleepable};

use crate::epoch::EpochArc;
use crate::sync::Mutex;

/// What a timer calls.
pub trait Expire: Send + Sync + 'static {
    /// The time has come. Runs in a callout thread: no sleeping, and no epoch. It may arm its own
    /// timer again.
    fn expire(this: &EpochArc<Self>)
    where
        Self: Sized;
}

/// `deadline` when nothing is pending.
const IDLE: u64 = u64::MAX;

/// A timer.
///
/// A target that owns its timer, which refers to the target, keeps itself alive: [`Callout::drain`]
/// is what ends that. Dropping a timer that was not drained drains it, and so may sleep.
pub struct Callout<T: Expire> {
    inner: KBox<Inner<T>>,
}

/// Boxed, as the kernel links a pending callout by its address.
struct Inner<T: Expire> {
    callout: UnsafeCell<sys::callout>,
    /// When it will fire, or `IDLE`. Written with `state` held, or by the handler as it starts.
    deadline: AtomicU64,
    state: Mutex<State<T>>,
}

struct State<T: Expire> {
    target: Option<EpochArc<T>>,
    /// Drained: nothing is scheduled any more.
    dead: bool,
}

// SAFETY: the callout is only used through the kernel's functions, which lock; the rest is `Sync`
// by itself.
unsafe impl<T: Expire> Sync for Inner<T> {}
// SAFETY: as above; a callout is not tied to a thread.
unsafe impl<T: Expire> Send for Inner<T> {}

impl<T: Expire> Callout<T> {
    /// An idle timer without a target.
    pub fn new(how: How<'_>) -> Result<Self, AllocError> {
        let state = Mutex::new(
            c"kpi callout",
            State {
                target: None,
                dead: false,
            },
        );
        // SAFETY: zero is a valid value of this structure of numbers and pointers;
        // `kpi_callout_init` sets it below.
        let callout =
            UnsafeCell::new(unsafe { MaybeUninit::<sys::callout>::zeroed().assume_init() });
        let inner = KBox::new(
            Inner {
                callout,
                deadline: AtomicU64::new(IDLE),
                state,
            },
            how,
        )?;
        // SAFETY: at its final place, and nobody else knows it yet.
        unsafe { sys::kpi_callout_init(inner.callout.get()) };
        Ok(Self { inner })
    }

    /// Says what is to be called; before this, arming has no effect.
    pub fn bind(&self, target: EpochArc<T>) {
        let mut state = self.inner.state.lock();
        if !state.dead {
            let old = state.target.replace(target);
            drop(state);
            drop(old);
        }
    }

    /// Makes the timer fire at `uptime_ns` ([`crate::time::uptime_ns`]) or earlier if it is already
    /// set to. Cheap when it is. Any context.
    pub fn arm_at(&self, uptime_ns: u64) {
        let inner = &*self.inner;
        // Whoever arms has written down before why. If the old deadline is seen here, the handler
        // has not yet taken it away, and its fence is still to come: then it will read what was
        // written. See `fire`.
        fence(Ordering::SeqCst);
        if inner.deadline.load(Ordering::Relaxed) <= uptime_ns {
            return;
        }
        let state = inner.state.lock();
        if state.dead
            || state.target.is_none()
            || inner.deadline.load(Ordering::Relaxed) <= uptime_ns
        {
            return;
        }
        inner
            .deadline
            .store(uptime_ns.min(IDLE - 1), Ordering::Relaxed);
        let arg: *const Inner<T> = inner;
        // SAFETY: initialised; not drained, as that is marked under the lock that we hold, so the
        // box outlives the handler: it is freed only after a drain.
        unsafe {
            sys::kpi_callout_reset_at(
                inner.callout.get(),
                uptime_ns,
                Some(fire::<T>),
                arg.cast_mut().cast(),
            )
        };
        drop(state);
    }

    /// Cancels what is pending. Does not wait for an [`Expire::expire`] that runs. Any context.
    pub fn stop(&self) {
        let inner = &*self.inner;
        let state = inner.state.lock();
        inner.deadline.store(IDLE, Ordering::Relaxed);
        // SAFETY: initialised.
        unsafe { sys::kpi_callout_stop(inner.callout.get()) };
        drop(state);
    }

    /// Cancels for ever: when this returns, `expire` neither runs nor ever will again, and the
    /// target was let go of.
    pub fn drain(&self, _cx: &Sleepable) {
        self.end();
    }

    fn end(&self) {
        let inner = &*self.inner;
        let mut state = inner.state.lock();
        // From here on nobody schedules: that happens under this lock only.
        state.dead = true;
        let target = state.target.take();
        inner.deadline.store(IDLE, Ordering::Relaxed);
        drop(state);
        // SAFETY: initialised. May sleep: `drain` has the proof, and of `drop` it is documented.
        unsafe { sys::kpi_callout_drain(inner.callout.get()) };
        drop(target);
    }
}

impl<T: Expire> Drop for Callout<T> {
    fn drop(&mut self) {
        // After a drain nothing is pending and nothing runs, so that a drained timer may be dropped
        // where one cannot sleep.
        let fresh = {
            let state = self.inner.state.get_mut();
            state.dead || state.target.is_none()
        };
        if !fresh {
            self.end();
        }
    }
}

/// The handler.
///
/// # Safety
///
/// Called by the kernel for a callout whose `Inner<T>` is `arg`, which is freed only after a drain.
unsafe extern "C" fn fire<T: Expire>(arg: *mut c_void) {
    // SAFETY: alive until a drain has waited for us.
    let inner = unsafe { &*arg.cast::<Inner<T>>() };
    let target = {
        let state = inner.state.lock();
        // From now on arming schedules anew.
        inner.deadline.store(IDLE, Ordering::Relaxed);
        state.target.clone()
    };
    // With the fence in `arm_at`: either that sees IDLE, or what its caller wrote before is seen by
    // `expire`.
    fence(Ordering::SeqCst);
    if let Some(target) = target {
        T::expire(&target);
    }
}
