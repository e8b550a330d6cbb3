// SPDX-License-Identifier: BSD-2-Clause
//! The parts of `wgd`: a WireGuard interface in user space, run by the kernel driver's own code.
//!
//! [`daemon`] is the process, [`instance`] the driver in it. Requests come in through [`control`], are understood by
//! [`uapi`], and reach the driver through [`convert`] as the ioctls that FreeBSD's `wg(8)` makes.
#![forbid(unsafe_code)]

pub mod cli;
pub mod control;
pub mod convert;
pub mod daemon;
pub mod demo;
pub mod instance;
pub mod log;
pub mod privileges;
mod thunk;
pub mod uapi;
