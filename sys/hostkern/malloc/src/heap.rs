// SPDX-License-Identifier: BSD-2-Clause
//! The two symbols and the header in front of every block.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use crate::account::{self, Account};

/// Fail rather than sleep (`sys/malloc.h`).
pub const M_NOWAIT: c_int = 0x0001;
/// Sleeping is allowed (`sys/malloc.h`).
pub const M_WAITOK: c_int = 0x0002;
/// Zeroed memory (`sys/malloc.h`).
pub const M_ZERO: c_int = 0x0100;

/// Alignment of every block in bytes, and so of the header.
const ALIGN: usize = 16;
/// Marks a live block. A freed or overwritten one is caught when it is freed (again).
const LIVE: u64 = 0x6b70_695f_6c69_7665;
/// Marks a freed block, for as long as the host's allocator leaves it.
const FREED: u64 = 0x6b70_695f_6672_6565;
/// What accounted memory holds before its first use: a use of uninitialised memory does not see zeroes.
const FRESH_BYTE: u8 = 0xa5;
/// What accounted memory holds after its last use.
const STALE_BYTE: u8 = 0xde;

/// In front of every block.
#[repr(C, align(16))]
struct Header {
    /// Bytes behind the header.
    size: usize,
    /// Number of the allocation within its account.
    seq: u64,
    /// The account that the block is booked on.
    account: Option<Account>,
    /// [`LIVE`] or [`FREED`].
    magic: u64,
}

const HEADER: usize = size_of::<Header>();
const _: () = assert!(HEADER == 32 && HEADER.is_multiple_of(ALIGN));

static WAITOK_HOOK: OnceLock<fn()> = OnceLock::new();

/// Installs what every `M_WAITOK` allocation calls first. The host kernel's hook panics, naming the rule,
/// when the calling thread must not sleep. The first hook stays; later calls are ignored.
pub fn set_waitok_hook(hook: fn()) {
    // Ignored: several simulated kernels in a process install the same hook.
    let _ = WAITOK_HOOK.set(hook);
}

/// The layout of header and block together.
fn layout(size: usize) -> Option<Layout> {
    Layout::from_size_align(size.checked_add(HEADER)?, ALIGN).ok()
}

/// `malloc(9)`: `size` bytes aligned to 16, or null. Memory is zeroed with `M_ZERO`.
///
/// # Panics
///
/// If neither or both of `M_NOWAIT` and `M_WAITOK` are given, and where the hook of [`set_waitok_hook`]
/// does.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_malloc(size: usize, flags: c_int) -> *mut c_void {
    let wait = match flags & (M_NOWAIT | M_WAITOK) {
        M_NOWAIT => false,
        M_WAITOK => true,
        _ => panic!("kpi_malloc: flags {flags:#x} must have exactly one of M_NOWAIT and M_WAITOK"),
    };
    if wait && let Some(hook) = WAITOK_HOOK.get() {
        hook();
    }
    let Some(layout) = layout(size) else {
        return ptr::null_mut();
    };
    let account = account::current();
    let seq = match account.as_ref().map(Account::admit) {
        None => 0,
        Some(Some(seq)) => seq,
        Some(None) => return ptr::null_mut(),
    };
    let zero = flags & M_ZERO != 0;
    // SAFETY: the layout has at least the header's size.
    let start = unsafe {
        if zero {
            alloc_zeroed(layout)
        } else {
            alloc(layout)
        }
    };
    if start.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: the block is at least HEADER bytes long.
    let data = unsafe { start.add(HEADER) };
    // Miri tracks uninitialised bytes better than a pattern can.
    if account.is_some() && !zero && !cfg!(miri) {
        // SAFETY: `size` bytes follow the header.
        unsafe { data.write_bytes(FRESH_BYTE, size) };
    }
    if let Some(a) = &account {
        a.book(seq, size);
    }
    let header = Header {
        size,
        seq,
        account,
        magic: LIVE,
    };
    // SAFETY: the block is fresh, starts with room for the header, and is aligned for it.
    unsafe { start.cast::<Header>().write(header) };
    data.cast()
}

/// `free(9)`. Null is allowed.
///
/// # Safety
///
/// `p` is null or came from [`kpi_malloc`] and was not freed since.
///
/// # Panics
///
/// If the header in front of `p` is not that of a live block, as far as that can be seen.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_free(p: *mut c_void) {
    if p.is_null() {
        return;
    }
    // SAFETY: by the contract a header is in front of `p`.
    let start = unsafe { p.cast::<u8>().sub(HEADER) }.cast::<Header>();
    // SAFETY: as above; a broken contract is most often seen here, before harm is done.
    match unsafe { (*start).magic } {
        LIVE => {}
        FREED => panic!("kpi_free: {p:p} is free already"),
        other => {
            panic!("kpi_free: {p:p} is no live block, or its header was overwritten ({other:#x})")
        }
    }
    // SAFETY: the header is live; it is moved out once, as its mark is changed next.
    let header = unsafe { start.read() };
    // SAFETY: still our memory.
    unsafe { (*start).magic = FREED };
    if let Some(account) = &header.account {
        account.unbook(header.seq, header.size);
        // SAFETY: the block's bytes, which nobody uses any more.
        unsafe { p.cast::<u8>().write_bytes(STALE_BYTE, header.size) };
    }
    let Some(layout) = layout(header.size) else {
        unreachable!("a live block's size made a layout before")
    };
    // SAFETY: allocated by `kpi_malloc` with the layout that this size makes.
    unsafe { dealloc(start.cast(), layout) };
}
