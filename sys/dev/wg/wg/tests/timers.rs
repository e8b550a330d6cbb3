// SPDX-License-Identifier: BSD-2-Clause
//! Timers: what each one does, and that no deadline is lost whatever the order of events.

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::TestRng;
use wg::timers::{
    Actions, KEEPALIVE_TIMEOUT, MAX_ATTEMPTS, NEW_HANDSHAKE_AFTER, REKEY_ATTEMPT_TIME,
    REKEY_JITTER, REKEY_TIMEOUT, Timers, ZERO_KEYS_AFTER,
};

const S: u64 = 1_000_000_000;
/// A time long after boot.
const T0: u64 = 1000 * S;

/// Timers with the callout that their user has: it keeps the earlier time.
struct Peer {
    timers: Timers,
    callout: Option<u64>,
    now: u64,
}

impl Peer {
    fn up() -> Peer {
        let peer = Peer {
            timers: Timers::new(),
            callout: None,
            now: T0,
        };
        peer.timers.enable();
        peer
    }

    fn arm(&mut self, at: Option<u64>) {
        self.callout = match (self.callout, at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    fn data_sent(&mut self) {
        let at = self.timers.data_sent(self.now, || 0);
        self.arm(at);
        self.sent();
    }

    fn sent(&mut self) {
        self.timers.any_authenticated_packet_sent();
        self.traversal();
    }

    fn received(&mut self) {
        self.timers.any_authenticated_packet_received();
        self.traversal();
    }

    fn traversal(&mut self) {
        let at = self.timers.any_authenticated_packet_traversal(self.now);
        self.arm(at);
    }

    fn data_received(&mut self) {
        self.received();
        let at = self.timers.data_received(self.now);
        self.arm(at);
    }

    fn session(&mut self) {
        let at = self.timers.session_derived(self.now);
        self.arm(at);
    }

    fn initiate(&mut self, retry: bool) -> bool {
        let at = self.timers.initiation_wanted(self.now, retry, 0);
        self.arm(at);
        let due = self.timers.initiation_due(self.now);
        if due {
            let at = self.timers.handshake_initiated(self.now, 0);
            self.arm(at);
            self.sent();
        }
        due
    }

    /// Lets the callout fire until something is to be done; `None` if that does not come by `until`.
    fn run(&mut self, until: u64) -> Option<Actions> {
        while let Some(at) = self.callout
            && at <= until
        {
            self.callout = None;
            self.now = self.now.max(at);
            let actions = self.timers.expire(self.now);
            self.arm(actions.next);
            if !actions.is_empty() {
                return Some(actions);
            }
        }
        self.now = until;
        None
    }
}

#[test]
fn keepalive_after_data() {
    let mut p = Peer::up();
    p.data_received();
    let a = p.run(T0 + 60 * S).unwrap();
    assert!(a.send_keepalive() && !a.send_initiation());
    assert_eq!(p.now, T0 + KEEPALIVE_TIMEOUT);
    p.sent();
    assert_eq!(p.run(T0 + 600 * S), None);

    // Anything sent makes it needless.
    p.data_received();
    p.now += 5 * S;
    p.sent();
    assert_eq!(p.run(p.now + 600 * S), None);
}

#[test]
fn another_keepalive() {
    let mut p = Peer::up();
    p.data_received();
    p.now += S;
    p.data_received();
    assert!(p.run(p.now + 60 * S).unwrap().send_keepalive());
    // The first one could not be sent: the need for another one is remembered.
    let first = p.now;
    assert!(p.run(p.now + 60 * S).unwrap().send_keepalive());
    assert_eq!(p.now, first + KEEPALIVE_TIMEOUT);
    assert_eq!(p.run(p.now + 60 * S), None);
}

#[test]
fn new_handshake_after_silence() {
    let mut p = Peer::up();
    p.data_sent();
    p.now += S;
    p.data_sent();
    let a = p.run(T0 + 60 * S).unwrap();
    assert!(a.send_initiation() && !a.retry() && a.clear_source() && !a.send_keepalive());
    assert_eq!(p.now, T0 + NEW_HANDSHAKE_AFTER);
    assert_eq!(NEW_HANDSHAKE_AFTER, 15 * S);

    let mut p = Peer::up();
    p.data_sent();
    p.now += 14 * S;
    p.received();
    assert_eq!(p.run(T0 + 600 * S), None);
    p.data_sent();
    let sent = p.now;
    assert!(p.run(p.now + 60 * S).is_some());
    assert_eq!(p.now, sent + NEW_HANDSHAKE_AFTER);
}

#[test]
fn jitter() {
    let timers = Timers::new();
    timers.enable();
    let mut earliest = u64::MAX;
    let mut asked = 0;
    for random in [u32::MAX, u32::MAX / 2, 1, 0] {
        timers.any_authenticated_packet_received();
        let at = timers.data_sent(T0, || {
            asked += 1;
            random
        });
        let at = at.expect("each is earlier than the one before");
        assert!((NEW_HANDSHAKE_AFTER..NEW_HANDSHAKE_AFTER + REKEY_JITTER).contains(&(at - T0)));
        assert!(at < earliest || random == 0);
        earliest = at;
        // Running already: neither a number nor an arming.
        assert_eq!(timers.data_sent(T0 + S, || unreachable!()), None);
        if random == 1 {
            break;
        }
    }
    assert_eq!(asked, 3);
    assert_eq!(REKEY_JITTER / 1_000_000, 333);
}

#[test]
fn retries_and_giving_up() {
    let mut p = Peer::up();
    assert!(p.initiate(false));
    let mut sent = 1;
    loop {
        let before = p.now;
        let a = p.run(p.now + 60 * S).unwrap();
        assert_eq!(p.now, before + REKEY_TIMEOUT);
        if a.give_up() {
            assert!(!a.send_initiation());
            break;
        }
        assert!(a.send_initiation() && a.retry() && a.clear_source());
        assert!(p.initiate(a.retry()));
        sent += 1;
    }
    assert_eq!(sent, 18);
    assert_eq!(MAX_ATTEMPTS, 18);
    assert_eq!(p.now, T0 + REKEY_ATTEMPT_TIME);
    // Left over keys go in the end.
    let given_up = p.now;
    let a = p.run(p.now + 3600 * S).unwrap();
    assert!(a.zero_keys() && !a.send_initiation());
    assert_eq!(p.now, given_up + ZERO_KEYS_AFTER);
    assert_eq!(ZERO_KEYS_AFTER, 540 * S);
    assert_eq!(p.run(p.now + 3600 * S), None);
    // And it can begin again.
    assert!(p.initiate(false));
    assert!(p.run(p.now + 60 * S).unwrap().retry());
}

#[test]
fn a_new_reason_restarts_the_attempts() {
    let mut p = Peer::up();
    assert!(p.initiate(false));
    for n in 1..100 {
        let a = p.run(p.now + 60 * S).unwrap();
        assert!(!a.give_up(), "{n}");
        assert!(p.initiate(true));
        p.now += S;
        assert!(!p.initiate(false), "too early, yet it counts as wanted");
        p.now -= S;
    }
}

#[test]
fn handshake_completes() {
    let mut p = Peer::up();
    assert_eq!(p.timers.last_handshake(), None);
    assert!(p.initiate(false));
    p.now += S;
    p.session();
    p.timers.handshake_complete((1_700_000_000, 5));
    p.received();
    assert_eq!(p.timers.last_handshake(), Some((1_700_000_000, 5)));
    let a = p.run(T0 + 3600 * S).unwrap();
    assert!(a.zero_keys());
    assert_eq!(p.now, T0 + S + ZERO_KEYS_AFTER);
    // A new session moves it.
    p.session();
    p.now += 120 * S;
    p.session();
    let made = p.now;
    assert!(p.run(p.now + 3600 * S).unwrap().zero_keys());
    assert_eq!(p.now, made + ZERO_KEYS_AFTER);
}

#[test]
fn one_initiation_in_five_seconds() {
    let mut p = Peer::up();
    assert!(p.initiate(false));
    assert!(!p.initiate(false));
    p.now += REKEY_TIMEOUT - 1;
    assert!(!p.initiate(false));
    p.now += 1;
    assert!(p.initiate(false));
    p.timers.reset_last_handshake_sent();
    assert!(p.initiate(false));
    // At boot.
    let timers = Timers::new();
    assert!(!timers.initiation_due(1), "disabled");
    timers.enable();
    assert!(timers.initiation_due(1));
    assert!(!timers.initiation_due(2));
}

/// An initiation that is wanted leaves the deadline of the next attempt, whatever becomes of this one.
#[test]
fn wanted_initiation() {
    // It fails before it is made.
    let mut p = Peer::up();
    let at = p.timers.initiation_wanted(p.now, false, 0);
    p.arm(at);
    for attempt in 1..MAX_ATTEMPTS {
        assert!(p.run(p.now + 60 * S).unwrap().retry());
        assert_eq!(p.now, T0 + u64::from(attempt) * REKEY_TIMEOUT);
        let at = p.timers.initiation_wanted(p.now, true, 0);
        p.arm(at);
    }
    assert!(p.run(p.now + 60 * S).unwrap().give_up());
    assert_eq!(p.run(p.now + 60 * S), None);

    // We have just answered one: as soon as that has had its time.
    let mut p = Peer::up();
    p.timers.handshake_answered(p.now);
    p.now += S;
    assert!(!p.timers.initiation_possible(p.now) && !p.initiate(false));
    p.now += S;
    assert!(!p.initiate(false));
    let a = p.run(p.now + 60 * S).unwrap();
    assert!(a.send_initiation() && p.now == T0 + REKEY_TIMEOUT);
    assert!(p.initiate(a.retry()));

    // Its session is confirmed meanwhile.
    for void in [false, true] {
        let mut p = Peer::up();
        p.timers.handshake_answered(p.now);
        assert!(!p.initiate(false));
        if void {
            p.timers.initiation_void();
        } else {
            p.timers.handshake_complete((1, 0));
        }
        assert_eq!(p.run(p.now + 60 * S), None);
    }

    // Answering does not put a deadline off that there was; it is put off when it comes.
    let mut p = Peer::up();
    assert!(p.initiate(false));
    p.now += 3 * S;
    p.timers.handshake_answered(p.now);
    let a = p.run(p.now + 60 * S).unwrap();
    assert!(a.retry() && p.now == T0 + REKEY_TIMEOUT && !p.initiate(true));
    assert!(p.run(p.now + 60 * S).unwrap().retry());
    assert_eq!(p.now, T0 + 3 * S + REKEY_TIMEOUT);
    assert!(p.initiate(true));
}

/// A keepalive that could not be made is tried again soon.
#[test]
fn failed_keepalive() {
    let mut p = Peer::up();
    p.data_received();
    assert!(p.run(p.now + 60 * S).unwrap().send_keepalive());
    for _ in 0..3 {
        let before = p.now;
        let at = p.timers.keepalive_failed(p.now);
        p.arm(at);
        assert!(p.run(p.now + 60 * S).unwrap().send_keepalive());
        assert_eq!(p.now, before + S);
    }
    p.sent();
    assert_eq!(p.run(p.now + 60 * S), None);
}

#[test]
fn persistent_keepalive() {
    let mut p = Peer::up();
    assert!(p.timers.set_persistent_keepalive(25));
    assert!(!p.timers.set_persistent_keepalive(25), "no change");
    p.sent();
    for _ in 0..3 {
        let before = p.now;
        let a = p.run(p.now + 60 * S).unwrap();
        assert!(a.send_keepalive());
        assert_eq!(p.now, before + 25 * S);
        p.sent();
    }
    // Any traffic moves it, by little or much; it is early by less than a tenth of a second.
    for step in [S / 100, S, 20 * S] {
        let mut last = 0;
        for _ in 0..200 {
            p.now += step;
            p.received();
            last = p.now;
            assert_eq!(p.run(p.now), None);
        }
        assert!(p.run(last + 60 * S).unwrap().send_keepalive());
        assert!(p.now > last + 25 * S - S / 10 && p.now <= last + 25 * S);
        p.sent();
    }
    // It goes on when the keepalive does not get sent.
    let before = p.now;
    assert!(p.run(p.now + 60 * S).unwrap().send_keepalive());
    assert!(p.run(p.now + 60 * S).unwrap().send_keepalive());
    assert_eq!(p.now, before + 50 * S);
    // A shorter interval begins at once, none ends it.
    assert!(p.timers.set_persistent_keepalive(1));
    p.sent();
    let before = p.now;
    assert!(p.run(p.now + 60 * S).unwrap().send_keepalive());
    assert_eq!(p.now, before + S);
    assert!(!p.timers.set_persistent_keepalive(0));
    assert_eq!(p.run(p.now + 60 * S), None);
    // Going up sends one.
    assert!(!p.timers.set_persistent_keepalive(0));
    p.timers.disable();
    assert!(!p.timers.set_persistent_keepalive(9), "down");
    p.timers.enable();
    assert_eq!(p.timers.persistent_keepalive(), 9);
}

#[test]
fn down() {
    let mut p = Peer::up();
    p.data_sent();
    p.data_received();
    p.session();
    assert!(p.initiate(false));
    p.timers.disable();
    assert_eq!(p.run(T0 + 3600 * S), None);
    p.data_sent();
    p.data_received();
    p.session();
    assert!(!p.initiate(false));
    assert_eq!(p.callout, None);
    p.timers.enable();
    assert!(p.initiate(false), "the limit of the earlier life is void");
    p.data_received();
    let at = p.now;
    assert!(p.run(at + 60 * S).unwrap().retry());
    assert!(p.run(at + 60 * S).unwrap().send_keepalive());
    assert_eq!(p.now, at + KEEPALIVE_TIMEOUT);
}

#[test]
fn last_minute() {
    let p = Peer::up();
    assert!(p.timers.last_minute_handshake());
    assert!(!p.timers.last_minute_handshake(), "once a session");
    p.timers.handshake_complete((1, 0));
    assert!(p.timers.last_minute_handshake());
}

/// What the timers must do, written down once more without any laziness: exact deadlines.
#[derive(Default)]
struct Model {
    retry: Option<u64>,
    keepalive: Option<u64>,
    new_handshake: Option<u64>,
    zero: Option<u64>,
    /// When a handshake message was last sent.
    sent: u64,
}

impl Model {
    fn earliest(&self) -> Option<u64> {
        [self.retry, self.keepalive, self.new_handshake, self.zero]
            .into_iter()
            .flatten()
            .min()
    }
}

/// After any events in any order the callout is armed for the earliest deadline or before, and each
/// timer acts at exactly its time.
#[test]
fn no_deadline_is_lost() {
    let seed = common::seed();
    let mut rng = TestRng::new(seed);
    for round in 0..if cfg!(miri) { 3 } else { 300 } {
        let mut p = Peer::up();
        let mut m = Model::default();
        for step in 0..if cfg!(miri) { 100 } else { 1000 } {
            let at = format!("SEED={seed}, round {round}, step {step}");
            match rng.next() % 10 {
                0 => {
                    p.data_sent();
                    m.new_handshake = m.new_handshake.or(Some(p.now + 15 * S));
                    m.keepalive = None;
                }
                1 => {
                    p.data_received();
                    m.new_handshake = None;
                    m.keepalive = m.keepalive.or(Some(p.now + 10 * S));
                }
                2 => {
                    p.sent();
                    m.keepalive = None;
                }
                3 => {
                    p.received();
                    m.new_handshake = None;
                }
                4 => {
                    // Sent or not, another attempt follows.
                    if p.initiate(rng.next().is_multiple_of(2)) {
                        m.sent = p.now;
                        m.retry = Some(p.now + 5 * S);
                        m.keepalive = None;
                    } else {
                        m.retry = m.retry.or(Some(m.sent + 5 * S));
                    }
                }
                7 if rng.next().is_multiple_of(8) => {
                    p.timers.handshake_answered(p.now);
                    m.sent = p.now;
                }
                5 => {
                    p.timers.handshake_complete((1, 1));
                    m.retry = None;
                }
                6 if rng.next().is_multiple_of(8) => {
                    p.session();
                    m.zero = Some(p.now + 540 * S);
                }
                _ => {
                    let until =
                        p.now + rng.next() % [S / 10, 4 * S, 40 * S][rng.next() as usize % 3];
                    while let Some(a) = p.run(until) {
                        let now = p.now;
                        let came = |d: &mut Option<u64>| d.take_if(|d| *d <= now).is_some();
                        assert_eq!(m.earliest(), Some(now), "{at}: in time");
                        let (retry, new) = (came(&mut m.retry), came(&mut m.new_handshake));
                        assert_eq!(a.send_keepalive(), came(&mut m.keepalive), "{at}");
                        assert_eq!(a.zero_keys(), came(&mut m.zero), "{at}");
                        assert_eq!(a.send_initiation() || a.give_up(), retry || new, "{at}");
                        if a.give_up() {
                            m.keepalive = None;
                            m.zero = m.zero.or(Some(now + 540 * S));
                        }
                        if a.send_keepalive() {
                            // What remains of "another one is needed" is the field's business.
                            p.sent();
                        }
                    }
                    assert!(m.earliest().is_none_or(|d| d > until), "{at}");
                }
            }
            if let Some(deadline) = m.earliest() {
                assert!(p.callout.is_some_and(|c| c <= deadline), "{at}");
            }
        }
    }
}

/// Events on several threads, a callout on another: in the end the callout is armed for what is pending.
#[test]
fn no_deadline_is_lost_between_threads() {
    /// Armed time, kept least; `u64::MAX` is not armed.
    struct Callout(Mutex<u64>);
    impl Callout {
        fn arm(&self, at: Option<u64>) {
            if let Some(at) = at {
                let mut armed = self.0.lock().unwrap();
                *armed = at.min(*armed);
            }
        }
    }
    let seed = common::seed();
    for round in 0..if cfg!(miri) { 2 } else { 200 } {
        let timers = Timers::new();
        let callout = Callout(Mutex::new(u64::MAX));
        let clock = AtomicU64::new(T0);
        let done = AtomicBool::new(false);
        timers.enable();
        let _ = timers.set_persistent_keepalive(3);
        std::thread::scope(|s| {
            let events: Vec<_> = (0..2)
                .map(|thread| {
                    let (timers, callout, clock) = (&timers, &callout, &clock);
                    s.spawn(move || {
                        let mut rng = TestRng::new(seed ^ (thread << 32) ^ round);
                        for _ in 0..if cfg!(miri) { 50 } else { 500 } {
                            let now = clock.fetch_add(rng.next() % S, Ordering::Relaxed);
                            match rng.next() % 8 {
                                0 | 1 => callout.arm(timers.data_sent(now, || 0)),
                                2 | 3 => callout.arm(timers.data_received(now)),
                                4 => timers.any_authenticated_packet_sent(),
                                5 => timers.any_authenticated_packet_received(),
                                6 => callout.arm(timers.handshake_initiated(now, 0)),
                                _ => callout.arm(timers.any_authenticated_packet_traversal(now)),
                            }
                        }
                    })
                })
                .collect();
            s.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let now = clock.load(Ordering::Relaxed);
                    let fire = {
                        let mut armed = callout.0.lock().unwrap();
                        let fire = *armed <= now;
                        if fire {
                            *armed = u64::MAX;
                        }
                        fire
                    };
                    if fire {
                        callout.arm(timers.expire(now).next);
                    }
                    std::thread::yield_now();
                }
            });
            events.into_iter().for_each(|t| t.join().unwrap());
            done.store(true, Ordering::Relaxed);
        });
        // Quiet now. With the callout followed, everything that is pending comes to its end: after
        // that a fresh look at an arbitrary late time has nothing to do but the persistent keepalive.
        let _ = timers.set_persistent_keepalive(0);
        let mut armed = *callout.0.lock().unwrap();
        for _ in 0..100 {
            if armed == u64::MAX {
                break;
            }
            armed = timers.expire(armed).next.unwrap_or(u64::MAX);
        }
        assert_eq!(armed, u64::MAX, "SEED={seed} {round}");
        assert!(
            timers.expire(u64::MAX / 2).is_empty(),
            "SEED={seed} {round}: lost"
        );
    }
}

/// The race that the module's documentation is about, many times: an expiry and the event that sets the next
/// deadline while the callout is still armed for an earlier time. One of them must arm it. Miri, with its
/// preemption rate raised, finds the loss at once when `expire` resets `armed` after reading.
#[test]
fn an_expiry_meets_an_event() {
    let rounds: usize = if cfg!(miri) { 20 } else { 50_000 };
    let mut rng = TestRng::new(common::seed());
    let peers: Vec<Timers> = (0..rounds)
        .map(|_| {
            let timers = Timers::new();
            timers.enable();
            let armed = timers.data_sent(T0 - NEW_HANDSHAKE_AFTER, || 0);
            assert_eq!(armed, Some(T0));
            timers
        })
        .collect();
    let (go, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let wait = |n: &AtomicU64, until: u64| {
        while n.load(Ordering::Acquire) < until {
            // Also where there is one CPU for both threads.
            std::thread::yield_now();
        }
    };
    let expiries = Mutex::new(Vec::new());
    let mut events = Vec::new();
    std::thread::scope(|s| {
        s.spawn(|| {
            for (i, timers) in peers.iter().enumerate() {
                wait(&go, i as u64 + 1);
                let actions = timers.expire(T0);
                assert!(actions.send_initiation());
                expiries.lock().unwrap().push(actions.next);
                done.store(i as u64 + 1, Ordering::Release);
            }
        });
        for (i, timers) in peers.iter().enumerate() {
            go.store(i as u64 + 1, Ordering::Release);
            for _ in 0..rng.next() % 100 {
                std::hint::spin_loop();
            }
            events.push(timers.data_received(T0));
            wait(&done, i as u64 + 1);
        }
    });
    let expiries = expiries.into_inner().unwrap();
    for (i, (event, expiry)) in events.into_iter().zip(expiries).enumerate() {
        assert_eq!(
            event.or(expiry),
            Some(T0 + KEEPALIVE_TIMEOUT),
            "round {i}: nobody armed"
        );
    }
}
