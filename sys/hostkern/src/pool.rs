// SPDX-License-Identifier: BSD-2-Clause
//! Memory for mbufs and clusters.
//!
//! Simulation takes it from `kpi_malloc`, so that it is booked, poisoned when free, and may be made
//! to fail. Real mode keeps per-thread stacks of free buffers, one a size, and moves them between
//! threads in bundles: receive threads allocate what task threads free.

use core::ffi::{c_int, c_void};
use core::ptr;
use std::alloc::Layout;
use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use crate::kernel::Kernel;
use crate::layout::{M_NOWAIT, MCLBYTES, MJUM9BYTES, MJUM16BYTES, MJUMPAGESIZE, MSIZE};

unsafe extern "C-unwind" {
    fn kpi_malloc(size: usize, flags: c_int) -> *mut c_void;
    fn kpi_free(p: *mut c_void);
}

const SIZES: [usize; 5] = [MSIZE, MCLBYTES, MJUMPAGESIZE, MJUM9BYTES, MJUM16BYTES];
/// Buffers that move between a thread and the depot at once.
const BUNDLE: usize = 64;
const DEPOT: usize = 64;

/// Free buffers of one size.
#[derive(Default)]
struct Stack(Vec<usize>);

#[derive(Default)]
struct Cache([Stack; SIZES.len()]);

static DEPOTS: [Mutex<Vec<Vec<usize>>>; SIZES.len()] =
    [const { Mutex::new(Vec::new()) }; SIZES.len()];

impl Drop for Cache {
    fn drop(&mut self) {
        for (stack, size) in self.0.iter_mut().zip(SIZES) {
            for p in stack.0.drain(..) {
                release(p, size);
            }
        }
    }
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

fn layout(size: usize) -> Layout {
    // Sizes are at most 128 KiB and the alignment is a power of two.
    Layout::from_size_align(size.max(1), 64).expect("a buffer's layout")
}

fn release(p: usize, size: usize) {
    // SAFETY: every buffer of a pool was allocated by `fresh` with this layout and is free.
    unsafe { std::alloc::dealloc(ptr::with_exposed_provenance_mut(p), layout(size)) }
}

fn fresh(size: usize) -> *mut u8 {
    // SAFETY: the size is not zero.
    let p = unsafe { std::alloc::alloc(layout(size)) };
    let _ = p.expose_provenance();
    p
}

/// True if an injected failure says so; for what fails without allocating here.
pub(crate) fn refuse(k: &Kernel) -> bool {
    if !k.mbufs.is_sim() {
        return false;
    }
    // SAFETY: a block is allocated and freed again; its admission is what counts.
    unsafe {
        let p = kpi_malloc(1, M_NOWAIT);
        kpi_free(p);
        p.is_null()
    }
}

/// `size` bytes, aligned to 16 at least; null when memory is short.
pub(crate) fn alloc(k: &Kernel, size: usize) -> *mut u8 {
    if k.mbufs.is_sim() {
        // SAFETY: plain allocation.
        let p = unsafe { kpi_malloc(size, M_NOWAIT) };
        if !p.is_null() {
            k.mbufs.pooled.fetch_add(1, Ordering::SeqCst);
        }
        return p.cast();
    }
    let Some(i) = SIZES.iter().position(|&s| s == size) else {
        return fresh(size);
    };
    let cached = CACHE.try_with(|c| {
        let mut c = c.borrow_mut();
        let stack = &mut c.0[i].0;
        if stack.is_empty()
            && let Some(bundle) = DEPOTS[i]
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop()
        {
            *stack = bundle;
        }
        stack.pop()
    });
    match cached {
        Ok(Some(p)) => ptr::with_exposed_provenance_mut(p),
        _ => fresh(size),
    }
}

/// Gives memory of [`alloc`] back.
///
/// # Safety
/// `p` came from `alloc` with the same kernel's mode and size and is not used any more.
pub(crate) unsafe fn free(k: &Kernel, p: *mut u8, size: usize) {
    if k.mbufs.is_sim() {
        k.mbufs.pooled.fetch_sub(1, Ordering::SeqCst);
        // SAFETY: as the caller says.
        unsafe { kpi_free(p.cast()) };
        return;
    }
    let p = p.expose_provenance();
    let Some(i) = SIZES.iter().position(|&s| s == size) else {
        return release(p, size);
    };
    let kept = CACHE.try_with(|c| {
        let mut c = c.borrow_mut();
        let stack = &mut c.0[i].0;
        stack.push(p);
        if stack.len() < 2 * BUNDLE {
            return;
        }
        let bundle = stack.split_off(BUNDLE);
        let mut depot = DEPOTS[i].lock().unwrap_or_else(PoisonError::into_inner);
        if depot.len() < DEPOT {
            depot.push(bundle);
        } else {
            drop(depot);
            bundle.into_iter().for_each(|p| release(p, size));
        }
    });
    if kept.is_err() {
        release(p, size);
    }
}
