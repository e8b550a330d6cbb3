// SPDX-License-Identifier: BSD-2-Clause
//! The module as a whole: the choice of the cipher's backend, tested before it is used.

use core::fmt::Write;

use kpi::ifnet;
use kpi::sysctl::{Registrar, with_tunable};
use kpi::{Errno, Result, Sleepable, log};
use wg::wg_crypto::{self, Aead, ChooseError};

use crate::stats::{self, Stats};
use crate::vector::VECTOR;

/// State of the loaded module.
pub struct Module {
    /// The cipher of data packets.
    pub(crate) aead: &'static dyn Aead,
    pub(crate) stats: Stats,
}

impl ifnet::Module for Module {
    /// # Errors
    /// ENOTRECOVERABLE when a known-answer test of the cryptography fails: a module that would
    /// encrypt wrongly must not be there at all.
    fn load(cx: &Sleepable) -> Result<Self> {
        if let Err(vector) = wg_crypto::selftest_primitives() {
            log::info(format_args!("if_wg: self-test failed: {vector}"));
            return Err(Errno::ENOTRECOVERABLE);
        }
        // `net.wg.crypto` in loader.conf(5) or kenv(1) forces a backend.
        let chosen = with_tunable(c"net.wg.crypto", cx, |name| {
            let name = if name.is_empty() { "auto" } else { name };
            wg_crypto::choose(name, &[&VECTOR])
        });
        match chosen {
            Ok(aead) => Ok(Self {
                aead,
                stats: Stats::new(),
            }),
            Err(ChooseError::SelfTest(vector)) => {
                log::info(format_args!("if_wg: self-test failed: {vector}"));
                Err(Errno::ENOTRECOVERABLE)
            }
            Err(ChooseError::Unknown) => Err(Errno::ENOENT),
        }
    }

    fn sysctls(registrar: &mut Registrar<'_, Self>) -> Result {
        registrar.text(
            c"crypto",
            c"Backend of the packet cipher",
            |module, line| {
                // A name that is too long for the line is cut.
                let _ = line.write_str(module.aead.name());
            },
        )?;
        registrar.read_only(c"handshakes", c"Handshakes completed", |m| {
            &m.stats.handshakes
        })?;
        stats::register(registrar)
    }
}
