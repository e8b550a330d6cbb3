// SPDX-License-Identifier: BSD-2-Clause
//! A peer that the test plays itself, message by message: it can do what no driver does.

use std::net::{IpAddr, SocketAddr};

use hostkern::backend::Family;
use hostkern::sim::Rng;
use hostkern::sim::{Host, Sim};
use wg::messages::{Initiation, Message, RESPONSE_LEN, Response};
use wg::wg_cookie::Macs;
use wg::wg_crypto::PORTABLE;
use wg::wg_noise::{Handshake, Identity, Keypair, StampClock, read_initiation};

use crate::{millis, private_key};

/// Randomness of the test's own.
pub struct TestRng(pub Rng);

impl wg::wg_crypto::Rng for TestRng {
    fn fill(&mut self, buf: &mut [u8]) {
        self.0.fill(buf);
    }
}

/// A peer without a driver, on one port of a host.
pub struct Ghost {
    /// Where it is.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// Cookies and MACs.
    pub macs: Macs,
    /// Its handshake.
    pub noise: Handshake,
    /// The session, if there is one.
    pub session: Option<Keypair>,
    id: Identity,
    stamps: StampClock,
    rng: TestRng,
    next_index: u32,
}

impl Ghost {
    /// Node `n` on a port of `host`, for a peer with this public key.
    #[must_use]
    pub fn new(sim: &Sim, host: &Host, n: u8, port: u16, remote: &[u8; 32]) -> Self {
        sim.listen(host, Family::V4, port);
        sim.listen(host, Family::V6, port);
        let id = Identity::new(&private_key(n));
        Self {
            host: host.clone(),
            port,
            macs: Macs::new(remote),
            noise: Handshake::new(remote, &[0; 32], Some(&id)),
            session: None,
            id,
            stamps: StampClock::new(),
            rng: TestRng(Rng::new(sim.seed(), 1000 + u64::from(n))),
            next_index: u32::from(n) << 16,
        }
    }

    /// An initiation with MACs.
    #[must_use]
    pub fn initiation(&mut self, sim: &Sim) -> [u8; 148] {
        self.next_index += 1;
        let stamp = self.stamps.stamp(
            1_700_000_000 + sim.now() / 1_000_000_000,
            (sim.now() % 1_000_000_000) as u32,
        );
        let mut message = self
            .noise
            .create_initiation(&self.id, self.next_index, stamp, &mut self.rng)
            .expect("an initiation");
        self.macs.add_to_initiation(&mut message, sim.now());
        message
    }

    /// Sends bytes from its port.
    pub fn send(&self, sim: &Sim, to: SocketAddr, bytes: &[u8]) {
        sim.send_datagram(&self.host, self.port, to, bytes)
            .expect("a datagram");
    }

    /// What came to its port since the last call.
    #[must_use]
    pub fn take(&self, sim: &Sim) -> Vec<Vec<u8>> {
        let mut all = sim.take_datagrams(&self.host, Family::V4, self.port);
        all.extend(sim.take_datagrams(&self.host, Family::V6, self.port));
        all.into_iter().map(|d| d.1).collect()
    }

    /// Takes a response; true if it completes the handshake.
    pub fn complete(&mut self, sim: &Sim, message: &[u8]) -> bool {
        let Ok(response) = Response::parse(message) else {
            return false;
        };
        let Ok(keys) = self.noise.consume_response(&self.id, &response) else {
            return false;
        };
        self.session = Some(Keypair::new(keys, sim.now()));
        true
    }

    /// Answers an initiation: the response, with MACs, and the session that a packet of its receiver's will confirm.
    pub fn answer(&mut self, sim: &Sim, message: &[u8]) -> Option<([u8; RESPONSE_LEN], Keypair)> {
        let initiation = Initiation::parse(message).ok()?;
        let incoming = read_initiation(&self.id, &initiation).ok()?;
        self.noise.accept_initiation(incoming, sim.now()).ok()?;
        self.next_index += 1;
        let (mut response, keys) = self
            .noise
            .create_response(self.next_index, &mut self.rng)
            .ok()?;
        self.macs.add_to_response(&mut response, sim.now());
        Some((response, Keypair::new(keys, sim.now())))
    }

    /// Takes a cookie reply; true if it is for us.
    pub fn take_cookie(&mut self, sim: &Sim, message: &[u8]) -> bool {
        match Message::parse(message) {
            Ok(Message::CookieReply(m)) => self.macs.consume_cookie_reply(&m, sim.now()),
            _ => false,
        }
    }

    /// Opens a session with the interface at `to`, and confirms it with a keepalive.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn connect(&mut self, sim: &Sim, to: SocketAddr) {
        let _ = self.take(sim);
        let message = self.initiation(sim);
        self.send(sim, to, &message);
        sim.run_for(millis(100));
        let answer = self.take(sim);
        assert!(answer.iter().any(|m| self.complete(sim, m)), "no response");
        let keepalive = self.seal(&[]);
        self.send(sim, to, &keepalive);
        sim.run_for(millis(100));
    }

    /// A data message with the next counter.
    ///
    /// # Panics
    /// Without a session.
    #[must_use]
    pub fn seal(&self, plain: &[u8]) -> Vec<u8> {
        let counter = self
            .session
            .as_ref()
            .expect("a session")
            .reserve(1)
            .expect("a counter");
        self.seal_at(counter, plain)
    }

    /// A data message with any counter.
    ///
    /// # Panics
    /// Without a session.
    #[must_use]
    pub fn seal_at(&self, counter: u64, plain: &[u8]) -> Vec<u8> {
        let session = self.session.as_ref().expect("a session");
        let mut message = session.header(counter).to_bytes().to_vec();
        message.extend(plain);
        message.extend([0; 16]);
        assert!(
            session.seal(&PORTABLE, counter, &mut message[16..]),
            "sealed"
        );
        message
    }

    /// The plaintext of a data message, padding included.
    #[must_use]
    pub fn open(&self, message: &[u8]) -> Option<Vec<u8>> {
        let Ok(Message::Data(m)) = Message::parse(message) else {
            return None;
        };
        let session = self.session.as_ref()?;
        let mut body = m.sealed.to_vec();
        let len = body.len() - 16;
        session
            .open(&PORTABLE, m.header.counter, &mut body)
            .then(|| body[..len].to_vec())
    }

    /// Its address on the network.
    ///
    /// # Panics
    /// When the host has none of the family.
    #[must_use]
    pub fn address(&self, ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse::<IpAddr>().expect("an address"), self.port)
    }
}
