// SPDX-License-Identifier: BSD-2-Clause
//! Requests of any content, and what comes of them.

use hostkern::Errno;
use hostkern::sim::Sim;
use nv::{WriteError, Writer};

use crate::Node;

/// What writes the pairs of an nvlist.
pub type Body<'a> = dyn FnMut(&mut Writer<'_>) -> Result<(), WriteError> + 'a;

/// A packed nvlist of any content.
///
/// # Panics
/// When `body` does not write one.
#[must_use]
pub fn pack(body: &mut Body<'_>) -> Vec<u8> {
    let mut bytes = vec![0; nv::measure(body).expect("an nvlist")];
    nv::pack(&mut nv::SliceSink::new(&mut bytes), body).expect("an nvlist");
    bytes
}

/// Asserts that a request fails with `errno`, and that nothing has changed then: neither what GET tells nor the sockets.
///
/// # Panics
/// If not.
#[track_caller]
pub fn refused(sim: &Sim, node: &Node, what: &str, mut bytes: Vec<u8>, errno: Errno) {
    let state = || (node.get_raw(sim), sim.sockets(&node.host));
    let before = state();
    assert_eq!(node.set_raw(sim, &mut bytes), Err(errno), "{what}");
    assert_eq!(state(), before, "{what} has changed something");
}

/// Asserts that a request succeeds.
///
/// # Panics
/// If not.
#[track_caller]
pub fn accepted(sim: &Sim, node: &Node, what: &str, mut bytes: Vec<u8>) {
    assert_eq!(node.set_raw(sim, &mut bytes), Ok(()), "{what}");
}
