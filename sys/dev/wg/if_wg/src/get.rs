// SPDX-License-Identifier: BSD-2-Clause
//! SIOCGWG: the configuration and state of the interface, as one consistent view.

use core::net::{IpAddr, SocketAddr};

use kpi::Result;
use kpi::epoch::{EpochArc, net_epoch};
use kpi::{How, KVec, Sleepable};
use nv::WriteError;
use nv::wgconf::{GetInterface, GetPeer, GetWriter};
use wg::wg_noise::Identity;

use crate::peer::Peer;
use crate::softc::{Config, Softc};

/// An allowed IP, with what it is sorted by: its peer, then the newest first.
struct Prefix {
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
    prefixes: usize,
}

/// What a reply is made of. The configuration's lock is held as long as it lives.
pub(crate) struct View<'c> {
    config: &'c Config,
    identity: Option<EpochArc<Identity>>,
    privileged: bool,
    peers: KVec<PeerView>,
    prefixes: KVec<Prefix>,
}

impl<'c> View<'c> {
    pub(crate) fn of(
        sc: &Softc,
        config: &'c Config,
        privileged: bool,
        cx: &Sleepable,
    ) -> Result<Self> {
        let how = How::Wait(cx);
        let routes = sc.routes_snapshot();
        let mut prefixes = KVec::with_capacity(routes.len(), how)?;
        for entry in routes.iter() {
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
        prefixes.sort_unstable_by_key(|p: &Prefix| (p.peer, u64::MAX - p.sequence));

        let list = sc.peer_list(cx)?;
        let mut peers = KVec::with_capacity(list.len(), how)?;
        let mut rest = prefixes.as_slice();
        for peer in list {
            let own = rest.iter().take_while(|p| p.peer == peer.id).count();
            rest = rest.get(own..).unwrap_or_default();
            let endpoint = peer.endpoint().map(|e| e.remote);
            peers.try_push(
                PeerView {
                    peer,
                    endpoint,
                    prefixes: own,
                },
                how,
            )?;
        }
        let identity = net_epoch(|ep| sc.identity.load_arc(ep));
        Ok(Self {
            config,
            identity,
            privileged,
            peers,
            prefixes,
        })
    }

    /// Writes the reply. The same each time.
    pub(crate) fn emit(&self, w: &mut GetWriter<'_, '_>) -> Result<(), WriteError> {
        let identity = self.identity.as_deref();
        w.interface(&GetInterface {
            listen_port: self.config.listen_port,
            user_cookie: self.config.user_cookie,
            public_key: identity.map(Identity::public),
            private_key: identity
                .filter(|_| self.privileged)
                .map(|id| id.private().bytes()),
        })?;
        w.peers(self.peers.len())?;
        let mut rest = self.prefixes.iter();
        for view in self.peers.iter() {
            let peer = &view.peer;
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
                    view.prefixes,
                )?;
            }
            for prefix in rest.by_ref().take(view.prefixes) {
                w.allowed_ip(prefix.addr, prefix.cidr)?;
            }
            w.end_peer()?;
        }
        Ok(())
    }
}
