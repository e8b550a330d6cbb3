// SPDX-License-Identifier: BSD-2-Clause
//! The kernel as `if_wg.ko` sees it: what its C shims look at and what they call.
//!
//! The module's Rust code calls the same functions in a process as in a kernel, but its C does not stop there: macros
//! and inlines of FreeBSD's headers read the running thread through `%gs`, walk the list of vnets, follow pointers
//! into `struct socket`, and call what is behind mutex(9) or m_gethdr(9). All of that is given to it here, over the
//! same simulated kernel, so that the very file which a kernel loads can run, shims included. Numbers of the
//! structures come from FreeBSD's headers (`freebsd_kernel_sys::offsets`).
//!
//! `tests/kmod/loader` places and relocates the file. Each kernel has a copy of its own, since a module's statics are
//! one kernel's. It is for amd64 on Linux, where `%gs` is free.

mod crypto;
mod lock;
mod memory;
mod misc;
mod module;
mod net;
mod socket;
pub(crate) mod sysctl;
pub(crate) mod thread;
pub(crate) mod vnet;

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;
use std::collections::HashMap;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freebsd_kernel_sys::offsets as off;

pub use self::module::{Metadata, load, metadata, module_ops};
pub use self::net::{IfNative, native_route};
use crate::kernel::Kernel;
use crate::thread::{kernel, violation};

/// Variables of the kernel that the module may import, with their sizes in bytes.
pub const VARIABLES: &[(&str, usize)] = &[
    ("M_SONAME", off::KPI_LEN_MALLOC_TYPE as usize),
    ("__pcpu", 8),
    ("all_cpus", off::KPI_LEN_CPUSET as usize),
    ("ifnet_detach_sxlock", 32),
    ("mp_maxid", 4),
    ("mp_ncpus", 4),
    ("net_epoch_preempt", 8),
    ("sysctl___net", off::KPI_LEN_SYSCTL_OID as usize),
    ("tick_sbt", 8),
    ("vnet_head", 8),
    ("vnet_sxlock", 32),
    ("zone_mbuf", 8),
    ("zone_pack", 8),
];

/// The same for those of which each vnet has its own, with the value that a new vnet has.
pub const VNET_VARIABLES: &[(&str, u32)] = &[("vnet_entry__rt_numfibs", 1 << 16)];

/// A module as the kernel's linker leaves it: placed and relocated, nothing run.
pub struct File {
    /// What keeps its memory; dropped with the kernel.
    pub memory: Box<dyn Send + Sync>,
    /// Addresses of [`VARIABLES`], zeroed.
    pub variables: HashMap<&'static str, usize>,
    /// Address and bytes of the VNET variables, with their first values: the kernel's and the module's.
    pub vnet: (usize, usize),
    /// Pointers in `set_sysinit_set`.
    pub sysinits: Vec<usize>,
    /// Pointers in `set_sysuninit_set`.
    pub sysuninits: Vec<usize>,
    /// Pointers in `set_modmetadata_set`.
    pub metadata: Vec<usize>,
}

/// A loaded file, with what it has registered.
pub(crate) struct Kld {
    file: File,
    state: Mutex<State>,
}

#[derive(Default)]
#[expect(clippy::vec_box, reason = "the module has pointers to them")]
struct State {
    vnets: Vec<Box<vnet::Native>>,
    constructors: Vec<vnet::Hook>,
    destructors: Vec<vnet::Hook>,
    modules: Vec<module::Registered>,
    jails: Vec<Option<module::Methods>>,
    cloners: Vec<Box<module::Cloner>>,
    /// Statistics of malloc types, by the type's address.
    types: HashMap<usize, Box<memory::Stats>>,
    /// Addresses of sockets that were given out.
    names: usize,
    sysctls: Vec<Box<sysctl::Oid>>,
    /// Addresses of the contexts of sysctl(9).
    contexts: Vec<usize>,
}

impl Kld {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn variable<T>(&self, name: &str) -> *mut T {
        ptr::with_exposed_provenance_mut(self.file.variables[name])
    }
}

/// The file that a kernel has loaded. Those before it stay, as long as the kernel: somebody may have a pointer.
#[derive(Default)]
pub(crate) struct Slot {
    current: AtomicPtr<Kld>,
    all: Mutex<Vec<Arc<Kld>>>,
}

impl Slot {
    pub fn current(&self) -> Option<&Kld> {
        let p = self.current.load(Ordering::Acquire);
        // SAFETY: null, or one of `all`, which only grows.
        unsafe { p.as_ref() }
    }

    fn set(&self, kld: Arc<Kld>) {
        let p = Arc::as_ptr(&kld).cast_mut();
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(kld);
        self.current.store(p, Ordering::Release);
    }

    fn clear(&self) {
        self.current.store(ptr::null_mut(), Ordering::Release);
    }
}

/// Runs `f` on the file that the kernel of the running frame has loaded.
#[track_caller]
fn with<R>(what: &str, f: impl FnOnce(&Kernel, &Kld) -> R) -> R {
    let k = kernel();
    match k.kld.current() {
        Some(kld) => f(&k, kld),
        None => violation("kld", format_args!("{what} without a loaded module")),
    }
}

/// A C string that outlives the call.
fn text<'a>(p: *const c_char) -> &'a str {
    crate::thread::name_of(p)
}

/// Reads a value of C.
///
/// # Safety
/// There is one of that type at `base + offset`.
unsafe fn get<T: Copy>(base: *const c_void, offset: u32) -> T {
    // SAFETY: as the caller says.
    unsafe { base.byte_add(offset as usize).cast::<T>().read_unaligned() }
}

/// Writes a value of C.
///
/// # Safety
/// There is room for one of that type at `base + offset`.
unsafe fn put<T>(base: *mut c_void, offset: u32, value: T) {
    // SAFETY: as the caller says.
    unsafe {
        base.byte_add(offset as usize)
            .cast::<T>()
            .write_unaligned(value)
    }
}

/// What printf(9) makes of the few formats that the shims use, with up to four arguments that are integers or pointers.
///
/// # Safety
/// The arguments are what the format says.
unsafe fn format(format: *const c_char, arguments: [usize; 4]) -> String {
    let format = text(format);
    let mut arguments = arguments.into_iter();
    let mut next = || arguments.next().unwrap_or_default();
    let mut out = String::new();
    let mut rest = format;
    while let Some((plain, conversion)) = rest.split_once('%') {
        out += plain;
        let bytes = |p: usize, n: usize| {
            // SAFETY: the caller's string has that many bytes or ends before.
            let all = unsafe { CStr::from_ptr(ptr::with_exposed_provenance(p)) };
            let all = all.to_bytes();
            String::from_utf8_lossy(&all[..all.len().min(n)]).into_owned()
        };
        rest = if let Some(rest) = conversion.strip_prefix(".*s") {
            let n = next();
            // SAFETY: `n` bytes are there; an end need not be.
            let b = unsafe { core::slice::from_raw_parts(ptr::with_exposed_provenance(next()), n) };
            let end = b.iter().position(|&c| c == 0).unwrap_or(n);
            out += &String::from_utf8_lossy(&b[..end]);
            rest
        } else if let Some(rest) = conversion.strip_prefix('s') {
            out += &bytes(next(), usize::MAX);
            rest
        } else if let Some(rest) = conversion.strip_prefix('d') {
            out += &(next() as c_int).to_string();
            rest
        } else if let Some(rest) = conversion.strip_prefix('%') {
            out.push('%');
            rest
        } else {
            violation(
                "kld",
                format_args!("a format that is not known: {format:?}"),
            )
        };
    }
    out + rest
}

macro_rules! addresses {
    ($($name:ident = $function:path,)*) => {
        HashMap::from([$((stringify!($name), $function as *const () as usize),)*])
    };
}

/// Every function that the module may import, by its name in FreeBSD.
#[must_use]
#[rustfmt::skip]
pub fn functions() -> HashMap<&'static str, usize> {
    use crate::{epoch, ifnet, mbuf, ocf, task, vnet as host_vnet};
    unsafe extern "C" {
        fn memcmp();
        fn memcpy();
        fn memmove();
        fn memset();
        fn strlen();
    }
    addresses! {
        // Compilers and strings.
        memcmp = memcmp, memcpy = memcpy, memmove = memmove, memset = memset, strlen = strlen, strlcpy = misc::strlcpy,
        // malloc(9), mbuf(9)
        malloc = memory::malloc, free = memory::free, malloc_init = memory::malloc_init,
        malloc_uninit = memory::malloc_uninit, uma_zalloc_arg = memory::uma_zalloc_arg, m_getjcl = memory::m_getjcl,
        m_extadd = memory::m_extadd, m_move_pkthdr = memory::m_move_pkthdr, mb_unmapped_to_ext = mbuf::kpi_m_mapped,
        m_freem = mbuf::m_freem, m_adj = mbuf::m_adj, m_pullup = mbuf::m_pullup, m_prepend = mbuf::m_prepend,
        m_copydata = mbuf::m_copydata, m_dup = mbuf::m_dup, m_tag_delete = mbuf::m_tag_delete,
        // Locks
        _mtx_init = lock::mtx_init, _mtx_destroy = lock::mtx_destroy, __mtx_lock_flags = lock::mtx_lock,
        __mtx_unlock_flags = lock::mtx_unlock, _mtx_trylock_flags_ = lock::mtx_trylock,
        _rw_init_flags = lock::rw_init, _rw_destroy = lock::rw_destroy, __rw_rlock = lock::rw_rlock,
        _rw_runlock_cookie = lock::rw_runlock, _rw_wlock_cookie = lock::rw_wlock, _rw_wunlock_cookie = lock::rw_wunlock,
        sx_init_flags = lock::sx_init, sx_destroy = lock::sx_destroy, _sx_slock = lock::sx_slock,
        _sx_sunlock = lock::sx_sunlock, _sx_xlock = lock::sx_xlock, _sx_xunlock = lock::sx_xunlock,
        sx_try_xlock_ = lock::sx_try_xlock,
        // Time, random numbers, messages, vector registers
        binuptime = misc::binuptime, getbinuptime = misc::getbinuptime, nanotime = misc::nanotime, arc4random_buf = misc::arc4random_buf,
        callout_init = misc::callout_init, callout_reset_sbt_on = misc::callout_reset_sbt_on,
        _callout_stop_safe = misc::callout_stop_safe, printf = misc::printf, if_printf = misc::if_printf,
        panic = misc::panic, fpu_kern_enter = misc::fpu_kern_enter, fpu_kern_leave = misc::fpu_kern_leave,
        kern_getenv = misc::kern_getenv, freeenv = misc::freeenv, pause_sbt = misc::pause_sbt,
        // The calling thread
        priv_check = misc::priv_check, copyin = host_vnet::kpi_copyin, copyout = host_vnet::kpi_copyout,
        crhold = host_vnet::crhold, crfree = host_vnet::crfree, prison_isalive = host_vnet::prison_isalive,
        prison_ischild = host_vnet::prison_ischild,
        // epoch(9), gtaskqueue(9)
        _epoch_enter_preempt = epoch::_epoch_enter_preempt, _epoch_exit_preempt = epoch::_epoch_exit_preempt,
        epoch_call = epoch::epoch_call, epoch_drain_callbacks = epoch::epoch_drain_callbacks,
        epoch_wait_preempt = epoch::epoch_wait_preempt, grouptask_block = task::grouptask_block,
        grouptaskqueue_enqueue = task::grouptaskqueue_enqueue, taskqgroup_attach = task::taskqgroup_attach,
        taskqgroup_attach_cpu = task::taskqgroup_attach_cpu, taskqgroup_detach = task::taskqgroup_detach,
        taskqgroup_create = misc::taskqgroup_create, taskqgroup_bind = misc::taskqgroup_bind,
        thread_lock_flags_ = misc::thread_lock_flags_, __mtx_unlock_spin_flags = misc::mtx_unlock_spin_flags,
        sched_prio = misc::sched_prio,
        // Interfaces
        bpfattach = ifnet::bpfattach, bpfdetach = ifnet::bpfdetach, if_alloc = ifnet::if_alloc,
        if_attach = ifnet::if_attach, if_detach = ifnet::if_detach, if_free = ifnet::if_free,
        if_getcapenable = ifnet::if_getcapenable, if_getdrvflags = ifnet::if_getdrvflags, if_getfib = ifnet::if_getfib,
        if_getflags = ifnet::if_getflags, if_getmtu = ifnet::if_getmtu, if_getsoftc = ifnet::if_getsoftc,
        if_inc_counter = ifnet::if_inc_counter, if_initname = ifnet::if_initname, if_input = ifnet::if_input,
        if_link_state_change = ifnet::if_link_state_change, if_ref = ifnet::if_ref, if_rele = ifnet::if_rele,
        if_setcapabilities = ifnet::if_setcapabilities, if_setcapenable = ifnet::if_setcapenable,
        if_setdrvflagbits = ifnet::if_setdrvflagbits, if_setflags = ifnet::if_setflags,
        if_setinitfn = ifnet::if_setinitfn, if_setinputfn = ifnet::if_setinputfn, if_setioctlfn = ifnet::if_setioctlfn,
        if_setmtu = ifnet::if_setmtu, if_setoutputfn = ifnet::if_setoutputfn, if_setqflushfn = ifnet::if_setqflushfn,
        if_setreassignfn = ifnet::if_setreassignfn, if_setsoftc = ifnet::if_setsoftc,
        if_settransmitfn = ifnet::if_settransmitfn, if_transmit = ifnet::if_transmit,
        if_tunnel_check_nesting = ifnet::if_tunnel_check_nesting, if_name = net::if_name, if_getvnet = net::if_getvnet,
        if_getafdata = net::if_getafdata, if_purgeaddrs = net::if_purgeaddrs,
        bpf_peers_present_if = net::bpf_peers_present_if, bpf_mtap2_if = net::bpf_mtap2_if,
        netisr_dispatch = net::netisr_dispatch, icmp_error = net::icmp_error, icmp6_error = net::icmp6_error,
        // Sockets
        socreate = socket::socreate, soclose = socket::soclose, sobind = socket::sobind, sosetopt = socket::sosetopt,
        soreserve = socket::soreserve, sosend = socket::sosend, sbcreatecontrol = socket::sbcreatecontrol,
        udp_set_kernel_tunneling = socket::udp_set_kernel_tunneling,
        // Modules, vnets, jails, cloners, sysctl(9)
        module_register_init = module::module_register_init, osd_register = module::osd_register,
        osd_deregister = module::osd_deregister, ifc_attach_cloner = module::ifc_attach_cloner,
        ifc_detach_cloner = module::ifc_detach_cloner, vnet_register_sysinit = vnet::vnet_register_sysinit,
        vnet_register_sysuninit = vnet::vnet_register_sysuninit,
        vnet_deregister_sysinit = vnet::vnet_deregister_sysinit,
        vnet_deregister_sysuninit = vnet::vnet_deregister_sysuninit, sysctl_ctx_init = sysctl::sysctl_ctx_init,
        sysctl_ctx_free = sysctl::sysctl_ctx_free, sysctl_add_oid = sysctl::sysctl_add_oid,
        sysctl_handle_64 = sysctl::sysctl_handle_64,
        // crypto(9)
        crypto_destroyreq = ocf::crypto_destroyreq, crypto_dispatch = ocf::crypto_dispatch,
        crypto_freesession = ocf::crypto_freesession, crypto_initreq = ocf::crypto_initreq,
        crypto_newsession = ocf::crypto_newsession, crypto_ses2caps = ocf::crypto_ses2caps,
        crypto_ses2hid = ocf::crypto_ses2hid, crypto_find_device_byhid = crypto::crypto_find_device_byhid,
        device_busy = crypto::device_busy, device_unbusy = crypto::device_unbusy,
        device_get_nameunit = crypto::device_get_nameunit, bus_topo_lock = crypto::bus_topo_lock,
        bus_topo_unlock = crypto::bus_topo_unlock,
    }
}
