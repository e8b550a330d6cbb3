// SPDX-License-Identifier: BSD-2-Clause
//! One line at a time, to standard error or to the system log.
//!
//! Nothing secret may be passed to this module: neither keys nor text taken from a request.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;

/// How important a line is, with the numbers of syslog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Level {
    /// Something that was asked for does not work.
    Error = 3,
    /// Something is odd but dealt with.
    Warning = 4,
    /// Worth knowing.
    Info = 6,
    /// Only with `-v`.
    Debug = 7,
}

struct Log {
    name: String,
    to: To,
}

enum To {
    Stderr,
    Syslog(UnixDatagram),
    /// A daemon without a system log.
    Nowhere,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Chooses where lines go: once, before other threads exist. `name` begins every line. A system without `/dev/log`
/// loses what is written to it, as with every daemon.
pub fn start(name: &str, to_syslog: bool) {
    let connect = || {
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect("/dev/log").ok()?;
        // A stuck log daemon must not stop packets.
        socket.set_nonblocking(true).ok()?;
        Some(To::Syslog(socket))
    };
    let to = if to_syslog {
        connect().unwrap_or(To::Nowhere)
    } else {
        To::Stderr
    };
    let _ = LOG.set(Log {
        name: name.to_owned(),
        to,
    });
}

/// Writes one line.
pub fn line(level: Level, text: &str) {
    let Some(log) = LOG.get() else {
        let _ = writeln!(std::io::stderr().lock(), "wgd: {text}");
        return;
    };
    match &log.to {
        // Facility 3 is "system daemons".
        To::Syslog(socket) => {
            let priority = (3 << 3) | level as u8;
            let message = format!(
                "<{priority}>wgd[{}]: {}: {text}",
                std::process::id(),
                log.name
            );
            let _ = socket.send(message.as_bytes());
        }
        To::Stderr => {
            let _ = writeln!(std::io::stderr().lock(), "wgd: {}: {text}", log.name);
        }
        To::Nowhere => {}
    }
}

/// Copies lines from `pipe`, which stands in for standard error, for as long as the process lives: what the driver
/// and libraries print there must not be lost.
pub fn forward(pipe: impl Read + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("wgd-log".into())
        .spawn(move || {
            for text in BufReader::new(pipe).lines().map_while(Result::ok) {
                line(Level::Info, &text);
            }
        })?;
    Ok(())
}

/// Logs an error.
#[macro_export]
macro_rules! error {
    ($($arg:tt)*) => { $crate::log::line($crate::log::Level::Error, &format!($($arg)*)) };
}

/// Logs a warning.
#[macro_export]
macro_rules! warning {
    ($($arg:tt)*) => { $crate::log::line($crate::log::Level::Warning, &format!($($arg)*)) };
}

/// Logs something worth knowing.
#[macro_export]
macro_rules! info {
    ($($arg:tt)*) => { $crate::log::line($crate::log::Level::Info, &format!($($arg)*)) };
}
