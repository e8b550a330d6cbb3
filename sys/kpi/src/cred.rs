// SPDX-License-Identifier: BSD-2-Clause
//! Who is asking, and on whose behalf sockets are made.

use core::ffi::c_int;
use core::ptr::NonNull;

use freebsd_kernel_sys as sys;

use crate::{Errno, Result};

/// Privileges of `sys/priv.h` that the driver asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Priv {
    /// Configuring WireGuard (`PRIV_NET_WG`). Root in a VNET jail has it.
    NetWg,
    /// Choosing the routing table of an interface or socket (`PRIV_NET_SETIFFIB`).
    NetSetIfFib,
}

/// Whether the calling thread has the privilege; `EPERM` if not. Any context that runs on behalf of
/// a process.
pub fn priv_check(p: Priv) -> Result {
    let number = match p {
        Priv::NetWg => sys::PRIV_NET_WG,
        Priv::NetSetIfFib => sys::PRIV_NET_SETIFFIB,
    };
    // SAFETY: a number; any context.
    Errno::check(unsafe { sys::kpi_priv_check(number as c_int) })
}

/// The routing table (FIB) of the calling process.
#[must_use]
pub fn current_fib() -> u16 {
    // SAFETY: no argument, any context.
    let fib = unsafe { sys::kpi_current_fib() };
    u16::try_from(fib).unwrap_or(0)
}

/// Whether the present network stack has this routing table. Any context.
#[must_use]
pub fn fib_exists(fib: u16) -> bool {
    // SAFETY: no argument, any context.
    u32::from(fib) < unsafe { sys::kpi_num_fibs() }
}

/// A network stack instance, only to be compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VnetId(usize);

impl VnetId {
    /// The present one's, if there is one. Any context.
    #[must_use]
    pub fn current() -> Option<Self> {
        // SAFETY: no argument, any context.
        Self::of(unsafe { sys::kpi_vnet_current() })
    }

    pub(crate) fn of(vnet: *const sys::vnet) -> Option<Self> {
        (!vnet.is_null()).then(|| Self(vnet.addr()))
    }
}

/// A jail that is being removed.
pub struct Prison(sys::prison);

impl Prison {
    /// # Safety
    ///
    /// `pr` is a live prison for `'a`.
    pub(crate) unsafe fn borrow<'a>(pr: *const sys::prison) -> &'a Self {
        // SAFETY: the contract; `Prison` is `prison` under another name.
        unsafe { &*pr.cast() }
    }
}

/// A credential: user, jail, and through it the vnet in which a socket made with it lives.
///
/// It keeps its jail from going away. The driver drops it when
/// [`crate::ifnet::IfDriver::cred_gone`] says so.
///
/// # Invariants
///
/// `cred` is live, and one reference to it is ours.
pub struct Cred {
    cred: NonNull<sys::ucred>,
}

// SAFETY: a credential is immutable and its count is atomic.
unsafe impl Send for Cred {}
// SAFETY: as above.
unsafe impl Sync for Cred {}

impl Cred {
    /// The calling thread's, or `None` in a thread without one.
    #[must_use]
    pub fn current() -> Option<Self> {
        // SAFETY: no argument, any context; the reference that it adds becomes ours.
        NonNull::new(unsafe { sys::kpi_cred_current() }).map(|cred| Self { cred })
    }

    /// Whether a socket made with the calling thread's credential would live in the present vnet.
    ///
    /// Whoever asked need not be the calling thread: netlink(4) checks the privileges of its socket's
    /// owner and then works in a thread of the kernel's own, in the owner's vnet with the host's
    /// credential. What is decided, or made, by [`Cred::current`] must not be done there for a jail.
    #[must_use]
    pub fn is_here() -> bool {
        // SAFETY: no argument, any context.
        unsafe { sys::kpi_cred_is_here() }
    }

    /// Whether it belongs to this very jail (a child jail's credential does not).
    #[must_use]
    pub fn is_in(&self, prison: &Prison) -> bool {
        // SAFETY: both are live.
        unsafe { sys::kpi_cred_in_prison(self.cred.as_ptr(), &raw const prison.0) }
    }

    /// Whether its jail is neither being removed nor gone.
    /// [`crate::ifnet::IfDriver::cred_gone`] tells of what comes after the answer yes.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        // SAFETY: live; any context.
        unsafe { sys::kpi_cred_alive(self.cred.as_ptr()) }
    }

    /// Whether the calling thread's jail is the credential's, or one that the credential's is in:
    /// then a privilege of the thread is one over what the credential has. Any context that runs on
    /// behalf of a process.
    #[must_use]
    pub fn is_governed(&self) -> bool {
        // SAFETY: live; any context.
        unsafe { sys::kpi_cred_governed(self.cred.as_ptr()) }
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::ucred {
        self.cred.as_ptr()
    }
}

impl Clone for Cred {
    fn clone(&self) -> Self {
        // SAFETY: live by the invariant; the new reference belongs to the clone.
        unsafe { sys::crhold(self.cred.as_ptr()) };
        Self { cred: self.cred }
    }
}

impl Drop for Cred {
    fn drop(&mut self) {
        // SAFETY: gives up our one reference.
        unsafe { sys::crfree(self.cred.as_ptr()) };
    }
}
