// SPDX-License-Identifier: BSD-2-Clause
//! gtaskqueue(9): a group of queues, one a CPU, each served by one thread.

use core::cell::Cell;
use core::ffi::{c_char, c_int, c_void};
use core::ptr;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::kernel::Kernel;
use crate::layout::{grouptask, gtask};
use crate::thread::{Kind, bind, check_sleep, enter, kernel, name_of, violation};

const TASK_ENQUEUED: u16 = 1;
const TASK_NOENQUEUE: u16 = 2;
const TASK_NETWORK: u16 = 4;
const EAGAIN: c_int = 35;
const EINVAL: c_int = 22;

thread_local! {
    /// The queue whose task runs on this thread.
    static QUEUE: Cell<*const Queue> = const { Cell::new(ptr::null()) };
}

struct Task(*mut gtask);

// SAFETY: gtaskqueue(9): a queued task stays valid, on any thread, until it is drained.
unsafe impl Send for Task {}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    /// Address of the task that runs.
    running: usize,
    /// How often the queue was found empty after a run.
    settled: u64,
    /// The queue's thread waits for work.
    idle: bool,
}

/// One CPU's queue: `struct gtaskqueue`.
pub struct Queue {
    cpu: usize,
    state: Mutex<State>,
    work: Condvar,
    /// Simulation: the queue's thread gets no time.
    pub(crate) stalled: AtomicBool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if the queue's thread has something to do and is not doing it.
    pub(crate) fn runnable(&self) -> bool {
        let s = self.lock();
        s.running == 0 && !s.tasks.is_empty() && !self.stalled.load(Ordering::Relaxed)
    }

    /// Runs the first task; false if there is none.
    pub(crate) fn run_one(&self, k: &Arc<Kernel>) -> bool {
        let mut s = self.lock();
        if s.running != 0 {
            return false;
        }
        let Some(Task(t)) = s.tasks.pop_front() else {
            return false;
        };
        s.running = t.addr();
        drop(s);
        // SAFETY: a queued task is live until drained.
        let (func, arg, before) = unsafe {
            // Acquire: what the enqueuer did before is seen by the handler. From here a new enqueue
            // queues again.
            (
                (*t).ta_func,
                (*t).ta_context,
                flags(t).fetch_and(!TASK_ENQUEUED, Ordering::AcqRel),
            )
        };
        let Some(func) = func.filter(|_| before & TASK_ENQUEUED != 0) else {
            violation(
                "task-freed",
                format_args!("a queued task was freed or overwritten"),
            );
        };
        let outer = QUEUE.replace(self);
        enter(k, Kind::Task, None, || {
            bind(self.cpu);
            if before & TASK_NETWORK != 0 {
                // SAFETY: the task's own function and context.
                crate::epoch::section(|| unsafe { func(arg) });
            } else {
                // SAFETY: as above.
                unsafe { func(arg) }
            }
        });
        QUEUE.set(outer);
        let mut s = self.lock();
        s.running = 0;
        s.settled = s.settled.wrapping_add(u64::from(s.tasks.is_empty()));
        drop(s);
        k.wakeup();
        true
    }

    /// How often the queue has become empty.
    pub(crate) fn settled(&self) -> u64 {
        self.lock().settled
    }

    /// Whether it is empty now, or has been since [`Self::settled`] said `before`.
    pub(crate) fn has_settled(&self, before: u64) -> bool {
        let s = self.lock();
        s.settled != before || s.running == 0 && s.tasks.is_empty()
    }

    /// Waits for work, for a thread that serves this queue; false after `timeout`.
    pub(crate) fn wait_for_work(&self, timeout: Duration) -> bool {
        let mut s = self.lock();
        if s.tasks.is_empty() {
            s.idle = true;
            s = self
                .work
                .wait_timeout(s, timeout)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            s.idle = false;
        }
        !s.tasks.is_empty()
    }

    /// Wakes the thread that serves this queue, if it waits.
    pub(crate) fn kick(&self) {
        if self.lock().idle {
            self.work.notify_one();
        }
    }

    fn busy(&self, t: *mut gtask) -> bool {
        let s = self.lock();
        // SAFETY: the caller's task.
        s.running == t.addr() || unsafe { flags(t) }.load(Ordering::Acquire) & TASK_ENQUEUED != 0
    }
}

unsafe fn flags<'a>(t: *mut gtask) -> &'a AtomicU16 {
    // SAFETY: the caller passes a live task; its flags are only accessed atomically while it is
    // attached.
    unsafe { AtomicU16::from_ptr(&raw mut (*t).ta_flags) }
}

/// The queues of one kernel: `struct taskqgroup`.
pub struct TaskGroup {
    pub(crate) queues: Box<[Queue]>,
    /// Attached tasks by address, with their names.
    attached: Mutex<HashMap<usize, String>>,
}

impl TaskGroup {
    /// `count` queues, one on each `stride`th CPU.
    pub(crate) fn new(count: usize, stride: usize) -> Self {
        Self {
            queues: (0..count)
                .map(|n| Queue {
                    cpu: n * stride,
                    state: Mutex::default(),
                    work: Condvar::new(),
                    stalled: AtomicBool::new(false),
                })
                .collect(),
            attached: Mutex::default(),
        }
    }

    fn attached(&self) -> MutexGuard<'_, HashMap<usize, String>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that the attached tasks are still there: see `Callouts::check_intact`.
    pub(crate) fn check_intact(&self) {
        let queues = self.queues.as_ptr_range();
        let bad = self.attached().iter().find_map(|(&a, name)| {
            let gt: *const grouptask = core::ptr::with_exposed_provenance(a);
            // SAFETY: an attached task is live, else the driver broke the rule that is checked
            // here.
            let q = unsafe { (*gt).gt_taskqueue }.cast::<Queue>().cast_const();
            (!queues.contains(&q)).then(|| name.clone())
        });
        if let Some(name) = bad {
            violation(
                "task-freed",
                format_args!("task \"{name}\" was freed while attached"),
            );
        }
    }
}

/// `kpi_taskqgroup` of kpi_shim.h.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_taskqgroup(slow: bool) -> *mut TaskGroup {
    let k = kernel();
    let group = if slow { &k.slow_tasks } else { &k.tasks };
    ptr::from_ref(group).cast_mut()
}

/// `kpi_slow_thread` of kpi_shim.h. The host's scheduler is fair without it.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kpi_slow_thread() {
    if !kernel()
        .slow_tasks
        .queues
        .as_ptr_range()
        .contains(&QUEUE.get())
    {
        violation(
            "task-group",
            format_args!("kpi_slow_thread in a thread of another kind"),
        );
    }
}

/// The group that the driver passed.
fn checked<'a>(group: *mut TaskGroup) -> &'a TaskGroup {
    let k = kernel();
    let Some(group) = [&k.tasks, &k.slow_tasks]
        .into_iter()
        .find(|g| ptr::eq(group, *g))
    else {
        violation(
            "task-group",
            format_args!("a group that is not this kernel's"),
        );
    };
    // SAFETY: the kernel outlives its frames, of which this is one.
    unsafe { &*ptr::from_ref(group) }
}

unsafe fn attach(
    group: &TaskGroup,
    gt: *mut grouptask,
    uniq: *mut c_void,
    queue: &Queue,
    name: *const c_char,
) {
    let k = kernel();
    let name = name_of(name).to_string();
    // SAFETY: the caller's grouptask, not yet attached.
    unsafe {
        (*gt).gt_uniq = uniq;
        (*gt).gt_cpu = queue.cpu as c_int;
        (*gt).gt_taskqueue = ptr::from_ref(queue).cast_mut().cast();
        (*gt).gt_name = [0; 32];
        for (to, from) in (&mut (*gt).gt_name)[..31].iter_mut().zip(name.bytes()) {
            *to = from as c_char;
        }
    }
    if group
        .attached()
        .insert(gt.expose_provenance(), name)
        .is_some()
    {
        violation("task-attach", format_args!("a task was attached twice"));
    }
    k.attached_tasks.fetch_add(1, Ordering::Relaxed);
}

/// gtaskqueue(9).
///
/// # Safety
/// `gt` has its function and context set and stays valid until detached.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn taskqgroup_attach_cpu(
    group: *mut TaskGroup,
    gt: *mut grouptask,
    uniq: *mut c_void,
    cpu: c_int,
    _dev: *mut c_void,
    _irq: *mut c_void,
    name: *const c_char,
) -> c_int {
    check_sleep("taskqgroup_attach_cpu");
    let group = checked(group);
    let Some(queue) = group.queues.iter().find(|q| q.cpu as c_int == cpu) else {
        return EINVAL;
    };
    // SAFETY: as the caller says.
    unsafe { attach(group, gt, uniq, queue, name) };
    0
}

/// gtaskqueue(9).
///
/// # Safety
/// As [`taskqgroup_attach_cpu`].
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn taskqgroup_attach(
    group: *mut TaskGroup,
    gt: *mut grouptask,
    uniq: *mut c_void,
    _dev: *mut c_void,
    _irq: *mut c_void,
    name: *const c_char,
) {
    check_sleep("taskqgroup_attach");
    let group = checked(group);
    let tasks = kernel().attached_tasks.load(Ordering::Relaxed);
    let queue = &group.queues[tasks.max(0) as usize % group.queues.len()];
    // SAFETY: as the caller says.
    unsafe { attach(group, gt, uniq, queue, name) }
}

unsafe fn queue_of<'a>(gt: *mut grouptask, what: &str) -> &'a Queue {
    let k = kernel();
    let is_in = |group: &TaskGroup| group.attached().contains_key(&gt.addr());
    if !is_in(&k.tasks) && !is_in(&k.slow_tasks) {
        violation(
            "task-attach",
            format_args!("{what} of a task that is not attached"),
        );
    }
    // SAFETY: `attach` put a queue of this kernel there, which lives as long as the kernel.
    unsafe { &*(*gt).gt_taskqueue.cast::<Queue>() }
}

/// gtaskqueue(9): no enqueue succeeds any more; waits for a queued or running one.
///
/// # Safety
/// `gt` is attached.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn grouptask_block(gt: *mut grouptask) {
    check_sleep("grouptask_block");
    // SAFETY: as the caller says.
    unsafe {
        let q = queue_of(gt, "grouptask_block");
        let t = &raw mut (*gt).gt_task;
        {
            let _s = q.lock();
            flags(t).fetch_or(TASK_NOENQUEUE, Ordering::SeqCst);
        }
        kernel().machine.wait("grouptask_block", &mut || !q.busy(t));
    }
}

/// gtaskqueue(9): drains and detaches.
///
/// # Safety
/// `gt` is attached.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn taskqgroup_detach(group: *mut TaskGroup, gt: *mut grouptask) {
    let group = checked(group);
    if !group.attached().contains_key(&gt.addr()) {
        violation(
            "task-attach",
            format_args!("detach of a task that is not attached to the group"),
        );
    }
    // SAFETY: as the caller says.
    unsafe {
        grouptask_block(gt);
        (*gt).gt_taskqueue = core::ptr::null_mut();
        flags(&raw mut (*gt).gt_task).fetch_and(!TASK_NOENQUEUE, Ordering::SeqCst);
    }
    group.attached().remove(&gt.addr());
    kernel().attached_tasks.fetch_sub(1, Ordering::Relaxed);
}

/// gtaskqueue(9). EAGAIN when the task is blocked.
///
/// # Safety
/// `t` is the task of an attached grouptask and `q` its queue.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn grouptaskqueue_enqueue(q: *mut Queue, t: *mut gtask) -> c_int {
    if q.is_null() {
        violation(
            "task-attach",
            format_args!("a task was enqueued that is not attached"),
        );
    }
    // SAFETY: as the caller says.
    let (q, flags) = unsafe { (&*q, flags(t)) };
    // The usual case under load costs no lock. It must be a read-modify-write: the run that clears
    // the flag then comes after it and sees what this thread did before.
    if flags.fetch_or(0, Ordering::AcqRel) & TASK_ENQUEUED != 0 {
        return 0;
    }
    let k = kernel();
    {
        let mut s = q.lock();
        let f = flags.load(Ordering::Relaxed);
        if f & TASK_ENQUEUED != 0 {
            return 0;
        }
        if f & TASK_NOENQUEUE != 0 {
            return EAGAIN;
        }
        flags.fetch_or(TASK_ENQUEUED, Ordering::AcqRel);
        s.tasks.push_back(Task(t));
        if s.idle {
            // Only the first of several enqueuers pays for the wakeup.
            s.idle = false;
            q.work.notify_one();
        }
    }
    k.machine.kick_task(q.cpu);
    0
}
