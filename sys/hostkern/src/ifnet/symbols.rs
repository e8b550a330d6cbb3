// SPDX-License-Identifier: BSD-2-Clause
//! The functions of ifnet(9) that the driver imports, and the interface part of kpi_shim.h.

use core::ffi::{c_char, c_int, c_uint, c_void};
use core::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use super::{ENXIO, IFF_UP, IfRef, Ifnet, SHARDS, Transmit};
use crate::backend::TunRx;
use crate::epoch::{epoch_call, epoch_wait_preempt, in_epoch};
use crate::layout::{epoch_context, mbuf};
use crate::mbuf::{check_leaves, check_packet, m_freem, tag_alloc};
use crate::thread::{check_sleep, kernel, name_of, violation};
use crate::vnet::current;

const EIO: c_int = 5;
const ENOMEM: c_int = 12;
const IFF_DYING: c_int = 0x20_0000;

/// A live interface from its pointer.
#[track_caller]
pub(super) fn live<'a>(ifp: *const Ifnet, what: &str) -> &'a Ifnet {
    if ifp.is_null() {
        violation(
            "ifnet-use-after-free",
            format_args!("{what} of a null interface"),
        );
    }
    // SAFETY: interfaces stay in memory until their kernel goes, whatever the driver does; the
    // reference is used within the call.
    let i = unsafe { &*ifp };
    if i.dead.load(Ordering::Acquire)
        || (i.freed.load(Ordering::Acquire) && i.refs.load(Ordering::Acquire) == 0 && !in_epoch())
    {
        violation(
            "ifnet-use-after-free",
            format_args!("{what} after if_free of {}", i.name()),
        );
    }
    i
}

/// ifnet(9).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn if_alloc(_kind: u8) -> *mut Ifnet {
    check_sleep("if_alloc");
    let k = kernel();
    let Some(v) = current() else {
        violation("vnet", format_args!("if_alloc outside of a vnet"));
    };
    let ifp = Arc::new(Ifnet {
        name: RwLock::default(),
        unit: AtomicI32::new(0),
        softc: AtomicPtr::new(ptr::null_mut()),
        flags: AtomicI32::new(0),
        drv_flags: AtomicI32::new(0),
        capenable: AtomicI32::new(0),
        mtu: AtomicI32::new(0),
        fib: AtomicI32::new(0),
        link: AtomicI32::new(0),
        counters: Default::default(),
        vnet: AtomicPtr::new(ptr::from_ref(v).cast_mut()),
        output: AtomicPtr::new(ptr::null_mut()),
        ioctl: AtomicPtr::new(ptr::null_mut()),
        transmit: AtomicPtr::new(ptr::null_mut()),
        reassign: AtomicPtr::new(ptr::null_mut()),
        refs: AtomicI64::new(1),
        freed: AtomicBool::new(false),
        dead: AtomicBool::new(false),
        attached: AtomicBool::new(false),
        cloned: AtomicBool::new(false),
        nd6: AtomicBool::new(false),
        bpf: AtomicI32::new(-1),
        taps: Mutex::default(),
        tapped: AtomicBool::new(false),
        tun: OnceLock::new(),
        delivered: Mutex::default(),
        #[cfg(feature = "kld")]
        native: crate::kld::IfNative::default(),
        kernel: v.kernel.clone(),
    });
    let p = ifp.pointer();
    k.interfaces.0.lock().unwrap().push(ifp);
    p
}

#[repr(C)]
struct Deferred {
    context: epoch_context,
    ifp: *mut Ifnet,
}

unsafe extern "C-unwind" fn finish_free(c: *mut epoch_context) {
    // SAFETY: `release` made it with Box::into_raw and this runs once.
    let d = unsafe { Box::from_raw(c.cast::<Deferred>()) };
    // SAFETY: interfaces stay in memory until the kernel goes.
    unsafe { (*d.ifp).dead.store(true, Ordering::Release) };
}

/// What hostkern itself gives to `epoch_call`, to be told apart from the module's.
pub(crate) fn free_callback() -> usize {
    finish_free as *const () as usize
}

fn release(ifp: *mut Ifnet) {
    // SAFETY: as in `live`.
    let i = unsafe { &*ifp };
    let n = i.refs.fetch_sub(1, Ordering::AcqRel);
    if n <= 0 {
        violation(
            "ifnet-use-after-free",
            format_args!("{} freed twice", i.name()),
        );
    }
    if n == 1 {
        let d = Box::new(Deferred {
            context: epoch_context {
                data: [ptr::null_mut(); 2],
            },
            ifp,
        });
        // SAFETY: the box stays until the callback takes it.
        unsafe { epoch_call(ptr::null_mut(), finish_free, Box::into_raw(d).cast()) };
    }
}

/// ifnet(9).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn if_free(ifp: *mut Ifnet) {
    let i = live(ifp, "if_free");
    if i.attached.load(Ordering::Acquire) {
        violation(
            "ifnet-free-attached",
            format_args!("if_free of {} while attached", i.name()),
        );
    }
    if i.freed.swap(true, Ordering::AcqRel) {
        violation(
            "ifnet-use-after-free",
            format_args!("{} freed twice", i.name()),
        );
    }
    i.flags.fetch_or(IFF_DYING, Ordering::SeqCst);
    release(ifp);
}

/// ifnet(9).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn if_ref(ifp: *mut Ifnet) {
    if live(ifp, "if_ref").refs.fetch_add(1, Ordering::AcqRel) <= 0 {
        violation(
            "ifnet-use-after-free",
            format_args!("if_ref of a freed interface"),
        );
    }
}

/// ifnet(9).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn if_rele(ifp: *mut Ifnet) {
    live(ifp, "if_rele");
    release(ifp);
}

/// ifnet(9).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn if_attach(ifp: *mut Ifnet) {
    check_sleep("if_attach");
    let i = live(ifp, "if_attach");
    let k = kernel();
    if i.attached.swap(true, Ordering::AcqRel) {
        violation("ifnet-attach", format_args!("{} attached twice", i.name()));
    }
    let Some(arc) = k.interfaces.by_pointer(ifp) else {
        return;
    };
    let tun = match k.backend.get() {
        None => None,
        Some(b) => match b.if_attach(&i.name(), i.mtu().cast_unsigned(), TunRx(IfRef(arc))) {
            Ok(t) => t,
            Err(e) => {
                k.module.lock().unwrap().attach_error = Some(e);
                None
            }
        },
    };
    let _ = i.tun.set(tun);
}

/// ifnet(9): after it returns the stack calls no method any more.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn if_detach(ifp: *mut Ifnet) {
    check_sleep("if_detach");
    let i = live(ifp, "if_detach");
    if !i.attached.swap(false, Ordering::AcqRel) {
        violation(
            "ifnet-attach",
            format_args!("if_detach of {} not attached", i.name()),
        );
    }
    i.flags.fetch_and(!IFF_UP, Ordering::SeqCst);
    let v = i.vnet();
    v.routes
        .write()
        .unwrap()
        .retain(|r| !ptr::eq(Arc::as_ptr(&r.to), ifp));
    if let Some(t) = i.tun() {
        t.close();
    }
    epoch_wait_preempt(ptr::null_mut());
}

/// ifnet(9).
///
/// # Safety
/// `name` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn if_initname(ifp: *mut Ifnet, name: *const c_char, unit: c_int) {
    let i = live(ifp, "if_initname");
    *i.name.write().unwrap() = format!("{}{unit}", name_of(name));
    i.unit.store(unit, Ordering::SeqCst);
}

macro_rules! field {
    ($($get:ident $set:ident $field:ident;)*) => {$(
        /// ifnet(9).
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn $get(ifp: *mut Ifnet) -> c_int {
            live(ifp, stringify!($get)).$field.load(Ordering::Acquire)
        }
        /// ifnet(9).
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn $set(ifp: *mut Ifnet, v: c_int) -> c_int {
            live(ifp, stringify!($set)).$field.store(v, Ordering::Release);
            0
        }
    )*};
}

field! {
    if_getflags if_setflags flags;
    if_getcapenable if_setcapenable capenable;
}

/// ifnet(9).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn if_getmtu(ifp: *mut Ifnet) -> c_int {
    live(ifp, "if_getmtu").mtu.load(Ordering::Acquire)
}

/// ifnet(9).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn if_setmtu(ifp: *mut Ifnet, mtu: c_int) -> c_int {
    let i = live(ifp, "if_setmtu");
    i.mtu.store(mtu, Ordering::Release);
    if let Some(t) = i.tun() {
        t.set_mtu(mtu.cast_unsigned());
    }
    0
}

/// ifnet(9).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn if_setcapabilities(ifp: *mut Ifnet, _caps: c_int) -> c_int {
    live(ifp, "if_setcapabilities");
    0
}

/// ifnet(9).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn if_getsoftc(ifp: *mut Ifnet) -> *mut c_void {
    live(ifp, "if_getsoftc").softc.load(Ordering::Acquire)
}

/// ifnet(9).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn if_setsoftc(ifp: *mut Ifnet, softc: *mut c_void) -> c_int {
    live(ifp, "if_setsoftc")
        .softc
        .store(softc, Ordering::Release);
    0
}

/// ifnet(9).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn if_getdrvflags(ifp: *mut Ifnet) -> c_int {
    live(ifp, "if_getdrvflags")
        .drv_flags
        .load(Ordering::Acquire)
}

/// ifnet(9).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn if_setdrvflagbits(ifp: *mut Ifnet, set: c_int, clear: c_int) -> c_int {
    let i = live(ifp, "if_setdrvflagbits");
    let _ = i
        .drv_flags
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, |f| {
            Some(f & !clear | set)
        });
    0
}

/// ifnet(9).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn if_getfib(ifp: *mut Ifnet) -> c_uint {
    live(ifp, "if_getfib")
        .fib
        .load(Ordering::Acquire)
        .cast_unsigned()
}

static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static SHARD: usize = NEXT_SHARD.fetch_add(1, Ordering::Relaxed) % SHARDS;
}

/// ifnet(9).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn if_inc_counter(ifp: *mut Ifnet, counter: c_uint, n: i64) {
    let i = live(ifp, "if_inc_counter");
    let Some(c) = i.counters[SHARD.with(|s| *s)].0.get(counter as usize) else {
        violation("ifnet-counter", format_args!("counter {counter}"));
    };
    c.fetch_add(n.cast_unsigned(), Ordering::Relaxed);
}

/// ifnet(9).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn if_link_state_change(ifp: *mut Ifnet, state: c_int) {
    let i = live(ifp, "if_link_state_change");
    if i.link.swap(state, Ordering::AcqRel) != state
        && let Some(t) = i.tun()
    {
        t.set_link(state == 2);
    }
}

macro_rules! method {
    ($($set:ident $field:ident;)*) => {$(
        /// ifnet(9): sets a method; `f` is a function pointer or null.
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn $set(ifp: *mut Ifnet, f: *mut c_void) {
            live(ifp, stringify!($set)).$field.store(f, Ordering::Release);
        }
    )*};
}

method! {
    if_setioctlfn ioctl;
    if_setoutputfn output;
    if_settransmitfn transmit;
    if_setreassignfn reassign;
}

macro_rules! unused_method {
    ($($set:ident)*) => {$(
        /// ifnet(9): a method that hostkern has no caller for.
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn $set(ifp: *mut Ifnet, _f: *const c_void) {
            live(ifp, stringify!($set));
        }
    )*};
}

unused_method! { if_setinitfn if_setinputfn if_setqflushfn }

/// ifnet(9): a link-level frame. Only netmap(4) takes those from a driver of IP packets, and there
/// is none here.
///
/// # Safety
/// `m` is a live packet that the caller owns.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn if_input(ifp: *mut Ifnet, m: *mut mbuf) {
    live(ifp, "if_input");
    if !in_epoch() {
        violation(
            "epoch-required",
            format_args!("if_input outside of the net epoch"),
        );
    }
    // SAFETY: as the caller says.
    unsafe {
        check_packet(m, "if_input");
        check_leaves(m, "if_input");
        m_freem(m);
    }
}

/// ifnet(9). Consumes the packet.
///
/// # Safety
/// `m` is a live packet that the caller owns.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn if_transmit(ifp: *mut Ifnet, m: *mut mbuf) -> c_int {
    let i = live(ifp, "if_transmit");
    if !in_epoch() {
        violation(
            "epoch-required",
            format_args!("if_transmit outside of the net epoch"),
        );
    }
    let f = i.transmit.load(Ordering::Acquire);
    // SAFETY: `m` as the caller says; `if_settransmitfn` stored a function of this type.
    unsafe {
        check_packet(m, "if_transmit");
        if f.is_null() {
            m_freem(m);
            return ENXIO;
        }
        let f: Transmit = core::mem::transmute(f);
        f(ifp, m)
    }
}

/// ifnet(9).
///
/// # Safety
/// `m` is a live packet that the caller owns.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn if_tunnel_check_nesting(
    ifp: *mut Ifnet,
    m: *mut mbuf,
    cookie: u32,
    limit: c_int,
) -> c_int {
    live(ifp, "if_tunnel_check_nesting");
    // SAFETY: `m` as the caller says; our tags carry a pointer behind the header.
    unsafe {
        check_packet(m, "if_tunnel_check_nesting");
        let mut count = 1;
        let mut t = (*m).tags;
        while !t.is_null() {
            if (*t).cookie == cookie && (*t).id == 0 {
                if t.add(1).cast::<*mut Ifnet>().read_unaligned() == ifp {
                    return EIO;
                }
                count += 1;
            }
            t = (*t).link;
        }
        if count > limit {
            return EIO;
        }
        let t = tag_alloc(cookie, 0, size_of::<*mut Ifnet>() as u16);
        if t.is_null() {
            return ENOMEM;
        }
        t.add(1).cast::<*mut Ifnet>().write_unaligned(ifp);
        (*t).link = (*m).tags;
        (*m).tags = t;
    }
    0
}

/// bpf(9).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn bpfattach(ifp: *mut Ifnet, dlt: c_uint, _hdrlen: c_uint) {
    check_sleep("bpfattach");
    live(ifp, "bpfattach")
        .bpf
        .store(dlt.cast_signed(), Ordering::SeqCst);
}

/// bpf(9).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn bpfdetach(ifp: *mut Ifnet) {
    check_sleep("bpfdetach");
    live(ifp, "bpfdetach").bpf.store(-1, Ordering::SeqCst);
}

/// `kpi_if_name` of kpi_shim.h.
///
/// # Safety
/// `buf` has room for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_if_name(ifp: *mut Ifnet, buf: *mut u8, len: usize) {
    let name = live(ifp, "if_name").name();
    let Some(room) = len.checked_sub(1) else {
        return;
    };
    let n = name.len().min(room);
    // SAFETY: n + 1 <= len.
    unsafe {
        ptr::copy_nonoverlapping(name.as_ptr(), buf, n);
        buf.add(n).write(0);
    }
}

/// `kpi_if_purgeaddrs` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_if_purgeaddrs(ifp: *mut Ifnet) {
    check_sleep("if_purgeaddrs");
    live(ifp, "if_purgeaddrs");
}

/// `kpi_if_nd6_setup` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_if_nd6_setup(ifp: *mut Ifnet) {
    check_sleep("kpi_if_nd6_setup");
    let i = live(ifp, "kpi_if_nd6_setup");
    if !i.attached.load(Ordering::Acquire) {
        violation(
            "ifnet-attach",
            format_args!("kpi_if_nd6_setup before if_attach"),
        );
    }
    i.nd6.store(true, Ordering::SeqCst);
}
