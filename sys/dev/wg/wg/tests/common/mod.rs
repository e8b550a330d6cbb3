// SPDX-License-Identifier: BSD-2-Clause
//! What the tests of this crate share.
#![allow(dead_code, reason = "each test program uses some of it")]

use wg::wg_crypto::Rng;

/// A small generator with a seed (splitmix64): the same on every run.
pub struct TestRng(u64);

impl TestRng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Rng for TestRng {
    fn fill(&mut self, buf: &mut [u8]) {
        for chunk in buf.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// The bytes of a hexadecimal string.
pub fn hex(s: &str) -> Vec<u8> {
    assert!(s.len().is_multiple_of(2));
    (0..s.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap())
        .collect()
}

/// Public keys of small order: u = 0, 1, -1, the two of order 8, and their non-canonical forms.
pub const SMALL_ORDER: [&str; 12] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    // With the top bit set, which RFC 7748 says to ignore.
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b880",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f11d7",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

/// One end of a handshake: an interface with one peer.
pub struct End {
    pub id: wg::wg_noise::Identity,
    pub handshake: wg::wg_noise::Handshake,
    pub rng: TestRng,
}

/// Two ends that know each other.
pub fn pair(seed: u64, psk: &[u8; 32]) -> (End, End) {
    use wg::wg_noise::{Handshake, Identity};
    let mut rng = TestRng::new(seed);
    let mut key = || {
        let mut k = [0; 32];
        rng.fill(&mut k);
        k
    };
    let (a, b) = (Identity::new(&key()), Identity::new(&key()));
    let (pub_a, pub_b) = (*a.public(), *b.public());
    let ha = Handshake::new(&pub_b, psk, Some(&a));
    let hb = Handshake::new(&pub_a, psk, Some(&b));
    (
        End {
            id: a,
            handshake: ha,
            rng: TestRng::new(seed ^ 1),
        },
        End {
            id: b,
            handshake: hb,
            rng: TestRng::new(seed ^ 2),
        },
    )
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
