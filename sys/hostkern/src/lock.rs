// SPDX-License-Identifier: BSD-2-Clause
//! mutex(9), rwlock(9) and sx(9).
//!
//! All state is inside the lock's own 32 bytes, so that an unlocked lock may be moved. The lock
//! word is the owner's frame number or the count of readers; a waiter sets a bit and sleeps on a
//! condition variable found by the lock's address, so uncontended locks cost one atomic operation.
//! In simulation a lock that is not free belongs to a frame below on the stack, which cannot go on:
//! that is reported as a deadlock.

use core::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::layout::lock;
use crate::thread::{Held, LockKind, check_sleep, ctx, kernel, name_of, violation};

const LO_INITIALIZED: u32 = 0x0001_0000;

/// Somebody waits.
const CONTESTED: usize = 1;
/// Held exclusively; the bits above [`SHIFT`] are the owner's frame.
const EXCLUSIVE: usize = 2;
const DESTROYED: usize = 4;
/// Owner's frame number, or number of readers, begins here.
const SHIFT: u32 = 4;
const READER: usize = 1 << SHIFT;

const BUCKETS: usize = 64;
static WAITERS: [(Mutex<()>, Condvar); BUCKETS] =
    [const { (Mutex::new(()), Condvar::new()) }; BUCKETS];

fn bucket(addr: usize) -> &'static (Mutex<()>, Condvar) {
    &WAITERS[(addr >> 5) % BUCKETS]
}

fn guard(b: &'static (Mutex<()>, Condvar)) -> MutexGuard<'static, ()> {
    // The mutex protects no data, so a panic elsewhere leaves nothing inconsistent.
    b.0.lock().unwrap_or_else(|e| e.into_inner())
}

unsafe fn word<'a>(l: *mut lock) -> &'a AtomicUsize {
    // SAFETY: the caller says that `l` is a live lock; its word is only accessed atomically after
    // initialization.
    unsafe { AtomicUsize::from_ptr(&raw mut (*l).word) }
}

unsafe fn init(l: *mut lock, name: *const c_char, kind: LockKind) {
    let k = kernel();
    let class = k.witness.class(name_of(name), kind);
    k.locks.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the caller passes zeroed memory for a lock which nobody else uses yet.
    unsafe {
        if (*l).lo_flags & LO_INITIALIZED != 0 {
            violation(
                "lock-init",
                format_args!("lock \"{}\" initialized twice", name_of(name)),
            );
        }
        l.write(lock {
            lo_name: name,
            lo_flags: LO_INITIALIZED,
            lo_data: 0,
            lo_witness: usize::from(class) + 1,
            word: 0,
        });
    }
}

unsafe fn destroy(l: *mut lock, what: &str) {
    // SAFETY: the caller passes a lock that is no longer shared.
    unsafe {
        check_init(l, what);
        let v = word(l).load(Ordering::Acquire);
        if v != 0 {
            let name = name_of((*l).lo_name);
            violation(
                "lock-destroy",
                format_args!("lock \"{name}\" destroyed while held"),
            );
        }
        word(l).store(DESTROYED, Ordering::Relaxed);
        (*l).lo_flags &= !LO_INITIALIZED;
    }
    kernel().locks.fetch_sub(1, Ordering::Relaxed);
}

#[track_caller]
unsafe fn check_init(l: *mut lock, what: &str) {
    // SAFETY: the caller passes memory of a lock.
    unsafe {
        if (*l).lo_flags & LO_INITIALIZED == 0 || word(l).load(Ordering::Relaxed) & DESTROYED != 0 {
            violation(
                "lock-init",
                format_args!("{what} of a lock that is not initialized"),
            );
        }
    }
}

unsafe fn held_of(l: *mut lock, kind: LockKind, exclusive: bool) -> Held {
    // SAFETY: the caller passes an initialized lock.
    unsafe {
        Held {
            addr: l as usize,
            class: (*l).lo_witness.wrapping_sub(1) as u16,
            kind,
            exclusive,
            name: (*l).lo_name,
        }
    }
}

/// What must hold before a lock is taken.
#[track_caller]
unsafe fn before(l: *mut lock, kind: LockKind, exclusive: bool) -> Held {
    crate::misc::check_not_fpu("lock");
    // SAFETY: as the caller says.
    let new = unsafe {
        check_init(l, "lock");
        held_of(l, kind, exclusive)
    };
    ctx(|c| {
        if c.nheld.get() == 0 {
            return;
        }
        if c.find_held(new.addr).is_some() {
            violation(
                "lock-recursion",
                format_args!("lock \"{}\" taken by its holder", new.name()),
            );
        }
        let k = kernel();
        for h in c.held() {
            k.witness.order(&h, &new);
        }
    });
    new
}

/// Waits until `try_take` succeeds; it is given the word's value and says what to replace it with.
unsafe fn take(l: *mut lock, kind: LockKind, try_take: impl Fn(usize) -> Option<usize>) {
    // SAFETY: as the caller says.
    let w = unsafe { word(l) };
    let mut v = w.load(Ordering::Relaxed);
    let mut spins = 0;
    loop {
        if let Some(new) = try_take(v) {
            match w.compare_exchange_weak(v, new, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => {
                    v = now;
                    continue;
                }
            }
        }
        let k = kernel();
        if k.machine.is_sim() {
            // SAFETY: as the caller says.
            let name = name_of(unsafe { (*l).lo_name });
            violation(
                "deadlock",
                format_args!("{kind:?} lock \"{name}\" is held by a frame that waits for this one"),
            );
        }
        if spins < 100 {
            spins += 1;
            core::hint::spin_loop();
            v = w.load(Ordering::Relaxed);
            continue;
        }
        let b = bucket(l as usize);
        let g = guard(b);
        v = w.load(Ordering::Relaxed);
        if try_take(v).is_some() {
            continue;
        }
        if v & CONTESTED == 0
            && w.compare_exchange(v, v | CONTESTED, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            v = w.load(Ordering::Relaxed);
            continue;
        }
        drop(b.1.wait(g));
        v = w.load(Ordering::Relaxed);
    }
}

fn wake(l: *mut lock) {
    let b = bucket(l as usize);
    let _g = guard(b);
    b.1.notify_all();
}

unsafe fn lock_exclusive(l: *mut lock, kind: LockKind) {
    // SAFETY: as the caller says.
    unsafe {
        if kind == LockKind::Sx {
            check_sleep("sx_xlock");
        } else if ctx(|c| c.nheld.get() == 0) {
            kernel().machine.preempt();
        }
        let held = before(l, kind, true);
        let me = (ctx(|c| c.frame.get()) as usize) << SHIFT | EXCLUSIVE;
        take(l, kind, |v| {
            (v & !CONTESTED == 0).then_some(me | (v & CONTESTED))
        });
        ctx(|c| c.push_held(held));
    }
}

/// Takes the lock if it is free; no lock order is checked, as for any try.
unsafe fn try_lock(l: *mut lock, kind: LockKind) -> bool {
    // SAFETY: as the caller says.
    unsafe {
        check_init(l, "trylock");
        if ctx(|c| c.find_held(l as usize)).is_some() {
            return false;
        }
        let me = (ctx(|c| c.frame.get()) as usize) << SHIFT | EXCLUSIVE;
        let taken = word(l)
            .compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed)
            .is_ok();
        if taken {
            ctx(|c| c.push_held(held_of(l, kind, true)));
        }
        taken
    }
}

unsafe fn unlock_exclusive(l: *mut lock) {
    // SAFETY: as the caller says.
    unsafe {
        check_init(l, "unlock");
        let v = word(l).load(Ordering::Relaxed);
        let me = ctx(|c| c.frame.get()) as usize;
        if v & EXCLUSIVE == 0 || v >> SHIFT != me {
            let name = name_of((*l).lo_name);
            violation(
                "lock-owner",
                format_args!("lock \"{name}\" unlocked by another than its owner"),
            );
        }
        ctx(|c| c.pop_held(l as usize));
        if word(l).swap(0, Ordering::Release) & CONTESTED != 0 {
            wake(l);
        }
    }
}

unsafe fn lock_shared(l: *mut lock, kind: LockKind) {
    // SAFETY: as the caller says.
    unsafe {
        if kind == LockKind::Sx {
            check_sleep("sx_slock");
        } else if ctx(|c| c.nheld.get() == 0) {
            kernel().machine.preempt();
        }
        let held = before(l, kind, false);
        take(l, kind, |v| (v & EXCLUSIVE == 0).then_some(v + READER));
        ctx(|c| c.push_held(held));
    }
}

unsafe fn unlock_shared(l: *mut lock) {
    // SAFETY: as the caller says.
    unsafe {
        check_init(l, "unlock");
        let held = ctx(|c| c.find_held(l as usize));
        if held.is_none_or(|h| h.exclusive) {
            let name = name_of((*l).lo_name);
            violation(
                "lock-owner",
                format_args!("lock \"{name}\" read-unlocked by a non-holder"),
            );
        }
        ctx(|c| c.pop_held(l as usize));
        let before = word(l).fetch_sub(READER, Ordering::Release);
        if before >> SHIFT == 1 && before & CONTESTED != 0 {
            // The last reader: waiters may try again. They set the bit again if they must wait on.
            let _ = word(l).compare_exchange(CONTESTED, 0, Ordering::Relaxed, Ordering::Relaxed);
            wake(l);
        }
    }
}

/// `kpi_mtx_init` of kpi_shim.h.
///
/// # Safety
/// `l` is memory for a lock that nobody else uses; `name` outlives the lock.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_mtx_init(l: *mut lock, name: *const c_char) {
    // SAFETY: as the caller says.
    unsafe { init(l, name, LockKind::Mtx) }
}

/// `kpi_mtx_destroy` of kpi_shim.h.
///
/// # Safety
/// `l` is an initialized lock that nobody else uses.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_mtx_destroy(l: *mut lock) {
    // SAFETY: as the caller says.
    unsafe { destroy(l, "mtx_destroy") }
}

/// `kpi_mtx_lock` of kpi_shim.h.
///
/// # Safety
/// `l` is a live lock.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_mtx_lock(l: *mut lock) {
    // SAFETY: as the caller says.
    unsafe { lock_exclusive(l, LockKind::Mtx) }
}

/// `kpi_mtx_trylock` of kpi_shim.h.
///
/// # Safety
/// `l` is a live lock.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_mtx_trylock(l: *mut lock) -> c_int {
    // SAFETY: as the caller says.
    unsafe { c_int::from(try_lock(l, LockKind::Mtx)) }
}

/// `kpi_mtx_unlock` of kpi_shim.h.
///
/// # Safety
/// `l` is a live lock.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_mtx_unlock(l: *mut lock) {
    // SAFETY: as the caller says.
    unsafe { unlock_exclusive(l) }
}

/// `kpi_rw_init` of kpi_shim.h.
///
/// # Safety
/// `l` is memory for a lock that nobody else uses; `name` outlives the lock.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_rw_init(l: *mut lock, name: *const c_char) {
    // SAFETY: as the caller says.
    unsafe { init(l, name, LockKind::Rw) }
}

/// `kpi_rw_destroy` of kpi_shim.h.
///
/// # Safety
/// `l` is an initialized lock that nobody else uses.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_rw_destroy(l: *mut lock) {
    // SAFETY: as the caller says.
    unsafe { destroy(l, "rw_destroy") }
}

/// `kpi_rw_rlock` of kpi_shim.h.
///
/// # Safety
/// `l` is a live lock.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_rw_rlock(l: *mut lock) {
    // SAFETY: as the caller says.
    unsafe { lock_shared(l, LockKind::Rw) }
}

/// `kpi_rw_runlock` of kpi_shim.h.
///
/// # Safety
/// `l` is a live lock.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_rw_runlock(l: *mut lock) {
    // SAFETY: as the caller says.
    unsafe { unlock_shared(l) }
}

/// `kpi_rw_wlock` of kpi_shim.h.
///
/// # Safety
/// `l` is a live lock.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_rw_wlock(l: *mut lock) {
    // SAFETY: as the caller says.
    unsafe { lock_exclusive(l, LockKind::Rw) }
}

/// `kpi_rw_wunlock` of kpi_shim.h.
///
/// # Safety
/// `l` is a live lock.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_rw_wunlock(l: *mut lock) {
    // SAFETY: as the caller says.
    unsafe { unlock_exclusive(l) }
}

/// `kpi_sx_init` of kpi_shim.h.
///
/// # Safety
/// `l` is memory for a lock that nobody else uses; `name` outlives the lock.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_sx_init(l: *mut lock, name: *const c_char) {
    // SAFETY: as the caller says.
    unsafe { init(l, name, LockKind::Sx) }
}

/// `kpi_sx_destroy` of kpi_shim.h.
///
/// # Safety
/// `l` is an initialized lock that nobody else uses.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_sx_destroy(l: *mut lock) {
    // SAFETY: as the caller says.
    unsafe { destroy(l, "sx_destroy") }
}

/// `kpi_sx_slock` of kpi_shim.h.
///
/// # Safety
/// `l` is a live lock.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_sx_slock(l: *mut lock) {
    // SAFETY: as the caller says.
    unsafe { lock_shared(l, LockKind::Sx) }
}

/// `kpi_sx_sunlock` of kpi_shim.h.
///
/// # Safety
/// `l` is a live lock.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_sx_sunlock(l: *mut lock) {
    // SAFETY: as the caller says.
    unsafe { unlock_shared(l) }
}

/// `kpi_sx_xlock` of kpi_shim.h.
///
/// # Safety
/// `l` is a live lock.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_sx_xlock(l: *mut lock) {
    // SAFETY: as the caller says.
    unsafe { lock_exclusive(l, LockKind::Sx) }
}

/// `kpi_sx_try_xlock` of kpi_shim.h. It does not wait, so the order of locks does not matter.
///
/// # Safety
/// `l` is a live lock.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_sx_try_xlock(l: *mut lock) -> c_int {
    // SAFETY: as the caller says.
    c_int::from(unsafe { try_lock(l, LockKind::Sx) })
}

/// `kpi_sx_xunlock` of kpi_shim.h.
///
/// # Safety
/// `l` is a live lock.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_sx_xunlock(l: *mut lock) {
    // SAFETY: as the caller says.
    unsafe { unlock_exclusive(l) }
}
