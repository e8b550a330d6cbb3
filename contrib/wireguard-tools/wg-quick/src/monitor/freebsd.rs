// SPDX-License-Identifier: BSD-2-Clause
//! The monitor's process.
//!
//! It listens to the kernel's routing socket, route(4), as `route monitor` does. That program itself is of no use for
//! this: in FreeBSD 14 it fills a buffer of several kilobytes before anything can be read from it.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socket_with};

use super::Monitor;
use crate::host::{Failure, Host};
use crate::os::freebsd::{delete_direct, read_routes, refresh};

/// Without any event: endpoints also change by themselves, or when a name is looked up again.
const PERIOD: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// After an event: more of them follow at once.
const SETTLE: Duration = Duration::from_millis(100);

/// Offsets and values of net/route.h and net/if.h: the type of a message; in RTM_IFANNOUNCE the interface's number and
/// what became of it.
const TYPE_AT: usize = 3;
const INDEX_AT: usize = 4;
const WHAT_AT: usize = 22;
const RTM_IFANNOUNCE: u8 = 17;
const IFAN_DEPARTURE: u16 = 1;

/// Watches until the interface goes, and removes the routes then.
///
/// # Errors
/// There is no routing socket.
pub fn run(monitor: &Monitor, host: &mut dyn Host) -> io::Result<()> {
    // Not a group leader, since a process just started it.
    let _ = rustix::process::setsid();
    std::env::set_current_dir("/")?;
    // Before the first look, so that no change falls between.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let events = socket_with(AddressFamily::ROUTE, SocketType::RAW, flags, None)?;
    let mut state = State {
        ours: monitor.direct.iter().copied().collect(),
        seen: None,
    };
    while host.index(&monitor.name) == Some(monitor.index) {
        // What fails now may work after the next event.
        let _ = state.refresh(monitor, host);
        if wait(&events, monitor.index)? {
            break;
        }
    }
    state.remove(host);
    Ok(())
}

struct State {
    /// Endpoints whose routes are ours.
    ours: BTreeSet<IpAddr>,
    /// What the last commands were made for. A command that fails is itself an event, and must not be tried at once.
    seen: Option<(crate::os::freebsd::Routes, Vec<IpAddr>)>,
}

impl State {
    fn refresh(&mut self, monitor: &Monitor, host: &mut dyn Host) -> Result<(), Failure> {
        // Without an answer the routes stay.
        let mut endpoints = crate::os::known_endpoints(host, &monitor.name)?;
        endpoints.retain(|ip| if ip.is_ipv4() { monitor.v4 } else { monitor.v6 });
        let routes = read_routes(host)?;
        if self
            .seen
            .as_ref()
            .is_some_and(|seen| seen.0 == routes && seen.1 == endpoints)
        {
            return Ok(());
        }
        let (cmds, ours) = refresh(&routes, &monitor.name, &endpoints, &self.ours);
        self.seen = Some((routes, endpoints));
        for cmd in cmds {
            let _ = host.run(&cmd);
        }
        self.ours = ours;
        Ok(())
    }

    fn remove(&self, host: &mut dyn Host) {
        let Ok(routes) = read_routes(host) else {
            return;
        };
        for ip in self.ours.iter().filter(|ip| routes.direct(**ip).is_some()) {
            let _ = host.run(&delete_direct(*ip));
        }
    }
}

/// Waits until something may have changed. Returns whether the interface of this number has gone.
fn wait(events: &OwnedFd, index: u32) -> io::Result<bool> {
    match poll(&mut [PollFd::new(events, PollFlags::IN)], Some(&PERIOD)) {
        Ok(0) => return Ok(false),
        Ok(_) => std::thread::sleep(SETTLE),
        Err(rustix::io::Errno::INTR) => {}
        Err(e) => return Err(e.into()),
    }
    let mut gone = false;
    let mut message = [0; 2048];
    loop {
        match recv(events, &mut message, RecvFlags::empty()) {
            Ok((read, _)) => gone |= is_departure(message.get(..read).unwrap_or_default(), index),
            Err(rustix::io::Errno::AGAIN) => return Ok(gone),
            // Messages were lost; what counts is the state after them.
            Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn is_departure(message: &[u8], index: u32) -> bool {
    let short = |at: usize| match message.get(at..at + 2) {
        Some(&[a, b]) => u16::from_ne_bytes([a, b]),
        _ => 0,
    };
    message.get(TYPE_AT) == Some(&RTM_IFANNOUNCE)
        && u32::from(short(INDEX_AT)) == index
        && short(WHAT_AT) == IFAN_DEPARTURE
}
