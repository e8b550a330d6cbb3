// SPDX-License-Identifier: BSD-2-Clause
//! What can be said about `if_wg.ko` by reading it.
//!
//! A module that breaks one of these rules is refused by the kernel's linker at best, and corrupts
//! memory at worst: a vector register used outside of `fpu_kern_enter(9)` destroys a user's, and a
//! kernel stack is four pages for everybody's frames together.
//!
//! The input is the module with its debug information (`if_wg.ko.full`), whose code is that of the
//! module, and whose `.stack_sizes` the compilers wrote.

mod graph;
mod module;
mod symbols;
mod vector;

pub use graph::Graph;
pub use module::{Error, Function, Module};
pub use symbols::Symbols;

/// Bytes of a frame that nothing may exceed.
pub const FRAME_ANYWHERE: u64 = 2048;
/// Bytes of a frame that nothing on the path of a packet may exceed.
pub const FRAME_PACKET: u64 = 1024;

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
const RELOCATIONS: &[object::elf::RelocationType] = &[
    object::elf::R_X86_64_64,
    object::elf::R_X86_64_PC32,
    object::elf::R_X86_64_PLT32,
    object::elf::R_X86_64_32S,
];

/// Relocations of kinds that the kernel does not know.
#[must_use]
pub fn relocations(module: &Module) -> Vec<String> {
    module
        .relocations
        .iter()
        .filter(|r| !RELOCATIONS.contains(&r.kind))
        .map(|r| format!("relocation of type {} at {}", r.kind.0, module.place(r.at)))
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

/// Instructions with vector or floating-point registers, outside the section [`VECTOR`].
#[must_use]
pub fn vectors(module: &Module) -> Vec<String> {
    module
        .functions
        .iter()
        .filter(|f| module.section_name(f) != VECTOR)
        .filter_map(|f| vector::first_use(module.code(f), f.address).map(|text| (f, text)))
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
        // Assembly says nothing about its frames; what it takes from the stack pointer does.
        let assembly = || (module.section_name(f) == VECTOR).then(|| vector::frame(module.code(f)));
        match f.frame.or_else(assembly) {
            None => found.push(format!("{}: no entry in .stack_sizes", f.name)),
            Some(frame) if frame > limit => {
                found.push(format!("{}: frame of {frame} bytes, limit {limit}", f.name));
            }
            Some(_) => {}
        }
    }
    found
}

/// Code of the core library that runs when Rust panics, with who gets there.
#[must_use]
pub fn panics(module: &Module, graph: &Graph) -> Vec<String> {
    let is_panic = |name: &str| PANICS.iter().any(|p| name.starts_with(p));
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
            .filter(|name| !is_panic(name))
            .collect();
        found.push(format!("{} <- {}", f.name, callers.join(", ")));
    }
    let imported = module.imports.iter().filter(|name| {
        let name = format!("{:#}", rustc_demangle::demangle(name));
        is_panic(&name)
    });
    found.extend(imported.map(|name| format!("{name} is imported")));
    found
}
