// SPDX-License-Identifier: BSD-2-Clause
//! What [`wgconf`](crate::wgconf) asks of an nvlist codec: this crate's own, or libnv's.

use crate::{Array, Elements, List, Value, WriteError, Writer};

/// A value in a list, as far as a configuration has such.
#[derive(Clone, Copy)]
pub enum Item<'a, A> {
    /// True or false.
    Bool(bool),
    /// A 64-bit number.
    Number(u64),
    /// At least one byte.
    Binary(&'a [u8]),
    /// An array of lists.
    Lists(A),
    /// Anything else.
    Other,
}

/// A list of a message that was validated: reading it cannot fail.
pub trait ReadList<'a>: Copy {
    /// An array of such lists.
    type Array: ReadArray<'a, List = Self>;

    /// Names and values in their order. A name is without its NUL, and not necessarily UTF-8.
    fn items(&self) -> impl Iterator<Item = (&'a [u8], Item<'a, Self::Array>)>;

    /// Whether `name`, taken from this list, means `key`: lists may ask for comparison without regard
    /// to ASCII case.
    fn names(&self, name: &[u8], key: &str) -> bool;
}

/// An array of lists.
pub trait ReadArray<'a>: Copy {
    /// Its elements.
    type List: ReadList<'a, Array = Self>;
    /// Iterator over them.
    type Elements: Iterator<Item = Self::List> + Clone;

    /// Number of elements.
    fn count(&self) -> usize;

    /// The elements in order.
    fn elements(&self) -> Self::Elements;
}

/// Writes a message, beginning inside of its outermost list.
pub trait WriteList {
    /// Writes a boolean.
    ///
    /// # Errors
    /// This and the other functions: [`WriteError`].
    fn boolean(&mut self, name: &str, value: bool) -> Result<(), WriteError>;

    /// Writes a number.
    fn number(&mut self, name: &str, value: u64) -> Result<(), WriteError>;

    /// Writes bytes, at least one.
    fn binary(&mut self, name: &str, value: &[u8]) -> Result<(), WriteError>;

    /// Begins an array of `count` lists, at least one. Exactly so many calls of
    /// [`begin_element`](Self::begin_element) and [`end_element`](Self::end_element) follow; the last
    /// one ends the array.
    fn begin_array(&mut self, name: &str, count: usize) -> Result<(), WriteError>;

    /// Begins the next element of the innermost array.
    fn begin_element(&mut self) -> Result<(), WriteError>;

    /// Ends an element of the innermost array, and the array with its last one.
    fn end_element(&mut self) -> Result<(), WriteError>;
}

impl<'a> ReadList<'a> for List<'a> {
    type Array = Array<'a>;

    #[inline]
    fn items(&self) -> impl Iterator<Item = (&'a [u8], Item<'a, Array<'a>>)> {
        self.pairs().map(|pair| {
            let item = match pair.value {
                Value::Bool(b) => Item::Bool(b),
                Value::Number(n) => Item::Number(n),
                Value::Binary(b) => Item::Binary(b),
                Value::ListArray(a) => Item::Lists(a),
                _ => Item::Other,
            };
            (pair.name, item)
        })
    }

    #[inline]
    fn names(&self, name: &[u8], key: &str) -> bool {
        List::names(self, name, key)
    }
}

impl<'a> ReadArray<'a> for Array<'a> {
    type List = List<'a>;
    type Elements = Elements<'a>;

    #[inline]
    fn count(&self) -> usize {
        Array::count(self)
    }

    #[inline]
    fn elements(&self) -> Elements<'a> {
        Array::elements(self)
    }
}

impl WriteList for Writer<'_> {
    fn boolean(&mut self, name: &str, value: bool) -> Result<(), WriteError> {
        Writer::boolean(self, name, value)
    }

    fn number(&mut self, name: &str, value: u64) -> Result<(), WriteError> {
        Writer::number(self, name, value)
    }

    fn binary(&mut self, name: &str, value: &[u8]) -> Result<(), WriteError> {
        Writer::binary(self, name, value)
    }

    fn begin_array(&mut self, name: &str, count: usize) -> Result<(), WriteError> {
        Writer::begin_array(self, name, count)
    }

    fn begin_element(&mut self) -> Result<(), WriteError> {
        Writer::begin_element(self)
    }

    fn end_element(&mut self) -> Result<(), WriteError> {
        Writer::end_element(self)
    }
}
