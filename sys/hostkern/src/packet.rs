// SPDX-License-Identifier: BSD-2-Clause
//! A packet that somebody on the host's side owns: a safe handle on an mbuf chain.

use core::ptr;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::backend::Family;
use crate::layout::*;
use crate::mbuf::{
    add_cluster, check, check_packet, data_of, flags_of, free_one, get, m_adj, m_freem, set_flags,
    share,
};

/// Room in front of the data of packets that hostkern makes, for the headers that the driver or we
/// prepend.
const HEADROOM: usize = 128;
/// Room behind it, for the driver's padding and tag.
const TAILROOM: usize = 48;

const CSUM_L3_CALC: u32 = 0x0100_0000;
const CSUM_L3_VALID: u32 = 0x0200_0000;
const CSUM_L4_CALC: u32 = 0x0400_0000;
const CSUM_L4_VALID: u32 = 0x0800_0000;

/// A packet. Dropping it frees the mbufs. Only usable inside a kernel frame.
///
/// # Invariants
/// `0` heads a live chain with a packet header that this value owns.
pub struct Packet(*mut mbuf);

// SAFETY: an mbuf chain has one owner and may move between threads; shared storage is counted
// atomically.
unsafe impl Send for Packet {}

impl Drop for Packet {
    fn drop(&mut self) {
        // SAFETY: the type's invariant.
        unsafe { m_freem(self.0) }
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packet({} bytes)", self.len())
    }
}

impl Packet {
    /// Takes a chain over from C.
    ///
    /// # Safety
    /// `m` heads a live packet that the caller owns.
    #[track_caller]
    pub(crate) unsafe fn from_raw(m: *mut mbuf, what: &str) -> Self {
        // SAFETY: as the caller says.
        unsafe { check_packet(m, what) };
        Self(m)
    }

    /// Gives the chain to C.
    pub fn into_raw(self) -> *mut mbuf {
        let m = self.0;
        core::mem::forget(self);
        m
    }

    /// An empty contiguous packet with room for `len` bytes behind 128 bytes of headroom. None: no
    /// memory.
    pub fn with_capacity(len: usize) -> Option<Self> {
        let size = HEADROOM.checked_add(len)?.checked_add(TAILROOM)?;
        let p = Self(null_if_none(get(MT_DATA, M_PKTHDR))?);
        // SAFETY: a fresh mbuf. The storage has HEADROOM bytes and more; a small packet is inside the
        // mbuf, and one larger than any cluster has storage of no module.
        unsafe {
            if size > MHLEN && !add_cluster(p.0, size) {
                return None;
            }
            (*p.0).m_data = (*p.0).m_data.add(HEADROOM);
        }
        Some(p)
    }

    /// A contiguous packet with a copy of `data`. None: no memory.
    pub fn from_slice(data: &[u8]) -> Option<Self> {
        let p = Self::with_capacity(data.len())?;
        // SAFETY: the storage was made with room for the data.
        unsafe {
            ptr::copy_nonoverlapping(data.as_ptr(), (*p.0).m_data, data.len());
            (*p.0).m_len = data.len() as i32;
            (*p.0).len = data.len() as i32;
        }
        Some(p)
    }

    /// A packet with an mbuf for each piece, each with a cluster of its own. None: no memory.
    pub fn from_pieces(pieces: &[&[u8]]) -> Option<Self> {
        let p = Self(null_if_none(get(MT_DATA, M_PKTHDR))?);
        let mut tail = p.0;
        for (i, piece) in pieces.iter().enumerate() {
            // SAFETY: fresh mbufs, linked at the end of the chain that `p` owns; the cluster holds
            // the piece.
            unsafe {
                if i > 0 {
                    let n = null_if_none(get(MT_DATA, 0))?;
                    (*tail).m_next = n;
                    tail = n;
                }
                if !add_cluster(tail, piece.len()) {
                    return None;
                }
                ptr::copy_nonoverlapping(piece.as_ptr(), (*tail).m_data, piece.len());
                (*tail).m_len = piece.len() as i32;
                (*p.0).len += piece.len() as i32;
            }
        }
        Some(p)
    }

    /// A second packet that shares the storage of this one (as a packet kept for retransmission
    /// does), so that neither may be written. None: no memory, or the data is not in clusters.
    pub fn share(&self) -> Option<Self> {
        let p = Self(null_if_none(get(MT_DATA, M_PKTHDR))?);
        // SAFETY: `self`'s chain is live; the new chain is linked as it grows.
        unsafe {
            let (mut from, mut to) = (self.0, p.0);
            loop {
                if flags_of(&*from) & M_EXT == 0 {
                    return None;
                }
                share(to, from);
                (*p.0).len += (*to).m_len;
                from = (*from).m_next;
                if from.is_null() {
                    return Some(p);
                }
                let n = null_if_none(get(MT_DATA, 0))?;
                (*to).m_next = n;
                to = n;
            }
        }
    }

    /// Turns the packet's clusters into unmapped pages (`M_EXTPG`), as sendfile(2) and kernel TLS
    /// make: the driver must map them before it looks at the data. Inline data stays.
    pub fn unmapped(self) -> Self {
        let mut m = self.0;
        while !m.is_null() {
            // SAFETY: a live chain that we own.
            unsafe {
                let f = flags_of(&*m);
                if f & M_EXT != 0 && f & M_PKTHDR == 0 {
                    set_flags(&mut *m, f | M_EXTPG);
                    // Out of reach: what looks at it unmapped crashes.
                    let offset = (*m).m_data.addr() - (*m).ext_buf.addr();
                    (*m).m_data = ptr::without_provenance_mut(offset);
                }
                m = (*m).m_next;
            }
        }
        self
    }

    /// Marks the storage read-only (`M_RDONLY`).
    pub fn read_only(self) -> Self {
        // SAFETY: ours.
        unsafe { set_flags(&mut *self.0, flags_of(&*self.0) | M_RDONLY) };
        self
    }

    /// Whole length in bytes.
    pub fn len(&self) -> usize {
        // SAFETY: ours.
        unsafe { (*self.0).len as usize }
    }

    /// True if there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces that hold the data, in order.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        let mut m = self.0;
        std::iter::from_fn(move || {
            if m.is_null() {
                return None;
            }
            // SAFETY: a live chain that `self` owns and cannot change while borrowed.
            unsafe {
                check(m, "read");
                let s = core::slice::from_raw_parts(data_of(m), (*m).m_len as usize);
                m = (*m).m_next;
                Some(s)
            }
        })
        .filter(|s: &&[u8]| !s.is_empty())
    }

    /// The data, if one piece holds it.
    pub fn contiguous(&self) -> Option<&[u8]> {
        let mut it = self.segments();
        let first = it.next().unwrap_or(&[]);
        it.next().is_none().then_some(first)
    }

    /// A copy of the data.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut v = Vec::with_capacity(self.len());
        self.segments().for_each(|s| v.extend_from_slice(s));
        v
    }

    /// Copies the first bytes; false if there are fewer.
    pub fn read(&self, to: &mut [u8]) -> bool {
        let mut at = 0;
        for s in self.segments() {
            let n = s.len().min(to.len() - at);
            to[at..at + n].copy_from_slice(&s[..n]);
            at += n;
            if at == to.len() {
                break;
            }
        }
        at == to.len()
    }

    /// The room behind the data of a packet with one piece; read into it, then
    /// [`set_len`](Self::set_len). What was there before is arbitrary but initialized.
    pub fn spare(&mut self) -> &mut [u8] {
        let m = self.0;
        // SAFETY: the storage is ours alone (made by `with_capacity`); its end is known from its
        // kind. The bytes are zeroed so that no uninitialized one is exposed.
        unsafe {
            if !(*m).m_next.is_null() || flags_of(&*m) & M_RDONLY != 0 {
                return &mut [];
            }
            let end = if flags_of(&*m) & M_EXT != 0 {
                (*m).ext_buf.add((*m).ext_size as usize)
            } else {
                m.cast::<u8>().add(MSIZE)
            };
            let at = (*m).m_data.add((*m).m_len as usize);
            let room = end.addr() - at.addr();
            ptr::write_bytes(at, 0, room);
            core::slice::from_raw_parts_mut(at, room)
        }
    }

    /// Sets the length of a packet with one piece after its [`spare`](Self::spare) room was filled.
    ///
    /// # Panics
    /// Past the storage.
    pub fn set_len(&mut self, len: usize) {
        let m = self.0;
        // SAFETY: ours.
        unsafe {
            let end = if flags_of(&*m) & M_EXT != 0 {
                (*m).ext_buf.addr() + (*m).ext_size as usize
            } else {
                m.addr() + MSIZE
            };
            assert!(
                (*m).m_next.is_null() && (*m).m_data.addr() + len <= end,
                "set_len({len})"
            );
            (*m).m_len = len as i32;
            (*m).len = len as i32;
        }
    }

    /// Takes `n` bytes off the front.
    pub fn trim_front(&mut self, n: usize) {
        // SAFETY: ours.
        unsafe { m_adj(self.0, i32::try_from(n).unwrap_or(i32::MAX)) };
    }

    /// Puts `bytes` in front, in the headroom if there is some; false, with the packet as it was,
    /// without memory.
    #[must_use]
    pub fn push_front(&mut self, bytes: &[u8]) -> bool {
        let m = self.0;
        // SAFETY: ours; the front piece is writable when it is not shared, and the room in front is
        // checked.
        unsafe {
            let start = match flags_of(&*m) {
                f if f & M_RDONLY != 0 => (*m).m_data.addr(),
                f if f & M_EXT != 0 => {
                    if crate::mbuf::count_of(m).load(core::sync::atomic::Ordering::Relaxed) == 1 {
                        (*m).ext_buf.addr()
                    } else {
                        (*m).m_data.addr()
                    }
                }
                _ => m.addr() + M_PKTDAT,
            };
            if (*m).m_data.addr() - start >= bytes.len() {
                (*m).m_data = (*m).m_data.sub(bytes.len());
                ptr::copy_nonoverlapping(bytes.as_ptr(), (*m).m_data, bytes.len());
                (*m).m_len += bytes.len() as i32;
                (*m).len += bytes.len() as i32;
                return true;
            }
            let n = get(MT_DATA, M_PKTHDR);
            if n.is_null() {
                return false;
            }
            if bytes.len() > MHLEN {
                free_one(n);
                return false;
            }
            crate::mbuf::kpi_m_move_pkthdr(n, m);
            (*n).m_next = m;
            (*n).m_data = n.cast::<u8>().add(MSIZE - bytes.len());
            ptr::copy_nonoverlapping(bytes.as_ptr(), (*n).m_data, bytes.len());
            (*n).m_len = bytes.len() as i32;
            (*n).len += bytes.len() as i32;
            self.0 = n;
        }
        true
    }

    /// IP version of the first byte.
    pub fn family(&self) -> Option<Family> {
        let mut b = [0];
        self.read(&mut b).then_some(())?;
        match b[0] >> 4 {
            4 => Some(Family::V4),
            6 => Some(Family::V6),
            _ => None,
        }
    }

    /// True if the driver marked the checksums of the packet as verified, so that nobody needs to
    /// check them again.
    pub fn checksums_valid(&self) -> bool {
        // SAFETY: ours.
        let m = unsafe { &*self.0 };
        m.csum_flags & CSUM_L4_VALID != 0 && m.csum_data == 0xffff
    }

    /// `m_pkthdr.csum_flags`.
    pub fn csum_flags(&self) -> u32 {
        // SAFETY: ours.
        unsafe { (*self.0).csum_flags }
    }

    /// Sets `m_pkthdr.csum_flags`, `rsstype` and `flowid`, to see what the driver makes of them.
    pub fn set_offload(&mut self, csum_flags: u32, rsstype: u8, flowid: u32) {
        // SAFETY: ours.
        unsafe {
            (*self.0).csum_flags = csum_flags;
            (*self.0).rsstype = rsstype;
            (*self.0).flowid = flowid;
        }
    }

    /// The interface that the driver says received it, as an address to compare.
    pub fn rcvif(&self) -> usize {
        // SAFETY: ours.
        unsafe { (*self.0).rcvif.addr() }
    }

    /// The FIB of the packet.
    pub fn fib(&self) -> u16 {
        // SAFETY: ours.
        unsafe { (*self.0).fibnum }
    }

    /// `M_MCAST` or `M_BCAST`.
    pub fn set_multicast(&mut self) {
        // SAFETY: ours.
        unsafe { set_flags(&mut *self.0, flags_of(&*self.0) | M_MCAST) };
    }

    /// Number of tags on the packet.
    pub fn tags(&self) -> usize {
        // SAFETY: ours; the list ends in null.
        unsafe {
            let (mut n, mut t) = (0, (*self.0).tags);
            while !t.is_null() {
                n += 1;
                t = (*t).link;
            }
            n
        }
    }

    /// Puts IP and UDP headers in front of a payload, lengths and checksums right, and marks them
    /// as verified, as a network card does. False: no memory.
    #[must_use]
    pub(crate) fn push_udp(&mut self, src: SocketAddr, dst: SocketAddr, ttl: u8) -> bool {
        let payload = self.len();
        let mut h = [0u8; 48];
        let udp_len = (payload + 8) as u16;
        let n = match (src.ip(), dst.ip()) {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                h[0] = 0x45;
                h[2..4].copy_from_slice(&(udp_len + 20).to_be_bytes());
                h[8] = ttl;
                h[9] = 17;
                h[12..16].copy_from_slice(&s.octets());
                h[16..20].copy_from_slice(&d.octets());
                let sum = checksum(&h[..20]);
                h[10..12].copy_from_slice(&sum.to_be_bytes());
                20
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                h[0] = 0x60;
                h[4..6].copy_from_slice(&udp_len.to_be_bytes());
                h[6] = 17;
                h[7] = ttl;
                h[8..24].copy_from_slice(&s.octets());
                h[24..40].copy_from_slice(&d.octets());
                40
            }
            _ => return false,
        };
        h[n..n + 2].copy_from_slice(&src.port().to_be_bytes());
        h[n + 2..n + 4].copy_from_slice(&dst.port().to_be_bytes());
        h[n + 4..n + 6].copy_from_slice(&udp_len.to_be_bytes());
        if !self.push_front(&h[..n + 8]) {
            return false;
        }
        // SAFETY: ours.
        unsafe {
            (*self.0).csum_flags = CSUM_L3_CALC | CSUM_L3_VALID | CSUM_L4_CALC | CSUM_L4_VALID;
            (*self.0).csum_data = 0xffff;
        }
        true
    }

    /// Address and ports of a UDP packet that is whole: source, destination, offset of the payload.
    pub(crate) fn udp(&self) -> Option<(SocketAddr, SocketAddr, usize)> {
        let mut h = [0u8; 48];
        let n = self.len().min(48);
        self.read(&mut h[..n]);
        let (src, dst, at): (IpAddr, IpAddr, usize) = match h[0] >> 4 {
            4 if n >= 28 && h[9] == 17 && h[6] & 0x3f == 0 && h[7] == 0 => {
                let at = usize::from(h[0] & 15) * 4;
                let a = <[u8; 4]>::try_from(&h[12..16]).ok()?;
                let b = <[u8; 4]>::try_from(&h[16..20]).ok()?;
                (a.into(), b.into(), at)
            }
            6 if n >= 48 && h[6] == 17 => {
                let a = <[u8; 16]>::try_from(&h[8..24]).ok()?;
                let b = <[u8; 16]>::try_from(&h[24..40]).ok()?;
                (a.into(), b.into(), 40)
            }
            _ => return None,
        };
        let p = h.get(at..at + 4)?;
        let sport = u16::from_be_bytes([p[0], p[1]]);
        let dport = u16::from_be_bytes([p[2], p[3]]);
        Some((
            SocketAddr::new(src, sport),
            SocketAddr::new(dst, dport),
            at + 8,
        ))
    }
}

/// Destination address of an IP packet.
pub(crate) fn ip_dst(p: &[u8]) -> Option<IpAddr> {
    match p.first()? >> 4 {
        4 => Some(<[u8; 4]>::try_from(p.get(16..20)?).ok()?.into()),
        6 => Some(<[u8; 16]>::try_from(p.get(24..40)?).ok()?.into()),
        _ => None,
    }
}

/// The internet checksum.
fn checksum(b: &[u8]) -> u16 {
    let mut sum = 0u32;
    for c in b.chunks(2) {
        sum += u32::from(u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn null_if_none(m: *mut mbuf) -> Option<*mut mbuf> {
    (!m.is_null()).then_some(m)
}
