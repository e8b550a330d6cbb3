// SPDX-License-Identifier: BSD-2-Clause
//! Objects that are made one mistake at a time.
#![allow(dead_code, reason = "each test program uses a part")]

use kmod_check::{Graph, Machine, Module, Symbols};
use object::write::{
    Object, Relocation, SectionId, StandardSection, Symbol, SymbolId, SymbolSection,
};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope, elf,
};

pub const RET: &[u8] = &[0xc3];
/// `call` with a place for its target at offset 1, then `ret`.
pub const CALL: &[u8] = &[0xe8, 0, 0, 0, 0, 0xc3];
/// `ret` of arm64, where nothing calls by address.
pub const BARE_RET_ARM: &[u8] = &[0xc0, 0x03, 0x5f, 0xd6];
/// `bti c`, then `ret`.
pub const RET_ARM: &[u8] = &[0x5f, 0x24, 0x03, 0xd5, 0xc0, 0x03, 0x5f, 0xd6];
/// `bl` with a place for its target, then `ret`.
pub const CALL_ARM: &[u8] = &[0, 0, 0, 0x94, 0xc0, 0x03, 0x5f, 0xd6];

pub struct Fixture<'a> {
    pub object: Object<'a>,
    stack_sizes: SectionId,
    machine: Machine,
    /// The section of VNET variables, if there is one.
    pub vnet: Option<SectionId>,
}

impl Fixture<'_> {
    /// An object for amd64 in which everything is right: where the kernel enters, nothing else.
    pub fn new() -> Self {
        Self::of(Machine::Amd64)
    }

    pub fn of(machine: Machine) -> Self {
        let architecture = match machine {
            Machine::Amd64 => Architecture::X86_64,
            Machine::Arm64 => Architecture::Aarch64,
        };
        let mut object = Object::new(BinaryFormat::Elf, architecture, Endianness::Little);
        let name = b".stack_sizes".to_vec();
        let stack_sizes = object.add_section(Vec::new(), name, SectionKind::Metadata);
        let mut fixture = Self {
            object,
            stack_sizes,
            machine,
            vnet: None,
        };
        for name in [kmod_check::ENTRIES, kmod_check::PACKET_ENTRIES].concat() {
            let code = fixture.ret();
            fixture.function(name, code, Some(16));
        }
        fixture
    }

    pub fn ret(&self) -> &'static [u8] {
        match self.machine {
            Machine::Amd64 => RET,
            Machine::Arm64 => RET_ARM,
        }
    }

    /// The relocation of a call.
    pub fn call(&self) -> elf::RelocationType {
        match self.machine {
            Machine::Amd64 => elf::R_X86_64_PLT32,
            Machine::Arm64 => elf::R_AARCH64_CALL26,
        }
    }

    /// The relocation of an address in data.
    pub fn word(&self) -> elf::RelocationType {
        match self.machine {
            Machine::Amd64 => elf::R_X86_64_64,
            Machine::Arm64 => elf::R_AARCH64_ABS64,
        }
    }

    pub fn symbol(&mut self, name: &str, section: SymbolSection, scope: SymbolScope) -> SymbolId {
        self.object.add_symbol(Symbol {
            name: name.into(),
            value: 0,
            size: 0,
            kind: match section {
                SymbolSection::Undefined => SymbolKind::Unknown,
                SymbolSection::Section(s) if Some(s) == self.vnet => SymbolKind::Data,
                _ => SymbolKind::Text,
            },
            scope,
            weak: false,
            section,
            flags: SymbolFlags::None,
        })
    }

    pub fn function(&mut self, name: &str, code: &[u8], frame: Option<u64>) -> SymbolId {
        let text = self.object.section_id(StandardSection::Text);
        let id = self.symbol(name, SymbolSection::Section(text), SymbolScope::Compilation);
        self.object.add_symbol_data(id, text, code, 16);
        if let Some(frame) = frame {
            let sizes = self.stack_sizes;
            let mut entry = vec![0; 8];
            entry.extend(uleb128(frame));
            let at = self.object.append_section_data(sizes, &entry, 1);
            self.reloc_in(sizes, at, id, self.word(), 0);
        }
        id
    }

    /// A function in the section where vector registers are allowed, of which no compiler has told
    /// the frame.
    pub fn vector_function(&mut self, name: &str, code: &[u8]) {
        let section = kmod_check::VECTOR.as_bytes().to_vec();
        let section = self
            .object
            .add_section(Vec::new(), section, SectionKind::Text);
        let id = self.symbol(
            name,
            SymbolSection::Section(section),
            SymbolScope::Compilation,
        );
        self.object.add_symbol_data(id, section, code, 16);
    }

    pub fn reloc_in(
        &mut self,
        section: SectionId,
        offset: u64,
        symbol: SymbolId,
        r_type: elf::RelocationType,
        addend: i64,
    ) {
        let relocation = Relocation {
            offset,
            symbol,
            addend,
            flags: RelocationFlags::Elf { r_type },
        };
        self.object.add_relocation(section, relocation).unwrap();
    }

    /// A function `name` that calls `callee`, by a relocation of the given type.
    pub fn caller(
        &mut self,
        name: &str,
        callee: SymbolId,
        r_type: elf::RelocationType,
    ) -> SymbolId {
        let (code, at, addend) = match self.machine {
            Machine::Amd64 => (CALL, 1, -4),
            Machine::Arm64 => (CALL_ARM, 0, 0),
        };
        let id = self.function(name, code, Some(16));
        let text = self.object.section_id(StandardSection::Text);
        let value = self.object.symbol(id).value;
        self.reloc_in(text, value + at, callee, r_type, addend);
        id
    }

    pub fn parse(&self) -> Module {
        Module::parse(&self.object.write().unwrap()).unwrap()
    }
}

fn uleb128(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = u8::try_from(n & 0x7f).unwrap();
        n >>= 7;
        if n == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

pub fn allowed() -> Symbols {
    Symbols::parse(
        "| symbol | prototype | header | context |\n|---|---|---|---|\n| m_freem, m_adj | x | sys/mbuf.h | any |\n| panic | | panic(9) | |\n| reasonless | x | | any |\n",
    )
}

/// What each check says, in the order of the checks.
pub fn verdicts(module: &Module) -> [Vec<String>; 8] {
    let graph = Graph::new(module);
    [
        kmod_check::relocations(module),
        kmod_check::imports(module, &allowed()),
        kmod_check::exports(module),
        kmod_check::vectors(module),
        kmod_check::frames(module, &graph),
        kmod_check::depths(module, &graph),
        kmod_check::panics(module, &graph),
        kmod_check::landings(module),
    ]
}

/// Only check number `which` finds something, and its text has `part` in it.
pub fn only(module: &Module, which: usize, part: &str) {
    for (i, found) in verdicts(module).iter().enumerate() {
        if i == which {
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(part), "{found:?}");
        } else {
            assert_eq!(found, &Vec::<String>::new(), "check {i}");
        }
    }
}
