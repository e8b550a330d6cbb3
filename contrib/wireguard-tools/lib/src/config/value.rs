// SPDX-License-Identifier: BSD-2-Clause
//! Single values. The errors are in the words of stock wg(8), except that no secret appears in them.

use std::io::{self, Read, Seek};
use std::net::IpAddr;
use std::path::Path;

use zeroize::Zeroizing;

use super::is_space;
use crate::endpoint;
use crate::key::{PublicKey, SecretKey, TEXT_LEN};
use crate::visible;

/// What stands for a value that may be a secret.
const HIDDEN: &str = "(hidden)";

/// A UDP port, by number or by name.
pub(super) fn listen_port(value: &[u8]) -> Result<u16, String> {
    let text = visible(value);
    endpoint::port(&String::from_utf8_lossy(value)).map_err(|reason| format!("{reason}: `{text}'"))
}

/// A mark: `off`, decimal, or hexadecimal after `0x`.
///
/// # Errors
/// A text that names the value.
pub fn fwmark(value: &[u8]) -> Result<u32, String> {
    if value.eq_ignore_ascii_case(b"off") {
        return Ok(0);
    }
    let number = match value {
        [b'0', b'x', hex @ ..] if !hex.is_empty() => number(hex, 16),
        decimal => number(decimal, 10),
    };
    number.and_then(|n| u32::try_from(n).ok()).ok_or_else(|| {
        let text = visible(value);
        format!("Fwmark is neither 0/off nor 0-0xffffffff: `{text}'")
    })
}

/// An interval in seconds, or `off`.
///
/// # Errors
/// A text that names the value.
pub fn keepalive(value: &[u8]) -> Result<u16, String> {
    if value.eq_ignore_ascii_case(b"off") {
        return Ok(0);
    }
    number(value, 10)
        .and_then(|n| u16::try_from(n).ok())
        .ok_or_else(|| {
            let text = visible(value);
            format!("Persistent keepalive interval is neither 0/off nor 1-65535: `{text}'")
        })
}

/// A public key in base64.
///
/// # Errors
/// A text that names the value.
pub fn public_key(value: &[u8]) -> Result<PublicKey, String> {
    PublicKey::from_base64(value).ok_or_else(|| bad_key(&visible(value)))
}

/// A private or preshared key in base64.
pub(super) fn secret_key(value: &[u8]) -> Result<SecretKey, String> {
    SecretKey::from_base64(value).ok_or_else(|| bad_key(HIDDEN))
}

fn bad_key(shown: &str) -> String {
    format!("Key is not the correct length or format: `{shown}'")
}

/// A private or preshared key from a file: 44 characters and then whitespace at most. An empty file, /dev/null say, is
/// the key that means "none".
///
/// # Errors
/// A text for wg(8)'s standard error.
pub fn key_file(path: &Path) -> Result<SecretKey, String> {
    let said = |what: &str, e: &io::Error| format!("{what}: {}", crate::error_text(e));
    let mut file = std::fs::File::open(path).map_err(|e| said("fopen", &e))?;
    let short = || "Invalid length key in key file".to_owned();
    let mut text = Zeroizing::new([0; TEXT_LEN]);
    let mut len = 0;
    while len < TEXT_LEN {
        match file.read(&mut text[len..]) {
            // Not so a pipe: the command that was to write the key has failed.
            Ok(0) if len == 0 && file.stream_position().is_ok() => return Ok(SecretKey::zero()),
            Ok(0) => return Err(short()),
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(short()),
        }
    }
    let mut rest = Zeroizing::new([0; 512]);
    loop {
        match file.read(&mut *rest) {
            Ok(0) => break,
            Ok(n) => {
                if let Some(&b) = rest[..n].iter().find(|&&b| !is_space(b)) {
                    let c = visible(&[b]);
                    return Err(format!("Found trailing character in key file: `{c}'"));
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(said("getc", &e)),
        }
    }
    SecretKey::from_base64(&*text).ok_or_else(|| bad_key(HIDDEN))
}

/// Address and length of a prefix without its sign; `entry` is the text with it.
pub(super) fn prefix(text: &[u8], entry: &[u8]) -> Result<(IpAddr, u8), String> {
    let mut parts = text.splitn(2, |&b| b == b'/');
    let address = parts.next().unwrap_or_default();
    let ip: Option<IpAddr> = std::str::from_utf8(address)
        .ok()
        .and_then(|a| a.parse().ok());
    let ip = ip.ok_or_else(|| format!("Unable to parse IP address: `{}'", visible(address)))?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let cidr = match parts.next() {
        None => Some(most),
        Some(length) => number(length, 10).and_then(|n| u8::try_from(n).ok()),
    };
    match cidr {
        Some(cidr) if cidr <= most => Ok((ip, cidr)),
        _ => {
            let text = visible(entry);
            Err(format!("AllowedIP is not in the correct format: `{text}'"))
        }
    }
}

/// Whether an address has bits beyond the prefix.
pub(super) fn has_host_part(ip: IpAddr, cidr: u8) -> bool {
    match ip {
        IpAddr::V4(a) => a
            .to_bits()
            .checked_shl(cidr.into())
            .is_some_and(|rest| rest != 0),
        IpAddr::V6(a) => a
            .to_bits()
            .checked_shl(cidr.into())
            .is_some_and(|rest| rest != 0),
    }
}

/// Digits and nothing else.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    if text.is_empty() || !text.bytes().all(|b| char::from(b).is_digit(radix)) {
        return None;
    }
    u64::from_str_radix(text, radix).ok()
}

/// An unknown line as it may be printed: what could be a key that lacks its right name, or the sign after it, is hidden.
pub(super) fn shown(clean: &[u8]) -> String {
    // A key that lost some characters when it was copied is as secret as it was.
    let long = |text: &[u8]| text.len() >= TEXT_LEN - 4;
    let key_like = |b: &u8| b.is_ascii_alphanumeric() || b"+/=".contains(b);
    let begins = |name: &[u8]| {
        let head = clean.get(..name.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(name))
    };
    // No key has a colon in it, nor does one begin with these names.
    let sign = clean.iter().position(|b| b"=:".contains(b));
    let (name, value) = clean.split_at(sign.unwrap_or(clean.len()));
    if long(name) {
        let known = [&b"PrivateKey"[..], b"PresharedKey"];
        return match known.iter().find(|name| begins(name)) {
            _ if begins(b"PublicKey") => visible(clean),
            Some(name) => format!("{}{HIDDEN}", visible(name)),
            None => HIDDEN.to_owned(),
        };
    }
    let (sign, value) = value.split_at(value.len().min(1));
    let public = name.eq_ignore_ascii_case(b"PublicKey");
    if !public && long(value) && value.iter().all(key_like) {
        return format!("{}{}{HIDDEN}", visible(name), visible(sign));
    }
    visible(clean)
}
