// SPDX-License-Identifier: BSD-2-Clause
//! The trie of one address family; its invariants are in the parent module's documentation.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kpi_alloc::{AllocError, How, KArc};

use super::{Entry, Prefix};

/// An address as an integer whose most significant bit comes first.
pub(super) trait Key: Copy + Eq {
    /// Bits of an address.
    const LEN: u8;

    /// Bit `n`, counted from the most significant one.
    fn bit(self, n: u8) -> bool;

    /// Number of first bits in which two addresses agree.
    fn common(self, other: Self) -> u8;

    /// Clears all bits but the first `n`.
    fn mask(self, n: u8) -> Self;

    /// The address.
    fn addr(self) -> IpAddr;
}

impl Key for u32 {
    const LEN: u8 = 32;

    fn bit(self, n: u8) -> bool {
        self.wrapping_shl(n.into()) >> 31 != 0
    }

    fn common(self, other: u32) -> u8 {
        (self ^ other).leading_zeros() as u8
    }

    fn mask(self, n: u8) -> u32 {
        self & !u32::MAX.checked_shr(n.into()).unwrap_or(0)
    }

    fn addr(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(self))
    }
}

/// An IPv6 address. Two words, because `u128` would align a node to 16 bytes and make it larger.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct V6 {
    high: u64,
    low: u64,
}

impl V6 {
    const fn new(bits: u128) -> V6 {
        V6 {
            high: (bits >> 64) as u64,
            low: bits as u64,
        }
    }

    const fn bits(self) -> u128 {
        (self.high as u128) << 64 | self.low as u128
    }
}

impl From<Ipv6Addr> for V6 {
    fn from(addr: Ipv6Addr) -> V6 {
        V6::new(addr.to_bits())
    }
}

impl Key for V6 {
    const LEN: u8 = 128;

    fn bit(self, n: u8) -> bool {
        let word = if n < 64 { self.high } else { self.low };
        // Takes the shift modulo 64.
        word.wrapping_shl(n.into()) >> 63 != 0
    }

    fn common(self, other: V6) -> u8 {
        match (self.high ^ other.high).leading_zeros() {
            64 => (self.low ^ other.low).leading_zeros().saturating_add(64) as u8,
            n => n as u8,
        }
    }

    fn mask(self, n: u8) -> V6 {
        let bits = self.bits() & !u128::MAX.checked_shr(n.into()).unwrap_or(0);
        V6::new(bits)
    }

    fn addr(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from_bits(self.bits()))
    }
}

pub(super) type Link<K, P> = Option<KArc<Node<K, P>>>;

pub(super) struct Node<K, P> {
    pub(super) value: Option<P>,
    left: Link<K, P>,
    right: Link<K, P>,
    /// Number of the insertion that made `value`.
    seq: u64,
    key: K,
    /// Length of the prefix in bits.
    len: u8,
}

impl<K: Key, P> Node<K, P> {
    fn leaf(key: K, len: u8, value: P, seq: u64) -> Node<K, P> {
        Node {
            value: Some(value),
            left: None,
            right: None,
            seq,
            key,
            len,
        }
    }

    fn branch(key: K, len: u8) -> Node<K, P> {
        Node {
            value: None,
            left: None,
            right: None,
            seq: 0,
            key: key.mask(len),
            len,
        }
    }

    fn child(&self, right: bool) -> &Link<K, P> {
        if right { &self.right } else { &self.left }
    }

    fn child_mut(&mut self, right: bool) -> &mut Link<K, P> {
        if right {
            &mut self.right
        } else {
            &mut self.left
        }
    }

    /// Whether the prefix of this node is exactly that one.
    fn is(&self, key: K, len: u8) -> bool {
        self.len == len && self.key == key
    }

    /// Whether addresses that begin with `key` are in the prefix of this node.
    fn holds(&self, key: K) -> bool {
        self.key.common(key) >= self.len
    }

    pub(super) fn entry(&self) -> Option<Entry<'_, P>> {
        let prefix = Prefix {
            addr: self.key.addr(),
            cidr: self.len,
        };
        Some(Entry {
            prefix,
            owner: self.value.as_ref()?,
            seq: self.seq,
        })
    }
}

impl<K, P> Drop for Node<K, P> {
    fn drop(&mut self) {
        release(self.left.take());
        release(self.right.take());
    }
}

/// Drops a trie without recursion and without further memory, in linear time.
///
/// Nodes that nobody else holds are rotated into a chain of right children, whose first one has no left
/// child: it is dropped and the next one is first. What others hold is only let go.
///
/// If such another holder lets go in the very instant between finding the node held and dropping the handle
/// to it, this function runs once more inside itself; each further time takes another such
/// coincidence.
fn release<K, P>(link: Link<K, P>) {
    let Some(mut first) = link else { return };
    while let Some(node) = KArc::get_mut(&mut first) {
        if let Some(mut left) = node.left.take() {
            if let Some(top) = KArc::get_mut(&mut left) {
                node.left = top.right.take();
                top.right = Some(first);
                first = left;
            }
        } else {
            let Some(next) = node.right.take() else {
                return;
            };
            first = next;
        }
    }
}

pub(super) fn lookup<K: Key, P>(root: &Link<K, P>, key: K) -> Option<&P> {
    let mut best = None;
    let mut link = root;
    while let Some(node) = link
        && node.holds(key)
    {
        best = node.value.as_ref().or(best);
        // A node of full length has no children, and its answer does not matter.
        link = node.child(key.bit(node.len));
    }
    best
}

pub(super) fn exact<'a, K: Key, P>(
    root: &'a Link<K, P>,
    key: K,
    len: u8,
    steps: &mut u64,
) -> Option<&'a Node<K, P>> {
    let mut link = root;
    while let Some(node) = link
        && node.len <= len
        && node.holds(key)
    {
        tick(steps);
        if node.len == len {
            return Some(node);
        }
        link = node.child(key.bit(node.len));
    }
    None
}

/// Access to a node, which is first replaced by a copy if another version of the table holds it too. As
/// the way down goes through here from the root, a node with one reference belongs to no other version.
fn unique<'a, K: Key, P: Clone>(
    link: &'a mut Link<K, P>,
    how: How<'_>,
) -> Result<&'a mut Node<K, P>, AllocError> {
    let arc = link.as_mut().ok_or(AllocError)?;
    if KArc::get_mut(arc).is_none() {
        *arc = KArc::new_with(how, || Node {
            value: arc.value.clone(),
            left: arc.left.clone(),
            right: arc.right.clone(),
            seq: arc.seq,
            key: arc.key,
            len: arc.len,
        })?;
    }
    KArc::get_mut(arc).ok_or(AllocError)
}

/// Counts a node that was visited.
fn tick(steps: &mut u64) {
    *steps = steps.wrapping_add(1);
}

/// What an insertion meets on its way.
enum Step {
    /// The end of the way.
    Leaf,
    /// The node itself.
    Here,
    /// A shorter prefix: go to its right or left child.
    Down(bool),
    /// A longer prefix, which becomes the right or left child.
    Above(bool),
    /// A prefix that has only so many bits in common.
    Fork(u8),
}

pub(super) fn insert<K: Key, P: Clone + Eq>(
    root: &mut Link<K, P>,
    key: K,
    len: u8,
    value: P,
    seq: u64,
    steps: &mut u64,
    how: How<'_>,
) -> Result<Option<P>, AllocError> {
    let mut link = root;
    loop {
        tick(steps);
        // A node's copy has the same content, so a failure on the way leaves the table as it was, and
        // the last step links what it made only when all of it is there.
        match step(link, key, len) {
            Step::Leaf => {
                *link = Some(KArc::new(Node::leaf(key, len, value, seq), how)?);
                return Ok(None);
            }
            Step::Here => {
                if link
                    .as_ref()
                    .is_some_and(|n| n.value.as_ref() == Some(&value))
                {
                    return Ok(Some(value));
                }
                let node = unique(link, how)?;
                node.seq = seq;
                return Ok(node.value.replace(value));
            }
            Step::Down(right) => link = unique(link, how)?.child_mut(right),
            Step::Above(right) => {
                let mut node = Node::leaf(key, len, value, seq);
                *node.child_mut(right) = link.clone();
                *link = Some(KArc::new(node, how)?);
                return Ok(None);
            }
            Step::Fork(common) => {
                let mut node = Node::branch(key, common);
                let right = key.bit(common);
                let leaf = KArc::new(Node::leaf(key, len, value, seq), how)?;
                *node.child_mut(right) = Some(leaf);
                *node.child_mut(!right) = link.clone();
                *link = Some(KArc::new(node, how)?);
                return Ok(None);
            }
        }
    }
}

fn step<K: Key, P>(link: &Link<K, P>, key: K, len: u8) -> Step {
    let Some(node) = link else { return Step::Leaf };
    let common = node.key.common(key).min(node.len).min(len);
    match (common == node.len, common == len) {
        (true, true) => Step::Here,
        (true, false) => Step::Down(key.bit(common)),
        (false, true) => Step::Above(node.key.bit(common)),
        (false, false) => Step::Fork(common),
    }
}

/// Removes a value that is there.
pub(super) fn remove<K: Key, P: Clone>(
    root: &mut Link<K, P>,
    key: K,
    len: u8,
    steps: &mut u64,
    how: How<'_>,
) -> Result<(), AllocError> {
    let mut link = root;
    while let Some(node) = link.as_ref() {
        tick(steps);
        if node.is(key, len) {
            match (&node.left, &node.right) {
                (Some(_), Some(_)) => unique(link, how)?.value = None,
                (Some(only), None) | (None, Some(only)) => *link = Some(only.clone()),
                (None, None) => *link = None,
            }
            return Ok(());
        }
        if !node.holds(key) {
            return Ok(());
        }
        let right = key.bit(node.len);
        let leaf = node
            .child(right)
            .as_ref()
            .is_some_and(|c| c.is(key, len) && c.left.is_none() && c.right.is_none());
        if leaf && node.value.is_none() {
            // It would be left with one child, which takes its place.
            *link = node.child(!right).clone();
            return Ok(());
        }
        link = unique(link, how)?.child_mut(right);
    }
    Ok(())
}

pub(super) fn retain<K: Key, P: Clone>(
    root: &mut Link<K, P>,
    keep: &mut impl FnMut(Entry<'_, P>) -> bool,
    count: &mut usize,
    steps: &mut u64,
    how: How<'_>,
) -> Result<(), AllocError> {
    let mut next = root.as_deref().and_then(|node| first(node, steps));
    while let Some(node) = next {
        let (key, len) = (node.key, node.len);
        if node.entry().is_none_or(&mut *keep) {
            next = after(root, node, steps);
        } else {
            remove(root, key, len, steps, how)?;
            *count = count.saturating_sub(1);
            next = seek(root, key, len, steps);
        }
    }
    Ok(())
}

/// Iterator over the nodes with a value.
pub(super) struct Walk<'a, K, P> {
    root: &'a Link<K, P>,
    next: Option<&'a Node<K, P>>,
    steps: u64,
}

impl<'a, K: Key, P> Walk<'a, K, P> {
    pub(super) fn new(root: &'a Link<K, P>) -> Walk<'a, K, P> {
        let mut steps = 0;
        Walk {
            root,
            next: root.as_deref().and_then(|node| first(node, &mut steps)),
            steps,
        }
    }

    pub(super) fn next(&mut self) -> Option<&'a Node<K, P>> {
        let node = self.next?;
        self.next = after(self.root, node, &mut self.steps);
        Some(node)
    }

    /// Nodes that were visited.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }
}

/// The first node with a value in the trie below and at `node`.
fn first<'a, K: Key, P>(mut node: &'a Node<K, P>, steps: &mut u64) -> Option<&'a Node<K, P>> {
    while node.value.is_none() {
        tick(steps);
        node = node.left.as_deref().or(node.right.as_deref())?;
    }
    Some(node)
}

/// The node with a value that follows `node`.
fn after<'a, K: Key, P>(
    root: &'a Link<K, P>,
    node: &'a Node<K, P>,
    steps: &mut u64,
) -> Option<&'a Node<K, P>> {
    tick(steps);
    match node.left.as_deref().or(node.right.as_deref()) {
        Some(child) => first(child, steps),
        None => seek(root, node.key, node.len, steps),
    }
}

/// The first node with a value whose prefix comes after that one, whether that is there or not.
fn seek<'a, K: Key, P>(
    root: &'a Link<K, P>,
    key: K,
    len: u8,
    steps: &mut u64,
) -> Option<&'a Node<K, P>> {
    let mut link = root;
    // Everything below it comes later, and nothing else that does comes earlier.
    let mut turn: Option<&'a Node<K, P>> = None;
    while let Some(node) = link {
        tick(steps);
        match step(link, key, len) {
            Step::Leaf => break,
            Step::Here => {
                turn = node.left.as_deref().or(node.right.as_deref()).or(turn);
                break;
            }
            Step::Down(true) => link = &node.right,
            Step::Down(false) => {
                turn = node.right.as_deref().or(turn);
                link = &node.left;
            }
            Step::Above(_) => {
                turn = Some(node);
                break;
            }
            Step::Fork(common) => {
                if node.key.bit(common) {
                    turn = Some(node);
                }
                break;
            }
        }
    }
    turn.and_then(|node| first(node, steps))
}
