// SPDX-License-Identifier: BSD-2-Clause
//! Safe Rust over the FreeBSD kernel programming interface.
//!
//! All `unsafe` of the driver is in this crate. It calls the kernel by C symbols
//! (`freebsd-kernel-sys`), which the kernel defines in the module and `hostkern` on other systems:
//! one code path for both.
//!
//! Three habits run through all of it:
//! - **Context is an argument.** `&Sleepable` proves that the caller may sleep, `&Epoch` that it is
//!   in the net epoch.
//! - **A call that consumes in C consumes the value.** An [`mbuf::Mbuf`] given away cannot be used
//!   again.
//! - **A handle owns what its callback uses**, and its drain or drop returns only when no callback
//!   runs any more.
#![no_std]

mod atomics;
pub mod callout;
pub mod cred;
pub mod crew;
pub mod epoch;
mod errno;
pub mod fpu;
pub mod ifnet;
pub mod ioctl;
pub mod log;
pub mod mbuf;
pub mod module;
pub mod net;
pub mod ocf;
pub mod queue;
pub mod random;
pub mod serial;
pub mod sync;
pub mod sysctl;
pub mod taskq;
pub mod thread;
pub mod time;
pub mod user;
pub mod vector;

pub use epoch::Epoch;
pub use errno::{Errno, Result};
pub use kpi_alloc::{AllocError, How, KArc, KBox, KVec, Sleepable};
