// SPDX-License-Identifier: BSD-2-Clause
//! `EpochArc` and `EpochCell`: taking a reference against dropping the last one, and publication.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kpi_alloc::{How, Sleepable};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::atomics::Mutant;
use crate::epoch::{EpochArc, EpochCell, net_epoch};
use crate::{RACE, check, check_bites, fake_epoch};

std::thread_local! {
    /// What loom said in a destructor.
    static RACES: Cell<Option<String>> = const { Cell::new(None) };
}

/// A value that loom watches, and that notes its end.
struct Value {
    v: UnsafeCell<u32>,
    ended: Arc<UnsafeCell<u32>>,
}

// SAFETY: checked by the model.
unsafe impl Sync for Value {}
// SAFETY: checked by the model.
unsafe impl Send for Value {}

impl Value {
    fn read(&self) -> u32 {
        // SAFETY: checked by the model.
        self.v.with(|v| unsafe { *v })
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // Callbacks of C must not unwind, so what loom says is kept for the end of the model.
        let end = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: checked by the model: a use without order before this is a race with it.
            self.v.with_mut(|v| unsafe { *v = 0 });
            // SAFETY: checked by the model.
            self.ended.with_mut(|n| unsafe { *n += 1 });
        }));
        if let Err(race) = end {
            RACES.set(race.downcast_ref::<String>().cloned());
        }
    }
}

/// Shared between the threads of a model; `ended` counts dropped values.
struct World {
    cell: EpochCell<Value>,
    ended: Arc<UnsafeCell<u32>>,
}

// SAFETY: checked by the model.
unsafe impl Sync for World {}
// SAFETY: checked by the model.
unsafe impl Send for World {}

impl World {
    fn new(first: Option<u32>) -> Arc<Self> {
        let ended = Arc::new(UnsafeCell::new(0));
        let cell = EpochCell::new(first.map(|v| arc(v, &ended)));
        Arc::new(Self { cell, ended })
    }

    fn settled(w: Arc<Self>, ended: u32) {
        w.cell.set(None);
        assert!(fake_epoch::settle(), "given up twice");
        if let Some(race) = RACES.take() {
            panic!("{race}");
        }
        // SAFETY: checked by the model.
        let n = w.ended.with(|n| unsafe { *n });
        assert_eq!(n, ended, "dropped too often or too rarely");
    }
}

fn arc(v: u32, ended: &Arc<UnsafeCell<u32>>) -> EpochArc<Value> {
    let value = Value {
        v: UnsafeCell::new(v),
        ended: ended.clone(),
    };
    EpochArc::new(value, How::NoWait).unwrap()
}

/// A reader takes a reference out of its section while the cell's, the last other one, is dropped.
fn upgrade_against_last_drop() {
    let w = World::new(Some(7));
    let reader = {
        let w = w.clone();
        thread::spawn(move || {
            let kept = net_epoch(|e| {
                let seen = w.cell.load(e)?;
                let kept = seen.upgrade();
                assert_eq!(seen.read(), 7);
                kept
            });
            if let Some(kept) = kept {
                assert_eq!(kept.read(), 7, "used after its end");
            }
        })
    };
    w.cell.set(None);
    reader.join().unwrap();
    World::settled(w, 1);
}

/// Two handles end on two threads: the uses of both come before the value's end.
fn two_last_drops() {
    let w = World::new(None);
    let a = arc(5, &w.ended);
    let b = a.clone();
    let other = thread::spawn(move || assert_eq!(b.read(), 5));
    assert_eq!(a.read(), 5);
    drop(a);
    other.join().unwrap();
    World::settled(w, 1);
}

/// A value is made and put in place while a reader looks: it sees nothing or the whole.
fn publication() {
    let w = World::new(None);
    let reader = {
        let w = w.clone();
        thread::spawn(move || {
            net_epoch(|e| w.cell.load(e).is_none_or(|seen| seen.read() == 9));
        })
    };
    w.cell.set(Some(arc(9, &w.ended)));
    reader.join().unwrap();
    World::settled(w, 1);
}

/// `load_arc` never comes back empty-handed while the cell is never empty.
fn replaced_under_load() {
    let w = World::new(Some(1));
    let reader = {
        let w = w.clone();
        thread::spawn(move || {
            let arc = net_epoch(|e| w.cell.load_arc(e)).expect("the cell is never empty");
            assert!([1, 2].contains(&arc.read()));
        })
    };
    w.cell.set(Some(arc(2, &w.ended)));
    reader.join().unwrap();
    World::settled(w, 2);
}

/// The last handle's value is taken out and changed while a reader may still see it.
fn taken_out() {
    let w = World::new(Some(7));
    let reader = {
        let w = w.clone();
        thread::spawn(move || {
            let kept = net_epoch(|e| {
                let seen = w.cell.load(e)?;
                assert_eq!(seen.read(), 7);
                seen.upgrade()
            });
            kept.is_some()
        })
    };
    // SAFETY: a model's thread may sleep.
    let cx = unsafe { Sleepable::assume() };
    let last = w.cell.take().expect("nobody else empties it");
    match EpochArc::into_inner(last, &cx) {
        // SAFETY: checked by the model: a reader that is still there is a race.
        Ok(value) => value.v.with_mut(|v| unsafe { *v = 8 }),
        Err(handle) => assert_eq!(handle.read(), 7),
    }
    reader.join().unwrap();
    World::settled(w, 1);
}

#[test]
fn a_reference_is_never_taken_after_the_last() {
    check(3, upgrade_against_last_drop);
}

#[test]
fn the_end_comes_after_all_uses() {
    check(3, two_last_drops);
}

#[test]
fn values_are_seen_whole() {
    check(3, publication);
}

#[test]
fn replacing_is_seen_as_old_or_new() {
    check(3, replaced_under_load);
}

#[test]
fn the_last_value_comes_out_alone() {
    check(3, taken_out);
}

#[test]
fn bites_blind_upgrade() {
    check_bites(
        Mutant::UpgradeBlind,
        &["given up twice"],
        3,
        upgrade_against_last_drop,
    );
}

#[test]
fn bites_unordered_last_drop() {
    check_bites(Mutant::DropRelaxed, &[RACE], 3, two_last_drops);
    check_bites(Mutant::DropUnfenced, &[RACE], 3, two_last_drops);
}

#[test]
fn bites_unpublished_value() {
    check_bites(Mutant::SwapRelaxed, &[RACE], 3, publication);
    check_bites(Mutant::LoadRelaxed, &[RACE], 3, publication);
}
