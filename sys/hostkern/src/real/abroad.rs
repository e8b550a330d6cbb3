// SPDX-License-Identifier: BSD-2-Clause
//! An interface that has moved to another network namespace.
//!
//! The device goes on working there, but reports and requests by name or index are about other interfaces: our
//! namespace may have given the name to somebody else. The device itself names its namespace, and rtnetlink takes
//! requests for one that it has a number for. Both need CAP_NET_ADMIN in the user namespace that the network namespace
//! belongs to, which a container of an ordinary user does not give us. Nothing can be changed that way: in a request for
//! a change that number means where to move an interface of our own.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::fs::fstat;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send};

use super::link::{HEADER, IFF_UP, find_mtu, u32_at};

const RTM_GETLINK: u16 = 18;
const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const IFLA_IFNAME: u16 = 3;
const IFLA_TARGET_NETNSID: u16 = 46;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
/// A number that is not given yet, or that the kernel shall choose.
const NSID_NONE: i32 = -1;
/// `TUNGETDEVNETNS`, a descriptor of the namespace that a TUN device is in; since Linux 5.2.
const TUNGETDEVNETNS: libc::Ioctl = 0x54e3;
/// `SIOCGSKNS`, the same of a socket.
const SIOCGSKNS: libc::Ioctl = 0x894c;

/// Asks about one interface wherever it is.
pub(super) struct Abroad {
    socket: OwnedFd,
    sequence: u32,
}

/// Where an interface is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// In the namespace of this process.
    Here,
    /// In one that has this number here.
    There(i32),
}

impl Abroad {
    pub(super) fn open() -> io::Result<Abroad> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        // Answers come at once, if they come.
        let patience = Some(std::time::Duration::from_secs(1));
        set_socket_timeout(&socket, Timeout::Recv, patience)?;
        Ok(Abroad {
            socket,
            sequence: 0,
        })
    }

    /// Whether the interface of `device` is up, and its MTU. `name` is its name there, which the device tells.
    ///
    /// # Errors
    /// EPERM when its namespace is not for us to look into, ENOTTY or EINVAL when the kernel is too old.
    pub(super) fn state(
        &mut self,
        device: impl AsFd,
        name: &str,
    ) -> io::Result<(bool, Option<u32>)> {
        let place = self.place(device)?;
        let answer = self.call(RTM_GETLINK, 0, &link(place, name))?;
        let flags = u32_at(&answer, HEADER + 8).ok_or(io::ErrorKind::InvalidData)?;
        let mtu = find_mtu(answer.get(2 * HEADER..).unwrap_or_default());
        Ok((flags & IFF_UP != 0, mtu))
    }

    fn place(&mut self, device: impl AsFd) -> io::Result<Place> {
        let there = namespace(device, TUNGETDEVNETNS)?;
        let here = namespace(&self.socket, SIOCGSKNS)?;
        let id = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
        if id(&there)? == id(&here)? {
            return Ok(Place::Here);
        }
        let number = self.number(&there)?;
        if number != NSID_NONE {
            return Ok(Place::There(number));
        }
        let fd = there.as_raw_fd().to_ne_bytes();
        let mut body = vec![0; 4];
        attribute(&mut body, NETNSA_NSID, &NSID_NONE.to_ne_bytes());
        attribute(&mut body, NETNSA_FD, &fd);
        match self.call(RTM_NEWNSID, NLM_F_ACK, &body) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => self.number(&there).map(Place::There),
        }
    }

    /// The number of a namespace, or [`NSID_NONE`].
    fn number(&mut self, namespace: &OwnedFd) -> io::Result<i32> {
        let mut body = vec![0; 4];
        attribute(&mut body, NETNSA_FD, &namespace.as_raw_fd().to_ne_bytes());
        let answer = self.call(RTM_GETNSID, 0, &body)?;
        // After the header and `struct rtgenmsg`: the first attribute is the number.
        let number = u32_at(&answer, HEADER + 8).ok_or(io::ErrorKind::InvalidData)?;
        Ok(number.cast_signed())
    }

    /// One request and its answer.
    fn call(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<u8>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = Vec::with_capacity(HEADER + body.len());
        let len = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
        message.extend_from_slice(&len.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(body);
        send(&self.socket, &message, SendFlags::empty())?;
        let mut room = vec![0; 32 << 10];
        loop {
            let count = match recv(&self.socket, &mut room[..], RecvFlags::empty()) {
                Ok((count, _)) => count,
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            };
            let answer = room.get(..count).unwrap_or_default();
            // An answer to a request that was given up.
            if u32_at(answer, 8) != Some(self.sequence) {
                continue;
            }
            let is_error = u32_at(answer, 4).map(|word| word & 0xffff) == Some(NLMSG_ERROR.into());
            return match u32_at(answer, HEADER).map(u32::cast_signed) {
                Some(errno) if is_error && errno != 0 => {
                    Err(io::Error::from_raw_os_error(errno.wrapping_neg()))
                }
                _ => Ok(answer.to_vec()),
            };
        }
    }
}

/// The namespace that a device or a socket is in.
fn namespace(of: impl AsFd, request: libc::Ioctl) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open for as long as it is borrowed; neither request has an argument.
    let fd = unsafe { libc::ioctl(of.as_fd().as_raw_fd(), request) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both requests return a new descriptor, which is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The body of a question about a link: `struct ifinfomsg`, empty, and attributes. The name will do; an index may be
/// another one there.
fn link(place: Place, name: &str) -> Vec<u8> {
    let mut body = vec![0; 16];
    attribute(&mut body, IFLA_IFNAME, name.as_bytes());
    if let Place::There(number) = place {
        attribute(&mut body, IFLA_TARGET_NETNSID, &number.to_ne_bytes());
    }
    body
}

/// Appends an attribute. A text ends with its padding or its length; the kernel takes it without a NUL.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    body.extend_from_slice(&len.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}
