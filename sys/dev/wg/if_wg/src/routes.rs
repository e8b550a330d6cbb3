// SPDX-License-Identifier: BSD-2-Clause
//! The allowed IPs as a request changes them, on a copy.
//!
//! To clear a peer takes no look at the table: the peer is marked with the number of the next
//! insertion, and what it owns with a lower number counts as gone from then on. One pass at the end
//! takes away what is marked so, however many peers were cleared how often. A pass for each, as it
//! suggests itself, takes time in proportion to peers times prefixes, and a list of its own for each
//! peer as much memory again as the table.

use kpi::epoch::EpochArc;
use kpi::{AllocError, Errno, How, KVec, Result};
use wg::allowedips::Prefix;

use crate::codec::Entry;
use crate::peer::{Own, Owner, Peer};
use crate::set::check_alive;
use crate::softc::{Config, Routes, Softc};
use crate::stats;

/// Most allowed IPs of one interface.
const MAX_ALLOWED_IPS: usize = 1 << 21;

pub(crate) struct RoutePlan<'a> {
    sc: &'a Softc,
    routes: Routes,
    /// Number of this plan; the peers' notes for it carry it.
    plan: u64,
    changed: bool,
    /// Peers have prefixes that count as gone.
    sweep: bool,
    /// Peers that have a note for this plan.
    touched: KVec<EpochArc<Peer>>,
    /// Entries that were looked at beside the table's nodes.
    steps: u64,
}

/// What a plan comes to.
pub(crate) struct Outcome {
    /// The new table, if it changes.
    pub(crate) routes: Option<EpochArc<Routes>>,
    /// The peers whose tally may change.
    pub(crate) touched: KVec<EpochArc<Peer>>,
}

impl<'a> RoutePlan<'a> {
    pub(crate) fn begin(sc: &'a Softc, config: &Config, replace: bool) -> Self {
        Self {
            sc,
            routes: if replace {
                Routes::new()
            } else {
                sc.routes_snapshot()
            },
            plan: config.plan,
            changed: replace,
            sweep: false,
            touched: KVec::new(),
            steps: 0,
        }
    }

    /// Takes all prefixes from a peer.
    pub(crate) fn clear(&mut self, peer: &EpochArc<Peer>, how: How<'_>) -> Result<(), AllocError> {
        self.touch(peer, how)?;
        let mut own = peer.own.lock();
        if own.planned.v4 != 0 || own.planned.v6 != 0 {
            own.planned = Default::default();
            own.cleared = self.routes.next_seq();
            self.changed = true;
            self.sweep = true;
        }
        Ok(())
    }

    /// Gives and takes what an entry of the request says.
    pub(crate) fn entry(
        &mut self,
        entry: &Entry<'_>,
        peer: &EpochArc<Peer>,
        how: How<'_>,
    ) -> Result<()> {
        if entry.replace_allowed_ips {
            self.clear(peer, how)?;
        }
        for ip in entry.allowed_ips() {
            self.steps = self.steps.wrapping_add(1);
            check_alive(self.sc)?;
            // The length was validated with the request.
            let prefix = Prefix::new(ip.addr, ip.cidr).ok_or(Errno::EINVAL)?;
            if ip.remove {
                self.remove(prefix, peer, how)?;
            } else {
                self.insert(prefix, peer, how)?;
            }
        }
        Ok(())
    }

    fn insert(
        &mut self,
        prefix: Prefix,
        peer: &EpochArc<Peer>,
        how: How<'_>,
    ) -> Result<(), AllocError> {
        let owner = Owner(peer.clone());
        let plan = self.plan;
        let old = self.routes.entry(prefix);
        let old = old.map(|old| (old.owner.clone(), is_gone(old.owner, old.seq, plan)));
        match old {
            // It keeps its place in the list.
            Some((old, false)) if old == owner => return Ok(()),
            Some((old, false)) => {
                self.touch(&old.0, how)?;
                change(&old.0, prefix, |n| n.saturating_sub(1));
            }
            // Were it left there, the insertion would find it the owner's already.
            Some((old, true)) if old == owner => {
                self.routes.remove(prefix, &owner, how)?;
            }
            Some((_, true)) | None => {}
        }
        self.touch(peer, how)?;
        self.routes.insert(prefix, owner, how)?;
        self.changed = true;
        change(peer, prefix, |n| n.saturating_add(1));
        Ok(())
    }

    fn remove(
        &mut self,
        prefix: Prefix,
        peer: &EpochArc<Peer>,
        how: How<'_>,
    ) -> Result<(), AllocError> {
        let plan = self.plan;
        let owner = Owner(peer.clone());
        let there = self.routes.entry(prefix);
        if there.is_none_or(|there| *there.owner != owner || is_gone(&owner, there.seq, plan)) {
            return Ok(());
        }
        self.touch(peer, how)?;
        self.routes.remove(prefix, &owner, how)?;
        self.changed = true;
        change(peer, prefix, |n| n.saturating_sub(1));
        Ok(())
    }

    /// Begins the peer's note for this plan, unless it has one.
    fn touch(&mut self, peer: &EpochArc<Peer>, how: How<'_>) -> Result<(), AllocError> {
        {
            let mut own = peer.own.lock();
            if own.plan == self.plan {
                return Ok(());
            }
            *own = Own {
                now: own.now,
                plan: self.plan,
                planned: own.now,
                cleared: 0,
            };
        }
        self.touched.try_push(peer.clone(), how)
    }

    /// Ends the plan.
    ///
    /// # Errors
    /// ENOMEM, ENOSPC.
    pub(crate) fn finish(mut self, how: How<'_>) -> Result<Outcome> {
        if self.sweep {
            let plan = self.plan;
            self.routes
                .retain(|entry| !is_gone(entry.owner, entry.seq, plan), how)?;
        }
        if self.routes.len() > MAX_ALLOWED_IPS {
            return Err(Errno::ENOSPC);
        }
        self.sc.charge.raise_allowed_ips(self.routes.len())?;
        let routes = if self.changed {
            Some(EpochArc::new(self.routes.clone(), how)?)
        } else {
            None
        };
        Ok(Outcome {
            routes,
            touched: core::mem::replace(&mut self.touched, KVec::new()),
        })
    }
}

impl Drop for RoutePlan<'_> {
    fn drop(&mut self) {
        let steps = self.steps.wrapping_add(self.routes.steps());
        stats::add(&self.sc.module.stats.config_steps, steps);
    }
}

/// Whether the plan has cleared the owner since the insertion of number `seq`.
fn is_gone(owner: &Owner, seq: u64, plan: u64) -> bool {
    let own = owner.0.own.lock();
    own.plan == plan && seq < own.cleared
}

/// Changes the number of a peer's prefixes of that family, in the plan.
fn change(peer: &Peer, prefix: Prefix, f: impl FnOnce(usize) -> usize) {
    let mut own = peer.own.lock();
    let n = if prefix.addr().is_ipv4() {
        &mut own.planned.v4
    } else {
        &mut own.planned.v6
    };
    *n = f(*n);
}
