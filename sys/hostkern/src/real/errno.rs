// SPDX-License-Identifier: BSD-2-Clause
//! Error numbers: this host's and FreeBSD's agree only up to 34.

use std::io;

use crate::backend::Errno;

/// Pairs of (Linux, FreeBSD) numbers above 34, for what sockets, interfaces and the driver can report.
const PAIRS: [(i32, Errno); 33] = [
    (libc::EAGAIN, 35),
    (libc::EDEADLK, 11),
    (libc::ENAMETOOLONG, 63),
    (libc::ENOSYS, 78),
    (libc::ELOOP, 62),
    (libc::EBADMSG, 89),
    (libc::EPROTO, 92),
    (libc::EOVERFLOW, 84),
    (libc::ENOTSOCK, 38),
    (libc::EDESTADDRREQ, 39),
    (libc::EMSGSIZE, 40),
    (libc::EPROTOTYPE, 41),
    (libc::ENOPROTOOPT, 42),
    (libc::EPROTONOSUPPORT, 43),
    (libc::ESOCKTNOSUPPORT, 44),
    (libc::EOPNOTSUPP, 45),
    (libc::EPFNOSUPPORT, 46),
    (libc::EAFNOSUPPORT, 47),
    (libc::EADDRINUSE, 48),
    (libc::EADDRNOTAVAIL, 49),
    (libc::ENETDOWN, 50),
    (libc::ENETUNREACH, 51),
    (libc::ENETRESET, 52),
    (libc::ECONNABORTED, 53),
    (libc::ECONNRESET, 54),
    (libc::ENOBUFS, 55),
    (libc::EISCONN, 56),
    (libc::ENOTCONN, 57),
    (libc::ETIMEDOUT, 60),
    (libc::ECONNREFUSED, 61),
    (libc::EHOSTDOWN, 64),
    (libc::EHOSTUNREACH, 65),
    (libc::ENOTRECOVERABLE, 95),
];

const EIO: Errno = 5;

/// FreeBSD's number for an error of the host; EIO for what FreeBSD has no word for.
#[must_use]
pub fn to_freebsd(e: &io::Error) -> Errno {
    match e.raw_os_error() {
        Some(n) => PAIRS
            .iter()
            .find(|p| p.0 == n)
            .map_or_else(|| if (1..=34).contains(&n) { n } else { EIO }, |p| p.1),
        None => EIO,
    }
}

/// The host's number for an error of the driver; EIO for what the host has no word for.
#[must_use]
pub fn to_host(n: Errno) -> i32 {
    PAIRS.iter().find(|p| p.1 == n).map_or_else(
        || if (1..=34).contains(&n) { n } else { libc::EIO },
        |p| p.0,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_the_way_there_and_back() {
        for n in (1..=34).chain(PAIRS.map(|p| p.0)) {
            assert_eq!(
                to_host(to_freebsd(&io::Error::from_raw_os_error(n))),
                n,
                "{n}"
            );
        }
        assert_eq!(
            to_freebsd(&io::Error::from_raw_os_error(libc::EADDRINUSE)),
            48
        );
        assert_eq!(to_freebsd(&io::Error::from_raw_os_error(4095)), EIO);
        assert_eq!(to_freebsd(&io::Error::other("x")), EIO);
        assert_eq!(to_host(-3), libc::EIO);
    }

    #[test]
    fn no_number_is_listed_twice() {
        for (i, a) in PAIRS.iter().enumerate() {
            assert!(
                PAIRS[i + 1..].iter().all(|b| a.0 != b.0 && a.1 != b.1),
                "{a:?}"
            );
        }
    }
}
