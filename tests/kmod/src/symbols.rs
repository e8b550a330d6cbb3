// SPDX-License-Identifier: BSD-2-Clause
//! The list of kernel names that the module may import: the tables of `sys/kpi/sys/SYMBOLS.md`.

use std::collections::HashMap;

/// Names, each with the header or manual page that it comes from.
pub struct Symbols {
    origin: HashMap<String, String>,
}

impl Symbols {
    /// Reads the tables: the first column has names, the third where they come from. Rows without an
    /// origin do not count, as the list is one of reasons.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut origin = HashMap::new();
        for line in text.lines() {
            let Some(row) = line.strip_prefix("| ") else {
                continue;
            };
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let [names, _, from, ..] = cells[..] else {
                continue;
            };
            if from.ends_with(".h") || from.ends_with("(9)") {
                for name in names.split(',') {
                    origin.insert(name.trim().to_string(), from.to_string());
                }
            }
        }
        Self { origin }
    }

    /// Whether the name is on the list.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.origin.contains_key(name)
    }

    /// Number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.origin.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.origin.is_empty()
    }

    /// Names of the list that `imports` does not have, sorted.
    pub fn unused<'a>(&'a self, imports: &[String]) -> Vec<&'a str> {
        let mut unused: Vec<&str> = self
            .origin
            .keys()
            .map(String::as_str)
            .filter(|name| !imports.iter().any(|i| i == name))
            .collect();
        unused.sort_unstable();
        unused
    }
}
