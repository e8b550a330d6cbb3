// SPDX-License-Identifier: BSD-2-Clause
//! callout(9): one callout thread a kernel, so handlers run one at a time.

use core::ffi::c_void;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::kernel::Kernel;
use crate::layout::callout;
use crate::thread::{Kind, check_sleep, enter, kernel, violation};

type Handler = unsafe extern "C-unwind" fn(*mut c_void);

/// `CALLOUT_RETURNUNLOCKED`: what `callout_init(c, mpsafe)` leaves in `c_iflags`; hostkern's mark
/// of initialization.
const INITIALIZED: i16 = 0x10;
/// `CALLOUT_PENDING`.
const PENDING: i16 = 0x4;

struct Armed {
    callout: *mut callout,
    handler: Handler,
    arg: *mut c_void,
}

// SAFETY: callout(9): whoever arms a callout keeps it and its argument valid, on any thread, until
// it is drained.
unsafe impl Send for Armed {}

#[derive(Default)]
struct State {
    queue: BTreeMap<(u64, u64), Armed>,
    by_address: HashMap<usize, (u64, u64)>,
    /// Address of the callout whose handler runs.
    running: Option<usize>,
    /// Somebody drains the one that runs: it must not arm itself again.
    draining: bool,
    seq: u64,
}

impl State {
    fn remove(&mut self, c: *mut callout) -> bool {
        let Some(key) = self.by_address.remove(&c.addr()) else {
            return false;
        };
        self.queue.remove(&key);
        // SAFETY: an armed callout is live.
        unsafe { (*c).c_iflags &= !PENDING };
        true
    }
}

/// The callouts of one kernel.
#[derive(Default)]
pub(crate) struct Callouts(Mutex<State>);

impl Callouts {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of armed callouts.
    pub fn armed(&self) -> usize {
        self.lock().queue.len()
    }

    /// Number of callouts that are armed or have a handler that runs.
    pub fn in_use(&self) -> usize {
        let s = self.lock();
        s.queue.len() + usize::from(s.running.is_some())
    }

    /// When the earliest is due; nothing also while a handler runs.
    pub fn next(&self) -> Option<u64> {
        let s = self.lock();
        if s.running.is_some() {
            return None;
        }
        s.queue.keys().next().map(|k| k.0)
    }

    /// Number of callouts due at `now` that could run.
    pub fn due(&self, now: u64) -> usize {
        let s = self.lock();
        if s.running.is_some() {
            0
        } else {
            s.queue.range(..=(now, u64::MAX)).count()
        }
    }

    /// Runs the `nth` of those due at `now`; false if there is none.
    pub fn run(&self, k: &Arc<Kernel>, now: u64, nth: usize) -> bool {
        let mut s = self.lock();
        if s.running.is_some() {
            return false;
        }
        let Some(key) = s
            .queue
            .range(..=(now, u64::MAX))
            .nth(nth)
            .map(|(key, _)| *key)
        else {
            return false;
        };
        let Some(a) = s.queue.remove(&key) else {
            return false;
        };
        s.by_address.remove(&a.callout.addr());
        if !a.intact() {
            drop(s);
            freed();
        }
        // SAFETY: as above.
        unsafe { (*a.callout).c_iflags &= !PENDING };
        s.running = Some(a.callout.addr());
        drop(s);
        enter(k, Kind::Callout, None, || {
            // SAFETY: the handler and argument that the driver armed this callout with.
            unsafe { (a.handler)(a.arg) }
        });
        let mut s = self.lock();
        s.running = None;
        s.draining = false;
        drop(s);
        k.wakeup();
        true
    }

    /// Checks that the armed callouts are what they were when armed. Memory that simulation frees
    /// is overwritten, so one that was freed is found at the end of the step that freed it and not
    /// when it fires.
    pub fn check_intact(&self) {
        let s = self.lock();
        let intact = s.queue.values().all(Armed::intact);
        drop(s);
        if !intact {
            freed();
        }
    }
}

impl Armed {
    fn intact(&self) -> bool {
        // SAFETY: an armed callout is live, else the driver broke the rule that is checked here;
        // the allocator then still has the memory, and Miri says so in its own words.
        unsafe { (*self.callout).c_arg == self.arg && (*self.callout).c_iflags & PENDING != 0 }
    }
}

fn freed() -> ! {
    violation(
        "callout-freed",
        format_args!("an armed callout was freed or overwritten"),
    )
}

/// `kpi_callout_init` of kpi_shim.h.
///
/// # Safety
/// `c` is memory for a callout that is not armed.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_callout_init(c: *mut callout) {
    if kernel().callouts.lock().by_address.contains_key(&c.addr()) {
        violation(
            "callout-init",
            format_args!("an armed callout was initialized again"),
        );
    }
    // SAFETY: the caller's memory.
    unsafe {
        c.write(callout {
            c_links: [core::ptr::null_mut(); 2],
            c_time: 0,
            c_precision: 0,
            c_arg: core::ptr::null_mut(),
            c_func: None,
            c_lock: core::ptr::null_mut(),
            c_flags: 0,
            c_iflags: INITIALIZED,
            c_cpu: 0,
        });
    }
}

fn check_init(c: *mut callout) {
    // SAFETY: the callers pass memory of a callout.
    if unsafe { (*c).c_iflags } & INITIALIZED == 0 {
        violation(
            "callout-init",
            format_args!("a callout was used before callout_init"),
        );
    }
}

/// `kpi_callout_reset_at` of kpi_shim.h.
///
/// # Safety
/// `c` was initialized; it, `handler` and `arg` stay valid until it is drained.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_callout_reset_at(
    c: *mut callout,
    uptime_ns: u64,
    handler: Handler,
    arg: *mut c_void,
) {
    check_init(c);
    let k = kernel();
    let mut s = k.callouts.lock();
    if s.running == Some(c.addr()) && s.draining {
        return;
    }
    s.remove(c);
    s.seq += 1;
    let key = (uptime_ns, s.seq);
    s.queue.insert(
        key,
        Armed {
            callout: c,
            handler,
            arg,
        },
    );
    s.by_address.insert(c.addr(), key);
    // SAFETY: the caller's callout.
    unsafe {
        (*c).c_arg = arg;
        (*c).c_func = Some(handler);
        (*c).c_time = uptime_ns.cast_signed();
        (*c).c_iflags |= PENDING;
    }
    let first = s.queue.keys().next() == Some(&key);
    drop(s);
    if first {
        k.machine.kick_callout();
    }
}

/// `kpi_callout_stop` of kpi_shim.h.
///
/// # Safety
/// `c` was initialized.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_callout_stop(c: *mut callout) {
    check_init(c);
    kernel().callouts.lock().remove(c);
}

/// `kpi_callout_drain` of kpi_shim.h.
///
/// # Safety
/// `c` was initialized.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_callout_drain(c: *mut callout) {
    check_sleep("callout_drain");
    check_init(c);
    let k = kernel();
    {
        let mut s = k.callouts.lock();
        s.remove(c);
        if s.running != Some(c.addr()) {
            return;
        }
        s.draining = true;
    }
    k.machine.wait("callout_drain", &mut || {
        k.callouts.lock().running != Some(c.addr())
    });
    k.callouts.lock().remove(c);
}
