// SPDX-License-Identifier: BSD-2-Clause
//! How much a reader of packets may hand over before the driver's tasks have caught up.
//!
//! A kernel's interrupt drops what its queues do not hold, since it cannot wait. A thread can: what it does not read
//! stays in the queue of the host's interface, or in the socket's buffer, and whoever sends is told in time. Every reader
//! is held back in this way, so there always comes a moment at which the tasks have nothing to do.

use std::sync::Arc;

use crate::kernel::Kernel;

/// Packets between two such moments. With what one read can add it is below any of the driver's queues.
const WINDOW: usize = 512;

/// The count of one reader.
#[derive(Debug, Default)]
pub struct Pace(usize);

impl Kernel {
    /// Waits until the tasks have done all that has been given to them, if `pace` has given them enough, with `more` now;
    /// or until `stopped` says so.
    pub fn catch_up(self: &Arc<Self>, pace: &mut Pace, more: usize, stopped: &dyn Fn() -> bool) {
        pace.0 = pace.0.saturating_add(more);
        if pace.0 < WINDOW {
            return;
        }
        pace.0 = 0;
        let mut left: Vec<_> = self
            .tasks
            .queues
            .iter()
            .map(|queue| (queue, queue.settled()))
            .collect();
        self.machine.wait("catch_up", &mut || {
            left.retain(|(queue, before)| !queue.has_settled(*before));
            left.is_empty() || stopped()
        });
    }
}
