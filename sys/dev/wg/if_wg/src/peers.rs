// SPDX-License-Identifier: BSD-2-Clause
//! The peers of an interface, by public key.
//!
//! Chained hashing over one vector of nodes: a peer costs sixteen bytes here beyond its own
//! memory, and removal moves the last node into the gap. The hash is keyed, since whoever may
//! configure a jail's interface chooses the keys.

use core::hash::Hasher;

use kpi::epoch::EpochArc;
use kpi::random;
use kpi::{AllocError, How, KVec};
use siphasher::sip::SipHasher13;

use crate::peer::Peer;

/// Most peers of one interface (the limit of the C driver).
pub(crate) const MAX_PEERS: usize = 1 << 20;
/// End of a chain.
const NIL: u32 = u32::MAX;

struct Node {
    peer: EpochArc<Peer>,
    next: u32,
}

pub(crate) struct PeerTable {
    key: (u64, u64),
    heads: KVec<u32>,
    nodes: KVec<Node>,
}

impl PeerTable {
    pub(crate) fn new() -> Self {
        let mut seed = [0u8; 16];
        random::fill(&mut seed);
        let seed = u128::from_ne_bytes(seed);
        Self {
            key: (seed as u64, (seed >> 64) as u64),
            heads: KVec::new(),
            nodes: KVec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The peers, in no stated order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &EpochArc<Peer>> {
        self.nodes.iter().map(|node| &node.peer)
    }

    /// The peer at place `at`, below [`Self::len`].
    pub(crate) fn get(&self, at: usize) -> Option<&EpochArc<Peer>> {
        self.nodes.get(at).map(|node| &node.peer)
    }

    pub(crate) fn lookup(&self, public: &[u8; 32]) -> Option<&EpochArc<Peer>> {
        self.find(public, &mut 0)
    }

    /// [`Self::lookup`] for one who configures: counts the nodes that it visits.
    pub(crate) fn find(&self, public: &[u8; 32], steps: &mut u64) -> Option<&EpochArc<Peer>> {
        let mut at = *self.heads.get(self.bucket(public)?)?;
        while let Some(node) = self.nodes.get(at as usize) {
            *steps = steps.wrapping_add(1);
            if node.peer.public == *public {
                return Some(&node.peer);
            }
            at = node.next;
        }
        None
    }

    /// Makes room for `more` peers, so that as many calls of [`Self::insert`] cannot fail.
    pub(crate) fn reserve(&mut self, more: usize, how: How<'_>) -> Result<(), AllocError> {
        self.nodes.try_reserve(more, how)?;
        let want = self.nodes.len().saturating_add(more).next_power_of_two();
        if want > self.heads.len() {
            let mut heads = KVec::with_capacity(want, how)?;
            for _ in 0..want {
                heads.try_push(NIL, how)?;
            }
            self.heads = heads;
            for at in 0..self.nodes.len() {
                self.link(at);
            }
        }
        Ok(())
    }

    /// Adds a peer whose key is not in the table. Gives the peer back when [`Self::reserve`] has
    /// not made room for it.
    pub(crate) fn insert(&mut self, peer: EpochArc<Peer>) -> Result<(), AllocError> {
        if self.heads.len() <= self.nodes.len() {
            return Err(AllocError);
        }
        let at = self.nodes.len();
        self.nodes.try_push(Node { peer, next: NIL }, How::NoWait)?;
        self.link(at);
        Ok(())
    }

    pub(crate) fn remove(&mut self, public: &[u8; 32]) -> Option<EpochArc<Peer>> {
        let bucket = self.bucket(public)?;
        let mut at = *self.heads.get(bucket)?;
        while let Some(node) = self.nodes.get(at as usize) {
            if node.peer.public == *public {
                break;
            }
            at = node.next;
        }
        let after = self.nodes.get(at as usize)?.next;
        self.redirect(bucket, at, after);
        let gone = self.nodes.swap_remove(at as usize)?;
        // The last node now lives where the removed one did: whoever pointed at it must follow.
        let moved_from = u32::try_from(self.nodes.len()).unwrap_or(NIL);
        if moved_from != at
            && let Some(moved) = self.nodes.get(at as usize)
            && let Some(bucket) = self.bucket(&moved.peer.public)
        {
            self.redirect(bucket, moved_from, at);
        }
        Some(gone.peer)
    }

    /// Takes out all peers, one by one. What [`Self::reserve`] made room for stays.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = EpochArc<Peer>> {
        self.heads.fill(NIL);
        core::iter::from_fn(|| self.nodes.pop().map(|node| node.peer))
    }

    /// Empties the table, and gives up its memory, into a vector of peers.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = EpochArc<Peer>> + use<> {
        self.heads = KVec::new();
        core::mem::replace(&mut self.nodes, KVec::new())
            .into_iter()
            .map(|node| node.peer)
    }

    fn bucket(&self, public: &[u8; 32]) -> Option<usize> {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write(public);
        let mask = self.heads.len().checked_sub(1)?;
        Some(hasher.finish() as usize & mask)
    }

    /// Puts node `at` in front of its chain.
    fn link(&mut self, at: usize) {
        let Some(bucket) = self.nodes.get(at).and_then(|n| self.bucket(&n.peer.public)) else {
            return;
        };
        if let (Some(head), Some(node)) = (self.heads.get_mut(bucket), self.nodes.get_mut(at)) {
            node.next = *head;
            *head = u32::try_from(at).unwrap_or(NIL);
        }
    }

    /// Lets the link of `bucket`'s chain that names `from` name `to`.
    fn redirect(&mut self, bucket: usize, from: u32, to: u32) {
        let Some(head) = self.heads.get_mut(bucket) else {
            return;
        };
        if *head == from {
            *head = to;
            return;
        }
        let mut at = *head;
        while let Some(node) = self.nodes.get_mut(at as usize) {
            if node.next == from {
                node.next = to;
                return;
            }
            at = node.next;
        }
    }
}
