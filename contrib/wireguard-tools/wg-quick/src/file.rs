// SPDX-License-Identifier: BSD-2-Clause
//! Finding the configuration file, and reading it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use wgtools::endpoint::Resolve;
use wgtools::secret;

use crate::config::Config;
use crate::hook::Code;
use crate::host::{Failure, failed};
use crate::os::Os;

/// An interface and its file.
pub struct Job {
    /// Name of the interface.
    pub name: String,
    /// The file, without symbolic links in the way.
    pub path: PathBuf,
    /// What is in it.
    pub config: Config,
}

impl Job {
    /// A hook's code, with the interface's name for `%i`.
    pub fn hook(&self, code: &Code) -> Code {
        code.for_interface(&self.name)
    }

    /// A line for each thing that is wrong with the file.
    pub fn problems(&self) -> Vec<String> {
        let place = self.path.display();
        let line = |p: &crate::config::Problem| match p.line {
            0 => format!("{place}: {}", p.text),
            n => format!("{place}:{n}: {}", p.text),
        };
        self.config.problems.iter().map(line).collect()
    }
}

/// The longest name of an interface, in bytes.
const MAX_NAME: usize = 15;

/// Whether an interface can have this name; such a word on the command line is one, anything else is a path.
pub fn is_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_=+.-".contains(&b);
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(fits)
}

/// The file and the name of the interface that a word on the command line means.
///
/// # Errors
/// There is no such file, or it is not named after an interface.
pub fn find(os: &dyn Os, word: &str) -> Result<(PathBuf, String), Failure> {
    let path = if is_name(word) {
        let places = os
            .folders()
            .iter()
            .map(|folder| Path::new(folder).join(format!("{word}.conf")));
        let mut places = places.collect::<Vec<_>>().into_iter();
        let first = places.next().unwrap_or_default();
        if first.exists() {
            first
        } else {
            places.find(|path| path.exists()).unwrap_or(first)
        }
    } else {
        PathBuf::from(word)
    };
    if !path.exists() && !word.contains('/') && !word.ends_with(".conf") && !is_name(word) {
        return failed(format!(
            "`{word}' is no file, and no interface can have that name: it has at most {MAX_NAME} of A-Z a-z 0-9 _=+.-"
        ));
    }
    if !path.exists() {
        return failed(format!("`{}' does not exist", path.display()));
    }
    let file_name = path.file_name().and_then(|name| name.to_str());
    let name = file_name
        .and_then(|name| name.strip_suffix(".conf"))
        .unwrap_or_default();
    if !is_name(name) || name == "." || name == ".." {
        return failed(format!(
            "the file's name must be that of an interface (at most {MAX_NAME} of A-Z a-z 0-9 _=+.-), followed by \
             .conf: `{}'",
            path.display()
        ));
    }
    match fs::canonicalize(&path) {
        Ok(real) => Ok((real, name.to_owned())),
        Err(e) => failed(format!("`{}': {}", path.display(), wgtools::error_text(&e))),
    }
}

/// The warning about a file that others can get at, as they can at its folder.
pub fn exposed(path: &Path) -> Option<String> {
    let mode = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.permissions().mode());
    let both = mode(path) & path.parent().map_or(0, mode) & 0o007;
    (both != 0).then(|| format!("Warning: `{}' is world accessible", path.display()))
}

/// Reads a file.
///
/// # Errors
/// It cannot be read.
pub fn load(path: PathBuf, name: String, resolver: &mut dyn Resolve) -> Result<Job, Failure> {
    match secret::read(&path) {
        Ok(text) => Ok(Job {
            name,
            config: Config::parse(&text, resolver),
            path,
        }),
        Err(e) => failed(format!("`{}': {}", path.display(), wgtools::error_text(&e))),
    }
}
