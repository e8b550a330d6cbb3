// SPDX-License-Identifier: BSD-2-Clause
//! `wgd`: a WireGuard interface in user space.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use wgd::cli::Cli;

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => wgd::daemon::main(&cli),
        // Asking for help is no error; clap's own code for all else is 2.
        Err(e) => match e.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let _ = e.print();
                ExitCode::SUCCESS
            }
            ErrorKind::ValueValidation => {
                let text = e.to_string();
                let line = text.lines().next().unwrap_or_default();
                eprintln!("wgd: {}", line.strip_prefix("error: ").unwrap_or(line));
                ExitCode::FAILURE
            }
            _ => {
                let _ = e.print();
                ExitCode::FAILURE
            }
        },
    }
}
