// SPDX-License-Identifier: BSD-2-Clause
//! Real mode's locks, epochs, callouts and tasks under many threads.

mod common;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::*;
use hostkern::backend::*;
use hostkern::threads::{RealKernel, boot};
use hostkern::{Config, Kernel, Packet};

/// Miri is some thousand times slower.
const N: u64 = if cfg!(miri) { 20 } else { 20_000 };

/// A network inside the process: ports of one address.
#[derive(Default)]
struct Loopback(Arc<Mutex<HashMap<SocketAddr, UdpRx>>>);

struct Port {
    all: Arc<Mutex<HashMap<SocketAddr, UdpRx>>>,
    local: SocketAddr,
}

impl Backend for Loopback {
    fn udp_bind(&self, bind: &UdpBind, rx: UdpRx) -> Result<Arc<dyn UdpPort>, Errno> {
        self.0.lock().unwrap().insert(bind.addr, rx);
        Ok(Arc::new(Port {
            all: self.0.clone(),
            local: bind.addr,
        }))
    }
    fn if_attach(&self, _: &str, _: u32, _: TunRx) -> Result<Option<Arc<dyn TunPort>>, Errno> {
        Ok(None)
    }
}

impl UdpPort for Port {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }
    fn send(&self, p: Packet, _dst: &SocketAddr, _src: Option<SocketAddr>) -> Result<(), Errno> {
        drop(p);
        Ok(())
    }
    fn close(&self) {
        self.all.lock().unwrap().remove(&self.local);
    }
}

fn kernel() -> RealKernel {
    boot(&Config::default(), Arc::new(Loopback::default()), None).unwrap()
}

fn on_threads(k: &Arc<Kernel>, n: usize, f: impl Fn(usize) + Sync) {
    let host = k.vnet(0).unwrap();
    std::thread::scope(|s| {
        for i in 0..n {
            let (f, host) = (&f, &host);
            s.spawn(move || k.process(host, || f(i)));
        }
    });
}

#[test]
fn mutual_exclusion() {
    let k = kernel();
    let host = k.host();
    let (m, rw) = k.process(&host, || (Mtx::new(c"m"), Rw::new(c"rw")));
    let (plain, pair) = (AtomicU64::new(0), (AtomicU64::new(0), AtomicU64::new(0)));
    on_threads(&k, 4, |i| {
        for _ in 0..N {
            m.lock();
            // Not one atomic step: only the lock keeps the count right.
            plain.store(plain.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            m.unlock();
            if i == 0 {
                rw.wlock();
                pair.0
                    .store(pair.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                pair.1
                    .store(pair.1.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                rw.wunlock();
            } else {
                rw.rlock();
                assert_eq!(
                    pair.0.load(Ordering::Relaxed),
                    pair.1.load(Ordering::Relaxed)
                );
                rw.runlock();
            }
        }
    });
    assert_eq!(plain.load(Ordering::Relaxed), 4 * N);
    assert_eq!(pair.0.load(Ordering::Relaxed), N);
    k.process(&host, || {
        m.destroy();
        rw.destroy();
    });
    assert_eq!(k.leaks(), Vec::<String>::new());
}

#[test]
fn readers_never_see_freed_memory() {
    struct Node {
        alive: AtomicBool,
    }
    let k = kernel();
    let host = k.host();
    let node = || {
        Box::into_raw(Box::new(Node {
            alive: AtomicBool::new(true),
        }))
    };
    let slot = AtomicPtr::new(node());
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                k.process(&host, || {
                    while !stop.load(Ordering::Relaxed) {
                        let e = Section::enter();
                        let p = slot.load(Ordering::Acquire);
                        for _ in 0..8 {
                            // SAFETY: loaded in this section, so the callback has not run.
                            assert!(unsafe { (*p).alive.load(Ordering::Relaxed) });
                            std::hint::spin_loop();
                        }
                        e.exit();
                    }
                });
            });
        }
        k.process(&host, || {
            for i in 0..N / 10 {
                let old = AtomicPtr::new(slot.swap(node(), Ordering::AcqRel));
                let free = move || {
                    // SAFETY: unlinked before, and a grace period has passed.
                    let b = unsafe { Box::from_raw(old.into_inner()) };
                    b.alive.store(false, Ordering::Relaxed);
                };
                if i % 100 == 0 {
                    epoch_wait();
                    free();
                } else {
                    defer(free);
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
    k.quiesce();
    // SAFETY: all readers are gone.
    drop(unsafe { Box::from_raw(slot.into_inner()) });
    assert_eq!(k.leaks(), Vec::<String>::new());
}

#[test]
fn no_enqueue_is_lost() {
    let k = kernel();
    let host = k.host();
    let (wanted, seen) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let (w, s) = (wanted.clone(), seen.clone());
    let task = k.process(&host, || {
        Work::new(1, move || {
            // Whatever was wanted before the enqueue that led here is seen.
            while s.read() < w.read() {
                s.add();
            }
        })
    });
    on_threads(&k, 3, |_| {
        for _ in 0..N {
            wanted.add();
            task.enqueue();
        }
    });
    let end = Instant::now() + Duration::from_secs(20);
    while seen.read() < 3 * N && Instant::now() < end {
        std::thread::yield_now();
    }
    assert_eq!(seen.read(), 3 * N);
    k.process(&host, || task.detach());
    assert_eq!(k.leaks(), Vec::<String>::new());
}

#[test]
fn blocking_a_task_is_final() {
    let k = kernel();
    let host = k.host();
    for _ in 0..N / 100 + 1 {
        let blocked = Arc::new(AtomicBool::new(false));
        let b = blocked.clone();
        let task = k.process(&host, || {
            Work::new(0, move || {
                assert!(!b.load(Ordering::SeqCst), "ran after it was blocked")
            })
        });
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                k.process(&host, || {
                    while !stop.load(Ordering::Relaxed) {
                        task.enqueue();
                    }
                });
            });
            k.process(&host, || {
                std::thread::yield_now();
                task.block();
                blocked.store(true, Ordering::SeqCst);
                assert_eq!(task.enqueue(), 35);
            });
            stop.store(true, Ordering::Relaxed);
        });
        k.process(&host, || task.detach());
    }
    assert_eq!(k.leaks(), Vec::<String>::new());
}

#[test]
fn drained_callouts_are_quiet() {
    let k = kernel();
    let host = k.host();
    for i in 0..N / 100 + 1 {
        let (drained, fired) = (Arc::new(AtomicBool::new(false)), Arc::new(Count::default()));
        let (d, f) = (drained.clone(), fired.clone());
        k.process(&host, || {
            let t = Timer::new(move || {
                assert!(!d.load(Ordering::SeqCst), "fired after it was drained");
                f.add();
            });
            t.at(k.uptime_ns());
            if i % 2 == 0 {
                std::thread::yield_now();
            }
            if i % 10 == 0 {
                while fired.read() == 0 {
                    std::thread::yield_now();
                }
            }
            t.drain();
            drained.store(true, Ordering::SeqCst);
            t.free();
        });
    }
    assert_eq!(k.leaks(), Vec::<String>::new());
}

#[test]
fn callouts_come_in_time_and_order() {
    let k = kernel();
    let host = k.host();
    let order = Arc::new(Mutex::new(Vec::new()));
    // Far enough ahead that all are armed before the first fires.
    let ahead = if cfg!(miri) { 5000 } else { 200 };
    let start = k.uptime_ns() + ahead * 1_000_000;
    let timers: Vec<Timer> = k.process(&host, || {
        [30u64, 10, 20]
            .into_iter()
            .map(|ms| {
                let (o, k) = (order.clone(), Arc::clone(&k));
                let t = Timer::new(move || {
                    assert!(k.uptime_ns() >= start + ms * 1_000_000);
                    o.lock().unwrap().push(ms);
                });
                t.at(start + ms * 1_000_000);
                t
            })
            .collect()
    });
    let end = Instant::now() + Duration::from_secs(60);
    while order.lock().unwrap().len() < 3 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(*order.lock().unwrap(), [10, 20, 30]);
    k.process(&host, || {
        for t in timers {
            t.drain();
            t.free();
        }
    });
}

#[test]
fn mbufs_move_between_threads() {
    let k = kernel();
    let host = k.host();
    let (tx, rx) = std::sync::mpsc::sync_channel::<Packet>(64);
    std::thread::scope(|s| {
        s.spawn(|| {
            let tx = tx;
            k.process(&host, || {
                for i in 0..N {
                    let p =
                        Packet::from_slice(&i.to_le_bytes().repeat(1 + i as usize % 300)).unwrap();
                    let two = p.share();
                    drop(two);
                    tx.send(p).unwrap();
                }
            });
        });
        k.process(&host, || {
            for (i, p) in (0..N).zip(rx.iter()) {
                assert_eq!(&p.to_vec()[..8], i.to_le_bytes());
            }
        });
    });
    assert_eq!(k.leaks(), Vec::<String>::new());
}

#[test]
#[should_panic(expected = "[lock-order]")]
fn lock_order_across_threads() {
    let k = kernel();
    let host = k.host();
    let (a, b) = k.process(&host, || (Mtx::new(c"a"), Mtx::new(c"b")));
    on_threads(&k, 1, |_| {
        a.lock();
        b.lock();
        b.unlock();
        a.unlock();
    });
    k.process(&host, || {
        b.lock();
        a.lock();
    });
}

#[test]
#[should_panic(expected = "[mbuf-double-free]")]
fn double_free() {
    let k = kernel();
    let host = k.host();
    k.process(&host, || {
        let m = Packet::from_slice(b"x").unwrap().into_raw();
        // SAFETY: pooled memory stays mapped; the rule panics.
        unsafe {
            hostkern::mbuf::m_freem(m);
            hostkern::mbuf::m_freem(m);
        }
    });
}

#[test]
fn flushes_come_at_the_end() {
    struct F(AtomicU64);
    impl Flush for F {
        fn flush(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let k = kernel();
    let host = k.host();
    let f = Arc::new(F(AtomicU64::new(0)));
    let dynamic: Arc<dyn Flush> = f.clone();
    k.process(&host, || {
        for _ in 0..5 {
            flush_later(&dynamic);
        }
        assert_eq!(f.0.load(Ordering::SeqCst), 0);
    });
    assert_eq!(f.0.load(Ordering::SeqCst), 1);
}

#[test]
fn a_reader_waits_until_the_tasks_have_caught_up() {
    use hostkern::pace::Pace;
    let k = kernel();
    let host = k.host();
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let work = k.process(&host, || {
        Work::new(0, move || gate.lock().unwrap().recv().unwrap())
    });
    let mut pace = Pace::default();
    // Below the window, or with idle tasks, nobody waits.
    k.catch_up(&mut pace, 511, &|| false);
    k.catch_up(&mut pace, 1, &|| false);
    k.process(&host, || work.enqueue());
    k.catch_up(&mut pace, 511, &|| false);
    // One more: the task is in the way until its gate opens.
    let looked = AtomicU64::new(0);
    k.catch_up(&mut pace, 1, &|| {
        // Only a reader that waits asks whether to stop; the gate opens at its third question.
        if looked.fetch_add(1, Ordering::SeqCst) == 2 {
            open.send(()).unwrap();
        }
        false
    });
    assert!(looked.load(Ordering::SeqCst) >= 3);
    // A reader that is to end does not wait.
    k.process(&host, || work.enqueue());
    k.catch_up(&mut pace, 512, &|| true);
    open.send(()).unwrap();
    k.process(&host, || work.detach());
}
