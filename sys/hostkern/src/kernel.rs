// SPDX-License-Identifier: BSD-2-Clause
//! One simulated kernel: the books that all its parts share, and the machine it runs on.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;

use crate::backend::Backend;
use crate::callout::Callouts;
use crate::clone::Module;
use crate::epoch::Epoch;
use crate::ifnet::Interfaces;
use crate::mbuf::{MbufBooks, Packet};
use crate::tally::Tally;
use crate::task::TaskGroup;
use crate::thread::{self, Kind};
use crate::vnet::Vnet;
use crate::witness::Graph;

/// What a mode provides: time, waiting, and somebody who runs tasks, callouts and epoch callbacks.
pub(crate) trait Machine: Send + Sync {
    fn is_sim(&self) -> bool;
    /// Nanoseconds since boot.
    fn uptime_ns(&self) -> u64;
    /// The same as of the last tick.
    fn uptime_coarse_ns(&self) -> u64;
    /// Wall clock, since 1970.
    fn realtime(&self) -> Duration;
    fn random(&self, buf: &mut [u8]);
    /// The CPU, of `ncpu`, that runs a frame which belongs to none.
    fn cpu(&self, ncpu: usize) -> usize;
    /// Whether there is much left of the stack that a kernel would have here.
    fn stack_is_shallow(&self) -> bool;
    /// Blocks the running frame until `done`; in simulation other frames run meanwhile.
    fn wait(&self, what: &str, done: &mut dyn FnMut() -> bool);
    /// A waiter's condition may have become true.
    fn wakeup(&self);
    /// Another CPU could run here.
    fn preempt(&self) {}
    /// Queue `cpu` has got a task.
    fn kick_task(&self, cpu: usize);
    /// The earliest callout may have changed.
    fn kick_callout(&self);
    /// An epoch callback was queued.
    fn kick_epoch(&self);
    /// One line for the log.
    fn log(&self, line: &str);
    /// One line for the trace.
    fn trace(&self, _line: &str) {}
    /// A received payload as an mbuf chain; simulation tries all shapes. None: no memory.
    fn shape_datagram(&self, payload: &[u8]) -> Option<Packet> {
        Packet::from_slice(payload)
    }
    /// A packet of the host's stack as an mbuf chain. None: no memory.
    fn shape_packet(&self, packet: &[u8]) -> Option<Packet> {
        Packet::from_slice(packet)
    }
    /// Tells what led here, before a panic.
    fn explain(&self) {}
}

/// How a kernel is made.
#[derive(Clone, Debug)]
pub struct Config {
    /// Number of CPUs that the driver sees.
    pub ncpu: usize,
    /// Print what the driver logs to standard error.
    pub log: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ncpu: 4,
            log: false,
        }
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A kernel. Made by [`crate::sim::Sim`] or by `real::boot`.
pub struct Kernel {
    pub(crate) id: u64,
    pub(crate) machine: Box<dyn Machine>,
    pub(crate) ncpu: usize,
    pub(crate) witness: Graph,
    pub(crate) epoch: Epoch,
    pub(crate) callouts: Callouts,
    pub(crate) tasks: TaskGroup,
    /// For what takes long: a queue for every second CPU.
    pub(crate) slow_tasks: TaskGroup,
    pub(crate) mbufs: MbufBooks,
    pub(crate) interfaces: Interfaces,
    pub(crate) vnets: RwLock<Vec<Arc<Vnet>>>,
    pub(crate) backend: OnceLock<Arc<dyn Backend>>,
    pub(crate) module: Mutex<Module>,
    pub(crate) sysctls: Mutex<Vec<usize>>,
    /// The kernel environment: loader tunables.
    pub(crate) tunables: Mutex<HashMap<String, String>>,
    pub(crate) ocf: crate::ocf::Books,
    /// Initialized locks.
    pub(crate) locks: AtomicI64,
    /// Kept, so that a late use is told apart.
    pub(crate) closed_sockets: Mutex<Vec<Arc<crate::socket::Socket>>>,
    /// Open sockets.
    pub(crate) sockets: AtomicI64,
    /// Attached group tasks.
    pub(crate) attached_tasks: AtomicI64,
    /// `kpi_module_slot`.
    pub(crate) slot: AtomicPtr<c_void>,
    /// Allocations of the driver.
    pub(crate) account: Option<hostkern_malloc::Account>,
    /// The most bytes that went through the cipher while the vector registers were held.
    pub(crate) section_bytes: AtomicUsize,
    /// Allocations that tests hold.
    held: AtomicI64,
    pub(crate) stopping: AtomicBool,
    /// What crosses between host and kernel; shared with those who carry it.
    pub(crate) tally: Arc<Tally>,
    #[cfg(feature = "kld")]
    pub(crate) kld: crate::kld::Slot,
    pub(crate) me: OnceLock<std::sync::Weak<Kernel>>,
}

impl Kernel {
    pub(crate) fn new(
        config: &Config,
        machine: Box<dyn Machine>,
        account: Option<hostkern_malloc::Account>,
    ) -> Arc<Self> {
        hostkern_malloc::set_waitok_hook(|| {
            if thread::try_kernel().is_some() {
                thread::check_sleep("malloc(M_WAITOK)");
            }
        });
        let sim = machine.is_sim();
        let k = Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            machine,
            ncpu: config.ncpu.max(1),
            witness: Graph::new(),
            epoch: Epoch::new(sim),
            callouts: Callouts::default(),
            tasks: TaskGroup::new(config.ncpu.max(1), 1),
            slow_tasks: TaskGroup::new(config.ncpu.max(1).div_ceil(2), 2),
            mbufs: MbufBooks::new(sim),
            interfaces: Interfaces::default(),
            vnets: RwLock::default(),
            backend: OnceLock::new(),
            module: Mutex::default(),
            sysctls: Mutex::default(),
            tunables: Mutex::default(),
            ocf: crate::ocf::Books::default(),
            locks: AtomicI64::new(0),
            closed_sockets: Mutex::default(),
            sockets: AtomicI64::new(0),
            attached_tasks: AtomicI64::new(0),
            slot: AtomicPtr::new(std::ptr::null_mut()),
            account,
            section_bytes: AtomicUsize::new(0),
            held: AtomicI64::new(0),
            stopping: AtomicBool::new(false),
            tally: Arc::default(),
            #[cfg(feature = "kld")]
            kld: crate::kld::Slot::default(),
            me: OnceLock::new(),
        });
        let _ = k.me.set(Arc::downgrade(&k));
        k
    }

    /// A counted reference to this kernel.
    pub(crate) fn arc(&self) -> Arc<Self> {
        self.me
            .get()
            .and_then(std::sync::Weak::upgrade)
            .expect("a kernel that is being dropped")
    }

    /// Wakes whoever waits for a condition.
    pub(crate) fn wakeup(&self) {
        self.machine.wakeup();
    }

    /// Runs `f` as a system call of a process in `vnet`, with root's privileges unless [`as_user`]
    /// says otherwise.
    pub fn process<R>(self: &Arc<Self>, vnet: &Arc<Vnet>, f: impl FnOnce() -> R) -> R {
        thread::enter(self, Kind::Process, Some(vnet), f)
    }

    /// Makes a vnet with no address.
    pub fn add_vnet(self: &Arc<Self>, name: &str) -> Arc<Vnet> {
        let mut all = self.vnets.write().unwrap();
        let v = Vnet::new(self, all.len() as u32, name);
        all.push(v.clone());
        drop(all);
        #[cfg(feature = "kld")]
        crate::kld::vnet::added(self, &v);
        v
    }

    /// The `n`th vnet.
    pub fn vnet(&self, n: usize) -> Option<Arc<Vnet>> {
        self.vnets.read().unwrap().get(n).cloned()
    }

    /// Nanoseconds since boot.
    pub fn uptime_ns(&self) -> u64 {
        self.machine.uptime_ns()
    }

    /// What crossed between the host and this kernel, and what was lost there.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// The most bytes that went through the cipher in one critical section (`fpu_kern_enter(9)`) since this was last
    /// asked. Of a module that was loaded from a file, whose cipher is its own, nothing is known.
    pub fn take_section_bytes(&self) -> usize {
        self.section_bytes.swap(0, Ordering::Relaxed)
    }

    /// What is still there that should be gone once every interface is destroyed and the module
    /// unloaded: one line a kind. Empty when nothing leaked.
    pub fn leaks(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.mbufs.report(&mut out);
        let mut count = |n: i64, what: &str| {
            if n != 0 {
                out.push(format!("{n} {what}"));
            }
        };
        count(self.sockets.load(Ordering::SeqCst), "open sockets");
        count(self.callouts.armed() as i64, "armed callouts");
        count(
            self.attached_tasks.load(Ordering::SeqCst),
            "attached group tasks",
        );
        count(
            self.epoch.outstanding() as i64,
            "epoch callbacks that did not run",
        );
        count(self.locks.load(Ordering::SeqCst), "initialized locks");
        count(self.interfaces.live() as i64, "interfaces");
        count(self.sysctls.lock().unwrap().len() as i64, "sysctl contexts");
        #[cfg(feature = "kld")]
        count(crate::kld::sysctl::contexts(self) as i64, "sysctl contexts");
        count(self.ocf.live(), "sessions of the crypto framework");
        count(self.ocf.pinned(), "holds on its driver");
        for v in self.vnets.read().unwrap().iter() {
            let refs = v.cred_refs();
            if refs != 0 {
                out.push(format!("{refs} credential references in vnet {}", v.name));
            }
        }
        if let Some(a) = &self.account
            && a.stats().live_objects != 0
        {
            out.push(format!("memory: {a}"));
        }
        out
    }

    /// Everything in the kernel that points into the module, be it at its code or at its data: one line
    /// a kind. All of it must be gone when an unload succeeds, as the module's memory is gone then.
    /// Cloners, hooks and the like of one that comes from a file are looked at by `kld`.
    pub fn points_into_module(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut count = |n: i64, what: &str| {
            if n != 0 {
                out.push(format!("{n} {what}"));
            }
        };
        count(self.mbufs.of_module(), "pieces of packets' storage");
        count(self.callouts.in_use() as i64, "callouts");
        count(self.attached_tasks.load(Ordering::SeqCst), "group tasks");
        let own = crate::ifnet::free_callback();
        count(self.epoch.pending_but(own) as i64, "epoch callbacks");
        count(
            self.sockets.load(Ordering::SeqCst),
            "sockets with its callback",
        );
        count(
            self.interfaces.attached() as i64,
            "interfaces with its methods",
        );
        count(self.sysctls.lock().unwrap().len() as i64, "sysctl contexts");
        #[cfg(feature = "kld")]
        count(crate::kld::sysctl::contexts(self) as i64, "sysctl contexts");
        count(
            self.locks.load(Ordering::SeqCst),
            "locks, by their names at least",
        );
        count(self.ocf.live(), "sessions of the crypto framework");
        count(self.ocf.pinned(), "holds on its driver");
        let slot = !self.slot.load(Ordering::SeqCst).is_null();
        count(slot.into(), "pointers to its state");
        count(self.module_memory(), "allocations of it");
        out
    }

    /// Allocations of the module. Its account has the kernel's mbufs beside them.
    pub(crate) fn module_memory(&self) -> i64 {
        let all = self.account.as_ref().map(|a| a.stats().live_objects as i64);
        let own = all.map_or(0, |n| n - self.mbufs.pooled.load(Ordering::SeqCst));
        own + self.held.load(Ordering::SeqCst)
    }

    /// Makes it appear that somebody holds an allocation of the module's, until the value is dropped.
    pub fn hold_module_memory(self: &Arc<Self>) -> Held {
        self.count_held(1);
        Held(self.clone())
    }

    fn count_held(&self, n: i64) {
        #[cfg(feature = "kld")]
        if let Some(kld) = self.kld.current() {
            return kld.count_held(n);
        }
        self.held.fetch_add(n, Ordering::SeqCst);
    }

    /// Checks [`points_into_module`](Self::points_into_module), when the module says that it can go.
    #[track_caller]
    pub(crate) fn check_unloaded(&self) {
        let left = self.points_into_module();
        if !left.is_empty() {
            thread::violation(
                "unload",
                format_args!("the module goes, and there are {}", left.join("; ")),
            );
        }
    }

    /// Checks [`leaks`](Self::leaks).
    ///
    /// # Panics
    /// With everything that leaked.
    #[track_caller]
    pub fn assert_no_leaks(&self) {
        let leaks = self.leaks();
        if !leaks.is_empty() {
            self.machine.explain();
            panic!("hostkern: [leak] {}", leaks.join("; "));
        }
    }
}

/// See [`Kernel::hold_module_memory`].
pub struct Held(Arc<Kernel>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.count_held(-1);
    }
}

/// `kpi_malloc_live` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_malloc_live() -> u64 {
    thread::kernel().module_memory().max(0).cast_unsigned()
}

/// Runs `f` without root's privileges.
pub fn as_user<R>(f: impl FnOnce() -> R) -> R {
    crate::vnet::with_privilege(false, f)
}

/// `kpi_module_slot` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_module_slot() -> *mut *mut c_void {
    thread::kernel().slot.as_ptr()
}

/// `kpi_ncpus` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_ncpus() -> core::ffi::c_int {
    thread::kernel().ncpu as core::ffi::c_int
}

/// `kpi_curcpu` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_curcpu() -> core::ffi::c_int {
    thread::cpu() as core::ffi::c_int
}

/// `kpi_stack_is_shallow` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_stack_is_shallow() -> bool {
    thread::kernel().machine.stack_is_shallow()
}
