// SPDX-License-Identifier: BSD-2-Clause
//! Error numbers.

use core::ffi::c_int;
use core::fmt;
use core::num::NonZeroI32;

use freebsd_kernel_sys as sys;
use kpi_alloc::AllocError;

/// A FreeBSD error number (`errno(2)`): positive, never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(NonZeroI32);

/// The result of a kernel call.
pub type Result<T = (), E = Errno> = core::result::Result<T, E>;

/// Only evaluated at compile time, where a zero is a compile error.
const fn number(n: u32) -> Errno {
    match NonZeroI32::new(n as i32) {
        Some(n) => Errno(n),
        None => panic!("an errno is not zero"),
    }
}

macro_rules! numbers {
    ($($name:ident $text:literal)*) => {
        impl Errno {
            $(
                #[doc = $text]
                pub const $name: Self = const { number(sys::$name) };
            )*
        }

        impl fmt::Debug for Errno {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(if *self == Self::$name {
                    return f.write_str(stringify!($name));
                })*
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

numbers! {
    EPERM "Operation not permitted."
    ENOENT "No such file or directory."
    EIO "Input/output error."
    ENXIO "Device not configured."
    E2BIG "Argument list too long."
    ENOMEM "Cannot allocate memory."
    EACCES "Permission denied."
    EFAULT "Bad address."
    EBUSY "Device busy."
    EEXIST "File exists."
    EINVAL "Invalid argument."
    ENOTTY "Inappropriate ioctl for device."
    ENOSPC "No space left on device."
    ERANGE "Result too large."
    EAGAIN "Resource temporarily unavailable."
    EMSGSIZE "Message too long."
    EPROTONOSUPPORT "Protocol not supported."
    EOPNOTSUPP "Operation not supported."
    EPFNOSUPPORT "Protocol family not supported."
    EAFNOSUPPORT "Address family not supported by protocol family."
    EADDRINUSE "Address already in use."
    EADDRNOTAVAIL "Can't assign requested address."
    ENETDOWN "Network is down."
    ENETUNREACH "Network is unreachable."
    ENOBUFS "No buffer space available."
    ENOTCONN "Socket is not connected."
    ELOOP "Too many levels of symbolic links: here, a routing loop."
    EHOSTUNREACH "No route to host."
    EBADMSG "Bad message."
    EPROTO "Protocol error."
    ENOTRECOVERABLE "State not recoverable."
}

impl Errno {
    /// The number for C.
    #[must_use]
    pub const fn to_raw(self) -> c_int {
        self.0.get()
    }

    /// A C function's answer: 0 is success, everything else the error.
    pub const fn check(raw: c_int) -> Result<()> {
        match NonZeroI32::new(raw) {
            None => Ok(()),
            Some(n) => Err(Self(n)),
        }
    }

    /// The answer for C.
    #[must_use]
    pub const fn from_result(r: Result<()>) -> c_int {
        match r {
            Ok(()) => 0,
            Err(e) => e.to_raw(),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl core::error::Error for Errno {}

impl From<AllocError> for Errno {
    fn from(_: AllocError) -> Self {
        Self::ENOMEM
    }
}
