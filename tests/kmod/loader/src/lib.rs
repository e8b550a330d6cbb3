// SPDX-License-Identifier: BSD-2-Clause
//! Loads `if_wg.ko` into this process, so that scenarios can be run over the very file that a kernel
//! gets.
//!
//! The file is a relocatable object. It is placed in the low 2 GiB, which the kernel's code model can
//! address as well as its own high ones, and relocated as sys/kern/link_elf_obj.c does it: each
//! section by itself, the VNET variables where vnets have theirs, imports bound to the kernel's
//! functions and variables. Then its metadata is read, its sysinits run, and its modules get their
//! events; [`hostkern::kld`] does that, and is the kernel behind the imports.
//!
//! Everything in the file runs here as it is, its C shims too. No function is replaced, and there is no way to: a reference to
//! what the file defines is bound to the file.

mod image;

use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use hostkern::ModuleOps;
use hostkern::kld::{File, Metadata};
pub use image::Error;
use image::Template;

static LOADED: OnceLock<(PathBuf, Template)> = OnceLock::new();

/// The entry points of the module in `file`. Every kernel that loads it gets a copy of its own.
///
/// # Errors
/// The file cannot be read, is not what `make kmod` makes, or wants something that is not here.
///
/// # Panics
/// When another file was loaded before.
pub fn module_ops(file: &Path) -> Result<ModuleOps, Error> {
    if let Some((path, _)) = LOADED.get() {
        assert_eq!(path, file, "one module a process");
    } else {
        let template = Template::read(std::fs::read(file)?)?;
        // Another thread may have been faster, with the same file.
        let _ = LOADED.set((file.to_path_buf(), template));
    }
    Ok(hostkern::kld::module_ops(load))
}

/// kldload(8) in the kernel of the running frame.
unsafe extern "C" fn load() -> c_int {
    const ENOEXEC: c_int = 8;
    let Some((path, template)) = LOADED.get() else {
        return ENOEXEC;
    };
    match template.place() {
        // SAFETY: placed and relocated a moment ago, from a file that is this kernel's module.
        Ok(file) => unsafe { hostkern::kld::load(file) }.err().unwrap_or(0),
        Err(e) => {
            eprintln!("{}: {e}", path.display());
            ENOEXEC
        }
    }
}

/// A file as the kernel's linker leaves it: placed and relocated, nothing run.
///
/// # Errors
/// It is not what the kernel's linker takes, or wants something that is not here.
pub fn place(bytes: Vec<u8>) -> Result<File, Error> {
    Template::read(bytes)?.place()
}

/// What a file says of itself: modules, versions, dependencies.
///
/// # Errors
/// As of [`place`], or metadata of a kind that is not known.
pub fn metadata(bytes: Vec<u8>) -> Result<Vec<Metadata>, Error> {
    let placed = place(bytes)?;
    // SAFETY: pointers of the set, relocated.
    unsafe { hostkern::kld::metadata(&placed.metadata) }.map_err(Error::new)
}
