// SPDX-License-Identifier: BSD-2-Clause
//! `wg show` and `wg showconf`.

use std::ffi::OsString;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use wgtools::backend::Backend;
use wgtools::device::Device;
use wgtools::pretty::{self, Style};
use wgtools::show::{self, Field};

use crate::out::{self, Out};
use crate::usage::Usage;
use crate::{Failure, Outcome, Program, json, watch};

/// What to print of an interface.
enum View {
    Pretty,
    Field(String),
    Json,
    Watch(watch::Options),
}

/// `wg show`.
pub fn show(program: &Program, args: &[OsString]) -> Outcome {
    let args: Vec<String> = args
        .iter()
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    let (options, words): (Vec<_>, Vec<_>) =
        args.iter().map(String::as_str).partition(|a| is_option(a));
    let (target, field) = match *words {
        [] => (None, None),
        ["all"] => (None, None),
        ["all", field] => (None, Some(field)),
        [target] => (Some(target), None),
        [target, field] => (Some(target), Some(field)),
        _ => return Err(Failure::Usage(Usage::Show)),
    };
    let view = match (field, &*options) {
        (None, []) => View::Pretty,
        (Some(field), []) => View::Field(field.to_owned()),
        (None, ["--json"]) => View::Json,
        (None, options) if target != Some("interfaces") => {
            let options = watch::Options::parse(options).ok_or(Failure::Usage(Usage::Show))?;
            View::Watch(options)
        }
        _ => return Err(Failure::Usage(Usage::Show)),
    };
    match target {
        Some("interfaces") => match view {
            View::Pretty => interfaces(program),
            _ => Err(Failure::Usage(Usage::Show)),
        },
        Some("-h" | "--help" | "help") if matches!(view, View::Pretty) => Usage::Show.help(program),
        target => match view {
            View::Json => json::print(program, target),
            View::Watch(options) => watch::watch(program, target, &options),
            view => print(program, target, &view),
        },
    }
}

fn is_option(word: &str) -> bool {
    word == "--json"
        || word == "--watch"
        || word.starts_with("--watch=")
        || word.starts_with("--count=")
}

/// `wg showconf`.
pub fn showconf(program: &Program, args: &[OsString]) -> Outcome {
    let [name] = args else {
        return Err(Failure::Usage(Usage::Showconf));
    };
    if crate::is_help(name) {
        return Usage::Showconf.help(program);
    }
    let device = access(program, &name.to_string_lossy())?;
    let mut out = Out::new();
    show::showconf(&mut out, &device)?;
    out.finish()
}

fn interfaces(program: &Program) -> Outcome {
    let names = list(program)?;
    let mut out = Out::new();
    if !names.is_empty() {
        writeln!(out, "{}", names.join(" "))?;
    }
    out.finish()
}

/// The names of all interfaces.
pub fn list(program: &Program) -> Result<Vec<String>, Failure> {
    program
        .interfaces
        .interfaces()
        .map_err(|e| Failure::system("Unable to list interfaces", &e))
}

/// The interface of this name.
pub fn access(program: &Program, name: &str) -> Result<Device, Failure> {
    program
        .interfaces
        .get(name)
        .map_err(|e| Failure::system("Unable to access interface", &e))
}

/// Calls `f` with one interface, or with all of them and whether it is the last. Those that cannot be read are
/// reported and left out; that all of them could not is a failure.
pub fn each(
    program: &Program,
    target: Option<&str>,
    mut f: impl FnMut(Device, bool) -> Outcome,
) -> Outcome {
    if let Some(name) = target {
        return f(access(program, name)?, true);
    }
    let names = list(program)?;
    let mut outcome = if names.is_empty() {
        Ok(())
    } else {
        Err(Failure::Said)
    };
    for (i, name) in names.iter().enumerate() {
        match program.interfaces.get(name) {
            Ok(device) => {
                f(device, i + 1 == names.len())?;
                outcome = Ok(());
            }
            Err(e) => {
                eprintln!(
                    "Unable to access interface {name}: {}",
                    wgtools::error_text(&e)
                );
            }
        }
    }
    outcome
}

fn print(program: &Program, target: Option<&str>, view: &View) -> Outcome {
    let mut out = Out::new();
    let style = Style {
        colour: colour(),
        keys: keys_are_shown(),
        now: now(),
    };
    let done = each(program, target, |device, last| {
        match view {
            View::Field(name) => match Field::by_name(name) {
                Some(field) => show::field(&mut out, &device, field, target.is_none())?,
                None => {
                    eprintln!("Invalid parameter: `{}'", wgtools::visible(name.as_bytes()));
                    return Err(Failure::Usage(Usage::Show));
                }
            },
            _ => {
                pretty::device(&mut out, &device, &style)?;
                if !last {
                    writeln!(out)?;
                }
            }
        }
        Ok(())
    });
    out.finish()?;
    done
}

/// Whether to print in colours.
pub fn colour() -> bool {
    match std::env::var("WG_COLOR_MODE").as_deref() {
        Ok("always") => true,
        Ok("never") => false,
        _ => out::is_terminal(),
    }
}

/// Whether people see private and preshared keys.
pub fn keys_are_shown() -> bool {
    std::env::var("WG_HIDE_KEYS").as_deref() == Ok("never")
}

/// The wall clock in seconds.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |t| t.as_secs())
}
