// SPDX-License-Identifier: BSD-2-Clause
//! The driver with one interface, in a kernel on this process's threads.

use std::fmt::Write as _;
use std::sync::Arc;
use std::thread::available_parallelism;

use hostkern::real::{OnLink, RealBackend};
use hostkern::tally::Count;
use hostkern::threads::{RealKernel, boot};
use hostkern::{Config, Errno};
use zeroize::Zeroizing;

use crate::convert::{DriverErrno, Ioctl};

/// Sets the configuration: `SIOCSWG` of `if_wg.h`.
pub const SIOCSWG: u64 = 0xC020_69D2;
/// Reads the configuration: `SIOCGWG` of `if_wg.h`.
pub const SIOCGWG: u64 = 0xC020_69D3;

const ENOSPC: Errno = 28;
const EBUSY: Errno = 16;

/// More than any machine's driver threads are of use to one interface.
const MAX_CPUS: usize = 64;

/// The interface's own counters: names of the C driver's statistics and `IFCOUNTER_*` numbers.
const COUNTERS: [(&str, usize); 8] = [
    ("ipackets", 0),
    ("ierrors", 1),
    ("opackets", 2),
    ("oerrors", 3),
    ("ibytes", 5),
    ("obytes", 6),
    ("iqdrops", 9),
    ("oqdrops", 10),
];

/// An interface that exists.
pub struct Instance {
    kernel: RealKernel,
    /// The interface's name in the kernel, the same as on the host.
    name: String,
}

impl Instance {
    /// Boots the kernel, loads the driver, and creates the interface, which is down.
    ///
    /// # Errors
    /// One line for the user.
    pub fn create(ifname: &str, debug: bool, on_link: OnLink) -> Result<Instance, String> {
        let config = Config {
            ncpu: available_parallelism().map_or(1, |n| n.get().min(MAX_CPUS)),
            log: true,
        };
        let backend = Arc::new(RealBackend::new(ifname, on_link));
        let kernel = boot(&config, backend.clone(), None)
            .map_err(|e| format!("cannot start the driver's threads: {e}"))?;
        kernel
            .load(crate::thunk::module())
            .map_err(|e| format!("the driver refuses to load: {}", DriverErrno(e)))?;
        let host = kernel.host();
        let refused = |e| {
            backend
                .failure()
                .unwrap_or_else(|| format!("the driver refuses the interface: {}", DriverErrno(e)))
        };
        // The kernel's cloner only makes `wgN`; as with ifconfig, any other name is given afterwards.
        let name = kernel.create(&host, cloner_name(ifname)).map_err(refused)?;
        if name != ifname {
            kernel.rename(&host, &name, ifname).map_err(refused)?;
        }
        let instance = Instance {
            kernel,
            name: ifname.to_owned(),
        };
        if debug {
            instance
                .kernel
                .set_debug(&host, ifname, true)
                .map_err(refused)?;
        }
        Ok(instance)
    }

    /// `ifconfig up` or `down`. If the driver cannot come up, the interface is down again afterwards, so that
    /// everybody can see it.
    ///
    /// # Errors
    /// ENXIO; EBUSY if it did not come up, usually for want of its port.
    pub fn set_up(&self, up: bool) -> Result<(), DriverErrno> {
        let host = self.kernel.host();
        self.kernel
            .set_up(&host, &self.name, up)
            .map_err(DriverErrno)?;
        let running = self
            .kernel
            .interface(&host, &self.name)
            .map_err(DriverErrno)?
            .is_running();
        if up && !running {
            self.kernel
                .set_up(&host, &self.name, false)
                .map_err(DriverErrno)?;
            return Err(DriverErrno(EBUSY));
        }
        Ok(())
    }

    /// `ifconfig mtu`.
    ///
    /// # Errors
    /// EINVAL when it is out of the driver's range.
    pub fn set_mtu(&self, mtu: u32) -> Result<(), DriverErrno> {
        let mtu = i32::try_from(mtu).unwrap_or(i32::MAX);
        self.kernel
            .set_mtu(&self.kernel.host(), &self.name, mtu)
            .map_err(DriverErrno)
    }

    /// All counters in one line: the interface's, and, when they are not zero, those of what crossed between host and
    /// driver and of each reason for which a packet was lost.
    #[must_use]
    pub fn statistics(&self) -> String {
        let mut line = format!("uptime={}", self.kernel.uptime_ns() / 1_000_000_000);
        let mut put = |name: &str, n: u64| {
            // Writing to a `String` cannot fail.
            let _ = write!(line, " {name}={n}");
        };
        if let Ok(interface) = self.kernel.interface(&self.kernel.host(), &self.name) {
            put("mtu", interface.mtu().unsigned_abs().into());
            for (name, n) in COUNTERS {
                put(name, interface.counter(n));
            }
        }
        let tally = self.kernel.tally();
        let host = Count::ALL.iter().map(|&c| (c.label(), tally.get(c)));
        for (name, n) in host.filter(|c| c.1 != 0) {
            put(name, n);
        }
        for full in self.kernel.sysctl_names() {
            let name = full.rsplit('.').next().unwrap_or_default();
            let counts = name.starts_with("drop_") || name.starts_with("handshake");
            if counts && let Ok(n @ 1..) = self.kernel.sysctl_number(&full) {
                put(name, n);
            }
        }
        line
    }

    /// Destroys the interface and unloads the driver, which wipes every key.
    pub fn destroy(&self) {
        if let Err(e) = self.kernel.destroy(&self.kernel.host(), &self.name) {
            crate::error!("cannot destroy the interface: {}", DriverErrno(e));
        }
        if let Err(e) = self.kernel.unload() {
            crate::error!("cannot unload the driver: {}", DriverErrno(e));
        }
    }
}

/// What to create for a name: itself if it is `wg` and a unit, written as the kernel would.
fn cloner_name(ifname: &str) -> &str {
    match ifname
        .strip_prefix("wg")
        .map(|unit| (unit, unit.parse::<u16>()))
    {
        Some((unit, Ok(number))) if number.to_string() == unit && number < 0x7fff => ifname,
        _ => "wg",
    }
}

impl Ioctl for Arc<Instance> {
    fn set(&self, mut nvlist: Zeroizing<Vec<u8>>) -> Result<(), DriverErrno> {
        self.kernel
            .ioctl_data(&self.kernel.host(), &self.name, SIOCSWG, &mut nvlist)
            .map(drop)
            .map_err(DriverErrno)
    }

    fn get(&self) -> Result<Zeroizing<Vec<u8>>, DriverErrno> {
        let host = self.kernel.host();
        let call = |buffer: &mut [u8]| self.kernel.ioctl_data(&host, &self.name, SIOCGWG, buffer);
        loop {
            let size = call(&mut []).map_err(DriverErrno)?;
            // Room for a peer that comes in between; with more than that it is asked again.
            let mut nvlist = Zeroizing::new(vec![0; size.saturating_add(4096)]);
            match call(&mut nvlist) {
                Ok(size) => {
                    nvlist.truncate(size);
                    return Ok(nvlist);
                }
                Err(ENOSPC) => {}
                Err(e) => return Err(DriverErrno(e)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::cloner_name;

    #[test]
    fn names_of_the_cloner() {
        for same in ["wg0", "wg17", "wg32766"] {
            assert_eq!(cloner_name(same), same);
        }
        for other in [
            "wg", "wg00", "wg01", "wg+1", "wg32767", "wg99999", "wg-home", "vpn0", "xwg0",
        ] {
            assert_eq!(cloner_name(other), "wg", "{other}");
        }
    }
}
