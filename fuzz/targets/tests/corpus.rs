// SPDX-License-Identifier: BSD-2-Clause
//! Every file of every corpus goes through its target, by the compiler that builds everything else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use wg_fuzz_targets::{TARGETS, seeds};

fn folder(inside: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(inside)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn replay() {
    for (target, run) in TARGETS {
        let corpus = folder("corpus").join(target);
        let files = names(&corpus);
        assert!(files.len() > 3, "{target} has no corpus to speak of");
        for file in files {
            let bytes = fs::read(corpus.join(&file)).unwrap();
            // The output of a test that fails says how far it came.
            println!("{target}/{file}");
            run(&bytes);
        }
    }
}

/// Small changes of the corpora, always the same ones: a poor man's fuzzer, but everybody has it.
#[test]
fn replay_with_changes() {
    for (target, run) in TARGETS {
        let corpus = folder("corpus").join(target);
        for file in names(&corpus) {
            let bytes = fs::read(corpus.join(&file)).unwrap();
            println!("{target}/{file}");
            changed(&bytes, run);
        }
    }
}

fn changed(bytes: &[u8], run: &dyn Fn(&[u8])) {
    let step = bytes.len() / 24 + 1;
    for at in (0..bytes.len()).step_by(step) {
        run(&bytes[..at]);
        for value in [0, b'\n', bytes[at] ^ 1, bytes[at].wrapping_add(1), 0xff] {
            let mut other = bytes.to_vec();
            other[at] = value;
            run(&other);
        }
        let mut other = bytes.to_vec();
        other.remove(at);
        run(&other);
        other.splice(at..at, bytes.iter().copied().skip(at).take(9));
        run(&other);
    }
}

/// The seeds in the repository are those that the program makes, and nobody has changed either alone.
#[test]
fn seeds_are_checked_in() {
    for (target, name, bytes) in seeds::all() {
        let file = folder("corpus").join(target).join(&name);
        let there = fs::read(&file).ok();
        assert!(
            there == Some(bytes),
            "corpus/{target}/{name} differs: cargo run -p wg-fuzz-targets --example seeds"
        );
    }
}

/// The lists of targets agree: the functions, the programs, the corpora.
#[test]
fn every_target_is_everywhere() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let programs = names(&folder("fuzz_targets"));
    let programs: BTreeSet<_> = programs
        .iter()
        .filter_map(|f| f.strip_suffix(".rs"))
        .collect();
    assert_eq!(programs, targets.iter().map(|t| &**t).collect());
    assert_eq!(names(&folder("corpus")), targets);
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    for target in &targets {
        assert!(
            manifest.contains(&format!("name = \"{target}\"")),
            "{target} in Cargo.toml"
        );
    }
}
