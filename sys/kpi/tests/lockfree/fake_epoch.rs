// SPDX-License-Identifier: BSD-2-Clause
//! The kernel's epoch, as small as it can be: a lock, the sections that run, and what waits for them.

use std::ffi::c_void;
use std::ptr;
use std::sync::{Condvar, Mutex};

type Callback = unsafe extern "C" fn(*mut c_void);

struct Waiting {
    sections: Vec<usize>,
    call: Callback,
    context: *mut c_void,
}

// SAFETY: a context is used once, by whoever takes it out.
unsafe impl Send for Waiting {}

struct Domain {
    next: usize,
    running: Vec<usize>,
    waiting: Vec<Waiting>,
}

static DOMAIN: Mutex<Domain> = Mutex::new(Domain {
    next: 1,
    running: Vec::new(),
    waiting: Vec::new(),
});
static LEFT: Condvar = Condvar::new();

/// Only ever compared.
#[repr(transparent)]
struct Address(*mut c_void);

// SAFETY: never used to reach anything.
unsafe impl Sync for Address {}

#[unsafe(no_mangle)]
static net_epoch_preempt: Address = Address(ptr::null_mut());

/// Runs what waits for nobody any more, without the lock.
fn collect() {
    let ready: Vec<_> = DOMAIN
        .lock()
        .unwrap()
        .waiting
        .extract_if(.., |w| w.sections.is_empty())
        .collect();
    for Waiting { call, context, .. } in ready {
        // SAFETY: as `epoch_call` promised its caller: once, when all sections of then have ended.
        unsafe { call(context) };
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn _epoch_enter_preempt(_epoch: *mut c_void, tracker: *mut usize) {
    let mut d = DOMAIN.lock().unwrap();
    let section = d.next;
    d.next += 1;
    d.running.push(section);
    // SAFETY: a tracker has room for 32 bytes.
    unsafe { tracker.write(section) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn _epoch_exit_preempt(_epoch: *mut c_void, tracker: *mut usize) {
    let mut d = DOMAIN.lock().unwrap();
    // SAFETY: written when the section was entered.
    let section = unsafe { tracker.read() };
    d.running.retain(|&s| s != section);
    for w in &mut d.waiting {
        w.sections.retain(|&s| s != section);
    }
    drop(d);
    LEFT.notify_all();
    collect();
}

#[unsafe(no_mangle)]
unsafe extern "C" fn epoch_call(_epoch: *mut c_void, call: Callback, context: *mut c_void) {
    let mut d = DOMAIN.lock().unwrap();
    let sections = d.running.clone();
    d.waiting.push(Waiting {
        sections,
        call,
        context,
    });
    drop(d);
    collect();
}

#[unsafe(no_mangle)]
extern "C" fn epoch_wait_preempt(_epoch: *mut c_void) {
    let mut d = DOMAIN.lock().unwrap();
    let before = d.next;
    while d.running.iter().any(|&s| s < before) {
        d = LEFT.wait(d).unwrap();
    }
}

#[unsafe(no_mangle)]
extern "C" fn epoch_drain_callbacks(epoch: *mut c_void) {
    epoch_wait_preempt(epoch);
    collect();
}
