// SPDX-License-Identifier: BSD-2-Clause
//! Packets (`mbuf(9)`).
//!
//! A packet is a chain of segments. Its first one carries the packet header. Storage may be shared
//! with other packets (then it is read-only), so "may I write here" and "is it in one piece" are
//! questions with an answer at run time. [`Mbuf::into_writable`] makes both true, with no copy when
//! they are true already.

mod list;
mod raw;

use core::fmt;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use freebsd_kernel_sys as sys;

use crate::epoch::Epoch;

pub use list::{MbufList, MbufRef};

/// `m_tag` cookie of the tags that [`crate::ifnet::IfNet::check_nesting`] adds ("wglp").
pub(crate) const LOOP_COOKIE: u32 = 0x7767_6c70;

/// Most bytes that [`Mbuf::alloc`] and [`Mbuf::into_writable`] put into one piece, room at the ends
/// included.
pub const MAX_CONTIGUOUS: usize = 128 * 1024;

/// Room in front that [`Mbuf::alloc`] leaves: IPv6, UDP, a link-level header and some slack.
pub const LEAD: usize = 96;

/// Room behind that [`Mbuf::alloc`] leaves: an authentication tag and padding.
pub const TAIL: usize = 32;

/// The interface by which a packet came to this host, for as long as the epoch section in which the
/// stack brought the packet: a packet that waits forgets it.
///
/// # Invariants
///
/// Null, for a packet of the host's own, or an interface that lives through `'e`.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedBy<'e> {
    ifp: *mut sys::ifnet,
    _section: PhantomData<&'e Epoch>,
}

impl ReceivedBy<'_> {
    /// None: of the host's own.
    pub(crate) const NOBODY: Self = Self {
        ifp: ptr::null_mut(),
        _section: PhantomData,
    };
}

/// A packet that we own.
///
/// # Invariants
///
/// `m` heads one chain with a packet header, which nobody else has a pointer to; `m_nextpkt` is
/// null; no segment is unmapped (`M_EXTPG`); each segment's `m_data..m_data+m_len` lies in its
/// storage; and the header's length is the sum of the segments'.
pub struct Mbuf {
    m: NonNull<sys::mbuf>,
}

// SAFETY: the chain is ours alone, and shared storage is counted atomically and not written.
unsafe impl Send for Mbuf {}
// SAFETY: `&Mbuf` only reads.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// A packet of `len` zero bytes in one writable piece, with [`LEAD`] bytes of room before and
    /// [`TAIL`] after it. `None` when there is no memory or `len` is above [`MAX_CONTIGUOUS`] less
    /// that room. Any context.
    #[must_use]
    pub fn alloc(len: usize) -> Option<Self> {
        let mut m = Self::with_room(LEAD, len, TAIL)?;
        m.contiguous_mut()?.fill(0);
        Some(m)
    }

    /// As [`Mbuf::alloc`], with these bytes.
    #[must_use]
    pub fn from_slice(data: &[u8]) -> Option<Self> {
        let m = Self::with_room(LEAD, data.len(), TAIL)?;
        // SAFETY: `with_room` made `data.len()` bytes of storage at `m_data`, which nobody else can
        // reach yet.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), m.data_ptr(), data.len()) };
        Some(m)
    }

    /// Bytes of the packet.
    #[must_use]
    pub fn len(&self) -> usize {
        // SAFETY: a live packet header.
        let len = unsafe { (*raw::pkthdr(self.as_ptr())).len };
        usize::try_from(len).unwrap_or(0)
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first segment's bytes: as much as can be looked at without [`Mbuf::pullup`]. May be
    /// empty although the packet is not.
    #[must_use]
    pub fn first(&self) -> &[u8] {
        // SAFETY: the segment's data lies in its storage, is initialised, and is not written while
        // `self` is shared.
        unsafe { core::slice::from_raw_parts(self.data_ptr(), self.first_len()) }
    }

    /// Makes the first `n` bytes one segment, so that [`Mbuf::first`] shows them. `None`, and the
    /// packet is gone, if it is shorter or there is no memory.
    #[must_use]
    pub fn pullup(self, n: usize) -> Option<Self> {
        if n <= self.first_len() {
            return Some(self);
        }
        if n > self.len() {
            return None;
        }
        if n > sys::KPI_MHLEN as usize {
            // m_pullup(9) does not go beyond one small mbuf.
            return self.into_writable(0, 0);
        }
        let n = i32::try_from(n).ok()?;
        // SAFETY: an owned packet, given away; on failure m_pullup has freed it.
        let m = unsafe { sys::m_pullup(self.into_raw(), n) };
        // SAFETY: m_pullup keeps all that the invariant says.
        unsafe { Self::from_raw(m) }
    }

    /// Cuts `n` bytes off the front; at most all.
    pub fn trim_front(&mut self, n: usize) {
        let n = n.min(self.len());
        if n <= self.first_len() {
            // SAFETY: `n` bytes are in the first segment and in the packet.
            unsafe { raw::advance(self.as_ptr(), n) };
        } else if let Ok(n) = i32::try_from(n) {
            // SAFETY: an owned packet with at least `n` bytes.
            unsafe { sys::m_adj(self.as_ptr(), n) };
        }
    }

    /// Shortens the packet to `len` bytes; no effect if it is shorter already.
    pub fn truncate(&mut self, len: usize) {
        let Some(cut) = self.len().checked_sub(len).filter(|&n| n != 0) else {
            return;
        };
        if self.is_single() {
            // SAFETY: one segment, so it has at least the `cut` bytes.
            unsafe { raw::shorten(self.as_ptr(), cut) };
        } else if let Ok(cut) = i32::try_from(cut) {
            // SAFETY: an owned packet with at least `cut` bytes; negative means from the end.
            unsafe { sys::m_adj(self.as_ptr(), cut.saturating_neg()) };
        }
    }

    /// Grows the front by `n` zero bytes, in place if there is room, else in a new segment (then
    /// `n` is at most 160). `None`, and the packet is gone, if that fails.
    #[must_use]
    pub fn prepend(mut self, n: usize) -> Option<Self> {
        if self.grow_front(n) {
            return Some(self);
        }
        if n > sys::KPI_MHLEN as usize {
            return None;
        }
        let n = i32::try_from(n).ok()?;
        // SAFETY: an owned packet, given away; `n` fits a new header segment; on failure it has
        // been freed.
        let m = unsafe { sys::m_prepend(self.into_raw(), n, sys::M_NOWAIT as i32) };
        // SAFETY: m_prepend keeps all that the invariant says, but for the header's length, and the
        // new bytes, which are set below.
        let m = unsafe { Self::from_raw(m) }?;
        // SAFETY: the new first segment has just these bytes, and is ours alone.
        unsafe { raw::finish_prepend(m.as_ptr()) };
        Some(m)
    }

    /// [`Mbuf::prepend`] of these bytes, at most 160.
    #[must_use]
    pub fn prepend_bytes(self, bytes: &[u8]) -> Option<Self> {
        let m = self.prepend(bytes.len())?;
        if m.first_len() < bytes.len() {
            return None;
        }
        // SAFETY: `prepend` made that many bytes at the start of the first segment, in storage that
        // is ours alone.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), m.data_ptr(), bytes.len()) };
        Some(m)
    }

    /// The packet as one writable segment with at least `lead` bytes of room before and `tail`
    /// after it: itself if it is so already, else exactly one copy. `None`, and the packet is gone,
    /// if there is no memory or it is above [`MAX_CONTIGUOUS`] with its room.
    #[must_use]
    pub fn into_writable(self, lead: usize, tail: usize) -> Option<Self> {
        let room = self.room();
        if self.is_single() && room.writable && room.lead >= lead && room.tail >= tail {
            return Some(self);
        }
        let len = self.len();
        let new = Self::with_room(lead, len, tail)?;
        // SAFETY: the source has `len` bytes, the destination storage for as many, and they do not
        // overlap.
        unsafe {
            sys::m_copydata(
                self.as_ptr(),
                0,
                i32::try_from(len).ok()?,
                new.data_ptr().cast(),
            )
        };
        // SAFETY: two owned packets; `self` is only freed after this, which needs no packet header.
        unsafe { sys::kpi_m_move_pkthdr(new.as_ptr(), self.as_ptr()) };
        Some(new)
    }

    /// All bytes, if the packet is in one piece.
    #[must_use]
    pub fn contiguous(&self) -> Option<&[u8]> {
        self.is_single().then(|| self.first())
    }

    /// All bytes to write, if the packet is in one piece that nobody else can see.
    #[must_use]
    pub fn contiguous_mut(&mut self) -> Option<&mut [u8]> {
        if !self.is_single() || !self.room().writable {
            return None;
        }
        // SAFETY: unshared storage of a packet that we borrow exclusively.
        Some(unsafe { core::slice::from_raw_parts_mut(self.data_ptr(), self.first_len()) })
    }

    /// Grows the front by `n` zero bytes into existing room. `false`, and nothing changed, if there
    /// is not enough.
    #[must_use]
    pub fn grow_front(&mut self, n: usize) -> bool {
        let room = self.room();
        if !room.writable || room.lead < n {
            return false;
        }
        // SAFETY: `n` bytes of unshared storage lie before the data.
        unsafe { raw::grow_front(self.as_ptr(), n) };
        true
    }

    /// Grows a packet of one segment at its end by `n` zero bytes into existing room. `false`, and
    /// nothing changed, if there is not enough or the packet is in several pieces.
    #[must_use]
    pub fn grow_back(&mut self, n: usize) -> bool {
        let room = self.room();
        if !self.is_single() || !room.writable || room.tail < n {
            return false;
        }
        // SAFETY: `n` bytes of unshared storage lie behind the data.
        unsafe { raw::grow_back(self.as_ptr(), n) };
        true
    }

    /// Copies `buf.len()` bytes from offset `off` out of however many segments. `false`, and `buf`
    /// untouched, if the packet has not that many.
    #[must_use]
    pub fn copy_out(&self, off: usize, buf: &mut [u8]) -> bool {
        let fits = off
            .checked_add(buf.len())
            .is_some_and(|end| end <= self.len());
        let (true, Ok(off), Ok(n)) = (fits, i32::try_from(off), i32::try_from(buf.len())) else {
            return false;
        };
        // SAFETY: the range lies in the packet, and `buf` is writable for it.
        unsafe { sys::m_copydata(self.as_ptr(), off, n, buf.as_mut_ptr().cast()) };
        true
    }

    /// Whether it was, or is to be, sent to a link-level multicast or broadcast address.
    #[must_use]
    pub fn is_mcast(&self) -> bool {
        // SAFETY: a live segment.
        let flags = unsafe { raw::flags(self.as_ptr()) };
        flags & (sys::KPI_M_MCAST | sys::KPI_M_BCAST) != 0
    }

    /// The routing table to use for it.
    #[must_use]
    pub fn fib(&self) -> u16 {
        // SAFETY: a live packet header.
        unsafe { (*raw::pkthdr(self.as_ptr())).fibnum }
    }

    /// Sets that.
    pub fn set_fib(&mut self, fib: u16) {
        // SAFETY: a live packet header that we borrow exclusively.
        unsafe { (*raw::pkthdr(self.as_ptr())).fibnum = fib };
    }

    /// A number of the driver's own that travels with the packet (`PH_loc`), as long as the driver
    /// has it.
    #[must_use]
    pub fn scratch(&self) -> u32 {
        // SAFETY: a live packet header; every bit pattern is a value of the union's member.
        let [low, _] = unsafe {
            (*raw::pkthdr(self.as_ptr()))
                .__bindgen_anon_4
                .PH_loc
                .thirtytwo
        };
        low
    }

    /// Sets that.
    pub fn set_scratch(&mut self, value: u32) {
        // SAFETY: a live packet header that we borrow exclusively.
        unsafe {
            (*raw::pkthdr(self.as_ptr()))
                .__bindgen_anon_4
                .PH_loc
                .thirtytwo = [value, 0]
        };
    }

    /// Marks the packets of one flow, by which network cards choose a queue.
    pub fn set_flowid(&mut self, id: u32) {
        // SAFETY: a live packet header that we borrow exclusively.
        unsafe {
            let h = raw::pkthdr(self.as_ptr());
            (*h).flowid = id;
            (*h).rsstype = sys::KPI_M_HASHTYPE_OPAQUE as u8;
        }
    }

    /// Forgets what the stack noted about the inner packet (checksum offload, flow, VLAN,
    /// multicast, receive interface, tags), before it goes out as the payload of another. Tags of
    /// loop detection and MAC labels stay.
    pub fn reset_for_encap(&mut self) {
        // SAFETY: an owned packet.
        unsafe { raw::reset(self.as_ptr()) };
    }

    /// The same for a packet that came out of a tunnel. A whole TCP or UDP packet then counts as
    /// checked: it was authenticated as it is, so that the sum over its data tells nothing more. Call
    /// it only for such a packet.
    ///
    /// Nothing else is said to be checked. What a tunnel inside of this one takes out of a packet
    /// keeps the flags of that packet, in gif(4) and gre(4), and has headers that nobody has summed.
    /// For the same reason the IPv4 header is left to the stack: it is twenty bytes, which are in the
    /// cache.
    pub fn mark_decapsulated(&mut self) {
        // SAFETY: an owned packet.
        unsafe { raw::reset(self.as_ptr()) };
        let mut head = [0; 10];
        if !self.copy_out(0, &mut head) || !is_whole_transport(&head) {
            return;
        }
        let checked = sys::KPI_CSUM_DATA_VALID | sys::KPI_CSUM_PSEUDO_HDR;
        // SAFETY: a live packet header that we borrow exclusively.
        unsafe {
            let h = raw::pkthdr(self.as_ptr());
            (*h).csum_flags = checked;
            // The sum over data and pseudo header that a card reports for a good packet.
            (*h).PH_per = sys::pkthdr__bindgen_ty_4 {
                thirtytwo: [0, 0xffff],
            };
        }
    }

    /// An empty-headed packet whose `len` bytes are not set yet, in storage of `lead + len + tail`
    /// or more.
    fn with_room(lead: usize, len: usize, tail: usize) -> Option<Self> {
        let size = lead.checked_add(len)?.checked_add(tail)?;
        if size > MAX_CONTIGUOUS {
            return None;
        }
        // SAFETY: a size in bounds; any context.
        let m = unsafe { sys::kpi_m_alloc(u32::try_from(size).ok()?) };
        // SAFETY: a new packet of ours, or null.
        let m = unsafe { Self::from_raw(m) }?;
        // SAFETY: the storage starts at `m_data` and has `size` bytes or more.
        unsafe { raw::place(m.as_ptr(), lead, len) };
        Some(m)
    }

    fn is_single(&self) -> bool {
        // SAFETY: a live segment.
        unsafe { raw::next(self.as_ptr()).is_null() }
    }

    fn room(&self) -> raw::Room {
        // SAFETY: a live segment.
        unsafe { raw::room(self.as_ptr()) }
    }

    fn first_len(&self) -> usize {
        // SAFETY: a live segment.
        unsafe { raw::len(self.as_ptr()) }
    }

    fn data_ptr(&self) -> *mut u8 {
        // SAFETY: a live segment.
        unsafe { raw::data(self.as_ptr()) }
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::mbuf {
        self.m.as_ptr()
    }

    /// Gives the packet to C.
    pub(crate) fn into_raw(self) -> *mut sys::mbuf {
        core::mem::ManuallyDrop::new(self).m.as_ptr()
    }

    /// The packet in storage of the kernel's own, to be given away: a socket may hold it unread, or a
    /// network card, when this module is long gone. `None`, and the packet is gone, without memory.
    ///
    /// Every packet that leaves the driver for good comes through here; only one that was too large
    /// for a cluster is copied.
    pub(crate) fn for_stack(self) -> Option<Self> {
        // SAFETY: an owned packet.
        if !unsafe { raw::may_be_ours(self.as_ptr()) } {
            return Some(self);
        }
        // SAFETY: an owned packet, given away; what comes back is ours, in mapped segments.
        unsafe { Self::from_raw(sys::kpi_m_for_stack(self.into_raw())) }
    }

    /// Takes a packet from C; `None` for null.
    ///
    /// # Safety
    ///
    /// `m` is null or has the type's invariant and is given to us.
    pub(crate) unsafe fn from_raw(m: *mut sys::mbuf) -> Option<Self> {
        NonNull::new(m).map(|m| Self { m })
    }

    /// [`Mbuf::adopt`] of a packet that the stack brings in this epoch section, and where it came from.
    ///
    /// # Safety
    ///
    /// `m` is a packet given to us, and its receive interface lives through the section.
    pub(crate) unsafe fn adopt_from<'e>(
        m: *mut sys::mbuf,
        _ep: &'e Epoch,
    ) -> (Option<Self>, ReceivedBy<'e>) {
        // INVARIANT: the contract.
        let from = ReceivedBy {
            // SAFETY: a live packet.
            ifp: unsafe { raw::rcvif(m) },
            _section: PhantomData,
        };
        // SAFETY: the contract.
        (unsafe { Self::adopt(m) }, from)
    }

    /// Says again what [`Mbuf::adopt_from`] has told, to whoever the packet is given to in the section.
    pub(crate) fn restore(&mut self, from: ReceivedBy<'_>) {
        // SAFETY: an owned packet; the interface lives through the section.
        unsafe { raw::set_rcvif(self.as_ptr(), from.ifp) };
    }

    /// Takes a packet that the network stack gives us: as [`Mbuf::from_raw`], but segments may be
    /// unmapped, and the receive interface is forgotten, because it is only valid in the present
    /// epoch section and the packet may wait in a queue. `None`, and the packet is gone, if mapping
    /// it failed.
    ///
    /// # Safety
    ///
    /// `m` is a packet given to us.
    pub(crate) unsafe fn adopt(m: *mut sys::mbuf) -> Option<Self> {
        // SAFETY: a chain of live segments.
        let m = if unsafe { raw::has_unmapped(m) } {
            // SAFETY: given away; what comes back is ours.
            unsafe { sys::kpi_m_mapped(m) }
        } else {
            m
        };
        // SAFETY: now every segment is mapped.
        let packet = unsafe { Self::from_raw(m) }?;
        // SAFETY: an owned packet.
        unsafe { raw::forget_rcvif(packet.as_ptr()) };
        Some(packet)
    }
}

/// Whether an IP packet that begins so is a whole TCP segment or UDP datagram, right behind its IP
/// header.
fn is_whole_transport(packet: &[u8; 10]) -> bool {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let protocol = match packet.first().map(|b| b >> 4) {
        // More fragments, or not the first one.
        Some(4) => match packet.get(6..8) {
            Some(&[flags, offset]) if (flags & 0x3f, offset) == (0, 0) => packet.get(9),
            _ => None,
        },
        Some(6) => packet.get(6),
        _ => None,
    };
    matches!(protocol, Some(&(TCP | UDP)))
}

impl Drop for Mbuf {
    fn drop(&mut self) {
        // SAFETY: a live packet that we own (type invariant).
        unsafe { sys::m_freem(self.m.as_ptr()) };
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf").field("len", &self.len()).finish()
    }
}
