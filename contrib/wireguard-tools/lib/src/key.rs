// SPDX-License-Identifier: BSD-2-Clause
//! Keys and their text.

use std::fmt;
use std::io;

use base64ct::{Base64, Encoding};
use curve25519_dalek::montgomery::MontgomeryPoint;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of every key.
pub const KEY_LEN: usize = 32;

/// Characters of a key in base64.
pub const TEXT_LEN: usize = 44;

/// Bytes of a key in the hexadecimal of the text protocol.
pub const HEX_LEN: usize = 2 * KEY_LEN;

/// A public key: it names a peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; KEY_LEN]);

impl PublicKey {
    /// Reads 44 characters of canonical base64; anything else is `None`.
    #[must_use]
    pub fn from_base64(text: &[u8]) -> Option<PublicKey> {
        let mut key = [0; KEY_LEN];
        decode(text, &mut key).then_some(PublicKey(key))
    }

    /// The key's bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Calls `f` with the key's 44 characters.
    pub fn with_base64<R>(&self, f: impl FnOnce(&str) -> R) -> R {
        let mut text = [0; TEXT_LEN];
        f(encode(&self.0, &mut text))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_base64(|text| f.pad(text))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A private or preshared key. It is wiped when dropped, cannot be printed by accident, and lies in memory of its own,
/// so that moving it leaves no copy behind.
pub struct SecretKey(Box<Zeroizing<[u8; KEY_LEN]>>);

impl SecretKey {
    /// Copies the key; the caller's copy remains the caller's to wipe.
    #[must_use]
    pub fn new(bytes: &[u8; KEY_LEN]) -> SecretKey {
        let mut key = SecretKey::zero();
        key.0.copy_from_slice(bytes);
        key
    }

    /// The key that means "none".
    #[must_use]
    pub fn zero() -> SecretKey {
        SecretKey(Box::new(Zeroizing::new([0; KEY_LEN])))
    }

    /// A new private key: random, and clamped as Curve25519 wants it.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> io::Result<SecretKey> {
        let mut key = SecretKey::generate_preshared()?;
        let [first, .., last] = &mut **key.0;
        *first &= 248;
        *last = *last & 127 | 64;
        Ok(key)
    }

    /// A new preshared key: 32 random bytes.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn generate_preshared() -> io::Result<SecretKey> {
        let mut key = SecretKey::zero();
        getrandom::fill(&mut **key.0).map_err(|e| match e.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::other(e.to_string()),
        })?;
        Ok(key)
    }

    /// Reads 44 characters of canonical base64; anything else is `None`. The time taken does not depend on the key.
    #[must_use]
    pub fn from_base64(text: &[u8]) -> Option<SecretKey> {
        let mut key = SecretKey::zero();
        decode(text, &mut key.0).then_some(key)
    }

    /// A second copy. There is no `Clone`, so that copies are made on purpose.
    #[must_use]
    pub fn duplicate(&self) -> SecretKey {
        SecretKey::new(self.bytes())
    }

    /// The public key that belongs to this private key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut scalar = Zeroizing::new(*self.bytes());
        let point = MontgomeryPoint::mul_base_clamped(*scalar);
        scalar.zeroize();
        PublicKey(point.to_bytes())
    }

    /// Whether this is the key that means "none", in constant time.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0.iter().fold(0, |all, byte| all | byte) == 0
    }

    /// The key's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Calls `f` with the key's 44 characters and wipes them.
    pub fn with_base64<R>(&self, f: impl FnOnce(&str) -> R) -> R {
        let mut text = Zeroizing::new([0; TEXT_LEN]);
        f(encode(self.bytes(), &mut text))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// base64ct runs in constant time and refuses what is not canonical; the length it leaves to us.
fn decode(text: &[u8], key: &mut [u8; KEY_LEN]) -> bool {
    text.len() == TEXT_LEN && Base64::decode(text, key).is_ok_and(|bytes| bytes.len() == KEY_LEN)
}

fn encode<'a>(key: &[u8; KEY_LEN], text: &'a mut [u8; TEXT_LEN]) -> &'a str {
    // 44 characters hold 32 bytes, so this cannot fail.
    Base64::encode(key, text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text() {
        let text = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        let key = PublicKey::from_base64(text.as_bytes()).unwrap();
        assert_eq!(key.to_string(), text);
        assert_eq!(SecretKey::new(key.bytes()).with_base64(str::to_owned), text);
        // The last character of 44 has two bits that are none of the key's.
        for sloppy in [
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dh=",
            &text[..43],
            &format!("{text}="),
        ] {
            assert!(
                PublicKey::from_base64(sloppy.as_bytes()).is_none(),
                "{sloppy}"
            );
            assert!(
                SecretKey::from_base64(sloppy.as_bytes()).is_none(),
                "{sloppy}"
            );
        }
    }

    /// RFC 7748, section 6.1.
    #[test]
    fn public_keys() {
        for (private, public) in [
            (
                "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=",
                "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=",
            ),
            (
                "XasIfmJKikt54X+Lg4AO5m87sSkmGLb9HC+LJ/+I4Os=",
                "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=",
            ),
        ] {
            let private = SecretKey::from_base64(private.as_bytes()).unwrap();
            assert_eq!(private.public().to_string(), public);
        }
    }

    #[test]
    fn generated_keys() {
        let (a, b) = (
            SecretKey::generate().unwrap(),
            SecretKey::generate().unwrap(),
        );
        assert_ne!(a.bytes(), b.bytes());
        assert!(a.bytes()[0] & 7 == 0 && a.bytes()[31] & 0xc0 == 0x40);
        let preshared = SecretKey::generate_preshared().unwrap();
        assert!(!preshared.is_zero() && SecretKey::zero().is_zero());
        assert_eq!(format!("{a:?}{preshared:?}"), "(secret)(secret)");
    }
}
