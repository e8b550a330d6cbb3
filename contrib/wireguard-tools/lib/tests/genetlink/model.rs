// SPDX-License-Identifier: BSD-2-Clause
//! Random changes against a kernel of the tests' own kind, random dumps, and damaged ones.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use wgtools::backend::genetlink::read::Assembler;
use wgtools::change::{AllowedIpChange, Change, PeerChange};
use wgtools::device::AllowedIp;
use wgtools::key::{PublicKey, SecretKey};

use crate::{assembled, attribute, nest, prefix, requests};

/// SplitMix64, so that a seed is all that a failing run depends on.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn yes(&mut self) -> bool {
        self.below(2) == 0
    }

    /// Few of them, so that they meet.
    fn key(&mut self) -> PublicKey {
        PublicKey([self.below(6) as u8; 32])
    }

    fn prefix(&mut self) -> (IpAddr, u8) {
        let [a, b] = [self.below(3) as u8, self.below(250) as u8];
        if self.yes() {
            (IpAddr::from([10, a, b, 0]), 24)
        } else {
            (
                IpAddr::from([0xfd00, a.into(), b.into(), 0, 0, 0, 0, 0]),
                64,
            )
        }
    }

    fn change(&mut self) -> Change {
        let peers = self.below(7);
        let mut change = Change {
            private_key: self
                .yes()
                .then(|| SecretKey::new(&[self.below(3) as u8; 32])),
            listen_port: self.yes().then(|| self.below(65536) as u16),
            fwmark: self.yes().then(|| self.below(1 << 32) as u32),
            replace_peers: self.yes(),
            peers: Vec::new(),
        };
        for _ in 0..peers {
            let mut peer = PeerChange::new(self.key());
            peer.remove = self.below(5) == 0;
            peer.update_only = self.below(4) == 0;
            peer.preshared_key = self
                .yes()
                .then(|| SecretKey::new(&[self.below(3) as u8; 32]));
            peer.endpoint = match self.below(3) {
                0 => None,
                1 => Some(SocketAddr::new(self.prefix().0, self.below(65536) as u16)),
                _ => Some("[fe80::1%3]:9".parse().unwrap()),
            };
            peer.persistent_keepalive = self.yes().then(|| self.below(65536) as u16);
            peer.replace_allowed_ips = self.yes();
            for _ in 0..[0, 1, 3, 200][self.below(4) as usize] {
                let (ip, cidr) = self.prefix();
                peer.allowed_ips.push(AllowedIpChange {
                    ip,
                    cidr,
                    remove: self.below(4) == 0,
                });
            }
            change.peers.push(peer);
        }
        change
    }
}

/// What a kernel keeps of an interface.
#[derive(Clone, Debug, Default, PartialEq)]
struct Kernel {
    private_key: [u8; 32],
    port: u16,
    mark: u32,
    peers: BTreeMap<[u8; 32], KernelPeer>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct KernelPeer {
    psk: [u8; 32],
    endpoint: Option<SocketAddr>,
    keepalive: u16,
    ips: Vec<(IpAddr, u8)>,
}

impl Kernel {
    fn apply(&mut self, change: &Change) {
        if let Some(key) = &change.private_key {
            self.private_key = *key.bytes();
        }
        self.port = change.listen_port.unwrap_or(self.port);
        self.mark = change.fwmark.unwrap_or(self.mark);
        if change.replace_peers {
            self.peers.clear();
        }
        for peer in &change.peers {
            let key = peer.public_key.0;
            if peer.remove {
                self.peers.remove(&key);
                continue;
            }
            if peer.update_only && !self.peers.contains_key(&key) {
                continue;
            }
            let entry = self.peers.entry(key).or_default();
            if let Some(psk) = &peer.preshared_key {
                entry.psk = *psk.bytes();
            }
            entry.endpoint = peer.endpoint.or(entry.endpoint);
            if peer.replace_allowed_ips {
                entry.ips.clear();
            }
            entry.keepalive = peer.persistent_keepalive.unwrap_or(entry.keepalive);
            for change in &peer.allowed_ips {
                let prefix = (change.ip, change.cidr);
                if change.remove {
                    let entry = self.peers.get_mut(&key).unwrap();
                    entry.ips.retain(|&other| other != prefix);
                } else {
                    for other in self.peers.values_mut() {
                        other.ips.retain(|&other| other != prefix);
                    }
                    self.peers.get_mut(&key).unwrap().ips.push(prefix);
                }
            }
        }
    }

    /// Applies a request as it is on the wire.
    fn receive(&mut self, bytes: &[u8]) {
        let mut change = Change::default();
        assert_eq!(
            bytes.len(),
            u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize
        );
        for (kind, value) in split(&bytes[20..]) {
            match kind {
                2 => assert_eq!(value, b"wg0\0"),
                3 => change.private_key = Some(SecretKey::new(value.try_into().unwrap())),
                5 => {
                    assert_eq!(value, 1u32.to_ne_bytes());
                    change.replace_peers = true;
                }
                6 => change.listen_port = Some(u16::from_ne_bytes(value.try_into().unwrap())),
                7 => change.fwmark = Some(u32::from_ne_bytes(value.try_into().unwrap())),
                0x8008 => {
                    change.peers = split(value).map(|(_, peer)| received_peer(peer)).collect()
                }
                _ => panic!("attribute {kind}"),
            }
        }
        self.apply(&change);
    }
}

fn split(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let len = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        let kind = u16::from_ne_bytes([bytes[2], bytes[3]]);
        let value = &bytes[4..len];
        bytes = &bytes[len.next_multiple_of(4)..];
        Some((kind, value))
    })
}

fn received_peer(bytes: &[u8]) -> PeerChange {
    let mut peer = PeerChange::new(PublicKey([0; 32]));
    for (kind, value) in split(bytes) {
        match kind {
            1 => peer.public_key = PublicKey(value.try_into().unwrap()),
            2 => peer.preshared_key = Some(SecretKey::new(value.try_into().unwrap())),
            3 => {
                let flags = u32::from_ne_bytes(value.try_into().unwrap());
                assert!(flags < 8);
                peer.remove = flags & 1 != 0;
                peer.replace_allowed_ips = flags & 2 != 0;
                peer.update_only = flags & 4 != 0;
            }
            4 if value.len() == 16 => {
                assert_eq!(value[..2], 2u16.to_ne_bytes());
                let ip: [u8; 4] = value[4..8].try_into().unwrap();
                peer.endpoint = Some((ip, u16::from_be_bytes([value[2], value[3]])).into());
            }
            4 => {
                assert_eq!((value.len(), &value[..2]), (28, &10u16.to_ne_bytes()[..]));
                let ip: [u8; 16] = value[8..24].try_into().unwrap();
                let port = u16::from_be_bytes([value[2], value[3]]);
                let scope = u32::from_ne_bytes(value[24..].try_into().unwrap());
                peer.endpoint = Some(std::net::SocketAddrV6::new(ip.into(), port, 0, scope).into());
            }
            5 => peer.persistent_keepalive = Some(u16::from_ne_bytes(value.try_into().unwrap())),
            0x8009 => peer.allowed_ips = split(value).map(|(_, ip)| received_ip(ip)).collect(),
            _ => panic!("attribute {kind} of a peer"),
        }
    }
    peer
}

fn received_ip(bytes: &[u8]) -> AllowedIpChange {
    let parts: BTreeMap<u16, &[u8]> = split(bytes).collect();
    let family = u16::from_ne_bytes(parts[&1].try_into().unwrap());
    let ip = match family {
        2 => IpAddr::from(<[u8; 4]>::try_from(parts[&2]).unwrap()),
        10 => IpAddr::from(<[u8; 16]>::try_from(parts[&2]).unwrap()),
        _ => panic!("family {family}"),
    };
    AllowedIpChange {
        ip,
        cidr: parts[&3][0],
        remove: parts.contains_key(&4),
    }
}

fn seed() -> u64 {
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().expect("SEED is a number"),
        Err(_) if cfg!(miri) => 1,
        Err(_) => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |now| now.as_nanos() as u64)
        }
    };
    println!("SEED={seed}");
    seed
}

/// A change cut into requests of any size does to an interface what the whole of it does.
#[test]
fn requests_of_any_size_do_the_same() {
    let mut rng = Rng(seed());
    let (mut split, mut continued) = (0, 0);
    for _ in 0..if cfg!(miri) { 3 } else { 500 } {
        let mut kernel = Kernel::default();
        kernel.apply(&rng.change());
        let change = rng.change();
        let mut expected = kernel.clone();
        expected.apply(&change);
        let limit = [0, 600, 4096, 1 << 20][rng.below(4) as usize];
        let messages = requests(&change, limit);
        split += usize::from(messages.len() > 1);
        for bytes in &messages {
            assert!(bytes.len() <= limit.max(515));
            kernel.receive(bytes);
        }
        continued += usize::from(messages.len() > 1 + change.peers.len());
        assert_eq!(kernel, expected);
    }
    assert!(
        cfg!(miri) || (split > 50 && continued > 5),
        "{split} {continued}"
    );
}

/// The kernel's dump: messages that hold so many bytes, peers and allowed IPs going on where they must.
fn dump(kernel: &Kernel, room: usize) -> Vec<Vec<Vec<u8>>> {
    let mut first = vec![
        attribute(6, &kernel.port.to_ne_bytes()),
        attribute(7, &kernel.mark.to_ne_bytes()),
        attribute(2, b"wg0\0"),
    ];
    if kernel.private_key != [0; 32] {
        first.push(attribute(3, &kernel.private_key));
    }
    let mut messages = vec![first];
    let mut peers: Vec<Vec<u8>> = Vec::new();
    let size = |peers: &[Vec<u8>]| peers.iter().map(Vec::len).sum::<usize>();
    for (key, peer) in &kernel.peers {
        let mut parts = vec![
            attribute(1, key),
            attribute(2, &peer.psk),
            attribute(6, &[0; 16]),
            attribute(5, &peer.keepalive.to_ne_bytes()),
            attribute(8, &1u64.to_ne_bytes()),
            attribute(7, &2u64.to_ne_bytes()),
        ];
        if let Some(SocketAddr::V4(v4)) = peer.endpoint {
            let port = v4.port().to_be_bytes();
            let parts4: [&[u8]; 4] = [&2u16.to_ne_bytes(), &port, &v4.ip().octets(), &[0; 8]];
            parts.push(attribute(4, &parts4.concat()));
        }
        let mut ips = Vec::new();
        for (ip, cidr) in &peer.ips {
            ips.push(prefix(&ip.to_string(), *cidr));
            if size(&peers) + size(&parts) + size(&ips) > room {
                parts.push(nest(9, &std::mem::take(&mut ips)));
                peers.push(nest(0, &parts));
                parts = vec![attribute(1, key)];
                messages.push(vec![nest(8, &std::mem::take(&mut peers))]);
            }
        }
        parts.push(nest(9, &ips));
        peers.push(nest(0, &parts));
        if size(&peers) > room {
            messages.push(vec![nest(8, &std::mem::take(&mut peers))]);
        }
    }
    if !peers.is_empty() {
        messages.push(vec![nest(8, &peers)]);
    }
    messages
}

#[test]
fn dumps_of_any_size_read_the_same() {
    let mut rng = Rng(seed());
    for _ in 0..if cfg!(miri) { 3 } else { 300 } {
        let mut kernel = Kernel::default();
        kernel.apply(&rng.change());
        kernel.apply(&rng.change());
        let room = [0, 300, 4096, 30_000][rng.below(4) as usize];
        let device = assembled(&dump(&kernel, room)).unwrap();
        let mut read = Kernel {
            private_key: device.private_key.map_or([0; 32], |key| *key.bytes()),
            port: device.listen_port,
            mark: device.fwmark,
            peers: BTreeMap::new(),
        };
        assert_eq!(device.peers.len(), kernel.peers.len());
        for peer in device.peers {
            assert_eq!((peer.tx_bytes, peer.rx_bytes), (1, 2));
            let ips = peer
                .allowed_ips
                .iter()
                .map(|&AllowedIp { ip, cidr }| (ip, cidr))
                .collect();
            let entry = KernelPeer {
                psk: peer.preshared_key.map_or([0; 32], |key| *key.bytes()),
                endpoint: peer.endpoint,
                keepalive: peer.persistent_keepalive,
                ips,
            };
            read.peers.insert(peer.public_key.0, entry);
        }
        for peer in kernel.peers.values_mut() {
            peer.endpoint = peer.endpoint.filter(SocketAddr::is_ipv4);
        }
        assert_eq!(read, kernel);
    }
}

/// Damage of any kind is an error or another device, never a panic.
#[test]
fn damaged_dumps() {
    let mut rng = Rng(seed());
    let mut kernel = Kernel::default();
    while kernel.peers.len() < 3 {
        kernel.apply(&rng.change());
    }
    for peer in kernel.peers.values_mut() {
        peer.ips.truncate(4);
    }
    let bytes = dump(&kernel, 1 << 20)
        .iter()
        .map(|m| m.concat())
        .collect::<Vec<_>>()
        .concat();
    let payload = [vec![0, 1, 0, 0], bytes].concat();
    assert!(Assembler::new("x").add(&payload).is_ok());
    let mut refused = 0;
    for bit in (0..payload.len() * 8).step_by(if cfg!(miri) { 97 } else { 1 }) {
        let mut bytes = payload.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        refused += usize::from(Assembler::new("x").add(&bytes).is_err());
    }
    assert!(refused > 0);
    for len in 0..payload.len() {
        let _ = Assembler::new("x").add(&payload[..len]);
    }
}
