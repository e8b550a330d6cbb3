// SPDX-License-Identifier: BSD-2-Clause
//! Raw bindings to the FreeBSD kernel.
//!
//! - Structures and constants come from FreeBSD's own headers by bindgen (`build.rs`, `wrapper.h`).
//! - [`native`] declares the kernel functions that are imported under their own names
//!   (`SYMBOLS.md`).
//! - [`shim`] declares the functions of `shim/kpi_shim.h`. Their C bodies are part of the kernel
//!   module only; on other systems the crate `hostkern` defines them, and those of [`native`] too.
//!
//! Nothing here is safe to call without reading the contract in the header; crate `kpi` is the only
//! intended user.
#![no_std]
#![allow(non_camel_case_types)]

#[allow(
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unused_imports,
    unnecessary_transmutes,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

/// Declares functions that C, or `hostkern`, defines. A kernel cannot unwind, and a call that could
/// would drag in code that aborts. `hostkern` panics when a rule is broken, and its tests catch
/// that.
macro_rules! kernel_functions {
    ($($body:tt)*) => {
        #[cfg(panic = "unwind")]
        unsafe extern "C-unwind" { $($body)* }
        #[cfg(not(panic = "unwind"))]
        unsafe extern "C" { $($body)* }
    };
}

mod layout;
pub mod native;
pub mod opaque;
pub mod shim;

/// Numbers of `offsets.h`: where the shims look in structures of the kernel, and constants that they pass to it. `hostkern`
/// needs them to run the shims in a process.
pub mod offsets {
    #![allow(missing_docs, non_camel_case_types)] // The header says what they are.
    include!(concat!(env!("OUT_DIR"), "/offsets.rs"));
}

pub use bindings::*;
pub use native::*;
pub use opaque::*;
pub use shim::*;
