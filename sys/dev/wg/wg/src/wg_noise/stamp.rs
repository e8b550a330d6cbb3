// SPDX-License-Identifier: BSD-2-Clause
//! TAI64N timestamps, and a clock of them that never goes back.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::messages::TIMESTAMP_LEN;

/// Whitening granule in ns. The sub-second part is cut down to a multiple of it, as the exact
/// time of a handshake would tell an observer of timing more than it needs; the field cuts to
/// the power of two below the interval at which initiations are accepted at most.
const GRANULE: u32 = 1 << 24;

/// TAI64 label of the Unix epoch: 2^62 and the ten leap seconds of 1972. As everywhere in the
/// field, later leap seconds are not counted: only the order of stamps matters.
const TAI_EPOCH: u64 = (1 << 62) + 10;

/// A TAI64N timestamp: seconds and nanoseconds, big-endian, so that byte order is time order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Tai64n([u8; TIMESTAMP_LEN]);

impl Tai64n {
    /// Less than every stamp that a clock gives.
    pub const ZERO: Self = Self([0; TIMESTAMP_LEN]);

    /// The stamp with these bytes on the wire. Any value is a stamp: receivers compare only.
    pub const fn from_bytes(bytes: [u8; TIMESTAMP_LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes on the wire.
    pub const fn bytes(&self) -> &[u8; TIMESTAMP_LEN] {
        &self.0
    }

    /// The stamp of a Unix time, exact to the nanosecond.
    fn from_unix(secs: u64, nanos: u32) -> Self {
        let [a, b, c, d, e, f, g, h] = TAI_EPOCH.wrapping_add(secs).to_be_bytes();
        let [i, j, k, l] = nanos.to_be_bytes();
        Self([a, b, c, d, e, f, g, h, i, j, k, l])
    }

    /// The next greater stamp. Nanoseconds are let run past 10^9, where no clock can put
    /// them; the comparison of bytes is still right. Saturates.
    pub fn next(self) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.0;
        let wide = u128::from_be_bytes([0, 0, 0, 0, a, b, c, d, e, f, g, h, i, j, k, l]);
        let [.., z, a, b, c, d, e, f, g, h, i, j, k, l] = wide.saturating_add(1).to_be_bytes();
        if z != 0 {
            self
        } else {
            Self([a, b, c, d, e, f, g, h, i, j, k, l])
        }
    }
}

/// An interface's source of timestamps.
///
/// Stamps never decrease, whatever the wall clock does: after a step back they go on from the
/// greatest one given, one nanosecond at a time, until the clock has caught up. Within one granule
/// of time stamps may be equal; a peer's [`super::Handshake`] makes its own strictly increasing.
///
/// All methods may be called from several threads at once.
pub struct StampClock {
    /// Seconds since the Unix epoch shifted left by 30, and nanoseconds: good until the year 2514.
    last: AtomicU64,
}

impl Default for StampClock {
    fn default() -> Self {
        Self::new()
    }
}

impl StampClock {
    /// A clock that has given nothing yet.
    pub const fn new() -> Self {
        Self {
            last: AtomicU64::new(0),
        }
    }

    /// The stamp for the wall clock time `secs` and `nanos` since the Unix epoch.
    pub fn stamp(&self, secs: u64, nanos: u32) -> Tai64n {
        const MASK: u64 = (1 << 30) - 1;
        let whole = nanos & !(GRANULE - 1);
        let wall = secs.min(u64::MAX >> 30) << 30 | u64::from(whole) & MASK;
        // Relaxed: the value alone matters, it publishes nothing.
        let advance = |last: u64| {
            let granule = last & !u64::from(GRANULE - 1);
            if wall > last {
                wall
            } else if wall == granule {
                last
            } else {
                last.saturating_add(1)
            }
        };
        let given = match self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(advance(last))
            }) {
            Ok(previous) | Err(previous) => advance(previous),
        };
        Tai64n::from_unix(given >> 30, (given & MASK) as u32)
    }
}
