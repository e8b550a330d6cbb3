// SPDX-License-Identifier: BSD-2-Clause
//! The life of the process: into the background, up, waiting for events, down.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, mpsc};

use hostkern::real::{LinkEvent, RealBackend};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::cli::Cli;
use crate::control::{ControlSocket, DIRECTORY, Server};
use crate::convert::Configured;
use crate::instance::Instance;
use crate::{error, info, log, privileges};

/// What the background process writes when the interface is there.
const READY: &[u8] = b"ready";

/// Runs the program. Whatever goes wrong before the interface is ready is one line on standard error and exit code 1.
pub fn main(cli: &Cli) -> ExitCode {
    let result = if cli.foreground || cli.report_ready {
        run(cli)
    } else {
        background(cli)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            // Empty: the child has said it.
            if !text.is_empty() {
                eprintln!("wgd: {}: {text}", cli.ifname);
            }
            ExitCode::FAILURE
        }
    }
}

/// Starts this program again, in the background, and waits until its interface is ready. Starting anew instead of
/// forking leaves nothing of this process behind in the other.
fn background(cli: &Cli) -> Result<(), String> {
    privileges::check()?;
    let program = std::env::current_exe().map_err(|e| format!("cannot find own program: {e}"))?;
    let mut child = Command::new(program)
        .arg("--report-ready")
        .args(cli.verbose.then_some("--verbose"))
        .args(["--", &cli.ifname])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start the background process: {e}"))?;
    let mut answer = Vec::new();
    if let Some(pipe) = child.stdout.take() {
        // A child that dies closes the pipe.
        let _ = pipe.take(64).read_to_end(&mut answer);
    }
    if answer == READY {
        return Ok(());
    }
    match child.wait() {
        Ok(status) if status.code() == Some(1) => Err(String::new()),
        Ok(status) => Err(format!("the background process ended early ({status})")),
        Err(e) => Err(format!("lost the background process: {e}")),
    }
}

/// Becomes the daemon, and returns when it is told to end.
fn run(cli: &Cli) -> Result<(), String> {
    if cli.report_ready {
        // Not a group leader, since a process just started it.
        let _ = rustix::process::setsid();
    }
    privileges::hide_memory()?;
    privileges::allow_descriptors();
    privileges::check()?;
    RealBackend::check_host()?;
    std::env::set_current_dir("/").map_err(|e| format!("cannot change to /: {e}"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let control = ControlSocket::bind(Path::new(DIRECTORY), &cli.ifname)?;
    privileges::drop_all_but_needed()?;
    log::start(&cli.ifname, cli.report_ready);
    end_on_panic();

    let events = Events::new(&control)?;
    let link = events.link.sender.clone();
    let instance = Instance::create(
        &cli.ifname,
        cli.verbose,
        Arc::new(move |event| link.send(event)),
    )?;
    let instance = Arc::new(instance);
    let server = Server::new(Arc::new(Configured(instance.clone())));
    if cli.report_ready {
        report_ready()?;
    }
    info!("ready; configure with: wg set {} ...", cli.ifname);

    let reason = events.wait(&control, &server, &instance);
    info!("ending: {reason}");
    // First the name, so that another wgd can have it; then the clients; then the interface.
    drop(control);
    server.close();
    instance.destroy();
    Ok(())
}

/// A broken rule of the kernel on one thread must not leave the others behind with half a driver: the process ends
/// at once, and the interface with it.
fn end_on_panic() {
    std::panic::set_hook(Box::new(|what| {
        // Never more than the message: it is text of the program, not data.
        error!("internal error: {what}");
        std::process::abort();
    }));
}

/// Tells the waiting parent, and lets go of its standard streams.
fn report_ready() -> Result<(), String> {
    let failed = |e: io::Error| format!("cannot report to the parent process: {e}");
    let mut out = io::stdout().lock();
    out.write_all(READY)
        .and_then(|()| out.flush())
        .map_err(failed)?;
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(failed)?;
    let (lines, stderr) = io::pipe().map_err(failed)?;
    log::forward(lines).map_err(failed)?;
    rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stderr(&stderr))
        // Last: this is what the parent waits for.
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .map_err(|e| failed(e.into()))
}

/// All that the main thread waits for.
struct Events {
    signals: UnixStream,
    /// SIGUSR1: a wish to see the counters.
    curious: UnixStream,
    removal: OwnedFd,
    link: Link,
}

/// Link events, with a descriptor that can be read when there are some.
struct Link {
    wake: UnixStream,
    queue: mpsc::Receiver<LinkEvent>,
    sender: Arc<LinkSender>,
}

struct LinkSender {
    waker: UnixStream,
    sender: mpsc::Sender<LinkEvent>,
}

impl Events {
    fn new(control: &ControlSocket) -> Result<Events, String> {
        let failed = |e: io::Error| format!("cannot prepare for events: {e}");
        let (signals, writer) = UnixStream::pair().map_err(failed)?;
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            let writer = writer.try_clone().map_err(failed)?;
            signal_hook::low_level::pipe::register(signal, writer).map_err(failed)?;
        }
        let (curious, writer) = UnixStream::pair().map_err(failed)?;
        curious.set_nonblocking(true).map_err(failed)?;
        signal_hook::low_level::pipe::register(SIGUSR1, writer).map_err(failed)?;
        let removal = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .map_err(|e| failed(e.into()))?;
        let folder = control.path().parent().unwrap_or(Path::new("/"));
        use inotify::WatchFlags as W;
        let flags = W::DELETE | W::MOVED_FROM | W::MOVED_TO | W::DELETE_SELF | W::MOVE_SELF;
        inotify::add_watch(&removal, folder, flags).map_err(|e| failed(e.into()))?;
        let (wake, waker) = UnixStream::pair().map_err(failed)?;
        wake.set_nonblocking(true).map_err(failed)?;
        waker.set_nonblocking(true).map_err(failed)?;
        let (sender, queue) = mpsc::channel();
        let link = Link {
            wake,
            queue,
            sender: Arc::new(LinkSender { waker, sender }),
        };
        Ok(Events {
            signals,
            curious,
            removal,
            link,
        })
    }

    /// Serves until there is a reason to end, and returns it.
    fn wait(&self, control: &ControlSocket, server: &Server, instance: &Instance) -> &'static str {
        loop {
            let [signal, curious, removal, link, client] = self.ready(control);
            if signal {
                return "a signal";
            }
            if curious {
                empty(&self.curious);
                info!("statistics: {}", instance.statistics());
            }
            if removal {
                drain(&self.removal);
                if !control.exists() {
                    return "the control socket was removed";
                }
            }
            if link && let Some(reason) = self.link.handle(instance) {
                return reason;
            }
            if client {
                server.accept(control.listener());
            }
        }
    }

    fn ready(&self, control: &ControlSocket) -> [bool; 5] {
        let mut fds = [
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.curious, PollFlags::IN),
            PollFd::new(&self.removal, PollFlags::IN),
            PollFd::new(&self.link.wake, PollFlags::IN),
            PollFd::new(control.listener(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => fds.map(|fd| !fd.revents().is_empty()),
            Err(_) => [false; 5],
        }
    }
}

/// Reads inotify events away: what counts is the state after them.
fn drain(fd: impl AsFd) {
    let mut room = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(fd, &mut room);
    while reader.next().is_ok() {}
}

/// Reads what woke us: how often does not matter.
fn empty(mut wake: &UnixStream) {
    let mut bytes = [0; 64];
    while matches!(wake.read(&mut bytes), Ok(n) if n > 0) {}
}

impl Link {
    /// Passes what happened to the interface on to the driver.
    fn handle(&self, instance: &Instance) -> Option<&'static str> {
        empty(&self.wake);
        while let Ok(event) = self.queue.try_recv() {
            match event {
                LinkEvent::Removed => return Some("the interface was removed"),
                LinkEvent::Up(up) => {
                    if let Err(e) = instance.set_up(up) {
                        error!(
                            "cannot set the interface {}: {e}",
                            if up { "up" } else { "down" }
                        );
                    }
                }
                LinkEvent::Mtu(mtu) => {
                    if let Err(e) = instance.set_mtu(mtu) {
                        error!("the MTU {mtu} is not possible: {e}");
                    }
                }
            }
        }
        None
    }
}

impl LinkSender {
    fn send(&self, event: LinkEvent) {
        let _ = self.sender.send(event);
        // If the pipe is full, the reader has enough to wake it.
        let _ = (&self.waker).write(&[0]);
    }
}
