// SPDX-License-Identifier: BSD-2-Clause
//! Each check fails on an object that breaks its rule, and on nothing else: the objects here are
//! made one mistake at a time.

mod common;

use common::{CALL, Fixture, RET, only, verdicts};
use kmod_check::Module;
use object::write::{Object, StandardSection, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionFlags, SectionKind, SymbolScope, elf};

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
fn code_that_can_be_written_to() {
    let mut f = Fixture::new();
    let section = f
        .object
        .add_section(Vec::new(), b".patched".to_vec(), SectionKind::Text);
    f.object.append_section_data(section, RET, 16);
    let sh_flags = elf::SHF_ALLOC | elf::SHF_WRITE | elf::SHF_EXECINSTR;
    f.object.section_mut(section).flags = SectionFlags::Elf {
        sh_type: elf::SHT_PROGBITS,
        sh_flags,
    };
    only(&f.parse(), 0, ".patched is writable and executable");
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
fn entries_that_are_elsewhere() {
    let f = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let found = verdicts(&Module::parse(&f.write().unwrap()).unwrap());
    assert_eq!(found[4].len(), kmod_check::PACKET_ENTRIES.len());
    assert_eq!(found[5].len(), kmod_check::ENTRIES.len());
}

#[test]
fn depth() {
    // Four frames below the entry, as large as it may be on the path of a packet.
    for (entry, last, good) in [
        ("kpi::net::input::<Other>", 4096 - 3 * 1032 - 32, true),
        ("kpi::net::input::<Other>", 4096 - 3 * 1032 - 31, false),
        ("module_event", 1024, true),
    ] {
        let mut f = Fixture::new();
        let mut next = f.function("last", RET, Some(last));
        for name in ["third", "second", "first"] {
            let text = f.object.section_id(StandardSection::Text);
            let id = f.function(name, CALL, Some(1024));
            let at = f.object.symbol(id).value + 1;
            f.reloc_in(text, at, next, elf::R_X86_64_PLT32, -4);
            next = id;
        }
        f.caller(entry, next, elf::R_X86_64_PLT32);
        match good {
            true => assert!(verdicts(&f.parse()).iter().all(Vec::is_empty)),
            false => only(&f.parse(), 5, "first -> second -> third -> last"),
        }
    }
}

#[test]
fn depth_ends_where_a_callback_is_given_away() {
    // The handler of a callout has a stack of its own, whoever takes its address.
    for (kind, good) in [(elf::R_X86_64_32S, true), (elf::R_X86_64_PLT32, false)] {
        let mut f = Fixture::new();
        let deep = f.function("deep", RET, Some(1024));
        let middle = f.caller("middle", deep, elf::R_X86_64_PLT32);
        let text = f.object.section_id(StandardSection::Text);
        let mut next = middle;
        for (name, kind) in [
            ("kpi::callout::fire::<Other>", elf::R_X86_64_PLT32),
            ("second", kind),
            ("first", elf::R_X86_64_PLT32),
        ] {
            let id = f.function(name, CALL, Some(1024));
            let at = f.object.symbol(id).value + 1;
            let addend = if kind == elf::R_X86_64_32S { 0 } else { -4 };
            f.reloc_in(text, at, next, kind, addend);
            next = id;
        }
        f.caller("kpi::net::input::<Other>", next, elf::R_X86_64_PLT32);
        match good {
            true => assert!(verdicts(&f.parse()).iter().all(Vec::is_empty)),
            false => only(&f.parse(), 5, "fire"),
        }
    }
}

#[test]
fn calls_without_a_relocation() {
    // call +1 (over the ret), ret, nop; the callee: what an assembler has resolved already.
    let mut f = Fixture::new();
    f.function(
        "kpi::net::input::<Near>",
        &[0xe8, 11, 0, 0, 0, 0xc3],
        Some(16),
    );
    f.function("callee", RET, Some(1025));
    only(&f.parse(), 4, "callee");
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
        only(&f.parse(), 6, "<- careless");
    }
}

#[test]
fn what_is_no_module() {
    for bytes in [&b""[..], b"\x7fELF", &[0; 64]] {
        assert!(Module::parse(bytes).is_err());
    }
    let other = Object::new(BinaryFormat::Elf, Architecture::Riscv64, Endianness::Little);
    assert!(Module::parse(&other.write().unwrap()).is_err());
}
