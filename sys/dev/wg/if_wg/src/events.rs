// SPDX-License-Identifier: BSD-2-Clause
//! The peers that have [`Event`](crate::peer::Event)s, in order.
//!
//! They are linked through themselves: a peer is in the list once or not at all, so that the list needs
//! no memory, and however many peers want something at one moment, there is a place for each.

use kpi::epoch::EpochArc;
use kpi::sync::Mutex;

use crate::peer::Peer;

pub(crate) struct EventList(Mutex<Ends>);

/// `Peer::next_event` leads from the first to the last, and is empty in the last and in a peer that is
/// not in the list. It is only used under the lock.
#[derive(Default)]
struct Ends {
    first: Option<EpochArc<Peer>>,
    last: Option<EpochArc<Peer>>,
}

impl EventList {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(c"wg events", Ends::default()))
    }

    /// Appends a peer that is not in the list: `Peer::queued` says so.
    pub(crate) fn push(&self, peer: EpochArc<Peer>) {
        let mut ends = self.0.lock();
        match ends.last.replace(peer.clone()) {
            None => ends.first = Some(peer),
            Some(last) => last.next_event.set(Some(peer)),
        }
    }

    pub(crate) fn pop(&self) -> Option<EpochArc<Peer>> {
        let mut ends = self.0.lock();
        let peer = ends.first.take()?;
        ends.first = peer.next_event.take();
        if ends.first.is_none() {
            ends.last = None;
        }
        Some(peer)
    }
}
