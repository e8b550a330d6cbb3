// SPDX-License-Identifier: BSD-2-Clause
//! Rate limit for handshake messages under load: 20 a second and source, 5 at once.
//!
//! It is asked only about messages with a valid second MAC (WireGuard paper §5.3, §5.4.7), that is
//! from sources that have shown, within two minutes, that they receive at their address: entries
//! cannot be made from spoofed addresses.
//!
//! The state of a source is one number, the time at which its bucket is full again (the "virtual
//! scheduling" form of a token bucket, ITU-T I.371). An entry whose time has passed is as good as
//! none, so the table needs neither a timer nor a sweep: what is idle is free.
//!
//! Entries hold a keyed hash of the source instead of the address. The key is secret, so nobody
//! can aim at an entry or a set. The table is 8-way associative and bounded; when all ways of a set are
//! busy, the one nearest to idle is given up. Refusing instead, as other implementations do,
//! would let whoever holds more addresses than there are entries (65,536 with an IPv6 /48) keep
//! everyone else out; giving up an entry gains that sender nothing that he does not have already
//! by using each of his addresses in turn.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used
)]

use core::net::IpAddr;

use kpi_alloc::{AllocError, How, KVec};

/// Nanoseconds that one message costs: 20 a second.
const COST: u64 = 1_000_000_000 / 20;

/// Messages that an idle source may send at once.
const BURST: u64 = 5;

/// Entries in a table, 16 bytes each.
pub const ENTRIES: usize = 8192;

const WAYS: usize = 8;

/// Bounded table of token buckets by source address.
pub struct RateLimiter {
    key: [u64; 2],
    sets: KVec<[Bucket; WAYS]>,
}

#[derive(Clone, Copy)]
struct Bucket {
    /// Keyed hash of the source.
    tag: u64,
    /// Uptime in nanoseconds when the bucket is full again.
    full_at: u64,
}

impl RateLimiter {
    /// An empty table of [`ENTRIES`] entries (128 KiB). `key` is 16 fresh random bytes.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(key: [u8; 16], how: How<'_>) -> Result<RateLimiter, AllocError> {
        let key = u128::from_le_bytes(key);
        let mut sets = KVec::new();
        sets.try_resize(ENTRIES / WAYS, [Bucket { tag: 0, full_at: 0 }; WAYS], how)?;
        Ok(RateLimiter {
            key: [key as u64, (key >> 64) as u64],
            sets,
        })
    }

    /// Takes a token of `source` and says whether there was one. `now` is the uptime in nanoseconds.
    ///
    /// An IPv4 source is an address. An IPv6 source is a /64, the least that a site is given
    /// (RFC 6177).
    pub fn allow(&mut self, source: IpAddr, now: u64) -> bool {
        let (family, address) = match source.to_canonical() {
            IpAddr::V4(a) => (4, u64::from(a.to_bits())),
            IpAddr::V6(a) => (6, (a.to_bits() >> 64) as u64),
        };
        let tag = siphash(self.key, [family, address]);
        let index = tag.checked_rem(self.sets.len() as u64).unwrap_or(0) as usize;
        let Some(set) = self.sets.get_mut(index) else {
            return false;
        };
        let known = set.iter().position(|b| b.tag == tag && b.full_at > now);
        let oldest = || {
            set.iter()
                .enumerate()
                .min_by_key(|(_, b)| b.full_at)
                .map(|(i, _)| i)
        };
        let Some(way) = known.or_else(oldest) else {
            return false;
        };
        let Some(bucket) = set.get_mut(way) else {
            return false;
        };
        let full_at = if bucket.tag == tag {
            bucket.full_at.max(now)
        } else {
            now
        };
        if full_at.saturating_sub(now) > COST.saturating_mul(BURST.saturating_sub(1)) {
            return false;
        }
        *bucket = Bucket {
            tag,
            full_at: full_at.saturating_add(COST),
        };
        true
    }
}

/// SipHash-2-4 of two words (Aumasson and Bernstein 2012), the customary defence against chosen
/// collisions in a table.
fn siphash(key: [u64; 2], words: [u64; 2]) -> u64 {
    let [k0, k1] = key;
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    // The last block has the length of the input, 16 bytes, in its top byte.
    let [w0, w1] = words;
    for word in [w0, w1, 16 << 56] {
        v = absorb(v, word);
    }
    let [a, b, c, d] = v;
    let mut v = [a, b, c ^ 0xff, d];
    for _ in 0..4 {
        v = round(v);
    }
    let [a, b, c, d] = v;
    a ^ b ^ c ^ d
}

fn absorb([a, b, c, d]: [u64; 4], word: u64) -> [u64; 4] {
    let [a, b, c, d] = round(round([a, b, c, d ^ word]));
    [a ^ word, b, c, d]
}

fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::siphash;

    /// The reference implementation's vector for the input 00 01 .. 0f under the key 00 01 .. 0f.
    #[test]
    fn siphash_vector() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(siphash(key, key), 0x3f2a_cc7f_57c2_9bdb);
    }
}
