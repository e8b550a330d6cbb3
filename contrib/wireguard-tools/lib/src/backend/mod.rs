// SPDX-License-Identifier: BSD-2-Clause
//! The ways to an interface.
//!
//! [`system`] gives the one that wg(8) uses: a process that listens on a socket takes precedence over the kernel.

use std::io;

use rustix::io::Errno;

use crate::change::Change;
use crate::device::Device;

#[cfg(target_os = "freebsd")]
pub mod freebsd;
#[cfg(target_os = "linux")]
pub mod genetlink;
pub mod text;

/// A family of interfaces.
pub trait Backend {
    /// Names of the interfaces, in no particular order.
    ///
    /// # Errors
    /// The system's, when it cannot tell. That there are none is an empty list.
    fn interfaces(&self) -> io::Result<Vec<String>>;

    /// Reads an interface's configuration and counters.
    ///
    /// # Errors
    /// The system's number, which is what wg(8) prints: ENODEV or ENXIO for no such interface, EPERM for no right,
    /// EPROTO for a reply that makes no sense.
    fn get(&self, name: &str) -> io::Result<Device>;

    /// Changes an interface's configuration.
    ///
    /// # Errors
    /// As [`get`](Self::get), or why the change was refused. Part of a refused change may have happened: that depends
    /// on the driver.
    fn set(&self, name: &str, change: &Change) -> io::Result<()>;
}

/// The interfaces of this machine.
#[must_use]
pub fn system() -> Combined {
    #[cfg(target_os = "freebsd")]
    let kernel: Option<Box<dyn Backend>> = Some(Box::new(freebsd::Freebsd::default()));
    #[cfg(target_os = "linux")]
    let kernel: Option<Box<dyn Backend>> = Some(Box::new(genetlink::Genetlink::default()));
    #[cfg(not(any(target_os = "freebsd", target_os = "linux")))]
    let kernel: Option<Box<dyn Backend>> = None;
    Combined {
        text: text::Text::default(),
        kernel,
    }
}

/// Processes that listen on sockets, and the kernel behind them.
pub struct Combined {
    /// Processes; asked first.
    pub text: text::Text,
    /// The kernel, where it has such interfaces.
    pub kernel: Option<Box<dyn Backend>>,
}

impl Combined {
    /// The family that answers for this name.
    fn of(&self, name: &str) -> &dyn Backend {
        match &self.kernel {
            Some(kernel) if !self.text.serves(name) => &**kernel,
            _ => &self.text,
        }
    }

    /// A kernel that has no such interface says nothing about a process that the caller may not look for.
    fn why(&self, name: &str, error: io::Error) -> io::Error {
        let unknown = [
            Errno::NODEV,
            Errno::NXIO,
            Errno::OPNOTSUPP,
            Errno::PROTONOSUPPORT,
        ];
        let unknown = unknown.map(|e| Some(e.raw_os_error()));
        if unknown.contains(&error.raw_os_error()) && self.text.is_forbidden(name) {
            return Errno::ACCESS.into();
        }
        error
    }
}

impl Backend for Combined {
    /// The kernel's interfaces, then the processes'. A name that is both is listed twice, as stock wg(8) does.
    fn interfaces(&self) -> io::Result<Vec<String>> {
        let mut names = match &self.kernel {
            Some(kernel) => kernel.interfaces()?,
            None => Vec::new(),
        };
        names.extend(self.text.interfaces()?);
        Ok(names)
    }

    fn get(&self, name: &str) -> io::Result<Device> {
        self.of(name).get(name).map_err(|e| self.why(name, e))
    }

    fn set(&self, name: &str, change: &Change) -> io::Result<()> {
        self.of(name)
            .set(name, change)
            .map_err(|e| self.why(name, e))
    }
}
