// SPDX-License-Identifier: BSD-2-Clause
//! Loads `if_wg.ko` into this process, so that scenarios can be run over the very file that a kernel
//! gets.
//!
//! The file is a relocatable object. Its sections are placed in the low 2 GiB, which the kernel's
//! code model can address as well as its own high ones, and relocated as the kernel's linker does.
//! What it imports comes from `hostkern`.
//!
//! The module has C in it that reaches into the kernel: for the present thread, for a vnet's
//! variables, for locks. `hostkern` has functions of the same names, and a reference to one of
//! those (`kpi_*`) is bound to `hostkern`'s. So all of the module's Rust code and its vector code
//! run here; the C shims, the linker sets and what they register do not.

mod host;
mod image;

use std::path::Path;
use std::sync::OnceLock;

use hostkern::ModuleOps;
pub use image::Error;

/// The entry points of the module in `file`. It is loaded once, and stays.
///
/// # Errors
/// The file cannot be read, is not what `make kmod` makes, or wants something that is not here.
///
/// # Panics
/// When another file was loaded before.
pub fn module_ops(file: &Path) -> Result<ModuleOps, Error> {
    static LOADED: OnceLock<(std::path::PathBuf, ModuleOps)> = OnceLock::new();
    if let Some((path, ops)) = LOADED.get() {
        assert_eq!(path, file, "one module a process");
        return Ok(*ops);
    }
    let ops = image::Image::load(&std::fs::read(file)?)?.ops()?;
    Ok(LOADED.get_or_init(|| (file.to_path_buf(), ops)).1)
}
