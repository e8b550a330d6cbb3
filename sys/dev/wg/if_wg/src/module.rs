// SPDX-License-Identifier: BSD-2-Clause
//! The module as a whole: the choice of the cipher's backend, tested before it is used.

use core::fmt::Write;

use kpi::ifnet;
use kpi::log::Line;
use kpi::sysctl::{Registrar, with_tunable};
use kpi::{Errno, Result, Sleepable, log};
use wg::wg_crypto::{self, Aead, ChooseError};

use crate::limits::{self, Limits};
use crate::ocf::{self, Ocf, OcfSession};
use crate::stats::{self, Reason, Stats};
use crate::usage::Usage;
use crate::vector::VECTOR;

/// The cipher of data packets.
enum Backend {
    /// Code of ours, without state.
    Own(&'static dyn Aead),
    /// The kernel's crypto framework.
    Ocf(Ocf),
}

/// State of the loaded module.
pub struct Module {
    backend: Backend,
    pub(crate) limits: Limits,
    pub(crate) stats: Stats,
    /// What is used of that which is limited for each network stack.
    pub(crate) usage: Usage,
}

impl Module {
    /// The cipher of data packets, for what concerns no session: see
    /// [`Session::aead`](crate::session::Session::aead).
    #[inline]
    pub(crate) fn aead(&self) -> &dyn Aead {
        match &self.backend {
            Backend::Own(aead) => *aead,
            Backend::Ocf(ocf) => ocf.aead(),
        }
    }

    /// The cipher of one new session, if the backend has one for each.
    ///
    /// # Errors
    /// The crypto framework refused: there can be no session then.
    pub(crate) fn cipher_of_session(&self, cx: &Sleepable) -> Result<Option<OcfSession>, Reason> {
        match &self.backend {
            Backend::Own(_) => Ok(None),
            Backend::Ocf(ocf) => match ocf.session(cx) {
                Ok(session) => Ok(Some(session)),
                Err(_) => Err(Reason::NoMemory),
            },
        }
    }

    fn describe_backend(&self, line: &mut Line) {
        // A name that is too long for the line is cut.
        let _ = match &self.backend {
            Backend::Own(aead) => line.write_str(aead.name()),
            Backend::Ocf(ocf) => ocf.describe(line),
        };
    }
}

/// The backend that `name` asks for, which has passed its test. `auto` never means the crypto
/// framework: its best driver is no faster than our own vector code and costs a request a packet.
fn choose(name: &str, cx: &Sleepable) -> Result<Backend> {
    let chosen = if name == ocf::NAME {
        let ocf = Ocf::open(cx).inspect_err(|errno| {
            log::info(format_args!(
                "no synchronous driver of ChaCha20-Poly1305 in the crypto framework: errno {}",
                errno.to_raw()
            ));
        })?;
        wg_crypto::selftest(ocf.aead())
            .map(|()| Backend::Ocf(ocf))
            .map_err(ChooseError::SelfTest)
    } else {
        wg_crypto::choose(name, &[&VECTOR]).map(Backend::Own)
    };
    chosen.map_err(|why| match why {
        ChooseError::SelfTest(vector) => {
            log::info(format_args!("self-test failed: {vector}"));
            Errno::ENOTRECOVERABLE
        }
        ChooseError::Unknown => {
            log::info(format_args!("net.wg.crypto: no backend {name}"));
            Errno::ENOENT
        }
    })
}

impl ifnet::Module for Module {
    /// # Errors
    /// ENOTRECOVERABLE when a known-answer test of the cryptography fails: a module that would
    /// encrypt wrongly must not be there at all. ENOENT when `net.wg.crypto` asks for a backend that
    /// there is not, and EOPNOTSUPP when it asks for the crypto framework, which has no driver that
    /// is fit.
    fn load(cx: &Sleepable) -> Result<Self> {
        if let Err(vector) = wg_crypto::selftest_primitives() {
            log::info(format_args!("self-test failed: {vector}"));
            return Err(Errno::ENOTRECOVERABLE);
        }
        // `net.wg.crypto` in loader.conf(5) or kenv(1) forces a backend.
        let backend = with_tunable(c"net.wg.crypto", cx, |name| {
            choose(if name.is_empty() { "auto" } else { name }, cx)
        })?;
        Ok(Self {
            backend,
            limits: Limits::new(),
            stats: Stats::new(),
            usage: Usage::new(),
        })
    }

    fn sysctls(registrar: &mut Registrar<'_, Self>) -> Result {
        registrar.text(
            c"crypto",
            c"Backend of the packet cipher",
            Self::describe_backend,
        )?;
        limits::register(registrar)?;
        registrar.computed(c"interfaces", c"Interfaces here", |module| {
            module.usage.here().interfaces as u64
        })?;
        registrar.computed(c"peers", c"Peers of the interfaces here", |module| {
            module.usage.here().peers as u64
        })?;
        registrar.computed(
            c"allowed_ips",
            c"Allowed IPs of the interfaces here",
            |module| module.usage.here().allowed_ips as u64,
        )?;
        stats::register(registrar)
    }
}
