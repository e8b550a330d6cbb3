// SPDX-License-Identifier: BSD-2-Clause
//! The crypto shim: known answers, self-tests that catch broken backends, backends against each
//! other.

#![cfg_attr(miri, allow(dead_code, unused_imports))]

mod common;

use common::{TestRng, hex};
use wg::wg_crypto::*;

fn backends() -> Vec<&'static dyn Aead> {
    vec![
        &PORTABLE,
        #[cfg(feature = "ring")]
        &RING,
    ]
}

#[cfg(not(miri))]
#[test]
fn selftests_pass() {
    for b in backends() {
        assert_eq!(selftest(b), Ok(()), "{}", b.name());
    }
}

#[test]
fn primitives_pass() {
    assert_eq!(selftest_primitives(), Ok(()));
}

/// A backend with one fault.
struct Faulty {
    name: &'static str,
    seal: fn(&[u8; 32], u64, &mut [u8]) -> bool,
    open: fn(&[u8; 32], u64, &mut [u8]) -> bool,
}

impl Aead for Faulty {
    fn name(&self) -> &'static str {
        self.name
    }
    fn seal(&self, key: &[u8; 32], counter: u64, buf: &mut [u8]) -> bool {
        (self.seal)(key, counter, buf)
    }
    fn open(&self, key: &[u8; 32], counter: u64, buf: &mut [u8]) -> bool {
        (self.open)(key, counter, buf)
    }
}

fn seal(key: &[u8; 32], counter: u64, buf: &mut [u8]) -> bool {
    PORTABLE.seal(key, counter, buf)
}

fn open(key: &[u8; 32], counter: u64, buf: &mut [u8]) -> bool {
    PORTABLE.open(key, counter, buf)
}

static FAULTY: [Faulty; 7] = [
    Faulty {
        name: "reports failure",
        seal: |_, _, _| false,
        open,
    },
    Faulty {
        name: "does nothing",
        seal: |_, _, _| true,
        open: |_, _, _| true,
    },
    Faulty {
        name: "ignores the tag",
        seal,
        open: |k, c, b| {
            let plain = b.len().saturating_sub(16);
            // Sealing zeros gives the key stream.
            let mut stream = vec![0; b.len()];
            let _ = PORTABLE.seal(k, c, &mut stream);
            b[..plain]
                .iter_mut()
                .zip(&stream)
                .for_each(|(b, s)| *b ^= s);
            true
        },
    },
    Faulty {
        name: "counts in 32 bits",
        seal: |k, c, b| seal(k, c as u32 as u64, b),
        open: |k, c, b| open(k, c as u32 as u64, b),
    },
    Faulty {
        name: "big-endian counter",
        seal: |k, c, b| seal(k, c.swap_bytes(), b),
        open: |k, c, b| open(k, c.swap_bytes(), b),
    },
    Faulty {
        name: "wrong above 512 bytes",
        seal: |k, c, b| {
            let good = seal(k, c, b);
            if b.len() > 530 {
                b[520] ^= 1;
            }
            good
        },
        open,
    },
    Faulty {
        name: "checks half of the tag",
        seal,
        open: |k, c, b| {
            let Some(at) = b.len().checked_sub(16) else {
                return false;
            };
            // Decrypt, seal again, compare the first half of the tags.
            let (text, tag) = b.split_at_mut(at);
            let mut twin = vec![0; text.len() + 16];
            let mut stream = vec![0; text.len() + 16];
            let _ = PORTABLE.seal(k, c, &mut stream);
            text.iter_mut().zip(&stream).for_each(|(t, s)| *t ^= s);
            twin[..text.len()].copy_from_slice(text);
            let _ = PORTABLE.seal(k, c, &mut twin);
            twin[text.len()..text.len() + 8] == tag[..8]
        },
    },
];

#[test]
#[cfg(not(miri))]
fn selftest_catches_faults() {
    for f in &FAULTY {
        let verdict = selftest(f);
        println!("{}: {verdict:?}", f.name);
        assert!(verdict.is_err(), "{} passed", f.name);
    }
}

#[test]
#[cfg(not(miri))]
fn choose_by_name() {
    assert_eq!(
        choose("portable", &[]).map(|b| b.name()).ok(),
        Some("portable")
    );
    assert_eq!(
        choose("none", &[]).map(|b| b.name()),
        Err(ChooseError::Unknown)
    );
    let expected = if cfg!(feature = "ring") {
        "ring"
    } else {
        "portable"
    };
    assert_eq!(choose("auto", &[]).map(|b| b.name()), Ok(expected));
    // A broken extra backend is passed over by "auto", and never silently replaced by name.
    assert_eq!(
        choose("auto", &[&FAULTY[1]]).map(|b| b.name()),
        Ok(expected)
    );
    assert!(matches!(
        choose("does nothing", &[&FAULTY[1]]).map(|b| b.name()),
        Err(ChooseError::SelfTest(_))
    ));
    static GOOD: Faulty = Faulty {
        name: "vector",
        seal,
        open,
    };
    assert_eq!(choose("auto", &[&GOOD]).map(|b| b.name()), Ok("vector"));
    assert_eq!(choose("vector", &[&GOOD]).map(|b| b.name()), Ok("vector"));
}

/// RFC 8439, section 2.8.2, in full.
#[test]
fn rfc8439_aead() {
    let key: [u8; 32] = core::array::from_fn(|i| 0x80 + i as u8);
    let nonce: [u8; 12] = hex("070000004041424344454647").try_into().unwrap();
    let aad = hex("50515253c0c1c2c3c4c5c6c7");
    let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for \
        the future, sunscreen would be it.";
    let mut text = *plain;
    let tag = chacha20poly1305_seal(&key, &nonce, &aad, &mut text).unwrap();
    assert_eq!(tag.to_vec(), hex("1ae10b594f09e26a7e902ecbd0600691"));
    assert_eq!(text[..16].to_vec(), hex("d31a8d34648e60db7b86afbc53ef7ec2"));
    assert!(chacha20poly1305_open(&key, &nonce, &aad, &mut text, &tag));
    assert_eq!(&text, plain);
}

/// RFC 7748, section 5.2: the single vectors and the iterated one.
#[cfg(not(miri))]
#[test]
fn rfc7748_vectors() {
    let run = |k: &str, u: &str| {
        let k = Secret::new(&hex(k).try_into().unwrap());
        *x25519(&k, &hex(u).try_into().unwrap()).unwrap().bytes()
    };
    assert_eq!(
        run(
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"
        )
        .to_vec(),
        hex("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552")
    );
    assert_eq!(
        run(
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493"
        )
        .to_vec(),
        hex("95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957")
    );
    let mut k = [0; 32];
    k[0] = 9;
    let mut u = k;
    for round in 1..=1000 {
        let next = *x25519(&Secret::new(&k), &u).unwrap().bytes();
        u = k;
        k = next;
        if round == 1 {
            let once = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079";
            assert_eq!(k.to_vec(), hex(once));
        }
    }
    let end = "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51";
    assert_eq!(k.to_vec(), hex(end));
}

/// The base-point function agrees with the general one.
#[test]
fn x25519_base_agrees() {
    let mut rng = TestRng::new(1);
    let mut nine = [0; 32];
    nine[0] = 9;
    for _ in 0..if cfg!(miri) { 1 } else { 100 } {
        let k = Secret::random(&mut rng);
        assert_eq!(x25519_base(&k), *x25519(&k, &nine).unwrap().bytes());
    }
}

/// Points that give a zero shared secret whatever the private key: those of small order on the
/// curve and its twist, in every encoding that RFC 7748 section 5 admits.
#[test]
fn x25519_zero_points() {
    let k = Secret::random(&mut TestRng::new(2));
    for point in common::SMALL_ORDER
        .iter()
        .take(if cfg!(miri) { 1 } else { 12 })
    {
        let point: [u8; 32] = hex(point).try_into().unwrap();
        assert!(x25519(&k, &point).is_none(), "{point:02x?}");
    }
}

#[test]
fn hash_parts_are_concatenated() {
    assert_eq!(blake2s(&[b"ab", b"", b"c"]), blake2s(&[b"abc"]));
    assert_eq!(
        blake2s(&[b"abc"]).to_vec(),
        hex("508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982")
    );
    assert_eq!(blake2s_mac(&[1; 33], &[b""]), None);
    assert_eq!(
        hmac(&[7; 9], &[b"ab", b"c"]).bytes(),
        hmac(&[7; 9], &[b"abc"]).bytes()
    );
}

#[test]
fn small_messages_have_exact_lengths() {
    let key = Secret::new(&[7; 32]);
    let mut out = [0; 20];
    assert!(!seal_small(&key, b"", &[1, 2, 3], &mut out));
    assert!(!seal_small(&key, b"", &[], &mut out[..15]));
    assert!(seal_small(&key, b"a", &[1, 2, 3, 4], &mut out));
    let mut plain = [9; 4];
    assert!(!open_small(&key, b"a", &out, &mut plain[..3]));
    assert!(!open_small(&key, b"b", &out, &mut plain));
    assert_eq!(plain, [0; 4], "wiped on failure");
    assert!(open_small(&key, b"a", &out, &mut plain));
    assert_eq!(plain, [1, 2, 3, 4]);
    assert!(!open_small(&key, b"a", &out[..15], &mut []));
}

#[test]
fn clamping() {
    let mut s = Secret::new(&[0xff; 32]);
    s.clamp();
    assert_eq!((s.bytes()[0], s.bytes()[31]), (248, 127));
    let mut s = Secret::zero();
    assert!(bool::from(s.is_zero()));
    s.clamp();
    assert_eq!((s.bytes()[0], s.bytes()[31]), (0, 64));
    assert!(!bool::from(s.is_zero()));
}

/// Every backend against `ring` used directly, at random lengths.
#[cfg(not(miri))]
#[test]
fn backends_agree_with_ring() {
    use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
    let mut rng = TestRng::new(3);
    for round in 0..2000u64 {
        let mut key = [0; 32];
        rng.fill(&mut key);
        let counter = rng.next() >> (round % 64);
        let mut plain = vec![0; (rng.next() % 2048) as usize];
        rng.fill(&mut plain);

        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_le_bytes());
        let mut expected = plain.clone();
        LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).unwrap())
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::empty(),
                &mut expected,
            )
            .unwrap();
        for b in backends() {
            let mut buf = plain.clone();
            buf.resize(plain.len() + 16, 0);
            b.batch(&mut || assert!(b.seal(&key, counter, &mut buf)));
            assert_eq!(buf, expected, "{} round {round}", b.name());
            b.batch(&mut || assert!(b.open(&key, counter, &mut buf)));
            assert_eq!(buf[..plain.len()], plain, "{} round {round}", b.name());
        }
    }
}
