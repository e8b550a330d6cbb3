// SPDX-License-Identifier: BSD-2-Clause
//! The timers of a peer (WireGuard paper §6), without a clock and without a callout.
//!
//! | timer | runs from | to | what happens then |
//! |---|---|---|---|
//! | retry handshake | an initiation wanted | the handshake complete | send another one, or give up |
//! | send keepalive | data received | anything sent | send a keepalive |
//! | new handshake | data sent | anything received | send an initiation |
//! | zero key material | a session made | | wipe all keys |
//! | persistent keepalive | anything sent or received | the same | send a keepalive |
//!
//! A peer has one callout for all of them. Each timer is a deadline in an atomic, 0 when it is not
//! running. Events only move deadlines; a deadline that moves later or goes away leaves the
//! callout as it is, which then finds nothing to do and is armed for the next one. So an event of
//! the packet path is a load or two, and a store where a timer begins or ends.
//!
//! # How no wish is lost
//!
//! What is to be done may be impossible at the moment: there is no route, no memory, no private
//! key, or a handshake was just answered. So whoever wants something leaves the deadline of the
//! next attempt *before* this one, and only success takes it away.
//!
//! # How no deadline is lost
//!
//! The callout must be armed for the earliest deadline or before. `armed` holds the time it is armed
//! for. Whoever sets a deadline D (a) stores D, then (b) reads `armed`; if that is later than D,
//! lowers it to D and arms the callout for D. [`Timers::expire`] (c) sets `armed` to "never", then
//! (d) reads all deadlines and arms for the earliest. All four are sequentially consistent. If (b)
//! reads a value from before (c), then (a) comes before (d) in the single total order, so the expiry sees D.
//! If (b) reads "never" or what the expiry armed for, the setter compares D with just that. Lowering
//! is a compare-and-exchange that keeps the least value.
//!
//! Two calls that arm may overtake one another, so the callout itself has to keep the earlier one of
//! what it is armed for and what it is asked for. Arming once too often is harmless.
//!
//! Enabling and disabling pair up in the same way: a setter stores its deadline and then reads
//! `enabled`; [`Timers::disable`] clears `enabled` and then the deadlines. One of them sees the other.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used
)]

use core::sync::atomic::{
    AtomicBool, AtomicU16, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

pub use crate::messages::{
    KEEPALIVE_TIMEOUT, REJECT_AFTER_TIME, REKEY_ATTEMPT_TIME, REKEY_TIMEOUT,
    REKEY_TIMEOUT_JITTER as REKEY_JITTER,
};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// Keys are wiped when no new session was made for so long.
pub const ZERO_KEYS_AFTER: u64 = 3 * REJECT_AFTER_TIME;
/// So long after data was sent a handshake begins, if nothing came back.
pub const NEW_HANDSHAKE_AFTER: u64 = KEEPALIVE_TIMEOUT + REKEY_TIMEOUT;

/// Initiations until giving up, the first one included: 90 s and 18 times the jitter. (The other
/// kernel implementations count to 20.)
pub const MAX_ATTEMPTS: u32 = (REKEY_ATTEMPT_TIME / REKEY_TIMEOUT) as u32;

/// The persistent keepalive may be so much early. Without that each packet would write its deadline,
/// and the cache line that all CPUs share.
const PERSISTENT_SLACK: u64 = SECOND / 16;

/// So long after a keepalive could not be made the next attempt follows.
const KEEPALIVE_RETRY_AFTER: u64 = SECOND;

const NEVER: u64 = u64::MAX;

/// Timers of one peer. All methods can be called from all contexts at any time.
///
/// `now` is always the uptime in nanoseconds, greater than 0. An `Option<u64>` that a method returns is a
/// time, likewise, for which the caller must arm the peer's callout at once; the callout calls
/// [`expire`](Self::expire).
pub struct Timers {
    retry_handshake: AtomicU64,
    send_keepalive: AtomicU64,
    new_handshake: AtomicU64,
    zero_keys: AtomicU64,
    persistent: AtomicU64,
    /// What the callout is armed for; see the module's documentation.
    armed: AtomicU64,
    /// Time of the last initiation or response; 0 when the next initiation need not wait.
    last_handshake_sent: AtomicU64,
    /// Wall clock of the last complete handshake in nanoseconds since 1970; 0 is never.
    last_handshake: AtomicU64,
    /// Initiations sent since the last one that was not a retry.
    attempts: AtomicU32,
    /// Seconds; 0 is off.
    interval: AtomicU16,
    enabled: AtomicBool,
    need_another_keepalive: AtomicBool,
    sent_last_minute: AtomicBool,
}

impl Timers {
    /// Timers that are disabled.
    pub const fn new() -> Timers {
        Timers {
            retry_handshake: AtomicU64::new(0),
            send_keepalive: AtomicU64::new(0),
            new_handshake: AtomicU64::new(0),
            zero_keys: AtomicU64::new(0),
            persistent: AtomicU64::new(0),
            armed: AtomicU64::new(NEVER),
            last_handshake_sent: AtomicU64::new(0),
            last_handshake: AtomicU64::new(0),
            attempts: AtomicU32::new(0),
            interval: AtomicU16::new(0),
            enabled: AtomicBool::new(false),
            need_another_keepalive: AtomicBool::new(false),
            sent_last_minute: AtomicBool::new(false),
        }
    }

    /// The interface goes up, or the peer is added while it is up.
    pub fn enable(&self) {
        // Whether the callout is still armed from an earlier time is unknown here: begin as if not. A
        // deadline that an expiry stored while the timers were disabled has nothing armed for it.
        self.armed.store(NEVER, SeqCst);
        for timer in self.all() {
            timer.store(0, SeqCst);
        }
        self.enabled.store(true, SeqCst);
    }

    /// The interface went down. No deadline remains, and an expiry that still comes does nothing. The
    /// caller stops the callout afterwards.
    pub fn disable(&self) {
        self.enabled.store(false, SeqCst);
        for timer in self.all() {
            timer.store(0, SeqCst);
        }
        self.attempts.store(0, Relaxed);
        self.need_another_keepalive.store(false, Relaxed);
        self.sent_last_minute.store(false, Relaxed);
        self.last_handshake_sent.store(0, Relaxed);
    }

    /// Whether the timers run.
    pub fn enabled(&self) -> bool {
        self.enabled.load(SeqCst)
    }

    /// Sets the persistent keepalive interval in seconds; 0 is off. True: send a keepalive now, which
    /// begins the new interval.
    #[must_use]
    pub fn set_persistent_keepalive(&self, seconds: u16) -> bool {
        let changed = self.interval.swap(seconds, Relaxed) != seconds;
        if changed {
            self.persistent.store(0, SeqCst);
        }
        changed && seconds != 0 && self.enabled()
    }

    /// The persistent keepalive interval in seconds; 0 is off.
    pub fn persistent_keepalive(&self) -> u16 {
        self.interval.load(Relaxed)
    }

    /// Call after a data packet was sent that is not a keepalive, or failed to be sent: nothing may
    /// come back then, either. `random` gives 32 random bits and is called only when the timer
    /// begins to run.
    #[must_use]
    pub fn data_sent(&self, now: u64, random: impl FnOnce() -> u32) -> Option<u64> {
        if self.new_handshake.load(Relaxed) != 0 {
            return None;
        }
        self.set(
            &self.new_handshake,
            deadline(now, NEW_HANDSHAKE_AFTER, random()),
        )
    }

    /// Call after a data packet was received that is not a keepalive.
    #[must_use]
    pub fn data_received(&self, now: u64) -> Option<u64> {
        if self.send_keepalive.load(Relaxed) != 0 {
            if !self.need_another_keepalive.load(Relaxed) {
                self.need_another_keepalive.store(true, Relaxed);
            }
            return None;
        }
        self.set(&self.send_keepalive, now.saturating_add(KEEPALIVE_TIMEOUT))
    }

    /// Call after any authenticated packet was sent: a keepalive, data or a handshake message.
    pub fn any_authenticated_packet_sent(&self) {
        clear(&self.send_keepalive);
    }

    /// Call after any authenticated packet was received: a keepalive, data or a handshake message.
    pub fn any_authenticated_packet_received(&self) {
        clear(&self.new_handshake);
    }

    /// Call before a persistent keepalive is wanted, so that the next one comes whatever becomes of
    /// it; before any authenticated packet is sent, and after one was received.
    #[must_use]
    pub fn any_authenticated_packet_traversal(&self, now: u64) -> Option<u64> {
        let interval = u64::from(self.interval.load(Relaxed)).saturating_mul(SECOND);
        if interval == 0 {
            return None;
        }
        let deadline = now.saturating_add(interval);
        let old = self.persistent.load(Relaxed);
        if old != 0 && old <= deadline && deadline.saturating_sub(old) < PERSISTENT_SLACK {
            return None;
        }
        self.set(&self.persistent, deadline)
    }

    /// Call when the keepalive that [`Actions::send_keepalive`] asks for could not be made.
    #[must_use]
    pub fn keepalive_failed(&self, now: u64) -> Option<u64> {
        self.set(
            &self.send_keepalive,
            now.saturating_add(KEEPALIVE_RETRY_AFTER),
        )
    }

    /// Whether [`initiation_due`](Self::initiation_due) could be true now: spares asking it in vain.
    pub fn initiation_possible(&self, now: u64) -> bool {
        let last = self.last_handshake_sent.load(Relaxed);
        last == 0 || now >= last.saturating_add(REKEY_TIMEOUT)
    }

    /// Call before anything is tried to send an initiation: it will be tried again, unless
    /// [`handshake_complete`](Self::handshake_complete) or
    /// [`initiation_void`](Self::initiation_void) comes first. `random` is 32 random bits.
    ///
    /// `retry`: the reason is a handshake without an answer, see [`Actions::retry`]. Anything else
    /// begins the count of attempts anew.
    #[must_use]
    pub fn initiation_wanted(&self, now: u64, retry: bool, random: u32) -> Option<u64> {
        if !retry && self.attempts.load(Relaxed) != 0 {
            self.attempts.store(0, Relaxed);
        }
        if self.initiation_possible(now) {
            return self.set(&self.retry_handshake, deadline(now, REKEY_TIMEOUT, random));
        }
        if self.retry_handshake.load(SeqCst) != 0 {
            return None;
        }
        let last = self.last_handshake_sent.load(Relaxed);
        self.set(&self.retry_handshake, deadline(last, REKEY_TIMEOUT, random))
    }

    /// No initiation is needed after all: there is a new session.
    pub fn initiation_void(&self) {
        clear(&self.retry_handshake);
    }

    /// Whether an initiation may be sent now: the last one, or the last response, is at least
    /// [`REKEY_TIMEOUT`] ago. True is given to one caller only, who makes and sends it and then
    /// calls [`handshake_initiated`](Self::handshake_initiated).
    #[must_use]
    pub fn initiation_due(&self, now: u64) -> bool {
        let last = self.last_handshake_sent.load(Relaxed);
        self.enabled()
            && (last == 0 || now >= last.saturating_add(REKEY_TIMEOUT))
            && self
                .last_handshake_sent
                .compare_exchange(last, now, Relaxed, Relaxed)
                .is_ok()
    }

    /// Call when a response is made. It counts as a handshake sent: its receiver is about to
    /// confirm the session, and an initiation of ours would only make a second one.
    pub fn handshake_answered(&self, now: u64) {
        self.last_handshake_sent.store(now, Relaxed);
    }

    /// Lets the next initiation be sent without regard to when the last one was. For a new private
    /// key: what was sent under the old one is void.
    pub fn reset_last_handshake_sent(&self) {
        self.last_handshake_sent.store(0, Relaxed);
    }

    /// Call when an initiation has been made: it will be repeated. `random` is 32 random bits.
    #[must_use]
    pub fn handshake_initiated(&self, now: u64, random: u32) -> Option<u64> {
        self.set(&self.retry_handshake, deadline(now, REKEY_TIMEOUT, random))
    }

    /// Call after a response was received (then also send what is staged, or a keepalive if nothing
    /// is), and after a responder received the first data packet of a session (then also send what is
    /// staged). `wall_clock` is the time in seconds and nanoseconds since 1970.
    pub fn handshake_complete(&self, wall_clock: (u64, u32)) {
        clear(&self.retry_handshake);
        self.attempts.store(0, Relaxed);
        self.sent_last_minute.store(false, Relaxed);
        let (seconds, nanos) = wall_clock;
        let nanos = seconds.saturating_mul(SECOND).saturating_add(nanos.into());
        self.last_handshake.store(nanos, Relaxed);
    }

    /// Call after a session was made: when a response was made or consumed.
    #[must_use]
    pub fn session_derived(&self, now: u64) -> Option<u64> {
        self.set(&self.zero_keys, now.saturating_add(ZERO_KEYS_AFTER))
    }

    /// Wall clock of the last complete handshake in seconds and nanoseconds since 1970, good until the
    /// year 2554. One atomic, so that it can be read at any time.
    pub fn last_handshake(&self) -> Option<(u64, u32)> {
        match self.last_handshake.load(Relaxed) {
            0 => None,
            t => Some((t / SECOND, (t % SECOND) as u32)),
        }
    }

    /// Call after a data packet was received over a session for which
    /// [`crate::wg_noise::Keypair::rekey_after_receive`] says yes. True, at most once a session: begin a handshake.
    #[must_use]
    pub fn last_minute_handshake(&self) -> bool {
        !self.sent_last_minute.load(Relaxed) && !self.sent_last_minute.swap(true, Relaxed)
    }

    /// The callout fired. Returns what to do, and for when to arm it again.
    ///
    /// To be called from one context at a time, as a callout does.
    #[must_use]
    pub fn expire(&self, now: u64) -> Actions {
        self.armed.store(NEVER, SeqCst);
        let mut actions = Actions {
            bits: 0,
            next: None,
        };
        if !self.enabled() {
            return actions;
        }
        if due(&self.retry_handshake, now) {
            // The attempt that goes unanswered is counted here, not when it was sent: with the
            // first one there is nothing to count yet.
            let made = self.attempts.load(Relaxed).saturating_add(1);
            if made >= MAX_ATTEMPTS {
                self.attempts.store(0, Relaxed);
                actions.bits |= Actions::GIVE_UP;
                clear(&self.send_keepalive);
                // Without a session the keys that remain are of no use; do not keep them for ever.
                if self.zero_keys.load(SeqCst) == 0 {
                    self.zero_keys
                        .store(now.saturating_add(ZERO_KEYS_AFTER), SeqCst);
                }
            } else {
                self.attempts.store(made, Relaxed);
                actions.bits |= Actions::INITIATE | Actions::RETRY | Actions::CLEAR_SOURCE;
            }
        }
        if due(&self.new_handshake, now) {
            // Also when a retry is due at the same time: then this is the newer reason.
            actions.bits |= Actions::INITIATE | Actions::CLEAR_SOURCE;
            actions.bits &= !Actions::RETRY;
        }
        if due(&self.send_keepalive, now) {
            actions.bits |= Actions::KEEPALIVE;
            if self.need_another_keepalive.swap(false, Relaxed) {
                self.send_keepalive
                    .store(now.saturating_add(KEEPALIVE_TIMEOUT), SeqCst);
            }
        }
        if due(&self.zero_keys, now) {
            actions.bits |= Actions::ZERO_KEYS;
        }
        if due(&self.persistent, now) {
            let interval = u64::from(self.interval.load(Relaxed)).saturating_mul(SECOND);
            if interval != 0 {
                actions.bits |= Actions::KEEPALIVE;
                // Sending it moves the deadline as well, but it might not get sent: no memory, no
                // endpoint. The next one still comes.
                self.persistent.store(now.saturating_add(interval), SeqCst);
            }
        }
        if !self.enabled() {
            // Disabled meanwhile. What was stored above may remain, for `enable` to clear; clearing it
            // here could meet a deadline that was set after enabling again.
            return Actions {
                bits: 0,
                next: None,
            };
        }
        let earliest = self
            .all()
            .into_iter()
            .map(|t| t.load(SeqCst))
            .filter(|&d| d != 0)
            .min();
        actions.next = earliest.and_then(|d| self.lower_armed(d));
        actions
    }

    /// Starts or moves a timer; the result is for the caller of an event.
    fn set(&self, timer: &AtomicU64, deadline: u64) -> Option<u64> {
        if !self.enabled.load(Relaxed) {
            return None;
        }
        timer.store(deadline, SeqCst);
        if !self.enabled() {
            // Only our own: enabled again, another event may have set its deadline.
            let _ = timer.compare_exchange(deadline, 0, SeqCst, SeqCst);
            return None;
        }
        self.lower_armed(deadline)
    }

    /// Lowers `armed` to `deadline`; `None` when the callout is armed for that or earlier.
    fn lower_armed(&self, deadline: u64) -> Option<u64> {
        let mut armed = self.armed.load(SeqCst);
        while deadline < armed {
            match self
                .armed
                .compare_exchange_weak(armed, deadline, SeqCst, SeqCst)
            {
                Ok(_) => return Some(deadline),
                Err(other) => armed = other,
            }
        }
        None
    }

    fn all(&self) -> [&AtomicU64; 5] {
        [
            &self.retry_handshake,
            &self.send_keepalive,
            &self.new_handshake,
            &self.zero_keys,
            &self.persistent,
        ]
    }
}

impl Default for Timers {
    fn default() -> Timers {
        Timers::new()
    }
}

/// What an expiry asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actions {
    bits: u8,
    /// When to arm the callout; `None` leaves it as it is.
    pub next: Option<u64>,
}

impl Actions {
    const INITIATE: u8 = 1;
    const RETRY: u8 = 2;
    const CLEAR_SOURCE: u8 = 4;
    const KEEPALIVE: u8 = 8;
    const GIVE_UP: u8 = 16;
    const ZERO_KEYS: u8 = 32;

    /// Send an initiation, if [`Timers::initiation_due`] says so for [`retry`](Self::retry).
    pub const fn send_initiation(&self) -> bool {
        self.bits & Self::INITIATE != 0
    }

    /// The initiation repeats one that was not answered.
    pub const fn retry(&self) -> bool {
        self.bits & Self::RETRY != 0
    }

    /// Forget the source address by which the peer was last reached: it may be why no answer comes.
    pub const fn clear_source(&self) -> bool {
        self.bits & Self::CLEAR_SOURCE != 0
    }

    /// Send a keepalive.
    pub const fn send_keepalive(&self) -> bool {
        self.bits & Self::KEEPALIVE != 0
    }

    /// The peer does not answer: drop the packets that wait for a session.
    pub const fn give_up(&self) -> bool {
        self.bits & Self::GIVE_UP != 0
    }

    /// Wipe the sessions and the state of the handshake.
    pub const fn zero_keys(&self) -> bool {
        self.bits & Self::ZERO_KEYS != 0
    }

    /// There is nothing to do.
    pub const fn is_empty(&self) -> bool {
        self.bits == 0
    }
}

/// Stops a timer, with a store only if it runs.
fn clear(timer: &AtomicU64) {
    if timer.load(Relaxed) != 0 {
        timer.store(0, SeqCst);
    }
}

/// Takes a deadline that has come. One that is moved meanwhile has not.
fn due(timer: &AtomicU64, now: u64) -> bool {
    let deadline = timer.load(SeqCst);
    deadline != 0 && deadline <= now && timer.compare_exchange(deadline, 0, SeqCst, SeqCst).is_ok()
}

/// The time `after` nanoseconds from `now`, and up to [`REKEY_JITTER`] later by 32 random bits.
const fn deadline(now: u64, after: u64, random: u32) -> u64 {
    let jitter = (random as u64).saturating_mul(REKEY_JITTER) >> 32;
    now.saturating_add(after).saturating_add(jitter)
}
