// SPDX-License-Identifier: BSD-2-Clause
//! `--dry-run`: a machine on which nothing is done, only told.

use std::io::{self, Write};

use crate::command::Cmd;
use crate::host::{Answer, Failure, Host};
use crate::monitor::Monitor;

/// A machine whose state can be asked for, and that stays as it is. What would be done goes to standard output.
pub struct Dry<H>(pub H);

impl<H> Dry<H> {
    fn tell(what: &str) -> Result<(), Failure> {
        match writeln!(io::stdout(), "{what}") {
            Ok(()) => Ok(()),
            Err(e) => Err(Failure::Failed(format!(
                "cannot write to standard output: {e}"
            ))),
        }
    }
}

impl<H: Host> Host for Dry<H> {
    fn say(&mut self, line: &str) {
        self.0.say(line);
    }

    fn run(&mut self, cmd: &Cmd) -> Result<(), Failure> {
        Self::tell(&format!("[#] {cmd}"))
    }

    fn attempt(&mut self, cmd: &Cmd) -> Result<Result<(), String>, Failure> {
        self.run(cmd).map(Ok)
    }

    fn hook(&mut self, code: &str) -> Result<(), Failure> {
        Self::tell(&format!("[#] {code}"))
    }

    fn query(&mut self, cmd: &Cmd) -> Result<Answer, Failure> {
        self.0.query(cmd)
    }

    fn index(&mut self, interface: &str) -> Option<u32> {
        self.0.index(interface)
    }

    fn exists(&mut self, path: &str) -> bool {
        self.0.exists(path)
    }

    fn read(&mut self, path: &str) -> Option<String> {
        self.0.read(path)
    }

    fn has_program(&mut self, name: &str) -> bool {
        self.0.has_program(name)
    }

    fn is_link(&mut self, name: &str) -> bool {
        self.0.is_link(name)
    }

    fn lock(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn unlock(&mut self) {}

    fn start_monitor(&mut self, monitor: &Monitor) -> Result<(), Failure> {
        Self::tell(&format!(
            "[+] Route monitor for {} in the background",
            monitor.name
        ))
    }

    fn stop_monitor(&mut self) {}

    fn pause(&mut self) {}

    fn shield(&mut self, _hooks: bool) {}

    fn is_dry(&self) -> bool {
        true
    }
}
