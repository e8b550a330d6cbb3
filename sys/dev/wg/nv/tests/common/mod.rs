// SPDX-License-Identifier: BSD-2-Clause
//! What the tests of this crate share. Not every test uses all of it.
#![allow(dead_code)]

use nv::{FnSink, WriteError, Writer};

/// SET: listen-port 51820, replace-peers, a peer with two allowed IPs. Byte-identical to libnv's output.
pub const V1: &str = "6c00000000000000000000b801000000000000030c00080000000000000000000000000000006c697374656e2d706f7274006cca000000000000020e00010000000000000000000000000000007265706c6163652d706565727300010b0600000000000000000001000000000000007065657273006c000000000000000000004301000000000000070b00200000000000000000000000000000007075626c69632d6b6579000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f200b0c0000000000000000000200000000000000616c6c6f7765642d697073006c00000000000000000000d30000000000000003050008000000000000000000000000000000636964720018000000000000000705000400000000000000000000000000000069707634000a000000fe010000000000000000000000000000000000006c0000000000000000000070000000000000000305000800000000000000000000000000000063696472000800000000000000070500100000000000000000000000000000006970763600fd000000000000000000000000000000fe01000000000000000000000000000000000000fe01000000000000000000000000000000000000";
/// An empty list.
pub const V2: &str = "6c000000000000000000000000000000000000";
/// listen-port 51820.
pub const V3: &str = "6c000000000000000000002700000000000000030c00080000000000000000000000000000006c697374656e2d706f7274006cca000000000000";
/// Array "x" of {}, {cidr 24, ipv4 10.0.0.0}, {}; then "t" true.
pub const V4: &str = "6c00000000000000000000dc000000000000000b02000000000000000000030000000000000078006c00000000000000000000b400000000000000fe010000000000000000000000000000000000006c000000000000000000008d0000000000000003050008000000000000000000000000000000636964720018000000000000000705000400000000000000000000000000000069707634000a000000fe010000000000000000000000000000000000006c000000000000000000002a00000000000000fe0100000000000000000000000000000000000002020001000000000000000000000000000000740001";
/// Nested list "n" = {cidr 24, ipv4 10.0.0.0}; then "k" = 7.
pub const V5: &str = "6c0000000000000000000095000000000000000502004f0000000000000000000000000000006e006c000000000000000000006d0000000000000003050008000000000000000000000000000000636964720018000000000000000705000400000000000000000000000000000069707634000a000000ff01000000000000000000000000000000000000030200080000000000000000000000000000006b000700000000000000";

/// Of the cases that are all alike Miri gets one in so many.
pub const STRIDE: usize = if cfg!(miri) { 61 } else { 1 };

pub fn hex(s: &str) -> Vec<u8> {
    let digit = |i| u8::from_str_radix(&s[i..i + 2], 16).unwrap();
    (0..s.len()).step_by(2).map(digit).collect()
}

/// What a closure writes.
pub fn packed(mut body: impl FnMut(&mut Writer<'_>) -> Result<(), WriteError>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut sink = FnSink(|b: &[u8]| {
        out.extend_from_slice(b);
        Ok(())
    });
    let n = nv::pack(&mut sink, &mut body).unwrap();
    assert_eq!(n, out.len());
    out
}

/// Messages byte by byte, also such as no writer makes. Headers get their sizes at the end.
#[derive(Default)]
pub struct Raw {
    pub bytes: Vec<u8>,
    headers: Vec<usize>,
    pub big: bool,
}

impl Raw {
    pub fn number(&mut self, n: u64) {
        self.bytes.extend(if self.big {
            n.to_be_bytes()
        } else {
            n.to_le_bytes()
        });
    }

    pub fn header(&mut self, flags: u8) -> &mut Raw {
        self.big = flags & 0x80 != 0;
        self.header_only(flags)
    }

    /// A header that does not select the byte order for what follows.
    pub fn header_only(&mut self, flags: u8) -> &mut Raw {
        self.bytes.extend([b'l', 0, flags]);
        self.bytes.extend([0; 8]);
        self.headers.push(self.bytes.len());
        self.bytes.extend([0; 8]);
        self
    }

    pub fn pair(&mut self, kind: u8, name: &[u8], size: u64, items: u64, data: &[u8]) -> &mut Raw {
        self.bytes.push(kind);
        let name_size = name.len() as u16 + 1;
        self.bytes.extend(if self.big {
            name_size.to_be_bytes()
        } else {
            name_size.to_le_bytes()
        });
        self.number(size);
        self.number(items);
        self.bytes.extend(name);
        self.bytes.push(0);
        self.bytes.extend(data);
        self
    }

    pub fn value(&mut self, kind: u8, name: &str, data: &[u8]) -> &mut Raw {
        self.pair(kind, name.as_bytes(), data.len() as u64, 0, data)
    }

    pub fn array(&mut self, name: &str, items: u64) -> &mut Raw {
        self.pair(11, name.as_bytes(), 0, items, &[])
    }

    pub fn next(&mut self) -> &mut Raw {
        self.pair(254, b"", 0, 0, &[])
    }

    pub fn up(&mut self) -> &mut Raw {
        self.pair(255, b"", 0, 0, &[])
    }

    pub fn finish(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        for at in std::mem::take(&mut self.headers) {
            let left = (bytes.len() - at - 8) as u64;
            let big = bytes[at - 9] & 0x80 != 0;
            let size = if big {
                left.to_be_bytes()
            } else {
                left.to_le_bytes()
            };
            bytes[at..at + 8].copy_from_slice(&size);
        }
        bytes
    }
}

/// A small generator (SplitMix64), so that a seed is all that a failing run depends on.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// The seed of a random test: from `SEED`, or the clock; printed either way.
pub fn seed() -> u64 {
    let seed = match std::env::var("SEED") {
        Ok(s) => s.parse().expect("SEED is a number"),
        Err(_) if cfg!(miri) => 1,
        Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |d| d.as_nanos() as u64),
    };
    println!("SEED={seed}");
    seed
}
