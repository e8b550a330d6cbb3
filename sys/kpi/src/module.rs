// SPDX-License-Identifier: BSD-2-Clause
//! The module: from the kernel's events to [`Module`] and [`IfDriver`].
//!
//! `shim/module.c` has what the kernel's linker and module system want to see (`DECLARE_MODULE`, a
//! cloner for each vnet, the hook for removed jails) and calls the functions `kpi_rs_*`.
//! [`declare_module!`](crate::declare_module) makes those in the crate that is linked last, for one
//! driver.
//!
//! All module-wide state hangs off one pointer that the kernel side keeps (`kpi_module_slot`), not
//! off a Rust static, so that several simulated kernels can have the module loaded in one process.

use core::ffi::{c_char, c_int};
use core::ptr;

use freebsd_kernel_sys as sys;
use kpi_alloc::{How, KArc, KBox, Sleepable};

use crate::cred::{Cred, Prison};
use crate::epoch::{epoch_drain_callbacks, epoch_wait};
use crate::ifnet::{self, IfDriver, Module, State};
use crate::sync::SxLock;
use crate::sysctl::Tree;
use crate::{Errno, Result};

/// What the slot points to.
struct Loaded<D: IfDriver> {
    /// None only while an unload is under way.
    state: SxLock<Option<KArc<State<D>>>>,
    /// Held for its drop.
    _sysctls: Tree<D::Module>,
    /// Allocations at the end of the load: what this holds, and no interface.
    baseline: u64,
}

/// The value in the slot.
///
/// The value lives from `load` to `unload`, which the kernel calls when nothing else of the module
/// can run: so `'static`, as seen from everything in between.
fn loaded<D: IfDriver>() -> Option<&'static Loaded<D>> {
    // SAFETY: any context; a valid pointer to the slot.
    let slot = unsafe { *sys::kpi_module_slot() };
    // SAFETY: null, or what `load` of the same `D` has put there: a module is declared once.
    unsafe { slot.cast::<Loaded<D>>().as_ref() }
}

/// The module's state; `None` while it is not loaded.
pub(crate) fn state<D: IfDriver>() -> Option<KArc<State<D>>> {
    let loaded = loaded::<D>()?;
    // SAFETY: only called from entries that may sleep.
    let cx = unsafe { Sleepable::assume() };
    loaded.state.read(&cx).clone()
}

fn try_load<D: IfDriver>(cx: &Sleepable) -> Result {
    // SAFETY: any context.
    let slot = unsafe { sys::kpi_module_slot() };
    // SAFETY: the slot is there; nothing of the module runs yet beside us.
    if !unsafe { *slot }.is_null() {
        return Err(Errno::EEXIST);
    }
    let module = KArc::new(D::Module::load(cx)?, How::Wait(cx))?;
    let sysctls = Tree::new(D::CLONER, module.clone(), cx).inspect_err(|_| module.unload(cx))?;
    let state = KArc::new_with(How::Wait(cx), || State::<D>::new(module.clone()));
    let loaded = state.and_then(|state| {
        KBox::new_with(How::Wait(cx), || Loaded {
            state: SxLock::new(c"kpi module", Some(state)),
            _sysctls: sysctls,
            baseline: 0,
        })
    });
    match loaded {
        Ok(mut loaded) => {
            loaded.baseline = live();
            // SAFETY: as above; `unload` takes the box back.
            unsafe { *slot = KBox::into_raw(loaded).cast() }
        }
        Err(e) => {
            module.unload(cx);
            return Err(e.into());
        }
    }
    Ok(())
}

/// Module load.
///
/// # Safety
///
/// Called by the kernel once before everything else; may sleep.
pub unsafe fn load<D: IfDriver>() -> c_int {
    // SAFETY: the contract.
    let cx = unsafe { Sleepable::assume() };
    Errno::from_result(try_load::<D>(&cx))
}

/// Whether an unload may be tried.
///
/// # Safety
///
/// Called by the kernel between load and unload; may sleep.
pub unsafe fn can_unload<D: IfDriver>() -> c_int {
    match state::<D>() {
        Some(state) => Errno::from_result(state.module.can_unload()),
        None => 0,
    }
}

fn live() -> u64 {
    // SAFETY: no argument, any context.
    unsafe { sys::kpi_malloc_live() }
}

/// Turns of [`drain`] after which something is taken to be held for good. One for each link of the
/// longest chain would do: socket, session, peer, interface.
const DRAINS: usize = 100;

/// Waits until no more than `allowed` allocations are left; `EBUSY` if more stay.
///
/// What the epoch frees may give more to the epoch when it goes: a session its peer, a peer its
/// interface. Draining waits for what was given before, so it is done until all memory is back.
fn drain(allowed: u64, cx: &Sleepable) -> Result {
    epoch_wait(cx);
    for _ in 0..DRAINS {
        if live() <= allowed {
            break;
        }
        epoch_drain_callbacks(cx);
    }
    // For the callback that gave back the last: it has yet to return.
    epoch_drain_callbacks(cx);
    if live() <= allowed {
        Ok(())
    } else {
        Err(Errno::EBUSY)
    }
}

/// Nothing that could call this module's code, or is its memory, may be left when this succeeds: the
/// text goes away after it. So it refuses as long as anything is, while the module is still whole.
fn try_unload<D: IfDriver>(cx: &Sleepable) -> Result {
    let Some(loaded) = loaded::<D>() else {
        return drain(0, cx);
    };
    // Ioctls and interfaces hold references. What they held is given back before this, or by the
    // callbacks of this.
    drain(loaded.baseline, cx)?;
    let state = {
        let mut place = loaded.state.write(cx);
        let Some(state) = place.take() else {
            return Ok(());
        };
        match KArc::try_unwrap(state) {
            Ok(state) => state,
            Err(state) => {
                // An interface was being created while the cloners were detached.
                *place = Some(state);
                return Err(Errno::EBUSY);
            }
        }
    };
    // SAFETY: any context.
    let slot = unsafe { sys::kpi_module_slot() };
    // SAFETY: the slot is there.
    let raw = unsafe { ptr::replace(slot, ptr::null_mut()) };
    // SAFETY: `load` put it there. With no interface, no cloner and the state taken out, nobody
    // uses it but the handlers of sysctl(8), and the drop waits for those.
    drop(unsafe { KBox::from_raw(raw.cast::<Loaded<D>>()) });
    state.module.unload(cx);
    drop(state);
    // What the driver's last objects gave to the epoch must run before the code goes away.
    drain(0, cx)
}

/// Module unload.
///
/// # Safety
///
/// Called by the kernel when every cloner is detached; may sleep.
pub unsafe fn unload<D: IfDriver>() -> c_int {
    // SAFETY: the contract.
    let cx = unsafe { Sleepable::assume() };
    Errno::from_result(try_unload::<D>(&cx))
}

/// Name of the cloner.
#[must_use]
pub const fn cloner_name<D: IfDriver>() -> *const c_char {
    D::CLONER.as_ptr()
}

/// Clone create.
///
/// # Safety
///
/// Called by the cloner in the interface's vnet; `ifpp` is writable; may sleep.
pub unsafe fn clone_create<D: IfDriver>(unit: u32, ifpp: *mut *mut sys::ifnet) -> c_int {
    // SAFETY: the contract.
    let cx = unsafe { Sleepable::assume() };
    // The interface would be in one network stack and its sockets in another: a jail's root who asks
    // by netlink(4) would get sockets of the host's. The one who asked is not to be found from here.
    if !Cred::is_here() {
        return Errno::EPERM.to_raw();
    }
    let Some(state) = state::<D>() else {
        return Errno::ENXIO.to_raw();
    };
    // SAFETY: the contract.
    match unsafe { ifnet::create(&state, unit, &cx) } {
        Ok(ifp) => {
            // SAFETY: writable.
            unsafe { *ifpp = ifp.as_ptr() };
            0
        }
        Err(e) => e.to_raw(),
    }
}

/// Clone destroy.
///
/// # Safety
///
/// Called by the cloner once for an interface that [`clone_create`] made; may sleep.
pub unsafe fn clone_destroy<D: IfDriver>(ifp: *mut sys::ifnet) -> c_int {
    // SAFETY: the contract.
    let cx = unsafe { Sleepable::assume() };
    let Some(state) = state::<D>() else {
        return Errno::ENXIO.to_raw();
    };
    // SAFETY: the contract.
    Errno::from_result(unsafe { ifnet::destroy(&state, ifp, &cx) })
}

/// A jail is being removed.
///
/// # Safety
///
/// Called by the kernel with a live prison; may sleep.
pub unsafe fn prison_remove<D: IfDriver>(pr: *const sys::prison) {
    // SAFETY: the contract.
    let cx = unsafe { Sleepable::assume() };
    let Some(state) = state::<D>() else { return };
    // SAFETY: live through this call.
    let prison = unsafe { Prison::borrow(pr) };
    ifnet::prison_remove(&state, prison, &cx);
}

/// Makes the C functions through which the kernel calls the module of the driver `$driver` (an
/// [`IfDriver`]). Once in the crate that is linked last.
#[macro_export]
macro_rules! declare_module {
    ($driver:ty) => {
        const _: () = {
            use ::core::ffi::{c_char, c_int};
            use $crate::module as m;

            /// # Safety
            /// [`m::load`].
            #[unsafe(no_mangle)]
            unsafe extern "C" fn kpi_rs_load() -> c_int {
                // SAFETY: the kernel's call.
                unsafe { m::load::<$driver>() }
            }

            /// # Safety
            /// [`m::can_unload`].
            #[unsafe(no_mangle)]
            unsafe extern "C" fn kpi_rs_can_unload() -> c_int {
                // SAFETY: the kernel's call.
                unsafe { m::can_unload::<$driver>() }
            }

            /// # Safety
            /// [`m::unload`].
            #[unsafe(no_mangle)]
            unsafe extern "C" fn kpi_rs_unload() -> c_int {
                // SAFETY: the kernel's call.
                unsafe { m::unload::<$driver>() }
            }

            #[unsafe(no_mangle)]
            extern "C" fn kpi_rs_cloner_name() -> *const c_char {
                m::cloner_name::<$driver>()
            }

            /// # Safety
            /// [`m::clone_create`].
            #[unsafe(no_mangle)]
            unsafe extern "C" fn kpi_rs_clone_create(
                unit: u32,
                ifpp: *mut *mut m::RawIfNet,
            ) -> c_int {
                // SAFETY: the kernel's call.
                unsafe { m::clone_create::<$driver>(unit, ifpp) }
            }

            /// # Safety
            /// [`m::clone_destroy`].
            #[unsafe(no_mangle)]
            unsafe extern "C" fn kpi_rs_clone_destroy(ifp: *mut m::RawIfNet) -> c_int {
                // SAFETY: the kernel's call.
                unsafe { m::clone_destroy::<$driver>(ifp) }
            }

            /// # Safety
            /// [`m::prison_remove`].
            #[unsafe(no_mangle)]
            unsafe extern "C" fn kpi_rs_prison_remove(pr: *const m::RawPrison) {
                // SAFETY: the kernel's call.
                unsafe { m::prison_remove::<$driver>(pr) }
            }
        };
    };
}

#[doc(hidden)]
pub use sys::{ifnet as RawIfNet, prison as RawPrison};
