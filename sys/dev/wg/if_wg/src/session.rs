// SPDX-License-Identifier: BSD-2-Clause
//! A session as the driver holds it: the keys, whose they are, and the replay window.

use core::sync::atomic::AtomicBool;

use kpi::epoch::EpochArc;
use kpi::sync::Mutex;
use kpi::{AllocError, How};
use wg::replay::ReplayWindow;
use wg::wg_crypto::Aead;
use wg::wg_noise::{Keypair, Keys};

use crate::ocf::OcfSession;
use crate::peer::Peer;

pub(crate) struct Session {
    pub(crate) keypair: Keypair,
    /// The cipher's backend, if it wants one for each session: it goes with the session.
    cipher: Option<OcfSession>,
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
    /// Built where it is to be, in a function of its own: it is larger than a frame should be. For
    /// the same reason `cipher` is taken out of its place, and all but the large parts are made
    /// beforehand: else the compiler makes the whole twice.
    #[inline(never)]
    pub(crate) fn new(
        keys: Keys,
        cipher: &mut Option<OcfSession>,
        peer: &EpochArc<Peer>,
        now: u64,
    ) -> Result<EpochArc<Self>, AllocError> {
        let unconfirmed = AtomicBool::new(!keys.initiator);
        let cipher = cipher.take();
        let peer = peer.clone();
        EpochArc::new_with(How::NoWait, || Self {
            unconfirmed,
            keypair: Keypair::new(keys, now),
            cipher,
            peer,
            replay: Mutex::new(c"wg replay", ReplayWindow::new()),
        })
    }

    /// What seals and opens the packets of this session: its own backend, or the module's.
    #[inline]
    pub(crate) fn aead<'a>(&'a self, shared: &'a dyn Aead) -> &'a dyn Aead {
        match &self.cipher {
            Some(own) => own,
            None => shared,
        }
    }

    /// Whether the session's cipher is one of the crypto framework's, which may put requests off.
    pub(crate) fn cipher_may_sleep(&self) -> bool {
        self.cipher.is_some()
    }
}
