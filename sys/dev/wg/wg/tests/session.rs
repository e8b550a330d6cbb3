// SPDX-License-Identifier: BSD-2-Clause
//! Sessions: counters, ages, and the rules of the three slots.

mod common;

use common::TestRng;
use wg::messages::*;
use wg::wg_crypto::*;
use wg::wg_noise::*;

const SECOND: u64 = 1_000_000_000;

fn keypair(initiator: bool, now: u64) -> Keypair {
    let keys = Keys {
        send: Secret::new(&[1; 32]),
        recv: Secret::new(&[2; 32]),
        local_index: 3,
        remote_index: 4,
        initiator,
    };
    Keypair::new(keys, now)
}

/// Robustness 16: 2^64 - 2^13 - 1 messages and not one more, however they are reserved.
#[test]
fn counters_end_before_they_wrap() {
    let k = keypair(true, 0);
    assert_eq!(k.reserve(0), Some(0));
    assert_eq!(k.reserve(1), Some(0));
    assert_eq!(k.reserve(64), Some(1));
    assert_eq!(k.sent(), 65);
    assert_eq!(k.reserve(u64::MAX), None);
    assert_eq!(k.reserve(REJECT_AFTER_MESSAGES), None);
    assert_eq!(k.reserve(REJECT_AFTER_MESSAGES - 66), Some(65));
    assert!(k.may_send(0));
    assert_eq!(k.reserve(2), None);
    assert_eq!(k.reserve(1), Some(REJECT_AFTER_MESSAGES - 1));
    assert!(!k.may_send(0));
    assert_eq!(k.reserve(1), None);
    assert!(k.may_receive(0));
}

#[test]
fn counters_beyond_the_limit_are_not_opened() {
    let (a, b) = (Secret::new(&[1; 32]), Secret::new(&[1; 32]));
    let keys = |send, recv| Keys {
        send,
        recv,
        local_index: 0,
        remote_index: 0,
        initiator: true,
    };
    let k = Keypair::new(keys(a, b), 0);
    for (counter, opens) in [
        (0, true),
        (REJECT_AFTER_MESSAGES - 1, true),
        (REJECT_AFTER_MESSAGES, false),
        (u64::MAX, false),
    ] {
        let mut buf = [0; 16];
        assert!(k.seal(&PORTABLE, counter, &mut buf));
        assert_eq!(k.open(&PORTABLE, counter, &mut buf), opens, "{counter}");
    }
}

/// The same counter is never handed out twice.
#[test]
fn counters_are_unique_across_threads() {
    let k = keypair(true, 0);
    let n = if cfg!(miri) { 20 } else { 10_000 };
    let mut all: Vec<u64> = std::thread::scope(|s| {
        let threads: Vec<_> = (1..=4)
            .map(|width| {
                let k = &k;
                s.spawn(move || {
                    (0..n)
                        .flat_map(|_| {
                            let first = k.reserve(width).unwrap();
                            first..first + width
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect()
    });
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..10 * n as u64));
}

/// Ages, as a table: (initiator, age in s, may send, may receive, rekey after send, after receive).
#[test]
fn ages() {
    let born = 1000 * SECOND;
    for (n, (initiator, age, send, receive, rekey_send, rekey_receive)) in [
        (true, 0, true, true, false, false),
        (true, 119, true, true, false, false),
        (true, 120, true, true, true, false),
        (true, 164, true, true, true, false),
        (true, 165, true, true, true, true),
        (true, 179, true, true, true, true),
        (true, 180, false, false, true, true),
        (false, 120, true, true, false, false),
        (false, 165, true, true, false, false),
        (false, 179, true, true, false, false),
        (false, 180, false, false, false, false),
        (false, 10_000, false, false, false, false),
    ]
    .into_iter()
    .enumerate()
    {
        let k = keypair(initiator, born);
        let now = born + age * SECOND;
        assert_eq!(k.may_send(now), send, "case {n}");
        assert_eq!(k.may_receive(now), receive, "case {n}");
        assert_eq!(k.rekey_after_send(now), rekey_send, "case {n}");
        assert_eq!(k.rekey_after_receive(now), rekey_receive, "case {n}");
    }
    let k = keypair(true, born);
    let end = born + 180 * SECOND;
    assert!(k.may_send(end - 1) && k.may_receive(end - 1));
    assert!(!k.may_send(end) && !k.may_receive(end));
    // Another CPU's clock a little behind is no reason to reject.
    assert!(k.may_send(born - 1) && k.may_receive(born - 1));
    assert_eq!(
        (k.created(), k.local_index(), k.remote_index()),
        (born, 3, 4)
    );
    assert!(k.is_initiator());
}

/// Rekey after 2^60 messages, on either side.
#[test]
fn rekey_after_messages() {
    for initiator in [true, false] {
        let k = keypair(initiator, 0);
        k.reserve(REKEY_AFTER_MESSAGES).unwrap();
        assert!(!k.rekey_after_send(0));
        k.reserve(1).unwrap();
        assert!(k.rekey_after_send(0));
        assert!(k.may_send(0));
    }
}

#[test]
fn stopping_is_for_good() {
    let k = keypair(true, 0);
    k.stop_sending();
    assert!(!k.may_send(0) && k.may_receive(0));
    k.revoke();
    assert!(!k.may_send(0) && !k.may_receive(0));
    k.stop_sending();
    assert!(!k.may_receive(0), "never back");
}

#[test]
fn headers() {
    let k = keypair(true, 0);
    let h = k.header(0x0102_0304_0506_0708);
    assert_eq!(
        h.to_bytes(),
        [4, 0, 0, 0, 4, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]
    );
}

/// What holds a secret has something to do when dropped: to wipe it.
#[test]
fn secrets_are_dropped() {
    use core::mem::needs_drop;
    const {
        assert!(needs_drop::<Secret>() && needs_drop::<Keys>() && needs_drop::<Keypair>());
        assert!(needs_drop::<Identity>() && needs_drop::<Handshake>() && needs_drop::<Incoming>());
        assert!(needs_drop::<wg::wg_cookie::Checker>() && needs_drop::<wg::wg_cookie::Macs>());
    }
}

fn slots(previous: Option<u32>, current: Option<u32>, next: Option<u32>) -> Slots<u32> {
    let mut s = Slots::new();
    // The only way to a given state is by the rules.
    if let Some(p) = previous {
        assert_eq!(fell(s.install_initiator(p, Tie::Ours)), []);
        assert_eq!(fell(s.install_initiator(current.unwrap(), Tie::Ours)), []);
    } else if let Some(c) = current {
        assert_eq!(fell(s.install_initiator(c, Tie::Ours)), []);
    }
    if let Some(n) = next {
        assert_eq!(fell(s.install_responder(n)), []);
    }
    assert_eq!(state(&s), (previous, current, next));
    s
}

fn state(s: &Slots<u32>) -> (Option<u32>, Option<u32>, Option<u32>) {
    (
        s.previous().copied(),
        s.current().copied(),
        s.next().copied(),
    )
}

fn fell(f: Fallen<u32>) -> Vec<u32> {
    let mut v: Vec<u32> = f.into_iter().collect();
    v.sort_unstable();
    v
}

/// A handshake that we opened.
#[test]
fn install_initiator() {
    for tie in [Tie::Ours, Tie::Theirs] {
        for (before, fallen) in [
            ((None, None, None), &[][..]),
            ((None, None, Some(3)), &[]),
            ((None, Some(2), None), &[]),
            ((Some(1), Some(2), None), &[1]),
            ((Some(1), Some(2), Some(3)), &[1]),
        ] {
            let mut s = slots(before.0, before.1, before.2);
            assert_eq!(fell(s.install_initiator(9, tie)), fallen);
            assert_eq!(state(&s), (before.1, Some(9), before.2), "what waits stays");
        }
    }
}

/// A handshake that we opened while one that we answered waits: which one remains when both are used.
#[test]
fn ties() {
    let mut s = slots(Some(1), Some(2), Some(3));
    let _ = s.install_initiator(9, Tie::Ours);
    let c = s.confirm(|&k| k == 3).unwrap();
    assert!(!c.current, "it has lost");
    assert_eq!(fell(c.fallen), [2]);
    assert_eq!(state(&s), (Some(3), Some(9), None));

    let mut s = slots(Some(1), Some(2), Some(3));
    let _ = s.install_initiator(9, Tie::Theirs);
    let c = s.confirm(|&k| k == 3).unwrap();
    assert!(c.current, "it has won");
    assert_eq!(fell(c.fallen), [2]);
    assert_eq!(state(&s), (Some(9), Some(3), None));

    // The tie concerns the session that waits, and no later one.
    let mut s = slots(None, Some(2), Some(3));
    let _ = s.install_initiator(9, Tie::Ours);
    assert_eq!(fell(s.install_responder(4)), [3]);
    assert!(s.confirm(|_| true).unwrap().current);
    let mut s = slots(None, Some(2), Some(3));
    let _ = s.install_initiator(9, Tie::Ours);
    let _ = s.clear();
    let _ = s.install_responder(4);
    assert!(s.confirm(|_| true).unwrap().current);
    let mut s = slots(None, Some(2), None);
    let _ = s.install_initiator(9, Tie::Ours);
    let _ = s.install_responder(4);
    assert!(s.confirm(|_| true).unwrap().current);

    let (small, large) = ([1; 32], [2; 32]);
    assert_eq!(Tie::crossed(&small, &large), Tie::Ours);
    assert_eq!(Tie::crossed(&large, &small), Tie::Theirs);
}

/// A handshake that we answered.
#[test]
fn install_responder() {
    let mut s = slots(None, None, None);
    assert_eq!(fell(s.install_responder(9)), []);
    assert_eq!(state(&s), (None, None, Some(9)));

    let mut s = slots(Some(1), Some(2), None);
    assert_eq!(fell(s.install_responder(9)), []);
    assert_eq!(state(&s), (Some(1), Some(2), Some(9)));

    let mut s = slots(Some(1), Some(2), Some(3));
    assert_eq!(fell(s.install_responder(9)), [3]);
    assert_eq!(state(&s), (Some(1), Some(2), Some(9)));
}

/// The first packet on a session that waits.
#[test]
fn confirm() {
    let mut s = slots(Some(1), Some(2), Some(3));
    assert!(s.confirm(|&k| k < 3).is_none(), "on the others: nothing");
    assert_eq!(state(&s), (Some(1), Some(2), Some(3)));
    let c = s.confirm(|&k| k == 3).unwrap();
    assert!(c.current);
    assert_eq!(fell(c.fallen), [1]);
    assert_eq!(state(&s), (Some(2), Some(3), None));
    assert!(s.confirm(|&k| k == 3).is_none(), "once");

    let mut s = slots(None, None, Some(3));
    assert_eq!(fell(s.confirm(|&k| k == 3).unwrap().fallen), []);
    assert_eq!(state(&s), (None, Some(3), None));
    assert!(slots(None, Some(1), None).confirm(|_| true).is_none());
}

#[test]
fn clear() {
    let mut s = slots(None, Some(2), Some(3));
    assert_eq!(fell(s.clear()), [2, 3]);
    assert_eq!(state(&s), (None, None, None));
    let mut s = slots(Some(1), Some(2), None);
    assert_eq!(s.iter().copied().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(fell(s.clear()), [1, 2]);
    assert_eq!(fell(s.clear()), []);
}

/// Random operations: every session is in a slot or has fallen out exactly once; `current` is
/// never lost to a handshake that is not confirmed.
#[test]
fn no_session_is_lost_or_doubled() {
    for seed in 0..if cfg!(miri) { 3 } else { 200 } {
        let mut rng = TestRng::new(seed);
        let mut s = Slots::default();
        let (mut live, mut made) = (std::collections::BTreeSet::new(), 0);
        for _ in 0..200 {
            let before = state(&s);
            let fallen = match rng.next() % 10 {
                0..3 => {
                    made += 1;
                    live.insert(made);
                    let tie = [Tie::Ours, Tie::Theirs][rng.next() as usize % 2];
                    let f = fell(s.install_initiator(made, tie));
                    assert_eq!(s.current(), Some(&made));
                    assert_eq!(s.next().copied(), before.2);
                    f
                }
                3..6 => {
                    made += 1;
                    live.insert(made);
                    let f = fell(s.install_responder(made));
                    assert_eq!(state(&s), (before.0, before.1, Some(made)));
                    f
                }
                6..9 => {
                    let confirmed = s.confirm(|_| true);
                    let confirmed = confirmed.map(|c| (c.current, fell(c.fallen)));
                    let now = match &confirmed {
                        Some((true, _)) => before.2,
                        _ => before.1,
                    };
                    assert_eq!(s.current().copied(), now);
                    confirmed.map(|c| c.1).unwrap_or_default()
                }
                _ => fell(s.clear()),
            };
            for f in fallen {
                assert!(live.remove(&f), "seed {seed}: {f} fell twice");
            }
            assert!(
                s.iter().copied().collect::<std::collections::BTreeSet<_>>() == live,
                "seed {seed}"
            );
        }
    }
}

/// Both sides open at once, in every order of arrival: each side can open what the other sends; and when both have seen
/// that the handshakes crossed, they come to send on the same session.
#[test]
fn simultaneous_sessions_always_match() {
    // Session 1 was opened by a, whose key is the smaller one, 2 by b. Events of each side: it installs its own session
    // when the response comes, the other's when it answers. It sees that they cross if it answers first.
    for order_a in [[1, 2], [2, 1]] {
        for order_b in [[1, 2], [2, 1]] {
            let (mut a, mut b) = (Slots::new(), Slots::new());
            let crossed = order_a == [2, 1] && order_b == [1, 2];
            for k in order_a {
                let _ = if k == 1 {
                    a.install_initiator(k, Tie::Ours)
                } else {
                    a.install_responder(k)
                };
            }
            for k in order_b {
                let _ = if k == 2 {
                    let tie = if order_b == [1, 2] {
                        Tie::Theirs
                    } else {
                        Tie::Ours
                    };
                    b.install_initiator(k, tie)
                } else {
                    b.install_responder(k)
                };
            }
            for _ in 0..4 {
                let sent = *a.current().unwrap();
                assert!(b.iter().any(|&k| k == sent), "{order_a:?} {order_b:?}");
                let _ = b.confirm(|&k| k == sent);
                let sent = *b.current().unwrap();
                assert!(a.iter().any(|&k| k == sent), "{order_a:?} {order_b:?}");
                let _ = a.confirm(|&k| k == sent);
            }
            if crossed {
                assert_eq!((a.current(), b.current()), (Some(&1), Some(&1)));
            }
        }
    }
}
