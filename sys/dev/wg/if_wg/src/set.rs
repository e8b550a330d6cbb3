// SPDX-License-Identifier: BSD-2-Clause
//! SIOCSWG: a change of configuration, whole or not at all.
//!
//! The request has been validated. [`Plan::prepare`] does everything that can fail: it creates the
//! new peers, works out the allowed IPs on a copy (which shares what does not change), opens new
//! sockets, makes room. Nothing of that is visible yet, and an error just drops it. Then
//! [`Plan::commit`] puts it in place, which cannot fail.
//!
//! The root of a jail may send a request of any size, so the work is bounded by the size of the
//! request and that of the tables, never by their product. It is counted in visited nodes and
//! entries (`net.wg.config_steps`).

use core::sync::atomic::Ordering;

use kpi::epoch::{EpochArc, net_epoch};
use kpi::{AllocError, How, KArc, KVec, Sleepable};
use kpi::{Errno, Result};
use wg::wg_cookie::Checker;
use wg::wg_noise::Identity;

use crate::codec::{Entry, Request};
use crate::peer::Peer;
use crate::peers::{MAX_PEERS, PeerTable};
use crate::routes::{Outcome, RoutePlan};
use crate::sockets::Sockets;
use crate::softc::{Config, Routes, Softc};
use crate::stats::{self, count};
use crate::usage::Amount;

/// What an entry of the request comes to.
enum Step {
    /// The entry is for a peer that is not there, or for ourselves.
    Nothing,
    Remove(EpochArc<Peer>),
    Create(EpochArc<Peer>),
    Update(EpochArc<Peer>),
}

struct Plan {
    /// The new identity, if it changes.
    identity: Option<Option<EpochArc<Identity>>>,
    /// A peer whose key is the new identity's.
    own: Option<EpochArc<Peer>>,
    /// New sockets, if the port changes while the interface is up.
    sockets: Option<EpochArc<Sockets>>,
    /// One for each peer entry of the request, in order.
    steps: KVec<Step>,
    /// The new allowed IPs, if they change.
    routes: Option<EpochArc<Routes>>,
    /// The peers whose number of allowed IPs may change, in this plan.
    touched: KVec<EpochArc<Peer>>,
    /// Peers that go away; has room for all of them.
    dead: KVec<EpochArc<Peer>>,
}

/// Applies a validated request.
///
/// # Errors
/// ENOMEM, ENOSPC for more peers or allowed IPs than an interface may have, EPERM for another port
/// or mark of sockets that are not the caller's, ENXIO when the interface goes away, and what
/// opening sockets on a new port says. The interface is then as it was.
pub(crate) fn apply(this: &KArc<Softc>, request: &Request<'_>, cx: &Sleepable) -> Result<()> {
    this.with_config(cx, |config| {
        check_alive(this)?;
        let done = Plan::prepare(this, config, request, cx)
            .map(|plan| plan.commit(this, config, request, cx));
        // What went away is given back, and what was charged for nothing.
        this.charge.lower(Amount {
            interfaces: 1,
            peers: this.peers.read().len(),
            allowed_ips: net_epoch(|ep| this.routes.load(ep).map_or(0, |r| r.get().len())),
        });
        done
    })
}

/// Whoever destroys the interface may hold locks of the whole host, so a long request is given up.
pub(crate) fn check_alive(sc: &Softc) -> Result<()> {
    if sc.dying.load(Ordering::SeqCst) {
        return Err(Errno::ENXIO);
    }
    Ok(())
}

/// The peers as they are at one point of the request.
struct Present<'a> {
    sc: &'a Softc,
    replaced: bool,
    /// Nodes that were visited.
    steps: u64,
    /// Created by the request and still there.
    created: PeerTable,
    /// There before the request and removed by it.
    removed: PeerTable,
}

impl Present<'_> {
    fn lookup(&mut self, public: &[u8; 32]) -> Option<EpochArc<Peer>> {
        let steps = &mut self.steps;
        *steps = steps.wrapping_add(1);
        if let Some(peer) = self.created.find(public, steps) {
            return Some(peer.clone());
        }
        if self.replaced || self.removed.find(public, steps).is_some() {
            return None;
        }
        self.sc.peers.read().find(public, steps).cloned()
    }

    fn create(&mut self, peer: &EpochArc<Peer>, how: How<'_>) -> Result<(), AllocError> {
        self.created.reserve(1, how)?;
        self.created.insert(peer.clone())
    }

    fn remove(&mut self, peer: &EpochArc<Peer>, how: How<'_>) -> Result<(), AllocError> {
        if self.created.remove(&peer.public).is_none() {
            self.removed.reserve(1, how)?;
            self.removed.insert(peer.clone())?;
        }
        Ok(())
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        stats::add(&self.sc.module.stats.config_steps, self.steps);
    }
}

impl Plan {
    fn prepare(
        this: &KArc<Softc>,
        config: &mut Config,
        request: &Request<'_>,
        cx: &Sleepable,
    ) -> Result<Self> {
        config.plan = config.plan.wrapping_add(1);
        let how = How::Wait(cx);
        let port = request.listen_port.unwrap_or(config.listen_port);
        let cookie = request.user_cookie.unwrap_or(config.user_cookie);
        if port != config.listen_port || cookie != config.user_cookie {
            this.may_set_sockets()?;
        }
        let current = net_epoch(|ep| this.identity.load_arc(ep));
        let identity = new_identity(request, current.as_deref(), cx)?;
        let effective = identity.as_ref().unwrap_or(&current).as_deref();
        let own_public = effective.map(Identity::public);

        let mut present = Present {
            sc: this,
            replaced: request.replace_peers,
            steps: 0,
            created: PeerTable::new(),
            removed: PeerTable::new(),
        };
        let own = match (&identity, own_public) {
            (Some(_), Some(public)) => present.lookup(public),
            _ => None,
        };
        let mut routes = RoutePlan::begin(this, config, request.replace_peers);
        if let Some(own) = &own {
            routes.clear(own, how)?;
            present.remove(own, how)?;
        }
        let mut steps = KVec::with_capacity(request.peer_count(), how)?;
        let (mut creations, mut removals) = (0usize, 0usize);
        let standing = if request.replace_peers {
            0
        } else {
            this.peers.read().len()
        };
        // An equal number replaces those that are there, if all are to go.
        let mut charged = this.peers.read().len();
        for entry in request.peers() {
            check_alive(this)?;
            let known = present.lookup(entry.public_key);
            let step = if own_public == Some(entry.public_key) {
                Step::Nothing
            } else if entry.remove {
                match known {
                    None => Step::Nothing,
                    Some(peer) => {
                        routes.clear(&peer, how)?;
                        present.remove(&peer, how)?;
                        removals = removals.saturating_add(1);
                        Step::Remove(peer)
                    }
                }
            } else {
                let (peer, new) = match known {
                    Some(peer) => (peer, false),
                    None if entry.update_only => {
                        steps.try_push(Step::Nothing, how)?;
                        continue;
                    }
                    None => {
                        // Those that the request removes again count too: they are there until its
                        // end.
                        creations = creations.saturating_add(1);
                        if standing.saturating_add(creations) > MAX_PEERS {
                            return Err(Errno::ENOSPC);
                        }
                        if standing.saturating_add(creations) > charged {
                            charged = charged.saturating_add(1);
                            this.charge.add(Amount {
                                peers: 1,
                                ..Amount::default()
                            })?;
                        }
                        (Peer::new(this, entry.public_key, effective, cx)?, true)
                    }
                };
                if new {
                    present.create(&peer, how)?;
                }
                routes.entry(&entry, &peer, how)?;
                if new {
                    Step::Create(peer)
                } else {
                    Step::Update(peer)
                }
            };
            steps.try_push(step, how)?;
        }

        let going = if request.replace_peers {
            this.peers.read().len()
        } else {
            0
        };
        let dead = going.saturating_add(removals).saturating_add(1);
        let dead = KVec::with_capacity(dead, how)?;
        // No sleep under this lock, so memory that is not at hand is an error here.
        this.peers.write().reserve(creations, How::NoWait)?;
        let Outcome { routes, touched } = routes.finish(how)?;
        // Last, since it is what an error after it would have to take back.
        let sockets = match request.listen_port {
            Some(port) if port != config.listen_port && this.ifp.running() => {
                let cred = this.home_cred()?;
                let mut options = Softc::socket_options(config, &cred);
                options.user_cookie = cookie;
                Some(Sockets::open(this, port, &options, cx)?)
            }
            _ => None,
        };
        Ok(Self {
            identity,
            own,
            sockets,
            steps,
            routes,
            touched,
            dead,
        })
    }

    fn commit(
        mut self,
        this: &KArc<Softc>,
        config: &mut Config,
        request: &Request<'_>,
        cx: &Sleepable,
    ) {
        let running = this.ifp.running();
        if request.replace_peers {
            for peer in this.peers.write().drain() {
                let _ = self.dead.try_push(peer, How::NoWait);
            }
        }
        if let Some(own) = &self.own {
            self.bury(this, own.clone());
        }
        if let Some(identity) = self.identity.take() {
            *this.checker.write() = identity.as_deref().map(|id| Checker::new(id.public()));
            this.identity.set(identity.clone());
            let steps = &this.module.stats.config_steps;
            this.for_each_peer(|peer| {
                count(steps);
                Peer::identity_changed(peer, identity.as_deref());
            });
        }
        if let Some(cookie) = request.user_cookie {
            config.user_cookie = cookie;
            let sockets = net_epoch(|ep| this.sockets.load_arc(ep));
            if let Some(sockets) = sockets
                && self.sockets.is_none()
                && let Err(errno) = sockets.set_user_cookie(cookie, cx)
            {
                let errno = errno.to_raw();
                this.ifp
                    .debug(format_args!("SO_USER_COOKIE not set, errno {errno}"));
            }
        }
        let mut old_sockets = None;
        if let Some(port) = request.listen_port {
            config.listen_port = self.sockets.as_ref().map_or(port, |sockets| sockets.port);
            if let Some(sockets) = self.sockets.take() {
                old_sockets = this.replace_sockets(sockets);
            }
        }
        if let Some(routes) = self.routes.take() {
            this.routes.set(Some(routes));
        }
        for peer in &self.touched {
            let mut own = peer.own.lock();
            own.now = own.planned;
        }
        let steps = core::mem::replace(&mut self.steps, KVec::new());
        for (step, entry) in steps.into_iter().zip(request.peers()) {
            match step {
                Step::Nothing => {}
                Step::Remove(peer) => self.bury(this, peer),
                Step::Create(peer) => {
                    if running {
                        Peer::enable(&peer);
                    }
                    // Cannot fail: room was reserved, and the lock of the configuration is held.
                    let _ = this.peers.write().insert(peer.clone());
                    configure(&peer, &entry, running);
                }
                Step::Update(peer) => configure(&peer, &entry, running),
            }
        }
        let mut visited = self.touched.len();
        for peer in self.dead {
            visited = visited.saturating_add(1);
            Peer::shutdown(&peer, cx);
        }
        stats::add(&this.module.stats.config_steps, visited as u64);
        this.close_sockets(old_sockets, cx);
    }

    /// Takes a peer out of the table, to be shut down at the end.
    fn bury(&mut self, this: &Softc, peer: EpochArc<Peer>) {
        drop(this.peers.write().remove(&peer.public));
        let _ = self.dead.try_push(peer, How::NoWait);
    }
}

/// The identity that the request asks for, if it is another one than the present.
fn new_identity(
    request: &Request<'_>,
    current: Option<&Identity>,
    cx: &Sleepable,
) -> Result<Option<Option<EpochArc<Identity>>>> {
    let Some(private) = request.private_key else {
        return Ok(None);
    };
    let wanted = if private.iter().fold(0, |all, byte| all | byte) == 0 {
        None
    } else {
        Some(EpochArc::new(Identity::new(private), How::Wait(cx))?)
    };
    // Private keys are equal when the public ones are: no secret is compared.
    let same = match (&wanted, current) {
        (None, None) => true,
        (Some(wanted), Some(current)) => wanted.public() == current.public(),
        _ => false,
    };
    Ok(if same { None } else { Some(wanted) })
}

/// Applies the values of an entry to its peer.
fn configure(peer: &EpochArc<Peer>, entry: &Entry<'_>, running: bool) {
    if let Some(psk) = entry.preshared_key {
        peer.handshake.lock().noise.set_psk(psk);
    }
    let mut poke = false;
    if let Some(endpoint) = entry.endpoint {
        poke |= peer.set_endpoint(endpoint);
    }
    if let Some(seconds) = entry.keepalive {
        poke |= peer.timers.set_persistent_keepalive(seconds);
    }
    if !running {
        return;
    }
    if poke {
        Peer::poke(peer);
    } else {
        // A preshared key may be what packets have been waiting for, or the endpoint again.
        net_epoch(|ep| Peer::flush_staged(peer, ep));
    }
}
