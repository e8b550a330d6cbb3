// SPDX-License-Identifier: BSD-2-Clause
//! Where the caller runs.

use freebsd_kernel_sys as sys;

/// The CPU that runs the caller. It may be another one already when this returns, so it is a hint; its
/// number can be greater than that of CPUs where their numbers have gaps. Any context.
#[must_use]
pub fn curcpu() -> usize {
    // SAFETY: no argument, any context.
    let cpu = unsafe { sys::kpi_curcpu() };
    usize::try_from(cpu).unwrap_or(0)
}

/// Whether less than half of the thread's kernel stack is in use. Asked by who would process a packet
/// on the stack of whoever brought it, which can be deep: tunnels in tunnels, filters, bridges
/// (netgraph(4) asks the same). Any context.
#[must_use]
pub fn stack_is_shallow() -> bool {
    // SAFETY: no argument, any context.
    unsafe { sys::kpi_stack_is_shallow() }
}

/// Bytes that [`wipe_stack`] clears: more than the cipher and the key exchange use, and a quarter of
/// the stack of a kernel's thread.
const WIPE: usize = 4096;

/// Clears the stack below the caller's frame, where functions that have returned leave copies of what
/// they worked with: keys that were moved, the state of ciphers and hashes. For whoever has called
/// such functions, when the last of them is done. Any context that has as much stack left as those
/// functions used.
#[inline(never)]
pub fn wipe_stack() {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: takes the bytes from the stack, writes them and gives them back. The block may use the
    // stack, as nothing to the contrary is said, so the compiler has nothing below its pointer.
    unsafe {
        core::arch::asm!(
            "sub rsp, {size}",
            "mov rdi, rsp",
            "cld",
            "rep stosq",
            "add rsp, {size}",
            size = const WIPE,
            inout("rcx") WIPE / 8 => _,
            inout("rax") 0usize => _,
            out("rdi") _,
        );
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "sub sp, sp, #{size}",
            "mov {at}, sp",
            "2:",
            "stp xzr, xzr, [{at}], #16",
            "subs {left}, {left}, #16",
            "b.ne 2b",
            "add sp, sp, #{size}",
            size = const WIPE,
            at = out(reg) _,
            left = inout(reg) WIPE => _,
        );
    }
}
