// SPDX-License-Identifier: BSD-2-Clause
//! Total, zero-copy reader of packed nvlists.
//!
//! The format is a flat stream: nothing in it says how long a nested list is (the size in a
//! header counts to the end of the whole message), so passing over one means walking it. The walk
//! keeps an explicit stack of fixed size and visits every byte once.
//!
//! Byte order is a property of the position in the stream, not of a list: the header of an
//! array's element selects it for all that follows, also for what comes after the array, and
//! the header of a single nested list only for itself. That is how libnv decodes; senders never
//! mix orders, but a reader that differed would see other values than the kernel's.

use core::fmt;
use core::iter::FusedIterator;

use crate::cursor::{Cursor, End, Frame, Names, number};
use crate::{MAX_SIZE, flag};

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The message is longer than [`crate::MAX_SIZE`].
    TooLarge,
    /// A header or a value runs past the end.
    Truncated,
    /// A list header does not begin with the magic byte.
    Magic,
    /// A list header has unknown flags, or the outermost one has any but the byte order.
    Flags,
    /// A list header promises file descriptors.
    Descriptors,
    /// A list header's size is not what remains of the message.
    Size,
    /// A pair's type is unknown, or needs file descriptors.
    Type,
    /// A name is empty of its NUL, too long, or has a NUL inside.
    Name,
    /// A value's size, item count or content does not suit its type.
    Value,
    /// A name occurs twice in one list.
    Duplicate,
    /// More than [`crate::MAX_NAMES`] names would have to be remembered.
    TooManyNames,
    /// More than [`crate::MAX_DEPTH`] lists inside one another.
    TooDeep,
    /// An end record without the list or array that it would end.
    Unbalanced,
    /// libnv, in the place of this codec, has refused what this one accepts, as it does without memory.
    Foreign,
}

impl Error {
    /// FreeBSD's number for this failure: E2BIG (7) or EBADMSG (89).
    pub const fn errno(self) -> i32 {
        match self {
            Error::TooLarge => 7,
            _ => 89,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::TooLarge => "message too large",
            Error::Truncated => "message truncated",
            Error::Magic => "not an nvlist",
            Error::Flags => "unexpected list flags",
            Error::Descriptors => "file descriptors not allowed",
            Error::Size => "wrong size in a list header",
            Error::Type => "unknown value type",
            Error::Name => "malformed name",
            Error::Value => "malformed value",
            Error::Duplicate => "duplicate name",
            Error::TooManyNames => "too many names in a list",
            Error::TooDeep => "lists nested too deeply",
            Error::Unbalanced => "unexpected end of list",
            Error::Foreign => "refused by libnv",
        })
    }
}

impl core::error::Error for Error {}

/// A list inside a validated message.
///
/// # Invariants
/// `at` is a position in a message that [`List::parse`] accepted, just after a list header with
/// the flags `flags`; or at the end of such a message.
#[derive(Clone, Copy)]
pub struct List<'a> {
    pub(crate) at: Cursor<'a>,
    pub(crate) flags: u8,
}

impl<'a> List<'a> {
    /// Validates a whole message and returns its outermost list.
    ///
    /// Takes time linear in the length of the message (times at most [`crate::MAX_NAMES`] for names that
    /// are long and nearly equal) and no memory.
    ///
    /// # Errors
    /// The first defect in the order of the bytes. See the crate's documentation for what is
    /// refused beyond what the kernel's reader refuses.
    pub fn parse(message: &'a [u8]) -> Result<List<'a>, Error> {
        if message.len() > MAX_SIZE {
            return Err(Error::TooLarge);
        }
        let mut at = Cursor {
            rest: message,
            big: false,
        };
        let flags = at.list_header(true)?;
        if flags & !flag::BIG_ENDIAN != 0 {
            return Err(Error::Flags);
        }
        let list = List { at, flags };
        let mut names = Names::new(message);
        at.walk(Frame::new(End::Message, flags), Some(&mut names))?;
        Ok(list)
    }

    /// The pairs of this list in their order.
    pub fn pairs(&self) -> Pairs<'a> {
        Pairs { at: self.at }
    }

    /// Whether `name`, taken from a pair of this list, means `key`: lists may ask for comparison
    /// without regard to ASCII case.
    pub fn names(&self, name: &[u8], key: &str) -> bool {
        if self.flags & flag::IGNORE_CASE != 0 {
            name.eq_ignore_ascii_case(key.as_bytes())
        } else {
            name == key.as_bytes()
        }
    }

    /// The first boolean of that name.
    pub fn boolean(&self, name: &str) -> Option<bool> {
        self.find(name, |v| {
            if let Value::Bool(b) = v {
                Some(b)
            } else {
                None
            }
        })
    }

    /// The first number of that name.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.find(name, |v| {
            if let Value::Number(n) = v {
                Some(n)
            } else {
                None
            }
        })
    }

    /// The first string of that name, without its NUL; not necessarily UTF-8.
    pub fn string(&self, name: &str) -> Option<&'a [u8]> {
        self.find(name, |v| {
            if let Value::String(s) = v {
                Some(s)
            } else {
                None
            }
        })
    }

    /// The first binary of that name; never empty.
    pub fn binary(&self, name: &str) -> Option<&'a [u8]> {
        self.find(name, |v| {
            if let Value::Binary(b) = v {
                Some(b)
            } else {
                None
            }
        })
    }

    /// The first nested list of that name.
    pub fn list(&self, name: &str) -> Option<List<'a>> {
        self.find(name, |v| {
            if let Value::List(l) = v {
                Some(l)
            } else {
                None
            }
        })
    }

    /// The first array of lists of that name.
    pub fn array(&self, name: &str) -> Option<Array<'a>> {
        self.find(name, |v| {
            if let Value::ListArray(a) = v {
                Some(a)
            } else {
                None
            }
        })
    }

    /// The first pair with that name whose value `want` accepts. A pair of another type counts as
    /// absent, as in libnv, where a lookup gives both name and type.
    fn find<T>(&self, name: &str, want: impl Fn(Value<'a>) -> Option<T>) -> Option<T> {
        self.pairs()
            .filter(|p| self.names(p.name, name))
            .find_map(|p| want(p.value))
    }
}

/// A name and its value.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// The name, without its NUL; may be empty, not necessarily UTF-8.
    pub name: &'a [u8],
    /// The value.
    pub value: Value<'a>,
}

/// A value in a list.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Value<'a> {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// A 64-bit number, in this machine's order.
    Number(u64),
    /// A string without its NUL.
    String(&'a [u8]),
    /// A nested list.
    List(List<'a>),
    /// At least one byte.
    Binary(&'a [u8]),
    /// Booleans, a byte each; libnv does not restrict them to 0 and 1.
    BoolArray(&'a [u8]),
    /// 64-bit numbers.
    NumberArray(Numbers<'a>),
    /// Strings, each with its NUL, one after another.
    StringArray(&'a [u8]),
    /// An array of lists.
    ListArray(Array<'a>),
}

/// Iterator over an array of numbers.
#[derive(Clone, Copy)]
pub struct Numbers<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) big: bool,
}

impl Iterator for Numbers<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let (first, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(number(*first, self.big))
    }
}

/// An array of lists: at least one.
#[derive(Clone, Copy)]
pub struct Array<'a> {
    /// Just before the first element's header.
    pub(crate) at: Cursor<'a>,
    pub(crate) count: usize,
}

impl<'a> Array<'a> {
    /// Number of elements.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The elements in order.
    pub fn elements(&self) -> Elements<'a> {
        Elements {
            at: self.at,
            left: self.count,
        }
    }
}

/// Iterator over the lists of an array.
#[derive(Clone)]
pub struct Elements<'a> {
    at: Cursor<'a>,
    left: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = List<'a>;

    fn next(&mut self) -> Option<List<'a>> {
        self.left = self.left.checked_sub(1)?;
        if self.at.rest.is_empty() {
            // The message ended inside an earlier element. libnv has made the lists of the array
            // by then and leaves the others empty.
            return Some(List {
                at: self.at,
                flags: 0,
            });
        }
        // Validated, so neither step fails; ending the iteration is the harmless answer.
        let flags = self.at.list_header(true).ok()?;
        let list = List { at: self.at, flags };
        self.at
            .walk(Frame::new(End::Element { more: 0 }, flags), None)
            .ok()?;
        Some(list)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

impl FusedIterator for Elements<'_> {}

/// Iterator over the pairs of a list.
#[derive(Clone)]
pub struct Pairs<'a> {
    at: Cursor<'a>,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Pair<'a>;

    fn next(&mut self) -> Option<Pair<'a>> {
        let before = self.at;
        match self.at.step() {
            Ok(Some((name, value))) => {
                // Leave a nested value behind. After validation this cannot fail.
                let nested = match value {
                    Value::List(l) => Some(Frame::new(End::Child, l.flags)),
                    Value::ListArray(a) => Some(Frame::new(
                        End::Element {
                            more: a.count.saturating_sub(1),
                        },
                        0,
                    )),
                    _ => None,
                };
                if let Some(frame) = nested {
                    self.at.walk(frame, None).ok()?;
                }
                Some(Pair { name, value })
            }
            _ => {
                // An end record or the end of the message: stay, so that the iterator is fused.
                self.at = before;
                None
            }
        }
    }
}

impl FusedIterator for Pairs<'_> {}
