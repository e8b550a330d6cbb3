// SPDX-License-Identifier: BSD-2-Clause
//! Handshake messages: judged, answered and sent, in tasks of their own.
//!
//! Key agreements are slow, a thousand times slower than what an attacker spends on a message. So
//! messages wait in one bounded queue, which is served by threads of their own, one for every second
//! CPU, that come after those of packets. When it fills the interface is under load: then only those
//! are worked on who prove with a cookie that they own their source address, and of those only so
//! many (paper, section 5.3).

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use kpi::epoch::{Epoch, EpochArc, net_epoch};
use kpi::ifnet::Counter;
use kpi::mbuf::Mbuf;
use kpi::queue::BoundedQueue;
use kpi::random;
use kpi::sync::SetOnce;
use kpi::thread::wipe_stack;
use kpi::time::{realtime, uptime_ns};
use kpi::{AllocError, How, KBox, KVec, Sleepable};
use kpi::{Errno, Result};
use wg::messages::{CookieReply, INITIATION_LEN, Initiation, Message, Response};
use wg::ratelimit::RateLimiter;
use wg::wg_cookie::{Macced, Verdict};
use wg::wg_noise::{Identity, Tie, read_initiation};

use crate::events::EventList;
use crate::index::Target;
use crate::peer::{Endpoint, Peer};
use crate::rng::KernelRng;
use crate::session::Session;
use crate::softc::Softc;
use crate::stats::{Reason, count};

/// The part of the queue of messages, one in so many, from which the interface is under load.
const LOADED_PART: usize = 8;
/// How long the interface counts as under load after it last was, in nanoseconds.
const LOAD_LINGERS: u64 = 1_000_000_000;
/// Messages and events that a task takes before other interfaces' tasks run.
const TURN: usize = 16;

/// A handshake message as it came.
pub(crate) struct HandshakeMessage {
    pub(crate) packet: Mbuf,
    pub(crate) from: Endpoint,
}

/// The queues of handshake messages and peers' events, and the tasks that serve them.
pub(crate) struct Control {
    /// Made when the interface first comes up.
    messages: SetOnce<BoundedQueue<HandshakeMessage>>,
    events: EventList,
    /// For each task: it has been enqueued and has not begun to look at the queues.
    scheduled: KVec<AtomicBool>,
    next: AtomicUsize,
    /// Uptime until which the interface counts as under load.
    loaded_until: AtomicU64,
}

impl Control {
    pub(crate) fn new(tasks: usize, how: How<'_>) -> Result<KBox<Self>, AllocError> {
        let mut scheduled = KVec::with_capacity(tasks, how)?;
        for _ in 0..tasks {
            scheduled.try_push(AtomicBool::new(false), how)?;
        }
        KBox::new_with(how, || Self {
            messages: SetOnce::new(),
            events: EventList::new(),
            scheduled,
            next: AtomicUsize::new(0),
            loaded_until: AtomicU64::new(0),
        })
    }

    /// Makes the queue of messages, if it is not there.
    pub(crate) fn make_queue(&self, messages: usize, how: How<'_>) -> Result<(), AllocError> {
        if self.messages.get().is_none() {
            let queue = KBox::new(BoundedQueue::with_capacity(messages, how)?, how)?;
            // The configuration's lock is held: nobody else sets it.
            let _ = self.messages.set(queue);
        }
        Ok(())
    }

    fn under_load(&self, now: u64) -> bool {
        let full = |m: &BoundedQueue<_>| m.len_hint() >= m.capacity() / LOADED_PART;
        if self.messages.get().is_some_and(full) {
            self.loaded_until
                .store(now.saturating_add(LOAD_LINGERS), Ordering::Relaxed);
            return true;
        }
        now < self.loaded_until.load(Ordering::Relaxed)
    }
}

impl Softc {
    pub(crate) fn queue_handshake(&self, message: HandshakeMessage) {
        let Some(messages) = self.control.messages.get() else {
            return self.drop_input(Reason::Down, 1);
        };
        if messages.push(message).is_err() {
            // A full queue is load, even if the tasks empty it before they next look.
            let until = uptime_ns().saturating_add(LOAD_LINGERS);
            self.control.loaded_until.store(until, Ordering::Relaxed);
            self.drop_input(Reason::HandshakeQueueFull, 1);
        }
        self.wake_control();
    }

    /// Queues a peer that has events and is not queued.
    pub(crate) fn queue_event(&self, peer: EpochArc<Peer>) {
        self.control.events.push(peer);
        self.wake_control();
    }

    /// Wakes one task, in turn: under load all of them come to work.
    fn wake_control(&self) {
        let turn = self.control.next.fetch_add(1, Ordering::Relaxed);
        if let Some(at) = turn.checked_rem(self.control.scheduled.len()) {
            self.wake_control_at(at);
        }
    }

    fn wake_control_at(&self, at: usize) {
        // As in `worker`: one wake-up serves all that comes before the task looks.
        if let Some(scheduled) = self.control.scheduled.get(at)
            && !scheduled.swap(true, Ordering::SeqCst)
        {
            self.enqueue_control_task(at);
        }
    }

    /// The body of control task `at`.
    pub(crate) fn run_control(&self, at: usize, cx: &Sleepable) {
        let Some(scheduled) = self.control.scheduled.get(at) else {
            return;
        };
        scheduled.swap(false, Ordering::SeqCst);
        self.run_turn(at, cx);
        // Handshakes have moved keys about.
        wipe_stack();
    }

    #[inline(never)] // Its frame is to lie in what is wiped.
    fn run_turn(&self, at: usize, cx: &Sleepable) {
        for _ in 0..TURN {
            let peer = self.control.events.pop();
            if let Some(peer) = &peer {
                Peer::run_events(peer);
            }
            let message = self.control.messages.get().and_then(BoundedQueue::pop);
            let idle = peer.is_none() && message.is_none();
            if let Some(message) = message {
                self.handshake(message, cx);
            }
            if idle {
                return;
            }
        }
        self.wake_control_at(at);
    }

    /// Throws away all that is queued; see `discard_jobs`.
    pub(crate) fn discard_control(&self) {
        if let Some(messages) = self.control.messages.get() {
            while messages.pop().is_some() {}
        }
        while self.control.events.pop().is_some() {}
    }

    fn handshake(&self, message: HandshakeMessage, cx: &Sleepable) {
        let HandshakeMessage { packet, from } = message;
        let mut buf = [0u8; INITIATION_LEN];
        let parsed = buf
            .get_mut(..packet.len())
            .and_then(|bytes| packet.copy_out(0, bytes).then_some(&*bytes))
            .map(Message::parse);
        drop(packet);
        let done = match parsed {
            Some(Ok(Message::Initiation(m))) => self.respond(&m, from, cx),
            Some(Ok(Message::Response(m))) => self.complete(&m, from, cx),
            Some(Ok(Message::CookieReply(m))) => self.take_cookie(&m),
            _ => Err(Reason::Malformed),
        };
        if let Err(why) = done {
            self.drop_input(why, 1);
        }
    }

    /// Whether a message is worth a key agreement: its first MAC, and under load its cookie and the
    /// rate of its source.
    fn screen(&self, message: Macced<'_>, from: &Endpoint, now: u64) -> Result<(), Reason> {
        let loaded = self.control.under_load(now);
        let src = &from.remote;
        let verdict = match self.checker.read().as_ref() {
            Some(checker) => checker.check(message, src, loaded, now),
            None => return Err(Reason::BadMac),
        };
        match verdict {
            Verdict::Process => Ok(()),
            Verdict::Invalid => Err(Reason::BadMac),
            Verdict::ProcessIfRate => {
                let mut limiter = self.ratelimit.lock();
                if limiter.is_none() {
                    let mut key = [0; 16];
                    random::fill(&mut key);
                    // Without memory for it nobody passes: this is a flood.
                    *limiter = RateLimiter::new(key, How::NoWait).ok();
                }
                match limiter
                    .as_mut()
                    .is_some_and(|limiter| limiter.allow(src.ip(), now))
                {
                    true => Ok(()),
                    false => Err(Reason::RateLimited),
                }
            }
            Verdict::SendCookie => {
                let reply = match self.checker.write().as_mut() {
                    Some(checker) => checker.cookie_reply(message, src, now, &mut KernelRng),
                    None => None,
                };
                if let Some(reply) = reply {
                    count(&self.module.stats.handshakes.cookies_sent);
                    let _ = net_epoch(|ep| self.send_message(&reply, from, ep));
                }
                Err(Reason::CookieDemanded)
            }
        }
    }

    fn current_identity(&self) -> Option<EpochArc<Identity>> {
        net_epoch(|ep| self.identity.load_arc(ep))
    }

    /// Answers an initiation.
    #[inline(never)] // The three kinds of message need their stack one at a time.
    fn respond(&self, m: &Initiation<'_>, from: Endpoint, cx: &Sleepable) -> Result<(), Reason> {
        let now = uptime_ns();
        self.screen((*m).into(), &from, now)?;
        let identity = self.current_identity().ok_or(Reason::BadHandshake)?;
        let incoming = read_initiation(&identity, m).map_err(|_| Reason::BadHandshake)?;
        let peer = self.peers.read().lookup(incoming.static_public()).cloned();
        let peer = peer.ok_or(Reason::BadHandshake)?;
        // Before the lock, as it may sleep.
        let mut cipher = self.module.cipher_of_session(cx)?;
        let reply = {
            let mut handshake = peer.handshake.lock();
            if !peer.may_have_session() {
                return Err(Reason::Down);
            }
            if let Err(why) = handshake.noise.accept_initiation(incoming, now) {
                self.ifp.debug(format_args!(
                    "peer {}: initiation refused: {why:?}",
                    peer.id
                ));
                return Err(Reason::BadHandshake);
            }
            let index = self.index.insert_new(Target::Handshake(peer.clone()));
            let index = index.map_err(|AllocError| Reason::NoMemory)?;
            let made = handshake
                .noise
                .create_response(index, &mut KernelRng)
                .map_err(|_| Reason::BadHandshake)
                .and_then(|(reply, keys)| {
                    let session = Session::new(keys, &mut cipher, &peer, now)?;
                    self.index
                        .replace(index, Target::Session(session.clone()))?;
                    Ok((reply, session))
                });
            let (mut reply, session) = match made {
                Ok(made) => made,
                Err(why) => {
                    self.index.remove(index);
                    return Err(why);
                }
            };
            handshake.macs.add_to_response(&mut reply, now);
            handshake.crossed = handshake.noise.pending_index().is_some();
            peer.install_responder(session);
            // Under the lock, so that an initiation of ours that is wanted at this moment sees it.
            peer.timers.handshake_answered(now);
            reply
        };
        count(&self.module.stats.handshakes.initiations_answered);
        self.ifp.debug(format_args!(
            "peer {}: initiation received, answering",
            peer.id
        ));
        self.authentic(&peer, INITIATION_LEN, from, now);
        peer.note(peer.timers.session_derived(now));
        net_epoch(|ep| peer.send_handshake(&reply, ep));
        Ok(())
    }

    /// Completes a handshake that we opened.
    #[inline(never)]
    fn complete(&self, m: &Response<'_>, from: Endpoint, cx: &Sleepable) -> Result<(), Reason> {
        let now = uptime_ns();
        self.screen((*m).into(), &from, now)?;
        let identity = self.current_identity().ok_or(Reason::BadHandshake)?;
        let peer = self.pending(m.receiver()).ok_or(Reason::UnknownIndex)?;
        let mut cipher = self.module.cipher_of_session(cx)?;
        {
            let mut handshake = peer.handshake.lock();
            if !peer.may_have_session() {
                return Err(Reason::Down);
            }
            let keys = match handshake.noise.consume_response(&identity, m) {
                Ok(keys) => keys,
                Err(why) => {
                    self.ifp
                        .debug(format_args!("peer {}: response refused: {why:?}", peer.id));
                    return Err(Reason::BadHandshake);
                }
            };
            let session = Session::new(keys, &mut cipher, &peer, now).and_then(|session| {
                self.index
                    .replace(m.receiver(), Target::Session(session.clone()))?;
                Ok(session)
            });
            match session {
                Ok(session) => {
                    let tie = match handshake.crossed {
                        true => Tie::crossed(identity.public(), &peer.public),
                        false => Tie::Ours,
                    };
                    peer.install_initiator(session, tie);
                }
                Err(AllocError) => {
                    self.index.remove(m.receiver());
                    return Err(Reason::NoMemory);
                }
            }
        }
        self.authentic(&peer, m.bytes().len(), from, now);
        peer.note(peer.timers.session_derived(now));
        peer.handshake_complete();
        // The responder must not send before it hears from us on the new session (paper, 5.4.4).
        net_epoch(|ep| Peer::send_keepalive(&peer, ep));
        Ok(())
    }

    fn take_cookie(&self, m: &CookieReply<'_>) -> Result<(), Reason> {
        let peer = match self.pending(m.receiver()) {
            Some(peer) => peer,
            // A cookie may also answer our response, whose index is a session already.
            None => self
                .session_peer(m.receiver())
                .ok_or(Reason::UnknownIndex)?,
        };
        let taken = peer
            .handshake
            .lock()
            .macs
            .consume_cookie_reply(m, uptime_ns());
        self.ifp.debug(format_args!(
            "peer {}: cookie reply, valid: {taken}",
            peer.id
        ));
        if taken {
            count(&self.module.stats.handshakes.cookies_received);
            Ok(())
        } else {
            Err(Reason::BadHandshake)
        }
    }

    /// The peer whose handshake waits under this index.
    fn pending(&self, index: u32) -> Option<EpochArc<Peer>> {
        net_epoch(|ep| match self.index.lookup(index, ep) {
            Some(Target::Handshake(peer)) => Some(peer.clone()),
            _ => None,
        })
    }

    fn session_peer(&self, index: u32) -> Option<EpochArc<Peer>> {
        net_epoch(|ep| match self.index.lookup(index, ep) {
            Some(Target::Session(session)) => Some(session.peer.clone()),
            _ => None,
        })
    }

    /// What every authentic handshake message does for its peer.
    fn authentic(&self, peer: &EpochArc<Peer>, len: usize, from: Endpoint, now: u64) {
        peer.roam(from);
        peer.rx_bytes.fetch_add(len as u64, Ordering::Relaxed);
        self.ifp.count(Counter::InPackets, 1);
        self.ifp.count(Counter::InBytes, len as u64);
        peer.timers.any_authenticated_packet_received();
        peer.note(peer.timers.any_authenticated_packet_traversal(now));
    }

    /// Sends a message that is not a data packet.
    pub(crate) fn send_message(&self, bytes: &[u8], to: &Endpoint, ep: &Epoch) -> Result<()> {
        let sockets = self.sockets.load(ep).ok_or(Errno::ENETDOWN)?.get();
        let copy = || Mbuf::from_slice(bytes).ok_or(Errno::ENOBUFS);
        match sockets.send(copy()?, to) {
            // Our address that the peer used is gone; routing may know another.
            Err(Errno::EADDRNOTAVAIL) if to.local.is_some() => {
                sockets.send(copy()?, &Endpoint { local: None, ..*to })
            }
            sent => sent,
        }
    }
}

impl Peer {
    /// Opens a handshake, unless one was opened or answered less than REKEY_TIMEOUT ago; then, and
    /// when it fails, it is tried again later. `retry` says that this is such a later attempt.
    pub(crate) fn initiate(this: &EpochArc<Self>, retry: bool) {
        let sc = &this.sc;
        let now = uptime_ns();
        if this.endpoint().is_none() {
            // Whoever sets it asks again, and nobody else can make this possible.
            return;
        }
        this.note(this.timers.initiation_wanted(now, retry, random::u32()));
        if !this.timers.initiation_possible(now) {
            // After the deadline was left: who completes a handshake installs the session and then
            // takes the deadline away. One of the two sees the other.
            if net_epoch(|ep| this.has_new_session(now, ep)) {
                this.timers.initiation_void();
            }
            return;
        }
        let message = {
            let mut handshake = this.handshake.lock();
            // Under the lock: the interface changes its identity first and then, under this lock,
            // what the handshake has of it. An older identity than the handshake's would make an
            // initiation that nobody can read.
            let Some(identity) = sc.current_identity() else {
                return sc
                    .ifp
                    .debug(format_args!("peer {}: no private key is set", this.id));
            };
            if this.is_dead() || !this.timers.initiation_due(now) {
                return;
            }
            let Ok(index) = sc.index.insert_new(Target::Handshake(this.clone())) else {
                return sc.drop_output(Reason::NoMemory, 1);
            };
            let old = handshake.noise.pending_index();
            let (secs, nanos) = realtime();
            let stamp = sc.stamps.stamp(secs, nanos);
            let made = handshake
                .noise
                .create_initiation(&identity, index, stamp, &mut KernelRng);
            let Some(mut message) = made else {
                sc.index.remove(index);
                return sc
                    .ifp
                    .debug(format_args!("peer {}: its public key is unusable", this.id));
            };
            if let Some(old) = old {
                sc.index.remove(old);
            }
            // Whatever we have answered so far was before this one.
            handshake.crossed = false;
            handshake.macs.add_to_initiation(&mut message, now);
            message
        };
        this.note(this.timers.handshake_initiated(now, random::u32()));
        // The address that the peer used last may be that of an uplink which is dead, or which was only
        // used while another one was. Routing chooses anew, and the answer makes its choice stick.
        this.forget_source();
        count(&sc.module.stats.handshakes.initiations_sent);
        sc.ifp
            .debug(format_args!("peer {}: sending initiation", this.id));
        net_epoch(|ep| this.send_handshake(&message, ep));
    }

    /// Sends a handshake message to where the peer is.
    fn send_handshake(&self, message: &[u8], ep: &Epoch) {
        let Some(endpoint) = self.endpoint() else {
            return;
        };
        match self.sc.send_message(message, &endpoint, ep) {
            Ok(()) => {
                self.count_sent(1, message.len() as u64);
                self.timers.any_authenticated_packet_sent();
                self.note(self.timers.any_authenticated_packet_traversal(uptime_ns()));
            }
            Err(errno) => {
                self.sc.drop_output(Reason::SendFailed, 1);
                self.send_failed(errno);
            }
        }
    }
}
