// SPDX-License-Identifier: BSD-2-Clause
//! The kernel's epoch on loom's lock: sections that run, and callbacks that wait for them.
//!
//! One mutant gives the same value up twice. There callbacks wait for the end of the model, so that what is
//! observed is the rule that was broken and not the state of freed memory.

use std::ffi::c_void;
use std::{mem, ptr};

use loom::sync::{Condvar, Mutex};

use crate::atomics::{Mutant, mutant};

type Callback = unsafe extern "C" fn(*mut c_void);

struct Waiting {
    sections: Vec<usize>,
    call: Callback,
    context: *mut c_void,
}

#[derive(Default)]
struct Domain {
    next: usize,
    running: Vec<usize>,
    waiting: Vec<Waiting>,
    twice: bool,
}

// SAFETY: a context is used once, by whoever takes it out.
unsafe impl Send for Domain {}

loom::lazy_static! {
    static ref DOMAIN: Mutex<Domain> = Mutex::new(Domain::default());
    static ref LEFT: Condvar = Condvar::new();
}

/// Only ever compared.
#[repr(transparent)]
struct Address(*mut c_void);

// SAFETY: never used to reach anything.
unsafe impl Sync for Address {}

#[unsafe(no_mangle)]
static net_epoch_preempt: Address = Address(ptr::null_mut());

#[unsafe(no_mangle)]
unsafe extern "C" fn _epoch_enter_preempt(_epoch: *mut c_void, tracker: *mut usize) {
    let mut d = DOMAIN.lock().unwrap();
    d.next += 1;
    let section = d.next;
    d.running.push(section);
    // SAFETY: a tracker has room for 32 bytes.
    unsafe { tracker.write(section) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn _epoch_exit_preempt(_epoch: *mut c_void, tracker: *mut usize) {
    // SAFETY: written when the section was entered.
    let section = unsafe { tracker.read() };
    let mut d = DOMAIN.lock().unwrap();
    d.running.retain(|&s| s != section);
    for w in &mut d.waiting {
        w.sections.retain(|&s| s != section);
    }
    drop(d);
    LEFT.notify_all();
    if !mutant(Mutant::UpgradeBlind) {
        collect();
    }
}

/// Runs what waits for nobody any more, without the lock.
fn collect() {
    let mut d = DOMAIN.lock().unwrap();
    let (ready, rest): (Vec<_>, Vec<_>) = mem::take(&mut d.waiting)
        .into_iter()
        .partition(|w| w.sections.is_empty());
    d.waiting = rest;
    drop(d);
    for Waiting { call, context, .. } in ready {
        // SAFETY: as `epoch_call` promised its caller: once, when all sections of then have ended.
        unsafe { call(context) };
    }
}

/// Ends a model: nothing waits any more. True if no value was given up twice.
pub fn settle() -> bool {
    collect();
    let d = DOMAIN.lock().unwrap();
    assert!(d.waiting.is_empty(), "left in the epoch");
    !d.twice
}

#[unsafe(no_mangle)]
unsafe extern "C" fn epoch_call(_epoch: *mut c_void, call: Callback, context: *mut c_void) {
    let mut d = DOMAIN.lock().unwrap();
    let sections = d.running.clone();
    if d.waiting.iter().any(|w| w.context == context) {
        d.twice = true;
        return;
    }
    d.waiting.push(Waiting {
        sections,
        call,
        context,
    });
    drop(d);
    if !mutant(Mutant::UpgradeBlind) {
        collect();
    }
}

#[unsafe(no_mangle)]
extern "C" fn epoch_wait_preempt(_epoch: *mut c_void) {
    let mut d = DOMAIN.lock().unwrap();
    let before = d.next;
    while d.running.iter().any(|&s| s <= before) {
        d = LEFT.wait(d).unwrap();
    }
}

#[unsafe(no_mangle)]
extern "C" fn epoch_drain_callbacks(_epoch: *mut c_void) {
    unreachable!("no model drains")
}
