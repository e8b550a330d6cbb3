// SPDX-License-Identifier: BSD-2-Clause
//! The kernel allocator symbols, `kpi_malloc` and `kpi_free`, over `std`, with failure injection and leak
//! accounting.
//!
//! Without an account in scope (a daemon that carries traffic) a call costs a header and two loads over
//! the host's allocator. A simulated kernel makes an [`Account`] and enters it on every thread that runs
//! its code; then each allocation is numbered, counted, remembered until it is freed, and may be made to
//! fail. Frees are booked on the account that the block came from, whoever frees it. With one thread
//! the numbers are a pure function of the program, so a leak or a failure found once replays by number.

mod account;
mod heap;

pub use account::{Account, Leak, Scope, Stats};
pub use heap::{M_NOWAIT, M_WAITOK, M_ZERO, kpi_free, kpi_malloc, set_waitok_hook};
