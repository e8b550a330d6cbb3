// SPDX-License-Identifier: BSD-2-Clause
//! Rate limit of handshake messages.

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hostkern_malloc::Account;
use kpi_alloc::How;
use wg::ratelimit::{ENTRIES, RateLimiter};

const MS: u64 = 1_000_000;

fn limiter() -> RateLimiter {
    RateLimiter::new([7; 16], How::NoWait).unwrap()
}

fn v4(n: u32) -> IpAddr {
    Ipv4Addr::from(n).into()
}

#[test]
fn burst_and_rate() {
    let source = v4(0x0a00_0001);
    // Also right after boot.
    for start in [0, 1, 1 << 40] {
        let mut limit = limiter();
        let verdicts: Vec<_> = (0..7).map(|_| limit.allow(source, start)).collect();
        assert_eq!(verdicts, [true, true, true, true, true, false, false]);
        assert!(!limit.allow(source, start + 49 * MS));
        assert!(limit.allow(source, start + 50 * MS));
        assert!(!limit.allow(source, start + 99 * MS));
        assert!(limit.allow(source, start + 100 * MS));
        // Refusals cost nothing; a pause fills the bucket up again, and not further.
        let later = start + 60_000 * MS;
        assert_eq!((0..9).filter(|_| limit.allow(source, later)).count(), 5);
        let much_later = start + 600_000 * MS;
        assert_eq!(
            (0..9).filter(|_| limit.allow(source, much_later)).count(),
            5
        );
    }
}

#[test]
fn twenty_a_second() {
    let mut limit = limiter();
    let seconds = if cfg!(miri) { 1 } else { 10 };
    let passed = (0..seconds * 1000)
        .filter(|&ms| limit.allow(v4(1), 1 + ms * MS))
        .count();
    assert!(
        (20 * seconds..=20 * seconds + 5).contains(&(passed as u64)),
        "{passed}"
    );
}

#[test]
fn sources() {
    let mut limit = limiter();
    let mut spent = |a: &str, b: &str| {
        let now = 1;
        let mut fresh = limiter();
        let (a, b): (IpAddr, IpAddr) = (a.parse().unwrap(), b.parse().unwrap());
        while fresh.allow(a, now) {}
        limit.allow(a, now);
        !fresh.allow(b, now)
    };
    assert!(!spent("10.0.0.1", "10.0.0.2"));
    assert!(spent("2001:db8::1", "2001:db8::ffff:0:0:1"), "one /64");
    assert!(!spent("2001:db8::1", "2001:db8:0:1::1"));
    assert!(spent("::ffff:10.0.0.1", "10.0.0.1"));
    assert!(!spent("::1", "0.0.0.0"));
}

/// The clocks of two CPUs may disagree a little.
#[test]
fn time_backwards() {
    let mut limit = limiter();
    assert!(limit.allow(v4(1), 1000 * MS));
    assert!(limit.allow(v4(1), 999 * MS));
}

/// More sources than entries, all at once: each still gets through, and the table does not grow.
#[test]
fn overfull() {
    let account = Account::new();
    let scope = account.enter();
    let mut limit = limiter();
    let bytes = account.stats();
    let n = if cfg!(miri) { 100 } else { 4 * ENTRIES as u32 };
    assert!((0..n).all(|i| limit.allow(v4(i), MS)));
    assert!((0..n).all(|i| limit.allow(Ipv6Addr::from(u128::from(i) << 64).into(), MS)));
    assert_eq!(format!("{bytes:?}"), format!("{:?}", account.stats()));
    drop(limit);
    // A source that stays within a table that is not full keeps its state.
    let mut limit = limiter();
    assert_eq!((0..9).filter(|_| limit.allow(v4(1), MS)).count(), 5);
    let few = if cfg!(miri) { 50 } else { ENTRIES as u32 / 8 };
    assert!((2..few).all(|i| limit.allow(v4(i), MS)));
    assert!(!limit.allow(v4(1), MS));
    drop(limit);
    drop(scope);
    account.assert_no_leaks();
}

#[test]
fn no_memory() {
    let account = Account::new();
    let _scope = account.enter();
    account.fail_nth(1);
    assert!(RateLimiter::new([0; 16], How::NoWait).is_err());
}
