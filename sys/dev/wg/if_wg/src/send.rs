// SPDX-License-Identifier: BSD-2-Clause
//! Sending: from the stack's packet to the socket.
//!
//! `if_output` -> allowed-IP lookup -> nonce -> serial queue and a CPU's queue -> sealed in the
//! CPU's task -> socket, in order. A packet that finds no session waits in the peer's staging
//! queue, and the handshake that it asks for sends it on its way.

use core::net::IpAddr;
use core::sync::atomic::Ordering;

use kpi::epoch::{Epoch, EpochArc};
use kpi::ifnet::{Counter, IcmpReason};
use kpi::mbuf::{Mbuf, MbufList, ReceivedBy};
use kpi::net::Family;
use kpi::random;
use kpi::time::uptime_coarse_ns;
use kpi::{Errno, Result};
use wg::ip::{self, IpInfo};
use wg::messages::{DATA_HEADER_LEN, DATA_OVERHEAD, DataHeader, TAG_LEN, padded_len};
use wg::wg_crypto::Aead;
use wg::wg_noise::Keypair;

use crate::budget::Budget;
use crate::peer::{Event, Peer};
use crate::session::Session;
use crate::softc::Softc;
use crate::stats::Reason;
use crate::worker::Job;

/// Packets of one peer that are sealed by one CPU, with consecutive counters: at most a portion, so
/// that all CPUs share what one peer has.
pub(crate) struct SealJob {
    session: EpochArc<Session>,
    /// Counter of the first packet.
    first: u64,
    /// In plaintext. They do not leave.
    packets: MbufList,
    sealed: MbufList,
}

impl SealJob {
    pub(crate) fn peer(&self) -> &EpochArc<Peer> {
        &self.session.peer
    }

    /// Adds what there is to seal.
    pub(crate) fn spend(&self, budget: &mut Budget) {
        budget.spend(self.packets.len(), self.packets.bytes());
    }

    /// Packets that are in the job, in whatever state.
    fn len(&self) -> u64 {
        self.packets.len().saturating_add(self.sealed.len()) as u64
    }

    /// Makes each packet one writable buffer that holds header, plaintext, padding and room for
    /// the tag. May allocate; packets for which there is no memory are dropped, and their counters
    /// go unused.
    pub(crate) fn prepare(&mut self) {
        let sc = &self.session.peer.sc;
        let mtu = sc.ifp.mtu() as usize;
        let mut ready = MbufList::new();
        let mut counter = self.first;
        let mut lost = 0;
        while let Some(m) = self.packets.pop() {
            match frame(m, mtu, self.session.keypair.header(counter)) {
                Some(m) => ready.push(m),
                None => lost += 1,
            }
            counter = counter.wrapping_add(1);
        }
        self.packets = ready;
        if lost > 0 {
            sc.drop_output(Reason::NoMemory, lost);
        }
    }

    /// Seals packets in place, as many as the budget allows; whether that is all of them. Neither
    /// allocates nor frees nor sleeps.
    pub(crate) fn seal(&mut self, aead: &dyn Aead, budget: &mut Budget) -> bool {
        let keypair = &self.session.keypair;
        let aead = self.session.aead(aead);
        while let Some(bytes) = self.packets.iter().next().map(|m| m.len()) {
            if !budget.take(bytes) {
                return false;
            }
            let Some(mut m) = self.packets.pop() else {
                break;
            };
            seal(&mut m, keypair, aead);
            self.sealed.push(m);
        }
        true
    }
}

/// Seals one packet.
fn seal(m: &mut Mbuf, keypair: &Keypair, aead: &dyn Aead) {
    let Some(buf) = m.contiguous_mut() else {
        return;
    };
    let Some(header) = DataHeader::peek(buf) else {
        return;
    };
    let sealed = buf
        .get_mut(DATA_HEADER_LEN..)
        .is_some_and(|body| keypair.seal(aead, header.counter, body));
    if !sealed {
        // Plaintext must not leave: without its header the packet is not sent.
        buf.fill(0);
    }
}

/// Puts header, padding and room for the tag around the plaintext.
fn frame(m: Mbuf, mtu: usize, header: DataHeader) -> Option<Mbuf> {
    let len = m.len();
    let mtu = match m.scratch() {
        0 => mtu,
        route => route as usize,
    };
    let padding = padded_len(len, mtu).checked_sub(len)?;
    let tail = padding.checked_add(TAG_LEN)?;
    let mut m = m.into_writable(DATA_HEADER_LEN, tail)?;
    m.reset_for_encap();
    if !m.grow_front(DATA_HEADER_LEN) || !m.grow_back(tail) {
        return None;
    }
    let buf = m.contiguous_mut()?;
    *buf.first_chunk_mut()? = header.to_bytes();
    // What the padding's place held before must not leave the machine, encrypted or not.
    buf.get_mut(DATA_HEADER_LEN.checked_add(len)?..)?.fill(0);
    Some(m)
}

impl Softc {
    /// Sends one packet of the stack. `route_mtu` overrides the interface's MTU for padding.
    ///
    /// # Errors
    /// ENETDOWN while the interface is down, EINVAL for what is not sound IP, EAFNOSUPPORT for IP
    /// of another version than `af`, ENETUNREACH when no peer serves the destination, EHOSTUNREACH
    /// when its peer has no endpoint, ELOOP for a packet that has been here before, ENOBUFS without
    /// memory to look at it. The packet is gone in every case, and its sender told by ICMP where
    /// that helps.
    ///
    /// No error tells of a full queue: the packet is lost as on any link, and counted. TCP would
    /// take ENOBUFS as a reason to begin anew with a window of one segment.
    pub(crate) fn output_packet<'e>(
        &self,
        ep: &'e Epoch,
        m: Mbuf,
        af: Family,
        route_mtu: Option<u32>,
        from: ReceivedBy<'e>,
    ) -> Result<()> {
        if !self.ifp.running() || self.dying.load(Ordering::Relaxed) {
            self.drop_output(Reason::Down, 1);
            return Err(Errno::ENETDOWN);
        }
        let head = m.len().min(ip::HEAD_LEN);
        let Some(mut m) = m.pullup(head) else {
            self.drop_output(Reason::NoMemory, 1);
            return Err(Errno::ENOBUFS);
        };
        // The stack's own packets are sound; a bpf(4) writer's may be anything.
        let dst = match (ip::inspect(m.first(), m.len()), af) {
            (
                Ok(IpInfo {
                    dst: dst @ IpAddr::V4(_),
                    ..
                }),
                Family::V4,
            )
            | (
                Ok(IpInfo {
                    dst: dst @ IpAddr::V6(_),
                    ..
                }),
                Family::V6,
            ) => dst,
            (Ok(_), _) => {
                self.drop_output(Reason::BadFamily, 1);
                return Err(Errno::EAFNOSUPPORT);
            }
            (Err(_), _) => {
                self.drop_output(Reason::BadInnerPacket, 1);
                return Err(Errno::EINVAL);
            }
        };
        self.ifp.bpf_tap(ep, &m, af);

        let Some(owner) = self.routes.load(ep).and_then(|r| r.get().lookup(dst)) else {
            return self.reject(
                ep,
                m,
                Reason::NoPeer,
                Errno::ENETUNREACH,
                IcmpReason::NoRoute,
                from,
            );
        };
        let peer = &owner.0;
        match self.ifp.check_nesting(&mut m) {
            Ok(()) => {}
            Err(Errno::ENOMEM) => {
                self.drop_output(Reason::NoMemory, 1);
                return Err(Errno::ENOBUFS);
            }
            Err(_) => {
                return self.reject(
                    ep,
                    m,
                    Reason::Loop,
                    Errno::ELOOP,
                    IcmpReason::HostUnreachable,
                    from,
                );
            }
        }
        if peer.endpoint().is_none() {
            self.ifp
                .debug(format_args!("peer {}: no endpoint is known", peer.id));
            return self.reject(
                ep,
                m,
                Reason::NoEndpoint,
                Errno::EHOSTUNREACH,
                IcmpReason::HostUnreachable,
                from,
            );
        }
        m.set_scratch(route_mtu.unwrap_or(0));
        Peer::send(peer, m, ep);
        Ok(())
    }

    /// Drops a packet to send and tells its sender.
    fn reject<'e>(
        &self,
        ep: &'e Epoch,
        m: Mbuf,
        why: Reason,
        errno: Errno,
        reason: IcmpReason,
        from: ReceivedBy<'e>,
    ) -> Result<()> {
        self.drop_output(why, 1);
        self.ifp.icmp_error(ep, m, reason, from);
        Err(errno)
    }

    pub(crate) fn drop_output(&self, why: Reason, packets: u64) {
        self.module.stats.drop(why, packets);
        let counter = match why {
            Reason::QueueFull | Reason::NoSession => Counter::OutQueueDrops,
            _ => Counter::OutErrors,
        };
        self.ifp.count(counter, packets);
    }
}

impl Peer {
    /// Sends `m` now when there is a session, or stages it and asks for a handshake.
    pub(crate) fn send(this: &EpochArc<Self>, m: Mbuf, ep: &Epoch) {
        // Packets that wait go first. The look at their number is a hint: a packet that overtakes
        // another by it is put right by the receiver's replay window.
        if this.staged_len.load(Ordering::Relaxed) == 0
            && let Some(session) = this.sending_session(ep)
            && let Some(first) = session.keypair.reserve(1)
        {
            let mut packets = MbufList::new();
            packets.push(m);
            return Self::dispatch(this, session, first, packets);
        }
        this.stage(m);
        Self::flush_staged(this, ep);
    }

    /// Sends an empty packet, unless packets wait that will do as well (paper, section 6.5).
    pub(crate) fn send_keepalive(this: &EpochArc<Self>, ep: &Epoch) {
        if this.staged_len.load(Ordering::Relaxed) == 0 {
            let Some(m) = Mbuf::alloc(0) else {
                this.sc.drop_output(Reason::NoMemory, 1);
                return this.note(this.timers.keepalive_failed(uptime_coarse_ns()));
            };
            this.stage(m);
        }
        Self::flush_staged(this, ep);
    }

    fn stage(&self, m: Mbuf) {
        let mut staged = self.staged.lock();
        // Whoever takes the interface down marks it first and then takes this lock to purge: what
        // comes to be staged after that finds the mark.
        if !self.may_have_session() {
            drop(staged);
            return self.sc.drop_output(Reason::Down, 1);
        }
        while staged.len() >= self.sc.module.limits.staged() {
            // The oldest is the one whose sender has most likely given up on it.
            drop(staged.pop());
            self.sc.drop_output(Reason::NoSession, 1);
        }
        staged.push(m);
        self.staged_len.store(staged.len(), Ordering::Relaxed);
    }

    /// Drops what waits for a handshake.
    pub(crate) fn purge_staged(&self) {
        let purged = {
            let mut staged = self.staged.lock();
            self.staged_len.store(0, Ordering::Relaxed);
            core::mem::replace(&mut *staged, MbufList::new())
        };
        if !purged.is_empty() {
            self.sc.drop_output(Reason::NoSession, purged.len() as u64);
        }
    }

    /// Sends what waits for a session, or asks for a handshake if there still is none.
    pub(crate) fn flush_staged(this: &EpochArc<Self>, ep: &Epoch) {
        let mut staged = this.staged.lock();
        let wanting = loop {
            if staged.is_empty() {
                break false;
            }
            let mut budget = Budget::new();
            let sizes = staged.iter().map(|m| m.len());
            let n = sizes
                .take_while(|len| budget.take(len.saturating_add(DATA_OVERHEAD)))
                .count();
            let ready = this.sending_session(ep).and_then(|session| {
                let first = session.keypair.reserve(n as u64)?;
                Some((session, first))
            });
            let Some((session, first)) = ready else {
                break true;
            };
            let mut packets = MbufList::new();
            for m in core::iter::from_fn(|| staged.pop()).take(n) {
                packets.push(m);
            }
            this.staged_len.store(staged.len(), Ordering::Relaxed);
            // Under the lock: two flushes must not put their packets into the serial queue in
            // another order than they took their counters.
            Self::dispatch(this, session, first, packets);
        };
        drop(staged);
        if wanting {
            Self::post(this, Event::Initiate);
        }
    }

    /// The session to send on, if there is one that may still be used.
    fn sending_session(&self, ep: &Epoch) -> Option<EpochArc<Session>> {
        let session = self.current.load_arc(ep)?;
        session
            .keypair
            .may_send(uptime_coarse_ns())
            .then_some(session)
    }

    /// Gives packets, whose counters begin at `first`, to a CPU.
    fn dispatch(this: &EpochArc<Self>, session: EpochArc<Session>, first: u64, packets: MbufList) {
        let n = packets.len() as u64;
        let (bytes, waiting) = (packets.bytes(), this.sealed.len());
        if waiting >= this.sc.module.limits.in_flight() || !this.sc.has_room() {
            return this.sc.drop_output(Reason::QueueFull, n);
        }
        let job = SealJob {
            session,
            first,
            packets,
            sealed: MbufList::new(),
        };
        let Ok(ticket) = this.sealed.push(job) else {
            return this.sc.drop_output(Reason::NoMemory, n);
        };
        if let Err(Job::Seal(mut ticket)) = this.sc.submit_packet(Job::Seal(ticket), bytes, waiting)
        {
            // All queues filled up since we looked. The job keeps its place without its packets,
            // and what others have finished behind it meanwhile must not be left there.
            ticket.packets = MbufList::new();
            ticket.finish();
            this.sc.drop_output(Reason::QueueFull, n);
            Self::deliver_soon(this);
        }
    }

    /// Sends the packets of a finished job. Called in order, by one task at a time.
    pub(crate) fn transmit(&self, mut job: SealJob, ep: &Epoch) {
        let sc = &self.sc;
        let now = uptime_coarse_ns();
        // Revoked: the interface was down meanwhile.
        let void = self.is_dead() || job.session.keypair.is_revoked();
        let endpoint = self.endpoint().filter(|_| !void);
        let sockets = sc.sockets.load(ep);
        let (Some(endpoint), Some(sockets)) = (endpoint, sockets) else {
            return sc.drop_output(Reason::Down, job.len());
        };
        let (mut packets, mut bytes, mut data) = (0u64, 0u64, false);
        let mut failed = job.packets.len() as u64;
        while let Some(m) = job.sealed.pop() {
            let len = m.len();
            if DataHeader::peek(m.first()).is_none() {
                // The cipher refused it.
                failed += 1;
                continue;
            }
            data |= len > DATA_OVERHEAD;
            match sockets.get().send(m, &endpoint) {
                Ok(()) => {
                    packets += 1;
                    bytes = bytes.saturating_add(len as u64);
                }
                Err(errno) => {
                    failed += 1;
                    self.send_failed(errno);
                }
            }
        }
        if failed > 0 {
            sc.drop_output(Reason::SendFailed, failed);
        }
        if data {
            self.note(self.timers.data_sent(now, random::u32));
        }
        if packets > 0 {
            self.count_sent(packets, bytes);
            self.timers.any_authenticated_packet_sent();
            self.note(self.timers.any_authenticated_packet_traversal(now));
        }
        if job.session.keypair.rekey_after_send(now) && self.timers.initiation_possible(now) {
            Self::post(job.peer(), Event::Initiate);
        }
    }

    /// What to learn from a send that failed.
    pub(crate) fn send_failed(&self, errno: Errno) {
        if errno == Errno::EADDRNOTAVAIL {
            // The address that the peer last reached us at is gone; let routing choose.
            self.forget_source();
        }
        self.sc.ifp.debug(format_args!(
            "peer {}: send failed, errno {}",
            self.id,
            errno.to_raw()
        ));
    }

    pub(crate) fn count_sent(&self, packets: u64, bytes: u64) {
        self.tx_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.sc.ifp.count(Counter::OutPackets, packets);
        self.sc.ifp.count(Counter::OutBytes, bytes);
    }
}
