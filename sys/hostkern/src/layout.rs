// SPDX-License-Identifier: BSD-2-Clause
//! Layouts of the kernel structures that hostkern itself reads and writes (LP64).
//!
//! They are flat restatements of what bindgen makes of the FreeBSD headers: bindgen's anonymous
//! unions and bit-fields are awkward to use through raw pointers. `tests/abi.rs` compares sizes and
//! offsets with `freebsd-kernel-sys`.
#![allow(non_camel_case_types, missing_docs)]

use core::ffi::{c_char, c_int, c_void};
use core::mem::offset_of;

/// `struct mbuf`, flat. `m_tf` holds `m_type` in its low 8 bits and `m_flags` above them.
#[repr(C, align(8))]
pub struct mbuf {
    pub m_next: *mut mbuf,
    pub m_nextpkt: *mut mbuf,
    pub m_data: *mut u8,
    pub m_len: i32,
    pub m_tf: u32,
    // struct pkthdr, valid with M_PKTHDR
    pub rcvif: *mut c_void,
    pub leaf_rcvif: *mut c_void,
    pub tags: *mut m_tag,
    pub len: i32,
    pub flowid: u32,
    pub csum_flags: u32,
    pub fibnum: u16,
    pub numa_domain: u8,
    pub rsstype: u8,
    pub rcv_tstmp: u64,
    pub ph_per0: u32,
    pub csum_data: u32,
    pub ph_loc: u64,
    // struct m_ext, valid with M_EXT
    /// The count itself with `EXT_FLAG_EMBREF`, else a pointer to it.
    pub ext_cnt: usize,
    pub ext_size: u32,
    pub ext_tf: u32,
    pub ext_buf: *mut u8,
    pub ext_arg2: *mut c_void,
    pub ext_pages: [u8; 112],
    pub ext_free: Option<unsafe extern "C" fn(*mut mbuf)>,
    pub ext_arg1: *mut c_void,
}

pub const MSIZE: usize = 256;
/// Where `m_dat` begins (no packet header).
pub const M_DAT: usize = 32;
/// Where `m_pktdat` begins.
pub const M_PKTDAT: usize = 96;
pub const MLEN: usize = MSIZE - M_DAT;
pub const MHLEN: usize = MSIZE - M_PKTDAT;
pub const MCLBYTES: usize = 2048;
pub const MJUMPAGESIZE: usize = 4096;
pub const MJUM9BYTES: usize = 9216;
pub const MJUM16BYTES: usize = 16384;

pub const M_EXT: u32 = 1;
pub const M_PKTHDR: u32 = 2;
pub const M_RDONLY: u32 = 8;
pub const M_EXTPG: u32 = 0x100;
pub const M_NOFREE: u32 = 0x200;
pub const M_BCAST: u32 = 0x10;
pub const M_MCAST: u32 = 0x20;
/// `M_COPYFLAGS`: what `m_move_pkthdr` and friends carry over.
pub const M_COPYFLAGS: u32 = 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x80 | 0x1c00 | 0x00ff_e000;
pub const MT_NOTMBUF: u32 = 0;
pub const MT_DATA: u32 = 1;
pub const MT_CONTROL: u32 = 14;

pub const EXT_CLUSTER: u32 = 1;
pub const EXT_JUMBOP: u32 = 3;
pub const EXT_JUMBO9: u32 = 4;
pub const EXT_JUMBO16: u32 = 5;
pub const EXT_FLAG_EMBREF: u32 = 1;

pub const M_NOWAIT: c_int = 1;
pub const M_WAITOK: c_int = 2;
pub const M_ZERO: c_int = 0x100;

/// `struct m_tag`.
#[repr(C)]
pub struct m_tag {
    pub link: *mut m_tag,
    pub id: u16,
    pub len: u16,
    pub cookie: u32,
    pub free: Option<unsafe extern "C" fn(*mut m_tag)>,
}

/// `struct lock_object` and the lock word behind it: `struct mtx`, `struct rwlock` and `struct sx`
/// have this shape.
#[repr(C)]
pub struct lock {
    pub lo_name: *const c_char,
    pub lo_flags: u32,
    /// Recursion count.
    pub lo_data: u32,
    /// hostkern: witness class number plus one, not a pointer.
    pub lo_witness: usize,
    pub word: usize,
}

/// `struct epoch_tracker` is 32 bytes; what is in it is hostkern's affair.
#[repr(C)]
pub struct epoch_tracker {
    pub magic: usize,
    pub frame: u64,
    pub prev: *mut epoch_tracker,
    pub start: u64,
}

/// `struct epoch_context`, 16 bytes: room for a link and the callback.
#[repr(C)]
pub struct epoch_context {
    pub data: [*mut c_void; 2],
}

/// `struct callout`.
#[repr(C)]
pub struct callout {
    pub c_links: [*mut c_void; 2],
    pub c_time: i64,
    pub c_precision: i64,
    pub c_arg: *mut c_void,
    pub c_func: Option<unsafe extern "C-unwind" fn(*mut c_void)>,
    pub c_lock: *mut lock,
    pub c_flags: i16,
    pub c_iflags: i16,
    pub c_cpu: c_int,
}

/// `struct gtask`.
#[repr(C)]
pub struct gtask {
    pub ta_link: *mut gtask,
    pub ta_flags: u16,
    pub ta_priority: u16,
    pub ta_func: Option<unsafe extern "C-unwind" fn(*mut c_void)>,
    pub ta_context: *mut c_void,
}

/// `struct grouptask`.
#[repr(C)]
pub struct grouptask {
    pub gt_task: gtask,
    pub gt_taskqueue: *mut c_void,
    pub gt_list: [*mut c_void; 2],
    pub gt_uniq: *mut c_void,
    pub gt_name: [c_char; 32],
    pub gt_dev: *mut c_void,
    pub gt_irq: *mut c_void,
    pub gt_cpu: c_int,
}

/// `struct crypto_session_params`.
#[repr(C)]
pub struct crypto_session_params {
    pub csp_mode: c_int,
    pub csp_flags: c_int,
    pub csp_ivlen: c_int,
    pub csp_cipher_alg: c_int,
    pub csp_cipher_klen: c_int,
    pub csp_cipher_key: *const c_void,
    pub csp_auth_alg: c_int,
    pub csp_auth_klen: c_int,
    pub csp_auth_key: *const c_void,
    pub csp_auth_mlen: c_int,
}

/// `struct crypto_buffer`, of the kind `CRYPTO_BUF_CONTIG`.
#[repr(C)]
pub struct crypto_buffer {
    pub cb_buf: *mut c_char,
    pub cb_buf_len: c_int,
    /// Of another kind.
    pub cb_vm_page_offset: c_int,
    pub cb_type: c_int,
}

/// `struct cryptop`.
#[repr(C)]
pub struct cryptop {
    pub crp_next: [*mut c_void; 2],
    pub crp_task: [*mut c_void; 4],
    pub crp_session: *mut c_void,
    pub crp_olen: c_int,
    pub crp_etype: c_int,
    pub crp_flags: c_int,
    pub crp_op: c_int,
    pub crp_buf: crypto_buffer,
    pub crp_obuf: crypto_buffer,
    pub crp_aad: *mut c_void,
    pub crp_aad_start: c_int,
    pub crp_aad_length: c_int,
    pub crp_esn: [u8; 4],
    pub crp_iv_start: c_int,
    pub crp_payload_start: c_int,
    pub crp_payload_output_start: c_int,
    pub crp_payload_length: c_int,
    pub crp_digest_start: c_int,
    pub crp_iv: [u8; 64],
    pub crp_cipher_key: *const c_void,
    pub crp_auth_key: *const c_void,
    pub crp_opaque: *mut c_void,
    pub crp_callback: Option<unsafe extern "C" fn(*mut cryptop) -> c_int>,
    pub crp_tstamp: [u64; 2],
    pub crp_seq: u32,
    pub crp_retw_id: u32,
}

const _: () = {
    assert!(size_of::<mbuf>() == MSIZE);
    assert!(offset_of!(mbuf, rcvif) == 32);
    assert!(offset_of!(mbuf, tags) == 48);
    assert!(offset_of!(mbuf, len) == 56);
    assert!(offset_of!(mbuf, csum_flags) == 64);
    assert!(offset_of!(mbuf, fibnum) == 68);
    assert!(offset_of!(mbuf, rsstype) == 71);
    assert!(offset_of!(mbuf, ext_cnt) == M_PKTDAT);
    assert!(offset_of!(mbuf, ext_free) == 240);
    assert!(size_of::<m_tag>() == 24);
    assert!(size_of::<lock>() == 32);
    assert!(offset_of!(lock, word) == 24);
    assert!(size_of::<epoch_tracker>() == 32);
    assert!(size_of::<epoch_context>() == 16);
    assert!(size_of::<callout>() == 64);
    assert!(offset_of!(callout, c_iflags) == 58);
    assert!(size_of::<gtask>() == 32);
    assert!(size_of::<grouptask>() == 120);
    assert!(offset_of!(grouptask, gt_taskqueue) == 32);
};
