// SPDX-License-Identifier: BSD-2-Clause
//! A box that translates addresses, as home routers do: a mapping for each (inside, outside) pair,
//! which only lets that outside answer, and which is forgotten after a silence.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::backend::Family;

struct Mapping {
    port: u16,
    used: u64,
}

/// One NAT box.
pub(crate) struct Nat {
    public: Vec<IpAddr>,
    timeout: u64,
    map: HashMap<(SocketAddr, SocketAddr), Mapping>,
    next: u16,
    /// The realm that it is connected to on the outside.
    pub outside: usize,
}

impl Nat {
    pub fn new(public: &[IpAddr], timeout: u64, outside: usize) -> Self {
        Self {
            public: public.to_vec(),
            timeout,
            map: HashMap::new(),
            next: 20000,
            outside,
        }
    }

    pub fn has(&self, a: &IpAddr) -> bool {
        self.public.contains(a)
    }

    /// The outside address of a datagram from `src` to `dst`; none without a public address of the
    /// family.
    pub fn outward(&mut self, now: u64, src: SocketAddr, dst: SocketAddr) -> Option<SocketAddr> {
        let family = Family::of(&src.ip());
        let ip = *self.public.iter().find(|a| Family::of(a) == family)?;
        let timeout = self.timeout;
        self.map.retain(|_, m| now - m.used <= timeout);
        if let Some(m) = self.map.get_mut(&(src, dst)) {
            m.used = now;
            return Some(SocketAddr::new(ip, m.port));
        }
        // The inside port if it is free towards that destination, as Linux does.
        let mut port = src.port();
        while self
            .map
            .iter()
            .any(|((_, d), m)| m.port == port && *d == dst)
        {
            port = self.next;
            self.next = self.next.checked_add(1).unwrap_or(20000);
        }
        self.map.insert((src, dst), Mapping { port, used: now });
        Some(SocketAddr::new(ip, port))
    }

    /// The inside address of a datagram that came from `src` to `dst`, one of ours.
    pub fn inward(&mut self, now: u64, src: SocketAddr, dst: SocketAddr) -> Option<SocketAddr> {
        let timeout = self.timeout;
        let ((inside, _), m) = self.map.iter_mut().find(|((inside, outside), m)| {
            m.port == dst.port()
                && *outside == src
                && now - m.used <= timeout
                && inside.is_ipv4() == dst.is_ipv4()
        })?;
        m.used = now;
        Some(*inside)
    }

    /// Forgets every mapping and gives other ports from now on, as after a power cut.
    pub fn rebind(&mut self) {
        for m in self.map.values_mut() {
            m.port = self.next;
            self.next = self.next.checked_add(1).unwrap_or(20000);
        }
    }

    /// Moves the box to other public addresses.
    pub fn renumber(&mut self, public: &[IpAddr]) {
        self.public = public.to_vec();
    }

    /// Forgets every mapping.
    pub fn forget(&mut self) {
        self.map.clear();
    }
}
