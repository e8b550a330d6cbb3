// SPDX-License-Identifier: BSD-2-Clause
//! How much work is done in one go.

/// Packets of one portion.
const PACKETS: usize = 64;
/// Bytes of one portion: a datagram of the largest size, or 30 to 60 microseconds of vector code.
const BYTES: usize = 64 << 10;

/// What is left of a portion of work, in packets and bytes.
///
/// Whatever handles packets in numbers that others decide spends one: it bounds a job, what a task
/// takes from the queues before it delivers, and the time with the vector unit held, in which the
/// CPU does nothing else.
pub(crate) struct Budget {
    packets: usize,
    bytes: usize,
}

impl Budget {
    /// A whole portion.
    pub(crate) const fn new() -> Self {
        Self {
            packets: PACKETS,
            bytes: BYTES,
        }
    }

    /// Spends a packet if there is as much left. A portion of which nothing was spent has room for
    /// any packet, else that would never get its turn.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.bytes || self.packets == PACKETS;
        if self.packets == 0 || !fits {
            return false;
        }
        self.spend(1, bytes);
        true
    }

    /// Spends what has been done or taken already.
    pub(crate) fn spend(&mut self, packets: usize, bytes: usize) {
        self.packets = self.packets.saturating_sub(packets);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Whether nothing is left.
    pub(crate) fn is_spent(&self) -> bool {
        self.packets == 0 || self.bytes == 0
    }
}
