// SPDX-License-Identifier: BSD-2-Clause
//! netmap(4) sees Ethernet: an interface without link-level headers puts made-up ones around IP
//! packets.

use core::ffi::c_int;

use freebsd_kernel_sys as sys;

use super::handle::{Input, Unfit, for_input};
use crate::epoch::Epoch;
use crate::mbuf::{Mbuf, MbufList};
use crate::net::Family;
use crate::{Errno, Result};

/// Bytes of an Ethernet header.
const HEADER: usize = 14;
/// Destination of the made-up headers.
const ANYONE: [u8; 6] = [0xff; 6];
/// Source when a packet came out of the tunnel.
const FROM_TUNNEL: [u8; 6] = [0x02; 6];
/// Source when a packet came from this machine's network stack.
const FROM_HOST: [u8; 6] = [0x06; 6];

/// Whether netmap has taken over the interface.
pub(super) fn enabled(ifp: *mut sys::ifnet) -> bool {
    // SAFETY: the caller's interface is referenced.
    let caps = (unsafe { sys::if_getcapenable(ifp) }) as u32;
    caps & sys::KPI_IFCAP_NETMAP != 0
}

fn wrap(m: Mbuf, source: &[u8; 6], family: Family) -> Option<Mbuf> {
    let ethertype = match family {
        Family::V4 => sys::ETHERTYPE_IP,
        Family::V6 => sys::ETHERTYPE_IPV6,
    } as u16;
    let ethertype = ethertype.to_be_bytes();
    let mut header = [0; HEADER];
    for (to, from) in header
        .iter_mut()
        .zip(ANYONE.iter().chain(source).chain(&ethertype))
    {
        *to = *from;
    }
    m.prepend_bytes(&header)
}

/// Takes the Ethernet header off and says what is inside.
pub(super) fn unwrap(m: Mbuf) -> Result<(Mbuf, Family)> {
    let mut m = m.pullup(HEADER).ok_or(Errno::ENOBUFS)?;
    let ethertype = m
        .first()
        .get(12..)
        .and_then(|b| b.first_chunk())
        .map_or(0, |b| u16::from_be_bytes(*b));
    let family = match u32::from(ethertype) {
        sys::ETHERTYPE_IP => Family::V4,
        sys::ETHERTYPE_IPV6 => Family::V6,
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    m.trim_front(HEADER);
    Ok((m, family))
}

/// Packets out of the tunnel, to netmap's receive ring.
pub(super) fn to_ring(_ep: &Epoch, ifp: *mut sys::ifnet, packets: MbufList) -> Input {
    let mut done = Input::default();
    for m in packets {
        let len = m.len();
        let wrapped = for_input(m)
            .and_then(|(m, family)| wrap(m, &FROM_TUNNEL, family).ok_or(Unfit::NoMemory));
        match wrapped {
            Ok(m) => {
                // SAFETY: attached through this epoch section; the packet is given away.
                unsafe { sys::if_input(ifp, m.into_raw()) };
                done.packets = done.packets.saturating_add(1);
                done.bytes = done.bytes.saturating_add(len);
            }
            Err(Unfit::NoMemory) => done.no_memory = done.no_memory.saturating_add(1),
            Err(Unfit::NoIp) => done.no_ip = done.no_ip.saturating_add(1),
        }
    }
    done
}

/// A packet of this machine's stack, to netmap's host ring.
pub(super) fn from_host(_ep: &Epoch, ifp: *mut sys::ifnet, m: Mbuf, family: Family) -> Result {
    let m = wrap(m, &FROM_HOST, family)
        .and_then(Mbuf::for_stack)
        .ok_or(Errno::ENOBUFS)?;
    // SAFETY: attached through this epoch section; netmap has replaced the transmit method, which
    // takes the packet.
    let error: c_int = unsafe { sys::if_transmit(ifp, m.into_raw()) };
    Errno::check(error)
}
