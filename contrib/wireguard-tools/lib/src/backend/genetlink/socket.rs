// SPDX-License-Identifier: BSD-2-Clause
//! A netlink socket: one request at a time, and its reply to the end.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recvfrom, sendto,
    socket_with,
};
use zeroize::Zeroizing;

use super::message::{CAPACITY, Message, Replies, Reply, malformed};

/// Room for any datagram: those of a dump have 32 KiB at most, and one that reports an error repeats the request.
const ROOM: usize = 2 * CAPACITY;

/// The kernel changed what it was reporting while it did.
pub(super) struct Inconsistent;

pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Zeroizing<Vec<u8>>,
}

impl Socket {
    /// A socket for that kind of requests; `None` is rtnetlink(7).
    ///
    /// # Errors
    /// The system's, EPROTONOSUPPORT where the kernel has no netlink.
    pub(super) fn open(protocol: Option<Protocol>) -> io::Result<Socket> {
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        Ok(Socket {
            fd,
            sequence: 0,
            buffer: Zeroizing::new(vec![0; ROOM]),
        })
    }

    /// Whether there is an interface of this name, of any kind.
    pub(super) fn has_link(&self, name: &str) -> bool {
        rustix::net::netdevice::name_to_index(&self.fd, name).is_ok()
    }

    /// Sends a request and passes the messages of its reply to `each`, with their types, to the end of it.
    ///
    /// # Errors
    /// What the kernel or `each` answers, and EBADMSG for a reply that makes no sense. The socket is of no use then.
    pub(super) fn request(
        &mut self,
        message: &mut Message,
        each: &mut dyn FnMut(u16, &[u8]) -> io::Result<()>,
    ) -> io::Result<Result<(), Inconsistent>> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = message.finish(self.sequence);
        let kernel = SocketAddrNetlink::new(0, 0);
        let sent = retry_on_intr(|| sendto(&self.fd, bytes, SendFlags::empty(), &kernel))?;
        if sent != bytes.len() {
            return Err(Errno::MSGSIZE.into());
        }
        let mut inconsistent = false;
        loop {
            let sequence = self.sequence;
            let mut replies = Replies::new(self.receive()?, sequence);
            while let Some(reply) = replies.next() {
                match reply? {
                    Reply::Part(kind, payload) => each(kind, payload)?,
                    Reply::End(Err(errno)) => return Err(io::Error::from_raw_os_error(errno)),
                    Reply::End(Ok(())) if inconsistent || replies.inconsistent => {
                        return Ok(Err(Inconsistent));
                    }
                    Reply::End(Ok(())) => return Ok(Ok(())),
                }
            }
            inconsistent |= replies.inconsistent;
        }
    }

    /// The next datagram from the kernel. Other processes can send to this socket as well; they are not listened to.
    fn receive(&mut self) -> io::Result<&[u8]> {
        loop {
            let (_, len, from) =
                retry_on_intr(|| recvfrom(&self.fd, &mut **self.buffer, RecvFlags::TRUNC))?;
            let from = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
            if from.is_none_or(|from| from.pid() != 0) {
                continue;
            }
            return self.buffer.get(..len).ok_or_else(malformed);
        }
    }
}
