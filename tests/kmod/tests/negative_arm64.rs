// SPDX-License-Identifier: BSD-2-Clause
//! The same for arm64, whose module is a shared object: it is linked here as `build.sh` links it.

mod common;

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use common::{BARE_RET_ARM, CALL_ARM, Fixture, RET_ARM, only, verdicts};
use kmod_check::{Machine, Module};
use object::write::{StandardSection, SymbolSection};
use object::{SectionKind, SymbolScope, elf};

/// What `build.sh` tells the linker.
const AS_BUILT: &[&str] = &["-znotext", "-znorelro", "--no-relax", "--hash-style=sysv"];

/// An object for arm64 in which everything is right, with the sets that a module has.
fn fixture() -> Fixture<'static> {
    let mut f = Fixture::of(Machine::Arm64);
    for set in [
        "set_sysinit_set",
        "set_sysuninit_set",
        "set_modmetadata_set",
        "set_vnet",
    ] {
        let section = f
            .object
            .add_section(Vec::new(), set.into(), SectionKind::Data);
        f.object.append_section_data(section, &[0; 8], 8);
        f.vnet = Some(section);
        for end in ["start", "stop"] {
            let name = format!("__{end}_{set}");
            f.symbol(&name, SymbolSection::Undefined, SymbolScope::Unknown);
        }
    }
    f
}

fn linker() -> &'static PathBuf {
    static FOUND: LazyLock<PathBuf> = LazyLock::new(find_linker);
    &FOUND
}

/// The one of the toolchain.
fn find_linker() -> PathBuf {
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let said = |arguments: &[&str]| {
        let out = Command::new(&rustc)
            .args(arguments)
            .output()
            .expect("rustc");
        String::from_utf8(out.stdout).expect("a text")
    };
    let sysroot = said(&["--print", "sysroot"]);
    let version = said(&["-vV"]);
    let host = version
        .lines()
        .find_map(|l| l.strip_prefix("host: "))
        .expect("a host");
    PathBuf::from(sysroot.trim())
        .join("lib/rustlib")
        .join(host)
        .join("bin/rust-lld")
}

/// The shared object that is linked from a relocatable one.
fn linked(object: &[u8], options: &[&str]) -> Vec<u8> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let origin = folder.join(format!("{}-{number}.kld", std::process::id()));
    let shared = origin.with_extension("ko");
    std::fs::write(&origin, object).unwrap();
    let status = Command::new(linker())
        .args(["-flavor", "gnu", "-m", "aarch64elf", "-shared", "-o"])
        .args([&shared, &origin])
        .args(options)
        .status()
        .expect("rust-lld");
    assert!(status.success());
    let bytes = std::fs::read(&shared).unwrap();
    std::fs::remove_file(origin).unwrap();
    std::fs::remove_file(shared).unwrap();
    bytes
}

fn module(f: &Fixture<'_>, options: &[&str]) -> Module {
    let object = f.object.write().unwrap();
    Module::parse_linked(&linked(&object, options), &object).unwrap()
}

fn good(f: &Fixture<'_>) {
    let found = verdicts(&module(f, AS_BUILT));
    assert!(found.iter().all(Vec::is_empty), "{found:?}");
}

fn bad(f: &Fixture<'_>, which: usize, part: &str) {
    only(&module(f, AS_BUILT), which, part);
}

#[test]
fn a_good_module() {
    let mut f = fixture();
    let free = f.symbol("m_freem", SymbolSection::Undefined, SymbolScope::Unknown);
    f.caller("caller", free, elf::R_AARCH64_CALL26);
    let m = module(&f, AS_BUILT);
    assert!(m.imports.contains(&"m_freem".to_string()));
    good(&f);
}

#[test]
fn relocations() {
    let mut f = fixture();
    let free = f.symbol("m_freem", SymbolSection::Undefined, SymbolScope::Unknown);
    let data = f.object.section_id(StandardSection::Data);
    let at = f.object.append_section_data(data, &[0; 8], 8);
    f.reloc_in(data, at, free, elf::R_AARCH64_ABS64, 0);
    let object = f.object.write().unwrap();
    let mut shared = linked(&object, AS_BUILT);
    good(&f);
    // One of thread-local storage, which the kernel does not know.
    let known = elf::R_AARCH64_ABS64.0.to_le_bytes();
    let entry = |w: &[u8]| w[8..12] == known && w[12..] != [0; 12] && w[16..] == [0; 8];
    let at = shared.windows(24).position(entry).expect("a relocation");
    shared[at + 8..at + 12].copy_from_slice(&elf::R_AARCH64_TLS_TPREL.0.to_le_bytes());
    let module = Module::parse_linked(&shared, &object).unwrap();
    only(&module, 0, "relocation of type 1030");
}

#[test]
fn names_and_sets() {
    let gnu = ["-znotext", "-znorelro", "--no-relax", "--hash-style=gnu"];
    only(&module(&fixture(), &gnu), 0, "DT_HASH");
    let without = Fixture::of(Machine::Arm64);
    assert_eq!(verdicts(&module(&without, AS_BUILT))[0].len(), 8);
}

#[test]
fn segments() {
    const HEADER: usize = 56;
    let bytes = fixture().object.write().unwrap();
    let shared = linked(&bytes, AS_BUILT);
    let word = |b: &[u8], at: usize| u32::from_le_bytes(*b[at..].first_chunk().unwrap());
    let headers: Vec<usize> = (0..usize::from(shared[56]))
        .map(|i| 64 + i * HEADER)
        .collect();
    // In the headers of these kinds: the word at an offset becomes another.
    for (kinds, offset, value, part) in [
        (&[elf::PT_GNU_STACK][..], 0, elf::PT_INTERP.0, "interpreter"),
        (&[elf::PT_LOAD], 4, 7, "writable and executable"),
        (
            &[elf::PT_GNU_STACK, elf::PT_PHDR],
            0,
            elf::PT_LOAD.0,
            "5 segments",
        ),
    ] {
        let mut changed = shared.clone();
        for &at in &headers {
            if kinds.iter().any(|k| k.0 == word(&shared, at)) {
                changed[at + offset..at + offset + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
        let module = Module::parse_linked(&changed, &bytes).unwrap();
        let found = &verdicts(&module)[0];
        assert!(found.iter().any(|f| f.contains(part)), "{part}: {found:?}");
    }
}

#[test]
fn vnet_variables() {
    // adr and the GOT's pair; the first cannot be moved to a vnet's own copy.
    for (kind, good_one) in [
        (elf::R_AARCH64_ADR_PREL_LO21, false),
        (elf::R_AARCH64_ADR_GOT_PAGE, true),
    ] {
        let mut f = fixture();
        let section = f.vnet.unwrap();
        let variable = f.symbol(
            "variable",
            SymbolSection::Section(section),
            SymbolScope::Compilation,
        );
        let text = f.object.section_id(StandardSection::Text);
        // adr x0, 0 or adrp x0, 0; ret
        let code: [u8; 8] = match good_one {
            false => [0, 0, 0, 0x10, 0xc0, 0x03, 0x5f, 0xd6],
            true => [0, 0, 0, 0x90, 0xc0, 0x03, 0x5f, 0xd6],
        };
        let id = f.function("user", &code, Some(0));
        let at = f.object.symbol(id).value;
        f.reloc_in(text, at, variable, kind, 0);
        match good_one {
            true => good(&f),
            false => bad(&f, 0, "user: a VNET variable"),
        }
    }
}

#[test]
fn imports() {
    for name in ["m_free_", "reasonless", "__udivti3"] {
        let mut f = fixture();
        let callee = f.symbol(name, SymbolSection::Undefined, SymbolScope::Unknown);
        f.caller("caller", callee, elf::R_AARCH64_CALL26);
        bad(&f, 1, name);
    }
}

#[test]
fn exports() {
    let mut f = fixture();
    let id = f.function("visible", RET_ARM, Some(0));
    f.object.symbol_mut(id).scope = SymbolScope::Dynamic;
    bad(&f, 2, "visible");
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

#[test]
fn vector_registers() {
    for word in [
        0x4ea1_1c20_u32, // mov v0.16b, v1.16b
        0x3dc0_0000,     // ldr q0, [x0]
        0xfd00_03e8,     // str d8, [sp]
        0x6d01_23e9,     // stp d9, d8, [sp, #16]
        0x1e60_4020,     // fmov d0, d1
        0x9e67_0000,     // fmov d0, x0
        0x5e28_0800,     // sha1h s0, s0
        0x4c40_7000,     // ld1 {v0.16b}, [x0]
        0x1c00_0000,     // ldr s0, <label>
        0x04a0_3000,     // orr z0.d, z0.d, z0.d of SVE, which is not decoded
    ] {
        let code = words(&[word, 0xd65f_03c0]);
        let mut f = fixture();
        f.vector_function("in_its_place", &code);
        good(&f);
        f.function("culprit", &code, Some(0));
        bad(&f, 3, "culprit");
    }
    let mut f = fixture();
    // What the kernel's own loads and stores look like: prfm, ldp, casal, mrs, dmb.
    let plain = [
        0xf980_0000,
        0xa940_0400,
        0xc8e0_fc41,
        0xd53b_e040,
        0xd503_3bbf,
        0x9b01_7c00,
        0xd65f_03c0,
    ];
    f.function("plain", &words(&plain), Some(0));
    good(&f);
}

#[test]
fn the_register_of_the_cpu() {
    for (word, good_one) in [
        (0xf940_0240_u32, true), // ldr x0, [x18]
        (0xaa00_03f2, false),    // mov x18, x0
        (0xf940_0012, false),    // ldr x18, [x0]
        (0xa940_4811, false),    // ldp x17, x18, [x0]
        (0x9100_4252, false),    // add x18, x18, #16
        (0x5280_0012, false),    // mov w18, #0
    ] {
        let mut f = fixture();
        let code = words(&[word, 0xd65f_03c0]);
        f.vector_function("anywhere", &code);
        match good_one {
            true => good(&f),
            false => bad(&f, 3, "anywhere"),
        }
    }
}

#[test]
fn frames() {
    for (frame, good_one) in [(2048, true), (2049, false)] {
        let mut f = fixture();
        f.function("configure", RET_ARM, Some(frame));
        match good_one {
            true => good(&f),
            false => bad(&f, 4, "configure"),
        }
    }
    let mut f = fixture();
    f.function("assembly", RET_ARM, None);
    bad(&f, 4, "no entry");
}

#[test]
fn frames_of_assembly() {
    for (code, good_one) in [
        (vec![0xd120_03ff_u32, 0xd65f_03c0], true), // sub sp, sp, #2048
        (vec![0xd120_07ff, 0xd65f_03c0], false),    // sub sp, sp, #2049
        (vec![0xd140_07ff, 0xd65f_03c0], false),    // sub sp, sp, #1, lsl #12
        (vec![0xa9b0_7bfd, 0xd11e_03ff, 0xd65f_03c0], false), // stp x29, x30, [sp, #-256]!; sub sp, sp, #1920
    ] {
        let mut f = fixture();
        f.vector_function("large", &words(&code));
        match good_one {
            true => good(&f),
            false => bad(&f, 4, "large"),
        }
    }
}

#[test]
fn frames_on_the_packet_path() {
    for (frame, good_one) in [(1024, true), (1025, false)] {
        let mut f = fixture();
        let deep = f.function("deep", RET_ARM, Some(frame));
        let middle = f.caller("middle", deep, elf::R_AARCH64_JUMP26);
        f.caller("kpi::net::input::<Other>", middle, elf::R_AARCH64_CALL26);
        match good_one {
            true => good(&f),
            false => bad(&f, 4, "deep"),
        }
    }
}

#[test]
fn calls_without_a_relocation() {
    // bl +16, ret, two nothings: functions begin at multiples of 16.
    let mut f = fixture();
    let code = words(&[0x9400_0004, 0xd65f_03c0, 0xd503_201f, 0xd503_201f]);
    f.function("kpi::net::input::<Near>", &code, Some(16));
    f.function("callee", RET_ARM, Some(1025));
    bad(&f, 4, "callee");
}

#[test]
fn depth() {
    for (last, good_one) in [(976, true), (1024, false)] {
        let mut f = fixture();
        let mut next = f.function("last", RET_ARM, Some(last));
        for name in ["third", "second", "first"] {
            let text = f.object.section_id(StandardSection::Text);
            let id = f.function(name, CALL_ARM, Some(1024));
            let at = f.object.symbol(id).value;
            f.reloc_in(text, at, next, elf::R_AARCH64_CALL26, 0);
            next = id;
        }
        f.caller("kpi::net::input::<Other>", next, elf::R_AARCH64_CALL26);
        match good_one {
            true => good(&f),
            false => bad(&f, 5, "first -> second -> third -> last"),
        }
    }
}

#[test]
fn panics() {
    const MUL_BASE: &str = "<curve25519_dalek::montgomery::MontgomeryPoint>::mul_base_clamped";
    for (panic, caller, good_one) in [
        ("core::panicking::panic_bounds_check", "careless", false),
        ("core::panicking::panic_bounds_check", MUL_BASE, true),
        ("core::panicking::panic", MUL_BASE, false),
    ] {
        let mut f = fixture();
        let panic = f.function(panic, RET_ARM, Some(0));
        f.caller(caller, panic, elf::R_AARCH64_CALL26);
        match good_one {
            true => good(&f),
            false => bad(&f, 6, caller),
        }
    }
    // The other architecture has no such excuse.
    let mut f = Fixture::new();
    let panic = f.function("core::panicking::panic_bounds_check", common::RET, Some(0));
    f.caller(MUL_BASE, panic, elf::R_X86_64_PLT32);
    only(&f.parse(), 6, MUL_BASE);
}

#[test]
fn what_is_no_module() {
    let f = fixture();
    let object = f.object.write().unwrap();
    assert!(Module::parse(&object).is_err(), "an origin alone");
    assert!(Module::parse_linked(&object, &object).is_err());
    assert!(Module::parse_linked(b"\x7fELF", &object).is_err());
    let amd64 = Fixture::new().object.write().unwrap();
    assert!(Module::parse_linked(&amd64, &amd64).is_err());
}

#[test]
fn landing_pads() {
    // An address in a table, and one that code makes of two halves.
    for (kind, in_data) in [
        (elf::R_AARCH64_ABS64, true),
        (elf::R_AARCH64_ADR_PREL_PG_HI21, false),
    ] {
        for (code, right) in [(RET_ARM, true), (BARE_RET_ARM, false)] {
            let mut f = fixture();
            let called = f.function("called", code, Some(0));
            if in_data {
                let data = f.object.section_id(StandardSection::Data);
                let at = f.object.append_section_data(data, &[0; 8], 8);
                f.reloc_in(data, at, called, kind, 0);
            } else {
                // adrp x0, 0; ret
                let code = [0, 0, 0, 0x90, 0xc0, 0x03, 0x5f, 0xd6];
                let user = f.function("user", &code, Some(0));
                let text = f.object.section_id(StandardSection::Text);
                let at = f.object.symbol(user).value;
                f.reloc_in(text, at, called, kind, 0);
            }
            match right {
                true => good(&f),
                false => bad(&f, 7, "called has no landing pad"),
            }
        }
    }
    // What is only called by name needs none.
    let mut f = fixture();
    let callee = f.function("callee", BARE_RET_ARM, Some(0));
    f.caller("caller", callee, elf::R_AARCH64_CALL26);
    good(&f);
}
