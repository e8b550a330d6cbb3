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

/// The architecture that a module is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Machine {
    /// The module is a relocatable object.
    Amd64,
    /// The module is a shared object, which a relocatable one was linked into.
    Arm64,
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

impl Relocation {
    /// Whether it is of a kind that only calls and jumps have. Others may be of these too.
    pub(crate) fn is_call(&self) -> bool {
        let kinds = [
            elf::R_X86_64_PLT32,
            elf::R_AARCH64_CALL26,
            elf::R_AARCH64_JUMP26,
        ];
        kinds.contains(&self.kind)
    }
}

/// An object file.
pub struct Module {
    /// What it is for.
    pub machine: Machine,
    /// All functions, by place.
    pub functions: Vec<Function>,
    /// Names that others are to define.
    pub imports: Vec<String>,
    /// Names that others can see.
    pub exports: Vec<String>,
    /// Names and sizes in bytes of the sections that are loaded.
    pub sections: Vec<(String, u64)>,
    /// What refers to what, in the relocatable object.
    pub(crate) relocations: Vec<Relocation>,
    /// Kinds of the relocations that the kernel's linker is to do, each with its place as text.
    pub(crate) left: Vec<(elf::RelocationType, String)>,
    /// What is wrong with the way the file is put together.
    pub(crate) malformed: Vec<String>,
    /// Sections with code that could be written to, in the relocatable object.
    pub(crate) changeable: Vec<String>,
    relocated: HashSet<Place>,
    names: HashMap<usize, String>,
    data: HashMap<usize, Vec<u8>>,
}

impl Module {
    /// Reads a module for amd64, a relocatable object.
    ///
    /// # Errors
    /// It is none, or it is broken.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let module = Self::parse_object(bytes)?;
        match module.machine {
            Machine::Amd64 => Ok(module),
            Machine::Arm64 => Err(Error("a module for arm64 is a shared object".into())),
        }
    }

    fn parse_object(bytes: &[u8]) -> Result<Self, Error> {
        let file = ElfFile::<FileHeader64<Endianness>>::parse(bytes)?;
        let machine = match kind(&file)? {
            (elf::EM_X86_64, elf::ET_REL) => Machine::Amd64,
            (elf::EM_AARCH64, elf::ET_REL) => Machine::Arm64,
            (elf::EM_AARCH64, elf::ET_DYN) => {
                let why = "a shared object: say which relocatable one it was linked from";
                return Err(Error(why.into()));
            }
            _ => return Err(Error("not an object for amd64 or arm64".into())),
        };
        let mut module = Self {
            machine,
            functions: Vec::new(),
            imports: Vec::new(),
            exports: Vec::new(),
            sections: Vec::new(),
            relocations: Vec::new(),
            left: Vec::new(),
            malformed: Vec::new(),
            changeable: Vec::new(),
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
            let both = elf::SHF_WRITE | elf::SHF_EXECINSTR;
            if sh_flags & both == both {
                module.changeable.push(section.name()?.to_string());
            }
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
        module.measure_assembly();
        let left = module.relocations.iter();
        module.left = left.map(|r| (r.kind, module.place(r.at))).collect();
        Ok(module)
    }

    /// Reads a shared object for arm64, and the relocatable one that it was linked from. Of the first are the relocations
    /// that are left, the names and the sizes; of the second, functions and who calls whom.
    ///
    /// # Errors
    /// One of them is none, or is broken.
    pub fn parse_linked(shared: &[u8], object: &[u8]) -> Result<Self, Error> {
        let mut module = Self::parse_object(object)?;
        let file = ElfFile::<FileHeader64<Endianness>>::parse(shared)?;
        if kind(&file)? != (elf::EM_AARCH64, elf::ET_DYN) || module.machine != Machine::Arm64 {
            return Err(Error("not a shared object for arm64 and its origin".into()));
        }
        crate::shared::read(&mut module, &file)?;
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

    /// Assembly says nothing about its frames; what it takes from the stack pointer does. All of ours is vector code.
    fn measure_assembly(&mut self) {
        for i in 0..self.functions.len() {
            let f = &self.functions[i];
            if f.frame.is_none() && self.section_name(f) == crate::VECTOR {
                let code = self.code(f);
                let frame = match self.machine {
                    Machine::Amd64 => crate::amd64::frame(code),
                    Machine::Arm64 => crate::arm64::frame(code),
                };
                self.functions[i].frame = Some(frame);
            }
        }
    }

    /// Functions that function `i` calls or jumps to by distances which are final, so without a relocation.
    pub(crate) fn branches(&self, i: usize) -> impl Iterator<Item = usize> {
        let f = &self.functions[i];
        let code = self.code(f);
        let places = match self.machine {
            Machine::Amd64 => crate::amd64::branches(code, f.address),
            Machine::Arm64 => crate::arm64::branches(code, f.address),
        };
        places.into_iter().filter_map(|(operand, to)| {
            let place = (f.section, to);
            let final_ = !self.is_relocated((f.section, operand));
            let callee = self.function_at(place).filter(|_| final_)?;
            (self.functions[callee].address == to).then_some(callee)
        })
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

    /// Name of a section that is loaded.
    pub(crate) fn section(&self, index: usize) -> &str {
        self.names.get(&index).map_or("", String::as_str)
    }

    /// Name of the section that a function is in.
    #[must_use]
    pub fn section_name(&self, f: &Function) -> &str {
        self.section(f.section)
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

    /// The code from the beginning of a function to the end of its section: assembly may not say how long it is.
    pub(crate) fn code_from(&self, f: &Function) -> &[u8] {
        let from = usize::try_from(f.address).ok();
        let data = self.data.get(&f.section);
        from.and_then(|from| data?.get(from..)).unwrap_or_default()
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

fn kind(
    file: &ElfFile<'_, FileHeader64<Endianness>>,
) -> Result<(elf::Machine, elf::FileType), Error> {
    let header = file.elf_header();
    let endian = header.endian()?;
    Ok((header.e_machine.get(endian), header.e_type.get(endian)))
}

/// Relative relocations of amd64 are counted from the end of the instruction, which is four bytes on.
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
