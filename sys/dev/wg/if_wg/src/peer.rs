// SPDX-License-Identifier: BSD-2-Clause
//! A peer: its handshake, its sessions, its queues, its timers, and how it goes away.
//!
//! Lock order, from first to last: `handshake`, `staged`, `sessions`, the interface's index table.
//! `endpoint` and `own` are leaves.
//!
//! A peer refers to its interface and is referred to by the peer table, the allowed IPs, its
//! sessions, the index table, its callout, and by what is queued for it. All but the last are cut
//! by [`Peer::shutdown`]; what is queued drains by itself, and the last reference frees the peer
//! after the epoch.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use kpi::callout::{Callout, Expire};
use kpi::epoch::{Epoch, EpochArc, EpochCell, net_epoch};
use kpi::mbuf::MbufList;
use kpi::serial::Serial;
use kpi::sync::{Mutex, RwLock};
use kpi::time::{realtime, uptime_ns};
use kpi::{AllocError, How, KArc, Sleepable};
use wg::timers::{REKEY_TIMEOUT, Timers};
use wg::wg_cookie::Macs;
use wg::wg_noise::{Confirmed, Fallen, Handshake, Identity, Slots, Tie};

use crate::receive::OpenJob;
use crate::send::SealJob;
use crate::session::Session;
use crate::softc::Softc;
use crate::stats::count;

/// Where a peer is, and which of our addresses it talks to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) remote: SocketAddr,
    /// The sticky source: replies leave from the address that the peer used, with the link that a
    /// link-local one belongs to. None lets routing choose.
    pub(crate) local: Option<SocketAddr>,
}

/// A peer as the owner of an allowed IP. Owners are equal when they are the same peer.
#[derive(Clone)]
pub(crate) struct Owner(pub(crate) EpochArc<Peer>);

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        EpochArc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Owner {}

/// Work for a peer that needs a task of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Event {
    /// A session is wanted.
    Initiate = 1,
    /// An empty packet is wanted.
    Keepalive = 2,
    /// The callout went off.
    Expire = 4,
    /// Finished packets may have been left at the head of a serial queue.
    Deliver = 8,
}

/// How many allowed IPs a peer has. For those who hold the interface's configuration, which
/// protects it; the lock of its own is only there because the peer is shared.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) v4: usize,
    pub(crate) v6: usize,
}

/// [`Tally`], and what it comes to if the request that is being prepared is carried out.
#[derive(Default)]
pub(crate) struct Own {
    pub(crate) now: Tally,
    /// Number of the request that the fields below belong to; those of another one are void, so
    /// that a request which fails has nothing to take back.
    pub(crate) plan: u64,
    pub(crate) planned: Tally,
    /// The prefixes that were inserted before this one are taken away.
    pub(crate) cleared: u64,
}

/// What the handshake lock protects.
pub(crate) struct HandshakeState {
    pub(crate) noise: Handshake,
    pub(crate) macs: Macs,
    /// The session that waits is of an initiation that we answered while one of ours was out.
    pub(crate) crossed: bool,
}

pub(crate) struct Peer {
    pub(crate) sc: KArc<Softc>,
    /// Number of the peer in messages, and the order of creation.
    pub(crate) id: u64,
    pub(crate) public: [u8; 32],
    /// Set once, when the peer is removed: nothing new starts for it.
    dead: AtomicBool,
    pub(crate) handshake: Mutex<HandshakeState>,
    sessions: Mutex<Slots<EpochArc<Session>>>,
    /// The session to send on, for readers without the lock.
    pub(crate) current: EpochCell<Session>,
    endpoint: RwLock<Option<Endpoint>>,
    pub(crate) staged: Mutex<MbufList>,
    pub(crate) staged_len: AtomicUsize,
    /// Packets being sealed, in the order in which they are to be sent.
    pub(crate) sealed: Serial<SealJob>,
    /// Packets being opened, in the order in which they came.
    pub(crate) opened: Serial<OpenJob>,
    pub(crate) own: Mutex<Own>,
    pub(crate) timers: Timers,
    callout: Callout<Peer>,
    /// [`Event`]s that are due.
    events: AtomicU8,
    /// The peer is in the list of those with events.
    queued: AtomicBool,
    /// The next one in that list.
    pub(crate) next_event: EpochCell<Peer>,
    pub(crate) tx_bytes: AtomicU64,
    pub(crate) rx_bytes: AtomicU64,
}

impl Peer {
    #[inline(never)] // It is large.
    pub(crate) fn new(
        sc: &KArc<Softc>,
        public: &[u8; 32],
        identity: Option<&Identity>,
        cx: &Sleepable,
    ) -> Result<EpochArc<Self>, AllocError> {
        let how = How::Wait(cx);
        let callout = Callout::new(how)?;
        EpochArc::new_with(how, || Self {
            sc: sc.clone(),
            id: sc.next_peer_id.fetch_add(1, Ordering::Relaxed),
            public: *public,
            dead: AtomicBool::new(false),
            handshake: Mutex::new(
                c"wg handshake",
                HandshakeState {
                    noise: Handshake::new(public, &[0; 32], identity),
                    macs: Macs::new(public),
                    crossed: false,
                },
            ),
            sessions: Mutex::new(c"wg sessions", Slots::new()),
            current: EpochCell::empty(),
            endpoint: RwLock::new(c"wg endpoint", None),
            staged: Mutex::new(c"wg staged", MbufList::new()),
            staged_len: AtomicUsize::new(0),
            sealed: Serial::new(),
            opened: Serial::new(),
            own: Mutex::new(c"wg own", Own::default()),
            timers: Timers::new(),
            callout,
            events: AtomicU8::new(0),
            queued: AtomicBool::new(false),
            next_event: EpochCell::empty(),
            tx_bytes: AtomicU64::new(0),
            rx_bytes: AtomicU64::new(0),
        })
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Whether a session may be installed. To be asked under the handshake lock: [`Self::stop`]
    /// comes after the interface is marked as down and the peer as dead, and takes that lock to
    /// wipe the sessions. So none that is installed here escapes it.
    pub(crate) fn may_have_session(&self) -> bool {
        !self.is_dead() && self.sc.ifp.running()
    }

    /// Lets timers run for the peer. For when the interface comes up, or the peer is new on one that
    /// is up: before anybody can send, or finds the peer, so that what happens then leaves its
    /// deadlines. [`Self::poke`] follows.
    pub(crate) fn enable(this: &EpochArc<Self>) {
        if !this.is_dead() {
            this.callout.bind(this.clone());
            this.timers.enable();
        }
    }

    /// Something has come that the peer may have waited for: the interface is up, there is another
    /// private key, endpoint or keepalive interval. Sends what waits, and a keepalive if the peer
    /// has a persistent one.
    pub(crate) fn poke(this: &EpochArc<Self>) {
        if this.timers.persistent_keepalive() != 0 {
            let next = this.timers.any_authenticated_packet_traversal(uptime_ns());
            this.note(next);
            Self::post(this, Event::Keepalive);
        }
        net_epoch(|ep| Self::flush_staged(this, ep));
    }

    /// For when the interface goes down: no timer runs after it, what waits is dropped and all keys
    /// are wiped.
    pub(crate) fn stop(&self) {
        self.timers.disable();
        self.callout.stop();
        self.purge_staged();
        self.forget_keys();
    }

    /// Takes the peer out of service for good. The caller has taken it out of the peer table and
    /// the allowed IPs. Does not wait for packets under way; they find the peer dead.
    pub(crate) fn shutdown(this: &EpochArc<Self>, cx: &Sleepable) {
        this.dead.store(true, Ordering::SeqCst);
        this.stop();
        this.callout.drain(cx);
        // Jobs that lost their packets to full queues may still hold a place; see `dispatch`.
        this.sc.deliver_sealed(this, false);
        this.sc.deliver_opened(this, false);
    }

    /// Whether a handshake has just completed, so that nobody needs another one.
    pub(crate) fn has_new_session(&self, now: u64, ep: &Epoch) -> bool {
        self.current.load(ep).is_some_and(|session| {
            let keypair = &session.get().keypair;
            keypair.may_send(now) && now.saturating_sub(keypair.created()) < REKEY_TIMEOUT
        })
    }

    /// Ends all sessions and the handshake under way.
    pub(crate) fn forget_keys(&self) {
        let mut handshake = self.handshake.lock();
        if let Some(index) = handshake.noise.clear() {
            self.sc.index.remove(index);
        }
        let fallen = {
            let mut sessions = self.sessions.lock();
            // What is under way on them must not be opened any more.
            sessions.iter().for_each(|session| session.keypair.revoke());
            sessions.clear()
        };
        self.current.set(None);
        self.retire(fallen);
    }

    /// The interface has a new private key: sessions of the old one may still receive, the next
    /// packet to send starts a handshake.
    pub(crate) fn identity_changed(this: &EpochArc<Self>, identity: Option<&Identity>) {
        {
            let mut handshake = this.handshake.lock();
            if let Some(index) = handshake.noise.set_identity(identity) {
                this.sc.index.remove(index);
            }
            for session in this.sessions.lock().iter() {
                session.keypair.stop_sending();
            }
            // What was sent under the old key is void: the new one need not wait for it to time
            // out.
            this.timers.reset_last_handshake_sent();
        }
        if identity.is_some() {
            Self::poke(this);
        }
    }

    /// Installs the session of a handshake that we opened. The handshake lock is held, and the
    /// peer is not dead.
    pub(crate) fn install_initiator(&self, session: EpochArc<Session>, tie: Tie) {
        let fallen = {
            let mut slots = self.sessions.lock();
            self.current.set(Some(session.clone()));
            slots.install_initiator(session, tie)
        };
        self.retire(fallen);
    }

    /// Installs the session of a handshake that we answered. The handshake lock is held, and the
    /// peer is not dead.
    pub(crate) fn install_responder(&self, session: EpochArc<Session>) {
        let fallen = self.sessions.lock().install_responder(session);
        self.retire(fallen);
    }

    /// The first packet on a session that we answered for has come: from now on we send on it,
    /// unless the peer opened it while we opened one that is to remain.
    pub(crate) fn confirm(this: &EpochArc<Self>, session: &EpochArc<Session>, ep: &Epoch) {
        session.unconfirmed.store(false, Ordering::Relaxed);
        let confirmed = {
            let mut slots = this.sessions.lock();
            let confirmed = slots.confirm(|waiting| EpochArc::ptr_eq(waiting, session));
            if confirmed
                .as_ref()
                .is_some_and(|confirmed| confirmed.current)
            {
                this.current.set(Some(session.clone()));
            }
            confirmed
        };
        let Some(Confirmed { current, fallen }) = confirmed else {
            return;
        };
        this.retire(fallen);
        if !current {
            return;
        }
        this.handshake_complete();
        Self::flush_staged(this, ep);
    }

    /// Frees the indices of sessions that were replaced. What was received on them before is still
    /// opened.
    fn retire(&self, fallen: Fallen<EpochArc<Session>>) {
        for session in fallen {
            self.sc.index.remove(session.keypair.local_index());
        }
    }

    pub(crate) fn handshake_complete(&self) {
        self.timers.handshake_complete(realtime());
        count(&self.sc.module.stats.handshakes.completed);
        self.sc
            .ifp
            .debug(format_args!("peer {}: handshake complete", self.id));
    }

    pub(crate) fn endpoint(&self) -> Option<Endpoint> {
        *self.endpoint.read()
    }

    /// Sets where the peer is, by configuration: routing chooses the source address anew. Says
    /// whether the peer was elsewhere.
    pub(crate) fn set_endpoint(&self, remote: SocketAddr) -> bool {
        let new = Endpoint {
            remote,
            local: None,
        };
        let old = self.endpoint.write().replace(new);
        old.is_none_or(|old| old.remote != remote)
    }

    /// An authentic packet came from there: the peer has roamed (paper, section 2.1).
    pub(crate) fn roam(&self, from: Endpoint) {
        if self.endpoint() != Some(from) {
            *self.endpoint.write() = Some(from);
        }
    }

    pub(crate) fn forget_source(&self) {
        if let Some(endpoint) = self.endpoint.write().as_mut() {
            endpoint.local = None;
        }
    }

    /// Arms the callout for a deadline that an event of the timers brought forward.
    pub(crate) fn note(&self, deadline: Option<u64>) {
        if let Some(deadline) = deadline {
            self.callout.arm_at(deadline);
        }
    }

    /// Asks a task to do something for the peer. Any context.
    pub(crate) fn post(this: &EpochArc<Self>, event: Event) {
        this.events.fetch_or(event as u8, Ordering::SeqCst);
        if this.is_dead() || this.queued.swap(true, Ordering::SeqCst) {
            return;
        }
        this.sc.queue_event(this.clone());
    }

    /// Has a task deliver what is finished, for those who may not do it where they are: the output
    /// routine may hold locks of the network stack, and sending takes others.
    pub(crate) fn deliver_soon(this: &EpochArc<Self>) {
        Self::post(this, Event::Deliver);
        if this.is_dead() {
            // No task comes for a dead peer. Its packets are only dropped, which any context may do.
            this.sc.deliver_sealed(this, false);
            this.sc.deliver_opened(this, false);
        }
    }

    /// Does what was asked for. In a task, outside the epoch.
    pub(crate) fn run_events(this: &EpochArc<Self>) {
        // The mark stays until nothing is due, so that no other task does this at the same time.
        // What is posted after the last look at the events finds the mark gone and queues the
        // peer again, or is found here.
        loop {
            let events = this.events.swap(0, Ordering::SeqCst);
            if events == 0 {
                this.queued.store(false, Ordering::SeqCst);
                if this.events.load(Ordering::SeqCst) == 0
                    || this.queued.swap(true, Ordering::SeqCst)
                {
                    return;
                }
                continue;
            }
            if events & Event::Deliver as u8 != 0 {
                this.sc.deliver_sealed(this, false);
                this.sc.deliver_opened(this, false);
            }
            // Not whether the interface runs: at its coming up the timers do so first, and a
            // callout that goes off in between must not be forgotten.
            if !this.is_dead() && this.timers.enabled() {
                Self::run_once(this, events);
            }
        }
    }

    fn run_once(this: &EpochArc<Self>, events: u8) {
        let due = |event: Event| events & event as u8 != 0;
        if due(Event::Expire) {
            Self::expired(this);
        }
        if due(Event::Initiate) {
            Self::initiate(this, false);
        }
        if due(Event::Keepalive) {
            net_epoch(|ep| Self::send_keepalive(this, ep));
        }
    }

    fn expired(this: &EpochArc<Self>) {
        let actions = this.timers.expire(uptime_ns());
        if actions.zero_keys() {
            this.sc.ifp.debug(format_args!(
                "peer {}: wiping keys, no session for long",
                this.id
            ));
            this.forget_keys();
        }
        if actions.give_up() {
            this.sc
                .ifp
                .debug(format_args!("peer {}: no answer, giving up", this.id));
            this.purge_staged();
            count(&this.sc.module.stats.handshakes.abandoned);
        }
        if actions.clear_source() {
            this.forget_source();
        }
        if actions.send_initiation() {
            Self::initiate(this, actions.retry());
        }
        if actions.send_keepalive() {
            net_epoch(|ep| Self::send_keepalive(this, ep));
        }
        this.note(actions.next);
    }
}

impl Expire for Peer {
    fn expire(this: &EpochArc<Self>) {
        Self::post(this, Event::Expire);
    }
}
