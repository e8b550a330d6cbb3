// SPDX-License-Identifier: BSD-2-Clause
//! The handshake: `Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s` as WireGuard uses it.
//!
//! Source: the WireGuard paper, sections 5.4.2 to 5.4.5; the tokens in the comments (`e`, `es`,
//! `ss`, ...) are those of the Noise Protocol Framework, revision 34, section 5.3, and the pattern
//! is
//!
//! ```text
//!   <- s
//!   ...
//!   -> e, es, s, ss      {timestamp}
//!   <- e, ee, se, psk    {}
//! ```
//!
//! This module knows no packet buffers, interfaces, tables or clocks: bytes, time and randomness
//! come in, messages and keys go out. One [`Handshake`] belongs to one peer, and the caller
//! serialises its use.
//!
//! # States
//!
//! ```text
//!  our side opens:    (none) --create_initiation--> initiation created
//!                     initiation created --consume_response--> (none), Keys
//!  their side opens:  (none) --read_initiation, accept_initiation--> initiation consumed
//!                     initiation consumed --create_response--> (none), Keys
//! ```
//!
//! The two directions are kept apart, so that when both sides open at once both handshakes can
//! finish; sharing one state, as the C drivers do, makes each side throw away what the other
//! needs, and traffic waits for the retry timer. Every function that returns an error leaves the
//! handshake as it found it, so no forged or damaged message can disturb a real one.
//!
//! # Timestamps and clock steps
//!
//! A responder takes an initiation only if its timestamp is greater than all that it has taken from
//! that peer, so an initiation cannot be replayed. The memory belongs to the [`Handshake`] and is
//! never moved back: not by [`Handshake::clear`], a new preshared key or a new identity, nor by any
//! step of the local clock, which is not consulted. A timestamp far in the future is taken as any
//! other; refusing it would make the protocol depend on synchronised clocks, which it must not
//! (paper, section 5.1: any monotone counter will do).
//!
//! What that leaves (CVE-2021-46873): whoever can set a peer's clock forward can make it send an
//! initiation that, once accepted, outranks the real ones that it sends after its clock has been
//! put right. A running sender of ours is not caught by this, as [`StampClock`] never goes back
//! while the interface exists and each [`Handshake`] sends strictly increasing stamps. A sender
//! that has restarted is locked out until its clock passes the stamp; the remedy is on the
//! responder, to remove the peer and add it again, which forgets the stamp.

use subtle::ConstantTimeEq;

use crate::messages::{
    INITIATION_INTERVAL, INITIATION_LEN, Initiation, KEY_LEN, RESPONSE_LEN, Response, TAG_LEN,
    TIMESTAMP_LEN, build_initiation, build_response,
};
use crate::wg_crypto::{
    Rng, Secret, blake2s, kdf1, kdf2, kdf3, open_small, seal_small, x25519, x25519_base,
};

mod session;
mod stamp;

pub use session::{Confirmed, Fallen, Keypair, Slots, Tie};
pub use stamp::{StampClock, Tai64n};

type Hash = [u8; KEY_LEN];

/// `HASH("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")`, the first chaining key (paper, 5.4.2).
const INITIAL_CHAIN: [u8; KEY_LEN] = [
    0x60, 0xe2, 0x6d, 0xae, 0xf3, 0x27, 0xef, 0xc0, 0x2e, 0xc3, 0x35, 0xe2, 0xa0, 0x25, 0xd2, 0xd0,
    0x16, 0xeb, 0x42, 0x06, 0xf8, 0x72, 0x77, 0xf5, 0x2d, 0x38, 0xd1, 0x98, 0x8b, 0x78, 0xcd, 0x36,
];
/// `HASH(INITIAL_CHAIN || "WireGuard v1 zx2c4 Jason@zx2c4.com")`, the first hash (paper, 5.4.2).
const INITIAL_HASH: Hash = [
    0x22, 0x11, 0xb3, 0x61, 0x08, 0x1a, 0xc5, 0x66, 0x69, 0x12, 0x43, 0xdb, 0x45, 0x8a, 0xd5, 0x32,
    0x2d, 0x9c, 0x6c, 0x66, 0x22, 0x93, 0xe8, 0xb7, 0x0e, 0xe1, 0x9c, 0x65, 0xba, 0x07, 0x9e, 0xf3,
];

/// The interface's own key pair, with what every handshake needs of it computed once.
pub struct Identity {
    private: Secret,
    public: [u8; KEY_LEN],
    /// The hash at the start of a handshake that someone opens with us.
    hash: Hash,
}

impl Identity {
    /// The identity of a private key, which is clamped (RFC 7748, section 5).
    pub fn new(private: &[u8; KEY_LEN]) -> Self {
        let mut clamped = Secret::new(private);
        clamped.clamp();
        let public = x25519_base(&clamped);
        Self {
            private: clamped,
            public,
            hash: hash_for(&public),
        }
    }

    /// The public key.
    pub fn public(&self) -> &[u8; KEY_LEN] {
        &self.public
    }

    /// The clamped private key.
    pub fn private(&self) -> &Secret {
        &self.private
    }
}

/// Why a handshake message was not used. Such a message is a counted drop, never a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandshakeError {
    /// A key agreement gave zero: a public key is a point of small order.
    ZeroShared,
    /// A sealed field did not open: damaged, forged, or for other keys.
    Sealed,
    /// The initiation is from another static key than this peer's.
    WrongPeer,
    /// The timestamp is not greater than the last one accepted.
    Replay,
    /// The peer's last initiation was accepted less than [`INITIATION_INTERVAL`] ago. The timestamp
    /// of the dropped message is not consumed.
    Flood,
    /// There is no handshake in the state that the message is for.
    State,
}

/// The outcome of a handshake: the keys of one session.
pub struct Keys {
    /// Seals what we send.
    pub send: Secret,
    /// Opens what we receive.
    pub recv: Secret,
    /// Our index: the receiver field of what the peer sends.
    pub local_index: u32,
    /// The peer's index: the receiver field of what we send.
    pub remote_index: u32,
    /// Whether we opened the handshake.
    pub initiator: bool,
}

/// The chaining key and the transcript hash.
struct Transcript {
    chain: Secret,
    hash: Hash,
}

impl Transcript {
    /// At the start, for the responder whose [`hash_for`] is given.
    fn new(hash: &Hash) -> Self {
        Self {
            chain: Secret::new(&INITIAL_CHAIN),
            hash: *hash,
        }
    }

    fn duplicate(&self) -> Self {
        Self {
            chain: self.chain.duplicate(),
            hash: self.hash,
        }
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = blake2s(&[&self.hash, data]);
    }

    /// Token `e`, both sides: psk patterns mix the ephemeral into the chain as well (Noise, 9.2).
    fn mix_ephemeral(&mut self, public: &[u8; KEY_LEN]) {
        self.chain = kdf1(&self.chain, public);
        self.mix_hash(public);
    }

    /// A key agreement of which no key is needed.
    fn mix(&mut self, shared: &Secret) {
        self.chain = kdf1(&self.chain, shared.bytes());
    }

    /// A key agreement and the key that seals the next field.
    fn mix_key(&mut self, shared: &Secret) -> Secret {
        let (chain, key) = kdf2(&self.chain, shared.bytes());
        self.chain = chain;
        key
    }

    /// Token `psk`, and the key that seals the next field.
    fn mix_psk(&mut self, psk: &Secret) -> Secret {
        let (chain, hashed, key) = kdf3(&self.chain, psk.bytes());
        self.chain = chain;
        self.mix_hash(hashed.bytes());
        key
    }

    fn seal<const N: usize>(&mut self, key: &Secret, plain: &[u8]) -> Option<[u8; N]> {
        let mut out = [0; N];
        if !seal_small(key, &self.hash, plain, &mut out) {
            return None;
        }
        self.mix_hash(&out);
        Some(out)
    }

    fn open<const N: usize>(&mut self, key: &Secret, sealed: &[u8]) -> Option<[u8; N]> {
        let mut out = [0; N];
        if !open_small(key, &self.hash, sealed, &mut out) {
            return None;
        }
        self.mix_hash(sealed);
        Some(out)
    }

    /// The two session keys: the initiator's for sending, then the responder's (paper, 5.4.5).
    fn split(&self) -> (Secret, Secret) {
        kdf2(&self.chain, &[])
    }
}

impl Drop for Transcript {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.hash);
    }
}

/// The hash at the start of a handshake with the responder `public` (paper, 5.4.2).
fn hash_for(public: &[u8; KEY_LEN]) -> Hash {
    blake2s(&[&INITIAL_HASH, public])
}

/// An initiation that was addressed to us and whose sender is known, but not yet verified: the
/// first half of a responder's work, before the peer has been looked up.
pub struct Incoming {
    transcript: Transcript,
    remote_static: [u8; KEY_LEN],
    remote_ephemeral: [u8; KEY_LEN],
    remote_index: u32,
    sealed_timestamp: [u8; TIMESTAMP_LEN + TAG_LEN],
}

impl Incoming {
    /// The sender's static public key, to look up the peer. The sender may still be an attacker who
    /// merely knows our public key; [`Handshake::accept_initiation`] settles that.
    pub fn static_public(&self) -> &[u8; KEY_LEN] {
        &self.remote_static
    }

    /// The sender's session index.
    pub fn remote_index(&self) -> u32 {
        self.remote_index
    }
}

/// Starts to consume an initiation: finds out who it claims to be from (paper, 5.4.2).
///
/// Costs one key agreement. The caller has checked MAC1 already, and MAC2 if under load.
///
/// # Errors
/// [`HandshakeError::ZeroShared`], [`HandshakeError::Sealed`].
pub fn read_initiation(id: &Identity, msg: &Initiation<'_>) -> Result<Incoming, HandshakeError> {
    let mut t = Transcript::new(&id.hash);
    // e
    t.mix_ephemeral(msg.ephemeral());
    // es
    let shared = x25519(&id.private, msg.ephemeral()).ok_or(HandshakeError::ZeroShared)?;
    let key = t.mix_key(&shared);
    // s
    let remote_static = t
        .open(&key, msg.sealed_static())
        .ok_or(HandshakeError::Sealed)?;
    Ok(Incoming {
        transcript: t,
        remote_static,
        remote_ephemeral: *msg.ephemeral(),
        remote_index: msg.sender(),
        sealed_timestamp: *msg.sealed_timestamp(),
    })
}

/// State "initiation created".
struct Created {
    transcript: Transcript,
    ephemeral: Secret,
    local_index: u32,
}

/// State "initiation consumed".
struct Consumed {
    transcript: Transcript,
    remote_ephemeral: [u8; KEY_LEN],
    remote_index: u32,
}

/// The handshakes with one peer.
pub struct Handshake {
    /// The peer's static public key.
    remote_static: [u8; KEY_LEN],
    psk: Secret,
    /// The key agreement of both static keys; None without an identity, or if it is zero.
    static_static: Option<Secret>,
    /// The hash at the start of a handshake that we open.
    hash: Hash,
    created: Option<Created>,
    consumed: Option<Consumed>,
    /// The greatest timestamp accepted.
    last_received: Tai64n,
    /// When an initiation was last accepted, uptime in ns.
    last_accepted: Option<u64>,
    /// The greatest timestamp sent.
    last_sent: Tai64n,
}

impl Handshake {
    /// For the peer with this public key. `psk` of zeros is "none" (paper, section 5.4).
    ///
    /// Without an identity, or with a public key of small order, no handshake will succeed.
    pub fn new(remote_static: &[u8; KEY_LEN], psk: &[u8; KEY_LEN], id: Option<&Identity>) -> Self {
        Self {
            remote_static: *remote_static,
            psk: Secret::new(psk),
            static_static: id.and_then(|id| x25519(&id.private, remote_static)),
            hash: hash_for(remote_static),
            created: None,
            consumed: None,
            last_received: Tai64n::ZERO,
            last_accepted: None,
            last_sent: Tai64n::ZERO,
        }
    }

    /// The peer's static public key.
    pub fn remote_static(&self) -> &[u8; KEY_LEN] {
        &self.remote_static
    }

    /// The preshared key, zeros if there is none.
    pub fn psk(&self) -> &Secret {
        &self.psk
    }

    /// Changes the preshared key. A handshake under way goes on with the new one.
    pub fn set_psk(&mut self, psk: &[u8; KEY_LEN]) {
        self.psk.set(psk);
    }

    /// Takes over a new identity of the interface, or that it has none: recomputes the static key
    /// agreement and drops handshakes under way. Returns the index that fell out, as
    /// [`Handshake::clear`].
    pub fn set_identity(&mut self, id: Option<&Identity>) -> Option<u32> {
        self.static_static = id.and_then(|id| x25519(&id.private, &self.remote_static));
        self.clear()
    }

    /// Drops and wipes handshakes under way. The timestamps stay (see the module text).
    ///
    /// Returns the local index of our initiation, if one was out, for the caller to free.
    pub fn clear(&mut self) -> Option<u32> {
        self.consumed = None;
        self.created.take().map(|c| c.local_index)
    }

    /// The local index of our initiation that waits for a response, if any.
    pub fn pending_index(&self) -> Option<u32> {
        self.created.as_ref().map(|c| c.local_index)
    }

    /// Opens a handshake: an initiation with both MACs zero, for the cookie layer to fill (paper,
    /// 5.4.2). An earlier initiation that waits for its response is forgotten: the caller reads
    /// [`Handshake::pending_index`] before, and frees that index if this succeeds.
    ///
    /// `stamp` is from the interface's [`StampClock`]; it is moved up if needed to be greater than
    /// the last one sent.
    ///
    /// None, and nothing changed, if no key agreement with this peer is possible.
    pub fn create_initiation(
        &mut self,
        id: &Identity,
        local_index: u32,
        stamp: Tai64n,
        rng: &mut dyn Rng,
    ) -> Option<[u8; INITIATION_LEN]> {
        let static_static = self.static_static.as_ref()?;
        let stamp = stamp.max(self.last_sent.next());
        let mut t = Transcript::new(&self.hash);
        // e
        let ephemeral = Secret::random(rng);
        let public = x25519_base(&ephemeral);
        t.mix_ephemeral(&public);
        // es
        let key = t.mix_key(&x25519(&ephemeral, &self.remote_static)?);
        // s
        let sealed_static = t.seal(&key, &id.public)?;
        // ss
        let key = t.mix_key(static_static);
        // {t}
        let sealed_timestamp = t.seal(&key, stamp.bytes())?;

        self.last_sent = stamp;
        self.created = Some(Created {
            transcript: t,
            ephemeral,
            local_index,
        });
        Some(build_initiation(
            local_index,
            &public,
            &sealed_static,
            &sealed_timestamp,
        ))
    }

    /// Finishes to consume an initiation: verifies that its sender holds the peer's private key,
    /// that it is fresh, and that the peer does not flood us. `now` is uptime in ns.
    ///
    /// An earlier initiation that was consumed and not answered is forgotten.
    ///
    /// # Errors
    /// Every kind but [`HandshakeError::State`]. Nothing has changed then; above all neither a
    /// replay nor a message dropped as flood changes what timestamp is acceptable next.
    pub fn accept_initiation(
        &mut self,
        incoming: Incoming,
        now: u64,
    ) -> Result<(), HandshakeError> {
        if !bool::from(incoming.remote_static.ct_eq(&self.remote_static)) {
            return Err(HandshakeError::WrongPeer);
        }
        let Incoming {
            mut transcript,
            remote_ephemeral,
            remote_index,
            sealed_timestamp,
            ..
        } = incoming;
        // ss
        let shared = self
            .static_static
            .as_ref()
            .ok_or(HandshakeError::ZeroShared)?;
        let key = transcript.mix_key(shared);
        // {t}
        let stamp = transcript
            .open(&key, &sealed_timestamp)
            .ok_or(HandshakeError::Sealed)?;
        let stamp = Tai64n::from_bytes(stamp);
        if stamp <= self.last_received {
            return Err(HandshakeError::Replay);
        }
        if self
            .last_accepted
            .is_some_and(|t| now.saturating_sub(t) < INITIATION_INTERVAL)
        {
            return Err(HandshakeError::Flood);
        }

        self.last_received = stamp;
        self.last_accepted = Some(now);
        self.consumed = Some(Consumed {
            transcript,
            remote_ephemeral,
            remote_index,
        });
        Ok(())
    }

    /// Answers the initiation that was accepted last: a response with both MACs zero, and the
    /// session's keys (paper, 5.4.3).
    ///
    /// # Errors
    /// [`HandshakeError::State`] without an accepted initiation, [`HandshakeError::ZeroShared`];
    /// nothing has changed then.
    pub fn create_response(
        &mut self,
        local_index: u32,
        rng: &mut dyn Rng,
    ) -> Result<([u8; RESPONSE_LEN], Keys), HandshakeError> {
        let consumed = self.consumed.as_ref().ok_or(HandshakeError::State)?;
        let mut t = consumed.transcript.duplicate();
        // e
        let ephemeral = Secret::random(rng);
        let public = x25519_base(&ephemeral);
        t.mix_ephemeral(&public);
        // ee
        let shared = x25519(&ephemeral, &consumed.remote_ephemeral);
        t.mix(&shared.ok_or(HandshakeError::ZeroShared)?);
        // se
        let shared = x25519(&ephemeral, &self.remote_static);
        t.mix(&shared.ok_or(HandshakeError::ZeroShared)?);
        // psk
        let key = t.mix_psk(&self.psk);
        // {}
        let sealed_empty = t.seal(&key, &[]).ok_or(HandshakeError::Sealed)?;

        let (recv, send) = t.split();
        let remote_index = consumed.remote_index;
        self.consumed = None;
        let keys = Keys {
            send,
            recv,
            local_index,
            remote_index,
            initiator: false,
        };
        Ok((
            build_response(local_index, remote_index, &public, &sealed_empty),
            keys,
        ))
    }

    /// Consumes the response to our initiation; gives the session's keys (paper, 5.4.3).
    ///
    /// # Errors
    /// [`HandshakeError::State`] if no initiation of ours with the response's receiver index waits,
    /// [`HandshakeError::ZeroShared`], [`HandshakeError::Sealed`]; the initiation then still waits.
    pub fn consume_response(
        &mut self,
        id: &Identity,
        msg: &Response<'_>,
    ) -> Result<Keys, HandshakeError> {
        let created = self.created.as_ref().ok_or(HandshakeError::State)?;
        if created.local_index != msg.receiver() {
            return Err(HandshakeError::State);
        }
        let mut t = created.transcript.duplicate();
        // e
        t.mix_ephemeral(msg.ephemeral());
        // ee
        let shared = x25519(&created.ephemeral, msg.ephemeral());
        t.mix(&shared.ok_or(HandshakeError::ZeroShared)?);
        // se
        let shared = x25519(&id.private, msg.ephemeral());
        t.mix(&shared.ok_or(HandshakeError::ZeroShared)?);
        // psk
        let key = t.mix_psk(&self.psk);
        // {}
        t.open::<0>(&key, msg.sealed_empty())
            .ok_or(HandshakeError::Sealed)?;

        let (send, recv) = t.split();
        let local_index = created.local_index;
        self.created = None;
        Ok(Keys {
            send,
            recv,
            local_index,
            remote_index: msg.sender(),
            initiator: true,
        })
    }
}
