// SPDX-License-Identifier: BSD-2-Clause
//! Vector registers in the kernel.

use freebsd_kernel_sys as sys;

use crate::thread::wipe_stack;

/// Runs `f` with the vector registers usable: `fpu_kern_enter(9)` before and `fpu_kern_leave(9)`
/// after it. Costs a save of the registers, so take it once a batch.
///
/// What `f` has left in the registers is cleared, as `fpu_kern_leave(9)` does not, and what it has
/// left on the stack: a cipher has its key in both.
///
/// `f` runs in a critical section: it must not sleep, block on a lock, allocate with
/// [`kpi_alloc::How::Wait`], or call this again; keep it to computing and short.
pub fn with_vector<R>(f: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            // SAFETY: the registers are ours until the next call.
            unsafe { sys::wg_vector_wipe() };
            // SAFETY: pairs with the enter below, on the same thread, once.
            unsafe { sys::kpi_fpu_leave() };
        }
    }
    // SAFETY: left by `Leave`, on every way out.
    unsafe { sys::kpi_fpu_enter() };
    let leave = Leave;
    let result = f();
    drop(leave);
    wipe_stack();
    result
}
