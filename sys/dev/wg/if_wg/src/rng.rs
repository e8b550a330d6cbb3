// SPDX-License-Identifier: BSD-2-Clause
//! The kernel's random numbers for the protocol.

use wg::wg_crypto::Rng;

/// random(9)'s strong generator.
pub(crate) struct KernelRng;

impl Rng for KernelRng {
    fn fill(&mut self, buf: &mut [u8]) {
        kpi::random::fill(buf);
    }
}
