// SPDX-License-Identifier: BSD-2-Clause
//! What the linker makes of files: small ones, made here, whose sysinits call printf(9).

use std::collections::HashMap;

use hostkern::kld;
use hostkern::sim::Sim;
use object::write::{Object, Relocation, SectionId, StandardSection, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope, elf,
};

const ENOEXEC: i32 = 8;

struct Module {
    object: Object<'static>,
    data: SectionId,
    sets: HashMap<String, SectionId>,
}

impl Module {
    fn new() -> Self {
        let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let data = object.section_id(StandardSection::Data);
        let sets = HashMap::new();
        Self { object, data, sets }
    }

    fn refer(&mut self, section: SectionId, offset: u64, kind: elf::RelocationType, name: &str) {
        let symbol = self.object.symbol_id(name.as_bytes()).unwrap_or_else(|| {
            self.object.add_symbol(Symbol {
                name: name.into(),
                value: 0,
                size: 0,
                kind: SymbolKind::Unknown,
                scope: SymbolScope::Unknown,
                weak: false,
                section: SymbolSection::Undefined,
                flags: SymbolFlags::None,
            })
        });
        let relocation = Relocation {
            offset,
            symbol,
            addend: 0,
            flags: RelocationFlags::Elf { r_type: kind },
        };
        self.object.add_relocation(section, relocation).unwrap();
    }

    /// A word at `offset` of the data that points to another place of it.
    fn point(&mut self, section: SectionId, offset: u64, to: u64) {
        let symbol = self.object.section_symbol(self.data);
        let relocation = Relocation {
            offset,
            symbol,
            addend: to.cast_signed(),
            flags: RelocationFlags::Elf {
                r_type: elf::R_X86_64_64,
            },
        };
        self.object.add_relocation(section, relocation).unwrap();
    }

    fn put(&mut self, bytes: &[u8]) -> u64 {
        let data = self.data;
        self.object.append_section_data(data, bytes, 8)
    }

    /// A pointer to `at` in a linker set.
    fn member(&mut self, set: &str, at: u64) {
        let object = &mut self.object;
        let new = || object.add_section(Vec::new(), set.into(), SectionKind::Data);
        let section = *self.sets.entry(set.into()).or_insert_with(new);
        let offset = self.object.append_section_data(section, &[0; 8], 8);
        self.point(section, offset, at);
    }

    /// A sysinit, or sysuninit, that prints its name.
    fn prints(&mut self, set: &str, subsystem: u32, order: u32, text: &str) {
        let text = self.put(format!("{text}\n\0").as_bytes());
        let mut entry = subsystem.to_le_bytes().to_vec();
        entry.extend(order.to_le_bytes());
        entry.resize(32, 0);
        let at = self.put(&entry);
        let data = self.data;
        self.refer(data, at + 16, elf::R_X86_64_64, "printf");
        self.point(data, at + 24, text);
        self.member(set, at);
    }

    /// MODULE_DEPEND, or metadata of another type or version.
    fn metadata(&mut self, version: u32, kind: u32, name: &str, words: [i32; 3]) {
        let name = self.put(format!("{name}\0").as_bytes());
        let words: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let words = self.put(&words);
        let mut entry = version.to_le_bytes().to_vec();
        entry.extend(kind.to_le_bytes());
        entry.resize(24, 0);
        let at = self.put(&entry);
        let data = self.data;
        self.point(data, at + 8, words);
        self.point(data, at + 16, name);
        self.member("set_modmetadata_set", at);
    }

    fn bytes(&self) -> Vec<u8> {
        self.object.write().unwrap()
    }
}

/// Loads it, and says what came of it, with what was printed meanwhile.
fn load(sim: &Sim, module: &Module) -> (Result<(), i32>, Vec<String>) {
    let file = kmod_loader::place(module.bytes()).expect("it can be placed");
    let before = printed(sim).len();
    let host = sim.host("a", &["192.0.2.1"]);
    // SAFETY: it has no code of its own.
    let result = sim.kernel().process(&host, || unsafe { kld::load(file) });
    (result, printed(sim).split_off(before))
}

fn printed(sim: &Sim) -> Vec<String> {
    let trace = sim.trace();
    let lines = trace.lines().filter_map(|l| l.split_once("log: "));
    lines.map(|(_, text)| text.to_string()).collect()
}

#[test]
fn sysinits_run_in_their_order_and_sysuninits_in_the_reverse() {
    let mut m = Module::new();
    for set in ["set_sysinit_set", "set_sysuninit_set"] {
        m.prints(set, 0x300_0000, 5, "third");
        m.prints(set, 0x100_0000, 9, "second");
        m.prints(set, 0, 0, "never: for linkers");
        m.prints(set, 0xf00_0000, 0, "last");
        m.prints(set, 0x100_0000, 1, "first");
    }
    let sim = Sim::new(1);
    let (result, lines) = load(&sim, &m);
    assert_eq!(result, Ok(()));
    assert_eq!(lines, ["first", "second", "third", "last"]);
    let host = sim.host("b", &["192.0.2.2"]);
    let ops = kld::module_ops(never);
    // SAFETY: a file is loaded.
    let result = sim.kernel().process(&host, || unsafe { (ops.unload)() });
    assert_eq!(result, 0);
    assert_eq!(printed(&sim)[4..], ["last", "third", "second", "first"]);
    sim.assert_no_leaks();
}

unsafe extern "C" fn never() -> i32 {
    ENOEXEC
}

#[test]
fn dependencies_are_looked_at_before_anything_runs() {
    const VERSION: u32 = 1;
    const DEPEND: u32 = 1;
    for (name, versions, good) in [
        ("crypto", [1, 1, 1], true),
        ("kernel", [1_402_000, 1_402_000, 1_499_999], true),
        ("crypto", [2, 2, 9], false),
        ("kernel", [1_500_000, 1_500_000, 1_599_999], false),
        ("ossl", [1, 1, 1], false),
    ] {
        let mut m = Module::new();
        m.prints("set_sysinit_set", 0x100_0000, 0, "runs");
        m.metadata(VERSION, DEPEND, name, versions);
        let (result, lines) = load(&Sim::new(1), &m);
        if good {
            assert_eq!((result, lines), (Ok(()), vec!["runs".to_string()]));
        } else {
            assert_eq!(result, Err(ENOEXEC), "{name} {versions:?}");
            assert_eq!(lines.len(), 1);
            assert!(lines[0].contains(name), "{lines:?}");
        }
    }
    for (version, kind) in [(2, DEPEND), (VERSION, 77)] {
        let mut m = Module::new();
        m.metadata(version, kind, "crypto", [1, 1, 1]);
        assert_eq!(load(&Sim::new(1), &m).0, Err(ENOEXEC));
    }
}

#[test]
fn what_cannot_be_linked() {
    let refused = |m: &Module, part: &str| {
        let Err(e) = kmod_loader::place(m.bytes()) else {
            panic!("{part}: placed");
        };
        assert!(e.to_string().contains(part), "{e}");
    };
    let mut m = Module::new();
    let at = m.put(&[0; 8]);
    let data = m.data;
    m.refer(data, at, elf::R_X86_64_64, "no_such_function");
    refused(&m, "symbol no_such_function undefined");

    let mut m = Module::new();
    let at = m.put(&[0; 8]);
    let data = m.data;
    m.refer(data, at, elf::R_X86_64_32, "printf");
    refused(&m, "relocation of type 10");

    let mut m = Module::new();
    m.member("set_pcpu", 0);
    refused(&m, "per-CPU");

    assert!(kmod_loader::place(b"\x7fELF".to_vec()).is_err());
}

/// The types of malloc(9) are set up by sysinits, and tell about leaks when they go.
#[test]
fn a_type_of_malloc_needs_its_sysinit() {
    let mut m = Module::new();
    let kind = m.put(&[0; 112]);
    let label = m.put(b"toy\0");
    let data = m.data;
    m.point(data, kind + 16, label);
    for (set, function) in [
        ("set_sysinit_set", "malloc_init"),
        ("set_sysuninit_set", "malloc_uninit"),
    ] {
        let mut entry = 0x180_0000_u32.to_le_bytes().to_vec();
        entry.resize(32, 0);
        let at = m.put(&entry);
        m.refer(data, at + 16, elf::R_X86_64_64, function);
        m.point(data, at + 24, kind);
        m.member(set, at);
    }
    let sim = Sim::new(1);
    assert_eq!(load(&sim, &m).0, Ok(()));
    let host = sim.host("b", &["192.0.2.2"]);
    let ops = kld::module_ops(never);
    // SAFETY: a file is loaded.
    assert_eq!(sim.kernel().process(&host, || unsafe { (ops.unload)() }), 0);
    sim.assert_no_leaks();
}
