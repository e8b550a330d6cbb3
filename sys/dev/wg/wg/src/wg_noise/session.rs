// SPDX-License-Identifier: BSD-2-Clause
//! Sessions: the keys that a handshake left, their limits, and the three slots of a peer.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::messages::{
    DataHeader, REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME, REKEY_AFTER_MESSAGES, REKEY_AFTER_TIME,
    REKEY_ON_RECEIVE_TIME,
};
use crate::wg_crypto::Aead;
use crate::wg_noise::Keys;

/// [`Keypair::state`]: sends and receives.
const LIVE: u8 = 0;
/// [`Keypair::state`]: receives only.
const RECEIVE_ONLY: u8 = 1;
/// [`Keypair::state`]: neither.
const DEAD: u8 = 2;

/// One transport session (WireGuard paper, sections 5.4.5, 5.4.6, 6.1 and 6.2).
///
/// Shared between threads without a lock; the replay window is the caller's. Its keys are wiped
/// when it is dropped. All times are uptime in ns.
pub struct Keypair {
    keys: Keys,
    created: u64,
    /// The counter of the next packet to send.
    next: AtomicU64,
    /// Only ever grows: [`LIVE`], [`RECEIVE_ONLY`], [`DEAD`].
    state: AtomicU8,
}

impl Keypair {
    /// The session of a handshake that finished at `now`.
    pub fn new(keys: Keys, now: u64) -> Self {
        Self {
            keys,
            created: now,
            next: AtomicU64::new(0),
            state: AtomicU8::new(LIVE),
        }
    }

    /// Our index: the receiver field of what the peer sends.
    pub fn local_index(&self) -> u32 {
        self.keys.local_index
    }

    /// The peer's index: the receiver field of what we send.
    pub fn remote_index(&self) -> u32 {
        self.keys.remote_index
    }

    /// Whether we opened the handshake of this session.
    pub fn is_initiator(&self) -> bool {
        self.keys.initiator
    }

    /// When the handshake finished.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// How many counters have been handed out.
    pub fn sent(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Takes `n` successive counters for sending and returns the first.
    ///
    /// None, and none taken, if one of them would reach [`REJECT_AFTER_MESSAGES`]: a counter that
    /// came round would be a nonce used twice. Does not look at the time or at
    /// [`Keypair::stop_sending`]: see [`Keypair::may_send`].
    pub fn reserve(&self, n: u64) -> Option<u64> {
        // Relaxed: uniqueness is all that is asked, and the counter publishes nothing.
        self.next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                next.checked_add(n)
                    .filter(|&end| end <= REJECT_AFTER_MESSAGES)
            })
            .ok()
    }

    /// Whether packets may be sent on this session at `now`: it is younger than 180 s, has counters
    /// left and was not told to stop.
    pub fn may_send(&self, now: u64) -> bool {
        self.state.load(Ordering::Relaxed) == LIVE
            && self.age(now) < REJECT_AFTER_TIME
            && self.sent() < REJECT_AFTER_MESSAGES
    }

    /// Whether packets may be accepted on this session at `now`: it is younger than 180 s and was
    /// not revoked.
    pub fn may_receive(&self, now: u64) -> bool {
        self.state.load(Ordering::Relaxed) != DEAD && self.age(now) < REJECT_AFTER_TIME
    }

    /// Whether, having sent, we should open a new handshake: after 2^60 messages, or as the
    /// session's initiator from 120 s of age. Only the initiator goes by age, so that the two
    /// sides do not both start (paper, section 6.2).
    pub fn rekey_after_send(&self, now: u64) -> bool {
        self.sent() > REKEY_AFTER_MESSAGES
            || (self.keys.initiator && self.age(now) >= REKEY_AFTER_TIME)
    }

    /// Whether, having received, we should open a new handshake: as the session's initiator from
    /// 165 s of age, when it would otherwise expire before we next send (paper, section 6.2).
    pub fn rekey_after_receive(&self, now: u64) -> bool {
        self.keys.initiator && self.age(now) >= REKEY_ON_RECEIVE_TIME
    }

    /// Stops sending on this session, for good: the interface's key has changed. What the peer
    /// still sends on it is accepted.
    pub fn stop_sending(&self) {
        self.state.fetch_max(RECEIVE_ONLY, Ordering::Relaxed);
    }

    /// Stops sending and receiving on this session, for good.
    pub fn revoke(&self) {
        self.state.fetch_max(DEAD, Ordering::Relaxed);
    }

    /// Whether [`Keypair::revoke`] was called: what was sealed or is to be opened is void.
    pub fn is_revoked(&self) -> bool {
        self.state.load(Ordering::Relaxed) == DEAD
    }

    /// The header of the packet with this counter.
    pub fn header(&self, counter: u64) -> DataHeader {
        DataHeader {
            receiver: self.keys.remote_index,
            counter,
        }
    }

    /// Seals one packet with a counter from [`Keypair::reserve`]; see [`Aead::seal`].
    #[must_use]
    pub fn seal(&self, aead: &dyn Aead, counter: u64, buf: &mut [u8]) -> bool {
        aead.seal(self.keys.send.bytes(), counter, buf)
    }

    /// Opens one packet; see [`Aead::open`]. Counters from [`REJECT_AFTER_MESSAGES`] up are
    /// refused. On success the caller asks its replay window, in this order, so that forged
    /// packets cannot move the window.
    #[must_use]
    pub fn open(&self, aead: &dyn Aead, counter: u64, buf: &mut [u8]) -> bool {
        counter < REJECT_AFTER_MESSAGES && aead.open(self.keys.recv.bytes(), counter, buf)
    }

    fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.created)
    }
}

/// What a change of [`Slots`] pushed out: up to three sessions, for the caller to take out of its
/// index table.
#[must_use = "the indices of these sessions have to be freed"]
pub struct Fallen<T>([Option<T>; 3]);

impl<T> IntoIterator for Fallen<T> {
    type Item = T;
    type IntoIter = core::iter::Flatten<core::array::IntoIter<Option<T>, 3>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}

/// Which session is to remain: one that we opened, or the one that we answered for and that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tie {
    /// Ours: it is the younger one, or both sides opened before either knew of the other's
    /// handshake, and it has won.
    Ours,
    /// The peer's, as it has won such a tie.
    Theirs,
}

impl Tie {
    /// Breaks the tie of two handshakes that crossed: the one that was opened with the smaller
    /// public key remains. Both sides come to the same end without a word.
    pub fn crossed(own: &[u8; 32], remote: &[u8; 32]) -> Self {
        if own < remote {
            Self::Ours
        } else {
            Self::Theirs
        }
    }
}

/// What the first packet on a waiting session did.
pub struct Confirmed<T> {
    /// The session is `current` now; else it is only received on.
    pub current: bool,
    /// What it pushed out.
    pub fallen: Fallen<T>,
}

/// The sessions of one peer: the one in use, the one before it, and one that waits to be used.
///
/// `T` is the caller's handle of a session. The rules are those of the field, which follow from
/// paper section 6.3: whoever opened a handshake may send on its session at once; whoever answered
/// may not until a packet on it proves that the response has arrived, so that session waits as
/// `next`. The `previous` one is kept for packets that were under way when `current` changed.
///
/// The field has no rule for two handshakes that cross and both succeed. If each side went on with
/// the one that it opened, both would be initiators: they would renew together for ever, and each
/// renewal would push out the session that the other side still sends on. So the two sides break
/// the tie ([`Tie`]). Whoever opened sends on its own session in any case, until a packet on the
/// one that is to remain shows that the peer has it. A peer that does not break ties either
/// forgets its own handshake when it answers ours, or goes on sending on its own; both are
/// received.
pub struct Slots<T> {
    previous: Option<T>,
    current: Option<T>,
    next: Option<T>,
    /// `current` is to remain: a packet on `next` makes that one `previous`.
    outranked: bool,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slots<T> {
    /// No session.
    pub const fn new() -> Self {
        Self {
            previous: None,
            current: None,
            next: None,
            outranked: false,
        }
    }

    /// The session that packets are sent on.
    pub fn current(&self) -> Option<&T> {
        self.current.as_ref()
    }

    /// The session that `current` took over from.
    pub fn previous(&self) -> Option<&T> {
        self.previous.as_ref()
    }

    /// The session that we answered for and that is not confirmed yet.
    pub fn next(&self) -> Option<&T> {
        self.next.as_ref()
    }

    /// All sessions.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.previous.iter().chain(&self.current).chain(&self.next)
    }

    /// Installs the session of a handshake that we opened, to be sent on at once; `tie` decides
    /// between it and a `next`.
    ///
    /// In either case `next` goes on waiting, and `current` becomes `previous`: what is under way
    /// may be on each of the three. The peer sends on the old one until it has our response, or a
    /// packet on the new one.
    pub fn install_initiator(&mut self, session: T, tie: Tie) -> Fallen<T> {
        self.outranked = self.next.is_some() && tie == Tie::Ours;
        let old = self.current.replace(session);
        Fallen([core::mem::replace(&mut self.previous, old), None, None])
    }

    /// Installs the session of a handshake that we answered: it waits as `next` until
    /// [`Slots::confirm`]. An unconfirmed one before it falls out. `previous` stays, since an
    /// initiation says nothing about which session its sender uses meanwhile.
    pub fn install_responder(&mut self, session: T) -> Fallen<T> {
        self.outranked = false;
        Fallen([self.next.replace(session), None, None])
    }

    /// To be called when an authenticated packet was received on a session: if `is_it` recognises
    /// the waiting session, that one becomes `current`, and `current` becomes `previous`. It becomes
    /// `previous` itself if `current` is to remain.
    ///
    /// None if it was received on another session, which changes nothing.
    pub fn confirm(&mut self, is_it: impl FnOnce(&T) -> bool) -> Option<Confirmed<T>> {
        let next = self.next.take_if(|next| is_it(next))?;
        let current = !core::mem::replace(&mut self.outranked, false);
        let old = if current {
            self.current.replace(next)
        } else {
            Some(next)
        };
        let fallen = Fallen([core::mem::replace(&mut self.previous, old), None, None]);
        Some(Confirmed { current, fallen })
    }

    /// Drops all sessions.
    pub fn clear(&mut self) -> Fallen<T> {
        self.outranked = false;
        Fallen([self.previous.take(), self.current.take(), self.next.take()])
    }
}
