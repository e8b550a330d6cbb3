// SPDX-License-Identifier: BSD-2-Clause
//! FreeBSD's libnv behind the interface of our own nvlist codec: the kernel's in a kernel module
//! (feature `libnv` of the driver), the userland's in a program.
//!
//! [`Unpacked`] is a list that libnv has unpacked, to be read through [`nv::ReadList`]; [`Builder`] is one
//! that is being made through [`nv::WriteList`], and packs it. [`nv::wgconf`] runs over both.
//!
//! Our own codec is the default, for these reasons. libnv allocates for every pair, without waiting.
//! It compares every name with all before it, and has no limit of depth. It leaves keys in memory
//! that it frees. And there are messages that it does not survive:
//!
//! - pairs of the types 6 and 12 (descriptors), which the kernel's takes for known and has no code for:
//!   it panics;
//! - a name that occurs twice in an element of an array: it refuses the message, and on its way out trips
//!   over an assertion of its own. That aborts a process, and panics a kernel with INVARIANTS.
//!
//! So [`Unpacked::new`] gives it only what our own reader has validated.
#![no_std]
#![allow(non_camel_case_types)]

mod ffi;

use core::ffi::{CStr, c_char, c_int, c_void};
use core::marker::PhantomData;
use core::ptr::{self, NonNull};
use core::slice;

use nv::{Item, ReadArray, ReadList, WriteError, WriteList};

mod build;

pub use build::Builder;

/// `NV_FLAG_IGNORE_CASE`.
const IGNORE_CASE: c_int = 1;

/// `NV_TYPE_*` of `sys/nv.h`.
mod kind {
    pub const NULL: i32 = 1;
    pub const BOOL: i32 = 2;
    pub const NUMBER: i32 = 3;
    pub const STRING: i32 = 4;
    pub const LIST: i32 = 5;
    pub const BINARY: i32 = 7;
    pub const BOOL_ARRAY: i32 = 8;
    pub const NUMBER_ARRAY: i32 = 9;
    pub const STRING_ARRAY: i32 = 10;
    pub const LIST_ARRAY: i32 = 11;
}

/// A list that libnv has unpacked.
///
/// # Invariants
/// A live list that is this value's alone and does not change.
pub struct Unpacked(NonNull<ffi::nvlist>);

impl Unpacked {
    /// Unpacks a message. None if our own reader or libnv refuses it, or libnv has no memory.
    #[must_use]
    pub fn new(message: &[u8]) -> Option<Self> {
        nv::List::parse(message).ok()?;
        Self::unpack(message)
    }

    /// Unpacks a message that our own reader may not have accepted: the process may abort, and a kernel
    /// panic. For comparing the two.
    #[must_use]
    pub fn unpack(message: &[u8]) -> Option<Self> {
        // SAFETY: readable for the length given.
        let list = unsafe { ffi::nvlist_unpack(message.as_ptr().cast(), message.len(), 0) };
        NonNull::new(list).map(Self)
    }

    /// The outermost list.
    #[must_use]
    pub fn list(&self) -> List<'_> {
        List {
            raw: self.0.as_ptr(),
            _owner: PhantomData,
        }
    }

    /// Bytes that it takes packed.
    #[must_use]
    pub fn size(&self) -> usize {
        // SAFETY: live.
        unsafe { ffi::nvlist_size(self.0.as_ptr()) }
    }

    /// Packs the list and gives the bytes, which are wiped and freed afterwards.
    ///
    /// # Errors
    /// No memory.
    pub fn packed<R>(&self, f: impl FnOnce(&[u8]) -> R) -> Result<R, WriteError> {
        let mut size = 0;
        // SAFETY: live.
        let bytes = unsafe { ffi::nvlist_pack(self.0.as_ptr(), &raw mut size) };
        if bytes.is_null() {
            return Err(WriteError::NoMemory);
        }
        // SAFETY: so many bytes, ours until they are freed.
        let done = f(unsafe { slice::from_raw_parts(bytes.cast(), size) });
        // SAFETY: given by nvlist_pack(), freed once.
        unsafe { ffi::release(bytes, size) };
        Ok(done)
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        // SAFETY: live and ours alone; destroyed once.
        unsafe { ffi::nvlist_destroy(self.0.as_ptr()) };
    }
}

/// A list inside an [`Unpacked`].
///
/// # Invariants
/// `raw` is a list without error that lives, and does not change, for `'a`.
#[derive(Clone, Copy)]
pub struct List<'a> {
    raw: *const ffi::nvlist,
    _owner: PhantomData<&'a Unpacked>,
}

/// A value of any type. Strings are without their NUL.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(u64),
    /// A string.
    String(&'a [u8]),
    /// A nested list.
    List(List<'a>),
    /// At least one byte.
    Binary(&'a [u8]),
    /// Booleans, a byte each; libnv does not restrict them to 0 and 1.
    BoolArray(&'a [u8]),
    /// Numbers.
    NumberArray(&'a [u64]),
    /// Strings.
    StringArray(Strings<'a>),
    /// Lists.
    ListArray(Array<'a>),
    /// A type that only processes have.
    Descriptors,
}

impl<'a> List<'a> {
    /// Names, without their NUL, and values in their order.
    #[must_use]
    pub fn pairs(&self) -> Pairs<'a> {
        Pairs {
            list: *self,
            cookie: ptr::null_mut(),
            ended: false,
        }
    }

    /// The list's flags: 1 to compare names without regard to case, 2 for names that need not be unique.
    #[must_use]
    pub fn flags(&self) -> i32 {
        // SAFETY: live, by the invariant.
        unsafe { ffi::nvlist_flags(self.raw) }
    }
}

/// Iterator over the pairs of a list.
pub struct Pairs<'a> {
    list: List<'a>,
    /// The pair that was given last; null before the first.
    cookie: *mut c_void,
    ended: bool,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let mut kind = 0;
        // SAFETY: a live list; the cookie is null or of this list.
        let name = unsafe { ffi::nvlist_next(self.list.raw, &raw mut kind, &raw mut self.cookie) };
        if name.is_null() {
            self.ended = true;
            return None;
        }
        // SAFETY: the name and the value belong to the list, which lives for `'a`; the cookie is the
        // pair's, and `kind` its type.
        Some(unsafe { (text(name), value(kind, self.cookie)) })
    }
}

/// # Safety
///
/// A C string that lives, and does not change, for `'a`.
unsafe fn text<'a>(s: *const c_char) -> &'a [u8] {
    // SAFETY: the contract.
    unsafe { CStr::from_ptr(s) }.to_bytes()
}

/// # Safety
///
/// `n` values that live, and do not change, for `'a`; null only if there is none.
unsafe fn items<'a, T>(first: *const T, n: usize) -> &'a [T] {
    if n == 0 || first.is_null() {
        return &[];
    }
    // SAFETY: the contract.
    unsafe { slice::from_raw_parts(first, n) }
}

/// # Safety
///
/// A pair of type `kind`, in a list that lives for `'a`.
unsafe fn value<'a>(kind: c_int, pair: *const c_void) -> Value<'a> {
    let mut n = 0;
    // SAFETY: each function is that of the pair's type, and what it gives belongs to the list.
    unsafe {
        match kind {
            kind::NULL => Value::Null,
            kind::BOOL => Value::Bool(ffi::cnvlist_get_bool(pair)),
            kind::NUMBER => Value::Number(ffi::cnvlist_get_number(pair)),
            kind::STRING => Value::String(text(ffi::cnvlist_get_string(pair))),
            kind::LIST => Value::List(List {
                raw: ffi::cnvlist_get_nvlist(pair),
                _owner: PhantomData,
            }),
            kind::BINARY => {
                let first = ffi::cnvlist_get_binary(pair, &raw mut n);
                Value::Binary(items(first.cast(), n))
            }
            kind::BOOL_ARRAY => {
                let first = ffi::cnvlist_get_bool_array(pair, &raw mut n);
                Value::BoolArray(items(first.cast(), n))
            }
            kind::NUMBER_ARRAY => {
                let first = ffi::cnvlist_get_number_array(pair, &raw mut n);
                Value::NumberArray(items(first, n))
            }
            kind::STRING_ARRAY => {
                let first = ffi::cnvlist_get_string_array(pair, &raw mut n);
                Value::StringArray(Strings(items(first, n)))
            }
            kind::LIST_ARRAY => {
                let first = ffi::cnvlist_get_nvlist_array(pair, &raw mut n);
                Value::ListArray(Array {
                    lists: items(first, n),
                })
            }
            _ => Value::Descriptors,
        }
    }
}

/// Iterator over the strings of an array.
///
/// # Invariants
/// Each is a C string that lives for `'a`.
#[derive(Clone, Copy)]
pub struct Strings<'a>(&'a [*const c_char]);

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        // SAFETY: by the invariant.
        Some(unsafe { text(*first) })
    }
}

/// An array of lists.
///
/// # Invariants
/// Each is as [`List::raw`] is.
#[derive(Clone, Copy)]
pub struct Array<'a> {
    lists: &'a [*const ffi::nvlist],
}

/// Iterator over the lists of an array.
#[derive(Clone)]
pub struct Elements<'a>(slice::Iter<'a, *const ffi::nvlist>);

impl<'a> Iterator for Elements<'a> {
    type Item = List<'a>;

    fn next(&mut self) -> Option<List<'a>> {
        // INVARIANT: as the array's.
        self.0.next().map(|raw| List {
            raw: *raw,
            _owner: PhantomData,
        })
    }
}

impl core::iter::FusedIterator for Elements<'_> {}

impl<'a> ReadArray<'a> for Array<'a> {
    type List = List<'a>;
    type Elements = Elements<'a>;

    fn count(&self) -> usize {
        self.lists.len()
    }

    fn elements(&self) -> Elements<'a> {
        Elements(self.lists.iter())
    }
}

impl<'a> ReadList<'a> for List<'a> {
    type Array = Array<'a>;

    fn items(&self) -> impl Iterator<Item = (&'a [u8], Item<'a, Array<'a>>)> {
        self.pairs().map(|(name, value)| {
            let item = match value {
                Value::Bool(b) => Item::Bool(b),
                Value::Number(n) => Item::Number(n),
                Value::Binary(b) => Item::Binary(b),
                Value::ListArray(a) => Item::Lists(a),
                _ => Item::Other,
            };
            (name, item)
        })
    }

    fn names(&self, name: &[u8], key: &str) -> bool {
        if self.flags() & IGNORE_CASE != 0 {
            name.eq_ignore_ascii_case(key.as_bytes())
        } else {
            name == key.as_bytes()
        }
    }
}
