// SPDX-License-Identifier: BSD-2-Clause
//! Values in messages.

use core::fmt::{Display, Formatter, Result};
use core::net::IpAddr;

/// An address in a message. The core library's own text of addresses can be padded, and that code
/// has places that panic; this has none. IPv6 is written without `::`.
pub(crate) struct Address(pub(crate) IpAddr);

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0 {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                write!(f, "{a}.{b}.{c}.{d}")
            }
            IpAddr::V6(ip) => {
                let mut separator = "";
                for group in ip.segments() {
                    write!(f, "{separator}{group:x}")?;
                    separator = ":";
                }
                Ok(())
            }
        }
    }
}
