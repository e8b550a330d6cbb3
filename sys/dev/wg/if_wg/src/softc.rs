// SPDX-License-Identifier: BSD-2-Clause
//! The interface: what it holds, and how it comes and goes.
//!
//! # Locks
//!
//! `config` is held for every change by an administrator, shared for reading the configuration; it
//! may be held while sleeping. All that packets need is read without it: `routes`, `sockets`,
//! `identity` and the index table by the net epoch alone, `peers` under its own lock at handshakes.
//! Order: `config`, then `peers`, then a peer's locks. `home` is a leaf, and what `sockets` is changed
//! under, together with whether the interface runs.
//!
//! The hooks of the host (a jail goes, the interface moves) do not wait for `config`, under which a
//! jail's root can have work done for long: others, who have nothing to do with that jail, wait for
//! them. They take the sockets away, after which no packet leaves or comes, and stop the peers if
//! `config` is free. If it is not, whoever holds it does that when they let go of it
//! ([`Softc::settle`]).
//!
//! # Teardown
//!
//! [`Softc::destroy`] takes these steps, each of which makes the next one safe:
//!
//! 1. `dying` is set: nothing new is accepted.
//! 2. The sockets are taken out; one epoch wait later nobody sends on them, nobody is in the input
//!    or output routine. They are closed.
//! 3. The tasks are drained: no queue is served any more, whatever is still put into one.
//! 4. The packet queues are emptied: every job gives up its place in its peer's serial queue.
//! 5. The peers are taken out and shut down, which waits for their callouts. Then the control
//!    queues are emptied. With them go the last references that form circles.
//! 6. The caller detaches and frees the ifnet. What was deferred to the epoch is freed after it.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kpi::cred::{Cred, Prison, VnetId, current_fib};
use kpi::epoch::{Epoch, EpochArc, EpochCell, epoch_wait, net_epoch};
use kpi::ifnet::{IfDriver, IfNet};
use kpi::ioctl::Ioctl;
use kpi::mbuf::{Mbuf, ReceivedBy};
use kpi::net::{Family, SocketOptions};
use kpi::sync::{Mutex, RwLock, SetOnce, SxLock};
use kpi::taskq::{CpuTasks, CpuWork, Group};
use kpi::{Errno, Result};
use kpi::{How, KArc, KBox, KVec, Sleepable};
use wg::allowedips::AllowedIps;
use wg::ratelimit::RateLimiter;
use wg::wg_cookie::Checker;
use wg::wg_noise::{Identity, StampClock};

use crate::handshake::Control;
use crate::index::IndexTable;
use crate::module::Module;
use crate::peer::{Owner, Peer};
use crate::peers::PeerTable;
use crate::sockets::Sockets;
use crate::usage::{Amount, Charge};
use crate::worker::Workers;

/// The MTU of a new interface: 1500 less the headers of IPv6, UDP and WireGuard.
pub(crate) const DEFAULT_MTU: u32 = 1420;
/// The greatest MTU: an IP packet less the same headers.
pub(crate) const MAX_MTU: u32 = 65_535 - 80;

/// What an administrator has set, beyond what has a place of its own.
pub(crate) struct Config {
    /// The port to listen on; after the interface was up, the one that it got. 0: any.
    pub(crate) listen_port: u16,
    /// SO_USER_COOKIE of the sockets.
    pub(crate) user_cookie: u32,
    /// FIB of the sockets.
    pub(crate) fib: u16,
    /// Number of the last request that was prepared.
    pub(crate) plan: u64,
}

/// What the host changes without waiting for `config`, which a jail's root can hold for long: the
/// jail of the creator goes, or the interface moves.
pub(crate) struct Home {
    /// Who created the interface: the sockets are opened as them, in their network stack. None
    /// once their jail is gone.
    cred: Option<Cred>,
    /// The interface was taken down, but for its peers: they are still to be stopped.
    stop_due: bool,
}

/// The allowed IPs of all peers.
pub(crate) type Routes = AllowedIps<Owner>;

/// An interface.
pub struct Softc {
    pub(crate) ifp: IfNet,
    pub(crate) config: SxLock<Config>,
    pub(crate) home: Mutex<Home>,
    pub(crate) charge: Charge,
    pub(crate) dying: AtomicBool,
    /// What all interfaces share: the cipher, the counters.
    pub(crate) module: KArc<Module>,
    pub(crate) identity: EpochCell<Identity>,
    /// Judges handshake messages to `identity`.
    pub(crate) checker: RwLock<Option<Checker>>,
    /// Made when it is first needed: it is large, and most interfaces never are under load.
    pub(crate) ratelimit: Mutex<Option<RateLimiter>>,
    pub(crate) stamps: StampClock,
    pub(crate) sockets: EpochCell<Sockets>,
    pub(crate) peers: RwLock<PeerTable>,
    pub(crate) next_peer_id: AtomicU64,
    pub(crate) routes: EpochCell<Routes>,
    pub(crate) index: IndexTable,
    /// Made when the interface first comes up.
    pub(crate) workers: SetOnce<Workers>,
    pub(crate) control: KBox<Control>,
    /// None once the interface goes away.
    tasks: EpochCell<Tasks>,
}

/// The tasks of an interface: those for packets on each CPU, and those for handshakes, which take a
/// thousand times longer and must not hold packets up, on half of them.
struct Tasks {
    packet: CpuTasks<PacketWork>,
    control: CpuTasks<ControlWork>,
}

impl Tasks {
    #[inline(never)] // Large, as `Softc::create` is.
    fn new(sc: &KArc<Softc>, cx: &Sleepable) -> Result<EpochArc<Self>> {
        let how = How::Wait(cx);
        let packet = KArc::new(PacketWork(sc.clone()), how)?;
        let packet = CpuTasks::new(packet, Group::Fast, c"wg packet", cx)?;
        let control = KArc::new(ControlWork(sc.clone()), how)?;
        let control = CpuTasks::new(control, Group::Slow, c"wg control", cx)?;
        Ok(EpochArc::new_with(how, || Self { packet, control })?)
    }
}

/// The packet tasks' view of the interface.
struct PacketWork(KArc<Softc>);

impl CpuWork for PacketWork {
    fn run(&self, at: usize, _cx: &Sleepable) {
        self.0.run_packets(at);
    }
}

/// The control tasks' view of the interface.
struct ControlWork(KArc<Softc>);

impl CpuWork for ControlWork {
    fn run(&self, at: usize, cx: &Sleepable) {
        self.0.run_control(at, cx);
    }
}

impl Softc {
    pub(crate) fn enqueue_packet_task(&self, cpu: usize) {
        self.with_tasks(|tasks| tasks.packet.enqueue(cpu));
    }

    pub(crate) fn enqueue_control_task(&self, cpu: usize) {
        self.with_tasks(|tasks| tasks.control.enqueue(cpu));
    }

    /// Whether the tasks serve the queues. In [`IfDriver::destroy`] they stop, for good.
    pub(crate) fn has_tasks(&self) -> bool {
        net_epoch(|ep| self.tasks.load(ep).is_some())
    }

    fn with_tasks(&self, f: impl FnOnce(&Tasks) + Send) {
        net_epoch(|ep| {
            if let Some(tasks) = self.tasks.load(ep) {
                f(tasks.get());
            }
        });
    }

    /// As whom the interface's sockets are to be made.
    ///
    /// # Errors
    /// EBUSY when the creator's jail is gone.
    pub(crate) fn home_cred(&self) -> Result<Cred> {
        self.home.lock().cred.clone().ok_or(Errno::EBUSY)
    }

    /// How the interface's sockets are to be made.
    pub(crate) fn socket_options<'a>(config: &Config, cred: &'a Cred) -> SocketOptions<'a> {
        SocketOptions {
            fib: config.fib,
            user_cookie: config.user_cookie,
            cred,
        }
    }

    /// Whether the caller may decide how the sockets present themselves to the network where they
    /// live. The root of a jail that an interface was given to may not: the port, the mark for
    /// ipfw(4) and the routing table are another's there.
    ///
    /// # Errors
    /// EPERM.
    pub(crate) fn may_set_sockets(&self) -> Result<()> {
        match self.home_cred() {
            Ok(cred) if !cred.is_governed() => Err(Errno::EPERM),
            // With its home gone there never will be sockets.
            _ => Ok(()),
        }
    }

    /// Runs `f` with the configuration for oneself.
    pub(crate) fn with_config<R>(&self, cx: &Sleepable, f: impl FnOnce(&mut Config) -> R) -> R {
        let result = {
            let mut config = self.config.write(cx);
            self.stop_if_due();
            f(&mut config)
        };
        self.settle();
        result
    }

    /// Runs `f` with the configuration as it is.
    pub(crate) fn read_config<R>(&self, cx: &Sleepable, f: impl FnOnce(&Config) -> R) -> R {
        let result = f(&self.config.read(cx));
        self.settle();
        result
    }

    /// Does what a hook of the host could not wait for. Everybody who lets go of `config` calls this
    /// after it: if somebody else holds it by now, they will.
    fn settle(&self) {
        while self.home.lock().stop_due {
            let Some(_config) = self.config.try_write() else {
                return;
            };
            self.stop_if_due();
        }
    }

    /// `config` is held.
    fn stop_if_due(&self) {
        if core::mem::take(&mut self.home.lock().stop_due) {
            self.for_each_peer(|peer| peer.stop());
        }
    }

    /// Takes the interface down without waiting for `config`; `gone` says that the home of its
    /// sockets is, too.
    fn down_now(&self, gone: bool, cx: &Sleepable) {
        let (cred, sockets) = {
            let mut home = self.home.lock();
            home.stop_due |= self.ifp.running();
            self.ifp.set_running(false);
            let cred = if gone { home.cred.take() } else { None };
            (cred, self.sockets.take())
        };
        drop(cred);
        if let Some(sockets) = sockets {
            self.ifp.link_up(false);
            self.close_sockets(Some(sockets), cx);
        }
        self.settle();
    }

    /// Puts new sockets in the place of those that are open. Gives back what is to be closed: the
    /// old ones, or the new ones if the interface was taken down meanwhile.
    pub(crate) fn replace_sockets(&self, new: EpochArc<Sockets>) -> Option<EpochArc<Sockets>> {
        let home = self.home.lock();
        if home.stop_due || !self.ifp.running() {
            return Some(new);
        }
        self.sockets.swap(Some(new))
    }

    /// Brings the interface up: opens the sockets and starts the peers' timers.
    ///
    /// # Errors
    /// EBUSY when the creator's jail is gone, else what opening the sockets says.
    pub(crate) fn up(this: &KArc<Self>, cx: &Sleepable) -> Result<()> {
        this.with_config(cx, |config| {
            if this.dying.load(Ordering::SeqCst) {
                return Err(Errno::ENXIO);
            }
            if this.ifp.running() {
                return Ok(());
            }
            let cred = this.home_cred()?;
            let options = Self::socket_options(config, &cred);
            Self::make_queues(this, cx)?;
            let sockets = Sockets::open(this, config.listen_port, &options, cx)?;
            let port = sockets.port;
            this.for_each_peer(Peer::enable);
            if let Err(sockets) = this.install_sockets(sockets) {
                this.for_each_peer(|peer| peer.stop());
                this.close_sockets(Some(sockets), cx);
                return Err(Errno::EBUSY);
            }
            config.listen_port = port;
            this.ifp.link_up(true);
            this.for_each_peer(Peer::poke);
            Ok(())
        })
    }

    /// Marks the interface as running, with these sockets, unless their home has gone meanwhile.
    fn install_sockets(&self, sockets: EpochArc<Sockets>) -> Result<(), EpochArc<Sockets>> {
        let home = self.home.lock();
        if home.cred.is_none() {
            return Err(sockets);
        }
        self.sockets.set(Some(sockets));
        self.ifp.set_running(true);
        Ok(())
    }

    /// Sets the FIB of the sockets, those that are open and those to come.
    ///
    /// # Errors
    /// EPERM where the sockets are not the caller's, and what setting it on an open socket says;
    /// nothing has changed then.
    pub(crate) fn set_tunnel_fib(&self, fib: u16, cx: &Sleepable) -> Result<()> {
        self.with_config(cx, |config| {
            if config.fib != fib {
                self.may_set_sockets()?;
            }
            let sockets = net_epoch(|ep| self.sockets.load_arc(ep));
            if let Some(sockets) = sockets
                && let Err(errno) = sockets.set_fib(fib, cx)
            {
                let _ = sockets.set_fib(config.fib, cx);
                return Err(errno);
            }
            config.fib = fib;
            Ok(())
        })
    }

    /// Brings the interface down: closes the sockets, stops timers, wipes sessions.
    pub(crate) fn down(&self, cx: &Sleepable) {
        self.with_config(cx, |_| {
            let sockets = {
                let _home = self.home.lock();
                if !self.ifp.running() {
                    return;
                }
                self.ifp.set_running(false);
                self.sockets.take()
            };
            self.ifp.link_up(false);
            self.for_each_peer(|peer| peer.stop());
            self.close_sockets(sockets, cx);
        });
    }

    /// Closes sockets that were taken out of the interface.
    pub(crate) fn close_sockets(&self, sockets: Option<EpochArc<Sockets>>, cx: &Sleepable) {
        if let Some(sockets) = sockets {
            Sockets::close(sockets, cx);
        }
    }

    /// Calls `f` for every peer, without the lock of the table: `f` may sleep or take locks.
    /// `config` is held, so that the table does not change.
    pub(crate) fn for_each_peer(&self, mut f: impl FnMut(&EpochArc<Peer>)) {
        let at = |i| self.peers.read().get(i).cloned();
        (0..).map_while(at).for_each(|peer| f(&peer));
    }

    /// All peers, oldest first. `config` is held, so that the list stays true.
    pub(crate) fn peer_list(&self, cx: &Sleepable) -> Result<KVec<EpochArc<Peer>>> {
        let count = self.peers.read().len();
        let mut list = KVec::with_capacity(count, How::Wait(cx))?;
        for peer in self.peers.read().iter() {
            list.try_push(peer.clone(), How::NoWait)?;
        }
        list.sort_unstable_by_key(|peer| peer.id);
        Ok(list)
    }

    /// The allowed IPs as they are now.
    pub(crate) fn routes_snapshot(&self) -> Routes {
        net_epoch(|ep| {
            self.routes
                .load(ep)
                .map_or_else(Routes::new, |r| r.get().clone())
        })
    }
}

impl IfDriver for Softc {
    type Module = Module;

    const CLONER: &'static core::ffi::CStr = c"wg";
    const MTU: u32 = DEFAULT_MTU;

    #[inline(never)] // Large; its caller, the cloner, should not have its frame too.
    fn create(ifp: IfNet, module: &KArc<Module>, cx: &Sleepable) -> Result<KArc<Self>> {
        let how = How::Wait(cx);
        let charge = Charge::interface(module)?;
        let config = Config {
            listen_port: 0,
            user_cookie: 0,
            fib: current_fib(),
            plan: 0,
        };
        let home = Home {
            cred: Cred::current(),
            stop_due: false,
        };
        let index = IndexTable::new()?;
        let control = Control::new(Group::Slow.tasks(), how)?;
        let this = KArc::new_with(how, || Self {
            ifp,
            config: SxLock::new(c"wg config", config),
            home: Mutex::new(c"wg home", home),
            charge,
            dying: AtomicBool::new(false),
            module: module.clone(),
            identity: EpochCell::empty(),
            checker: RwLock::new(c"wg checker", None),
            ratelimit: Mutex::new(c"wg ratelimit", None),
            stamps: StampClock::new(),
            sockets: EpochCell::empty(),
            peers: RwLock::new(c"wg peers", PeerTable::new()),
            next_peer_id: AtomicU64::new(0),
            routes: EpochCell::empty(),
            index,
            workers: SetOnce::new(),
            control,
            tasks: EpochCell::empty(),
        })?;
        this.tasks.set(Some(Tasks::new(&this, cx)?));
        Ok(this)
    }

    /// # Errors
    /// EBUSY when the jail of the creator is on its way out. It would never end if the interface
    /// held on to it: the hook that tells of its end may have run before the interface was there to
    /// be found.
    fn attached(this: &KArc<Self>, _cx: &Sleepable) -> Result<()> {
        match this.home_cred() {
            Ok(cred) if !cred.is_alive() => Err(Errno::EBUSY),
            _ => Ok(()),
        }
    }

    fn leaving(this: &KArc<Self>) {
        // A request that is being prepared is given up.
        this.dying.store(true, Ordering::SeqCst);
    }

    fn destroy(this: &KArc<Self>, cx: &Sleepable) {
        let config = this.config.write(cx);
        this.dying.store(true, Ordering::SeqCst);
        let (sockets, cred) = {
            let mut home = this.home.lock();
            this.ifp.set_running(false);
            home.stop_due = false;
            (this.sockets.take(), home.cred.take())
        };
        this.ifp.link_up(false);
        // Output routines that did not see `dying` end here, whether or not there are sockets.
        epoch_wait(cx);
        this.close_sockets(sockets, cx);
        this.end_watch(cx);
        if let Some(tasks) = this.tasks.take() {
            tasks.packet.drain(cx);
            tasks.control.drain(cx);
            // Detaching them may sleep, so their end must not be left to an epoch callback. Nobody
            // but us has a handle.
            drop(EpochArc::into_inner(tasks, cx));
        }
        this.identity.set(None);
        *this.checker.write() = None;
        this.routes.set(None);
        this.discard_jobs();
        let peers = this.peers.write().take_all();
        for peer in peers {
            Peer::shutdown(&peer, cx);
        }
        this.discard_control();
        this.charge.lower(Amount::default());
        drop(cred);
        drop(config);
    }

    fn ignores(cmd: u64) -> bool {
        crate::ioctl::ignores(cmd)
    }

    fn ioctl(this: &KArc<Self>, io: &mut Ioctl<'_>, cx: &Sleepable) -> Result<()> {
        crate::ioctl::dispatch(this, io, cx)
    }

    fn output<'e>(
        &self,
        ep: &'e Epoch,
        m: Mbuf,
        af: Family,
        route_mtu: Option<u32>,
        from: ReceivedBy<'e>,
    ) -> Result<()> {
        self.output_packet(ep, m, af, route_mtu, from)
    }

    fn reassign(this: &KArc<Self>, to: Option<VnetId>, cx: &Sleepable) {
        this.charge.reassign(to);
        // The sockets stay where they were made: the interface goes down here, and up again by
        // whoever owns it there.
        this.down_now(false, cx);
    }

    fn cred_gone(this: &KArc<Self>, prison: &Prison, cx: &Sleepable) {
        let ours = |cred: &Cred| cred.is_in(prison);
        if this.home.lock().cred.as_ref().is_some_and(ours) {
            this.down_now(true, cx);
        }
    }
}
