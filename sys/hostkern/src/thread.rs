// SPDX-License-Identifier: BSD-2-Clause
//! What the kernel knows about the thread that runs: `curthread`.
//!
//! Every entry into the kernel (an ioctl, a task, a callout, a packet) is a *frame*: it starts with
//! no lock and no epoch section and must end so. Simulation nests frames on one host thread: a
//! frame that sleeps, or that the scheduler preempts, stays on the stack while others run above it.

use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::fmt;
use std::ops::Deref;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::epoch::Record;
use crate::kernel::Kernel;
use crate::vnet::Vnet;

/// What kind of context a frame is. It decides what the frame may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A system call, or a test: may sleep.
    Process,
    /// A group task: may sleep by the kernel's rules, though it should not for long.
    Task,
    /// A callout: must not sleep.
    Callout,
    /// An epoch callback: must not sleep for long; hostkern says must not sleep.
    EpochCallback,
    /// Packet input from the network, in the net epoch.
    Input,
    /// Packet output of the host's stack, in the net epoch.
    Output,
}

/// Kind of a lock; an sx lock may be held while sleeping, the others not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockKind {
    /// `struct mtx`.
    Mtx,
    /// `struct rwlock`.
    Rw,
    /// `struct sx`.
    Sx,
}

/// A lock held by the current frame.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    pub addr: usize,
    pub class: u16,
    pub kind: LockKind,
    pub exclusive: bool,
    pub name: *const c_char,
}

impl Held {
    const NONE: Self = Self {
        addr: 0,
        class: 0,
        kind: LockKind::Mtx,
        exclusive: false,
        name: ptr::null(),
    };

    pub fn name(&self) -> &str {
        name_of(self.name)
    }
}

/// A lock's name for messages.
pub(crate) fn name_of<'a>(p: *const c_char) -> &'a str {
    if p.is_null() {
        return "(unnamed)";
    }
    // SAFETY: lock names are C strings that outlive the lock (mutex(9)).
    unsafe { CStr::from_ptr(p) }
        .to_str()
        .unwrap_or("(not UTF-8)")
}

const MAX_HELD: usize = 24;

/// Per-thread state. All fields but the last three belong to the current frame.
pub(crate) struct Ctx {
    pub kernel: Cell<*const Kernel>,
    pub kind: Cell<Kind>,
    pub frame: Cell<u64>,
    pub epoch: Cell<u32>,
    pub tracker: Cell<*mut crate::layout::epoch_tracker>,
    pub vnet: Cell<*const Vnet>,
    /// Whose credential the thread has: that of this vnet's processes.
    pub who: Cell<*const Vnet>,
    /// The CPU that a task is bound to.
    pub cpu: Cell<Option<usize>>,
    pub nheld: Cell<usize>,
    held: [Cell<Held>; MAX_HELD],
    /// Nesting depth of frames on this thread.
    pub depth: Cell<u32>,
    /// Epoch sections of all frames on this thread.
    pub thread_epoch: Cell<u32>,
    /// This thread's epoch record in the current kernel (real mode).
    pub record: Cell<*const Record>,
}

thread_local! {
    static CTX: Ctx = const {
        Ctx {
            kernel: Cell::new(ptr::null()),
            kind: Cell::new(Kind::Process),
            frame: Cell::new(0),
            epoch: Cell::new(0),
            tracker: Cell::new(ptr::null_mut()),
            vnet: Cell::new(ptr::null()),
            who: Cell::new(ptr::null()),
            cpu: Cell::new(None),
            nheld: Cell::new(0),
            held: [const { Cell::new(Held::NONE) }; MAX_HELD],
            depth: Cell::new(0),
            thread_epoch: Cell::new(0),
            record: Cell::new(ptr::null()),
        }
    };
}

/// Runs `f` on this thread's state.
pub(crate) fn ctx<R>(f: impl FnOnce(&Ctx) -> R) -> R {
    CTX.with(f)
}

impl Ctx {
    pub fn held(&self) -> impl Iterator<Item = Held> + '_ {
        self.held.iter().take(self.nheld.get()).map(Cell::get)
    }

    pub fn find_held(&self, addr: usize) -> Option<Held> {
        self.held().find(|h| h.addr == addr)
    }

    pub fn push_held(&self, h: Held) {
        let n = self.nheld.get();
        let Some(slot) = self.held.get(n) else {
            violation(
                "lock-depth",
                format_args!("more than {MAX_HELD} locks held"),
            );
        };
        slot.set(h);
        self.nheld.set(n + 1);
    }

    /// Forgets the newest hold of the lock at `addr`; false if it is not held by this frame.
    pub fn pop_held(&self, addr: usize) -> bool {
        let n = self.nheld.get();
        let Some(i) = (0..n).rev().find(|&i| self.held[i].get().addr == addr) else {
            return false;
        };
        for j in i + 1..n {
            self.held[j - 1].set(self.held[j].get());
        }
        self.nheld.set(n - 1);
        true
    }
}

/// The current kernel, for the length of a call.
pub(crate) struct Current(*const Kernel);

impl Deref for Current {
    type Target = Kernel;
    fn deref(&self) -> &Kernel {
        // SAFETY: made by `kernel()` from the pointer of the frame that is running; `enter` holds a
        // reference for as long as the frame lasts, and a `Current` is never stored.
        unsafe { &*self.0 }
    }
}

/// The kernel that the running frame belongs to.
///
/// # Panics
/// When the thread has entered none.
pub(crate) fn kernel() -> Current {
    try_kernel().unwrap_or_else(|| {
        panic!("hostkern: [no-kernel] a kernel function was called on a thread outside of a kernel")
    })
}

/// The same, or nothing.
pub(crate) fn try_kernel() -> Option<Current> {
    let p = ctx(|c| c.kernel.get());
    (!p.is_null()).then_some(Current(p))
}

static NEXT_FRAME: AtomicU64 = AtomicU64::new(1);

/// Runs `f` as a new frame of kernel `k`, in `vnet` and with the credential of its processes.
pub(crate) fn enter<R>(
    k: &Arc<Kernel>,
    kind: Kind,
    vnet: Option<&Vnet>,
    f: impl FnOnce() -> R,
) -> R {
    enter_as(k, kind, vnet, vnet, f)
}

/// The same with the credential of the processes of `who`.
pub(crate) fn enter_as<R>(
    k: &Arc<Kernel>,
    kind: Kind,
    vnet: Option<&Vnet>,
    who: Option<&Vnet>,
    f: impl FnOnce() -> R,
) -> R {
    struct Saved {
        kernel: *const Kernel,
        kind: Kind,
        frame: u64,
        epoch: u32,
        tracker: *mut crate::layout::epoch_tracker,
        vnet: *const Vnet,
        who: *const Vnet,
        cpu: Option<usize>,
        held: [Held; MAX_HELD],
        nheld: usize,
        record: *const Record,
        #[cfg(feature = "kld")]
        native: Option<crate::kld::thread::Saved>,
    }
    impl Drop for Saved {
        fn drop(&mut self) {
            let unwinding = std::thread::panicking();
            #[cfg(feature = "kld")]
            if let Some(native) = &self.native {
                native.leave();
            }
            let (epoch, held) = ctx(|c| {
                let left = (c.epoch.get(), c.held().next());
                if unwinding {
                    // Sections that the panic left behind must not block grace periods for ever.
                    crate::epoch::abandon(c);
                }
                c.kernel.set(self.kernel);
                c.kind.set(self.kind);
                c.frame.set(self.frame);
                c.epoch.set(self.epoch);
                c.tracker.set(self.tracker);
                c.vnet.set(self.vnet);
                c.who.set(self.who);
                c.cpu.set(self.cpu);
                c.nheld.set(self.nheld);
                for (slot, h) in c.held.iter().zip(&self.held).take(self.nheld) {
                    slot.set(*h);
                }
                c.record.set(self.record);
                c.depth.set(c.depth.get() - 1);
                left
            });
            if unwinding {
                return;
            }
            if let Some(h) = held {
                violation(
                    "lock-leak",
                    format_args!("lock \"{}\" held on return", h.name()),
                );
            }
            if epoch != 0 {
                violation(
                    "epoch-balance",
                    format_args!("{epoch} epoch sections open on return"),
                );
            }
        }
    }

    let record = k.epoch.record(k);
    let saved = ctx(|c| {
        let mut held = [Held::NONE; MAX_HELD];
        for (h, slot) in held.iter_mut().zip(&c.held).take(c.nheld.get()) {
            *h = slot.get();
        }
        let saved = Saved {
            kernel: c.kernel.replace(Arc::as_ptr(k)),
            kind: c.kind.replace(kind),
            frame: c.frame.replace(NEXT_FRAME.fetch_add(1, Ordering::Relaxed)),
            epoch: c.epoch.replace(0),
            tracker: c.tracker.replace(ptr::null_mut()),
            vnet: c.vnet.replace(vnet.map_or(ptr::null(), ptr::from_ref)),
            who: c.who.replace(who.map_or(ptr::null(), ptr::from_ref)),
            cpu: c.cpu.take(),
            held,
            nheld: c.nheld.replace(0),
            record: c.record.replace(record),
            #[cfg(feature = "kld")]
            native: crate::kld::thread::enter(k, vnet, who),
        };
        c.depth.set(c.depth.get() + 1);
        saved
    });
    let scope = k.account.as_ref().map(hostkern_malloc::Account::enter);
    let r = f();
    crate::backend::flush_now();
    drop(scope);
    drop(saved);
    r
}

/// The CPU that the running frame is on.
pub(crate) fn cpu() -> usize {
    let k = kernel();
    ctx(|c| c.cpu.get()).unwrap_or_else(|| k.machine.cpu(k.ncpu))
}

/// The running frame is bound to `cpu`.
pub(crate) fn bind(cpu: usize) {
    ctx(|c| c.cpu.set(Some(cpu)));
    #[cfg(feature = "kld")]
    crate::kld::thread::set_cpu(cpu);
}

/// Stops with the name of the rule that was broken.
#[track_caller]
#[cold]
pub(crate) fn violation(rule: &str, what: fmt::Arguments<'_>) -> ! {
    if let Some(k) = try_kernel() {
        k.machine.explain();
    }
    panic!("hostkern: [{rule}] {what}");
}

/// The rule of no sleeping: `what` may sleep, so the frame must be one that may.
#[track_caller]
pub(crate) fn check_sleep(what: &str) {
    crate::misc::check_not_fpu(what);
    let why = ctx(|c| {
        if c.epoch.get() > 0 {
            return Some("inside an epoch section".to_string());
        }
        if let Some(h) = c.held().find(|h| h.kind != LockKind::Sx) {
            return Some(format!("with lock \"{}\" held", h.name()));
        }
        match c.kind.get() {
            Kind::Callout => Some("in a callout".to_string()),
            Kind::EpochCallback => Some("in an epoch callback".to_string()),
            _ => None,
        }
    });
    if let Some(why) = why {
        violation("no-sleep", format_args!("{what} {why}"));
    }
}
