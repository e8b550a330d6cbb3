// SPDX-License-Identifier: BSD-2-Clause
//! `wg-quick down`.

use crate::cmd;
use crate::file::Job;
use crate::host::{Failure, Host, failed};
use crate::os::{Os, Removed};
use crate::plan::{Action, Worker};
use crate::query;
use crate::save;

/// Takes an interface down. Until it goes, a hook that fails stops everything; from then on nothing does.
///
/// # Errors
/// There is no such interface, or something could not be taken back.
pub fn down(host: &mut dyn Host, os: &dyn Os, job: &Job) -> Result<(), Failure> {
    is_up(host, &job.name)?;
    for code in &job.config.pre_down {
        host.hook(&job.hook(code))?;
    }
    if job.config.save {
        save::save(host, os, job)?;
    }
    let (before, unread) = match os.before(host, job) {
        Ok(before) => (before, None),
        Err(Failure::Failed(text)) => (Removed::default(), Some(Action::Complain(text))),
        Err(interrupted) => return Err(interrupted),
    };
    let actions = os.remove(host, job)?;
    host.shield(false);
    let mut worker = Worker::new(host, os, &job.name);
    let mut clean = true;
    for action in unread.into_iter().chain(actions) {
        clean &= worker.perform_or_say(&action);
    }
    worker.host.unlock();
    for action in os.afterwards(worker.host, &before) {
        clean &= worker.perform_or_say(&action);
    }
    for code in &job.config.post_down {
        clean &= worker.perform_or_say(&Action::Hook(job.hook(code)));
    }
    // All of it has been told.
    match worker.told.take() {
        None if clean => Ok(()),
        told => Err(told.unwrap_or(Failure::Failed(String::new()))),
    }
}

/// Checks that an interface is there, and one of wg(8)'s.
///
/// # Errors
/// It is not, or wg(8) failed.
pub fn is_up(host: &mut dyn Host, name: &str) -> Result<(), Failure> {
    let said = query::text(host, &cmd!["wg", "show", "interfaces"])?;
    if said.split_whitespace().any(|word| word == name) {
        return Ok(());
    }
    failed(format!("`{name}' is not a WireGuard interface"))
}
