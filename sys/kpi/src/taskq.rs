// SPDX-License-Identifier: BSD-2-Clause
//! One task on every CPU, or on every second (`gtaskqueue(9)`).
//!
//! The module has two groups of queues, made when it is loaded (`shim/module.c`): one with a thread
//! for each CPU, for what is short, and one with threads of a lower priority for what takes long. A set of tasks belongs to one kind of work of one interface. A task that is
//! queued while it waits runs once; one that is queued while it runs, runs again.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_int, c_void};
use core::ptr;

use freebsd_kernel_sys as sys;
use kpi_alloc::{How, KArc, KBox, KVec, Sleepable};

use crate::Result;
use crate::sync::Mutex;

/// Number of CPUs; at least 1, and constant.
#[must_use]
pub fn ncpus() -> usize {
    // SAFETY: no argument, any context.
    let n = unsafe { sys::kpi_ncpus() };
    usize::try_from(n).unwrap_or(1).max(1)
}

/// Which threads run the tasks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// A thread for each CPU, with the priority of the network's.
    Fast,
    /// A thread for every second CPU, so that half of them are left to others, with a lower priority.
    Slow,
}

impl Group {
    /// How many tasks a set has.
    #[must_use]
    pub fn tasks(self) -> usize {
        match self {
            Self::Fast => ncpus(),
            Self::Slow => ncpus().div_ceil(2),
        }
    }

    /// The CPU of a set's task.
    fn cpu(self, task: usize) -> usize {
        match self {
            Self::Fast => task,
            Self::Slow => task.saturating_mul(2),
        }
    }

    fn raw(self) -> *mut sys::taskqgroup {
        // SAFETY: no pointer, any context.
        unsafe { sys::kpi_taskqgroup(self == Self::Slow) }
    }
}

/// What the tasks do.
pub trait CpuWork: Send + Sync + 'static {
    /// Runs in the thread of task `at` of the set, in no epoch, at most once at a time for one task.
    /// Should not sleep for long: other interfaces' tasks wait behind it.
    fn run(&self, at: usize, cx: &Sleepable);
}

/// One task for each thread of a group, all with one target.
///
/// A target that owns its tasks keeps itself alive: [`CpuTasks::drain`] ends that. Dropping wants a
/// thread that may sleep, also after a drain: tasks that are shared through the epoch must be taken out
/// with [`EpochArc::into_inner`](crate::epoch::EpochArc::into_inner), not dropped by an epoch callback.
pub struct CpuTasks<T: CpuWork> {
    /// Never resized: the kernel links the tasks by address.
    tasks: KBox<[Task<T>]>,
    /// What `Task::target` points to, until the drain.
    target: Mutex<Option<KArc<T>>>,
}

struct Task<T: CpuWork> {
    task: UnsafeCell<sys::grouptask>,
    target: *const T,
    /// Its place in the set.
    at: usize,
    group: Group,
}

// SAFETY: the kernel locks what it does with a task; the target is `Send + Sync`.
unsafe impl<T: CpuWork> Send for Task<T> {}
// SAFETY: as above.
unsafe impl<T: CpuWork> Sync for Task<T> {}

impl<T: CpuWork> CpuTasks<T> {
    /// Makes the tasks; `name` shows in diagnostics.
    pub fn new(target: KArc<T>, group: Group, name: &'static CStr, cx: &Sleepable) -> Result<Self> {
        let n = group.tasks();
        let mut tasks = KVec::with_capacity(n, How::Wait(cx))?;
        for at in 0..n {
            // SAFETY: zero is a valid value of this structure of numbers and pointers.
            let task = UnsafeCell::new(unsafe { core::mem::zeroed::<sys::grouptask>() });
            tasks.try_push(
                Task {
                    task,
                    target: KArc::as_ptr(&target),
                    at,
                    group,
                },
                How::Wait(cx),
            )?;
        }
        let tasks = tasks.into_boxed();
        for task in &*tasks {
            task.attach(name);
        }
        Ok(Self {
            tasks,
            target: Mutex::new(c"kpi tasks", Some(target)),
        })
    }

    /// Queues task `at`, modulo their number. No effect after a drain. Any context.
    pub fn enqueue(&self, at: usize) {
        let i = at.checked_rem(self.tasks.len()).unwrap_or(0);
        if let Some(task) = self.tasks.get(i) {
            task.enqueue();
        }
    }

    /// Ends all tasks for ever: when this returns none runs or ever will, and the target was let go
    /// of.
    ///
    /// Not to be called by the tasks themselves, which would wait for their own end.
    pub fn drain(&self, _cx: &Sleepable) {
        self.end();
    }

    fn end(&self) {
        for task in &*self.tasks {
            // SAFETY: attached. After this the kernel refuses to queue it, and it neither waits nor
            // runs. May sleep: `drain` has the proof, and of `drop` it is documented. Harmless when
            // repeated.
            unsafe { sys::grouptask_block(task.task.get()) };
        }
        let target = self.target.lock().take();
        drop(target);
    }
}

impl<T: CpuWork> Drop for CpuTasks<T> {
    fn drop(&mut self) {
        self.end();
        for task in &*self.tasks {
            // SAFETY: attached to this group, idle and blocked; nobody can queue it, as that needs
            // `&self`.
            unsafe { sys::taskqgroup_detach(task.group.raw(), task.task.get()) };
        }
    }
}

impl<T: CpuWork> Task<T> {
    /// At its final place, once.
    fn attach(&self, name: &'static CStr) {
        let task = self.task.get();
        let this: *const Self = self;
        // SAFETY: ours alone until it is attached. It is not a network task (flag 0), so it runs
        // outside of the epoch.
        unsafe {
            (*task).gt_task.ta_flags = 0;
            (*task).gt_task.ta_priority = 0;
            (*task).gt_task.ta_func = Some(run::<T>);
            (*task).gt_task.ta_context = this.cast_mut().cast();
        }
        let group = self.group.raw();
        let (uniq, cpu) = (
            this.cast_mut().cast(),
            c_int::try_from(self.group.cpu(self.at)).unwrap_or(0),
        );
        let (dev, irq) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: a live group; a task that stays where it is until it is detached.
        let error =
            unsafe { sys::taskqgroup_attach_cpu(group, task, uniq, cpu, dev, irq, name.as_ptr()) };
        if error != 0 {
            // CPU numbers with gaps: then any queue will do.
            // SAFETY: the same.
            unsafe { sys::taskqgroup_attach(group, task, uniq, dev, irq, name.as_ptr()) };
        }
    }

    fn enqueue(&self) {
        let task = self.task.get();
        // SAFETY: attached: the queue is set and does not change before the detach, which needs
        // `&mut self`.
        let queue = unsafe { (*task).gt_taskqueue }.cast();
        // SAFETY: attached to this queue. The answer, whether it is blocked, does not matter.
        let _ = unsafe { sys::grouptaskqueue_enqueue(queue, &raw mut (*task).gt_task) };
    }
}

/// The task function.
///
/// # Safety
///
/// Called by the kernel for a `Task<T>`, which is freed only after a drain.
unsafe extern "C" fn run<T: CpuWork>(context: *mut c_void) {
    // SAFETY: alive until a drain has waited for us.
    let task = unsafe { &*context.cast::<Task<T>>() };
    // SAFETY: the target is held until after the drain has waited for us.
    let target = unsafe { &*task.target };
    // SAFETY: a thread of ours, which holds no lock and, as the task is not a network task, is in no
    // epoch section.
    let cx = unsafe { Sleepable::assume() };
    if task.group == Group::Slow {
        // SAFETY: a thread of that group.
        unsafe { sys::kpi_slow_thread() };
    }
    target.run(task.at, &cx);
}
