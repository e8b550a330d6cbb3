// SPDX-License-Identifier: BSD-2-Clause
//! Steps with what undoes them, and doing them.

use crate::command::Cmd;
use crate::hook::Code;
use crate::host::{Failure, Host, failed, socket};
use crate::monitor::Monitor;
use crate::os::Os;

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A program.
    Run(Cmd),
    /// The interface is made.
    Create(Create),
    /// The interface goes away, and with it what the system ties to it: addresses, MTU, routes through it.
    Delete,
    /// Shell code of the user, with `%i` replaced.
    Hook(Code),
    /// The route monitor begins.
    StartMonitor(Monitor),
    /// The route monitor ends.
    StopMonitor,
    /// The rules of the policy routing that a default route brought go away.
    RemoveRules {
        /// For IPv4; else for IPv6.
        v4: bool,
        /// The tunnel's mark.
        mark: u32,
    },
    /// Something could not be asked, so that there may be something to do which is not known.
    Complain(String),
}

/// How an interface is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// By the kernel.
    pub kernel: Cmd,
    /// If that fails: by a process.
    pub process: Cmd,
    /// What to say when there is none.
    pub hint: &'static str,
    /// It does not help to try the process if what failed said this,
    pub unless_said: &'static str,
    /// or if this exists.
    pub unless_exists: Option<&'static str>,
}

/// An action, and what takes its effect back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// To be done.
    pub action: Action,
    /// To be done, in this order, if a later step fails.
    pub undo: Vec<Action>,
}

impl Step {
    /// A program that leaves nothing which outlives the interface.
    pub fn run(cmd: Cmd) -> Step {
        Action::Run(cmd).into()
    }

    /// With a program that takes it back.
    #[must_use]
    pub fn undone_by(mut self, cmd: Cmd) -> Step {
        self.undo.push(Action::Run(cmd));
        self
    }
}

impl From<Action> for Step {
    fn from(action: Action) -> Step {
        Step {
            action,
            undo: Vec::new(),
        }
    }
}

/// Does actions for one interface.
pub struct Worker<'a> {
    /// The machine.
    pub host: &'a mut dyn Host,
    /// Its system.
    pub os: &'a dyn Os,
    /// The interface.
    pub name: &'a str,
    done: Vec<Vec<Action>>,
    /// The first failure that [`Worker::perform_or_say`] has told.
    pub told: Option<Failure>,
}

impl<'a> Worker<'a> {
    /// Nothing is done yet.
    pub fn new(host: &'a mut dyn Host, os: &'a dyn Os, name: &'a str) -> Worker<'a> {
        Worker {
            host,
            os,
            name,
            done: Vec::new(),
            told: None,
        }
    }

    /// Does a step, and keeps in mind what undoes it.
    ///
    /// # Errors
    /// The step's.
    pub fn step(&mut self, step: Step) -> Result<(), Failure> {
        let result = self.perform(&step.action);
        // An interrupted program may have done its work, so that is undone too. What failed by itself has to leave
        // nothing behind by itself.
        if !matches!(result, Err(Failure::Failed(_) | Failure::Hook { .. })) {
            self.done.push(step.undo);
        }
        result
    }

    /// Undoes all steps, the last first. What cannot be undone is told, and does not keep the rest from it.
    pub fn roll_back(&mut self) {
        while let Some(actions) = self.done.pop() {
            for action in actions {
                // An interrupted step may as well have done nothing.
                if action == Action::Delete && self.host.index(self.name).is_none() {
                    continue;
                }
                self.perform_or_say(&action);
            }
        }
    }

    /// Does an action; if it fails that is told.
    pub fn perform_or_say(&mut self, action: &Action) -> bool {
        let result = self.perform(action);
        if let Err(failure) = &result {
            self.host.say(&format!("wg-quick: {failure}"));
            self.told.get_or_insert(failure.told());
        }
        result.is_ok()
    }

    /// Does an action.
    ///
    /// # Errors
    /// Of the program, or that it was interrupted.
    pub fn perform(&mut self, action: &Action) -> Result<(), Failure> {
        match action {
            Action::Run(cmd) => self.host.run(cmd),
            Action::Create(create) => self.create(create),
            Action::Delete => self.delete(),
            Action::Hook(code) => self.host.hook(code),
            Action::RemoveRules { v4, mark } => self.remove_rules(*v4, *mark),
            Action::Complain(text) => failed(text),
            Action::StartMonitor(monitor) => self.host.start_monitor(monitor),
            Action::StopMonitor => {
                self.host.stop_monitor();
                Ok(())
            }
        }
    }

    /// Another tunnel may have added rules since: which are ours is seen only now.
    fn remove_rules(&mut self, v4: bool, mark: u32) -> Result<(), Failure> {
        // Better without a lock than not at all.
        let _ = self.host.lock();
        let cmds = self.os.rules_to_remove(self.host, v4, mark)?;
        let results: Vec<_> = cmds.iter().map(|cmd| self.host.run(cmd)).collect();
        results.into_iter().collect()
    }

    fn create(&mut self, create: &Create) -> Result<(), Failure> {
        let Err(why) = self.host.attempt(&create.kernel)? else {
            return Ok(());
        };
        let program = create.process.program();
        let hopeless = why.contains(create.unless_said)
            || create
                .unless_exists
                .is_some_and(|path| self.host.exists(path));
        if hopeless {
            return failed(format!("cannot make the interface: {why}"));
        }
        if !self.host.has_program(program) {
            return failed(format!(
                "the kernel cannot make the interface ({why}), and there is no `{program}' to do it instead{}",
                create.hint
            ));
        }
        self.host.say(&format!(
            "[!] The kernel cannot make the interface ({why}); `{program}' is to do it"
        ));
        self.host.run(&create.process)
    }

    /// Deletes the interface and waits until it is gone. A process behind it notices that, and removes its socket.
    fn delete(&mut self) -> Result<(), Failure> {
        let socket = socket(self.name);
        let has_socket = self.host.exists(&socket);
        self.host.run(&self.os.delete(self.name, has_socket))?;
        for _ in 0..100 {
            if self.host.index(self.name).is_none() && !(has_socket && self.host.exists(&socket)) {
                return Ok(());
            }
            self.host.pause();
        }
        failed(format!("`{}' is still there after ten seconds", self.name))
    }
}
