// SPDX-License-Identifier: BSD-2-Clause
//! `kmod-check SYMBOLS.md FOLDER ...`: all checks of the module in each folder that `build.sh` has
//! filled, a line for each, sizes, and exit status 1 if one fails.

use std::path::Path;
use std::process::ExitCode;

use kmod_check::{Graph, Module, Symbols};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [list, folders @ ..] = arguments.as_slice() else {
        eprintln!("usage: kmod-check SYMBOLS.md FOLDER ...");
        return ExitCode::from(2);
    };
    match run(list, folders) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("kmod-check: {e}");
            ExitCode::from(2)
        }
    }
}

fn run(list: &str, folders: &[String]) -> Result<bool, Box<dyn std::error::Error>> {
    let symbols = Symbols::parse(&String::from_utf8(read(list.as_ref())?)?);
    let (mut passed, mut failed) = (0, 0);
    for folder in folders {
        let module = open(folder.as_ref()).map_err(|e| format!("{folder}: {e}"))?;
        let graph = Graph::new(&module);
        let checks = [
            ("relocations", kmod_check::relocations(&module)),
            ("imports", kmod_check::imports(&module, &symbols)),
            ("exports", kmod_check::exports(&module)),
            ("vector registers", kmod_check::vectors(&module)),
            ("stack frames", kmod_check::frames(&module, &graph)),
            ("stack depth", kmod_check::depths(&module, &graph)),
            ("landing pads", kmod_check::landings(&module)),
            ("panic paths", kmod_check::panics(&module, &graph)),
        ];
        println!("{folder}, for {:?}:", module.machine);
        for (name, found) in &checks {
            println!("{name}: {}", if found.is_empty() { "ok" } else { "FAILED" });
            found.iter().for_each(|line| println!("    {line}"));
            match found.is_empty() {
                true => passed += 1,
                false => failed += 1,
            }
        }
        report(&module, &graph, &symbols);
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

/// The module in a folder: for arm64 there is a relocatable object beside it.
fn open(folder: &Path) -> Result<Module, Box<dyn std::error::Error>> {
    let module = read(&folder.join("if_wg.ko.full"))?;
    let origin = folder.join("if_wg.kld");
    Ok(match origin.exists() {
        true => Module::parse_linked(&module, &read(&origin)?)?,
        false => Module::parse(&module)?,
    })
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))
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
    println!("stack that our functions take in one call of the kernel's, at most:");
    let chains = kmod_check::chains(module, graph);
    for chain in &chains {
        let name = &module.functions[chain.entry].name;
        println!("    {:5} of {}  {name}", chain.bytes, chain.limit);
    }
    if let Some(chain) = chains.iter().max_by_key(|c| c.bytes * 4096 / c.limit) {
        println!("the one that comes nearest to its limit:");
        for f in chain.functions.iter().map(|&f| &module.functions[f]) {
            println!("    {:5} {}", f.frame.unwrap_or(0), f.name);
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
