// SPDX-License-Identifier: BSD-2-Clause
//! Simulation: one thread, a seeded scheduler, virtual time and a virtual network.
//!
//! ```no_run
//! # use hostkern::sim::{Link, Sim};
//! # use std::time::Duration;
//! # fn example(ops: hostkern::ModuleOps) {
//! let sim = Sim::new(42);
//! let (a, b) = (sim.host("a", &["192.0.2.1"]), sim.host("b", &["192.0.2.2"]));
//! sim.link(&a, &b, Link::bad());
//! sim.load(ops).unwrap(); // hostkern::linked_module!() in a program that has the driver
//! let wg = sim.create(&a, "wg").unwrap();
//! sim.run_for(Duration::from_secs(120));
//! sim.finish();
//! # }
//! ```

mod nat;
pub(crate) mod net;
mod rng;
mod sched;
mod trace;

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use self::net::{Link, NetStats, WireDatagram};
pub use self::rng::Rng;

use self::net::SimNet;
use self::sched::SimMachine;
use crate::backend::{Errno, Family};
use crate::clone::ModuleOps;
use crate::ifnet::{Delivered, Ifnet, RouteArg};
use crate::kernel::{Config, Kernel};
use crate::thread::{Kind, enter};
use crate::vnet::{IcmpError, Vnet};

/// A host of the simulation: a vnet with its place in the network.
#[derive(Clone)]
pub struct Host(Arc<Vnet>);

impl Deref for Host {
    type Target = Arc<Vnet>;
    fn deref(&self) -> &Arc<Vnet> {
        &self.0
    }
}

/// A NAT box, and the private network behind it.
#[derive(Clone, Copy, Debug)]
pub struct Nat(usize);

/// One simulated world: a kernel, its hosts, and the network between them.
pub struct Sim {
    kernel: Arc<Kernel>,
    machine: Arc<SimMachine>,
    net: Arc<SimNet>,
    account: hostkern_malloc::Account,
    finished: std::cell::Cell<bool>,
}

fn ip(s: &str) -> IpAddr {
    s.parse()
        .unwrap_or_else(|_| panic!("not an IP address: {s}"))
}

fn ips(s: &[&str]) -> Vec<IpAddr> {
    s.iter().map(|a| ip(a)).collect()
}

impl Sim {
    /// A world with 4 CPUs, whose every choice follows from `seed`. `HOSTKERN_TRACE=1` in the
    /// environment prints events as they happen.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, &Config::default())
    }

    /// The same with other settings.
    pub fn with(seed: u64, config: &Config) -> Self {
        let machine = Arc::new(SimMachine::new(seed, config.log));
        machine.tracer().echo = std::env::var_os("HOSTKERN_TRACE").is_some();
        let account = hostkern_malloc::Account::new();
        let kernel = Kernel::new(config, Box::new(machine.clone()), Some(account.clone()));
        let net = SimNet::new(machine.clone());
        let _ = kernel.backend.set(net.clone());
        Self {
            kernel,
            machine,
            net,
            account,
            finished: std::cell::Cell::new(false),
        }
    }

    /// The kernel, for what has no shorthand here.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.machine.seed
    }

    /// The books of the driver's memory.
    pub fn account(&self) -> &hostkern_malloc::Account {
        &self.account
    }

    // Network

    /// A host on the internet.
    pub fn host(&self, name: &str, addresses: &[&str]) -> Host {
        let v = self.kernel.add_vnet(name);
        self.net.add_host(v.id, &ips(addresses));
        *v.addresses.write().unwrap() = ips(addresses);
        Host(v)
    }

    /// A host behind a NAT box, with private addresses.
    pub fn host_behind(&self, nat: Nat, name: &str, addresses: &[&str]) -> Host {
        let h = self.host(name, addresses);
        self.net.place(h.id, nat.0);
        h
    }

    /// A NAT box on the internet, which forgets mappings that were not used for `timeout`.
    pub fn nat(&self, public: &[&str], timeout: Duration) -> Nat {
        Nat(self.net.add_nat(&ips(public), timeout, 0))
    }

    /// A NAT box behind another.
    pub fn nat_behind(&self, outer: Nat, public: &[&str], timeout: Duration) -> Nat {
        Nat(self.net.add_nat(&ips(public), timeout, outer.0))
    }

    /// The box gives every mapping another port.
    pub fn rebind(&self, nat: Nat) {
        self.net.with_nat(nat.0, nat::Nat::rebind);
    }

    /// The box forgets every mapping.
    pub fn forget(&self, nat: Nat) {
        self.net.with_nat(nat.0, nat::Nat::forget);
    }

    /// The box gets other public addresses.
    pub fn renumber(&self, nat: Nat, public: &[&str]) {
        let public = ips(public);
        self.net.with_nat(nat.0, |n| n.renumber(&public));
    }

    /// The host gets other addresses (roaming); its sockets stay.
    pub fn move_host(&self, h: &Host, addresses: &[&str]) {
        self.net.add_host(h.id, &ips(addresses));
        *h.addresses.write().unwrap() = ips(addresses);
    }

    /// The host moves behind a NAT box, or to the internet.
    pub fn move_behind(&self, h: &Host, nat: Option<Nat>, addresses: &[&str]) {
        self.net.place(h.id, nat.map_or(0, |n| n.0));
        self.move_host(h, addresses);
    }

    /// Settings of the path between two hosts, both ways.
    pub fn link(&self, a: &Host, b: &Host, link: Link) {
        self.net.set_link(a.id, b.id, link.clone());
        self.net.set_link(b.id, a.id, link);
    }

    /// Settings of the path one way.
    pub fn link_one_way(&self, from: &Host, to: &Host, link: Link) {
        self.net.set_link(from.id, to.id, link);
    }

    /// Settings of every path without its own.
    pub fn default_link(&self, link: Link) {
        self.net.set_default_link(link);
    }

    /// Shows every datagram to `tap` as it is sent; it may change it, and loses it by returning
    /// false.
    pub fn on_wire(&self, tap: impl FnMut(&mut WireDatagram) -> bool + Send + 'static) {
        self.net.set_tap(Some(Box::new(tap)));
    }

    /// No more tap.
    pub fn off_wire(&self) {
        self.net.set_tap(None);
    }

    /// Opens a port of a host for the test itself: a peer that the test plays.
    pub fn listen(&self, h: &Host, family: Family, port: u16) {
        self.net.listen(h.id, family, port);
    }

    /// What arrived there since the last call: source and payload.
    pub fn take_datagrams(
        &self,
        h: &Host,
        family: Family,
        port: u16,
    ) -> Vec<(SocketAddr, Vec<u8>)> {
        self.net.take(h.id, family, port)
    }

    /// Sends a datagram from a host's port, past any socket.
    ///
    /// # Errors
    /// ENETUNREACH without an address of the family.
    pub fn send_datagram(
        &self,
        from: &Host,
        port: u16,
        dst: SocketAddr,
        payload: &[u8],
    ) -> Result<(), Errno> {
        self.net.send(from.id, port, payload.to_vec(), dst, None)
    }

    /// Sends a datagram from a host with any source address.
    pub fn spoof_datagram(&self, from: &Host, src: SocketAddr, dst: SocketAddr, payload: &[u8]) {
        // Only the host's own stack reports errors.
        let _ = self.net.send_as(from.id, src, payload.to_vec(), dst);
    }

    /// The open tunnelling sockets of a host.
    pub fn sockets(&self, h: &Host) -> Vec<crate::socket::SocketInfo> {
        crate::socket::list(h)
    }

    /// What became of the datagrams.
    pub fn stats(&self) -> NetStats {
        self.net.stats()
    }

    // Kernel

    /// kldload(8).
    ///
    /// # Errors
    /// What the module says.
    pub fn load(&self, ops: ModuleOps) -> Result<(), Errno> {
        self.kernel.load(ops)
    }

    /// kldunload(8), destroying every interface.
    ///
    /// # Errors
    /// What the module says.
    pub fn unload(&self) -> Result<(), Errno> {
        self.kernel.unload()
    }

    /// `ifconfig NAME create`.
    ///
    /// # Errors
    /// See [`Kernel::create`].
    pub fn create(&self, h: &Host, name: &str) -> Result<String, Errno> {
        self.kernel.create(h, name)
    }

    /// `ifconfig NAME destroy`.
    ///
    /// # Errors
    /// See [`Kernel::destroy`].
    pub fn destroy(&self, h: &Host, name: &str) -> Result<(), Errno> {
        self.kernel.destroy(h, name)
    }

    /// `ifconfig NAME up` or `down`.
    ///
    /// # Errors
    /// ENXIO.
    pub fn set_up(&self, h: &Host, name: &str, up: bool) -> Result<(), Errno> {
        self.kernel.set_up(h, name, up)
    }

    /// An ioctl with any structure.
    ///
    /// # Errors
    /// See [`Kernel::ioctl`].
    pub fn ioctl(&self, h: &Host, cmd: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.kernel.ioctl(h, cmd, data)
    }

    /// An ioctl with name, pointer and size: see [`Kernel::ioctl_data`].
    ///
    /// # Errors
    /// What the driver says.
    pub fn ioctl_data(
        &self,
        h: &Host,
        name: &str,
        cmd: u64,
        buf: &mut [u8],
    ) -> Result<usize, Errno> {
        self.kernel.ioctl_data(h, name, cmd, buf)
    }

    /// The interface, for its state and counters.
    ///
    /// # Panics
    /// When there is none of that name.
    pub fn interface(&self, h: &Host, name: &str) -> Arc<Ifnet> {
        self.kernel
            .interface(h, name)
            .unwrap_or_else(|_| panic!("no {name} in {}", h.name))
    }

    /// Sends an IP packet of the host into an interface.
    ///
    /// # Errors
    /// See [`Kernel::output`].
    pub fn output(&self, h: &Host, name: &str, packet: &[u8]) -> Result<(), Errno> {
        self.kernel.output(h, name, packet, None, None)
    }

    /// The same with a path MTU and a next-hop family from the route.
    ///
    /// # Errors
    /// See [`Kernel::output`].
    pub fn output_routed(
        &self,
        h: &Host,
        name: &str,
        packet: &[u8],
        route: RouteArg,
    ) -> Result<(), Errno> {
        self.kernel.output(h, name, packet, None, Some(route))
    }

    /// Routes a prefix of the host into an interface.
    ///
    /// # Errors
    /// ENXIO.
    pub fn route(&self, h: &Host, net: &str, len: u8, name: &str) -> Result<(), Errno> {
        self.kernel.add_route(h, ip(net), len, name)
    }

    /// Makes the host forward packets between its interfaces.
    pub fn forward(&self, h: &Host, on: bool) {
        h.forward.store(on, std::sync::atomic::Ordering::Relaxed);
    }

    /// Packets that came out of a tunnel since the last call.
    ///
    /// # Panics
    /// When there is no such interface.
    pub fn delivered(&self, h: &Host, name: &str) -> Vec<Delivered> {
        self.interface(h, name).take_delivered()
    }

    /// From now on a packet that comes out of a tunnel of the host stays in memory, as in the buffer of
    /// a socket that nobody reads, until [`read_unread`](Self::read_unread).
    pub fn keep_unread(&self, h: &Host) {
        *h.unread.lock().unwrap() = Some(Vec::new());
    }

    /// Reads, and frees, what was kept so; no more is kept.
    pub fn read_unread(&self, h: &Host) -> Vec<Vec<u8>> {
        enter(&self.kernel, Kind::Process, Some(h), || {
            let unread = h.unread.lock().unwrap().take();
            let packets = unread.into_iter().flatten();
            packets.map(|p| p.to_vec()).collect()
        })
    }

    /// ICMP errors that the driver asked for since the last call.
    pub fn icmp(&self, h: &Host) -> Vec<IcmpError> {
        h.take_icmp()
    }

    /// Runs `f` as a process of the host: for calling kernel functions straight.
    pub fn process<R>(&self, h: &Host, f: impl FnOnce() -> R) -> R {
        self.kernel.process(h, f)
    }

    /// Runs `f` in a frame of any kind.
    pub fn frame<R>(&self, h: &Host, kind: Kind, f: impl FnOnce() -> R) -> R {
        enter(&self.kernel, kind, Some(h), f)
    }

    // Time

    /// Nanoseconds since boot.
    pub fn now(&self) -> u64 {
        self.machine.uptime_ns()
    }

    /// Lets virtual time pass.
    pub fn run_for(&self, d: Duration) {
        let end = self.now() + d.as_nanos() as u64;
        self.machine.run(&self.kernel, end, || false);
    }

    /// Lets time pass until `done`, at most `limit`; true if it was.
    pub fn run_until(&self, limit: Duration, done: impl FnMut() -> bool) -> bool {
        let end = self.now() + limit.as_nanos() as u64;
        self.machine.run(&self.kernel, end, done)
    }

    /// Runs until no packet is under way and no task, epoch callback or due callout is left. Timers
    /// of the driver that are set for later stay.
    pub fn run_until_idle(&self) {
        loop {
            self.machine.settle(&self.kernel);
            if self.machine.events() == 0 {
                return;
            }
            let machine = &self.machine;
            let before = machine.events();
            let end = self.now() + 60_000_000_000;
            machine.run(&self.kernel, end, || machine.events() < before);
        }
    }

    /// Does something after a delay, between two steps of the scheduler.
    pub fn at(&self, delay: Duration, f: impl FnOnce(&Arc<Kernel>) + Send + 'static) {
        self.machine.at(delay.as_nanos() as u64, false, Box::new(f));
    }

    /// Does something when a frame sleeps next, which stays asleep meanwhile: what must not wait for
    /// a lock that is held over a sleep.
    pub fn amid_sleep(&self, f: impl FnOnce(&Arc<Kernel>) + Send + 'static) {
        self.machine.amid_sleep(Box::new(f));
    }

    /// Sends an IP packet of the host into an interface after a delay. Unlike what [`at`](Self::at)
    /// does, this happens above sleeping frames too: the output path takes no lock that is held
    /// over a sleep. Errors are the sender's, who is not there.
    pub fn output_at(&self, delay: Duration, h: &Host, name: &str, packet: Vec<u8>) {
        let (h, name) = (h.clone(), name.to_string());
        let action = move |k: &Arc<Kernel>| {
            let _ = k.output(&h, &name, &packet, None, None);
        };
        self.machine
            .at(delay.as_nanos() as u64, true, Box::new(action));
    }

    /// Steps the wall clock, which the monotonic clock does not follow.
    pub fn step_clock(&self, seconds: i64) {
        self.machine.step_clock(seconds);
    }

    // Faults and insight

    /// Another CPU's work runs at one of `n` points where it could; 0: never. 4 unless set.
    pub fn preempt_one_in(&self, n: u64) {
        self.machine.set_preempt(n);
    }

    /// Work that could run may wait this long for a CPU, so that later packets overtake it. Not at
    /// all unless set.
    pub fn latency(&self, d: Duration) {
        self.machine.set_latency(d.as_nanos() as u64);
    }

    /// Keeps the task thread of a CPU from running, as an interrupt thread does that never ends, or lets it run
    /// again. Who waits for one of its tasks waits for that.
    ///
    /// # Panics
    /// When there is no such CPU.
    pub fn stall_cpu(&self, cpu: usize, stalled: bool) {
        let queue = &self.kernel.tasks.queues[cpu];
        queue
            .stalled
            .store(stalled, std::sync::atomic::Ordering::Relaxed);
    }

    /// The same for all threads of the group for what takes long.
    pub fn stall_slow_tasks(&self, stalled: bool) {
        for queue in &self.kernel.slow_tasks.queues {
            queue
                .stalled
                .store(stalled, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// Whether packets come as chains, shared or read-only now and then. They do unless turned off.
    pub fn shapes(&self, on: bool) {
        self.machine.set_shapes(on);
    }

    /// The `n`th allocation from now fails, be it the driver's memory, an mbuf or a cluster. 0:
    /// none.
    pub fn fail_nth(&self, n: u64) {
        self.account.fail_nth(n);
    }

    /// One of `p` allocations fails. 0: none.
    pub fn fail_every(&self, p: u32) {
        self.account.fail_every(p, self.machine.seed);
    }

    /// Steps of the scheduler so far: equal in two runs of one seed.
    pub fn steps(&self) -> u64 {
        self.machine.steps()
    }

    /// The last events.
    pub fn trace(&self) -> String {
        self.machine.tracer().text()
    }

    /// Adds a line to them.
    pub fn note(&self, line: &str) {
        self.machine.add_trace(line.to_string());
    }

    /// Writes datagrams sent from frames to a pcap file.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn pcap(&self, path: &Path) -> std::io::Result<()> {
        self.machine.tracer().open(path)
    }

    /// Lets go of mbuf references that the simulation itself keeps, then runs what can run now.
    pub fn settle(&self) {
        enter(&self.kernel, Kind::Process, None, || {
            self.machine.drop_kept()
        });
        self.machine.settle(&self.kernel);
    }

    /// Checks that nothing is left. After destroy and unload.
    ///
    /// # Panics
    /// With what leaked.
    #[track_caller]
    pub fn assert_no_leaks(&self) {
        self.settle();
        self.kernel.assert_no_leaks();
    }

    /// Unloads the module (if one is loaded), lets packets under way arrive, and checks that
    /// nothing is left.
    ///
    /// # Panics
    /// When the unload fails, and with what leaked.
    #[track_caller]
    pub fn finish(self) {
        self.finished.set(true);
        match self.unload() {
            Ok(()) | Err(6) => {}
            Err(e) => panic!("unload: errno {e}"),
        }
        self.run_until_idle();
        self.assert_no_leaks();
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        let vnets = self.kernel.vnets.read().unwrap().clone();
        let unread: Vec<_> = (vnets.iter())
            .filter_map(|v| v.unread.lock().unwrap().take())
            .collect();
        if std::thread::panicking() {
            // Nobody can free them outside of the kernel.
            std::mem::forget(unread);
            self.machine.explain();
            self.machine.forget_kept();
        } else {
            enter(&self.kernel, Kind::Process, None, || {
                drop(unread);
                self.machine.drop_kept()
            });
        }
    }
}

/// Runs `test` with `n` seeds, or with the one of `HOSTKERN_SEED`, or with as many as
/// `HOSTKERN_SEEDS` says. A panic is reported with its seed.
pub fn for_seeds(n: u64, test: impl Fn(u64)) {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|v: String| v.parse::<u64>().ok())
    };
    if let Some(seed) = number("HOSTKERN_SEED") {
        return test(seed);
    }
    // Miri is some thousand times slower.
    let n = if cfg!(miri) { n.min(2) } else { n };
    for seed in 0..number("HOSTKERN_SEEDS").unwrap_or(n) {
        let r = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(seed)));
        if let Err(e) = r {
            eprintln!("hostkern: failed with seed {seed}; HOSTKERN_SEED={seed} replays it");
            std::panic::resume_unwind(e);
        }
    }
}
