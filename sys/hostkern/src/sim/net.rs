// SPDX-License-Identifier: BSD-2-Clause
//! The virtual network between simulated hosts: links with every fault that a datagram can meet.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::nat::Nat;
use super::rng::Rng;
use super::sched::SimMachine;
use crate::backend::{Backend, Datagram, Errno, Family, TunPort, TunRx, UdpBind, UdpPort, UdpRx};
use crate::mbuf::Packet;

const EADDRINUSE: Errno = 48;
const EADDRNOTAVAIL: Errno = 49;
const ENETUNREACH: Errno = 51;
const EHOSTUNREACH: Errno = 65;

/// How datagrams fare in one direction between two hosts.
#[derive(Clone, Debug)]
pub struct Link {
    /// Time under way.
    pub delay: Duration,
    /// Up to so much more, evenly distributed; datagrams overtake each other.
    pub jitter: Duration,
    /// Probability of loss.
    pub loss: f64,
    /// Probability of a second copy.
    pub duplicate: f64,
    /// Probability of being held back by ten delays.
    pub reorder: f64,
    /// Probability of a flipped bit in the payload that the UDP checksum missed.
    pub corrupt: f64,
    /// Largest IP packet; what is larger is lost.
    pub mtu: usize,
    /// Nothing passes.
    pub cut: bool,
    /// Sending fails at once with EHOSTUNREACH.
    pub unreachable: bool,
    /// Datagrams that are due at one moment arrive in the order in which they were sent. Otherwise
    /// in any order.
    pub fifo: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(5),
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            corrupt: 0.0,
            mtu: 65535,
            cut: false,
            unreachable: false,
            fifo: false,
        }
    }
}

impl Link {
    /// A bad one: everything happens now and then.
    pub fn bad() -> Self {
        Self {
            jitter: Duration::from_millis(10),
            loss: 0.05,
            duplicate: 0.05,
            reorder: 0.05,
            corrupt: 0.02,
            ..Self::default()
        }
    }
}

/// What became of the datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NetStats {
    pub sent: u64,
    pub delivered: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub corrupted: u64,
    pub too_big: u64,
    /// No host with that address, or the NAT knew no mapping.
    pub no_host: u64,
    /// The host had no socket there.
    pub no_port: u64,
}

/// A datagram that a test looks at, see [`super::Sim::on_wire`].
#[derive(Clone, Debug)]
pub struct WireDatagram {
    /// Number of the sending host.
    pub from: u32,
    /// Source, before any NAT.
    pub src: SocketAddr,
    /// Destination as sent.
    pub dst: SocketAddr,
    /// UDP payload.
    pub payload: Vec<u8>,
}

/// Sources and payloads.
type Received = Vec<(SocketAddr, Vec<u8>)>;
/// A datagram on its way: source and destination as the receiver sees them, payload.
type Arrival = (SocketAddr, SocketAddr, Vec<u8>);
type Tap = Box<dyn FnMut(&mut WireDatagram) -> bool + Send>;

#[derive(Default)]
struct Host {
    realm: usize,
    addresses: Vec<IpAddr>,
}

struct Net {
    rng: Rng,
    hosts: Vec<Host>,
    /// `realms[0]` is the internet; the others are behind a NAT.
    realms: Vec<Option<Nat>>,
    links: HashMap<(u32, u32), Link>,
    default: Link,
    /// What is under way on a path that keeps the order.
    queues: HashMap<(u32, u32), VecDeque<Arrival>>,
    ports: HashMap<(u32, Family, u16), UdpRx>,
    stats: NetStats,
    tap: Option<Tap>,
    /// Ports that only collect.
    blind: HashMap<(u32, Family, u16), Received>,
}

/// The network of one simulation.
pub(crate) struct SimNet {
    n: Mutex<Net>,
    machine: Arc<SimMachine>,
    me: Weak<SimNet>,
}

impl SimNet {
    pub fn new(machine: Arc<SimMachine>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            n: Mutex::new(Net {
                rng: Rng::new(machine.seed, 4),
                hosts: Vec::new(),
                realms: vec![None],
                links: HashMap::new(),
                default: Link::default(),
                queues: HashMap::new(),
                ports: HashMap::new(),
                stats: NetStats::default(),
                tap: None,
                blind: HashMap::new(),
            }),
            machine,
            me: me.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Net> {
        self.n.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add_host(&self, id: u32, addresses: &[IpAddr]) {
        let mut n = self.lock();
        if n.hosts.len() <= id as usize {
            n.hosts.resize_with(id as usize + 1, Host::default);
        }
        n.hosts[id as usize].addresses = addresses.to_vec();
    }

    pub fn place(&self, id: u32, realm: usize) {
        self.lock().hosts[id as usize].realm = realm;
    }

    pub fn add_nat(&self, public: &[IpAddr], timeout: Duration, outside: usize) -> usize {
        let mut n = self.lock();
        n.realms
            .push(Some(Nat::new(public, timeout.as_nanos() as u64, outside)));
        n.realms.len() - 1
    }

    pub fn with_nat(&self, realm: usize, f: impl FnOnce(&mut Nat)) {
        if let Some(Some(nat)) = self.lock().realms.get_mut(realm) {
            f(nat);
        }
    }

    pub fn set_link(&self, from: u32, to: u32, link: Link) {
        self.lock().links.insert((from, to), link);
    }

    pub fn set_default_link(&self, link: Link) {
        self.lock().default = link;
    }

    pub fn stats(&self) -> NetStats {
        self.lock().stats
    }

    pub fn set_tap(&self, tap: Option<Tap>) {
        self.lock().tap = tap;
    }

    /// A port of a host that only collects: a peer that the test plays itself.
    pub fn listen(&self, host: u32, family: Family, port: u16) {
        self.lock().blind.insert((host, family, port), Vec::new());
    }

    pub fn take(&self, host: u32, family: Family, port: u16) -> Received {
        let mut n = self.lock();
        n.blind
            .get_mut(&(host, family, port))
            .map(core::mem::take)
            .unwrap_or_default()
    }

    /// Sends a datagram of a host.
    pub fn send(
        &self,
        from: u32,
        port: u16,
        payload: Vec<u8>,
        dst: SocketAddr,
        src: Option<IpAddr>,
    ) -> Result<(), Errno> {
        let family = Family::of(&dst.ip());
        let own = self.lock().hosts[from as usize].addresses.clone();
        let src = match src {
            Some(s) if !s.is_unspecified() => {
                if !own.contains(&s) {
                    return Err(EADDRNOTAVAIL);
                }
                s
            }
            _ => *own
                .iter()
                .find(|a| Family::of(a) == family)
                .ok_or(ENETUNREACH)?,
        };
        self.send_as(from, SocketAddr::new(src, port), payload, dst)
    }

    /// Sends with any source address: what a spoofer can do.
    pub fn send_as(
        &self,
        from: u32,
        src: SocketAddr,
        payload: Vec<u8>,
        dst: SocketAddr,
    ) -> Result<(), Errno> {
        let now = self.machine.uptime_ns();
        let mut d = WireDatagram {
            from,
            src,
            dst,
            payload,
        };
        // The tap may call back into the simulation's network.
        let tap = self.lock().tap.take();
        if let Some(mut tap) = tap {
            let pass = tap(&mut d);
            self.lock().tap.get_or_insert(tap);
            if !pass {
                self.lock().stats.lost += 1;
                return Ok(());
            }
        }
        if self.machine.tracer().dumping() {
            self.dump(now, &d);
        }
        let mut n = self.lock();
        n.stats.sent += 1;
        let Some((to, seen_src, seen_dst)) = n.resolve(now, from, d.src, d.dst) else {
            n.stats.no_host += 1;
            drop(n);
            self.machine
                .add_trace(format!("host {from}: {} -> {}: nobody there", d.src, d.dst));
            return Ok(());
        };
        let link = n.links.get(&(from, to)).unwrap_or(&n.default).clone();
        if link.unreachable {
            return Err(EHOSTUNREACH);
        }
        let header = if d.dst.is_ipv4() { 28 } else { 48 };
        if d.payload.len() + header > link.mtu {
            n.stats.too_big += 1;
            return Ok(());
        }
        if link.cut || n.rng.chance(link.loss) {
            n.stats.lost += 1;
            drop(n);
            self.machine
                .add_trace(format!("host {from}: {} -> {}: lost", d.src, d.dst));
            return Ok(());
        }
        let copies = if n.rng.chance(link.duplicate) {
            n.stats.duplicated += 1;
            2
        } else {
            1
        };
        let mut arrivals = Vec::new();
        for _ in 0..copies {
            let mut delay = link.delay.as_nanos() as u64;
            let jitter = link.jitter.as_nanos() as u64;
            delay += n.rng.below(jitter + 1);
            if n.rng.chance(link.reorder) {
                delay += 10 * link.delay.as_nanos() as u64;
            }
            let mut payload = d.payload.clone();
            if n.rng.chance(link.corrupt) && !payload.is_empty() {
                let bit = n.rng.below(payload.len() as u64 * 8) as usize;
                payload[bit / 8] ^= 1 << (bit % 8);
                n.stats.corrupted += 1;
            }
            arrivals.push((delay, payload));
        }
        drop(n);
        for (delay, payload) in arrivals {
            let net = self.me.clone();
            let fifo = link.fifo.then_some((from, to));
            let (src, dst) = (seen_src, seen_dst);
            let mut datagram = Some((src, dst, payload));
            if let Some(path) = fifo {
                let mut n = self.lock();
                n.queues.entry(path).or_default().extend(datagram.take());
            }
            self.machine.at(
                delay,
                true,
                Box::new(move |_k| {
                    let Some(net) = net.upgrade() else { return };
                    let first = |path| net.lock().queues.get_mut(&path)?.pop_front();
                    if let Some((src, dst, payload)) = datagram.or_else(|| first(fifo?)) {
                        net.arrive(to, src, dst, &payload);
                    }
                }),
            );
        }
        Ok(())
    }

    fn arrive(&self, to: u32, src: SocketAddr, dst: SocketAddr, payload: &[u8]) {
        let mut n = self.lock();
        if !n.hosts[to as usize].addresses.contains(&dst.ip()) {
            n.stats.no_host += 1;
            return;
        }
        let key = (to, Family::of(&dst.ip()), dst.port());
        if let Some(v) = n.blind.get_mut(&key) {
            v.push((src, payload.to_vec()));
            n.stats.delivered += 1;
            return;
        }
        let Some(rx) = n.ports.get(&key).cloned() else {
            n.stats.no_port += 1;
            return;
        };
        n.stats.delivered += 1;
        drop(n);
        self.machine.add_trace(format!(
            "host {to}: {src} -> {dst}: {} bytes arrive",
            payload.len()
        ));
        rx.deliver([Datagram { src, dst, payload }]);
    }

    fn dump(&self, now: u64, d: &WireDatagram) {
        // Only whole packets are of use in a dump; headers need a packet, which needs a frame.
        if crate::thread::try_kernel().is_some()
            && let Some(mut p) = Packet::from_slice(&d.payload)
            && p.push_udp(d.src, d.dst, 64)
        {
            let bytes = p.to_vec();
            self.machine.tracer().packet(now, &bytes);
        }
    }
}

impl Net {
    /// Who gets a datagram, and with which addresses, after all NATs.
    fn resolve(
        &mut self,
        now: u64,
        from: u32,
        mut src: SocketAddr,
        mut dst: SocketAddr,
    ) -> Option<(u32, SocketAddr, SocketAddr)> {
        let mut realm = self.hosts[from as usize].realm;
        for _hop in 0..8 {
            if let Some(to) = self
                .hosts
                .iter()
                .position(|h| h.realm == realm && h.addresses.contains(&dst.ip()))
            {
                return Some((to as u32, src, dst));
            }
            // Into a box that hangs on this realm?
            let inner = self.realms.iter_mut().enumerate().find_map(|(i, r)| {
                r.as_mut()
                    .filter(|nat| nat.outside == realm && nat.has(&dst.ip()))
                    .map(|n| (i, n))
            });
            if let Some((i, nat)) = inner {
                dst = nat.inward(now, src, dst)?;
                realm = i;
                continue;
            }
            // Out of the box around this realm.
            let nat = self.realms[realm].as_mut()?;
            src = nat.outward(now, src, dst)?;
            realm = nat.outside;
        }
        None
    }
}

struct SimPort {
    net: Weak<SimNet>,
    host: u32,
    family: Family,
    local: SocketAddr,
}

impl Backend for SimNet {
    fn udp_bind(&self, bind: &UdpBind, rx: UdpRx) -> Result<Arc<dyn UdpPort>, Errno> {
        let family = Family::of(&bind.addr.ip());
        let mut n = self.lock();
        let host = bind.vnet;
        let ip = bind.addr.ip();
        if !ip.is_unspecified() && !n.hosts[host as usize].addresses.contains(&ip) {
            return Err(EADDRNOTAVAIL);
        }
        let port = match bind.addr.port() {
            0 => loop {
                let p = 49152 + n.rng.below(16384) as u16;
                if !n.ports.contains_key(&(host, family, p)) {
                    break p;
                }
            },
            p if n.ports.contains_key(&(host, family, p)) => return Err(EADDRINUSE),
            p if n.blind.contains_key(&(host, family, p)) => return Err(EADDRINUSE),
            p => p,
        };
        n.ports.insert((host, family, port), rx);
        let local = SocketAddr::new(ip, port);
        Ok(Arc::new(SimPort {
            net: self.me.clone(),
            host,
            family,
            local,
        }))
    }

    fn if_attach(&self, _: &str, _: u32, _: TunRx) -> Result<Option<Arc<dyn TunPort>>, Errno> {
        Ok(None)
    }
}

impl UdpPort for SimPort {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn send(
        &self,
        payload: Packet,
        dst: &SocketAddr,
        src: Option<SocketAddr>,
    ) -> Result<(), Errno> {
        let bytes = payload.to_vec();
        drop(payload);
        let Some(net) = self.net.upgrade() else {
            return Err(ENETUNREACH);
        };
        net.send(
            self.host,
            self.local.port(),
            bytes,
            *dst,
            src.map(|src| src.ip()),
        )
    }

    fn close(&self) {
        if let Some(net) = self.net.upgrade() {
            let rx = net
                .lock()
                .ports
                .remove(&(self.host, self.family, self.local.port()));
            drop(rx);
        }
    }
}
