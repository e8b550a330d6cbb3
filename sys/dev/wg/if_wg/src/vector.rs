// SPDX-License-Identifier: BSD-2-Clause
//! The backend of the packet cipher in vector code.

use kpi::{fpu, vector};
use wg::messages::KEY_LEN;
use wg::wg_crypto::Aead;

/// The code of the crate `ring`, in an object of its own.
pub(crate) struct Vector;

/// The one [`Vector`].
pub(crate) static VECTOR: Vector = Vector;

impl Aead for Vector {
    fn name(&self) -> &'static str {
        "ring"
    }

    fn seal(&self, key: &[u8; KEY_LEN], counter: u64, buf: &mut [u8]) -> bool {
        vector::seal(key, counter, buf)
    }

    fn open(&self, key: &[u8; KEY_LEN], counter: u64, buf: &mut [u8]) -> bool {
        vector::open(key, counter, buf)
    }

    fn batch(&self, f: &mut dyn FnMut()) {
        fpu::with_vector(f);
    }
}
