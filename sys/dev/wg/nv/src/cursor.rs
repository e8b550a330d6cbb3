// SPDX-License-Identifier: BSD-2-Clause
//! Decoding of the packed stream, record by record, for [`read`](crate::read).

use crate::read::{Array, Error, List, Numbers, Value};
use crate::{HEADER, MAX_DEPTH, MAX_NAME, MAX_NAMES, flag, kind};

/// A position in the stream and the byte order in force there.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    pub(crate) rest: &'a [u8],
    pub(crate) big: bool,
}

/// What ends an open list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing but the end of the message: the outermost list.
    Message,
    /// An "up" record: a single nested list.
    Child,
    /// An "array next" record, after which `more` elements follow.
    Element { more: usize },
}

/// An open list.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    end: End,
    flags: u8,
    /// Where this list's names begin in [`Names`].
    names: usize,
}

impl Frame {
    pub(crate) const fn new(end: End, flags: u8) -> Frame {
        Frame {
            end,
            flags,
            names: 0,
        }
    }
}

/// Names of the open lists, as offsets into the message.
pub(crate) struct Names<'a> {
    message: &'a [u8],
    offsets: [u32; MAX_NAMES],
    len: usize,
}

impl<'a> Names<'a> {
    /// No names yet of that message.
    pub(crate) const fn new(message: &'a [u8]) -> Names<'a> {
        Names {
            message,
            offsets: [0; MAX_NAMES],
            len: 0,
        }
    }

    /// Remembers a name of the innermost list, whose names begin at `from`.
    /// `offset` is where the name starts and `len` its length without the NUL.
    fn add(&mut self, from: usize, offset: usize, len: usize, flags: u8) -> Result<(), Error> {
        if flags & flag::NO_UNIQUE != 0 {
            return Ok(());
        }
        // With its NUL, so that a prefix of a longer name differs.
        let text = |at: usize| self.message.get(at..)?.get(..=len);
        let new = text(offset);
        for &old in self.offsets.get(from..self.len).unwrap_or(&[]) {
            let same = match (text(old as usize), new) {
                (Some(a), Some(b)) if flags & flag::IGNORE_CASE != 0 => a.eq_ignore_ascii_case(b),
                (a, b) => a == b,
            };
            if same {
                return Err(Error::Duplicate);
            }
        }
        let slot = self.offsets.get_mut(self.len).ok_or(Error::TooManyNames)?;
        *slot = u32::try_from(offset).map_err(|_| Error::TooLarge)?;
        self.len = self.len.saturating_add(1);
        Ok(())
    }
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Reads a list header and returns its flags. `select`: its byte order holds from here on.
    pub(crate) fn list_header(&mut self, select: bool) -> Result<u8, Error> {
        // The version byte is never looked at, as in libnv.
        let [magic, _version, flags] = self.array()?;
        if magic != b'l' {
            return Err(Error::Magic);
        }
        if flags & !(flag::IGNORE_CASE | flag::NO_UNIQUE | flag::BIG_ENDIAN) != 0 {
            return Err(Error::Flags);
        }
        let big = flags & flag::BIG_ENDIAN != 0;
        let descriptors = number(self.array()?, big);
        let size = number(self.array()?, big);
        if size != self.rest.len() as u64 {
            return Err(Error::Size);
        }
        if descriptors != 0 {
            return Err(Error::Descriptors);
        }
        if select {
            self.big = big;
        }
        Ok(flags)
    }

    /// Reads one pair. For a nested list and for an array of lists the position is then before
    /// the first pair inside, with the header read. `None`: an end record, whose kind the caller
    /// knows from [`Cursor::record`].
    pub(crate) fn step(&mut self) -> Result<Option<(&'a [u8], Value<'a>)>, Error> {
        match self.record()? {
            Record::Pair(name, value) => Ok(Some((name, value))),
            _ => Ok(None),
        }
    }

    fn record(&mut self) -> Result<Record<'a>, Error> {
        let [kind] = self.array()?;
        let name_size: [u8; 2] = self.array()?;
        let data_size = number(self.array()?, self.big);
        let items = number(self.array()?, self.big);
        let name_size = if self.big {
            u16::from_be_bytes(name_size)
        } else {
            u16::from_le_bytes(name_size)
        };
        if !matches!(kind, 1..=5 | 7..=11 | kind::ARRAY_NEXT | kind::UP) {
            return Err(Error::Type);
        }
        if usize::from(name_size) > MAX_NAME {
            return Err(Error::Name);
        }
        let name = match self.take(usize::from(name_size))?.split_last() {
            Some((0, name)) if !name.contains(&0) => name,
            _ => return Err(Error::Name),
        };
        let size = usize::try_from(data_size).map_err(|_| Error::Truncated)?;
        if size > self.rest.len() {
            return Err(Error::Truncated);
        }
        let value = match kind {
            kind::ARRAY_NEXT => return Ok(Record::ArrayNext),
            kind::UP => return Ok(Record::Up),
            kind::NULL if size == 0 => Value::Null,
            kind::BOOL if size == 1 => match self.take(1)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return Err(Error::Value),
            },
            kind::NUMBER if size == 8 => Value::Number(number(self.array()?, self.big)),
            kind::STRING => match self.take(size)?.split_last() {
                Some((0, text)) if !text.contains(&0) => Value::String(text),
                _ => return Err(Error::Value),
            },
            kind::LIST if size != 0 => {
                let flags = self.list_header(false)?;
                Value::List(List { at: *self, flags })
            }
            kind::BINARY if size != 0 => Value::Binary(self.take(size)?),
            kind::BOOL_ARRAY if size != 0 && items == data_size => {
                Value::BoolArray(self.take(size)?)
            }
            kind::NUMBER_ARRAY if size != 0 && items.checked_mul(8) == Some(data_size) => {
                Value::NumberArray(Numbers {
                    bytes: self.take(size)?,
                    big: self.big,
                })
            }
            kind::STRING_ARRAY => {
                let text = self.take(size)?;
                let nuls = text.iter().filter(|&&b| b == 0).count();
                if text.last() != Some(&0) || nuls as u64 != items {
                    return Err(Error::Value);
                }
                Value::StringArray(text)
            }
            kind::LIST_ARRAY => {
                let count = usize::try_from(items).map_err(|_| Error::Value)?;
                match count.checked_mul(HEADER) {
                    Some(least) if count > 0 && least <= self.rest.len() => {}
                    _ => return Err(Error::Value),
                }
                let array = Array { at: *self, count };
                self.list_header(true)?;
                Value::ListArray(array)
            }
            _ => return Err(Error::Value),
        };
        Ok(Record::Pair(name, value))
    }

    /// Walks to the end of the list that `first` describes (of the array, when it is an element)
    /// and leaves the position just after its end record, or at the end of the message, which
    /// closes all lists at once.
    ///
    /// With `names` the lists are searched for duplicates as well. The flags of a frame matter only
    /// then.
    pub(crate) fn walk(
        &mut self,
        first: Frame,
        mut names: Option<&mut Names<'a>>,
    ) -> Result<(), Error> {
        let mut outer = [first; MAX_DEPTH];
        let mut depth: usize = 0;
        let mut open = first;
        while !self.rest.is_empty() {
            let name_at = self.rest.len().wrapping_sub(HEADER);
            let close = match (self.record()?, open.end) {
                (Record::Up, End::Child) => true,
                (Record::ArrayNext, End::Element { more }) => match more.checked_sub(1) {
                    None => true,
                    Some(more) => {
                        open.end = End::Element { more };
                        open.flags = self.list_header(true)?;
                        if let Some(names) = names.as_deref_mut() {
                            names.len = open.names;
                        }
                        false
                    }
                },
                (Record::Pair(name, value), _) => {
                    if let Some(names) = names.as_deref_mut() {
                        let at = names.message.len().saturating_sub(name_at);
                        names.add(open.names, at, name.len(), open.flags)?;
                    }
                    let (end, flags) = match value {
                        Value::List(list) => (End::Child, list.flags),
                        Value::ListArray(array) => {
                            let flags = array.at.rest.get(2).copied().unwrap_or(0);
                            (
                                End::Element {
                                    more: array.count.saturating_sub(1),
                                },
                                flags,
                            )
                        }
                        _ => continue,
                    };
                    // `open` itself is a level that `outer` does not hold.
                    if depth.saturating_add(1) >= MAX_DEPTH {
                        return Err(Error::TooDeep);
                    }
                    *outer.get_mut(depth).ok_or(Error::TooDeep)? = open;
                    depth = depth.saturating_add(1);
                    let from = names.as_deref().map_or(0, |n| n.len);
                    open = Frame {
                        end,
                        flags,
                        names: from,
                    };
                    false
                }
                _ => return Err(Error::Unbalanced),
            };
            if close {
                if let Some(names) = names.as_deref_mut() {
                    names.len = open.names;
                }
                let Some(up) = depth.checked_sub(1) else {
                    return Ok(());
                };
                depth = up;
                open = *outer.get(depth).ok_or(Error::TooDeep)?;
            }
        }
        Ok(())
    }
}

pub(crate) enum Record<'a> {
    Pair(&'a [u8], Value<'a>),
    ArrayNext,
    Up,
}

pub(crate) fn number(bytes: [u8; 8], big: bool) -> u64 {
    if big {
        u64::from_be_bytes(bytes)
    } else {
        u64::from_le_bytes(bytes)
    }
}
