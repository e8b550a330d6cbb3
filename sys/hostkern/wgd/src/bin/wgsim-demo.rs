// SPDX-License-Identifier: BSD-2-Clause
//! `wgsim-demo`: the driver at work in one process, without privileges.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

/// Two WireGuard interfaces of the FreeBSD driver talk to each other over a simulated network.
///
/// No privileges and no network device are needed. A run is a pure function of its seed.
#[derive(Parser)]
#[command(name = "wgsim-demo", version, max_term_width = 100)]
struct Cli {
    /// Chooses everything that is random
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    match wgd::demo::run(Cli::parse().seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("wgsim-demo: {text}");
            ExitCode::FAILURE
        }
    }
}
