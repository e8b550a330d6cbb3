// SPDX-License-Identifier: BSD-2-Clause
//! How much there may be, and how much may wait, as far as an operator can set it: `net.wg.max_*`, by sysctl(8) or as loader
//! tunables.
//!
//! The lower bounds keep an interface working, the upper ones bound the memory that somebody who
//! floods it can take.

use core::ffi::CStr;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU64, Ordering};

use kpi::Result;
use kpi::sysctl::Registrar;

use crate::module::Module;

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident = $default:literal, $range:expr => $label:literal, $descr:literal;)+) => {
        /// The limits of all interfaces.
        pub(crate) struct Limits {
            $($name: AtomicU64,)+
        }

        impl Limits {
            pub(crate) const fn new() -> Self {
                Self { $($name: AtomicU64::new($default),)+ }
            }

            $(
                $(#[doc = $doc])+
                #[inline]
                pub(crate) fn $name(&self) -> usize {
                    // Within its range, all of which fits.
                    usize::try_from(self.$name.load(Ordering::Relaxed)).unwrap_or($default)
                }
            )+
        }

        /// Offers every limit to sysctl(8).
        pub(crate) fn register(registrar: &mut Registrar<'_, Module>) -> Result {
            $({
                const RANGE: RangeInclusive<u64> = $range;
                const { assert!(*RANGE.start() <= $default && $default <= *RANGE.end()) };
                const NAME: &CStr = $label;
                registrar.read_write(NAME, $descr, |module| &module.limits.$name, RANGE)?;
            })+
            Ok(())
        }
    };
}

limits! {
    /// Interfaces of one network stack.
    interfaces = 256, 1..=32_768 => c"max_interfaces",
        c"Interfaces of one network stack";
    /// Peers of all interfaces of one network stack.
    peers = 131_072, 1..=16_777_216 => c"max_peers",
        c"Peers of all interfaces of one network stack";
    /// Allowed IPs of all of them.
    allowed_ips = 1_048_576, 1..=67_108_864 => c"max_allowed_ips",
        c"Allowed IPs of all interfaces of one network stack";
    /// Packets that wait for one peer's handshake. The oldest gives way to the newest.
    staged = 128, 1..=65_536 => c"max_staged",
        c"Packets that wait for a peer's handshake";
    /// Packets of one peer under way in one direction.
    in_flight = 1024, 64..=65_536 => c"max_in_flight",
        c"Packets of a peer that are being encrypted, or decrypted";
    /// Packets that wait for one CPU. More are dropped: a longer queue only adds delay.
    packets = 1024, 64..=65_536 => c"max_packets",
        c"Packets that wait for a CPU to work on, of interfaces that come up from now on";
    /// Handshake messages that wait. More are dropped.
    handshakes = 4096, 64..=65_536 => c"max_handshakes",
        c"Handshake messages that wait, of interfaces that come up from now on";
}
