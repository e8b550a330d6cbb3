// SPDX-License-Identifier: BSD-2-Clause
//! Netlink messages and attributes: written into memory that is wiped, and read where they lie.
//!
//! The layouts are those of the netlink-packet-core library. Its message types are not used, because they copy what they
//! hold into memory that nobody wipes, and most of what is held here are keys.

use std::io;

use netlink_packet_core::{
    DoneBuffer, Emitable, ErrorBuffer, NLA_F_NESTED, NLA_HEADER_SIZE, NLM_F_ACK, NLM_F_DUMP,
    NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_ALIGNTO, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP,
    NLMSG_OVERRUN, NetlinkBuffer, Nla, NlaBuffer, NlasIterator,
};
use rustix::io::Errno;
use zeroize::Zeroizing;

/// Bytes of the longest message that is sent. The kernel takes one up to the size of a socket's send buffer, by default
/// some 200 KiB; but a list within it can have 64 KiB at most, its length being a 16-bit number.
pub const CAPACITY: usize = 32 << 10;

/// Flags of a request that is answered by an acknowledgement or an error.
pub const ACKNOWLEDGED: u16 = NLM_F_REQUEST | NLM_F_ACK;
/// Flags of a request for everything.
pub const DUMP: u16 = NLM_F_REQUEST | NLM_F_DUMP;

const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;

/// A message that is being written. Its memory is wiped when it is dropped, and never moves.
pub struct Message {
    bytes: Zeroizing<Vec<u8>>,
    limit: usize,
}

impl Message {
    /// Begins a message of that type, of at most [`CAPACITY`] bytes.
    #[must_use]
    pub fn new(kind: u16, flags: u16) -> Message {
        Message::with_limit(kind, flags, CAPACITY)
    }

    /// Begins a message of a generic family: its number, a command, the version.
    #[must_use]
    pub fn generic(family: u16, flags: u16, command: u8, version: u8) -> Message {
        let mut message = Message::new(family, flags);
        message.raw(&[command, version, 0, 0]);
        message
    }

    /// Begins a message that will not grow past `limit` bytes, which is brought into the range from 64 to [`CAPACITY`].
    #[must_use]
    pub fn with_limit(kind: u16, flags: u16, limit: usize) -> Message {
        let limit = limit.clamp(64, CAPACITY);
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit));
        bytes.resize(HEADER, 0);
        let mut header = NetlinkBuffer::new(&mut **bytes);
        header.set_message_type(kind);
        header.set_flags(flags);
        Message { bytes, limit }
    }

    /// Appends bytes that are not an attribute, a multiple of 4; false if there is no room for them.
    pub fn raw(&mut self, bytes: &[u8]) -> bool {
        debug_assert!(bytes.len().is_multiple_of(4));
        if bytes.len() > self.limit - self.bytes.len() {
            return false;
        }
        self.bytes.extend_from_slice(bytes);
        true
    }

    /// Appends an attribute; false, and nothing appended, if there is no room for it.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> bool {
        let attribute = Attribute { kind, value };
        let start = self.bytes.len();
        let len = attribute.buffer_len();
        if len > self.limit - start {
            return false;
        }
        self.bytes.resize(start + len, 0);
        attribute.emit(&mut self.bytes[start..]);
        true
    }

    /// Appends the name of an interface.
    ///
    /// # Errors
    /// EINVAL for a name with a NUL, ERANGE for one far longer than any; other bad names are the kernel's to refuse.
    pub fn name(&mut self, kind: u16, name: &str) -> io::Result<()> {
        if name.contains('\0') {
            return Err(Errno::INVAL.into());
        }
        let text = [name.as_bytes(), &[0]].concat();
        if text.len() > 256 || !self.put(kind, &text) {
            return Err(Errno::RANGE.into());
        }
        Ok(())
    }

    /// Begins an attribute that consists of attributes; `None` if there is no room for it.
    #[must_use]
    pub fn open(&mut self, kind: u16) -> Option<Nest> {
        let start = self.bytes.len();
        self.put(kind | NLA_F_NESTED, &[]).then_some(Nest(start))
    }

    /// Ends what [`open`](Self::open) began.
    pub fn close(&mut self, nest: &Nest) {
        let len = self.bytes.len() - nest.0;
        // The limit is below the greatest 16-bit number.
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        NlaBuffer::new(&mut self.bytes[nest.0..]).set_length(len);
    }

    /// Takes back an attribute that does not fit, with everything in it.
    pub fn take_back(&mut self, nest: &Nest) {
        // Truncation would leave its bytes in place until the end, which wipes them.
        self.bytes.truncate(nest.0);
    }

    /// The whole message, with its length and this sequence number in its header.
    pub fn finish(&mut self, sequence: u32) -> &[u8] {
        let len = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let mut header = NetlinkBuffer::new(&mut **self.bytes);
        header.set_length(len);
        header.set_sequence_number(sequence);
        &self.bytes
    }
}

/// Where an attribute of attributes begins.
pub struct Nest(usize);

struct Attribute<'a> {
    kind: u16,
    value: &'a [u8],
}

impl Nla for Attribute<'_> {
    fn value_len(&self) -> usize {
        self.value.len()
    }

    fn kind(&self) -> u16 {
        self.kind
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(self.value);
    }
}

/// A message of a reply.
#[derive(Debug, PartialEq)]
pub enum Reply<'a> {
    /// Part of the answer: the message's type and what follows its header.
    Part(u16, &'a [u8]),
    /// The end of the answer. `Err` is the kernel's error number, positive.
    End(Result<(), i32>),
}

/// The messages of one datagram.
pub struct Replies<'a> {
    rest: &'a [u8],
    sequence: u32,
    /// Whether a message said that the answer mixes two states.
    pub inconsistent: bool,
}

impl<'a> Replies<'a> {
    /// Reads a datagram; messages that do not answer the request with this sequence number are passed over.
    #[must_use]
    pub fn new(datagram: &'a [u8], sequence: u32) -> Replies<'a> {
        Replies {
            rest: datagram,
            sequence,
            inconsistent: false,
        }
    }
}

impl<'a> Iterator for Replies<'a> {
    type Item = io::Result<Reply<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let Ok(message) = NetlinkBuffer::new_checked(self.rest) else {
                self.rest = &[];
                return Some(Err(malformed()));
            };
            let len = usize::try_from(message.length()).unwrap_or(usize::MAX);
            let aligned = len.next_multiple_of(usize::from(NLMSG_ALIGNTO));
            self.rest = self.rest.get(aligned..).unwrap_or_default();
            if message.sequence_number() != self.sequence {
                continue;
            }
            self.inconsistent |= message.flags() & NLM_F_DUMP_INTR != 0;
            let payload = message.payload();
            return Some(match message.message_type() {
                NLMSG_NOOP => continue,
                NLMSG_OVERRUN => Err(Errno::NOBUFS.into()),
                NLMSG_ERROR => match ErrorBuffer::new_checked(payload) {
                    Ok(error) => end(error.code().map_or(0, i32::from)),
                    Err(_) => Err(malformed()),
                },
                NLMSG_DONE if payload.is_empty() => end(0),
                NLMSG_DONE => match DoneBuffer::new_checked(payload) {
                    Ok(done) => end(done.code()),
                    Err(_) => Err(malformed()),
                },
                kind => Ok(Reply::Part(kind, payload)),
            });
        }
        None
    }
}

/// What an error number in a message means: the kernel's own are negative, and a dump may return a length.
fn end<'a>(code: i32) -> io::Result<Reply<'a>> {
    match code.checked_neg() {
        Some(errno) if errno > 0 => Ok(Reply::End(Err(errno))),
        Some(_) => Ok(Reply::End(Ok(()))),
        None => Err(malformed()),
    }
}

/// The attributes of a message of a generic family, which follow a short header.
///
/// # Errors
/// EBADMSG if there is no such header.
pub fn generic_payload(payload: &[u8]) -> io::Result<&[u8]> {
    payload.get(GENERIC_HEADER..).ok_or_else(malformed)
}

/// The attributes in these bytes: each one's type, without flags, and its value. After an error nothing follows.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, io::Result<&[u8]>)> {
    NlasIterator::new(bytes).map(|attribute| match attribute {
        Ok(attribute) => {
            let value = attribute.into_inner();
            (
                attribute.kind(),
                value
                    .get(NLA_HEADER_SIZE..usize::from(attribute.length()))
                    .ok_or_else(malformed),
            )
        }
        Err(_) => (u16::MAX, Err(malformed())),
    })
}

/// A number in the machine's order, of exactly its size.
///
/// # Errors
/// EBADMSG for another size.
pub fn number<T: Number>(value: &[u8]) -> io::Result<T> {
    T::from_bytes(value).ok_or_else(malformed)
}

/// Numbers that occur in attributes.
pub trait Number: Sized {
    /// The number in the machine's order, if there are as many bytes as it has.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

macro_rules! numbers {
    ($($n:ty),*) => {$(
        impl Number for $n {
            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(<$n>::from_ne_bytes)
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64);

/// What a reply that makes no sense is answered by.
pub(super) fn malformed() -> io::Error {
    Errno::BADMSG.into()
}
