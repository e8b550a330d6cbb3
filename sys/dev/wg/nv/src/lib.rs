// SPDX-License-Identifier: BSD-2-Clause
//! Packed nvlist codec and the WireGuard configuration model that travels in it.
//!
//! FreeBSD's `SIOCSWG` and `SIOCGWG` carry an nvlist, packed as libnv(3) packs it. This crate
//! reads and writes that format without allocating and without any state outside its arguments,
//! so that the driver in the kernel, the daemon and wg(8) all use the same code.
//!
//! - [`List`] is a reader over the caller's bytes. [`List::parse`] validates a whole message in
//!   one pass, after which reading it cannot fail.
//! - [`Writer`] streams a message into a [`Sink`]. Packed headers hold the number of bytes that
//!   still follow in the *whole* message, so the length must be known first: [`pack`] runs the
//!   same closure twice, once to measure and once to write.
//! - [`wgconf`] is what the messages mean: a validated `SET`, a streamed `GET`. It reads and writes
//!   through [`ReadList`] and [`WriteList`], so that libnv may take the place of this codec.
//!
//! The reader accepts what the kernel's `nvlist_unpack(buf, size, 0)` accepts, with these
//! differences, all towards refusing more: descriptor types (6, 12), on which the kernel's own
//! reader panics; more than [`MAX_DEPTH`] lists inside one another; more than [`MAX_NAMES`] names
//! in the lists that are open at one point; more than [`MAX_SIZE`] bytes; and an end record of
//! the wrong kind ("up" where "array next" belongs, or the reverse).
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used
)]

mod cursor;
mod facade;
mod read;
pub mod wgconf;
mod write;

pub use facade::{Item, ReadArray, ReadList, WriteList};
pub use read::{Array, Elements, Error, List, Numbers, Pair, Pairs, Value};
pub use write::{FnSink, Sink, SliceSink, WriteError, Writer, measure, pack, write};

/// Largest message that is read or written, in bytes.
///
/// An interface with 2^20 peers and an allowed IP each takes about 231 MiB. A caller that reads a
/// message from a less trusted place will want a smaller bound of its own before it copies.
pub const MAX_SIZE: usize = 256 << 20;

/// Greatest number of lists inside one another, the outermost one included. A WireGuard
/// configuration needs three.
pub const MAX_DEPTH: usize = 8;

/// Greatest number of names that may be held at once to detect duplicates: the pairs read so far
/// in the lists that are open, from the outermost one to the innermost.
///
/// libnv compares a new name with every earlier one of the same list, which is quadratic in what
/// the sender chooses. Here the cost of a pair is bounded by a constant, and the bookkeeping fits
/// on the stack. The largest list of the WireGuard protocol has nine names.
pub const MAX_NAMES: usize = 128;

/// Longest name, its terminating NUL included (`NV_NAME_MAX`).
pub const MAX_NAME: usize = 2048;

/// Bytes of the header of a list; a pair's header has the same length.
const HEADER: usize = 19;

mod kind {
    //! Pair types on the wire (`sys/nv.h`, `nv_impl.h`).
    pub const NULL: u8 = 1;
    pub const BOOL: u8 = 2;
    pub const NUMBER: u8 = 3;
    pub const STRING: u8 = 4;
    pub const LIST: u8 = 5;
    pub const BINARY: u8 = 7;
    pub const BOOL_ARRAY: u8 = 8;
    pub const NUMBER_ARRAY: u8 = 9;
    pub const STRING_ARRAY: u8 = 10;
    pub const LIST_ARRAY: u8 = 11;
    pub const ARRAY_NEXT: u8 = 254;
    pub const UP: u8 = 255;
}

mod flag {
    //! Bits of the flags byte of a list header.
    pub const IGNORE_CASE: u8 = 0x01;
    pub const NO_UNIQUE: u8 = 0x02;
    pub const BIG_ENDIAN: u8 = 0x80;
}
