// SPDX-License-Identifier: BSD-2-Clause
//! mutex(9), rwlock(9) and sx(9) under the names that the macros call. Those of the first two are given the lock's word, not
//! the lock.

use core::ffi::{c_char, c_int};
use core::mem::offset_of;

use crate::layout::lock;
use crate::lock as host;

unsafe fn of(word: *mut usize) -> *mut lock {
    // SAFETY: the word of a lock, as the caller says.
    unsafe { word.byte_sub(offset_of!(lock, word)).cast() }
}

macro_rules! by_word {
    ($($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = $to:ident($($pass:ident)?);)*) => {$(
        pub(super) unsafe extern "C-unwind" fn $name(word: *mut usize, $($arg: $type),*) $(-> $result)? {
            // SAFETY: what the kernel's function asks of its caller.
            unsafe { host::$to(of(word), $($pass)?) }
        }
    )*};
}

by_word! {
    mtx_init(name: *const c_char, _type: *const c_char, _flags: c_int) = kpi_mtx_init(name);
    mtx_destroy() = kpi_mtx_destroy();
    mtx_lock(_flags: c_int, _file: *const c_char, _line: c_int) = kpi_mtx_lock();
    mtx_trylock(_flags: c_int, _file: *const c_char, _line: c_int) -> c_int = kpi_mtx_trylock();
    mtx_unlock(_flags: c_int, _file: *const c_char, _line: c_int) = kpi_mtx_unlock();
    rw_init(name: *const c_char, _flags: c_int) = kpi_rw_init(name);
    rw_destroy() = kpi_rw_destroy();
    rw_rlock(_file: *const c_char, _line: c_int) = kpi_rw_rlock();
    rw_runlock(_file: *const c_char, _line: c_int) = kpi_rw_runlock();
    rw_wlock(_file: *const c_char, _line: c_int) = kpi_rw_wlock();
    rw_wunlock(_file: *const c_char, _line: c_int) = kpi_rw_wunlock();
}

macro_rules! by_lock {
    ($($name:ident($($arg:ident: $type:ty),*) $(-> $result:literal)? = $to:ident($($pass:ident)?);)*) => {$(
        pub(super) unsafe extern "C-unwind" fn $name(l: *mut lock, $($arg: $type),*) -> c_int {
            // SAFETY: what the kernel's function asks of its caller.
            unsafe { host::$to(l, $($pass)?) };
            0
        }
    )*};
}

pub(super) unsafe extern "C-unwind" fn sx_try_xlock(
    l: *mut lock,
    _file: *const c_char,
    _line: c_int,
) -> c_int {
    // SAFETY: what the kernel's function asks of its caller.
    unsafe { host::kpi_sx_try_xlock(l) }
}

// Those that return nothing in C leave something where a result would be.
by_lock! {
    sx_init(name: *const c_char, _flags: c_int) = kpi_sx_init(name);
    sx_destroy() = kpi_sx_destroy();
    sx_slock(_flags: c_int, _file: *const c_char, _line: c_int) = kpi_sx_slock();
    sx_sunlock(_file: *const c_char, _line: c_int) = kpi_sx_sunlock();
    sx_xlock(_flags: c_int, _file: *const c_char, _line: c_int) = kpi_sx_xlock();
    sx_xunlock(_file: *const c_char, _line: c_int) = kpi_sx_xunlock();
}
