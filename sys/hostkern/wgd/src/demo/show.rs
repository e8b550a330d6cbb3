// SPDX-License-Identifier: BSD-2-Clause
//! A reply of the text protocol in the words of `wg show`.

use std::fmt::Write;

/// The summary of one interface. `public_key` is its own, which the text protocol does not tell.
pub(super) fn summary(reply: &str, public_key: &[u8; 32]) -> String {
    let mut out = String::new();
    let mut allowed: Vec<&str> = Vec::new();
    let mut traffic = ("0", "0");
    field(
        &mut out,
        "interface: wg0\n  public key",
        &base64(public_key),
    );
    for line in reply.lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        match key {
            "private_key" => field(&mut out, "  private key", "(hidden)"),
            "listen_port" => field(&mut out, "  listening port", value),
            "public_key" | "errno" => {
                if !allowed.is_empty() {
                    field(&mut out, "  allowed ips", &allowed.join(", "));
                    let (received, sent) = traffic;
                    field(
                        &mut out,
                        "  transfer",
                        &format!("{} received, {} sent", bytes(received), bytes(sent)),
                    );
                    allowed.clear();
                }
                if key == "public_key" {
                    field(&mut out, "\npeer", &base64(&unhex(value)));
                }
            }
            "endpoint" => field(&mut out, "  endpoint", value),
            "last_handshake_time_sec" if value != "0" => {
                field(
                    &mut out,
                    "  latest handshake",
                    &format!("{value} (Unix time)"),
                );
            }
            "rx_bytes" => traffic.0 = value,
            "tx_bytes" => traffic.1 = value,
            "allowed_ip" => allowed.push(value),
            _ => {}
        }
    }
    out
}

fn field(out: &mut String, label: &str, value: &str) {
    // Writing to a `String` cannot fail.
    let _ = writeln!(out, "{label}: {value}");
}

fn bytes(text: &str) -> String {
    let count = text.parse::<u64>().unwrap_or(0);
    if count < 1024 {
        return format!("{count} B");
    }
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64 / 1024.0;
    let mut unit = units.iter();
    let mut name = unit.next();
    while value >= 1024.0
        && let Some(next) = unit.next()
    {
        value /= 1024.0;
        name = Some(next);
    }
    format!("{value:.2} {}", name.unwrap_or(&"B"))
}

fn unhex(text: &str) -> [u8; 32] {
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = std::str::from_utf8(pair)
            .ok()
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            .unwrap_or(0);
    }
    key
}

/// Of public keys only: it looks values up in a table.
fn base64(key: &[u8; 32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(44);
    for group in key.chunks(3) {
        let word =
            group.iter().fold(0u32, |word, &b| word << 8 | u32::from(b)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = (word >> (18 - 6 * place)) & 63;
            let filled = place <= group.len();
            out.push(match DIGITS.get(digit as usize) {
                Some(&digit) if filled => char::from(digit),
                _ => '=',
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_amounts_look_as_in_wg() {
        let key = unhex("2fe57da347cd62431528daac5fbb290730fff684afc4cfc2ed90995f58cb3b74");
        assert_eq!(base64(&key), "L+V9o0fNYkMVKNqsX7spBzD/9oSvxM/C7ZCZX1jLO3Q=");
        assert_eq!(bytes("1023"), "1023 B");
        assert_eq!(bytes("1536"), "1.50 KiB");
        assert_eq!(bytes("3221225472"), "3.00 GiB");
    }

    #[test]
    fn a_summary() {
        let peer = "ff".repeat(32);
        let text = format!(
            "private_key={peer}\nlisten_port=1\npublic_key={peer}\nlast_handshake_time_sec=5\nrx_bytes=1\n\
             tx_bytes=2\nallowed_ip=10.0.0.0/8\nallowed_ip=::/0\nerrno=0\n\n"
        );
        let shown = summary(&text, &[0; 32]);
        assert!(!shown.contains("ffff"));
        assert!(
            shown.contains("  allowed ips: 10.0.0.0/8, ::/0\n  transfer: 1 B received, 2 B sent\n")
        );
    }
}
