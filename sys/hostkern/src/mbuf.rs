// SPDX-License-Identifier: BSD-2-Clause
//! mbuf(9): the functions that the driver imports, with the kernel's own behaviour, and the books
//! on who lives.
//!
//! Simulation knows every live mbuf by address, so that a second free or a use after free is told
//! apart at once. Real mode only looks at the type field, which freeing clears.

mod ops;

use core::ffi::c_void;
use core::ptr;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use self::ops::*;
use crate::layout::*;
use crate::misc::check_not_fpu;
pub use crate::packet::Packet;
use crate::pool;
use crate::thread::{kernel, violation};

pub(crate) const EXT_MOD_TYPE: u32 = 253;
const SHARDS: usize = 32;

#[repr(align(128))]
#[derive(Default)]
struct Shard {
    mbufs: AtomicI64,
    clusters: AtomicI64,
}

#[derive(Default)]
struct Live {
    by_address: HashMap<usize, u64>,
    seq: u64,
}

/// Live mbufs and clusters of one kernel.
pub(crate) struct MbufBooks {
    /// Pieces of storage that a function of the module frees.
    of_module: AtomicI64,
    /// Blocks of memory that are the kernel's, though the driver's account has them (simulation).
    pub(crate) pooled: AtomicI64,
    sim: Option<Mutex<Live>>,
    shards: [Shard; SHARDS],
}

static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static SHARD: usize = NEXT_SHARD.fetch_add(1, Ordering::Relaxed) % SHARDS;
}

impl MbufBooks {
    pub fn new(sim: bool) -> Self {
        Self {
            of_module: AtomicI64::new(0),
            pooled: AtomicI64::new(0),
            sim: sim.then(Mutex::default),
            shards: Default::default(),
        }
    }

    pub fn is_sim(&self) -> bool {
        self.sim.is_some()
    }

    fn live(&self) -> Option<MutexGuard<'_, Live>> {
        Some(
            self.sim
                .as_ref()?
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn shard(&self) -> &Shard {
        &self.shards[SHARD.with(|s| *s)]
    }

    fn add(&self, m: *mut mbuf) {
        self.shard().mbufs.fetch_add(1, Ordering::Relaxed);
        if let Some(mut l) = self.live() {
            l.seq += 1;
            let seq = l.seq;
            l.by_address.insert(m.addr(), seq);
        }
    }

    fn remove(&self, m: *mut mbuf) {
        self.shard().mbufs.fetch_sub(1, Ordering::Relaxed);
        if let Some(mut l) = self.live() {
            l.by_address.remove(&m.addr());
        }
    }

    /// Pieces of storage that a function of the module frees.
    pub fn of_module(&self) -> i64 {
        self.of_module.load(Ordering::SeqCst)
    }

    /// Live mbufs and clusters.
    pub fn count(&self) -> (i64, i64) {
        self.shards.iter().fold((0, 0), |(m, c), s| {
            (
                m + s.mbufs.load(Ordering::Relaxed),
                c + s.clusters.load(Ordering::Relaxed),
            )
        })
    }

    pub fn report(&self, out: &mut Vec<String>) {
        let (m, c) = self.count();
        if m == 0 && c == 0 {
            return;
        }
        let mut line = format!("{m} mbufs and {c} clusters");
        if let Some(l) = self.live()
            && let Some(first) = l.by_address.values().min()
        {
            line += &format!(", the oldest was allocation {first} of {}", l.seq);
        }
        out.push(line);
    }
}

pub(crate) fn type_of(m: &mbuf) -> u32 {
    m.m_tf & 0xff
}

pub(crate) fn flags_of(m: &mbuf) -> u32 {
    m.m_tf >> 8
}

pub(crate) fn set_flags(m: &mut mbuf, flags: u32) {
    m.m_tf = m.m_tf & 0xff | flags << 8;
}

/// Where the data is, also while it is "unmapped" (see [`Packet::unmapped`]).
pub(crate) unsafe fn data_of(m: *const mbuf) -> *mut u8 {
    // SAFETY: the caller passes a live mbuf.
    unsafe {
        if flags_of(&*m) & M_EXTPG != 0 {
            (*m).ext_buf.add((*m).m_data.addr())
        } else {
            (*m).m_data
        }
    }
}

/// Checks that `m` is a live mbuf.
#[track_caller]
pub(crate) unsafe fn check(m: *const mbuf, what: &str) {
    if let Some(l) = kernel().mbufs.live() {
        if !l.by_address.contains_key(&m.addr()) {
            drop(l);
            violation(
                "mbuf-use-after-free",
                format_args!("{what} of an mbuf that is not live"),
            );
        }
        return;
    }
    // SAFETY: in real mode mbuf memory is pooled and stays mapped as mbufs.
    let t = unsafe { type_of(&*m) };
    if t == MT_NOTMBUF {
        violation(
            "mbuf-use-after-free",
            format_args!("{what} of a freed mbuf"),
        );
    }
}

/// Checks that `m` is a live packet whose lengths agree.
#[track_caller]
pub(crate) unsafe fn check_packet(m: *const mbuf, what: &str) {
    // SAFETY: the caller hands over a packet.
    unsafe {
        check(m, what);
        if flags_of(&*m) & M_PKTHDR == 0 {
            violation("mbuf-pkthdr", format_args!("{what}: no packet header"));
        }
        let mut sum = 0i64;
        let mut n = m;
        while !n.is_null() {
            check(n, what);
            if (*n).m_len < 0 {
                violation("mbuf-pkthdr", format_args!("{what}: m_len {}", (*n).m_len));
            }
            if n != m && flags_of(&*n) & M_PKTHDR != 0 {
                violation(
                    "mbuf-pkthdr",
                    format_args!("{what}: packet header inside a chain"),
                );
            }
            sum += i64::from((*n).m_len);
            n = (*n).m_next;
        }
        if sum != i64::from((*m).len) {
            violation(
                "mbuf-pkthdr",
                format_args!(
                    "{what}: m_pkthdr.len is {} but the chain has {sum}",
                    (*m).len
                ),
            );
        }
    }
}

/// `m_get` and `m_gethdr`: an empty mbuf; null when memory is short.
pub(crate) fn get(kind: u32, flags: u32) -> *mut mbuf {
    check_not_fpu("m_get");
    let k = kernel();
    let m: *mut mbuf = pool::alloc(&k, MSIZE).cast();
    if m.is_null() {
        return m;
    }
    let data = if flags & M_PKTHDR != 0 {
        M_PKTDAT
    } else {
        M_DAT
    };
    // SAFETY: MSIZE fresh bytes, aligned for an mbuf.
    unsafe {
        // Only the headers: the data area stays what it was, as in the kernel.
        ptr::write_bytes(m.cast::<u8>(), 0, M_PKTDAT);
        (*m).m_data = m.cast::<u8>().add(data);
        (*m).m_tf = kind | flags << 8;
    }
    k.mbufs.add(m);
    m
}

/// Gives the mbuf external storage of at least `size` bytes; false when memory is short.
pub(crate) unsafe fn add_cluster(m: *mut mbuf, size: usize) -> bool {
    let kinds = [
        (MCLBYTES, EXT_CLUSTER),
        (MJUMPAGESIZE, EXT_JUMBOP),
        (MJUM9BYTES, EXT_JUMBO9),
        (MJUM16BYTES, EXT_JUMBO16),
    ];
    let fits = kinds.into_iter().find(|&(room, _)| size <= room);
    let (size, kind) = fits.unwrap_or((size, EXT_MOD_TYPE));
    let k = kernel();
    let buf = pool::alloc(&k, size);
    if buf.is_null() {
        return false;
    }
    k.mbufs.shard().clusters.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the caller's empty mbuf without external storage.
    unsafe {
        (*m).ext_cnt = 1;
        (*m).ext_size = size as u32;
        (*m).ext_tf = kind | EXT_FLAG_EMBREF << 8;
        (*m).ext_buf = buf;
        (*m).ext_arg1 = ptr::null_mut();
        (*m).ext_arg2 = ptr::null_mut();
        (*m).ext_free = None;
        (*m).m_data = buf;
        set_flags(&mut *m, flags_of(&*m) | M_EXT);
    }
    true
}

/// `m_extadd`: the empty mbuf `m` gets storage that `free` frees, a function of the module.
///
/// # Safety
/// `m` is a live mbuf without external storage; `buf` has `size` bytes.
pub(crate) unsafe fn add_storage(
    m: *mut mbuf,
    buf: *mut u8,
    size: u32,
    free: Option<unsafe extern "C" fn(*mut mbuf)>,
    arg1: *mut c_void,
    arg2: *mut c_void,
) {
    if free.is_none() {
        violation("mbuf-ext", format_args!("storage that nobody frees"));
    }
    kernel().mbufs.of_module.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the caller's mbuf.
    unsafe {
        (*m).ext_cnt = 1;
        (*m).ext_size = size;
        (*m).ext_tf = EXT_MOD_TYPE | EXT_FLAG_EMBREF << 8;
        (*m).ext_buf = buf;
        (*m).ext_arg1 = arg1;
        (*m).ext_arg2 = arg2;
        (*m).ext_free = free;
        (*m).m_data = buf;
        set_flags(&mut *m, flags_of(&*m) | M_EXT);
    }
}

/// Whether a segment of the chain has storage that a function of the module frees.
///
/// # Safety
/// `m` is null or a live chain.
pub(crate) unsafe fn is_of_module(mut m: *const mbuf) -> bool {
    while !m.is_null() {
        // SAFETY: as the caller says.
        unsafe {
            let ext = flags_of(&*m) & M_EXT != 0 && (*m).ext_tf & 0xff == EXT_MOD_TYPE;
            // Storage of that type which hostkern made has no function.
            if ext && (*m).ext_free.is_some() {
                return true;
            }
            m = (*m).m_next;
        }
    }
    false
}

/// Checks a packet that leaves the module for good: who keeps it may keep it longer than the module
/// is there.
///
/// # Safety
/// `m` is a live packet.
#[track_caller]
pub(crate) unsafe fn check_leaves(m: *const mbuf, what: &str) {
    // SAFETY: as the caller says.
    if unsafe { is_of_module(m) } {
        violation(
            "mbuf-storage",
            format_args!("{what} of a packet whose storage is the module's"),
        );
    }
}

/// `mb_dupcl`: makes `n`, an empty mbuf, a second reference to the storage of `m`, from `m`'s data
/// on.
pub(crate) unsafe fn share(n: *mut mbuf, m: *mut mbuf) {
    // SAFETY: both are live and `m` has external storage; the count is where the flag says.
    unsafe {
        count_of(m).fetch_add(1, Ordering::Relaxed);
        (*n).ext_cnt = ptr::from_ref(count_of(m)).expose_provenance();
        (*n).ext_size = (*m).ext_size;
        (*n).ext_tf = (*m).ext_tf & 0xff;
        (*n).ext_buf = (*m).ext_buf;
        (*n).m_data = (*m).m_data;
        (*n).m_len = (*m).m_len;
        set_flags(&mut *n, flags_of(&*n) | M_EXT | flags_of(&*m) & M_RDONLY);
    }
}

/// The reference count of the storage of `m`.
pub(crate) unsafe fn count_of<'a>(m: *mut mbuf) -> &'a AtomicU32 {
    // SAFETY: `m` has M_EXT: either the count is in `m` itself or `ext_cnt` points to the one in
    // the first owner, which lives until the count is zero.
    unsafe {
        if (*m).ext_tf >> 8 & EXT_FLAG_EMBREF != 0 {
            let p: *mut usize = &raw mut (*m).ext_cnt;
            // The first owner's address is handed out by `share`.
            let _ = p.expose_provenance();
            AtomicU32::from_ptr(p.cast())
        } else {
            AtomicU32::from_ptr(ptr::with_exposed_provenance_mut((*m).ext_cnt))
        }
    }
}

/// Frees the mbuf itself.
unsafe fn free_raw(m: *mut mbuf) {
    let k = kernel();
    k.mbufs.remove(m);
    // SAFETY: the caller gives up the last reference.
    unsafe {
        (*m).m_tf = MT_NOTMBUF;
        pool::free(&k, m.cast(), MSIZE);
    }
}

/// `mb_free_ext`.
unsafe fn free_ext(m: *mut mbuf) {
    // SAFETY: `m` is live, has M_EXT, and the caller gives up its reference.
    unsafe {
        let count = count_of(m);
        let owner: *mut mbuf = if (*m).ext_tf >> 8 & EXT_FLAG_EMBREF != 0 {
            m
        } else {
            let at = (*m).ext_cnt - core::mem::offset_of!(mbuf, ext_cnt);
            ptr::with_exposed_provenance_mut(at)
        };
        let kind = (*m).ext_tf & 0xff;
        let (buf, size) = ((*m).ext_buf, (*m).ext_size as usize);
        if count.load(Ordering::Acquire) == 1 || count.fetch_sub(1, Ordering::AcqRel) == 1 {
            let k = kernel();
            match (kind, (*owner).ext_free) {
                (EXT_CLUSTER | EXT_JUMBOP | EXT_JUMBO9 | EXT_JUMBO16, _) | (EXT_MOD_TYPE, None) => {
                    k.mbufs.shard().clusters.fetch_sub(1, Ordering::Relaxed);
                    pool::free(&k, buf, size);
                }
                (_, Some(f)) => {
                    k.mbufs.of_module.fetch_sub(1, Ordering::SeqCst);
                    if k.is_unloaded() {
                        violation(
                            "unload",
                            format_args!("storage is freed by a module that is gone"),
                        );
                    }
                    f(owner);
                }
                _ => violation("mbuf-ext", format_args!("external storage of type {kind}")),
            }
            free_raw(owner);
        }
        if m != owner {
            free_raw(m);
        }
    }
}

/// `m_free`: frees one mbuf, returns the next.
pub(crate) unsafe fn free_one(m: *mut mbuf) -> *mut mbuf {
    check_not_fpu("m_free");
    // SAFETY: the caller gives up its reference to `m`.
    unsafe {
        if let Some(l) = kernel().mbufs.live()
            && !l.by_address.contains_key(&m.addr())
        {
            drop(l);
            violation(
                "mbuf-double-free",
                format_args!("an mbuf that is not live was freed"),
            );
        }
        if type_of(&*m) == MT_NOTMBUF {
            violation("mbuf-double-free", format_args!("a free mbuf was freed"));
        }
        let next = (*m).m_next;
        let flags = flags_of(&*m);
        if flags & M_PKTHDR != 0 {
            while !(*m).tags.is_null() {
                m_tag_delete(m, (*m).tags);
            }
        }
        if flags & M_EXT != 0 {
            free_ext(m);
        } else if flags & M_NOFREE == 0 {
            free_raw(m);
        }
        next
    }
}

/// mbuf(9): frees a chain.
///
/// # Safety
/// `m` is null or a chain that the caller owns.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn m_freem(mut m: *mut mbuf) {
    while !m.is_null() {
        // SAFETY: as the caller says.
        m = unsafe { free_one(m) };
    }
}
