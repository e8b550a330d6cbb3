// SPDX-License-Identifier: BSD-2-Clause
//! What the driver does to mbuf chains, step by step as uipc_mbuf.c does it.

use core::ffi::c_int;
use core::ptr;

use super::{
    add_cluster, add_storage, check, check_packet, data_of, flags_of, free_one, get, is_of_module,
    m_freem, set_flags, type_of,
};
use crate::layout::*;
use crate::pool;
use crate::thread::{kernel, violation};

/// `max_protohdr`: how much `m_pullup` gathers beyond what was asked.
const MAX_PROTOHDR: usize = 60;

/// mbuf(9): trims from the head (positive) or the tail (negative).
///
/// # Safety
/// `mp` is a live chain that the caller owns.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn m_adj(mp: *mut mbuf, req_len: c_int) {
    if mp.is_null() {
        return;
    }
    // SAFETY: as the caller says.
    unsafe {
        check(mp, "m_adj");
        let mut m = mp;
        if req_len >= 0 {
            let mut len = req_len;
            while !m.is_null() && len > 0 {
                let n = len.min((*m).m_len);
                if n == (*m).m_len {
                    // The pointer stays, as in the kernel: an empty mbuf in front.
                    (*m).m_len = 0;
                    m = (*m).m_next;
                } else {
                    (*m).m_len -= n;
                    (*m).m_data = (*m).m_data.add(n as usize);
                }
                len -= n;
            }
            if flags_of(&*mp) & M_PKTHDR != 0 {
                (*mp).len -= req_len - len;
            }
            return;
        }
        let len = req_len.saturating_neg();
        let mut count = (*m).m_len;
        while !(*m).m_next.is_null() {
            m = (*m).m_next;
            count += (*m).m_len;
        }
        if (*m).m_len >= len {
            (*m).m_len -= len;
            if flags_of(&*mp) & M_PKTHDR != 0 {
                (*mp).len -= len;
            }
            return;
        }
        count = (count - len).max(0);
        m = mp;
        if flags_of(&*m) & M_PKTHDR != 0 {
            (*m).len = count;
        }
        while !m.is_null() {
            if (*m).m_len >= count {
                (*m).m_len = count;
                m_freem((*m).m_next);
                (*m).m_next = ptr::null_mut();
                break;
            }
            count -= (*m).m_len;
            m = (*m).m_next;
        }
    }
}

/// mbuf(9): makes the first `len` bytes contiguous; null, and the chain freed, when that fails.
///
/// # Safety
/// `n` is a live chain that the caller owns.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn m_pullup(mut n: *mut mbuf, len: c_int) -> *mut mbuf {
    // SAFETY: as the caller says; all copies are bounded by the room in `m` and the data in `n`.
    unsafe {
        check(n, "m_pullup");
        if flags_of(&*n) & M_EXTPG != 0 {
            violation("mbuf-extpg", format_args!("m_pullup of an unmapped mbuf"));
        }
        let mut len = len.max(0) as usize;
        let m;
        let end = n.cast::<u8>().add(MSIZE);
        if flags_of(&*n) & M_EXT == 0
            && (*n).m_data.addr() + len < end.addr()
            && !(*n).m_next.is_null()
        {
            if (*n).m_len as usize >= len {
                return n;
            }
            m = n;
            n = (*n).m_next;
            len -= (*m).m_len as usize;
        } else {
            if len > MHLEN {
                m_freem(n);
                return ptr::null_mut();
            }
            m = get(type_of(&*n), 0);
            if m.is_null() {
                m_freem(n);
                return ptr::null_mut();
            }
            if flags_of(&*n) & M_PKTHDR != 0 {
                move_pkthdr(m, n);
                (*m).m_data = m.cast::<u8>().add(M_PKTDAT);
            }
        }
        let mut space = m.addr() + MSIZE - ((*m).m_data.addr() + (*m).m_len as usize);
        loop {
            let count = len.max(MAX_PROTOHDR).min(space).min((*n).m_len as usize);
            ptr::copy_nonoverlapping((*n).m_data, (*m).m_data.add((*m).m_len as usize), count);
            len = len.saturating_sub(count);
            space -= count;
            (*m).m_len += count as i32;
            (*n).m_len -= count as i32;
            if (*n).m_len > 0 {
                (*n).m_data = (*n).m_data.add(count);
            } else {
                n = free_one(n);
            }
            if len == 0 || n.is_null() {
                break;
            }
        }
        if len > 0 {
            (*m).m_next = ptr::null_mut();
            free_one(m);
            m_freem(n);
            return ptr::null_mut();
        }
        (*m).m_next = n;
        m
    }
}

/// `m_move_pkthdr`, without touching `m_data`.
unsafe fn move_pkthdr(to: *mut mbuf, from: *mut mbuf) {
    // SAFETY: two live mbufs of the caller's.
    unsafe {
        let flags = flags_of(&*from) & M_COPYFLAGS | flags_of(&*to) & (M_EXT | M_EXTPG);
        set_flags(&mut *to, flags);
        // The 64 bytes of the packet header, whatever is in its unions.
        ptr::copy_nonoverlapping(
            from.cast::<u8>().add(M_DAT),
            to.cast::<u8>().add(M_DAT),
            M_PKTDAT - M_DAT,
        );
        (*from).tags = ptr::null_mut();
        set_flags(&mut *from, flags_of(&*from) & !M_PKTHDR);
    }
}

/// mbuf(9): always a new mbuf of `len` bytes in front. The packet length grows only through the
/// `M_PREPEND` macro.
///
/// # Safety
/// `m` is a live chain that the caller owns.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn m_prepend(m: *mut mbuf, len: c_int, how: c_int) -> *mut mbuf {
    // SAFETY: as the caller says.
    unsafe {
        check(m, "m_prepend");
        if how & M_WAITOK != 0 {
            crate::thread::check_sleep("m_prepend(M_WAITOK)");
        }
        let hdr = flags_of(&*m) & M_PKTHDR;
        let n = get(type_of(&*m), hdr);
        if n.is_null() {
            m_freem(m);
            return n;
        }
        if hdr != 0 {
            move_pkthdr(n, m);
        }
        (*n).m_next = m;
        let size = if hdr != 0 { MHLEN } else { MLEN };
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > size {
            violation(
                "mbuf-prepend",
                format_args!("m_prepend of {len} bytes, {size} fit"),
            );
        }
        // M_ALIGN: at the end of the mbuf, on an 8-byte boundary.
        (*n).m_data = (*n).m_data.add((size - len) & !7);
        (*n).m_len = len as i32;
        n
    }
}

/// mbuf(9): copies out of a chain.
///
/// # Safety
/// `m` is a live chain; `to` has room for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn m_copydata(
    mut m: *const mbuf,
    off: c_int,
    len: c_int,
    mut to: *mut u8,
) {
    if off < 0 || len < 0 {
        violation(
            "mbuf-range",
            format_args!("m_copydata at {off} of {len} bytes"),
        );
    }
    let (mut off, mut len) = (off as usize, len as usize);
    // SAFETY: as the caller says; the copies are bounded by each mbuf's length.
    unsafe {
        while len > 0 {
            if m.is_null() {
                violation(
                    "mbuf-range",
                    format_args!("m_copydata past the end by {len} bytes"),
                );
            }
            check(m, "m_copydata");
            let have = (*m).m_len as usize;
            if off >= have {
                off -= have;
            } else {
                let n = len.min(have - off);
                ptr::copy_nonoverlapping(data_of(m).add(off), to, n);
                to = to.add(n);
                len -= n;
                off = 0;
            }
            m = (*m).m_next;
        }
    }
}

/// mbuf_tags(9): a new tag with `len` bytes after the header; null when memory is short.
pub(crate) fn tag_alloc(cookie: u32, id: u16, len: u16) -> *mut m_tag {
    let k = kernel();
    let t: *mut m_tag = pool::alloc(&k, size_of::<m_tag>() + usize::from(len)).cast();
    if !t.is_null() {
        // SAFETY: fresh memory of that size.
        unsafe {
            t.write(m_tag {
                link: ptr::null_mut(),
                id,
                len,
                cookie,
                free: None,
            })
        };
    }
    t
}

/// mbuf_tags(9): unlinks and frees one tag.
///
/// # Safety
/// `t` is a tag of the live packet `m`.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn m_tag_delete(m: *mut mbuf, t: *mut m_tag) {
    // SAFETY: as the caller says; the list ends in null.
    unsafe {
        let mut at = &raw mut (*m).tags;
        while *at != t {
            if (*at).is_null() {
                violation(
                    "mbuf-tag",
                    format_args!("m_tag_delete of a tag of another packet"),
                );
            }
            at = &raw mut (**at).link;
        }
        *at = (*t).link;
        if let Some(f) = (*t).free {
            f(t);
        } else {
            let len = usize::from((*t).len);
            pool::free(&kernel(), t.cast(), size_of::<m_tag>() + len);
        }
    }
}

/// mbuf(9): a copy of a packet, in clusters of the kernel's; null when memory is short.
///
/// # Safety
/// `m` is a live packet.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn m_dup(m: *const mbuf, how: c_int) -> *mut mbuf {
    // SAFETY: as the caller says; the copies are bounded by each cluster's size.
    unsafe {
        check_packet(m, "m_dup");
        if how & M_WAITOK != 0 {
            crate::thread::check_sleep("m_dup(M_WAITOK)");
        }
        let top = get(type_of(&*m), M_PKTHDR);
        if top.is_null() {
            return top;
        }
        let mut tag = (*m).tags;
        let mut to = &raw mut (*top).tags;
        while !tag.is_null() {
            let copy = tag_alloc((*tag).cookie, (*tag).id, (*tag).len);
            if copy.is_null() {
                m_freem(top);
                return copy.cast();
            }
            let data = usize::from((*tag).len);
            ptr::copy_nonoverlapping(tag.add(1).cast::<u8>(), copy.add(1).cast(), data);
            *to = copy;
            to = &raw mut (*copy).link;
            tag = (*tag).link;
        }
        let tags = (*top).tags;
        let flags = flags_of(&*m) & M_COPYFLAGS & !M_RDONLY;
        set_flags(&mut *top, flags);
        ptr::copy_nonoverlapping(
            m.cast::<u8>().add(M_DAT),
            top.cast::<u8>().add(M_DAT),
            M_PKTDAT - M_DAT,
        );
        (*top).tags = tags;
        let (mut n, mut at, len) = (top, 0, (*m).len as usize);
        while at < len {
            if at > 0 {
                let next = get(type_of(&*m), 0);
                if next.is_null() {
                    m_freem(top);
                    return next;
                }
                (*n).m_next = next;
                n = next;
            }
            if !add_cluster(n, MCLBYTES) {
                m_freem(top);
                return ptr::null_mut();
            }
            let chunk = MCLBYTES.min(len - at);
            m_copydata(m, at as c_int, chunk as c_int, (*n).m_data);
            (*n).m_len = chunk as i32;
            at += chunk;
        }
        top
    }
}

/// `kpi_m_for_stack` of kpi_shim.h.
///
/// # Safety
/// `m` is a live packet that the caller owns.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_m_for_stack(m: *mut mbuf) -> *mut mbuf {
    // SAFETY: as the caller says.
    unsafe {
        if !is_of_module(m) {
            return m;
        }
        let copy = m_dup(m, M_NOWAIT);
        m_freem(m);
        copy
    }
}

/// What frees the storage of [`kpi_m_alloc`] that is no cluster: a function of the module.
unsafe extern "C" fn free_storage(m: *mut mbuf) {
    // SAFETY: made by `kpi_m_alloc`, and the last reference.
    unsafe { hostkern_malloc::kpi_free((*m).ext_arg1) };
}

/// `kpi_m_alloc` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_m_alloc(size: u32) -> *mut mbuf {
    let m = get(MT_DATA, M_PKTHDR);
    // SAFETY: a fresh mbuf.
    unsafe {
        if !m.is_null() && size as usize > MJUM16BYTES {
            let buf = hostkern_malloc::kpi_malloc(size as usize, M_NOWAIT);
            if buf.is_null() {
                free_one(m);
                return ptr::null_mut();
            }
            add_storage(
                m,
                buf.cast(),
                size,
                Some(free_storage),
                buf,
                ptr::null_mut(),
            );
            return m;
        }
        if !m.is_null() && size as usize > MHLEN && !add_cluster(m, size as usize) {
            free_one(m);
            return ptr::null_mut();
        }
    }
    m
}

/// `kpi_m_move_pkthdr` of kpi_shim.h.
///
/// # Safety
/// Both are live mbufs of the caller's; `from` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_m_move_pkthdr(to: *mut mbuf, from: *mut mbuf) {
    // SAFETY: as the caller says.
    unsafe {
        check(to, "m_move_pkthdr");
        check(from, "m_move_pkthdr");
        if flags_of(&*from) & M_PKTHDR == 0 {
            violation(
                "mbuf-pkthdr",
                format_args!("m_move_pkthdr from an mbuf without one"),
            );
        }
        if flags_of(&*to) & M_PKTHDR != 0 {
            while !(*to).tags.is_null() {
                m_tag_delete(to, (*to).tags);
            }
        } else if flags_of(&*to) & M_EXT == 0 {
            violation(
                "mbuf-pkthdr",
                format_args!("m_move_pkthdr would overwrite the data"),
            );
        }
        move_pkthdr(to, from);
        set_flags(&mut *to, flags_of(&*to) & !M_RDONLY);
    }
}

/// `kpi_m_mapped` of kpi_shim.h. `Packet::unmapped` makes such packets.
///
/// # Safety
/// `m` is a live packet that the caller owns.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_m_mapped(m: *mut mbuf) -> *mut mbuf {
    // SAFETY: as the caller says. An "unmapped" mbuf of hostkern is a cluster with the flag on;
    // mapping takes the flag away, and the storage stays read-only as the kernel's does.
    unsafe {
        check_packet(m, "m_mapped");
        let mut n = m;
        let mut any = false;
        while !n.is_null() {
            let f = flags_of(&*n);
            if f & M_EXTPG != 0 {
                any = true;
                (*n).m_data = data_of(n);
                set_flags(&mut *n, f & !M_EXTPG | M_RDONLY);
            }
            n = (*n).m_next;
        }
        // mb_unmapped_to_ext allocates, and so may fail.
        if any && pool::refuse(&kernel()) {
            m_freem(m);
            return ptr::null_mut();
        }
        m
    }
}
