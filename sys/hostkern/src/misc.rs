// SPDX-License-Identifier: BSD-2-Clause
//! Time, randomness, the log, vector registers and sysctl(9).

use core::cell::Cell;
use core::ffi::{c_char, c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::ifnet::Ifnet;
use crate::kernel::Kernel;
use crate::thread::{Kind, check_sleep, enter, kernel, name_of, violation};

const ENOENT: c_int = 2;
const EPERM: c_int = 1;

/// `kpi_uptime_ns` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_uptime_ns() -> u64 {
    kernel().machine.uptime_ns()
}

/// `kpi_uptime_coarse_ns` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_uptime_coarse_ns() -> u64 {
    kernel().machine.uptime_coarse_ns()
}

/// `kpi_realtime` of kpi_shim.h.
///
/// # Safety
/// Both have room for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_realtime(secs: *mut u64, nanos: *mut u32) {
    let t = kernel().machine.realtime();
    // SAFETY: as the caller says.
    unsafe {
        *secs = t.as_secs();
        *nanos = t.subsec_nanos();
    }
}

/// `kpi_random` of kpi_shim.h.
///
/// # Safety
/// `buf` has room for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_random(buf: *mut u8, len: usize) {
    // SAFETY: as the caller says; zeroed first, so that a slice may be made of it.
    let b = unsafe {
        core::ptr::write_bytes(buf, 0, len);
        core::slice::from_raw_parts_mut(buf, len)
    };
    kernel().machine.random(b);
}

/// `kpi_log` of kpi_shim.h.
///
/// # Safety
/// `msg` has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_log(msg: *const u8, len: usize) {
    // SAFETY: as the caller says.
    let m = unsafe { core::slice::from_raw_parts(msg, len) };
    kernel().machine.log(&String::from_utf8_lossy(m));
}

/// `kpi_log_if` of kpi_shim.h.
///
/// # Safety
/// `msg` has `len` bytes; `ifp` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_log_if(ifp: *mut Ifnet, msg: *const u8, len: usize) {
    // SAFETY: as the caller says.
    let (m, name) = unsafe { (core::slice::from_raw_parts(msg, len), (*ifp).name()) };
    kernel()
        .machine
        .log(&format!("{name}: {}", String::from_utf8_lossy(m)));
}

/// `kpi_panic` of kpi_shim.h.
///
/// # Safety
/// `msg` is NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_panic(msg: *const c_char) -> ! {
    // SAFETY: as the caller says.
    let text = unsafe { core::ffi::CStr::from_ptr(msg) };
    panic!("panic(9): {}", text.to_string_lossy());
}

thread_local! {
    static FPU: Cell<bool> = const { Cell::new(false) };
    /// Bytes that went through the cipher since the registers were taken.
    static FPU_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// The most bytes that may go through the cipher in one section: one datagram of the largest size. The CPU does
/// nothing else meanwhile.
pub const SECTION_BYTES: usize = 1 << 16;

/// `kpi_fpu_enter` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_fpu_enter() {
    if FPU.replace(true) {
        violation("fpu", format_args!("fpu_kern_enter nested"));
    }
    FPU_BYTES.set(0);
}

/// `kpi_fpu_held` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_fpu_held() -> bool {
    in_fpu()
}

/// Counts what the cipher does while the vector registers are held.
fn spend(len: usize) {
    let bytes = FPU_BYTES.get() + len;
    FPU_BYTES.set(bytes);
    kernel().section_bytes.fetch_max(bytes, Ordering::Relaxed);
}

/// `wg_vector_seal`, which the kernel module links as an object of its own.
///
/// # Safety
/// That of [`wg_vector::wg_vector_seal`].
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn wg_vector_seal(
    key: *const [u8; 32],
    counter: u64,
    buf: *mut u8,
    len: usize,
) -> c_int {
    spend(len);
    // SAFETY: the same contract.
    unsafe { wg_vector::wg_vector_seal(key, counter, buf, len) }
}

/// `wg_vector_open`, likewise.
///
/// # Safety
/// That of [`wg_vector::wg_vector_open`].
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn wg_vector_open(
    key: *const [u8; 32],
    counter: u64,
    buf: *mut u8,
    len: usize,
) -> c_int {
    spend(len);
    // SAFETY: the same contract.
    unsafe { wg_vector::wg_vector_open(key, counter, buf, len) }
}

// The kernel module links the same crate as an object of its own.
pub use wg_vector::wg_vector_wipe;

/// `kpi_tunable` of kpi_shim.h.
///
/// # Safety
/// `name` is a C string; `buf` has room for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_tunable(
    name: *const c_char,
    buf: *mut c_char,
    len: usize,
) -> usize {
    check_sleep("kern_getenv");
    let k = kernel();
    let all = k.tunables.lock().unwrap();
    let Some(value) = all.get(name_of(name)) else {
        return 0;
    };
    let n = value.len().min(len);
    // SAFETY: as the caller says.
    unsafe { core::ptr::copy_nonoverlapping(value.as_ptr(), buf.cast(), n) };
    n
}

/// `kpi_fpu_leave` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_fpu_leave() {
    if !FPU.replace(false) {
        violation("fpu", format_args!("fpu_kern_leave without enter"));
    }
    let bytes = FPU_BYTES.get();
    if bytes > SECTION_BYTES && !std::thread::panicking() {
        violation(
            "fpu",
            format_args!("{bytes} bytes between fpu_kern_enter and leave"),
        );
    }
}

/// Between [`kpi_fpu_enter`] and [`kpi_fpu_leave`] is a critical section: no sleep, no lock, no
/// allocation.
#[track_caller]
pub(crate) fn check_not_fpu(what: &str) {
    if in_fpu() {
        FPU.set(false);
        violation(
            "fpu",
            format_args!("{what} between fpu_kern_enter and leave"),
        );
    }
}

/// True between [`kpi_fpu_enter`] and [`kpi_fpu_leave`]: a critical section, so no other thread
/// runs here.
pub(crate) fn in_fpu() -> bool {
    FPU.get()
}

type Number = unsafe extern "C-unwind" fn(*mut c_void, *mut u64, c_int) -> c_int;
type Text = unsafe extern "C-unwind" fn(*mut c_void, *mut c_char, usize) -> usize;

enum Handler {
    Number(Number, bool),
    Text(Text),
}

/// `struct kpi_sysctl`.
pub struct Sysctl {
    name: String,
    nodes: Vec<(String, Handler, *mut c_void)>,
}

/// `kpi_sysctl_new` of kpi_shim.h.
///
/// # Safety
/// The strings are C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_sysctl_new(
    name: *const c_char,
    _descr: *const c_char,
) -> *mut Sysctl {
    check_sleep("sysctl_ctx_init");
    let s = Box::new(Sysctl {
        name: format!("net.{}", name_of(name)),
        nodes: Vec::new(),
    });
    let p = Box::into_raw(s);
    kernel().sysctls.lock().unwrap().push(p.expose_provenance());
    p
}

unsafe fn add(ctx: *mut Sysctl, name: *const c_char, h: Handler, arg: *mut c_void) -> c_int {
    check_sleep("sysctl_add_oid");
    // SAFETY: the caller passes a live context that nobody reads meanwhile.
    unsafe { (*ctx).nodes.push((name_of(name).to_string(), h, arg)) };
    0
}

/// `kpi_sysctl_add_u64` of kpi_shim.h.
///
/// # Safety
/// `ctx` is live; `f` and `arg` stay valid until it is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_sysctl_add_u64(
    ctx: *mut Sysctl,
    name: *const c_char,
    _descr: *const c_char,
    writable: c_int,
    f: Number,
    arg: *mut c_void,
) -> c_int {
    if writable != 0 {
        // SAFETY: a live context.
        let full = format!("{}.{}", unsafe { &(*ctx).name }, name_of(name));
        let tunable = kernel().tunables.lock().unwrap().get(&full).cloned();
        if let Some(mut v) = tunable.and_then(|v| v.parse().ok()) {
            // The kernel prints the error and goes on.
            // SAFETY: as the caller says.
            let _ = unsafe { f(arg, &mut v, 1) };
        }
    }
    // SAFETY: as the caller says.
    unsafe { add(ctx, name, Handler::Number(f, writable != 0), arg) }
}

/// `kpi_sysctl_add_str` of kpi_shim.h.
///
/// # Safety
/// As [`kpi_sysctl_add_u64`].
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_sysctl_add_str(
    ctx: *mut Sysctl,
    name: *const c_char,
    _descr: *const c_char,
    f: Text,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: as the caller says.
    unsafe { add(ctx, name, Handler::Text(f), arg) }
}

/// `kpi_sysctl_free` of kpi_shim.h.
///
/// # Safety
/// `ctx` is live and not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_sysctl_free(ctx: *mut Sysctl) {
    check_sleep("sysctl_ctx_free");
    kernel()
        .sysctls
        .lock()
        .unwrap()
        .retain(|&p| p != ctx.addr());
    // SAFETY: as the caller says.
    drop(unsafe { Box::from_raw(ctx) });
}

impl Kernel {
    /// kenv(1): sets a loader tunable, which modules read when they are loaded.
    pub fn set_tunable(&self, name: &str, value: &str) {
        let mut all = self.tunables.lock().unwrap();
        all.insert(name.into(), value.into());
    }

    /// sysctl(8): the names of all variables.
    #[must_use]
    pub fn sysctl_names(&self) -> Vec<String> {
        #[cfg(feature = "kld")]
        if let Some(names) = crate::kld::sysctl::names(self) {
            return names;
        }
        let all = self.sysctls.lock().unwrap().clone();
        let mut names = Vec::new();
        for p in all {
            // SAFETY: live contexts are in the list; who unloads does not call this meanwhile.
            let s: &Sysctl = unsafe { &*core::ptr::with_exposed_provenance(p) };
            names.extend(
                s.nodes
                    .iter()
                    .map(|(leaf, ..)| format!("{}.{leaf}", s.name)),
            );
        }
        names
    }

    fn sysctl<R>(
        self: &Arc<Self>,
        name: &str,
        f: impl Fn(&Handler, *mut c_void) -> Result<R, c_int>,
    ) -> Result<R, c_int> {
        let all = self.sysctls.lock().unwrap().clone();
        for p in all {
            // SAFETY: live contexts are in the list; handlers run while nobody frees them (tests
            // and wgd call this and unload from one thread).
            let s: &Sysctl = unsafe { &*core::ptr::with_exposed_provenance(p) };
            for (leaf, h, arg) in &s.nodes {
                if name
                    .strip_prefix(s.name.as_str())
                    .and_then(|r| r.strip_prefix('.'))
                    == Some(leaf)
                {
                    return enter(self, Kind::Process, crate::vnet::current(), || f(h, *arg));
                }
            }
        }
        Err(ENOENT)
    }

    /// sysctl(8): a number.
    ///
    /// # Errors
    /// ENOENT, or what the handler says.
    pub fn sysctl_number(self: &Arc<Self>, name: &str) -> Result<u64, c_int> {
        #[cfg(feature = "kld")]
        if let Some(said) = crate::kld::sysctl::number(self, name) {
            return said;
        }
        self.sysctl(name, |h, arg| {
            let Handler::Number(f, _) = h else {
                return Err(ENOENT);
            };
            let mut v = 0;
            // SAFETY: the driver's handler and argument.
            match unsafe { f(arg, &mut v, 0) } {
                0 => Ok(v),
                e => Err(e),
            }
        })
    }

    /// sysctl(8): sets a number.
    ///
    /// # Errors
    /// ENOENT, EPERM for a read-only one, or what the handler says.
    pub fn set_sysctl(self: &Arc<Self>, name: &str, v: u64) -> Result<(), c_int> {
        #[cfg(feature = "kld")]
        if let Some(said) = crate::kld::sysctl::set(self, name, v) {
            return said;
        }
        self.sysctl(name, |h, arg| {
            let mut v = v;
            match h {
                // SAFETY: the driver's handler and argument.
                Handler::Number(f, true) => match unsafe { f(arg, &mut v, 1) } {
                    0 => Ok(()),
                    e => Err(e),
                },
                _ => Err(EPERM),
            }
        })
    }

    /// sysctl(8): a text.
    ///
    /// # Errors
    /// ENOENT.
    pub fn sysctl_text(self: &Arc<Self>, name: &str) -> Result<String, c_int> {
        #[cfg(feature = "kld")]
        if let Some(said) = crate::kld::sysctl::words(self, name) {
            return said;
        }
        self.sysctl(name, |h, arg| {
            let Handler::Text(f) = h else {
                return Err(ENOENT);
            };
            let mut buf = [0u8; 1024];
            // SAFETY: the driver's handler and argument; it writes at most the length given.
            let n = unsafe { f(arg, buf.as_mut_ptr().cast(), buf.len()) };
            Ok(String::from_utf8_lossy(&buf[..n.min(buf.len())]).into_owned())
        })
    }
}
