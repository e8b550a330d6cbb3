// SPDX-License-Identifier: BSD-2-Clause
//! Deferred reclaiming: nothing goes while a section may see it, everything goes in the end.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use kpi_alloc::{How, Sleepable};

use crate::epoch::{
    EpochArc, EpochCell, epoch_drain_callbacks, epoch_wait, in_net_epoch, net_epoch,
};
use crate::{audited, rounds};

/// Counts its drops and ruins its value, for readers that come too late.
struct Watched(Arc<AtomicUsize>, u64);

impl Drop for Watched {
    fn drop(&mut self) {
        self.1 = 0;
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn arc(drops: &Arc<AtomicUsize>, v: u64) -> EpochArc<Watched> {
    EpochArc::new(Watched(drops.clone(), v), How::NoWait).unwrap()
}

/// Waits until everything that was given up before is reclaimed.
fn settle(drops: &AtomicUsize, n: usize) {
    // SAFETY: a test's thread may sleep, and it is outside of all sections where this is called.
    let cx = unsafe { Sleepable::assume() };
    // Other tests have sections of their own, which may hold the callback up for a moment.
    while drops.load(Ordering::Relaxed) < n {
        epoch_wait(&cx);
        epoch_drain_callbacks(&cx);
        thread::yield_now();
    }
    assert_eq!(drops.load(Ordering::Relaxed), n);
}

#[test]
fn a_loaded_value_stays_to_the_end_of_the_section() {
    audited(|_| {
        let drops = Arc::new(AtomicUsize::new(0));
        let cell = EpochCell::new(Some(arc(&drops, 7)));
        net_epoch(|e| {
            let seen = cell.load(e).unwrap();
            net_epoch(|inner| {
                let again = cell.load(inner).unwrap();
                cell.set(None);
                assert_eq!(again.1, 7);
            });
            assert_eq!((seen.1, drops.load(Ordering::Relaxed)), (7, 0));
            assert!(seen.upgrade().is_none() && cell.load(e).is_none());
            assert!(cell.load_arc(e).is_none());
        });
        settle(&drops, 1);
    });
}

#[test]
fn handles_keep_it_longer() {
    audited(|_| {
        let drops = Arc::new(AtomicUsize::new(0));
        let cell = EpochCell::empty();
        assert!(cell.take().is_none());
        let a = arc(&drops, 3);
        cell.set(Some(a.clone()));
        let b = net_epoch(|e| {
            let seen = cell.load(e).unwrap();
            assert!(seen.is(&a) && EpochArc::pin(&a, e).is(&a));
            assert_eq!(seen.get().1, 3);
            seen.upgrade().unwrap()
        });
        let c = net_epoch(|e| cell.load_arc(e)).unwrap();
        assert!(EpochArc::ptr_eq(&a, &b) && EpochArc::ptr_eq(&b, &c));
        let old = cell.swap(Some(arc(&drops, 4))).unwrap();
        assert!(EpochArc::ptr_eq(&a, &old));
        drop((a, b, c));
        let p = EpochArc::into_raw(old);
        // SAFETY: given up just now; borrowed, not taken back.
        let lent = ManuallyDrop::new(unsafe { EpochArc::from_raw(p) });
        assert_eq!((lent.1, drops.load(Ordering::Relaxed)), (3, 0));
        assert_eq!(EpochArc::as_ptr(&lent), p);
        // SAFETY: given up above and not taken back.
        drop(unsafe { EpochArc::from_raw(p) });
        settle(&drops, 1);
        drop(cell);
        settle(&drops, 2);
    });
}

#[test]
fn failure_and_proof_from_outside() {
    audited(|account| {
        let drops = Arc::new(AtomicUsize::new(0));
        account.fail_nth(1);
        assert!(EpochArc::new(Watched(drops.clone(), 1), How::NoWait).is_err());
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        let cell = EpochCell::new(Some(arc(&drops, 5)));
        // SAFETY: inside a section, as said.
        net_epoch(|_| unsafe { in_net_epoch(|e| assert_eq!(cell.load(e).unwrap().1, 5)) });
        drop(cell);
        settle(&drops, 2);
    });
}

#[test]
fn readers_and_writers() {
    let n = rounds(20_000);
    audited(|_| {
        let drops = Arc::new(AtomicUsize::new(0));
        let cell = EpochCell::new(Some(arc(&drops, 1)));
        let start = Barrier::new(3);
        thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    start.wait();
                    let mut kept = None;
                    let mut last = 0;
                    for i in 0..n {
                        net_epoch(|e| {
                            let seen = cell.load(e).unwrap();
                            assert!(seen.1 >= last && seen.1 > 0);
                            last = seen.1;
                            if i % 3 == 0 {
                                kept = seen.upgrade();
                            }
                            if i % 5 == 0 {
                                kept = cell.load_arc(e);
                            }
                        });
                        assert!(kept.as_ref().is_none_or(|k| k.1 > 0));
                    }
                });
            }
            start.wait();
            for i in 0..n {
                cell.set(Some(arc(&drops, i as u64 + 2)));
            }
        });
        drop(cell);
        settle(&drops, n + 1);
    });
}

#[test]
fn the_last_handle_gives_the_value_back() {
    audited(|account| {
        let drops = Arc::new(AtomicUsize::new(0));
        // SAFETY: a test's thread may sleep, and it is outside of all sections.
        let cx = unsafe { Sleepable::assume() };
        let a = arc(&drops, 5);
        let b = a.clone();
        let a = EpochArc::into_inner(a, &cx).err().unwrap();
        drop(b);
        let live = account.stats().live_objects;
        let v = EpochArc::into_inner(a, &cx).ok().unwrap();
        assert_eq!((v.1, drops.load(Ordering::Relaxed)), (5, 0));
        assert_eq!(account.stats().live_objects, live - 1);
    });
}
