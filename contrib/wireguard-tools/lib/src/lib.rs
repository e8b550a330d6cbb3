// SPDX-License-Identifier: BSD-2-Clause
//! WireGuard's configuration as a program outside the kernel sees it.
//!
//! - [`key`]: the two kinds of keys, and their text.
//! - [`device`]: what an interface reports; [`change`]: what it is asked to become.
//! - [`config`]: the file format of `wg setconf`, to which wg-quick(8) adds keys of its own.
//! - [`endpoint`]: host names and service names made into addresses.
//! - [`show`] and [`pretty`]: what wg(8) prints.
//! - [`secret`]: files that hold keys, and a process that does.
//! - [`backend`]: the ways to an interface: a driver in a FreeBSD or Linux kernel, or a process.
#![forbid(unsafe_code)]

pub mod backend;
pub mod change;
pub mod config;
pub mod device;
pub mod endpoint;
pub mod key;
pub mod pretty;
pub mod secret;
pub mod show;

/// An error's text as strerror(3) has it, without the number that the standard library adds.
#[must_use]
pub fn error_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(errno) => match text.strip_suffix(&format!(" (os error {errno})")) {
            Some(words) => words.to_owned(),
            None => text,
        },
        None => text,
    }
}
