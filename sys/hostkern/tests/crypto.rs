// SPDX-License-Identifier: BSD-2-Clause
//! The crypto framework: what it computes, and its rules, each broken once.

// `ring` is assembly.
#![cfg(not(miri))]

mod common;

use std::ffi::{c_int, c_void};
use std::ptr;

use common::Section;
use hostkern::layout::{crypto_session_params, cryptop};
use hostkern::misc::{kpi_fpu_enter, kpi_fpu_leave};
use hostkern::ocf::*;
use hostkern::sim::Sim;

const SYNCHRONOUS: u32 = 0x400_0000;
const SOFTWARE: c_int = 0x200_0000;
const EBADMSG: c_int = 89;
const KEY: [u8; 32] = [7; 32];

fn params() -> crypto_session_params {
    crypto_session_params {
        csp_mode: 4,
        csp_flags: 0,
        csp_ivlen: 8,
        csp_cipher_alg: 41,
        csp_cipher_klen: 32,
        csp_cipher_key: ptr::null(),
        csp_auth_alg: 0,
        csp_auth_klen: 0,
        csp_auth_key: ptr::null(),
        csp_auth_mlen: 0,
    }
}

fn try_session() -> Result<*mut Session, c_int> {
    let mut session = ptr::null_mut();
    // SAFETY: both are valid.
    match unsafe { crypto_newsession(&mut session, &params(), SOFTWARE) } {
        0 => Ok(session),
        errno => Err(errno),
    }
}

fn session() -> *mut Session {
    try_session().expect("a session")
}

fn free(session: *mut Session) {
    // SAFETY: what is passed is checked.
    unsafe { crypto_freesession(session) };
}

unsafe extern "C" fn called(request: *mut cryptop) -> c_int {
    // SAFETY: a request of `Request`.
    unsafe { *(*request).crp_opaque.cast::<bool>() = true };
    0
}

/// A request at a place that stays.
struct Request {
    crp: *mut cryptop,
    buf: Vec<u8>,
    called: Box<bool>,
}

impl Request {
    fn new(session: *mut Session, encrypt: bool, buf: &[u8]) -> Self {
        let crp = Box::into_raw(Box::<cryptop>::new_uninit()).cast::<cryptop>();
        let mut new = Self {
            crp,
            buf: buf.to_vec(),
            called: Box::new(false),
        };
        // SAFETY: room for a request, which is then valid.
        let r = unsafe {
            crypto_initreq(crp, session);
            &mut *crp
        };
        let text = new.buf.len() as c_int - 16;
        (r.crp_op, r.crp_flags) = (if encrypt { 1 } else { 2 }, 0x210);
        r.crp_buf.cb_type = 1;
        (r.crp_buf.cb_buf, r.crp_buf.cb_buf_len) =
            (new.buf.as_mut_ptr().cast(), new.buf.len() as c_int);
        (r.crp_payload_length, r.crp_digest_start) = (text, text);
        r.crp_cipher_key = KEY.as_ptr().cast();
        r.crp_opaque = ptr::from_mut(&mut *new.called).cast::<c_void>();
        r.crp_callback = Some(called);
        new
    }

    fn get(&mut self) -> &mut cryptop {
        // SAFETY: valid, and never freed.
        unsafe { &mut *self.crp }
    }

    fn dispatch(&mut self) -> c_int {
        // SAFETY: a request, whose buffer stays.
        unsafe { crypto_dispatch(self.crp) }
    }
}

fn with(driver: CryptoDriver, f: impl FnOnce()) {
    let sim = Sim::new(1);
    let host = sim.host("h", &["192.0.2.1"]);
    sim.kernel().set_crypto_driver(driver);
    sim.process(&host, f);
}

#[test]
fn a_sound_driver_seals_and_opens() {
    with(CryptoDriver::Sound, || {
        let s = session();
        // SAFETY: live.
        assert_ne!(unsafe { crypto_ses2caps(s) } & SYNCHRONOUS, 0);
        let mut seal = Request::new(s, true, &[5; 116]);
        assert_eq!((seal.dispatch(), seal.get().crp_etype), (0, 0));
        assert!(*seal.called);
        assert_ne!(seal.buf[..100], [5; 100]);
        let mut open = Request::new(s, false, &seal.buf);
        assert_eq!((open.dispatch(), open.get().crp_etype), (0, 0));
        assert_eq!(open.buf[..100], [5; 100]);
        // As real drivers do: the return value says nothing.
        seal.buf[3] ^= 1;
        let mut forged = Request::new(s, false, &seal.buf);
        assert_eq!((forged.dispatch(), forged.get().crp_etype), (0, EBADMSG));
        free(s);
    });
}

#[test]
fn drivers_misbehave_as_told() {
    with(CryptoDriver::Absent, || assert_eq!(try_session(), Err(45)));
    with(CryptoDriver::NoSession(5), || {
        assert_eq!(try_session(), Err(5));
    });
    with(CryptoDriver::Refuses(12), || {
        let mut r = Request::new(session(), true, &[0; 20]);
        assert_eq!((r.dispatch(), *r.called), (12, false));
    });
    with(CryptoDriver::Asynchronous, || {
        let s = session();
        // SAFETY: live.
        assert_eq!(unsafe { crypto_ses2caps(s) } & SYNCHRONOUS, 0);
        let mut r = Request::new(s, true, &[0; 20]);
        assert_eq!((r.dispatch(), *r.called), (0, false));
        // SAFETY: set by the callback, as a byte of a word.
        let mut word = [0u32; 1];
        r.get().crp_opaque = word.as_mut_ptr().cast();
        // SAFETY: valid until it is set.
        unsafe { kpi_ocf_wait(word.as_ptr()) };
        assert_ne!(word, [0]);
    });
    with(CryptoDriver::Replaced, || {
        let old = session();
        let mut r = Request::new(old, true, &[0; 20]);
        assert_eq!((r.dispatch(), r.get().crp_etype), (0, 35));
        let new = r.get().crp_session.cast::<Session>();
        assert_ne!(new, old);
        free(new);
    });
}

#[test]
fn a_session_that_is_left_is_a_leak() {
    let sim = Sim::new(1);
    let host = sim.host("h", &["192.0.2.1"]);
    sim.process(&host, || {
        let _never_freed = session();
    });
    assert_eq!(sim.kernel().crypto_sessions(), 1);
    assert_eq!(sim.kernel().leaks(), ["1 sessions of the crypto framework"]);
}

macro_rules! rule {
    ($($name:ident $driver:ident $rule:literal $body:expr;)*) => {$(
        #[test]
        #[should_panic(expected = $rule)]
        fn $name() {
            with(CryptoDriver::$driver, $body);
        }
    )*};
}

rule! {
    freed_twice Sound "[crypto] crypto_freesession of a freed session" || {
        let s = session();
        free(s);
        free(s);
    };
    freed_under_a_request PutsOff "[crypto] crypto_freesession with 1 requests under way" || {
        let s = session();
        Request::new(s, true, &[0; 20]).dispatch();
        free(s);
    };
    used_after_free Sound "[crypto] crypto_dispatch of a freed session" || {
        let s = session();
        let mut r = Request::new(s, true, &[0; 20]);
        free(s);
        r.dispatch();
    };
    reused_while_under_way PutsOff "[crypto] crypto_initreq of one under way" || {
        let s = session();
        let mut r = Request::new(s, true, &[0; 20]);
        r.dispatch();
        // SAFETY: room for a request.
        unsafe { crypto_initreq(r.crp, s) };
    };
    ended_while_under_way PutsOff "[crypto] crypto_destroyreq of one under way" || {
        let mut r = Request::new(session(), true, &[0; 20]);
        r.dispatch();
        // SAFETY: a request.
        unsafe { crypto_destroyreq(r.crp) };
    };
    dispatched_twice Sound "[crypto] crypto_dispatch with one that is done" || {
        let mut r = Request::new(session(), true, &[0; 20]);
        r.dispatch();
        r.dispatch();
    };
    without_a_key Sound "[crypto] crypto_dispatch with no key" || {
        let mut r = Request::new(session(), true, &[0; 20]);
        r.get().crp_cipher_key = ptr::null();
        r.dispatch();
    };
    tag_outside Sound "[crypto] crypto_dispatch with lengths that do not fit the buffer" || {
        let mut r = Request::new(session(), true, &[0; 20]);
        (r.get().crp_payload_length, r.get().crp_digest_start) = (20, 20);
        r.dispatch();
    };
    in_an_epoch Sound "[no-sleep] crypto_newsession inside an epoch" || {
        let _section = Section::enter();
        session();
    };
    with_vector_registers Sound "[fpu] crypto_dispatch between fpu_kern_enter and leave" || {
        let mut r = Request::new(session(), true, &[0; 20]);
        kpi_fpu_enter();
        r.dispatch();
        kpi_fpu_leave();
    };
    driver_let_go_under_a_session Sound "[crypto] a driver let go under its sessions" || {
        let mut name = [0; 16];
        // SAFETY: room for the length given.
        let device = unsafe { kpi_ocf_pin(3, name.as_mut_ptr(), name.len()) };
        session();
        // SAFETY: what it gave.
        unsafe { kpi_ocf_unpin(device) };
    };
}
