// SPDX-License-Identifier: BSD-2-Clause
//! Why packets were dropped, told apart, and what became of handshakes.
//!
//! The interface's error counters say that packets were lost; these say where to look. They are
//! plain atomics: a drop is rare, or it is a flood, and then a shared cache line is the least of
//! the costs.

use core::ffi::CStr;
use core::sync::atomic::{AtomicU64, Ordering};

use kpi::sysctl::Registrar;
use kpi::{AllocError, Result};

use crate::module::Module;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident => $label:literal,)+) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        /// Number of reasons.
        const REASONS: usize = [$(Reason::$name,)+].len();

        /// Offers every counter to sysctl(8).
        pub(crate) fn register(registrar: &mut Registrar<'_, Module>) -> Result {
            $(
                registrar.read_only(
                    $label,
                    const { text(concat!("Packets dropped:", $($doc,)+ "\0")) },
                    |module| module.stats.counter(Reason::$name),
                )?;
            )+
            Handshakes::register(registrar)?;
            registrar.read_only(
                c"config_steps",
                c"Nodes and entries that configuring and reading interfaces has looked at",
                |module| &module.stats.config_steps,
            )?;
            registrar.read_only(
                c"limit_refusals",
                c"Interfaces and requests that were refused for a limit of a network stack",
                |module| &module.stats.limit_refusals,
            )
        }
    };
}

/// The C string in `s`, which ends with a NUL.
const fn text(s: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(s.as_bytes()) {
        Ok(text) => text,
        Err(_) => c"",
    }
}

reasons! {
    /// No memory for a packet or what it needs.
    NoMemory => c"drop_no_memory",
    /// Not a WireGuard message, or one of the wrong length.
    Malformed => c"drop_malformed",
    /// A handshake message whose first MAC is not for our key.
    BadMac => c"drop_bad_mac",
    /// A handshake message that was answered with a cookie, because we are under load.
    CookieDemanded => c"drop_cookie_demanded",
    /// A handshake message of a source that sends too many.
    RateLimited => c"drop_rate_limited",
    /// A handshake message that did not authenticate, was replayed, or came from an unknown peer.
    BadHandshake => c"drop_bad_handshake",
    /// More handshake messages than the queue holds.
    HandshakeQueueFull => c"drop_handshake_queue_full",
    /// A receiver index that belongs to no handshake and no session.
    UnknownIndex => c"drop_unknown_index",
    /// A data packet of a session that is too old or has been replaced.
    ExpiredSession => c"drop_expired_session",
    /// A data packet whose authentication tag is wrong.
    BadTag => c"drop_bad_tag",
    /// A data packet that was received before, or is too old to tell.
    Replayed => c"drop_replayed",
    /// A packet inside the tunnel that is not well-formed IPv4 or IPv6.
    BadInnerPacket => c"drop_bad_inner_packet",
    /// A packet inside the tunnel whose source is not among the peer's allowed IPs.
    SourceNotAllowed => c"drop_source_not_allowed",
    /// More packets than the queues to the crypto tasks hold.
    QueueFull => c"drop_queue_full",
    /// A packet to send that no peer's allowed IPs cover.
    NoPeer => c"drop_no_peer",
    /// A packet to send to a peer without an endpoint.
    NoEndpoint => c"drop_no_endpoint",
    /// More packets waiting for a handshake than a peer may have, or the handshake gave up.
    NoSession => c"drop_no_session",
    /// A packet that came back to the interface through its own tunnel.
    Loop => c"drop_loop",
    /// A packet to send whose IP version is not that of its destination.
    BadFamily => c"drop_bad_family",
    /// A packet for an interface that is down or going away.
    Down => c"drop_down",
    /// A message that the socket refused to send.
    SendFailed => c"drop_send_failed",
}

impl From<AllocError> for Reason {
    fn from(_: AllocError) -> Self {
        Self::NoMemory
    }
}

macro_rules! handshakes {
    ($($(#[doc = $doc:literal])+ $name:ident => $label:literal,)+) => {
        /// What became of handshakes.
        pub(crate) struct Handshakes {
            $($(#[doc = $doc])+ pub(crate) $name: AtomicU64,)+
        }

        impl Handshakes {
            const fn new() -> Self {
                Self { $($name: AtomicU64::new(0),)+ }
            }

            fn register(registrar: &mut Registrar<'_, Module>) -> Result {
                $(
                    registrar.read_only(
                        $label,
                        const { text(concat!("Handshakes:", $($doc,)+ "\0")) },
                        |module| &module.stats.handshakes.$name,
                    )?;
                )+
                Ok(())
            }
        }
    };
}

handshakes! {
    /// Those that completed, in either role.
    completed => c"handshakes",
    /// Initiations that were sent, the repeated ones too.
    initiations_sent => c"handshake_initiations_sent",
    /// Initiations that were authentic, and answered.
    initiations_answered => c"handshake_initiations_answered",
    /// Those that were given up after no answer had come for long.
    abandoned => c"handshake_abandoned",
    /// Cookies that were demanded of a source, because we were under load.
    cookies_sent => c"handshake_cookies_sent",
    /// Cookies that a peer under load has demanded of us.
    cookies_received => c"handshake_cookies_received",
}

/// Adds `n`.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The counters of all interfaces together.
pub(crate) struct Stats {
    drops: [AtomicU64; REASONS],
    /// Drops of no known reason: always 0.
    other: AtomicU64,
    pub(crate) handshakes: Handshakes,
    /// What configuring and reading interfaces took: nodes of tables and entries of requests that
    /// were looked at.
    pub(crate) config_steps: AtomicU64,
    /// Interfaces and requests that were refused since there are as many as there may be.
    pub(crate) limit_refusals: AtomicU64,
}

impl Stats {
    pub(crate) const fn new() -> Self {
        Self {
            drops: [const { AtomicU64::new(0) }; REASONS],
            other: AtomicU64::new(0),
            handshakes: Handshakes::new(),
            config_steps: AtomicU64::new(0),
            limit_refusals: AtomicU64::new(0),
        }
    }

    pub(crate) fn drop(&self, why: Reason, packets: u64) {
        self.counter(why).fetch_add(packets, Ordering::Relaxed);
    }

    pub(crate) fn counter(&self, why: Reason) -> &AtomicU64 {
        self.drops.get(why as usize).unwrap_or(&self.other)
    }
}
