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

/// Clears every vector register: leaving the kernel's use of them does not, and what is in them then
/// is keys and key stream.
///
/// # Safety
///
/// The vector registers are the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wg_vector_wipe() {
    wipe::registers();
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod wipe {
    use core::arch::asm;
    use core::arch::x86_64::__cpuid;
    use core::sync::atomic::{AtomicU8, Ordering};

    /// Whether there are registers of 256 bits: 0 not asked yet, 1 no, 2 yes.
    static WIDE: AtomicU8 = AtomicU8::new(0);

    /// Whether the processor has AVX and the system saves its registers. Asked once, since a virtual
    /// machine pays dearly for the question.
    fn wide() -> bool {
        let known = WIDE.load(Ordering::Relaxed);
        if known != 0 {
            return known == 2;
        }
        const OSXSAVE_AND_AVX: u32 = 3 << 27;
        let wide = __cpuid(1).ecx & OSXSAVE_AND_AVX == OSXSAVE_AND_AVX && {
            let low: u32;
            // SAFETY: with OSXSAVE the instruction is there; it reads register 0, which is.
            unsafe {
                asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _,
                    options(nomem, nostack, preserves_flags));
            }
            low & 6 == 6
        };
        WIDE.store(1 + u8::from(wide), Ordering::Relaxed);
        wide
    }

    pub(super) fn registers() {
        macro_rules! clear {
            ($($code:literal)*) => {
                asm!($($code,)*
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
                    out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _,
                    out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _,
                    out("xmm14") _, out("xmm15") _, options(nomem, nostack, preserves_flags))
            };
        }
        if wide() {
            // SAFETY: AVX is there. The registers are named as changed.
            unsafe { clear!("vzeroall") };
        } else {
            // SAFETY: SSE2 is on every processor of this architecture. As above.
            unsafe {
                clear!("pxor xmm0, xmm0" "pxor xmm1, xmm1" "pxor xmm2, xmm2" "pxor xmm3, xmm3"
                    "pxor xmm4, xmm4" "pxor xmm5, xmm5" "pxor xmm6, xmm6" "pxor xmm7, xmm7"
                    "pxor xmm8, xmm8" "pxor xmm9, xmm9" "pxor xmm10, xmm10" "pxor xmm11, xmm11"
                    "pxor xmm12, xmm12" "pxor xmm13, xmm13" "pxor xmm14, xmm14" "pxor xmm15, xmm15")
            };
        }
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
mod wipe {
    use core::arch::asm;

    pub(super) fn registers() {
        // SAFETY: NEON is on every processor of this architecture. The registers are named as changed,
        // so that the compiler keeps what it has in them.
        unsafe {
            asm!(
                "movi v0.2d, #0", "movi v1.2d, #0", "movi v2.2d, #0", "movi v3.2d, #0",
                "movi v4.2d, #0", "movi v5.2d, #0", "movi v6.2d, #0", "movi v7.2d, #0",
                "movi v8.2d, #0", "movi v9.2d, #0", "movi v10.2d, #0", "movi v11.2d, #0",
                "movi v12.2d, #0", "movi v13.2d, #0", "movi v14.2d, #0", "movi v15.2d, #0",
                "movi v16.2d, #0", "movi v17.2d, #0", "movi v18.2d, #0", "movi v19.2d, #0",
                "movi v20.2d, #0", "movi v21.2d, #0", "movi v22.2d, #0", "movi v23.2d, #0",
                "movi v24.2d, #0", "movi v25.2d, #0", "movi v26.2d, #0", "movi v27.2d, #0",
                "movi v28.2d, #0", "movi v29.2d, #0", "movi v30.2d, #0", "movi v31.2d, #0",
                out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _,
                out("v6") _, out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _,
                out("v12") _, out("v13") _, out("v14") _, out("v15") _, out("v16") _,
                out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _,
                out("v22") _, out("v23") _, out("v24") _, out("v25") _, out("v26") _,
                out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
                options(nomem, nostack, preserves_flags)
            );
        }
    }
}

/// Other processors have no vector code of `ring`'s, and Miri has no registers.
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod wipe {
    pub(super) fn registers() {}
}
