// SPDX-License-Identifier: BSD-2-Clause
//! Receiving: from the socket to the stack.
//!
//! UDP callback -> index lookup -> serial queue and a CPU's queue -> opened in the CPU's task, or at
//! once if small and alone -> replay check, peer's state and delivery, in order. Handshake messages take their own bounded
//! queue, so that a flood of them does not delay data.

use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::Ordering;

use kpi::epoch::{Epoch, EpochArc};
use kpi::ifnet::{Counter, Input};
use kpi::mbuf::{Mbuf, MbufList};
use kpi::net::{Family, ShowIp, TunnelSink};
use kpi::serial::Deliver;
use kpi::time::uptime_coarse_ns;
use wg::ip;
use wg::messages::{
    COOKIE_REPLY_LEN, DATA_HEADER_LEN, DATA_MIN_LEN, DATA_OVERHEAD, DataHeader, INITIATION_LEN,
    RESPONSE_LEN, TAG_LEN, TYPE_COOKIE_REPLY, TYPE_INITIATION, TYPE_RESPONSE,
};
use wg::wg_crypto::Aead;

use crate::budget::Budget;
use crate::handshake::HandshakeMessage;
use crate::index::Target;
use crate::peer::{Endpoint, Event, Peer};
use crate::session::Session;
use crate::softc::Softc;
use crate::stats::Reason;
use crate::worker::Job;

/// A packet that one CPU opens.
pub(crate) struct OpenJob {
    session: EpochArc<Session>,
    packet: Option<Mbuf>,
    counter: u64,
    from: Endpoint,
    opened: bool,
}

impl OpenJob {
    pub(crate) fn peer(&self) -> &EpochArc<Peer> {
        &self.session.peer
    }

    pub(crate) fn bytes(&self) -> usize {
        self.packet.as_ref().map_or(0, Mbuf::len)
    }

    /// Whether [`OpenJob::open`] may sleep.
    pub(crate) fn may_sleep(&self) -> bool {
        self.session.cipher_may_sleep()
    }

    /// Makes the packet one writable buffer, which most are from the start. May allocate.
    pub(crate) fn prepare(&mut self) {
        self.packet = self.packet.take().and_then(|m| m.into_writable(0, 0));
        if self.packet.is_none() {
            self.peer().sc.drop_input(Reason::NoMemory, 1);
        }
    }

    /// Adds what there is to open.
    pub(crate) fn spend(&self, budget: &mut Budget) {
        budget.spend(1, self.bytes());
    }

    /// Opens the packet in place if the budget allows it; whether that is done. Neither allocates nor frees, nor sleeps but for the framework's
    /// cipher ([`OpenJob::may_sleep`]).
    pub(crate) fn open(&mut self, aead: &dyn Aead, budget: &mut Budget) -> bool {
        if !budget.take(self.bytes()) {
            return false;
        }
        let aead = self.session.aead(aead);
        self.opened = self
            .packet
            .as_mut()
            .and_then(Mbuf::contiguous_mut)
            .and_then(|buf| buf.get_mut(DATA_HEADER_LEN..))
            .is_some_and(|body| self.session.keypair.open(aead, self.counter, body));
        true
    }
}

impl TunnelSink for Softc {
    fn udp_input(&self, ep: &Epoch, m: Mbuf, src: SocketAddr, dst: SocketAddr) {
        if self.dying.load(Ordering::Relaxed) {
            return self.drop_input(Reason::Down, 1);
        }
        let len = m.len();
        if len < DATA_MIN_LEN {
            return self.drop_input(Reason::Malformed, 1);
        }
        let Some(m) = m.pullup(DATA_HEADER_LEN) else {
            return self.drop_input(Reason::NoMemory, 1);
        };
        let from = Endpoint {
            remote: src,
            local: Some(dst),
        };
        let kind = m.first().first_chunk().map(|k| u32::from_le_bytes(*k));
        match (kind, len) {
            (Some(TYPE_INITIATION), INITIATION_LEN)
            | (Some(TYPE_RESPONSE), RESPONSE_LEN)
            | (Some(TYPE_COOKIE_REPLY), COOKIE_REPLY_LEN) => {
                self.queue_handshake(HandshakeMessage { packet: m, from });
            }
            _ => match DataHeader::peek(m.first()) {
                Some(header) => self.input_data(ep, m, header, from),
                None => self.drop_input(Reason::Malformed, 1),
            },
        }
    }
}

impl Softc {
    fn input_data(&self, ep: &Epoch, m: Mbuf, header: DataHeader, from: Endpoint) {
        let Some(Target::Session(session)) = self.index.lookup(header.receiver, ep) else {
            return self.drop_input(Reason::UnknownIndex, 1);
        };
        if !session.keypair.may_receive(uptime_coarse_ns()) {
            return self.drop_input(Reason::ExpiredSession, 1);
        }
        let peer = &session.peer;
        let waiting = peer.opened.len();
        if waiting >= self.module.limits.in_flight() || !self.has_room() {
            return self.drop_input(Reason::QueueFull, 1);
        }
        let job = OpenJob {
            session: session.clone(),
            packet: Some(m),
            counter: header.counter,
            from,
            opened: false,
        };
        match peer.opened.push(job) {
            Err(_job) => self.drop_input(Reason::NoMemory, 1),
            Ok(ticket) => {
                if let Err(Job::Open(mut ticket)) = self.open_packet(ticket, waiting) {
                    // As in Peer::dispatch: the job keeps its place, empty, and what others have
                    // finished behind it must not be left there.
                    ticket.packet = None;
                    ticket.finish();
                    self.drop_input(Reason::QueueFull, 1);
                    Peer::deliver_soon(peer);
                }
            }
        }
    }

    pub(crate) fn drop_input(&self, why: Reason, packets: u64) {
        self.module.stats.drop(why, packets);
        let counter = match why {
            Reason::QueueFull | Reason::HandshakeQueueFull | Reason::NoMemory => {
                Counter::InQueueDrops
            }
            _ => Counter::InErrors,
        };
        self.ifp.count(counter, packets);
    }
}

/// One turn of in-order delivery for a peer: collects packets for the stack and what the peer's
/// state has to learn of them, so that both are done once a turn and not once a packet.
pub(crate) struct Delivery<'p> {
    peer: &'p EpochArc<Peer>,
    ep: &'p Epoch,
    now: u64,
    packets: MbufList,
    /// Packets of the peer's, whatever was inside.
    authenticated: u64,
    keepalives: u64,
    data: bool,
}

impl<'p> Delivery<'p> {
    pub(crate) fn new(peer: &'p EpochArc<Peer>, ep: &'p Epoch) -> Self {
        Self {
            peer,
            ep,
            now: uptime_coarse_ns(),
            packets: MbufList::new(),
            authenticated: 0,
            keepalives: 0,
            data: false,
        }
    }
}

impl Deliver<OpenJob> for Delivery<'_> {
    fn deliver(&mut self, job: OpenJob) {
        let ep = self.ep;
        let sc = &self.peer.sc;
        let OpenJob {
            session,
            packet,
            counter,
            from,
            opened,
        } = job;
        // No packet: it was dropped and counted on the way.
        let Some(mut m) = packet else { return };
        if self.peer.is_dead() || !sc.ifp.running() {
            return sc.drop_input(Reason::Down, 1);
        }
        if !opened {
            return sc.drop_input(Reason::BadTag, 1);
        }
        // The session may have ended while the packet waited.
        if !session.keypair.may_receive(self.now) {
            return sc.drop_input(Reason::ExpiredSession, 1);
        }
        if !session.replay.lock().accept(counter) {
            return sc.drop_input(Reason::Replayed, 1);
        }
        // From here on the packet is the peer's own, and new.
        if session.unconfirmed.load(Ordering::Relaxed) {
            Peer::confirm(self.peer, &session, ep);
        }
        self.peer.roam(from);
        self.authenticated = self.authenticated.saturating_add(1);

        m.trim_front(DATA_HEADER_LEN);
        let plain = m.len().saturating_sub(TAG_LEN);
        m.truncate(plain);
        if plain == 0 {
            self.keepalives = self.keepalives.saturating_add(1);
            return sc
                .ifp
                .debug(format_args!("peer {}: keepalive received", self.peer.id));
        }
        self.data = true;
        match sc.admit(m, self.peer, ep) {
            Ok(m) => self.packets.push(m),
            Err(why) => sc.drop_input(why, 1),
        }
    }

    /// Updates the peer and gives the packets to the stack.
    fn settle(&mut self) {
        let turn = core::mem::replace(self, Self::new(self.peer, self.ep));
        let Self {
            peer,
            ep,
            now,
            packets,
            authenticated,
            keepalives,
            data,
        } = turn;
        if authenticated == 0 {
            return;
        }
        let sc = &peer.sc;
        peer.timers.any_authenticated_packet_received();
        peer.note(peer.timers.any_authenticated_packet_traversal(now));
        if data {
            peer.note(peer.timers.data_received(now));
        }
        // The session that we send on counts, whichever these packets came on.
        let ending = peer.current.load(ep).is_some_and(|current| {
            let keypair = &current.get().keypair;
            keypair.may_send(now) && keypair.rekey_after_receive(now)
        });
        if ending && peer.timers.last_minute_handshake() {
            Peer::post(peer, Event::Initiate);
        }
        let taken = match packets.is_empty() {
            true => Input::default(),
            false => sc.ifp.input(ep, packets),
        };
        for (why, lost) in [
            (Reason::NoMemory, taken.no_memory),
            (Reason::BadInnerPacket, taken.no_ip),
            (Reason::Down, taken.down),
        ] {
            if lost > 0 {
                sc.drop_input(why, lost as u64);
            }
        }
        // What was dropped, here or on the way, is an error and was not received.
        let received = keepalives.saturating_add(taken.packets as u64);
        if received > 0 {
            let overhead = received.saturating_mul(DATA_OVERHEAD as u64);
            let bytes = overhead.saturating_add(taken.bytes as u64);
            peer.rx_bytes.fetch_add(bytes, Ordering::Relaxed);
            sc.ifp.count(Counter::InPackets, received);
            sc.ifp.count(Counter::InBytes, bytes);
        }
    }
}

impl Softc {
    /// Checks that a packet from inside the tunnel is well-formed IP from an address that `peer`
    /// may use (crypto-key routing, paper section 3), and cuts the padding off.
    fn admit(&self, mut m: Mbuf, peer: &EpochArc<Peer>, ep: &Epoch) -> Result<Mbuf, Reason> {
        let info = ip::inspect(m.first(), m.len()).map_err(|_| Reason::BadInnerPacket)?;
        let owner = self
            .routes
            .load(ep)
            .and_then(|routes| routes.get().lookup(info.src));
        if !owner.is_some_and(|owner| EpochArc::ptr_eq(&owner.0, peer)) {
            self.ifp.debug(format_args!(
                "peer {}: dropped a packet from {}, not among its allowed IPs",
                peer.id,
                ShowIp(info.src)
            ));
            return Err(Reason::SourceNotAllowed);
        }
        m.truncate(info.len);
        m.mark_decapsulated();
        let family = match info.src {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        };
        self.ifp.bpf_tap(ep, &m, family);
        Ok(m)
    }
}
