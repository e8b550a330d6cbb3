// SPDX-License-Identifier: BSD-2-Clause
//! A session as the driver holds it: the keys, whose they are, and the replay window.

use core::sync::atomic::AtomicBool;

use kpi::epoch::EpochArc;
use kpi::sync::Mutex;
use kpi::{AllocError, How};
use wg::replay::ReplayWindow;
use wg::wg_noise::{Keypair, Keys};

use crate::peer::Peer;

pub(crate) struct Session {
    pub(crate) keypair: Keypair,
    /// Keeps the peer while packets of this session are under way. The peer keeps its sessions in
    /// turn, until they are replaced or it is shut down.
    pub(crate) peer: EpochArc<Peer>,
    /// Touched by whoever delivers for the peer, one at a time: never contended.
    pub(crate) replay: Mutex<ReplayWindow>,
    /// We answered this handshake and no packet on the session has come yet. A hint that spares
    /// the packet path a lock; [`Peer::confirm`] decides.
    pub(crate) unconfirmed: AtomicBool,
}

impl Session {
    /// Built where it is to be, in a function of its own: it is larger than a frame should be.
    #[inline(never)]
    pub(crate) fn new(
        keys: Keys,
        peer: &EpochArc<Peer>,
        now: u64,
    ) -> Result<EpochArc<Self>, AllocError> {
        EpochArc::new_with(How::NoWait, || Self {
            unconfirmed: AtomicBool::new(!keys.initiator),
            keypair: Keypair::new(keys, now),
            peer: peer.clone(),
            replay: Mutex::new(c"wg replay", ReplayWindow::new()),
        })
    }
}
