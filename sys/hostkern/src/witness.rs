// SPDX-License-Identifier: BSD-2-Clause
//! Lock order, as witness(4): locks of one name are one class, and the order in which two classes
//! were once taken is the order in which they must always be taken.
//!
//! Known edges are a bit matrix that is read without a lock, so that real mode's packet path pays a
//! load per held lock; only an order that was never seen takes the mutex.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::thread::{Held, LockKind, violation};

const MAX: usize = 256;
const WORDS: usize = MAX / 64;

/// The order graph of one kernel.
pub(crate) struct Graph {
    /// Row `a` has bit `b`: `a` was held when `b` was taken.
    after: Box<[[AtomicU64; WORDS]; MAX]>,
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    by_name: HashMap<(String, u8), u16>,
    list: Vec<String>,
}

impl Graph {
    pub fn new() -> Self {
        Self {
            after: Box::new([const { [const { AtomicU64::new(0) }; WORDS] }; MAX]),
            names: Mutex::default(),
        }
    }

    /// The class of locks called `name`.
    pub fn class(&self, name: &str, kind: LockKind) -> u16 {
        let mut n = self.names.lock().unwrap();
        if let Some(&c) = n.by_name.get(&(name.to_string(), kind as u8)) {
            return c;
        }
        let c = n.list.len();
        if c >= MAX {
            drop(n);
            violation("lock-order", format_args!("more than {MAX} lock names"));
        }
        n.list.push(name.to_string());
        n.by_name.insert((name.to_string(), kind as u8), c as u16);
        c as u16
    }

    fn has(&self, a: u16, b: u16) -> bool {
        let (a, b) = (a as usize, b as usize);
        self.after[a][b / 64].load(Ordering::Relaxed) & (1 << (b % 64)) != 0
    }

    /// Checks taking `new` while `held` is held, and learns the order.
    pub fn order(&self, held: &Held, new: &Held) {
        if held.class == new.class {
            violation(
                "lock-order",
                format_args!("second lock of the same class \"{}\"", new.name()),
            );
        }
        if held.kind != LockKind::Sx && new.kind == LockKind::Sx {
            violation(
                "no-sleep",
                format_args!(
                    "sx lock \"{}\" taken with \"{}\" held",
                    new.name(),
                    held.name()
                ),
            );
        }
        if self.has(held.class, new.class) {
            return;
        }
        let n = self.names.lock().unwrap();
        if let Some(path) = self.path(new.class, held.class, n.list.len()) {
            let path: Vec<_> = path.iter().map(|&c| n.list[c as usize].clone()).collect();
            drop(n);
            violation(
                "lock-order",
                format_args!(
                    "\"{}\" taken with \"{}\" held, but the order known is {}",
                    new.name(),
                    held.name(),
                    path.join(" -> ")
                ),
            );
        }
        let (a, b) = (held.class as usize, new.class as usize);
        self.after[a][b / 64].fetch_or(1 << (b % 64), Ordering::Relaxed);
    }

    /// A path in the graph from `from` to `to`.
    fn path(&self, from: u16, to: u16, n: usize) -> Option<Vec<u16>> {
        let mut prev = vec![u16::MAX; n];
        let mut todo = vec![from];
        while let Some(c) = todo.pop() {
            for next in (0..n as u16).filter(|&x| self.has(c, x)) {
                if prev[next as usize] != u16::MAX || next == from {
                    continue;
                }
                prev[next as usize] = c;
                if next == to {
                    let mut path = vec![to];
                    let mut at = to;
                    while at != from {
                        at = prev[at as usize];
                        path.push(at);
                    }
                    path.reverse();
                    return Some(path);
                }
                todo.push(next);
            }
        }
        None
    }
}
