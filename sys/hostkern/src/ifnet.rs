// SPDX-License-Identifier: BSD-2-Clause
//! ifnet(9): interfaces, their methods, and the sinks that their packets end in.

mod sink;
mod symbols;

use core::ffi::{c_char, c_int, c_ulong, c_void};
use core::ptr;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

pub use self::sink::*;
pub use self::symbols::*;
use crate::backend::{Errno, Family, TunPort};
use crate::epoch::section;
use crate::kernel::Kernel;
use crate::layout::mbuf;
use crate::mbuf::Packet;
use crate::pace::Pace;
use crate::sockaddr::Sockaddr;
use crate::tally::{Count, Tally};
use crate::thread::{Kind, check_sleep, enter, kernel};
use crate::vnet::Vnet;

const ENXIO: c_int = 6;
const IFF_UP: c_int = 1;

type Output =
    unsafe extern "C-unwind" fn(*mut Ifnet, *mut mbuf, *const c_void, *mut RouteArg) -> c_int;
type Ioctl = unsafe extern "C-unwind" fn(*mut Ifnet, c_ulong, *mut u8) -> c_int;
type Transmit = unsafe extern "C-unwind" fn(*mut Ifnet, *mut mbuf) -> c_int;
type Reassign = unsafe extern "C-unwind" fn(*mut Ifnet, *mut Vnet, *mut c_char);

/// The `struct vnet` of a vnet that the module sees.
fn pointer_of(vnet: &Arc<Vnet>) -> *mut Vnet {
    #[cfg(feature = "kld")]
    if !vnet.native().is_null() {
        return vnet.native().cast();
    }
    Arc::as_ptr(vnet).cast_mut()
}

/// The argument of `if_output` that `kpi_route_get` reads: `struct route` as hostkern has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteArg {
    /// Family of the packet if it differs from the destination's (RFC 5549); 0: it does not.
    pub af: u32,
    /// Path MTU, 0: none.
    pub mtu: u32,
}

/// A packet that came out of a tunnel.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// Nanoseconds since boot.
    pub at: u64,
    /// The packet.
    pub packet: Vec<u8>,
    /// The driver marked its transport's checksum as verified.
    pub checksums_valid: bool,
    /// `m_pkthdr.csum_flags`.
    pub csum_flags: u32,
    /// Tags left on the packet.
    pub tags: usize,
    /// FIB of the packet.
    pub fib: u16,
}

#[repr(align(128))]
#[derive(Default)]
struct Counters([AtomicU64; 16]);

const SHARDS: usize = 8;

/// Family and bytes of packets that bpf(4) has seen.
pub type Tapped = Vec<(u32, Vec<u8>)>;

/// `struct ifnet`.
pub struct Ifnet {
    pub(crate) name: RwLock<String>,
    unit: AtomicI32,
    softc: AtomicPtr<c_void>,
    pub(crate) flags: AtomicI32,
    drv_flags: AtomicI32,
    capenable: AtomicI32,
    pub(crate) mtu: AtomicI32,
    pub(crate) fib: AtomicI32,
    pub(crate) link: AtomicI32,
    counters: [Counters; SHARDS],
    pub(crate) vnet: AtomicPtr<Vnet>,
    output: AtomicPtr<c_void>,
    ioctl: AtomicPtr<c_void>,
    transmit: AtomicPtr<c_void>,
    reassign: AtomicPtr<c_void>,
    refs: AtomicI64,
    freed: AtomicBool,
    /// Freed and a grace period over: no pointer may be left.
    dead: AtomicBool,
    pub(crate) attached: AtomicBool,
    pub(crate) cloned: AtomicBool,
    nd6: AtomicBool,
    bpf: AtomicI32,
    taps: Mutex<Option<Tapped>>,
    tapped: AtomicBool,
    tun: OnceLock<Option<Arc<dyn TunPort>>>,
    delivered: Mutex<VecDeque<Delivered>>,
    #[cfg(feature = "kld")]
    pub(crate) native: crate::kld::IfNative,
    kernel: std::sync::Weak<Kernel>,
}

/// A counted handle on an interface.
#[derive(Clone)]
pub(crate) struct IfRef(pub Arc<Ifnet>);

/// All interfaces of one kernel. They stay in memory until the kernel goes, so that a use after
/// free is caught.
#[derive(Default)]
pub(crate) struct Interfaces(Mutex<Vec<Arc<Ifnet>>>);

impl Interfaces {
    pub fn live(&self) -> usize {
        self.0
            .lock()
            .unwrap()
            .iter()
            .filter(|i| !i.dead.load(Ordering::SeqCst))
            .count()
    }

    /// Number of attached interfaces.
    pub fn attached(&self) -> usize {
        let all = self.0.lock().unwrap();
        all.iter()
            .filter(|i| i.attached.load(Ordering::SeqCst))
            .count()
    }

    /// Attached interfaces of a vnet.
    pub fn of(&self, v: &Vnet) -> Vec<Arc<Ifnet>> {
        let all = self.0.lock().unwrap();
        all.iter()
            .filter(|i| i.attached.load(Ordering::SeqCst) && ptr::eq(i.vnet(), v))
            .cloned()
            .collect()
    }

    pub fn find(&self, v: &Vnet, name: &str) -> Option<Arc<Ifnet>> {
        self.of(v)
            .into_iter()
            .find(|i| *i.name.read().unwrap() == name)
    }

    pub fn by_pointer(&self, p: *const Ifnet) -> Option<Arc<Ifnet>> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .find(|i| Arc::as_ptr(i) == p)
            .cloned()
    }
}

impl Ifnet {
    /// The vnet that the interface is in. It is looked at inside frames only.
    pub(crate) fn vnet(&self) -> &Vnet {
        // SAFETY: set at allocation to a vnet of the kernel, which lives as long as the kernel; the
        // caller is in a frame of that kernel.
        unsafe { &*self.vnet.load(Ordering::Acquire) }
    }

    /// Present name.
    pub fn name(&self) -> String {
        self.name.read().unwrap().clone()
    }

    /// True if IFF_UP is set.
    pub fn is_up(&self) -> bool {
        self.flags.load(Ordering::SeqCst) & IFF_UP != 0
    }

    /// True if the driver set IFF_DRV_RUNNING.
    pub fn is_running(&self) -> bool {
        self.drv_flags.load(Ordering::SeqCst) & 0x40 != 0
    }

    /// Link state: 0 unknown, 1 down, 2 up.
    pub fn link_state(&self) -> i32 {
        self.link.load(Ordering::SeqCst)
    }

    /// MTU.
    pub fn mtu(&self) -> i32 {
        self.mtu.load(Ordering::SeqCst)
    }

    /// `IFF_*`.
    pub fn flags(&self) -> i32 {
        self.flags.load(Ordering::SeqCst)
    }

    /// `IFCOUNTER_*` number `n`.
    pub fn counter(&self, n: usize) -> u64 {
        self.counters
            .iter()
            .map(|c| c.0[n].load(Ordering::Relaxed))
            .fold(0, u64::wrapping_add)
    }

    /// True if the driver prepared the interface for IPv6 and bpf(4): (nd6, DLT or -1).
    pub fn setup(&self) -> (bool, i32) {
        (self.nd6(), self.bpf.load(Ordering::SeqCst))
    }

    fn nd6(&self) -> bool {
        #[cfg(feature = "kld")]
        if self.native.is_quiet() {
            return true;
        }
        self.nd6.load(Ordering::SeqCst)
    }

    #[cfg(feature = "kld")]
    pub(crate) fn is_tapped(&self) -> bool {
        self.tapped.load(Ordering::Relaxed)
    }

    /// Packets delivered since the last call.
    pub fn take_delivered(&self) -> Vec<Delivered> {
        self.delivered.lock().unwrap().drain(..).collect()
    }

    /// Starts to collect what bpf(4) sees; [`take_tap`](Self::take_tap) returns it.
    pub fn tap(&self) {
        *self.taps.lock().unwrap() = Some(Vec::new());
        self.tapped.store(true, Ordering::SeqCst);
    }

    /// Family and bytes of the packets that bpf(4) has seen since.
    pub fn take_tap(&self) -> Tapped {
        self.taps
            .lock()
            .unwrap()
            .as_mut()
            .map(core::mem::take)
            .unwrap_or_default()
    }

    pub(crate) fn tun(&self) -> Option<&Arc<dyn TunPort>> {
        self.tun.get()?.as_ref()
    }

    fn pointer(self: &Arc<Self>) -> *mut Self {
        Arc::as_ptr(self).cast_mut()
    }

    /// Calls the driver's output routine. Consumes the packet. Inside a frame; enters the epoch.
    pub(crate) fn output(
        self: &Arc<Self>,
        p: Packet,
        dst: &SocketAddr,
        route: Option<RouteArg>,
    ) -> Result<(), Errno> {
        self.output_to(p, Sockaddr::from(dst).as_ptr(), route)
    }

    /// The same with any bytes as the destination's sockaddr.
    pub(crate) fn output_raw(self: &Arc<Self>, p: Packet, sa: &[u8; 128]) -> Result<(), Errno> {
        self.output_to(p, sa.as_ptr(), None)
    }

    fn output_to(
        self: &Arc<Self>,
        p: Packet,
        sa: *const u8,
        mut route: Option<RouteArg>,
    ) -> Result<(), Errno> {
        let f = self.output.load(Ordering::Acquire);
        if f.is_null() || !self.attached.load(Ordering::Acquire) {
            return Err(ENXIO);
        }
        // SAFETY: `if_setoutputfn` stored a function of this type.
        let f: Output = unsafe { core::mem::transmute(f) };
        #[cfg(feature = "kld")]
        let mut native = route
            .as_ref()
            .filter(|_| kernel().kld.current().is_some())
            .map(crate::kld::native_route);
        let ro = route.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
        #[cfg(feature = "kld")]
        let ro = native
            .as_mut()
            .map_or(ro, |native| ptr::from_mut(native).cast());
        let m = p.into_raw();
        // SAFETY: the routine consumes the packet; address and route outlive the call.
        let e = section(|| unsafe { f(self.pointer(), m, sa.cast(), ro) });
        if e == 0 { Ok(()) } else { Err(e) }
    }

    /// Calls the driver's ioctl routine.
    pub(crate) fn ioctl(self: &Arc<Self>, cmd: c_ulong, data: *mut u8) -> c_int {
        check_sleep("if_ioctl");
        self.ioctl_in_place(cmd, data)
    }

    /// The same where the driver must not sleep.
    pub(crate) fn ioctl_in_place(self: &Arc<Self>, cmd: c_ulong, data: *mut u8) -> c_int {
        let f = self.ioctl.load(Ordering::Acquire);
        if f.is_null() {
            return 45; // EOPNOTSUPP
        }
        // SAFETY: `if_setioctlfn` stored a function of this type; the caller's buffer has the size
        // that `cmd` says.
        unsafe {
            let f: Ioctl = core::mem::transmute(f);
            f(self.pointer(), cmd, data)
        }
    }

    /// Calls the driver's transmit routine, as a bpf(4) write or netmap would. Consumes the packet.
    pub(crate) fn transmit(self: &Arc<Self>, p: Packet) -> Result<(), Errno> {
        let m = p.into_raw();
        // SAFETY: our packet.
        let e = section(|| unsafe { if_transmit(self.pointer(), m) });
        if e == 0 { Ok(()) } else { Err(e) }
    }

    /// Moves the interface to another vnet, as `ifconfig wg0 vnet` does.
    pub(crate) fn reassign(self: &Arc<Self>, to: &Arc<Vnet>) {
        check_sleep("if_vmove");
        let f = self.reassign.load(Ordering::Acquire);
        if !f.is_null() {
            // SAFETY: `if_setreassignfn` stored a function of this type.
            unsafe {
                let f: Reassign = core::mem::transmute(f);
                f(self.pointer(), pointer_of(to), ptr::null_mut());
            }
        }
        self.vnet
            .store(Arc::as_ptr(to).cast_mut(), Ordering::Release);
    }

    /// A packet that the driver decapsulated.
    fn sink(&self, p: Packet, family: Family) {
        if let Some(tun) = self.tun() {
            tun.write(p, family);
            return;
        }
        let vnet = self.vnet();
        // A tunnel in a tunnel: the datagram may be for a socket of this very host.
        if let Some((src, dst, at)) = p.udp()
            && vnet.is_local(&dst.ip())
            && let Some(s) = crate::socket::find(vnet, &dst)
        {
            s.input(p, at, &src, &dst);
            return;
        }
        if vnet.forward.load(Ordering::Relaxed)
            && let Some(dst) = crate::packet::ip_dst(&p.to_vec())
            && !vnet.is_local(&dst)
            && let Some(ifp) = vnet.route(&dst)
        {
            // An error is the forwarder's to report; the driver has counted it.
            let _ = ifp.output(p, &SocketAddr::new(dst, 0), None);
            return;
        }
        let k = kernel();
        k.machine.trace(&format!(
            "{}: {} delivered {} bytes",
            vnet.name,
            self.name(),
            p.len()
        ));
        self.delivered.lock().unwrap().push_back(Delivered {
            at: k.machine.uptime_ns(),
            packet: p.to_vec(),
            checksums_valid: p.checksums_valid(),
            csum_flags: p.csum_flags(),
            tags: p.tags(),
            fib: p.fib(),
        });
        if let Some(unread) = vnet.unread.lock().unwrap().as_mut() {
            unread.push(p);
        }
    }
}

/// Whether a packet of the host's stack is a datagram that the driver itself has sent: the route to its peer leads into
/// the tunnel. In the kernel a tag on the packet tells; on its way through the host it has lost that. `head` is the
/// beginning of the packet.
fn is_our_own(vnet: &Vnet, head: &[u8], dst: &IpAddr) -> bool {
    const UDP: u8 = 17;
    const FRAGMENT: u8 = 44;
    let (udp, at) = match (head[0] >> 4, head.get(6), head.get(9)) {
        // Of fragments but the first the ports are not known.
        (4, Some(flags), Some(&UDP)) => {
            let first = u16::from_be_bytes([flags & 0x1f, head[7]]) == 0;
            (true, first.then_some(usize::from(head[0] & 15) * 4))
        }
        (6, Some(&UDP), _) => (true, Some(40)),
        (6, Some(&FRAGMENT), _) => (head.get(40) == Some(&UDP), None),
        _ => (false, None),
    };
    let ports = at.and_then(|at| head.get(at..)?.first_chunk::<4>());
    let ports = ports.map(|&[a, b, c, d]| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])));
    udp && (at.is_none() || ports.is_some()) && crate::socket::sent(vnet, ports, dst)
}

impl IfRef {
    /// Gives the packet the tag that it had when it was sent.
    fn mark(&self, p: Packet) -> Packet {
        /// "wglp"; see if_tunnel_check_nesting.
        const COOKIE: u32 = 0x7767_6c70;
        let m = p.into_raw();
        // SAFETY: a live packet, which is ours again afterwards, and an interface that is attached. Without memory for a
        // tag it goes on without one.
        unsafe {
            let _ = symbols::if_tunnel_check_nesting(self.0.pointer(), m, COOKIE, 8);
            Packet::from_raw(m, "inject")
        }
    }

    pub fn catch_up(&self, pace: &mut Pace, more: usize, stopped: &dyn Fn() -> bool) {
        if let Some(k) = self.0.kernel.upgrade() {
            k.catch_up(pace, more, stopped);
        }
    }

    pub fn tally(&self) -> Arc<Tally> {
        self.0
            .kernel
            .upgrade()
            .map(|k| k.tally.clone())
            .unwrap_or_default()
    }

    /// Packets of the host's stack that are routed into the interface.
    pub fn inject(&self, batch: impl Iterator<Item = Packet>) {
        let Some(k) = self.0.kernel.upgrade() else {
            return;
        };
        if !self.0.attached.load(Ordering::Acquire) {
            return k.tally.add(Count::Closed, batch.count());
        }
        let vnet = self.0.vnet.load(Ordering::Acquire);
        // SAFETY: vnets live as long as the kernel, which is held here.
        let vnet = unsafe { &*vnet };
        enter(&k, Kind::Output, Some(vnet), || {
            section(|| {
                for p in batch {
                    let mut head = [0; 64];
                    let n = p.len().min(64);
                    p.read(&mut head[..n]);
                    let Some(dst) = crate::packet::ip_dst(&head[..n]) else {
                        k.tally.add(Count::DeviceNotIp, 1);
                        continue;
                    };
                    k.tally.add(Count::DeviceIn, 1);
                    let p = if is_our_own(vnet, &head[..n], &dst) {
                        self.mark(p)
                    } else {
                        p
                    };
                    // Errors are counted by the driver, if the packet gets there; the host's stack has nobody to tell.
                    if self.0.output(p, &SocketAddr::new(dst, 0), None) == Err(ENXIO) {
                        k.tally.add(Count::Closed, 1);
                    }
                }
            });
        });
    }
}
