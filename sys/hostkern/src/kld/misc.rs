// SPDX-License-Identifier: BSD-2-Clause
//! Clocks, callouts, messages, vector registers, tunables, task queues.

use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use core::ptr;
use std::ffi::CString;

use freebsd_kernel_sys::offsets as off;

use super::{format, text, thread, with};
use crate::callout::{kpi_callout_drain, kpi_callout_init, kpi_callout_reset_at, kpi_callout_stop};
use crate::ifnet::Ifnet;
use crate::layout::callout;
use crate::misc::{kpi_fpu_enter, kpi_fpu_leave, kpi_random};
use crate::task::{TaskGroup, kpi_taskqgroup};
use crate::thread::{check_sleep, kernel, violation};
use crate::vnet::kpi_priv_check;

const NANOS: u64 = 1_000_000_000;

pub(super) unsafe extern "C-unwind" fn strlcpy(
    to: *mut c_char,
    from: *const c_char,
    size: usize,
) -> usize {
    // SAFETY: a C string, and `size` bytes of room.
    unsafe {
        let len = CStr::from_ptr(from).to_bytes().len();
        if let Some(room) = size.checked_sub(1) {
            ptr::copy_nonoverlapping(from, to, len.min(room));
            to.add(len.min(room)).write(0);
        }
        len
    }
}

/// Nanoseconds as what is left of a second in units of 2^-32, rounded up: back to nanoseconds it comes out the same.
fn fraction(nanos: u64) -> u64 {
    (nanos << 32).div_ceil(NANOS)
}

/// Nanoseconds as `struct bintime`: seconds and 2^-64 of them.
fn bintime(nanos: u64) -> [u64; 2] {
    [nanos / NANOS, fraction(nanos % NANOS) << 32]
}

pub(super) unsafe extern "C-unwind" fn binuptime(to: *mut [u64; 2]) {
    // SAFETY: the caller's.
    unsafe { to.write(bintime(kernel().machine.uptime_ns())) };
}

/// The same as of the last tick.
pub(super) unsafe extern "C-unwind" fn getbinuptime(to: *mut [u64; 2]) {
    // SAFETY: the caller's.
    unsafe { to.write(bintime(kernel().machine.uptime_coarse_ns())) };
}

/// `struct timespec`.
pub(super) unsafe extern "C-unwind" fn nanotime(to: *mut [u64; 2]) {
    let t = kernel().machine.realtime();
    // SAFETY: the caller's.
    unsafe { to.write([t.as_secs(), t.subsec_nanos().into()]) };
}

pub(super) unsafe extern "C-unwind" fn arc4random_buf(buf: *mut u8, len: usize) {
    // SAFETY: as the caller says.
    unsafe { kpi_random(buf, len) };
}

pub(super) unsafe extern "C-unwind" fn callout_init(c: *mut callout, mpsafe: c_int) {
    if mpsafe == 0 {
        violation("callout-init", format_args!("a callout under Giant"));
    }
    // SAFETY: as the caller says.
    unsafe { kpi_callout_init(c) };
}

type Handler = unsafe extern "C-unwind" fn(*mut c_void);

/// callout(9), at a time of the clock of [`binuptime`], in units of 2^-32 seconds.
pub(super) unsafe extern "C-unwind" fn callout_reset_sbt_on(
    c: *mut callout,
    at: i64,
    _precision: i64,
    handler: Handler,
    arg: *mut c_void,
    _cpu: c_int,
    flags: c_int,
) -> c_int {
    if flags.cast_unsigned() & off::KPI_C_ABSOLUTE == 0 {
        violation("kld", format_args!("a callout at a relative time"));
    }
    let at = at.max(0).cast_unsigned();
    let nanos = (at >> 32).saturating_mul(NANOS);
    let nanos = nanos.saturating_add(((at & 0xffff_ffff) * NANOS) >> 32);
    // SAFETY: as the caller says.
    unsafe { kpi_callout_reset_at(c, nanos, handler, arg) };
    0
}

pub(super) unsafe extern "C-unwind" fn callout_stop_safe(
    c: *mut callout,
    flags: c_int,
    _drained: *const c_void,
) -> c_int {
    // SAFETY: as the caller says.
    unsafe {
        match flags.cast_unsigned() {
            0 => kpi_callout_stop(c),
            off::KPI_CS_DRAIN => kpi_callout_drain(c),
            _ => violation("kld", format_args!("_callout_stop_safe with flags {flags}")),
        }
    }
    0
}

// These take more arguments in C, as many as the format says: up to four come in registers all the same.

pub(super) unsafe extern "C-unwind" fn printf(
    template: *const c_char,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
) -> c_int {
    // SAFETY: as the caller says.
    let line = unsafe { format(template, [a, b, c, d]) };
    // What the shim puts before a message of the module is not part of the message.
    let line = line.trim_end_matches('\n');
    kernel()
        .machine
        .log(line.strip_prefix("if_wg: ").unwrap_or(line));
    0
}

pub(super) unsafe extern "C-unwind" fn if_printf(
    ifp: *mut Ifnet,
    template: *const c_char,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
) -> c_int {
    // SAFETY: as the caller says.
    let (name, line) = unsafe { ((*ifp).name(), format(template, [a, b, c, d])) };
    kernel()
        .machine
        .log(&format!("{name}: {}", line.trim_end_matches('\n')));
    0
}

pub(super) unsafe extern "C-unwind" fn panic(
    template: *const c_char,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
) -> ! {
    // SAFETY: as the caller says.
    let why = unsafe { format(template, [a, b, c, d]) };
    panic!("panic(9): {why}");
}

/// Whether it is the running thread that is meant.
fn check_thread(td: *mut c_void, what: &str) {
    if td != thread::current() {
        violation("curthread", format_args!("{what} for another thread"));
    }
}

pub(super) extern "C-unwind" fn fpu_kern_enter(
    td: *mut c_void,
    context: *mut c_void,
    flags: c_uint,
) {
    /// `FPU_KERN_NOCTX`: a critical section instead of a place to save to.
    const NO_CONTEXT: c_uint = 4;
    check_thread(td, "fpu_kern_enter");
    if !context.is_null() || flags & NO_CONTEXT == 0 {
        violation("fpu", format_args!("fpu_kern_enter with a context"));
    }
    kpi_fpu_enter();
    thread::set_fpu(true);
}

pub(super) extern "C-unwind" fn fpu_kern_leave(td: *mut c_void, _context: *mut c_void) -> c_int {
    check_thread(td, "fpu_kern_leave");
    thread::set_fpu(false);
    kpi_fpu_leave();
    0
}

pub(super) extern "C-unwind" fn priv_check(td: *mut c_void, privilege: c_int) -> c_int {
    check_thread(td, "priv_check");
    kpi_priv_check(privilege)
}

/// A loader tunable, as a string that [`freeenv`] takes back.
pub(super) unsafe extern "C-unwind" fn kern_getenv(name: *const c_char) -> *mut c_char {
    check_sleep("kern_getenv");
    let k = kernel();
    let all = k.tunables.lock().unwrap();
    let value = all
        .get(text(name))
        .and_then(|v| CString::new(v.as_str()).ok());
    value.map_or(ptr::null_mut(), CString::into_raw)
}

pub(super) unsafe extern "C-unwind" fn freeenv(value: *mut c_char) {
    // SAFETY: what kern_getenv gave.
    drop(unsafe { CString::from_raw(value) });
}

/// Sleeps for a tick: what was put off is done meanwhile, and other threads go on.
pub(super) extern "C-unwind" fn pause_sbt(
    _what: *const c_char,
    _time: i64,
    _precision: i64,
    _flags: c_int,
) -> c_int {
    check_sleep("pause");
    let k = kernel();
    if !crate::ocf::do_put_off(&k) {
        let mut turns = 0;
        k.machine.wait("pause", &mut || {
            turns += 1;
            turns > 1
        });
    }
    0
}

/// The groups that TASKQGROUP_DEFINE makes: the kernel's only ones.
pub(super) unsafe extern "C-unwind" fn taskqgroup_create(
    name: *const c_char,
    count: c_int,
    stride: c_int,
) -> *mut TaskGroup {
    let k = kernel();
    let slow = crate::thread::name_of(name) == "wg_slow";
    let group = if slow { &k.slow_tasks } else { &k.tasks };
    if (count, stride) != (group.queues.len() as c_int, 1 + c_int::from(slow)) {
        violation(
            "task-group",
            format_args!("{count} queues on every {stride}. CPU"),
        );
    }
    kpi_taskqgroup(slow)
}

pub(super) extern "C-unwind" fn taskqgroup_bind(group: *mut TaskGroup) {
    with("taskqgroup_bind", |_, _| {
        if group != kpi_taskqgroup(false) && group != kpi_taskqgroup(true) {
            violation(
                "task-group",
                format_args!("a group that is not this kernel's is bound"),
            );
        }
    });
}

/// `thread_lock(9)`: a thread here has no lock of its own.
pub(super) extern "C-unwind" fn thread_lock_flags_(
    _td: *mut c_void,
    _options: c_int,
    _file: *const c_char,
    _line: c_int,
) {
}

pub(super) extern "C-unwind" fn mtx_unlock_spin_flags(
    _cookie: *mut c_void,
    _options: c_int,
    _file: *const c_char,
    _line: c_int,
) {
}

/// What the threads of the group for what takes long do to themselves.
pub(super) extern "C-unwind" fn sched_prio(td: *mut c_void, _priority: u8) {
    if td != super::thread::current() {
        violation("thread", format_args!("sched_prio of another thread"));
    }
    crate::task::kpi_slow_thread();
}
