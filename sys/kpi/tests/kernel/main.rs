// SPDX-License-Identifier: BSD-2-Clause
//! The wrappers over a simulated kernel, by way of a small driver that sends packets in the clear.

mod driver;
mod packets;
mod text;
mod timers;
mod toy;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod wipe;

/// How many runs: few under Miri, where each takes seconds.
fn seeds(n: u64) -> u64 {
    if cfg!(miri) { 1 } else { n }
}
