// SPDX-License-Identifier: BSD-2-Clause
//! Packets that a thread has handed to a port and that have not left yet.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Identifies a port for the life of the process, so that a thread may forget it late.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct PortId(u64);

impl PortId {
    pub(super) fn new() -> PortId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        PortId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The queues of one thread, one per port. Ports are few, hence the linear search.
pub(super) struct Queues<T> {
    list: RefCell<Vec<(PortId, Vec<T>)>>,
}

/// Above this many ports a thread drops what it remembers of idle ones: their owners may be long gone.
const MANY: usize = 8;

impl<T> Queues<T> {
    pub(super) const fn new() -> Queues<T> {
        Queues {
            list: RefCell::new(Vec::new()),
        }
    }

    /// Appends, and returns how many now wait.
    pub(super) fn push(&self, port: PortId, item: T) -> usize {
        let mut list = self.list.borrow_mut();
        if let Some((_, queue)) = list.iter_mut().find(|q| q.0 == port) {
            queue.push(item);
            return queue.len();
        }
        if list.len() >= MANY {
            list.retain(|q| !q.1.is_empty());
        }
        list.push((port, vec![item]));
        1
    }

    /// Takes all that waits for `port`. Give the vector back with [`Self::recycle`].
    pub(super) fn take(&self, port: PortId) -> Vec<T> {
        self.list
            .borrow_mut()
            .iter_mut()
            .find(|q| q.0 == port)
            .map(|q| std::mem::take(&mut q.1))
            .unwrap_or_default()
    }

    /// Keeps the memory of a vector for the next packets. Whatever is still in it is dropped.
    pub(super) fn recycle(&self, port: PortId, mut spent: Vec<T>) {
        spent.clear();
        if let Some((_, queue)) = self.list.borrow_mut().iter_mut().find(|q| q.0 == port)
            && queue.capacity() == 0
        {
            *queue = spent;
        }
    }
}
