// SPDX-License-Identifier: BSD-2-Clause
//! The packed format: vectors from libnv, mutations of them, and what a hostile sender may try.

mod common;

use common::{Raw, Rng, V1, V2, V3, V4, V5, hex, packed, seed};
use nv::{Error, List, MAX_DEPTH, MAX_NAMES, SliceSink, Value, WriteError};

/// Visits everything in a list and returns the number of pairs; must never panic or hang.
fn visit(list: List<'_>) -> usize {
    let mut n = 0;
    for pair in list.pairs() {
        n += 1;
        match pair.value {
            Value::List(l) => n += visit(l),
            Value::ListArray(a) => n += a.elements().map(visit).sum::<usize>(),
            Value::NumberArray(a) => n += a.count(),
            _ => {}
        }
    }
    n
}

fn parse(bytes: &[u8]) -> Result<usize, Error> {
    List::parse(bytes).map(visit)
}

#[test]
fn v1() {
    let bytes = hex(V1);
    assert_eq!(bytes.len(), 459);
    let list = List::parse(&bytes).unwrap();
    assert_eq!(list.number("listen-port"), Some(51820));
    assert_eq!(list.boolean("replace-peers"), Some(true));
    assert_eq!(list.boolean("listen-port"), None, "another type is absent");
    let peers: Vec<_> = list.array("peers").unwrap().elements().collect();
    assert_eq!(peers.len(), 1);
    let key: Vec<u8> = (1..=32).collect();
    assert_eq!(peers[0].binary("public-key"), Some(&key[..]));
    let ips: Vec<_> = peers[0].array("allowed-ips").unwrap().elements().collect();
    assert_eq!(ips.len(), 2);
    assert_eq!(ips[0].number("cidr"), Some(24));
    assert_eq!(ips[0].binary("ipv4"), Some(&[10, 0, 0, 0][..]));
    assert_eq!(ips[1].number("cidr"), Some(8));
    assert_eq!(ips[1].binary("ipv6").unwrap()[0], 0xfd);
    assert_eq!(visit(list), 9);
}

#[test]
fn v1_is_written_alike() {
    let key: Vec<u8> = (1..=32).collect();
    let bytes = packed(|w| {
        w.number("listen-port", 51820)?;
        w.boolean("replace-peers", true)?;
        w.begin_array("peers", 1)?;
        w.begin_element()?;
        w.binary("public-key", &key)?;
        w.begin_array("allowed-ips", 2)?;
        w.begin_element()?;
        w.number("cidr", 24)?;
        w.binary("ipv4", &[10, 0, 0, 0])?;
        w.end_element()?;
        w.begin_element()?;
        w.number("cidr", 8)?;
        w.binary("ipv6", &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
        w.end_element()?;
        w.end_element()
    });
    assert_eq!(bytes, hex(V1));
}

#[test]
fn v2_v3() {
    assert_eq!(parse(&hex(V2)), Ok(0));
    assert_eq!(packed(|_| Ok(())), hex(V2));
    let bytes = hex(V3);
    assert_eq!(bytes.len(), 58);
    assert_eq!(
        List::parse(&bytes).unwrap().number("listen-port"),
        Some(51820)
    );
    assert_eq!(packed(|w| w.number("listen-port", 51820)), bytes);
}

#[test]
fn v4() {
    let bytes = hex(V4);
    assert_eq!(bytes.len(), 239);
    let list = List::parse(&bytes).unwrap();
    let x = list.array("x").unwrap();
    assert_eq!(x.count(), 3);
    assert_eq!(
        x.elements().map(|e| e.pairs().count()).collect::<Vec<_>>(),
        [0, 2, 0]
    );
    assert_eq!(list.boolean("t"), Some(true));
    let written = packed(|w| {
        w.begin_array("x", 3)?;
        w.begin_element()?;
        w.end_element()?;
        w.begin_element()?;
        w.number("cidr", 24)?;
        w.binary("ipv4", &[10, 0, 0, 0])?;
        w.end_element()?;
        w.begin_element()?;
        w.end_element()?;
        w.boolean("t", true)
    });
    assert_eq!(written, bytes);
}

#[test]
fn v5() {
    let bytes = hex(V5);
    assert_eq!(bytes.len(), 168);
    let list = List::parse(&bytes).unwrap();
    assert_eq!(list.list("n").unwrap().number("cidr"), Some(24));
    assert_eq!(list.number("k"), Some(7));
    let written = packed(|w| {
        w.list("n", &mut |w| {
            w.number("cidr", 24)?;
            w.binary("ipv4", &[10, 0, 0, 0])
        })?;
        w.number("k", 7)
    });
    assert_eq!(written, bytes);
}

/// Verdicts of the reference reader.
#[test]
fn mutations_of_v3() {
    type Mutation = fn(&mut Vec<u8>);
    let cases: [(&str, Mutation, Result<usize, Error>); 10] = [
        ("version", |b| b[1] = 9, Ok(1)),
        ("flags 1", |b| b[2] = 1, Err(Error::Flags)),
        ("flags 4", |b| b[2] = 4, Err(Error::Flags)),
        ("trailing byte", |b| b.push(0), Err(Error::Size)),
        ("descriptors", |b| b[3] = 1, Err(Error::Descriptors)),
        ("type 0", |b| b[19] = 0, Err(Error::Type)),
        ("type 13", |b| b[19] = 13, Err(Error::Type)),
        ("name size 11", |b| b[20] = 11, Err(Error::Name)),
        ("items 5", |b| b[30] = 5, Ok(1)),
        (
            "trailing byte, counted",
            |b| (b.push(0), b[11] += 1).1,
            Err(Error::Truncated),
        ),
    ];
    for (name, mutate, verdict) in cases {
        let mut bytes = hex(V3);
        mutate(&mut bytes);
        assert_eq!(parse(&bytes), verdict, "{name}");
    }
}

#[test]
fn every_bit_flip_and_every_prefix() {
    for vector in [V1, V2, V3, V4, V5] {
        let bytes = hex(vector);
        let pairs = parse(&bytes);
        assert!(pairs.is_ok());
        for bit in (0..bytes.len() * 8).step_by(common::STRIDE) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let first = parse(&flipped);
            assert_eq!(first, parse(&flipped), "bit {bit}");
        }
        for len in (0..bytes.len()).step_by(common::STRIDE) {
            assert!(parse(&bytes[..len]).is_err(), "prefix of {len}");
        }
    }
}

#[test]
fn descriptor_types() {
    for kind in [6, 12] {
        let bytes = Raw::default()
            .header(0)
            .pair(kind, b"fd", 8, 1, &[0; 8])
            .finish();
        assert_eq!(parse(&bytes), Err(Error::Type), "type {kind}");
    }
}

#[test]
fn values() {
    let cases: &[(u8, u64, u64, &[u8], bool)] = &[
        (1, 0, 0, b"", true),
        (1, 1, 0, b"\0", false),
        (2, 1, 0, b"\0", true),
        (2, 1, 0, b"\x02", false),
        (2, 2, 0, b"\0\0", false),
        (2, 0, 0, b"", false),
        (3, 7, 0, b"1234567", false),
        (3, 9, 0, b"123456789", false),
        (4, 0, 0, b"", false),
        (4, 1, 0, b"\0", true),
        (4, 3, 0, b"ab\0", true),
        (4, 3, 0, b"abc", false),
        (4, 3, 0, b"a\0\0", false),
        (5, 0, 0, b"", false),
        (7, 0, 0, b"", false),
        (7, 1, 9, b"x", true),
        (7, u64::MAX, 0, b"x", false),
        (8, 2, 2, b"\0\x07", true),
        (8, 2, 3, b"\0\0", false),
        (8, 0, 0, b"", false),
        (9, 16, 2, &[1; 16], true),
        (9, 8, 0x2000_0000_0000_0001, &[1; 8], false),
        (9, 8, 2, &[1; 8], false),
        (10, 4, 2, b"a\0b\0", true),
        (10, 4, 1, b"a\0b\0", false),
        (10, 4, 3, b"a\0b\0", false),
        (10, 3, 1, b"a\0b", false),
        (10, 0, 0, b"", false),
        (11, 0, 0, b"", false),
        (11, 0, 1, b"", false),
        (11, 0, u64::MAX, b"", false),
        (11, 0, u64::MAX / 19 + 2, &[0; 40], false),
        (254, 0, 0, b"", false),
        (255, 0, 0, b"", false),
    ];
    for (i, &(kind, size, items, data, good)) in cases.iter().enumerate() {
        for flags in [0, 0x80] {
            let bytes = Raw::default()
                .header(flags)
                .pair(kind, b"n", size, items, data)
                .finish();
            assert_eq!(parse(&bytes).is_ok(), good, "case {i}, flags {flags}");
        }
    }
}

#[test]
fn names() {
    let one = |name: &[u8]| Raw::default().header(0).pair(1, name, 0, 0, b"").finish();
    assert_eq!(parse(&one(b"")), Ok(1));
    assert_eq!(parse(&one(&[b'x'; 2047])), Ok(1));
    assert_eq!(parse(&one(&[b'x'; 2048])), Err(Error::Name));
    assert_eq!(parse(&one(b"a\0b")), Err(Error::Name));
    let mut none = one(b"a");
    none[20] = 0;
    assert!(parse(&none).is_err());
}

#[test]
fn duplicates() {
    let two = |flags, a: &str, b: &str| {
        // Inside an array's element, as only there flags may be set.
        let mut raw = Raw::default();
        raw.header(0).array("l", 1).header(flags);
        raw.value(2, a, &[0])
            .value(3, b, &[9; 8])
            .next()
            .value(1, a, &[])
            .finish()
    };
    assert_eq!(parse(&two(0, "a", "b")), Ok(4));
    assert_eq!(
        parse(&two(0, "a", "a")),
        Err(Error::Duplicate),
        "types do not matter"
    );
    assert_eq!(parse(&two(0, "", "")), Err(Error::Duplicate));
    assert_eq!(parse(&two(0, "ab", "a")), Ok(4), "a prefix differs");
    assert_eq!(parse(&two(0, "a", "A")), Ok(4));
    assert_eq!(parse(&two(1, "a", "A")), Err(Error::Duplicate));
    assert_eq!(parse(&two(2, "a", "a")), Ok(4));
    assert_eq!(parse(&two(0, "a", "l")), Ok(4), "not in the same list");
    assert_eq!(
        parse(&two(0, "l", "x")),
        Err(Error::Duplicate),
        "after the array, in the outer list"
    );

    // Without uniqueness the first one of the type that is asked for counts; without case, any.
    let bytes = Raw::default()
        .header(0)
        .array("l", 1)
        .header(3)
        .value(2, "K", &[1])
        .value(3, "k", &7u64.to_le_bytes())
        .value(3, "k", &8u64.to_le_bytes())
        .next()
        .finish();
    let list = List::parse(&bytes)
        .unwrap()
        .array("l")
        .unwrap()
        .elements()
        .next()
        .unwrap();
    assert_eq!(list.number("k"), Some(7));
    assert_eq!(list.boolean("k"), Some(true));
}

#[test]
fn names_are_bounded() {
    let many = |n: usize, flags| {
        let mut raw = Raw::default();
        raw.header(0).array("l", 1).header(flags);
        for i in 0..n {
            raw.value(1, &i.to_string(), &[]);
        }
        raw.next().finish()
    };
    assert_eq!(parse(&many(MAX_NAMES - 1, 0)), Ok(MAX_NAMES));
    assert_eq!(parse(&many(MAX_NAMES, 0)), Err(Error::TooManyNames));
    let n = if cfg!(miri) { 200 } else { 1_000_000 };
    assert_eq!(parse(&many(n, 0)), Err(Error::TooManyNames));
    assert_eq!(parse(&many(n, 2)), Ok(n + 1));
    // Names of closed lists do not count.
    let (lists, each) = if cfg!(miri) { (5, 30) } else { (100, 100) };
    let mut raw = Raw::default();
    raw.header(0).array("l", lists);
    for _ in 0..lists {
        raw.header(0);
        for i in 0..each {
            raw.value(1, &i.to_string(), &[]);
        }
        raw.next();
    }
    assert_eq!(parse(&raw.finish()), Ok(lists as usize * each + 1));
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize, array: bool| {
        let mut raw = Raw::default();
        raw.header(0);
        for _ in 1..depth {
            if array {
                raw.array("l", 1).header(0);
            } else {
                raw.pair(5, b"l", 1, 0, &[]).header(0);
            }
        }
        for _ in 1..depth {
            if array {
                raw.next()
            } else {
                raw.up()
            };
        }
        raw.finish()
    };
    for array in [false, true] {
        for depth in 1..=MAX_DEPTH {
            assert_eq!(parse(&nested(depth, array)), Ok(depth - 1));
        }
        assert_eq!(parse(&nested(MAX_DEPTH + 1, array)), Err(Error::TooDeep));
        assert_eq!(
            parse(&nested(if cfg!(miri) { 20 } else { 10_000 }, array)),
            Err(Error::TooDeep)
        );
    }
}

#[test]
fn ends() {
    let wrong = [
        Raw::default().header(0).up().finish(),
        Raw::default().header(0).next().finish(),
        Raw::default()
            .header(0)
            .array("a", 1)
            .header(0)
            .up()
            .finish(),
        Raw::default()
            .header(0)
            .pair(5, b"l", 1, 0, &[])
            .header(0)
            .next()
            .finish(),
    ];
    for (i, bytes) in wrong.iter().enumerate() {
        assert_eq!(parse(bytes), Err(Error::Unbalanced), "case {i}");
    }
    // A message may end inside lists; elements that did not come are then empty.
    let mut raw = Raw::default();
    raw.header(0)
        .array("a", 3)
        .header(0)
        .value(1, "x", &[])
        .value(7, "pad", &[0; 60]);
    let bytes = raw.finish();
    let list = List::parse(&bytes).unwrap();
    let counts: Vec<_> = list
        .array("a")
        .unwrap()
        .elements()
        .map(|e| e.pairs().count())
        .collect();
    assert_eq!(counts, [2, 0, 0]);
    // But not between elements.
    let mut raw = Raw::default();
    raw.header(0)
        .array("a", 2)
        .header(0)
        .value(7, "pad", &[0; 60])
        .next();
    assert_eq!(parse(&raw.finish()), Err(Error::Truncated));
}

/// Byte order is that of the latest header that selects it, as in libnv.
#[test]
fn byte_order() {
    let mut raw = Raw::default();
    raw.header(0x80).value(3, "a", &1u64.to_be_bytes());
    raw.array("l", 2)
        .header(0)
        .value(3, "b", &2u64.to_le_bytes())
        .next();
    raw.header(0x80).value(3, "c", &3u64.to_be_bytes());
    raw.pair(5, b"n", 1, 0, &[])
        .header_only(0)
        .value(3, "d", &4u64.to_be_bytes())
        .up();
    raw.next().value(3, "e", &5u64.to_be_bytes());
    raw.pair(9, b"f", 8, 1, &6u64.to_be_bytes());
    let bytes = raw.finish();
    let list = List::parse(&bytes).unwrap();
    assert_eq!(list.number("a"), Some(1));
    let elements: Vec<_> = list.array("l").unwrap().elements().collect();
    assert_eq!(elements[0].number("b"), Some(2));
    assert_eq!(elements[1].number("c"), Some(3));
    assert_eq!(elements[1].list("n").unwrap().number("d"), Some(4));
    assert_eq!(list.number("e"), Some(5));
    let Some(Value::NumberArray(mut f)) = list.pairs().last().map(|p| p.value) else {
        panic!()
    };
    assert_eq!(f.next(), Some(6));
}

#[test]
fn random_bytes_and_splices() {
    let seed = seed();
    let mut rng = Rng(seed);
    let vectors = [V1, V4, V5].map(hex);
    for round in 0..if cfg!(miri) { 10 } else { 200_000 } {
        let mut bytes = vectors[rng.below(3) as usize].clone();
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(bytes.len() as u64) as usize;
            match rng.below(4) {
                0 => bytes[at] = rng.next() as u8,
                1 => bytes[at] ^= 1 << rng.below(8),
                2 => bytes[at] = [0, 1, 5, 11, 254, 255][rng.below(6) as usize],
                _ => {
                    let other = &vectors[rng.below(3) as usize];
                    let from = rng.below(other.len() as u64) as usize;
                    let n = (other.len() - from).min(bytes.len() - at).min(40);
                    bytes[at..at + n].copy_from_slice(&other[from..from + n]);
                }
            }
        }
        // A right outer size gets the mutation further.
        let left = (bytes.len() - 19) as u64;
        bytes[11..19].copy_from_slice(&left.to_le_bytes());
        assert_eq!(parse(&bytes), parse(&bytes), "seed {seed}, round {round}");
    }
}

#[test]
fn writer_refuses() {
    let mut out = [0; 400];
    let mut pack = |f: &mut dyn FnMut(&mut nv::Writer<'_>) -> Result<(), WriteError>| {
        nv::pack(&mut SliceSink::new(&mut out), f)
    };
    assert_eq!(pack(&mut |w| w.begin_array("a", 0)), Err(WriteError::Empty));
    assert_eq!(
        pack(&mut |w| w.begin_array("a", 1)),
        Err(WriteError::Mismatch)
    );
    assert_eq!(pack(&mut |w| w.begin_element()), Err(WriteError::Mismatch));
    assert_eq!(pack(&mut |w| w.end_element()), Err(WriteError::Mismatch));
    assert_eq!(pack(&mut |w| w.binary("a", &[])), Err(WriteError::Empty));
    assert_eq!(pack(&mut |w| w.null("a\0b")), Err(WriteError::Name));
    assert_eq!(
        pack(&mut |w| w.null(&"n".repeat(2048))),
        Err(WriteError::Name)
    );
    assert_eq!(pack(&mut |w| w.string("a", "\0")), Err(WriteError::Name));
    assert_eq!(
        pack(&mut |w| w.binary("a", &[0; 400])),
        Err(WriteError::NoSpace)
    );
    let between = pack(&mut |w| {
        w.begin_array("a", 1)?;
        w.null("x")
    });
    assert_eq!(between, Err(WriteError::Mismatch));
    let mut runs = 0;
    let differs = pack(&mut |w| {
        runs += 1;
        if runs == 1 { w.null("a") } else { w.null("aa") }
    });
    assert_eq!(differs, Err(WriteError::Mismatch));
    let mut runs = 0;
    let shorter = pack(&mut |w| {
        runs += 1;
        if runs == 1 { w.null("a") } else { Ok(()) }
    });
    assert_eq!(shorter, Err(WriteError::Mismatch));
    let deep = pack(&mut |w| {
        for _ in 0..MAX_DEPTH + 1 {
            w.begin_array("a", 1)?;
            w.begin_element()?;
        }
        Ok(())
    });
    assert_eq!(deep, Err(WriteError::Mismatch));
}
