// SPDX-License-Identifier: BSD-2-Clause
//! The functions of `shim/kpi_shim.h`, which has their contracts.
#![allow(missing_docs)] // One place for the words: the C header.

use core::ffi::{c_char, c_int, c_void};

use crate::opaque::*;
use crate::{callout, mbuf, mtx, rwlock, sockaddr, sx};

/// The tunnel callback of a UDP socket.
pub type kpi_udp_input_t = Option<
    unsafe extern "C" fn(*mut mbuf, c_int, *mut inpcb, *const sockaddr, *mut c_void) -> bool,
>;
/// Reads (`write` 0) or sets (1) a number of sysctl(8).
pub type kpi_sysctl_u64_t = Option<unsafe extern "C" fn(*mut c_void, *mut u64, c_int) -> c_int>;
/// Writes a text for sysctl(8).
pub type kpi_sysctl_str_t = Option<unsafe extern "C" fn(*mut c_void, *mut c_char, usize) -> usize>;
/// A callout's handler.
pub type kpi_callout_fn_t = Option<unsafe extern "C" fn(*mut c_void)>;

/// Reason of [`kpi_icmp_error`]: host unreachable.
pub const KPI_ICMP_HOST_UNREACH: c_int = 0;
/// Reason of [`kpi_icmp_error`]: packet too big.
pub const KPI_ICMP_TOO_BIG: c_int = 1;
/// Reason of [`kpi_icmp_error`]: no route.
pub const KPI_ICMP_NO_ROUTE: c_int = 2;

kernel_functions! {
    pub fn kpi_malloc(size: usize, flags: c_int) -> *mut c_void;
    pub fn kpi_free(p: *mut c_void);
    pub fn kpi_malloc_live() -> u64;

    pub fn kpi_module_slot() -> *mut *mut c_void;
    pub fn kpi_taskqgroup(slow: bool) -> *mut taskqgroup;
    pub fn kpi_slow_thread();
    pub fn kpi_ncpus() -> c_int;
    pub fn kpi_curcpu() -> c_int;
    pub fn kpi_stack_is_shallow() -> bool;

    pub fn kpi_mtx_init(m: *mut mtx, name: *const c_char);
    pub fn kpi_mtx_destroy(m: *mut mtx);
    pub fn kpi_mtx_lock(m: *mut mtx);
    pub fn kpi_mtx_trylock(m: *mut mtx) -> c_int;
    pub fn kpi_mtx_unlock(m: *mut mtx);
    pub fn kpi_rw_init(rw: *mut rwlock, name: *const c_char);
    pub fn kpi_rw_destroy(rw: *mut rwlock);
    pub fn kpi_rw_rlock(rw: *mut rwlock);
    pub fn kpi_rw_runlock(rw: *mut rwlock);
    pub fn kpi_rw_wlock(rw: *mut rwlock);
    pub fn kpi_rw_wunlock(rw: *mut rwlock);
    pub fn kpi_sx_init(sx: *mut sx, name: *const c_char);
    pub fn kpi_sx_destroy(sx: *mut sx);
    pub fn kpi_sx_slock(sx: *mut sx);
    pub fn kpi_sx_sunlock(sx: *mut sx);
    pub fn kpi_sx_xlock(sx: *mut sx);
    pub fn kpi_sx_try_xlock(sx: *mut sx) -> c_int;
    pub fn kpi_sx_xunlock(sx: *mut sx);

    pub fn kpi_uptime_ns() -> u64;
    pub fn kpi_uptime_coarse_ns() -> u64;
    pub fn kpi_realtime(secs: *mut u64, nanos: *mut u32);
    pub fn kpi_random(buf: *mut c_void, len: usize);
    pub fn kpi_log(msg: *const c_char, len: usize);
    pub fn kpi_log_if(ifp: *mut ifnet, msg: *const c_char, len: usize);
    pub fn kpi_panic(msg: *const c_char) -> !;
    pub fn kpi_fpu_enter();
    pub fn kpi_fpu_leave();
    pub fn kpi_fpu_held() -> bool;
    pub fn wg_vector_seal(key: *const [u8; 32], counter: u64, buf: *mut u8, len: usize) -> c_int;
    pub fn wg_vector_wipe();
    pub fn wg_vector_open(key: *const [u8; 32], counter: u64, buf: *mut u8, len: usize) -> c_int;

    pub fn kpi_ocf_pin(driver: u32, name: *mut c_char, len: usize) -> *mut _device;
    pub fn kpi_ocf_unpin(device: *mut _device);
    pub fn kpi_ocf_wait(done: *const u32);

    pub fn kpi_priv_check(privilege: c_int) -> c_int;
    pub fn kpi_cred_current() -> *mut ucred;
    pub fn kpi_cred_in_prison(cred: *const ucred, pr: *const prison) -> bool;
    pub fn kpi_cred_is_here() -> bool;
    pub fn kpi_cred_alive(cred: *const ucred) -> bool;
    pub fn kpi_cred_governed(cred: *const ucred) -> bool;
    pub fn kpi_vnet_current() -> *const vnet;
    pub fn kpi_current_fib() -> u32;
    pub fn kpi_num_fibs() -> u32;
    pub fn kpi_copyin(uaddr: *const c_void, kaddr: *mut c_void, len: usize) -> c_int;
    pub fn kpi_copyout(kaddr: *const c_void, uaddr: *mut c_void, len: usize) -> c_int;

    pub fn kpi_callout_init(c: *mut callout);
    pub fn kpi_callout_reset_at(
        c: *mut callout,
        uptime_ns: u64,
        f: kpi_callout_fn_t,
        arg: *mut c_void,
    );
    pub fn kpi_callout_stop(c: *mut callout);
    pub fn kpi_callout_drain(c: *mut callout);

    pub fn kpi_m_alloc(size: u32) -> *mut mbuf;
    pub fn kpi_m_move_pkthdr(to: *mut mbuf, from: *mut mbuf);
    pub fn kpi_m_for_stack(m: *mut mbuf) -> *mut mbuf;
    pub fn kpi_m_mapped(m: *mut mbuf) -> *mut mbuf;

    pub fn kpi_if_name(ifp: *mut ifnet, buf: *mut c_char, len: usize);
    pub fn kpi_if_purgeaddrs(ifp: *mut ifnet);
    pub fn kpi_if_nd6_setup(ifp: *mut ifnet);
    pub fn kpi_if_input(ifp: *mut ifnet, m: *mut mbuf) -> u32;
    pub fn kpi_bpf_tap(ifp: *mut ifnet, m: *mut mbuf, af: u32);
    pub fn kpi_route_get(ro: *const route, dst: *const sockaddr, af: *mut u32, mtu: *mut u32);
    pub fn kpi_icmp_error(ifp: *mut ifnet, m: *mut mbuf, af: c_int, reason: c_int, mtu: u32);

    pub fn kpi_udp_open(
        af: c_int,
        port: u16,
        fib: u32,
        user_cookie: u32,
        cred: *mut ucred,
        f: kpi_udp_input_t,
        ctx: *mut c_void,
        sop: *mut *mut socket,
        bound_port: *mut u16,
    ) -> c_int;
    pub fn kpi_udp_set_fib(so: *mut socket, fib: u32) -> c_int;
    pub fn kpi_udp_set_user_cookie(so: *mut socket, cookie: u32) -> c_int;
    pub fn kpi_udp_send(
        so: *mut socket,
        m: *mut mbuf,
        dst: *const sockaddr,
        src: *const sockaddr,
    ) -> c_int;
    pub fn kpi_udp_close(so: *mut socket);

    pub fn kpi_tunable(name: *const c_char, buf: *mut c_char, len: usize) -> usize;
    pub fn kpi_sysctl_new(name: *const c_char, descr: *const c_char) -> *mut kpi_sysctl;
    pub fn kpi_sysctl_add_u64(
        ctx: *mut kpi_sysctl,
        name: *const c_char,
        descr: *const c_char,
        writable: c_int,
        f: kpi_sysctl_u64_t,
        arg: *mut c_void,
    ) -> c_int;
    pub fn kpi_sysctl_add_str(
        ctx: *mut kpi_sysctl,
        name: *const c_char,
        descr: *const c_char,
        f: kpi_sysctl_str_t,
        arg: *mut c_void,
    ) -> c_int;
    pub fn kpi_sysctl_free(ctx: *mut kpi_sysctl);
}
