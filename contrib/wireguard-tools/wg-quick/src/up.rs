// SPDX-License-Identifier: BSD-2-Clause
//! `wg-quick up`.

use zeroize::Zeroizing;

use crate::cmd;
use crate::file::Job;
use crate::host::{Failure, Host, failed};
use crate::os::{self, Os};
use crate::plan::{Action, Step, Worker};

/// Which hooks have begun.
#[derive(Default)]
struct Hooks {
    any: bool,
    post_up: bool,
}

/// Sets an interface up, or leaves everything as it was.
///
/// # Errors
/// What went wrong first; what was done until then is undone.
pub fn up(host: &mut dyn Host, os: &dyn Os, job: &Job, process: &str) -> Result<(), Failure> {
    if host.index(&job.name).is_some() {
        return failed(format!("`{}' already exists", job.name));
    }
    os.check(host, job)?;
    let mut worker = Worker::new(host, os, &job.name);
    let mut hooks = Hooks::default();
    let result = try_up(&mut worker, job, process, &mut hooks);
    if let Err(failure) = &result {
        let host = &mut *worker.host;
        host.say(&format!("wg-quick: {failure}"));
        host.shield(true);
        clean_up(&mut worker, job, &hooks);
        return Err(failure.told());
    }
    result
}

fn try_up(
    worker: &mut Worker<'_>,
    job: &Job,
    process: &str,
    hooks: &mut Hooks,
) -> Result<(), Failure> {
    let (config, name) = (&job.config, &job.name);
    worker.step(Step {
        action: Action::Create(worker.os.create(name, process)),
        undo: vec![Action::Delete],
    })?;
    for code in &config.pre_up {
        hooks.any = true;
        worker.step(Action::Hook(job.hook(code)).into())?;
    }
    // Not a file: wg(8) looks at its standard input under this name.
    let passed = Zeroizing::new(config.passed.to_vec());
    worker.step(Step::run(
        cmd!["wg", "addconf", name, "/dev/stdin"].with_input(passed),
    ))?;
    for address in &config.addresses {
        worker.step(Step::run(worker.os.address(name, address)))?;
    }
    let peers = os::peers(worker.host, job)?;
    for step in worker.os.link(worker.host, job, &peers)? {
        worker.step(step)?;
    }
    // Once it is up it has the routes that its addresses bring.
    for step in worker.os.routes(worker.host, job, &peers)? {
        worker.step(step)?;
    }
    worker.host.unlock();
    for code in &config.post_up {
        hooks.any = true;
        hooks.post_up = true;
        worker.step(Action::Hook(job.hook(code)).into())?;
    }
    Ok(())
}

/// Takes back what was done. Only the user's own hooks know what his hooks have done: those of `down` run at the places
/// where `down` has them, if the like of them ran before.
fn clean_up(worker: &mut Worker<'_>, job: &Job, hooks: &Hooks) {
    if hooks.post_up {
        for code in &job.config.pre_down {
            worker.perform_or_say(&Action::Hook(job.hook(code)));
        }
    }
    worker.roll_back();
    worker.host.unlock();
    if hooks.any {
        for code in &job.config.post_down {
            worker.perform_or_say(&Action::Hook(job.hook(code)));
        }
    }
}
