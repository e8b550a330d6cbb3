// SPDX-License-Identifier: BSD-2-Clause
//! What the scenarios share: hosts with a WireGuard interface each, in a simulated world.
//!
//! The driver is linked in as the kernel module has it, and everything goes through what the kernel offers: the cloner,
//! the ioctls, packets in and out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hostkern::sim::{Host, Sim};
use hostkern::{Errno, Ifnet};
use nv::wgconf::{AllowedIp, GetReply, SetInterface, SetPeer, set_size, set_write};
use wg::wg_noise::Identity;

mod ghost;
mod request;
mod wire;

pub use ghost::{Ghost, TestRng};
pub use request::{Body, accepted, pack, refused};
pub use wire::{Msg, Sent, Wire, kind};

kpi::declare_module!(if_wg::Softc);

/// Numbers of FreeBSD's errors.
pub mod errno {
    #![expect(missing_docs, reason = "the names say it")]
    use hostkern::Errno;

    pub const EPERM: Errno = 1;
    pub const ENOENT: Errno = 2;
    pub const EIO: Errno = 5;
    pub const ENXIO: Errno = 6;
    pub const E2BIG: Errno = 7;
    pub const ENOMEM: Errno = 12;
    pub const EFAULT: Errno = 14;
    pub const EBUSY: Errno = 16;
    pub const EEXIST: Errno = 17;
    pub const EINVAL: Errno = 22;
    pub const ENOTTY: Errno = 25;
    pub const ENOSPC: Errno = 28;
    pub const EOPNOTSUPP: Errno = 45;
    pub const EAFNOSUPPORT: Errno = 47;
    pub const EADDRINUSE: Errno = 48;
    pub const ENETDOWN: Errno = 50;
    pub const ENETUNREACH: Errno = 51;
    pub const ENOBUFS: Errno = 55;
    pub const ELOOP: Errno = 62;
    pub const EHOSTUNREACH: Errno = 65;
    pub const EBADMSG: Errno = 89;
    pub const ENOTRECOVERABLE: Errno = 95;
}

/// SIOCSWG.
pub const SIOCSWG: u64 = 0xc020_69d2;
/// SIOCGWG.
pub const SIOCGWG: u64 = 0xc020_69d3;
/// SIOCSTUNFIB.
pub const SIOCSTUNFIB: u64 = 0x8020_695f;
/// Where everybody listens.
pub const PORT: u16 = 51820;

/// Numbers of an interface's counters, `IFCOUNTER_*`.
pub mod counter {
    #![expect(missing_docs, reason = "the names say it")]
    pub const IPACKETS: usize = 0;
    pub const IERRORS: usize = 1;
    pub const OPACKETS: usize = 2;
    pub const OERRORS: usize = 3;
    pub const IBYTES: usize = 5;
    pub const OBYTES: usize = 6;
    pub const OQDROPS: usize = 10;
}

/// Seconds.
#[must_use]
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Milliseconds.
#[must_use]
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The private key of node `n`, the same in every run.
#[must_use]
pub fn private_key(n: u8) -> [u8; 32] {
    let mut key = [n.wrapping_mul(37).wrapping_add(11); 32];
    key[0] = n;
    key
}

/// The public key of node `n`.
#[must_use]
pub fn public_key(n: u8) -> [u8; 32] {
    *Identity::new(&private_key(n)).public()
}

/// The driver: that which is linked in, or the file for a kernel that `$IF_WG_KO` names.
///
/// # Panics
/// That file cannot be loaded.
#[must_use]
pub fn module() -> hostkern::ModuleOps {
    match std::env::var_os("IF_WG_KO") {
        Some(file) => kmod_loader::module_ops(file.as_ref()).expect("the module can be loaded"),
        None => hostkern::linked_module!(),
    }
}

/// A world with the driver's module loaded. `$WG_CRYPTO` names the backend of the packet cipher.
#[must_use]
pub fn world(seed: u64) -> Sim {
    let sim = Sim::new(seed);
    if let Ok(backend) = std::env::var("WG_CRYPTO") {
        sim.kernel().set_tunable("net.wg.crypto", &backend);
    }
    sim.load(module()).expect("the module loads");
    sim
}

/// What a peer is configured with.
#[derive(Clone, Default)]
pub struct PeerConf {
    /// Public key.
    pub key: [u8; 32],
    /// Removes the peer.
    pub remove: bool,
    /// Only if it exists.
    pub update_only: bool,
    /// Clears its allowed IPs first.
    pub replace_allowed_ips: bool,
    /// Endpoint, as text.
    pub endpoint: Option<SocketAddr>,
    /// Preshared key.
    pub psk: Option<[u8; 32]>,
    /// Persistent keepalive in seconds.
    pub keepalive: Option<u16>,
    /// Prefixes such as `10.0.0.0/8`; with a `-` in front they are removed.
    pub allowed: Vec<String>,
}

impl PeerConf {
    /// The peer that is node `n`, with these prefixes.
    #[must_use]
    pub fn node(n: u8, allowed: &[&str]) -> Self {
        let allowed = allowed.iter().map(ToString::to_string).collect();
        Self {
            key: public_key(n),
            allowed,
            ..Self::default()
        }
    }

    /// The same at an endpoint.
    #[must_use]
    pub fn at(self, endpoint: &str) -> Self {
        Self {
            endpoint: Some(endpoint.parse().expect("an endpoint")),
            ..self
        }
    }
}

/// What an interface is configured with.
#[derive(Clone, Default)]
pub struct Conf {
    /// Removes all peers first.
    pub replace_peers: bool,
    /// Port to listen on.
    pub port: Option<u16>,
    /// Private key; zeros remove it.
    pub key: Option<[u8; 32]>,
    /// SO_USER_COOKIE.
    pub cookie: Option<u32>,
    /// Peers.
    pub peers: Vec<PeerConf>,
}

/// `10.0.0.0/8`, or `-10.0.0.0/8` for removal.
fn prefix(text: &str) -> AllowedIp {
    let (remove, text) = text
        .strip_prefix('-')
        .map_or((false, text), |rest| (true, rest));
    let (addr, cidr) = text.split_once('/').expect("a prefix");
    AllowedIp {
        addr: addr.parse().expect("an address"),
        cidr: cidr.parse().expect("a length"),
        remove,
    }
}

/// The packed nvlist of a configuration.
#[must_use]
pub fn packed(conf: &Conf) -> Vec<u8> {
    let body = &mut |w: &mut nv::wgconf::SetWriter<'_, '_>| {
        w.interface(&SetInterface {
            replace_peers: conf.replace_peers,
            listen_port: conf.port,
            private_key: conf.key.as_ref(),
            user_cookie: conf.cookie,
        })?;
        w.peers(conf.peers.len())?;
        for p in &conf.peers {
            let entry = SetPeer {
                public_key: &p.key,
                remove: p.remove,
                update_only: p.update_only,
                replace_allowed_ips: p.replace_allowed_ips,
                endpoint: p.endpoint,
                preshared_key: p.psk.as_ref(),
                keepalive: p.keepalive,
            };
            w.begin_peer(&entry, p.allowed.len())?;
            for a in &p.allowed {
                w.allowed_ip(&prefix(a))?;
            }
            w.end_peer()?;
        }
        Ok(())
    };
    let size = set_size(body).expect("a configuration");
    let mut bytes = vec![0; size];
    set_write(&mut nv::SliceSink::new(&mut bytes), size, body).expect("a configuration");
    bytes
}

/// An interface's answer to SIOCGWG, in a form that tests can compare and print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Listening port.
    pub port: u16,
    /// SO_USER_COOKIE.
    pub cookie: u32,
    /// Public key.
    pub public: Option<[u8; 32]>,
    /// Peers, oldest first.
    pub peers: Vec<PeerState>,
}

impl State {
    /// Reads an answer.
    ///
    /// # Panics
    /// When it is not well-formed.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let reply = GetReply::parse(bytes).expect("a well-formed reply");
        let peers = reply
            .peers()
            .map(|p| PeerState {
                key: *p.peer.public_key,
                psk: p.peer.preshared_key.is_some_and(|k| *k != [0; 32]),
                endpoint: p.peer.endpoint,
                keepalive: p.peer.keepalive,
                handshake: u128::from(p.peer.last_handshake.0) * 1_000_000_000
                    + u128::from(p.peer.last_handshake.1),
                rx: p.peer.rx_bytes,
                tx: p.peer.tx_bytes,
                allowed: p.allowed_ips().map(|a| (a.addr, a.cidr)).collect(),
            })
            .collect();
        State {
            port: reply.listen_port,
            cookie: reply.user_cookie,
            public: reply.public_key.copied(),
            peers,
        }
    }
}

/// A peer's part of [`State`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Public key.
    pub key: [u8; 32],
    /// Whether there is a preshared key.
    pub psk: bool,
    /// Where it is.
    pub endpoint: Option<SocketAddr>,
    /// Persistent keepalive in seconds.
    pub keepalive: u16,
    /// Wall clock of the last handshake, nanoseconds; 0 is never.
    pub handshake: u128,
    /// Bytes received.
    pub rx: u64,
    /// Bytes sent.
    pub tx: u64,
    /// Prefixes, as they come.
    pub allowed: Vec<(IpAddr, u8)>,
}

/// A host with one interface.
pub struct Node {
    /// Where it is.
    pub host: Host,
    /// Name of its interface.
    pub ifname: String,
    /// Its number, for keys.
    pub n: u8,
}

impl Node {
    /// Creates an interface on `host` with the key of node `n`, listening on [`PORT`], and brings it up.
    #[must_use]
    pub fn new(sim: &Sim, host: Host, n: u8) -> Self {
        let ifname = sim.create(&host, "wg").expect("wg create");
        let node = Self { host, ifname, n };
        node.set(
            sim,
            &Conf {
                key: Some(private_key(n)),
                port: Some(PORT),
                ..Conf::default()
            },
        )
        .expect("the first configuration");
        sim.set_up(&node.host, &node.ifname, true).expect("up");
        node
    }

    /// Creates an interface without configuration, down.
    #[must_use]
    pub fn bare(sim: &Sim, host: Host, n: u8) -> Self {
        let ifname = sim.create(&host, "wg").expect("wg create");
        Self { host, ifname, n }
    }

    /// `ifconfig up` or `down`.
    pub fn up(&self, sim: &Sim, up: bool) {
        sim.set_up(&self.host, &self.ifname, up)
            .expect("up or down");
    }

    /// The interface, for its counters.
    #[must_use]
    pub fn ifnet(&self, sim: &Sim) -> Arc<Ifnet> {
        sim.interface(&self.host, &self.ifname)
    }

    /// SIOCSWG.
    ///
    /// # Errors
    /// What the driver says.
    pub fn set(&self, sim: &Sim, conf: &Conf) -> Result<(), Errno> {
        self.set_raw(sim, &mut packed(conf))
    }

    /// SIOCSWG with any bytes.
    ///
    /// # Errors
    /// What the driver says.
    pub fn set_raw(&self, sim: &Sim, bytes: &mut [u8]) -> Result<(), Errno> {
        sim.ioctl_data(&self.host, &self.ifname, SIOCSWG, bytes)
            .map(drop)
    }

    /// Adds or changes one peer.
    pub fn peer(&self, sim: &Sim, peer: PeerConf) {
        self.set(
            sim,
            &Conf {
                peers: vec![peer],
                ..Conf::default()
            },
        )
        .expect("a peer");
    }

    /// SIOCGWG, as bytes.
    #[must_use]
    pub fn get_raw(&self, sim: &Sim) -> Vec<u8> {
        self.try_get_raw(sim).expect("the state")
    }

    /// SIOCGWG, as bytes.
    ///
    /// # Errors
    /// What the driver says.
    pub fn try_get_raw(&self, sim: &Sim) -> Result<Vec<u8>, Errno> {
        let size = sim.ioctl_data(&self.host, &self.ifname, SIOCGWG, &mut [])?;
        let mut bytes = vec![0; size];
        let got = sim.ioctl_data(&self.host, &self.ifname, SIOCGWG, &mut bytes)?;
        assert_eq!(got, size);
        Ok(bytes)
    }

    /// What the driver knows of node `n`.
    ///
    /// # Panics
    /// When it is no peer.
    #[must_use]
    pub fn about(&self, sim: &Sim, n: u8) -> PeerState {
        let key = public_key(n);
        self.state(sim)
            .peers
            .into_iter()
            .find(|p| p.key == key)
            .expect("a peer of that key")
    }

    /// SIOCGWG.
    #[must_use]
    pub fn state(&self, sim: &Sim) -> State {
        State::parse(&self.get_raw(sim))
    }

    /// Sends an IP packet into the tunnel.
    ///
    /// # Errors
    /// What the driver says.
    pub fn send(&self, sim: &Sim, packet: &[u8]) -> Result<(), Errno> {
        sim.output(&self.host, &self.ifname, packet)
    }

    /// Packets that came out of the tunnel since the last call.
    #[must_use]
    pub fn received(&self, sim: &Sim) -> Vec<Vec<u8>> {
        sim.delivered(&self.host, &self.ifname)
            .into_iter()
            .map(|d| d.packet)
            .collect()
    }
}

/// An IPv4 or IPv6 packet with a payload of `len` bytes that begin with `tag`.
#[must_use]
pub fn packet(src: &str, dst: &str, tag: u64, len: usize) -> Vec<u8> {
    let mut payload: Vec<u8> = tag.to_be_bytes().to_vec();
    payload.resize(len, tag as u8);
    match (
        src.parse().expect("an address"),
        dst.parse().expect("an address"),
    ) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let total = (20 + len) as u16;
            let mut p = vec![0x45, 0];
            p.extend(total.to_be_bytes());
            p.extend([0, 0, 0, 0, 64, 253, 0, 0]);
            p.extend(src.octets());
            p.extend(dst.octets());
            p.extend(payload);
            p
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut p = vec![0x60, 0, 0, 0];
            p.extend((len as u16).to_be_bytes());
            p.extend([253, 64]);
            p.extend(src.octets());
            p.extend(dst.octets());
            p.extend(payload);
            p
        }
        _ => panic!("addresses of two families"),
    }
}

/// Two hosts on the internet, 192.0.2.1 and 192.0.2.2 (and 2001:db8::1 and ::2), whose interfaces know each other as
/// 10.0.0.1 and 10.0.0.2 (and fd00::1 and ::2).
#[must_use]
pub fn pair(sim: &Sim) -> (Node, Node) {
    let a = Node::new(sim, sim.host("a", &["192.0.2.1", "2001:db8::1"]), 1);
    let b = Node::new(sim, sim.host("b", &["192.0.2.2", "2001:db8::2"]), 2);
    a.peer(
        sim,
        PeerConf::node(2, &["10.0.0.2/32", "fd00::2/128"]).at("192.0.2.2:51820"),
    );
    b.peer(
        sim,
        PeerConf::node(1, &["10.0.0.1/32", "fd00::1/128"]).at("192.0.2.1:51820"),
    );
    (a, b)
}

/// Sends a packet each way and asserts that both arrive as they were sent.
pub fn assert_ping(sim: &Sim, a: &Node, b: &Node) {
    for (from, to, p) in [
        (a, b, packet("10.0.0.1", "10.0.0.2", 1, 100)),
        (b, a, packet("10.0.0.2", "10.0.0.1", 2, 100)),
        (a, b, packet("fd00::1", "fd00::2", 3, 101)),
        (b, a, packet("fd00::2", "fd00::1", 4, 101)),
    ] {
        let _ = to.received(sim);
        from.send(sim, &p).expect("output");
        let mut got = Vec::new();
        sim.run_until(secs(20), || {
            got.extend(to.received(sim));
            !got.is_empty()
        });
        assert_eq!(got, [p], "what arrives is what was sent");
    }
}

/// Packets that the driver dropped for this reason since it was loaded, as sysctl(8) tells: `replayed` is
/// `net.wg.drop_replayed`.
#[must_use]
pub fn drops(sim: &Sim, reason: &str) -> u64 {
    sim.kernel()
        .sysctl_number(&format!("net.wg.drop_{reason}"))
        .expect("a counter")
}

/// Handshakes that completed since the driver was loaded.
#[must_use]
pub fn handshakes(sim: &Sim) -> u64 {
    sim.kernel()
        .sysctl_number("net.wg.handshakes")
        .expect("a counter")
}

/// Destroys the interfaces, unloads the module and checks that nothing is left.
pub fn finish(sim: Sim, nodes: &[&Node]) {
    for node in nodes {
        sim.destroy(&node.host, &node.ifname).expect("destroy");
    }
    sim.finish();
}

/// Sends a packet of this tag from `a` (10.0.0.1) to `b` (10.0.0.2) and says what arrives within `limit`.
pub fn try_send(sim: &Sim, from: &Node, to: &Node, tag: u64, limit: Duration) -> bool {
    let address = |n: &Node| format!("10.0.0.{}", n.n);
    let p = packet(&address(from), &address(to), tag, 64);
    from.send(sim, &p).is_ok() && sim.run_until(limit, || to.received(sim).contains(&p))
}

/// Asserts that packets pass both ways, whatever state the tunnel is in and however bad the network: tries for three
/// minutes.
pub fn assert_works(sim: &Sim, a: &Node, b: &Node) {
    for (from, to) in [(a, b), (b, a)] {
        let tries = (0..36).any(|i| try_send(sim, from, to, 0xffff_0000 + i, secs(5)));
        assert!(
            tries,
            "the tunnel does not come to work: {:?} {:?}",
            a.state(sim),
            b.state(sim)
        );
    }
}
