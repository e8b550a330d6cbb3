// SPDX-License-Identifier: BSD-2-Clause
//! Real mode's machine: a thread for each CPU's task queue, one for callouts, one for epoch
//! callbacks.
//!
//! Nothing here is on the packet path but [`Machine::kick_task`] and [`Machine::wakeup`], which are
//! a load when nobody waits.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crate::backend::Backend;
use crate::kernel::{Config, Kernel, Machine};
use crate::task::Queue;

/// How long an idle thread sleeps before it looks whether to stop. Sleeping is by a clock that stands still while the
/// machine is suspended; so this is also how late a timer may be that became due meanwhile.
const IDLE: Duration = Duration::from_millis(200);

#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    cv: Condvar,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        *self.lock() = true;
        self.cv.notify_all();
    }

    fn wait(&self, timeout: Duration) {
        let mut g = self.lock();
        if !*g {
            g = self
                .cv
                .wait_timeout(g, timeout)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *g = false;
    }
}

/// The host's uptime, time in suspend included: sessions and cookies age by it, as in a kernel. Never zero, which drivers
/// take for "never".
#[cfg(feature = "real")]
fn since_boot() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::Boottime);
    let secs = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(secs, nanos).max(Duration::from_nanos(1))
}

/// Without the host's calls, for tests on any system: time since the first call.
#[cfg(not(feature = "real"))]
fn since_boot() -> Duration {
    static BEGIN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let begin = BEGIN.get_or_init(std::time::Instant::now);
    begin.elapsed() + Duration::from_secs(1)
}

type Body = Box<dyn FnOnce(&Arc<Kernel>, &Shared) + Send>;

struct Shared {
    log: bool,
    callouts: Bell,
    epochs: Bell,
    /// Threads in `wait`.
    waiters: AtomicUsize,
    done: Bell,
    random: Mutex<RandomPool>,
}

/// Bytes of the host's generator, fetched in blocks.
struct RandomPool {
    source: std::fs::File,
    buf: Box<[u8; 4096]>,
    left: usize,
}

impl RandomPool {
    fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.left == 0 {
                self.source
                    .read_exact(&mut self.buf[..])
                    .expect("the host's random generator");
                self.left = self.buf.len();
            }
            let n = out.len().min(self.left);
            let at = self.buf.len() - self.left;
            let (now, later) = out.split_at_mut(n);
            now.copy_from_slice(&self.buf[at..at + n]);
            // Handed out once: they may become keys.
            self.buf[at..at + n].fill(0);
            self.left -= n;
            out = later;
        }
    }
}

#[derive(Clone)]
struct ThreadMachine(Arc<Shared>);

impl Machine for ThreadMachine {
    fn is_sim(&self) -> bool {
        false
    }

    fn uptime_ns(&self) -> u64 {
        since_boot().as_nanos() as u64
    }

    /// The host reads its clock without a system call, so there is nothing to save.
    fn uptime_coarse_ns(&self) -> u64 {
        self.uptime_ns()
    }

    fn realtime(&self) -> Duration {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
    }

    fn random(&self, buf: &mut [u8]) {
        self.0
            .random
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill(buf);
    }

    /// Each thread stays on one, so that work which it starts goes to the same task's thread.
    fn cpu(&self, ncpu: usize) -> usize {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        NUMBER.with(|n| n % ncpu)
    }

    /// The host's stacks have a thousand times the size.
    fn stack_is_shallow(&self) -> bool {
        true
    }

    fn wait(&self, _what: &str, done: &mut dyn FnMut() -> bool) {
        if done() {
            return;
        }
        crate::backend::flush_now();
        self.0.waiters.fetch_add(1, Ordering::SeqCst);
        let mut pause = Duration::from_micros(20);
        while !done() {
            // The end of an epoch section rings nothing, so that sections stay cheap: look again
            // soon.
            self.0.done.wait(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
        }
        self.0.waiters.fetch_sub(1, Ordering::SeqCst);
    }

    fn wakeup(&self) {
        if self.0.waiters.load(Ordering::Relaxed) != 0 {
            self.0.done.ring();
        }
    }

    fn kick_task(&self, _cpu: usize) {
        // The queue has woken its thread.
    }

    fn kick_callout(&self) {
        self.0.callouts.ring();
    }

    fn kick_epoch(&self) {
        self.0.epochs.ring();
    }

    fn log(&self, line: &str) {
        if self.0.log {
            eprintln!("{line}");
        }
    }
}

/// A kernel on the host's threads. Dropping it stops them.
pub struct RealKernel {
    kernel: Arc<Kernel>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl std::ops::Deref for RealKernel {
    type Target = Arc<Kernel>;
    fn deref(&self) -> &Arc<Kernel> {
        &self.kernel
    }
}

/// Boots a kernel on the host's threads, with one vnet (number 0). `account`: books for the
/// driver's memory, for tests; they cost a lock for each allocation.
///
/// # Errors
/// When the host's random generator or a thread cannot be had.
pub fn boot(
    config: &Config,
    backend: Arc<dyn Backend>,
    account: Option<hostkern_malloc::Account>,
) -> std::io::Result<RealKernel> {
    let shared = Arc::new(Shared {
        log: config.log,
        callouts: Bell::default(),
        epochs: Bell::default(),
        waiters: AtomicUsize::new(0),
        done: Bell::default(),
        random: Mutex::new(RandomPool {
            source: std::fs::File::open("/dev/urandom")?,
            buf: Box::new([0; 4096]),
            left: 0,
        }),
    });
    let kernel = Kernel::new(config, Box::new(ThreadMachine(shared.clone())), account);
    let _ = kernel.backend.set(backend);
    kernel.add_vnet("host");
    let mut real = RealKernel {
        kernel: kernel.clone(),
        shared: shared.clone(),
        threads: Vec::new(),
    };
    let mut spawn = |name: String, f: Body| {
        let (k, s) = (kernel.clone(), shared.clone());
        let body = move || {
            let guard = AbortOnPanic;
            f(&k, &s);
            core::mem::forget(guard);
        };
        let t = std::thread::Builder::new().name(name).spawn(body)?;
        real.threads.push(t);
        std::io::Result::Ok(())
    };
    for cpu in 0..kernel.ncpu {
        spawn(
            format!("wg_tq_{cpu}"),
            Box::new(move |k, _| task_loop(k, &k.tasks.queues[cpu])),
        )?;
    }
    for n in 0..kernel.slow_tasks.queues.len() {
        spawn(
            format!("wg_slow_{n}"),
            Box::new(move |k, _| task_loop(k, &k.slow_tasks.queues[n])),
        )?;
    }
    spawn("softclock".into(), Box::new(callout_loop))?;
    spawn("epoch".into(), Box::new(epoch_loop))?;
    Ok(real)
}

/// A kernel thread that panics takes the machine with it.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        std::process::abort();
    }
}

fn stopping(k: &Kernel) -> bool {
    k.stopping.load(Ordering::Acquire)
}

fn task_loop(k: &Arc<Kernel>, q: &Queue) {
    while !stopping(k) {
        if q.wait_for_work(IDLE) {
            while q.run_one(k) {}
        }
    }
}

fn callout_loop(k: &Arc<Kernel>, s: &Shared) {
    while !stopping(k) {
        let now = k.machine.uptime_ns();
        if k.callouts.run(k, now, 0) {
            continue;
        }
        let pause = match k.callouts.next() {
            Some(t) => Duration::from_nanos(t.saturating_sub(k.machine.uptime_ns())).min(IDLE),
            None => IDLE,
        };
        if !pause.is_zero() {
            s.callouts.wait(pause);
        }
    }
}

fn epoch_loop(k: &Arc<Kernel>, s: &Shared) {
    let mut pause = IDLE;
    while !stopping(k) {
        s.epochs.wait(pause);
        k.epoch.run_ready(k);
        // Callbacks that wait for a section are looked at again soon: the end of a section rings
        // nothing.
        pause = if k.epoch.has_pending() {
            Duration::from_micros(200)
        } else {
            IDLE
        };
    }
}

impl RealKernel {
    /// The kernel's one vnet.
    ///
    /// # Panics
    /// Never: [`boot`] makes it.
    pub fn host(&self) -> Arc<crate::vnet::Vnet> {
        self.kernel.vnet(0).expect("vnet 0")
    }

    /// Waits until the epoch callbacks queued so far have run.
    pub fn quiesce(&self) {
        crate::thread::enter(&self.kernel, crate::thread::Kind::Process, None, || {
            crate::epoch::epoch_drain_callbacks(core::ptr::null_mut());
        });
    }
}

impl Drop for RealKernel {
    fn drop(&mut self) {
        self.kernel.stopping.store(true, Ordering::Release);
        self.shared.callouts.ring();
        self.shared.epochs.ring();
        let (fast, slow) = (&self.kernel.tasks, &self.kernel.slow_tasks);
        for q in fast.queues.iter().chain(&slow.queues) {
            q.kick();
        }
        for t in self.threads.drain(..) {
            // A thread that panicked has said so; the kernel is going anyway.
            let _ = t.join();
        }
    }
}
