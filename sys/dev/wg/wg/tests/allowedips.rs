// SPDX-License-Identifier: BSD-2-Clause
//! Allowed IPs: cases by hand, and random edits compared with a naive table.

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::TestRng;
use hostkern_malloc::Account;
use kpi_alloc::{AllocError, How, KArc};
use wg::allowedips::{AllowedIps, Prefix};

const NOW: How<'static> = How::NoWait;

fn p(s: &str) -> Prefix {
    let (addr, cidr) = s.split_once('/').unwrap();
    Prefix::new(addr.parse().unwrap(), cidr.parse().unwrap()).unwrap()
}

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn table(entries: &[(&str, u32)]) -> AllowedIps<u32> {
    let mut t = AllowedIps::new();
    for &(prefix, owner) in entries {
        t.insert(p(prefix), owner, NOW).unwrap();
    }
    t
}

fn list<P: Copy>(t: &AllowedIps<P>) -> Vec<(Prefix, P, u64)> {
    t.iter().map(|e| (e.prefix, *e.owner, e.seq)).collect()
}

#[test]
fn prefixes() {
    assert_eq!(p("10.1.2.3/24").to_string(), "10.1.2.0/24");
    assert_eq!(p("10.1.2.3/0").to_string(), "0.0.0.0/0");
    assert_eq!(p("255.255.255.255/31").to_string(), "255.255.255.254/31");
    assert_eq!(p("255.1.2.3/32").to_string(), "255.1.2.3/32");
    assert_eq!(p("2001:db8:ffff::1/35").to_string(), "2001:db8:e000::/35");
    assert_eq!(p("ffff::1/0").to_string(), "::/0");
    assert_eq!(p("ffff::1/127").to_string(), "ffff::/127");
    assert_eq!(p("ffff::1/128").to_string(), "ffff::1/128");
    assert!(Prefix::new(ip("1.2.3.4"), 33).is_none());
    assert!(Prefix::new(ip("::"), 129).is_none());
    assert!(Prefix::new(ip("::"), 255).is_none());
}

#[test]
fn longest_prefix_wins() {
    let t = table(&[
        ("0.0.0.0/0", 0),
        ("10.0.0.0/8", 1),
        ("10.1.0.0/16", 2),
        ("10.1.2.0/24", 3),
        ("10.1.2.3/32", 4),
        ("192.168.0.0/16", 5),
        ("128.0.0.0/1", 6),
        ("::/0", 10),
        ("2001:db8::/32", 11),
        ("2001:db8::1/128", 12),
    ]);
    for (addr, owner) in [
        ("1.1.1.1", 0),
        ("10.255.0.1", 1),
        ("10.1.255.1", 2),
        ("10.1.2.4", 3),
        ("10.1.2.3", 4),
        ("192.168.3.4", 5),
        ("192.169.3.4", 6),
        ("127.255.255.255", 0),
        ("255.255.255.255", 6),
        ("::", 10),
        ("2001:db8::2", 11),
        ("2001:db8::1", 12),
        ("ffff::", 10),
    ] {
        assert_eq!(t.lookup(ip(addr)), Some(&owner), "{addr}");
    }
    assert_eq!(t.len(), 10);
    assert_eq!(AllowedIps::<u32>::new().lookup(ip("::")), None);
    let t = table(&[("10.0.0.0/8", 1)]);
    assert_eq!((t.lookup(ip("11.0.0.0")), t.lookup(ip("::"))), (None, None));
    assert_eq!(t.get(p("10.0.0.0/8")), Some(&1));
    assert_eq!(t.get(p("10.0.0.0/9")), None);
    assert_eq!(t.get(p("10.0.0.0/7")), None);
}

#[test]
fn owners_and_order() {
    let mut t = table(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 1), ("::/0", 1)]);
    assert_eq!(t.insert(p("10.0.0.0/8"), 1, NOW), Ok(Some(1)));
    assert_eq!(list(&t)[0].2, 0, "the same owner keeps the place");
    assert_eq!(t.insert(p("10.0.0.0/8"), 2, NOW), Ok(Some(1)));
    assert_eq!(t.len(), 3);
    assert!(list(&t)[0].2 > list(&t)[2].2, "a new owner is last");
    assert_eq!(t.remove(p("10.0.0.0/8"), &1, NOW), Ok(false));
    assert_eq!(t.remove(p("10.0.0.0/9"), &2, NOW), Ok(false));
    assert_eq!(t.remove(p("10.0.0.0/8"), &2, NOW), Ok(true));
    assert_eq!(t.remove(p("10.0.0.0/8"), &2, NOW), Ok(false));
    assert_eq!(t.lookup(ip("10.0.0.1")), None);
    assert_eq!(t.lookup(ip("10.1.0.1")), Some(&1));
    assert_eq!(t.len(), 2);
}

#[test]
fn nested_chain() {
    let account = Account::new();
    let _scope = account.enter();
    let prefix = |n: u8| Prefix::new(Ipv6Addr::from(u128::MAX).into(), n).unwrap();
    for backwards in [false, true] {
        let mut t = AllowedIps::new();
        for i in 0..=128 {
            let n = if backwards { 128 - i } else { i };
            assert_eq!(t.insert(prefix(n), u32::from(n), NOW), Ok(None));
        }
        assert_eq!(t.len(), 129);
        for n in 0..=128u8 {
            // Agrees in exactly n bits.
            let addr = u128::MAX ^ u128::MAX.checked_shr(n.into()).unwrap_or(0);
            assert_eq!(t.lookup(Ipv6Addr::from(addr).into()), Some(&u32::from(n)));
        }
        assert!(t.iter().map(|e| e.prefix.cidr()).eq(0..=128));
        let snapshot = t.clone();
        assert_eq!(t.retain(|e| e.prefix.cidr() % 2 == 0, NOW), Ok(64));
        assert!(t.iter().map(|e| e.prefix.cidr()).eq((0..=128).step_by(2)));
        assert_eq!(snapshot.len(), 129);
    }
    account.assert_no_leaks();
}

#[test]
fn snapshots_do_not_change() {
    let account = Account::new();
    let _scope = account.enter();
    let mut t = table(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 2), ("11.0.0.0/8", 3)]);
    let blocks = account.stats().live_objects;
    let old = t.clone();
    assert_eq!(
        account.stats().live_objects,
        blocks,
        "a clone allocates nothing"
    );
    let before = list(&old);
    t.insert(p("10.1.2.0/24"), 4, NOW).unwrap();
    t.remove(p("11.0.0.0/8"), &3, NOW).unwrap();
    t.insert(p("10.0.0.0/8"), 5, NOW).unwrap();
    assert_eq!(list(&old), before);
    assert_eq!(old.lookup(ip("11.0.0.1")), Some(&3));
    assert_eq!(t.lookup(ip("10.0.0.1")), Some(&5));
    drop(old);
    // Alone again, edits happen in place: of the calls only those for new nodes.
    let attempts = account.stats().attempts;
    t.insert(p("10.1.2.0/24"), 6, NOW).unwrap();
    t.remove(p("10.1.2.0/24"), &6, NOW).unwrap();
    assert_eq!(account.stats().attempts, attempts);
    drop(t);
    account.assert_no_leaks();
}

/// The number of allowed IPs in the customary stress test.
#[test]
fn many() {
    let account = Account::new();
    let _scope = account.enter();
    let n: u32 = if cfg!(miri) { 300 } else { 130_561 };
    let mut t = AllowedIps::new();
    for i in 0..n {
        // Spread over all bits by an odd factor.
        let addr = Ipv4Addr::from(i.wrapping_mul(0x9e37_79b1));
        assert_eq!(
            t.insert(Prefix::new(addr.into(), 32).unwrap(), i, NOW),
            Ok(None)
        );
        let addr = Ipv6Addr::from(u128::from(i) << 64 | 0xfd << 120);
        assert_eq!(
            t.insert(Prefix::new(addr.into(), 64).unwrap(), i, NOW),
            Ok(None)
        );
    }
    assert_eq!(t.len(), 2 * n as usize);
    let blocks = account.stats().live_objects;
    assert!(blocks < 2 * t.len());
    for i in 0..n {
        assert_eq!(t.lookup_v4(i.wrapping_mul(0x9e37_79b1).into()), Some(&i));
        assert_eq!(
            t.lookup_v6(Ipv6Addr::from(u128::from(i) << 64 | 0xfd << 120 | 5)),
            Some(&i)
        );
    }
    let mut seqs: Vec<_> = t.iter().map(|e| (e.seq, *e.owner)).collect();
    assert!(t.iter().map(|e| e.prefix).is_sorted());
    seqs.sort_unstable();
    assert!(seqs.iter().map(|s| s.1).eq((0..n).flat_map(|i| [i, i])));
    let snapshot = t.clone();
    assert_eq!(
        t.retain(|e| e.owner % 2 == 0, NOW),
        Ok(2 * (n as usize / 2))
    );
    assert_eq!(t.lookup_v4(0x9e37_79b1.into()), None);
    assert_eq!(snapshot.lookup_v4(0x9e37_79b1.into()), Some(&1));
    drop(t);
    assert_eq!(account.stats().live_objects, blocks);
    drop(snapshot);
    account.assert_no_leaks();
}

/// A whole table dropped, or cloned and dropped, on a small stack.
#[test]
fn small_stack() {
    std::thread::Builder::new()
        .stack_size(if cfg!(miri) { 1 << 20 } else { 32 << 10 })
        .spawn(|| {
            let mut t = AllowedIps::new();
            for n in 0..=128 {
                for bit in [0, 1] {
                    let addr = u128::MAX ^ (bit << (128u32 - n).min(127));
                    let prefix = Prefix::new(Ipv6Addr::from(addr).into(), n as u8).unwrap();
                    t.insert(prefix, KArc::new(n, NOW).unwrap(), NOW).unwrap();
                }
            }
            let mut u = t.clone();
            u.retain(|e| e.prefix.cidr() > 64, NOW).unwrap();
            let v = t.clone();
            drop(t);
            drop(v);
            assert!(u.iter().count() > 60);
        })
        .unwrap()
        .join()
        .unwrap();
}

#[derive(Clone, Default)]
struct Naive {
    owners: BTreeMap<Prefix, (u32, u64)>,
    seq: u64,
}

fn contains(prefix: Prefix, addr: IpAddr) -> bool {
    Prefix::new(addr, prefix.cidr()) == Some(prefix)
}

impl Naive {
    fn insert(&mut self, prefix: Prefix, owner: u32) -> Option<u32> {
        let seq = self.seq;
        self.seq += 1;
        match self.owners.get_mut(&prefix) {
            Some(old) if old.0 == owner => Some(owner),
            Some(old) => Some(std::mem::replace(old, (owner, seq)).0),
            None => self.owners.insert(prefix, (owner, seq)).map(|o| o.0),
        }
    }

    fn lookup(&self, addr: IpAddr) -> Option<u32> {
        let all = self
            .owners
            .iter()
            .filter(|&(&prefix, _)| contains(prefix, addr));
        all.max_by_key(|(prefix, _)| prefix.cidr())
            .map(|(_, o)| o.0)
    }

    fn list(&self) -> Vec<(Prefix, u32, u64)> {
        self.owners.iter().map(|(&p, &(o, s))| (p, o, s)).collect()
    }
}

/// An address with few distinct bits, so that prefixes meet.
fn random_addr(rng: &mut TestRng) -> IpAddr {
    let bits = rng.next() & rng.next();
    match rng.next() % 4 {
        0 => Ipv4Addr::from((bits % 8) as u32).into(),
        1 => Ipv4Addr::from((bits as u32) & 0xc000_8003).into(),
        2 => Ipv6Addr::from(u128::from(bits % 4) << 63 | u128::from(bits >> 62)).into(),
        _ => Ipv6Addr::from(u128::from(bits & 0x8000_0000_0000_0001) << 64).into(),
    }
}

fn random_prefix(rng: &mut TestRng) -> Prefix {
    let addr = random_addr(rng);
    let most = if addr.is_ipv4() { 33 } else { 129 };
    let cidr = match rng.next() % 4 {
        0 => (rng.next() % most) as u8,
        1 => (most - 1 - rng.next() % 4) as u8,
        2 => (rng.next() % 4) as u8,
        _ => (60 % most + rng.next() % 5) as u8,
    };
    Prefix::new(addr, cidr).unwrap()
}

#[test]
fn random_against_naive() {
    let account = Account::new();
    let scope = account.enter();
    let seed = common::seed();
    let mut rng = TestRng::new(seed);
    for round in 0..if cfg!(miri) { 1 } else { 60 } {
        let mut t = AllowedIps::new();
        let mut naive = Naive::default();
        let mut snapshots = Vec::new();
        for step in 0..if cfg!(miri) { 150 } else { 1500 } {
            let at = format!("SEED={seed}, round {round}, step {step}");
            let owner = (rng.next() % 5) as u32;
            // Some edits meet a lack of memory: then nothing may have changed.
            let fails = rng.next().is_multiple_of(4);
            account.fail_nth(if fails { 1 + rng.next() % 3 } else { 0 });
            match rng.next() % 16 {
                0..8 => {
                    let prefix = random_prefix(&mut rng);
                    match t.insert(prefix, owner, NOW) {
                        Ok(old) => assert_eq!(old, naive.insert(prefix, owner), "{at}"),
                        Err(AllocError) => assert!(fails, "{at}"),
                    }
                }
                8..13 => {
                    let prefix = match naive.owners.keys().nth(rng.next() as usize % 40) {
                        Some(&prefix) => prefix,
                        None => random_prefix(&mut rng),
                    };
                    let owned = naive.owners.get(&prefix).is_some_and(|o| o.0 == owner);
                    match t.remove(prefix, &owner, NOW) {
                        Ok(removed) => {
                            assert_eq!(removed, owned, "{at}");
                            if owned {
                                naive.owners.remove(&prefix);
                            }
                        }
                        Err(AllocError) => assert!(fails, "{at}"),
                    }
                }
                13 if step % 8 == 0 => {
                    account.fail_nth(0);
                    let before = naive.owners.len();
                    naive.owners.retain(|_, o| o.0 != owner);
                    let mut asked = Vec::new();
                    let removed = t.retain(
                        |e| {
                            asked.push(e.prefix);
                            *e.owner != owner
                        },
                        NOW,
                    );
                    assert!(asked.is_sorted_by(|a, b| a < b), "{at}: one pass");
                    assert_eq!(asked.len(), before, "{at}");
                    assert_eq!(removed, Ok(before - naive.owners.len()), "{at}");
                }
                14 => snapshots.push((t.clone(), naive.clone())),
                _ if !snapshots.is_empty() => {
                    let (old, model) = snapshots.swap_remove(rng.next() as usize % snapshots.len());
                    assert_eq!(list(&old), model.list(), "{at}");
                }
                _ => {}
            }
            account.fail_nth(0);
            let addr = random_addr(&mut rng);
            assert_eq!(t.lookup(addr).copied(), naive.lookup(addr), "{at}, {addr}");
            assert_eq!(t.len(), naive.owners.len(), "{at}");
            // Order numbers after a failed insertion stay in step: it takes none.
            if step % 16 == 0 {
                assert_eq!(list(&t), naive.list(), "{at}");
            }
        }
    }
    drop(scope);
    account.assert_no_leaks();
}

/// Each allocation of an insertion fails once; the table, shared or not, is as before.
#[test]
fn every_allocation_fails_once() {
    let account = Account::new();
    let _scope = account.enter();
    let prefixes = [
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.3/32",
        "10.1.3.0/24",
        "0.0.0.0/0",
        "::1/128",
    ];
    for shared in [false, true] {
        for new in [
            "10.1.2.0/24",
            "10.1.2.2/32",
            "10.1.0.0/16",
            "fd00::/8",
            "::/0",
            "128.0.0.0/1",
        ] {
            let mut t = AllowedIps::new();
            for (i, prefix) in prefixes.iter().enumerate() {
                t.insert(p(prefix), i, NOW).unwrap();
            }
            let snapshot = if shared { Some(t.clone()) } else { None };
            let before = list(&t);
            let mut failed = 0;
            loop {
                account.fail_nth(failed + 1);
                if t.insert(p(new), 99, NOW).is_ok() {
                    break;
                }
                assert_eq!(list(&t), before);
                assert_eq!(t.len(), before.len());
                failed += 1;
                // Copies made by a failed attempt remain, so a later one gets further.
                account.fail_nth(0);
                if failed > 40 {
                    panic!("does not end");
                }
            }
            account.fail_nth(0);
            assert_eq!(t.get(p(new)), Some(&99));
            if let Some(old) = snapshot {
                assert_eq!(list(&old), before);
            }
        }
    }
    account.assert_no_leaks();
}

/// A retention that fails half way takes away nothing that it should keep.
#[test]
fn retain_fails() {
    let account = Account::new();
    let _scope = account.enter();
    for nth in (1..40).step_by(if cfg!(miri) { 13 } else { 1 }) {
        let mut t = AllowedIps::new();
        for i in 0..64u32 {
            t.insert(
                Prefix::new(Ipv4Addr::from(i << 20).into(), 32).unwrap(),
                i,
                NOW,
            )
            .unwrap();
        }
        let old = t.clone();
        account.fail_nth(nth);
        let result = t.retain(|e| e.owner % 3 != 0, NOW);
        account.fail_nth(0);
        assert!(
            (0..64)
                .filter(|i| i % 3 != 0)
                .all(|i| t.lookup_v4((i << 20).into()) == Some(&i))
        );
        assert_eq!(t.len(), t.iter().count());
        if result.is_ok() {
            assert!(t.iter().all(|e| e.owner % 3 != 0));
        }
        assert_eq!(old.len(), 64);
    }
    account.assert_no_leaks();
}

/// Readers look up in snapshots while a writer edits and drops versions.
#[test]
fn threads() {
    let current = std::sync::Mutex::new(table(&[("10.0.0.0/8", 1)]));
    let rounds = if cfg!(miri) { 20 } else { 20_000 };
    std::thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                for _ in 0..rounds {
                    let snapshot = current.lock().unwrap().clone();
                    assert_eq!(snapshot.lookup(ip("10.255.0.1")), Some(&1));
                    let even = snapshot.lookup(ip("10.1.0.1")).copied();
                    assert!(even == Some(1) || even == Some(2));
                }
            });
        }
        for i in 0..rounds {
            let mut t = current.lock().unwrap().clone();
            t.insert(p("10.1.0.0/16"), 2, NOW).unwrap();
            t.insert(Prefix::new(Ipv4Addr::from(i).into(), 32).unwrap(), i, NOW)
                .unwrap();
            *current.lock().unwrap() = t.clone();
            t.retain(|e| e.prefix.cidr() == 8, NOW).unwrap();
            *current.lock().unwrap() = t;
        }
    });
}
