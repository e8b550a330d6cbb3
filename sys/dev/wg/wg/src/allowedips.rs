// SPDX-License-Identifier: BSD-2-Clause
//! Allowed IPs ("cryptokey routing", WireGuard paper §2): which peer a prefix belongs to.
//!
//! A table is two compressed binary tries, one for each address family. Nodes are shared between
//! versions of a table: a clone takes constant time, and an edit copies those nodes on its path that
//! another version holds and changes the others in place. The driver publishes a version for
//! readers, which look up without a lock and without an allocation, clones it, edits the clone, and
//! publishes that. Filling a table at once copies nothing.
//!
//! A radix tree with a lock for readers, as the C driver uses, costs each packet an atomic read-modify-write
//! on one cache line that all CPUs share. One trie that is edited under its readers, as on Linux,
//! needs `unsafe` and gives an edit of several prefixes no single moment at which it happens.
//!
//! # Invariants
//! A node's key has no bit set at or after its length. A child's prefix is longer than its parent's
//! and begins with it, and the next bit is 1 for the right child and 0 for the left. A node without a value has
//! two children. So a path has at most 33 or 129 nodes, and a table of n prefixes fewer than 2n.
//!
//! Nothing here recurses, neither to drop a trie, and no function keeps a stack of nodes: an
//! iteration that has come to the end of a branch finds its way on from the root by the key.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used
)]

use core::fmt;
use core::iter::FusedIterator;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kpi_alloc::{AllocError, How};

mod trie;

use trie::{Key, Link, Node, V6, Walk};

/// A range of addresses: those that agree with an address in their first bits.
///
/// The bits after the prefix are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    addr: IpAddr,
    cidr: u8,
}

impl Prefix {
    /// The prefix of `cidr` bits around `addr`, whose further bits are masked off. `None` if `cidr` is
    /// over 32 or 128.
    pub fn new(addr: IpAddr, cidr: u8) -> Option<Prefix> {
        let addr = match addr {
            IpAddr::V4(a) if cidr <= u32::LEN => a.to_bits().mask(cidr).addr(),
            IpAddr::V6(a) if cidr <= V6::LEN => V6::from(a).mask(cidr).addr(),
            _ => return None,
        };
        Some(Prefix { addr, cidr })
    }

    /// The first address of the range.
    pub const fn addr(&self) -> IpAddr {
        self.addr
    }

    /// The length in bits.
    pub const fn cidr(&self) -> u8 {
        self.cidr
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.cidr)
    }
}

/// A table from prefixes to owners `P`; the longest prefix that holds an address decides.
///
/// `P` should be a small handle, like a reference-counted pointer. When the table is shared between
/// threads and outlives a change, the nodes that it alone holds are freed by whoever drops it.
pub struct AllowedIps<P> {
    v4: Link<u32, P>,
    v6: Link<V6, P>,
    len: usize,
    /// Number of the next insertion.
    seq: u64,
    /// Nodes that edits have visited.
    steps: u64,
}

impl<P> AllowedIps<P> {
    /// An empty table. Does not allocate.
    pub const fn new() -> AllowedIps<P> {
        AllowedIps {
            v4: None,
            v6: None,
            len: 0,
            seq: 0,
            steps: 0,
        }
    }

    /// Number of prefixes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no prefixes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The owner of an address.
    pub fn lookup(&self, addr: IpAddr) -> Option<&P> {
        match addr {
            IpAddr::V4(a) => self.lookup_v4(a),
            IpAddr::V6(a) => self.lookup_v6(a),
        }
    }

    /// The owner of an IPv4 address.
    pub fn lookup_v4(&self, addr: Ipv4Addr) -> Option<&P> {
        trie::lookup(&self.v4, addr.to_bits())
    }

    /// The owner of an IPv6 address.
    pub fn lookup_v6(&self, addr: Ipv6Addr) -> Option<&P> {
        trie::lookup(&self.v6, V6::from(addr))
    }

    /// The owner of exactly this prefix.
    pub fn get(&self, prefix: Prefix) -> Option<&P> {
        let mut uncounted = 0;
        let entry = match prefix.addr {
            IpAddr::V4(a) => {
                trie::exact(&self.v4, a.to_bits(), prefix.cidr, &mut uncounted)?.entry()?
            }
            IpAddr::V6(a) => {
                trie::exact(&self.v6, V6::from(a), prefix.cidr, &mut uncounted)?.entry()?
            }
        };
        Some(entry.owner)
    }

    /// The entry of exactly this prefix, for one who edits: the search counts as a part of that.
    pub fn entry(&mut self, prefix: Prefix) -> Option<Entry<'_, P>> {
        let steps = &mut self.steps;
        match prefix.addr {
            IpAddr::V4(a) => trie::exact(&self.v4, a.to_bits(), prefix.cidr, steps)?.entry(),
            IpAddr::V6(a) => trie::exact(&self.v6, V6::from(a), prefix.cidr, steps)?.entry(),
        }
    }

    /// The number that the next insertion gets: every entry of now has a lower one.
    pub fn next_seq(&self) -> u64 {
        self.seq
    }

    /// Nodes that edits of this version have visited: what they cost, in a number that a test can
    /// compare.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// All entries: IPv4 before IPv6, then by address, then the shorter prefix first.
    pub fn iter(&self) -> Iter<'_, P> {
        Iter {
            v4: Walk::new(&self.v4),
            v6: Walk::new(&self.v6),
        }
    }
}

impl<P: Clone + Eq> AllowedIps<P> {
    /// Gives a prefix to an owner. Returns whom it belonged to, which can be the same.
    ///
    /// A prefix that changes hands, or is new, counts as inserted last ([`Entry::seq`]); one that its
    /// owner gets again keeps its place.
    ///
    /// # Errors
    /// When there is no memory; the table then holds what it held before.
    pub fn insert(&mut self, at: Prefix, owner: P, how: How<'_>) -> Result<Option<P>, AllocError> {
        let (seq, steps) = (self.seq, &mut self.steps);
        let old = match at.addr {
            IpAddr::V4(a) => {
                trie::insert(&mut self.v4, a.to_bits(), at.cidr, owner, seq, steps, how)?
            }
            IpAddr::V6(a) => {
                trie::insert(&mut self.v6, V6::from(a), at.cidr, owner, seq, steps, how)?
            }
        };
        self.seq = seq.wrapping_add(1);
        if old.is_none() {
            self.len = self.len.saturating_add(1);
        }
        Ok(old)
    }

    /// Removes exactly this prefix if it belongs to `owner`. Says whether it did.
    ///
    /// # Errors
    /// When nodes had to be copied, as another version of the table holds them, and there was no
    /// memory; the table then holds what it held before.
    pub fn remove(&mut self, at: Prefix, owner: &P, how: How<'_>) -> Result<bool, AllocError> {
        if self.entry(at).map(|entry| entry.owner) != Some(owner) {
            return Ok(false);
        }
        let steps = &mut self.steps;
        match at.addr {
            IpAddr::V4(a) => trie::remove(&mut self.v4, a.to_bits(), at.cidr, steps, how)?,
            IpAddr::V6(a) => trie::remove(&mut self.v6, V6::from(a), at.cidr, steps, how)?,
        }
        self.len = self.len.saturating_sub(1);
        Ok(true)
    }

    /// Removes all entries for which `keep` is false, in one pass over the table; returns how many. To take
    /// several peers away, ask about all of them in one call.
    ///
    /// # Errors
    /// As [`remove`](Self::remove). Some of the entries may then be removed already; the others are as
    /// they were.
    pub fn retain(
        &mut self,
        mut keep: impl FnMut(Entry<'_, P>) -> bool,
        how: How<'_>,
    ) -> Result<usize, AllocError> {
        let before = self.len;
        let (mut left, mut steps) = (before, self.steps);
        let v4 = trie::retain(&mut self.v4, &mut keep, &mut left, &mut steps, how);
        let v6 =
            v4.and_then(|()| trie::retain(&mut self.v6, &mut keep, &mut left, &mut steps, how));
        (self.len, self.steps) = (left, steps);
        v6.map(|()| before.saturating_sub(left))
    }
}

impl<P> Clone for AllowedIps<P> {
    /// A second version that shares all nodes; its edits are counted anew. Takes constant time.
    fn clone(&self) -> AllowedIps<P> {
        AllowedIps {
            v4: self.v4.clone(),
            v6: self.v6.clone(),
            len: self.len,
            seq: self.seq,
            steps: 0,
        }
    }
}

impl<P> Default for AllowedIps<P> {
    fn default() -> AllowedIps<P> {
        AllowedIps::new()
    }
}

/// A prefix and its owner.
#[derive(Debug)]
pub struct Entry<'a, P> {
    /// The prefix.
    pub prefix: Prefix,
    /// Its owner.
    pub owner: &'a P,
    /// Grows with each insertion into a table and its later versions: the order in which entries came.
    pub seq: u64,
}

/// Iterator over the entries of a table.
pub struct Iter<'a, P> {
    v4: Walk<'a, u32, P>,
    v6: Walk<'a, V6, P>,
}

impl<P> Iter<'_, P> {
    /// Nodes that were visited.
    pub fn steps(&self) -> u64 {
        self.v4.steps().wrapping_add(self.v6.steps())
    }
}

impl<'a, P> Iterator for Iter<'a, P> {
    type Item = Entry<'a, P>;

    fn next(&mut self) -> Option<Entry<'a, P>> {
        match self.v4.next().and_then(Node::entry) {
            Some(entry) => Some(entry),
            None => self.v6.next().and_then(Node::entry),
        }
    }
}

impl<P> FusedIterator for Iter<'_, P> {}
