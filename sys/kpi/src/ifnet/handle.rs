// SPDX-License-Identifier: BSD-2-Clause
//! The driver's handle of its interface.

use core::ffi::{c_char, c_int};
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use freebsd_kernel_sys as sys;
use kpi_alloc::{How, KArc, Sleepable};

use super::netmap;
use crate::epoch::{Epoch, net_epoch};
use crate::mbuf::{LOOP_COOKIE, Mbuf, MbufList, ReceivedBy};
use crate::net::Family;
use crate::{Errno, Result, log};

/// How often a packet may be encapsulated by tunnels of this kind before it is taken for a loop.
const MAX_NESTING: c_int = 8;

/// Counters of an interface (`netstat -i`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counter {
    /// Packets received.
    InPackets,
    /// Packets received and thrown away as bad.
    InErrors,
    /// Bytes received.
    InBytes,
    /// Packets received and thrown away for lack of room.
    InQueueDrops,
    /// Packets sent.
    OutPackets,
    /// Packets not sent.
    OutErrors,
    /// Bytes sent.
    OutBytes,
    /// Packets not sent for lack of room.
    OutQueueDrops,
    /// Packets of a protocol that is not known.
    NoProto,
}

impl Counter {
    const fn to_raw(self) -> sys::ift_counter {
        match self {
            Self::InPackets => sys::IFCOUNTER_IPACKETS,
            Self::InErrors => sys::IFCOUNTER_IERRORS,
            Self::InBytes => sys::IFCOUNTER_IBYTES,
            Self::InQueueDrops => sys::IFCOUNTER_IQDROPS,
            Self::OutPackets => sys::IFCOUNTER_OPACKETS,
            Self::OutErrors => sys::IFCOUNTER_OERRORS,
            Self::OutBytes => sys::IFCOUNTER_OBYTES,
            Self::OutQueueDrops => sys::IFCOUNTER_OQDROPS,
            Self::NoProto => sys::IFCOUNTER_NOPROTO,
        }
    }
}

/// Why a packet comes back to its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IcmpReason {
    /// The host cannot be reached (ICMP 3/1, ICMPv6 1/3).
    HostUnreachable,
    /// There is no route (ICMP 3/0, ICMPv6 1/0).
    NoRoute,
    /// The packet is longer than this MTU (ICMP 3/4, ICMPv6 2).
    TooBig(u32),
}

/// What became of packets that were given to the network stack. Those that it has not taken are gone.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[must_use = "packets that were not taken are to be counted"]
pub struct Input {
    /// Packets that it has taken.
    pub packets: usize,
    /// Bytes of those.
    pub bytes: usize,
    /// Packets for which there was no memory.
    pub no_memory: usize,
    /// Packets that are neither IPv4 nor IPv6.
    pub no_ip: usize,
    /// Packets that came when the interface was down or gone.
    pub down: usize,
}

/// An interface. Clones are handles of the same one. All methods may be called in any context
/// unless they say otherwise, and do nothing of effect once the interface is gone.
#[derive(Clone)]
pub struct IfNet {
    inner: KArc<Inner>,
}

/// # Invariants
///
/// `ifp` is an `ifnet`, and one reference to its memory is ours.
struct Inner {
    ifp: *mut sys::ifnet,
    /// The interface is leaving the network stack; see the module's documentation.
    gone: AtomicBool,
}

// SAFETY: an ifnet is used by every CPU; its functions and counters are made for that.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: gives up our one reference.
        unsafe { sys::if_rele(self.ifp) };
    }
}

impl IfNet {
    /// # Safety
    ///
    /// `ifp` is a live interface.
    pub(super) unsafe fn new(ifp: *mut sys::ifnet, cx: &Sleepable) -> Result<Self> {
        let inner = KArc::new_with(How::Wait(cx), || {
            // SAFETY: live; the reference belongs to the value, whose drop gives it up.
            unsafe { sys::if_ref(ifp) };
            Inner {
                ifp,
                gone: AtomicBool::new(false),
            }
        })?;
        Ok(Self { inner })
    }

    pub(super) fn as_ptr(&self) -> *mut sys::ifnet {
        self.inner.ifp
    }

    pub(super) fn set_gone(&self) {
        self.inner.gone.store(true, Ordering::SeqCst);
    }

    /// Whether the interface is being taken away. Only lasting for an epoch section if the answer
    /// is no.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.inner.gone.load(Ordering::SeqCst)
    }

    /// Whether the kernel has marked the interface as dying (`IFF_DYING`), or it is gone.
    #[must_use]
    pub fn dying(&self) -> bool {
        self.is_gone() || self.flags() & sys::IFF_DYING != 0
    }

    /// Its present name; it can be renamed at any time.
    #[must_use]
    pub fn name(&self) -> IfName {
        let mut name = IfName([0; sys::IFNAMSIZ as usize]);
        let buf: *mut c_char = name.0.as_mut_ptr().cast();
        // SAFETY: referenced memory; `buf` is writable for that many bytes.
        unsafe { sys::kpi_if_name(self.as_ptr(), buf, name.0.len()) };
        name
    }

    fn flags(&self) -> u32 {
        // SAFETY: a field of referenced memory.
        (unsafe { sys::if_getflags(self.as_ptr()) }) as u32
    }

    /// Whether the administrator wants it up (`IFF_UP`).
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.flags() & sys::IFF_UP != 0
    }

    /// Whether debug messages are wanted (`ifconfig wg0 debug`).
    #[must_use]
    pub fn debug_enabled(&self) -> bool {
        self.flags() & sys::IFF_DEBUG != 0
    }

    /// Logs one line behind the interface's name if debug messages are wanted;
    /// [`if_debug!`](crate::if_debug) is the usual way.
    pub fn debug(&self, args: fmt::Arguments<'_>) {
        if self.debug_enabled() {
            self.log(args);
        }
    }

    /// Logs one line behind the interface's name.
    pub fn log(&self, args: fmt::Arguments<'_>) {
        log::interface(self.as_ptr(), args);
    }

    /// Bytes that an IP packet on this interface may have.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        // SAFETY: a field of referenced memory.
        let mtu = unsafe { sys::if_getmtu(self.as_ptr()) };
        u32::try_from(mtu).unwrap_or(0)
    }

    /// Sets that. The range is the driver's to check.
    pub fn set_mtu(&self, mtu: u32) {
        // SAFETY: a field of referenced memory.
        let _ =
            unsafe { sys::if_setmtu(self.as_ptr(), c_int::try_from(mtu).unwrap_or(c_int::MAX)) };
    }

    /// Whether the driver says that it works (`IFF_DRV_RUNNING`).
    #[must_use]
    pub fn running(&self) -> bool {
        // SAFETY: a field of referenced memory.
        let flags = (unsafe { sys::if_getdrvflags(self.as_ptr()) }) as u32;
        flags & sys::KPI_IFF_DRV_RUNNING != 0
    }

    /// Sets that.
    pub fn set_running(&self, on: bool) {
        let bit = sys::KPI_IFF_DRV_RUNNING as c_int;
        let (set, clear) = if on { (bit, 0) } else { (0, bit) };
        // SAFETY: a field of referenced memory.
        let _ = unsafe { sys::if_setdrvflagbits(self.as_ptr(), set, clear) };
    }

    /// Announces that the link is up or down.
    pub fn link_up(&self, up: bool) {
        let state = if up {
            sys::LINK_STATE_UP
        } else {
            sys::LINK_STATE_DOWN
        } as c_int;
        net_epoch(|_| {
            if !self.is_gone() {
                // SAFETY: attached, and stays so through this epoch section.
                unsafe { sys::if_link_state_change(self.as_ptr(), state) };
            }
        });
    }

    /// Adds `n` to a counter.
    pub fn count(&self, counter: Counter, n: u64) {
        // SAFETY: counters of referenced memory.
        unsafe { sys::if_inc_counter(self.as_ptr(), counter.to_raw(), n as i64) };
    }

    /// Routing table of packets that come in through this interface.
    #[must_use]
    pub fn fib(&self) -> u16 {
        // SAFETY: a field of referenced memory.
        let fib = unsafe { sys::if_getfib(self.as_ptr()) };
        u16::try_from(fib).unwrap_or(0)
    }

    /// Shows a packet to those who watch the interface (`tcpdump -i wg0`). `af` is the family of
    /// the IP packet.
    pub fn bpf_tap(&self, _ep: &Epoch, m: &Mbuf, af: Family) {
        if !self.is_gone() {
            // SAFETY: attached to bpf(4) through this epoch section; the packet is only read.
            unsafe { sys::kpi_bpf_tap(self.as_ptr(), m.as_ptr(), af.to_af()) };
        }
    }

    /// Gives IP packets to the network stack, as received here. Receive interface, routing table
    /// and vnet are set; the protocol is what each packet's version says.
    pub fn input(&self, ep: &Epoch, packets: MbufList) -> Input {
        let mut done = Input::default();
        if self.is_gone() {
            done.down = packets.len();
            return done;
        }
        if netmap::enabled(self.as_ptr()) {
            return netmap::to_ring(ep, self.as_ptr(), packets);
        }
        let mut ready = MbufList::new();
        for m in packets {
            match for_input(m) {
                Ok((m, _)) => ready.push(m),
                Err(Unfit::NoMemory) => done.no_memory = done.no_memory.saturating_add(1),
                Err(Unfit::NoIp) => done.no_ip = done.no_ip.saturating_add(1),
            }
        }
        let (packets, bytes) = (ready.len(), ready.bytes());
        if packets == 0 {
            return done;
        }
        // SAFETY: attached through this epoch section; the chain is given away and each first
        // segment has a byte.
        let refused = unsafe { sys::kpi_if_input(self.as_ptr(), ready.into_raw()) };
        // It takes all or, if the interface was marked down meanwhile, none: no other version is left.
        if refused == 0 {
            (done.packets, done.bytes) = (packets, bytes);
        } else {
            done.down = packets;
        }
        done
    }

    /// [`IfNet::input`] of one packet; `false` if it was thrown away.
    #[must_use]
    pub fn input_one(&self, ep: &Epoch, m: Mbuf) -> bool {
        let mut one = MbufList::new();
        one.push(m);
        self.input(ep, one).packets == 1
    }

    /// Marks `m` as having gone through this interface. `ELOOP` if it has done so before or has
    /// gone through eight tunnels of this kind; `ENOMEM`.
    pub fn check_nesting(&self, m: &mut Mbuf) -> Result {
        // SAFETY: the interface is only compared and named; a packet of ours gets a tag.
        let error = unsafe {
            sys::if_tunnel_check_nesting(self.as_ptr(), m.as_ptr(), LOOP_COOKIE, MAX_NESTING)
        };
        Errno::check(error).map_err(|e| if e == Errno::ENOMEM { e } else { Errno::ELOOP })
    }

    /// Answers an IP packet with an error message to its sender. The packet is gone. Nothing is
    /// sent for what is no whole IP header. The stack chooses the answer's source, and the limits that
    /// apply to it, by the interface that the packet came by.
    pub fn icmp_error<'e>(
        &self,
        _ep: &'e Epoch,
        m: Mbuf,
        reason: IcmpReason,
        from: ReceivedBy<'e>,
    ) {
        if self.is_gone() {
            return;
        }
        let Some((mut m, family)) = m.for_stack().and_then(pull_ip_header) else {
            return;
        };
        m.restore(from);
        let (code, mtu) = match reason {
            IcmpReason::HostUnreachable => (sys::KPI_ICMP_HOST_UNREACH, 0),
            IcmpReason::NoRoute => (sys::KPI_ICMP_NO_ROUTE, 0),
            IcmpReason::TooBig(mtu) => (sys::KPI_ICMP_TOO_BIG, mtu),
        };
        // SAFETY: attached through this epoch section; the packet is given away with its IP header
        // in one piece.
        unsafe {
            sys::kpi_icmp_error(
                self.as_ptr(),
                m.into_raw(),
                family.to_af() as c_int,
                code,
                mtu,
            )
        };
    }
}

/// Why a packet cannot be given to the stack.
pub(super) enum Unfit {
    NoMemory,
    NoIp,
}

/// A packet as the stack wants it: its first segment has the first byte, which says the protocol.
pub(super) fn for_input(m: Mbuf) -> Result<(Mbuf, Family), Unfit> {
    if m.is_empty() {
        return Err(Unfit::NoIp);
    }
    let m = m.pullup(1).ok_or(Unfit::NoMemory)?;
    let family = m.first().first().and_then(|&b| Family::of_version(b));
    let family = family.ok_or(Unfit::NoIp)?;
    let m = m.for_stack().ok_or(Unfit::NoMemory)?;
    Ok((m, family))
}

/// Makes the IP header one piece: what the ICMP functions read without looking.
fn pull_ip_header(m: Mbuf) -> Option<(Mbuf, Family)> {
    let m = m.pullup(1)?;
    let first = *m.first().first()?;
    let family = Family::of_version(first)?;
    let header = match family {
        Family::V4 => usize::from(first & 0x0f) << 2,
        Family::V6 => 40,
    };
    // Less than five words are no IPv4 header. The total length must cover the header, as both
    // functions subtract.
    if header < 20 {
        return None;
    }
    // And eight bytes of what follows, if there are: icmp_error(9) sends nothing without them.
    let quoted = m.len().min(header.saturating_add(8));
    if quoted < header {
        return None;
    }
    let m = m.pullup(quoted)?;
    if family == Family::V4 {
        let total = u16::from_be_bytes(*m.first().get(2..)?.first_chunk()?);
        if usize::from(total) < header || usize::from(total) > m.len() {
            return None;
        }
    }
    Some((m, family))
}

/// An interface's name at some time.
#[derive(Clone, Copy)]
pub struct IfName([u8; sys::IFNAMSIZ as usize]);

impl IfName {
    /// The name without the NUL.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|&b| b == 0).next().unwrap_or_default()
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &b in self.as_bytes() {
            fmt::Write::write_char(f, char::from(b))?;
        }
        Ok(())
    }
}

/// Logs one line behind the interface's name if `ifconfig wg0 debug` was given: `if_debug!(ifp,
/// "peer {} gone", id)`.
#[macro_export]
macro_rules! if_debug {
    ($ifp:expr, $($arg:tt)*) => { $ifp.debug(::core::format_args!($($arg)*)) };
}
