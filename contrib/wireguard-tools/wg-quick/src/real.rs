// SPDX-License-Identifier: BSD-2-Clause
//! This machine.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use wgtools::secret;
use zeroize::Zeroizing;

use crate::cmd;
use crate::command::Cmd;
use crate::hook::Code;
use crate::host::{Answer, Failure, Host, failed};
use crate::monitor::Monitor;

/// Where [`Real`] tells what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Standard error.
    Stderr,
    /// The system's log, for a process that nobody looks at.
    Log,
}

/// This machine, with its signals caught.
pub struct Real {
    voice: Voice,
    /// Readable when a child ended or a signal came.
    events: UnixStream,
    /// The last signal to end, 0 if none came.
    signal: Arc<AtomicUsize>,
    shielded: bool,
    hooks_shielded: bool,
    path: String,
    /// The user's standard input, for hooks.
    stdin: Option<OwnedFd>,
    monitor: Option<Child>,
    /// Locked as long as it is open.
    lock: Option<OwnedFd>,
    /// In the environment of hooks.
    pub variables: Vec<(&'static str, String)>,
}

/// The file that [`Host::lock`] locks. It stays: a removed file could be locked twice.
const LOCK: &str = "/var/run/wg-quick.lock";
/// Every so long [`Host::lock`] tries again,
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// and this often: for a minute.
const LOCK_TRIES: u32 = 6_000;

/// What a hook runs in. Its code comes by standard input, since arguments can be seen by everybody, and the real one
/// is put back before the code begins. `@` is its descriptor.
const HOOK: &str = "code=$(cat)\nexec <&@ @<&-\n";

/// For bash: a list is an array, as in the stock script. What is in it is not to be a pattern of files.
fn arrays() -> String {
    let lists = crate::hook::LISTS.map(|list| format!("{list}=(${list})"));
    format!("set -f\n{}\nset +f\n", lists.join("\n"))
}

impl Real {
    /// Catches SIGINT, SIGTERM and SIGHUP if it is to tell things on standard error.
    ///
    /// # Errors
    /// The system's.
    pub fn new(voice: Voice) -> io::Result<Real> {
        // First, for a small number: a shell may only know those of one digit.
        let stdin = rustix::io::dup(io::stdin()).ok();
        if let Some(stdin) = &stdin {
            rustix::io::fcntl_setfd(stdin, FdFlags::CLOEXEC)?;
        }
        let (events, waker) = UnixStream::pair()?;
        events.set_nonblocking(true)?;
        let signal = Arc::new(AtomicUsize::new(0));
        // A process in the background has nothing to undo: signals may simply end it.
        let caught = if voice == Voice::Log {
            &[][..]
        } else {
            &[SIGINT, SIGTERM, SIGHUP]
        };
        for &number in caught {
            let value = usize::try_from(number).unwrap_or_default();
            signal_hook::flag::register_usize(number, signal.clone(), value)?;
        }
        for &number in caught.iter().chain(&[SIGCHLD]) {
            signal_hook::low_level::pipe::register(number, waker.try_clone()?)?;
        }
        Ok(Real {
            voice,
            events,
            signal,
            shielded: false,
            hooks_shielded: false,
            path: path(),
            stdin,
            monitor: None,
            lock: None,
            variables: Vec::new(),
        })
    }

    fn interrupted(&self) -> Option<i32> {
        let signal = self.signal.load(Ordering::Relaxed);
        i32::try_from(signal)
            .ok()
            .filter(|signal| *signal != 0 && !self.shielded)
    }

    /// The program of that name.
    fn find(&self, name: &str) -> Option<PathBuf> {
        let can_run = |path: &PathBuf| {
            path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
        };
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(can_run);
        }
        std::env::split_paths(&self.path)
            .map(|folder| folder.join(name))
            .find(can_run)
    }

    fn command(&self, cmd: &Cmd) -> Command {
        let mut command = self.shell(cmd);
        if self.shielded {
            leave_group(&mut command);
        }
        command
    }

    /// As [`Real::command`], for the user's code.
    fn shell(&self, cmd: &Cmd) -> Command {
        let mut command = Command::new(cmd.program());
        command
            .args(cmd.arguments())
            .env("PATH", &self.path)
            .env("LC_ALL", "C");
        let stdin = if cmd.input().is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        command.stdin(stdin).stdout(Stdio::null());
        command
    }

    fn spawn(
        &self,
        mut command: Command,
        input: Option<&Zeroizing<Vec<u8>>>,
    ) -> Result<Child, Failure> {
        if let Some(signal) = self.interrupted() {
            return failed(Failure::Interrupted(signal).to_string());
        }
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .spawn()
            .or_else(|e| failed(format!("cannot run `{name}': {}", wgtools::error_text(&e))))?;
        if let Some(input) = input
            && let Some(mut pipe) = child.stdin.take()
        {
            let input = input.clone();
            // Whether it reads all of it is its own business.
            thread::spawn(move || drop(pipe.write_all(&input)));
        }
        Ok(child)
    }

    /// Waits for the end of a process. The first signal is passed on to it.
    fn wait(&mut self, child: &mut Child) -> Result<ExitStatus, Failure> {
        let mut told = false;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => {}
                Err(e) => return failed(format!("lost a process: {}", wgtools::error_text(&e))),
            }
            if self.interrupted().is_some() && !told {
                told = true;
                let _ = kill_process(pid(child), Signal::TERM);
            }
            let _ = poll(&mut [PollFd::new(&self.events, PollFlags::IN)], None);
            let mut bytes = [0; 64];
            while matches!(self.events.read(&mut bytes), Ok(n) if n > 0) {}
        }
    }

    /// Waits, and makes a status other than 0 a failure.
    fn finish(&mut self, child: &mut Child, what: &str) -> Result<(), Failure> {
        let status = self.wait(child)?;
        match self.interrupted() {
            // It may have done its work, or half of it.
            Some(signal) if status.success() || status.signal().is_some() => {
                Err(Failure::Interrupted(signal))
            }
            _ if status.success() => Ok(()),
            _ => failed(format!("`{what}' failed ({status})")),
        }
    }
}

impl Host for Real {
    fn say(&mut self, line: &str) {
        match self.voice {
            // Nobody there to read is no reason to stop.
            Voice::Stderr => drop(writeln!(io::stderr(), "{line}")),
            Voice::Log => {
                let log = cmd![
                    "logger",
                    "-t",
                    "wg-quick",
                    "-p",
                    "daemon.notice",
                    "--",
                    line
                ];
                if let Ok(mut child) = self.spawn(self.command(&log), None) {
                    let _ = self.wait(&mut child);
                }
            }
        }
    }

    fn run(&mut self, cmd: &Cmd) -> Result<(), Failure> {
        self.say(&format!("[#] {cmd}"));
        let mut child = self.spawn(self.command(cmd), cmd.input())?;
        self.finish(&mut child, &cmd.to_string())
    }

    fn attempt(&mut self, cmd: &Cmd) -> Result<Result<(), String>, Failure> {
        self.say(&format!("[#] {cmd}"));
        let mut command = self.command(cmd);
        command.stderr(Stdio::piped());
        let mut child = self.spawn(command, cmd.input())?;
        let said = collect(child.stderr.take());
        match self.finish(&mut child, &cmd.to_string()) {
            Ok(()) => Ok(Ok(())),
            Err(Failure::Failed(text)) => {
                let said = one_line(said);
                Ok(Err(if said.is_empty() { text } else { said }))
            }
            Err(interrupted) => Err(interrupted),
        }
    }

    fn hook(&mut self, code: &Code) -> Result<(), Failure> {
        self.say(&format!("[#] {code}"));
        let number = self
            .stdin
            .as_ref()
            .map(AsRawFd::as_raw_fd)
            .filter(|number| *number < 10 && !self.hooks_shielded);
        let script = match number {
            Some(number) => HOOK.replace('@', &number.to_string()),
            None => HOOK.replace("&@ @<&-", "/dev/null"),
        };
        const EVAL: &str = "eval \"$code\"";
        // As in the stock script: a failing command ends the hook, in a pipe too.
        let shell = if self.has_program("bash") {
            let script = format!("{script}{}{EVAL}", arrays());
            cmd![
                "bash", "-O", "extglob", "-e", "-o", "pipefail", "-c", script
            ]
        } else {
            cmd!["sh", "-e", "-c", format!("{script}{EVAL}")]
        };
        let shell = shell.with_input(Zeroizing::new(code.bytes().to_vec()));
        let mut command = self.shell(&shell);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::inherit());
        if self.hooks_shielded {
            leave_group(&mut command);
        }
        let inherit = |flags| match (&self.stdin, number) {
            (Some(stdin), Some(_)) => rustix::io::fcntl_setfd(stdin, flags).is_ok(),
            _ => true,
        };
        inherit(FdFlags::empty());
        let child = self.spawn(command, shell.input());
        inherit(FdFlags::CLOEXEC);
        let mut child = child?;
        let result = self.finish(&mut child, &code.to_string());
        match (result, child.try_wait()) {
            (Err(Failure::Failed(text)), Ok(Some(ended))) if !ended.success() => {
                // What a shell says of a command that was killed.
                let status = ended
                    .code()
                    .or_else(|| ended.signal().map(|signal| 128 + signal));
                let status = status.and_then(|s| u8::try_from(s).ok()).unwrap_or(1);
                Err(Failure::Hook { text, status })
            }
            (result, _) => result,
        }
    }

    fn query(&mut self, cmd: &Cmd) -> Result<Answer, Failure> {
        let mut command = self.command(cmd);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn(command, cmd.input())?;
        let printed = collect(child.stdout.take());
        let said = collect(child.stderr.take());
        let status = self.wait(&mut child)?;
        let out = printed.join().unwrap_or_default();
        let said = one_line(said);
        if let Some(signal) = self.interrupted() {
            return Err(Failure::Interrupted(signal));
        }
        Ok(Answer {
            ok: status.success(),
            out,
            said,
        })
    }

    fn index(&mut self, interface: &str) -> Option<u32> {
        nix::net::if_::if_nametoindex(interface).ok()
    }

    fn exists(&mut self, path: &str) -> bool {
        Path::new(path).exists()
    }

    fn read(&mut self, path: &str) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    fn has_program(&mut self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn is_link(&mut self, name: &str) -> bool {
        self.find(name).is_some_and(|path| path.is_symlink())
    }

    fn lock(&mut self) -> Result<(), Failure> {
        if self.lock.is_some() {
            return Ok(());
        }
        let Ok(file) = open_lock() else {
            // Nowhere to lock, and the kernel still refuses a second default route in one table.
            self.say(&format!(
                "Warning: cannot lock {LOCK}; tunnels that are set up at the same time may take the same table"
            ));
            return Ok(());
        };
        for _ in 0..LOCK_TRIES {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    self.lock = Some(file);
                    return Ok(());
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(e) => return failed(format!("cannot lock {LOCK}: {e}")),
            }
            if let Some(signal) = self.interrupted() {
                return Err(Failure::Interrupted(signal));
            }
            thread::sleep(LOCK_PAUSE);
        }
        failed(format!("another wg-quick holds {LOCK} and does not let go"))
    }

    fn unlock(&mut self) {
        self.lock = None;
    }

    fn start_monitor(&mut self, monitor: &Monitor) -> Result<(), Failure> {
        self.say(&format!(
            "[+] Route monitor for {} in the background",
            monitor.name
        ));
        let program = std::env::current_exe().or_else(|e| {
            failed(format!(
                "cannot find own program: {}",
                wgtools::error_text(&e)
            ))
        })?;
        let mut command = self.command(&Cmd::new(&program.to_string_lossy(), monitor.arguments()));
        command.stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = self.spawn(command, None)?;
        // Not by a thread, which would end with this process.
        let written = child
            .stdin
            .take()
            .map(|mut pipe| pipe.write_all(monitor.input().as_bytes()));
        // Whoever inherits it collects it.
        self.monitor = Some(child);
        if let Some(Ok(())) = written {
            return Ok(());
        }
        self.stop_monitor();
        failed("the route monitor does not listen")
    }

    fn stop_monitor(&mut self) {
        if let Some(mut child) = self.monitor.take() {
            let _ = kill_process(pid(&child), Signal::TERM);
            let _ = self.wait(&mut child);
        }
    }

    fn pause(&mut self) {
        thread::sleep(Duration::from_millis(100));
    }

    fn shield(&mut self, hooks: bool) {
        self.shielded = true;
        self.hooks_shielded = hooks;
    }
}

/// PATH, with the folder of this program in front: wg(8) is next to it, where sudo may not look.
fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/sbin:/bin:/usr/sbin:/usr/bin".to_owned());
    let own = std::env::current_exe().ok();
    match own.as_deref().and_then(Path::parent) {
        Some(folder) => format!("{}:{path}", folder.display()),
        None => path,
    }
}

/// Ctrl-C goes to all processes of the terminal's foreground group.
fn leave_group(command: &mut Command) {
    command.process_group(0);
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn open_lock() -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(LOCK, flags, Mode::RUSR | Mode::WUSR)
}

/// What [`collect`] has read, as one line.
fn one_line(said: JoinHandle<Zeroizing<Vec<u8>>>) -> String {
    let said = said.join().unwrap_or_default();
    String::from_utf8_lossy(&said).trim().replace('\n', "; ")
}

/// Reads in the background, so that a full pipe holds nobody up.
fn collect(pipe: Option<impl Read + Send + AsFd + 'static>) -> JoinHandle<Zeroizing<Vec<u8>>> {
    thread::spawn(move || {
        let said = pipe.map(|pipe| secret::read_all(pipe, 0));
        said.and_then(Result::ok).unwrap_or_default()
    })
}
