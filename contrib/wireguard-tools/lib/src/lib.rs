// SPDX-License-Identifier: BSD-2-Clause
//! WireGuard's configuration as a program outside the kernel sees it.
//!
//! - [`key`]: the two kinds of keys, and their text.
//! - [`device`]: what an interface reports; [`change`]: what it is asked to become.
//! - [`config`]: the file format of `wg setconf`, to which wg-quick(8) adds keys of its own.
//! - [`endpoint`]: host names and service names made into addresses.
//! - [`show`] and [`pretty`]: what wg(8) prints.
//! - [`secret`]: files that hold keys, and a process that does.
//! - [`backend`]: the ways to an interface: a driver in a FreeBSD or Linux kernel, or a process.
#![forbid(unsafe_code)]

pub mod backend;
pub mod change;
pub mod config;
pub mod device;
pub mod endpoint;
pub mod key;
pub mod pretty;
pub mod secret;
pub mod show;

/// An error's text as strerror(3) has it, without the number that the standard library adds, and without the path that
/// others add after it: which file it is about is for the caller to say.
#[must_use]
pub fn error_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// Somebody else's text as it may be printed: what cannot be seen, or what a terminal would obey, as its number.
#[must_use]
pub fn visible(text: &[u8]) -> String {
    let mut shown = String::new();
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            if matches!(c, '\'' | '"' | '\\') {
                shown.push(c);
            } else {
                shown.extend(c.escape_debug());
            }
        }
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_invisible_is_printed() {
        assert_eq!(
            visible("it's \"a\\b\" = ä٣“".as_bytes()),
            "it's \"a\\b\" = ä٣“"
        );
        assert_eq!(
            visible("\u{feff}[Interface]".as_bytes()),
            "\\u{feff}[Interface]"
        );
        assert_eq!(visible(b"\x1b[31m\t\xff\xc3"), "\\u{1b}[31m\\t\\xff\\xc3");
        assert_eq!(visible("a\u{a0}b\u{200b}".as_bytes()), "a\\u{a0}b\\u{200b}");
    }

    #[test]
    fn an_error_is_the_system_s_words() {
        let plain = std::io::Error::from_raw_os_error(30);
        assert_eq!(error_text(&plain), "Read-only file system");
        let wrapped = std::io::Error::other(format!("{plain} at path \"/etc/x\""));
        assert_eq!(error_text(&wrapped), "Read-only file system");
        assert_eq!(error_text(&std::io::Error::other("odd")), "odd");
    }
}
