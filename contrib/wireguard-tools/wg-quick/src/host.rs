// SPDX-License-Identifier: BSD-2-Clause
//! What a plan needs of a machine.

use std::fmt;

use zeroize::Zeroizing;

use crate::command::Cmd;
use crate::hook::Code;
use crate::monitor::Monitor;

/// Where programs that are an interface have their control sockets.
pub const SOCKETS: &str = "/var/run/wireguard";

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It did not work; the text is for the user, and empty when a program has said it already.
    Failed(String),
    /// So ended the user's code, with this status; the text is as above.
    Hook {
        /// For the user.
        text: String,
        /// What the program is to end with, as the stock script does. Never 0.
        status: u8,
    },
    /// This signal came, so it may or may not have been done.
    Interrupted(i32),
}

impl Failure {
    /// The same when the user knows it already.
    #[must_use]
    pub fn told(&self) -> Failure {
        let text = String::new();
        match self {
            Failure::Hook { status, .. } => Failure::Hook {
                text,
                status: *status,
            },
            Failure::Failed(_) | Failure::Interrupted(_) => Failure::Failed(text),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Failed(text) | Failure::Hook { text, .. } => f.write_str(text),
            Failure::Interrupted(signal) => write!(f, "interrupted by signal {signal}"),
        }
    }
}

/// Shorthand for a failure that is told.
pub fn failed<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Failed(text.into()))
}

/// What a program that was only asked something said. [`crate::query`] has the ways to read it.
#[derive(Clone, Default)]
pub struct Answer {
    /// It ended with status 0.
    pub ok: bool,
    /// Its standard output. `wg showconf` prints keys.
    pub out: Zeroizing<Vec<u8>>,
    /// Its standard error, as one line.
    pub said: String,
}

/// A machine, or what stands for one.
pub trait Host {
    /// Tells the user a line, on standard error.
    fn say(&mut self, line: &str);

    /// Runs a program that changes something, after telling which.
    ///
    /// # Errors
    /// It could not be started, it failed, or a signal came.
    fn run(&mut self, cmd: &Cmd) -> Result<(), Failure>;

    /// As [`Host::run`], with the standard error held back: if the program fails, it is in the result.
    ///
    /// # Errors
    /// As [`Host::run`].
    fn attempt(&mut self, cmd: &Cmd) -> Result<Result<(), String>, Failure>;

    /// Runs shell code of the user, after telling it.
    ///
    /// # Errors
    /// As [`Host::run`].
    fn hook(&mut self, code: &Code) -> Result<(), Failure>;

    /// Runs a program that only tells something, silently.
    ///
    /// # Errors
    /// It could not be started, or a signal came. That it failed is in the answer.
    fn query(&mut self, cmd: &Cmd) -> Result<Answer, Failure>;

    /// The number of the interface of that name, if there is one.
    fn index(&mut self, interface: &str) -> Option<u32>;

    /// Whether there is something at `path`.
    fn exists(&mut self, path: &str) -> bool;

    /// The text of a file, if it can be read.
    fn read(&mut self, path: &str) -> Option<String>;

    /// Whether a program of that name is in PATH.
    fn has_program(&mut self, name: &str) -> bool;

    /// Whether the program of that name in PATH is a symbolic link.
    fn is_link(&mut self, name: &str) -> bool;

    /// Keeps other calls of this program from choosing or removing a routing table, until [`Host::unlock`].
    ///
    /// # Errors
    /// Another one does not let go, or a signal came.
    fn lock(&mut self) -> Result<(), Failure>;

    /// Ends [`Host::lock`], if it is in force.
    fn unlock(&mut self);

    /// Starts the route monitor, in the background.
    ///
    /// # Errors
    /// It could not be started.
    fn start_monitor(&mut self, monitor: &Monitor) -> Result<(), Failure>;

    /// Ends the route monitor that [`Host::start_monitor`] started.
    fn stop_monitor(&mut self);

    /// Waits a tenth of a second.
    fn pause(&mut self);

    /// From now on signals stop nothing: things are being cleaned up. Nor do those of the terminal reach the programs
    /// that are run; or, with `hooks`, the user's code, which can then not talk with him either.
    fn shield(&mut self, hooks: bool);

    /// What the user asked for with `--dry-run`: nothing is there, so what can be asked is the configuration only.
    fn is_dry(&self) -> bool {
        false
    }
}

/// Path of the control socket of an interface that is a program.
pub fn socket(interface: &str) -> String {
    format!("{SOCKETS}/{interface}.sock")
}
