// SPDX-License-Identifier: BSD-2-Clause
//! The FreeBSD kernel symbols that the driver imports, implemented on a host.
//!
//! Crate `kpi` calls FreeBSD's functions by their own names and the `kpi_*` functions of
//! `kpi_shim.h`. In a kernel module FreeBSD and the C shims define them; in a process this crate
//! does. The driver and its wrappers are the same code in both.
//!
//! - [`sim`]: one thread, virtual time, a virtual network, everything chosen by a seed.
//! - [`threads`]: the host's threads, for `wgd`; who carries packets is a [`backend::Backend`].
//!
//! The kernel's rules hold in both, and breaking one panics with its name in brackets, as
//! INVARIANTS and WITNESS would: see `tests/rules.rs` for the list.

pub mod backend;
pub mod callout;
pub mod clone;
pub mod epoch;
mod icmp;
pub mod ifnet;
mod kernel;
#[cfg(feature = "kld")]
pub mod kld;
pub mod layout;
pub mod lock;
mod log;
pub mod mbuf;
pub mod misc;
pub mod ocf;
pub mod pace;
mod packet;
mod pool;
#[cfg(feature = "real")]
pub mod real;
pub mod sim;
mod sockaddr;
pub mod socket;
pub mod tally;
pub mod task;
mod thread;
pub mod threads;
mod vnet;
mod witness;

pub use backend::Errno;
pub use clone::ModuleOps;
pub use ifnet::{Delivered, Ifnet, RouteArg};
pub use kernel::{Config, Held, Kernel, as_user, kpi_malloc_live};
pub use mbuf::Packet;
pub use ocf::CryptoDriver;
pub use thread::{Kind, LockKind};
pub use vnet::{IcmpError, Prison, Ucred, Vnet};

pub use vnet::{
    crfree, crhold, kpi_copyin, kpi_copyout, kpi_cred_alive, kpi_cred_current, kpi_cred_governed,
    kpi_cred_in_prison, kpi_cred_is_here, kpi_current_fib, kpi_priv_check, kpi_vnet_current,
};
