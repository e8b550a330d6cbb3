// SPDX-License-Identifier: BSD-2-Clause
//! The per-CPU tasks that seal and open packets.
//!
//! Each packet is given to one CPU's queue, round-robin, whichever peer it belongs to, and keeps
//! its place in the peer's serial queue. A small packet that comes alone is not worth the wake-up of
//! another CPU: it is sealed on the one that it is on, and opened by the thread that brought it. A
//! CPU that has done its own packets takes those of the others: an interrupt thread may keep one
//! busy for long, and what waits for it would hold up its peers, as delivery is in order.
//!
//! A task takes a batch of packets and goes through three phases: make each packet one writable
//! buffer (allocates), run the cipher over them with the vector unit held, a portion at a time
//! (neither allocates nor frees), hand in the tickets and deliver what is finished, in order (sends
//! and receives).
//!
//! The task that finishes the packet at the head of a serial queue delivers it, so a packet costs
//! one hand-over between tasks and not two.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use kpi::callout::{Callout, Expire};
use kpi::crew::Crew;
use kpi::epoch::{EpochArc, net_epoch};
use kpi::serial::{Drained, Ticket};
use kpi::taskq::ncpus;
use kpi::thread::{curcpu, stack_is_shallow};
use kpi::time::uptime_coarse_ns;
use kpi::{AllocError, How, KArc, KBox, Sleepable};
use wg::wg_crypto::Aead;

use crate::budget::Budget;
use crate::peer::Peer;
use crate::receive::{Delivery, OpenJob};
use crate::send::SealJob;
use crate::softc::Softc;

/// Jobs that a task takes at once. Their packets are bounded by a [`Budget`].
const BATCH_JOBS: usize = 32;
/// Batches after which a task lets others on its CPU run.
const BATCHES_A_RUN: usize = 16;
/// A packet of up to this many bytes, before which nothing waits, stays on its CPU: to wake another
/// one takes longer than to seal or open it. It is what a request, its answer and TCP's
/// acknowledgements are; a flow that fills the line has larger ones, or more than one at a time.
const NEAR_BYTES: usize = 512;
/// Packets of an interface that are opened where they come in, in [`HERE_PERIOD_NS`]. Under more
/// load than that, all CPUs shall share it.
const HERE_PACKETS: usize = 64;
/// A millisecond, or a tick of the clock if that is longer.
const HERE_PERIOD_NS: u64 = 1_000_000;
const NS_PER_MS: u64 = 1_000_000;
/// A CPU that was woken and has not come for so many milliseconds has no time for us.
const LATE_MS: usize = 2;
/// How soon after a wake-up the watch looks, in nanoseconds.
const WATCH_NS: u64 = 10_000_000;
/// Packets that one peer may have delivered before others get their turn.
const DELIVERY_LIMIT: usize = 256;

/// What waits in a CPU's queue.
pub(crate) enum Job {
    Seal(Ticket<SealJob>),
    Open(Ticket<OpenJob>),
    /// The peer may have finished packets to send.
    Send(EpochArc<Peer>),
    /// The peer may have finished packets that were received.
    Receive(EpochArc<Peer>),
    /// A peer's finished packets to send were more than one turn's worth.
    ResumeSend(EpochArc<Peer>),
    /// The same for received packets.
    ResumeReceive(EpochArc<Peer>),
}

/// The queues of all CPUs.
pub(crate) struct Workers {
    crew: Crew<Job>,
    next: AtomicUsize,
    /// Looks for a CPU that is late, a while after one was woken.
    watch: Callout<Watch>,
    /// The period in which packets were last opened where they came in, and how many then.
    here_period: AtomicU64,
    here: AtomicUsize,
}

impl Workers {
    #[inline(never)] // Its queues are large on their way to their places.
    fn new(ncpus: usize, packets: usize, how: How<'_>) -> Result<KBox<Self>, AllocError> {
        let crew = Crew::new(ncpus, packets, LATE_MS, how)?;
        let watch = Callout::new(how)?;
        KBox::new_with(how, || Self {
            crew,
            watch,
            next: AtomicUsize::new(0),
            here_period: AtomicU64::new(0),
            here: AtomicUsize::new(0),
        })
    }

    /// Whether a queue has room, as far as one can tell without taking it; the one whose turn it is
    /// is asked first. Asked before a packet gets its place in a serial queue.
    fn has_room(&self) -> bool {
        self.crew.has_room(self.next.load(Ordering::Relaxed))
    }

    /// Counts a packet that could be opened where it came in; whether it may.
    fn stays_here(&self) -> bool {
        let period = uptime_coarse_ns() / HERE_PERIOD_NS;
        if self.here_period.load(Ordering::Relaxed) != period {
            self.here_period.store(period, Ordering::Relaxed);
            self.here.store(0, Ordering::Relaxed);
        }
        self.here.fetch_add(1, Ordering::Relaxed) < HERE_PACKETS
    }
}

/// The time as a crew knows it.
fn now_ms() -> usize {
    usize::try_from(uptime_coarse_ns() / NS_PER_MS).unwrap_or(0)
}

/// What the watch is for.
pub(crate) struct Watch(KArc<Softc>);

impl Expire for Watch {
    /// Packets may wait for a CPU that has no time for us, and no others come that would bring
    /// another one to work.
    fn expire(this: &EpochArc<Self>) {
        let sc = &this.0;
        let Some(Workers { crew, .. }) = sc.workers.get() else {
            return;
        };
        if let Some(at) = crew.relieve(now_ms()) {
            sc.enqueue_packet_task(at);
        }
        if crew.is_waiting() {
            sc.watch();
        }
    }
}

impl Softc {
    /// Makes the queues, if they are not there. They are large, so an interface that never was up
    /// has none.
    pub(crate) fn make_queues(this: &KArc<Self>, cx: &Sleepable) -> Result<(), AllocError> {
        if this.workers.get().is_some() {
            return Ok(());
        }
        let how = How::Wait(cx);
        let limits = &this.module.limits;
        this.control.make_queue(limits.handshakes(), how)?;
        let workers = Workers::new(ncpus(), limits.packets(), how)?;
        workers.watch.bind(EpochArc::new(Watch(this.clone()), how)?);
        // The configuration's lock is held: nobody else sets them.
        let _ = this.workers.set(workers);
        Ok(())
    }

    /// Whether there is room for a packet; see [`Workers::has_room`].
    pub(crate) fn has_room(&self) -> bool {
        self.workers.get().is_some_and(Workers::has_room)
    }

    /// For teardown: ends that for good.
    pub(crate) fn end_watch(&self, cx: &Sleepable) {
        if let Some(workers) = self.workers.get() {
            workers.watch.drain(cx);
        }
    }

    fn watch(&self) {
        let soon = uptime_coarse_ns().saturating_add(WATCH_NS);
        if let Some(workers) = self.workers.get() {
            workers.watch.arm_at(soon);
        }
    }

    /// Gives `job` to the next CPU, or to any other that has room; `Err` gives it back.
    pub(crate) fn submit(&self, job: Job) -> Result<(), Job> {
        let Some(workers) = self.workers.get() else {
            return Err(job);
        };
        let first = workers.next.fetch_add(1, Ordering::Relaxed);
        self.submit_from(first, job)
    }

    /// Gives the job of a packet to a CPU: to this one if that serves it sooner. `bytes` are the
    /// packet's, `waiting` the jobs before it in its peer's serial queue.
    pub(crate) fn submit_packet(&self, job: Job, bytes: usize, waiting: usize) -> Result<(), Job> {
        if waiting == 0 && bytes <= NEAR_BYTES {
            let here = curcpu();
            if self.workers.get().is_some_and(|w| w.crew.is_free(here)) {
                return self.submit_from(here, job);
            }
        }
        self.submit(job)
    }

    /// Opens and delivers a packet in the thread that brought it, if that is the best for it: it is
    /// small, nothing waits before it, there is little to do in all, its cipher does not sleep, and
    /// the thread's stack has room for the network stack once more. Otherwise gives the ticket to a
    /// CPU, as [`Softc::submit_packet`] does.
    pub(crate) fn open_packet(
        &self,
        mut ticket: Ticket<OpenJob>,
        waiting: usize,
    ) -> Result<(), Job> {
        let bytes = ticket.bytes();
        let here = waiting == 0
            && bytes <= NEAR_BYTES
            && !ticket.may_sleep()
            && stack_is_shallow()
            && self.workers.get().is_some_and(Workers::stays_here);
        if !here {
            return self.submit_packet(Job::Open(ticket), bytes, waiting);
        }
        let aead = self.module.aead();
        let peer = ticket.peer().clone();
        ticket.prepare();
        aead.batch(&mut || {
            // A whole portion has room for it.
            let _ = ticket.open(aead, &mut Budget::new());
        });
        ticket.finish();
        self.deliver_opened(&peer, false);
        Ok(())
    }

    /// Gives `job` to the CPU whose turn is `first`, or to the first after it that has room and
    /// time. One wake-up serves every job that arrives before the task looks.
    fn submit_from(&self, first: usize, job: Job) -> Result<(), Job> {
        let Some(workers) = self.workers.get() else {
            return Err(job);
        };
        if let Some(at) = workers.crew.push(first, job, now_ms())? {
            self.enqueue_packet_task(at);
            self.watch();
        }
        Ok(())
    }

    /// The body of the task of CPU `at`.
    pub(crate) fn run_packets(&self, at: usize) {
        let Some(Workers { crew, .. }) = self.workers.get() else {
            return;
        };
        crew.begin(at);
        for _ in 0..BATCHES_A_RUN {
            let mut batch = Batch::new();
            batch.fill(|| crew.take(at));
            if batch.is_empty() {
                return;
            }
            batch.run(self);
        }
        if crew.call(at, now_ms()) {
            self.enqueue_packet_task(at);
        }
    }

    /// Throws away all that is queued. For teardown, when no task runs and nothing is submitted
    /// any more: a ticket in a queue and the job in the serial queue keep their peer alive, also
    /// one that was removed and that nobody else knows.
    pub(crate) fn discard_jobs(&self) {
        let Some(workers) = self.workers.get() else {
            return;
        };
        while let Some(job) = workers.crew.take(0) {
            match job {
                Job::Seal(ticket) => {
                    let peer = ticket.peer().clone();
                    ticket.finish();
                    self.deliver_sealed(&peer, false);
                }
                Job::Open(ticket) => {
                    let peer = ticket.peer().clone();
                    ticket.finish();
                    self.deliver_opened(&peer, false);
                }
                Job::Send(peer) => self.deliver_sealed(&peer, false),
                Job::Receive(peer) => self.deliver_opened(&peer, false),
                // The right to deliver is in these jobs; it has to be handed back.
                Job::ResumeSend(peer) => self.deliver_sealed(&peer, true),
                Job::ResumeReceive(peer) => self.deliver_opened(&peer, true),
            }
        }
    }

    /// Leaves the rest of a delivery to a task, so that others on this CPU come first. When no
    /// queue has room, or none is served any more, the caller has to go on: the packets are
    /// finished and must leave.
    fn defer(&self, job: impl FnOnce() -> Job) -> bool {
        self.has_tasks() && self.submit(job()).is_ok()
    }

    /// Sends what is finished at the head of the peer's send queue.
    pub(crate) fn deliver_sealed(&self, peer: &EpochArc<Peer>, resume: bool) {
        net_epoch(|ep| {
            let mut resume = resume;
            loop {
                let send = |job| peer.transmit(job, ep);
                let drained = if resume {
                    peer.sealed.resume(DELIVERY_LIMIT, send)
                } else {
                    peer.sealed.drain(DELIVERY_LIMIT, send)
                };
                if drained != Drained::Limit || self.defer(|| Job::ResumeSend(peer.clone())) {
                    return;
                }
                resume = true;
            }
        });
    }

    /// Delivers what is finished at the head of the peer's receive queue.
    pub(crate) fn deliver_opened(&self, peer: &EpochArc<Peer>, resume: bool) {
        net_epoch(|ep| {
            let mut resume = resume;
            loop {
                let delivery = Delivery::new(peer, ep);
                let drained = if resume {
                    peer.opened.resume(DELIVERY_LIMIT, delivery)
                } else {
                    peer.opened.drain(DELIVERY_LIMIT, delivery)
                };
                if drained != Drained::Limit || self.defer(|| Job::ResumeReceive(peer.clone())) {
                    return;
                }
                resume = true;
            }
        });
    }
}

/// The jobs that one CPU works on together.
struct Batch {
    jobs: [Option<Job>; BATCH_JOBS],
    len: usize,
}

impl Batch {
    fn new() -> Self {
        Self {
            jobs: [const { None }; BATCH_JOBS],
            len: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes and prepares jobs until a portion is spent.
    fn fill(&mut self, mut take: impl FnMut() -> Option<Job>) {
        let mut budget = Budget::new();
        for slot in &mut self.jobs {
            if budget.is_spent() {
                return;
            }
            let Some(mut job) = take() else { return };
            match &mut job {
                Job::Seal(ticket) => {
                    ticket.prepare();
                    ticket.spend(&mut budget);
                }
                Job::Open(ticket) => {
                    ticket.prepare();
                    ticket.spend(&mut budget);
                }
                _ => {}
            }
            *slot = Some(job);
            self.len = self.len.saturating_add(1);
        }
    }

    /// Seals and opens all packets, and lets the vector unit go between portions.
    fn compute(&mut self, aead: &dyn Aead) {
        let mut jobs = self.jobs.iter_mut().flatten().peekable();
        while jobs.peek().is_some() {
            let mut budget = Budget::new();
            aead.batch(&mut || {
                while let Some(job) = jobs.peek_mut() {
                    let done = match job {
                        Job::Seal(ticket) => ticket.seal(aead, &mut budget),
                        Job::Open(ticket) => ticket.open(aead, &mut budget),
                        _ => true,
                    };
                    if !done {
                        return;
                    }
                    let _done = jobs.next();
                }
            });
        }
    }

    fn run(&mut self, sc: &Softc) {
        self.compute(sc.module.aead());
        // Every ticket first, then the deliveries: so that packets of one peer leave together.
        for slot in &mut self.jobs {
            *slot = match slot.take() {
                Some(Job::Seal(ticket)) => {
                    let peer = ticket.peer().clone();
                    ticket.finish();
                    Some(Job::Send(peer))
                }
                Some(Job::Open(ticket)) => {
                    let peer = ticket.peer().clone();
                    ticket.finish();
                    Some(Job::Receive(peer))
                }
                other => other,
            };
        }
        for job in self.jobs.iter_mut().filter_map(Option::take) {
            match job {
                Job::Send(peer) => sc.deliver_sealed(&peer, false),
                Job::Receive(peer) => sc.deliver_opened(&peer, false),
                Job::ResumeSend(peer) => sc.deliver_sealed(&peer, true),
                Job::ResumeReceive(peer) => sc.deliver_opened(&peer, true),
                Job::Seal(_) | Job::Open(_) => {}
            }
        }
    }
}
