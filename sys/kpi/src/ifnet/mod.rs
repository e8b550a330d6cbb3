// SPDX-License-Identifier: BSD-2-Clause
//! Network interfaces: what a driver implements ([`IfDriver`]) and what it can do with its
//! interface ([`IfNet`]).
//!
//! # Life of an interface
//!
//! ```text
//! clone create:  IfDriver::create -> if_attach, bpfattach -> IfDriver::attached
//!                ... ioctl, output, reassign, cred_gone, and the driver's own callbacks ...
//! clone destroy: softc cleared under the list lock      no new ioctl or output finds the driver
//!                exclusive hold of the gate             ioctls that found it have left
//!                epoch wait                             outputs that found it have left
//!                link down, addresses purged
//!                IfDriver::destroy                      the driver stops its sockets, tasks and timers
//!                IfNet marked gone, epoch wait          handles that still exist do nothing from here on
//!                bpfdetach, if_detach, if_free
//! ```
//!
//! **Why an ioctl cannot meet a destroyed driver.** An ioctl, with the list lock shared, reads the
//! softc pointer, takes a reference to what it points to and shares its gate; only then it lets the
//! list lock go. Destroy clears the pointer with the list lock exclusive. So each ioctl either
//! reads null (`ENXIO`), or has the gate before destroy asks for it and is waited for. The list
//! lock is held for a few instructions, so an ioctl that sleeps in a page fault holds up the
//! destruction of its own interface only (the C driver holds one global lock through every ioctl).
//! The memory of the gate outlives the last unlock by the reference.
//!
//! **Why output cannot.** The network stack calls it in the net epoch. It reads the softc pointer
//! there, and destroy waits for the epoch between clearing the pointer and stopping the driver.
//!
//! **Why a handle cannot outlive the interface.** An `IfNet` holds a reference to the memory of the
//! `ifnet` (`if_ref(9)`), so plain fields and counters may be used for ever. What reaches into the
//! stack (input, bpf, link state) happens in an epoch section that looks at `gone` first, and
//! destroy waits for the epoch after setting it.

mod driver;
mod handle;
mod netmap;

pub use driver::{IfDriver, Module};
pub(crate) use driver::{State, create, destroy, prison_remove};
pub use handle::{Counter, IcmpReason, IfNet, Input};
