// SPDX-License-Identifier: BSD-2-Clause
//! Both sides open a handshake before either knows of the other's: one session remains, and one opener.

use std::net::SocketAddr;

use hostkern::sim::{Link, Sim, for_seeds};
use wg::messages::{DATA_HEADER_LEN, Message, REKEY_TIMEOUT};
use wg::wg_crypto::PORTABLE;
use wg::wg_noise::Keypair;
use wgsim_tests::{
    Ghost, Msg, Node, PeerConf, Wire, drops, finish, kind, millis, packet, pair, public_key, secs,
    world,
};

/// Packets a second, each way.
const RATE: u64 = 50;

fn ping(tag: u64) -> Vec<u8> {
    packet("10.0.0.1", "10.0.0.2", tag, 64)
}

fn pong(tag: u64) -> Vec<u8> {
    packet("10.0.0.2", "10.0.0.1", tag, 64)
}

/// A path of 80 ms there and back that keeps the order.
fn long_path() -> Link {
    Link {
        delay: millis(40),
        fifo: true,
        ..Link::default()
    }
}

/// One end of a stream, and what makes its packets.
type End<'a> = (&'a Node, fn(u64) -> Vec<u8>);

/// Packets each way for so many seconds; says how many of them are lost.
fn stream(sim: &Sim, nodes: [End<'_>; 2], seconds: u64) -> usize {
    for (node, _) in nodes {
        let _ = node.received(sim);
    }
    let packets = seconds * RATE;
    for i in 0..packets {
        for (node, make) in nodes {
            node.send(sim, &make(i)).unwrap();
        }
        sim.run_for(millis(1000 / RATE));
    }
    sim.run_for(secs(1));
    let got: usize = nodes.iter().map(|(n, _)| n.received(sim).len()).sum();
    2 * packets as usize - got
}

/// Who opened handshakes, by number of initiations.
fn openers(wire: &Wire) -> [usize; 2] {
    [0, 1].map(|host| wire.count_from(host, Msg::Initiation))
}

#[test]
fn crossing_initiations_leave_one_session_and_one_opener() {
    for_seeds(2, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        sim.link(&a.host, &b.host, long_path());
        let wire = Wire::record(&sim);
        let lost = stream(&sim, [(&a, ping), (&b, pong)], 610);
        assert_eq!(lost, 0, "nothing is lost");
        let opened = openers(&wire);
        // Both at the start, then one of them each two minutes.
        assert_eq!(opened.iter().min(), Some(&1), "one opener: {opened:?}");
        assert_eq!(opened.iter().max(), Some(&6), "every 120 s: {opened:?}");
        assert_eq!(drops(&sim, "unknown_index"), 0);
        finish(sim, &[&a, &b]);
    });
}

#[test]
fn initiations_that_cross_while_a_session_is_in_use() {
    for_seeds(6, |seed| {
        let sim = world(seed);
        let (a, b) = pair(&sim);
        sim.link(&a.host, &b.host, long_path());
        assert_eq!(stream(&sim, [(&a, ping), (&b, pong)], 5), 0);
        // Data is lost both ways for so long that both sides open a handshake, and these are so long under way that
        // they cross.
        let slow = Link {
            delay: millis(500),
            ..long_path()
        };
        sim.link(&a.host, &b.host, slow);
        let wire = Wire::filter(&sim, |d| kind(&d.payload) != Msg::Data);
        while openers(&wire) != [1, 1] {
            a.send(&sim, &ping(0)).unwrap();
            b.send(&sim, &pong(0)).unwrap();
            sim.run_for(millis(20));
        }
        let wire = Wire::record(&sim);
        sim.run_for(secs(3));
        sim.link(&a.host, &b.host, long_path());
        sim.run_for(secs(3));
        assert_eq!(openers(&wire), [0, 0], "none was lost");
        let lost = stream(&sim, [(&a, ping), (&b, pong)], 400);
        assert_eq!(lost, 0, "nothing is lost");
        let opened = openers(&wire);
        assert_eq!(opened.iter().min(), Some(&0), "one opener: {opened:?}");
        assert_eq!(opened.iter().max(), Some(&3), "every 120 s: {opened:?}");
        finish(sim, &[&a, &b]);
    });
}

/// A peer that breaks no ties.
struct Stranger {
    ghost: Ghost,
    to: SocketAddr,
    sessions: Vec<Keypair>,
    /// Which of them it sends on.
    sending: Option<usize>,
    /// When it last sent an initiation.
    opened: u64,
    /// It has one state for both handshakes, as the C drivers do, and so forgets its own when it answers. Otherwise it
    /// completes both, and sends on its own.
    forgets: bool,
    received: Vec<Vec<u8>>,
}

impl Stranger {
    fn open(&mut self, sim: &Sim) {
        self.opened = sim.now();
        let message = self.ghost.initiation(sim);
        self.ghost.send(sim, self.to, &message);
    }

    /// Takes what has come.
    fn work(&mut self, sim: &Sim) {
        for bytes in self.ghost.take(sim) {
            match kind(&bytes) {
                Msg::Initiation => {
                    if self.forgets {
                        let _ = self.ghost.noise.clear();
                    }
                    let (response, session) = self.ghost.answer(sim, &bytes).expect("an answer");
                    self.ghost.send(sim, self.to, &response);
                    self.sessions.push(session);
                }
                Msg::Response => {
                    if self.ghost.complete(sim, &bytes) {
                        self.sessions.extend(self.ghost.session.take());
                        self.sending = Some(self.sessions.len() - 1);
                        self.send(sim, &[]);
                    }
                }
                _ => self.data(&bytes),
            }
        }
    }

    fn data(&mut self, bytes: &[u8]) {
        let Ok(Message::Data(m)) = Message::parse(bytes) else {
            panic!("a message of another kind");
        };
        let at = self
            .sessions
            .iter()
            .position(|s| s.local_index() == m.header.receiver)
            .expect("a session of that index");
        let mut body = m.sealed.to_vec();
        let session = &self.sessions[at];
        assert!(session.open(&PORTABLE, m.header.counter, &mut body));
        body.truncate(body.len() - 16);
        // The last session that was confirmed, if it was not ours that came last.
        let newer = self.sending.is_none_or(|sending| sending < at);
        if newer && !session.is_initiator() {
            self.sending = Some(at);
        }
        if !body.is_empty() {
            self.received.push(body);
        }
    }

    fn send(&self, sim: &Sim, plain: &[u8]) {
        let session = &self.sessions[self.sending.expect("a session")];
        let counter = session.reserve(1).expect("a counter");
        let mut message = session.header(counter).to_bytes().to_vec();
        message.extend(plain);
        message.resize(DATA_HEADER_LEN + plain.len().next_multiple_of(16) + 16, 0);
        assert!(session.seal(&PORTABLE, counter, &mut message[DATA_HEADER_LEN..]));
        self.ghost.send(sim, self.to, &message);
    }
}

/// Handshakes with a peer that breaks no ties cross, at the start and in use.
fn with_a_stranger(forgets: bool) {
    let mut orders = std::collections::BTreeSet::new();
    for_seeds(8, |seed| {
        let sim = world(seed);
        let host = sim.host("stranger", &["198.51.100.9"]);
        let a = Node::new(&sim, sim.host("a", &["192.0.2.1"]), 1);
        let n = 2 + seed as u8;
        let peer = PeerConf::node(n, &["10.0.0.2/32"]);
        a.peer(&sim, peer.at("198.51.100.9:4000"));
        sim.default_link(long_path());
        let mut stranger = Stranger {
            ghost: Ghost::new(&sim, &host, n, 4000, &public_key(1)),
            to: "192.0.2.1:51820".parse().unwrap(),
            sessions: Vec::new(),
            sending: None,
            opened: 0,
            forgets,
            received: Vec::new(),
        };
        let wire = Wire::record(&sim);
        let (mut ours, mut theirs) = (0, 0);
        // Three minutes, in which each side renews the session that it sends on if it opened that.
        stranger.open(&sim);
        for step in 0..9000u64 {
            a.send(&sim, &ping(step)).unwrap();
            ours += 1;
            if let Some(at) = stranger.sending {
                stranger.send(&sim, &pong(step));
                theirs += 1;
                let renew = stranger.sessions[at].rekey_after_send(sim.now());
                if renew && sim.now() > stranger.opened + REKEY_TIMEOUT {
                    stranger.open(&sim);
                }
            }
            sim.run_for(millis(20));
            stranger.work(&sim);
        }
        sim.run_for(secs(1));
        stranger.work(&sim);
        let lost = theirs - a.received(&sim).len();
        assert_eq!(stranger.received.len(), ours, "all of ours arrives");
        assert!(theirs > 8900);
        let opened = [a.host.id, host.id].map(|host| wire.count_from(host, Msg::Initiation));
        if forgets {
            assert_eq!(opened, [2, 1], "we renew");
            assert_eq!(lost, 0, "all of theirs arrives");
        } else if public_key(1) < public_key(n) {
            assert_eq!(opened, [2, 2], "neither gives way");
            // Two sessions are in use when two new ones come. We keep three.
            assert!(lost <= 2, "{lost} of theirs are lost");
        } else {
            assert_eq!(opened, [1, 2], "we give way");
            assert_eq!(lost, 0, "all of theirs arrives");
        }
        finish(sim, &[&a]);
    });
    for n in 2..10 {
        orders.insert(public_key(n) < public_key(1));
    }
    assert_eq!(orders.len(), 2, "either key is the smaller one");
}

#[test]
fn a_peer_that_forgets_its_own_handshake_when_it_answers() {
    with_a_stranger(true);
}

#[test]
fn a_peer_that_goes_on_with_its_own_session() {
    with_a_stranger(false);
}
