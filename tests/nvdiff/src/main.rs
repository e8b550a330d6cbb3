// SPDX-License-Identifier: BSD-2-Clause
//! `nvdiff [seed]`: packs with our nvlist codec and unpacks with the base system's libnv, and the other
//! way round, over generated and over damaged messages. Exit status 1 and the message in hexadecimal if
//! they disagree in another way than is documented in crate `nv`.
//!
//! tools/vm-test.py builds it and the tests in the virtual machine run it.

#[cfg(target_os = "freebsd")]
mod compare;
#[cfg(target_os = "freebsd")]
mod generate;

#[cfg(target_os = "freebsd")]
fn main() -> std::process::ExitCode {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some(compare::CHILD) {
        return compare::child();
    }
    let seed = argument.map_or(Ok(1), |s| s.parse());
    let Ok(seed) = seed else {
        eprintln!("usage: nvdiff [seed]");
        return std::process::ExitCode::from(2);
    };
    match compare::run(seed) {
        Ok(report) => {
            println!("{report}");
            std::process::ExitCode::SUCCESS
        }
        Err(difference) => {
            eprintln!("nvdiff: seed {seed}: {difference}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "freebsd"))]
fn main() -> std::process::ExitCode {
    eprintln!("nvdiff compares our codec with FreeBSD's libnv, and so runs on FreeBSD only");
    std::process::ExitCode::from(2)
}
