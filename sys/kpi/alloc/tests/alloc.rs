// SPDX-License-Identifier: BSD-2-Clause
//! The containers over the host's allocator: ownership, growth, failure at every allocation, no leak.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::thread;

use hostkern_malloc::{Account, kpi_free};
use kpi_alloc::{AllocError, How, KArc, KBox, KVec, Sleepable};
use zeroize::Zeroizing;

const NOW: How<'static> = How::NoWait;

/// Runs `f` on books of its own and checks that it freed everything.
fn audited<R>(f: impl FnOnce(&Account) -> R) -> R {
    let account = Account::new();
    let scope = account.enter();
    let r = f(&account);
    drop(scope);
    account.assert_no_leaks();
    r
}

/// Counts its drops.
#[derive(Clone, Debug)]
struct Dropped(Rc<Cell<usize>>, u32);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// `n` numbered values that share a counter of drops.
fn counted(n: u32) -> (Rc<Cell<usize>>, KVec<Dropped>) {
    let drops = Rc::new(Cell::new(0));
    let mut v = KVec::new();
    v.try_extend((0..n).map(|i| Dropped(drops.clone(), i)), NOW)
        .unwrap();
    (drops, v)
}

fn numbers(v: &[Dropped]) -> Vec<u32> {
    v.iter().map(|d| d.1).collect()
}

#[test]
fn a_box_owns_its_value() {
    audited(|account| {
        let drops = Rc::new(Cell::new(0));
        let b = KBox::new(Dropped(drops.clone(), 7), NOW).unwrap();
        assert_eq!((b.1, account.stats().live_objects), (7, 1));
        drop(b);
        assert_eq!(drops.get(), 1);

        let b = KBox::new(Dropped(drops.clone(), 8), NOW).unwrap();
        let v = KBox::into_inner(b);
        assert_eq!((v.1, drops.get(), account.stats().live_objects), (8, 1, 0));

        let p = KBox::into_raw(KBox::new(5_u64, NOW).unwrap());
        // SAFETY: given up just now.
        let mut b = unsafe { KBox::from_raw(p) };
        *b += 1;
        assert_eq!(*b, 6);
    });
}

#[test]
fn a_box_of_a_trait_object_frees_what_it_got() {
    audited(|_| {
        let p = KBox::into_raw(KBox::new(|| 5_u32, NOW).unwrap()) as *mut dyn Fn() -> u32;
        // SAFETY: given up just now, and unsized from there. The closure has no size: nothing to free.
        let f = unsafe { KBox::from_raw(p) };
        assert_eq!(f(), 5);
        let n = std::hint::black_box(9_u32);
        let p = KBox::into_raw(KBox::new(move || n, NOW).unwrap()) as *mut dyn Fn() -> u32;
        // SAFETY: as above.
        let f = unsafe { KBox::from_raw(p) };
        assert_eq!(f(), 9);
    });
}

#[test]
fn failure_drops_the_value_and_leaves_the_rest() {
    audited(|account| {
        let (drops, mut v) = counted(4);
        let spare = Dropped(drops.clone(), 9);
        account.fail_nth(1);
        assert_eq!(v.try_push(spare, NOW), Err(AllocError));
        assert_eq!((drops.get(), numbers(&v)), (1, vec![0, 1, 2, 3]));
        account.fail_nth(1);
        assert!(KBox::new(Dropped(drops.clone(), 9), NOW).is_err());
        account.fail_nth(1);
        assert!(KArc::new(Dropped(drops.clone(), 9), NOW).is_err());
        assert_eq!(drops.get(), 3);
        account.fail_nth(1);
        assert_eq!(v.insert(0, Dropped(drops.clone(), 9), NOW), Err(AllocError));
        assert_eq!(numbers(&v), [0, 1, 2, 3]);
    });
}

#[test]
fn impossible_sizes_fail() {
    audited(|_| {
        let mut v = KVec::<u64>::new();
        assert!(v.try_reserve(usize::MAX, NOW).is_err());
        assert!(v.try_reserve(usize::MAX / 8, NOW).is_err());
        assert!(v.try_reserve(isize::MAX as usize / 8 + 1, NOW).is_err());
        v.try_push(1, NOW).unwrap();
        assert!(v.try_reserve(usize::MAX, NOW).is_err());
        assert!(KVec::<u8>::with_capacity(usize::MAX, NOW).is_err());
        assert_eq!(*v, [1]);
    });
}

#[test]
fn growth_doubles() {
    audited(|account| {
        let mut v = KVec::new();
        let mut capacities = vec![];
        for i in 0..33_u16 {
            v.try_push(i, NOW).unwrap();
            if capacities.last() != Some(&v.capacity()) {
                capacities.push(v.capacity());
            }
        }
        assert_eq!(capacities, [4, 8, 16, 32, 64]);
        assert_eq!(account.stats().attempts, 5);
        assert!(v.iter().copied().eq(0..33));
    });
}

#[test]
fn removals_keep_what_they_should() {
    audited(|_| {
        let (drops, mut v) = counted(8);
        assert_eq!(v.remove(8).map(|d| d.1), None);
        assert_eq!(v.remove(7).map(|d| d.1), Some(7));
        assert_eq!(v.remove(0).map(|d| d.1), Some(0));
        assert_eq!(v.swap_remove(1).map(|d| d.1), Some(2));
        assert_eq!(numbers(&v), [1, 6, 3, 4, 5]);
        assert_eq!(v.swap_remove(4).map(|d| d.1), Some(5));
        assert_eq!(v.swap_remove(4).map(|d| d.1), None);
        assert_eq!(v.pop().map(|d| d.1), Some(4));
        assert_eq!((drops.get(), numbers(&v)), (5, vec![1, 6, 3]));
        v.insert(1, Dropped(drops.clone(), 10), NOW).unwrap();
        v.insert(0, Dropped(drops.clone(), 11), NOW).unwrap();
        v.insert(99, Dropped(drops.clone(), 12), NOW).unwrap();
        assert_eq!(numbers(&v), [11, 1, 10, 6, 3, 12]);
        v.retain(|d| d.1 % 2 == 0);
        assert_eq!((drops.get(), numbers(&v)), (8, vec![10, 6, 12]));
        v.truncate(5);
        v.truncate(1);
        assert_eq!((drops.get(), numbers(&v)), (10, vec![10]));
        v.clear();
        assert!(v.pop().is_none() && v.swap_remove(0).is_none() && v.remove(0).is_none());
        assert_eq!(drops.get(), 11);
    });
}

#[test]
fn an_unwinding_closure_leaves_a_whole_vector() {
    audited(|_| {
        let (drops, mut v) = counted(6);
        let mut asked = 0;
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            v.retain(|d| {
                asked += 1;
                assert!(asked < 4);
                d.1 == 2
            });
        }));
        assert!(unwound.is_err());
        assert_eq!((v.len(), drops.get()), (6, 0));
        drop(v);
        assert_eq!(drops.get(), 6);
        let unwound = catch_unwind(|| KBox::<u64>::new_with(NOW, || panic!("on purpose")));
        assert!(unwound.is_err());
    });
}

#[test]
fn iteration_moves_values_out_from_both_ends() {
    audited(|_| {
        let (drops, v) = counted(6);
        let mut it = v.into_iter();
        assert_eq!(it.len(), 6);
        assert_eq!((it.next().unwrap().1, it.next_back().unwrap().1), (0, 5));
        assert_eq!((drops.get(), it.len()), (2, 4));
        drop(it);
        assert_eq!(drops.get(), 6);
        let (_, mut v) = counted(3);
        for d in &mut v {
            d.1 += 1;
        }
        assert_eq!((&v).into_iter().map(|d| d.1).sum::<u32>(), 6);
        let mut it = v.into_iter();
        assert_eq!(it.by_ref().map(|d| d.1).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(it.next().is_none() && it.next_back().is_none());
    });
}

#[test]
fn slices_in_and_out() {
    audited(|account| {
        let mut v = KVec::from_slice(b"wire", NOW).unwrap();
        v.try_extend_from_slice(b"guard", NOW).unwrap();
        v.try_extend_from_slice(b"", NOW).unwrap();
        assert_eq!(&*v, b"wireguard");
        let copy = v.try_clone(NOW).unwrap();
        assert_eq!(copy, v);
        v.try_resize(12, b'!', NOW).unwrap();
        assert_eq!(v.as_slice(), b"wireguard!!!");
        v.try_resize(2, 0, NOW).unwrap();
        assert_eq!(v.as_mut_slice(), b"wi");
        v.sort_unstable();
        assert_eq!(&*v, b"iw");
        account.fail_nth(1);
        assert!(v.try_extend_from_slice(&[0; 99], NOW).is_err());
        assert_eq!(&*v, b"iw");
    });
}

#[test]
fn boxed_slices_keep_the_block() {
    audited(|account| {
        let (drops, v) = counted(5);
        let b: KBox<[Dropped]> = v.into();
        assert_eq!(
            (numbers(&b), account.stats().attempts),
            (vec![0, 1, 2, 3, 4], 1)
        );
        let v = KVec::from(b);
        assert_eq!((v.len(), v.capacity(), drops.get()), (5, 5, 0));
        drop(v.into_boxed());
        assert_eq!(drops.get(), 5);
        let b = KVec::<u64>::with_capacity(9, NOW).unwrap().into_boxed();
        assert_eq!((b.len(), account.stats().live_objects), (0, 0));
        assert_eq!(KVec::from(b).capacity(), 0);
    });
}

#[test]
fn types_without_size_allocate_nothing() {
    audited(|account| {
        thread_local!(static DROPS: Cell<usize> = const { Cell::new(0) });
        struct Nothing;
        impl Drop for Nothing {
            fn drop(&mut self) {
                DROPS.set(DROPS.get() + 1);
            }
        }
        account.fail_every(1, 0);
        let mut v = KVec::with_capacity(10, NOW).unwrap();
        for _ in 0..5 {
            v.try_push(Nothing, NOW).unwrap();
        }
        assert_eq!((v.len(), v.capacity()), (5, usize::MAX));
        assert!(v.spare_capacity_mut().is_empty());
        assert!(v.try_reserve(usize::MAX, NOW).is_err());
        drop(v.remove(1));
        drop(v.pop());
        let v = KVec::from(v.into_boxed());
        let mut it = v.into_iter();
        drop((it.next(), it.next_back()));
        assert_eq!((it.len(), DROPS.get()), (1, 4));
        drop(it);
        drop(KBox::new(Nothing, NOW).unwrap());
        let _moved = KBox::into_inner(KBox::new(Nothing, NOW).unwrap());
        assert_eq!((DROPS.get(), account.stats().attempts), (6, 0));
        account.fail_every(0, 0);
        let a = KArc::new(Nothing, NOW).unwrap();
        let p = KArc::into_raw(a.clone());
        // SAFETY: given up just now.
        assert!(KArc::ptr_eq(&a, &unsafe { KArc::from_raw(p) }));
        assert_eq!(DROPS.get(), 6);
        drop(a);
        assert_eq!(DROPS.get(), 7);
    });
}

#[test]
fn an_arc_counts() {
    audited(|account| {
        let drops = Rc::new(Cell::new(0));
        // Not Send, but neither is the arc then.
        let mut a = KArc::new(Dropped(drops.clone(), 1), NOW).unwrap();
        KArc::get_mut(&mut a).unwrap().1 = 2;
        let b = a.clone();
        assert!(KArc::ptr_eq(&a, &b) && KArc::get_mut(&mut a).is_none());
        let a = KArc::try_unwrap(a).unwrap_err();
        assert!(KArc::into_inner(b).is_none());
        assert_eq!(drops.get(), 0);
        let v = KArc::try_unwrap(a).unwrap();
        assert_eq!((v.1, account.stats().live_objects), (2, 0));

        let a = KArc::new(v, NOW).unwrap();
        let p = KArc::into_raw(a.clone());
        // SAFETY: given up just now; borrowed, not taken back.
        let lent = ManuallyDrop::new(unsafe { KArc::from_raw(p) });
        assert_eq!((lent.1, KArc::as_ptr(&a)), (2, p));
        drop(a);
        // SAFETY: given up above and not taken back.
        let a = unsafe { KArc::from_raw(p) };
        assert_eq!((a.1, drops.get()), (2, 0));
        drop(a);
        assert_eq!(drops.get(), 1);
    });
}

#[test]
fn an_overflowing_arc_leaks() {
    let account = Account::new();
    let scope = account.enter();
    let a = KArc::new(1_u64, NOW).unwrap();
    // SAFETY: the count is the word in front of the value (the header is 8 bytes, repr(C)).
    unsafe {
        KArc::as_ptr(&a)
            .cast_mut()
            .cast::<usize>()
            .sub(1)
            .write(usize::MAX / 2 - 1)
    };
    let b = a.clone();
    let c = b.clone();
    drop((a, b));
    assert_eq!(*c, 1);
    let d = c.clone();
    let block = KArc::as_ptr(&c).cast::<usize>().wrapping_sub(1);
    drop((c, d));
    drop(scope);
    assert_eq!(
        account.leaks().iter().map(|l| l.size).collect::<Vec<_>>(),
        [16]
    );
    // Given back behind the arc's back, because Miri counts what is left at the end.
    // SAFETY: the block was leaked, and no handle is left.
    unsafe { kpi_free(block.cast_mut().cast()) };
}

#[test]
fn arcs_on_threads() {
    let rounds = if cfg!(miri) { 5 } else { 2000 };
    for _ in 0..rounds {
        audited(|_| {
            let a = KArc::new(vec![1, 2, 3], NOW).unwrap();
            let workers: Vec<_> = (0..3)
                .map(|_| {
                    let a = a.clone();
                    thread::spawn(move || {
                        let b = a.clone();
                        assert_eq!(b.len(), 3);
                        drop(a);
                        KArc::into_inner(b).is_some()
                    })
                })
                .collect();
            let mine = KArc::into_inner(a).is_some();
            let theirs = workers
                .into_iter()
                .filter_map(|w| w.join().ok())
                .filter(|&got| got);
            assert_eq!(usize::from(mine) + theirs.count(), 1);
        });
    }
}

#[test]
fn secrets_are_wiped_in_place() {
    audited(|_| {
        let mut v = Zeroizing::new(KVec::with_capacity(8, NOW).unwrap());
        v.try_extend_from_slice(&[0xff_u8; 8], NOW).unwrap();
        v.truncate(3);
        zeroize::Zeroize::zeroize(&mut *v);
        assert_eq!((v.len(), v.capacity()), (0, 8));
        // SAFETY: the wipe initialised all of them with zeroes.
        unsafe { v.set_len(8) };
        assert_eq!(&**v, &[0; 8]);
        let mut b = Zeroizing::new(KBox::new([0xff_u8; 32], NOW).unwrap());
        zeroize::Zeroize::zeroize(&mut *b);
        assert_eq!(**b, [0; 32]);
    });
}

#[test]
fn waiting_allocations_fail_too() {
    audited(|account| {
        // SAFETY: a test's thread may sleep.
        let cx = unsafe { Sleepable::assume() };
        account.fail_nth(1);
        assert!(KBox::new(1, How::Wait(&cx)).is_err());
        assert_eq!(*KBox::new(1, How::Wait(&cx)).unwrap(), 1);
    });
    assert_eq!(AllocError.to_string(), "out of memory");
}
