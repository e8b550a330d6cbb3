// SPDX-License-Identifier: BSD-2-Clause
//! What hostkern itself has to say to a person.

use std::fmt;

/// A warning: to the log of the kernel that runs on this thread, else to standard error.
#[cfg_attr(
    not(feature = "real"),
    expect(dead_code, reason = "devices of real mode warn")
)]
pub(crate) fn warning(what: fmt::Arguments<'_>) {
    match crate::thread::try_kernel() {
        Some(k) => k.machine.log(&format!("warning: {what}")),
        None => eprintln!("warning: {what}"),
    }
}
