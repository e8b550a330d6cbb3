// SPDX-License-Identifier: BSD-2-Clause
//! Every wire message, size, limit and timer constant of WireGuard, in one place.
//!
//! The source is the paper "WireGuard: Next Generation Kernel Network Tunnel" (Donenfeld, NDSS
//! 2017, revision of 2020): section 5.4 for the messages, section 6.1 for the time and counter
//! limits. Integers on the wire are little-endian.
//!
//! [`Message::parse`] is the only way from bytes to a message. It is total: any byte string gives
//! either a message of exactly the right length or an error, and the typed views it returns have
//! no accessor that can fail.

/// Length of X25519 keys, symmetric keys, hashes and the preshared key, in bytes.
pub const KEY_LEN: usize = 32;
/// Length of a Poly1305 tag, in bytes.
pub const TAG_LEN: usize = 16;
/// Length of MAC1, MAC2 and of a cookie, in bytes (paper, section 5.4.4).
pub const MAC_LEN: usize = 16;
/// Length of a TAI64N timestamp, in bytes (paper, section 5.4.2).
pub const TIMESTAMP_LEN: usize = 12;
/// Length of the XChaCha20-Poly1305 nonce in a cookie reply, in bytes.
pub const COOKIE_NONCE_LEN: usize = 24;

/// Type number of a handshake initiation (paper, section 5.4.2).
pub const TYPE_INITIATION: u32 = 1;
/// Type number of a handshake response (paper, section 5.4.3).
pub const TYPE_RESPONSE: u32 = 2;
/// Type number of a cookie reply (paper, section 5.4.7).
pub const TYPE_COOKIE_REPLY: u32 = 3;
/// Type number of a transport data message (paper, section 5.4.6).
pub const TYPE_DATA: u32 = 4;

/// Length of a handshake initiation, in bytes.
pub const INITIATION_LEN: usize = 148;
/// Length of a handshake response, in bytes.
pub const RESPONSE_LEN: usize = 92;
/// Length of a cookie reply, in bytes.
pub const COOKIE_REPLY_LEN: usize = 64;
/// Length of the header in front of the ciphertext of a data message, in bytes.
pub const DATA_HEADER_LEN: usize = 16;
/// Length of the shortest data message (a keepalive: header and tag), in bytes.
pub const DATA_MIN_LEN: usize = DATA_HEADER_LEN + TAG_LEN;
/// Bytes that a data message adds to its padded plaintext.
pub const DATA_OVERHEAD: usize = DATA_HEADER_LEN + TAG_LEN;

pub use crate::ip::{PADDING, padded_len};

const SECOND: u64 = 1_000_000_000;

/// Send counter from which a new handshake is due, in messages (paper, section 6.1).
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// First counter value that may neither be sent nor accepted (paper, section 6.1).
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// Age of a session at which its initiator starts a new handshake, in ns (paper, section 6.1).
pub const REKEY_AFTER_TIME: u64 = 120 * SECOND;
/// Age from which a session is neither sent on nor received on, in ns (paper, section 6.1).
pub const REJECT_AFTER_TIME: u64 = 180 * SECOND;
/// How long handshakes are retried before giving up, in ns (paper, section 6.1).
pub const REKEY_ATTEMPT_TIME: u64 = 90 * SECOND;
/// Pause between two initiations to one peer, in ns (paper, section 6.1).
pub const REKEY_TIMEOUT: u64 = 5 * SECOND;
/// Greatest random delay added to a handshake retry, in ns (field practice: a third of a second).
pub const REKEY_TIMEOUT_JITTER: u64 = SECOND / 3;
/// Silence after which a received packet is answered by a keepalive, in ns (paper, section 6.1).
pub const KEEPALIVE_TIMEOUT: u64 = 10 * SECOND;
/// Age at which a session's initiator, when it receives, starts a new handshake, in ns: early
/// enough for one try before [`REJECT_AFTER_TIME`] (paper, section 6.2).
pub const REKEY_ON_RECEIVE_TIME: u64 = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT;
/// Life of the cookie secret, in ns (paper, section 5.4.7: two minutes).
pub const COOKIE_SECRET_LIFETIME: u64 = 120 * SECOND;
/// Age from which a received cookie is no longer used, in ns: the secret's life less an allowance
/// for the time that the reply spent on the wire.
pub const COOKIE_USE_TIME: u64 = COOKIE_SECRET_LIFETIME - 5 * SECOND;
/// Least time between two initiations of one peer that are accepted, in ns. The paper leaves the
/// number open; 50 a second is what the field uses.
pub const INITIATION_INTERVAL: u64 = SECOND / 50;

/// The fixed part `N` bytes long at offset `OFF` of a message of `L` bytes.
///
/// The range is checked at compile time, so the fallback is never taken; it stands there because
/// this crate has no panic path.
#[inline(always)]
fn field<const OFF: usize, const N: usize, const L: usize>(m: &[u8; L]) -> &[u8; N] {
    const { assert!(OFF + N <= L) };
    match m.get(OFF..).and_then(|rest| rest.first_chunk()) {
        Some(f) => f,
        None => const { &[0; N] },
    }
}

/// Writes the fixed part `v` at offset `OFF` of a message; the counterpart of [`field`].
#[inline(always)]
pub(crate) fn put<const OFF: usize, const N: usize, const L: usize>(m: &mut [u8; L], v: &[u8; N]) {
    const { assert!(OFF + N <= L) };
    if let Some(f) = m.get_mut(OFF..).and_then(|rest| rest.first_chunk_mut()) {
        *f = *v;
    }
}

macro_rules! view {
    (
        $(#[$doc:meta])* $name:ident, $len:expr,
        { $($(#[$fdoc:meta])* $field:ident: $off:expr, $n:expr;)* }
        indices { $($(#[$idoc:meta])* $index:ident: $ioff:expr;)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name<'a>(&'a [u8; $len]);

        impl<'a> $name<'a> {
            /// The whole message as it was on the wire.
            #[inline]
            pub fn bytes(&self) -> &'a [u8; $len] {
                self.0
            }
            $($(#[$idoc])*
            #[inline]
            pub fn $index(&self) -> u32 {
                u32::from_le_bytes(*field::<{ $ioff }, 4, { $len }>(self.0))
            })*
            $($(#[$fdoc])*
            #[inline]
            pub fn $field(&self) -> &'a [u8; $n] {
                field::<{ $off }, { $n }, { $len }>(self.0)
            })*
        }
    };
}

view! {
    /// A handshake initiation (paper, section 5.4.2).
    Initiation, INITIATION_LEN,
    {
        /// The initiator's ephemeral public key, in the clear.
        ephemeral: 8, KEY_LEN;
        /// The initiator's static public key, sealed.
        sealed_static: 40, KEY_LEN + TAG_LEN;
        /// The TAI64N timestamp, sealed.
        sealed_timestamp: 88, TIMESTAMP_LEN + TAG_LEN;
        /// MAC1, keyed by the receiver's public key.
        mac1: 116, MAC_LEN;
        /// MAC2, keyed by a cookie, or zeros.
        mac2: 132, MAC_LEN;
    }
    indices {
        /// The initiator's session index.
        sender: 4;
    }
}

view! {
    /// A handshake response (paper, section 5.4.3).
    Response, RESPONSE_LEN,
    {
        /// The responder's ephemeral public key, in the clear.
        ephemeral: 12, KEY_LEN;
        /// The empty plaintext, sealed: a tag that proves the responder's keys.
        sealed_empty: 44, TAG_LEN;
        /// MAC1, keyed by the receiver's public key.
        mac1: 60, MAC_LEN;
        /// MAC2, keyed by a cookie, or zeros.
        mac2: 76, MAC_LEN;
    }
    indices {
        /// The responder's session index.
        sender: 4;
        /// The initiator's session index, from the initiation.
        receiver: 8;
    }
}

view! {
    /// A cookie reply (paper, section 5.4.7).
    CookieReply, COOKIE_REPLY_LEN,
    {
        /// The XChaCha20-Poly1305 nonce.
        nonce: 8, COOKIE_NONCE_LEN;
        /// The cookie, sealed with the MAC1 of the answered message as associated data.
        sealed_cookie: 32, MAC_LEN + TAG_LEN;
    }
    indices {
        /// The session index of the answered message's sender.
        receiver: 4;
    }
}

/// A transport data message (paper, section 5.4.6).
///
/// Driver code usually has only the first bytes of the packet at hand, and looks at them by
/// [`DataHeader::peek`]; [`Message::parse`] gives the ciphertext as well.
#[derive(Clone, Copy)]
pub struct Data<'a> {
    /// The header.
    pub header: DataHeader,
    /// The ciphertext and its tag: at least [`TAG_LEN`] bytes.
    pub sealed: &'a [u8],
}

/// The header of a transport data message: type, receiver index, counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataHeader {
    /// The receiver's session index.
    pub receiver: u32,
    /// The nonce counter of this packet.
    pub counter: u64,
}

impl DataHeader {
    /// The header in front of `packet`, if the first [`DATA_HEADER_LEN`] bytes are those of a data
    /// message. The caller checks that the packet has at least [`DATA_MIN_LEN`] bytes in all.
    #[inline]
    pub fn peek(packet: &[u8]) -> Option<Self> {
        let h: &[u8; DATA_HEADER_LEN] = packet.first_chunk()?;
        if u32::from_le_bytes(*field::<0, 4, DATA_HEADER_LEN>(h)) != TYPE_DATA {
            return None;
        }
        Some(Self {
            receiver: u32::from_le_bytes(*field::<4, 4, DATA_HEADER_LEN>(h)),
            counter: u64::from_le_bytes(*field::<8, 8, DATA_HEADER_LEN>(h)),
        })
    }

    /// The header's bytes on the wire.
    #[inline]
    pub fn to_bytes(self) -> [u8; DATA_HEADER_LEN] {
        let mut h = [0; DATA_HEADER_LEN];
        put::<0, 4, DATA_HEADER_LEN>(&mut h, &TYPE_DATA.to_le_bytes());
        put::<4, 4, DATA_HEADER_LEN>(&mut h, &self.receiver.to_le_bytes());
        put::<8, 8, DATA_HEADER_LEN>(&mut h, &self.counter.to_le_bytes());
        h
    }
}

/// Why bytes are not a WireGuard message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParseError {
    /// The type field (the type byte and the three reserved zero bytes) is not a known one, or the
    /// packet is too short to have one.
    Type,
    /// The length is not one that the type can have.
    Length,
}

/// A message of any type.
#[derive(Clone, Copy)]
pub enum Message<'a> {
    /// Type 1.
    Initiation(Initiation<'a>),
    /// Type 2.
    Response(Response<'a>),
    /// Type 3.
    CookieReply(CookieReply<'a>),
    /// Type 4.
    Data(Data<'a>),
}

impl<'a> Message<'a> {
    /// Parses one UDP payload. Handshake messages must have exactly their length; a data message
    /// at least [`DATA_MIN_LEN`].
    ///
    /// The type is read as a 32-bit number, so that a message with a nonzero reserved byte is
    /// refused (paper, section 5.4: the bytes are zero; the field checks them so).
    pub fn parse(packet: &'a [u8]) -> Result<Self, ParseError> {
        let kind: &[u8; 4] = packet.first_chunk().ok_or(ParseError::Type)?;
        match u32::from_le_bytes(*kind) {
            TYPE_INITIATION => Ok(Self::Initiation(Initiation::parse(packet)?)),
            TYPE_RESPONSE => Ok(Self::Response(Response::parse(packet)?)),
            TYPE_COOKIE_REPLY => Ok(Self::CookieReply(CookieReply::parse(packet)?)),
            TYPE_DATA => {
                let header = DataHeader::peek(packet).ok_or(ParseError::Length)?;
                let sealed = packet.get(DATA_HEADER_LEN..).ok_or(ParseError::Length)?;
                if sealed.len() < TAG_LEN {
                    return Err(ParseError::Length);
                }
                Ok(Self::Data(Data { header, sealed }))
            }
            _ => Err(ParseError::Type),
        }
    }
}

macro_rules! parse_exact {
    ($($name:ident, $type:expr;)*) => {$(
        impl<'a> $name<'a> {
            /// Parses one UDP payload as this message: the exact length, the right type.
            pub fn parse(packet: &'a [u8]) -> Result<Self, ParseError> {
                let kind: &[u8; 4] = packet.first_chunk().ok_or(ParseError::Type)?;
                if u32::from_le_bytes(*kind) != $type {
                    return Err(ParseError::Type);
                }
                packet.try_into().map(Self).map_err(|_| ParseError::Length)
            }
        }
    )*};
}

parse_exact! {
    Initiation, TYPE_INITIATION;
    Response, TYPE_RESPONSE;
    CookieReply, TYPE_COOKIE_REPLY;
}

/// Builds the bytes of a handshake initiation, MACs zero.
pub(crate) fn build_initiation(
    sender: u32,
    ephemeral: &[u8; KEY_LEN],
    sealed_static: &[u8; KEY_LEN + TAG_LEN],
    sealed_timestamp: &[u8; TIMESTAMP_LEN + TAG_LEN],
) -> [u8; INITIATION_LEN] {
    let mut m = [0; INITIATION_LEN];
    put::<0, 4, INITIATION_LEN>(&mut m, &TYPE_INITIATION.to_le_bytes());
    put::<4, 4, INITIATION_LEN>(&mut m, &sender.to_le_bytes());
    put::<8, KEY_LEN, INITIATION_LEN>(&mut m, ephemeral);
    put::<40, 48, INITIATION_LEN>(&mut m, sealed_static);
    put::<88, 28, INITIATION_LEN>(&mut m, sealed_timestamp);
    m
}

/// Builds the bytes of a handshake response, MACs zero.
pub(crate) fn build_response(
    sender: u32,
    receiver: u32,
    ephemeral: &[u8; KEY_LEN],
    sealed_empty: &[u8; TAG_LEN],
) -> [u8; RESPONSE_LEN] {
    let mut m = [0; RESPONSE_LEN];
    put::<0, 4, RESPONSE_LEN>(&mut m, &TYPE_RESPONSE.to_le_bytes());
    put::<4, 4, RESPONSE_LEN>(&mut m, &sender.to_le_bytes());
    put::<8, 4, RESPONSE_LEN>(&mut m, &receiver.to_le_bytes());
    put::<12, KEY_LEN, RESPONSE_LEN>(&mut m, ephemeral);
    put::<44, TAG_LEN, RESPONSE_LEN>(&mut m, sealed_empty);
    m
}

/// Builds the bytes of a cookie reply.
pub(crate) fn build_cookie_reply(
    receiver: u32,
    nonce: &[u8; COOKIE_NONCE_LEN],
    sealed_cookie: &[u8; MAC_LEN + TAG_LEN],
) -> [u8; COOKIE_REPLY_LEN] {
    let mut m = [0; COOKIE_REPLY_LEN];
    put::<0, 4, COOKIE_REPLY_LEN>(&mut m, &TYPE_COOKIE_REPLY.to_le_bytes());
    put::<4, 4, COOKIE_REPLY_LEN>(&mut m, &receiver.to_le_bytes());
    put::<8, COOKIE_NONCE_LEN, COOKIE_REPLY_LEN>(&mut m, nonce);
    put::<32, 32, COOKIE_REPLY_LEN>(&mut m, sealed_cookie);
    m
}

// The layouts add up (paper, figures of section 5.4).
const _: () = {
    assert!(INITIATION_LEN == 8 + KEY_LEN + 48 + 28 + 2 * MAC_LEN);
    assert!(RESPONSE_LEN == 12 + KEY_LEN + TAG_LEN + 2 * MAC_LEN);
    assert!(COOKIE_REPLY_LEN == 8 + COOKIE_NONCE_LEN + MAC_LEN + TAG_LEN);
    assert!(REKEY_ON_RECEIVE_TIME == 165 * SECOND);
    assert!(REJECT_AFTER_MESSAGES == u64::MAX - 8192);
};
