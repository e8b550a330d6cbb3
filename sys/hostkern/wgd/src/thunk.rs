// SPDX-License-Identifier: BSD-2-Clause
//! The module's entry points, under the names that a kernel calls.

use hostkern::ModuleOps;

kpi::declare_module!(if_wg::Softc);

/// The driver, to be loaded.
#[must_use]
pub fn module() -> ModuleOps {
    hostkern::linked_module!()
}
