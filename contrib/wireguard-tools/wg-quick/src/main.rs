// SPDX-License-Identifier: BSD-2-Clause
//! The program wg-quick.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use wg_quick::cli::{self, Order};
use wg_quick::dry::{Dry, Names};
use wg_quick::file::{self, Job};
use wg_quick::host::{Failure, Host, failed};
use wg_quick::monitor::Monitor;
use wg_quick::real::{Real, Voice};
use wg_quick::{down, os, save, up};
use wgtools::endpoint::{Resolve, Syntax};

fn main() -> ExitCode {
    let order = match cli::parse(std::env::args_os().skip(1).collect()) {
        Ok(order) => order,
        Err(text) => {
            say(&format!("wg-quick: {text}\n\n{}", cli::HELP.trim_end()));
            return ExitCode::FAILURE;
        }
    };
    wgtools::secret::harden();
    match obey(&order) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = failure.to_string();
            if !text.is_empty() {
                say(&format!("wg-quick: {text}"));
            }
            match failure {
                Failure::Hook { status, .. } => status.into(),
                Failure::Failed(_) | Failure::Interrupted(_) => ExitCode::FAILURE,
            }
        }
    }
}

fn obey(order: &Order) -> Result<(), Failure> {
    match order {
        Order::Help => print(cli::HELP.as_bytes()),
        Order::Version => print(concat!("wg-quick ", env!("CARGO_PKG_VERSION"), "\n").as_bytes()),
        Order::Up { what, dry: true } => {
            let mut warn = |text: &str| say(text);
            let job = load(what, &mut Names::new(&mut warn))?;
            go_up(&mut Dry(real()?), &job)
        }
        Order::Up { what, dry: false } => {
            be_root()?;
            let job = load(what, &mut Syntax)?;
            go_up(&mut real_for(&job)?, &job)
        }
        Order::Down(what) => {
            be_root()?;
            let job = load_as_it_is(what)?;
            down::down(&mut real_for(&job)?, os::native(), &job)
        }
        Order::Save(what) => {
            be_root()?;
            let (job, mut host) = (load_as_it_is(what)?, real()?);
            down::is_up(&mut host, &job.name)?;
            save::save(&mut host, os::native(), &job)
        }
        Order::Strip(what) => strip(what),
        Order::Monitor(arguments) => watch(arguments),
    }
}

fn go_up(host: &mut dyn Host, job: &Job) -> Result<(), Failure> {
    let problems = job.problems();
    if !problems.is_empty() {
        return failed(format!(
            "nothing was changed, since the file is wrong:\n{}",
            problems.join("\n")
        ));
    }
    let os = os::native();
    let chosen = std::env::var("WG_QUICK_USERSPACE_IMPLEMENTATION");
    let process = chosen.ok().filter(|name| !name.is_empty());
    up::up(host, os, job, process.as_deref().unwrap_or(os.process()))
}

fn load(what: &str, resolver: &mut dyn Resolve) -> Result<Job, Failure> {
    let (path, name) = file::find(os::native(), what)?;
    if let Some(warning) = file::exposed(&path) {
        say(&warning);
    }
    file::load(path, name, resolver)
}

/// For an interface that is up: a file that has become wrong since is no reason to leave it so.
fn load_as_it_is(what: &str) -> Result<Job, Failure> {
    let job = load(what, &mut Syntax)?;
    if let Some(problem) = &job.config.bad_save {
        return failed(format!(
            "{}:{}: {}",
            job.path.display(),
            problem.line,
            problem.text
        ));
    }
    for problem in job.problems() {
        say(&format!("Warning: {problem}"));
    }
    Ok(job)
}

/// As the stock script: everything but its own keys, whatever it is, and an empty line.
fn strip(what: &str) -> Result<(), Failure> {
    let (path, name) = file::find(os::native(), what)?;
    if rustix::fs::access(&path, rustix::fs::Access::READ_OK).is_err() {
        be_root()?;
    }
    if let Some(warning) = file::exposed(&path) {
        say(&warning);
    }
    let job = file::load(path, name, &mut Syntax)?;
    if let Some(problem) = &job.config.bad_save {
        return failed(format!(
            "{}:{}: {}",
            job.path.display(),
            problem.line,
            problem.text
        ));
    }
    print(&job.config.passed)?;
    print(b"\n")
}

fn real() -> Result<Real, Failure> {
    Real::new(Voice::Stderr)
        .or_else(|e| failed(format!("cannot catch signals: {}", wgtools::error_text(&e))))
}

/// With what hooks may know.
fn real_for(job: &Job) -> Result<Real, Failure> {
    let mut host = real()?;
    host.variables = wg_quick::hook::variables(job);
    Ok(host)
}

/// Goes on as root, by sudo(8) if need be.
fn be_root() -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let program = std::env::current_exe().or_else(|e| {
        failed(format!(
            "cannot find own program: {}",
            wgtools::error_text(&e)
        ))
    })?;
    // Returns only if there is no such program.
    let _ = Command::new("sudo")
        .args(["-p", "wg-quick has to be root. Password of %u: ", "--"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .exec();
    failed("must be run as root, and there is no sudo to become it")
}

/// Is the route monitor.
#[cfg(target_os = "freebsd")]
fn watch(arguments: &[String]) -> Result<(), Failure> {
    let monitor = read_monitor(arguments)?;
    let mut host = Real::new(Voice::Log).or_else(|e| {
        failed(format!(
            "cannot wait for processes: {}",
            wgtools::error_text(&e)
        ))
    })?;
    wg_quick::monitor::run(&monitor, &mut host).or_else(|e| failed(wgtools::error_text(&e)))
}

/// Only FreeBSD's routes need watching.
#[cfg(not(target_os = "freebsd"))]
fn watch(arguments: &[String]) -> Result<(), Failure> {
    let monitor = read_monitor(arguments)?;
    failed(format!(
        "the default route through {} needs no monitor on this system",
        monitor.name
    ))
}

fn read_monitor(arguments: &[String]) -> Result<Monitor, Failure> {
    let mut input = String::new();
    let read = io::stdin().read_to_string(&mut input).ok();
    match read.and_then(|_| Monitor::parse(arguments, &input)) {
        Some(monitor) => Ok(monitor),
        None => failed("the route monitor is not to be started by hand"),
    }
}

fn print(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text).and_then(|()| out.flush());
    written.map_err(|e| wg_quick::dry::unwritten(&e))
}

fn say(text: &str) {
    // Nobody there to read is no reason to stop.
    let _ = writeln!(io::stderr(), "{text}");
}
