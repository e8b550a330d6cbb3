// SPDX-License-Identifier: BSD-2-Clause
//! Numbers and texts of the module for sysctl(8).
//!
//! A [`crate::ifnet::Module`] names its entries in [`crate::ifnet::Module::sysctls`], each by a
//! function that finds the value in the module's state. They appear under `net.<name>`. A writable
//! one is a loader tunable of the same name too.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ops::RangeInclusive;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use freebsd_kernel_sys as sys;
use kpi_alloc::{How, KArc, KBox, KVec, Sleepable};

use crate::ifnet::Module;
use crate::log::Line;
use crate::{Errno, Result};

/// Where a module's entries are named.
pub struct Registrar<'a, M> {
    tree: &'a mut Tree<M>,
    cx: &'a Sleepable,
}

impl<M: Send + Sync + 'static> Registrar<'_, M> {
    /// A number to read and to set to a value in `range`; others are refused with `EINVAL`.
    pub fn read_write(
        &mut self,
        name: &'static CStr,
        descr: &'static CStr,
        cell: fn(&M) -> &AtomicU64,
        range: RangeInclusive<u64>,
    ) -> Result {
        self.add(
            name,
            descr,
            Kind::Cell {
                cell,
                range: Some(range),
            },
        )
    }

    /// A number to read.
    pub fn read_only(
        &mut self,
        name: &'static CStr,
        descr: &'static CStr,
        cell: fn(&M) -> &AtomicU64,
    ) -> Result {
        self.add(name, descr, Kind::Cell { cell, range: None })
    }

    /// A number that a function finds.
    pub fn computed(
        &mut self,
        name: &'static CStr,
        descr: &'static CStr,
        f: fn(&M) -> u64,
    ) -> Result {
        self.add(name, descr, Kind::Computed(f))
    }

    /// A line of text that a function writes.
    pub fn text(
        &mut self,
        name: &'static CStr,
        descr: &'static CStr,
        f: fn(&M, &mut Line),
    ) -> Result {
        self.add(name, descr, Kind::Text(f))
    }

    fn add(&mut self, name: &'static CStr, descr: &'static CStr, kind: Kind<M>) -> Result {
        let module: *const M = KArc::as_ptr(&self.tree.module);
        let entry = KBox::new(Entry { module, kind }, How::Wait(self.cx))?;
        // The kernel gets the address inside the box, which stays the same.
        let arg: *const Entry<M> = &raw const *entry;
        let arg = arg.cast_mut().cast();
        let context = self.tree.context;
        // First where it is kept: after the registration it must not go away.
        let text = matches!(entry.kind, Kind::Text(_));
        let writable = matches!(entry.kind, Kind::Cell { range: Some(_), .. });
        self.tree.entries.try_push(entry, How::Wait(self.cx))?;
        // SAFETY: a live context; static strings; `arg` is an `Entry<M>`, as the handler wants,
        // that is freed after the context.
        let error = unsafe {
            if text {
                sys::kpi_sysctl_add_str(
                    context,
                    name.as_ptr(),
                    descr.as_ptr(),
                    Some(show_text::<M>),
                    arg,
                )
            } else {
                let (n, d) = (name.as_ptr(), descr.as_ptr());
                sys::kpi_sysctl_add_u64(
                    context,
                    n,
                    d,
                    c_int::from(writable),
                    Some(number::<M>),
                    arg,
                )
            }
        };
        Errno::check(error)
    }
}

enum Kind<M> {
    Cell {
        cell: fn(&M) -> &AtomicU64,
        range: Option<RangeInclusive<u64>>,
    },
    Computed(fn(&M) -> u64),
    Text(fn(&M, &mut Line)),
}

struct Entry<M> {
    /// Held by the tree that owns this.
    module: *const M,
    kind: Kind<M>,
}

/// The entries of a loaded module; dropping takes them away, waiting for handlers that run, and so
/// sleeps.
pub(crate) struct Tree<M> {
    context: *mut sys::kpi_sysctl,
    // Freed after `drop` has taken the entries from the kernel.
    entries: KVec<KBox<Entry<M>>>,
    module: KArc<M>,
}

// SAFETY: after its making it is only dropped; the handlers share `&M`.
unsafe impl<M: Send + Sync> Send for Tree<M> {}
// SAFETY: as above.
unsafe impl<M: Send + Sync> Sync for Tree<M> {}

impl<M: Module> Tree<M> {
    pub(crate) fn new(name: &'static CStr, module: KArc<M>, cx: &Sleepable) -> Result<Self> {
        // SAFETY: static strings; may sleep: `cx`.
        let context =
            unsafe { sys::kpi_sysctl_new(name.as_ptr(), c"network interface driver".as_ptr()) };
        if context.is_null() {
            return Err(Errno::ENOMEM);
        }
        let mut tree = Self {
            context,
            entries: KVec::new(),
            module,
        };
        M::sysctls(&mut Registrar {
            tree: &mut tree,
            cx,
        })?;
        Ok(tree)
    }
}

impl<M> Drop for Tree<M> {
    fn drop(&mut self) {
        // SAFETY: a live context, freed once; after this no handler runs, so the entries may go.
        unsafe { sys::kpi_sysctl_free(self.context) };
    }
}

/// Handler of numbers.
///
/// # Safety
///
/// Called by the kernel with an `Entry<M>` of a tree that is not dropped; `value` is readable and
/// writable.
unsafe extern "C" fn number<M>(arg: *mut c_void, value: *mut u64, write: c_int) -> c_int {
    // SAFETY: alive until the tree is dropped, which waits for us.
    let entry = unsafe { &*arg.cast::<Entry<M>>() };
    // SAFETY: the tree holds the module too.
    let module = unsafe { &*entry.module };
    let now = match &entry.kind {
        Kind::Cell { cell, range } if write != 0 => {
            // SAFETY: the contract.
            let new = unsafe { *value };
            if !range.as_ref().is_some_and(|r| r.contains(&new)) {
                return Errno::EINVAL.to_raw();
            }
            cell(module).store(new, Ordering::Relaxed);
            return 0;
        }
        _ if write != 0 => return Errno::EPERM.to_raw(),
        Kind::Cell { cell, .. } => cell(module).load(Ordering::Relaxed),
        Kind::Computed(f) => f(module),
        Kind::Text(_) => return Errno::EINVAL.to_raw(),
    };
    // SAFETY: the contract.
    unsafe { *value = now };
    0
}

/// Handler of texts.
///
/// # Safety
///
/// Called by the kernel with an `Entry<M>` of a tree that is not dropped; `buf` has `len` writable
/// bytes.
unsafe extern "C" fn show_text<M>(arg: *mut c_void, buf: *mut c_char, len: usize) -> usize {
    // SAFETY: alive until the tree is dropped, which waits for us.
    let entry = unsafe { &*arg.cast::<Entry<M>>() };
    // SAFETY: the tree holds the module too.
    let module = unsafe { &*entry.module };
    let Kind::Text(f) = &entry.kind else { return 0 };
    let mut line = Line::new();
    f(module, &mut line);
    let text = line.as_bytes();
    let n = text.len().min(len);
    // SAFETY: both have `n` bytes, and the line is ours.
    unsafe { ptr::copy_nonoverlapping(text.as_ptr(), buf.cast(), n) };
    n
}

/// Runs `f` with the text of the loader tunable `name`, cut at 64 bytes; an empty one if it is not
/// set, or is not UTF-8.
pub fn with_tunable<R>(name: &CStr, _cx: &Sleepable, f: impl FnOnce(&str) -> R) -> R {
    let mut buf = [0u8; 64];
    // SAFETY: NUL-terminated; room for the length given; may sleep.
    let n = unsafe { sys::kpi_tunable(name.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) };
    let text = buf.get(..n).and_then(|text| str::from_utf8(text).ok());
    f(text.unwrap_or_default())
}
