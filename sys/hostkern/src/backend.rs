// SPDX-License-Identifier: BSD-2-Clause
//! The seam between the simulated kernel and the world outside of it.
//!
//! The kernel proper (locks, epochs, tasks, sockets, interfaces) is the same in both modes. What
//! differs is who carries datagrams and IP packets away, and that is a [`Backend`]: the virtual
//! network of [`crate::sim`], or the host's UDP sockets and TUN devices in `real/`.
//!
//! Outwards: `sosend` calls [`UdpPort::send`] and `netisr_dispatch` calls [`TunPort::write`]. Both
//! run on packet-path threads, often once a packet, so an implementation should queue in a
//! per-thread buffer, call [`flush_later`] once, and do its system calls in [`Flush::flush`], which
//! hostkern calls at the end of every task run, callout, received batch and ioctl on the same
//! thread.
//!
//! Inwards: a receive thread owned by the backend hands batches to [`UdpRx::deliver`] and
//! [`TunRx::inject`]. Those enter the kernel, the socket's or interface's vnet and one net epoch
//! for the whole batch, and flush at the end.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::ifnet::IfRef;
use crate::mbuf::Packet;
use crate::pace::Pace;
use crate::socket::SockRef;
use crate::tally::{Count, Tally};

/// A FreeBSD errno, positive.
pub type Errno = i32;

/// Address family of an IP packet or a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(a: &IpAddr) -> Self {
        match a {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// What `sobind` on a UDP socket asks for.
#[derive(Clone, Debug)]
pub struct UdpBind {
    /// Address and port to bind; the address is usually unspecified, the port may be 0 (ephemeral).
    pub addr: SocketAddr,
    /// `SO_SETFIB`, a routing table number.
    pub fib: u16,
    /// `SO_USER_COOKIE`, 0 if unset (Linux: SO_MARK).
    pub user_cookie: u32,
    /// Number of the vnet that owns the socket; real mode has vnet 0 only.
    pub vnet: u32,
}

/// Who carries packets out of this kernel.
pub trait Backend: Send + Sync + 'static {
    /// Binds a UDP port. Datagrams that arrive go to `rx`, from any thread, until
    /// [`UdpPort::close`] returns.
    ///
    /// # Errors
    /// A FreeBSD errno: EADDRINUSE (48), EADDRNOTAVAIL (49), EAFNOSUPPORT (47), ...
    fn udp_bind(&self, bind: &UdpBind, rx: UdpRx) -> Result<Arc<dyn UdpPort>, Errno>;

    /// Called when an interface has been attached. `None` means that packets input on it are only
    /// collected (see `Ifnet::take_delivered`). IP packets of the host which are to leave
    /// through the interface go to `rx`, until [`TunPort::close`] returns.
    ///
    /// # Errors
    /// A FreeBSD errno; attaching cannot fail in the kernel, so hostkern reports it through
    /// `Kernel::create`.
    fn if_attach(&self, name: &str, mtu: u32, rx: TunRx)
    -> Result<Option<Arc<dyn TunPort>>, Errno>;
}

/// A bound UDP port. Called from any thread, inside the net epoch or not; must not sleep except in
/// `close`.
pub trait UdpPort: Send + Sync + 'static {
    /// The address with the real port number.
    fn local_addr(&self) -> SocketAddr;

    /// Sends one datagram; `payload` starts at the UDP payload. `src` is the sticky source address
    /// (`IP_SENDSRCADDR` / `IPV6_PKTINFO`), with its scope and no port. May only queue: see [`flush_later`].
    ///
    /// # Errors
    /// A FreeBSD errno; EADDRNOTAVAIL (49) when `src` is not an address of this host (the driver
    /// then forgets it). An error of an earlier queued datagram to the same destination may be
    /// reported instead of this one's.
    fn send(&self, payload: Packet, dst: &SocketAddr, src: Option<SocketAddr>)
    -> Result<(), Errno>;

    /// Whether this port has lately sent to `ip`, and to that port of it if one is given. A packet of the host's stack
    /// with such a destination is one of ours on its way into a tunnel.
    fn sent_to(&self, _ip: &IpAddr, _port: Option<u16>) -> bool {
        false
    }

    /// `SO_SETFIB` after bind.
    fn set_fib(&self, _fib: u16) {}

    /// `SO_USER_COOKIE` after bind.
    fn set_user_cookie(&self, _cookie: u32) {}

    /// Closes the port. May sleep. No [`UdpRx::deliver`] of this port runs after it returns.
    fn close(&self);
}

/// The host's side of an interface: where packets that came out of the tunnel go.
pub trait TunPort: Send + Sync + 'static {
    /// One decapsulated IP packet, as the driver handed it to `netisr_dispatch`: see
    /// [`Packet::checksums_valid`]. May only queue: see [`flush_later`].
    fn write(&self, packet: Packet, family: Family);

    /// The MTU changed.
    fn set_mtu(&self, _mtu: u32) {}

    /// IFF_UP changed.
    fn set_up(&self, _up: bool) {}

    /// The driver reported a link state (`if_link_state_change`): true for up.
    fn set_link(&self, _up: bool) {}

    /// Interface renamed.
    fn rename(&self, _name: &str) {}

    /// The interface is detached. May sleep. No [`TunRx::inject`] runs after it returns.
    fn close(&self);
}

/// One received datagram, before it becomes an mbuf.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub src: SocketAddr,
    /// The local address it was sent to (IP_PKTINFO), and the local port.
    pub dst: SocketAddr,
    /// UDP payload.
    pub payload: &'a [u8],
}

/// Where received datagrams of one socket go. Cheap to clone.
#[derive(Clone)]
pub struct UdpRx(pub(crate) SockRef);

impl UdpRx {
    /// Hands a batch to the socket's tunnelling callback, each as an mbuf with synthesized IP and
    /// UDP headers (correct lengths and addresses, checksum marked as verified), in one net epoch;
    /// then flushes.
    ///
    /// Call from a thread of the backend's own, outside of any kernel context.
    pub fn deliver<'a>(&self, batch: impl IntoIterator<Item = Datagram<'a>>) {
        self.0.deliver(batch.into_iter());
    }

    /// Waits if the driver is behind, with `more` packets delivered since the last call: see [`Pace`].
    pub fn catch_up(&self, pace: &mut Pace, more: usize, stopped: &dyn Fn() -> bool) {
        self.0.catch_up(pace, more, stopped);
    }

    /// Where to count what is lost before it is delivered, or after it was sent.
    pub fn tally(&self) -> Arc<Tally> {
        self.0.tally()
    }
}

/// Where IP packets of the host that are routed into one interface go. Cheap to clone.
#[derive(Clone)]
pub struct TunRx(pub(crate) IfRef);

impl TunRx {
    /// Hands a batch of IP packets to the interface's `if_output`, in one net epoch; then flushes.
    ///
    /// Packets that are not IP are dropped and counted. Call from a thread of the backend's own.
    pub fn inject<'a>(&self, batch: impl IntoIterator<Item = &'a [u8]>) {
        let mut no_memory = 0;
        self.0.inject(batch.into_iter().filter_map(|bytes| {
            let packet = Packet::from_slice(bytes);
            no_memory += usize::from(packet.is_none());
            packet
        }));
        if no_memory > 0 {
            self.tally().add(Count::NoMemory, no_memory);
        }
    }

    /// Waits if the driver is behind, with `more` packets injected since the last call: see [`Pace`].
    pub fn catch_up(&self, pace: &mut Pace, more: usize, stopped: &dyn Fn() -> bool) {
        self.0.catch_up(pace, more, stopped);
    }

    /// Where to count what is lost before it is injected, or after it was written.
    pub fn tally(&self) -> Arc<Tally> {
        self.0.tally()
    }

    /// The same for packets that already are mbufs (read in place, with headroom:
    /// [`Packet::with_capacity`]).
    pub fn inject_packets(&self, batch: impl IntoIterator<Item = Packet>) {
        self.0.inject(batch.into_iter());
    }
}

/// Output that waits in a per-thread buffer.
pub trait Flush: Send + Sync + 'static {
    /// Sends what this thread has queued.
    fn flush(&self);
}

thread_local! {
    static DIRTY: RefCell<Vec<Arc<dyn Flush>>> = const { RefCell::new(Vec::new()) };
    static ANY: Cell<bool> = const { Cell::new(false) };
}

/// Asks that `f` be flushed when the current task run, callout, received batch or ioctl of this
/// thread ends. Asking twice before the flush is the same as once.
pub fn flush_later(f: &Arc<dyn Flush>) {
    DIRTY.with_borrow_mut(|v| {
        if !v.iter().any(|x| Arc::ptr_eq(x, f)) {
            v.push(f.clone());
        }
    });
    ANY.set(true);
}

/// Flushes what this thread has queued. hostkern calls it; a backend may too.
pub fn flush_now() {
    if !ANY.replace(false) {
        return;
    }
    // A flush may dirty another port (a tunnel in a tunnel), hence the loop.
    loop {
        let list = DIRTY.with_borrow_mut(std::mem::take);
        if list.is_empty() {
            return;
        }
        for f in list {
            f.flush();
        }
    }
}
