// SPDX-License-Identifier: BSD-2-Clause
//! UDP sockets of the kernel, as tunnels use them: packets come in by a callback and go out as
//! packets.

mod addr;

use core::ffi::{c_int, c_void};
use core::mem::ManuallyDrop;
use core::net::{IpAddr, SocketAddr};
use core::ptr::{self, NonNull};

use freebsd_kernel_sys as sys;
use kpi_alloc::{How, KArc, KBox, Sleepable};

use crate::cred::Cred;
use crate::epoch::{Epoch, epoch_wait, in_net_epoch};
use crate::mbuf::Mbuf;
use crate::{Errno, Result};

pub use addr::{SOCKADDR_IN_LEN, SOCKADDR_IN6_LEN, Show, ShowIp, decode_sockaddr, encode_sockaddr};
use addr::{Sockaddr, read_sockaddr};

/// Bytes of a UDP header.
const UDP_HEADER: usize = 8;

/// IPv4 or IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The number `AF_*`.
    #[must_use]
    pub const fn to_af(self) -> u32 {
        match self {
            Self::V4 => sys::AF_INET,
            Self::V6 => sys::AF_INET6,
        }
    }

    /// From the number `AF_*`.
    #[must_use]
    pub const fn from_af(af: u32) -> Option<Self> {
        match af {
            sys::AF_INET => Some(Self::V4),
            sys::AF_INET6 => Some(Self::V6),
            _ => None,
        }
    }

    /// The family of an address.
    #[must_use]
    pub const fn of(addr: &IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// What the first byte of an IP packet says.
    #[must_use]
    pub const fn of_version(first_byte: u8) -> Option<Self> {
        match first_byte >> 4 {
            4 => Some(Self::V4),
            6 => Some(Self::V6),
            _ => None,
        }
    }
}

/// What receives a socket's datagrams.
pub trait TunnelSink: Send + Sync + 'static {
    /// One datagram: `m` starts at the UDP payload, `src` and `dst` are of the same family. Called
    /// in the net epoch, on any number of CPUs at once; must not sleep.
    fn udp_input(&self, ep: &Epoch, m: Mbuf, src: SocketAddr, dst: SocketAddr);
}

/// How a socket is made.
pub struct SocketOptions<'a> {
    /// Routing table for what is sent (`SO_SETFIB`).
    pub fib: u16,
    /// Number that firewalls see (`SO_USER_COOKIE`); 0: none.
    pub user_cookie: u32,
    /// Whose socket it is; it lives in this credential's vnet.
    pub cred: &'a Cred,
}

/// What the kernel's callback points to. `Head` is the part that does not depend on the sink's
/// type.
#[repr(C)]
struct Tunnel<S> {
    head: Head,
    sink: KArc<S>,
}

#[repr(C)]
struct Head {
    /// For `epoch_call`; untouched before.
    context: sys::epoch_context,
    /// Frees the whole `Tunnel<S>`.
    free: unsafe fn(NonNull<Head>),
}

impl<S> Tunnel<S> {
    fn make(sink: KArc<S>, cx: &Sleepable) -> Result<NonNull<Head>> {
        // SAFETY: two words that mean nothing before `epoch_call` sets them; zero is a valid value.
        let context = unsafe { core::mem::zeroed() };
        let tunnel = KBox::new(
            Self {
                head: Head {
                    context,
                    free: Self::free,
                },
                sink,
            },
            How::Wait(cx),
        )?;
        NonNull::new(KBox::into_raw(tunnel).cast()).ok_or(Errno::ENOMEM)
    }

    /// # Safety
    ///
    /// `head` came from `make` of the same type, nobody uses it any more, and this is called once.
    unsafe fn free(head: NonNull<Head>) {
        // SAFETY: `make` made it from a box of this type; `head` is its first field.
        drop(unsafe { KBox::from_raw(head.as_ptr().cast::<Self>()) });
    }
}

/// Frees a tunnel after the epoch.
///
/// # Safety
///
/// Called by the kernel once, with the context that `epoch_call` got.
unsafe extern "C" fn free_after_epoch(context: *mut sys::epoch_context) {
    let Some(head) = NonNull::new(context.cast::<Head>()) else {
        return;
    };
    // SAFETY: `context` is the first field of a live head.
    let free = unsafe { head.as_ref() }.free;
    // SAFETY: every callback that could use the tunnel was in a section that has ended;
    // `epoch_call` calls this once.
    unsafe { free(head) };
}

/// A bound UDP socket with a [`TunnelSink`].
///
/// Dropping it closes it without waiting: callbacks may run to the end of their epoch sections, and
/// the sink is let go of after those. [`UdpSocket::close`] waits. Both want a thread that may sleep:
/// a socket that is shared through the epoch must be taken out with
/// [`EpochArc::into_inner`](crate::epoch::EpochArc::into_inner), not dropped by an epoch callback.
///
/// # Invariants
///
/// `so` is an open socket of ours whose tunnel callback has `tunnel` as its argument; `tunnel` is
/// live.
pub struct UdpSocket {
    so: NonNull<sys::socket>,
    tunnel: NonNull<Head>,
    port: u16,
    family: Family,
}

// SAFETY: the kernel's socket calls lock for themselves, and the sink is `Send + Sync`.
unsafe impl Send for UdpSocket {}
// SAFETY: as above.
unsafe impl Sync for UdpSocket {}

impl UdpSocket {
    /// Makes a socket and binds it to every address of this machine and `port` (0: any free one).
    /// Datagrams arrive at `sink` from then on, even before this returns.
    ///
    /// `EADDRINUSE`, `EADDRNOTAVAIL`, `EPROTONOSUPPORT` or `EAFNOSUPPORT` (no such family in this
    /// kernel), `ENOMEM`, ...
    pub fn open<S: TunnelSink>(
        family: Family,
        port: u16,
        options: &SocketOptions<'_>,
        sink: KArc<S>,
        cx: &Sleepable,
    ) -> Result<Self> {
        let tunnel = Tunnel::make(sink, cx)?;
        let (mut so, mut bound) = (ptr::null_mut(), 0);
        // SAFETY: live credential; callback and argument fit each other, and the argument lives
        // until after the socket is closed and the epoch is over; the results go to locals. May
        // sleep: `cx`.
        let error = unsafe {
            sys::kpi_udp_open(
                family.to_af() as c_int,
                port,
                u32::from(options.fib),
                options.user_cookie,
                options.cred.as_ptr(),
                Some(input::<S>),
                tunnel.as_ptr().cast(),
                &raw mut so,
                &raw mut bound,
            )
        };
        match (Errno::check(error), NonNull::new(so)) {
            (Ok(()), Some(so)) => Ok(Self {
                so,
                tunnel,
                port: bound,
                family,
            }),
            (result, _) => {
                // It may have been bound for a moment.
                epoch_wait(cx);
                // SAFETY: no socket is left, and callbacks that had begun have ended.
                unsafe { Tunnel::<S>::free(tunnel) };
                Err(result.err().unwrap_or(Errno::ENOBUFS))
            }
        }
    }

    /// The port that it is bound to.
    #[must_use]
    pub const fn local_port(&self) -> u16 {
        self.port
    }

    /// Its family.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Sends `m` as one datagram to `dst`, from `src` if given (one of this machine's addresses;
    /// its port does not count).
    ///
    /// `EAFNOSUPPORT` if `dst` is not of the socket's family; `EADDRNOTAVAIL` if `src` is not an
    /// address of this machine (any more); else what the network says. `m` is gone in every case.
    /// Any context, the net epoch too.
    pub fn send(&self, m: Mbuf, dst: &SocketAddr, src: Option<&SocketAddr>) -> Result {
        if Family::of(&dst.ip()) != self.family {
            return Err(Errno::EAFNOSUPPORT);
        }
        let m = m.for_stack().ok_or(Errno::ENOBUFS)?;
        let to = Sockaddr::new(dst);
        let from = src
            .filter(|s| !s.ip().is_unspecified() && Family::of(&s.ip()) == self.family)
            .map(|s| Sockaddr::new(&addr::source_for(s, dst)));
        // SAFETY: an open socket; `m` is given away; both addresses are whole, of the socket's
        // family, and live through the call.
        let error = unsafe {
            sys::kpi_udp_send(
                self.so.as_ptr(),
                m.into_raw(),
                to.as_ptr(),
                from.as_ref().map_or(ptr::null(), Sockaddr::as_ptr),
            )
        };
        Errno::check(error)
    }

    /// Sets the routing table for what is sent from now on. `EINVAL`: no such table.
    pub fn set_fib(&self, fib: u16, _cx: &Sleepable) -> Result {
        // SAFETY: an open socket. May sleep: `_cx`.
        Errno::check(unsafe { sys::kpi_udp_set_fib(self.so.as_ptr(), u32::from(fib)) })
    }

    /// Sets the number that firewalls see; 0: none.
    pub fn set_user_cookie(&self, cookie: u32, _cx: &Sleepable) -> Result {
        // SAFETY: an open socket. May sleep: `_cx`.
        Errno::check(unsafe { sys::kpi_udp_set_user_cookie(self.so.as_ptr(), cookie) })
    }

    /// Closes. When it returns no callback of this socket runs or will, and the sink was let go of.
    pub fn close(self, cx: &Sleepable) {
        let this = ManuallyDrop::new(self);
        // SAFETY: an open socket of ours, closed once, as `drop` does not run.
        unsafe { sys::kpi_udp_close(this.so.as_ptr()) };
        // A callback for a packet that found the socket before is in an epoch section that has
        // begun.
        epoch_wait(cx);
        // SAFETY: live.
        let free = unsafe { this.tunnel.as_ref() }.free;
        // SAFETY: no callback is left.
        unsafe { free(this.tunnel) };
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        // SAFETY: an open socket of ours, closed once.
        unsafe { sys::kpi_udp_close(self.so.as_ptr()) };
        // SAFETY: a callback for a packet that found the socket before is in an epoch section that
        // has begun, so the memory is freed after it; the context is the first field of the tunnel,
        // handed over once.
        unsafe {
            sys::epoch_call(
                // Miri cannot read a variable of another object, and hostkern has one epoch only.
                if cfg!(miri) {
                    ptr::null_mut()
                } else {
                    sys::net_epoch_preempt
                },
                Some(free_after_epoch),
                self.tunnel.as_ptr().cast(),
            )
        };
    }
}

/// The tunnel callback (`udp_tun_func_t`).
///
/// # Safety
///
/// Called by the kernel in the net epoch, with `ctx` of a `Tunnel<S>` whose socket is open or was
/// when the epoch section began, `m` a packet to take, `off` the length of its IP headers, `sa` two
/// addresses: source and destination.
unsafe extern "C" fn input<S: TunnelSink>(
    m: *mut sys::mbuf,
    off: c_int,
    _inp: *mut sys::inpcb,
    sa: *const sys::sockaddr,
    ctx: *mut c_void,
) -> bool {
    // SAFETY: `m` is given to us.
    let Some(mut m) = (unsafe { Mbuf::adopt(m) }) else {
        return true;
    };
    // SAFETY: live through the epoch section, which we are in.
    let sink: &S = unsafe { &(*ctx.cast::<Tunnel<S>>()).sink };
    // SAFETY: two whole addresses of one family.
    let addresses = unsafe { (read_sockaddr(sa, 0), read_sockaddr(sa, 1)) };
    // Consumed in any case: nobody reads this socket, so what we do not understand would only fill
    // its buffer.
    let (Some(src), Some(dst)) = addresses else {
        return true;
    };
    let headers = usize::try_from(off)
        .unwrap_or(usize::MAX)
        .saturating_add(UDP_HEADER);
    if headers > m.len() {
        return true;
    }
    m.trim_front(headers);
    // SAFETY: the kernel is in the net epoch through this call.
    unsafe { in_net_epoch(|ep| sink.udp_input(ep, m, src, dst)) };
    true
}
