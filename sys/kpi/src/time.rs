// SPDX-License-Identifier: BSD-2-Clause
//! Clocks.

use freebsd_kernel_sys as sys;

/// Nanoseconds since boot: monotonic, the clock of all timers. Any context. It reads the timecounter:
/// tens of nanoseconds at best, a microsecond where that is the HPET or the ACPI timer and many on a
/// virtual machine, so packets use [`uptime_coarse_ns`].
#[must_use]
pub fn uptime_ns() -> u64 {
    // SAFETY: no argument, any context.
    unsafe { sys::kpi_uptime_ns() }
}

/// The same clock as it was at the last tick: up to `1/kern.hz` seconds, 10 ms at most, behind
/// [`uptime_ns`] and never before it. Any context; one load. For limits of seconds
/// (getsbinuptime(9)).
#[must_use]
pub fn uptime_coarse_ns() -> u64 {
    // SAFETY: no argument, any context.
    unsafe { sys::kpi_uptime_coarse_ns() }
}

/// The wall clock: seconds since 1970 and nanoseconds below 10^9. May step. Any context.
#[must_use]
pub fn realtime() -> (u64, u32) {
    let (mut secs, mut nanos) = (0, 0);
    // SAFETY: both pointers are to locals that outlive the call.
    unsafe { sys::kpi_realtime(&raw mut secs, &raw mut nanos) };
    (secs, nanos)
}
