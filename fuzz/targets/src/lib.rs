// SPDX-License-Identifier: BSD-2-Clause
//! The bodies of the fuzz targets.
//!
//! Each takes arbitrary bytes and panics when a property of a parser does not hold. `fuzz/fuzz_targets` gives each of
//! them to libFuzzer (`make fuzz`); the tests of this crate replay the corpora in `fuzz/corpus` through them with an
//! ordinary compiler. What the corpora hold is made by [`seeds`] or written by hand.
#![forbid(unsafe_code)]

mod config;
mod netlink;
mod nvlist;
mod packets;
mod plain;
pub mod seeds;
mod text;
mod uapi;
mod wgconf;

// The allocator's symbols that the protocol's crate asks for.
use hostkern_malloc as _;

pub use config::{config, quick_config};
pub use netlink::{netlink_datagram, netlink_dump};
pub use nvlist::nvlist;
pub use packets::{inner_ip, messages};
pub use text::text_reply;
pub use uapi::uapi_request;
pub use wgconf::{wgconf_get, wgconf_set};

/// A target: the name of its corpus and of its program, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("config", config),
    ("inner_ip", inner_ip),
    ("messages", messages),
    ("netlink_datagram", netlink_datagram),
    ("netlink_dump", netlink_dump),
    ("nvlist", nvlist),
    ("quick_config", quick_config),
    ("text_reply", text_reply),
    ("uapi_request", uapi_request),
    ("wgconf_get", wgconf_get),
    ("wgconf_set", wgconf_set),
];
