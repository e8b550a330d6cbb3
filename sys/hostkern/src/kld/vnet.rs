// SPDX-License-Identifier: BSD-2-Clause
//! `struct vnet` with its variables, and VNET_SYSINIT.

use core::ffi::c_void;
use core::ptr;
use std::sync::Arc;

use freebsd_kernel_sys::offsets as off;

use super::{Kld, get, put, thread, with};
use crate::kernel::Kernel;
use crate::thread::{Kind, enter, violation};
use crate::vnet::Vnet;

/// `struct vnet`, and behind it what is ours.
#[repr(C, align(64))]
pub(crate) struct Native {
    head: [u8; off::KPI_LEN_VNET as usize],
    host: *const Vnet,
    /// Its copy of the variables.
    data: Box<[u64]>,
}

// SAFETY: the kernel's lists are under the state's lock, and vnets live as long as their kernel.
unsafe impl Send for Native {}

/// A `struct vnet_sysinit`.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Hook(*const c_void);

// SAFETY: a static of the module.
unsafe impl Send for Hook {}

type Function = unsafe extern "C-unwind" fn(*const c_void);

impl Hook {
    /// Subsystem and order within it, both of the size of an enum.
    fn order(self) -> (u32, u32) {
        // SAFETY: what the module registered; the two come first.
        unsafe { (get(self.0, 0), get(self.0, 4)) }
    }

    fn run(self) {
        // SAFETY: as above.
        unsafe {
            let function: Function = get(self.0, off::KPI_OFF_VNET_SYSINIT_FUNC);
            function(get(self.0, off::KPI_OFF_VNET_SYSINIT_ARG));
        }
    }
}

/// The host's vnet of a `struct vnet`.
pub(super) fn host<'a>(native: *mut c_void) -> &'a Vnet {
    if native.is_null() {
        violation("vnet", format_args!("no current vnet"));
    }
    // SAFETY: made by `add`; vnets live as long as their kernel.
    unsafe { &*(*native.cast::<Native>()).host }
}

impl Kld {
    /// Gives a vnet its variables and puts it on the list.
    pub(super) fn add_vnet(&self, v: &Vnet) -> *mut c_void {
        let (start, len) = self.file.vnet;
        let mut data = vec![0u64; len.div_ceil(8)].into_boxed_slice();
        // SAFETY: the first values of the variables, `len` bytes, into as many.
        unsafe {
            let from: *const u8 = ptr::with_exposed_provenance(start);
            ptr::copy_nonoverlapping(from, data.as_mut_ptr().cast(), len);
        }
        let base = data.as_mut_ptr().expose_provenance().wrapping_sub(start);
        let mut native = Box::new(Native {
            head: [0; _],
            host: v,
            data,
        });
        let p: *mut c_void = (&raw mut *native).cast();
        // SAFETY: the head of our own.
        unsafe { put(p, off::KPI_OFF_VNET_DATA_BASE, base) };
        v.set_native(p);
        self.state().vnets.push(native);
        self.link();
        p
    }

    /// Makes the list that VNET_FOREACH walks.
    fn link(&self) {
        let state = self.state();
        let mut next: *const Native = ptr::null();
        for v in state.vnets.iter().rev() {
            let p: *mut c_void = ptr::from_ref(&**v).cast_mut().cast();
            // SAFETY: the head of a live one.
            unsafe { put(p, off::KPI_OFF_VNET_LE, next) };
            next = &raw const **v;
        }
        // SAFETY: the head of the list.
        unsafe { self.variable::<*const Native>("vnet_head").write(next) };
    }

    /// Runs `f` while the list of vnets is empty: as if they were all on their way out.
    pub(crate) fn without_vnets<R>(&self, f: impl FnOnce() -> R) -> R {
        // SAFETY: the head of the list.
        unsafe {
            self.variable::<*const Native>("vnet_head")
                .write(ptr::null())
        };
        let r = f();
        self.link();
        r
    }

    fn each_vnet(&self, hook: Hook) {
        let all: Vec<_> = self
            .state()
            .vnets
            .iter()
            .map(|v| ptr::from_ref(&**v))
            .collect();
        let before = thread::vnet();
        for v in all {
            thread::set_vnet(v.cast_mut().cast());
            hook.run();
        }
        thread::set_vnet(before);
    }
}

/// A vnet that comes while a file is loaded.
pub(crate) fn added(k: &Arc<Kernel>, v: &Arc<Vnet>) {
    let Some(kld) = k.kld.current() else {
        return;
    };
    kld.add_vnet(v);
    let constructors = kld.state().constructors.clone();
    enter(k, Kind::Process, Some(v), || {
        constructors.into_iter().for_each(Hook::run)
    });
}

fn insert(list: &mut Vec<Hook>, hook: Hook) {
    let at = list.partition_point(|h| h.order() <= hook.order());
    list.insert(at, hook);
}

fn remove(list: &mut Vec<Hook>, hook: Hook) {
    let before = list.len();
    list.retain(|h| *h != hook);
    if list.len() + 1 != before {
        violation(
            "vnet",
            format_args!("what was not registered is taken back"),
        );
    }
}

pub(super) extern "C-unwind" fn vnet_register_sysinit(hook: *const c_void) {
    with("vnet_register_sysinit", |_, kld| {
        insert(&mut kld.state().constructors, Hook(hook));
        kld.each_vnet(Hook(hook));
    });
}

pub(super) extern "C-unwind" fn vnet_deregister_sysinit(hook: *const c_void) {
    with("vnet_deregister_sysinit", |_, kld| {
        remove(&mut kld.state().constructors, Hook(hook));
    });
}

pub(super) extern "C-unwind" fn vnet_register_sysuninit(hook: *const c_void) {
    with("vnet_register_sysuninit", |_, kld| {
        insert(&mut kld.state().destructors, Hook(hook));
    });
}

pub(super) extern "C-unwind" fn vnet_deregister_sysuninit(hook: *const c_void) {
    with("vnet_deregister_sysuninit", |_, kld| {
        kld.each_vnet(Hook(hook));
        remove(&mut kld.state().destructors, Hook(hook));
    });
}
