// SPDX-License-Identifier: BSD-2-Clause
//! `curthread`: `struct pcpu`, `struct thread`, `struct proc` and `struct pcb` of each host thread.
//!
//! On amd64 the kernel finds its per-CPU structure at the base of `%gs`, which nobody uses on Linux. It is set once in
//! the life of a host thread; frames change what the thread says of itself.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr;
use std::sync::Arc;

use freebsd_kernel_sys::offsets as off;

use super::{get, put};
use crate::kernel::Kernel;
use crate::vnet::Vnet;

#[repr(C, align(64))]
struct Block {
    cpu: [u8; off::KPI_LEN_PCPU as usize],
    thread: [u8; off::KPI_LEN_THREAD as usize],
    process: [u8; off::KPI_LEN_PROC as usize],
    pcb: [u8; off::KPI_LEN_PCB as usize],
}

thread_local! {
    static BLOCK: Box<UnsafeCell<Block>> = make();
}

/// `ARCH_SET_GS` of Linux's asm/prctl.h.
const SET_GS: libc::c_int = 0x1001;

fn make() -> Box<UnsafeCell<Block>> {
    let block = Box::new(UnsafeCell::new(Block {
        cpu: [0; _],
        thread: [0; _],
        process: [0; _],
        pcb: [0; _],
    }));
    let b = block.get();
    // SAFETY: the block's own parts, at the offsets of their fields. The base of %gs is the thread's own, and points to
    // what lives as long as it.
    unsafe {
        let thread: *mut c_void = (&raw mut (*b).thread).cast();
        put(thread, off::KPI_OFF_TD_PROC, &raw mut (*b).process);
        put(thread, off::KPI_OFF_TD_PCB, &raw mut (*b).pcb);
        put(
            (&raw mut (*b).cpu).cast(),
            off::KPI_OFF_PC_CURTHREAD,
            thread,
        );
        let failed = libc::syscall(libc::SYS_arch_prctl, SET_GS, &raw mut (*b).cpu);
        assert_eq!(failed, 0, "arch_prctl(ARCH_SET_GS)");
    }
    block
}

/// This thread's `struct thread`.
pub(crate) fn current() -> *mut c_void {
    // SAFETY: only the address is taken.
    BLOCK.with(|b| unsafe { &raw mut (*b.get()).thread }.cast())
}

/// `td_vnet`: the vnet that CURVNET_SET has chosen.
pub(crate) fn vnet() -> *mut c_void {
    // SAFETY: a field of the thread.
    unsafe { get(current(), off::KPI_OFF_TD_VNET) }
}

pub(super) fn set_vnet(vnet: *mut c_void) {
    // SAFETY: as above.
    unsafe { put(current(), off::KPI_OFF_TD_VNET, vnet) };
}

/// Whether the registers of vectors are the kernel's.
pub(super) fn set_fpu(held: bool) {
    let flags = if held { off::KPI_PCB_KERNFPU } else { 0 };
    // SAFETY: fields of the block.
    unsafe {
        let pcb: *mut c_void = get(current(), off::KPI_OFF_TD_PCB);
        put(pcb, off::KPI_OFF_PCB_FLAGS, flags);
    }
}

/// `curcpu`: where the running frame is.
pub(crate) fn set_cpu(cpu: usize) {
    // SAFETY: a field of this thread's own.
    unsafe { put(this_cpu(), off::KPI_OFF_PC_CPUID, cpu as u32) };
}

/// Makes the thread's stack appear to be used to a quarter, or to three quarters.
fn set_stack(shallow: bool) {
    const PAGES: usize = 1024;
    let size = PAGES * off::KPI_PAGE_SIZE as usize;
    let here = (&raw const size).addr();
    let left = if shallow { size / 4 * 3 } else { size / 4 };
    // SAFETY: fields of the thread.
    unsafe {
        put(current(), off::KPI_OFF_TD_KSTACK, here - left);
        put(current(), off::KPI_OFF_TD_KSTACK_PAGES, PAGES as u32);
    }
}

fn this_cpu() -> *mut c_void {
    // SAFETY: only the address is taken.
    BLOCK.with(|b| unsafe { &raw mut (*b.get()).cpu }.cast())
}

/// What a frame found and has to leave.
pub(crate) struct Saved {
    cpu: u32,
    vnet: *mut c_void,
    credential: *mut c_void,
}

/// Makes the thread one that runs in `vnet` with the credential of `who`, if the kernel has loaded a file.
pub(crate) fn enter(k: &Arc<Kernel>, vnet: Option<&Vnet>, who: Option<&Vnet>) -> Option<Saved> {
    k.kld.current()?;
    let thread = current();
    // SAFETY: fields of the thread and of its process.
    unsafe {
        let saved = Saved {
            cpu: get(this_cpu(), off::KPI_OFF_PC_CPUID),
            vnet: get(thread, off::KPI_OFF_TD_VNET),
            credential: get(thread, off::KPI_OFF_TD_UCRED),
        };
        describe(thread, vnet, who);
        set_cpu(k.machine.cpu(k.ncpu));
        set_stack(k.machine.stack_is_shallow());
        Some(saved)
    }
}

/// The same for a frame that was there before the file.
pub(super) fn begin(vnet: Option<&Vnet>) {
    // SAFETY: this thread's own.
    unsafe { describe(current(), vnet, vnet) };
}

unsafe fn describe(thread: *mut c_void, vnet: Option<&Vnet>, who: Option<&Vnet>) {
    let native = vnet.map_or(ptr::null_mut(), Vnet::native);
    let credential = who.map_or(ptr::null(), Vnet::credential);
    // SAFETY: the caller's thread.
    unsafe {
        put(thread, off::KPI_OFF_TD_VNET, native);
        put(thread, off::KPI_OFF_TD_UCRED, credential);
        let process: *mut c_void = get(thread, off::KPI_OFF_TD_PROC);
        put(
            process,
            off::KPI_OFF_P_FIBNUM,
            who.map_or(0, Vnet::process_fib),
        );
    }
}

impl Saved {
    /// The frame is over.
    pub(crate) fn leave(&self) {
        let thread = current();
        // SAFETY: fields of the thread.
        unsafe {
            put(thread, off::KPI_OFF_TD_VNET, self.vnet);
            put(thread, off::KPI_OFF_TD_UCRED, self.credential);
            put(this_cpu(), off::KPI_OFF_PC_CPUID, self.cpu);
        }
    }
}
