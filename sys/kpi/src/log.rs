// SPDX-License-Identifier: BSD-2-Clause
//! Lines for the kernel message buffer.

use core::ffi::CStr;
use core::fmt::{self, Write};

use freebsd_kernel_sys as sys;

/// A line of text on the stack, cut at its capacity. No allocation, no failure: what does not fit
/// is left out.
pub struct Line {
    buf: [u8; Self::CAPACITY],
    len: usize,
}

impl Line {
    /// Bytes that a line can have.
    pub const CAPACITY: usize = 256;

    /// An empty line.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            buf: [0; Self::CAPACITY],
            len: 0,
        }
    }

    /// What was written so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or_default()
    }

    fn format(args: fmt::Arguments<'_>) -> Self {
        let mut line = Self::new();
        // The only error is that a Display implementation reports one; the line up to there is
        // still worth showing.
        let _ = line.write_fmt(args);
        line
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = self.buf.get_mut(self.len..).unwrap_or_default();
        let n = room.len().min(s.len());
        // Zipping needs no check that could fail.
        for (to, from) in room.iter_mut().zip(s.bytes()) {
            *to = from;
        }
        self.len = self.len.saturating_add(n);
        Ok(())
    }
}

/// Logs one line; [`kpi_info!`](crate::kpi_info) is the usual way. Any context.
pub fn info(args: fmt::Arguments<'_>) {
    let line = Line::format(args);
    let text = line.as_bytes();
    // SAFETY: `text` is readable for its length.
    unsafe { sys::kpi_log(text.as_ptr().cast(), text.len()) };
}

/// The same, behind an interface's name.
pub(crate) fn interface(ifp: *mut sys::ifnet, args: fmt::Arguments<'_>) {
    let line = Line::format(args);
    let text = line.as_bytes();
    // SAFETY: the caller's ifnet is referenced; `text` is readable for its length.
    unsafe { sys::kpi_log_if(ifp, text.as_ptr().cast(), text.len()) };
}

/// Stops the kernel with `panic(9)`: for what the language demands an answer to and the code has no
/// way of getting to. Any context.
pub fn halt(text: &CStr) -> ! {
    // SAFETY: NUL-terminated; the call does not return.
    unsafe { sys::kpi_panic(text.as_ptr()) }
}

/// Logs one line of at most 256 bytes: `kpi_info!("loaded, {} CPUs", n)`.
#[macro_export]
macro_rules! kpi_info {
    ($($arg:tt)*) => { $crate::log::info(::core::format_args!($($arg)*)) };
}
