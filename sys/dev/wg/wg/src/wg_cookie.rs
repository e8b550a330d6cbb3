// SPDX-License-Identifier: BSD-2-Clause
//! MAC1, MAC2 and cookies: what stands between a flood of packets and our key agreements.
//!
//! Source: the WireGuard paper, sections 5.3 and 5.4.4 to 5.4.7. Every handshake message carries
//! MAC1, which whoever knows the receiver's public key can make; a message without a valid one is
//! dropped in silence. A receiver under load asks for MAC2 as well, which is keyed by a cookie that
//! it has sent to the source address and port of the message: proof that the sender owns the
//! address. Cookies are only sent in answer to a message with a valid MAC1, so that an interface
//! does not answer those who do not know its public key.

use core::net::{IpAddr, SocketAddr};

use zeroize::{Zeroize, Zeroizing};

use crate::messages::{
    COOKIE_NONCE_LEN, COOKIE_REPLY_LEN, COOKIE_SECRET_LIFETIME, COOKIE_USE_TIME, CookieReply,
    INITIATION_LEN, Initiation, KEY_LEN, MAC_LEN, RESPONSE_LEN, Response, TAG_LEN,
    build_cookie_reply,
};
use crate::wg_crypto::{
    Rng, Secret, blake2s, blake2s_mac, ct_equal, xchacha20poly1305_open, xchacha20poly1305_seal,
};

/// The two keys that follow from a public key: of MAC1, and of the sealed cookie.
///
/// Both can be computed by whoever knows the public key, so they are no secrets.
pub struct MacKeys {
    mac1: [u8; KEY_LEN],
    cookie: [u8; KEY_LEN],
}

impl MacKeys {
    /// The keys for messages to the owner of `public`.
    pub fn new(public: &[u8; KEY_LEN]) -> Self {
        Self {
            mac1: blake2s(&[b"mac1----", public]),
            cookie: blake2s(&[b"cookie--", public]),
        }
    }

    /// Whether the MAC1 of a handshake message is right. Takes no lock and no state.
    pub fn check_mac1<'a>(&self, msg: impl Into<Macced<'a>>) -> bool {
        let msg = msg.into();
        mac(&self.mac1, &[msg.before_mac1]).is_some_and(|m| ct_equal(&m, msg.mac1))
    }
}

/// A message that carries MACs: an [`Initiation`] or a [`Response`], by `into()`.
#[derive(Clone, Copy)]
pub struct Macced<'a> {
    sender: u32,
    before_mac1: &'a [u8],
    before_mac2: &'a [u8],
    mac1: &'a [u8; MAC_LEN],
    mac2: &'a [u8; MAC_LEN],
}

impl<'a> Macced<'a> {
    fn new<const L: usize>(
        sender: u32,
        bytes: &'a [u8; L],
        mac1: &'a [u8; MAC_LEN],
        mac2: &'a [u8; MAC_LEN],
    ) -> Self {
        // The array is longer than both MACs, so neither fallback is ever taken.
        const { assert!(L > 2 * MAC_LEN) };
        let before_mac2 = bytes
            .split_last_chunk::<MAC_LEN>()
            .map_or(&[][..], |(rest, _)| rest);
        let before_mac1 = before_mac2
            .split_last_chunk::<MAC_LEN>()
            .map_or(&[][..], |(rest, _)| rest);
        Self {
            sender,
            before_mac1,
            before_mac2,
            mac1,
            mac2,
        }
    }
}

impl<'a> From<Initiation<'a>> for Macced<'a> {
    fn from(m: Initiation<'a>) -> Self {
        Self::new(m.sender(), m.bytes(), m.mac1(), m.mac2())
    }
}

impl<'a> From<Response<'a>> for Macced<'a> {
    fn from(m: Response<'a>) -> Self {
        Self::new(m.sender(), m.bytes(), m.mac1(), m.mac2())
    }
}

/// What to do with a handshake message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// MAC1 is wrong: drop it.
    Invalid,
    /// MAC1 is right, and we are not under load: process it.
    Process,
    /// We are under load, and MAC2 proves the source address: process it if the rate limiter has
    /// room for that address.
    ProcessIfRate,
    /// We are under load, and MAC2 proves nothing: answer with [`Checker::cookie_reply`], and
    /// drop it.
    SendCookie,
}

/// The receiver's side: checks MACs and makes cookies, for one interface.
pub struct Checker {
    keys: MacKeys,
    secret: Secret,
    /// When the secret was made, uptime in ns.
    born: Option<u64>,
}

impl Checker {
    /// For the interface with this public key.
    pub fn new(public: &[u8; KEY_LEN]) -> Self {
        Self {
            keys: MacKeys::new(public),
            secret: Secret::zero(),
            born: None,
        }
    }

    /// The interface's public key has changed. Cookies that are out become invalid.
    pub fn set_public(&mut self, public: &[u8; KEY_LEN]) {
        *self = Self::new(public);
    }

    /// The keys of MAC1 and of sealed cookies, for [`MacKeys::check_mac1`].
    pub fn keys(&self) -> &MacKeys {
        &self.keys
    }

    /// Judges a handshake message from `src` at `now`. MAC2 counts only under load.
    pub fn check<'a>(
        &self,
        msg: impl Into<Macced<'a>>,
        src: &SocketAddr,
        under_load: bool,
        now: u64,
    ) -> Verdict {
        let msg = msg.into();
        if !self.keys.check_mac1(msg) {
            return Verdict::Invalid;
        }
        if !under_load {
            return Verdict::Process;
        }
        // Without a live secret no cookie of ours can be out.
        if !self.secret_is_live(now) {
            return Verdict::SendCookie;
        }
        let Some(mut cookie) = self.cookie_of(src) else {
            return Verdict::SendCookie;
        };
        let proven = mac(&cookie, &[msg.before_mac2]).is_some_and(|m| ct_equal(&m, msg.mac2));
        cookie.zeroize();
        if proven {
            Verdict::ProcessIfRate
        } else {
            Verdict::SendCookie
        }
    }

    /// The cookie reply to `msg`, whose verdict was [`Verdict::SendCookie`]. Makes a new secret if
    /// the old one is 120 s old.
    ///
    /// None only if the cipher refuses, which it does not for lengths as these.
    pub fn cookie_reply<'a>(
        &mut self,
        msg: impl Into<Macced<'a>>,
        src: &SocketAddr,
        now: u64,
        rng: &mut dyn Rng,
    ) -> Option<[u8; COOKIE_REPLY_LEN]> {
        let msg = msg.into();
        if !self.secret_is_live(now) {
            self.secret = Secret::random(rng);
            self.born = Some(now);
        }
        let mut nonce = [0; COOKIE_NONCE_LEN];
        rng.fill(&mut nonce);
        let mut cookie = self.cookie_of(src)?;
        let tag = xchacha20poly1305_seal(&self.keys.cookie, &nonce, msg.mac1, &mut cookie)?;
        let mut sealed = [0; MAC_LEN + TAG_LEN];
        sealed
            .iter_mut()
            .zip(cookie.iter().chain(&tag))
            .for_each(|(to, from)| *to = *from);
        Some(build_cookie_reply(msg.sender, &nonce, &sealed))
    }

    fn secret_is_live(&self, now: u64) -> bool {
        self.born
            .is_some_and(|born| now.saturating_sub(born) < COOKIE_SECRET_LIFETIME)
    }

    /// The cookie of an address and port (paper, section 5.4.7).
    fn cookie_of(&self, src: &SocketAddr) -> Option<[u8; MAC_LEN]> {
        let port = src.port().to_be_bytes();
        match src.ip() {
            IpAddr::V4(a) => mac(self.secret.bytes(), &[&a.octets(), &port]),
            IpAddr::V6(a) => mac(self.secret.bytes(), &[&a.octets(), &port]),
        }
    }
}

/// The sender's side: puts MACs on our messages to one peer, and keeps the cookie that it sent us.
pub struct Macs {
    keys: MacKeys,
    /// The cookie and when it came, uptime in ns.
    cookie: Option<(Zeroizing<[u8; MAC_LEN]>, u64)>,
    /// MAC1 of the last message sent, until a cookie reply to it has come.
    last_mac1: Option<[u8; MAC_LEN]>,
}

impl Macs {
    /// For the peer with this public key.
    pub fn new(public: &[u8; KEY_LEN]) -> Self {
        Self {
            keys: MacKeys::new(public),
            cookie: None,
            last_mac1: None,
        }
    }

    /// Fills in MAC1, and MAC2 if there is a cookie that is still of use at `now`.
    pub fn add_to_initiation(&mut self, msg: &mut [u8; INITIATION_LEN], now: u64) {
        self.add(msg, now);
    }

    /// As [`Macs::add_to_initiation`], for a response.
    pub fn add_to_response(&mut self, msg: &mut [u8; RESPONSE_LEN], now: u64) {
        self.add(msg, now);
    }

    fn add<const L: usize>(&mut self, msg: &mut [u8; L], now: u64) {
        const { assert!(L > 2 * MAC_LEN) };
        self.cookie
            .take_if(|(_, came)| now.saturating_sub(*came) >= COOKIE_USE_TIME);
        let Some((rest, mac2)) = msg.split_last_chunk_mut::<MAC_LEN>() else {
            return;
        };
        let Some((body, mac1)) = rest.split_last_chunk_mut::<MAC_LEN>() else {
            return;
        };
        let Some(m) = mac(&self.keys.mac1, &[body]) else {
            return;
        };
        *mac1 = m;
        self.last_mac1 = Some(m);
        *mac2 = match &self.cookie {
            Some((cookie, _)) => mac(&cookie[..], &[rest]).unwrap_or_default(),
            None => [0; MAC_LEN],
        };
    }

    /// Takes the cookie out of a reply to the last message that got MACs here.
    ///
    /// False, and nothing changed, if there is no such message, a cookie reply to it has been
    /// taken already, or this one does not verify.
    pub fn consume_cookie_reply(&mut self, msg: &CookieReply<'_>, now: u64) -> bool {
        let Some(last) = &self.last_mac1 else {
            return false;
        };
        let Some((sealed, tag)) = msg.sealed_cookie().split_last_chunk::<TAG_LEN>() else {
            return false;
        };
        let Some(sealed) = sealed.first_chunk::<MAC_LEN>() else {
            return false;
        };
        let mut cookie = Zeroizing::new(*sealed);
        if !xchacha20poly1305_open(&self.keys.cookie, msg.nonce(), last, &mut cookie[..], tag) {
            return false;
        }
        self.cookie = Some((cookie, now));
        self.last_mac1 = None;
        true
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Option<[u8; MAC_LEN]> {
    blake2s_mac(key, parts)
}
