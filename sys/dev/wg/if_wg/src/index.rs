// SPDX-License-Identifier: BSD-2-Clause
//! The session index table: from the 32-bit receiver index of a message to what it belongs to.
//!
//! Every data packet is looked up here, on every CPU at once, so readers take no lock: a bucket is
//! a chain of nodes that the net epoch keeps alive. Writers are serialised by one mutex; they meet
//! only at handshakes. Removal unlinks in place and allocates nothing, so it cannot fail, and a
//! reader that stands on the unlinked node still finds its way to the end of the chain.
//!
//! Indices are drawn at random from all 32 bits (WireGuard paper, section 5.4.2), so an observer
//! learns nothing from them about the number or the age of sessions.

use kpi::epoch::{Epoch, EpochArc, EpochCell, net_epoch};
use kpi::random;
use kpi::sync::Mutex;
use kpi::{AllocError, How, KVec};

use crate::peer::Peer;
use crate::session::Session;

/// Buckets of a new interface; the table doubles when chains grow beyond one node on average.
const INITIAL_BUCKETS: usize = 64;
/// Most buckets that a table grows to: three sessions and a handshake for 2^20 peers fit well.
const MAX_BUCKETS: usize = 1 << 20;

/// What a receiver index stands for.
pub(crate) enum Target {
    /// We sent an initiation under this index and wait for the response or a cookie reply.
    Handshake(EpochArc<Peer>),
    /// A session whose data packets carry this index.
    Session(EpochArc<Session>),
}

impl Clone for Target {
    fn clone(&self) -> Self {
        match self {
            Self::Handshake(peer) => Self::Handshake(peer.clone()),
            Self::Session(session) => Self::Session(session.clone()),
        }
    }
}

struct Node {
    index: u32,
    target: Target,
    next: EpochCell<Node>,
}

struct Buckets {
    slots: KVec<EpochCell<Node>>,
}

impl Buckets {
    fn with_slots(n: usize) -> Result<Self, AllocError> {
        let mut slots = KVec::with_capacity(n, How::NoWait)?;
        for _ in 0..n {
            slots.try_push(EpochCell::empty(), How::NoWait)?;
        }
        Ok(Self { slots })
    }

    fn slot(&self, index: u32) -> Option<&EpochCell<Node>> {
        // The number of slots is a power of two, and indices are uniform: the low bits are a hash.
        let mask = self.slots.len().wrapping_sub(1);
        self.slots.get(index as usize & mask)
    }
}

/// The table of one interface.
pub(crate) struct IndexTable {
    buckets: EpochCell<Buckets>,
    /// Number of nodes; the lock serialises all changes.
    writer: Mutex<usize>,
}

impl IndexTable {
    pub(crate) fn new() -> Result<Self, AllocError> {
        let buckets = EpochArc::new(Buckets::with_slots(INITIAL_BUCKETS)?, How::NoWait)?;
        Ok(Self {
            buckets: EpochCell::new(Some(buckets)),
            writer: Mutex::new(c"wg index", 0),
        })
    }

    /// The target of `index`, valid as long as the epoch section.
    pub(crate) fn lookup<'e>(&'e self, index: u32, ep: &'e Epoch) -> Option<&'e Target> {
        find(self.buckets.load(ep)?.get().slot(index)?, index, ep).map(|node| &node.target)
    }

    /// Draws an unused index and enters `target` under it.
    pub(crate) fn insert_new(&self, target: Target) -> Result<u32, AllocError> {
        let mut count = self.writer.lock();
        self.grow_if_crowded(*count);
        let count = &mut *count;
        net_epoch(|ep| {
            let buckets = self.buckets.load(ep).ok_or(AllocError)?.get();
            let (index, slot) = loop {
                let index = random::u32();
                let slot = buckets.slot(index).ok_or(AllocError)?;
                if find(slot, index, ep).is_none() {
                    break (index, slot);
                }
            };
            push(slot, index, target, ep)?;
            *count = count.saturating_add(1);
            Ok(index)
        })
    }

    /// Lets `index`, which is in the table, stand for `target` from now on. On failure the old
    /// entry stays.
    pub(crate) fn replace(&self, index: u32, target: Target) -> Result<(), AllocError> {
        let _count = self.writer.lock();
        net_epoch(|ep| {
            let buckets = self.buckets.load(ep).ok_or(AllocError)?.get();
            let slot = buckets.slot(index).ok_or(AllocError)?;
            // The new node goes in front, so that no reader finds the index absent in between.
            push(slot, index, target, ep)?;
            if let Some(first) = slot.load(ep) {
                unlink(&first.get().next, index, ep);
            }
            Ok(())
        })
    }

    /// Forgets `index`; nothing happens when it is not in the table.
    pub(crate) fn remove(&self, index: u32) {
        let mut count = self.writer.lock();
        let count = &mut *count;
        net_epoch(|ep| {
            let Some(slot) = self.buckets.load(ep).and_then(|b| b.get().slot(index)) else {
                return;
            };
            if unlink(slot, index, ep) {
                *count = count.saturating_sub(1);
            }
        });
    }

    /// Doubles the table when it holds more nodes than buckets. Without memory it stays as it is:
    /// longer chains are slower, not wrong.
    fn grow_if_crowded(&self, count: usize) {
        net_epoch(|ep| {
            let Some(old) = self.buckets.load(ep).map(|b| b.get()) else {
                return;
            };
            let size = old.slots.len();
            if count < size || size >= MAX_BUCKETS {
                return;
            }
            if let Ok(new) = rehash(old, size.saturating_mul(2), ep) {
                self.buckets.set(Some(new));
            }
        });
    }
}

fn rehash(old: &Buckets, size: usize, ep: &Epoch) -> Result<EpochArc<Buckets>, AllocError> {
    let new = Buckets::with_slots(size)?;
    for slot in old.slots.iter() {
        let mut cursor = slot.load(ep);
        while let Some(node) = cursor.map(|n| n.get()) {
            let to = new.slot(node.index).ok_or(AllocError)?;
            push(to, node.index, node.target.clone(), ep)?;
            cursor = node.next.load(ep);
        }
    }
    EpochArc::new(new, How::NoWait)
}

fn find<'e>(slot: &'e EpochCell<Node>, index: u32, ep: &'e Epoch) -> Option<&'e Node> {
    let mut cursor = slot.load(ep);
    while let Some(node) = cursor.map(|n| n.get()) {
        if node.index == index {
            return Some(node);
        }
        cursor = node.next.load(ep);
    }
    None
}

/// Puts a node in front of the chain. The caller holds the writer lock.
fn push(slot: &EpochCell<Node>, index: u32, target: Target, ep: &Epoch) -> Result<(), AllocError> {
    let next = EpochCell::new(slot.load_arc(ep));
    let node = EpochArc::new(
        Node {
            index,
            target,
            next,
        },
        How::NoWait,
    )?;
    slot.set(Some(node));
    Ok(())
}

/// Unlinks the first node with `index` at or after `link`. The caller holds the writer lock.
fn unlink<'e>(link: &'e EpochCell<Node>, index: u32, ep: &'e Epoch) -> bool {
    let mut link = link;
    while let Some(node) = link.load(ep).map(|n| n.get()) {
        if node.index == index {
            link.set(node.next.load_arc(ep));
            return true;
        }
        link = &node.next;
    }
    false
}
