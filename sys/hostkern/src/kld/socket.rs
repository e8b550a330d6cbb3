// SPDX-License-Identifier: BSD-2-Clause
//! Sockets: `struct socket`, which the shim looks into, with `hostkern`'s socket behind it once it is bound.

use core::ffi::{c_int, c_short, c_uint, c_void};
use core::mem::offset_of;
use core::ptr;

use freebsd_kernel_sys::offsets as off;

use super::{get, memory, put, thread};
use crate::layout::{M_EXT, M_PKTHDR, MLEN, MT_CONTROL, mbuf};
use crate::mbuf::{flags_of, free_one, type_of};
use crate::socket::{
    Input, Socket, kpi_udp_close, kpi_udp_open, kpi_udp_send, kpi_udp_set_fib,
    kpi_udp_set_user_cookie,
};
use crate::thread::{check_sleep, violation};
use crate::vnet::{Ucred, crfree, crhold, of_cred};

const AF_INET: c_int = 2;
const AF_INET6: c_int = 28;
const EINVAL: c_int = 22;
const ENOPROTOOPT: c_int = 42;
/// `SOPT_SET`.
const SET: c_int = 1;
/// The largest datagram with its IPv6 header: less room refuses packets.
const ROOM: usize = 65535 + 40;

/// `struct socket`, and behind it what is ours.
#[repr(C, align(64))]
pub(super) struct Native {
    head: [u8; off::KPI_LEN_SOCKET as usize],
    protocol: [u8; off::KPI_LEN_PROTOSW as usize],
    af: c_int,
    credential: *mut Ucred,
    room: usize,
    input: Option<Input>,
    context: *mut c_void,
    only_v6: bool,
    fib: u32,
    cookie: u32,
    /// Since it was bound.
    bound: *const Socket,
    port: u16,
}

/// `struct sockopt`.
#[repr(C)]
pub(super) struct Setting {
    direction: c_int,
    level: c_int,
    name: c_int,
    value: *const u32,
    size: usize,
    rights: *const c_void,
    thread: *mut c_void,
}

const _: () = assert!(size_of::<Setting>() == off::KPI_LEN_SOCKOPT as usize);
const _: () = assert!(offset_of!(Setting, value) == off::KPI_OFF_SOPT_VAL as usize);

pub(super) unsafe extern "C-unwind" fn socreate(
    af: c_int,
    to: *mut *mut Native,
    kind: c_int,
    protocol: c_int,
    credential: *mut Ucred,
    td: *mut c_void,
) -> c_int {
    check_sleep("socreate");
    check_rights(td, credential, "socreate");
    let wanted = (kind.cast_unsigned(), protocol.cast_unsigned());
    if wanted != (off::KPI_SOCK_DGRAM, off::KPI_IPPROTO_UDP) || ![AF_INET, AF_INET6].contains(&af) {
        violation(
            "kld",
            format_args!("a socket of type {kind}, protocol {protocol}"),
        );
    }
    let mut so = Box::new(Native {
        head: [0; _],
        protocol: [0; _],
        af,
        // SAFETY: the caller's credential, of which the socket keeps a reference.
        credential: unsafe { crhold(credential) },
        room: 9216,
        input: None,
        context: ptr::null_mut(),
        only_v6: false,
        fib: 0,
        cookie: 0,
        bound: ptr::null(),
        port: 0,
    });
    let p: *mut c_void = (&raw mut *so).cast();
    // SAFETY: fields of it; vnets live as long as the kernel.
    unsafe {
        put(p, off::KPI_OFF_SO_VNET, (*of_cred(credential)).native());
        put(p, off::KPI_OFF_SO_PROTO, &raw mut so.protocol);
        put(
            (&raw mut so.protocol).cast(),
            off::KPI_OFF_PR_SOCKADDR,
            sockaddr as *const c_void,
        );
        put(p, off::KPI_OFF_SO_RCV_HIWAT, 42_080_u32);
        to.write(Box::into_raw(so));
    }
    0
}

/// The calls that need the socket's vnet.
fn check_vnet(so: &Native, what: &str) {
    // SAFETY: a field of it.
    let own: *mut c_void = unsafe { get((&raw const so.head).cast(), off::KPI_OFF_SO_VNET) };
    if thread::vnet() != own {
        violation(
            "vnet",
            format_args!("{what} in another vnet than the socket's"),
        );
    }
}

/// The calls that judge by the thread's credential, which has to be the socket's.
fn check_rights(td: *mut c_void, credential: *mut Ucred, what: &str) {
    // SAFETY: a field of the caller's thread.
    let its: *mut Ucred = unsafe { get(td, off::KPI_OFF_TD_UCRED) };
    if its != credential {
        violation(
            "cred",
            format_args!("{what} by another credential than the socket's"),
        );
    }
}

pub(super) unsafe extern "C-unwind" fn soreserve(
    so: *mut Native,
    send: usize,
    _recv: usize,
) -> c_int {
    // SAFETY: a live socket.
    let so = unsafe { &mut *so };
    check_vnet(so, "soreserve");
    so.room = send;
    0
}

pub(super) unsafe extern "C-unwind" fn udp_set_kernel_tunneling(
    so: *mut Native,
    input: Option<Input>,
    _icmp: *const c_void,
    context: *mut c_void,
) -> c_int {
    // SAFETY: a live socket.
    let so = unsafe { &mut *so };
    if !so.bound.is_null() || so.input.is_some() {
        violation(
            "udp-tunnel",
            format_args!("the callback of a socket is changed"),
        );
    }
    so.input = input;
    so.context = context;
    0
}

pub(super) unsafe extern "C-unwind" fn sosetopt(so: *mut Native, option: *const Setting) -> c_int {
    check_sleep("sosetopt");
    // SAFETY: a live socket, an option with its value.
    let (so, option) = unsafe { (&mut *so, &*option) };
    if option.direction != SET || option.size != 4 {
        return EINVAL;
    }
    // SAFETY: as above.
    let value = unsafe { option.value.read() };
    match (option.level.cast_unsigned(), option.name.cast_unsigned()) {
        (off::KPI_IPPROTO_IPV6, off::KPI_IPV6_V6ONLY) if so.af == AF_INET6 => {
            so.only_v6 = value != 0;
            0
        }
        (off::KPI_SOL_SOCKET, off::KPI_SO_SETFIB) => {
            so.fib = value;
            match so.bound.is_null() {
                true => 0,
                // SAFETY: an open socket.
                false => unsafe { kpi_udp_set_fib(so.bound, value) },
            }
        }
        (off::KPI_SOL_SOCKET, off::KPI_SO_USER_COOKIE) => {
            so.cookie = value;
            match so.bound.is_null() {
                true => 0,
                // SAFETY: an open socket.
                false => unsafe { kpi_udp_set_user_cookie(so.bound, value) },
            }
        }
        _ => ENOPROTOOPT,
    }
}

/// From here on it is `hostkern`'s socket.
pub(super) unsafe extern "C-unwind" fn sobind(
    so: *mut Native,
    address: *const u8,
    td: *mut c_void,
) -> c_int {
    // SAFETY: a live socket and an address of its family.
    let (so, family, port) = unsafe {
        let port = u16::from_be_bytes([address.add(2).read(), address.add(3).read()]);
        (&mut *so, address.add(1).read(), port)
    };
    check_vnet(so, "sobind");
    check_rights(td, so.credential, "sobind");
    if c_int::from(family) != so.af || !so.bound.is_null() {
        return EINVAL;
    }
    if so.room < ROOM {
        violation("udp-room", format_args!("{} bytes to send with", so.room));
    }
    if so.af == AF_INET6 && !so.only_v6 {
        violation(
            "udp-v6only",
            format_args!("an IPv6 socket that takes IPv4's datagrams"),
        );
    }
    // SAFETY: the credential is held, and the callback is the module's.
    unsafe {
        kpi_udp_open(
            so.af,
            port,
            so.fib,
            so.cookie,
            so.credential,
            so.input,
            so.context,
            &mut so.bound,
            &mut so.port,
        )
    }
}

/// `pr_sockaddr`: the local address, in memory of type M_SONAME.
unsafe extern "C-unwind" fn sockaddr(so: *mut Native, to: *mut *mut u8) -> c_int {
    // SAFETY: a live socket.
    let so = unsafe { &*so };
    check_vnet(so, "pr_sockaddr");
    let (len, family) = if so.af == AF_INET { (16, 2) } else { (28, 28) };
    // SAFETY: fresh, zeroed memory; the caller's pointer.
    unsafe {
        let sa: *mut u8 = memory::name().cast();
        sa.write(len as u8);
        sa.add(1).write(family);
        let port = so.port.to_be_bytes();
        sa.add(2).copy_from_nonoverlapping(port.as_ptr(), 2);
        to.write(sa);
    }
    0
}

pub(super) unsafe extern "C-unwind" fn soclose(so: *mut Native) -> c_int {
    check_sleep("soclose");
    // SAFETY: the caller gives up the socket, and nobody uses it outside of the epoch sections of now: callbacks know
    // only what is behind it.
    unsafe {
        let so = Box::from_raw(so);
        if !so.bound.is_null() {
            kpi_udp_close(so.bound);
        }
        crfree(so.credential);
    }
    0
}

/// `struct cmsghdr`.
#[repr(C)]
struct Control {
    len: u32,
    level: c_int,
    kind: c_int,
    _align: u32,
}

/// A control message in an mbuf.
pub(super) unsafe extern "C-unwind" fn sbcreatecontrol(
    data: *const u8,
    size: c_uint,
    kind: c_int,
    level: c_int,
    how: c_int,
) -> *mut mbuf {
    let m = memory::with_storage(MT_CONTROL as c_short, 0, how, None);
    let len = size_of::<Control>() + size as usize;
    if m.is_null() || len > MLEN {
        return m;
    }
    // SAFETY: a fresh mbuf with that much room, the caller's data.
    unsafe {
        let at = (*m).m_data;
        at.cast::<Control>().write(Control {
            len: len as u32,
            level,
            kind,
            _align: 0,
        });
        at.add(size_of::<Control>())
            .copy_from_nonoverlapping(data, size as usize);
        (*m).m_len = len as c_int;
    }
    m
}

/// The source address that a control message asks for, as a sockaddr.
unsafe fn source(m: *const mbuf, af: c_int) -> [u8; 32] {
    let mut sa = [0; 32];
    // SAFETY: what `sbcreatecontrol` made.
    unsafe {
        if type_of(&*m) != MT_CONTROL || flags_of(&*m) & (M_PKTHDR | M_EXT) != 0 {
            violation("mbuf-control", format_args!("no control message"));
        }
        let c = (*m).m_data.cast::<Control>();
        let data = (*m).m_data.add(size_of::<Control>());
        let what = ((*c).level.cast_unsigned(), (*c).kind.cast_unsigned());
        let len = (*c).len as usize - size_of::<Control>();
        match (what, af, len) {
            ((off::KPI_IPPROTO_IP, off::KPI_IP_SENDSRCADDR), AF_INET, 4) => {
                sa[..2].copy_from_slice(&[16, 2]);
                data.copy_to_nonoverlapping(sa[4..8].as_mut_ptr(), 4);
            }
            ((off::KPI_IPPROTO_IPV6, off::KPI_IPV6_PKTINFO), AF_INET6, 20) => {
                sa[..2].copy_from_slice(&[28, 28]);
                // Address, then the number of the interface.
                data.copy_to_nonoverlapping(sa[8..28].as_mut_ptr(), 20);
            }
            _ => violation(
                "mbuf-control",
                format_args!("{what:?} of {len} bytes, family {af}"),
            ),
        }
    }
    sa
}

pub(super) unsafe extern "C-unwind" fn sosend(
    so: *mut Native,
    to: *const u8,
    uio: *mut c_void,
    m: *mut mbuf,
    control: *mut mbuf,
    flags: c_int,
    _td: *mut c_void,
) -> c_int {
    // SAFETY: a live socket, an address, a packet and a control message which are the caller's.
    unsafe {
        let so = &*so;
        check_vnet(so, "sosend");
        if so.bound.is_null() || !uio.is_null() || flags != 0 {
            violation(
                "kld",
                format_args!("sosend on a socket that is not bound, or of a uio"),
            );
        }
        if control.is_null() {
            return kpi_udp_send(so.bound, m, to, ptr::null());
        }
        let from = source(control, so.af);
        free_one(control);
        kpi_udp_send(so.bound, m, to, from.as_ptr())
    }
}
