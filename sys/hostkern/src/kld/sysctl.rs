// SPDX-License-Identifier: BSD-2-Clause
//! sysctl(9): nodes that the shim adds, and requests to their handlers.

use core::ffi::{c_char, c_int, c_uint, c_void};
use core::ptr;
use std::sync::Arc;

use freebsd_kernel_sys::offsets as off;

use super::{get, put, text, thread, with};
use crate::kernel::Kernel;
use crate::thread::{Kind, check_sleep, enter, violation};

const ENOENT: c_int = 2;
const EPERM: c_int = 1;
const ENOMEM: c_int = 12;
const EINVAL: c_int = 22;
/// `CTLFLAG_TUN`: a loader tunable of the same name is its first value.
const TUNABLE: c_uint = 0x0008_0000;

/// `struct sysctl_oid`, and behind it what is ours.
#[repr(C, align(16))]
pub(super) struct Oid {
    head: [u8; off::KPI_LEN_SYSCTL_OID as usize],
    name: String,
    kind: c_uint,
    arg2: isize,
    context: usize,
}

type Handler = unsafe extern "C-unwind" fn(*mut Oid, *mut c_void, isize, *mut Request) -> c_int;

/// `struct sysctl_req`, and behind it what a handler has said.
#[repr(C, align(16))]
pub(super) struct Request {
    thread: *mut c_void,
    lock: c_int,
    oldptr: *mut c_void,
    oldlen: usize,
    oldidx: usize,
    oldfunc: unsafe extern "C-unwind" fn(*mut Request, *const u8, usize) -> c_int,
    newptr: *const c_void,
    newlen: usize,
    newidx: usize,
    newfunc: unsafe extern "C-unwind" fn(*mut Request, *mut u8, usize) -> c_int,
    validlen: usize,
    flags: c_int,
    said: Vec<u8>,
}

const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(Request, oldfunc) == off::KPI_OFF_REQ_OLDFUNC as usize);
    assert!(offset_of!(Request, newptr) == off::KPI_OFF_REQ_NEWPTR as usize);
    assert!(offset_of!(Request, newfunc) == off::KPI_OFF_REQ_NEWFUNC as usize);
    assert!(offset_of!(Request, said) == off::KPI_LEN_SYSCTL_REQ as usize);
};

/// SYSCTL_OUT.
unsafe extern "C-unwind" fn old(request: *mut Request, p: *const u8, n: usize) -> c_int {
    // SAFETY: the handler's bytes.
    unsafe {
        (*request)
            .said
            .extend_from_slice(core::slice::from_raw_parts(p, n))
    };
    0
}

/// SYSCTL_IN.
unsafe extern "C-unwind" fn new(request: *mut Request, p: *mut u8, n: usize) -> c_int {
    // SAFETY: the handler's memory, and the caller's of the request.
    unsafe {
        let r = &mut *request;
        if r.newlen - r.newidx < n {
            return EINVAL;
        }
        let from = r.newptr.byte_add(r.newidx).cast::<u8>();
        ptr::copy_nonoverlapping(from, p, n);
        r.newidx += n;
    }
    0
}

impl Oid {
    /// Calls the handler, with a value to set or without; what it said.
    fn ask(&self, value: Option<&[u8]>) -> Result<Vec<u8>, c_int> {
        let mut request = Request {
            thread: thread::current(),
            lock: 1,
            oldptr: ptr::null_mut(),
            oldlen: 0,
            oldidx: 0,
            oldfunc: old,
            newptr: value.map_or(ptr::null(), |v| v.as_ptr().cast()),
            newlen: value.map_or(0, <[u8]>::len),
            newidx: 0,
            newfunc: new,
            validlen: 0,
            flags: 0,
            said: Vec::new(),
        };
        let this = ptr::from_ref(self).cast_mut();
        // SAFETY: what the module registered.
        let error = unsafe {
            let handler: Handler = get(this.cast(), off::KPI_OFF_OID_HANDLER);
            let arg1 = get(this.cast(), off::KPI_OFF_OID_ARG1);
            handler(this, arg1, self.arg2, &mut request)
        };
        if error == 0 {
            Ok(request.said)
        } else {
            Err(error)
        }
    }
}

/// A new context is an empty list: the shim embeds it.
pub(super) unsafe extern "C-unwind" fn sysctl_ctx_init(context: *mut [usize; 2]) -> c_int {
    check_sleep("sysctl_ctx_init");
    // SAFETY: TAILQ_INIT of the caller's list.
    unsafe { context.write([0, context.addr()]) };
    with("sysctl_ctx_init", |_, kld| {
        kld.state().contexts.push(context.addr())
    });
    0
}

pub(super) extern "C-unwind" fn sysctl_ctx_free(context: *mut [usize; 2]) -> c_int {
    check_sleep("sysctl_ctx_free");
    with("sysctl_ctx_free", |_, kld| {
        let mut state = kld.state();
        let before = state.contexts.len();
        state.contexts.retain(|c| *c != context.addr());
        if state.contexts.len() + 1 != before {
            violation(
                "sysctl",
                format_args!("a context that is not live is freed"),
            );
        }
        state.sysctls.retain(|o| o.context != context.addr());
    });
    0
}

pub(super) unsafe extern "C-unwind" fn sysctl_add_oid(
    context: *mut [usize; 2],
    parent: *mut c_void,
    _number: c_int,
    name: *const c_char,
    kind: c_uint,
    arg1: *mut c_void,
    arg2: isize,
    handler: *const c_void,
    _format: *const c_char,
    _description: *const c_char,
    _label: *const c_char,
) -> *mut Oid {
    check_sleep("sysctl_add_oid");
    let (oid, tunable) = with("sysctl_add_oid", |k, kld| {
        let children = off::KPI_OFF_OID_CHILDREN as usize;
        let root = kld.variable::<u8>("sysctl___net").addr();
        let mut state = kld.state();
        let at = parent.addr().wrapping_sub(children);
        let above = state
            .sysctls
            .iter()
            .find(|o| ptr::from_ref(&***o).addr() == at);
        let above = match above {
            Some(o) => o.name.clone(),
            None if at == root => "net".to_string(),
            None => violation("sysctl", format_args!("{} below nothing", text(name))),
        };
        let mut oid = Box::new(Oid {
            head: [0; _],
            name: format!("{above}.{}", text(name)),
            kind,
            arg2,
            context: context.addr(),
        });
        let p: *mut c_void = (&raw mut *oid).cast();
        // SAFETY: fields of it.
        unsafe {
            put(p, off::KPI_OFF_OID_ARG1, arg1);
            put(p, off::KPI_OFF_OID_HANDLER, handler);
        }
        let tunable = k.tunables.lock().unwrap().get(&oid.name).cloned();
        state.sysctls.push(oid);
        (p.cast::<Oid>(), tunable.filter(|_| kind & TUNABLE != 0))
    });
    if let Some(value) = tunable.and_then(|v| v.parse::<u64>().ok()) {
        // The kernel prints the error and goes on.
        // SAFETY: added a moment ago.
        let _ = unsafe { (*oid).ask(Some(&value.to_ne_bytes())) };
    }
    oid
}

/// sysctl(9): shows a number, and takes one if there is one.
pub(super) unsafe extern "C-unwind" fn sysctl_handle_64(
    _oid: *mut Oid,
    arg1: *mut u64,
    _arg2: isize,
    request: *mut Request,
) -> c_int {
    // SAFETY: the handler's number and request.
    unsafe {
        let error = ((*request).oldfunc)(request, arg1.cast(), 8);
        if error != 0 || (*request).newptr.is_null() {
            return error;
        }
        ((*request).newfunc)(request, arg1.cast(), 8)
    }
}

/// Runs `f` on a variable of the loaded file, as a system call. None if there is no file.
fn find<R>(
    k: &Arc<Kernel>,
    name: &str,
    f: impl FnOnce(&Oid) -> Result<R, c_int>,
) -> Option<Result<R, c_int>> {
    let kld = k.kld.current()?;
    let found = kld
        .state()
        .sysctls
        .iter()
        .find(|o| o.name == name && !o.is_node())
        .map(|o| ptr::from_ref(&**o));
    Some(match found {
        None => Err(ENOENT),
        Some(oid) => enter(k, Kind::Process, crate::vnet::current(), || {
            // SAFETY: variables stay until their context is freed, which nobody does who calls this.
            f(unsafe { &*oid })
        }),
    })
}

impl Oid {
    fn is_node(&self) -> bool {
        self.kind & off::KPI_CTLTYPE == off::KPI_CTLTYPE_NODE
    }
}

/// The names of all variables.
pub(crate) fn names(k: &Kernel) -> Option<Vec<String>> {
    let kld = k.kld.current()?;
    let state = kld.state();
    let leaves = state.sysctls.iter().filter(|o| !o.is_node());
    Some(leaves.map(|o| o.name.clone()).collect())
}

/// A number.
pub(crate) fn number(k: &Arc<Kernel>, name: &str) -> Option<Result<u64, c_int>> {
    find(k, name, |oid| {
        let said = oid.ask(None)?;
        Ok(u64::from_ne_bytes(*said.first_chunk().ok_or(ENOMEM)?))
    })
}

/// Sets a number.
pub(crate) fn set(k: &Arc<Kernel>, name: &str, value: u64) -> Option<Result<(), c_int>> {
    find(k, name, |oid| match oid.kind & off::KPI_CTLFLAG_WR {
        0 => Err(EPERM),
        _ => oid.ask(Some(&value.to_ne_bytes())).map(drop),
    })
}

/// A text.
pub(crate) fn words(k: &Arc<Kernel>, name: &str) -> Option<Result<String, c_int>> {
    find(k, name, |oid| {
        let mut said = oid.ask(None)?;
        if said.pop() != Some(0) {
            violation("sysctl", format_args!("a text without its end"));
        }
        Ok(String::from_utf8_lossy(&said).into_owned())
    })
}

/// Contexts that are live.
pub(crate) fn contexts(k: &Kernel) -> usize {
    k.kld.current().map_or(0, |kld| kld.state().contexts.len())
}
