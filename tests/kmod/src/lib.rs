// SPDX-License-Identifier: BSD-2-Clause
//! What can be said about `if_wg.ko` by reading it.
//!
//! A module that breaks one of these rules is refused by the kernel's linker at best, and corrupts
//! memory at worst: a vector register used outside of `fpu_kern_enter(9)` destroys a user's, and a
//! kernel stack is four pages for everybody's frames together.
//!
//! The input is the module with its debug information (`if_wg.ko.full`), whose code is that of the
//! module, and whose `.stack_sizes` the compilers wrote.

mod amd64;
mod arm64;
mod graph;
mod module;
mod shared;
mod symbols;

pub use graph::Graph;
pub use module::{Error, Function, Machine, Module};
pub use symbols::Symbols;

/// Bytes of a frame that nothing may exceed.
pub const FRAME_ANYWHERE: u64 = 2048;
/// Bytes of a frame that nothing on the path of a packet may exceed.
pub const FRAME_PACKET: u64 = 1024;

/// Bytes that our functions may take together in one call of the kernel's on the path of a packet: one of the four pages
/// that a kernel's stack has, on amd64 and on arm64. The other three are for what the kernel has called before it came to
/// us, for the socket, IP and the driver of the card below us, where a second tunnel may be, and for an interrupt on top.
pub const STACK_PACKET: u64 = 4096;
/// The same for what a thread does at the top of its stack (ioctl, load, unload, handshakes), below which is little.
pub const STACK_ANYWHERE: u64 = 8192;

/// The section of the code that may use vector registers, since `kpi` holds them when it calls it.
pub const VECTOR: &str = ".vector";

/// Where the kernel enters the path of a packet, as beginnings of demangled names.
pub const PACKET_ENTRIES: &[&str] = &[
    "kpi::net::input",
    "kpi::ifnet::driver::output",
    "kpi::ifnet::driver::transmit",
    "kpi::ifnet::driver::input",
    "kpi::taskq::run::<if_wg::softc::PacketWork>",
];

/// Where the kernel enters, as beginnings of demangled names: the packet path, and everything else that is registered as a
/// callback and called from a stack of the kernel's. Handlers of sysctl(9) are not here: to register one may call it.
pub const ENTRIES: &[&str] = &[
    "kpi::net::input",
    "kpi::ifnet::driver::output",
    "kpi::ifnet::driver::transmit",
    "kpi::ifnet::driver::input",
    "kpi::ifnet::driver::ioctl",
    "kpi::ifnet::driver::reassign",
    "kpi::taskq::run",
    "kpi::callout::fire",
    "kpi::epoch::reclaim",
    "module_event",
    "vnet_init",
    "vnet_uninit",
    "clone_create",
    "clone_destroy",
    "prison_remove",
];

pub(crate) fn is_entry(name: &str) -> bool {
    ENTRIES.iter().any(|p| name.starts_with(p))
}

fn is_packet_entry(name: &str) -> bool {
    PACKET_ENTRIES.iter().any(|p| name.starts_with(p))
}

/// Beginnings of demangled names of code that runs when Rust panics.
const PANICS: &[&str] = &[
    "core::panicking",
    "core::result::unwrap_failed",
    "core::option::unwrap_failed",
    "core::option::expect_failed",
    "core::slice::index::slice_",
    "core::str::slice_error_fail",
    "core::cell::panic_",
];

/// Relocations that the kernel's linker knows for amd64 (sys/amd64/amd64/elf_machdep.c), of those
/// that a relocatable object may have. `R_X86_64_32` is not one of them, nor is anything with a
/// global offset table.
const AMD64: &[object::elf::RelocationType] = &[
    object::elf::R_X86_64_64,
    object::elf::R_X86_64_PC32,
    object::elf::R_X86_64_PLT32,
    object::elf::R_X86_64_32S,
];

/// The same for arm64 (sys/arm64/arm64/elf_machdep.c), for a shared object.
const ARM64: &[object::elf::RelocationType] = &[
    object::elf::R_AARCH64_ABS64,
    object::elf::R_AARCH64_GLOB_DAT,
    object::elf::R_AARCH64_JUMP_SLOT,
    object::elf::R_AARCH64_RELATIVE,
];

/// What the kernel's linker would not take: relocations of kinds that it does not know, and what a shared object has or
/// lacks. For arm64 also references to a VNET variable that would miss the vnet's copy of it.
#[must_use]
pub fn relocations(module: &Module) -> Vec<String> {
    let known = match module.machine {
        Machine::Amd64 => AMD64,
        Machine::Arm64 => ARM64,
    };
    let unknown = module.left.iter().filter(|(kind, _)| !known.contains(kind));
    let mut found: Vec<String> = unknown
        .map(|(kind, place)| format!("relocation of type {} at {place}", kind.0))
        .collect();
    found.extend(module.malformed.iter().cloned());
    // The kernel's linker would map it so.
    let both = module.changeable.iter();
    found.extend(both.map(|name| format!("section {name} is writable and executable")));
    found.extend(shared::fixed_vnet_variables(module));
    found
}

/// For arm64: functions that the kernel or a table of ours may call by address, and that do not begin with a landing pad.
/// The kernel maps its text, and ours, as guarded. A processor with branch target identification (FEAT_BTI) ends such a call
/// in an exception, and the kernel in a panic; an older one says nothing. (FreeBSD's amd64 kernels do not use the
/// counterpart, indirect branch tracking.)
#[must_use]
pub fn landings(module: &Module) -> Vec<String> {
    if module.machine != Machine::Arm64 {
        return Vec::new();
    }
    let entered: std::collections::BTreeSet<usize> = module
        .relocations
        .iter()
        .filter(|r| !r.is_call() && module.section(r.at.0) != ".eh_frame")
        .filter_map(|r| r.to)
        .filter_map(|to| {
            let i = module.function_at(to)?;
            (module.functions[i].address == to.1).then_some(i)
        })
        .collect();
    let named = module.functions.iter().enumerate();
    let visible = named.filter(|(_, f)| module.exports.contains(&f.name));
    let mut all = entered;
    all.extend(visible.map(|(i, _)| i));
    all.into_iter()
        .map(|i| &module.functions[i])
        .filter(|f| !arm64::is_landing_pad(module.code_from(f)))
        .map(|f| format!("{} has no landing pad, and its address is taken", f.name))
        .collect()
}

/// Imported names that are not on the list.
#[must_use]
pub fn imports(module: &Module, allowed: &Symbols) -> Vec<String> {
    let made_by_linker = |name: &str| {
        ["__start_set_", "__stop_set_"]
            .iter()
            .any(|p| name.starts_with(p))
    };
    module
        .imports
        .iter()
        .filter(|name| !made_by_linker(name) && !allowed.has(name))
        .map(|name| format!("imports {name}, which the list does not have"))
        .collect()
}

/// Defined names that other modules could see: they would clash with somebody's.
#[must_use]
pub fn exports(module: &Module) -> Vec<String> {
    module
        .exports
        .iter()
        .map(|name| format!("{name} is visible to other modules"))
        .collect()
}

/// Instructions with vector or floating-point registers, outside the section [`VECTOR`]; for arm64 also those that write to
/// x18, anywhere.
#[must_use]
pub fn vectors(module: &Module) -> Vec<String> {
    let first = |f: &Function| {
        let code = module.code(f);
        let scalar = module.section_name(f) != VECTOR;
        match module.machine {
            Machine::Amd64 if scalar => amd64::first_use(code, f.address),
            Machine::Amd64 => None,
            Machine::Arm64 => {
                let vector = scalar.then(|| arm64::first_use(code)).flatten();
                vector.or_else(|| arm64::per_cpu_use(code))
            }
        }
    };
    let found = module.functions.iter().filter_map(|f| Some((f, first(f)?)));
    found
        .map(|(f, text)| format!("{}: {text}", f.name))
        .collect()
}

/// Frames that are too large, and functions whose frame nobody knows.
#[must_use]
pub fn frames(module: &Module, graph: &Graph) -> Vec<String> {
    let packet = graph.reachable(module, PACKET_ENTRIES);
    let mut found: Vec<String> = PACKET_ENTRIES
        .iter()
        .filter(|p| !module.functions.iter().any(|f| f.name.starts_with(**p)))
        .map(|p| format!("{p}: the packet path does not begin there any more"))
        .collect();
    for (i, f) in module.functions.iter().enumerate() {
        let limit = if packet.contains(&i) {
            FRAME_PACKET
        } else {
            FRAME_ANYWHERE
        };
        match f.frame {
            None => found.push(format!("{}: no entry in .stack_sizes", f.name)),
            Some(frame) if frame > limit => {
                found.push(format!("{}: frame of {frame} bytes, limit {limit}", f.name));
            }
            Some(_) => {}
        }
    }
    found
}

/// One entry of the kernel's with the chain of our calls from it that takes most stack.
pub struct Chain {
    /// The entry's number in [`Module::functions`].
    pub entry: usize,
    /// Bytes.
    pub bytes: u64,
    /// Bytes that it may take.
    pub limit: u64,
    /// The functions, the entry first.
    pub functions: Vec<usize>,
}

/// The deepest chain of each entry, the deepest of them first.
#[must_use]
pub fn chains(module: &Module, graph: &Graph) -> Vec<Chain> {
    let entries = module.functions.iter().enumerate();
    let entries = entries.filter(|(_, f)| is_entry(&f.name));
    let mut chains: Vec<Chain> = entries
        .map(|(entry, f)| {
            let (bytes, functions) = graph.deepest(module, entry);
            let limit = if is_packet_entry(&f.name) {
                STACK_PACKET
            } else {
                STACK_ANYWHERE
            };
            Chain {
                entry,
                bytes,
                limit,
                functions,
            }
        })
        .collect();
    chains.sort_by_key(|c| std::cmp::Reverse(c.bytes));
    chains
}

/// Chains that take more stack than they may, and entries that are not there any more.
#[must_use]
pub fn depths(module: &Module, graph: &Graph) -> Vec<String> {
    let lost = ENTRIES
        .iter()
        .filter(|p| !module.functions.iter().any(|f| f.name.starts_with(**p)))
        .map(|p| format!("{p}: the kernel does not enter there any more"));
    let deep = chains(module, graph)
        .into_iter()
        .filter(|c| c.bytes > c.limit)
        .map(|c| {
            let names = c.functions.iter().map(|&f| &*module.functions[f].name);
            let names: Vec<&str> = names.collect();
            let names = names.join(" -> ");
            format!("{} bytes of stack, limit {}: {names}", c.bytes, c.limit)
        });
    lost.chain(deep).collect()
}

/// Panics that cannot be reached and that a compiler has not removed, with the function that would call them.
///
/// The loops over the 64 digits of a scalar look into a table of 32 entries at half the digit's number. LLVM sees for amd64
/// that this is always within the table, and for arm64 it leaves the test.
const UNREACHABLE: &[(Machine, &str, &str)] = &[(
    Machine::Arm64,
    "core::panicking::panic_bounds_check",
    "<curve25519_dalek::montgomery::MontgomeryPoint>::mul_base_clamped",
)];

/// Code of the core library that runs when Rust panics, with who gets there.
#[must_use]
pub fn panics(module: &Module, graph: &Graph) -> Vec<String> {
    let is_panic = |name: &str| PANICS.iter().any(|p| name.starts_with(p));
    let is_unreachable =
        |callee: &str, caller: &str| UNREACHABLE.contains(&(module.machine, callee, caller));
    let mut found = Vec::new();
    for (i, f) in module.functions.iter().enumerate() {
        // `ring` asserts that it is used as it is meant to be, and that a processor has features that
        // it has seen. There is no input with which its two functions that we use get there.
        if !is_panic(&f.name) || module.section_name(f) == VECTOR {
            continue;
        }
        let callers: Vec<&str> = graph
            .callers(i)
            .map(|c| module.functions[c].name.as_str())
            .collect();
        // What only other panics call is told of with those.
        let culprits: Vec<&str> = callers
            .iter()
            .copied()
            .filter(|name| !is_panic(name) && !is_unreachable(&f.name, name))
            .collect();
        if !culprits.is_empty() || callers.is_empty() {
            found.push(format!("{} <- {}", f.name, culprits.join(", ")));
        }
    }
    let imported = module.imports.iter().filter(|name| {
        let name = format!("{:#}", rustc_demangle::demangle(name));
        is_panic(&name)
    });
    found.extend(imported.map(|name| format!("{name} is imported")));
    found
}
