// SPDX-License-Identifier: BSD-2-Clause
//! `wg genkey`, `wg genpsk` and `wg pubkey`.

use std::ffi::OsString;
use std::io::Write;

use rustix::fs::FileType;
use wgtools::config::is_space;
use wgtools::key::{SecretKey, TEXT_LEN};
use wgtools::secret;

use crate::out::Out;
use crate::usage::Usage;
use crate::{Failure, Outcome, Program};

/// What to generate.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A clamped private key.
    Private,
    /// Random bytes.
    Preshared,
}

/// `wg genkey` and `wg genpsk`.
pub fn generate(kind: Kind, args: &[OsString]) -> Outcome {
    if !args.is_empty() {
        return Err(Failure::Usage(Usage::Key(match kind {
            Kind::Private => "genkey",
            Kind::Preshared => "genpsk",
        })));
    }
    if let Ok(file) = rustix::fs::fstat(rustix::stdio::stdout())
        && FileType::from_raw_mode(file.st_mode) == FileType::RegularFile
        && file.st_mode & 0o007 != 0
    {
        eprintln!(
            "Warning: writing to world accessible file.\nConsider setting the umask to 077 and trying again."
        );
    }
    let key = match kind {
        Kind::Private => SecretKey::generate(),
        Kind::Preshared => SecretKey::generate_preshared(),
    };
    let key = key.map_err(|e| Failure::system("getrandom", &e))?;
    let mut out = Out::new();
    key.with_base64(|text| writeln!(out, "{text}"))?;
    out.finish()
}

/// `wg pubkey`.
pub fn public(program: &Program, args: &[OsString]) -> Outcome {
    if !args.is_empty() {
        return Err(Failure::Usage(Usage::Key("pubkey")));
    }
    let fail = |what: &str| Failure::Message(format!("{}: {what}", program.name));
    let malformed = || fail("Key is not the correct length or format");
    let text = secret::read_all(std::io::stdin(), 0).map_err(|_| malformed())?;
    let (key, rest) = text.split_at_checked(TEXT_LEN).ok_or_else(malformed)?;
    if !rest.iter().all(|&b| b == 0 || is_space(b)) {
        return Err(fail("Trailing characters found after key"));
    }
    let key = SecretKey::from_base64(key).ok_or_else(malformed)?;
    let mut out = Out::new();
    writeln!(out, "{}", key.public())?;
    out.finish()
}
