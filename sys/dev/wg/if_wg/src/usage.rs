// SPDX-License-Identifier: BSD-2-Clause
//! What the interfaces of each network stack use of what is limited there: interfaces, peers and
//! allowed IPs. The root of a jail makes them, and the host's memory is what they are made of.
//!
//! An interface counts where it is, not where it was made: whoever holds it configures it.

use kpi::cred::VnetId;
use kpi::sync::Mutex;
use kpi::{Errno, How, KArc, KVec, Result};

use crate::limits::Limits;
use crate::module::Module;
use crate::stats::count;

/// An amount of each.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) interfaces: usize,
    pub(crate) peers: usize,
    pub(crate) allowed_ips: usize,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self {
            interfaces: self.interfaces.saturating_add(other.interfaces),
            peers: self.peers.saturating_add(other.peers),
            allowed_ips: self.allowed_ips.saturating_add(other.allowed_ips),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            interfaces: self.interfaces.saturating_sub(other.interfaces),
            peers: self.peers.saturating_sub(other.peers),
            allowed_ips: self.allowed_ips.saturating_sub(other.allowed_ips),
        }
    }

    /// Whether `more` of it fits. What is not wanted more of is not looked at: a limit that was
    /// lowered, or an interface that moved here, may have left too many of it.
    fn fits(self, more: Self, limits: &Limits) -> bool {
        let all = self.plus(more);
        (more.interfaces == 0 || all.interfaces <= limits.interfaces())
            && (more.peers == 0 || all.peers <= limits.peers())
            && (more.allowed_ips == 0 || all.allowed_ips <= limits.allowed_ips())
    }
}

/// The amounts of all network stacks that use anything.
pub(crate) struct Usage {
    of: Mutex<KVec<(Option<VnetId>, Amount)>>,
}

impl Usage {
    pub(crate) fn new() -> Self {
        Self {
            of: Mutex::new(c"wg usage", KVec::new()),
        }
    }

    /// What is used where the caller is; everywhere, if that is nowhere.
    pub(crate) fn here(&self) -> Amount {
        let vnet = VnetId::current();
        let of = self.of.lock();
        let mine = of.iter().filter(|(of, _)| vnet.is_none() || *of == vnet);
        mine.fold(Amount::default(), |sum, (_, amount)| sum.plus(*amount))
    }

    fn change(&self, vnet: Option<VnetId>, more: Amount, limits: Option<&Limits>) -> Result<()> {
        let mut of = self.of.lock();
        if let Some((_, amount)) = of.as_mut_slice().iter_mut().find(|(of, _)| *of == vnet) {
            if limits.is_some_and(|limits| !amount.fits(more, limits)) {
                return Err(Errno::ENOSPC);
            }
            *amount = amount.plus(more);
            return Ok(());
        }
        if limits.is_some_and(|limits| !Amount::default().fits(more, limits)) {
            return Err(Errno::ENOSPC);
        }
        Ok(of.try_push((vnet, more), How::NoWait)?)
    }

    fn release(&self, vnet: Option<VnetId>, less: Amount) {
        let mut of = self.of.lock();
        let Some(at) = of.iter().position(|(of, _)| *of == vnet) else {
            return;
        };
        let nothing = of.as_mut_slice().get_mut(at).is_some_and(|(_, amount)| {
            *amount = amount.minus(less);
            *amount == Amount::default()
        });
        if nothing {
            let _ = of.swap_remove(at);
        }
        // An unload compares what is allocated with what was after the load.
        if of.is_empty() {
            *of = KVec::new();
        }
    }
}

/// What one interface uses. It is given back when this is dropped.
pub(crate) struct Charge {
    module: KArc<Module>,
    state: Mutex<(Option<VnetId>, Amount)>,
}

impl Charge {
    /// The charge of a new interface in the present network stack.
    ///
    /// # Errors
    /// ENOSPC when there may be no more, ENOMEM.
    pub(crate) fn interface(module: &KArc<Module>) -> Result<Self> {
        let charge = Self {
            module: module.clone(),
            state: Mutex::new(c"wg charge", (VnetId::current(), Amount::default())),
        };
        let one = Amount {
            interfaces: 1,
            ..Amount::default()
        };
        charge.add(one)?;
        Ok(charge)
    }

    /// Adds to it.
    ///
    /// # Errors
    /// ENOSPC when there may not be so much more, ENOMEM.
    pub(crate) fn add(&self, more: Amount) -> Result<()> {
        let mut state = self.state.lock();
        let (vnet, amount) = *state;
        let module = &self.module;
        module
            .usage
            .change(vnet, more, Some(&module.limits))
            .inspect_err(|errno| {
                if *errno == Errno::ENOSPC {
                    count(&module.stats.limit_refusals);
                }
            })?;
        *state = (vnet, amount.plus(more));
        Ok(())
    }

    /// Makes room for so many allowed IPs in all.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub(crate) fn raise_allowed_ips(&self, to: usize) -> Result<()> {
        let now = self.state.lock().1.allowed_ips;
        self.add(Amount {
            allowed_ips: to.saturating_sub(now),
            ..Amount::default()
        })
    }

    /// Gives back what was added beyond what is there.
    pub(crate) fn lower(&self, to: Amount) {
        let mut state = self.state.lock();
        let (vnet, amount) = *state;
        let surplus = amount.minus(to);
        self.module.usage.release(vnet, surplus);
        *state = (vnet, amount.minus(surplus));
    }

    /// The interface moves to another network stack. What it has moves with it, whatever the limits
    /// there: nobody would know what to do about an error.
    pub(crate) fn reassign(&self, to: Option<VnetId>) {
        let mut state = self.state.lock();
        let (from, amount) = *state;
        // Without memory for another entry it goes on to count where it was.
        if from != to && self.module.usage.change(to, amount, None).is_ok() {
            self.module.usage.release(from, amount);
            *state = (to, amount);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.lower(Amount::default());
    }
}
