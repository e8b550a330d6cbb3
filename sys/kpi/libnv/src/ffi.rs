// SPDX-License-Identifier: BSD-2-Clause
//! The functions of `sys/nv.h` and `sys/cnv.h` that are used. The userland's have another name each
//! (`sys/nv_namespace.h`).

use core::ffi::{c_char, c_int, c_void};

/// `nvlist_t`.
#[repr(C)]
pub(crate) struct nvlist {
    _data: [u8; 0],
}

macro_rules! functions {
    ($($(#[doc = $doc:literal])+ fn $name:ident($($arg:ident: $t:ty),*) $(-> $r:ty)?;)+) => {
        #[cfg_attr(target_os = "freebsd", link(name = "nv"))]
        unsafe extern "C" {$(
            $(#[doc = $doc])+
            #[cfg_attr(not(target_os = "none"), link_name = concat!("FreeBSD_", stringify!($name)))]
            pub(crate) fn $name($($arg: $t),*) $(-> $r)?;
        )+}
    };
}

functions! {
    /// A new list; null without memory.
    fn nvlist_create(flags: c_int) -> *mut nvlist;
    /// Frees a list and all in it; null is allowed.
    fn nvlist_destroy(nvl: *mut nvlist);
    /// The error that the list is in; of null `ENOMEM`.
    fn nvlist_error(nvl: *const nvlist) -> c_int;
    /// `NV_FLAG_*` of the list.
    fn nvlist_flags(nvl: *const nvlist) -> c_int;
    /// Bytes that it will take packed.
    fn nvlist_size(nvl: *const nvlist) -> usize;
    /// Packs it into memory of the library's; null on failure.
    fn nvlist_pack(nvl: *const nvlist, size: *mut usize) -> *mut c_void;
    /// Makes a list of a packed one; null on failure.
    fn nvlist_unpack(buf: *const c_void, size: usize, flags: c_int) -> *mut nvlist;
    /// The name of the next pair, with its type; null at the end.
    fn nvlist_next(nvl: *const nvlist, kind: *mut c_int, cookie: *mut *mut c_void) -> *const c_char;
    /// Adds a pair. A failure puts the list in error, and is told by nvlist_error().
    fn nvlist_add_bool(nvl: *mut nvlist, name: *const c_char, value: bool);
    /// As above.
    fn nvlist_add_number(nvl: *mut nvlist, name: *const c_char, value: u64);
    /// As above.
    fn nvlist_add_binary(nvl: *mut nvlist, name: *const c_char, value: *const c_void, size: usize);
    /// As above. The value is copied.
    fn nvlist_add_nvlist(nvl: *mut nvlist, name: *const c_char, value: *const nvlist);
    /// As above.
    fn nvlist_add_null(nvl: *mut nvlist, name: *const c_char);
    /// As above.
    fn nvlist_add_string(nvl: *mut nvlist, name: *const c_char, value: *const c_char);
    /// As above. The values are copied.
    fn nvlist_add_number_array(nvl: *mut nvlist, name: *const c_char, value: *const u64, n: usize);
    /// As above. The values are copied.
    fn nvlist_add_bool_array(nvl: *mut nvlist, name: *const c_char, value: *const bool, n: usize);
    /// As above. The lists are copied.
    fn nvlist_add_nvlist_array(nvl: *mut nvlist, name: *const c_char, value: *const *const nvlist, n: usize);
    /// Value of the pair that nvlist_next() gave.
    fn cnvlist_get_bool(cookie: *const c_void) -> bool;
    /// As above.
    fn cnvlist_get_number(cookie: *const c_void) -> u64;
    /// As above.
    fn cnvlist_get_string(cookie: *const c_void) -> *const c_char;
    /// As above.
    fn cnvlist_get_nvlist(cookie: *const c_void) -> *const nvlist;
    /// As above.
    fn cnvlist_get_binary(cookie: *const c_void, size: *mut usize) -> *const c_void;
    /// As above.
    fn cnvlist_get_bool_array(cookie: *const c_void, n: *mut usize) -> *const bool;
    /// As above.
    fn cnvlist_get_number_array(cookie: *const c_void, n: *mut usize) -> *const u64;
    /// As above.
    fn cnvlist_get_string_array(cookie: *const c_void, n: *mut usize) -> *const *const c_char;
    /// As above.
    fn cnvlist_get_nvlist_array(cookie: *const c_void, n: *mut usize) -> *const *const nvlist;
}

#[cfg(target_os = "none")]
unsafe extern "C" {
    fn kpi_nv_alloc(size: usize) -> *mut c_void;
    fn kpi_nv_free(p: *mut c_void, size: usize);
}

#[cfg(not(target_os = "none"))]
unsafe extern "C" {
    fn malloc(size: usize) -> *mut c_void;
    fn free(p: *mut c_void);
    fn explicit_bzero(p: *mut c_void, size: usize);
}

/// Memory of the library's kind; null if there is none.
pub(crate) fn alloc(size: usize) -> *mut c_void {
    #[cfg(target_os = "none")]
    // SAFETY: any size, any context.
    unsafe {
        kpi_nv_alloc(size)
    }
    #[cfg(not(target_os = "none"))]
    // SAFETY: any size.
    unsafe {
        malloc(size)
    }
}

/// Wipes and frees what [`alloc`] or nvlist_pack() gave.
///
/// # Safety
///
/// It was not freed yet, and has `size` bytes.
pub(crate) unsafe fn release(p: *mut c_void, size: usize) {
    #[cfg(target_os = "none")]
    // SAFETY: the contract.
    unsafe {
        kpi_nv_free(p, size);
    }
    #[cfg(not(target_os = "none"))]
    // SAFETY: the contract; the library uses malloc(3).
    unsafe {
        explicit_bzero(p, size);
        free(p);
    }
}
