// SPDX-License-Identifier: BSD-2-Clause
//! The object file, reduced to what the checks ask for.

use std::collections::{HashMap, HashSet};
use std::fmt;

use object::elf::{self, FileHeader64};
use object::read::elf::{ElfFile, FileHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex};

/// Why a file could not be read.
#[derive(Debug)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<object::Error> for Error {
    fn from(e: object::Error) -> Self {
        Self(e.to_string())
    }
}

/// A place: section and offset in it.
pub(crate) type Place = (usize, u64);

/// A function.
#[derive(Debug)]
pub struct Function {
    /// Its demangled name, without the hash.
    pub name: String,
    /// Section, by its number.
    pub section: usize,
    /// Offset of the first byte in the section.
    pub address: u64,
    /// Bytes of code.
    pub size: u64,
    /// Bytes of stack, the return address not among them; `None` if no compiler said.
    pub frame: Option<u64>,
}

pub(crate) struct Relocation {
    pub(crate) at: Place,
    pub(crate) kind: elf::RelocationType,
    /// What it refers to, if that is defined here.
    pub(crate) to: Option<Place>,
}

/// An object file.
pub struct Module {
    /// All functions, by place.
    pub functions: Vec<Function>,
    /// Names that others are to define.
    pub imports: Vec<String>,
    /// Names that others can see.
    pub exports: Vec<String>,
    /// Names and sizes in bytes of the sections that are loaded.
    pub sections: Vec<(String, u64)>,
    pub(crate) relocations: Vec<Relocation>,
    relocated: HashSet<Place>,
    names: HashMap<usize, String>,
    data: HashMap<usize, Vec<u8>>,
}

impl Module {
    /// Reads an ELF object for amd64.
    ///
    /// # Errors
    /// It is none, or it is broken.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let file = ElfFile::<FileHeader64<Endianness>>::parse(bytes)?;
        let header = file.elf_header();
        let endian = header.endian()?;
        if header.e_machine.get(endian) != elf::EM_X86_64
            || header.e_type.get(endian) != elf::ET_REL
        {
            return Err(Error("not a relocatable object for amd64".into()));
        }
        let mut module = Self {
            functions: Vec::new(),
            imports: Vec::new(),
            exports: Vec::new(),
            sections: Vec::new(),
            relocations: Vec::new(),
            relocated: HashSet::new(),
            names: HashMap::new(),
            data: HashMap::new(),
        };
        module.read_symbols(&file)?;
        for section in file.sections() {
            let object::SectionFlags::Elf { sh_flags, .. } = section.flags() else {
                continue;
            };
            if sh_flags & elf::SHF_ALLOC == elf::SectionFlags(0) {
                continue;
            }
            let index = section.index().0;
            module
                .sections
                .push((section.name()?.to_string(), section.size()));
            module.names.insert(index, section.name()?.to_string());
            module.data.insert(index, section.data()?.to_vec());
            for (offset, r) in section.relocations() {
                let object::RelocationFlags::Elf { r_type } = r.flags() else {
                    continue;
                };
                let to = target(&file, r.target(), addend(r_type, r.addend()))?;
                module.relocated.insert((index, offset));
                module.relocations.push(Relocation {
                    at: (index, offset),
                    kind: r_type,
                    to,
                });
            }
        }
        module.functions.sort_by_key(|f| (f.section, f.address));
        module.functions.dedup_by_key(|f| (f.section, f.address));
        module.read_frames(&file)?;
        Ok(module)
    }

    fn read_symbols(&mut self, file: &ElfFile<'_, FileHeader64<Endianness>>) -> Result<(), Error> {
        for symbol in file.symbols() {
            let name = symbol.name()?.to_string();
            if symbol.is_undefined() {
                if !name.is_empty() {
                    self.imports.push(name);
                }
                continue;
            }
            if symbol.is_global() {
                self.exports.push(name.clone());
            }
            let (Some(SectionIndex(section)), object::SymbolKind::Text) =
                (symbol.section_index(), symbol.kind())
            else {
                continue;
            };
            self.functions.push(Function {
                name: format!("{:#}", rustc_demangle::demangle(&name)),
                section,
                address: symbol.address(),
                size: symbol.size(),
                frame: None,
            });
        }
        self.imports.sort();
        self.exports.sort();
        Ok(())
    }

    /// `.stack_sizes`: the address of a function, and its frame as ULEB128.
    fn read_frames(&mut self, file: &ElfFile<'_, FileHeader64<Endianness>>) -> Result<(), Error> {
        for section in file.sections().filter(|s| s.name() == Ok(".stack_sizes")) {
            let data = section.data()?;
            for (offset, r) in section.relocations() {
                let Some(place) = target(file, r.target(), r.addend())? else {
                    continue;
                };
                let number = usize::try_from(offset)
                    .ok()
                    .and_then(|o| data.get(o.checked_add(8)?..))
                    .and_then(uleb128)
                    .ok_or_else(|| Error(".stack_sizes is cut short".into()))?;
                if let Some(i) = self.function_at(place) {
                    self.functions[i].frame = Some(number);
                }
            }
        }
        Ok(())
    }

    /// The function that has this place in it.
    pub(crate) fn function_at(&self, (section, offset): Place) -> Option<usize> {
        let after = self
            .functions
            .partition_point(|f| (f.section, f.address) <= (section, offset));
        let i = after.checked_sub(1)?;
        let f = &self.functions[i];
        (f.section == section && offset < f.address + f.size.max(1)).then_some(i)
    }

    /// Name of the section that a function is in.
    #[must_use]
    pub fn section_name(&self, f: &Function) -> &str {
        self.names.get(&f.section).map_or("", String::as_str)
    }

    /// The code of a function.
    #[must_use]
    pub fn code(&self, f: &Function) -> &[u8] {
        let range = || {
            let from = usize::try_from(f.address).ok()?;
            let to = from.checked_add(usize::try_from(f.size).ok()?)?;
            self.data.get(&f.section)?.get(from..to)
        };
        range().unwrap_or_default()
    }

    /// The word there, as the file has it.
    pub(crate) fn word(&self, (section, offset): Place) -> Option<u64> {
        let at = usize::try_from(offset).ok()?;
        let bytes = self.data.get(&section)?.get(at..)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    }

    /// Whether a relocation changes what is there.
    pub(crate) fn is_relocated(&self, at: Place) -> bool {
        self.relocated.contains(&at)
    }

    pub(crate) fn place(&self, at: Place) -> String {
        match self.function_at(at) {
            Some(i) => self.functions[i].name.clone(),
            None => format!("section {}, offset {:#x}", at.0, at.1),
        }
    }
}

/// Relative relocations are counted from the end of the instruction, which is four bytes on.
fn addend(kind: elf::RelocationType, addend: i64) -> i64 {
    match kind {
        elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => addend + 4,
        _ => addend,
    }
}

fn target(
    file: &ElfFile<'_, FileHeader64<Endianness>>,
    target: RelocationTarget,
    addend: i64,
) -> Result<Option<Place>, Error> {
    Ok(match target {
        RelocationTarget::Symbol(index) => {
            let symbol = file.symbol_by_index(index)?;
            symbol
                .section_index()
                .map(|s| (s.0, symbol.address().wrapping_add_signed(addend)))
        }
        RelocationTarget::Section(s) => Some((s.0, 0_u64.wrapping_add_signed(addend))),
        _ => None,
    })
}

fn uleb128(bytes: &[u8]) -> Option<u64> {
    let mut value = 0;
    for (i, b) in bytes.iter().take(9).enumerate() {
        value |= u64::from(b & 0x7f) << (7 * i);
        if b & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
