// SPDX-License-Identifier: BSD-2-Clause
//! Where the corpora come from: valid inputs, made by the writers that we have, and hostile ones, by hand.
//!
//! `cargo run -p wg-fuzz-targets --example seeds` writes them to `fuzz/corpus`. What a fuzzer finds is added there by
//! hand, under a name that says what it was.

mod binary;
mod texts;

/// A file of a corpus: the target, the file's name, its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// All seeds.
#[must_use]
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |target, name: &str, bytes: Vec<u8>| seeds.push((target, name.to_owned(), bytes));
    binary::messages(&mut add);
    binary::inner_ip(&mut add);
    binary::nvlist(&mut add);
    binary::wgconf(&mut add);
    binary::netlink(&mut add);
    texts::config(&mut add);
    texts::quick_config(&mut add);
    texts::uapi(&mut add);
    texts::replies(&mut add);
    seeds
}

/// Takes a seed: target, name, bytes.
type Add<'a> = dyn FnMut(&'static str, &str, Vec<u8>) + 'a;
