// SPDX-License-Identifier: BSD-2-Clause
//! Clocks.

use freebsd_kernel_sys as sys;

/// Nanoseconds since boot: monotonic, the clock of all timers. Any context; tens of nanoseconds, so
/// read it once a batch and not once a packet.
#[must_use]
pub fn uptime_ns() -> u64 {
    // SAFETY: no argument, any context.
    unsafe { sys::kpi_uptime_ns() }
}

/// The wall clock: seconds since 1970 and nanoseconds below 10^9. May step. Any context.
#[must_use]
pub fn realtime() -> (u64, u32) {
    let (mut secs, mut nanos) = (0, 0);
    // SAFETY: both pointers are to locals that outlive the call.
    unsafe { sys::kpi_realtime(&raw mut secs, &raw mut nanos) };
    (secs, nanos)
}
