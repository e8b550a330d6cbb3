// SPDX-License-Identifier: BSD-2-Clause
//! Streaming writer of packed nvlists, little-endian as FreeBSD's amd64 and arm64 write them.

use core::fmt;

use crate::{HEADER, MAX_DEPTH, MAX_NAME, MAX_SIZE, kind};

/// Where packed bytes go.
pub trait Sink {
    /// Takes the next bytes of the message.
    ///
    /// # Errors
    /// Whatever stops the message: no room, no memory.
    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError>;
}

/// Why a message could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// The sink is full.
    NoSpace,
    /// The sink could not allocate.
    NoMemory,
    /// The calls do not make a message of the announced length and structure.
    Mismatch,
    /// A name has a NUL inside or is too long.
    Name,
    /// An empty binary or array, which cannot be encoded.
    Empty,
    /// The message would exceed [`crate::MAX_SIZE`].
    TooLarge,
}

impl WriteError {
    /// FreeBSD's number for this failure: ENOSPC 28, ENOMEM 12, E2BIG 7, EINVAL 22.
    pub const fn errno(self) -> i32 {
        match self {
            WriteError::NoSpace => 28,
            WriteError::NoMemory => 12,
            WriteError::TooLarge => 7,
            WriteError::Mismatch | WriteError::Name | WriteError::Empty => 22,
        }
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WriteError::NoSpace => "no space for the message",
            WriteError::NoMemory => "no memory for the message",
            WriteError::Mismatch => "message differs from its announced shape",
            WriteError::Name => "malformed name",
            WriteError::Empty => "empty value",
            WriteError::TooLarge => "message too large",
        })
    }
}

impl core::error::Error for WriteError {}

/// A sink over a slice.
pub struct SliceSink<'a> {
    rest: &'a mut [u8],
    written: usize,
}

impl<'a> SliceSink<'a> {
    /// A sink that fills `buffer` from its start.
    pub fn new(buffer: &'a mut [u8]) -> SliceSink<'a> {
        SliceSink {
            rest: buffer,
            written: 0,
        }
    }

    /// Bytes written so far.
    pub fn written(&self) -> usize {
        self.written
    }
}

impl Sink for SliceSink<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let rest = core::mem::take(&mut self.rest);
        let Some((head, tail)) = rest.split_at_mut_checked(bytes.len()) else {
            // Stay full: a shorter value must not slip in after one that did not fit.
            return Err(WriteError::NoSpace);
        };
        // `copy_from_slice` would carry a panic for lengths that differ, which they do not.
        for (to, from) in head.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.rest = tail;
        self.written = self.written.saturating_add(bytes.len());
        Ok(())
    }
}

/// A sink from a closure, for growing buffers of any kind.
pub struct FnSink<F>(pub F);

impl<F: FnMut(&[u8]) -> Result<(), WriteError>> Sink for FnSink<F> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        (self.0)(bytes)
    }
}

/// A sink for the measuring pass.
struct Discard;

impl Sink for Discard {
    fn put(&mut self, _: &[u8]) -> Result<(), WriteError> {
        Ok(())
    }
}

/// The length of the message that `body` writes. `body` begins inside the outermost list.
///
/// # Errors
/// What `body` returns, and [`WriteError::Mismatch`] when it leaves an array open.
pub fn measure(
    body: &mut dyn FnMut(&mut Writer<'_>) -> Result<(), WriteError>,
) -> Result<usize, WriteError> {
    let mut sink = Discard;
    let mut writer = Writer::new(&mut sink, MAX_SIZE);
    writer.list_header()?;
    body(&mut writer)?;
    if writer.depth != 0 {
        return Err(WriteError::Mismatch);
    }
    Ok(MAX_SIZE.saturating_sub(writer.left))
}

/// Writes a message of `size` bytes, as [`measure`] gave it for an equal `body`.
///
/// # Errors
/// What the sink or `body` returns, and [`WriteError::Mismatch`] when the length differs.
pub fn write(
    sink: &mut dyn Sink,
    size: usize,
    body: &mut dyn FnMut(&mut Writer<'_>) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    if size > MAX_SIZE {
        return Err(WriteError::TooLarge);
    }
    let mut writer = Writer::new(sink, size);
    writer.short = WriteError::Mismatch;
    writer.list_header()?;
    body(&mut writer)?;
    if writer.depth != 0 || writer.left != 0 {
        return Err(WriteError::Mismatch);
    }
    Ok(())
}

/// Measures and writes a message; returns its length. `body` runs twice and must do the same both
/// times.
///
/// # Errors
/// As [`measure`] and [`write()`].
pub fn pack(
    sink: &mut dyn Sink,
    body: &mut dyn FnMut(&mut Writer<'_>) -> Result<(), WriteError>,
) -> Result<usize, WriteError> {
    let size = measure(body)?;
    write(sink, size, body)?;
    Ok(size)
}

/// Writes the pairs of a message.
///
/// Names are not compared with one another: a message with a duplicate is one the readers refuse.
pub struct Writer<'s> {
    sink: &'s mut dyn Sink,
    /// Bytes of the message that are still to come.
    left: usize,
    /// What it means to come to the end of `left`.
    short: WriteError,
    /// Elements that the open arrays still lack, innermost last.
    arrays: [usize; MAX_DEPTH],
    depth: usize,
    /// Between two elements only a new element can come.
    between: bool,
}

impl<'s> Writer<'s> {
    fn new(sink: &'s mut dyn Sink, left: usize) -> Writer<'s> {
        let short = WriteError::TooLarge;
        Writer {
            sink,
            left,
            short,
            arrays: [0; MAX_DEPTH],
            depth: 0,
            between: false,
        }
    }

    /// Writes a null.
    ///
    /// # Errors
    /// This and the other writing functions fail when the sink does, when the message grows past
    /// its size, and when they are called between the elements of an array.
    pub fn null(&mut self, name: &str) -> Result<(), WriteError> {
        self.pair(kind::NULL, name, 0, 0)
    }

    /// Writes a boolean.
    pub fn boolean(&mut self, name: &str, value: bool) -> Result<(), WriteError> {
        self.pair(kind::BOOL, name, 1, 0)?;
        self.put(&[u8::from(value)])
    }

    /// Writes a number.
    pub fn number(&mut self, name: &str, value: u64) -> Result<(), WriteError> {
        self.pair(kind::NUMBER, name, 8, 0)?;
        self.put(&value.to_le_bytes())
    }

    /// Writes a string, which must not contain a NUL.
    pub fn string(&mut self, name: &str, value: &str) -> Result<(), WriteError> {
        if value.as_bytes().contains(&0) {
            return Err(WriteError::Name);
        }
        self.pair(kind::STRING, name, value.len().saturating_add(1), 0)?;
        self.put(value.as_bytes())?;
        self.put(&[0])
    }

    /// Writes bytes; there must be at least one.
    pub fn binary(&mut self, name: &str, value: &[u8]) -> Result<(), WriteError> {
        if value.is_empty() {
            return Err(WriteError::Empty);
        }
        self.pair(kind::BINARY, name, value.len(), 0)?;
        self.put(value)
    }

    /// Writes a single nested list. `body` runs twice, as its length comes first.
    pub fn list(
        &mut self,
        name: &str,
        body: &mut dyn FnMut(&mut Writer<'_>) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        self.pair(kind::LIST, name, measure(body)?, 0)?;
        self.list_header()?;
        let depth = self.depth;
        body(self)?;
        if self.depth != depth {
            return Err(WriteError::Mismatch);
        }
        self.pair(kind::UP, "", 0, 0)
    }

    /// Begins an array of `count` lists. Exactly so many calls of [`Writer::begin_element`] and
    /// [`Writer::end_element`] follow; the last one ends the array. An empty array cannot be
    /// encoded.
    pub fn begin_array(&mut self, name: &str, count: usize) -> Result<(), WriteError> {
        if count == 0 {
            return Err(WriteError::Empty);
        }
        self.pair(kind::LIST_ARRAY, name, 0, count)?;
        *self
            .arrays
            .get_mut(self.depth)
            .ok_or(WriteError::Mismatch)? = count;
        self.depth = self.depth.saturating_add(1);
        self.between = true;
        Ok(())
    }

    /// Begins the next element of the innermost array.
    pub fn begin_element(&mut self) -> Result<(), WriteError> {
        if !self.between {
            return Err(WriteError::Mismatch);
        }
        self.between = false;
        self.list_header()
    }

    /// Ends an element of the innermost array, and the array with its last one.
    pub fn end_element(&mut self) -> Result<(), WriteError> {
        self.pair(kind::ARRAY_NEXT, "", 0, 0)?;
        let depth = self.depth.checked_sub(1).ok_or(WriteError::Mismatch)?;
        let lacking = self.arrays.get_mut(depth).ok_or(WriteError::Mismatch)?;
        *lacking = lacking.saturating_sub(1);
        if *lacking == 0 {
            self.depth = depth;
        } else {
            self.between = true;
        }
        Ok(())
    }

    fn list_header(&mut self) -> Result<(), WriteError> {
        let follow = self.left.checked_sub(HEADER).ok_or(self.short)?;
        let mut header = [0; HEADER];
        if let Some((start, size)) = header.split_last_chunk_mut::<8>() {
            if let Some(magic) = start.first_mut() {
                *magic = b'l';
            }
            *size = (follow as u64).to_le_bytes();
        }
        self.put(&header)
    }

    fn pair(&mut self, kind: u8, name: &str, size: usize, items: usize) -> Result<(), WriteError> {
        if self.between {
            return Err(WriteError::Mismatch);
        }
        if name.len() >= MAX_NAME || name.as_bytes().contains(&0) {
            return Err(WriteError::Name);
        }
        let name_size =
            u16::try_from(name.len().saturating_add(1)).map_err(|_| WriteError::Name)?;
        self.put(&[kind])?;
        self.put(&name_size.to_le_bytes())?;
        self.put(&(size as u64).to_le_bytes())?;
        self.put(&(items as u64).to_le_bytes())?;
        self.put(name.as_bytes())?;
        self.put(&[0])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(self.short)?;
        self.sink.put(bytes)
    }
}
