// SPDX-License-Identifier: BSD-2-Clause
//! Packed nvlists: the reader against a naive one, and the writer against both.

use nv::{FnSink, List, MAX_DEPTH, MAX_NAME, MAX_NAMES, Value, WriteError, Writer};

const IGNORE_CASE: u8 = 0x01;
const NO_UNIQUE: u8 = 0x02;
const BIG_ENDIAN: u8 = 0x80;
const HEADER: usize = 19;

/// Whether the reader and the naive one agree on a message, and whether the writer gives back what was read.
///
/// An odd first byte of the input asks for its list headers' sizes to be set right first: they count to the end of the
/// whole message, so that hardly any mutation of it would get past them.
pub fn nvlist(input: &[u8]) {
    let Some((message, naive)) = message(input) else {
        return;
    };
    let read = List::parse(&message);
    assert_eq!(read.is_ok(), naive.is_some(), "{:?}", read.err());
    let (Ok(read), Some(naive)) = (read, naive) else {
        return;
    };
    assert!(naive.same(&read), "the readers see different values");
    if naive.writable() {
        let again = pack(&mut |w| naive.write(w));
        let list = List::parse(&again).expect("what the writer made is readable");
        assert!(naive.same(&list), "the writer changed a value");
    }
}

/// The message in a fuzzer's input, and what the naive reader makes of it. `None` for inputs that are too long to be of
/// interest.
pub(crate) fn message(input: &[u8]) -> Option<(Vec<u8>, Option<Node>)> {
    let (mode, bytes) = input.split_first()?;
    if bytes.len() > 4096 {
        return None;
    }
    let mut reader = Naive {
        bytes: bytes.to_vec(),
        at: 0,
        big: false,
        mend: mode & 1 != 0,
        closed: false,
        names: Vec::new(),
    };
    let node = reader.message();
    Some((reader.bytes, node))
}

/// The bytes of what a closure writes.
pub(crate) fn pack(body: &mut dyn FnMut(&mut Writer<'_>) -> Result<(), WriteError>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut sink = FnSink(|b: &[u8]| {
        out.extend_from_slice(b);
        Ok(())
    });
    let size = nv::pack(&mut sink, body).expect("a message that was read can be written");
    assert_eq!(size, out.len());
    out
}

/// A list, read at leisure.
#[derive(Clone, Default)]
pub(crate) struct Node {
    flags: u8,
    pairs: Vec<(Vec<u8>, Tree)>,
}

#[derive(Clone)]
pub(crate) enum Tree {
    Null,
    Bool(bool),
    Number(u64),
    String(Vec<u8>),
    List(Node),
    Binary(Vec<u8>),
    BoolArray(Vec<u8>),
    NumberArray(Vec<u64>),
    StringArray(Vec<u8>),
    ListArray(Vec<Node>),
}

impl Node {
    /// The first pair of that name that `want` likes.
    pub(crate) fn first<'a, T>(
        &'a self,
        name: &str,
        want: impl Fn(&'a Tree) -> Option<T>,
    ) -> Option<T> {
        let lower = |b: &[u8]| match self.flags & IGNORE_CASE {
            0 => b.to_vec(),
            _ => b.to_ascii_lowercase(),
        };
        let pairs = self.pairs.iter();
        let mut named = pairs.filter(|(n, _)| lower(n) == lower(name.as_bytes()));
        named.find_map(|(_, value)| want(value))
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.first(name, |v| match v {
            Tree::Number(n) => Some(*n),
            _ => None,
        })
    }

    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        self.first(name, |v| match v {
            Tree::Bool(b) => Some(*b),
            _ => None,
        })
    }

    pub(crate) fn binary(&self, name: &str) -> Option<&[u8]> {
        self.first(name, |v| match v {
            Tree::Binary(b) => Some(&b[..]),
            _ => None,
        })
    }

    pub(crate) fn array(&self, name: &str) -> &[Node] {
        let found = self.first(name, |v| match v {
            Tree::ListArray(a) => Some(&a[..]),
            _ => None,
        });
        found.unwrap_or_default()
    }

    fn same(&self, list: &List<'_>) -> bool {
        let pairs: Vec<_> = list.pairs().collect();
        pairs.len() == self.pairs.len()
            && pairs
                .iter()
                .zip(&self.pairs)
                .all(|(pair, (name, value))| pair.name == name && value.same(&pair.value))
    }

    /// Whether [`Writer`] has a function for everything in it.
    fn writable(&self) -> bool {
        self.flags & (IGNORE_CASE | NO_UNIQUE) == 0
            && self.pairs.iter().all(|(name, value)| {
                std::str::from_utf8(name).is_ok()
                    && match value {
                        Tree::String(s) => std::str::from_utf8(s).is_ok(),
                        Tree::List(node) => node.writable(),
                        Tree::ListArray(nodes) => nodes.iter().all(Node::writable),
                        Tree::BoolArray(_) | Tree::NumberArray(_) | Tree::StringArray(_) => false,
                        _ => true,
                    }
            })
    }

    fn write(&self, w: &mut Writer<'_>) -> Result<(), WriteError> {
        for (name, value) in &self.pairs {
            let name = std::str::from_utf8(name).map_err(|_| WriteError::Name)?;
            match value {
                Tree::Null => w.null(name)?,
                Tree::Bool(b) => w.boolean(name, *b)?,
                Tree::Number(n) => w.number(name, *n)?,
                Tree::String(s) => w.string(name, std::str::from_utf8(s).unwrap_or("\0"))?,
                Tree::Binary(b) => w.binary(name, b)?,
                Tree::List(node) => w.list(name, &mut |w| node.write(w))?,
                Tree::ListArray(nodes) => {
                    w.begin_array(name, nodes.len())?;
                    for node in nodes {
                        w.begin_element()?;
                        node.write(w)?;
                        w.end_element()?;
                    }
                }
                Tree::BoolArray(_) | Tree::NumberArray(_) | Tree::StringArray(_) => {
                    return Err(WriteError::Mismatch);
                }
            }
        }
        Ok(())
    }
}

impl Tree {
    fn same(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Tree::Null, Value::Null) => true,
            (Tree::Bool(a), Value::Bool(b)) => a == b,
            (Tree::Number(a), Value::Number(b)) => a == b,
            (Tree::String(a), Value::String(b)) => a == b,
            (Tree::List(a), Value::List(b)) => a.same(b),
            (Tree::Binary(a), Value::Binary(b)) => a == b,
            (Tree::BoolArray(a), Value::BoolArray(b)) => a == b,
            (Tree::NumberArray(a), Value::NumberArray(b)) => a.iter().copied().eq(*b),
            (Tree::StringArray(a), Value::StringArray(b)) => a == b,
            (Tree::ListArray(a), Value::ListArray(b)) => {
                a.len() == b.count()
                    && a.len() == b.elements().count()
                    && a.iter().zip(b.elements()).all(|(a, b)| a.same(&b))
            }
            _ => false,
        }
    }
}

/// A recursive reader that copies everything. `None` is a refusal, whatever for.
struct Naive {
    bytes: Vec<u8>,
    at: usize,
    big: bool,
    mend: bool,
    /// Whether the latest list was ended by a record, not by the end of the message.
    closed: bool,
    /// Names of the open lists, outermost first.
    names: Vec<Vec<Vec<u8>>>,
}

/// How a list may end before the message does.
#[derive(PartialEq)]
enum End {
    Never,
    Up,
    ArrayNext,
}

impl Naive {
    fn message(&mut self) -> Option<Node> {
        let flags = self.header(true)?;
        if flags & !BIG_ENDIAN != 0 {
            return None;
        }
        self.list(flags, &End::Never)
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, n: usize) -> Option<Vec<u8>> {
        let taken = self.bytes.get(self.at..self.at.checked_add(n)?)?.to_vec();
        self.at += n;
        Some(taken)
    }

    fn number(&mut self, big: bool) -> Option<u64> {
        let bytes: [u8; 8] = self.take(8)?.try_into().ok()?;
        Some(if big {
            u64::from_be_bytes(bytes)
        } else {
            u64::from_le_bytes(bytes)
        })
    }

    /// Flags of the list header here; `select` makes its byte order that of what follows.
    fn header(&mut self, select: bool) -> Option<u8> {
        let start = self.take(3)?;
        let flags = start[2];
        let big = flags & BIG_ENDIAN != 0;
        if self.mend && self.left() >= HEADER - 3 {
            let size = (self.left() - (HEADER - 3)) as u64;
            let size = if big {
                size.to_be_bytes()
            } else {
                size.to_le_bytes()
            };
            self.bytes[self.at + 8..self.at + 16].copy_from_slice(&size);
        }
        let descriptors = self.number(big)?;
        let size = self.number(big)?;
        let good = start[0] == b'l' && flags & !0x83 == 0 && descriptors == 0;
        if !good || size != self.left() as u64 {
            return None;
        }
        if select {
            self.big = big;
        }
        Some(flags)
    }

    fn list(&mut self, flags: u8, end: &End) -> Option<Node> {
        if self.names.len() == MAX_DEPTH {
            return None;
        }
        self.names.push(Vec::new());
        let mut closed = false;
        let mut node = Node {
            flags,
            pairs: Vec::new(),
        };
        while self.left() != 0 {
            let kind = self.take(1)?[0];
            let name_size: [u8; 2] = self.take(2)?.try_into().ok()?;
            let name_size = match self.big {
                true => u16::from_be_bytes(name_size),
                false => u16::from_le_bytes(name_size),
            };
            let big = self.big;
            let size = self.number(big)?;
            let items = self.number(big)?;
            if !(1..=MAX_NAME).contains(&usize::from(name_size)) {
                return None;
            }
            let name = c_string(self.take(name_size.into())?)?;
            let size = usize::try_from(size).ok().filter(|&s| s <= self.left())?;
            match (kind, end) {
                (254, End::ArrayNext) | (255, End::Up) => {
                    closed = true;
                    break;
                }
                (254 | 255, _) => return None,
                _ => {}
            }
            if flags & NO_UNIQUE == 0 {
                let fold = |n: &Vec<u8>| match flags & IGNORE_CASE {
                    0 => n.clone(),
                    _ => n.to_ascii_lowercase(),
                };
                let names = self.names.last_mut()?;
                if names.iter().any(|n| fold(n) == fold(&name)) {
                    return None;
                }
                names.push(name.clone());
                if self.names.iter().map(Vec::len).sum::<usize>() > MAX_NAMES {
                    return None;
                }
            }
            let value = self.value(kind, size, items)?;
            node.pairs.push((name, value));
        }
        self.names.pop();
        self.closed = closed;
        Some(node)
    }

    fn value(&mut self, kind: u8, size: usize, items: u64) -> Option<Tree> {
        Some(match kind {
            1 if size == 0 => Tree::Null,
            2 if size == 1 => match self.take(1)?[0] {
                0 => Tree::Bool(false),
                1 => Tree::Bool(true),
                _ => return None,
            },
            3 if size == 8 => {
                let big = self.big;
                Tree::Number(self.number(big)?)
            }
            4 => Tree::String(c_string(self.take(size)?)?),
            5 if size != 0 => {
                let flags = self.header(false)?;
                Tree::List(self.list(flags, &End::Up)?)
            }
            7 if size != 0 => Tree::Binary(self.take(size)?),
            8 if size != 0 && items == size as u64 => Tree::BoolArray(self.take(size)?),
            9 if size != 0 && u128::from(items) * 8 == size as u128 => {
                let big = self.big;
                let numbers: Option<Vec<_>> = (0..items).map(|_| self.number(big)).collect();
                Tree::NumberArray(numbers?)
            }
            10 => {
                let text = self.take(size)?;
                let ends = text.iter().filter(|&&b| b == 0).count();
                if text.last() != Some(&0) || ends as u64 != items {
                    return None;
                }
                Tree::StringArray(text)
            }
            11 => {
                if items == 0 || u128::from(items) * HEADER as u128 > self.left() as u128 {
                    return None;
                }
                let mut nodes = Vec::new();
                for i in 0..items {
                    // The end of the message inside of an element closes every list, and leaves the rest of an
                    // array empty. Between elements it is an error.
                    if i != 0 && self.left() == 0 && !self.closed {
                        nodes.push(Node::default());
                        continue;
                    }
                    let flags = self.header(true)?;
                    nodes.push(self.list(flags, &End::ArrayNext)?);
                }
                Tree::ListArray(nodes)
            }
            _ => return None,
        })
    }
}

/// Bytes without their only NUL, which is the last one.
fn c_string(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    (bytes.pop()? == 0 && !bytes.contains(&0)).then_some(bytes)
}
