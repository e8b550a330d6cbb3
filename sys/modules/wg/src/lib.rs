// SPDX-License-Identifier: BSD-2-Clause
//! The kernel module `if_wg.ko`.
//!
//! `kpi` has the code of the entry points; here they get their names and the driver that they are for. The module is
//! built for bare metal, so the only other thing is what happens if Rust panics: the driver has no code that does, but
//! the language wants an answer.
#![cfg_attr(target_os = "none", no_std)]

#[cfg(target_os = "none")]
mod kernel {
    kpi::declare_module!(if_wg::Softc);

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        kpi::log::halt(c"if_wg: Rust panic")
    }
}
