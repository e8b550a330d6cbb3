// SPDX-License-Identifier: BSD-2-Clause
//! hostkern's structures and functions have the shapes that the FreeBSD headers and `kpi_shim.h`
//! give them.

use std::mem::{offset_of, size_of};

use freebsd_kernel_sys as sys;
use hostkern as hk;
use hostkern::layout as l;

macro_rules! shapes {
    ($($fun:ident $($a:ident)*;)*) => {$(
        /// Sizes of result and arguments.
        fn $fun<R, $($a),*>(_: unsafe extern "C-unwind" fn($($a),*) -> R) -> Vec<usize> {
            vec![size_of::<R>() $(, size_of::<$a>())*]
        }
    )*};
}
shapes! {
    c0;
    c1 A;
    c2 A B;
    c3 A B C;
    c4 A B C D;
    c5 A B C D E;
    c6 A B C D E F;
    c7 A B C D E F G;
    c9 A B C D E F G H I;
}

macro_rules! same {
    ($($c:ident $module:ident: $($name:ident)*;)*) => {$($(
        assert_eq!($c(sys::$name), $c(hk::$module::$name), stringify!($name));
    )*)*};
}

#[test]
fn functions() {
    same! {
        c1 mbuf: m_freem kpi_m_alloc kpi_m_for_stack kpi_m_mapped;
        c2 mbuf: m_adj m_pullup m_tag_delete kpi_m_move_pkthdr;
        c3 mbuf: m_prepend;
        c4 mbuf: m_copydata;
        c1 ifnet: if_alloc if_free if_attach if_detach if_ref if_rele if_getsoftc if_getflags
            if_getdrvflags if_getcapenable if_getmtu if_getfib bpfdetach kpi_if_purgeaddrs
            kpi_if_nd6_setup;
        c2 ifnet: if_setsoftc if_setflags if_setcapenable if_setcapabilities if_setmtu
            if_link_state_change if_transmit if_setinitfn if_setioctlfn if_setoutputfn
            if_settransmitfn if_setinputfn if_setqflushfn if_setreassignfn kpi_if_input;
        c3 ifnet: if_initname if_setdrvflagbits if_inc_counter bpfattach kpi_if_name kpi_bpf_tap;
        c4 ifnet: if_tunnel_check_nesting kpi_route_get;
        c5 ifnet: kpi_icmp_error;
        c1 epoch: epoch_wait_preempt epoch_drain_callbacks;
        c2 epoch: _epoch_enter_preempt _epoch_exit_preempt;
        c3 epoch: epoch_call;
        c0 task: kpi_slow_thread;
        c1 task: kpi_taskqgroup grouptask_block;
        c2 task: taskqgroup_detach grouptaskqueue_enqueue;
        c6 task: taskqgroup_attach;
        c7 task: taskqgroup_attach_cpu;
        c1 lock: kpi_mtx_destroy kpi_mtx_lock kpi_mtx_trylock kpi_mtx_unlock kpi_rw_destroy
            kpi_rw_rlock kpi_rw_runlock kpi_rw_wlock kpi_rw_wunlock kpi_sx_destroy kpi_sx_slock
            kpi_sx_sunlock kpi_sx_xlock kpi_sx_try_xlock kpi_sx_xunlock;
        c2 lock: kpi_mtx_init kpi_rw_init kpi_sx_init;
        c1 callout: kpi_callout_init kpi_callout_stop kpi_callout_drain;
        c4 callout: kpi_callout_reset_at;
        c0 misc: kpi_uptime_ns kpi_uptime_coarse_ns kpi_fpu_enter kpi_fpu_leave;
        c1 misc: kpi_sysctl_free;
        c3 misc: kpi_tunable;
        c1 ocf: crypto_freesession crypto_ses2caps crypto_ses2hid crypto_destroyreq crypto_dispatch
            kpi_ocf_unpin kpi_ocf_wait;
        c2 ocf: crypto_initreq;
        c3 ocf: crypto_newsession kpi_ocf_pin;
        c2 misc: kpi_realtime kpi_random kpi_log kpi_sysctl_new;
        c3 misc: kpi_log_if;
        c5 misc: kpi_sysctl_add_str;
        c6 misc: kpi_sysctl_add_u64;
        c9 socket: kpi_udp_open;
        c2 socket: kpi_udp_set_fib kpi_udp_set_user_cookie;
        c4 socket: kpi_udp_send;
        c1 socket: kpi_udp_close;
    }
    assert_eq!(c1(sys::crhold), c1(hk::crhold));
    assert_eq!(c1(sys::crfree), c1(hk::crfree));
    assert_eq!(c1(sys::kpi_priv_check), c1(hk::kpi_priv_check));
    assert_eq!(c0(sys::kpi_cred_current), c0(hk::kpi_cred_current));
    assert_eq!(c2(sys::kpi_cred_in_prison), c2(hk::kpi_cred_in_prison));
    assert_eq!(c1(sys::kpi_cred_alive), c1(hk::kpi_cred_alive));
    assert_eq!(c1(sys::kpi_cred_governed), c1(hk::kpi_cred_governed));
    assert_eq!(c0(sys::kpi_vnet_current), c0(hk::kpi_vnet_current));
    assert_eq!(c0(sys::kpi_cred_is_here), c0(hk::kpi_cred_is_here));
    assert_eq!(c0(sys::kpi_current_fib), c0(hk::kpi_current_fib));
    assert_eq!(c0(sys::kpi_malloc_live), c0(hk::kpi_malloc_live));
    assert_eq!(c3(sys::kpi_copyin), c3(hk::kpi_copyin));
    assert_eq!(c3(sys::kpi_copyout), c3(hk::kpi_copyout));
}

#[test]
fn structures() {
    assert_eq!(size_of::<sys::cryptop>(), size_of::<l::cryptop>());
    assert_eq!(
        size_of::<sys::crypto_session_params>(),
        size_of::<l::crypto_session_params>()
    );
    assert_eq!(
        size_of::<sys::crypto_buffer>(),
        size_of::<l::crypto_buffer>()
    );
    macro_rules! fields {
        ($t:ident: $($f:ident)*) => {$(
            assert_eq!(offset_of!(sys::$t, $f), offset_of!(l::$t, $f), stringify!($f));
        )*};
    }
    fields! { crypto_session_params: csp_mode csp_flags csp_ivlen csp_cipher_alg csp_cipher_klen
    csp_cipher_key csp_auth_alg csp_auth_klen csp_auth_key csp_auth_mlen }
    fields! { crypto_buffer: cb_type }
    fields! { cryptop: crp_session crp_etype crp_flags crp_op crp_buf crp_obuf crp_aad crp_aad_start
    crp_aad_length crp_payload_start crp_payload_length crp_digest_start crp_iv crp_cipher_key
    crp_opaque crp_callback }

    assert_eq!(size_of::<sys::mbuf>(), size_of::<l::mbuf>());
    assert_eq!(size_of::<sys::m_tag>(), size_of::<l::m_tag>());
    assert_eq!(size_of::<sys::callout>(), size_of::<l::callout>());
    assert_eq!(size_of::<sys::mtx>(), size_of::<l::lock>());
    assert_eq!(size_of::<sys::rwlock>(), size_of::<l::lock>());
    assert_eq!(size_of::<sys::sx>(), size_of::<l::lock>());
    assert_eq!(size_of::<sys::gtask>(), size_of::<l::gtask>());
    assert_eq!(size_of::<sys::grouptask>(), size_of::<l::grouptask>());
    assert_eq!(
        size_of::<sys::epoch_tracker>(),
        size_of::<l::epoch_tracker>()
    );
    assert_eq!(
        size_of::<sys::epoch_context>(),
        size_of::<l::epoch_context>()
    );

    assert_eq!(offset_of!(sys::mbuf, m_data), offset_of!(l::mbuf, m_data));
    assert_eq!(offset_of!(sys::mbuf, m_len), offset_of!(l::mbuf, m_len));
    assert_eq!(
        offset_of!(sys::mbuf, _bitfield_1),
        offset_of!(l::mbuf, m_tf)
    );
    let hdr = offset_of!(sys::mbuf, __bindgen_anon_3);
    assert_eq!(hdr, l::M_DAT);
    assert_eq!(
        hdr + offset_of!(sys::pkthdr, tags),
        offset_of!(l::mbuf, tags)
    );
    assert_eq!(hdr + offset_of!(sys::pkthdr, len), offset_of!(l::mbuf, len));
    assert_eq!(
        hdr + offset_of!(sys::pkthdr, flowid),
        offset_of!(l::mbuf, flowid)
    );
    assert_eq!(
        hdr + offset_of!(sys::pkthdr, csum_flags),
        offset_of!(l::mbuf, csum_flags)
    );
    assert_eq!(
        hdr + offset_of!(sys::pkthdr, fibnum),
        offset_of!(l::mbuf, fibnum)
    );
    assert_eq!(
        hdr + offset_of!(sys::pkthdr, rsstype),
        offset_of!(l::mbuf, rsstype)
    );
    let ext = hdr + size_of::<sys::pkthdr>();
    assert_eq!(ext, l::M_PKTDAT);
    assert_eq!(
        ext + offset_of!(sys::m_ext, ext_size),
        offset_of!(l::mbuf, ext_size)
    );
    assert_eq!(
        ext + offset_of!(sys::m_ext, _bitfield_1),
        offset_of!(l::mbuf, ext_tf)
    );
    assert_eq!(
        ext + offset_of!(sys::m_ext, ext_free),
        offset_of!(l::mbuf, ext_free)
    );
    assert_eq!(
        ext + offset_of!(sys::m_ext, ext_arg1),
        offset_of!(l::mbuf, ext_arg1)
    );
    assert_eq!(
        offset_of!(sys::callout, c_arg),
        offset_of!(l::callout, c_arg)
    );
    assert_eq!(
        offset_of!(sys::callout, c_iflags),
        offset_of!(l::callout, c_iflags)
    );
    assert_eq!(
        offset_of!(sys::gtask, ta_flags),
        offset_of!(l::gtask, ta_flags)
    );
    assert_eq!(
        offset_of!(sys::gtask, ta_func),
        offset_of!(l::gtask, ta_func)
    );
    assert_eq!(
        offset_of!(sys::gtask, ta_context),
        offset_of!(l::gtask, ta_context)
    );
    assert_eq!(
        offset_of!(sys::grouptask, gt_taskqueue),
        offset_of!(l::grouptask, gt_taskqueue)
    );
    assert_eq!(
        offset_of!(sys::grouptask, gt_name),
        offset_of!(l::grouptask, gt_name)
    );
    assert_eq!(
        offset_of!(sys::grouptask, gt_cpu),
        offset_of!(l::grouptask, gt_cpu)
    );
}
