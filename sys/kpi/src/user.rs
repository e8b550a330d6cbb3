// SPDX-License-Identifier: BSD-2-Clause
//! The calling process's memory.

use freebsd_kernel_sys as sys;
use kpi_alloc::{How, KVec, Sleepable};

use crate::{Errno, Result};

/// An address in the calling process. Only the functions here look at it.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserAddr(usize);

impl UserAddr {
    /// From a number; any is allowed, a bad one gives `EFAULT` on use.
    #[must_use]
    pub const fn new(addr: usize) -> Self {
        Self(addr)
    }

    /// Whether it is the null pointer.
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }
}

/// Copies `len` bytes in, all or nothing.
///
/// `E2BIG` above `max`, `ENOMEM`, `EFAULT`. If the bytes hold secrets the caller wipes them.
pub fn copy_in(from: UserAddr, len: usize, max: usize, cx: &Sleepable) -> Result<KVec<u8>> {
    if len > max {
        return Err(Errno::E2BIG);
    }
    let mut buf = KVec::new();
    buf.try_resize(len, 0u8, How::Wait(cx))?;
    let to = buf.as_mut_slice();
    // SAFETY: `to` is writable for its length; the kernel checks the user's side. May sleep: `cx`.
    let error = unsafe {
        sys::kpi_copyin(
            core::ptr::with_exposed_provenance(from.0),
            to.as_mut_ptr().cast(),
            to.len(),
        )
    };
    if let Err(e) = Errno::check(error) {
        // A part may have arrived before the fault.
        buf.as_mut_slice().fill(0);
        return Err(e);
    }
    Ok(buf)
}

/// Copies all of `from` out. `EFAULT`.
pub fn copy_out(from: &[u8], to: UserAddr, _cx: &Sleepable) -> Result {
    // SAFETY: `from` is readable for its length; the kernel checks the user's side. May sleep:
    // `_cx`.
    let error = unsafe {
        sys::kpi_copyout(
            from.as_ptr().cast(),
            core::ptr::with_exposed_provenance_mut(to.0),
            from.len(),
        )
    };
    Errno::check(error)
}
