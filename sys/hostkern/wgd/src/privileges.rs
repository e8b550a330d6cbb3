// SPDX-License-Identifier: BSD-2-Clause
//! Giving up what the daemon does not need, and keeping keys out of files.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// What remains: interfaces, marks and large socket buffers; and ports below 1024.
const NEEDED: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_BIND_SERVICE);

/// Checks that a network interface may be created.
///
/// # Errors
/// One line for the user.
pub fn check() -> Result<(), String> {
    let sets = capabilities(None).map_err(|e| format!("cannot read own capabilities: {e}"))?;
    if sets.effective.contains(CapabilitySet::NET_ADMIN) {
        Ok(())
    } else {
        Err("creating a network interface needs root or the CAP_NET_ADMIN capability".into())
    }
}

/// No memory of this process in a core file or before a debugger: it holds keys.
///
/// # Errors
/// One line for the user.
pub fn hide_memory() -> Result<(), String> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(|e| format!("cannot forbid core dumps: {e}"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|e| format!("cannot forbid core dumps: {e}"))
}

/// Lets the process have as many descriptors as it may: every client of the control socket takes one. With fewer than
/// clients may be connected, the last ones wait to be accepted until others leave.
pub fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Raising it to the limit's own maximum is not refused.
    let _ = setrlimit(Resource::Nofile, all);
}

/// Gives up all capabilities but [`NEEDED`], for good. Call it before there are threads: each has its own set, and new
/// ones inherit.
///
/// # Errors
/// One line for the user.
pub fn drop_all_but_needed() -> Result<(), String> {
    let failed = |e: rustix::io::Errno| format!("cannot give up privileges: {e}");
    let now = capabilities(None).map_err(failed)?;
    // What no later program could regain. Needs CAP_SETPCAP, which a restricted container may lack; then the
    // container's own limits stand.
    if now.effective.contains(CapabilitySet::SETPCAP) {
        for one in CapabilitySet::all().difference(NEEDED).iter() {
            // The kernel knows fewer capabilities than the type.
            let _ = remove_capability_from_bounding_set(one);
        }
    }
    // Kernels before 4.3 have no ambient set.
    let _ = clear_ambient_capability_set();
    set_no_new_privs(true).map_err(failed)?;
    let keep = now.permitted.intersection(NEEDED);
    set_capabilities(
        None,
        CapabilitySets {
            effective: keep,
            permitted: keep,
            inheritable: CapabilitySet::empty(),
        },
    )
    .map_err(failed)
}
