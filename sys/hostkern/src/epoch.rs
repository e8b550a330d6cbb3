// SPDX-License-Identifier: BSD-2-Clause
//! epoch(9), the preemptible network epoch only.
//!
//! A section remembers the value of a global count at its start. `epoch_call` takes a ticket from
//! the same count; its callback may run when every section that is open started after the ticket.
//! Real mode keeps the start in a per-thread record that only the owner writes, so enter and exit
//! are two stores and a fence; simulation keeps a list, since one thread has many frames.

use core::ffi::c_void;
use core::ptr;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};

use crate::kernel::Kernel;
use crate::layout::{epoch_context, epoch_tracker};
use crate::thread::{Ctx, Kind, check_sleep, ctx, enter, kernel, violation};

const LIVE: usize = 0x6570_6f63;

/// One thread's place in the epoch of one kernel. 0: in no section.
#[derive(Default)]
pub(crate) struct Record {
    start: AtomicU64,
}

type Callback = unsafe extern "C-unwind" fn(*mut epoch_context);

struct Pending {
    ticket: u64,
    callback: Callback,
    arg: usize,
}

/// The epoch of one kernel.
pub(crate) struct Epoch {
    /// Next ticket; starts at 1 so that 0 can mean "in no section".
    count: AtomicU64,
    records: Mutex<Vec<Arc<Record>>>,
    /// Open sections of simulated frames: (frame, start).
    sections: Mutex<Vec<(u64, u64)>>,
    pending: Mutex<VecDeque<Pending>>,
    queued: AtomicU64,
    done: AtomicU64,
    running: AtomicBool,
    sim: bool,
}

thread_local! {
    /// Records of this thread, one a kernel.
    static MINE: RefCell<Vec<(u64, Arc<Record>)>> = const { RefCell::new(Vec::new()) };
}

impl Epoch {
    pub fn new(sim: bool) -> Self {
        Self {
            count: AtomicU64::new(1),
            records: Mutex::default(),
            sections: Mutex::default(),
            pending: Mutex::default(),
            queued: AtomicU64::new(0),
            done: AtomicU64::new(0),
            running: AtomicBool::new(false),
            sim,
        }
    }

    /// This thread's record in kernel `k` (whose epoch this is). It lives as long as the kernel.
    pub fn record(&self, k: &Kernel) -> *const Record {
        if self.sim {
            return ptr::null();
        }
        MINE.with_borrow_mut(|mine| {
            if let Some((_, r)) = mine.iter().find(|(id, _)| *id == k.id) {
                return Arc::as_ptr(r);
            }
            // Records of threads and of kernels that are gone are taken back here.
            mine.retain(|(_, r)| Arc::strong_count(r) > 1);
            let mut all = self.records.lock().unwrap();
            all.retain(|r| Arc::strong_count(r) > 1);
            let r = Arc::new(Record::default());
            all.push(r.clone());
            let p = Arc::as_ptr(&r);
            mine.push((k.id, r));
            p
        })
    }

    /// True if every section open now started after `ticket` was taken.
    fn passed(&self, ticket: u64) -> bool {
        if self.sim {
            return self
                .sections
                .lock()
                .unwrap()
                .iter()
                .all(|&(_, s)| s > ticket);
        }
        // Pairs with the fence in `open`: either that reader sees what was unlinked before this
        // call, or its start is seen here.
        fence(Ordering::SeqCst);
        self.records.lock().unwrap().iter().all(|r| {
            let s = r.start.load(Ordering::Acquire);
            s == 0 || s > ticket
        })
    }

    fn open(&self, c: &Ctx) -> u64 {
        let start = self.count.load(Ordering::Relaxed);
        if self.sim {
            self.sections.lock().unwrap().push((c.frame.get(), start));
        } else if c.thread_epoch.get() == 0 {
            // SAFETY: `enter` made the record of this thread in this kernel, which lives as long as
            // the kernel.
            let r = unsafe { &*c.record.get() };
            // Release: whoever sees this section sees the one before it ended.
            r.start.store(start, Ordering::Release);
            fence(Ordering::SeqCst);
        }
        c.thread_epoch.set(c.thread_epoch.get() + 1);
        start
    }

    fn close(&self, c: &Ctx) {
        c.thread_epoch.set(c.thread_epoch.get() - 1);
        if self.sim {
            let frame = c.frame.get();
            let mut s = self.sections.lock().unwrap();
            if let Some(i) = s.iter().rposition(|&(f, _)| f == frame) {
                s.remove(i);
            }
        } else if c.thread_epoch.get() == 0 {
            // SAFETY: as in `open`.
            let r = unsafe { &*c.record.get() };
            r.start.store(0, Ordering::Release);
        }
    }

    /// True if a callback may run now and none runs.
    pub fn ready(&self) -> bool {
        if self.running.load(Ordering::Relaxed) {
            return false;
        }
        let first = self.pending.lock().unwrap().front().map(|p| p.ticket);
        first.is_some_and(|t| self.passed(t))
    }

    /// True if callbacks wait.
    pub fn has_pending(&self) -> bool {
        !self.pending.lock().unwrap().is_empty()
    }

    /// Number of callbacks that wait, but for those that are `own`.
    pub fn pending_but(&self, own: usize) -> usize {
        let pending = self.pending.lock().unwrap();
        pending
            .iter()
            .filter(|p| p.callback as *const () as usize != own)
            .count()
    }

    /// Number of callbacks that were queued and did not end.
    pub fn outstanding(&self) -> u64 {
        self.queued.load(Ordering::SeqCst) - self.done.load(Ordering::SeqCst)
    }

    /// Runs the callbacks whose time has come; how many.
    pub fn run_ready(&self, k: &Arc<Kernel>) -> usize {
        if self.running.swap(true, Ordering::Acquire) {
            return 0;
        }
        let mut batch = Vec::new();
        {
            let mut q = self.pending.lock().unwrap();
            // Tickets ascend, so the newest that has passed decides.
            let n = q.partition_point(|p| self.passed(p.ticket));
            batch.extend(q.drain(..n));
        }
        let n = batch.len();
        for p in batch {
            enter(k, Kind::EpochCallback, None, || {
                // SAFETY: `epoch_call`'s contract: the callback takes this context, once, after the
                // grace period.
                unsafe { (p.callback)(ptr::with_exposed_provenance_mut(p.arg)) }
            });
            self.done.fetch_add(1, Ordering::SeqCst);
        }
        self.running.store(false, Ordering::Release);
        k.wakeup();
        n
    }
}

/// True if the running frame is in a net epoch section.
pub(crate) fn in_epoch() -> bool {
    ctx(|c| c.epoch.get() > 0)
}

/// Closes what a panicking frame left open.
pub(crate) fn abandon(c: &Ctx) {
    let Some(k) = crate::thread::try_kernel() else {
        return;
    };
    while c.epoch.get() > 0 {
        c.epoch.set(c.epoch.get() - 1);
        k.epoch.close(c);
    }
}

/// Runs `f` in the net epoch.
pub(crate) fn section<R>(f: impl FnOnce() -> R) -> R {
    let mut et = epoch_tracker {
        magic: 0,
        frame: 0,
        prev: ptr::null_mut(),
        start: 0,
    };
    // SAFETY: the tracker stays here until the exit below; a panic in between is cleaned up by
    // `enter`, which does not touch trackers.
    unsafe { _epoch_enter_preempt(ptr::null_mut(), &mut et) };
    let r = f();
    // SAFETY: entered above.
    unsafe { _epoch_exit_preempt(ptr::null_mut(), &mut et) };
    r
}

/// `epoch_t` of the network stack. hostkern has one epoch a kernel, so the pointer only has to be
/// there.
#[unsafe(no_mangle)]
pub static net_epoch_preempt: EpochPtr = EpochPtr(LIVE as *mut c_void);

/// A pointer-sized token.
#[repr(transparent)]
pub struct EpochPtr(*mut c_void);

// SAFETY: the pointer is a token that is never followed.
unsafe impl Sync for EpochPtr {}

/// epoch(9).
///
/// # Safety
/// `et` stays in place until the matching exit.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn _epoch_enter_preempt(_epoch: *mut c_void, et: *mut epoch_tracker) {
    let k = kernel();
    if ctx(|c| c.epoch.get() == 0 && c.nheld.get() == 0) {
        k.machine.preempt();
    }
    ctx(|c| {
        let start = k.epoch.open(c);
        // SAFETY: the caller's tracker.
        unsafe {
            et.write(epoch_tracker {
                magic: LIVE,
                frame: c.frame.get(),
                prev: ptr::null_mut(),
                start,
            });
        }
        c.epoch.set(c.epoch.get() + 1);
    });
}

/// epoch(9).
///
/// # Safety
/// `et` was given to enter by this thread and not to exit since.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn _epoch_exit_preempt(_epoch: *mut c_void, et: *mut epoch_tracker) {
    ctx(|c| {
        // SAFETY: the caller's tracker.
        unsafe {
            if c.epoch.get() == 0 || (*et).magic != LIVE || (*et).frame != c.frame.get() {
                violation(
                    "epoch-balance",
                    format_args!("epoch exit without its enter"),
                );
            }
            (*et).magic = 0;
        }
        c.epoch.set(c.epoch.get() - 1);
        kernel().epoch.close(c);
    });
    if ctx(|c| c.epoch.get() == 0 && c.nheld.get() == 0) {
        kernel().machine.preempt();
    }
}

/// epoch(9): waits for all sections that are open now.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn epoch_wait_preempt(_epoch: *mut c_void) {
    check_sleep("epoch_wait");
    let k = kernel();
    let ticket = k.epoch.count.fetch_add(1, Ordering::SeqCst);
    k.machine.wait("epoch_wait", &mut || k.epoch.passed(ticket));
}

/// epoch(9): runs `callback(arg)` after the sections that are open now.
///
/// # Safety
/// `arg` is valid for `callback` until that runs.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn epoch_call(
    _epoch: *mut c_void,
    callback: Callback,
    arg: *mut epoch_context,
) {
    let k = kernel();
    k.epoch.queued.fetch_add(1, Ordering::SeqCst);
    {
        let mut q = k.epoch.pending.lock().unwrap();
        // Under the queue's lock, so that tickets in the queue ascend.
        let ticket = k.epoch.count.fetch_add(1, Ordering::SeqCst);
        q.push_back(Pending {
            ticket,
            callback,
            arg: arg.expose_provenance(),
        });
    }
    k.machine.kick_epoch();
}

/// epoch(9): waits until the callbacks queued so far have run.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn epoch_drain_callbacks(_epoch: *mut c_void) {
    check_sleep("epoch_drain_callbacks");
    let k = kernel();
    let upto = k.epoch.queued.load(Ordering::SeqCst);
    k.machine.wait("epoch_drain_callbacks", &mut || {
        k.epoch.done.load(Ordering::SeqCst) >= upto
    });
}
