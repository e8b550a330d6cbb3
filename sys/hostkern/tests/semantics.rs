// SPDX-License-Identifier: BSD-2-Clause
//! The kernel's functions do what FreeBSD's do, failures included.

mod common;

use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use common::*;
use hostkern::ifnet::*;
use hostkern::layout::{M_PKTHDR, MHLEN, mbuf};
use hostkern::mbuf::*;
use hostkern::sim::{Host, Rng, Sim, for_seeds};
use hostkern::{Packet, as_user};

fn world() -> (Sim, Host) {
    let sim = Sim::new(7);
    let h = sim.host("h", &["192.0.2.1"]);
    (sim, h)
}

fn in_process(f: impl FnOnce(&Sim)) {
    let (sim, h) = world();
    sim.process(&h, || f(&sim));
    sim.finish();
}

fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7 + i / 256) as u8).collect()
}

/// Lets C functions work on a packet's chain.
struct Chain(*mut mbuf);

impl Chain {
    fn of(pieces: &[&[u8]]) -> Self {
        let first = kpi_m_alloc(2048);
        let mut tail = first;
        for (i, piece) in pieces.iter().enumerate() {
            // SAFETY: fresh mbufs with room for the pieces.
            unsafe {
                if i > 0 {
                    let n = kpi_m_alloc(2048);
                    (*n).m_tf &= !(M_PKTHDR << 8);
                    (*tail).m_next = n;
                    tail = n;
                }
                ptr::copy_nonoverlapping(piece.as_ptr(), (*tail).m_data, piece.len());
                (*tail).m_len = piece.len() as i32;
                (*first).len += piece.len() as i32;
            }
        }
        Self(first)
    }

    fn len(&self) -> usize {
        // SAFETY: ours.
        unsafe { (*self.0).len as usize }
    }

    fn read(&self) -> Vec<u8> {
        let mut v = vec![0; self.len()];
        // SAFETY: the whole packet.
        unsafe { m_copydata(self.0, 0, v.len() as i32, v.as_mut_ptr()) };
        v
    }

    fn free(self) {
        // SAFETY: ours.
        unsafe { m_freem(self.0) }
    }
}

#[test]
fn alloc_sizes() {
    in_process(|sim| {
        for n in [
            0usize, 1, 160, 161, 2048, 2049, 4096, 9216, 16384, 16385, 65535, 131072,
        ] {
            let m = kpi_m_alloc(n as u32);
            // SAFETY: a fresh packet.
            unsafe {
                assert_eq!(((*m).m_len, (*m).len), (0, 0));
                let ext = (*m).m_tf >> 8 & 1 != 0;
                assert_eq!(ext, n > MHLEN, "{n}");
                if ext {
                    assert!((*m).ext_size as usize >= n && (*m).ext_buf == (*m).m_data);
                    assert_eq!((*m).ext_cnt as u32, 1);
                }
                m_freem(m);
            }
        }
        // A failure of either allocation leaves nothing.
        for nth in [1, 2] {
            sim.fail_nth(nth);
            assert!(kpi_m_alloc(2000).is_null());
        }
    });
}

#[test]
fn adj_against_a_model() {
    for_seeds(20, |seed| {
        in_process(|_| {
            let mut r = Rng::new(seed, 0);
            for _ in 0..50 {
                let lens: Vec<usize> = (0..1 + r.below(4)).map(|_| r.below(40) as usize).collect();
                let all = bytes(lens.iter().sum());
                let mut at = 0;
                let pieces: Vec<&[u8]> = lens
                    .iter()
                    .map(|&n| {
                        at += n;
                        &all[at - n..at]
                    })
                    .collect();
                let c = Chain::of(&pieces);
                let n = r.below(200) as i32 - 100;
                // SAFETY: ours.
                unsafe { m_adj(c.0, n) };
                let want = if n >= 0 {
                    &all[(n as usize).min(all.len())..]
                } else {
                    &all[..all.len().saturating_sub(n.unsigned_abs() as usize)]
                };
                assert_eq!(c.read(), want, "m_adj({n}) of {lens:?}");
                c.free();
            }
        });
    });
}

#[test]
fn pullup() {
    in_process(|sim| {
        let data = bytes(300);
        // SAFETY: chains of ours.
        unsafe {
            // Gathers, keeps the rest, and moves the header.
            let c = Chain::of(&[&data[..3], &data[3..10], &data[10..]]);
            let m = m_pullup(c.0, 28);
            assert!((*m).m_len >= 28);
            let c = Chain(m);
            assert_eq!(c.read(), data);
            c.free();
            // Too short: freed, nothing comes back.
            let c = Chain::of(&[&data[..10]]);
            assert!(m_pullup(c.0, 11).is_null());
            // More than fits an mbuf: freed too, even though one cluster holds it all.
            let c = Chain::of(&[&data[..250]]);
            assert!(m_pullup(c.0, 200).is_null());
            // No memory: freed.
            let c = Chain::of(&[&data[..3], &data[3..]]);
            sim.fail_nth(1);
            assert!(m_pullup(c.0, 20).is_null());
        }
    });
}

#[test]
fn prepend() {
    in_process(|sim| {
        let data = bytes(100);
        // SAFETY: chains of ours.
        unsafe {
            let c = Chain::of(&[&data]);
            let m = m_prepend(c.0, 20, 1);
            // The function, unlike the M_PREPEND macro, leaves the packet's length alone.
            assert_eq!(((*m).m_len, (*m).len), (20, 100));
            assert_eq!((*m).m_tf >> 8 & M_PKTHDR, M_PKTHDR);
            assert_eq!((*(*m).m_next).m_tf >> 8 & M_PKTHDR, 0);
            (*m).len += 20;
            m_freem(m);
            let c = Chain::of(&[&data]);
            sim.fail_nth(1);
            assert!(m_prepend(c.0, 20, 1).is_null());
        }
    });
}

#[test]
fn shared_storage_is_freed_with_the_last() {
    in_process(|_| {
        let data = bytes(3000);
        for order in [false, true] {
            let a = Packet::from_pieces(&[&data[..1000], &data[1000..]]).unwrap();
            let b = a.share().unwrap();
            let c = b.share().unwrap();
            let (first, second) = if order { (a, c) } else { (c, a) };
            drop(first);
            assert_eq!(b.to_vec(), data);
            drop(b);
            assert_eq!(second.to_vec(), data);
        }
    });
}

#[test]
fn unmapped_and_back() {
    in_process(|sim| {
        let data = bytes(500);
        let p = Packet::from_pieces(&[&data[..100], &data[100..]])
            .unwrap()
            .unmapped();
        assert_eq!(p.to_vec(), data);
        let c = Chain::of(&[&data]);
        // SAFETY: ours.
        unsafe { assert_eq!(kpi_m_mapped(c.0), c.0) };
        c.free();
        drop(p);
        let _ = sim;
    });
}

#[test]
fn headers_in_front() {
    in_process(|_| {
        let data = bytes(1000);
        for mut p in [
            Packet::from_slice(&data).unwrap(),
            Packet::from_pieces(&[&data]).unwrap(),
            Packet::from_slice(&data).unwrap().read_only(),
        ] {
            assert!(p.push_front(b"hello"));
            assert_eq!(p.len(), 1005);
            assert_eq!(
                &p.to_vec()[..7],
                &[b'h', b'e', b'l', b'l', b'o', data[0], data[1]]
            );
            p.trim_front(5);
            assert_eq!(p.to_vec(), data);
        }
    });
}

#[test]
fn callout_times() {
    let (sim, h) = world();
    let count = Arc::new(Count::default());
    let start = sim.now();
    let c = count.clone();
    let t = sim.process(&h, || Timer::new(move || c.add()));
    sim.process(&h, || t.at(start + 1_000_000));
    sim.run_for(Duration::from_micros(999));
    assert_eq!(count.read(), 0);
    sim.run_for(Duration::from_micros(1));
    assert_eq!(count.read(), 1);
    // Arming again replaces; stopping takes back; the past fires at once.
    sim.process(&h, || {
        t.at(sim.now() + 1_000);
        t.at(sim.now() + 2_000_000);
    });
    sim.run_for(Duration::from_millis(1));
    assert_eq!(count.read(), 1);
    sim.process(&h, || t.stop());
    sim.run_for(Duration::from_millis(5));
    assert_eq!(count.read(), 1);
    sim.process(&h, || t.at(1));
    sim.run_for(Duration::ZERO);
    assert_eq!(count.read(), 2);
    sim.process(&h, || {
        t.drain();
        t.free();
    });
    sim.finish();
}

#[test]
fn drain_waits_for_the_handler() {
    for_seeds(50, |seed| {
        let sim = Sim::new(seed);
        sim.preempt_one_in(2);
        let h = sim.host("h", &[]);
        let (began, ended) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let (b, e) = (began.clone(), ended.clone());
        sim.process(&h, || {
            let m = Arc::new(Mtx::new(c"m"));
            let inner = m.clone();
            let t = Timer::new(move || {
                b.add();
                inner.lock();
                inner.unlock();
                e.add();
            });
            for _ in 0..20 {
                t.at(sim.now());
                m.lock();
                m.unlock();
            }
            t.drain();
            assert_eq!(began.read(), ended.read());
            t.free();
            Arc::into_inner(m).unwrap().destroy();
        });
        sim.finish();
    });
}

#[test]
fn tasks_run_once_per_enqueue_burst() {
    let (sim, h) = world();
    sim.preempt_one_in(0);
    let count = Arc::new(Count::default());
    let c = count.clone();
    let w = sim.process(&h, || Work::new(1, move || c.add()));
    sim.process(&h, || {
        for _ in 0..5 {
            assert_eq!(w.enqueue(), 0);
        }
    });
    sim.run_until_idle();
    assert_eq!(count.read(), 1);
    // Blocking lets the queued one run; then enqueues are refused.
    sim.process(&h, || {
        w.enqueue();
        w.block();
        assert_eq!(count.read(), 2);
        assert_eq!(w.enqueue(), 35);
        w.detach();
    });
    sim.finish();
}

#[test]
fn epoch_callbacks_wait_for_sections() {
    let (sim, h) = world();
    let count = Arc::new(Count::default());
    sim.process(&h, || {
        sim.preempt_one_in(1);
        let s = Section::enter();
        let c = count.clone();
        defer(move || c.add());
        // Other sections come and go; this one is older than the callback.
        for _ in 0..50 {
            Section::enter().exit();
        }
        assert_eq!(count.read(), 0);
        s.exit();
        epoch_wait();
        hostkern::epoch::epoch_drain_callbacks(ptr::null_mut());
        assert_eq!(count.read(), 1);
    });
    sim.finish();
}

#[test]
fn nesting_tags() {
    in_process(|_| {
        let (a, b) = (if_alloc(248), if_alloc(248));
        let m = kpi_m_alloc(100);
        // SAFETY: live interfaces and a packet of ours.
        unsafe {
            assert_eq!(if_tunnel_check_nesting(a, m, 0x7767_6c70, 2), 0);
            assert_eq!(if_tunnel_check_nesting(a, m, 0x7767_6c70, 2), 5);
            assert_eq!(if_tunnel_check_nesting(b, m, 0x7767_6c70, 2), 0);
            assert_eq!(if_tunnel_check_nesting(a, m, 0x1234_5678, 2), 0);
            let c = if_alloc(248);
            assert_eq!(if_tunnel_check_nesting(c, m, 0x7767_6c70, 2), 5);
            if_free(c);
            m_tag_delete(m, (*m).tags);
            m_freem(m);
        }
        if_free(a);
        if_free(b);
    });
}

#[test]
fn user_memory_and_privilege() {
    in_process(|_| {
        let src = [1u8, 2, 3, 4];
        let mut to = [0u8; 4];
        // SAFETY: valid memory, or refused.
        unsafe {
            assert_eq!(hostkern::kpi_copyin(src.as_ptr(), to.as_mut_ptr(), 4), 0);
            assert_eq!(to, src);
            let bad = ptr::without_provenance(16);
            assert_eq!(hostkern::kpi_copyin(bad, to.as_mut_ptr(), 4), 14);
            let high = ptr::without_provenance_mut(usize::MAX - 1);
            assert_eq!(hostkern::kpi_copyout(to.as_ptr(), high, 4), 14);
        }
        assert_eq!(hostkern::kpi_priv_check(424), 0);
        assert_eq!(as_user(|| hostkern::kpi_priv_check(424)), 1);
    });
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    let run = |seed| {
        let sim = Sim::new(seed);
        sim.latency(Duration::from_micros(100));
        let h = sim.host("h", &[]);
        let work: Vec<_> = (0..4)
            .map(|cpu| {
                sim.process(&h, || {
                    Work::new(cpu, || {
                        Section::enter().exit();
                        defer(|| ());
                    })
                })
            })
            .collect();
        for _ in 0..10 {
            sim.process(&h, || work.iter().for_each(|w| assert_eq!(w.enqueue(), 0)));
            sim.run_for(Duration::from_millis(1));
        }
        let trace = sim.trace();
        sim.process(&h, || work.into_iter().for_each(Work::detach));
        let steps = sim.steps();
        sim.finish();
        (trace, steps)
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3).0, run(4).0);
}
