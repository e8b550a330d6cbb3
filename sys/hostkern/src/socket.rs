// SPDX-License-Identifier: BSD-2-Clause
//! Kernel UDP sockets with a tunnelling callback.

use core::ffi::{c_int, c_void};
use core::ptr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crate::backend::{Datagram, Errno, Family, UdpBind, UdpPort, UdpRx};
use crate::epoch::{in_epoch, section};
use crate::kernel::Kernel;
use crate::layout::mbuf;
use crate::mbuf::{Packet, check_leaves, m_freem};
use crate::pace::Pace;
use crate::sockaddr::Sockaddr;
use crate::tally::{Count, Tally};
use crate::thread::{Kind, check_sleep, enter, kernel, violation};
use crate::vnet::{Ucred, Vnet, of_cred};

const EINVAL: c_int = 22;
const EMSGSIZE: c_int = 40;
const EAFNOSUPPORT: c_int = 47;
const EADDRNOTAVAIL: c_int = 49;
const ENOBUFS: c_int = 55;
/// The most that one UDP datagram carries over IPv4.
const MAX_PAYLOAD: usize = 65507;

pub(crate) type Input =
    unsafe extern "C-unwind" fn(*mut mbuf, c_int, *mut c_void, *const u8, *mut c_void) -> bool;

/// `struct socket`.
pub struct Socket {
    family: Family,
    input: Input,
    /// Argument of the callback. It is the driver's to keep valid until the epoch sections after
    /// close have ended.
    arg: *mut c_void,
    vnet: *const Vnet,
    kernel: Weak<Kernel>,
    port: OnceLock<Arc<dyn UdpPort>>,
    local_port: AtomicU16,
    fib: AtomicU32,
    user_cookie: AtomicU32,
    closed: AtomicBool,
}

// SAFETY: the argument is handed to the driver's callback, which the driver promises to be callable
// from any thread; the vnet lives as long as the kernel.
unsafe impl Send for Socket {}
// SAFETY: as above; the other fields are atomics or set once.
unsafe impl Sync for Socket {}

/// A counted handle on a socket.
pub(crate) type SockRef = Arc<Socket>;

impl Socket {
    fn vnet(&self) -> &Vnet {
        // SAFETY: see `Send`; callers are in a frame of the kernel or hold it.
        unsafe { &*self.vnet }
    }

    pub(crate) fn catch_up(&self, pace: &mut Pace, more: usize, stopped: &dyn Fn() -> bool) {
        if let Some(k) = self.kernel.upgrade() {
            k.catch_up(pace, more, stopped);
        }
    }

    pub(crate) fn tally(&self) -> Arc<Tally> {
        self.kernel
            .upgrade()
            .map(|k| k.tally.clone())
            .unwrap_or_default()
    }

    /// Datagrams from the network.
    pub(crate) fn deliver<'a>(&self, batch: impl Iterator<Item = Datagram<'a>>) {
        let Some(k) = self.kernel.upgrade() else {
            return;
        };
        enter(&k, Kind::Input, Some(self.vnet()), || {
            section(|| {
                for d in batch {
                    let Some(p) = k.machine.shape_datagram(d.payload) else {
                        k.tally.add(Count::NoMemory, 1);
                        continue;
                    };
                    self.receive(p, d.src, d.dst);
                }
            });
        });
    }

    /// One datagram without headers. In the epoch.
    fn receive(&self, mut p: Packet, src: SocketAddr, dst: SocketAddr) {
        if !p.push_udp(src, dst, 64) {
            return kernel().tally.add(Count::NoMemory, 1);
        }
        let at = if src.is_ipv4() { 28 } else { 48 };
        self.input(p, at, &src, &dst);
    }

    /// One datagram with its headers, the payload at `at`. In the epoch.
    pub(crate) fn input(&self, p: Packet, at: usize, src: &SocketAddr, dst: &SocketAddr) {
        if self.closed.load(Ordering::Acquire) {
            return kernel().tally.add(Count::Closed, 1);
        }
        // An array of sockaddr_in or of sockaddr_in6, source first.
        #[repr(C, align(8))]
        struct Pair([u8; 56]);
        let mut sa = Pair([0; 56]);
        let (s, d) = (Sockaddr::from(src), Sockaddr::from(dst));
        let n = s.bytes().len();
        sa.0[..n].copy_from_slice(s.bytes());
        sa.0[n..n + d.bytes().len()].copy_from_slice(d.bytes());
        let inp = ptr::from_ref(self).cast_mut().cast();
        let m = p.into_raw();
        // SAFETY: the callback and its argument are valid until the sections after close have
        // ended, and the socket was open in this section. If it does not consume the packet, it is
        // still ours.
        unsafe {
            if !(self.input)(m, at as c_int - 8, inp, sa.0.as_ptr(), self.arg) {
                m_freem(m);
            }
        }
    }

    /// Sends a payload.
    fn send(&self, m: Packet, dst: &SocketAddr, src: Option<SocketAddr>) -> Result<(), Errno> {
        if Family::of(&dst.ip()) != self.family
            || src.is_some_and(|s| Family::of(&s.ip()) != self.family)
        {
            return Err(EAFNOSUPPORT);
        }
        if dst.port() == 0 {
            return Err(EADDRNOTAVAIL);
        }
        if m.len() > MAX_PAYLOAD {
            return Err(EMSGSIZE);
        }
        let vnet = self.vnet();
        if let Some(ifp) = vnet.route(&dst.ip()) {
            return self.send_through(&ifp, m, dst, src.map(|src| src.ip()));
        }
        self.port.get().ok_or(EINVAL)?.send(m, dst, src)
    }

    /// Sends into an interface of this host: a tunnel in a tunnel.
    fn send_through(
        &self,
        ifp: &Arc<crate::ifnet::Ifnet>,
        mut m: Packet,
        dst: &SocketAddr,
        src: Option<IpAddr>,
    ) -> Result<(), Errno> {
        let addresses = self.vnet().addresses.read().unwrap().clone();
        if src.is_some_and(|s| !addresses.contains(&s)) {
            return Err(EADDRNOTAVAIL);
        }
        let own = addresses.into_iter().find(|a| Family::of(a) == self.family);
        let src = src.or(own).unwrap_or(match self.family {
            Family::V4 => Ipv4Addr::LOCALHOST.into(),
            Family::V6 => Ipv6Addr::LOCALHOST.into(),
        });
        let src = SocketAddr::new(src, self.local_port.load(Ordering::Relaxed));
        if !m.push_udp(src, *dst, 64) {
            return Err(ENOBUFS);
        }
        m.set_offload(0, 0, 0);
        ifp.output(m, dst, None)
    }
}

/// What an open tunnelling socket is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketInfo {
    /// Its family.
    pub family: Family,
    /// The port that it is bound to.
    pub port: u16,
    /// `SO_SETFIB`.
    pub fib: u32,
    /// `SO_USER_COOKIE`.
    pub user_cookie: u32,
}

/// Whether a tunnelling socket of the vnet has sent to `ip` lately, from this port and to that one if they are known.
pub(crate) fn sent(vnet: &Vnet, ports: Option<(u16, u16)>, ip: &IpAddr) -> bool {
    let all = vnet.sockets.lock().unwrap();
    all.iter().any(|s| {
        ports.is_none_or(|(from, _)| from == s.local_port.load(Ordering::Relaxed))
            && s.port
                .get()
                .is_some_and(|p| p.sent_to(ip, ports.map(|(_, to)| to)))
    })
}

/// The open tunnelling sockets of a vnet.
pub(crate) fn list(vnet: &Vnet) -> Vec<SocketInfo> {
    let all = vnet.sockets.lock().unwrap();
    let open = all.iter().filter(|s| !s.closed.load(Ordering::Acquire));
    open.map(|s| SocketInfo {
        family: s.family,
        port: s.local_port.load(Ordering::Relaxed),
        fib: s.fib.load(Ordering::Relaxed),
        user_cookie: s.user_cookie.load(Ordering::Relaxed),
    })
    .collect()
}

/// The open tunnelling socket that a datagram to `dst` is for.
pub(crate) fn find(vnet: &Vnet, dst: &SocketAddr) -> Option<SockRef> {
    let all = vnet.sockets.lock().unwrap();
    all.iter()
        .find(|s| {
            s.family == Family::of(&dst.ip())
                && s.local_port.load(Ordering::Relaxed) == dst.port()
                && !s.closed.load(Ordering::Acquire)
        })
        .cloned()
}

/// `kpi_udp_open` of kpi_shim.h.
///
/// # Safety
/// `cred` is live; `input` and `arg` stay valid until the epoch sections after close; `sop` and
/// `bound_port` have room for a value.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_udp_open(
    af: c_int,
    port: u16,
    fib: u32,
    user_cookie: u32,
    cred: *mut Ucred,
    input: Option<Input>,
    arg: *mut c_void,
    sop: *mut *const Socket,
    bound_port: *mut u16,
) -> c_int {
    check_sleep("kpi_udp_open");
    let k = kernel();
    let (family, any): (_, IpAddr) = match af {
        2 => (Family::V4, Ipv4Addr::UNSPECIFIED.into()),
        28 => (Family::V6, Ipv6Addr::UNSPECIFIED.into()),
        _ => return EAFNOSUPPORT,
    };
    let (Some(input), Ok(fib16)) = (input, u16::try_from(fib)) else {
        return EINVAL;
    };
    // SAFETY: as the caller says; vnets live as long as the kernel.
    let vnet = unsafe { of_cred(cred) };
    // SAFETY: as above.
    let id = unsafe { (*vnet).id };
    let so = Arc::new(Socket {
        family,
        input,
        arg,
        vnet,
        kernel: k.me.get().cloned().unwrap_or_default(),
        port: OnceLock::new(),
        local_port: AtomicU16::new(0),
        fib: AtomicU32::new(fib),
        user_cookie: AtomicU32::new(user_cookie),
        closed: AtomicBool::new(false),
    });
    let Some(backend) = k.backend.get() else {
        return EADDRNOTAVAIL;
    };
    let bind = UdpBind {
        addr: SocketAddr::new(any, port),
        fib: fib16,
        user_cookie,
        vnet: id,
    };
    match backend.udp_bind(&bind, UdpRx(so.clone())) {
        Err(e) => e,
        Ok(p) => {
            let local = p.local_addr().port();
            so.local_port.store(local, Ordering::Relaxed);
            let _ = so.port.set(p);
            so.vnet().sockets.lock().unwrap().push(so.clone());
            k.sockets.fetch_add(1, Ordering::SeqCst);
            // SAFETY: as the caller says.
            unsafe {
                *bound_port = local;
                *sop = Arc::into_raw(so);
            }
            0
        }
    }
}

unsafe fn open<'a>(so: *const Socket, what: &str) -> &'a Socket {
    // SAFETY: the caller passes a socket; closed ones stay in memory until the end of the epoch
    // sections of then.
    let s = unsafe { &*so };
    if s.closed.load(Ordering::Acquire) {
        violation("socket-closed", format_args!("{what} on a closed socket"));
    }
    s
}

/// `kpi_udp_set_fib` of kpi_shim.h.
///
/// # Safety
/// `so` is open.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_udp_set_fib(so: *const Socket, fib: u32) -> c_int {
    check_sleep("sosetopt");
    // SAFETY: as the caller says.
    let s = unsafe { open(so, "SO_SETFIB") };
    let Ok(f) = u16::try_from(fib) else {
        return EINVAL;
    };
    s.fib.store(fib, Ordering::Relaxed);
    if let Some(p) = s.port.get() {
        p.set_fib(f);
    }
    0
}

/// `kpi_udp_set_user_cookie` of kpi_shim.h.
///
/// # Safety
/// `so` is open.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_udp_set_user_cookie(so: *const Socket, cookie: u32) -> c_int {
    check_sleep("sosetopt");
    // SAFETY: as the caller says.
    let s = unsafe { open(so, "SO_USER_COOKIE") };
    s.user_cookie.store(cookie, Ordering::Relaxed);
    if let Some(p) = s.port.get() {
        p.set_user_cookie(cookie);
    }
    0
}

/// `kpi_udp_send` of kpi_shim.h. Consumes the packet.
///
/// # Safety
/// `so` is open; `m` is a live packet of the caller's; `dst` is a sockaddr, `src` too or null.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_udp_send(
    so: *const Socket,
    m: *mut mbuf,
    dst: *const u8,
    src: *const u8,
) -> c_int {
    // SAFETY: as the caller says.
    unsafe {
        let p = Packet::from_raw(m, "sosend");
        check_leaves(m, "sosend");
        if !(*m).m_nextpkt.is_null() {
            violation(
                "mbuf-nextpkt",
                format_args!("sosend of a packet linked to another"),
            );
        }
        let s = open(so, "sosend");
        let Some(dst) = Sockaddr::read(dst) else {
            return EINVAL;
        };
        let src = match src.is_null() {
            true => None,
            false => {
                let Some(src) = Sockaddr::read(src) else {
                    return EINVAL;
                };
                Some(src)
            }
        };
        s.send(p, &dst, src).err().unwrap_or(0)
    }
}

/// `kpi_udp_close` of kpi_shim.h.
///
/// # Safety
/// `so` is open, and nobody uses it outside of the epoch sections of now.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_udp_close(so: *const Socket) {
    if in_epoch() {
        violation("no-sleep", format_args!("soclose inside an epoch section"));
    }
    check_sleep("soclose");
    // SAFETY: as the caller says.
    let s = unsafe { open(so, "soclose") };
    s.closed.store(true, Ordering::Release);
    if let Some(p) = s.port.get() {
        p.close();
    }
    s.vnet()
        .sockets
        .lock()
        .unwrap()
        .retain(|x| !ptr::eq(Arc::as_ptr(x), so));
    let k = kernel();
    k.sockets.fetch_sub(1, Ordering::SeqCst);
    // SAFETY: the reference that open gave out.
    let socket = unsafe { Arc::from_raw(so) };
    if k.machine.is_sim() {
        // Kept in memory until the kernel goes: a late use is then told apart, not undefined. A host's port has to be
        // free again at once.
        k.closed_sockets.lock().unwrap().push(socket);
    }
}
