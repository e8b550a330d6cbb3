// SPDX-License-Identifier: BSD-2-Clause
//! `--dry-run`: a machine on which nothing is done, only told.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use wgtools::endpoint::{EndpointError, Resolve, Syntax, System};

use crate::command::Cmd;
use crate::hook::Code;
use crate::host::{Answer, Failure, Host};
use crate::monitor::Monitor;

/// Why standard output did not take what was written. If its reader has left, the program ends here, as any other does.
pub fn unwritten(e: &io::Error) -> Failure {
    if e.kind() == io::ErrorKind::BrokenPipe {
        let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGPIPE);
    }
    Failure::Failed(format!(
        "cannot write to standard output: {}",
        wgtools::error_text(e)
    ))
}

/// A machine whose state can be asked for, and that stays as it is. What would be done goes to standard output.
pub struct Dry<H>(pub H);

impl<H> Dry<H> {
    fn tell(what: &str) -> Result<(), Failure> {
        match writeln!(io::stdout(), "{what}") {
            Ok(()) => Ok(()),
            Err(e) => Err(unwritten(&e)),
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

    fn hook(&mut self, code: &Code) -> Result<(), Failure> {
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

/// Looks endpoints up for a plan, as no interface will ever be asked for them. Only MTU and, on FreeBSD, some routes
/// depend on them: a name that is not found, or not soon, is no reason to print no plan.
pub struct Names<'a, L> {
    /// Asks the system, once.
    look_up: L,
    /// What is left of the time for all names together.
    left: Duration,
    /// Told which endpoint the plan is made without.
    warn: &'a mut dyn FnMut(&str),
}

impl<'a> Names<'a, fn(&str) -> Result<Option<SocketAddr>, EndpointError>> {
    /// Asks the system's resolver, for three seconds.
    pub fn new(warn: &'a mut dyn FnMut(&str)) -> Self {
        Names::with(
            |text| System::once(&mut |_| {}).endpoint(text),
            Duration::from_secs(3),
            warn,
        )
    }
}

impl<'a, L> Names<'a, L> {
    /// Asks `look_up`, for this long.
    pub fn with(look_up: L, left: Duration, warn: &'a mut dyn FnMut(&str)) -> Self {
        Names {
            look_up,
            left,
            warn,
        }
    }
}

impl<L> Resolve for Names<'_, L>
where
    L: Fn(&str) -> Result<Option<SocketAddr>, EndpointError> + Clone + Send + 'static,
{
    fn endpoint(&mut self, text: &str) -> Result<Option<SocketAddr>, EndpointError> {
        // What is wrong with the text is the file's fault.
        if let Some(address) = Syntax.endpoint(text)? {
            return Ok(Some(address));
        }
        let (sender, receiver) = mpsc::channel();
        let (look_up, owned) = (self.look_up.clone(), text.to_owned());
        let begun = Instant::now();
        // It cannot be interrupted, only left alone.
        thread::spawn(move || drop(sender.send(look_up(&owned))));
        let found = receiver.recv_timeout(self.left);
        self.left = self.left.saturating_sub(begun.elapsed());
        let why = match found {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(EndpointError::Endpoint(why) | EndpointError::Setting(why))) => why,
            Err(_) => format!("No answer from a name server yet: `{text}'"),
        };
        (self.warn)(&format!(
            "Warning: {why}; the plan is made without this endpoint"
        ));
        Ok(None)
    }
}
