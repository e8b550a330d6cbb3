// SPDX-License-Identifier: BSD-2-Clause
//! One UDP socket of the host.
//!
//! Receiving is quinn-udp's: `recvmmsg` with UDP GRO and the destination address of every datagram. Sending is our
//! own on top of `sendmsg`, because a batch can then leave straight from the mbufs, without a copy into one buffer
//! first, and because an error of one datagram (a source address that has gone) must not turn segmentation offload
//! off for all.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use quinn_udp::{RecvMeta, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use socket2::{Domain, MsgHdr, Protocol, SockAddr, Socket, Type};

use super::errno;
use super::queue::{PortId, Queues};
use super::wake::Stopper;
use crate::backend::{Datagram, Errno, Flush, UdpBind, UdpPort, UdpRx, flush_later};
use crate::mbuf::Packet;
use crate::pace::Pace;
use crate::tally::{Count, Tally};

/// Buffer that is asked for in each direction, in bytes: some 20 ms of 3 Gb/s.
const SOCKET_BUFFER: usize = 7 << 20;

/// Messages taken by one `recvmmsg`.
const BATCH: usize = 16;

/// Messages that are delivered at once: each may be as many datagrams as one can be made of, and the driver's queues
/// hold no more than some.
const PACED: usize = 4;

/// Room for one message: the largest that UDP GRO makes.
const MESSAGE: usize = 1 << 16;

/// Most datagrams in one segmented message: UDP_MAX_SEGMENTS of every kernel that has it.
const MAX_SEGMENTS: usize = 64;

/// Most payload in one message, so that lengths fit with the largest headers.
const MAX_MESSAGE: usize = 65_535 - 8 - 60;

/// How many packets may wait before they are sent without being asked: about one full message.
const QUEUE: usize = MAX_SEGMENTS;

/// How long a full socket buffer may hold a thread up, standing in for the pause that a full device queue makes.
const FULL_WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// How long a segment size that was refused is not tried again; routes and their MTUs change.
const SEGMENT_RETRY: Duration = Duration::from_secs(30);

/// FreeBSD's numbers.
const EADDRNOTAVAIL: Errno = 49;
const ENOBUFS: Errno = 55;
const ENOTCONN: Errno = 57;

/// How many destinations are remembered, see [`UdpPort::sent_to`].
const RECENT: usize = 16;

/// A datagram that waits.
struct Out {
    payload: Packet,
    dst: SocketAddr,
    src: Option<SocketAddr>,
}

thread_local! {
    static QUEUES: Queues<Out> = const { Queues::new() };
}

pub(super) struct Port {
    id: PortId,
    me: Weak<Port>,
    socket: Socket,
    state: UdpSocketState,
    local: SocketAddr,
    stopper: Stopper,
    tally: Arc<Tally>,
    mark: AtomicU32,
    /// Segments of this size and above are refused by the path; `usize::MAX` when none is.
    refused_size: AtomicUsize,
    refused_at: Mutex<Option<Instant>>,
    /// The device cannot segment at all.
    no_segments: AtomicBool,
    /// Where datagrams went lately, the last one first.
    recent: Mutex<[Option<SocketAddr>; RECENT]>,
    /// Guards `failure` from being looked at for every packet.
    has_failed: AtomicBool,
    /// What the latest failed datagram's sender has yet to be told.
    failure: Mutex<Option<(SocketAddr, Errno)>>,
}

impl Port {
    /// Binds, and starts receiving.
    pub(super) fn open(bind: &UdpBind, rx: UdpRx) -> io::Result<Arc<Port>> {
        let domain = Domain::for_address(bind.addr);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if bind.addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if bind.user_cookie != 0 {
            socket.set_mark(bind.user_cookie)?;
        }
        raise_buffers(&socket);
        socket.bind(&bind.addr.into())?;
        let local = socket
            .local_addr()?
            .as_socket()
            .ok_or(rustix::io::Errno::AFNOSUPPORT)?;
        let state = UdpSocketState::new((&socket).into())?;
        allow_fragments(&socket, &local)?;
        let stopper = Stopper::new()?;
        let port = Arc::new_cyclic(|me: &Weak<Port>| Port {
            id: PortId::new(),
            me: me.clone(),
            socket,
            state,
            local,
            stopper,
            tally: rx.tally(),
            mark: AtomicU32::new(bind.user_cookie),
            refused_size: AtomicUsize::new(usize::MAX),
            refused_at: Mutex::new(None),
            no_segments: AtomicBool::new(false),
            recent: Mutex::new([None; RECENT]),
            has_failed: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        let reader = port.clone();
        let name = if local.is_ipv4() {
            "wgd-udp4"
        } else {
            "wgd-udp6"
        };
        port.stopper.spawn(name, move || reader.receive(&rx))?;
        Ok(port)
    }

    /// Body of the receive thread.
    fn receive(&self, rx: &UdpRx) {
        let mut room = vec![0; BATCH * MESSAGE];
        let mut metas = [RecvMeta::default(); BATCH];
        let mut pace = Pace::default();
        while !self.stopper.is_stopped() {
            let received = {
                let mut pieces = room.chunks_exact_mut(MESSAGE);
                let mut bufs: [IoSliceMut<'_>; BATCH] =
                    std::array::from_fn(|_| IoSliceMut::new(pieces.next().unwrap_or_default()));
                self.state
                    .recv((&self.socket).into(), &mut bufs, &mut metas)
            };
            match received {
                Ok(count) => {
                    let messages: Vec<_> = metas
                        .iter()
                        .zip(room.chunks_exact(MESSAGE))
                        .take(count)
                        .collect();
                    for some in messages.chunks(PACED) {
                        let mut given = 0;
                        let all = some
                            .iter()
                            .flat_map(|(meta, data)| self.datagrams(meta, data));
                        rx.deliver(all.inspect(|_| given += 1));
                        rx.catch_up(&mut pace, given, &|| self.stopper.is_stopped());
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if !self.stopper.wait(&self.socket) {
                        return;
                    }
                }
                // Not about one datagram, since errors of the network are not asked for. Never seen; do not spin.
                Err(e) => {
                    self.tally.lost(Count::SocketRead, &e);
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }

    /// The datagrams of one message.
    fn datagrams<'a>(
        &self,
        meta: &RecvMeta,
        data: &'a [u8],
    ) -> impl Iterator<Item = Datagram<'a>> + use<'a> {
        let src = meta.addr;
        let mut dst = SocketAddr::new(meta.dst_ip.unwrap_or(self.local.ip()), self.local.port());
        if let SocketAddr::V6(dst) = &mut dst
            && dst.ip().is_unicast_link_local()
        {
            dst.set_scope_id(meta.interface_index.unwrap_or(0));
        }
        data.get(..meta.len)
            .unwrap_or_default()
            .chunks(meta.stride.max(1))
            .map(move |payload| Datagram { src, dst, payload })
    }

    /// Sends all, several in one system call where they are alike.
    fn transmit(&self, mut queue: &[Out]) {
        while let Some(first) = queue.first() {
            let (run, rest) = queue.split_at(self.run_length(first, queue));
            queue = rest;
            if run.len() > 1 {
                let size = first.payload.len();
                match self.send_message(run, first, first.src, Some(size)) {
                    Ok(()) => continue,
                    Err(e) => self.segments_refused(&e, size),
                }
            }
            for out in run {
                self.send_one(out);
            }
        }
    }

    /// How many from the front of `queue` can be one segmented message: same ways, same size, save that the last may
    /// be shorter. At least 1.
    fn run_length(&self, first: &Out, queue: &[Out]) -> usize {
        let size = first.payload.len();
        if self.no_segments.load(Ordering::Relaxed) || size == 0 || !self.size_allowed(size) {
            return 1;
        }
        let most = (MAX_MESSAGE / size).min(MAX_SEGMENTS);
        let mut count = 1;
        for out in queue.iter().take(most).skip(1) {
            if out.dst != first.dst || out.src != first.src || out.payload.len() > size {
                break;
            }
            count += 1;
            if out.payload.len() < size {
                break;
            }
        }
        count
    }

    fn size_allowed(&self, size: usize) -> bool {
        if size < self.refused_size.load(Ordering::Relaxed) {
            return true;
        }
        let mut at = self
            .refused_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if at.is_some_and(|at| at.elapsed() < SEGMENT_RETRY) {
            return false;
        }
        *at = None;
        self.refused_size.store(usize::MAX, Ordering::Relaxed);
        true
    }

    /// A segmented message failed. Its datagrams go one by one; what is learned here only concerns later ones.
    fn segments_refused(&self, e: &io::Error, size: usize) {
        match e.raw_os_error() {
            // The device computes no checksums.
            Some(libc::EIO) => self.no_segments.store(true, Ordering::Relaxed),
            // Bigger than the path's MTU: alone, each can be fragmented.
            Some(libc::EINVAL | libc::EMSGSIZE) => {
                let mut at = self
                    .refused_at
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                *at = Some(Instant::now());
                self.refused_size.fetch_min(size, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn send_one(&self, out: &Out) {
        let result = match self.send_message(std::slice::from_ref(out), out, out.src, None) {
            // The host no longer has that source address: let it choose, and let the driver know.
            Err(e) if out.src.is_some() && is_bad_source(&e) => {
                self.remember_failure(out.dst, EADDRNOTAVAIL);
                self.send_message(std::slice::from_ref(out), out, None, None)
            }
            other => other,
        };
        if let Err(e) = result {
            self.tally.lost(Count::SocketSend, &e);
            self.remember_failure(out.dst, errno::to_freebsd(&e));
        }
    }

    fn remember_failure(&self, dst: SocketAddr, errno: Errno) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some((dst, errno));
        self.has_failed.store(true, Ordering::Release);
    }

    /// What an earlier datagram to `dst` met with, once.
    fn take_failure(&self, dst: &SocketAddr) -> Option<Errno> {
        if !self.has_failed.load(Ordering::Acquire) {
            return None;
        }
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, errno) = failure.take_if(|f| f.0 == *dst)?;
        self.has_failed.store(false, Ordering::Release);
        Some(errno)
    }

    /// One system call.
    fn send_message(
        &self,
        outs: &[Out],
        first: &Out,
        src: Option<SocketAddr>,
        segment: Option<usize>,
    ) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); MAX_SEGMENTS];
        let mut count = 0;
        for (slice, out) in slices.iter_mut().zip(outs) {
            // `send` saw to it that there is one piece.
            *slice = IoSlice::new(out.payload.contiguous().unwrap_or_default());
            count += 1;
        }
        let dst = SockAddr::from(first.dst);
        let mut control = Control::default();
        if let Some(src) = src {
            control.source(src, &first.dst);
        }
        if let Some(size) = segment {
            control.segment(u16::try_from(size).unwrap_or(u16::MAX));
        }
        let header = MsgHdr::new()
            .with_addr(&dst)
            .with_buffers(slices.get(..count).unwrap_or_default())
            .with_control(control.bytes());
        let mut waited = false;
        loop {
            match self.socket.sendmsg(&header, 0) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && !waited => {
                    waited = true;
                    let _ = poll(
                        &mut [PollFd::new(&self.socket, PollFlags::OUT)],
                        Some(&FULL_WAIT),
                    );
                }
                Err(e) => return Err(e),
            }
        }
    }
}

impl UdpPort for Port {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn send(
        &self,
        payload: Packet,
        dst: &SocketAddr,
        src: Option<SocketAddr>,
    ) -> Result<(), Errno> {
        let failed = self.take_failure(dst);
        // The packet that is told of a bad source address goes all the same, from an address of the host's choice.
        let src = if failed == Some(EADDRNOTAVAIL) {
            None
        } else {
            src
        };
        let payload = match payload.contiguous() {
            Some(_) => payload,
            // Not how the driver makes messages.
            None => Packet::from_slice(&payload.to_vec()).ok_or(ENOBUFS)?,
        };
        let out = Out {
            payload,
            dst: *dst,
            src,
        };
        match QUEUES.with(|q| q.push(self.id, out)) {
            1 => {
                let me: Arc<dyn Flush> = self.me.upgrade().ok_or(ENOTCONN)?;
                flush_later(&me);
            }
            n if n >= QUEUE => self.flush(),
            _ => {}
        }
        failed.map_or(Ok(()), Err)
    }

    fn set_user_cookie(&self, cookie: u32) {
        if self.mark.swap(cookie, Ordering::Relaxed) != cookie
            && let Err(e) = self.socket.set_mark(cookie)
        {
            // There is nobody to return it to.
            crate::log::warning(format_args!("cannot set the mark of a socket: {e}"));
        }
    }

    fn sent_to(&self, ip: &IpAddr, port: Option<u16>) -> bool {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |to: &SocketAddr| to.ip() == *ip && port.is_none_or(|port| port == to.port());
        recent.iter().flatten().any(is_it)
    }

    fn close(&self) {
        self.stopper.stop();
    }
}

impl Port {
    /// Remembers where these go.
    fn note(&self, queue: &[Out]) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for dst in queue.iter().map(|out| Some(out.dst)) {
            if recent.first() == Some(&dst) {
                continue;
            }
            let at = recent.iter().position(|to| *to == dst);
            let end = at.unwrap_or(RECENT - 1);
            recent[..=end].rotate_right(1);
            recent[0] = dst;
        }
    }
}

impl Flush for Port {
    fn flush(&self) {
        let queue = QUEUES.with(|q| q.take(self.id));
        self.note(&queue);
        self.transmit(&queue);
        QUEUES.with(|q| q.recycle(self.id, queue));
    }
}

fn is_bad_source(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::EINVAL | libc::EADDRNOTAVAIL | libc::ENETUNREACH | libc::EHOSTUNREACH)
    )
}

/// Beyond the system's limit if we may, up to it otherwise.
fn raise_buffers(socket: &Socket) {
    if sockopt::set_socket_recv_buffer_size_force(socket, SOCKET_BUFFER).is_err() {
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    }
    if sockopt::set_socket_send_buffer_size_force(socket, SOCKET_BUFFER).is_err() {
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    }
}

/// quinn-udp forbids fragmentation, as QUIC must. A tunnel must not: a link with a smaller MTU than expected would
/// swallow its large packets.
fn allow_fragments(socket: &Socket, local: &SocketAddr) -> io::Result<()> {
    use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
    if local.is_ipv4() {
        sockopt::set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT)?;
    } else {
        sockopt::set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DONT)?;
        let off: libc::c_int = 0;
        let len = libc::socklen_t::try_from(size_of_val(&off)).unwrap_or_default();
        // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the value is `len` readable bytes.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IPV6,
                libc::IPV6_DONTFRAG,
                (&raw const off).cast(),
                len,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Control messages for `sendmsg`, laid out as `cmsg(3)` says: length, level and type, data, padding to a word.
struct Control {
    data: [u8; 80],
    len: usize,
}

const WORD: usize = size_of::<usize>();
const CMSG_HEADER: usize = WORD + 8;

impl Default for Control {
    fn default() -> Control {
        Control {
            data: [0; 80],
            len: 0,
        }
    }
}

impl Control {
    fn bytes(&self) -> &[u8] {
        self.data.get(..self.len).unwrap_or_default()
    }

    /// The address to send from. The address family is the destination's.
    fn source(&mut self, src: SocketAddr, dst: &SocketAddr) {
        match (src, dst) {
            (SocketAddr::V4(src), SocketAddr::V4(_)) => {
                let src = src.ip();
                // struct in_pktinfo: interface index, source, unused.
                let [ifindex, unused] = [[0; 4]; 2];
                let info = [ifindex, src.octets(), unused];
                if !src.is_unspecified() {
                    self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, info.as_flattened());
                }
            }
            (SocketAddr::V6(src), SocketAddr::V6(dst)) => {
                // struct in6_pktinfo: source, interface index.
                let mut info = [0; 20];
                if let Some((addr, index)) = info.split_first_chunk_mut::<16>() {
                    *addr = src.ip().octets();
                    // A link-local source is refused without its link, whatever the destination is.
                    let link = [src.scope_id(), dst.scope_id()];
                    let link = link.into_iter().find(|&scope| scope != 0);
                    index.copy_from_slice(&link.unwrap_or(0).to_ne_bytes());
                }
                if !src.ip().is_unspecified() {
                    self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
                }
            }
            _ => {}
        }
    }

    /// The size of one segment.
    fn segment(&mut self, size: u16) {
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, &size.to_ne_bytes());
    }

    fn push(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let end = CMSG_HEADER + data.len();
        let mut whole = [0; 48];
        let Some(room) = whole.get_mut(..end) else {
            return;
        };
        room[..WORD].copy_from_slice(&end.to_ne_bytes());
        room[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
        room[WORD + 4..CMSG_HEADER].copy_from_slice(&kind.to_ne_bytes());
        room[CMSG_HEADER..].copy_from_slice(data);
        let padded = end.next_multiple_of(WORD);
        if let (Some(to), Some(from)) = (
            self.data.get_mut(self.len..self.len + padded),
            whole.get(..padded),
        ) {
            to.copy_from_slice(from);
            self.len += padded;
        }
    }
}
