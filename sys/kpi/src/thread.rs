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
