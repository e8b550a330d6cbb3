// SPDX-License-Identifier: BSD-2-Clause
//! The handshake: agreement, refusal of everything damaged, timestamps, floods, simultaneous
//! starts.
//!
//! One key agreement takes Miri seconds, so under Miri only a few of these are run; this
//! crate has no unsafe code of its own.

#![cfg_attr(miri, allow(dead_code, unused_imports))]

mod common;

use common::{End, SMALL_ORDER, TestRng, hex, pair};
use wg::messages::*;
use wg::wg_crypto::*;
use wg::wg_noise::*;

const SECOND: u64 = 1_000_000_000;
const PSK: [u8; 32] = [0x5a; 32];

fn stamp(n: u64) -> Tai64n {
    let mut b = [0; 12];
    b[..8].copy_from_slice(&((1 << 62) + n).to_be_bytes());
    Tai64n::from_bytes(b)
}

impl End {
    fn initiate(&mut self, index: u32, at: u64) -> [u8; INITIATION_LEN] {
        self.handshake
            .create_initiation(&self.id, index, stamp(at), &mut self.rng)
            .unwrap()
    }

    fn accept(&mut self, msg: &[u8], now: u64) -> Result<(), HandshakeError> {
        let msg = Initiation::parse(msg).map_err(|_| HandshakeError::State)?;
        let incoming = read_initiation(&self.id, &msg)?;
        self.handshake.accept_initiation(incoming, now)
    }

    fn respond(&mut self, index: u32) -> ([u8; RESPONSE_LEN], Keys) {
        self.handshake
            .create_response(index, &mut self.rng)
            .unwrap()
    }

    fn finish(&mut self, msg: &[u8]) -> Result<Keys, HandshakeError> {
        let msg = Response::parse(msg).map_err(|_| HandshakeError::State)?;
        self.handshake.consume_response(&self.id, &msg)
    }
}

fn assert_match(a: &Keys, b: &Keys) {
    assert_eq!(a.send.bytes(), b.recv.bytes());
    assert_eq!(a.recv.bytes(), b.send.bytes());
    assert_ne!(a.send.bytes(), a.recv.bytes());
    assert_eq!(
        (a.local_index, a.remote_index),
        (b.remote_index, b.local_index)
    );
    assert_ne!(a.initiator, b.initiator);
}

/// One whole handshake at `at` seconds.
fn handshake(a: &mut End, b: &mut End, at: u64) -> (Keys, Keys) {
    let init = a.initiate(10, at);
    b.accept(&init, at * SECOND).unwrap();
    let (resp, kb) = b.respond(20);
    let ka = a.finish(&resp).unwrap();
    assert_match(&ka, &kb);
    (ka, kb)
}

/// The one that Miri runs as well.
#[test]
fn completes() {
    let (mut a, mut b) = pair(1, &PSK);
    handshake(&mut a, &mut b, 1);
}

#[cfg(not(miri))]
#[test]
fn completes_and_repeats() {
    let (mut a, mut b) = pair(1, &PSK);
    let (k1, _) = handshake(&mut a, &mut b, 1);
    assert!(k1.initiator && k1.local_index == 10 && k1.remote_index == 20);
    let (k2, _) = handshake(&mut b, &mut a, 2);
    assert_ne!(k1.send.bytes(), k2.send.bytes());
    let (k3, _) = handshake(&mut a, &mut b, 3);
    assert_ne!(k1.send.bytes(), k3.send.bytes());
    assert_eq!(a.handshake.pending_index(), None);
}

/// The message layout holds what it says, and the MACs are left zero for the cookie layer.
#[cfg(not(miri))]
#[test]
fn messages_are_well_formed() {
    let (mut a, mut b) = pair(2, &PSK);
    let init = a.initiate(0x0102_0304, 1);
    let m = Initiation::parse(&init).unwrap();
    assert_eq!(m.sender(), 0x0102_0304);
    assert_eq!((m.mac1(), m.mac2()), (&[0; 16], &[0; 16]));
    let incoming = read_initiation(&b.id, &m).unwrap();
    assert_eq!(incoming.static_public(), a.id.public());
    assert_eq!(incoming.remote_index(), 0x0102_0304);
    b.handshake.accept_initiation(incoming, 0).unwrap();
    let (resp, _) = b.respond(0x0506_0708);
    let m = Response::parse(&resp).unwrap();
    assert_eq!((m.sender(), m.receiver()), (0x0506_0708, 0x0102_0304));
    assert_eq!((m.mac1(), m.mac2()), (&[0; 16], &[0; 16]));
}

/// Each byte of the handshake part of each message, flipped, and each length, is refused and
/// changes nothing: the handshake then completes.
///
/// The sender index is not part of the transcript (paper, section 5.4.2): it and the MACs are the
/// cookie layer's to check, as the next test and `cookie.rs` do.
#[cfg(not(miri))]
#[test]
fn damaged_messages_change_nothing() {
    let (mut a, mut b) = pair(3, &PSK);
    let init = a.initiate(10, 1);
    for len in 0..INITIATION_LEN {
        assert!(b.accept(&init[..len], SECOND).is_err());
    }
    for at in (0..116).filter(|at| !(4..8).contains(at)) {
        let mut bad = init;
        bad[at] ^= 1 << (at % 8);
        assert!(b.accept(&bad, SECOND).is_err(), "byte {at}");
    }
    b.accept(&init, SECOND).unwrap();
    let (resp, kb) = b.respond(20);
    for len in 0..RESPONSE_LEN {
        assert!(a.finish(&resp[..len]).is_err());
    }
    for at in (0..60).filter(|at| !(4..8).contains(at)) {
        let mut bad = resp;
        bad[at] ^= 1 << (at % 8);
        assert!(a.finish(&bad).is_err(), "byte {at}");
        assert_eq!(a.handshake.pending_index(), Some(10));
    }
    let ka = a.finish(&resp).unwrap();
    assert_match(&ka, &kb);

    // Data: every byte of the ciphertext, the counter, every length.
    let (ka, kb) = (Keypair::new(ka, 0), Keypair::new(kb, 0));
    let mut good = *b"a packet\0\0\0\0\0\0\0\0................";
    let counter = ka.reserve(1).unwrap();
    assert!(ka.seal(&PORTABLE, counter, &mut good));
    for at in 0..good.len() {
        let mut bad = good;
        bad[at] ^= 1 << (at % 8);
        assert!(!kb.open(&PORTABLE, counter, &mut bad), "byte {at}");
        let mut cut = good;
        assert!(!kb.open(&PORTABLE, counter, &mut cut[..at]), "length {at}");
    }
    for bit in 0..64 {
        assert!(
            !kb.open(&PORTABLE, counter ^ (1 << bit), &mut good.clone()),
            "bit {bit}"
        );
    }
    assert!(kb.open(&PORTABLE, counter, &mut good));
    assert_eq!(&good[..8], b"a packet");
}

/// The sender indices are outside the transcript but inside MAC1.
#[cfg(not(miri))]
#[test]
fn sender_index_is_covered_by_mac1() {
    use wg::wg_cookie::{MacKeys, Macs};
    let (mut a, mut b) = pair(4, &PSK);
    let mut init = a.initiate(10, 1);
    Macs::new(b.id.public()).add_to_initiation(&mut init, 0);
    let keys = MacKeys::new(b.id.public());
    assert!(keys.check_mac1(Initiation::parse(&init).unwrap()));
    for at in 0..132 {
        let mut bad = init;
        bad[at] ^= 1;
        assert!(
            Initiation::parse(&bad).map_or(true, |m| !keys.check_mac1(m)),
            "byte {at}"
        );
    }
    b.accept(&init, 0).unwrap();
    let (mut resp, _) = b.respond(20);
    Macs::new(a.id.public()).add_to_response(&mut resp, 0);
    let keys = MacKeys::new(a.id.public());
    assert!(keys.check_mac1(Response::parse(&resp).unwrap()));
    for at in 0..76 {
        let mut bad = resp;
        bad[at] ^= 1;
        assert!(
            Response::parse(&bad).map_or(true, |m| !keys.check_mac1(m)),
            "byte {at}"
        );
    }
}

/// The receiver index selects the pending initiation.
#[cfg(not(miri))]
#[test]
fn response_for_another_index() {
    let (mut a, mut b) = pair(5, &PSK);
    let init = a.initiate(10, 1);
    b.accept(&init, 0).unwrap();
    let (mut resp, _) = b.respond(20);
    resp[8] ^= 1;
    assert_eq!(a.finish(&resp).err(), Some(HandshakeError::State));
    resp[8] ^= 1;
    assert!(a.finish(&resp).is_ok());
    assert_eq!(
        a.finish(&resp).err(),
        Some(HandshakeError::State),
        "a response is good once"
    );
}

#[cfg(not(miri))]
#[test]
fn psk_must_match() {
    let (mut a, mut b) = pair(6, &PSK);
    b.handshake.set_psk(&[1; 32]);
    let init = a.initiate(10, 1);
    b.accept(&init, 0).unwrap();
    let (resp, _) = b.respond(20);
    assert_eq!(a.finish(&resp).err(), Some(HandshakeError::Sealed));
    b.handshake.set_psk(&PSK);
    handshake(&mut a, &mut b, 2);
    assert_eq!(a.handshake.psk().bytes(), &PSK);
}

#[cfg(not(miri))]
#[test]
fn other_peers_are_refused() {
    let (mut a, b) = pair(7, &PSK);
    let (_, mut stranger) = pair(8, &PSK);
    let init = a.initiate(10, 1);
    // Not addressed to the stranger.
    assert_eq!(stranger.accept(&init, 0), Err(HandshakeError::Sealed));
    // Addressed to us, but handed to the wrong peer's handshake.
    let incoming = read_initiation(&b.id, &Initiation::parse(&init).unwrap()).unwrap();
    assert_eq!(
        stranger.handshake.accept_initiation(incoming, 0),
        Err(HandshakeError::WrongPeer)
    );
}

/// Someone who knows both public keys, but not a's private key, claims to be a.
#[cfg(not(miri))]
#[test]
fn impersonation_fails_at_static_static() {
    let (a, mut b) = pair(9, &PSK);
    let (mallory, _) = pair(10, &PSK);
    // Mallory runs the pattern with a's public key as its static.
    let mut rng = TestRng::new(11);
    let ephemeral = Secret::random(&mut rng);
    let public = x25519_base(&ephemeral);
    let mut chain = Secret::new(&blake2s(&[b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"]));
    let mut hash = blake2s(&[chain.bytes(), b"WireGuard v1 zx2c4 Jason@zx2c4.com"]);
    hash = blake2s(&[&hash, b.id.public()]);
    chain = kdf1(&chain, &public);
    hash = blake2s(&[&hash, &public]);
    let (chain, key) = kdf2(&chain, x25519(&ephemeral, b.id.public()).unwrap().bytes());
    let mut msg = [0; INITIATION_LEN];
    msg[0] = 1;
    msg[8..40].copy_from_slice(&public);
    assert!(seal_small(&key, &hash, a.id.public(), &mut msg[40..88]));
    hash = blake2s(&[&hash, &msg[40..88]]);
    let guess = x25519(mallory.id.private(), b.id.public()).unwrap();
    let (_, key) = kdf2(&chain, guess.bytes());
    assert!(seal_small(&key, &hash, stamp(1).bytes(), &mut msg[88..116]));

    let incoming = read_initiation(&b.id, &Initiation::parse(&msg).unwrap()).unwrap();
    assert_eq!(
        incoming.static_public(),
        a.id.public(),
        "the claim stands so far"
    );
    assert_eq!(b.accept(&msg, 0), Err(HandshakeError::Sealed));
}

#[cfg(not(miri))]
#[test]
fn timestamps_must_grow() {
    let (mut a, mut b) = pair(12, &PSK);
    let first = a.initiate(10, 5);
    b.accept(&first, 0).unwrap();
    assert_eq!(b.accept(&first, SECOND), Err(HandshakeError::Replay));
    // A twin of `a` with an older and with an equal clock.
    let (mut twin, _) = pair(12, &PSK);
    let older = twin.initiate(10, 4);
    assert_eq!(b.accept(&older, 2 * SECOND), Err(HandshakeError::Replay));
    let equal = twin.initiate(10, 5);
    assert_eq!(b.accept(&equal, 3 * SECOND), Err(HandshakeError::Replay));
    // Neither clearing, nor a psk, nor a new identity makes a stamp acceptable again.
    b.handshake.clear();
    b.handshake.set_psk(&PSK);
    let id = Identity::new(b.id.private().bytes());
    b.handshake.set_identity(Some(&id));
    assert_eq!(b.accept(&first, 4 * SECOND), Err(HandshakeError::Replay));
    handshake(&mut a, &mut b, 6);
}

/// CVE-2021-46873: a stamp from far in the future is accepted once and not replayable; the sender
/// whose clock has stepped back since goes on with greater stamps.
#[cfg(not(miri))]
#[test]
fn clock_step_back_on_the_sender() {
    let (mut a, mut b) = pair(13, &PSK);
    let future = a.initiate(10, 1 << 40);
    b.accept(&future, SECOND).unwrap();
    assert_eq!(b.accept(&future, 2 * SECOND), Err(HandshakeError::Replay));
    for n in 3..6 {
        // The clock is right again, far below.
        let init = a.initiate(10, n);
        b.accept(&init, n * SECOND).unwrap();
        let (resp, kb) = b.respond(20);
        assert_match(&a.finish(&resp).unwrap(), &kb);
        assert_eq!(
            b.accept(&future, n * SECOND + SECOND / 2),
            Err(HandshakeError::Replay)
        );
    }
}

#[cfg(not(miri))]
#[test]
fn floods_consume_nothing() {
    let (mut a, mut b) = pair(14, &PSK);
    let m1 = a.initiate(1, 1);
    let m2 = a.initiate(2, 2);
    b.accept(&m1, SECOND).unwrap();
    assert_eq!(b.accept(&m2, SECOND), Err(HandshakeError::Flood));
    assert_eq!(
        b.accept(&m2, SECOND + INITIATION_INTERVAL - 1),
        Err(HandshakeError::Flood)
    );
    // The answer to the accepted one is still possible, and the dropped one is not spent. Nor has
    // its drop moved the time from which the next is acceptable.
    let (r1, _) = b.respond(20);
    assert_eq!(Response::parse(&r1).unwrap().receiver(), 1);
    b.accept(&m2, SECOND + INITIATION_INTERVAL).unwrap();
    let (r2, kb) = b.respond(21);
    assert_match(&a.finish(&r2).unwrap(), &kb);
    // A replay is called a replay, flood or not.
    assert_eq!(
        b.accept(&m2, SECOND + INITIATION_INTERVAL),
        Err(HandshakeError::Replay)
    );
}

/// The first initiation is accepted at any uptime, also right after boot.
#[cfg(not(miri))]
#[test]
fn first_initiation_at_time_zero() {
    let (mut a, mut b) = pair(15, &PSK);
    let m = a.initiate(1, 1);
    b.accept(&m, 0).unwrap();
}

/// Both sides open at once, the messages cross, and both handshakes complete.
#[cfg(not(miri))]
#[test]
fn simultaneous_initiation() {
    let (mut a, mut b) = pair(16, &PSK);
    let init_a = a.initiate(1, 1);
    let init_b = b.initiate(2, 1);
    b.accept(&init_a, 0).unwrap();
    a.accept(&init_b, 0).unwrap();
    assert_eq!(
        (a.handshake.pending_index(), b.handshake.pending_index()),
        (Some(1), Some(2))
    );
    let (resp_b, kb1) = b.respond(3);
    let (resp_a, ka2) = a.respond(4);
    let ka1 = a.finish(&resp_b).unwrap();
    let kb2 = b.finish(&resp_a).unwrap();
    assert_match(&ka1, &kb1);
    assert_match(&kb2, &ka2);
    assert_ne!(ka1.send.bytes(), ka2.recv.bytes());
}

#[cfg(not(miri))]
#[test]
fn states_are_enforced() {
    let (mut a, mut b) = pair(17, &PSK);
    let rng = &mut TestRng::new(0);
    assert_eq!(
        b.handshake.create_response(1, rng).err(),
        Some(HandshakeError::State)
    );
    let init = a.initiate(7, 1);
    b.accept(&init, 0).unwrap();
    let (resp, _) = b.respond(20);
    assert_eq!(
        b.handshake.create_response(1, rng).err(),
        Some(HandshakeError::State)
    );
    // A new initiation forgets the one before.
    a.initiate(8, 2);
    assert_eq!(a.finish(&resp).err(), Some(HandshakeError::State));
    assert_eq!(a.handshake.clear(), Some(8));
    assert_eq!(a.handshake.clear(), None);
    // Clearing forgets a consumed initiation as well.
    let init = a.initiate(9, 3);
    b.accept(&init, SECOND).unwrap();
    b.handshake.clear();
    assert_eq!(
        b.handshake.create_response(1, rng).err(),
        Some(HandshakeError::State)
    );
}

#[cfg(not(miri))]
#[test]
fn identity_change() {
    let (mut a, mut b) = pair(18, &PSK);
    let init = a.initiate(7, 1);
    b.accept(&init, 0).unwrap();
    let (resp, _) = b.respond(20);

    a.id = Identity::new(&[0x42; 32]);
    assert_eq!(a.handshake.set_identity(Some(&a.id)), Some(7));
    assert_eq!(a.finish(&resp).err(), Some(HandshakeError::State));
    // b still knows the old key.
    let init = a.initiate(8, 2);
    let incoming = read_initiation(&b.id, &Initiation::parse(&init).unwrap()).unwrap();
    assert_eq!(
        b.handshake.accept_initiation(incoming, SECOND),
        Err(HandshakeError::WrongPeer)
    );
    b.handshake = Handshake::new(a.id.public(), &PSK, Some(&b.id));
    handshake(&mut a, &mut b, 3);

    // Without an identity nothing is possible, and the peer survives that.
    a.handshake.set_identity(None);
    let none = a
        .handshake
        .create_initiation(&a.id, 9, stamp(4), &mut a.rng);
    assert!(none.is_none());
    assert_eq!(a.handshake.pending_index(), None);
    let init = b.initiate(5, 4);
    assert_eq!(a.accept(&init, 5 * SECOND), Err(HandshakeError::ZeroShared));
    a.handshake.set_identity(Some(&a.id));
    a.accept(&init, 5 * SECOND).unwrap();
}

/// A peer whose key has small order, and ephemerals that have: refused, nothing changed.
#[cfg(not(miri))]
#[test]
fn small_order_points() {
    for point in SMALL_ORDER {
        let point: [u8; 32] = hex(point).try_into().unwrap();
        let (mut a, mut b) = pair(19, &PSK);
        let mut bad = Handshake::new(&point, &PSK, Some(&a.id));
        assert!(
            bad.create_initiation(&a.id, 1, stamp(1), &mut a.rng)
                .is_none()
        );
        assert_eq!(bad.pending_index(), None);

        let mut init = a.initiate(10, 1);
        let good = init;
        init[8..40].copy_from_slice(&point);
        assert_eq!(b.accept(&init, 0), Err(HandshakeError::ZeroShared));
        b.accept(&good, 0).unwrap();
        let (mut resp, kb) = b.respond(20);
        let good = resp;
        resp[12..44].copy_from_slice(&point);
        assert_eq!(a.finish(&resp).err(), Some(HandshakeError::ZeroShared));
        assert_match(&a.finish(&good).unwrap(), &kb);
    }
}

/// An identity is its clamped private key (RFC 7748, section 5).
#[cfg(not(miri))]
#[test]
fn identity_is_clamped() {
    let id = Identity::new(&[0xff; 32]);
    assert_eq!(
        (id.private().bytes()[0], id.private().bytes()[31]),
        (0xf8, 0x7f)
    );
    assert_eq!(id.public(), Identity::new(id.private().bytes()).public());
}

#[test]
fn stamp_clock_never_goes_back() {
    let clock = StampClock::new();
    // TAI64N, whitened to 2^24 ns.
    let s = clock.stamp(1_700_000_000, 0x0123_4567);
    assert_eq!(
        s.bytes()[..8],
        (0x4000_0000_0000_000a_u64 + 1_700_000_000).to_be_bytes()
    );
    assert_eq!(s.bytes()[8..], [0x01, 0, 0, 0]);
    // The same granule gives the same stamp, a later one a later stamp.
    assert_eq!(clock.stamp(1_700_000_000, 0x01ff_ffff), s);
    let t = clock.stamp(1_700_000_000, 0x0200_0000);
    assert!(t > s);
    // After a step back each stamp is greater than all before.
    let mut last = t;
    for n in 0..100 {
        let u = clock.stamp(1_000, n * 1_000);
        assert!(u > last);
        assert_eq!(u.bytes()[..8], t.bytes()[..8], "barely greater");
        last = u;
    }
    // The clock catches up: never less.
    assert!(clock.stamp(1_700_000_000, 0x0200_0000) >= last);
    assert!(clock.stamp(1_700_000_001, 0) > last);
    // Hostile clocks do not wrap.
    let end = clock.stamp(u64::MAX, u32::MAX);
    assert!(clock.stamp(0, 0) >= end);
}

#[test]
fn stamp_successor() {
    assert!(Tai64n::ZERO < Tai64n::ZERO.next());
    let carry = Tai64n::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
    assert_eq!(carry.next().bytes(), &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    let end = Tai64n::from_bytes([255; 12]);
    assert_eq!(end.next(), end);
}
