// SPDX-License-Identifier: BSD-2-Clause
//! `kpi::mbuf`.

use hostkern::sim::Sim;
use kpi::mbuf::{LEAD, MAX_CONTIGUOUS, Mbuf, MbufList, TAIL};

/// Runs `f` in a process of a kernel, and looks for lost packets after it.
fn in_kernel(f: impl FnOnce(&Sim)) {
    let sim = Sim::new(7);
    let host = sim.host("h", &["192.0.2.1"]);
    sim.process(&host, || f(&sim));
    sim.kernel().assert_no_leaks();
}

fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 31 + 7) as u8).collect()
}

/// A packet of two segments: 150 bytes do not fit into the room in front, so they get one of their own.
fn chain(a: &[u8], b: &[u8]) -> Mbuf {
    const { assert!(LEAD < 150) };
    let mut head = vec![0; 150 - a.len()];
    let unused = head.len();
    head.extend_from_slice(a);
    let mut m = Mbuf::from_slice(b).unwrap().prepend_bytes(&head).unwrap();
    m.trim_front(unused);
    m
}

fn bytes(m: &Mbuf) -> Vec<u8> {
    let mut v = vec![0; m.len()];
    assert!(m.copy_out(0, &mut v));
    v
}

#[test]
fn alloc_sizes() {
    in_kernel(|_| {
        for n in [
            0, 1, 31, 32, 33, 147, 148, 1419, 1420, 1919, 1920, 1921, 3967, 3968, 3969, 9000,
        ] {
            let mut m = Mbuf::alloc(n).unwrap();
            assert_eq!(m.len(), n);
            assert_eq!(m.is_empty(), n == 0);
            assert_eq!(m.contiguous(), Some(&vec![0; n][..]), "{n} zero bytes");
            assert!(m.grow_front(LEAD), "{n}: room in front");
            assert!(m.grow_back(TAIL), "{n}: room behind");
            assert_eq!(m.contiguous_mut().map(|b| b.len()), Some(LEAD + n + TAIL));
        }
        for n in [16_255, 16_256, 16_257, 65_535, MAX_CONTIGUOUS - LEAD - TAIL] {
            let data = pattern(n);
            let m = Mbuf::from_slice(&data).unwrap();
            assert_eq!(m.contiguous(), Some(&data[..]));
        }
        assert!(Mbuf::alloc(MAX_CONTIGUOUS - LEAD - TAIL + 1).is_none());
        assert!(Mbuf::alloc(usize::MAX).is_none());
    });
}

#[test]
fn trim_and_grow() {
    in_kernel(|_| {
        let data = pattern(100);
        let mut m = Mbuf::from_slice(&data).unwrap();
        m.trim_front(10);
        m.truncate(80);
        m.truncate(90);
        assert_eq!(m.contiguous(), Some(&data[10..90]));
        assert!(m.grow_front(4));
        assert!(m.grow_back(4));
        let mut want = vec![0; 4];
        want.extend_from_slice(&data[10..90]);
        want.extend_from_slice(&[0; 4]);
        assert_eq!(
            m.contiguous(),
            Some(&want[..]),
            "what is grown into is zero, not old data"
        );
        m.trim_front(1000);
        assert!(m.is_empty());
        m.truncate(0);
        assert!(m.first().is_empty());
    });
}

#[test]
fn chains() {
    in_kernel(|_| {
        let (a, b) = (pattern(20), pattern(300));
        let all: Vec<u8> = a.iter().chain(&b).copied().collect();
        let m = chain(&a, &b);
        assert_eq!((m.first(), m.contiguous()), (&a[..], None));
        assert_eq!(bytes(&m), all);

        let m = m.pullup(60).unwrap();
        assert_eq!(m.first().get(..60), all.get(..60));
        assert_eq!(bytes(&m), all);

        let mut m = chain(&a, &b);
        assert!(m.contiguous_mut().is_none());
        assert!(!m.grow_back(1));
        m.trim_front(25);
        m.truncate(290);
        assert_eq!(bytes(&m), all[25..315]);
        let m = m.pullup(200).unwrap();
        assert_eq!(bytes(&m), all[25..315]);

        let mut m = chain(&a, &b);
        m.truncate(10);
        assert_eq!(bytes(&m), all[..10]);

        assert!(chain(&a, &b).pullup(321).is_none());
        let mut short = [0; 2];
        let m = chain(&a, &b);
        assert!(m.copy_out(19, &mut short));
        assert_eq!(short, all[19..21]);
        assert!(!m.copy_out(319, &mut short));
        assert!(!m.copy_out(usize::MAX, &mut short));
    });
}

#[test]
fn into_writable_copies_once_or_not() {
    in_kernel(|_| {
        let data = pattern(1420);
        let m = Mbuf::from_slice(&data).unwrap();
        let before = m.first().as_ptr();
        let m = m.into_writable(16, 32).unwrap();
        assert_eq!(m.first().as_ptr(), before, "it was writable with that room");
        let mut m = m.into_writable(LEAD + 500, 32).unwrap();
        assert_ne!(m.first().as_ptr(), before, "there was not that much room");
        assert_eq!(m.contiguous(), Some(&data[..]));
        assert!(m.grow_front(LEAD + 500) && m.grow_back(32));

        let (a, b) = (pattern(20), pattern(5000));
        let mut m = chain(&a, &b).into_writable(16, 32).unwrap();
        let all: Vec<u8> = a.iter().chain(&b).copied().collect();
        assert_eq!(m.contiguous(), Some(&all[..]));
        assert!(m.contiguous_mut().is_some());
        assert!(chain(&a, &b).into_writable(MAX_CONTIGUOUS, 0).is_none());
    });
}

#[test]
fn no_memory() {
    in_kernel(|sim| {
        let m = Mbuf::from_slice(&pattern(100)).unwrap();
        sim.fail_nth(1);
        assert!(Mbuf::alloc(10).is_none());
        sim.fail_nth(1);
        assert!(m.prepend(150).is_none());
        let (a, b) = (pattern(20), pattern(300));
        let m = chain(&a, &b);
        sim.fail_nth(1);
        assert!(m.into_writable(0, 0).is_none());
        sim.fail_nth(0);
    });
}

#[test]
fn header_fields() {
    in_kernel(|_| {
        let mut m = Mbuf::from_slice(b"packet").unwrap();
        m.set_fib(3);
        m.set_flowid(99);
        m.reset_for_encap();
        assert_eq!(m.fib(), 3, "the routing table stays");
        assert!(!m.is_mcast());
        m.mark_decapsulated();
        assert_eq!(m.contiguous(), Some(&b"packet"[..]));
    });
}

#[test]
fn lists() {
    in_kernel(|_| {
        let make = |n: usize| Mbuf::from_slice(&pattern(n)).unwrap();
        let mut list = MbufList::new();
        assert!(list.is_empty() && list.pop().is_none());
        list.extend((1..=5).map(make));
        assert_eq!((list.len(), list.bytes()), (5, 15));
        assert_eq!(
            list.iter().map(|m| m.len()).collect::<Vec<_>>(),
            [1, 2, 3, 4, 5]
        );

        let mut other = MbufList::new();
        other.push(make(6));
        list.append(other);
        list.append(MbufList::new());
        list.retain_mut(|m| {
            m.trim_front(1);
            m.len() % 2 == 0
        });
        assert_eq!(list.iter().map(|m| m.len()).collect::<Vec<_>>(), [0, 2, 4]);
        assert_eq!((list.len(), list.bytes()), (3, 6));
        list.for_each_mut(|m| *m = Mbuf::alloc(m.len() + 1).unwrap());
        let rest = list.take();
        assert!(list.is_empty() && list.bytes() == 0);
        list.append(rest);
        assert_eq!(list.pop().map(|m| m.len()), Some(1));
        assert_eq!(
            list.take().into_iter().map(|m| m.len()).collect::<Vec<_>>(),
            [3, 5]
        );
        assert!(list.pop().is_none());
        list.push(make(1));
        // The one that is left is freed with the list; the kernel of the test counts.
    });
}
