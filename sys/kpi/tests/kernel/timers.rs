// SPDX-License-Identifier: BSD-2-Clause
//! Timers, tasks, locks, randomness and the clock, straight.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hostkern::sim::{Host, Sim};
use kpi::callout::{Callout, Expire};
use kpi::epoch::EpochArc;
use kpi::sync::{Mutex, RwLock, SxLock};
use kpi::taskq::{CpuTasks, CpuWork, Group, ncpus};
use kpi::time::uptime_ns;
use kpi::{How, KArc, Sleepable};

use crate::seeds;

fn world(seed: u64) -> (Sim, Host) {
    let sim = Sim::new(seed);
    let host = sim.host("h", &["192.0.2.1"]);
    (sim, host)
}

fn in_process<R>(sim: &Sim, host: &Host, f: impl FnOnce(&Sleepable) -> R) -> R {
    sim.process(host, || {
        // SAFETY: a process of the simulated kernel, outside of everything.
        let cx = unsafe { Sleepable::assume() };
        f(&cx)
    })
}

/// Counts, and arms itself again so many times.
struct Counter {
    timer: Callout<Counter>,
    fired: AtomicUsize,
    again: AtomicUsize,
    last: AtomicU64,
}

impl Expire for Counter {
    fn expire(this: &EpochArc<Self>) {
        this.fired.fetch_add(1, Ordering::Relaxed);
        this.last.store(uptime_ns(), Ordering::Relaxed);
        if this.again.load(Ordering::Relaxed) > 0 {
            this.again.fetch_sub(1, Ordering::Relaxed);
            this.timer.arm_at(uptime_ns() + 10);
        }
    }
}

fn counter(cx: &Sleepable, again: usize) -> EpochArc<Counter> {
    let c = Counter {
        timer: Callout::new(How::Wait(cx)).unwrap(),
        fired: AtomicUsize::new(0),
        again: AtomicUsize::new(again),
        last: AtomicU64::new(0),
    };
    let c = EpochArc::new(c, How::Wait(cx)).ok().unwrap();
    c.timer.arm_at(1);
    c.timer.bind(c.clone());
    c
}

#[test]
fn timer_life() {
    for seed in 0..seeds(20) {
        let (sim, host) = world(seed);
        let c = in_process(&sim, &host, |cx| counter(cx, 2));
        sim.run_for(Duration::from_secs(1));
        assert_eq!(
            c.fired.load(Ordering::Relaxed),
            0,
            "armed before it had a target"
        );

        let at = sim.now() + 1_000_000;
        in_process(&sim, &host, |_| {
            c.timer.arm_at(at + 500);
            c.timer.arm_at(at);
            c.timer.arm_at(at + 700);
        });
        sim.run_for(Duration::from_micros(999));
        assert_eq!(c.fired.load(Ordering::Relaxed), 0);
        sim.run_for(Duration::from_secs(1));
        assert_eq!(
            c.fired.load(Ordering::Relaxed),
            3,
            "once, and twice by itself"
        );
        assert!(c.last.load(Ordering::Relaxed) >= at + 20);

        in_process(&sim, &host, |_| c.timer.arm_at(sim.now() + 1000));
        in_process(&sim, &host, |_| c.timer.stop());
        sim.run_for(Duration::from_secs(1));
        assert_eq!(c.fired.load(Ordering::Relaxed), 3, "stopped");

        in_process(&sim, &host, |_| c.timer.arm_at(sim.now() + 1000));
        in_process(&sim, &host, |cx| c.timer.drain(cx));
        in_process(&sim, &host, |_| c.timer.arm_at(sim.now() + 1000));
        sim.run_for(Duration::from_secs(1));
        assert_eq!(c.fired.load(Ordering::Relaxed), 3, "dead");
        in_process(&sim, &host, |_| drop(c));
        sim.run_until_idle();
        sim.kernel().assert_no_leaks();
    }
}

/// A handler that always arms itself again cannot escape a drain.
#[test]
fn drain_ends_a_persistent_timer() {
    for seed in 0..seeds(50) {
        let (sim, host) = world(seed);
        sim.preempt_one_in(2);
        let c = in_process(&sim, &host, |cx| counter(cx, usize::MAX));
        in_process(&sim, &host, |_| c.timer.arm_at(sim.now() + 5));
        sim.run_for(Duration::from_micros(seed));
        in_process(&sim, &host, |cx| c.timer.drain(cx));
        let fired = c.fired.load(Ordering::Relaxed);
        sim.run_for(Duration::from_millis(1));
        assert_eq!(c.fired.load(Ordering::Relaxed), fired);
        in_process(&sim, &host, |_| drop(c));
        sim.run_until_idle();
        sim.kernel().assert_no_leaks();
    }
}

struct Work {
    runs: [AtomicUsize; 8],
}

impl CpuWork for Work {
    fn run(&self, cpu: usize, _cx: &Sleepable) {
        self.runs[cpu].fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn tasks() {
    let (sim, host) = world(3);
    let (work, tasks) = in_process(&sim, &host, |cx| {
        let work = KArc::new(
            Work {
                runs: Default::default(),
            },
            How::Wait(cx),
        )
        .unwrap();
        let tasks = CpuTasks::new(work.clone(), Group::Fast, c"test", cx).unwrap();
        (work, tasks)
    });
    in_process(&sim, &host, |_| {
        assert_eq!(ncpus(), 4);
        for cpu in [0, 1, 1, 5, 3] {
            tasks.enqueue(cpu);
        }
    });
    sim.run_until_idle();
    let runs = || {
        work.runs
            .iter()
            .map(|r| r.load(Ordering::Relaxed))
            .collect::<Vec<_>>()
    };
    let before = runs();
    assert!(before[0] == 1 && (1..=3).contains(&before[1]) && before[2] == 0 && before[3] == 1);

    in_process(&sim, &host, |cx| {
        tasks.enqueue(2);
        tasks.drain(cx);
        tasks.enqueue(2);
    });
    sim.run_until_idle();
    let mut after = before.clone();
    after[2] = 1;
    assert_eq!(runs(), after, "drained, then nothing more");
    in_process(&sim, &host, |_| drop((tasks, work)));
    sim.run_until_idle();
    sim.kernel().assert_no_leaks();
}

#[test]
fn locks() {
    let (sim, host) = world(4);
    in_process(&sim, &host, |cx| {
        let m = Mutex::new(c"one", 1);
        *m.lock() += 1;
        // Moved while nobody holds it.
        let mut moved = Box::new(m);
        assert_eq!(*moved.try_lock().unwrap(), 2);
        // A try that fails does not release it.
        let held = moved.lock();
        assert!(moved.try_lock().is_none());
        drop(held);
        *moved.get_mut() += 1;
        assert_eq!(moved.into_inner(), 3);

        let rw = RwLock::new(c"two", vec![1]);
        assert_eq!(rw.read().len(), 1);
        rw.write().push(2);
        let sx = SxLock::new(c"three", rw);
        assert_eq!(sx.read(cx).read().len(), 2);
        let held = sx.read(cx);
        assert!(sx.try_write().is_none());
        drop(held);
        assert_eq!(sx.try_write().map(|held| held.read().len()), Some(2));
        sx.write(cx).get_mut().push(3);
        assert_eq!(sx.into_inner().into_inner(), [1, 2, 3]);
    });
    sim.kernel().assert_no_leaks();
}

#[test]
fn clocks_and_numbers() {
    let (sim, host) = world(5);
    in_process(&sim, &host, |_| {
        assert_eq!(uptime_ns(), sim.now());
        assert!(kpi::time::realtime().0 > 1_500_000_000);
        let mut b = [0; 64];
        kpi::random::fill(&mut b);
        assert_ne!(b, [0; 64]);
        assert_ne!(kpi::random::u32(), kpi::random::u32());
        assert_eq!(kpi::fpu::with_vector(|| 5), 5);
    });
}
