// SPDX-License-Identifier: BSD-2-Clause
//! Each check fails on an object that breaks its rule, and on nothing else: the objects here are
//! made one mistake at a time.

use kmod_check::{Graph, Module, Symbols};
use object::write::{
    Object, Relocation, SectionId, StandardSection, Symbol, SymbolId, SymbolSection,
};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope, elf,
};

const RET: &[u8] = &[0xc3];
/// `call` with a place for its target at offset 1, then `ret`.
const CALL: &[u8] = &[0xe8, 0, 0, 0, 0, 0xc3];

struct Fixture<'a> {
    object: Object<'a>,
    stack_sizes: SectionId,
}

impl Fixture<'_> {
    /// An object in which everything is right: the entries of the packet path, nothing else.
    fn new() -> Self {
        let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let name = b".stack_sizes".to_vec();
        let stack_sizes = object.add_section(Vec::new(), name, SectionKind::Metadata);
        let mut fixture = Self {
            object,
            stack_sizes,
        };
        for name in kmod_check::PACKET_ENTRIES {
            fixture.function(name, RET, Some(16));
        }
        fixture
    }

    fn symbol(&mut self, name: &str, section: SymbolSection, scope: SymbolScope) -> SymbolId {
        self.object.add_symbol(Symbol {
            name: name.into(),
            value: 0,
            size: 0,
            kind: if section == SymbolSection::Undefined {
                SymbolKind::Unknown
            } else {
                SymbolKind::Text
            },
            scope,
            weak: false,
            section,
            flags: SymbolFlags::None,
        })
    }

    fn function(&mut self, name: &str, code: &[u8], frame: Option<u64>) -> SymbolId {
        let text = self.object.section_id(StandardSection::Text);
        let id = self.symbol(name, SymbolSection::Section(text), SymbolScope::Compilation);
        self.object.add_symbol_data(id, text, code, 16);
        if let Some(frame) = frame {
            let sizes = self.stack_sizes;
            let mut entry = vec![0; 8];
            entry.extend(uleb128(frame));
            let at = self.object.append_section_data(sizes, &entry, 1);
            self.reloc_in(sizes, at, id, elf::R_X86_64_64, 0);
        }
        id
    }

    /// A function in the section where vector registers are allowed, of which no compiler has told
    /// the frame.
    fn vector_function(&mut self, name: &str, code: &[u8]) {
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

    fn reloc_in(
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
    fn caller(&mut self, name: &str, callee: SymbolId, r_type: elf::RelocationType) -> SymbolId {
        let id = self.function(name, CALL, Some(16));
        let text = self.object.section_id(StandardSection::Text);
        let (value, _) = (self.object.symbol(id).value, ());
        self.reloc_in(text, value + 1, callee, r_type, -4);
        id
    }

    fn parse(&self) -> Module {
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

fn allowed() -> Symbols {
    Symbols::parse(
        "| symbol | prototype | header | context |\n|---|---|---|---|\n| m_freem, m_adj | x | sys/mbuf.h | any |\n| panic | | panic(9) | |\n| reasonless | x | | any |\n",
    )
}

/// What each check says, in the order of the checks.
fn verdicts(module: &Module) -> [Vec<String>; 6] {
    let graph = Graph::new(module);
    [
        kmod_check::relocations(module),
        kmod_check::imports(module, &allowed()),
        kmod_check::exports(module),
        kmod_check::vectors(module),
        kmod_check::frames(module, &graph),
        kmod_check::panics(module, &graph),
    ]
}

/// Only check number `which` finds something, and its text has `part` in it.
fn only(module: &Module, which: usize, part: &str) {
    for (i, found) in verdicts(module).iter().enumerate() {
        if i == which {
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(part), "{found:?}");
        } else {
            assert_eq!(found, &Vec::<String>::new(), "check {i}");
        }
    }
}

#[test]
fn a_good_object() {
    let mut f = Fixture::new();
    let free = f.symbol("m_freem", SymbolSection::Undefined, SymbolScope::Unknown);
    f.caller("caller", free, elf::R_X86_64_PLT32);
    assert!(verdicts(&f.parse()).iter().all(Vec::is_empty));
}

#[test]
fn relocations() {
    for kind in [
        elf::R_X86_64_GOTPCREL,
        elf::R_X86_64_REX_GOTPCRELX,
        elf::R_X86_64_32,
    ] {
        let mut f = Fixture::new();
        let free = f.symbol("m_freem", SymbolSection::Undefined, SymbolScope::Unknown);
        f.caller("caller", free, kind);
        only(&f.parse(), 0, "caller");
    }
}

#[test]
fn imports() {
    for name in ["m_free_", "reasonless", "__udivti3"] {
        let mut f = Fixture::new();
        let callee = f.symbol(name, SymbolSection::Undefined, SymbolScope::Unknown);
        f.caller("caller", callee, elf::R_X86_64_PLT32);
        only(&f.parse(), 1, name);
    }
}

#[test]
fn exports() {
    let mut f = Fixture::new();
    let id = f.function("visible", RET, Some(0));
    f.object.symbol_mut(id).scope = SymbolScope::Dynamic;
    only(&f.parse(), 2, "visible");
}

#[test]
fn vector_registers() {
    for code in [
        &[0x0f, 0x28, 0xc1, 0xc3][..],               // movaps xmm0, xmm1
        &[0xc5, 0xfc, 0x28, 0xc1, 0xc3],             // vmovaps ymm0, ymm1
        &[0x62, 0xf1, 0x7c, 0x48, 0x28, 0xc1, 0xc3], // vmovaps zmm0, zmm1
        &[0x0f, 0x6f, 0xc1, 0xc3],                   // movq mm0, mm1
        &[0xd9, 0xe8, 0xc3],                         // fld1
        &[0x48, 0x0f, 0x6e, 0xc0, 0xc3],             // movq mm0, rax
    ] {
        let mut f = Fixture::new();
        f.vector_function("in_its_place", code);
        assert!(verdicts(&f.parse()).iter().all(Vec::is_empty));
        f.function("culprit", code, Some(0));
        only(&f.parse(), 3, "culprit");
    }
}

#[test]
fn frames() {
    for (frame, good) in [(2048, true), (2049, false)] {
        let mut f = Fixture::new();
        f.function("configure", RET, Some(frame));
        match good {
            true => assert!(verdicts(&f.parse()).iter().all(Vec::is_empty)),
            false => only(&f.parse(), 4, "configure"),
        }
    }
    let mut f = Fixture::new();
    f.function("assembly", RET, None);
    only(&f.parse(), 4, "no entry");
}

#[test]
fn frames_of_assembly() {
    // sub rsp, 2056; ret
    let mut f = Fixture::new();
    f.vector_function("large", &[0x48, 0x81, 0xec, 0x08, 0x08, 0, 0, 0xc3]);
    only(&f.parse(), 4, "large");
}

#[test]
fn frames_on_the_packet_path() {
    for (frame, good) in [(1024, true), (1025, false)] {
        let mut f = Fixture::new();
        let deep = f.function("deep", RET, Some(frame));
        let middle = f.caller("middle", deep, elf::R_X86_64_PLT32);
        f.caller("kpi::net::input::<Other>", middle, elf::R_X86_64_PLT32);
        match good {
            true => assert!(verdicts(&f.parse()).iter().all(Vec::is_empty)),
            false => only(&f.parse(), 4, "deep"),
        }
    }
}

#[test]
fn a_packet_path_that_begins_elsewhere() {
    let f = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let found = &verdicts(&Module::parse(&f.write().unwrap()).unwrap())[4];
    assert_eq!(found.len(), kmod_check::PACKET_ENTRIES.len());
}

#[test]
fn frames_behind_a_table_of_methods() {
    // A destructor, size, alignment, one method: as Rust lays out a `dyn Trait`'s table.
    let mut f = Fixture::new();
    let drop = f.function("drop", RET, Some(0));
    let method = f.function("method", RET, Some(1500));
    let data = f.object.section_id(StandardSection::ReadOnlyDataWithRel);
    let mut table = vec![0; 32];
    table[8] = 24;
    table[16] = 8;
    let at = f.object.append_section_data(data, &table, 8);
    f.reloc_in(data, at, drop, elf::R_X86_64_64, 0);
    f.reloc_in(data, at + 24, method, elf::R_X86_64_64, 0);
    let symbol = f.object.section_symbol(data);
    let text = f.object.section_id(StandardSection::Text);
    let id = f.function("kpi::net::input::<Dyn>", CALL, Some(16));
    let value = f.object.symbol(id).value;
    f.reloc_in(text, value + 1, symbol, elf::R_X86_64_32S, 0);
    only(&f.parse(), 4, "method");
}

#[test]
fn panics() {
    for name in [
        "core::panicking::panic_bounds_check",
        "core::result::unwrap_failed",
        // The same with a mangled name.
        "_ZN4core9panicking9panic_fmt17h0123456789abcdefE",
    ] {
        let mut f = Fixture::new();
        let panic = f.function(name, RET, Some(0));
        f.caller("careless", panic, elf::R_X86_64_PLT32);
        only(&f.parse(), 5, "<- careless");
    }
}

#[test]
fn what_is_no_module() {
    for bytes in [&b""[..], b"\x7fELF", &[0; 64]] {
        assert!(Module::parse(bytes).is_err());
    }
    let arm = Object::new(BinaryFormat::Elf, Architecture::Aarch64, Endianness::Little);
    assert!(Module::parse(&arm.write().unwrap()).is_err());
}
