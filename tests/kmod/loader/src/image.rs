// SPDX-License-Identifier: BSD-2-Clause
//! Placing and relocating.

use std::collections::HashMap;
use std::ffi::{CStr, c_int, c_void};
use std::{fmt, io, mem, ptr};

use hostkern::ModuleOps;
use object::elf::{self, FileHeader64};
use object::read::elf::ElfFile;
use object::{
    Endianness, Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget,
    SectionFlags, SectionIndex, SymbolKind,
};

use crate::host;

const PAGE: usize = 4096;
/// `jmp *0(%rip)`, and behind it the address.
const JUMP: [u8; 6] = [0xff, 0x25, 0, 0, 0, 0];
const JUMP_LEN: usize = 16;
/// `ud2`: for what only the shims would call.
const TRAP: [u8; 2] = [0x0f, 0x0b];

/// Why a module could not be loaded.
#[derive(Debug)]
pub struct Error(String);

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

/// A place in the file: section and offset.
type Place = (usize, u64);

/// A loaded module.
pub(crate) struct Image {
    /// Where its sections are, by number.
    sections: HashMap<usize, usize>,
    /// Addresses of its functions, by name.
    functions: HashMap<String, usize>,
    /// The same, by place in the file.
    names: HashMap<Place, String>,
    /// Where the next jump or variable goes.
    next: usize,
    end: usize,
    /// Jumps that were made, by name.
    jumps: HashMap<String, usize>,
    /// Copies of `hostkern`'s variables.
    variables: HashMap<&'static str, usize>,
    host: HashMap<&'static str, usize>,
}

impl Image {
    pub(crate) fn load(bytes: &[u8]) -> Result<Self, Error> {
        let file = Elf::parse(bytes)?;
        let mut size = 0;
        let mut offsets = HashMap::new();
        for s in file.sections().filter(is_loaded) {
            offsets.insert(s.index().0, size);
            size += length(s.size())?.next_multiple_of(PAGE);
        }
        let extra = 64 * PAGE;
        let base = map_low(size + extra)?;
        let mut image = Self {
            sections: offsets.iter().map(|(s, o)| (*s, base + o)).collect(),
            functions: HashMap::new(),
            names: HashMap::new(),
            next: base + size,
            end: base + size + extra,
            jumps: HashMap::new(),
            variables: HashMap::new(),
            host: host::functions(),
        };
        for s in file.sections().filter(is_loaded) {
            let data = s.data()?;
            let at = image.sections[&s.index().0] as *mut u8;
            // SAFETY: the mapping is ours and has room for the section there; the rest is zero.
            unsafe { ptr::copy_nonoverlapping(data.as_ptr(), at, data.len()) };
        }
        image.find_functions(&file)?;
        for (name, value) in host::variables() {
            let at = image.take(8)?;
            // SAFETY: taken just now.
            unsafe { (at as *mut usize).write(value) };
            image.variables.insert(name, at);
        }
        for s in file.sections().filter(is_loaded) {
            image.relocate(&file, &s)?;
        }
        Ok(image)
    }

    fn find_functions(&mut self, file: &Elf<'_>) -> Result<(), Error> {
        for symbol in file.symbols() {
            let (Some(SectionIndex(s)), SymbolKind::Text) = (symbol.section_index(), symbol.kind())
            else {
                continue;
            };
            let Some(base) = self.sections.get(&s) else {
                continue;
            };
            let name = symbol.name()?.to_string();
            let address = base + length(symbol.address())?;
            self.names.insert((s, symbol.address()), name.clone());
            self.functions.insert(name, address);
        }
        Ok(())
    }

    fn relocate<'a>(
        &mut self,
        file: &Elf<'a>,
        section: &impl ObjectSection<'a>,
    ) -> Result<(), Error> {
        let base = self.sections[&section.index().0];
        for (offset, r) in section.relocations() {
            let RelocationFlags::Elf { r_type } = r.flags() else {
                continue;
            };
            let RelocationTarget::Symbol(symbol) = r.target() else {
                return Err(Error("relocation without a symbol".into()));
            };
            let symbol = file.symbol_by_index(symbol)?;
            let relative = matches!(r_type, elf::R_X86_64_PC32 | elf::R_X86_64_PLT32);
            // Relative ones count from the end of the four bytes.
            let addend = r.addend() + if relative { 4 } else { 0 };
            let to = match symbol.section_index() {
                Some(SectionIndex(s)) => {
                    let at = symbol.address().wrapping_add_signed(addend);
                    self.inside((s, at))?
                }
                None => self.outside(symbol.name()?, addend)?,
            };
            let at = base + length(offset)?;
            // SAFETY: within the section, which is ours; it may be unaligned.
            unsafe {
                match r_type {
                    elf::R_X86_64_64 => (at as *mut usize).write_unaligned(to),
                    elf::R_X86_64_32S => (at as *mut i32).write_unaligned(low(to)?),
                    elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => {
                        let distance = i64::from(low(to)?) - i64::from(low(at)?) - 4;
                        let distance = i32::try_from(distance).map_err(|e| Error(e.to_string()))?;
                        (at as *mut i32).write_unaligned(distance);
                    }
                    other => return Err(Error(format!("relocation of type {}", other.0))),
                }
            }
        }
        Ok(())
    }

    /// Where a place of the module is. The shims are `hostkern`'s.
    fn inside(&mut self, place: Place) -> Result<usize, Error> {
        if let Some(name) = self.names.get(&place)
            && name.starts_with("kpi_")
            && self.host.contains_key(name.as_str())
        {
            let name = name.clone();
            return self.jump(&name);
        }
        let base = self
            .sections
            .get(&place.0)
            .ok_or_else(|| Error("not loaded".into()))?;
        Ok(base.wrapping_add_signed(place.1.cast_signed() as isize))
    }

    fn outside(&mut self, name: &str, addend: i64) -> Result<usize, Error> {
        if let Some(at) = self.variables.get(name) {
            return Ok(at.wrapping_add_signed(addend as isize));
        }
        self.jump(name)
    }

    /// A jump to `hostkern`'s function, within reach of the module; a trap if there is none.
    fn jump(&mut self, name: &str) -> Result<usize, Error> {
        if let Some(at) = self.jumps.get(name) {
            return Ok(*at);
        }
        let at = self.take(JUMP_LEN)?;
        let code = at as *mut u8;
        match self.host.get(name) {
            // SAFETY: taken just now, with room for both.
            Some(to) => unsafe {
                ptr::copy_nonoverlapping(JUMP.as_ptr(), code, JUMP.len());
                code.add(JUMP.len()).cast::<usize>().write_unaligned(*to);
            },
            // SAFETY: the same.
            None => unsafe { ptr::copy_nonoverlapping(TRAP.as_ptr(), code, TRAP.len()) },
        }
        self.jumps.insert(name.to_string(), at);
        Ok(at)
    }

    fn take(&mut self, bytes: usize) -> Result<usize, Error> {
        let at = self.next;
        self.next += bytes.next_multiple_of(JUMP_LEN);
        if self.next > self.end {
            return Err(Error("too many imports".into()));
        }
        Ok(at)
    }

    pub(crate) fn ops(&self) -> Result<ModuleOps, Error> {
        let find = |name: &str| {
            let at = self.functions.get(name).copied();
            at.ok_or_else(|| Error(format!("the module has no {name}")))
        };
        type Call = unsafe extern "C" fn() -> c_int;
        type Name = unsafe extern "C" fn() -> *const std::ffi::c_char;
        type Create = unsafe extern "C" fn(u32, *mut *mut c_void) -> c_int;
        type Destroy = unsafe extern "C" fn(*mut c_void) -> c_int;
        type Remove = unsafe extern "C" fn(*const c_void);
        // SAFETY: functions of these types, by kpi_shim.h, in a mapping that stays.
        let ops = unsafe {
            ModuleOps {
                load: mem::transmute::<usize, Call>(find("kpi_rs_load")?),
                can_unload: mem::transmute::<usize, Call>(find("kpi_rs_can_unload")?),
                unload: mem::transmute::<usize, Call>(find("kpi_rs_unload")?),
                cloner_name: mem::transmute::<usize, Name>(find("kpi_rs_cloner_name")?),
                clone_create: mem::transmute::<usize, Create>(find("kpi_rs_clone_create")?),
                clone_destroy: mem::transmute::<usize, Destroy>(find("kpi_rs_clone_destroy")?),
                prison_remove: mem::transmute::<usize, Remove>(find("kpi_rs_prison_remove")?),
            }
        };
        // SAFETY: no argument; a static string of the module.
        let name = unsafe { CStr::from_ptr((ops.cloner_name)()) };
        match name.to_bytes() {
            b"wg" => Ok(ops),
            _ => Err(Error(format!("a cloner named {name:?}"))),
        }
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

/// Zeroed memory in the low 2 GiB, for code and data.
fn map_low(size: usize) -> Result<usize, Error> {
    let access = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
    // SAFETY: a new mapping.
    let at = unsafe { libc::mmap(ptr::null_mut(), size, access, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error().into());
    }
    Ok(at as usize)
}
