// SPDX-License-Identifier: BSD-2-Clause
//! Placing and relocating.

use std::collections::HashMap;
use std::{fmt, io, ptr};

use hostkern::kld::{self, File};
use object::elf::{self, FileHeader64, RelocationType};
use object::read::elf::ElfFile;
use object::{
    Endianness, Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget,
    SectionFlags, SectionIndex,
};

const PAGE: usize = 4096;
/// `jmp *0(%rip)`, and behind it the address.
const JUMP: [u8; 6] = [0xff, 0x25, 0, 0, 0, 0];
const JUMP_LEN: usize = 16;
/// Alignment of each of the kernel's variables.
const WORD: usize = 16;
const VNET: &str = "set_vnet";

/// Relocations that sys/amd64/amd64/elf_machdep.c knows, of those that a relocatable object may have.
const KINDS: &[RelocationType] = &[
    elf::R_X86_64_64,
    elf::R_X86_64_PC32,
    elf::R_X86_64_PLT32,
    elf::R_X86_64_32S,
];

/// Why a module could not be loaded.
#[derive(Debug)]
pub struct Error(String);

impl Error {
    pub(crate) fn new(why: String) -> Self {
        Self(why)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        Self(e.to_string())
    }
}

impl From<object::Error> for Error {
    fn from(e: object::Error) -> Self {
        Self(e.to_string())
    }
}

type Elf<'a> = ElfFile<'a, FileHeader64<Endianness>>;

/// What a relocation refers to.
enum Target {
    /// A section of the file and an offset in it.
    Inside(usize, u64),
    /// A function of the kernel.
    Function(&'static str),
    /// A place of the image: a variable of the kernel.
    Variable(usize),
}

struct Relocation {
    section: usize,
    offset: usize,
    kind: RelocationType,
    target: Target,
    addend: i64,
}

/// A file that was read, and the plan of its images: sections first, each on pages of its own, then jumps to functions of the
/// kernel, then its variables, then those of vnets.
pub(crate) struct Template {
    /// Contents by section, and where they go.
    sections: HashMap<usize, (usize, Vec<u8>)>,
    /// Where the section of VNET variables goes; its section number and size.
    vnet: (usize, usize),
    names: HashMap<String, usize>,
    relocations: Vec<Relocation>,
    /// Jumps by name, and where they go.
    jumps: HashMap<&'static str, (usize, usize)>,
    variables: Vec<(&'static str, usize)>,
    vnet_variables: Vec<(usize, u32)>,
    size: usize,
}

/// Gives out room in an image.
struct Room(usize);

impl Room {
    fn take(&mut self, bytes: usize, align: usize) -> usize {
        let at = self.0.next_multiple_of(align);
        self.0 = at + bytes;
        at
    }
}

impl Template {
    pub(crate) fn read(bytes: Vec<u8>) -> Result<Self, Error> {
        let file = Elf::parse(&*bytes)?;
        let mut room = Room(0);
        let mut sections = HashMap::new();
        let mut names = HashMap::new();
        for s in file.sections().filter(is_loaded) {
            let name = s.name()?.to_string();
            if name == "set_pcpu" {
                return Err(Error("per-CPU variables of its own".into()));
            }
            // Zeros are not in the file.
            let mut data = s.data()?.to_vec();
            data.resize(length(s.size())?, 0);
            if name != VNET {
                let at = room.take(data.len().next_multiple_of(PAGE), PAGE);
                sections.insert(s.index().0, (at, data));
            } else {
                sections.insert(s.index().0, (0, data));
            }
            names.insert(name, s.index().0);
        }
        let known = kld::functions();
        let jumps: HashMap<_, _> = known
            .into_iter()
            .map(|(name, to)| (name, (room.take(JUMP_LEN, JUMP_LEN), to)))
            .collect();
        room.take(0, PAGE);
        let variables: Vec<_> = kld::VARIABLES
            .iter()
            .map(|(name, size)| (*name, room.take(*size, WORD)))
            .collect();
        let start = room.take(0, PAGE);
        let mut by_name: HashMap<&str, usize> = variables.iter().copied().collect();
        let mut vnet_variables = Vec::new();
        for (name, value) in kld::VNET_VARIABLES {
            let at = room.take(4, WORD);
            vnet_variables.push((at, *value));
            by_name.insert(name, at);
        }
        if let Some((at, data)) = names.get(VNET).and_then(|s| sections.get_mut(s)) {
            *at = room.take(data.len(), WORD);
        }
        let mut template = Self {
            sections,
            vnet: (start, room.0 - start),
            names,
            relocations: Vec::new(),
            jumps,
            variables,
            vnet_variables,
            size: room.take(0, PAGE),
        };
        for s in file.sections().filter(is_loaded) {
            template.plan(&file, &s, &by_name)?;
        }
        Ok(template)
    }

    fn plan<'a>(
        &mut self,
        file: &Elf<'a>,
        section: &impl ObjectSection<'a>,
        variables: &HashMap<&str, usize>,
    ) -> Result<(), Error> {
        for (offset, r) in section.relocations() {
            let (RelocationFlags::Elf { r_type }, RelocationTarget::Symbol(symbol)) =
                (r.flags(), r.target())
            else {
                return Err(Error("relocation without a symbol".into()));
            };
            if !KINDS.contains(&r_type) {
                return Err(Error(format!("relocation of type {}", r_type.0)));
            }
            let symbol = file.symbol_by_index(symbol)?;
            let target = match symbol.section_index() {
                Some(SectionIndex(s)) => Target::Inside(s, symbol.address()),
                None => {
                    let name = symbol.name()?;
                    match (variables.get(name), self.jumps.get_key_value(name)) {
                        (Some(at), _) => Target::Variable(*at),
                        (None, Some((name, _))) => Target::Function(name),
                        (None, None) => return Err(Error(format!("symbol {name} undefined"))),
                    }
                }
            };
            self.relocations.push(Relocation {
                section: section.index().0,
                offset: length(offset)?,
                kind: r_type,
                target,
                addend: r.addend(),
            });
        }
        Ok(())
    }

    /// A fresh image.
    pub(crate) fn place(&self) -> Result<File, Error> {
        let memory = Memory::low(self.size)?;
        let base = memory.start;
        for (at, data) in self.sections.values() {
            // SAFETY: the mapping has room for the section there.
            unsafe { ptr::copy_nonoverlapping(data.as_ptr(), (base + at) as *mut u8, data.len()) };
        }
        for (at, to) in self.jumps.values() {
            let code = (base + at) as *mut u8;
            // SAFETY: as above, for both.
            unsafe {
                ptr::copy_nonoverlapping(JUMP.as_ptr(), code, JUMP.len());
                code.add(JUMP.len()).cast::<usize>().write_unaligned(*to);
            }
        }
        for (at, value) in &self.vnet_variables {
            // SAFETY: as above.
            unsafe { ((base + at) as *mut u32).write(*value) };
        }
        for r in &self.relocations {
            self.relocate(base, r)?;
        }
        let pointers = |set: &str| -> Vec<usize> {
            let Some((at, data)) = self.names.get(set).and_then(|s| self.sections.get(s)) else {
                return Vec::new();
            };
            let first = (base + at) as *const usize;
            // SAFETY: the section, as words.
            (0..data.len() / 8)
                .map(|i| unsafe { first.add(i).read() })
                .collect()
        };
        let address = |(name, at): &(&'static str, usize)| (*name, base + at);
        Ok(File {
            sysinits: pointers("set_sysinit_set"),
            sysuninits: pointers("set_sysuninit_set"),
            metadata: pointers("set_modmetadata_set"),
            variables: self.variables.iter().map(address).collect(),
            vnet: (base + self.vnet.0, self.vnet.1),
            memory: Box::new(memory),
        })
    }

    fn relocate(&self, base: usize, r: &Relocation) -> Result<(), Error> {
        let symbol = match &r.target {
            Target::Inside(section, offset) => {
                let (at, _) = self
                    .sections
                    .get(section)
                    .ok_or_else(|| Error("a reference to what is not loaded".into()))?;
                base + at + length(*offset)?
            }
            Target::Function(name) => base + self.jumps[name].0,
            Target::Variable(at) => base + at,
        };
        let value = symbol.wrapping_add_signed(r.addend as isize);
        let at = base + self.sections[&r.section].0 + r.offset;
        // SAFETY: within the section, which is ours; it may be unaligned.
        unsafe {
            match r.kind {
                elf::R_X86_64_64 => (at as *mut usize).write_unaligned(value),
                elf::R_X86_64_32S => (at as *mut i32).write_unaligned(low(value)?),
                // PC32 and PLT32 are the same to the kernel.
                _ => {
                    let distance = value.cast_signed() - at.cast_signed();
                    let distance = i32::try_from(distance).map_err(|e| Error(e.to_string()))?;
                    (at as *mut i32).write_unaligned(distance);
                }
            }
        }
        Ok(())
    }
}

fn is_loaded<'a>(section: &impl ObjectSection<'a>) -> bool {
    let SectionFlags::Elf { sh_flags, .. } = section.flags() else {
        return false;
    };
    sh_flags & elf::SHF_ALLOC != elf::SectionFlags(0)
}

fn length(n: u64) -> Result<usize, Error> {
    usize::try_from(n).map_err(|e| Error(e.to_string()))
}

/// An address that a sign-extended word of 32 bits can hold.
fn low(address: usize) -> Result<i32, Error> {
    i32::try_from(address).map_err(|_| Error(format!("{address:#x} is out of reach")))
}

/// A mapping in the low 2 GiB, for code and data.
struct Memory {
    start: usize,
    size: usize,
}

impl Memory {
    fn low(size: usize) -> Result<Self, Error> {
        let access = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        // SAFETY: a new mapping.
        let at = unsafe { libc::mmap(ptr::null_mut(), size, access, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error().into());
        }
        Ok(Self {
            start: at as usize,
            size,
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: ours; the kernel that had it is gone.
        unsafe { libc::munmap(self.start as *mut libc::c_void, self.size) };
    }
}
