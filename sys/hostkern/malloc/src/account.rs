// SPDX-License-Identifier: BSD-2-Clause
//! Accounts: what a simulated kernel has allocated, and which of its allocations fail.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The books of one kernel. Clones share the books.
#[derive(Clone)]
pub struct Account(Arc<Mutex<Books>>);

/// Numbers of an [`Account`] at one moment.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes allocated and not freed.
    pub live_bytes: usize,
    /// Blocks allocated and not freed.
    pub live_objects: usize,
    /// The most bytes that were ever live at once.
    pub peak_bytes: usize,
    /// The most blocks that were ever live at once.
    pub peak_objects: usize,
    /// Calls so far, refused ones included. The number of the last one: the first is 1.
    pub attempts: u64,
    /// Calls that were made to fail.
    pub refused: u64,
}

/// A block that was not freed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// Number of the allocation, as [`Stats::attempts`] counts: stop there in a replay.
    pub seq: u64,
    /// Size in bytes.
    pub size: usize,
}

#[derive(Default)]
struct Books {
    stats: Stats,
    /// Size by number, so that reports come in order of allocation.
    live: BTreeMap<u64, usize>,
    /// Number of the one call to refuse.
    refuse_at: Option<u64>,
    /// Refuse one of so many calls, drawn from the state beside it.
    refuse_one_in: Option<(u32, u64)>,
}

thread_local! {
    static CURRENT: RefCell<Option<Account>> = const { RefCell::new(None) };
}

/// The account of the running thread. None also while the thread is being torn down.
pub(crate) fn current() -> Option<Account> {
    CURRENT.try_with(|c| c.borrow().clone()).ok().flatten()
}

impl Account {
    /// Empty books.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Books::default())))
    }

    /// Books the calling thread's allocations here until the guard is dropped. Scopes nest; they end in
    /// the reverse order of their beginning.
    #[must_use = "the scope ends when the guard is dropped"]
    pub fn enter(&self) -> Scope {
        let before = CURRENT.with(|c| c.replace(Some(self.clone())));
        Scope {
            before,
            _thread: PhantomData,
        }
    }

    /// The numbers now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.books().stats
    }

    /// Makes the `n`th allocation from now fail (1 is the next), and only that. 0 takes it back.
    ///
    /// `M_WAITOK` allocations fail too: the kernel refuses some of them as well, and drivers must cope.
    pub fn fail_nth(&self, n: u64) {
        let mut b = self.books();
        b.refuse_at = (n != 0).then(|| b.stats.attempts.saturating_add(n));
    }

    /// Makes each allocation fail with a chance of one in `p`, by a generator started from `seed`.
    /// 1 fails every one, 0 none.
    pub fn fail_every(&self, p: u32, seed: u64) {
        self.books().refuse_one_in = (p != 0).then_some((p, seed));
    }

    /// The blocks that are live, oldest first.
    #[must_use]
    pub fn leaks(&self) -> Vec<Leak> {
        self.books()
            .live
            .iter()
            .map(|(&seq, &size)| Leak { seq, size })
            .collect()
    }

    /// Checks that every block was freed.
    ///
    /// # Panics
    ///
    /// If not, with the report that [`Account`]'s `Display` gives.
    #[track_caller]
    pub fn assert_no_leaks(&self) {
        assert!(self.stats().live_objects == 0, "{self}");
    }

    /// Counts a call and returns its number, or nothing if the call shall fail.
    pub(crate) fn admit(&self) -> Option<u64> {
        let mut b = self.books();
        b.stats.attempts += 1;
        let now = b.stats.attempts;
        let hit = b.refuse_at == Some(now);
        if hit {
            b.refuse_at = None;
        }
        let drawn = b
            .refuse_one_in
            .as_mut()
            .is_some_and(|(p, state)| draw(state, *p));
        if hit || drawn {
            b.stats.refused += 1;
        }
        (!hit && !drawn).then_some(now)
    }

    /// Enters the block that call `seq` got.
    pub(crate) fn book(&self, seq: u64, size: usize) {
        let mut b = self.books();
        b.live.insert(seq, size);
        let s = &mut b.stats;
        s.live_bytes += size;
        s.live_objects += 1;
        s.peak_bytes = s.peak_bytes.max(s.live_bytes);
        s.peak_objects = s.peak_objects.max(s.live_objects);
    }

    /// Strikes a block out.
    pub(crate) fn unbook(&self, seq: u64, size: usize) {
        let mut b = self.books();
        assert_eq!(
            b.live.remove(&seq),
            Some(size),
            "block {seq} is not in its account's books"
        );
        b.stats.live_bytes -= size;
        b.stats.live_objects -= 1;
    }

    /// A panic elsewhere (a context rule, say) leaves the books consistent, so poison means nothing.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One in `p`, by splitmix64: tiny, and every seed is good.
fn draw(state: &mut u64, p: u32) -> bool {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).is_multiple_of(u64::from(p))
}

impl Default for Account {
    fn default() -> Self {
        Self::new()
    }
}

/// The report of live blocks: one line of totals, then one for each block, the oldest 32 at most.
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LINES: usize = 32;
        let Stats {
            live_bytes,
            live_objects,
            attempts,
            ..
        } = self.stats();
        write!(
            f,
            "{live_objects} of {attempts} allocations live, {live_bytes} bytes"
        )?;
        for Leak { seq, size } in self.leaks().into_iter().take(LINES) {
            write!(f, "\n  allocation {seq}: {size} bytes")?;
        }
        if live_objects > LINES {
            write!(f, "\n  and {} more", live_objects - LINES)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Account").field(&self.stats()).finish()
    }
}

/// While it lives, its thread's allocations are booked on an account. Bound to its thread.
#[derive(Debug)]
pub struct Scope {
    before: Option<Account>,
    _thread: PhantomData<*mut ()>,
}

impl Drop for Scope {
    fn drop(&mut self) {
        CURRENT.with(|c| c.replace(self.before.take()));
    }
}
