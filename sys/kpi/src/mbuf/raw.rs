// SPDX-License-Identifier: BSD-2-Clause
//! Fields of `struct mbuf`: what FreeBSD's macros (`mtod`, `M_WRITABLE`, `M_LEADINGSPACE`, ...)
//! read and write. They are macros there too, so their layout is part of what every module is
//! compiled against.

use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use freebsd_kernel_sys as sys;

#[cfg(not(target_endian = "little"))]
compile_error!(
    "m_type and m_flags share a word; its bytes are known for little-endian machines only"
);

/// Where `m_type:8, m_flags:24` are.
const WORD: usize = offset_of!(sys::mbuf, _bitfield_1);
/// Where the packet header is, if there is one.
const PKTHDR: usize = offset_of!(sys::mbuf, __bindgen_anon_3);
/// Where `m_ext` and `m_pktdat` are, behind the packet header.
const EXT: usize = PKTHDR + size_of::<sys::pkthdr>();
/// Bit of `EXT_FLAG_EMBREF` in the word `ext_type:8, ext_flags:24`.
const EMBREF: u32 = sys::EXT_FLAG_EMBREF << 8;

const _: () = assert!(size_of::<sys::mbuf>() - PKTHDR == sys::KPI_MLEN as usize);
const _: () = assert!(size_of::<sys::mbuf>() - EXT == sys::KPI_MHLEN as usize);

/// What can be done with a segment.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// Not read-only and not shared.
    pub(super) writable: bool,
    /// Bytes of storage before the data.
    pub(super) lead: usize,
    /// Bytes of storage behind the data.
    pub(super) tail: usize,
}

/// # Safety
///
/// `m` is a live segment.
pub(super) unsafe fn flags(m: *const sys::mbuf) -> u32 {
    // SAFETY: the word is inside the structure and aligned.
    unsafe { m.byte_add(WORD).cast::<u32>().read() >> 8 }
}

/// # Safety
///
/// `m` is a live segment that we may write.
unsafe fn clear_flags(m: *mut sys::mbuf, bits: u32) {
    // SAFETY: the word is inside the structure and aligned.
    unsafe {
        let word = m.byte_add(WORD).cast::<u32>();
        word.write(word.read() & !(bits << 8));
    }
}

/// The packet header.
///
/// # Safety
///
/// `m` points to a live segment with one.
pub(super) unsafe fn pkthdr(m: *mut sys::mbuf) -> *mut sys::pkthdr {
    // SAFETY: inside the structure.
    unsafe { m.byte_add(PKTHDR).cast() }
}

/// # Safety
///
/// `m` is a live segment.
unsafe fn ext(m: *mut sys::mbuf) -> *mut sys::m_ext {
    // SAFETY: inside the structure.
    unsafe { m.byte_add(EXT).cast() }
}

/// # Safety
///
/// `m` is a live segment.
pub(super) unsafe fn next(m: *const sys::mbuf) -> *mut sys::mbuf {
    // SAFETY: a field of a live structure; every member of the union is such a pointer.
    unsafe { (*m).__bindgen_anon_1.m_next }
}

/// # Safety
///
/// `m` is a live packet.
pub(super) unsafe fn nextpkt(m: *const sys::mbuf) -> *mut sys::mbuf {
    // SAFETY: as for `next`.
    unsafe { (*m).__bindgen_anon_2.m_nextpkt }
}

/// # Safety
///
/// `m` is a live packet that we may write.
pub(super) unsafe fn set_nextpkt(m: *mut sys::mbuf, next: *mut sys::mbuf) {
    // SAFETY: as for `next`.
    unsafe { (*m).__bindgen_anon_2.m_nextpkt = next };
}

/// # Safety
///
/// `m` is a live segment.
pub(super) unsafe fn len(m: *const sys::mbuf) -> usize {
    // SAFETY: a field of a live structure.
    usize::try_from(unsafe { (*m).m_len }).unwrap_or(0)
}

/// # Safety
///
/// `m` is a live segment.
pub(super) unsafe fn data(m: *const sys::mbuf) -> *mut u8 {
    // SAFETY: a field of a live structure.
    unsafe { (*m).m_data.cast() }
}

/// Whether a segment of the chain has pages without a kernel address (`M_EXTPG`).
///
/// # Safety
///
/// `m` is a live chain.
pub(super) unsafe fn has_unmapped(mut m: *const sys::mbuf) -> bool {
    while !m.is_null() {
        // SAFETY: a live segment of the chain.
        if unsafe { flags(m) } & sys::KPI_M_EXTPG != 0 {
            return true;
        }
        // SAFETY: the same.
        m = unsafe { next(m) };
    }
    false
}

/// Whether a segment of the chain may have storage of this module's (`EXT_MOD_TYPE`).
///
/// # Safety
///
/// `m` is a live chain.
pub(super) unsafe fn may_be_ours(mut m: *mut sys::mbuf) -> bool {
    while !m.is_null() {
        // SAFETY: a live segment of the chain; with M_EXT the structure is filled in.
        let ours = unsafe {
            flags(m) & sys::KPI_M_EXT != 0
                && (&raw const (*ext(m))._bitfield_1).cast::<u32>().read() & 0xff
                    == sys::KPI_EXT_MOD_TYPE
        };
        if ours {
            return true;
        }
        // SAFETY: the same.
        m = unsafe { next(m) };
    }
    false
}

/// Storage of a segment: start and size (`M_START`, `M_SIZE`).
///
/// # Safety
///
/// `m` is a live, mapped segment.
unsafe fn storage(m: *mut sys::mbuf, flags: u32) -> (*mut u8, usize) {
    if flags & sys::KPI_M_EXT != 0 {
        // SAFETY: with M_EXT the structure is filled in.
        unsafe {
            let e = ext(m);
            let buf: *mut u8 = (*e).__bindgen_anon_2.__bindgen_anon_1.ext_buf.cast();
            (buf, (*e).ext_size as usize)
        }
    } else if flags & sys::KPI_M_PKTHDR != 0 {
        // SAFETY: inside the structure.
        (unsafe { m.byte_add(EXT).cast() }, sys::KPI_MHLEN as usize)
    } else {
        // SAFETY: inside the structure.
        (unsafe { m.byte_add(PKTHDR).cast() }, sys::KPI_MLEN as usize)
    }
}

/// Whether nobody else refers to the external storage (`m_extrefcnt(m) == 1`).
///
/// # Safety
///
/// `m` is a live segment with `M_EXT`.
unsafe fn ext_unshared(m: *mut sys::mbuf) -> bool {
    // SAFETY: with M_EXT the structure is filled in: the count is in it or behind its pointer.
    let count = unsafe {
        let e = ext(m);
        let word = (&raw const (*e)._bitfield_1).cast::<u32>().read();
        if word & EMBREF != 0 {
            (&raw mut (*e).__bindgen_anon_1).cast::<u32>()
        } else {
            (*e).__bindgen_anon_1.ext_cnt
        }
    };
    // SAFETY: live as long as our reference, aligned, and only accessed atomically. Acquire: the
    // others' uses came before they let go.
    unsafe { AtomicU32::from_ptr(count) }.load(Ordering::Acquire) == 1
}

/// # Safety
///
/// `m` is a live, mapped segment.
pub(super) unsafe fn room(m: *mut sys::mbuf) -> Room {
    // SAFETY: live.
    let flags = unsafe { flags(m) };
    // SAFETY: live, and M_EXT is tested before.
    let writable = flags & sys::KPI_M_RDONLY == 0
        && (flags & sys::KPI_M_EXT == 0 || unsafe { ext_unshared(m) });
    // SAFETY: live and mapped.
    let (start, size) = unsafe { storage(m, flags) };
    // SAFETY: live.
    let lead = unsafe { data(m) }.addr().wrapping_sub(start.addr());
    // SAFETY: live.
    let used = lead.wrapping_add(unsafe { len(m) });
    match size.checked_sub(used) {
        Some(tail) => Room {
            writable,
            lead,
            tail,
        },
        // Not possible by the invariant: data lies in its storage.
        None => Room {
            writable: false,
            lead: 0,
            tail: 0,
        },
    }
}

/// Grows (positive) or shrinks the lengths of the segment and its packet.
///
/// # Safety
///
/// `m` is a packet head of ours, and the lengths stay true.
unsafe fn add_len(m: *mut sys::mbuf, n: i32) {
    // SAFETY: fields of a live structure that we may write.
    unsafe {
        (*m).m_len = (*m).m_len.wrapping_add(n);
        let h = pkthdr(m);
        (*h).len = (*h).len.wrapping_add(n);
    }
}

/// Storage is at most [`super::MAX_CONTIGUOUS`], or what the kernel counts in an `int`.
fn int(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// # Safety
///
/// `m` is a packet head of ours with `n` bytes or more in its first segment.
pub(super) unsafe fn advance(m: *mut sys::mbuf, n: usize) {
    // SAFETY: stays in the storage.
    unsafe { (*m).m_data = (*m).m_data.add(n) };
    // SAFETY: as much shorter as the start moved.
    unsafe { add_len(m, int(n).wrapping_neg()) };
}

/// # Safety
///
/// `m` is a packet head of ours with one segment of `n` bytes or more.
pub(super) unsafe fn shorten(m: *mut sys::mbuf, n: usize) {
    // SAFETY: the contract.
    unsafe { add_len(m, int(n).wrapping_neg()) };
}

/// # Safety
///
/// `m` is a packet head of ours with `n` bytes of unshared storage before its data.
pub(super) unsafe fn grow_front(m: *mut sys::mbuf, n: usize) {
    // SAFETY: stays in the storage.
    unsafe { (*m).m_data = (*m).m_data.sub(n) };
    // SAFETY: the new bytes are storage of ours.
    unsafe { ptr::write_bytes(data(m), 0, n) };
    // SAFETY: as much longer as the start moved.
    unsafe { add_len(m, int(n)) };
}

/// # Safety
///
/// `m` is a packet head of ours with one segment and `n` bytes of unshared storage behind its data.
pub(super) unsafe fn grow_back(m: *mut sys::mbuf, n: usize) {
    // SAFETY: the new bytes are storage of ours.
    unsafe { ptr::write_bytes(data(m).add(len(m)), 0, n) };
    // SAFETY: as many were set.
    unsafe { add_len(m, int(n)) };
}

/// What `M_PREPEND` does after m_prepend(9): the packet gets as much longer as the new first
/// segment is, which is zeroed.
///
/// # Safety
///
/// `m` is a packet head of ours that m_prepend(9) has just made.
pub(super) unsafe fn finish_prepend(m: *mut sys::mbuf) {
    // SAFETY: the data of a new segment that nobody else has.
    unsafe { ptr::write_bytes(data(m), 0, len(m)) };
    // SAFETY: fields of a live structure that we may write.
    unsafe {
        let h = pkthdr(m);
        (*h).len = (*h).len.wrapping_add((*m).m_len);
    }
}

/// Sets where the data of a new packet will be.
///
/// # Safety
///
/// `m` is a new packet of ours with `m_data` at the start of `lead + len` bytes of storage or more.
pub(super) unsafe fn place(m: *mut sys::mbuf, lead: usize, len: usize) {
    // SAFETY: stays in the storage; the lengths are zero before.
    unsafe {
        (*m).m_data = (*m).m_data.add(lead);
        add_len(m, int(len));
    }
}

/// The interface that the packet came in by, or null: it may be one of this host's own, or have a send
/// tag in the same place.
///
/// # Safety
///
/// `m` is a live packet.
pub(super) unsafe fn rcvif(m: *mut sys::mbuf) -> *mut sys::ifnet {
    // SAFETY: fields of a live structure; without CSUM_SND_TAG the union has the interface.
    unsafe {
        let h = pkthdr(m);
        if (*h).csum_flags & sys::KPI_CSUM_SND_TAG == 0 {
            (*h).__bindgen_anon_1.rcvif.cast()
        } else {
            ptr::null_mut()
        }
    }
}

/// # Safety
///
/// `m` is a packet head of ours, and `ifp` null or an interface that lives as long as anybody looks.
pub(super) unsafe fn set_rcvif(m: *mut sys::mbuf, ifp: *mut sys::ifnet) {
    // SAFETY: fields of a live structure that we may write; a send tag stays.
    unsafe {
        let h = pkthdr(m);
        if (*h).csum_flags & sys::KPI_CSUM_SND_TAG == 0 {
            (*h).__bindgen_anon_1.rcvif = ifp.cast();
        }
    }
}

/// # Safety
///
/// `m` is a packet head of ours.
pub(super) unsafe fn forget_rcvif(m: *mut sys::mbuf) {
    // SAFETY: fields of a live structure that we may write. A packet with CSUM_SND_TAG has a
    // counted send tag in the place of the receive interface; that one stays, as m_freem(9) lets go
    // of it.
    unsafe {
        let h = pkthdr(m);
        if (*h).csum_flags & sys::KPI_CSUM_SND_TAG == 0 {
            (*h).__bindgen_anon_1.rcvif = ptr::null_mut();
            (*h).__bindgen_anon_2.leaf_rcvif = ptr::null_mut();
        }
    }
}

/// Puts the header into the state of a new packet with the same bytes, FIB, loop tags and MAC
/// label.
///
/// # Safety
///
/// `m` is a packet head of ours.
pub(super) unsafe fn reset(m: *mut sys::mbuf) {
    // SAFETY: a live segment of ours.
    unsafe {
        clear_flags(
            m,
            sys::KPI_M_BCAST
                | sys::KPI_M_MCAST
                | sys::KPI_M_PROMISC
                | sys::KPI_M_VLANTAG
                | sys::KPI_M_TSTMP
                | sys::KPI_M_PROTOFLAGS,
        );
    }
    // SAFETY: a live packet of ours; tags are only unlinked by the kernel's own function.
    unsafe {
        let h = pkthdr(m);
        let mut tag = (*h).tags.slh_first;
        while !tag.is_null() {
            let after = (*tag).m_tag_link.sle_next;
            let loop_tag = (*tag).m_tag_id == 0 && (*tag).m_tag_cookie == super::LOOP_COOKIE;
            if !loop_tag && u32::from((*tag).m_tag_id) != sys::KPI_PACKET_TAG_MACLABEL {
                sys::m_tag_delete(m, tag);
            }
            tag = after;
        }
    }
    // SAFETY: a live packet of ours.
    unsafe { forget_rcvif(m) };
    // SAFETY: fields of a live structure that we may write; the send tag's flag stays with the tag.
    unsafe {
        let h = pkthdr(m);
        (*h).flowid = 0;
        (*h).rsstype = sys::M_HASHTYPE_NONE as u8;
        (*h).numa_domain = sys::KPI_M_NODOM as u8;
        (*h).csum_flags &= sys::KPI_CSUM_SND_TAG;
        (*h).__bindgen_anon_3 = sys::pkthdr__bindgen_ty_3 { rcv_tstmp: 0 };
        (*h).PH_per = sys::pkthdr__bindgen_ty_4 { sixtyfour: [0] };
        ptr::write_bytes(&raw mut (*h).__bindgen_anon_4, 0, 1);
    }
}
