// SPDX-License-Identifier: BSD-2-Clause
//! The ioctls of FreeBSD's WireGuard interfaces, as a process calls them.
//!
//! Empty on other systems.

#[cfg(target_os = "freebsd")]
mod ioctl;

#[cfg(target_os = "freebsd")]
pub use ioctl::Control;
