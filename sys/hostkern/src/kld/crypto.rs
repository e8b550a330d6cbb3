// SPDX-License-Identifier: BSD-2-Clause
//! The device behind a driver of crypto(9), and the lock of the device tree.

use core::cell::{Cell, RefCell};
use core::ffi::{c_char, c_int, c_void};
use core::ptr;

use crate::ocf::{kpi_ocf_pin, kpi_ocf_unpin};
use crate::thread::{check_sleep, violation};

const NAME: usize = 32;

thread_local! {
    static LOCKED: Cell<bool> = const { Cell::new(false) };
    /// A device that was found and is not held yet.
    static FOUND: Cell<*mut c_void> = const { Cell::new(ptr::null_mut()) };
    static DEVICE: RefCell<[c_char; NAME]> = const { RefCell::new([0; NAME]) };
}

pub(super) extern "C-unwind" fn bus_topo_lock() {
    check_sleep("bus_topo_lock");
    if LOCKED.replace(true) {
        violation("bus-topo", format_args!("taken by its holder"));
    }
}

pub(super) extern "C-unwind" fn bus_topo_unlock() {
    if !LOCKED.replace(false) || !FOUND.replace(ptr::null_mut()).is_null() {
        violation(
            "bus-topo",
            format_args!("let go by another, or with a device that is not held"),
        );
    }
}

pub(super) extern "C-unwind" fn crypto_find_device_byhid(driver: c_int) -> *mut c_void {
    if !LOCKED.get() {
        violation(
            "bus-topo",
            format_args!("a device is looked for without the lock"),
        );
    }
    // SAFETY: room for a name.
    let device = DEVICE.with_borrow_mut(|name| unsafe {
        kpi_ocf_pin(driver.cast_unsigned(), name.as_mut_ptr(), NAME)
    });
    FOUND.set(device);
    device
}

pub(super) extern "C-unwind" fn device_busy(device: *mut c_void) {
    if FOUND.replace(ptr::null_mut()) != device {
        violation(
            "device",
            format_args!("one is held that was not looked for"),
        );
    }
}

pub(super) unsafe extern "C-unwind" fn device_unbusy(device: *mut c_void) {
    // SAFETY: one that was held.
    unsafe { kpi_ocf_unpin(device) };
}

pub(super) extern "C-unwind" fn device_get_nameunit(_device: *mut c_void) -> *const c_char {
    DEVICE.with_borrow(|name| name.as_ptr())
}
