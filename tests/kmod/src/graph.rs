// SPDX-License-Identifier: BSD-2-Clause
//! Who refers to whom. A function whose address is taken counts as called by the one that takes it,
//! also through a table of constants: Rust's tables of methods are such.
//!
//! Not so where stack is added up and the function is one that the kernel enters ([`crate::ENTRIES`]):
//! whoever takes the address of a callback gives it to the kernel, which calls it later, from a stack
//! of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::is_entry;
use crate::module::{Machine, Module, Place};

/// References between functions, by their numbers in [`Module::functions`].
pub struct Graph {
    calls: Vec<BTreeSet<usize>>,
    callers: Vec<BTreeSet<usize>>,
    /// Those of `calls` that are made on the same stack.
    nested: Vec<BTreeSet<usize>>,
}

impl Graph {
    /// The graph of a module.
    #[must_use]
    pub fn new(module: &Module) -> Self {
        let n = module.functions.len();
        let mut graph = Self {
            calls: vec![BTreeSet::new(); n],
            callers: vec![BTreeSet::new(); n],
            nested: vec![BTreeSet::new(); n],
        };
        let mut tables = Tables::new();
        for r in &module.relocations {
            if module.function_at(r.at).is_none()
                && let Some(to) = r.to
                && let Some(f) = module.function_at(to)
                // A place inside of a function: the table of a switch.
                && module.functions[f].address == to.1
            {
                tables.entry(r.at.0).or_default().insert(r.at.1, f);
            }
        }
        for r in &module.relocations {
            let (Some(from), Some(to)) = (module.function_at(r.at), r.to) else {
                continue;
            };
            match module.function_at(to) {
                Some(f) => {
                    let nested = r.is_call() || !is_entry(&module.functions[f].name);
                    graph.add(from, f, nested);
                }
                None => behind(module, &tables, to)
                    .into_iter()
                    .for_each(|f| graph.add(from, f, true)),
            }
        }
        // Calls within one section of one object need no relocation.
        for from in 0..n {
            for to in module.branches(from) {
                graph.add(from, to, true);
            }
        }
        graph
    }

    fn add(&mut self, from: usize, to: usize, nested: bool) {
        if from != to {
            self.calls[from].insert(to);
            self.callers[to].insert(from);
            if nested {
                self.nested[from].insert(to);
            }
        }
    }

    /// Who refers to function `i`.
    pub fn callers(&self, i: usize) -> impl Iterator<Item = usize> {
        self.callers[i].iter().copied()
    }

    /// Everything that can be reached from the functions whose names begin with one of `entries`.
    #[must_use]
    pub fn reachable(&self, module: &Module, entries: &[&str]) -> HashSet<usize> {
        let begins = |i: &usize| {
            let name = &module.functions[*i].name;
            entries.iter().any(|p| name.starts_with(p))
        };
        let mut todo: Vec<usize> = (0..module.functions.len()).filter(begins).collect();
        let mut seen = HashSet::new();
        while let Some(i) = todo.pop() {
            if seen.insert(i) {
                todo.extend(&self.calls[i]);
            }
        }
        seen
    }

    /// The chain of calls from `entry` that takes most stack: bytes, and the functions. Return
    /// addresses and saved frame pointers are counted; a function that is on the chain already is
    /// not entered again. What the kernel's own functions take is not known here.
    #[must_use]
    pub fn deepest(&self, module: &Module, entry: usize) -> (u64, Vec<usize>) {
        let mut known = HashMap::new();
        self.deepest_from(module, entry, &mut Vec::new(), &mut known)
    }

    fn deepest_from(
        &self,
        module: &Module,
        i: usize,
        chain: &mut Vec<usize>,
        known: &mut HashMap<usize, (u64, Vec<usize>)>,
    ) -> (u64, Vec<usize>) {
        if let Some(found) = known.get(&i) {
            return found.clone();
        }
        chain.push(i);
        let mut best = (0, Vec::new());
        for &next in &self.nested[i] {
            if !chain.contains(&next) {
                let found = self.deepest_from(module, next, chain, known);
                if found.0 > best.0 {
                    best = found;
                }
            }
        }
        chain.pop();
        // The return address is pushed by the call, or is among the registers that the frame saves.
        let pushed = if module.machine == Machine::Amd64 {
            8
        } else {
            0
        };
        best.0 += module.functions[i].frame.unwrap_or(0) + pushed;
        best.1.insert(0, i);
        known.insert(i, best.clone());
        best
    }
}

/// Pointers to functions in constants: by section, place and function.
type Tables = HashMap<usize, BTreeMap<u64, usize>>;

/// The functions in the table that begins at `to`.
///
/// Rust's table of methods is a destructor or null, size, alignment, and then the methods. Where the
/// next table begins cannot be seen but by these first three words.
fn behind(module: &Module, tables: &Tables, (section, offset): Place) -> Vec<usize> {
    let Some(table) = tables.get(&section) else {
        return Vec::new();
    };
    let is_methods = |at: u64| {
        let plain = |at| !module.is_relocated((section, at));
        plain(at + 8)
            && plain(at + 16)
            && module
                .word((section, at + 16))
                .is_some_and(|align| align.is_power_of_two() && align <= 16)
            && (table.contains_key(&at) || (plain(at) && module.word((section, at)) == Some(0)))
    };
    let mut found = Vec::new();
    let mut at = offset;
    if is_methods(offset) {
        found.extend(table.get(&offset));
        at += 24;
    }
    while let Some(f) = table.get(&at) {
        if at != offset && is_methods(at) {
            break;
        }
        found.push(*f);
        at += 8;
    }
    found
}
