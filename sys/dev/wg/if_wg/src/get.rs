// SPDX-License-Identifier: BSD-2-Clause
//! SIOCGWG: the configuration and state of the interface, as one consistent view.
//!
//! Everybody may ask. So the configuration is held no longer than it takes to look at each peer
//! once; how long the answer is follows from the peers' tallies, and the table of allowed IPs, of
//! which a version is kept, is only walked for an answer that there is room for.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use kpi::epoch::{EpochArc, net_epoch};
use kpi::{How, KVec, Result, Sleepable};
use nv::WriteError;
use nv::wgconf::{GetInterface, GetPeer, GetWriter, get_size};
use wg::wg_noise::Identity;

use crate::codec;
use crate::peer::{Peer, Tally};
use crate::softc::{Config, Routes, Softc};
use crate::stats;

/// An allowed IP, with what it is sorted by: its peer, then the order in which they were given. What
/// is saved and given again is then listed as before; the C driver turns the list around.
pub(crate) struct Prefix {
    peer: u64,
    sequence: u64,
    addr: IpAddr,
    cidr: u8,
}

struct PeerView {
    peer: EpochArc<Peer>,
    /// Taken once: peers roam while the reply is written, and an endpoint of the other family has
    /// another length.
    endpoint: Option<SocketAddr>,
    prefixes: Tally,
}

impl PeerView {
    fn prefixes(&self) -> usize {
        self.prefixes.v4.saturating_add(self.prefixes.v6)
    }
}

/// What a reply is made of.
pub(crate) struct View<'a> {
    sc: &'a Softc,
    listen_port: u16,
    user_cookie: u32,
    identity: Option<EpochArc<Identity>>,
    privileged: bool,
    peers: KVec<PeerView>,
    routes: Routes,
}

impl<'a> View<'a> {
    /// A view of the configuration as it is while `config` is held. Does not look at the allowed
    /// IPs.
    pub(crate) fn of(
        sc: &'a Softc,
        config: &Config,
        privileged: bool,
        cx: &Sleepable,
    ) -> Result<Self> {
        let how = How::Wait(cx);
        let list = sc.peer_list(cx)?;
        stats::add(&sc.module.stats.config_steps, list.len() as u64);
        let mut peers = KVec::with_capacity(list.len(), how)?;
        for peer in list {
            let endpoint = peer.endpoint().map(|e| e.remote);
            let prefixes = peer.own.lock().now;
            peers.try_push(
                PeerView {
                    peer,
                    endpoint,
                    prefixes,
                },
                how,
            )?;
        }
        Ok(Self {
            sc,
            listen_port: config.listen_port,
            user_cookie: config.user_cookie,
            identity: net_epoch(|ep| sc.identity.load_arc(ep)),
            privileged,
            peers,
            routes: sc.routes_snapshot(),
        })
    }

    /// Length of the reply in bytes: what is written for the peers, and what their allowed IPs add
    /// to it.
    pub(crate) fn size(&self) -> Result<usize> {
        let ip4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let ip6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let none = example(&[])?;
        let one = example(&[ip4])?;
        let v4 = example(&[ip4, ip4])?.saturating_sub(one);
        let v6 = example(&[ip4, ip6])?.saturating_sub(one);
        let list = one.saturating_sub(none).saturating_sub(v4);
        let mut size = get_size(&mut |w| self.write(w, None)).map_err(codec::errno)?;
        for view in &self.peers {
            if view.prefixes() != 0 {
                let ips = view.prefixes.v4.saturating_mul(v4);
                let ips = ips.saturating_add(view.prefixes.v6.saturating_mul(v6));
                size = size.saturating_add(list).saturating_add(ips);
            }
        }
        Ok(size)
    }

    /// The allowed IPs, in the order of the reply.
    pub(crate) fn prefixes(&self, cx: &Sleepable) -> Result<KVec<Prefix>> {
        let how = How::Wait(cx);
        let mut prefixes = KVec::with_capacity(self.routes.len(), how)?;
        let mut entries = self.routes.iter();
        for entry in entries.by_ref() {
            prefixes.try_push(
                Prefix {
                    peer: entry.owner.0.id,
                    sequence: entry.seq,
                    addr: entry.prefix.addr(),
                    cidr: entry.prefix.cidr(),
                },
                how,
            )?;
        }
        stats::add(&self.sc.module.stats.config_steps, entries.steps());
        prefixes.sort_unstable_by_key(|p: &Prefix| (p.peer, p.sequence));
        Ok(prefixes)
    }

    /// Writes the reply, of which `prefixes` are the allowed IPs. The same each time.
    pub(crate) fn emit(
        &self,
        prefixes: &[Prefix],
        w: &mut GetWriter<'_, '_>,
    ) -> Result<(), WriteError> {
        self.write(w, Some(prefixes))
    }

    /// Without `prefixes` the reply of an interface whose peers have none.
    fn write(
        &self,
        w: &mut GetWriter<'_, '_>,
        prefixes: Option<&[Prefix]>,
    ) -> Result<(), WriteError> {
        let identity = self.identity.as_deref();
        w.interface(&GetInterface {
            listen_port: self.listen_port,
            user_cookie: self.user_cookie,
            public_key: identity.map(Identity::public),
            private_key: identity
                .filter(|_| self.privileged)
                .map(|id| id.private().bytes()),
        })?;
        w.peers(self.peers.len())?;
        let mut rest = prefixes.unwrap_or_default().iter();
        for view in self.peers.iter() {
            let peer = &view.peer;
            let own = prefixes.map_or(0, |_| view.prefixes());
            let (secs, nanos) = peer.timers.last_handshake().unwrap_or_default();
            {
                let handshake = peer.handshake.lock();
                let psk = handshake.noise.psk().bytes();
                w.begin_peer(
                    &GetPeer {
                        public_key: &peer.public,
                        preshared_key: self.privileged.then_some(psk),
                        endpoint: view.endpoint,
                        keepalive: peer.timers.persistent_keepalive(),
                        last_handshake: (secs, nanos.into()),
                        rx_bytes: peer.rx_bytes.load(core::sync::atomic::Ordering::Relaxed),
                        tx_bytes: peer.tx_bytes.load(core::sync::atomic::Ordering::Relaxed),
                    },
                    own,
                )?;
            }
            for prefix in rest.by_ref().take(own) {
                w.allowed_ip(prefix.addr, prefix.cidr)?;
            }
            w.end_peer()?;
        }
        Ok(())
    }
}

/// Length of a reply with one peer that has these allowed IPs and nothing else.
fn example(ips: &[IpAddr]) -> Result<usize> {
    let peer = GetPeer {
        public_key: &[0; 32],
        preshared_key: None,
        endpoint: None,
        keepalive: 0,
        last_handshake: (0, 0),
        rx_bytes: 0,
        tx_bytes: 0,
    };
    get_size(&mut |w| {
        w.interface(&GetInterface::default())?;
        w.peers(1)?;
        w.begin_peer(&peer, ips.len())?;
        ips.iter().try_for_each(|ip| w.allowed_ip(*ip, 0))?;
        w.end_peer()
    })
    .map_err(codec::errno)
}
