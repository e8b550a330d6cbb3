// SPDX-License-Identifier: BSD-2-Clause
//! Messages of all kinds, from a seed.

use std::ffi::CString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use kpi_libnv::Builder;
use nv::wgconf::{AllowedIp, GetInterface, GetPeer, GetWriter, SetInterface, SetPeer, SetWriter};
use nv::{WriteError, WriteList};

/// Numbers from a seed (xorshift64*, G. Marsaglia and S. Vigna).
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 16) as usize % n
    }

    pub fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }

    fn key(&mut self) -> [u8; 32] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

/// A configuration.
pub struct Configuration {
    private: Option<[u8; 32]>,
    port: Option<u16>,
    cookie: Option<u32>,
    replace: bool,
    peers: Vec<Peer>,
}

struct Peer {
    key: [u8; 32],
    psk: Option<[u8; 32]>,
    endpoint: Option<SocketAddr>,
    keepalive: Option<u16>,
    flags: u64,
    allowed: Vec<AllowedIp>,
}

fn address(rng: &mut Rng) -> IpAddr {
    if rng.chance(2) {
        IpAddr::V4(Ipv4Addr::from_bits(rng.next() as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(
            u128::from(rng.next()) << 64 | u128::from(rng.next()),
        ))
    }
}

fn peer(rng: &mut Rng) -> Peer {
    let allowed = (0..rng.below(5)).map(|_| {
        let addr = address(rng);
        let most = if addr.is_ipv4() { 33 } else { 129 };
        AllowedIp {
            addr,
            cidr: rng.below(most) as u8,
            remove: rng.chance(4),
        }
    });
    let allowed = allowed.collect();
    Peer {
        key: rng.key(),
        psk: rng.chance(2).then(|| rng.key()),
        endpoint: rng
            .chance(2)
            .then(|| SocketAddr::new(address(rng), 1 + rng.below(65_535) as u16)),
        keepalive: rng.chance(2).then(|| rng.next() as u16),
        flags: rng.next(),
        allowed,
    }
}

pub fn configuration(rng: &mut Rng) -> Configuration {
    Configuration {
        private: rng.chance(2).then(|| rng.key()),
        port: rng.chance(2).then(|| rng.next() as u16),
        cookie: rng.chance(2).then(|| rng.next() as u32),
        replace: rng.chance(2),
        peers: (0..rng.below(4)).map(|_| peer(rng)).collect(),
    }
}

impl Configuration {
    pub fn write_set(&self, w: &mut SetWriter<'_, '_>) -> Result<(), WriteError> {
        w.interface(&SetInterface {
            replace_peers: self.replace,
            listen_port: self.port,
            private_key: self.private.as_ref(),
            user_cookie: self.cookie,
        })?;
        w.peers(self.peers.len())?;
        for p in &self.peers {
            let entry = SetPeer {
                public_key: &p.key,
                remove: p.flags & 1 != 0,
                update_only: p.flags & 2 != 0,
                replace_allowed_ips: p.flags & 4 != 0,
                endpoint: p.endpoint,
                preshared_key: p.psk.as_ref(),
                keepalive: p.keepalive,
            };
            w.begin_peer(&entry, p.allowed.len())?;
            for ip in &p.allowed {
                w.allowed_ip(ip)?;
            }
            w.end_peer()?;
        }
        Ok(())
    }

    pub fn write_get(&self, w: &mut GetWriter<'_, '_>) -> Result<(), WriteError> {
        w.interface(&GetInterface {
            listen_port: self.port.unwrap_or(0),
            user_cookie: self.cookie.unwrap_or(0),
            public_key: self.private.as_ref(),
            private_key: self.private.as_ref(),
        })?;
        w.peers(self.peers.len())?;
        for p in &self.peers {
            let entry = GetPeer {
                public_key: &p.key,
                preshared_key: p.psk.as_ref(),
                endpoint: p.endpoint,
                keepalive: p.keepalive.unwrap_or(0),
                last_handshake: (p.flags >> 32, p.flags & 0xff_ffff),
                rx_bytes: p.flags,
                tx_bytes: !p.flags,
            };
            w.begin_peer(&entry, p.allowed.len())?;
            for ip in &p.allowed {
                w.allowed_ip(ip.addr, ip.cidr)?;
            }
            w.end_peer()?;
        }
        Ok(())
    }
}

/// Writes a list of values of every type that can travel, made by libnv.
pub fn any_list(rng: &mut Rng, w: &mut Builder, depth: usize) -> Result<(), WriteError> {
    for i in 0..rng.below(6) {
        // Unlike in length and case, never twice the same.
        let name = match rng.below(4) {
            0 => format!("{i}"),
            1 => format!("Name-{i}"),
            2 => format!("{}{i}", "long".repeat(1 + rng.below(10))),
            _ => format!("n\u{e9}{i}"),
        };
        let kinds = if depth < 3 { 9 } else { 7 };
        match rng.below(kinds) {
            0 => w.null(&name)?,
            1 => w.boolean(&name, rng.chance(2))?,
            2 => w.number(&name, rng.next())?,
            3 => {
                let text: Vec<u8> = rng.bytes(8).into_iter().filter(|b| *b != 0).collect();
                w.string(&name, &CString::new(text).unwrap_or_default())?;
            }
            4 => {
                let n = 1 + rng.below(40);
                w.binary(&name, &rng.bytes(n))?;
            }
            5 => {
                let n = 1 + rng.below(4);
                let numbers: Vec<u64> = (0..n).map(|_| rng.next()).collect();
                w.numbers(&name, &numbers)?;
            }
            6 => {
                let n = 1 + rng.below(4);
                let booleans: Vec<bool> = (0..n).map(|_| rng.chance(2)).collect();
                w.booleans(&name, &booleans)?;
            }
            7 => {
                let mut inner = Builder::new()?;
                any_list(rng, &mut inner, depth + 1)?;
                w.list(&name, inner.finish()?.list())?;
            }
            _ => {
                let n = 1 + rng.below(3);
                w.begin_array(&name, n)?;
                for _ in 0..n {
                    w.begin_element()?;
                    any_list(rng, w, depth + 1)?;
                    w.end_element()?;
                }
            }
        }
    }
    Ok(())
}

/// Damages a message.
pub fn damage(rng: &mut Rng, message: &mut Vec<u8>) {
    for _ in 0..1 + rng.below(3) {
        if message.is_empty() {
            return;
        }
        let at = rng.below(message.len());
        match rng.below(10) {
            0..=2 => message[at] ^= 1 << rng.below(8),
            3 => message[at] = rng.next() as u8,
            // Types, among them those of descriptors and of the ends of lists.
            4 => {
                message[at] =
                    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 254, 255][rng.below(16)]
            }
            5 => message.truncate(at),
            6 => {
                let n = rng.below(40);
                let more = rng.bytes(n);
                message.extend(more);
            }
            7 => {
                // A part once more: names twice, lists in lists.
                let end = (at + rng.below(64)).min(message.len());
                let part = message[at..end].to_vec();
                let to = rng.below(message.len());
                message.splice(to..to, part);
            }
            8 => {
                let end = (at + rng.below(64)).min(message.len());
                message.drain(at..end);
            }
            _ => {
                let value: u64 = [0, 1, 7, 255, 1 << 31, 1 << 32, 1 << 63, u64::MAX][rng.below(8)];
                for (to, from) in message[at..].iter_mut().zip(value.to_le_bytes()) {
                    *to = from;
                }
            }
        }
        if rng.chance(2) {
            mend(message);
        }
    }
}

/// Sets the sizes in the headers of lists right, so that what is wrong beside them is looked at.
pub fn mend(message: &mut [u8]) {
    let len = message.len();
    let heads: Vec<usize> = (0..len.saturating_sub(18))
        .filter(|&i| message[i] == b'l' && message[i + 3..i + 11] == [0; 8])
        .collect();
    for at in heads {
        let follow = (len - at - 19) as u64;
        let size = if message[at + 2] & 0x80 != 0 {
            follow.to_be_bytes()
        } else {
            follow.to_le_bytes()
        };
        message[at + 11..at + 19].copy_from_slice(&size);
    }
}
