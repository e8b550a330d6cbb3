// SPDX-License-Identifier: BSD-2-Clause
//! Keeps the routes to endpoints right while a tunnel is the default route. Only FreeBSD needs it.
//!
//! It is a process of its own: `wg-quick up` starts its own program again. It ends by itself when the interface goes, and
//! takes the routes with it, so nobody has to remember its number.

use std::net::IpAddr;

/// What a monitor needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// The interface.
    pub name: String,
    /// Its number: another interface of the same name is not ours.
    pub index: u32,
    /// It is the default route for IPv4.
    pub v4: bool,
    /// It is the default route for IPv6.
    pub v6: bool,
    /// Endpoints to which `up` made a route.
    pub direct: Vec<IpAddr>,
}

/// The word on the command line that makes this program a monitor; for itself only.
pub const WORD: &str = "--route-monitor";

impl Monitor {
    /// Arguments for the process.
    pub fn arguments(&self) -> [String; 4] {
        let families = match (self.v4, self.v6) {
            (true, true) => "46",
            (true, false) => "4",
            (false, true) => "6",
            (false, false) => "",
        };
        [
            WORD.to_owned(),
            self.name.clone(),
            self.index.to_string(),
            families.to_owned(),
        ]
    }

    /// Lines for its standard input.
    pub fn input(&self) -> String {
        self.direct.iter().map(|ip| format!("{ip}\n")).collect()
    }

    /// The monitor from its arguments without the first, and its input.
    pub fn parse(arguments: &[String], input: &str) -> Option<Monitor> {
        let [name, index, families] = arguments else {
            return None;
        };
        let direct: Result<_, _> = input.lines().map(str::parse).collect();
        Some(Monitor {
            name: name.clone(),
            index: index.parse().ok()?,
            v4: families.contains('4'),
            v6: families.contains('6'),
            direct: direct.ok()?,
        })
    }
}

#[cfg(target_os = "freebsd")]
pub use freebsd::run;

#[cfg(target_os = "freebsd")]
mod freebsd;
