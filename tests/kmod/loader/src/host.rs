// SPDX-License-Identifier: BSD-2-Clause
//! Addresses of what `hostkern` defines.

use std::collections::HashMap;

macro_rules! functions {
    ($($name:ident)*) => {
        // Only the addresses are taken; the real types are in freebsd-kernel-sys.
        mod names {
            unsafe extern "C" { $(pub(super) fn $name();)* }
        }

        /// Every function, by name.
        pub(crate) fn functions() -> HashMap<&'static str, usize> {
            HashMap::from([$((stringify!($name), names::$name as *const () as usize),)*])
        }
    };
}

// What sys/kpi/sys/src/native.rs and shim.rs declare, and what compilers call by themselves.
functions! {
    _epoch_enter_preempt
    _epoch_exit_preempt
    bpfattach
    bpfdetach
    crfree
    crhold
    epoch_call
    epoch_drain_callbacks
    epoch_wait_preempt
    grouptask_block
    grouptaskqueue_enqueue
    if_alloc
    if_attach
    if_detach
    if_free
    if_getcapenable
    if_getdrvflags
    if_getfib
    if_getflags
    if_getmtu
    if_getsoftc
    if_inc_counter
    if_initname
    if_input
    if_link_state_change
    if_ref
    if_rele
    if_setcapabilities
    if_setcapenable
    if_setdrvflagbits
    if_setflags
    if_setinitfn
    if_setinputfn
    if_setioctlfn
    if_setmtu
    if_setoutputfn
    if_setqflushfn
    if_setreassignfn
    if_setsoftc
    if_settransmitfn
    if_transmit
    if_tunnel_check_nesting
    kpi_bpf_tap
    kpi_callout_drain
    kpi_callout_init
    kpi_callout_reset_at
    kpi_callout_stop
    kpi_copyin
    kpi_copyout
    kpi_cred_current
    kpi_cred_in_prison
    kpi_current_fib
    kpi_fpu_enter
    kpi_fpu_held
    kpi_fpu_leave
    kpi_free
    kpi_icmp_error
    kpi_if_input
    kpi_if_name
    kpi_if_nd6_setup
    kpi_if_purgeaddrs
    kpi_log
    kpi_log_if
    kpi_m_alloc
    kpi_m_mapped
    kpi_m_move_pkthdr
    kpi_malloc
    kpi_module_slot
    kpi_mtx_destroy
    kpi_mtx_init
    kpi_mtx_lock
    kpi_mtx_trylock
    kpi_mtx_unlock
    kpi_ncpus
    kpi_num_fibs
    kpi_panic
    kpi_priv_check
    kpi_random
    kpi_realtime
    kpi_route_get
    kpi_rw_destroy
    kpi_rw_init
    kpi_rw_rlock
    kpi_rw_runlock
    kpi_rw_wlock
    kpi_rw_wunlock
    kpi_sx_destroy
    kpi_sx_init
    kpi_sx_slock
    kpi_sx_sunlock
    kpi_sx_xlock
    kpi_sx_xunlock
    kpi_sysctl_add_str
    kpi_sysctl_add_u64
    kpi_sysctl_free
    kpi_sysctl_new
    kpi_taskqgroup
    kpi_tunable
    kpi_udp_close
    kpi_udp_open
    kpi_udp_send
    kpi_udp_set_fib
    kpi_udp_set_user_cookie
    kpi_uptime_ns
    m_adj
    m_copydata
    m_freem
    m_prepend
    m_pullup
    m_tag_delete
    taskqgroup_attach
    taskqgroup_attach_cpu
    taskqgroup_detach
    memcmp
    memcpy
    memmove
    memset
}

/// Variables: their names and present values.
pub(crate) fn variables() -> HashMap<&'static str, usize> {
    unsafe extern "C" {
        static net_epoch_preempt: usize;
    }
    // SAFETY: `hostkern` defines it, a pointer that never changes.
    HashMap::from([("net_epoch_preempt", unsafe { net_epoch_preempt })])
}
