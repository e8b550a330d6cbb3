// SPDX-License-Identifier: BSD-2-Clause
//! What the kernel's linker for shared objects (sys/kern/link_elf.c) wants of one.

use object::elf::{self, FileHeader64};
use object::read::elf::{Dyn, ElfFile, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol};

use crate::module::{Error, Machine, Module};

type Shared<'a> = ElfFile<'a, FileHeader64<Endianness>>;

/// `MAXSEGS` of link_elf.c.
const MAX_SEGMENTS: usize = 4;
/// Linker sets without which nothing of the module would run.
const SETS: &[&str] = &["sysinit_set", "sysuninit_set", "modmetadata_set", "vnet"];
const VNET: &str = "set_vnet";

/// Puts what the shared object says in the place of what its origin said.
pub(crate) fn read(module: &mut Module, file: &Shared<'_>) -> Result<(), Error> {
    module.left.clear();
    for (offset, r) in file.dynamic_relocations().into_iter().flatten() {
        if let object::RelocationFlags::Elf { r_type } = r.flags() {
            module.left.push((r_type, format!("address {offset:#x}")));
        }
    }
    module.sections.clear();
    for section in file.sections() {
        let object::SectionFlags::Elf { sh_flags, .. } = section.flags() else {
            continue;
        };
        if sh_flags & elf::SHF_ALLOC != elf::SectionFlags(0) {
            let name = section.name()?.to_string();
            module.sections.push((name, section.size()));
        }
    }
    module.imports.clear();
    module.exports.clear();
    let mut sets = Vec::new();
    for symbol in file.dynamic_symbols() {
        let name = symbol.name()?.to_string();
        if symbol.is_undefined() {
            if !name.is_empty() {
                module.imports.push(name);
            }
        } else if name.starts_with("__start_set_") || name.starts_with("__stop_set_") {
            // The kernel asks for these by name.
            sets.push(name);
        } else {
            module.exports.push(name);
        }
    }
    module.imports.sort();
    module.exports.sort();
    module.malformed = form(file)?;
    for set in SETS {
        for end in ["start", "stop"] {
            let name = format!("__{end}_set_{set}");
            if !sets.contains(&name) {
                let found = format!("{name} is missing: the kernel would not find the set");
                module.malformed.push(found);
            }
        }
    }
    Ok(())
}

/// Segments and the dynamic section.
fn form(file: &Shared<'_>) -> Result<Vec<String>, Error> {
    let endian = file.endian();
    let mut found = Vec::new();
    let mut segments = 0;
    for header in file.elf_program_headers() {
        match header.p_type(endian) {
            elf::PT_LOAD => {
                segments += 1;
                let both = elf::PF_W | elf::PF_X;
                if header.p_flags(endian) & both == both {
                    found.push("a segment is writable and executable".to_string());
                }
            }
            elf::PT_INTERP => found.push("names an interpreter".to_string()),
            _ => {}
        }
    }
    if !(1..=MAX_SEGMENTS).contains(&segments) {
        found.push(format!("{segments} segments, {MAX_SEGMENTS} at most"));
    }
    let table = file.elf_section_table();
    let mut tags = Vec::new();
    if let Some((entries, _)) = table.dynamic(endian, file.data())? {
        tags.extend(entries.iter().map(|d| d.tag(endian)));
    }
    if !tags.contains(&elf::DT_HASH) {
        found.push("no DT_HASH, by which the kernel finds names".to_string());
    }
    if tags.contains(&elf::DT_NEEDED) {
        found.push("needs a shared library".to_string());
    }
    Ok(found)
}

/// References to VNET variables of the module's own that are bound to the place of the variable in the file.
///
/// Each vnet has its own copy. The kernel moves addresses that it finds in a table or in data; one that an instruction
/// computes from its own place stays what it was.
pub(crate) fn fixed_vnet_variables(module: &Module) -> Vec<String> {
    let movable = [
        elf::R_AARCH64_ABS64,
        elf::R_AARCH64_ADR_GOT_PAGE,
        elf::R_AARCH64_LD64_GOT_LO12_NC,
    ];
    let fixed = module.relocations.iter().filter(|r| {
        module.machine == Machine::Arm64
            && r.to.is_some_and(|to| module.section(to.0) == VNET)
            && !movable.contains(&r.kind)
    });
    fixed
        .map(|r| format!("{}: a VNET variable by its place", module.place(r.at)))
        .collect()
}
