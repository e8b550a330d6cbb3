// SPDX-License-Identifier: BSD-2-Clause
//! The allocator's own rules: accounts, injected failures, context checks, misuse.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::thread;

use hostkern_malloc::{
    Account, Leak, M_NOWAIT, M_WAITOK, M_ZERO, kpi_free, kpi_malloc, set_waitok_hook,
};

/// `free` for blocks that these tests own.
fn free(p: *mut c_void) {
    // SAFETY: callers pass a block of kpi_malloc, once.
    unsafe { kpi_free(p) }
}

#[test]
fn blocks_are_aligned_and_hold_what_is_written() {
    for size in [0, 1, 15, 16, 17, 4096, 20_000] {
        let p = kpi_malloc(size, M_NOWAIT | M_ZERO).cast::<u8>();
        assert!(!p.is_null() && p.addr().is_multiple_of(16));
        // SAFETY: the block has `size` bytes, all of them initialised.
        let bytes = unsafe { std::slice::from_raw_parts(p, size) };
        assert!(bytes.iter().all(|&b| b == 0));
        // SAFETY: within the block.
        unsafe { p.write_bytes(0xff, size) };
        free(p.cast());
    }
    free(std::ptr::null_mut());
    assert!(kpi_malloc(usize::MAX, M_NOWAIT).is_null());
    assert!(kpi_malloc(isize::MAX as usize, M_NOWAIT).is_null());
}

#[test]
fn books_follow_the_block() {
    let (one, two) = (Account::new(), Account::new());
    let before = kpi_malloc(5, M_NOWAIT);
    let first = one.enter();
    let a = kpi_malloc(10, M_NOWAIT);
    let b = kpi_malloc(20, M_NOWAIT);
    let second = two.enter();
    let c = kpi_malloc(40, M_NOWAIT);
    free(a);
    drop(second);
    let d = kpi_malloc(30, M_NOWAIT);
    drop(first);
    let after = kpi_malloc(7, M_NOWAIT);

    let s = one.stats();
    assert_eq!((s.live_bytes, s.live_objects, s.attempts), (50, 2, 3));
    assert_eq!((s.peak_bytes, s.peak_objects, s.refused), (50, 2, 0));
    assert_eq!(
        one.leaks(),
        [Leak { seq: 2, size: 20 }, Leak { seq: 3, size: 30 }]
    );
    assert_eq!(
        one.to_string(),
        "2 of 3 allocations live, 50 bytes\n  allocation 2: 20 bytes\n  allocation 3: 30 bytes"
    );
    assert_eq!(two.stats().live_bytes, 40);
    let c = AtomicPtr::new(c);
    thread::spawn(move || free(c.into_inner())).join().unwrap();
    for p in [b, d, before, after] {
        free(p);
    }
    one.assert_no_leaks();
    two.assert_no_leaks();
    assert_eq!(one.stats().peak_bytes, 50);
}

#[test]
fn the_nth_fails_and_only_that() {
    let account = Account::new();
    let _scope = account.enter();
    let outcome = |flags| {
        let p = kpi_malloc(8, flags);
        free(p);
        !p.is_null()
    };
    account.fail_nth(3);
    assert_eq!([0; 4].map(|_| outcome(M_NOWAIT)), [true, true, false, true]);
    account.fail_nth(1);
    let other = Account::new();
    {
        let _inner = other.enter();
        assert!(outcome(M_NOWAIT));
    }
    assert!(!outcome(M_WAITOK));
    account.fail_nth(1);
    account.fail_nth(0);
    assert!(outcome(M_NOWAIT));
    assert_eq!(account.stats().refused, 2);
}

#[test]
fn random_failures_replay() {
    let run = |p, seed| {
        let account = Account::new();
        let _scope = account.enter();
        account.fail_every(p, seed);
        (0..400)
            .map(|_| {
                let b = kpi_malloc(1, M_NOWAIT);
                free(b);
                b.is_null()
            })
            .collect::<Vec<_>>()
    };
    let count = |p, seed| run(p, seed).iter().filter(|&&failed| failed).count();
    assert_eq!(run(4, 1), run(4, 1));
    assert_ne!(run(4, 1), run(4, 2));
    assert!((60..140).contains(&count(4, 1)));
    assert_eq!((count(1, 1), count(0, 1)), (400, 0));
}

#[test]
fn a_leak_is_reported() {
    let account = Account::new();
    let p = {
        let _scope = account.enter();
        kpi_malloc(77, M_NOWAIT)
    };
    let report = catch_unwind(|| account.assert_no_leaks()).unwrap_err();
    let report = report.downcast_ref::<String>().unwrap();
    assert!(report.contains("allocation 1: 77 bytes"), "{report}");
    free(p);
}

#[test]
fn rules_are_enforced() {
    for flags in [0, M_ZERO, M_NOWAIT | M_WAITOK] {
        assert!(catch_unwind(|| kpi_malloc(1, flags)).is_err());
    }

    let p = kpi_malloc(64, M_NOWAIT);
    let mark = p.wrapping_byte_sub(8).cast::<u64>();
    // SAFETY: the last word of the header, which this test damages and repairs.
    let live = unsafe { mark.replace(1) };
    assert!(catch_unwind(AssertUnwindSafe(|| free(p))).is_err());
    // SAFETY: as above.
    unsafe { mark.write(live) };
    free(p);
}

#[test]
fn sleeping_allocations_ask_the_hook() {
    static NO_SLEEP: AtomicBool = AtomicBool::new(false);
    fn hook() {
        let here = thread::current().name() == Some("no-sleep");
        assert!(
            !here || !NO_SLEEP.load(Ordering::Relaxed),
            "M_WAITOK inside the net epoch"
        );
    }
    set_waitok_hook(hook);
    let try_both = || {
        free(kpi_malloc(1, M_NOWAIT));
        catch_unwind(|| free(kpi_malloc(1, M_WAITOK))).is_ok()
    };
    let run = || {
        thread::Builder::new()
            .name("no-sleep".into())
            .spawn(try_both)
            .unwrap()
            .join()
    };
    assert!(run().unwrap());
    NO_SLEEP.store(true, Ordering::Relaxed);
    assert!(!run().unwrap());
}
