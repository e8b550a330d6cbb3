// SPDX-License-Identifier: BSD-2-Clause
//! crypto(9), as far as ChaCha20-Poly1305 goes: one driver, which a test can make to misbehave in
//! every way that the framework allows.
//!
//! What a user of the framework must keep to is checked: parameters and requests are sound, a
//! session is freed once and not under its requests, a request is neither reused nor ended while it
//! is under way, and nobody calls a driver with the vector registers held, since drivers take them.

use core::ffi::{c_char, c_int, c_void};
use core::ptr;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::backend::Errno;
use crate::kernel::Kernel;
use crate::layout::{crypto_session_params, cryptop};
use crate::misc::check_not_fpu;
use crate::thread::{check_sleep, kernel, violation};

const EOPNOTSUPP: Errno = 45;
const EAGAIN: Errno = 35;
const EBADMSG: Errno = 89;

const CHACHA20_POLY1305: c_int = 41;
const MODE_AEAD: c_int = 4;
const BUF_CONTIG: c_int = 1;
/// `CRYPTO_F_CBIMM` and `CRYPTO_F_IV_SEPARATE`, the only flags that the cipher takes.
const REQUEST_FLAGS: c_int = 0x210;
const F_IV_SEPARATE: c_int = 0x200;
const F_DONE: c_int = 0x20;
const ENCRYPT_AND_TAG: c_int = 1;
const DECRYPT_AND_VERIFY: c_int = 2;
const SOFTWARE: u32 = 0x200_0000;
const SYNCHRONOUS: u32 = 0x400_0000;
/// Drivers in hardware or in software, as the argument of `crypto_newsession`.
const CLASSES: c_int = 0x300_0000;
/// Number of the one driver.
const NUMBER: c_int = 3;
const TAG_LEN: usize = 16;

/// What the driver of the cipher does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CryptoDriver {
    /// What is asked, before `crypto_dispatch` returns.
    #[default]
    Sound,
    /// There is none.
    Absent,
    /// It finishes requests later, and says so of itself.
    Asynchronous,
    /// It makes no session.
    NoSession(Errno),
    /// Requests fail: `crp_etype` has the number, `crypto_dispatch` returns 0, the buffer is as it was.
    /// [`BAD_TAG`](Self::BAD_TAG) is this with EBADMSG.
    Fails(Errno),
    /// Requests are not taken: `crypto_dispatch` returns the number.
    Refuses(Errno),
    /// It is synchronous, but has no room: the framework queues the request and gives it to the
    /// driver later, from a thread of its own.
    PutsOff,
    /// It goes away at the next request: the framework frees the session, makes another one, and
    /// has the request fail with EAGAIN. Then it is sound again.
    Replaced,
    /// The same, and what comes after it is asynchronous.
    ReplacedByAsynchronous,
}

impl CryptoDriver {
    /// Every tag is wrong.
    pub const BAD_TAG: Self = Self::Fails(EBADMSG);
}

/// `struct crypto_session`.
pub struct Session {
    flags: u32,
    /// Requests under way.
    pending: AtomicU32,
    freed: AtomicBool,
}

#[derive(Default)]
pub(crate) struct Books {
    driver: Mutex<CryptoDriver>,
    /// By address. A freed one stays, so that its address does not come back.
    sessions: Mutex<HashMap<usize, Box<Session>>>,
    requests: Mutex<HashSet<usize>>,
    put_off: Mutex<Vec<usize>>,
    pins: AtomicU32,
    done: AtomicU64,
}

impl Books {
    pub(crate) fn live(&self) -> i64 {
        let sessions = self.sessions.lock().unwrap();
        let freed = sessions.values().map(|s| s.freed.load(Ordering::SeqCst));
        freed.filter(|freed| !freed).count() as i64
    }

    pub(crate) fn pinned(&self) -> i64 {
        self.pins.load(Ordering::SeqCst).into()
    }

    fn driver(&self) -> CryptoDriver {
        *self.driver.lock().unwrap()
    }

    fn make(&self, flags: u32) -> *mut Session {
        let mut session = Box::new(Session {
            flags,
            pending: AtomicU32::new(0),
            freed: AtomicBool::new(false),
        });
        let at = &raw mut *session;
        self.sessions.lock().unwrap().insert(at.addr(), session);
        at
    }

    /// Does `f` with a live session.
    fn with<R>(&self, session: *mut Session, what: &str, f: impl FnOnce(&Session) -> R) -> R {
        let all = self.sessions.lock().unwrap();
        let wrong = match all.get(&session.addr()) {
            Some(s) if !s.freed.load(Ordering::SeqCst) => return f(s),
            Some(_) => "a freed session",
            None => "what is no session",
        };
        drop(all);
        violation("crypto", format_args!("{what} of {wrong}"));
    }

    fn free(&self, session: *mut Session) {
        let busy = self.with(session, "crypto_freesession", |s| {
            s.freed.store(true, Ordering::SeqCst);
            s.pending.load(Ordering::SeqCst)
        });
        if busy != 0 {
            violation(
                "crypto",
                format_args!("crypto_freesession with {busy} requests under way"),
            );
        }
    }

    fn is_pending(&self, request: *mut cryptop) -> bool {
        self.requests.lock().unwrap().contains(&request.addr())
    }
}

impl Kernel {
    /// Has the crypto framework's driver do this from now on.
    pub fn set_crypto_driver(&self, driver: CryptoDriver) {
        *self.ocf.driver.lock().unwrap() = driver;
    }

    /// Requests that the crypto framework has finished, well or badly.
    #[must_use]
    pub fn crypto_requests(&self) -> u64 {
        self.ocf.done.load(Ordering::SeqCst)
    }

    /// Sessions of the crypto framework that are there now.
    #[must_use]
    pub fn crypto_sessions(&self) -> usize {
        usize::try_from(self.ocf.live()).unwrap_or(0)
    }
}

/// `crypto_newsession` of opencrypto/cryptodev.h.
///
/// # Safety
/// `session` has room for a pointer; `params` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn crypto_newsession(
    session: *mut *mut Session,
    params: *const crypto_session_params,
    crid: c_int,
) -> c_int {
    check_sleep("crypto_newsession");
    // SAFETY: as the caller says.
    let p = unsafe { &*params };
    let sound = p.csp_mode == MODE_AEAD
        && p.csp_cipher_alg == CHACHA20_POLY1305
        && p.csp_cipher_klen == 32
        && p.csp_ivlen == 8
        && p.csp_flags == 0
        && (p.csp_auth_alg, p.csp_auth_klen, p.csp_auth_mlen) == (0, 0, 0);
    if !sound {
        violation("crypto", format_args!("parameters of another cipher"));
    }
    let k = kernel();
    let flags = match k.ocf.driver() {
        CryptoDriver::Absent => return EOPNOTSUPP,
        CryptoDriver::NoSession(errno) => return errno,
        CryptoDriver::Asynchronous => SOFTWARE,
        _ => SOFTWARE | SYNCHRONOUS,
    };
    if crid & CLASSES == 0 && crid != NUMBER {
        return EOPNOTSUPP;
    }
    // SAFETY: as the caller says.
    unsafe { *session = k.ocf.make(flags) };
    0
}

/// `crypto_freesession` of opencrypto/cryptodev.h.
///
/// # Safety
/// What the caller passes is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn crypto_freesession(session: *mut Session) {
    if !session.is_null() {
        kernel().ocf.free(session);
    }
}

/// `crypto_ses2caps` of opencrypto/cryptodev.h.
///
/// # Safety
/// What the caller passes is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn crypto_ses2caps(session: *mut Session) -> u32 {
    let k = kernel();
    k.ocf.with(session, "crypto_ses2caps", |s| s.flags)
}

/// `crypto_ses2hid` of opencrypto/cryptodev.h.
///
/// # Safety
/// What the caller passes is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn crypto_ses2hid(session: *mut Session) -> u32 {
    let k = kernel();
    k.ocf
        .with(session, "crypto_ses2hid", |_| NUMBER.cast_unsigned())
}

/// `crypto_initreq` of opencrypto/cryptodev.h.
///
/// # Safety
/// `request` has room for a request.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn crypto_initreq(request: *mut cryptop, session: *mut Session) {
    let k = kernel();
    if k.ocf.is_pending(request) {
        violation("crypto", format_args!("crypto_initreq of one under way"));
    }
    k.ocf.with(session, "crypto_initreq", |_| ());
    // SAFETY: as the caller says; zero is a valid request.
    unsafe {
        ptr::write_bytes(request, 0, 1);
        (*request).crp_session = session.cast();
    }
}

/// `crypto_destroyreq` of opencrypto/cryptodev.h.
///
/// # Safety
/// What the caller passes is checked.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn crypto_destroyreq(request: *mut cryptop) {
    if kernel().ocf.is_pending(request) {
        violation("crypto", format_args!("crypto_destroyreq of one under way"));
    }
}

/// `crypto_dispatch` of opencrypto/cryptodev.h.
///
/// # Safety
/// A request, whose buffers stay until its callback was called.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn crypto_dispatch(request: *mut cryptop) -> c_int {
    // As ossl(4) does.
    check_not_fpu("crypto_dispatch");
    let k = kernel();
    // SAFETY: as the caller says.
    let r = unsafe { &mut *request };
    check(r);
    let session: *mut Session = r.crp_session.cast();
    k.ocf.with(session, "crypto_dispatch", |s| {
        s.pending.fetch_add(1, Ordering::SeqCst);
    });
    if !k.ocf.requests.lock().unwrap().insert(request.addr()) {
        violation("crypto", format_args!("crypto_dispatch of one under way"));
    }
    match k.ocf.driver() {
        CryptoDriver::Refuses(errno) => {
            forget(&k, session, request);
            return errno;
        }
        CryptoDriver::Fails(errno) => finish(&k, request, errno),
        CryptoDriver::PutsOff | CryptoDriver::Asynchronous => {
            let mut put_off = k.ocf.put_off.lock().unwrap();
            put_off.push(request.expose_provenance());
        }
        replaced @ (CryptoDriver::Replaced | CryptoDriver::ReplacedByAsynchronous) => {
            k.set_crypto_driver(CryptoDriver::Sound);
            let flags = match replaced {
                CryptoDriver::Replaced => SOFTWARE | SYNCHRONOUS,
                _ => SOFTWARE,
            };
            forget(&k, session, request);
            k.ocf.free(session);
            r.crp_session = k.ocf.make(flags).cast();
            let new: *mut Session = r.crp_session.cast();
            k.ocf.with(new, "crypto_dispatch", |s| {
                s.pending.fetch_add(1, Ordering::SeqCst);
            });
            finish(&k, request, EAGAIN);
        }
        _ => {
            let errno = compute(r);
            finish(&k, request, errno);
        }
    }
    0
}

/// What INVARIANTS checks of a request.
fn check(r: &cryptop) {
    let len = usize::try_from(r.crp_buf.cb_buf_len).unwrap_or(0);
    let text = usize::try_from(r.crp_payload_length).unwrap_or(usize::MAX);
    let wrong = if r.crp_callback.is_none() {
        "no callback"
    } else if r.crp_etype != 0 || r.crp_flags & F_DONE != 0 {
        "one that is done"
    } else if ![ENCRYPT_AND_TAG, DECRYPT_AND_VERIFY].contains(&r.crp_op) {
        "an operation that is not the cipher's"
    } else if r.crp_flags & !REQUEST_FLAGS != 0 || r.crp_flags & F_IV_SEPARATE == 0 {
        "flags that the cipher does not take"
    } else if r.crp_cipher_key.is_null() {
        "no key"
    } else if r.crp_buf.cb_type != BUF_CONTIG || r.crp_obuf.cb_type != 0 {
        "another kind of buffer"
    } else if r.crp_payload_start != 0 || r.crp_digest_start != r.crp_payload_length {
        "a tag that is not behind the text"
    } else if text.checked_add(TAG_LEN) != Some(len) {
        "lengths that do not fit the buffer"
    } else if !r.crp_aad.is_null() || (r.crp_aad_start, r.crp_aad_length) != (0, 0) {
        "associated data"
    } else {
        return;
    };
    violation("crypto", format_args!("crypto_dispatch with {wrong}"));
}

fn compute(r: &cryptop) -> Errno {
    let counter = u64::from_le_bytes(*r.crp_iv.first_chunk().unwrap());
    let (key, buf) = (r.crp_cipher_key.cast(), r.crp_buf.cb_buf.cast());
    let len = usize::try_from(r.crp_buf.cb_buf_len).unwrap_or(0);
    // SAFETY: a request that was checked; its user keeps key and buffer until it is done.
    let good = unsafe {
        if r.crp_op == ENCRYPT_AND_TAG {
            wg_vector::wg_vector_seal(key, counter, buf, len)
        } else {
            wg_vector::wg_vector_open(key, counter, buf, len)
        }
    };
    if good != 0 { 0 } else { EBADMSG }
}

fn forget(k: &Kernel, session: *mut Session, request: *mut cryptop) {
    k.ocf.requests.lock().unwrap().remove(&request.addr());
    k.ocf.with(session, "a request", |s| {
        s.pending.fetch_sub(1, Ordering::SeqCst);
    });
}

/// `crypto_done`.
fn finish(k: &Kernel, request: *mut cryptop, errno: Errno) {
    // SAFETY: under way, so its user keeps it until the callback.
    let (session, callback) = unsafe {
        (*request).crp_etype = errno;
        (*request).crp_flags |= F_DONE;
        ((*request).crp_session, (*request).crp_callback)
    };
    forget(k, session.cast(), request);
    k.ocf.done.fetch_add(1, Ordering::SeqCst);
    if let Some(callback) = callback {
        // SAFETY: what the user wants called.
        unsafe { callback(request) };
    }
}

/// `kpi_ocf_pin` of kpi_shim.h.
///
/// # Safety
/// `name` has room for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_ocf_pin(
    driver: u32,
    name: *mut c_char,
    len: usize,
) -> *mut c_void {
    check_sleep("kpi_ocf_pin");
    let k = kernel();
    if driver != NUMBER.cast_unsigned() || k.ocf.driver() == CryptoDriver::Absent {
        return ptr::null_mut();
    }
    let text = c"fakecrypto0".to_bytes_with_nul();
    let n = text.len().min(len);
    // SAFETY: as the caller says.
    unsafe { ptr::copy_nonoverlapping(text.as_ptr(), name.cast(), n) };
    k.ocf.pins.fetch_add(1, Ordering::SeqCst);
    ptr::from_ref(&k.ocf.pins).cast_mut().cast()
}

/// `kpi_ocf_unpin` of kpi_shim.h.
///
/// # Safety
/// What [`kpi_ocf_pin`] gave.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_ocf_unpin(_device: *mut c_void) {
    let k = kernel();
    if k.ocf.live() != 0 {
        violation("crypto", format_args!("a driver let go under its sessions"));
    }
    if k.ocf.pins.fetch_sub(1, Ordering::SeqCst) == 0 {
        violation("crypto", format_args!("a driver let go that was not held"));
    }
}

/// Does what was put off; whether there was something.
pub(crate) fn do_put_off(k: &Kernel) -> bool {
    let put_off = core::mem::take(&mut *k.ocf.put_off.lock().unwrap());
    let any = !put_off.is_empty();
    for at in put_off {
        let request = ptr::with_exposed_provenance_mut::<cryptop>(at);
        // SAFETY: under way, so its user keeps it.
        let errno = compute(unsafe { &*request });
        finish(k, request, errno);
    }
    k.wakeup();
    any
}

/// `kpi_ocf_wait` of kpi_shim.h. What was put off is done now, by the waiting thread in the place of
/// the framework's.
///
/// # Safety
/// `done` is valid until it is set.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn kpi_ocf_wait(done: *const u32) {
    check_sleep("kpi_ocf_wait");
    let k = kernel();
    do_put_off(&k);
    // SAFETY: as the caller says; others set it as an atomic too.
    let done = unsafe { AtomicU32::from_ptr(done.cast_mut()) };
    k.machine
        .wait("wgocf", &mut || done.load(Ordering::Acquire) != 0);
}
