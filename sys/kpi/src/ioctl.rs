// SPDX-License-Identifier: BSD-2-Clause
//! Arguments of interface ioctls.
//!
//! The kernel hands `if_ioctl` a command and a pointer. What the pointer points to depends on the
//! command: a copy of the caller's structure, but for some commands that the kernel issues itself
//! (`SIOCSIFADDR`, `SIOCADDMULTI`) another structure, or nothing. So an argument's type is tied to
//! the commands that have it.

use core::ffi::c_ulong;
use core::marker::PhantomData;
use core::mem::{offset_of, size_of};
use core::ptr::NonNull;

use freebsd_kernel_sys as sys;

use crate::user::UserAddr;
use crate::{Errno, Result};

/// `SIOCSWG`: configure.
pub const SIOCSWG: u64 = 0xc020_69d2;
/// `SIOCGWG`: read the configuration.
pub const SIOCGWG: u64 = 0xc020_69d3;
/// The flags (up, debug, ...) changed.
pub const SIOCSIFFLAGS: u64 = sys::KPI_SIOCSIFFLAGS;
/// An address was added. No argument that Rust could read.
pub const SIOCSIFADDR: u64 = sys::KPI_SIOCSIFADDR;
/// Set the MTU ([`IfReqMtu`]).
pub const SIOCSIFMTU: u64 = sys::KPI_SIOCSIFMTU;
/// A multicast group was joined. No argument that Rust could read.
pub const SIOCADDMULTI: u64 = sys::KPI_SIOCADDMULTI;
/// A multicast group was left. No argument that Rust could read.
pub const SIOCDELMULTI: u64 = sys::KPI_SIOCDELMULTI;
/// Read the tunnel's FIB ([`IfReqFib`]).
pub const SIOCGTUNFIB: u64 = sys::KPI_SIOCGTUNFIB;
/// Set the tunnel's FIB ([`IfReqFib`]).
pub const SIOCSTUNFIB: u64 = sys::KPI_SIOCSTUNFIB;

/// Plain old data that is the argument of certain ioctls.
///
/// # Safety
///
/// Every bit pattern is a valid value, there is no padding, and for each command of `COMMANDS` the
/// kernel passes a writable copy of a structure that begins with this one.
pub unsafe trait Pod: Copy + 'static {
    /// The commands that have this argument.
    const COMMANDS: &'static [u64];
}

/// `struct wg_data_io`: the argument of `SIOCSWG` and `SIOCGWG`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WgDataIo {
    /// Interface name, NUL terminated; the kernel has looked it up already.
    pub name: [u8; sys::IFNAMSIZ as usize],
    /// Where the packed nvlist is.
    pub data: UserAddr,
    /// Its size, or the room for it.
    pub size: usize,
}

const _: () = assert!(size_of::<WgDataIo>() == 32);
const _: () = assert!(offset_of!(WgDataIo, data) == 16 && offset_of!(WgDataIo, size) == 24);

// SAFETY: bytes and two words without padding; both commands are `_IOWR` of just this structure.
unsafe impl Pod for WgDataIo {
    const COMMANDS: &'static [u64] = &[SIOCSWG, SIOCGWG];
}

/// `struct ifreq` of `SIOCSIFMTU`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct IfReqMtu {
    /// Interface name.
    pub name: [u8; sys::IFNAMSIZ as usize],
    /// The new MTU.
    pub mtu: i32,
}

// SAFETY: bytes and a number without padding, a prefix of the `ifreq` of the command.
unsafe impl Pod for IfReqMtu {
    const COMMANDS: &'static [u64] = &[SIOCSIFMTU];
}

/// `struct ifreq` of `SIOCGTUNFIB` and `SIOCSTUNFIB`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct IfReqFib {
    /// Interface name.
    pub name: [u8; sys::IFNAMSIZ as usize],
    /// The FIB.
    pub fib: u32,
}

// SAFETY: bytes and a number without padding, a prefix of the `ifreq` of the commands.
unsafe impl Pod for IfReqFib {
    const COMMANDS: &'static [u64] = &[SIOCGTUNFIB, SIOCSTUNFIB];
}

const _: () = assert!(offset_of!(sys::ifreq, ifr_ifru) == 16);
const _: () = assert!(offset_of!(IfReqMtu, mtu) == 16 && offset_of!(IfReqFib, fib) == 16);

/// Most bytes that an argument here has.
const MAX_ARG: usize = 32;

/// Storage for an argument that is aligned for all of them.
#[repr(C, align(8))]
struct Copied([u8; MAX_ARG]);

/// An ioctl of an interface.
///
/// # Invariants
///
/// `data` is what the kernel passed for `cmd`, and belongs to this call alone. If `used` is not 0,
/// `cmd` has an argument of that many bytes or more, and `copied` begins with it.
pub struct Ioctl<'a> {
    cmd: u64,
    data: Option<NonNull<u8>>,
    copied: Copied,
    used: usize,
    _call: PhantomData<&'a mut u8>,
}

impl Ioctl<'_> {
    /// # Safety
    ///
    /// `data` is what the kernel passed for `cmd`, for as long as `'a`.
    pub(crate) unsafe fn new(cmd: c_ulong, data: sys::caddr_t) -> Self {
        Self {
            cmd,
            data: NonNull::new(data.cast()),
            copied: Copied([0; MAX_ARG]),
            used: 0,
            _call: PhantomData,
        }
    }

    /// The command, `SIOC*`.
    #[must_use]
    pub const fn cmd(&self) -> u64 {
        self.cmd
    }

    /// Its argument, a copy that goes back to the kernel when the call ends; the kernel copies it on
    /// to the caller if the ioctl succeeds and the command says so. `EINVAL` if this command has no
    /// such argument.
    pub fn arg<T: Pod>(&mut self) -> Result<&mut T> {
        const { assert!(size_of::<T>() <= MAX_ARG && align_of::<T>() <= align_of::<Copied>()) };
        let size = usize::try_from(self.cmd >> 16 & 0x1fff).unwrap_or(0);
        if !T::COMMANDS.contains(&self.cmd) || size < size_of::<T>() {
            return Err(Errno::EINVAL);
        }
        let data = self.data.ok_or(Errno::EINVAL)?;
        if self.used == 0 {
            let to = self.copied.0.as_mut_ptr();
            // SAFETY: for these commands the pointer is to a structure that begins with a `T`
            // (contract of `Pod`), which the copy has room for.
            unsafe { data.as_ptr().copy_to_nonoverlapping(to, size_of::<T>()) };
            self.used = size_of::<T>();
        }
        if self.used != size_of::<T>() {
            // One command has one argument.
            return Err(Errno::EINVAL);
        }
        // SAFETY: large enough and aligned, as asserted; any bytes make a `T`; borrowed from `self`.
        Ok(unsafe { &mut *self.copied.0.as_mut_ptr().cast::<T>() })
    }
}

impl Drop for Ioctl<'_> {
    fn drop(&mut self) {
        if let Some(data) = self.data
            && self.used != 0
        {
            // SAFETY: as many bytes as were read from there (invariant).
            unsafe {
                data.as_ptr()
                    .copy_from_nonoverlapping(self.copied.0.as_ptr(), self.used)
            };
        }
    }
}
