// SPDX-License-Identifier: BSD-2-Clause
//! Replay window of a transport session.
//!
//! Message counters are accepted once each, in any order, as long as they are at most
//! [`WINDOW`] behind the greatest one. The window is the ring of bit blocks of RFC 6479: moving
//! forward clears whole blocks instead of shifting bits, and one block is always in excess so that
//! a block in use is never cleared in part.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used
)]

pub use crate::messages::REJECT_AFTER_MESSAGES;

/// How far behind the greatest counter a message may be.
pub const WINDOW: u64 = (BLOCKS - 1) * u64::BITS as u64;

/// Blocks of 64 bits: 8192 bits, as the implementations in use have. Several receiving CPUs and a
/// fast link reorder by thousands of packets.
const BLOCKS: u64 = 128;

/// The counters that a session has accepted.
///
/// Not synchronized: two receivers of one session must take turns (a check and its update must be
/// one step, CVE-2024-26861), so it lives under the session's lock or in the serial receiver.
///
/// It takes 1032 bytes, all inline. There is one for each session that can receive, at most three
/// a peer (previous, current, next), and none for a peer without a session; it goes away with the
/// keys. Growing it on demand would need an allocation that can fail on the receive path.
pub struct ReplayWindow {
    /// One more than the greatest counter accepted; 0 before the first.
    next: u64,
    /// Block `n % BLOCKS` has the bits of counters `64 n ..= 64 n + 63`.
    seen: [u64; BLOCKS as usize],
}

impl ReplayWindow {
    /// A window that has accepted nothing.
    pub const fn new() -> ReplayWindow {
        ReplayWindow {
            next: 0,
            seen: [0; BLOCKS as usize],
        }
    }

    /// Whether [`accept`](Self::accept) would accept `counter` now. A cheap look before the costly
    /// decryption; only `accept` afterwards decides.
    pub fn would_accept(&self, counter: u64) -> bool {
        if counter >= REJECT_AFTER_MESSAGES {
            return false;
        }
        if counter >= self.next {
            return true;
        }
        let behind = self.next.wrapping_sub(1).wrapping_sub(counter);
        let block = self
            .seen
            .get(slot(counter / 64))
            .copied()
            .unwrap_or(u64::MAX);
        behind <= WINDOW && block & bit(counter) == 0
    }

    /// Accepts a counter for the first time it is seen. Call it only for messages whose
    /// authentication tag was right.
    pub fn accept(&mut self, counter: u64) -> bool {
        if !self.would_accept(counter) {
            return false;
        }
        if counter >= self.next {
            // Blocks that come into use still have bits from a turn ago.
            let newest = self.next.saturating_sub(1) / 64;
            let fresh = (counter / 64).saturating_sub(newest).min(BLOCKS);
            for n in 1..=fresh {
                if let Some(block) = self.seen.get_mut(slot(newest.wrapping_add(n))) {
                    *block = 0;
                }
            }
            self.next = counter.saturating_add(1);
        }
        if let Some(block) = self.seen.get_mut(slot(counter / 64)) {
            *block |= bit(counter);
        }
        true
    }
}

impl Default for ReplayWindow {
    fn default() -> ReplayWindow {
        ReplayWindow::new()
    }
}

const fn slot(block: u64) -> usize {
    (block % BLOCKS) as usize
}

const fn bit(counter: u64) -> u64 {
    1 << (counter % 64)
}
