// SPDX-License-Identifier: BSD-2-Clause
//! Interfaces, packets up, ICMP errors.

use core::cell::Cell;
use core::ffi::{c_char, c_int, c_uint, c_void};
use core::ptr;
use std::cell::RefCell;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use freebsd_kernel_sys::offsets as off;

use super::{get, put, thread};
use crate::ifnet::{Ifnet, RouteArg, kpi_bpf_tap, kpi_icmp_error, kpi_if_input, kpi_if_purgeaddrs};
use crate::layout::mbuf;
use crate::thread::violation;

const AF_INET: c_int = 2;
const AF_INET6: c_int = 28;
const IFNAMSIZ: usize = 16;
/// Reasons of `kpi_icmp_error`.
const HOST_UNREACH: c_int = 0;
const TOO_BIG: c_int = 1;
const NO_ROUTE: c_int = 2;

/// `struct in6_ifextra` and `struct nd_ifinfo` of an interface.
#[repr(C, align(8))]
struct Nd {
    extra: [u8; off::KPI_LEN_IN6_IFEXTRA as usize],
    info: [u8; off::KPI_LEN_ND_IFINFO as usize],
}

/// What an interface has for the shims.
#[derive(Default)]
pub struct IfNative {
    nd: OnceLock<Box<Nd>>,
}

impl IfNative {
    /// Whether somebody has switched link-local addresses and duplicate address detection off.
    pub(crate) fn is_quiet(&self) -> bool {
        self.nd.get().is_some_and(|nd| {
            // SAFETY: a field.
            let flags: u32 = unsafe { get((&raw const nd.info).cast(), off::KPI_OFF_ND_FLAGS) };
            flags & off::KPI_ND6_NO_DAD != 0 && flags & off::KPI_ND6_AUTO_LINKLOCAL == 0
        })
    }
}

/// `struct route` as the shim reads it.
#[repr(C, align(8))]
pub struct NativeRoute([u8; off::KPI_LEN_ROUTE as usize]);

/// The kernel's route of ours.
#[must_use]
pub fn native_route(ours: &RouteArg) -> NativeRoute {
    let mut route = NativeRoute([0; _]);
    let p: *mut c_void = route.0.as_mut_ptr().cast();
    // SAFETY: fields of it.
    unsafe {
        put(p, off::KPI_OFF_RO_MTU, ours.mtu as u16);
        if ours.af != 0 {
            put(p, off::KPI_OFF_RO_FLAGS, off::KPI_RT_HAS_GW as u16);
            put(p, off::KPI_OFF_RO_DST_FAMILY, ours.af as u8);
        }
    }
    route
}

thread_local! {
    static NAME: RefCell<[c_char; IFNAMSIZ]> = const { RefCell::new([0; IFNAMSIZ]) };
    /// Whose vnet was asked for last.
    static ASKED: Cell<*mut Ifnet> = const { Cell::new(ptr::null_mut()) };
}

/// The name, until this thread asks for another.
pub(super) unsafe extern "C-unwind" fn if_name(ifp: *mut Ifnet) -> *const c_char {
    // SAFETY: a live interface.
    let name = unsafe { (*ifp).name() };
    NAME.with_borrow_mut(|n| {
        *n = [0; IFNAMSIZ];
        for (to, from) in n[..IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        n.as_ptr()
    })
}

pub(super) unsafe extern "C-unwind" fn if_getvnet(ifp: *mut Ifnet) -> *mut c_void {
    ASKED.set(ifp);
    // SAFETY: a live interface.
    unsafe { (*ifp).vnet().native() }
}

/// What a protocol keeps at an interface: IPv6 its settings.
pub(super) unsafe extern "C-unwind" fn if_getafdata(ifp: *mut Ifnet, af: c_int) -> *mut c_void {
    // SAFETY: a live interface.
    let i = unsafe { &*ifp };
    if af != AF_INET6 {
        violation("kld", format_args!("if_getafdata of family {af}"));
    }
    if !i.attached.load(Ordering::Acquire) {
        violation(
            "ifnet-attach",
            format_args!("if_getafdata before if_attach"),
        );
    }
    let nd = i.native.nd.get_or_init(|| {
        let mut nd = Box::new(Nd {
            extra: [0; _],
            info: [0; _],
        });
        // SAFETY: fields of the two. What net.inet6.ip6.auto_linklocal and dad_count would give it.
        unsafe {
            let info: *mut c_void = (&raw mut nd.info).cast();
            put((&raw mut nd.extra).cast(), off::KPI_OFF_ND_IFINFO, info);
            put(info, off::KPI_OFF_ND_FLAGS, off::KPI_ND6_AUTO_LINKLOCAL);
        }
        nd
    });
    ptr::from_ref(&nd.extra).cast_mut().cast()
}

/// The shim has to be in the interface's vnet.
fn check_vnet(ifp: &Ifnet, what: &str) {
    if thread::vnet() != ifp.vnet().native() {
        violation(
            "vnet",
            format_args!("{what} in another vnet than the interface's"),
        );
    }
}

pub(super) unsafe extern "C-unwind" fn if_purgeaddrs(ifp: *mut Ifnet) {
    // SAFETY: a live interface.
    check_vnet(unsafe { &*ifp }, "if_purgeaddrs");
    kpi_if_purgeaddrs(ifp);
}

pub(super) unsafe extern "C-unwind" fn bpf_peers_present_if(ifp: *mut Ifnet) -> bool {
    // SAFETY: a live interface.
    unsafe { (*ifp).is_tapped() }
}

pub(super) unsafe extern "C-unwind" fn bpf_mtap2_if(
    ifp: *mut Ifnet,
    data: *const u32,
    len: c_uint,
    m: *mut mbuf,
) {
    // SAFETY: as the caller says.
    unsafe {
        if len != 4 || !(*ifp).is_tapped() {
            violation(
                "bpf",
                format_args!("{len} bytes in front, or nobody listens"),
            );
        }
        kpi_bpf_tap(ifp, m, data.read());
    }
}

/// Takes the packet up, for IPv4 or IPv6.
pub(super) unsafe extern "C-unwind" fn netisr_dispatch(protocol: c_uint, m: *mut mbuf) -> c_int {
    // SAFETY: a live packet with a byte at least.
    unsafe {
        let ifp: *mut Ifnet = (*m).rcvif.cast();
        if ifp.is_null() || u32::from((*m).fibnum) != crate::ifnet::if_getfib(ifp) {
            violation(
                "mbuf-rcvif",
                format_args!("a packet without its interface or FIB"),
            );
        }
        check_vnet(&*ifp, "netisr_dispatch");
        let version = (*m).m_data.read() >> 4;
        if !matches!(
            (protocol, version),
            (off::KPI_NETISR_IP, 4) | (off::KPI_NETISR_IPV6, 6)
        ) {
            violation(
                "netisr",
                format_args!("IP version {version} for protocol {protocol}"),
            );
        }
        kpi_if_input(ifp, m).cast_signed()
    }
}

/// The interface in whose name an error goes out. Only its vnet is known to the functions below.
fn asked(what: &str) -> *mut Ifnet {
    let ifp = ASKED.get();
    if ifp.is_null() {
        violation("vnet", format_args!("{what} in no vnet"));
    }
    // SAFETY: it was asked for its vnet a moment ago.
    check_vnet(unsafe { &*ifp }, what);
    ifp
}

pub(super) unsafe extern "C-unwind" fn icmp_error(
    m: *mut mbuf,
    kind: c_int,
    code: c_int,
    _destination: u32,
    mtu: c_int,
) {
    let reason = match (kind.cast_unsigned(), code.cast_unsigned()) {
        (off::KPI_ICMP_UNREACH, off::KPI_ICMP_UNREACH_HOST) => HOST_UNREACH,
        (off::KPI_ICMP_UNREACH, off::KPI_ICMP_UNREACH_NEEDFRAG) => TOO_BIG,
        (off::KPI_ICMP_UNREACH, off::KPI_ICMP_UNREACH_NET) => NO_ROUTE,
        _ => violation("icmp", format_args!("type {kind}, code {code}")),
    };
    // SAFETY: as the caller says.
    unsafe { kpi_icmp_error(asked("icmp_error"), m, AF_INET, reason, mtu.cast_unsigned()) };
}

pub(super) unsafe extern "C-unwind" fn icmp6_error(
    m: *mut mbuf,
    kind: c_int,
    code: c_int,
    parameter: c_int,
) {
    let reason = match (kind.cast_unsigned(), code.cast_unsigned()) {
        (off::KPI_ICMP6_UNREACH, off::KPI_ICMP6_UNREACH_ADDR) => HOST_UNREACH,
        (off::KPI_ICMP6_TOO_BIG, 0) => TOO_BIG,
        (off::KPI_ICMP6_UNREACH, off::KPI_ICMP6_UNREACH_NOROUTE) => NO_ROUTE,
        _ => violation("icmp", format_args!("type {kind}, code {code} of ICMPv6")),
    };
    let mtu = parameter.cast_unsigned();
    // SAFETY: as the caller says.
    unsafe { kpi_icmp_error(asked("icmp6_error"), m, AF_INET6, reason, mtu) };
}
