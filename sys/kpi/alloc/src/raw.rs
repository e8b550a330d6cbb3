// SPDX-License-Identifier: BSD-2-Clause
//! The two symbols under everything else, and the checks that belong to every call of them.

use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

use crate::{AllocError, How};

/// Alignment in bytes of every allocation. A type that needs more is refused at compile time.
pub const MAX_ALIGN: usize = 16;

/// Fail rather than sleep (`sys/malloc.h`).
const M_NOWAIT: c_int = 0x0001;
/// Sleeping is allowed (`sys/malloc.h`).
const M_WAITOK: c_int = 0x0002;

// "C-unwind" has the same calling convention as "C". The host's allocator panics when a context rule
// is broken, and tests want to catch that. The kernel's never unwinds, and a call that could would
// drag in code that aborts.
#[cfg(panic = "unwind")]
unsafe extern "C-unwind" {
    fn kpi_malloc(size: usize, flags: c_int) -> *mut c_void;
    fn kpi_free(p: *mut c_void);
}
#[cfg(not(panic = "unwind"))]
unsafe extern "C" {
    fn kpi_malloc(size: usize, flags: c_int) -> *mut c_void;
    fn kpi_free(p: *mut c_void);
}

/// Memory for `n` values of `T`, uninitialised; dangling (and not to be freed) when that is zero bytes.
pub(crate) fn allocate<T>(n: usize, how: How<'_>) -> Result<NonNull<T>, AllocError> {
    const {
        assert!(
            align_of::<T>() <= MAX_ALIGN,
            "kpi_malloc aligns to 16 bytes"
        )
    };
    let bytes = size_of::<T>().checked_mul(n).ok_or(AllocError)?;
    if bytes == 0 {
        return Ok(NonNull::dangling());
    }
    // No Rust object may be larger: pointer offsets within it are isize.
    if isize::try_from(bytes).is_err() {
        return Err(AllocError);
    }
    let flags = match how {
        How::NoWait => M_NOWAIT,
        How::Wait(_) => M_WAITOK,
    };
    // SAFETY: kpi_malloc takes any size; M_WAITOK comes only with a `Sleepable`, which proves that
    // this context may sleep.
    let p = unsafe { kpi_malloc(bytes, flags) };
    NonNull::new(p.cast::<T>()).ok_or(AllocError)
}

/// Gives memory back.
///
/// # Safety
///
/// `p` came from [`allocate`] with a non-zero byte count, was not freed since, and nothing uses it after.
pub(crate) unsafe fn free<T: ?Sized>(p: NonNull<T>) {
    // SAFETY: by the contract of this function the block is live and ours.
    unsafe { kpi_free(p.as_ptr().cast::<c_void>()) }
}
