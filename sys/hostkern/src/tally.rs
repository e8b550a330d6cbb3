// SPDX-License-Identifier: BSD-2-Clause
//! What crossed between the host and the kernel in this process, and what was lost on the way.
//!
//! The driver counts what it drops itself. These are the packets that it never saw, or that it had
//! already given away: without a count of its own each of them would have vanished in silence.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident => $label:literal,)+) => {
        /// One of the counters.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Count {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Count {
            /// All of them.
            pub const ALL: &[Count] = &[$(Count::$name,)+];

            /// Its name for a person.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Count::$name => $label,)+
                }
            }
        }

        const COUNTS: usize = [$(Count::$name,)+].len();
    };
}

counts! {
    /// Reads from the interface's device: packets of the host, many segments of a flow as one.
    DeviceReads => "device_reads",
    /// Packets of the host that were handed to the driver, each segment as one.
    DeviceIn => "device_in",
    /// Packets of the driver that were handed to the host.
    DeviceOut => "device_out",
    /// Packets that the host could not hand over.
    DeviceReadFailed => "drop_device_read",
    /// Packets of the host that could not be taken apart into segments.
    DeviceSplit => "drop_device_split",
    /// Packets of the host that are not IP.
    DeviceNotIp => "drop_device_not_ip",
    /// Packets of batches that the host did not take, or not whole.
    DeviceWrite => "drop_device_write",
    /// Failures to read from a socket.
    SocketRead => "drop_socket_read",
    /// Datagrams that the host refused to send.
    SocketSend => "drop_socket_send",
    /// Packets or datagrams for which there was no memory.
    NoMemory => "drop_host_no_memory",
    /// Packets for an interface that goes away, and datagrams for a socket that was closed.
    Closed => "drop_closed",
}

/// The counters of one kernel.
#[derive(Debug, Default)]
pub struct Tally([AtomicU64; COUNTS]);

impl Tally {
    /// Counts `n` more.
    pub fn add(&self, what: Count, n: usize) {
        self.0[what as usize].fetch_add(n as u64, Ordering::Relaxed);
    }

    /// Counts one packet that was lost, and tells so if it is the first of its kind: one line in the log is enough to
    /// look at the counters.
    #[cfg(feature = "real")]
    pub(crate) fn lost(&self, what: Count, why: &std::io::Error) {
        if self.0[what as usize].fetch_add(1, Ordering::Relaxed) == 0 {
            crate::log::warning(format_args!("{}: {why}", what.label()));
        }
    }

    /// How many so far.
    #[must_use]
    pub fn get(&self, what: Count) -> u64 {
        self.0[what as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_is_its_own() {
        let tally = Tally::default();
        for (n, &what) in Count::ALL.iter().enumerate() {
            tally.add(what, n + 1);
        }
        for (n, &what) in Count::ALL.iter().enumerate() {
            assert_eq!(tally.get(what), n as u64 + 1, "{}", what.label());
        }
    }
}
