// SPDX-License-Identifier: BSD-2-Clause
//! Layouts that the rest of the code, the simulated kernel and the shims rely on, checked at
//! compile time against the numbers of a FreeBSD 14.2 kernel. `shim/layout.c` makes the same checks
//! with the module's own compiler.

use core::mem::{offset_of, size_of};

use crate::*;

macro_rules! sizes {
    ($($t:ty = $n:literal)*) => {$( const _: () = assert!(size_of::<$t>() == $n); )*};
}

sizes! {
    mbuf = 256
    pkthdr = 64
    m_tag = 24
    callout = 64
    mtx = 32
    rwlock = 32
    sx = 32
    gtask = 32
    grouptask = 120
    epoch_context = 16
    epoch_tracker = 32
    ifreq = 32
    sockaddr = 16
    sockaddr_in = 16
    sockaddr_in6 = 28
    cryptop = 280
    crypto_session_params = 56
}

const _: () = assert!(offset_of!(mbuf, m_data) == 16);
const _: () = assert!(offset_of!(mbuf, m_len) == 24);
const _: () = assert!(offset_of!(mbuf, _bitfield_1) == 28);
const _: () = assert!(offset_of!(mbuf, __bindgen_anon_3) == 32);
const _: () = assert!(offset_of!(pkthdr, tags) == 16);
const _: () = assert!(offset_of!(pkthdr, len) == 24);
const _: () = assert!(offset_of!(pkthdr, csum_flags) == 32);
const _: () = assert!(offset_of!(pkthdr, fibnum) == 36);
const _: () = assert!(offset_of!(pkthdr, rsstype) == 39);
const _: () = assert!(offset_of!(grouptask, gt_taskqueue) == 32);
const _: () = assert!(offset_of!(cryptop, crp_etype) == 60);
const _: () = assert!(offset_of!(cryptop, crp_flags) == 64);
const _: () = assert!(offset_of!(cryptop, crp_iv) == 160);
const _: () = assert!(KPI_MLEN == 224 && KPI_MHLEN == 160);

const _: () = assert!(KPI_M_PKTHDR == 2 && KPI_IFF_DRV_RUNNING == 0x40);
const _: () = assert!(KPI_IFCAP_LINKSTATE == 0x80000 && KPI_IFCAP_NETMAP == 0x100000);
const _: () = assert!(KPI_IFT_WIREGUARD == 248 && KPI_PACKET_TAG_MACLABEL == 2067);
const _: () = assert!(CRYPTO_CHACHA20_POLY1305 == 41 && CSP_MODE_AEAD == 4);
const _: () = assert!(CRYPTO_F_CBIMM | CRYPTO_F_IV_SEPARATE == 0x210);
const _: () = assert!(CRYPTO_FLAG_SOFTWARE == 0x200_0000 && CRYPTOCAP_F_SYNC == 0x400_0000);
const _: () = assert!(PRIV_NET_WG == 424 && PRIV_NET_SETIFFIB == 419);
const _: () = assert!(KPI_SIOCSIFMTU == 0x8020_6934 && KPI_SIOCSIFFLAGS == 0x8020_6910);
const _: () = assert!(KPI_SIOCGTUNFIB == 0xc020_695e && KPI_SIOCSTUNFIB == 0x8020_695f);
