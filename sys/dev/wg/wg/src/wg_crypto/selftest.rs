// SPDX-License-Identifier: BSD-2-Clause
//! Known-answer tests that run where the code runs: at load of the module and in the test suite.
//!
//! The vectors are of the standards named beside them; where WireGuard's use of a primitive has no
//! published vector, the answer was computed with an independent implementation.

use blake2::digest::consts::{U16, U20, U28, U32};
use blake2::digest::{FixedOutput, KeyInit, Mac, Update};
use blake2::{Blake2s, Blake2s256, Blake2sMac};
use subtle::ConstantTimeEq;

use super::{
    Aead, Secret, blake2s, blake2s_mac, ct_equal, hmac, kdf1, kdf2, kdf3, x25519, x25519_base,
    xchacha20poly1305_open, xchacha20poly1305_seal,
};
use crate::messages::{KEY_LEN, TAG_LEN};

/// Tests a backend against known answers and that it refuses what was tampered with.
///
/// # Errors
/// The name of the first vector that failed; the backend must not be used then.
pub fn selftest(aead: &dyn Aead) -> Result<(), &'static str> {
    let mut outcome = Ok(());
    // Small batches: the whole test is far longer than one batch should be.
    aead.batch(&mut || outcome = outcome.and(test_rfc8439(aead)));
    aead.batch(&mut || outcome = outcome.and(test_refusals(aead)));
    let mut sum = blake2s(&[]);
    for &(first, last) in TEST_LENGTHS {
        for len in first..=last {
            aead.batch(&mut || outcome = outcome.and(test_length(aead, len, &mut sum)));
        }
    }
    outcome?;
    expect(
        sum == TEST_LENGTHS_SUM,
        "aead lengths: checksum of all ciphertexts",
    )
}

/// Tests the primitives of the handshake against known answers.
///
/// # Errors
/// The name of the first vector that failed; no interface may be created then.
pub fn selftest_primitives() -> Result<(), &'static str> {
    // None of these is inlined: together their frames would be more than a kernel's stack should hold for one function.
    test_x25519()?;
    test_blake2s()?;
    test_hmac()?;
    test_xchacha()
}

fn expect(good: bool, vector: &'static str) -> Result<(), &'static str> {
    if good { Ok(()) } else { Err(vector) }
}

/// `00 01 02 ...`, shifted by `first`.
fn counting<const N: usize>(first: u8) -> [u8; N] {
    let mut a = [0; N];
    a.iter_mut()
        .zip(0u8..=255)
        .for_each(|(a, i)| *a = first.wrapping_add(i));
    a
}

/// The plaintext of RFC 8439, section 2.8.2, and of draft-irtf-cfrg-xchacha-03, section A.3.1.
const TEST_TEXT: &[u8; 114] = b"Ladies and Gentlemen of the class of '99: If I could offer you \
only one tip for the future, sunscreen would be it.";

/// Key, text and counter half of the nonce of RFC 8439, section 2.8.2; no associated data, and the
/// constant half of the nonce zero, as data packets have it.
fn test_rfc8439(aead: &dyn Aead) -> Result<(), &'static str> {
    const NAME: &str = "aead rfc8439-2.8.2 without associated data";
    let key = counting::<KEY_LEN>(0x80);
    let counter = u64::from_le_bytes(counting(0x40));
    let mut buf = [0; TEST_TEXT.len() + TAG_LEN];
    buf.iter_mut().zip(TEST_TEXT).for_each(|(b, t)| *b = *t);
    expect(aead.seal(&key, counter, &mut buf), NAME)?;
    expect(blake2s(&[&buf]) == TEST_RFC8439_SUM, NAME)?;
    expect(aead.open(&key, counter, &mut buf), NAME)?;
    expect(buf.starts_with(TEST_TEXT), NAME)
}

/// Lengths of plaintext under test, as ranges: all small ones, and those around the widths by
/// which vector code proceeds.
const TEST_LENGTHS: &[(usize, usize)] = &[
    (0, 272),
    (319, 321),
    (383, 385),
    (511, 577),
    (639, 641),
    (1023, 1025),
    (1279, 1281),
    (1420, 1440),
];

fn test_length(aead: &dyn Aead, len: usize, sum: &mut [u8; KEY_LEN]) -> Result<(), &'static str> {
    const NAME: &str = "aead lengths: seal and open";
    let mut space = [0u8; 1440 + TAG_LEN];
    let buf = space.get_mut(..len.saturating_add(TAG_LEN)).ok_or(NAME)?;
    // Key, counter and text follow from the sum so far, so that no two lengths share them.
    let text = blake2s(&[sum, b"text"]);
    let [a, b, c, d, e, f, g, h, ..] = *sum;
    let counter = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let pattern = || text.iter().cycle().take(len);
    buf.iter_mut().zip(pattern()).for_each(|(b, t)| *b = *t);
    let key = *sum;
    expect(aead.seal(&key, counter, buf), NAME)?;
    *sum = blake2s(&[sum, buf]);
    expect(aead.open(&key, counter, buf), NAME)?;
    expect(buf.iter().zip(pattern()).all(|(b, t)| b == t), NAME)
}

fn test_refusals(aead: &dyn Aead) -> Result<(), &'static str> {
    let key = counting::<KEY_LEN>(1);
    let mut good = counting::<{ 33 + TAG_LEN }>(2);
    expect(aead.seal(&key, 3, &mut good), "aead refusals: seal")?;
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good;
            if let Some(byte) = bad.get_mut(at) {
                *byte ^= 1 << bit;
            }
            expect(
                !aead.open(&key, 3, &mut bad),
                "aead refusals: a flipped bit",
            )?;
        }
        let mut bad = good;
        let short = bad.get_mut(..at).unwrap_or_default();
        expect(!aead.open(&key, 3, short), "aead refusals: a cut end")?;
    }
    let mut bad = good;
    expect(
        !aead.open(&key, 3 | 1 << 32, &mut bad),
        "aead refusals: another counter",
    )?;
    let mut bad = good;
    expect(
        !aead.open(&counting(2), 3, &mut bad),
        "aead refusals: another key",
    )?;
    let mut short = [0; TAG_LEN - 1];
    expect(
        !aead.seal(&key, 3, &mut short),
        "aead refusals: no room for a tag",
    )?;
    expect(aead.open(&key, 3, &mut good), "aead refusals: the good one")
}

/// BLAKE2s of what [`test_rfc8439`] seals, from OpenSSL.
const TEST_RFC8439_SUM: [u8; KEY_LEN] =
    *b"\x5a\x9e\xa3\xf5\xe6\xb5\x16\x32\x73\xc9\x91\xfe\x6f\x2e\x0e\x56\
    \xed\x44\x81\xb6\x74\x98\x28\x5f\x8e\x29\xde\xdf\x5e\x57\xab\x09";

/// The last sum of [`test_length`], from OpenSSL.
const TEST_LENGTHS_SUM: [u8; KEY_LEN] =
    *b"\xc2\x22\xd1\x0a\xef\xd4\xbe\x5e\xf3\xc6\x11\x2f\x76\x96\xd7\x8a\
    \x8f\xfb\x8c\x54\x57\x4f\xa5\x2e\x38\x45\xe5\xc4\x9f\xd7\x8e\xad";

/// RFC 7748, section 6.1, and the point zero, which has small order.
#[inline(never)]
fn test_x25519() -> Result<(), &'static str> {
    let alice = Secret::new(
        b"\x77\x07\x6d\x0a\x73\x18\xa5\x7d\x3c\x16\xc1\x72\x51\xb2\x66\x45\
        \xdf\x4c\x2f\x87\xeb\xc0\x99\x2a\xb1\x77\xfb\xa5\x1d\xb9\x2c\x2a",
    );
    let alice_public = *b"\x85\x20\xf0\x09\x89\x30\xa7\x54\x74\x8b\x7d\xdc\xb4\x3e\xf7\x5a\
        \x0d\xbf\x3a\x0d\x26\x38\x1a\xf4\xeb\xa4\xa9\x8e\xaa\x9b\x4e\x6a";
    let bob_public = *b"\xde\x9e\xdb\x7d\x7b\x7d\xc1\xb4\xd3\x5b\x61\xc2\xec\xe4\x35\x37\
        \x3f\x83\x43\xc8\x5b\x78\x67\x4d\xad\xfc\x7e\x14\x6f\x88\x2b\x4f";
    let shared = *b"\x4a\x5d\x9d\x5b\xa4\xce\x2d\xe1\x72\x8e\x3b\xf4\x80\x35\x0f\x25\
        \xe0\x7e\x21\xc9\x47\xd1\x9e\x33\x76\xf0\x9b\x3c\x1e\x16\x17\x42";
    expect(
        x25519_base(&alice) == alice_public,
        "x25519 rfc7748-6.1 public key",
    )?;
    let s = x25519(&alice, &bob_public);
    expect(
        s.is_some_and(|s| ct_equal(s.bytes(), &shared)),
        "x25519 rfc7748-6.1 shared secret",
    )?;
    expect(x25519(&alice, &[0; KEY_LEN]).is_none(), "x25519 zero point")
}

/// RFC 7693, appendix E; our one keyed form has its key and output lengths there as well.
#[inline(never)]
fn test_blake2s() -> Result<(), &'static str> {
    /// The Fibonacci generator of the appendix.
    fn sequence(buf: &mut [u8], seed: u32) {
        let (mut a, mut b) = (0xdead_4badu32.wrapping_mul(seed), 1u32);
        for byte in buf {
            (a, b) = (b, a.wrapping_add(b));
            [*byte, ..] = b.to_be_bytes();
        }
    }
    let mut all = Blake2s256::default();
    let mut space = [0u8; 1024];
    macro_rules! outputs {
        ($($size:ty, $len:expr);*) => {$(
            let mut key = [0u8; $len];
            sequence(&mut key, $len);
            for len in [0u32, 3, 64, 65, 255, 1024] {
                let input = space.get_mut(..len as usize).unwrap_or_default();
                sequence(input, len);
                let mut plain = Blake2s::<$size>::default();
                Update::update(&mut plain, input);
                Update::update(&mut all, &plain.finalize_fixed());
                let keyed = <Blake2sMac<$size> as KeyInit>::new_from_slice(&key);
                let mut keyed = keyed.map_err(|_| "blake2s rfc7693-E key")?;
                Mac::update(&mut keyed, input);
                Update::update(&mut all, &keyed.finalize_fixed());
            }
        )*};
    }
    outputs!(U16, 16; U20, 20; U28, 28; U32, 32);
    let sum = *b"\x6a\x41\x1f\x08\xce\x25\xad\xcd\xfb\x02\xab\xa6\x41\x45\x1c\xec\
        \x53\xc5\x98\xb2\x4f\x4f\xc7\x87\xfb\xdc\x88\x79\x7f\x4c\x1d\xfe";
    expect(all.finalize_fixed() == sum, "blake2s rfc7693-E")?;
    let mac = *b"\x61\xba\x5f\x16\x5c\x19\x46\x92\xe0\x9d\x12\x52\x0c\xc4\xc7\x4a";
    expect(
        blake2s_mac(&counting::<32>(0), &[b"a", b"bc"]) == Some(mac),
        "blake2s mac",
    )
}

/// Keys below and above the block length, and the chain of the KDF; from Python's `hmac`.
#[inline(never)]
fn test_hmac() -> Result<(), &'static str> {
    let short = *b"\x65\xa8\xb7\xc5\xcc\x91\x36\xd4\x24\xe8\x2c\x37\xe2\x70\x7e\x74\
        \xe9\x13\xc0\x65\x5b\x99\xc7\x5f\x40\xed\xf3\x87\x45\x3a\x32\x60";
    let long = *b"\xd2\x3d\x79\x39\x4f\x53\xd5\x36\xa0\x96\xe6\x51\x44\x47\xee\xaa\
        \xbb\x05\xde\xd0\x1b\xe3\x2c\x19\x37\xda\x6a\x8f\x71\x03\xbc\x4e";
    expect(
        ct_equal(hmac(&[0x0b; 20], &[b"Hi There"]).bytes(), &short),
        "hmac short key",
    )?;
    let text = b"Test Using Larger Than Block-Size Key - Hash Key First";
    expect(
        ct_equal(hmac(&[0xaa; 131], &[text]).bytes(), &long),
        "hmac long key",
    )?;

    let sum = *b"\xac\x89\xcc\xa3\x15\x39\xf9\xac\x42\x07\x3f\x3d\x5c\xfe\xf1\xc0\
        \xcf\x9e\x30\x6f\x44\x6c\x3e\x91\x10\x5a\x33\xfa\x60\x66\xd9\x88";
    let key = Secret::new(&counting(0));
    let (t1, t2, t3) = kdf3(&key, b"abc");
    expect(
        blake2s(&[t1.bytes(), t2.bytes(), t3.bytes()]) == sum,
        "kdf3",
    )?;
    let (u1, u2) = kdf2(&key, b"abc");
    expect(bool::from(u1.ct_eq(&t1) & u2.ct_eq(&t2)), "kdf2")?;
    expect(kdf1(&key, b"abc").ct_eq(&t1).into(), "kdf1")
}

/// draft-irtf-cfrg-xchacha-03, section A.3.1.
#[inline(never)]
fn test_xchacha() -> Result<(), &'static str> {
    const NAME: &str = "xchacha20poly1305 draft-03-A.3.1";
    let (key, nonce) = (counting(0x80), counting(0x40));
    let aad = *b"\x50\x51\x52\x53\xc0\xc1\xc2\xc3\xc4\xc5\xc6\xc7";
    let tag = *b"\xc0\x87\x59\x24\xc1\xc7\x98\x79\x47\xde\xaf\xd8\x78\x0a\xcf\x49";
    let mut text = *TEST_TEXT;
    expect(
        xchacha20poly1305_seal(&key, &nonce, &aad, &mut text) == Some(tag),
        NAME,
    )?;
    expect(
        xchacha20poly1305_open(&key, &nonce, &aad, &mut text, &tag),
        NAME,
    )?;
    expect(text == *TEST_TEXT, NAME)?;
    let mut bad = tag;
    bad.iter_mut().take(1).for_each(|b| *b ^= 1);
    expect(
        !xchacha20poly1305_open(&key, &nonce, &aad, &mut text, &bad),
        "xchacha20poly1305 bad tag",
    )
}
