// SPDX-License-Identifier: BSD-2-Clause
//! Where packets leave the driver: netisr(9), bpf(9) and ICMP; and what `if_output`'s route says.

use core::ffi::c_int;
use core::ptr;
use std::sync::atomic::Ordering;

use super::symbols::live;
use super::{Ifnet, RouteArg};
use crate::backend::Family;
use crate::epoch::in_epoch;
use crate::icmp;
use crate::layout::mbuf;
use crate::mbuf::{Packet, check_leaves, check_packet};
use crate::thread::{kernel, violation};
use crate::vnet::IcmpError;

/// Of all errors of this process.
static LIMIT: icmp::Limit = icmp::Limit::new();

/// `kpi_if_input` of kpi_shim.h.
///
/// # Safety
/// `m` is a list of live packets, linked by `m_nextpkt`, that the caller owns.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_if_input(ifp: *mut Ifnet, mut m: *mut mbuf) -> u32 {
    let i = live(ifp, "kpi_if_input");
    if !in_epoch() {
        violation(
            "epoch-required",
            format_args!("netisr_dispatch outside of the net epoch"),
        );
    }
    let up = i.is_up();
    let mut dropped = 0;
    while !m.is_null() {
        // SAFETY: the caller's list; each packet is taken off it before it is given away.
        let p = unsafe {
            check_packet(m, "kpi_if_input");
            check_leaves(m, "netisr_dispatch");
            let next = (*m).m_nextpkt;
            (*m).m_nextpkt = ptr::null_mut();
            if (*m).m_len == 0 {
                violation(
                    "mbuf-first",
                    format_args!("kpi_if_input: first mbuf is empty"),
                );
            }
            (*m).rcvif = ifp.cast();
            (*m).fibnum = i.fib.load(Ordering::Relaxed) as u16;
            let p = Packet::from_raw(m, "kpi_if_input");
            m = next;
            p
        };
        match p.family() {
            Some(f) if up => i.sink(p, f),
            _ => dropped += 1,
        }
    }
    dropped
}

/// `kpi_bpf_tap` of kpi_shim.h.
///
/// # Safety
/// `m` is a live packet.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_bpf_tap(ifp: *mut Ifnet, m: *mut mbuf, af: u32) {
    let i = live(ifp, "bpf_mtap2");
    if !i.tapped.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: as the caller says; the handle is given back and not dropped.
    let bytes = unsafe {
        let p = Packet::from_raw(m, "bpf_mtap2");
        let bytes = p.to_vec();
        let _ = p.into_raw();
        bytes
    };
    if let Some(t) = i.taps.lock().unwrap().as_mut() {
        t.push((af, bytes));
    }
}

/// `kpi_route_get` of kpi_shim.h.
///
/// # Safety
/// `ro` is null or a [`RouteArg`]; `dst` starts a sockaddr; the others have room for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_route_get(
    ro: *const RouteArg,
    dst: *const u8,
    af: *mut u32,
    mtu: *mut u32,
) {
    // SAFETY: as the caller says; byte 1 of a sockaddr is its family.
    unsafe {
        let ro = ro.as_ref().copied().unwrap_or_default();
        *af = if ro.af != 0 {
            ro.af
        } else {
            u32::from(dst.add(1).read())
        };
        *mtu = ro.mtu;
    }
}

/// `kpi_icmp_error` of kpi_shim.h. Consumes the packet.
///
/// # Safety
/// `m` is a live packet that the caller owns.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_icmp_error(
    ifp: *mut Ifnet,
    m: *mut mbuf,
    af: c_int,
    reason: c_int,
    mtu: u32,
) {
    let i = live(ifp, "icmp_error");
    if !in_epoch() {
        violation(
            "epoch-required",
            format_args!("icmp_error outside of the net epoch"),
        );
    }
    // SAFETY: as the caller says. icmp6_error(9) makes the packet part of its answer.
    let p = unsafe {
        check_leaves(m, "icmp_error");
        Packet::from_raw(m, "icmp_error")
    };
    let (version, header) = if af == 2 {
        (Family::V4, 20)
    } else {
        (Family::V6, 40)
    };
    if p.family() != Some(version) || p.segments().next().is_none_or(|s| s.len() < header) {
        violation(
            "icmp-header",
            format_args!("icmp_error: no contiguous header of family {af}"),
        );
    }
    if let Some(tun) = i.tun() {
        // The host's own stack is told as by a router on the way.
        if LIMIT.allow(kernel().uptime_ns())
            && let Some(answer) = icmp::error(&p.to_vec(), reason, mtu)
            && let Some(answer) = Packet::from_slice(&answer)
        {
            tun.write(answer, version);
        }
        return;
    }
    i.vnet().icmp.lock().unwrap().push(IcmpError {
        interface: i.name(),
        received_by: {
            let from = kernel()
                .interfaces
                .by_pointer(core::ptr::without_provenance(p.rcvif()));
            from.map(|i| i.name())
        },
        reason,
        mtu,
        packet: p.to_vec(),
    });
}
