// SPDX-License-Identifier: BSD-2-Clause
//! A queue of packets that needs no memory of its own.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr;

use freebsd_kernel_sys as sys;

use super::{Mbuf, raw};

/// Packets in order, linked through `m_nextpkt`.
///
/// # Invariants
///
/// From `head`, `count` packets of ours are linked, the last of them `tail`, whose link is null;
/// `bytes` is the sum of their lengths. Empty: both null.
pub struct MbufList {
    head: *mut sys::mbuf,
    tail: *mut sys::mbuf,
    count: usize,
    bytes: usize,
}

// SAFETY: owns its packets, which are `Send`.
unsafe impl Send for MbufList {}
// SAFETY: `&MbufList` only reads, as `&Mbuf` does.
unsafe impl Sync for MbufList {}

impl MbufList {
    /// No packet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            head: ptr::null_mut(),
            tail: ptr::null_mut(),
            count: 0,
            bytes: 0,
        }
    }

    /// Puts a packet at the end.
    pub fn push(&mut self, m: Mbuf) {
        let (len, m) = (m.len(), m.into_raw());
        if self.tail.is_null() {
            self.head = m;
        } else {
            // SAFETY: a live packet of ours.
            unsafe { raw::set_nextpkt(self.tail, m) };
        }
        self.tail = m;
        self.count = self.count.saturating_add(1);
        self.bytes = self.bytes.saturating_add(len);
    }

    /// Takes the first packet.
    pub fn pop(&mut self) -> Option<Mbuf> {
        let m = self.head;
        if m.is_null() {
            return None;
        }
        // SAFETY: a live packet of ours.
        self.head = unsafe { raw::nextpkt(m) };
        if self.head.is_null() {
            self.tail = ptr::null_mut();
        }
        // SAFETY: the same; now it is in no list, as the invariant of `Mbuf` wants.
        unsafe { raw::set_nextpkt(m, ptr::null_mut()) };
        // SAFETY: ours, and out of the list.
        let m = unsafe { Mbuf::from_raw(m) }?;
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(m.len());
        Some(m)
    }

    /// Puts all packets of `other` at the end.
    pub fn append(&mut self, other: Self) {
        let other = ManuallyDrop::new(other);
        if other.head.is_null() {
            return;
        }
        if self.tail.is_null() {
            self.head = other.head;
        } else {
            // SAFETY: a live packet of ours.
            unsafe { raw::set_nextpkt(self.tail, other.head) };
        }
        self.tail = other.tail;
        self.count = self.count.saturating_add(other.count);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    /// Takes all packets, leaving none.
    #[must_use]
    pub fn take(&mut self) -> Self {
        core::mem::take(self)
    }

    /// How many packets.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of all packets.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Shows every packet to `keep` in order and frees those that it does not want. `keep` may
    /// change or replace them.
    pub fn retain_mut(&mut self, mut keep: impl FnMut(&mut Mbuf) -> bool) {
        let mut old = self.take();
        while let Some(mut m) = old.pop() {
            if keep(&mut m) {
                self.push(m);
            }
        }
    }

    /// Shows every packet to `f` in order. `f` may change or replace them.
    pub fn for_each_mut(&mut self, mut f: impl FnMut(&mut Mbuf)) {
        self.retain_mut(|m| {
            f(m);
            true
        });
    }

    /// The packets in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            next: self.head,
            _list: PhantomData,
        }
    }

    /// Gives the chain to C.
    pub(crate) fn into_raw(self) -> *mut sys::mbuf {
        ManuallyDrop::new(self).head
    }
}

impl Default for MbufList {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for MbufList {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

impl Extend<Mbuf> for MbufList {
    fn extend<I: IntoIterator<Item = Mbuf>>(&mut self, packets: I) {
        for m in packets {
            self.push(m);
        }
    }
}

impl IntoIterator for MbufList {
    type Item = Mbuf;
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        IntoIter(self)
    }
}

/// Iterator that takes the packets out of a list; those that it was not asked for are freed with it.
#[derive(Debug)]
pub struct IntoIter(MbufList);

impl Iterator for IntoIter {
    type Item = Mbuf;

    fn next(&mut self) -> Option<Mbuf> {
        self.0.pop()
    }
}

impl<'a> IntoIterator for &'a MbufList {
    type Item = MbufRef<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl fmt::Debug for MbufList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MbufList")
            .field("len", &self.count)
            .field("bytes", &self.bytes)
            .finish()
    }
}

/// Iterator over the packets of a list.
pub struct Iter<'a> {
    next: *mut sys::mbuf,
    _list: PhantomData<&'a MbufList>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = MbufRef<'a>;

    fn next(&mut self) -> Option<MbufRef<'a>> {
        let m = self.next;
        if m.is_null() {
            return None;
        }
        // SAFETY: a packet of the list, which is borrowed.
        self.next = unsafe { raw::nextpkt(m) };
        // SAFETY: a packet of the list; the handle is never dropped and only lent as `&Mbuf`,
        // through which the link that is set cannot matter.
        let packet = ManuallyDrop::new(unsafe { Mbuf::from_raw(m) }?);
        Some(MbufRef {
            packet,
            _list: PhantomData,
        })
    }
}

/// A packet that is still in its list.
pub struct MbufRef<'a> {
    packet: ManuallyDrop<Mbuf>,
    _list: PhantomData<&'a MbufList>,
}

impl Deref for MbufRef<'_> {
    type Target = Mbuf;

    fn deref(&self) -> &Mbuf {
        &self.packet
    }
}
