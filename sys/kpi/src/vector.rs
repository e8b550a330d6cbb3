// SPDX-License-Identifier: BSD-2-Clause
//! ChaCha20-Poly1305 by vector code: the functions of `sys/kpi/vector`, which is compiled apart from
//! the rest since the rest must not touch vector registers.
//!
//! To be used inside of [`fpu::with_vector`](crate::fpu::with_vector), a batch of packets at a time.

use freebsd_kernel_sys as sys;

/// Whether the registers are ours to use: elsewhere they hold what a user's process has in them.
fn held() -> bool {
    // SAFETY: no argument, any context.
    unsafe { sys::kpi_fpu_held() }
}

/// Encrypts in place; `buf` is the plaintext and behind it 16 bytes of room for the tag. False if
/// `buf` is shorter than that, or the vector registers are not held.
#[must_use]
pub fn seal(key: &[u8; 32], counter: u64, buf: &mut [u8]) -> bool {
    // SAFETY: the registers are held, and both references are valid for the call.
    held() && unsafe { sys::wg_vector_seal(key, counter, buf.as_mut_ptr(), buf.len()) } != 0
}

/// Verifies and decrypts in place; `buf` is ciphertext and tag. False if the tag is wrong, `buf` is
/// shorter than one, or the vector registers are not held.
#[must_use]
pub fn open(key: &[u8; 32], counter: u64, buf: &mut [u8]) -> bool {
    // SAFETY: as above.
    held() && unsafe { sys::wg_vector_open(key, counter, buf.as_mut_ptr(), buf.len()) } != 0
}
