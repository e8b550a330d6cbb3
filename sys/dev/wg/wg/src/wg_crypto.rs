// SPDX-License-Identifier: BSD-2-Clause
//! The crypto shim: everything that the protocol asks of cryptography, in one file.
//!
//! Two kinds of use, kept apart:
//!
//! - **Packets** go through the [`Aead`] trait, because their speed decides the driver's. A backend
//!   is a `&'static dyn Aead`: [`PORTABLE`] always, `RING` on hosts with the feature `ring`, and
//!   whatever the embedder brings (a vector object, the kernel's own framework). No backend is
//!   used before [`selftest()`] has passed it; [`choose`] sees to that.
//! - **Handshakes** use the free functions, always portable code: they are few, small, and run in
//!   contexts where holding a vector unit is not worth it.
//!
//! Primitives: ChaCha20-Poly1305 (RFC 8439), XChaCha20-Poly1305
//! (draft-irtf-cfrg-xchacha-03), X25519 (RFC 7748), BLAKE2s (RFC 7693), HMAC (RFC 2104) over
//! BLAKE2s and the KDF built of it (WireGuard paper, section 5.4; RFC 5869 without the info).

use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, KeyInit, Mac, Update};
use blake2::{Blake2s256, Blake2sMac};
use chacha20::cipher::{KeyIvInit, StreamCipher};
use chacha20::{ChaCha20, XChaCha20};
use curve25519_dalek::montgomery::MontgomeryPoint;
use poly1305::Poly1305;
use poly1305::universal_hash::UniversalHash;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroize;

use crate::messages::{KEY_LEN, MAC_LEN, TAG_LEN};

mod selftest;

pub use selftest::{selftest, selftest_primitives};

/// A source of secure random bytes (kernel: `arc4random_buf`).
pub trait Rng {
    /// Fills `buf` wholly. Cannot fail: a kernel's generator blocks at boot or is seeded.
    fn fill(&mut self, buf: &mut [u8]);
}

/// A 32-byte secret: a private, shared, chaining or session key.
///
/// It is wiped on drop, compares in constant time, and has no `Debug`, `Clone` or `Copy`. A move
/// may leave a copy behind on the stack, so it is handed on by reference where that matters.
pub struct Secret([u8; KEY_LEN]);

impl Secret {
    /// All zeros.
    pub const fn zero() -> Self {
        Self([0; KEY_LEN])
    }

    /// A copy of `bytes`.
    #[inline]
    pub fn new(bytes: &[u8; KEY_LEN]) -> Self {
        Self(*bytes)
    }

    /// Fresh random bytes.
    pub fn random(rng: &mut dyn Rng) -> Self {
        let mut s = Self::zero();
        rng.fill(&mut s.0);
        s
    }

    /// The bytes, to be passed on by reference and never stored.
    #[inline]
    pub fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Overwrites the value.
    pub fn set(&mut self, bytes: &[u8; KEY_LEN]) {
        self.0 = *bytes;
    }

    /// Clamps the value as an X25519 private key (RFC 7748, section 5).
    pub fn clamp(&mut self) {
        if let Some(first) = self.0.first_mut() {
            *first &= 248;
        }
        if let Some(last) = self.0.last_mut() {
            *last = (*last & 127) | 64;
        }
    }

    /// Whether all bytes are zero, in constant time.
    pub fn is_zero(&self) -> Choice {
        self.0.ct_eq(&[0; KEY_LEN])
    }

    /// Another secret of the same value: an explicit name, so that copies are seen in review.
    pub fn duplicate(&self) -> Self {
        Self(self.0)
    }
}

impl ConstantTimeEq for Secret {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Most packets that a driver seals or opens inside one [`Aead::batch`].
///
/// A backend may hold the vector unit for the length of a batch, and the kernel may keep the
/// thread on its CPU meanwhile: 64 packets of 1,500 bytes are about 50 microseconds at 2 GB/s,
/// long enough to make taking the unit cheap, short enough to be no latency.
pub const BATCH: usize = 64;

/// A ChaCha20-Poly1305 implementation for data packets (RFC 8439, section 2.8).
///
/// Data packets have no associated data, and their nonce is four zero bytes and the little-endian
/// counter (WireGuard paper, section 5.4.6), so neither is a parameter.
///
/// `seal` and `open` may be called from several threads at once. An implementation may demand
/// that they are called inside [`Aead::batch`] only; callers always do so.
pub trait Aead: Sync {
    /// A short lower-case name, for messages and [`choose`].
    fn name(&self) -> &'static str;

    /// Encrypts in place. `buf` is the plaintext and behind it 16 bytes of room for the tag.
    ///
    /// False, with `buf` in an undefined state that must not be sent, if `buf` is shorter than a
    /// tag or the backend failed.
    #[must_use]
    fn seal(&self, key: &[u8; KEY_LEN], counter: u64, buf: &mut [u8]) -> bool;

    /// Verifies and decrypts in place. `buf` is ciphertext and tag; on success the plaintext is
    /// `buf` without its last 16 bytes.
    ///
    /// False if the tag is wrong, `buf` is shorter than a tag, or the backend failed; `buf` must
    /// then be dropped.
    #[must_use]
    fn open(&self, key: &[u8; KEY_LEN], counter: u64, buf: &mut [u8]) -> bool;

    /// Runs `f`, once, holding whatever the backend needs (a vector unit); `f` handles at most
    /// [`BATCH`] packets, does not sleep and does not nest batches.
    fn batch(&self, f: &mut dyn FnMut()) {
        f();
    }
}

/// The 96-bit nonce of a counter (WireGuard paper, section 5.4).
#[inline]
fn counter_nonce(counter: u64) -> [u8; 12] {
    let [a, b, c, d, e, f, g, h] = counter.to_le_bytes();
    [0, 0, 0, 0, a, b, c, d, e, f, g, h]
}

/// The backend of plain Rust code, on every target.
pub struct Portable;

/// The one [`Portable`].
pub static PORTABLE: Portable = Portable;

impl Aead for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn seal(&self, key: &[u8; KEY_LEN], counter: u64, buf: &mut [u8]) -> bool {
        let Some((text, tag)) = buf.split_last_chunk_mut::<TAG_LEN>() else {
            return false;
        };
        match chacha20poly1305_seal(key, &counter_nonce(counter), &[], text) {
            Some(t) => {
                *tag = t;
                true
            }
            None => false,
        }
    }

    fn open(&self, key: &[u8; KEY_LEN], counter: u64, buf: &mut [u8]) -> bool {
        let Some((text, tag)) = buf.split_last_chunk_mut::<TAG_LEN>() else {
            return false;
        };
        chacha20poly1305_open(key, &counter_nonce(counter), &[], text, tag)
    }
}

#[cfg(feature = "ring")]
mod ring_backend {
    use super::*;
    use ::ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

    /// The backend of the `ring` crate: vector code, for processes on a host.
    ///
    /// `ring` does not wipe its copy of a key; it lives on the stack for one call.
    pub struct Ring;

    /// The one [`Ring`].
    pub static RING: Ring = Ring;

    fn key_of(key: &[u8; KEY_LEN]) -> Option<LessSafeKey> {
        UnboundKey::new(&CHACHA20_POLY1305, key)
            .ok()
            .map(LessSafeKey::new)
    }

    impl Aead for Ring {
        fn name(&self) -> &'static str {
            "ring"
        }

        fn seal(&self, key: &[u8; KEY_LEN], counter: u64, buf: &mut [u8]) -> bool {
            let nonce = Nonce::assume_unique_for_key(counter_nonce(counter));
            let Some((text, tag)) = buf.split_last_chunk_mut::<TAG_LEN>() else {
                return false;
            };
            let Some(k) = key_of(key) else { return false };
            let Ok(t) = k.seal_in_place_separate_tag(nonce, Aad::empty(), text) else {
                return false;
            };
            match t.as_ref().first_chunk() {
                Some(t) => {
                    *tag = *t;
                    true
                }
                None => false,
            }
        }

        fn open(&self, key: &[u8; KEY_LEN], counter: u64, buf: &mut [u8]) -> bool {
            let nonce = Nonce::assume_unique_for_key(counter_nonce(counter));
            key_of(key).is_some_and(|k| k.open_in_place(nonce, Aad::empty(), buf).is_ok())
        }
    }
}
#[cfg(feature = "ring")]
pub use ring_backend::{RING, Ring};

/// Why [`choose`] gave no backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChooseError {
    /// No backend has that name in this build.
    Unknown,
    /// The backend's answer to the named test vector was wrong.
    SelfTest(&'static str),
}

/// The backend called `name`, or for `"auto"` the first that passes [`selftest()`] of `extra` in its
/// order, `ring` if built in, and `portable`.
///
/// # Errors
/// A named backend is never replaced by another: it is unknown, or it failed its test.
pub fn choose(name: &str, extra: &[&'static dyn Aead]) -> Result<&'static dyn Aead, ChooseError> {
    let builtin: &[&'static dyn Aead] = &[
        #[cfg(feature = "ring")]
        &RING,
        &PORTABLE,
    ];
    let mut refused = ChooseError::Unknown;
    for &backend in extra.iter().chain(builtin) {
        if name != "auto" && name != backend.name() {
            continue;
        }
        match selftest(backend) {
            Ok(()) => return Ok(backend),
            Err(vector) => refused = ChooseError::SelfTest(vector),
        }
    }
    Err(refused)
}

/// Encrypts `text` in place with a full nonce and associated data; gives the tag (RFC 8439, 2.8).
///
/// None if `text` is longer than the cipher's 256 GiB, which no message of ours can be.
pub fn chacha20poly1305_seal(
    key: &[u8; KEY_LEN],
    nonce: &[u8; 12],
    aad: &[u8],
    text: &mut [u8],
) -> Option<[u8; TAG_LEN]> {
    seal_with(ChaCha20::new(key.into(), nonce.into()), aad, text)
}

/// Verifies `tag` and decrypts `text` in place; false, `text` untouched, if it does not verify.
#[must_use]
pub fn chacha20poly1305_open(
    key: &[u8; KEY_LEN],
    nonce: &[u8; 12],
    aad: &[u8],
    text: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> bool {
    open_with(ChaCha20::new(key.into(), nonce.into()), aad, text, tag)
}

/// [`chacha20poly1305_seal`] with the extended nonce (draft-irtf-cfrg-xchacha-03, section 2.3).
pub fn xchacha20poly1305_seal(
    key: &[u8; KEY_LEN],
    nonce: &[u8; 24],
    aad: &[u8],
    text: &mut [u8],
) -> Option<[u8; TAG_LEN]> {
    seal_with(XChaCha20::new(key.into(), nonce.into()), aad, text)
}

/// [`chacha20poly1305_open`] with the extended nonce.
#[must_use]
pub fn xchacha20poly1305_open(
    key: &[u8; KEY_LEN],
    nonce: &[u8; 24],
    aad: &[u8],
    text: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> bool {
    open_with(XChaCha20::new(key.into(), nonce.into()), aad, text, tag)
}

// The construction of RFC 8439, section 2.8, is put together here, and not taken from the crate
// `chacha20poly1305`, because that one panics where a key stream ends; these two functions report
// it, so that the module has no panic path. The parts are the same.

fn seal_with(mut cipher: impl StreamCipher, aad: &[u8], text: &mut [u8]) -> Option<[u8; TAG_LEN]> {
    let mac = start_mac(&mut cipher)?;
    cipher.try_apply_keystream(text).ok()?;
    Some(finish_mac(mac, aad, text))
}

fn open_with(
    mut cipher: impl StreamCipher,
    aad: &[u8],
    text: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> bool {
    let expected = start_mac(&mut cipher).map(|mac| finish_mac(mac, aad, text));
    expected.is_some_and(|expected| ct_equal(&expected, tag))
        && cipher.try_apply_keystream(text).is_ok()
}

/// The one-time key of Poly1305 is the first half of block zero; the text starts at block one.
fn start_mac(cipher: &mut impl StreamCipher) -> Option<Poly1305> {
    let mut block = [0; 64];
    let mac = match (
        cipher.try_apply_keystream(&mut block),
        block.first_chunk::<KEY_LEN>(),
    ) {
        (Ok(()), Some(key)) => Some(poly1305::universal_hash::KeyInit::new(key.into())),
        _ => None,
    };
    block.zeroize();
    mac
}

fn finish_mac(mut mac: Poly1305, aad: &[u8], text: &[u8]) -> [u8; TAG_LEN] {
    mac.update_padded(aad);
    mac.update_padded(text);
    let lengths = [aad.len(), text.len()].map(|len| (len as u64).to_le_bytes());
    mac.update_padded(lengths.as_flattened());
    mac.finalize().into()
}

/// Seals a handshake field: `plain` to `out`, which is `plain` and a tag. The nonce is zero, as
/// every handshake key is used once (WireGuard paper, section 5.4.2).
///
/// False if the lengths do not fit each other.
#[must_use]
pub fn seal_small(key: &Secret, aad: &[u8], plain: &[u8], out: &mut [u8]) -> bool {
    let Some((text, tag)) = out.split_last_chunk_mut::<TAG_LEN>() else {
        return false;
    };
    if text.len() != plain.len() {
        return false;
    }
    text.copy_from_slice(plain);
    match chacha20poly1305_seal(key.bytes(), &[0; 12], aad, text) {
        Some(t) => {
            *tag = t;
            true
        }
        None => false,
    }
}

/// Opens a handshake field: `sealed` (ciphertext and tag) to `plain`.
///
/// False, `plain` zeroed, if the tag is wrong or the lengths do not fit each other.
#[must_use]
pub fn open_small(key: &Secret, aad: &[u8], sealed: &[u8], plain: &mut [u8]) -> bool {
    let Some((text, tag)) = sealed.split_last_chunk::<TAG_LEN>() else {
        return false;
    };
    if text.len() != plain.len() {
        return false;
    }
    plain.copy_from_slice(text);
    let good = chacha20poly1305_open(key.bytes(), &[0; 12], aad, plain, tag);
    if !good {
        plain.zeroize();
    }
    good
}

/// The shared secret of a private and a public key (RFC 7748, section 5). The private key is
/// clamped on the way.
///
/// None if the result is all zero, that is, if the public key is one of the few points of small
/// order; the check is in constant time (RFC 7748, section 6.1).
pub fn x25519(private: &Secret, public: &[u8; KEY_LEN]) -> Option<Secret> {
    let mut clamped = private.duplicate();
    clamped.clamp();
    // Not `mul_clamped`: it takes the key by value, which leaves a copy on the stack, and has a
    // bounds check that the compiler does not see through.
    let bits = clamped
        .0
        .iter()
        .rev()
        .flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1 == 1));
    let mut point = MontgomeryPoint(*public).mul_bits_be(bits);
    let shared = Secret::new(&point.0);
    point.zeroize();
    if bool::from(shared.is_zero()) {
        None
    } else {
        Some(shared)
    }
}

/// The public key of a private key.
pub fn x25519_base(private: &Secret) -> [u8; KEY_LEN] {
    MontgomeryPoint::mul_base_clamped(*private.bytes()).0
}

/// BLAKE2s with 32 bytes of output over the concatenation of `parts` (RFC 7693).
pub fn blake2s(parts: &[&[u8]]) -> [u8; KEY_LEN] {
    let mut h = Blake2s256::default();
    for part in parts {
        Update::update(&mut h, part);
    }
    h.finalize_fixed().into()
}

/// Keyed BLAKE2s with 16 bytes of output: `Mac` of the WireGuard paper, section 5.4.
///
/// Keys of more than 32 bytes do not occur; none is accepted.
pub fn blake2s_mac(key: &[u8], parts: &[&[u8]]) -> Option<[u8; MAC_LEN]> {
    let mut h: Blake2sMac<U16> = KeyInit::new_from_slice(key).ok()?;
    for part in parts {
        Mac::update(&mut h, part);
    }
    Some(h.finalize_fixed().into())
}

/// HMAC over BLAKE2s with a block of 64 bytes (RFC 2104); `Hmac` of the WireGuard paper.
pub fn hmac(key: &[u8], parts: &[&[u8]]) -> Secret {
    const BLOCK: usize = 64;
    let mut pad = [0u8; BLOCK];
    if key.len() > BLOCK {
        let mut hashed = blake2s(&[key]);
        pad.iter_mut().zip(&hashed).for_each(|(p, k)| *p = *k);
        hashed.zeroize();
    } else {
        pad.iter_mut().zip(key).for_each(|(p, k)| *p = *k);
    }
    pad.iter_mut().for_each(|p| *p ^= 0x36);
    let mut inner = Blake2s256::default();
    Update::update(&mut inner, &pad);
    for part in parts {
        Update::update(&mut inner, part);
    }
    let inner = Secret(inner.finalize_fixed().into());
    pad.iter_mut().for_each(|p| *p ^= 0x36 ^ 0x5c);
    let out = Secret(blake2s(&[&pad, inner.bytes()]));
    pad.zeroize();
    out
}

/// `Kdf1` of the WireGuard paper, section 5.4.
pub fn kdf1(key: &Secret, input: &[u8]) -> Secret {
    let t0 = hmac(key.bytes(), &[input]);
    hmac(t0.bytes(), &[&[1]])
}

/// `Kdf2` of the WireGuard paper, section 5.4.
pub fn kdf2(key: &Secret, input: &[u8]) -> (Secret, Secret) {
    let t0 = hmac(key.bytes(), &[input]);
    let t1 = hmac(t0.bytes(), &[&[1]]);
    let t2 = hmac(t0.bytes(), &[t1.bytes(), &[2]]);
    (t1, t2)
}

/// `Kdf3` of the WireGuard paper, section 5.4.
pub fn kdf3(key: &Secret, input: &[u8]) -> (Secret, Secret, Secret) {
    let t0 = hmac(key.bytes(), &[input]);
    let t1 = hmac(t0.bytes(), &[&[1]]);
    let t2 = hmac(t0.bytes(), &[t1.bytes(), &[2]]);
    let t3 = hmac(t0.bytes(), &[t2.bytes(), &[3]]);
    (t1, t2, t3)
}

/// Whether two byte strings of one length are equal, in constant time.
#[inline]
pub fn ct_equal<const N: usize>(a: &[u8; N], b: &[u8; N]) -> bool {
    a.ct_eq(b).into()
}
