// SPDX-License-Identifier: BSD-2-Clause
//! A driver as small as one can be: packets go to one peer by UDP as they are. All parts of the API
//! have a use in it.
//!
//! `SIOCSWG`'s data is the peer's socket address; its receive port is 1000.

use core::ffi::CStr;
use core::fmt::Write;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kpi::callout::{Callout, Expire};
use kpi::cred::{Cred, Prison, Priv, VnetId, current_fib, priv_check};
use kpi::epoch::{Epoch, EpochArc, EpochCell, epoch_drain_callbacks, net_epoch};
use kpi::ifnet::{Counter, IcmpReason, IfDriver, IfNet, Module};
use kpi::ioctl::*;
use kpi::mbuf::{Mbuf, MbufList, ReceivedBy};
use kpi::net::*;
use kpi::sync::{Mutex, RwLock, SxLock};
use kpi::sysctl::Registrar;
use kpi::taskq::{CpuTasks, CpuWork, Group, ncpus};
use kpi::time::uptime_ns;
use kpi::user::{copy_in, copy_out};
use kpi::{Errno, How, KArc, Result, Sleepable};

pub const PORT: u16 = 1000;
/// Nanoseconds between two ticks of an interface that is up.
pub const TICK: u64 = 1_000_000_000;

kpi::declare_module!(Toy);

pub struct ToyModule {
    pub limit: AtomicU64,
    pub created: AtomicU64,
    busy: AtomicBool,
}

impl Module for ToyModule {
    fn load(_cx: &Sleepable) -> Result<Self> {
        kpi::kpi_info!("loaded with {} CPUs", ncpus());
        Ok(Self {
            limit: AtomicU64::new(16),
            created: AtomicU64::new(0),
            busy: AtomicBool::new(false),
        })
    }

    fn sysctls(registrar: &mut Registrar<'_, Self>) -> Result {
        registrar.read_write(c"limit", c"Packets in the queue", |m| &m.limit, 1..=64)?;
        registrar.read_only(c"created", c"Interfaces made", |m| &m.created)?;
        registrar.computed(c"twice", c"Interfaces made, twice", |m| {
            2 * m.created.load(Ordering::Relaxed)
        })?;
        registrar.text(c"about", c"What it is", |m, line| {
            let _ = write!(line, "toy, {} made", m.created.load(Ordering::Relaxed));
        })
    }

    fn can_unload(&self) -> Result {
        if self.busy.load(Ordering::Relaxed) {
            Err(Errno::EBUSY)
        } else {
            Ok(())
        }
    }
}

struct Sockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
}

/// What the timer calls. An `EpochArc`, so not the driver itself.
struct Ticker {
    ifp: IfNet,
    timer: Callout<Ticker>,
    ticks: AtomicU64,
}

impl Expire for Ticker {
    fn expire(this: &EpochArc<Self>) {
        this.ticks.fetch_add(1, Ordering::Relaxed);
        this.ifp.count(Counter::NoProto, 1);
        this.timer.arm_at(uptime_ns() + TICK);
    }
}

pub struct Toy {
    ifp: IfNet,
    module: KArc<ToyModule>,
    sockets: EpochCell<Sockets>,
    peer: RwLock<Option<SocketAddr>>,
    received: Mutex<MbufList>,
    control: SxLock<Control>,
    tasks: EpochCell<CpuTasks<Toy>>,
}

struct Control {
    cred: Option<Cred>,
    fib: u16,
    ticker: Option<EpochArc<Ticker>>,
}

impl Toy {
    fn up(this: &KArc<Self>, cx: &Sleepable) -> Result {
        let control = this.control.write(cx);
        if this.ifp.running() {
            return Ok(());
        }
        let cred = control.cred.as_ref().ok_or(Errno::EBUSY)?;
        let options = SocketOptions {
            fib: control.fib,
            user_cookie: 0,
            cred,
        };
        let open = |family| UdpSocket::open(family, PORT, &options, this.clone(), cx);
        let sockets = Sockets {
            v4: Some(open(Family::V4)?),
            v6: Some(open(Family::V6)?),
        };
        this.sockets
            .set(Some(EpochArc::new(sockets, How::Wait(cx))?));
        this.ifp.set_running(true);
        this.ifp.link_up(true);
        if let Some(t) = &control.ticker {
            t.timer.arm_at(uptime_ns() + TICK);
        }
        Ok(())
    }

    fn down(this: &KArc<Self>, cx: &Sleepable) {
        let control = this.control.write(cx);
        if let Some(t) = &control.ticker {
            t.timer.stop();
        }
        this.ifp.set_running(false);
        this.ifp.link_up(false);
        if let Some(sockets) = this.sockets.take()
            && let Ok(Sockets { v4, v6 }) = EpochArc::into_inner(sockets, cx)
        {
            // One each way.
            v4.into_iter().for_each(|s| s.close(cx));
            drop(v6);
        }
        drop(control);
    }
}

impl IfDriver for Toy {
    type Module = ToyModule;
    const CLONER: &'static CStr = c"wg";
    const MTU: u32 = 1420;

    fn create(ifp: IfNet, module: &KArc<ToyModule>, cx: &Sleepable) -> Result<KArc<Self>> {
        let ticker = EpochArc::new(
            Ticker {
                ifp: ifp.clone(),
                timer: Callout::new(How::Wait(cx))?,
                ticks: AtomicU64::new(0),
            },
            How::Wait(cx),
        )?;
        let control = Control {
            cred: Cred::current(),
            fib: current_fib(),
            ticker: Some(ticker),
        };
        let this = KArc::new(
            Self {
                ifp,
                module: module.clone(),
                sockets: EpochCell::empty(),
                peer: RwLock::new(c"toy peer", None),
                received: Mutex::new(c"toy received", MbufList::new()),
                control: SxLock::new(c"toy control", control),
                tasks: EpochCell::empty(),
            },
            How::Wait(cx),
        )?;
        let tasks = CpuTasks::new(this.clone(), Group::Fast, c"toy", cx)?;
        // Until it has an owner that drains it, a failure must do so.
        match EpochArc::new_with(How::Wait(cx), || tasks) {
            Ok(tasks) => this.tasks.set(Some(tasks)),
            Err(e) => return Err(e.into()),
        }
        if let Some(t) = &this.control.read(cx).ticker {
            t.timer.bind(t.clone());
        }
        module.created.fetch_add(1, Ordering::Relaxed);
        Ok(this)
    }

    fn destroy(this: &KArc<Self>, cx: &Sleepable) {
        Self::down(this, cx);
        let ticker = this.control.write(cx).ticker.take();
        if let Some(t) = ticker {
            t.timer.drain(cx);
        }
        if let Some(tasks) = this.tasks.take() {
            tasks.drain(cx);
            drop(EpochArc::into_inner(tasks, cx));
        }
        drop(this.received.lock().take());
        this.control.write(cx).cred = None;
        epoch_drain_callbacks(cx);
    }

    fn ioctl(this: &KArc<Self>, io: &mut Ioctl<'_>, cx: &Sleepable) -> Result {
        match io.cmd() {
            SIOCSWG => {
                priv_check(Priv::NetWg)?;
                let arg = *io.arg::<WgDataIo>()?;
                if arg.data.is_null() {
                    return Err(Errno::EFAULT);
                }
                let bytes = copy_in(arg.data, arg.size, 64, cx)?;
                let addr = decode_sockaddr(&bytes).ok_or(Errno::EINVAL)?;
                *this.peer.write() = Some(addr);
                kpi::if_debug!(this.ifp, "peer {}", Show(&addr));
                Ok(())
            }
            SIOCGWG => {
                let addr = this.peer.read().ok_or(Errno::ENOENT)?;
                let arg = io.arg::<WgDataIo>()?;
                let mut bytes = [0; 28];
                let n = encode_sockaddr(&addr, &mut bytes);
                if arg.size != 0 {
                    copy_out(bytes.get(..n).unwrap_or_default(), arg.data, cx)?;
                }
                arg.size = n;
                Ok(())
            }
            SIOCSIFFLAGS if this.ifp.is_up() => Self::up(this, cx),
            SIOCSIFFLAGS => {
                Self::down(this, cx);
                Ok(())
            }
            SIOCSIFMTU => {
                let mtu = io.arg::<IfReqMtu>()?.mtu;
                this.ifp
                    .set_mtu(u32::try_from(mtu).map_err(|_| Errno::EINVAL)?);
                Ok(())
            }
            SIOCGTUNFIB => {
                io.arg::<IfReqFib>()?.fib = u32::from(this.control.read(cx).fib);
                Ok(())
            }
            SIOCSIFADDR | SIOCADDMULTI | SIOCDELMULTI => {
                io.arg::<WgDataIo>().map_or(Ok(()), |_| Err(Errno::EPROTO))
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn output<'e>(
        &self,
        ep: &'e Epoch,
        mut m: Mbuf,
        af: Family,
        route_mtu: Option<u32>,
        from: ReceivedBy<'e>,
    ) -> Result {
        let version = m.first().first().copied().and_then(Family::of_version);
        let refuse = |m, reason, errno| {
            self.ifp.count(Counter::OutErrors, 1);
            self.ifp.icmp_error(ep, m, reason, from);
            Err(errno)
        };
        if version != Some(af) {
            self.ifp.count(Counter::OutErrors, 1);
            return Err(Errno::EAFNOSUPPORT);
        }
        let mtu = route_mtu.unwrap_or(self.ifp.mtu());
        if m.len() > mtu as usize {
            return refuse(m, IcmpReason::TooBig(mtu), Errno::EMSGSIZE);
        }
        self.ifp.bpf_tap(ep, &m, af);
        if let Err(e) = self.ifp.check_nesting(&mut m) {
            return refuse(m, IcmpReason::HostUnreachable, e);
        }
        let Some(peer) = *self.peer.read() else {
            return refuse(m, IcmpReason::NoRoute, Errno::EHOSTUNREACH);
        };
        m.reset_for_encap();
        let len = m.len() as u64;
        let sockets = self.sockets.load(ep).ok_or(Errno::ENETDOWN)?;
        let socket = if peer.is_ipv4() {
            &sockets.v4
        } else {
            &sockets.v6
        };
        socket
            .as_ref()
            .ok_or(Errno::ENOTCONN)?
            .send(m, &peer, None)?;
        self.ifp.count(Counter::OutPackets, 1);
        self.ifp.count(Counter::OutBytes, len);
        Ok(())
    }

    fn reassign(this: &KArc<Self>, _to: Option<VnetId>, cx: &Sleepable) {
        Self::down(this, cx);
    }

    fn cred_gone(this: &KArc<Self>, prison: &Prison, cx: &Sleepable) {
        let ours = this
            .control
            .read(cx)
            .cred
            .as_ref()
            .is_some_and(|c| c.is_in(prison));
        if ours {
            Self::down(this, cx);
            this.control.write(cx).cred = None;
        }
    }
}

impl TunnelSink for Toy {
    fn udp_input(&self, ep: &Epoch, m: Mbuf, src: SocketAddr, dst: SocketAddr) {
        assert_eq!((src.is_ipv4(), dst.port()), (dst.is_ipv4(), PORT));
        let mut received = self.received.lock();
        if received.len() as u64 >= self.module.limit.load(Ordering::Relaxed) {
            self.ifp.count(Counter::InQueueDrops, 1);
            return;
        }
        received.push(m);
        drop(received);
        if let Some(tasks) = self.tasks.load(ep) {
            tasks.enqueue(usize::from(src.port()));
        }
    }
}

impl CpuWork for Toy {
    fn run(&self, cpu: usize, _cx: &Sleepable) {
        assert!(cpu < ncpus());
        let mut packets = self.received.lock().take();
        self.ifp.count(Counter::InPackets, packets.len() as u64);
        self.ifp.count(Counter::InBytes, packets.bytes() as u64);
        packets.for_each_mut(Mbuf::mark_decapsulated);
        let done = net_epoch(|ep| self.ifp.input(ep, packets));
        let lost = done.no_memory + done.no_ip + done.down;
        self.ifp.count(Counter::InErrors, lost as u64);
    }
}
