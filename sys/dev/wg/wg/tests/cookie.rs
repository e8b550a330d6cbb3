// SPDX-License-Identifier: BSD-2-Clause
//! MACs and cookies (WireGuard paper, sections 5.4.4 to 5.4.7).

mod common;

use std::net::SocketAddr;

use common::TestRng;
use wg::messages::*;
use wg::wg_cookie::*;

const SECOND: u64 = 1_000_000_000;

/// Damage at every byte, or under Miri at a few.
const STEP: usize = if cfg!(miri) { 13 } else { 1 };

/// Stands for a public key: this layer only hashes it.
const PUBLIC: [u8; 32] = [0x6b; 32];

/// An initiation without MACs to the owner of [`PUBLIC`], whose checker it is, and the sender's
/// MACs. What the message holds before its MACs does not matter here.
fn setup() -> ([u8; INITIATION_LEN], Checker, Macs) {
    let mut init = [0x33; INITIATION_LEN];
    init[..8].copy_from_slice(&[1, 0, 0, 0, 0x0d, 0x0c, 0x0b, 0x0a]);
    (init, Checker::new(&PUBLIC), Macs::new(&PUBLIC))
}

fn src() -> SocketAddr {
    "192.0.2.1:1000".parse().unwrap()
}

fn view(m: &[u8; INITIATION_LEN]) -> Initiation<'_> {
    Initiation::parse(m).unwrap()
}

#[test]
fn mac1_alone_when_not_under_load() {
    let (mut init, checker, mut macs) = setup();
    assert_eq!(
        checker.check(view(&init), &src(), false, 0),
        Verdict::Invalid
    );
    macs.add_to_initiation(&mut init, 0);
    assert_eq!(view(&init).mac2(), &[0; 16], "no cookie, no MAC2");
    assert_eq!(
        checker.check(view(&init), &src(), false, 0),
        Verdict::Process
    );
    // MAC2 is not looked at; everything before it is.
    for at in (4..INITIATION_LEN).step_by(STEP) {
        let mut bad = init;
        bad[at] ^= 0x10;
        let expected = if at < 132 {
            Verdict::Invalid
        } else {
            Verdict::Process
        };
        assert_eq!(
            checker.check(view(&bad), &src(), false, 0),
            expected,
            "byte {at}"
        );
        let expected = if at < 132 {
            Verdict::Invalid
        } else {
            Verdict::SendCookie
        };
        assert_eq!(
            checker.check(view(&bad), &src(), true, 0),
            expected,
            "byte {at}"
        );
    }
    // For another interface it is invalid.
    assert!(!MacKeys::new(&[1; 32]).check_mac1(view(&init)));
    let mut checker = checker;
    checker.set_public(&[1; 32]);
    assert_eq!(
        checker.check(view(&init), &src(), true, 0),
        Verdict::Invalid
    );
}

#[test]
fn cookie_flow() {
    let (mut init, mut checker, mut macs) = setup();
    let rng = &mut TestRng::new(7);
    macs.add_to_initiation(&mut init, 0);
    assert_eq!(
        checker.check(view(&init), &src(), true, 0),
        Verdict::SendCookie
    );
    let reply = checker.cookie_reply(view(&init), &src(), 0, rng).unwrap();
    let reply = CookieReply::parse(&reply).unwrap();
    assert_eq!(reply.receiver(), 0x0a0b_0c0d);
    assert!(macs.consume_cookie_reply(&reply, SECOND));
    assert!(
        !macs.consume_cookie_reply(&reply, SECOND),
        "a reply is good once"
    );

    macs.add_to_initiation(&mut init, SECOND);
    assert_ne!(view(&init).mac2(), &[0; 16]);
    assert_eq!(
        checker.check(view(&init), &src(), true, 2 * SECOND),
        Verdict::ProcessIfRate
    );
    assert_eq!(
        checker.check(view(&init), &src(), false, 2 * SECOND),
        Verdict::Process
    );

    // Robustness 11: bound to the address and to the port.
    for other in [
        "192.0.2.2:1000",
        "192.0.2.1:1001",
        "[::ffff:192.0.2.1]:1000",
    ] {
        let other = other.parse().unwrap();
        assert_eq!(
            checker.check(view(&init), &other, true, SECOND),
            Verdict::SendCookie
        );
    }
    // Every byte counts for MAC2.
    for at in (4..INITIATION_LEN).step_by(STEP) {
        let mut bad = init;
        bad[at] ^= 1;
        assert_ne!(
            checker.check(view(&bad), &src(), true, SECOND),
            Verdict::ProcessIfRate
        );
    }
}

#[test]
fn responses_carry_macs_as_well() {
    let (_, mut checker, mut macs) = setup();
    let rng = &mut TestRng::new(8);
    let src: SocketAddr = "[2001:db8::1]:1000".parse().unwrap();
    let mut resp = [0x33; RESPONSE_LEN];
    resp[..4].copy_from_slice(&[2, 0, 0, 0]);
    macs.add_to_response(&mut resp, 0);
    let m = Response::parse(&resp).unwrap();
    assert_eq!(checker.check(m, &src, false, 0), Verdict::Process);
    assert_eq!(checker.check(m, &src, true, 0), Verdict::SendCookie);
    let reply = checker.cookie_reply(m, &src, 0, rng).unwrap();
    assert!(macs.consume_cookie_reply(&CookieReply::parse(&reply).unwrap(), 0));
    macs.add_to_response(&mut resp, 0);
    let m = Response::parse(&resp).unwrap();
    assert_eq!(checker.check(m, &src, true, 0), Verdict::ProcessIfRate);
    for other in ["[2001:db8::2]:1000", "[2001:db8::1]:1001"] {
        assert_eq!(
            checker.check(m, &other.parse().unwrap(), true, 0),
            Verdict::SendCookie
        );
    }
}

/// The secret lives 120 s, from the reply that made it.
#[test]
fn secrets_rotate() {
    let (mut init, mut checker, mut macs) = setup();
    let rng = &mut TestRng::new(9);
    macs.add_to_initiation(&mut init, 0);
    let r = checker
        .cookie_reply(view(&init), &src(), 10 * SECOND, rng)
        .unwrap();
    assert!(macs.consume_cookie_reply(&CookieReply::parse(&r).unwrap(), 10 * SECOND));
    macs.add_to_initiation(&mut init, 11 * SECOND);
    let end = 130 * SECOND;
    assert_eq!(
        checker.check(view(&init), &src(), true, end - 1),
        Verdict::ProcessIfRate
    );
    assert_eq!(
        checker.check(view(&init), &src(), true, end),
        Verdict::SendCookie
    );
    // Within its life the secret, and so the cookie, stays.
    let _ = checker
        .cookie_reply(view(&init), &src(), end - 1, rng)
        .unwrap();
    assert_eq!(
        checker.check(view(&init), &src(), true, end - 1),
        Verdict::ProcessIfRate
    );
    // A new one makes old cookies void.
    let _ = checker.cookie_reply(view(&init), &src(), end, rng).unwrap();
    assert_eq!(
        checker.check(view(&init), &src(), true, end),
        Verdict::SendCookie
    );
}

/// Peers use a cookie for 115 s.
#[test]
fn cookies_expire_on_the_sender() {
    let (mut init, mut checker, mut macs) = setup();
    macs.add_to_initiation(&mut init, 0);
    let r = checker
        .cookie_reply(view(&init), &src(), 0, &mut TestRng::new(1))
        .unwrap();
    assert!(macs.consume_cookie_reply(&CookieReply::parse(&r).unwrap(), 0));
    macs.add_to_initiation(&mut init, COOKIE_USE_TIME - 1);
    assert_ne!(view(&init).mac2(), &[0; 16]);
    macs.add_to_initiation(&mut init, COOKIE_USE_TIME);
    assert_eq!(view(&init).mac2(), &[0; 16]);
    assert!(MacKeys::new(&PUBLIC).check_mac1(view(&init)));
}

/// Every byte and every length of a cookie reply, damaged: refused, and the good one still works.
#[test]
fn damaged_replies_change_nothing() {
    let (mut init, mut checker, mut macs) = setup();
    let rng = &mut TestRng::new(10);
    macs.add_to_initiation(&mut init, 0);
    let reply = checker.cookie_reply(view(&init), &src(), 0, rng).unwrap();
    for at in (0..COOKIE_REPLY_LEN).step_by(STEP) {
        assert!(CookieReply::parse(&reply[..at]).is_err());
        let mut bad = reply;
        bad[at] ^= 0x40;
        match CookieReply::parse(&bad) {
            Err(_) => assert!(at < 4),
            // The receiver index is the table's to check.
            Ok(m) if (4..8).contains(&at) => assert_ne!(m.receiver(), 0x0a0b_0c0d),
            Ok(m) => assert!(!macs.consume_cookie_reply(&m, 0), "byte {at}"),
        }
    }
    let mut unchanged = init;
    macs.add_to_initiation(&mut unchanged, 0);
    assert_eq!(unchanged, init, "no cookie was taken");
    assert!(macs.consume_cookie_reply(&CookieReply::parse(&reply).unwrap(), 0));
}

#[test]
fn replies_belong_to_the_last_message() {
    let (mut init, mut checker, mut macs) = setup();
    let rng = &mut TestRng::new(11);
    // Nothing was sent: nothing can be answered.
    let mut foreign = Macs::new(&PUBLIC);
    foreign.add_to_initiation(&mut init, 0);
    let reply = checker.cookie_reply(view(&init), &src(), 0, rng).unwrap();
    assert!(!macs.consume_cookie_reply(&CookieReply::parse(&reply).unwrap(), 0));
    // An answer to the message before the last one is late.
    macs.add_to_initiation(&mut init, 0);
    let mut later = init;
    later[8] ^= 1;
    macs.add_to_initiation(&mut later, 0);
    assert!(!macs.consume_cookie_reply(&CookieReply::parse(&reply).unwrap(), 0));
    let reply = checker.cookie_reply(view(&later), &src(), 0, rng).unwrap();
    assert!(macs.consume_cookie_reply(&CookieReply::parse(&reply).unwrap(), 0));
}

/// Before the first cookie, no MAC2 can be valid: not even one keyed by what an empty secret gives.
#[test]
fn no_cookie_without_a_secret() {
    let (mut init, checker, mut macs) = setup();
    macs.add_to_initiation(&mut init, 0);
    let zero_secret =
        wg::wg_crypto::blake2s_mac(&[0; 32], &[&[192, 0, 2, 1], &1000u16.to_be_bytes()]).unwrap();
    let mac2 = wg::wg_crypto::blake2s_mac(&zero_secret, &[&init[..132]]).unwrap();
    init[132..].copy_from_slice(&mac2);
    assert_eq!(
        checker.check(view(&init), &src(), true, 0),
        Verdict::SendCookie
    );
}
