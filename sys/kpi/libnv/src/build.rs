// SPDX-License-Identifier: BSD-2-Clause
//! Making a list.

use super::*;

/// Arrays inside one another that can be made, and the outermost list. A WireGuard configuration takes
/// three of these; they are on the stack.
const DEPTH: usize = 4;
/// Longest name, with its NUL.
const NAME: usize = 64;

/// A C string on the stack.
struct Name([u8; NAME]);

impl Name {
    const EMPTY: Name = Name([0; NAME]);

    fn new(name: &str) -> Result<Self, WriteError> {
        let mut text = Self::EMPTY;
        let room = text.0.get_mut(..name.len()).ok_or(WriteError::Name)?;
        if name.len() >= NAME || name.as_bytes().contains(&0) {
            return Err(WriteError::Name);
        }
        room.iter_mut()
            .zip(name.bytes())
            .for_each(|(to, b)| *to = b);
        Ok(text)
    }

    fn as_ptr(&self) -> *const c_char {
        self.0.as_ptr().cast()
    }
}

/// The elements of an array that is being filled.
///
/// # Invariants
/// `first` has room for `count` pointers, of which the first `filled` are live lists, ours alone; or it
/// is null, and there is none.
struct Elements {
    first: *mut *mut ffi::nvlist,
    count: usize,
    filled: usize,
}

impl Elements {
    const NONE: Elements = Elements {
        first: ptr::null_mut(),
        count: 0,
        filled: 0,
    };

    fn new(count: usize) -> Result<Self, WriteError> {
        let size = count.checked_mul(size_of::<*mut ffi::nvlist>());
        let first: *mut *mut ffi::nvlist = ffi::alloc(size.ok_or(WriteError::TooLarge)?).cast();
        if first.is_null() {
            return Err(WriteError::NoMemory);
        }
        Ok(Self {
            first,
            count,
            filled: 0,
        })
    }

    fn lacking(&self) -> bool {
        self.filled < self.count
    }

    fn push(&mut self, list: Unpacked) -> Result<(), WriteError> {
        if !self.lacking() {
            return Err(WriteError::Mismatch);
        }
        let list = core::mem::ManuallyDrop::new(list);
        // SAFETY: there is room, by the invariant.
        unsafe { self.first.add(self.filled).write(list.0.as_ptr()) };
        self.filled = self.filled.saturating_add(1);
        Ok(())
    }
}

impl Drop for Elements {
    fn drop(&mut self) {
        for i in 0..self.filled {
            // SAFETY: by the invariant; each once.
            unsafe { ffi::nvlist_destroy(self.first.add(i).read()) };
        }
        if !self.first.is_null() {
            // SAFETY: allocated with this size, which did not overflow.
            unsafe {
                ffi::release(
                    self.first.cast(),
                    self.count.wrapping_mul(size_of::<usize>()),
                )
            };
        }
    }
}

/// A list that is open, and the array of its that is being filled.
struct Frame {
    list: Unpacked,
    array: Name,
    elements: Elements,
}

/// Makes a list by libnv.
pub struct Builder {
    open: [Option<Frame>; DEPTH],
    depth: usize,
}

fn create() -> Result<Unpacked, WriteError> {
    // SAFETY: no flags.
    let list = unsafe { ffi::nvlist_create(0) };
    NonNull::new(list).map(Unpacked).ok_or(WriteError::NoMemory)
}

impl Builder {
    /// An empty list.
    ///
    /// # Errors
    /// No memory.
    pub fn new() -> Result<Self, WriteError> {
        let mut new = Self {
            open: [const { None }; DEPTH],
            depth: 0,
        };
        new.push()?;
        Ok(new)
    }

    /// The list, when all its arrays are complete.
    ///
    /// # Errors
    /// [`WriteError::Mismatch`] when one is not.
    pub fn finish(mut self) -> Result<Unpacked, WriteError> {
        match self.pop() {
            Some(frame) if self.depth == 0 && !frame.elements.lacking() => Ok(frame.list),
            _ => Err(WriteError::Mismatch),
        }
    }

    fn push(&mut self) -> Result<(), WriteError> {
        let slot = self.open.get_mut(self.depth).ok_or(WriteError::Mismatch)?;
        *slot = Some(Frame {
            list: create()?,
            array: Name::EMPTY,
            elements: Elements::NONE,
        });
        self.depth = self.depth.saturating_add(1);
        Ok(())
    }

    fn pop(&mut self) -> Option<Frame> {
        self.depth = self.depth.checked_sub(1)?;
        self.open.get_mut(self.depth)?.take()
    }

    fn top(&mut self) -> Result<&mut Frame, WriteError> {
        let at = self.depth.checked_sub(1).ok_or(WriteError::Mismatch)?;
        let frame = self.open.get_mut(at).and_then(Option::as_mut);
        frame.ok_or(WriteError::Mismatch)
    }

    fn add(
        &mut self,
        name: &str,
        f: impl FnOnce(*mut ffi::nvlist, *const c_char),
    ) -> Result<(), WriteError> {
        let name = Name::new(name)?;
        let frame = self.top()?;
        if frame.elements.lacking() {
            return Err(WriteError::Mismatch);
        }
        f(frame.list.0.as_ptr(), name.as_ptr());
        frame.list.check()
    }

    /// Writes a pair without a value.
    ///
    /// # Errors
    /// As [`WriteList`].
    pub fn null(&mut self, name: &str) -> Result<(), WriteError> {
        // SAFETY: a live list and a C string; this and those below.
        self.add(name, |list, name| unsafe {
            ffi::nvlist_add_null(list, name);
        })
    }

    /// Writes a string.
    ///
    /// # Errors
    /// As [`WriteList`].
    pub fn string(&mut self, name: &str, value: &CStr) -> Result<(), WriteError> {
        // SAFETY: as above, and another C string.
        self.add(name, |list, name| unsafe {
            ffi::nvlist_add_string(list, name, value.as_ptr());
        })
    }

    /// Writes an array of numbers, at least one.
    ///
    /// # Errors
    /// As [`WriteList`].
    pub fn numbers(&mut self, name: &str, value: &[u64]) -> Result<(), WriteError> {
        // SAFETY: as above, and so many numbers.
        self.add(name, |list, name| unsafe {
            ffi::nvlist_add_number_array(list, name, value.as_ptr(), value.len());
        })
    }

    /// Writes an array of booleans, at least one.
    ///
    /// # Errors
    /// As [`WriteList`].
    pub fn booleans(&mut self, name: &str, value: &[bool]) -> Result<(), WriteError> {
        // SAFETY: as above, and so many booleans.
        self.add(name, |list, name| unsafe {
            ffi::nvlist_add_bool_array(list, name, value.as_ptr(), value.len());
        })
    }

    /// Writes a nested list, a copy of `value`.
    ///
    /// # Errors
    /// As [`WriteList`].
    pub fn list(&mut self, name: &str, value: List<'_>) -> Result<(), WriteError> {
        // SAFETY: as above, and another live list.
        self.add(name, |list, name| unsafe {
            ffi::nvlist_add_nvlist(list, name, value.raw);
        })
    }
}

impl Unpacked {
    /// Whether all that was added is there.
    fn check(&self) -> Result<(), WriteError> {
        const ENOMEM: c_int = 12;
        // SAFETY: live.
        match unsafe { ffi::nvlist_error(self.0.as_ptr()) } {
            0 => Ok(()),
            ENOMEM => Err(WriteError::NoMemory),
            _ => Err(WriteError::Empty),
        }
    }
}

impl WriteList for Builder {
    fn boolean(&mut self, name: &str, value: bool) -> Result<(), WriteError> {
        // SAFETY: a live list and a C string; this and those below.
        self.add(name, |list, name| unsafe {
            ffi::nvlist_add_bool(list, name, value);
        })
    }

    fn number(&mut self, name: &str, value: u64) -> Result<(), WriteError> {
        // SAFETY: as above.
        self.add(name, |list, name| unsafe {
            ffi::nvlist_add_number(list, name, value);
        })
    }

    fn binary(&mut self, name: &str, value: &[u8]) -> Result<(), WriteError> {
        // SAFETY: as above, and so many bytes.
        self.add(name, |list, name| unsafe {
            ffi::nvlist_add_binary(list, name, value.as_ptr().cast(), value.len());
        })
    }

    fn begin_array(&mut self, name: &str, count: usize) -> Result<(), WriteError> {
        let name = Name::new(name)?;
        let frame = self.top()?;
        if count == 0 {
            return Err(WriteError::Empty);
        }
        if frame.elements.lacking() {
            return Err(WriteError::Mismatch);
        }
        frame.elements = Elements::new(count)?;
        frame.array = name;
        Ok(())
    }

    fn begin_element(&mut self) -> Result<(), WriteError> {
        if !self.top()?.elements.lacking() {
            return Err(WriteError::Mismatch);
        }
        self.push()
    }

    fn end_element(&mut self) -> Result<(), WriteError> {
        let element = self.pop().ok_or(WriteError::Mismatch)?;
        if element.elements.lacking() {
            return Err(WriteError::Mismatch);
        }
        let frame = self.top()?;
        frame.elements.push(element.list)?;
        if frame.elements.lacking() {
            return Ok(());
        }
        // All at once: adding one by one takes quadratic time.
        let all = core::mem::replace(&mut frame.elements, Elements::NONE);
        // SAFETY: a live list, a C string, and so many other live lists.
        unsafe {
            ffi::nvlist_add_nvlist_array(
                frame.list.0.as_ptr(),
                frame.array.as_ptr(),
                all.first.cast_const().cast(),
                all.filled,
            );
        }
        frame.list.check()
    }
}
