// SPDX-License-Identifier: BSD-2-Clause
//! The WireGuard protocol: noise, cookie, messages, replay, allowed IPs, timers.
#![no_std]
#![forbid(unsafe_code)]

pub mod allowedips;
pub mod ip;
pub mod messages;
pub mod ratelimit;
pub mod replay;
pub mod timers;
pub mod wg_cookie;
pub mod wg_crypto;
pub mod wg_noise;

// The allocator's symbols, for the unit tests.
#[cfg(test)]
use hostkern_malloc as _;
