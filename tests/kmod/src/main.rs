// SPDX-License-Identifier: BSD-2-Clause
//! `kmod-check MODULE SYMBOLS.md`: all checks, a line for each, sizes, and exit status 1 if one
//! fails.

use std::process::ExitCode;

use kmod_check::{Graph, Module, PACKET_ENTRIES, Symbols};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, list] = arguments.as_slice() else {
        eprintln!("usage: kmod-check MODULE SYMBOLS.md");
        return ExitCode::from(2);
    };
    match run(file, list) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("kmod-check: {e}");
            ExitCode::from(2)
        }
    }
}

fn run(file: &str, list: &str) -> Result<bool, Box<dyn std::error::Error>> {
    let module = Module::parse(&std::fs::read(file)?)?;
    let symbols = Symbols::parse(&std::fs::read_to_string(list)?);
    let graph = Graph::new(&module);
    let checks = [
        ("relocations", kmod_check::relocations(&module)),
        ("imports", kmod_check::imports(&module, &symbols)),
        ("exports", kmod_check::exports(&module)),
        ("vector registers", kmod_check::vectors(&module)),
        ("stack frames", kmod_check::frames(&module, &graph)),
        ("panic paths", kmod_check::panics(&module, &graph)),
    ];
    let mut failed = 0;
    for (name, found) in &checks {
        println!("{name}: {}", if found.is_empty() { "ok" } else { "FAILED" });
        found.iter().for_each(|line| println!("    {line}"));
        failed += usize::from(!found.is_empty());
    }
    report(&module, &graph, &symbols);
    println!("{} passed, {failed} failed", checks.len() - failed);
    Ok(failed == 0)
}

fn report(module: &Module, graph: &Graph, symbols: &Symbols) {
    let sizes: Vec<String> = module
        .sections
        .iter()
        .filter(|(name, _)| {
            [".text", ".vector", ".rodata", ".data", ".bss"].contains(&name.as_str())
        })
        .map(|(name, size)| format!("{name} {size}"))
        .collect();
    println!("sizes in bytes: {}", sizes.join(", "));
    println!(
        "{} functions, {} imports of {} allowed",
        module.functions.len(),
        module.imports.len(),
        symbols.len()
    );
    for (i, f) in module.functions.iter().enumerate() {
        if PACKET_ENTRIES.iter().any(|p| f.name.starts_with(p)) {
            let (bytes, chain) = graph.deepest(module, i);
            println!(
                "stack from {}: {bytes} bytes in {} frames of ours",
                f.name,
                chain.len()
            );
            for f in chain.iter().filter_map(|&f| module.functions.get(f)) {
                println!("    {:5} {}", f.frame.unwrap_or(0), f.name);
            }
        }
    }
    let mut large: Vec<_> = module
        .functions
        .iter()
        .filter_map(|f| Some((f.frame?, &f.name)))
        .collect();
    large.sort_unstable();
    for (frame, name) in large.iter().rev().take(5) {
        println!("frame of {frame} bytes: {name}");
    }
}
