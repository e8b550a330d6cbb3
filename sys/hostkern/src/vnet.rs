// SPDX-License-Identifier: BSD-2-Clause
//! A network stack instance with its jail and its credential, and what a system call may do.

use core::ffi::{c_int, c_void};
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};

use crate::ifnet::Ifnet;
use crate::kernel::Kernel;
use crate::thread::{check_sleep, ctx, violation};

const EPERM: c_int = 1;
const EFAULT: c_int = 14;

/// `struct ucred` as far as anybody looks: the driver holds it, and opens sockets with it.
#[repr(C)]
pub struct Ucred {
    refs: AtomicI64,
    vnet: Cell<*const Vnet>,
    /// Where a shim of if_wg.ko looks for the next field.
    #[cfg(feature = "kld")]
    _between: [u8; freebsd_kernel_sys::offsets::KPI_OFF_CR_PRISON as usize - 16],
    #[cfg(feature = "kld")]
    prison: Cell<*const c_void>,
}

/// `struct prison`: its address matters, and to a shim of if_wg.ko its vnet. What follows is ours.
#[repr(C, align(8))]
pub struct Prison {
    #[cfg(feature = "kld")]
    _before: [u8; freebsd_kernel_sys::offsets::KPI_OFF_PR_VNET as usize],
    #[cfg(feature = "kld")]
    vnet: core::sync::atomic::AtomicPtr<c_void>,
    /// It is being removed, or is gone.
    dying: AtomicBool,
    /// The one that it is in.
    parent: AtomicPtr<Prison>,
}

/// Where packets to a prefix go that the backend's network shall not get.
pub(crate) struct Route {
    pub net: IpAddr,
    pub len: u8,
    pub to: Arc<Ifnet>,
}

/// An ICMP or ICMPv6 error that the driver asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Name of the interface.
    pub interface: String,
    /// `KPI_ICMP_*`: 0 host unreachable, 1 too big, 2 no route.
    pub reason: c_int,
    /// Name of the interface that the packet had come by, if it was none of the host's own.
    pub received_by: Option<String>,
    /// MTU for "too big".
    pub mtu: u32,
    /// The packet that it answers.
    pub packet: Vec<u8>,
}

/// A simulated host: a vnet with its prison.
pub struct Vnet {
    /// Its number in the kernel.
    pub id: u32,
    /// Name for messages.
    pub name: String,
    pub(crate) kernel: Weak<Kernel>,
    cred: Ucred,
    /// `struct vnet` for the module that is loaded.
    #[cfg(feature = "kld")]
    native: core::sync::atomic::AtomicPtr<c_void>,
    prison: Prison,
    /// FIB of processes in this vnet.
    pub(crate) fib: AtomicU16,
    pub(crate) routes: RwLock<Vec<Route>>,
    pub(crate) has_routes: AtomicBool,
    pub(crate) forward: AtomicBool,
    pub(crate) addresses: RwLock<Vec<IpAddr>>,
    pub(crate) icmp: Mutex<Vec<IcmpError>>,
    /// What a socket has received that nobody reads, if delivered packets are kept so.
    pub(crate) unread: Mutex<Option<Vec<crate::mbuf::Packet>>>,
    /// Tunnelling sockets, for datagrams that come out of a tunnel of the same host.
    pub(crate) sockets: Mutex<Vec<crate::socket::SockRef>>,
}

// SAFETY: the only field that is not Sync by itself is the credential's pointer back, which is set
// once before the vnet is shared.
unsafe impl Sync for Vnet {}
// SAFETY: as above; the pointer is to the vnet itself.
unsafe impl Send for Vnet {}

impl Vnet {
    pub(crate) fn new(k: &Arc<Kernel>, id: u32, name: &str) -> Arc<Self> {
        let v = Arc::new(Self {
            id,
            name: name.to_string(),
            kernel: Arc::downgrade(k),
            cred: Ucred {
                refs: AtomicI64::new(0),
                vnet: Cell::new(core::ptr::null()),
                #[cfg(feature = "kld")]
                _between: [0; _],
                #[cfg(feature = "kld")]
                prison: Cell::new(core::ptr::null()),
            },
            #[cfg(feature = "kld")]
            native: core::sync::atomic::AtomicPtr::new(core::ptr::null_mut()),
            prison: Prison {
                #[cfg(feature = "kld")]
                _before: [0; _],
                #[cfg(feature = "kld")]
                vnet: core::sync::atomic::AtomicPtr::new(core::ptr::null_mut()),
                dying: AtomicBool::new(false),
                parent: AtomicPtr::default(),
            },
            fib: AtomicU16::new(0),
            routes: RwLock::default(),
            has_routes: AtomicBool::new(false),
            forward: AtomicBool::new(false),
            addresses: RwLock::default(),
            icmp: Mutex::default(),
            unread: Mutex::default(),
            sockets: Mutex::default(),
        });
        v.cred.vnet.set(Arc::as_ptr(&v));
        #[cfg(feature = "kld")]
        v.cred.prison.set(v.prison());
        v
    }

    pub(crate) fn cred_refs(&self) -> i64 {
        self.cred.refs.load(Ordering::SeqCst)
    }

    pub(crate) fn prison(&self) -> *const c_void {
        (&raw const self.prison).cast()
    }

    /// Marks its jail as dying.
    pub(crate) fn kill_prison(&self) {
        self.prison.dying.store(true, Ordering::SeqCst);
    }

    /// Puts its jail into that of `parent`, which lives as long: both as long as the kernel.
    pub fn set_parent(&self, parent: &Self) {
        let parent = (&raw const parent.prison).cast_mut();
        self.prison.parent.store(parent, Ordering::SeqCst);
    }

    #[cfg(feature = "kld")]
    pub(crate) fn native(&self) -> *mut c_void {
        self.native.load(Ordering::Acquire)
    }

    #[cfg(feature = "kld")]
    pub(crate) fn set_native(&self, native: *mut c_void) {
        self.native.store(native, Ordering::Release);
        self.prison.vnet.store(native, Ordering::Release);
    }

    #[cfg(feature = "kld")]
    pub(crate) fn credential(&self) -> *const Ucred {
        &raw const self.cred
    }

    /// `p_fibnum` of its processes.
    #[cfg(feature = "kld")]
    pub(crate) fn process_fib(&self) -> u32 {
        self.fib.load(Ordering::Relaxed).into()
    }

    /// The interface that a packet to `dst` is routed into, if not to the network.
    pub(crate) fn route(&self, dst: &IpAddr) -> Option<Arc<Ifnet>> {
        if !self.has_routes.load(Ordering::Relaxed) {
            return None;
        }
        let routes = self.routes.read().unwrap();
        let best = routes
            .iter()
            .filter(|r| covers(&r.net, r.len, dst))
            .max_by_key(|r| r.len);
        best.map(|r| r.to.clone())
    }

    /// True if `a` is an address of this host.
    pub(crate) fn is_local(&self, a: &IpAddr) -> bool {
        self.addresses.read().unwrap().contains(a)
    }

    /// ICMP errors since the last call.
    pub fn take_icmp(&self) -> Vec<IcmpError> {
        core::mem::take(&mut self.icmp.lock().unwrap())
    }
}

/// True if the prefix covers the address.
pub(crate) fn covers(net: &IpAddr, len: u8, a: &IpAddr) -> bool {
    fn bits(a: &IpAddr) -> (u128, u32) {
        match a {
            IpAddr::V4(a) => (u128::from(u32::from(*a)) << 96, 4),
            IpAddr::V6(a) => (u128::from(*a), 6),
        }
    }
    let ((n, nf), (b, bf)) = (bits(net), bits(a));
    nf == bf && (len == 0 || (n ^ b) >> (128 - u32::from(len)) == 0)
}

thread_local! {
    static ROOT: Cell<bool> = const { Cell::new(true) };
    static USER: RefCell<Vec<(usize, usize)>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` with or without root's privileges.
pub(crate) fn with_privilege<R>(root: bool, f: impl FnOnce() -> R) -> R {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            ROOT.set(self.0);
        }
    }
    let _back = Back(ROOT.replace(root));
    f()
}

/// True if the running system call has root's privileges.
pub(crate) fn is_root() -> bool {
    ROOT.get()
}

/// Runs `f` with `[start, start+len)` as the only memory that copyin and copyout reach.
pub(crate) fn with_user_memory<R>(start: usize, len: usize, f: impl FnOnce() -> R) -> R {
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            USER.with_borrow_mut(Vec::pop);
        }
    }
    USER.with_borrow_mut(|u| u.push((start, len)));
    let _back = Back;
    f()
}

fn user_ok(p: usize, len: usize) -> bool {
    let Some(end) = p.checked_add(len) else {
        return false;
    };
    USER.with_borrow(|u| match u.last() {
        Some(&(start, n)) => p >= start && end <= start + n,
        // Without a declared buffer: anything but the first page and the upper half.
        None => p >= 4096 && end < 1 << 47,
    })
}

/// The vnet of the running frame.
pub(crate) fn current() -> Option<&'static Vnet> {
    let p = ctx(|c| c.vnet.get());
    // SAFETY: vnets live as long as their kernel, and the frame's kernel is held by `enter`;
    // callers use the reference within the frame.
    (!p.is_null()).then(|| unsafe { &*p })
}

/// The vnet whose processes have the running frame's credential.
fn current_who() -> Option<&'static Vnet> {
    let p = ctx(|c| c.who.get());
    // SAFETY: as in `current`.
    (!p.is_null()).then(|| unsafe { &*p })
}

/// `kpi_priv_check` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_priv_check(_privilege: c_int) -> c_int {
    if is_root() { 0 } else { EPERM }
}

/// `kpi_cred_current` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_cred_current() -> *mut Ucred {
    let Some(v) = current_who() else {
        violation(
            "vnet",
            format_args!("kpi_cred_current outside of a process"),
        );
    };
    let c = (&raw const v.cred).cast_mut();
    // SAFETY: the vnet's own credential.
    unsafe { crhold(c) }
}

/// ucred(9).
///
/// # Safety
/// `cred` is a credential of this kernel.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn crhold(cred: *mut Ucred) -> *mut Ucred {
    // SAFETY: as the caller says.
    unsafe { (*cred).refs.fetch_add(1, Ordering::SeqCst) };
    cred
}

/// ucred(9).
///
/// # Safety
/// `cred` is a credential of this kernel that the caller has a reference to.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn crfree(cred: *mut Ucred) {
    // SAFETY: as the caller says.
    if unsafe { (*cred).refs.fetch_sub(1, Ordering::SeqCst) } <= 0 {
        violation(
            "cred",
            format_args!("a credential was freed more often than held"),
        );
    }
}

/// The vnet that sockets of this credential live in.
pub(crate) unsafe fn of_cred(cred: *const Ucred) -> *const Vnet {
    // SAFETY: the caller passes a live credential.
    unsafe {
        if (*cred).refs.load(Ordering::SeqCst) <= 0 {
            violation(
                "cred",
                format_args!("a credential was used after its last reference"),
            );
        }
        (*cred).vnet.get()
    }
}

/// `kpi_cred_in_prison` of kpi_shim.h.
///
/// # Safety
/// `cred` is a live credential.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_cred_in_prison(cred: *const Ucred, pr: *const c_void) -> bool {
    // SAFETY: as the caller says; vnets live as long as the kernel.
    unsafe { (*of_cred(cred)).prison() == pr }
}

/// `kpi_cred_is_here` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_cred_is_here() -> bool {
    ctx(|c| !c.who.get().is_null() && c.who.get() == c.vnet.get())
}

/// jail(9): whether the jail is not being removed.
///
/// # Safety
/// `pr` is a jail of this kernel.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn prison_isalive(pr: *const Prison) -> bool {
    // SAFETY: as the caller says.
    !unsafe { (*pr).dying.load(Ordering::SeqCst) }
}

/// jail(9): whether `child` is in `parent`, at any depth.
///
/// # Safety
/// Both are jails of this kernel.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn prison_ischild(
    parent: *const Prison,
    child: *const Prison,
) -> c_int {
    let mut at = child;
    loop {
        // SAFETY: as the caller says; parents live as long as the kernel.
        at = unsafe { (*at).parent.load(Ordering::SeqCst) };
        if at.is_null() || core::ptr::eq(at, parent) {
            return c_int::from(!at.is_null());
        }
    }
}

/// `kpi_cred_alive` of kpi_shim.h.
///
/// # Safety
/// `cred` is a live credential.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_cred_alive(cred: *const Ucred) -> bool {
    // SAFETY: as the caller says; vnets live as long as the kernel.
    unsafe { prison_isalive(&raw const (*of_cred(cred)).prison) }
}

/// `kpi_cred_governed` of kpi_shim.h.
///
/// # Safety
/// `cred` is a live credential.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_cred_governed(cred: *const Ucred) -> bool {
    let Some(mine) = current() else {
        violation(
            "vnet",
            format_args!("kpi_cred_governed outside of a process"),
        );
    };
    let mine = &raw const mine.prison;
    // SAFETY: as the caller says; vnets live as long as the kernel.
    unsafe {
        let other = &raw const (*of_cred(cred)).prison;
        core::ptr::eq(mine, other) || prison_ischild(mine, other) != 0
    }
}

/// `kpi_vnet_current` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_vnet_current() -> *const Vnet {
    ctx(|c| c.vnet.get())
}

/// `kpi_num_fibs` of kpi_shim.h: as many as there can be.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_num_fibs() -> u32 {
    1 << 16
}

/// `kpi_current_fib` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_current_fib() -> u32 {
    current_who().map_or(0, |v| u32::from(v.fib.load(Ordering::Relaxed)))
}

/// `kpi_copyin` of kpi_shim.h.
///
/// # Safety
/// `kaddr` has room for `len` bytes; `uaddr` is memory of this process or refused.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_copyin(uaddr: *const u8, kaddr: *mut u8, len: usize) -> c_int {
    check_sleep("copyin");
    if len == 0 {
        return 0;
    }
    if !user_ok(uaddr.addr(), len) {
        return EFAULT;
    }
    // SAFETY: checked against the declared user buffer, or the caller's promise.
    unsafe { core::ptr::copy_nonoverlapping(uaddr, kaddr, len) };
    0
}

/// `kpi_copyout` of kpi_shim.h.
///
/// # Safety
/// As [`kpi_copyin`], the other way.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_copyout(kaddr: *const u8, uaddr: *mut u8, len: usize) -> c_int {
    check_sleep("copyout");
    if len == 0 {
        return 0;
    }
    if !user_ok(uaddr.addr(), len) {
        return EFAULT;
    }
    // SAFETY: as above.
    unsafe { core::ptr::copy_nonoverlapping(kaddr, uaddr, len) };
    0
}
