// SPDX-License-Identifier: BSD-2-Clause
//! Waiting for a descriptor in a way that another thread can end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

/// Ends the threads that wait with it, once and for all.
pub(super) struct Stopper {
    fd: OwnedFd,
    stopped: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Stopper {
    pub(super) fn new() -> io::Result<Stopper> {
        Ok(Stopper {
            fd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            stopped: AtomicBool::new(false),
            threads: Mutex::default(),
        })
    }

    /// Starts a thread that will be joined by [`Self::stop`]; `f` should return soon after [`Self::wait`] says so.
    pub(super) fn spawn(&self, name: &str, f: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(f)?;
        self.threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(thread);
        Ok(())
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Waits until `fd` can be read; false if the thread is to end. True does not promise that there is anything.
    pub(super) fn wait(&self, fd: impl AsFd) -> bool {
        let mut fds = [
            PollFd::new(&fd, PollFlags::IN),
            PollFd::new(&self.fd, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            // Out of memory. The caller's read will tell, or not; do not spin.
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
        !self.is_stopped()
    }

    /// Ends and joins the threads. From one of them it only asks the others to end.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        // The counter stays non-zero, so every later wait returns too. It cannot overflow: this is its only writer.
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}
