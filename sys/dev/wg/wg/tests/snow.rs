// SPDX-License-Identifier: BSD-2-Clause
//! Against `snow`, an independent implementation of the Noise framework, in both roles.
#![cfg(not(miri))]

mod common;

use common::TestRng;
use snow::{Builder, HandshakeState};
use wg::messages::*;
use wg::wg_crypto::*;
use wg::wg_noise::*;

const PSK: [u8; 32] = [0x77; 32];

fn keys(seed: u64) -> (Identity, Identity) {
    let mut rng = TestRng::new(seed);
    let a = Identity::new(Secret::random(&mut rng).bytes());
    let b = Identity::new(Secret::random(&mut rng).bytes());
    (a, b)
}

fn snow(local: &Identity, remote: Option<&Identity>, psk: &[u8; 32]) -> HandshakeState {
    let b = Builder::new("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s".parse().unwrap())
        .prologue(b"WireGuard v1 zx2c4 Jason@zx2c4.com")
        .unwrap()
        .local_private_key(local.private().bytes())
        .unwrap()
        .psk(2, psk)
        .unwrap();
    match remote {
        Some(r) => b
            .remote_public_key(r.public())
            .unwrap()
            .build_initiator()
            .unwrap(),
        None => b.build_responder().unwrap(),
    }
}

const ROUNDS: u64 = 20;

#[test]
fn we_initiate() {
    for seed in 0..ROUNDS {
        let psk = if seed % 2 == 0 { PSK } else { [0; 32] };
        let (us, them) = keys(seed);
        let mut ours = Handshake::new(them.public(), &psk, Some(&us));
        let mut theirs = snow(&them, None, &psk);
        let stamp = StampClock::new().stamp(1_700_000_000 + seed, 5);
        let rng = &mut TestRng::new(seed + 100);
        let init = ours.create_initiation(&us, 1, stamp, rng).unwrap();

        let mut payload = [0; 64];
        let n = theirs.read_message(&init[8..116], &mut payload).unwrap();
        assert_eq!(&payload[..n], stamp.bytes());
        assert_eq!(theirs.get_remote_static().unwrap(), us.public());
        let mut out = [0; 64];
        assert_eq!(theirs.write_message(&[], &mut out).unwrap(), 48);
        let mut resp = [0; RESPONSE_LEN];
        resp[0] = 2;
        resp[4] = 9;
        resp[8] = 1;
        resp[12..60].copy_from_slice(&out[..48]);
        let keys = ours
            .consume_response(&us, &Response::parse(&resp).unwrap())
            .unwrap();
        assert_eq!((keys.local_index, keys.remote_index), (1, 9));
        check_transport(theirs, keys);
    }
}

#[test]
fn they_initiate() {
    for seed in 0..ROUNDS {
        let psk = if seed % 2 == 0 { PSK } else { [0; 32] };
        let (us, them) = keys(seed + 50);
        let mut ours = Handshake::new(them.public(), &psk, Some(&us));
        let mut theirs = snow(&them, Some(&us), &psk);
        let mut out = [0; 128];
        let stamp = StampClock::new().stamp(1_700_000_000 + seed, 5);
        assert_eq!(theirs.write_message(stamp.bytes(), &mut out).unwrap(), 108);
        let mut init = [0; INITIATION_LEN];
        init[0] = 1;
        init[4] = 9;
        init[8..116].copy_from_slice(&out[..108]);
        let incoming = read_initiation(&us, &Initiation::parse(&init).unwrap()).unwrap();
        assert_eq!(incoming.static_public(), them.public());
        ours.accept_initiation(incoming, 0).unwrap();
        let (resp, keys) = ours
            .create_response(1, &mut TestRng::new(seed + 200))
            .unwrap();
        let n = theirs.read_message(&resp[12..60], &mut out).unwrap();
        assert_eq!(n, 0);
        assert_eq!((keys.local_index, keys.remote_index), (1, 9));
        check_transport(theirs, keys);
    }
}

/// The keys agree, and packets pass in both directions at several counters.
fn check_transport(mut theirs: HandshakeState, keys: Keys) {
    let (i2r, r2i) = theirs.dangerously_get_raw_split();
    let (send, recv) = if keys.initiator {
        (i2r, r2i)
    } else {
        (r2i, i2r)
    };
    assert_eq!((keys.send.bytes(), keys.recv.bytes()), (&send, &recv));
    let theirs = theirs.into_stateless_transport_mode().unwrap();
    let ours = Keypair::new(keys, 0);
    for counter in [0, 1, 255, 1 << 32, REJECT_AFTER_MESSAGES - 1] {
        let mut buf = [0; 48];
        buf[..32].copy_from_slice(&[7; 32]);
        assert!(ours.seal(&PORTABLE, counter, &mut buf));
        let mut plain = [0; 48];
        assert_eq!(theirs.read_message(counter, &buf, &mut plain).unwrap(), 32);
        assert_eq!(plain[..32], [7; 32]);
        assert_eq!(
            theirs.write_message(counter, &[8; 32], &mut buf).unwrap(),
            48
        );
        assert!(ours.open(&PORTABLE, counter, &mut buf));
        assert_eq!(buf[..32], [8; 32]);
    }
}
