// SPDX-License-Identifier: BSD-2-Clause
//! What the host says about one of its interfaces, by rtnetlink.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST: u16 = 1;
const RTMGRP_LINK: u32 = 1;
const IFLA_MTU: u16 = 4;
const IFLA_GSO_MAX_SEGS: u16 = 40;
pub(super) const IFF_UP: u32 = 1;
/// Size of `struct nlmsghdr` and of `struct ifinfomsg`.
pub(super) const HEADER: usize = 16;

/// A statement about an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Report {
    /// Its state now.
    State { up: bool, mtu: Option<u32> },
    /// It left this network namespace.
    Gone,
    /// Reports were lost; ask again.
    Lost,
}

/// A subscription to link changes.
pub(super) struct Watch {
    socket: OwnedFd,
}

impl Watch {
    pub(super) fn open() -> io::Result<Watch> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            // Protocol 0: NETLINK_ROUTE.
            None,
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, RTMGRP_LINK))?;
        Ok(Watch { socket })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Asks for the state of the interface; it will come as a report.
    pub(super) fn query(&self, index: u32) -> io::Result<()> {
        self.request(RTM_GETLINK, index, &[])
    }

    /// Limits how many segments the host puts into one packet for the interface.
    pub(super) fn limit_segments(&self, index: u32, segments: u32) -> io::Result<()> {
        let mut attr = [0; 8];
        attr[..2].copy_from_slice(&8u16.to_ne_bytes());
        attr[2..4].copy_from_slice(&IFLA_GSO_MAX_SEGS.to_ne_bytes());
        attr[4..].copy_from_slice(&segments.to_ne_bytes());
        self.request(RTM_NEWLINK, index, &attr)
    }

    fn request(&self, kind: u16, index: u32, attrs: &[u8]) -> io::Result<()> {
        let mut message = Vec::with_capacity(2 * HEADER + attrs.len());
        let len = u32::try_from(2 * HEADER + attrs.len()).unwrap_or(u32::MAX);
        message.extend_from_slice(&len.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
        // Sequence and port: replies are recognized by their content.
        message.extend_from_slice(&[0; 8]);
        // Family and type.
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(&index.to_ne_bytes());
        // Flags and which of them to change: none.
        message.extend_from_slice(&[0; 8]);
        message.extend_from_slice(attrs);
        send(&self.socket, &message, SendFlags::empty())?;
        Ok(())
    }

    /// Takes what has come. `f` is called once for each report on interface `index`.
    pub(super) fn read(&self, index: u32, mut f: impl FnMut(Report)) -> io::Result<()> {
        let mut room = vec![0; 32 << 10];
        loop {
            match recv(&self.socket, &mut room[..], RecvFlags::empty()) {
                Ok((count, _)) => parse(room.get(..count).unwrap_or_default(), index, &mut f),
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::NOBUFS) => f(Report::Lost),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// All messages of one datagram.
fn parse(mut data: &[u8], index: u32, f: &mut impl FnMut(Report)) {
    while let Some((len, kind)) = u32_at(data, 0).zip(u16_at(data, 4)) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(body) = data.get(HEADER..len) else {
            return;
        };
        // Messages about the interface as a bridge port have a family.
        let about = body.first() == Some(&0) && u32_at(body, 4) == Some(index);
        match kind {
            RTM_NEWLINK if about => {
                if let Some(flags) = u32_at(body, 8) {
                    let mtu = find_mtu(body.get(HEADER..).unwrap_or_default());
                    let up = flags & IFF_UP != 0;
                    f(Report::State { up, mtu });
                }
            }
            RTM_DELLINK if about => f(Report::Gone),
            _ => {}
        }
        data = data.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
}

pub(super) fn find_mtu(mut attrs: &[u8]) -> Option<u32> {
    loop {
        let len = usize::from(u16_at(attrs, 0)?);
        if len < 4 {
            return None;
        }
        if u16_at(attrs, 2)? == IFLA_MTU {
            return u32_at(attrs.get(4..len)?, 0);
        }
        attrs = attrs.get(len.next_multiple_of(4)..)?;
    }
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*data.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*data.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, family: u8, index: u32, flags: u32, attrs: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![family, 0, 0, 0];
        body.extend(index.to_ne_bytes());
        body.extend(flags.to_ne_bytes());
        body.extend([0; 4]);
        for (kind, data) in attrs {
            body.extend(u16::try_from(data.len() + 4).unwrap().to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(*data);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut out = u32::try_from(body.len() + HEADER)
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        out.extend(kind.to_ne_bytes());
        out.extend([0; 10]);
        out.extend(body);
        out
    }

    fn reports(data: &[u8]) -> Vec<Report> {
        let mut list = Vec::new();
        parse(data, 7, &mut |r| list.push(r));
        list
    }

    #[test]
    fn reports_are_understood() {
        let mtu = 1420u32.to_ne_bytes();
        let mut data = message(
            RTM_NEWLINK,
            0,
            7,
            IFF_UP | 0x40,
            &[(3, b"wg0\0"), (9, b"x"), (IFLA_MTU, &mtu)],
        );
        data.extend(message(RTM_NEWLINK, 0, 8, 0, &[(IFLA_MTU, &mtu)]));
        data.extend(message(RTM_NEWLINK, 7, 7, 0, &[]));
        data.extend(message(RTM_NEWLINK, 0, 7, 0, &[]));
        data.extend(message(RTM_DELLINK, 7, 7, 0, &[]));
        data.extend(message(RTM_DELLINK, 0, 7, 0, &[]));
        assert_eq!(
            reports(&data),
            [
                Report::State {
                    up: true,
                    mtu: Some(1420)
                },
                Report::State {
                    up: false,
                    mtu: None
                },
                Report::Gone
            ]
        );
        // Every cut is survived.
        for end in 0..data.len() {
            reports(&data[..end]);
        }
        // Lengths that go nowhere end the datagram.
        for len in [0u32, 1, 15, 31, u32::MAX] {
            let mut bad = data.clone();
            bad[..4].copy_from_slice(&len.to_ne_bytes());
            reports(&bad);
        }
        reports(&message(RTM_NEWLINK, 0, 7, 0, &[(1, &[0; 3])])[..35]);
    }

    #[test]
    fn the_loopback_interface_reports() {
        let watch = Watch::open().unwrap();
        watch.query(1).unwrap();
        let mut seen = Vec::new();
        watch.read(1, |r| seen.push(r)).unwrap();
        assert!(
            matches!(
                seen[..],
                [Report::State {
                    mtu: Some(65536),
                    ..
                }]
            ),
            "{seen:?}"
        );
    }
}
