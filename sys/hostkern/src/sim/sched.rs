// SPDX-License-Identifier: BSD-2-Clause
//! The seeded scheduler: whatever could run on some CPU at this moment is a candidate, and a random
//! one runs.
//!
//! A frame that sleeps runs the scheduler from where it sleeps. A frame that takes a lock, enters
//! or leaves an epoch section or enqueues a task may be *preempted* there: another CPU's work runs
//! in between. Time stands still while anything can run and jumps to the next deadline when nothing
//! can.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::rng::Rng;
use super::trace::Trace;
use crate::kernel::{Kernel, Machine};
use crate::mbuf::Packet;
use crate::misc::in_fpu;
use crate::task::Queue;
use crate::thread::{LockKind, ctx, kernel, try_kernel, violation};

/// How deep preemptions nest.
const MAX_DEPTH: u32 = 3;
/// Steps without time passing that are taken for a loop without end.
const LIVELOCK: u64 = 5_000_000;
/// Longest virtual time that one sleep may take.
const SLEEP_LIMIT: u64 = 3600 * 1_000_000_000;
/// Nanoseconds of a clock tick: `kern.hz` is 100.
const TICK: u64 = 10_000_000;
/// Wall clock at boot: November 2023.
const BOOT: u64 = 1_700_000_000;

type Action = Box<dyn FnOnce(&Arc<Kernel>) + Send>;

struct Event {
    action: Action,
    /// A packet or the like, which may run above a sleeping frame; a process may not, as it could
    /// need a lock of the sleeper's.
    nested: bool,
}

struct Sched {
    /// Decides who runs.
    order: Rng,
    /// What the driver gets from `kpi_random`.
    random: Rng,
    /// Decides the shapes of mbuf chains.
    shape: Rng,
    now: u64,
    clock_step: i64,
    seq: u64,
    events: BTreeMap<(u64, u64), Event>,
    depth: u32,
    preempt_one_in: u64,
    /// How long work that could run may wait for a CPU, in nanoseconds.
    latency: u64,
    shapes: bool,
    idle_steps: u64,
    explained: bool,
    steps: u64,
    /// Second references to packets that the driver got, so that it sees shared storage.
    kept: Vec<Packet>,
    /// What happens when a frame sleeps next.
    amid_sleep: Option<Action>,
}

/// Simulation's machine.
pub(crate) struct SimMachine {
    pub seed: u64,
    log: bool,
    s: Mutex<Sched>,
    trace: Mutex<Trace>,
}

impl SimMachine {
    pub fn new(seed: u64, log: bool) -> Self {
        Self {
            seed,
            log,
            s: Mutex::new(Sched {
                order: Rng::new(seed, 1),
                random: Rng::new(seed, 2),
                shape: Rng::new(seed, 3),
                now: 10_000_000_000,
                clock_step: 0,
                seq: 0,
                events: BTreeMap::new(),
                depth: 0,
                preempt_one_in: 4,
                latency: 0,
                shapes: true,
                idle_steps: 0,
                explained: false,
                steps: 0,
                kept: Vec::new(),
                amid_sleep: None,
            }),
            trace: Mutex::new(Trace::new(400)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sched> {
        self.s.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn tracer(&self) -> MutexGuard<'_, Trace> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_preempt(&self, one_in: u64) {
        self.lock().preempt_one_in = one_in;
    }

    pub fn set_latency(&self, ns: u64) {
        self.lock().latency = ns;
    }

    pub fn set_shapes(&self, on: bool) {
        self.lock().shapes = on;
    }

    pub fn step_clock(&self, seconds: i64) {
        self.lock().clock_step += seconds;
    }

    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// Lets go of the second references. Inside a frame.
    pub fn drop_kept(&self) {
        let kept = core::mem::take(&mut self.lock().kept);
        drop(kept);
    }

    /// Forgets them: after a panic nothing is freed.
    pub fn forget_kept(&self) {
        core::mem::take(&mut self.lock().kept)
            .into_iter()
            .for_each(core::mem::forget);
    }

    /// Runs `action` after `delay` nanoseconds.
    pub fn at(&self, delay: u64, nested: bool, action: Action) {
        let mut s = self.lock();
        s.seq += 1;
        let key = (s.now + delay, s.seq);
        s.events.insert(key, Event { action, nested });
    }

    /// Runs `action` when a frame sleeps next, above it.
    pub fn amid_sleep(&self, action: Action) {
        self.lock().amid_sleep = Some(action);
    }

    /// Packets and processes that are under way.
    pub fn events(&self) -> usize {
        self.lock().events.len()
    }

    pub fn add_trace(&self, line: String) {
        let now = self.lock().now;
        self.tracer().add(now, line);
    }

    /// Runs one of the things that can run now; false if there is none.
    pub fn step(&self, k: &Arc<Kernel>, nested: bool) -> bool {
        let ran = self.step_once(k, nested);
        if ran && (k.callouts.armed() <= 32 || self.steps().is_multiple_of(64)) {
            k.callouts.check_intact();
            k.tasks.check_intact();
            k.slow_tasks.check_intact();
        }
        ran
    }

    fn step_once(&self, k: &Arc<Kernel>, nested: bool) -> bool {
        let now = self.uptime_ns();
        let queues: Vec<&Queue> = k.tasks.queues.iter().chain(&k.slow_tasks.queues).collect();
        let cpus: Vec<usize> = (0..queues.len())
            .filter(|&n| queues[n].runnable())
            .collect();
        let callouts = k.callouts.due(now);
        let epoch = usize::from(k.epoch.ready());
        let mut s = self.lock();
        let due: Vec<(u64, u64)> = s
            .events
            .range(..=(now + s.latency, u64::MAX))
            .filter(|(_, e)| e.nested || !nested)
            .map(|(key, _)| *key)
            .collect();
        let total = cpus.len() + callouts + epoch + due.len();
        if total == 0 {
            return false;
        }
        s.steps += 1;
        s.idle_steps += 1;
        let livelock = s.idle_steps > LIVELOCK;
        let mut pick = s.order.below(total as u64) as usize;
        let depth = s.depth;
        drop(s);
        if livelock {
            self.explain();
            panic!("hostkern: [livelock] {LIVELOCK} steps at one moment");
        }
        if let Some(&cpu) = cpus.get(pick) {
            self.add_trace(format!("queue {cpu}: task, depth {depth}"));
            return queues[cpu].run_one(k);
        }
        pick -= cpus.len();
        if pick < callouts {
            self.add_trace(format!("callout, depth {depth}"));
            return k.callouts.run(k, now, pick);
        }
        pick -= callouts;
        if pick < epoch {
            return k.epoch.run_ready(k) > 0;
        }
        let Some(&key) = due.get(pick - epoch) else {
            return false;
        };
        let Some(event) = self.lock().events.remove(&key) else {
            return false;
        };
        self.set_now(key.0);
        (event.action)(k);
        true
    }

    /// The next deadline.
    fn next(&self, k: &Kernel, nested: bool) -> Option<u64> {
        let callout = k.callouts.next();
        let s = self.lock();
        let event = s
            .events
            .iter()
            .find(|(_, e)| e.nested || !nested)
            .map(|(key, _)| key.0);
        [callout, event].into_iter().flatten().min()
    }

    fn set_now(&self, t: u64) {
        let mut s = self.lock();
        if t > s.now {
            s.now = t;
            s.idle_steps = 0;
        }
    }

    /// Runs until `limit` on the clock, or until `stop`. True if `stop` did.
    pub fn run(&self, k: &Arc<Kernel>, limit: u64, mut stop: impl FnMut() -> bool) -> bool {
        loop {
            if stop() {
                return true;
            }
            if self.step(k, false) {
                continue;
            }
            match self.next(k, false) {
                Some(t) if t <= limit => self.set_now(t),
                _ => {
                    self.set_now(limit);
                    return stop();
                }
            }
        }
    }

    /// Runs what can run now, without letting time pass.
    pub fn settle(&self, k: &Arc<Kernel>) {
        while self.step(k, false) {}
    }

    fn shaped(&self, data: &[u8], host: bool) -> Option<Packet> {
        let (kind, cuts) = {
            let mut s = self.lock();
            if !s.shapes || data.is_empty() {
                drop(s);
                return Packet::from_slice(data);
            }
            let n = s.shape.below(3) as usize + 1;
            let mut cuts: Vec<usize> = (0..n)
                .map(|_| s.shape.below(data.len() as u64 + 1) as usize)
                .collect();
            cuts.sort_unstable();
            (s.shape.below(20), cuts)
        };
        match kind {
            // In pieces, as a socket's send buffer or a small-cluster ring makes them; some
            // unmapped.
            0..4 => {
                let mut pieces = Vec::new();
                let mut at = 0;
                for c in cuts.into_iter().chain([data.len()]) {
                    if c > at || pieces.is_empty() {
                        pieces.push(&data[at..c]);
                    }
                    at = c;
                }
                if pieces[0].is_empty() {
                    pieces.remove(0);
                }
                let p = Packet::from_pieces(&pieces)?;
                Some(if host && kind == 0 { p.unmapped() } else { p })
            }
            // One cluster with no room in front.
            4..6 => Packet::from_pieces(&[data]),
            // Storage that somebody else also holds.
            6..8 => {
                let p = Packet::from_pieces(&[data])?;
                let second = p.share()?;
                let old = {
                    let mut s = self.lock();
                    s.kept.push(second);
                    (s.kept.len() > 8).then(|| s.kept.remove(0))
                };
                drop(old);
                Some(p)
            }
            8 => Packet::from_slice(data).map(Packet::read_only),
            _ => Packet::from_slice(data),
        }
    }
}

impl Machine for Arc<SimMachine> {
    fn is_sim(&self) -> bool {
        true
    }

    fn uptime_ns(&self) -> u64 {
        SimMachine::uptime_ns(self)
    }

    fn uptime_coarse_ns(&self) -> u64 {
        SimMachine::uptime_ns(self) / TICK * TICK
    }

    fn realtime(&self) -> Duration {
        let s = self.lock();
        let base = BOOT.saturating_add_signed(s.clock_step);
        Duration::from_secs(base) + Duration::from_nanos(s.now)
    }

    fn random(&self, buf: &mut [u8]) {
        self.lock().random.fill(buf);
    }

    /// Any: drivers may not rely on where they run.
    fn cpu(&self, ncpu: usize) -> usize {
        self.lock().order.below(ncpu as u64) as usize
    }

    fn stack_is_shallow(&self) -> bool {
        self.lock().order.below(2) == 0
    }

    fn wait(&self, what: &str, done: &mut dyn FnMut() -> bool) {
        let k = kernel().arc();
        let limit = SimMachine::uptime_ns(self) + SLEEP_LIMIT;
        let amid = self.lock().amid_sleep.take();
        if let Some(action) = amid {
            action(&k);
        }
        while !done() {
            if self.step(&k, true) {
                continue;
            }
            match self.next(&k, true) {
                Some(t) if t <= limit => self.set_now(t),
                _ => violation(
                    "deadlock",
                    format_args!("sleep in {what} that nothing can end"),
                ),
            }
        }
    }

    fn wakeup(&self) {}

    fn preempt(&self) {
        if in_fpu() || std::thread::panicking() {
            return;
        }
        // A mutex or rwlock that is held would be waited for by whoever ran now.
        if ctx(|c| c.held().any(|h| h.kind != LockKind::Sx)) {
            return;
        }
        {
            let mut s = self.lock();
            if s.preempt_one_in == 0 || s.depth >= MAX_DEPTH {
                return;
            }
            let n = s.preempt_one_in;
            if s.order.below(n) != 0 {
                return;
            }
            s.depth += 1;
        }
        let k = kernel().arc();
        self.step(&k, true);
        self.lock().depth -= 1;
    }

    fn kick_task(&self, _cpu: usize) {
        self.preempt();
    }

    fn kick_callout(&self) {}

    fn kick_epoch(&self) {}

    fn log(&self, line: &str) {
        if self.log {
            eprintln!("{line}");
        }
        self.add_trace(format!("log: {line}"));
    }

    fn trace(&self, line: &str) {
        self.add_trace(line.to_string());
    }

    fn shape_datagram(&self, payload: &[u8]) -> Option<Packet> {
        self.shaped(payload, false)
    }

    fn shape_packet(&self, packet: &[u8]) -> Option<Packet> {
        self.shaped(packet, true)
    }

    fn explain(&self) {
        SimMachine::explain(self);
    }
}

impl SimMachine {
    pub fn uptime_ns(&self) -> u64 {
        self.lock().now
    }

    /// Prints the seed and what happened lately, once.
    pub fn explain(&self) {
        if core::mem::replace(&mut self.lock().explained, true) {
            return;
        }
        let frame = try_kernel().map_or(String::from("no frame"), |_| {
            ctx(|c| format!("{:?} frame, depth {}", c.kind.get(), c.depth.get()))
        });
        eprintln!(
            "{}hostkern: seed {} ({frame})",
            self.tracer().text(),
            self.seed
        );
    }
}
