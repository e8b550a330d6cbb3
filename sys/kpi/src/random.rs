// SPDX-License-Identifier: BSD-2-Clause
//! The kernel's cryptographically strong random numbers.

use freebsd_kernel_sys as sys;

/// Fills `buf`. Any context.
pub fn fill(buf: &mut [u8]) {
    // SAFETY: `buf` is writable for its length.
    unsafe { sys::kpi_random(buf.as_mut_ptr().cast(), buf.len()) };
}

/// Four random bytes as a number. Any context.
#[must_use]
pub fn u32() -> u32 {
    let mut b = [0; 4];
    fill(&mut b);
    u32::from_ne_bytes(b)
}
