// SPDX-License-Identifier: BSD-2-Clause
//! Administration in any order, in a world in which anything may be missing; then everything is made right, in any
//! order, and traffic has to flow by itself.
//!
//! `HOSTKERN_SEEDS` is the number of runs, `HOSTKERN_SEED` replays one.

use std::net::SocketAddr;
use std::time::Duration;

use hostkern::Config;
use hostkern::sim::{Host, Link, Rng, Sim, for_seeds};
use wgsim_tests::{
    Conf, Node, PORT, PeerConf, PeerState, State, finish, millis, packet, private_key, public_key,
    secs,
};

/// Runs unless the environment says otherwise.
const SEEDS: u64 = 4000;
/// Within so many seconds after all is right, traffic flows.
const LIMIT: u64 = 30;
/// The same if the last thing that was put right is one that the driver is told of: a handshake may have been answered
/// just before, and then has its time.
const TOLD_LIMIT: u64 = 6;
/// Wall clock of the simulation at boot.
const BOOT: u64 = 1_700_000_000;
/// A session ends at this age at the latest, in seconds.
const SESSION_ENDS: u64 = 180;
/// Names of the keys of the two ends, and of somebody else.
const KEYS: [u8; 3] = [1, 2, 3];

/// One of the two ends.
struct End {
    node: Node,
    /// Whether it is to know where the other one is.
    knows: bool,
    /// The persistent keepalive that it is to have.
    keepalive: u16,
    /// The interface is there.
    exists: bool,
}

impl End {
    fn other(&self) -> u8 {
        3 - self.node.n
    }

    fn addresses(&self) -> [String; 3] {
        let n = self.node.n;
        [
            format!("192.0.2.{n}"),
            format!("192.0.2.1{n}"),
            format!("2001:db8::{n}"),
        ]
    }
}

/// Something that is wrong, perhaps, and is to be made right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Memory,
    /// The path from this end.
    Path(usize),
    Addresses(usize),
    Up(usize),
    Key(usize),
    Peer(usize),
    Endpoint(usize),
    Psk(usize),
    Keepalive(usize),
}

struct World {
    sim: Sim,
    rng: Rng,
    ends: [End; 2],
    keys: [[u8; 32]; 3],
    psk: [u8; 32],
    /// One of so many allocations fails; 0: none.
    failing: u32,
    tag: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 900);
        let sim = Sim::with(
            seed,
            &Config {
                ncpu: 1 + rng.below(3) as usize,
                log: false,
            },
        );
        // Small queues: they are made anew so often.
        sim.kernel().set_tunable("net.wg.max_packets", "64");
        sim.kernel().set_tunable("net.wg.max_handshakes", "64");
        sim.load(wgsim_tests::module()).expect("the module loads");
        sim.preempt_one_in([0, 4, 16][rng.below(3) as usize]);
        let knows = rng.below(3);
        let keepalive = [(0, 0), (1, 0), (0, 1), (1, 1)][rng.below(4) as usize];
        let mut end = |n: u8, knows, keepalive: u16| {
            let host = sim.host(&format!("host {n}"), &[]);
            let node = Node::bare(&sim, host, n);
            End {
                node,
                knows,
                keepalive: keepalive * (1 + rng.below(25) as u16),
                exists: true,
            }
        };
        let ends = [
            end(1, knows != 1, keepalive.0),
            end(2, knows != 2, keepalive.1),
        ];
        let psk = [rng.below(2) as u8; 32];
        Self {
            sim,
            rng,
            ends,
            keys: KEYS.map(public_key),
            psk,
            failing: 0,
            tag: 0,
        }
    }

    fn key(&self, n: u8) -> [u8; 32] {
        self.keys[usize::from(n) - 1]
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.rng.below(n) == 0
    }

    /// Lets time pass: none, a moment, some seconds, rarely minutes.
    fn pause(&mut self) {
        let longest =
            [0, 0, 20, 20, 300, 3_000, 3_000, 20_000, 100_000][self.rng.below(9) as usize];
        let d = millis(self.rng.below(longest + 1));
        self.sim.run_for(d);
    }

    fn fail(&mut self, one_in: u32) {
        self.failing = one_in;
        self.sim.fail_every(one_in);
    }

    /// Does what an administrator does again when memory ran out.
    fn insist(&mut self, mut f: impl FnMut(&mut Self) -> bool) {
        if !f(self) {
            self.sim.fail_every(0);
            assert!(f(self), "with memory it is possible");
            self.sim.fail_every(self.failing);
        }
    }

    fn path(&self, from: usize, link: Link) {
        let (from, to) = (&self.ends[from].node.host, &self.ends[1 - from].node.host);
        self.sim.link_one_way(from, to, link);
    }

    fn move_to(&mut self, at: usize, which: impl Fn(usize) -> bool) {
        let all = self.ends[at].addresses();
        let some: Vec<&str> = all
            .iter()
            .enumerate()
            .filter(|(i, _)| which(*i))
            .map(|(_, a)| a.as_str())
            .collect();
        self.sim.move_host(&self.ends[at].node.host, &some);
    }

    fn create(&mut self, at: usize) -> bool {
        let host: Host = self.ends[at].node.host.clone();
        let made = self.sim.create(&host, "wg");
        if let Ok(name) = made {
            self.ends[at].node.ifname = name;
            self.ends[at].exists = true;
        }
        self.ends[at].exists
    }

    fn set(&self, at: usize, conf: &Conf) -> bool {
        self.ends[at].node.set(&self.sim, conf).is_ok()
    }

    fn up(&self, at: usize, up: bool) -> bool {
        self.ends[at].node.up(&self.sim, up);
        self.ends[at].node.ifnet(&self.sim).is_running() == up
    }

    /// Sends a packet into the tunnel.
    fn send(&mut self, from: usize) -> Option<Vec<u8>> {
        self.tag += 1;
        let address = |n: u8| format!("10.0.0.{n}");
        self.sim.note(&format!("send {} from {from}", self.tag));
        let end = &self.ends[from];
        let p = packet(&address(end.node.n), &address(end.other()), self.tag, 64);
        end.node.send(&self.sim, &p).is_ok().then_some(p)
    }

    /// An endpoint of the end `of`.
    fn endpoint(&mut self, of: usize) -> SocketAddr {
        let address = &self.ends[of].addresses()[self.rng.below(3) as usize];
        SocketAddr::new(address.parse().expect("an address"), PORT)
    }

    /// Does anything.
    fn meddle(&mut self) {
        let at = self.rng.below(2) as usize;
        self.sim.note(&format!("meddle with {at}"));
        match self.rng.below(20) {
            0 => {
                let one_in = [0, 0, 1, 2, 5, 20][self.rng.below(6) as usize];
                self.fail(one_in);
            }
            1 | 2 => {
                let bits = self.rng.below(8);
                self.move_to(at, |i| bits >> i & 1 != 0);
            }
            3 | 4 => {
                let link = match self.rng.below(4) {
                    0 => Link {
                        unreachable: true,
                        ..Link::default()
                    },
                    1 => Link {
                        cut: true,
                        ..Link::default()
                    },
                    2 => Link::bad(),
                    _ => Link::default(),
                };
                self.path(at, link);
            }
            5 if !self.ends[at].exists => {
                self.create(at);
            }
            _ if !self.ends[at].exists => {}
            5 => {
                let node = &self.ends[at].node;
                self.sim.destroy(&node.host, &node.ifname).expect("destroy");
                self.ends[at].exists = false;
            }
            6..9 => {
                let up = self.rng.below(3) != 0;
                self.up(at, up);
            }
            9..14 => {
                for _ in 0..1 + self.rng.below(3) {
                    self.send(at);
                }
            }
            _ => {
                let conf = self.some_conf(at);
                self.set(at, &conf);
            }
        }
    }

    /// Any configuration, right or wrong, in part or whole.
    fn some_conf(&mut self, at: usize) -> Conf {
        let mut conf = Conf {
            replace_peers: self.one_in(10),
            ..Conf::default()
        };
        if self.one_in(3) {
            let n = self.rng.below(8) as u8;
            let own = self.ends[at].node.n;
            conf.key = Some(match n {
                0 => [0; 32],
                1 => private_key(3),
                _ => private_key(own),
            });
        }
        if self.one_in(4) {
            conf.port = Some([0, PORT, PORT, PORT + 1][self.rng.below(4) as usize]);
        }
        for _ in 0..self.rng.below(3) {
            let n = if self.one_in(6) {
                3
            } else {
                self.ends[at].other()
            };
            let mut peer = PeerConf {
                key: self.key(n),
                remove: self.one_in(8),
                update_only: self.one_in(8),
                replace_allowed_ips: self.one_in(4),
                ..PeerConf::default()
            };
            if !self.one_in(3) {
                peer.allowed
                    .push(format!("10.0.0.{}/32", self.ends[at].other()));
            }
            if self.one_in(2) {
                peer.endpoint = Some(if self.one_in(4) {
                    "192.0.2.99:51820".parse().expect("an endpoint")
                } else {
                    self.endpoint(1 - at)
                });
            }
            if self.one_in(4) {
                let wrong = self.one_in(3);
                peer.psk = Some(if wrong { [9; 32] } else { self.psk });
            }
            if self.one_in(2) {
                let right = self.ends[at].keepalive;
                peer.keepalive = Some([0, 7, right, right][self.rng.below(4) as usize]);
            }
            conf.peers.push(peer);
        }
        conf
    }

    /// Adds the right value to a configuration; false if the step is of another sort.
    fn add(&mut self, step: Step, conf: &mut Conf) -> bool {
        let peer = |conf: &mut Conf, key| {
            if conf.peers.is_empty() {
                conf.peers.push(PeerConf {
                    key,
                    ..PeerConf::default()
                });
            }
        };
        let (Step::Key(at)
        | Step::Peer(at)
        | Step::Endpoint(at)
        | Step::Psk(at)
        | Step::Keepalive(at)) = step
        else {
            return false;
        };
        let other = self.ends[at].other();
        if !matches!(step, Step::Key(_)) {
            peer(conf, self.key(other));
        }
        match step {
            Step::Key(_) => conf.key = Some(private_key(self.ends[at].node.n)),
            Step::Peer(_) => {
                conf.peers[0].replace_allowed_ips = true;
                conf.peers[0].allowed = vec![format!("10.0.0.{other}/32")];
            }
            Step::Endpoint(_) => conf.peers[0].endpoint = Some(self.endpoint(1 - at)),
            Step::Psk(_) => conf.peers[0].psk = Some(self.psk),
            _ => conf.peers[0].keepalive = Some(self.ends[at].keepalive),
        }
        true
    }

    fn put_right(&mut self, step: Step) {
        self.sim.note(&format!("put right: {step:?}"));
        let mut conf = Conf::default();
        match step {
            Step::Memory => self.fail(0),
            Step::Path(from) => self.path(from, Link::default()),
            Step::Addresses(at) => self.move_to(at, |_| true),
            Step::Up(at) => self.insist(|w| w.up(at, true)),
            Step::Key(at)
            | Step::Peer(at)
            | Step::Endpoint(at)
            | Step::Psk(at)
            | Step::Keepalive(at) => {
                self.add(step, &mut conf);
                self.insist(|w| w.set(at, &conf));
            }
        }
    }

    /// What has to come before all else: the interfaces, and their ports. A packet that is under way from an old port
    /// makes the other end believe that it is the present one, which only this end's next packet can put right. And
    /// nobody talks to the third key any more, so that what is wanted is wanted of the other end.
    fn prepare(&mut self) {
        for at in 0..2 {
            if !self.ends[at].exists {
                self.insist(|w| w.create(at));
            }
            let forget = !self.ends[at].knows || self.one_in(4);
            let gone = |key| PeerConf {
                key,
                remove: true,
                ..PeerConf::default()
            };
            let mut conf = Conf {
                port: Some(PORT),
                peers: vec![gone(self.key(3))],
                ..Conf::default()
            };
            if forget {
                conf.peers.push(gone(self.key(self.ends[at].other())));
            }
            self.insist(|w| w.set(at, &conf));
        }
        self.sim.run_for(millis(200));
    }

    /// All that has to be right, in any order.
    fn steps(&mut self) -> Vec<Step> {
        let mut steps = vec![Step::Memory];
        for at in 0..2 {
            steps.extend([
                Step::Path(at),
                Step::Addresses(at),
                Step::Up(at),
                Step::Key(at),
                Step::Peer(at),
                Step::Psk(at),
                Step::Keepalive(at),
            ]);
            if self.ends[at].knows {
                steps.push(Step::Endpoint(at));
            }
        }
        for i in (1..steps.len()).rev() {
            let j = self.rng.below(i as u64 + 1) as usize;
            steps.swap(i, j);
        }
        steps
    }

    /// The state of this end. To ask for it needs memory.
    fn state(&mut self, at: usize) -> State {
        self.sim.fail_every(0);
        let state = self.ends[at].node.state(&self.sim);
        self.sim.fail_every(self.failing);
        state
    }

    /// What this end knows of the other, if it knows it at all.
    fn about(&mut self, at: usize) -> Option<PeerState> {
        let key = self.key(self.ends[at].other());
        self.state(at).peers.into_iter().find(|p| p.key == key)
    }

    /// What the driver is told of this end.
    fn told(&mut self, at: usize) -> (bool, Option<[u8; 32]>, Option<(SocketAddr, u16)>) {
        let state = self.state(at);
        let running = self.ends[at].node.ifnet(&self.sim).is_running();
        let peer = self.about(at).filter(|p| p.handshake == 0);
        let peer = peer.and_then(|p| Some((p.endpoint?, p.keepalive)));
        (running, state.public, peer)
    }

    /// Bytes that have come from the other end.
    fn rx(&mut self, at: usize) -> u64 {
        self.about(at).map_or(0, |p| p.rx)
    }

    /// Whether packets pass both ways now.
    fn passes(&mut self) -> bool {
        [0, 1].into_iter().all(|from| {
            let Some(p) = self.send(from) else {
                return false;
            };
            let to = &self.ends[1 - from].node;
            let mut got = Vec::new();
            self.sim.run_until(secs(1), || {
                got.extend(to.received(&self.sim));
                got.contains(&p)
            })
        })
    }
}

fn any_order(seed: u64) {
    let mut w = World::new(seed);
    for at in 0..2 {
        w.move_to(at, |_| true);
    }
    for _ in 0..w.rng.below(40) {
        w.meddle();
        w.pause();
    }
    w.prepare();
    let mut steps = w.steps();
    let last = steps.pop().expect("steps");
    for step in steps {
        w.put_right(step);
        if w.one_in(3) {
            let at = w.rng.below(2) as usize;
            w.send(at);
        }
        w.pause();
    }
    // Whoever knows the other end has to do it.
    let x = if w.ends[0].knows && (!w.ends[1].knows || w.one_in(2)) {
        0
    } else {
        1
    };
    // With one thing still wrong somebody wants to send; or after it was put right; or only the keepalive does.
    let wishes = w.ends[x].keepalive == 0 || w.one_in(2);
    let (mut before, heard) = (w.rx(1 - x), w.rx(x));
    let early = wishes && w.one_in(2) && last != Step::Peer(x) && w.send(x).is_some();
    if early {
        let d = millis(w.rng.below(60_000));
        w.sim.run_for(d);
    }
    let told = w.told(x);
    w.put_right(last);
    let told = w.told(x) != told && (early || w.ends[x].keepalive != 0);
    if !early {
        before = w.rx(1 - x);
    }
    if wishes && !early {
        assert!(w.send(x).is_some(), "all is right, so this can be sent");
    }
    let limit = if told { TOLD_LIMIT } else { LIMIT };
    w.sim.run_for(secs(limit));
    // Keepalives alone do not show that the other end has lost the session that they are sent on; it ends by age.
    let handshake = w.about(x).map_or(0, |p| p.handshake);
    let now = |w: &World| u128::from(BOOT) * 1_000_000_000 + u128::from(w.sim.now());
    let ends = handshake + u128::from(SESSION_ENDS) * 1_000_000_000;
    if !wishes && w.rx(1 - x) == before && now(&w) < ends {
        w.sim.run_for(Duration::from_nanos((ends - now(&w)) as u64));
        w.sim.run_for(secs(LIMIT));
    }
    let facts =
        format!("seed {seed}: end {x}, last {last:?}, wishes {wishes}, early {early}, {limit} s");
    // A packet may have been lost in a session that both ends have. Then it was answered when the other end was heard.
    let answered = early && w.rx(x) > heard;
    let came = w.rx(1 - x) > before;
    assert!(came || answered, "nothing comes by itself; {facts}");
    assert!(w.passes(), "packets do not pass; {facts}");
    let World { sim, ends, .. } = w;
    finish(sim, &[&ends[0].node, &ends[1].node]);
}

#[test]
fn traffic_flows_when_all_is_right_whatever_came_before() {
    for_seeds(SEEDS, any_order);
}
