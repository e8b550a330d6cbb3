// SPDX-License-Identifier: BSD-2-Clause
//! Real mode: the host's UDP sockets and a TUN device behind the simulated kernel.
//!
//! One [`RealBackend`] serves one interface. Threads of its own read: one per UDP socket (`udp`), one for the TUN
//! device (`tun`), and one that watches the host's view of the interface (`link`). Writing happens on whichever
//! thread the driver runs: packets are gathered per thread and leave in as few system calls as possible when
//! hostkern flushes (see [`crate::backend::flush_later`]).

mod abroad;
pub mod errno;
mod link;
mod queue;
mod split;
mod tun;
mod udp;
mod wake;

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::{Backend, Errno, TunPort, TunRx, UdpBind, UdpPort, UdpRx};

/// What happened to the interface on the host's side, for instance through `ip link`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkEvent {
    /// Set up (true) or down (false).
    Up(bool),
    /// Its MTU is now this, in bytes.
    Mtu(u32),
    /// It is gone. Nothing follows.
    Removed,
}

/// Hears of link events, in order, on a thread that it should not hold for long.
pub type OnLink = Arc<dyn Fn(LinkEvent) + Send + Sync>;

/// The host as a [`Backend`].
pub struct RealBackend {
    /// Name of the host's interface; the kernel's own name for it may differ.
    ifname: String,
    on_link: OnLink,
    failure: Mutex<Option<String>>,
}

impl RealBackend {
    /// A backend whose interface will be called `ifname` on the host, at most 15 bytes.
    #[must_use]
    pub fn new(ifname: &str, on_link: OnLink) -> RealBackend {
        RealBackend {
            ifname: ifname.to_owned(),
            on_link,
            failure: Mutex::new(None),
        }
    }

    /// Why attaching the interface failed, as one line for a person.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether this process may create interfaces here at all, before anything else is set up.
    ///
    /// # Errors
    /// One line that says what is missing.
    pub fn check_host() -> Result<(), String> {
        match File::options().read(true).write(true).open("/dev/net/tun") {
            Ok(_) => Ok(()),
            Err(e) => Err(match e.kind() {
                io::ErrorKind::NotFound => {
                    "/dev/net/tun does not exist: load the `tun` module, or give the container the device".to_owned()
                }
                io::ErrorKind::PermissionDenied => {
                    "no permission to open /dev/net/tun: run as root, or allow the container the device".to_owned()
                }
                _ => format!("cannot open /dev/net/tun: {e}"),
            }),
        }
    }
}

impl Backend for RealBackend {
    fn udp_bind(&self, bind: &UdpBind, rx: UdpRx) -> Result<Arc<dyn UdpPort>, Errno> {
        match udp::Port::open(bind, rx) {
            Ok(port) => Ok(port),
            Err(e) => Err(errno::to_freebsd(&e)),
        }
    }

    fn if_attach(
        &self,
        _name: &str,
        mtu: u32,
        rx: TunRx,
    ) -> Result<Option<Arc<dyn TunPort>>, Errno> {
        match tun::Port::open(&self.ifname, mtu, rx, &self.on_link) {
            Ok(port) => Ok(Some(port)),
            Err((e, text)) => {
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                Err(errno::to_freebsd(&e))
            }
        }
    }
}
