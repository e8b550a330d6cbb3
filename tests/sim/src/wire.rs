// SPDX-License-Identifier: BSD-2-Clause
//! What is seen on the wire.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hostkern::sim::{Sim, WireDatagram};

/// Kind of a WireGuard message, as an observer can tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Msg {
    /// Type 1, 148 bytes.
    Initiation,
    /// Type 2, 92 bytes.
    Response,
    /// Type 3, 64 bytes.
    Cookie,
    /// Type 4, 32 bytes.
    Keepalive,
    /// Type 4, longer.
    Data,
    /// Anything else.
    Other,
}

/// A datagram as it was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Nanoseconds since boot.
    pub at: u64,
    /// Number of the sending host.
    pub from: u32,
    /// Source, before any NAT.
    pub src: SocketAddr,
    /// Destination.
    pub dst: SocketAddr,
    /// UDP payload.
    pub payload: Vec<u8>,
}

/// Kind of the message in `payload`.
#[must_use]
pub fn kind(payload: &[u8]) -> Msg {
    match (
        payload.first_chunk().map(|k| u32::from_le_bytes(*k)),
        payload.len(),
    ) {
        (Some(1), 148) => Msg::Initiation,
        (Some(2), 92) => Msg::Response,
        (Some(3), 64) => Msg::Cookie,
        (Some(4), 32) => Msg::Keepalive,
        (Some(4), 48..) => Msg::Data,
        _ => Msg::Other,
    }
}

impl Sent {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Msg {
        kind(&self.payload)
    }

    /// Seconds since `start`, rounded down.
    #[must_use]
    pub fn secs_since(&self, start: u64) -> u64 {
        (self.at - start) / 1_000_000_000
    }
}

/// A record of all datagrams. Dropping it does not end the recording; [`Sim::off_wire`] does.
#[derive(Clone)]
pub struct Wire(Arc<Mutex<Vec<Sent>>>);

impl Wire {
    /// Records from now on.
    #[must_use]
    pub fn record(sim: &Sim) -> Self {
        Self::filter(sim, |_| true)
    }

    /// Records, and lets `pass` change a datagram, or lose it by returning false. What is lost is recorded too.
    #[must_use]
    pub fn filter(
        sim: &Sim,
        mut pass: impl FnMut(&mut WireDatagram) -> bool + Send + 'static,
    ) -> Self {
        let log = Self(Arc::default());
        let (record, kernel) = (log.clone(), sim.kernel().clone());
        sim.on_wire(move |d| {
            record.0.lock().unwrap().push(Sent {
                at: kernel.uptime_ns(),
                from: d.from,
                src: d.src,
                dst: d.dst,
                payload: d.payload.clone(),
            });
            pass(d)
        });
        log
    }

    /// What was sent since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<Sent> {
        core::mem::take(&mut self.0.lock().unwrap())
    }

    /// What host number `from` sent since the last call of another function; it is not forgotten.
    #[must_use]
    pub fn seen_of(&self, from: u32) -> Vec<Sent> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .filter(|d| d.from == from)
            .cloned()
            .collect()
    }

    /// Sender, kind and length of each message since the last call.
    #[must_use]
    pub fn shape(&self) -> Vec<(u32, Msg, usize)> {
        self.take()
            .iter()
            .map(|d| (d.from, d.kind(), d.payload.len()))
            .collect()
    }

    /// How many messages of a kind were sent since the last call of another function.
    #[must_use]
    pub fn count(&self, kind: Msg) -> usize {
        self.0
            .lock()
            .unwrap()
            .iter()
            .filter(|d| d.kind() == kind)
            .count()
    }

    /// The same of one sender.
    #[must_use]
    pub fn count_from(&self, from: u32, kind: Msg) -> usize {
        self.0
            .lock()
            .unwrap()
            .iter()
            .filter(|d| d.from == from && d.kind() == kind)
            .count()
    }
}
