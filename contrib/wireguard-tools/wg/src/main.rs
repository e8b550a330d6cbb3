// SPDX-License-Identifier: BSD-2-Clause
//! wg(8): shows and changes the configuration of WireGuard interfaces.
//!
//! Arguments, output, messages and exit statuses are those of stock wg(8); see DIFFERENCES.md one folder up for
//! what differs on purpose, and the manual page for what is new.
#![forbid(unsafe_code)]

mod conf;
mod json;
mod keys;
mod out;
mod set;
mod show;
mod usage;
mod watch;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use wgtools::backend::Combined;

use usage::Usage;

/// The program as it was called.
struct Program {
    /// The first argument, which the usage texts repeat.
    name: String,
    interfaces: Combined,
}

/// Why a command did not succeed.
enum Failure {
    /// It has said why.
    Said,
    /// What to print.
    Message(String),
    /// How the command is to be called.
    Usage(Usage),
    /// Standard output is gone.
    Output(io::Error),
}

impl Failure {
    /// `what: why`, as perror(3) prints it.
    fn system(what: &str, why: &io::Error) -> Failure {
        Failure::Message(format!("{what}: {}", wgtools::error_text(why)))
    }
}

impl From<io::Error> for Failure {
    /// Every error that a command does not name is one of its output.
    fn from(e: io::Error) -> Failure {
        Failure::Output(e)
    }
}

type Outcome = Result<(), Failure>;

fn main() -> ExitCode {
    wgtools::secret::harden();
    let mut args = std::env::args_os();
    let name = args
        .next()
        .unwrap_or_else(|| "wg".into())
        .to_string_lossy()
        .into_owned();
    let args: Vec<OsString> = args.collect();
    let program = Program {
        name,
        interfaces: wgtools::backend::system(),
    };
    match run(&program, &args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            match failure {
                Failure::Said => {}
                Failure::Message(text) => eprintln!("{text}"),
                Failure::Usage(usage) => eprintln!("{}", usage.text(&program.name)),
                Failure::Output(e) => out::report(&e),
            }
            ExitCode::FAILURE
        }
    }
}

/// Whether a word in the place of a file or an interface asks for help.
fn is_help(word: &std::ffi::OsStr) -> bool {
    word == "--help" || word == "-h"
}

fn run(program: &Program, args: &[OsString]) -> Outcome {
    let Some((command, rest)) = args.split_first() else {
        return show::show(program, &[]);
    };
    let command = command.to_string_lossy();
    match &*command {
        "-v" | "--version" | "version" if rest.is_empty() => {
            let mut out = out::Out::new();
            use io::Write;
            writeln!(out, "wireguard-tools v{} - {}", usage::VERSION, usage::HOME)?;
            out.finish()
        }
        "-h" | "--help" | "help" if rest.is_empty() => {
            let mut out = out::Out::new();
            use io::Write;
            out.write_all(usage::top(&program.name).as_bytes())?;
            out.finish()
        }
        "show" => show::show(program, rest),
        "showconf" => show::showconf(program, rest),
        "set" => set::set(program, rest),
        "setconf" => conf::apply(program, conf::How::Set, rest),
        "addconf" => conf::apply(program, conf::How::Add, rest),
        "syncconf" => conf::apply(program, conf::How::Sync, rest),
        "check" => conf::check(program, rest),
        "genkey" => keys::generate(keys::Kind::Private, rest),
        "genpsk" => keys::generate(keys::Kind::Preshared, rest),
        "pubkey" => keys::public(program, rest),
        _ => {
            eprint!(
                "Invalid subcommand: `{}'\n{}",
                wgtools::visible(command.as_bytes()),
                usage::top(&program.name)
            );
            Err(Failure::Said)
        }
    }
}
