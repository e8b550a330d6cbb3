// SPDX-License-Identifier: BSD-2-Clause
//! ChaCha20-Poly1305 by the vector code of the crate `ring`.
//!
//! The kernel module cannot use vector registers just anywhere, so this is compiled by itself, with
//! the features of the processor that the rest is compiled without, and linked as one more object
//! whose code has a section of its own. Crate `kpi` calls these functions between
//! `fpu_kern_enter(9)` and `fpu_kern_leave(9)`; nobody else may. Only pointers and numbers are
//! passed, in the C calling convention, which is the same on both sides.
//!
//! On amd64 `ring` looks at the processor when it is first used, and chooses among AVX2, SSE4.1 and
//! plain SSE2 code. On arm64 every processor has NEON, and there is one code for it.
//!
//! A kernel cannot unwind, and nothing else here is built so: that tells the two apart. Elsewhere
//! `hostkern` gives these functions their names, with a look at how they are used.
#![cfg_attr(not(panic = "unwind"), no_std)]

use core::ffi::c_int;
use core::slice;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

const TAG_LEN: usize = 16;

#[cfg(not(panic = "unwind"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn kpi_panic(msg: *const core::ffi::c_char) -> !;
    }
    // SAFETY: NUL-terminated, and it does not return.
    unsafe { kpi_panic(c"if_wg: Rust panic in the vector code".as_ptr()) }
}

/// `ring` names the crate `alloc` and needs nothing of it for this cipher, but the compiler wants an
/// allocator then.
#[cfg(not(panic = "unwind"))]
struct NoMemory;

#[cfg(not(panic = "unwind"))]
// SAFETY: never gives memory.
unsafe impl core::alloc::GlobalAlloc for NoMemory {
    unsafe fn alloc(&self, _: core::alloc::Layout) -> *mut u8 {
        core::ptr::null_mut()
    }
    unsafe fn dealloc(&self, _: *mut u8, _: core::alloc::Layout) {}
}

#[cfg(not(panic = "unwind"))]
#[global_allocator]
static NO_MEMORY: NoMemory = NoMemory;

fn key(bytes: &[u8; 32]) -> Option<LessSafeKey> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, bytes).ok()?;
    Some(LessSafeKey::new(key))
}

fn nonce(counter: u64) -> Nonce {
    let [a, b, c, d, e, f, g, h] = counter.to_le_bytes();
    Nonce::assume_unique_for_key([0, 0, 0, 0, a, b, c, d, e, f, g, h])
}

/// Encrypts in place: `buf` is the plaintext and room for the tag, `len` bytes together. Nonzero on
/// success.
///
/// # Safety
///
/// Both pointers are valid, `buf` for writing, and nobody else uses the memory. The vector registers
/// are the caller's.
#[cfg_attr(not(panic = "unwind"), unsafe(no_mangle))]
pub unsafe extern "C" fn wg_vector_seal(
    key_bytes: *const [u8; 32],
    counter: u64,
    buf: *mut u8,
    len: usize,
) -> c_int {
    // SAFETY: the contract.
    let (key_bytes, buf) = unsafe { (&*key_bytes, slice::from_raw_parts_mut(buf, len)) };
    let mut seal = || {
        let (text, room) = buf.split_at_mut_checked(len.checked_sub(TAG_LEN)?)?;
        let tag = key(key_bytes)?
            .seal_in_place_separate_tag(nonce(counter), Aad::empty(), text)
            .ok()?;
        let tag: &[u8; TAG_LEN] = tag.as_ref().first_chunk()?;
        *room.first_chunk_mut()? = *tag;
        Some(())
    };
    c_int::from(seal().is_some())
}

/// Verifies and decrypts in place: `buf` is ciphertext and tag, `len` bytes together. Nonzero on
/// success.
///
/// # Safety
///
/// As of [`wg_vector_seal`].
#[cfg_attr(not(panic = "unwind"), unsafe(no_mangle))]
pub unsafe extern "C" fn wg_vector_open(
    key_bytes: *const [u8; 32],
    counter: u64,
    buf: *mut u8,
    len: usize,
) -> c_int {
    // SAFETY: the contract.
    let (key_bytes, buf) = unsafe { (&*key_bytes, slice::from_raw_parts_mut(buf, len)) };
    let mut open = || {
        key(key_bytes)?
            .open_in_place(nonce(counter), Aad::empty(), buf)
            .ok()
            .map(|_| ())
    };
    c_int::from(open().is_some())
}
