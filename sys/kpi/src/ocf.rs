// SPDX-License-Identifier: BSD-2-Clause
//! ChaCha20-Poly1305 by the kernel's crypto framework (`crypto(9)`), and so by ossl(4) where that is
//! loaded.
//!
//! Three things about the framework shape this module:
//!
//! - **What `crypto_dispatch` returns says nothing about the packet.** That a tag is wrong stands in
//!   the request's `crp_etype`, with a return value of 0 (CVE-2026-58085). Both are looked at, and
//!   that the request is done at all.
//! - **A driver may finish requests later**, on another thread. Only drivers that say that they are
//!   synchronous are used, so a request can live on the stack. One that such a driver puts off
//!   nevertheless, because it is out of resources, is waited for.
//! - **A driver may go away.** The framework then frees the session under whoever uses it and puts
//!   another one into the request, which nothing keeps from happening on two CPUs at once. So the
//!   driver is held for as long as there is a [`Driver`]: it cannot be unloaded meanwhile (`EBUSY`).
//!
//! Keys are given with each request and stay the caller's; the framework has no copy of them that
//! would outlive the call.

use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use freebsd_kernel_sys as sys;
use kpi_alloc::{How, KArc, Sleepable};

use crate::{Errno, Result};

const TAG_LEN: usize = 16;
const KEY_LEN: c_int = 32;
/// The framework's nonce is 8 bytes for this cipher: the counter, with four zero bytes before it.
const IV_LEN: c_int = 8;

/// Longest name of a driver, with its NUL; longer ones are cut.
const NAME_LEN: usize = 32;

/// A driver of the framework that is held: it stays while this or a [`Session`] of it is there.
pub struct Driver(KArc<Pinned>);

/// # Invariants
/// `device` was pinned once and not unpinned. A driver with the number `number` is attached.
struct Pinned {
    device: NonNull<sys::_device>,
    number: c_int,
    name: [u8; NAME_LEN],
}

// SAFETY: the device is only ever unpinned, which any thread may do; the rest is plain data.
unsafe impl Send for Pinned {}
// SAFETY: as above.
unsafe impl Sync for Pinned {}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: pinned, by the type's invariant, and not used any more.
        unsafe { sys::kpi_ocf_unpin(self.device.as_ptr()) };
    }
}

impl Driver {
    /// Finds the driver that the framework thinks best for the cipher, among those in software, and
    /// holds it. Hardware is left out: it is never synchronous.
    ///
    /// # Errors
    /// `EOPNOTSUPP`: no driver has the cipher, or it finishes requests later, or it is going away.
    /// `ENOMEM`.
    pub fn open(cx: &Sleepable) -> Result<Self> {
        let class = sys::CRYPTO_FLAG_SOFTWARE.cast_signed();
        let probe = RawSession::new(class, cx)?;
        // SAFETY: a live session.
        let number = unsafe { sys::crypto_ses2hid(probe.get()?) };
        let mut name = [0; NAME_LEN];
        // SAFETY: room for the length given; may sleep.
        let device = unsafe { sys::kpi_ocf_pin(number, name.as_mut_ptr().cast(), name.len()) };
        let device = NonNull::new(device).ok_or(Errno::EOPNOTSUPP)?;
        let pinned = Pinned {
            device,
            number: number.cast_signed(),
            name,
        };
        // Before anything can fail: the driver must not be let go under it.
        drop(probe);
        Ok(Self(KArc::new(pinned, How::Wait(cx))?))
    }

    /// The driver's name and unit, such as `ossl0`.
    #[must_use]
    pub fn name(&self) -> &str {
        let name = self.0.name.split(|b| *b == 0).next().unwrap_or_default();
        str::from_utf8(name).unwrap_or_default()
    }

    /// A session of the driver, for a pair of keys or more.
    ///
    /// # Errors
    /// What the driver says.
    pub fn session(&self, cx: &Sleepable) -> Result<Session> {
        Ok(Session {
            raw: RawSession::new(self.0.number, cx)?,
            _driver: self.0.clone(),
        })
    }
}

/// A session: requests of any keys, from any number of threads at once.
pub struct Session {
    // Before the driver: it goes first.
    raw: RawSession,
    _driver: KArc<Pinned>,
}

impl Session {
    /// Encrypts in place; `buf` is the plaintext and behind it 16 bytes of room for the tag. False if
    /// `buf` is shorter than that, or the driver failed. `buf` is undefined then.
    ///
    /// The caller may sleep, and does not hold the vector registers.
    #[must_use]
    pub fn seal(&self, key: &[u8; 32], counter: u64, buf: &mut [u8]) -> bool {
        let op = sys::CRYPTO_OP_ENCRYPT | sys::CRYPTO_OP_COMPUTE_DIGEST;
        self.raw.process(op, key, counter, buf).is_ok()
    }

    /// Verifies and decrypts in place; `buf` is ciphertext and tag. False if the tag is wrong, `buf`
    /// is shorter than one, or the driver failed. `buf` is undefined then.
    ///
    /// The caller may sleep, and does not hold the vector registers.
    #[must_use]
    pub fn open(&self, key: &[u8; 32], counter: u64, buf: &mut [u8]) -> bool {
        let op = sys::CRYPTO_OP_DECRYPT | sys::CRYPTO_OP_VERIFY_DIGEST;
        self.raw.process(op, key, counter, buf).is_ok()
    }
}

/// A session of the framework, which is synchronous.
///
/// # Invariants
/// The pointer is null or a live session that is this value's alone, with requests under way only
/// while a [`RawSession::process`] runs.
struct RawSession(AtomicPtr<sys::crypto_session>);

impl RawSession {
    fn new(driver: c_int, _cx: &Sleepable) -> Result<Self> {
        // SAFETY: numbers and pointers, of which zero is a valid value.
        let mut params: sys::crypto_session_params = unsafe { core::mem::zeroed() };
        params.csp_mode = sys::CSP_MODE_AEAD.cast_signed();
        params.csp_ivlen = IV_LEN;
        params.csp_cipher_alg = sys::CRYPTO_CHACHA20_POLY1305.cast_signed();
        params.csp_cipher_klen = KEY_LEN;
        let mut session = ptr::null_mut();
        // SAFETY: parameters without pointers; may sleep.
        Errno::check(unsafe {
            sys::crypto_newsession(&raw mut session, &raw const params, driver)
        })?;
        let new = Self(AtomicPtr::new(session));
        // SAFETY: live, as it was made just now.
        if unsafe { is_synchronous(session) } {
            Ok(new)
        } else {
            Err(Errno::EOPNOTSUPP)
        }
    }

    fn get(&self) -> Result<*mut sys::crypto_session> {
        let session = self.0.load(Ordering::Acquire);
        if session.is_null() {
            return Err(Errno::ENXIO);
        }
        Ok(session)
    }

    /// Makes one request and waits until it is done.
    fn process(&self, op: u32, key: &[u8; 32], counter: u64, buf: &mut [u8]) -> Result {
        let session = self.get()?;
        let text = buf.len().checked_sub(TAG_LEN).ok_or(Errno::EINVAL)?;
        let text = c_int::try_from(text).map_err(|_| Errno::EINVAL)?;
        let len = c_int::try_from(buf.len()).map_err(|_| Errno::EINVAL)?;
        let done = AtomicU32::new(0);
        let mut request = MaybeUninit::<sys::cryptop>::uninit();
        // SAFETY: memory for a request; a live session.
        unsafe { sys::crypto_initreq(request.as_mut_ptr(), session) };
        // SAFETY: every field was just set, to zero but for the session.
        let request = unsafe { request.assume_init_mut() };
        request.crp_op = op.cast_signed();
        request.crp_flags = (sys::CRYPTO_F_IV_SEPARATE | sys::CRYPTO_F_CBIMM).cast_signed();
        // What crypto_use_buf(), an inline function, does.
        request.crp_buf.cb_type = sys::CRYPTO_BUF_CONTIG;
        request.crp_buf.__bindgen_anon_1.__bindgen_anon_1 =
            sys::crypto_buffer__bindgen_ty_1__bindgen_ty_1 {
                cb_buf: buf.as_mut_ptr().cast(),
                cb_buf_len: len,
            };
        request.crp_payload_length = text;
        request.crp_digest_start = text;
        let iv = counter.to_le_bytes();
        request
            .crp_iv
            .iter_mut()
            .zip(iv)
            .for_each(|(to, from)| *to = from);
        request.crp_cipher_key = key.as_ptr().cast();
        request.crp_opaque = (&raw const done).cast_mut().cast();
        request.crp_callback = Some(finished);
        // SAFETY: the session is live; request, buffer, key and `done` stay until it is done: below.
        let refused = unsafe { sys::crypto_dispatch(request) };
        if refused == 0 && done.load(Ordering::Acquire) == 0 {
            // Put off. Nothing of it may go away, whatever it takes.
            // SAFETY: the callback sets it; `seal` and `open` say that the caller may sleep.
            unsafe { sys::kpi_ocf_wait(done.as_ptr()) };
        }
        self.follow(session, request.crp_session);
        let error = request.crp_etype;
        // SAFETY: done, or never taken.
        unsafe { sys::crypto_destroyreq(request) };
        Errno::check(refused)?;
        Errno::check(error)
    }

    /// The framework may have replaced the session, and freed the old one. As the driver is held it
    /// has no reason to; the contract of a request says to look.
    fn follow(&self, old: *mut sys::crypto_session, new: *mut sys::crypto_session) {
        if old == new {
            return;
        }
        // SAFETY: a request that is done has a live session.
        if unsafe { is_synchronous(new) } {
            self.0.store(new, Ordering::Release);
        } else {
            self.0.store(ptr::null_mut(), Ordering::Release);
            // SAFETY: live, ours and without a request.
            unsafe { sys::crypto_freesession(new) };
        }
    }
}

impl Drop for RawSession {
    fn drop(&mut self) {
        let session = *self.0.get_mut();
        if !session.is_null() {
            // SAFETY: live, ours alone, and no request is under way: none outlives its call.
            unsafe { sys::crypto_freesession(session) };
        }
    }
}

/// Whether the driver finishes requests before `crypto_dispatch` returns.
///
/// # Safety
///
/// The session is live.
unsafe fn is_synchronous(session: *mut sys::crypto_session) -> bool {
    // SAFETY: the contract.
    let flags = unsafe { sys::crypto_ses2caps(session) };
    flags & sys::CRYPTOCAP_F_SYNC != 0
}

/// The callback of a request.
///
/// # Safety
///
/// Called by the framework for a request of [`RawSession::process`], once, as the last that it does
/// with it.
unsafe extern "C" fn finished(request: *mut sys::cryptop) -> c_int {
    // SAFETY: the request and what it points to live until `done` is set.
    let done: *mut c_void = unsafe { (*request).crp_opaque };
    // SAFETY: as above. After this the request may be gone.
    unsafe { &*done.cast::<AtomicU32>() }.store(1, Ordering::Release);
    0
}
