// SPDX-License-Identifier: BSD-2-Clause
//! malloc(9) with its types, and what is below the inlines of mbuf(9).

use core::ffi::{c_char, c_int, c_short, c_void};
use core::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use freebsd_kernel_sys::offsets as off;
use hostkern_malloc::{kpi_free, kpi_malloc};

use super::{get, put, text, with};
use crate::layout::{M_EXT, M_PKTDAT, M_RDONLY, M_WAITOK, MCLBYTES, mbuf};
use crate::mbuf::{
    EXT_MOD_TYPE, add_cluster, add_storage, flags_of, free_one, get as get_mbuf, kpi_m_move_pkthdr,
    set_flags,
};
use crate::thread::{check_sleep, violation};

/// The zones of m_gethdr(9) and of m_getcl(9): tokens.
pub(super) const ZONE_MBUF: usize = 0x10;
pub(super) const ZONE_PACK: usize = 0x20;
/// What `__pcpu` points to: statistics of a type are given by their distance from it, and nothing else is looked at.
pub(super) const PCPU: usize = 0x1000;

/// Statistics of a type of malloc(9): a page for each CPU.
pub(super) struct Stats(Box<[[AtomicU64; off::KPI_PCPU_ALLOC_SIZE as usize / 8]]>);

impl Stats {
    fn new(ncpu: usize) -> Box<Self> {
        let page = || [const { AtomicU64::new(0) }; _];
        Box::new(Self((0..ncpu).map(|_| page()).collect()))
    }

    fn count(&self, offset: u32) -> &AtomicU64 {
        // The numbers are added up over CPUs, so one is as good as another.
        &self.0[0][offset as usize / 8]
    }

    fn live(&self) -> u64 {
        self.count(off::KPI_OFF_MTS_NUMALLOCS)
            .load(Ordering::Relaxed)
            - self
                .count(off::KPI_OFF_MTS_NUMFREES)
                .load(Ordering::Relaxed)
    }
}

/// The sysinit of MALLOC_DEFINE.
pub(super) unsafe extern "C-unwind" fn malloc_init(kind: *mut c_void) {
    with("malloc_init", |k, kld| {
        let stats = Stats::new(k.ncpu);
        // As amd64 has it: a distance from the first CPU's structure.
        let at = stats.0.as_ptr().expose_provenance().wrapping_sub(PCPU);
        // SAFETY: a type of the module.
        unsafe { put(kind, off::KPI_OFF_KS_MTI_STATS, at) };
        if kld
            .state()
            .types
            .insert(kind.expose_provenance(), stats)
            .is_some()
        {
            violation("malloc-type", format_args!("a type was set up twice"));
        }
    });
}

/// The sysuninit of MALLOC_DEFINE, which tells about leaks.
pub(super) unsafe extern "C-unwind" fn malloc_uninit(kind: *mut c_void) {
    let gone = with("malloc_uninit", |_, kld| {
        kld.state().types.remove(&kind.addr())
    });
    // SAFETY: a type of the module.
    let name = text(unsafe { get::<*const c_char>(kind, off::KPI_OFF_KS_SHORTDESC) });
    match gone {
        None => violation("malloc-type", format_args!("type {name} was not set up")),
        Some(stats) if stats.live() != 0 => {
            let n = stats.live();
            violation(
                "malloc-leak",
                format_args!("{n} allocations of type {name} are left"),
            )
        }
        Some(_) => {}
    }
}

impl super::Kld {
    /// One allocation more of the module's, or one less, that is none.
    pub(crate) fn count_held(&self, n: i64) {
        let offset = match n {
            1 => off::KPI_OFF_MTS_NUMALLOCS,
            _ => off::KPI_OFF_MTS_NUMFREES,
        };
        if let Some(stats) = self.state().types.values().next() {
            stats.count(offset).fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Counts for a type, if it is the module's.
fn count(kind: *mut c_void, offset: u32) {
    with("malloc", |_, kld| {
        if let Some(stats) = kld.state().types.get(&kind.addr()) {
            stats.count(offset).fetch_add(1, Ordering::Relaxed);
        } else {
            violation(
                "malloc-type",
                format_args!("malloc(9) with a type that is not set up"),
            );
        }
    });
}

pub(super) unsafe extern "C-unwind" fn malloc(
    size: usize,
    kind: *mut c_void,
    flags: c_int,
) -> *mut c_void {
    let p = kpi_malloc(size, flags);
    if !p.is_null() {
        count(kind, off::KPI_OFF_MTS_NUMALLOCS);
    }
    p
}

/// The address of a socket, as big as one can be: of type M_SONAME, which is the kernel's own. It waits for memory, so an
/// injected failure does not hit it.
pub(super) type Name = [u64; 4];

pub(super) fn name() -> *mut Name {
    with("malloc", |_, kld| kld.state().names += 1);
    Box::into_raw(Box::default())
}

pub(super) unsafe extern "C-unwind" fn free(p: *mut c_void, kind: *mut c_void) {
    if p.is_null() {
        return;
    }
    let is_name = with("free", |_, kld| {
        let is_name = kind == kld.variable("M_SONAME");
        kld.state().names -= usize::from(is_name);
        is_name
    });
    if is_name {
        // SAFETY: one of `name`.
        drop(unsafe { Box::from_raw(p.cast::<Name>()) });
        return;
    }
    count(kind, off::KPI_OFF_MTS_NUMFREES);
    // SAFETY: what malloc gave, as the caller says.
    unsafe { kpi_free(p) };
}

/// `struct mb_args`.
#[repr(C)]
pub(super) struct Arguments {
    flags: c_int,
    kind: c_short,
}

pub(super) fn with_storage(
    kind: c_short,
    flags: c_int,
    how: c_int,
    size: Option<usize>,
) -> *mut mbuf {
    if how & M_WAITOK != 0 {
        check_sleep("m_get(M_WAITOK)");
    }
    let m = get_mbuf(kind.cast_unsigned().into(), flags.cast_unsigned());
    // SAFETY: a fresh mbuf.
    unsafe {
        if let Some(size) = size
            && !m.is_null()
            && !add_cluster(m, size)
        {
            free_one(m);
            return ptr::null_mut();
        }
    }
    m
}

/// uma(9): of the zones, m_gethdr(9) and m_getcl(9) use these two.
pub(super) unsafe extern "C-unwind" fn uma_zalloc_arg(
    zone: usize,
    arguments: *const Arguments,
    how: c_int,
) -> *mut mbuf {
    // SAFETY: what the inlines pass.
    let (kind, flags) = unsafe { ((*arguments).kind, (*arguments).flags) };
    match zone {
        ZONE_MBUF => with_storage(kind, flags, how, None),
        ZONE_PACK => with_storage(kind, flags, how, Some(MCLBYTES)),
        _ => violation("kld", format_args!("a zone that is not of mbufs")),
    }
}

pub(super) extern "C-unwind" fn m_getjcl(
    how: c_int,
    kind: c_short,
    flags: c_int,
    size: c_int,
) -> *mut mbuf {
    let size = usize::try_from(size).unwrap_or_default();
    with_storage(kind, flags, how, Some(size))
}

type FreeStorage = unsafe extern "C" fn(*mut mbuf);

/// mbuf(9): storage of the caller's own.
pub(super) unsafe extern "C-unwind" fn m_extadd(
    m: *mut mbuf,
    buf: *mut u8,
    size: u32,
    free: Option<FreeStorage>,
    arg1: *mut c_void,
    arg2: *mut c_void,
    flags: c_int,
    kind: c_int,
) {
    if flags != 0 || kind.cast_unsigned() != EXT_MOD_TYPE {
        violation(
            "kld",
            format_args!("m_extadd of type {kind}, flags {flags}"),
        );
    }
    // SAFETY: the caller's mbuf, which has no storage.
    unsafe { add_storage(m, buf, size, free, arg1, arg2) };
}

/// mbuf(9). Unlike the shim's it means a fresh `to`, and takes the flag of read-only storage along.
pub(super) unsafe extern "C-unwind" fn m_move_pkthdr(to: *mut mbuf, from: *mut mbuf) {
    // SAFETY: as the caller says.
    unsafe {
        let read_only = flags_of(&*from) & M_RDONLY;
        kpi_m_move_pkthdr(to, from);
        let flags = flags_of(&*to);
        if flags & M_EXT == 0 {
            (*to).m_data = to.cast::<u8>().add(M_PKTDAT);
        }
        set_flags(&mut *to, flags | read_only);
    }
}
