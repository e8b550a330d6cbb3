// SPDX-License-Identifier: BSD-2-Clause
//! Keys that are left behind: on the dead part of the stack, and in the vector registers.

use std::arch::asm;

use hostkern::sim::Sim;
use kpi::{fpu, vector};

/// More than any of it uses.
const BELOW: usize = 32 * 1024;
/// Bytes of the vector registers of 256 bits.
const REGISTERS: usize = 16 * 32;

/// A key on the heap, made without a copy on the stack.
fn key() -> Box<[u8; 32]> {
    let mut key = Box::new([0; 32]);
    for (i, byte) in key.iter_mut().enumerate() {
        *byte = (i as u8).wrapping_mul(0x35) ^ 0xc6;
    }
    key
}

/// What the registers hold. Must be inlined: a call could change some.
#[inline(always)]
fn registers(to: &mut [u8; REGISTERS]) {
    macro_rules! store {
        ($code:literal $kind:literal $($n:literal)*) => {
            // SAFETY: room for every register; the instruction is there.
            unsafe {
                asm!($(concat!($code, " [{p} + 32 * ", $n, "], ", $kind, $n),)*
                    p = in(reg) to.as_mut_ptr(), options(nostack, preserves_flags))
            }
        };
    }
    if std::is_x86_feature_detected!("avx") {
        store!("vmovdqu" "ymm" 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    } else {
        store!("movdqu" "xmm" 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }
}

/// Where the stack's dead part begins.
#[inline(always)]
fn stack_pointer() -> usize {
    let sp: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    sp
}

/// How many times a half of the key is in `[from, from + len)`.
#[inline(never)]
fn found(key: &[u8; 32], from: usize, len: usize) -> usize {
    let at = |p: usize| {
        // SAFETY: memory of this thread's stack, or of the caller's, which is only read.
        unsafe { std::ptr::with_exposed_provenance::<u64>(p).read_volatile() }
    };
    let word = |n: usize| u64::from_ne_bytes(key[8 * n..8 * n + 8].try_into().unwrap());
    (from..from + len - 16)
        .step_by(8)
        .filter(|&p| {
            [0, 2]
                .iter()
                .any(|&n| at(p) == word(n) && at(p + 8) == word(n + 1))
        })
        .count()
}

/// Runs `f` with the key and says how often the key is left on the stack, and in the registers.
#[inline(never)]
fn left_by(sim: &Sim, f: impl Fn(&[u8; 32])) -> (usize, usize) {
    let host = sim.host("a", &[]);
    let (key, mut all) = (key(), Box::new([0; REGISTERS]));
    kpi::thread::wipe_stack();
    sim.process(&host, || {
        f(&key);
        registers(&mut all);
        let sp = stack_pointer();
        let on_stack = found(&key, sp - BELOW, BELOW);
        (on_stack, found(&key, all.as_ptr().addr(), REGISTERS))
    })
}

#[test]
fn the_ciphers_key_is_nowhere_after_a_batch() {
    let sim = Sim::new(0);
    for len in [16, 100, 1440, 9000] {
        let seal = |key: &[u8; 32]| {
            let mut buf = vec![0x5a; len];
            assert!(vector::seal(key, 1, &mut buf));
            assert!(vector::open(key, 1, &mut buf));
        };
        let (on_stack, in_registers) = left_by(&sim, |key| fpu::with_vector(|| seal(key)));
        assert_eq!((on_stack, in_registers), (0, 0), "{len} bytes");
    }
}

/// That the test above would see a key.
#[test]
fn without_wiping_there_are_copies() {
    let sim = Sim::new(0);
    let (on_stack, _) = left_by(&sim, |key| {
        let mut buf = vec![0x5a; 1440];
        // SAFETY: two references, and a process may use its vector registers.
        let sealed =
            unsafe { freebsd_kernel_sys::wg_vector_seal(key, 1, buf.as_mut_ptr(), buf.len()) };
        assert_ne!(sealed, 0);
    });
    assert!(on_stack > 0);
}
