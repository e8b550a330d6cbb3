// SPDX-License-Identifier: BSD-2-Clause
//! A little driver for tests of hostkern itself: it uses the kernel's functions as `kpi` would, by
//! hand.
#![allow(dead_code, reason = "each test program uses a part")]

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use hostkern::callout::*;
use hostkern::epoch::*;
use hostkern::layout::*;
use hostkern::lock::*;
use hostkern::task::*;

/// A zeroed C structure with an address that does not change.
pub fn zeroed<T>() -> Box<T> {
    // SAFETY: used for C structures only, for which zeroes are a value.
    unsafe { Box::new(std::mem::zeroed()) }
}

/// A mutex.
pub struct Mtx(*mut lock);
/// A read-write lock.
pub struct Rw(*mut lock);
/// A sleepable lock.
pub struct Sx(*mut lock);

macro_rules! locks {
    ($t:ident, $init:ident, $destroy:ident, $($f:ident = $k:ident),*) => {
        impl $t {
            pub fn new(name: &'static std::ffi::CStr) -> Self {
                let p = Box::into_raw(zeroed::<lock>());
                // SAFETY: fresh zeroed memory, a static name.
                unsafe { $init(p, name.as_ptr()) };
                Self(p)
            }
            $(pub fn $f(&self) {
                // SAFETY: an initialized lock.
                unsafe { $k(self.0) };
            })*
            pub fn destroy(self) {
                // SAFETY: an initialized lock that is then freed.
                unsafe {
                    $destroy(self.0);
                    drop(Box::from_raw(self.0));
                }
            }
        }
    };
}
locks!(
    Mtx,
    kpi_mtx_init,
    kpi_mtx_destroy,
    lock = kpi_mtx_lock,
    unlock = kpi_mtx_unlock
);
locks!(
    Rw,
    kpi_rw_init,
    kpi_rw_destroy,
    rlock = kpi_rw_rlock,
    runlock = kpi_rw_runlock,
    wlock = kpi_rw_wlock,
    wunlock = kpi_rw_wunlock
);
locks!(
    Sx,
    kpi_sx_init,
    kpi_sx_destroy,
    slock = kpi_sx_slock,
    sunlock = kpi_sx_sunlock,
    xlock = kpi_sx_xlock,
    xunlock = kpi_sx_xunlock
);
// SAFETY: locks are for sharing.
unsafe impl Send for Mtx {}
// SAFETY: locks are for sharing.
unsafe impl Sync for Mtx {}
// SAFETY: locks are for sharing.
unsafe impl Send for Rw {}
// SAFETY: locks are for sharing.
unsafe impl Sync for Rw {}

/// An epoch section by hand.
pub struct Section(Box<epoch_tracker>);

impl Section {
    pub fn enter() -> Self {
        let mut t = zeroed();
        // SAFETY: the box keeps the tracker in place.
        unsafe { _epoch_enter_preempt(ptr::null_mut(), &mut *t) };
        Self(t)
    }
    pub fn exit(mut self) {
        // SAFETY: entered before.
        unsafe { _epoch_exit_preempt(ptr::null_mut(), &mut *self.0) }
    }
}

pub fn epoch_wait() {
    epoch_wait_preempt(ptr::null_mut());
}

type Hook = Box<dyn Fn() + Send + Sync>;

/// A callout that runs a closure.
pub struct Timer {
    pub c: *mut callout,
    pub hook: *mut Hook,
}

unsafe extern "C-unwind" fn run_hook(arg: *mut c_void) {
    // SAFETY: the argument is the hook of a timer, a task or a callback that is alive.
    unsafe { (*arg.cast::<Hook>())() }
}

impl Timer {
    pub fn new(f: impl Fn() + Send + Sync + 'static) -> Self {
        let c = Box::into_raw(zeroed::<callout>());
        // SAFETY: fresh memory.
        unsafe { kpi_callout_init(c) };
        Self {
            c,
            hook: Box::into_raw(Box::new(Box::new(f))),
        }
    }
    pub fn at(&self, when: u64) {
        // SAFETY: the timer lives until freed, after a drain.
        unsafe { kpi_callout_reset_at(self.c, when, run_hook, self.hook.cast()) }
    }
    pub fn stop(&self) {
        // SAFETY: initialized.
        unsafe { kpi_callout_stop(self.c) }
    }
    pub fn drain(&self) {
        // SAFETY: initialized.
        unsafe { kpi_callout_drain(self.c) }
    }
    pub fn free(self) {
        // SAFETY: made by Box::into_raw; the test drained it.
        unsafe {
            drop(Box::from_raw(self.c));
            drop(Box::from_raw(self.hook));
        }
    }
}
// SAFETY: a handle on C structures that any thread may use.
unsafe impl Send for Timer {}
// SAFETY: as above.
unsafe impl Sync for Timer {}

/// A group task that runs a closure.
pub struct Work {
    pub gt: *mut grouptask,
    pub hook: *mut Hook,
}

impl Work {
    pub fn new(cpu: c_int, f: impl Fn() + Send + Sync + 'static) -> Self {
        let hook: *mut Hook = Box::into_raw(Box::new(Box::new(f)));
        let mut gt = zeroed::<grouptask>();
        gt.gt_task.ta_func = Some(run_hook);
        gt.gt_task.ta_context = hook.cast();
        let gt = Box::into_raw(gt);
        // SAFETY: stays valid until detached.
        let e = unsafe {
            let n = ptr::null_mut();
            taskqgroup_attach_cpu(kpi_taskqgroup(false), gt, n, cpu, n, n, c"work".as_ptr())
        };
        assert_eq!(e, 0);
        Self { gt, hook }
    }
    pub fn enqueue(&self) -> c_int {
        // SAFETY: attached; the lead of a grouptask is its task.
        unsafe {
            grouptaskqueue_enqueue((*self.gt).gt_taskqueue.cast(), &raw mut (*self.gt).gt_task)
        }
    }
    pub fn block(&self) {
        // SAFETY: attached.
        unsafe { grouptask_block(self.gt) }
    }
    pub fn detach(self) {
        // SAFETY: attached; freed after.
        unsafe {
            taskqgroup_detach(kpi_taskqgroup(false), self.gt);
            drop(Box::from_raw(self.gt));
            drop(Box::from_raw(self.hook));
        }
    }
}
// SAFETY: a handle on C structures that any thread may use.
unsafe impl Send for Work {}
// SAFETY: as above.
unsafe impl Sync for Work {}

#[repr(C)]
struct Deferred {
    context: epoch_context,
    f: Box<dyn FnOnce() + Send>,
}

unsafe extern "C-unwind" fn run_deferred(c: *mut epoch_context) {
    // SAFETY: made by `defer`, run once.
    let d = unsafe { Box::from_raw(c.cast::<Deferred>()) };
    (d.f)();
}

/// `epoch_call` with a closure.
pub fn defer(f: impl FnOnce() + Send + 'static) {
    let d = Box::new(Deferred {
        context: *zeroed(),
        f: Box::new(f),
    });
    // SAFETY: the box stays until the callback.
    unsafe { epoch_call(ptr::null_mut(), run_deferred, Box::into_raw(d).cast()) }
}

/// A counter that tests share with callbacks.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
