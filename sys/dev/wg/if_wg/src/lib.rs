// SPDX-License-Identifier: BSD-2-Clause
//! The WireGuard network interface driver, `if_wg`.
//!
//! The protocol is in the crate `wg`, the kernel in the crate `kpi`; this crate joins them. It has
//! no unsafe code, allocates fallibly, and has no state outside of its interfaces.
//!
//! Where to begin reading: [`Softc`] for what an interface is, `send` and `receive` for the way of
//! a packet, `worker` for the tasks in between, `handshake` for the control messages, `set` and
//! `get` for configuration, `peer` for the life of a peer.
#![no_std]
#![forbid(unsafe_code)]

mod budget;
mod codec;
mod events;
mod get;
mod handshake;
mod index;
mod ioctl;
mod limits;
mod module;
mod ocf;
mod peer;
mod peers;
mod receive;
mod rng;
mod routes;
mod send;
mod session;
mod set;
mod sockets;
mod softc;
mod stats;
mod usage;
mod vector;
mod worker;

pub use module::Module;
pub use softc::Softc;
pub use stats::Reason;
