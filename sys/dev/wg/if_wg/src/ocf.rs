// SPDX-License-Identifier: BSD-2-Clause
//! The backend of the packet cipher in the kernel's crypto framework.
//!
//! Each pair of keys has a session of the framework, for both directions, which is made with it and
//! goes with it. The keys are not in the session: a request brings its own, so they are wiped where
//! they always are.

use core::fmt::{self, Write};

use kpi::log::Line;
use kpi::{Result, Sleepable, ocf};
use wg::messages::KEY_LEN;
use wg::wg_crypto::Aead;

/// Its name for `net.wg.crypto`.
pub(crate) const NAME: &str = "ocf";

/// The driver of the framework that is used, and a session to test it with.
pub(crate) struct Ocf {
    // Before the driver: it goes first.
    test: OcfSession,
    driver: ocf::Driver,
}

impl Ocf {
    /// Finds a driver that is fit.
    ///
    /// # Errors
    /// EOPNOTSUPP when there is none; what making a session says.
    pub(crate) fn open(cx: &Sleepable) -> Result<Self> {
        let driver = ocf::Driver::open(cx)?;
        Ok(Self {
            test: OcfSession(driver.session(cx)?),
            driver,
        })
    }

    /// The backend outside of any WireGuard session.
    pub(crate) fn aead(&self) -> &OcfSession {
        &self.test
    }

    /// The backend of a new WireGuard session.
    pub(crate) fn session(&self, cx: &Sleepable) -> Result<OcfSession> {
        self.driver.session(cx).map(OcfSession)
    }

    /// Names the backend and its driver: `ocf (ossl0)`.
    pub(crate) fn describe(&self, line: &mut Line) -> fmt::Result {
        write!(line, "{NAME} ({})", self.driver.name())
    }
}

/// A session of the framework as a backend.
pub(crate) struct OcfSession(ocf::Session);

impl Aead for OcfSession {
    fn name(&self) -> &'static str {
        NAME
    }

    fn seal(&self, key: &[u8; KEY_LEN], counter: u64, buf: &mut [u8]) -> bool {
        self.0.seal(key, counter, buf)
    }

    fn open(&self, key: &[u8; KEY_LEN], counter: u64, buf: &mut [u8]) -> bool {
        self.0.open(key, counter, buf)
    }
}
