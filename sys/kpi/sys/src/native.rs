// SPDX-License-Identifier: BSD-2-Clause
//! Kernel functions imported under their own names. `SYMBOLS.md` is the list with contexts.

use core::ffi::{c_char, c_int, c_uint, c_ulong, c_void};

use crate::opaque::*;
use crate::{
    caddr_t, crypto_session_params, cryptop, epoch_context, epoch_tracker, grouptask, gtask,
    ift_counter, m_tag, mbuf, sockaddr,
};

/// `if_init_fn_t`.
pub type if_init_fn_t = Option<unsafe extern "C" fn(*mut c_void)>;
/// `if_ioctl_fn_t`.
pub type if_ioctl_fn_t = Option<unsafe extern "C" fn(*mut ifnet, c_ulong, caddr_t) -> c_int>;
/// `if_output_fn_t`.
pub type if_output_fn_t =
    Option<unsafe extern "C" fn(*mut ifnet, *mut mbuf, *const sockaddr, *mut route) -> c_int>;
/// `if_transmit_fn_t`.
pub type if_transmit_fn_t = Option<unsafe extern "C" fn(*mut ifnet, *mut mbuf) -> c_int>;
/// `if_input_fn_t`.
pub type if_input_fn_t = Option<unsafe extern "C" fn(*mut ifnet, *mut mbuf)>;
/// `if_qflush_fn_t`.
pub type if_qflush_fn_t = Option<unsafe extern "C" fn(*mut ifnet)>;
/// `if_reassign_fn_t`.
pub type if_reassign_fn_t = Option<unsafe extern "C" fn(*mut ifnet, *mut vnet, *mut c_char)>;
/// `epoch_callback_t`.
pub type epoch_callback_t = Option<unsafe extern "C" fn(*mut epoch_context)>;

kernel_functions! {
    // mbufs
    /// Frees the chain; null is allowed.
    pub fn m_freem(m: *mut mbuf);
    /// Trims `len` bytes from the head (positive) or the tail (negative).
    pub fn m_adj(m: *mut mbuf, len: c_int);
    /// Makes the first `len` bytes contiguous; null and freed on failure.
    pub fn m_pullup(m: *mut mbuf, len: c_int) -> *mut mbuf;
    /// Puts a new mbuf of `len` bytes in front; null and freed on failure.
    pub fn m_prepend(m: *mut mbuf, len: c_int, how: c_int) -> *mut mbuf;
    /// Copies out of the chain.
    pub fn m_copydata(m: *const mbuf, off: c_int, len: c_int, cp: caddr_t);
    /// Unlinks and frees one tag.
    pub fn m_tag_delete(m: *mut mbuf, t: *mut m_tag);

    // interfaces
    /// A new interface, never null.
    pub fn if_alloc(kind: u8) -> *mut ifnet;
    /// Gives up the allocator's reference.
    pub fn if_free(ifp: *mut ifnet);
    /// Puts the interface into the current vnet.
    pub fn if_attach(ifp: *mut ifnet);
    /// Takes it out again and waits for what runs in it.
    pub fn if_detach(ifp: *mut ifnet);
    /// One more reference to the memory.
    pub fn if_ref(ifp: *mut ifnet);
    /// One less; the last is freed after the epoch.
    pub fn if_rele(ifp: *mut ifnet);
    /// Sets the name `name` followed by `unit`.
    pub fn if_initname(ifp: *mut ifnet, name: *const c_char, unit: c_int);
    /// The driver's pointer.
    pub fn if_getsoftc(ifp: *mut ifnet) -> *mut c_void;
    /// Sets the driver's pointer.
    pub fn if_setsoftc(ifp: *mut ifnet, softc: *mut c_void) -> c_int;
    /// `IFF_*` without the driver's own.
    pub fn if_getflags(ifp: *mut ifnet) -> c_int;
    /// Sets all of those.
    pub fn if_setflags(ifp: *mut ifnet, flags: c_int) -> c_int;
    /// `IFF_DRV_*`.
    pub fn if_getdrvflags(ifp: *mut ifnet) -> c_int;
    /// Sets and clears some of those.
    pub fn if_setdrvflagbits(ifp: *mut ifnet, set: c_int, clear: c_int) -> c_int;
    /// `IFCAP_*` in force.
    pub fn if_getcapenable(ifp: *mut ifnet) -> c_int;
    /// Sets what is in force.
    pub fn if_setcapenable(ifp: *mut ifnet, caps: c_int) -> c_int;
    /// Sets what can be.
    pub fn if_setcapabilities(ifp: *mut ifnet, caps: c_int) -> c_int;
    /// Bytes of a packet.
    pub fn if_getmtu(ifp: *mut ifnet) -> c_int;
    /// Sets them, unchecked.
    pub fn if_setmtu(ifp: *mut ifnet, mtu: c_int) -> c_int;
    /// Routing table of the interface.
    pub fn if_getfib(ifp: *mut ifnet) -> c_uint;
    /// Adds to a counter.
    pub fn if_inc_counter(ifp: *mut ifnet, counter: ift_counter, n: i64);
    /// Announces `LINK_STATE_*`, by a task.
    pub fn if_link_state_change(ifp: *mut ifnet, state: c_int);
    /// Sets a method.
    pub fn if_setinitfn(ifp: *mut ifnet, f: if_init_fn_t);
    /// Sets a method.
    pub fn if_setioctlfn(ifp: *mut ifnet, f: if_ioctl_fn_t);
    /// Sets a method.
    pub fn if_setoutputfn(ifp: *mut ifnet, f: if_output_fn_t);
    /// Sets a method.
    pub fn if_settransmitfn(ifp: *mut ifnet, f: if_transmit_fn_t);
    /// Sets a method.
    pub fn if_setinputfn(ifp: *mut ifnet, f: if_input_fn_t);
    /// Sets a method.
    pub fn if_setqflushfn(ifp: *mut ifnet, f: if_qflush_fn_t);
    /// Sets a method.
    pub fn if_setreassignfn(ifp: *mut ifnet, f: if_reassign_fn_t);
    /// Calls the transmit method, which netmap may have replaced. Consumes `m`.
    pub fn if_transmit(ifp: *mut ifnet, m: *mut mbuf) -> c_int;
    /// Calls the input method, which netmap may have replaced. Consumes `m`.
    pub fn if_input(ifp: *mut ifnet, m: *mut mbuf);
    /// Finds tunnel loops by a tag. `EIO`: looped; `ENOMEM`.
    pub fn if_tunnel_check_nesting(
        ifp: *mut ifnet,
        m: *mut mbuf,
        cookie: u32,
        limit: c_int,
    ) -> c_int;
    /// Makes the interface visible to bpf(4).
    pub fn bpfattach(ifp: *mut ifnet, dlt: c_uint, hdrlen: c_uint);
    /// Takes it away again.
    pub fn bpfdetach(ifp: *mut ifnet);

    // epoch
    /// The network stack's epoch.
    pub static net_epoch_preempt: *mut epoch;
    /// Enters; the tracker must not move until the exit.
    pub fn _epoch_enter_preempt(epoch: *mut epoch, et: *mut epoch_tracker);
    /// Exits.
    pub fn _epoch_exit_preempt(epoch: *mut epoch, et: *mut epoch_tracker);
    /// Waits for every section that is open now.
    pub fn epoch_wait_preempt(epoch: *mut epoch);
    /// Runs `cb(ctx)` after every section that is open now.
    pub fn epoch_call(epoch: *mut epoch, cb: epoch_callback_t, ctx: *mut epoch_context);
    /// Waits for the callbacks queued so far.
    pub fn epoch_drain_callbacks(epoch: *mut epoch);

    // group task queues
    /// Ties the task to a CPU's queue; `EINVAL`: no queue of that CPU.
    pub fn taskqgroup_attach_cpu(
        group: *mut taskqgroup,
        task: *mut grouptask,
        uniq: *mut c_void,
        cpu: c_int,
        dev: *mut _device,
        irq: *mut resource,
        name: *const c_char,
    ) -> c_int;
    /// Ties the task to the least busy queue.
    pub fn taskqgroup_attach(
        group: *mut taskqgroup,
        task: *mut grouptask,
        uniq: *mut c_void,
        dev: *mut _device,
        irq: *mut resource,
        name: *const c_char,
    );
    /// Unties it, waiting for it to finish.
    pub fn taskqgroup_detach(group: *mut taskqgroup, task: *mut grouptask);
    /// Queues the task once; `EAGAIN`: blocked.
    pub fn grouptaskqueue_enqueue(queue: *mut gtaskqueue, task: *mut gtask) -> c_int;
    /// Makes later enqueues no-ops and waits for a queued or running task.
    pub fn grouptask_block(task: *mut grouptask);

    // crypto framework
    /// Makes a session with a driver that `crid` chooses: a class of them, or one by its number.
    pub fn crypto_newsession(
        session: *mut *mut crypto_session,
        params: *const crypto_session_params,
        crid: c_int,
    ) -> c_int;
    /// Ends a session that has no request under way.
    pub fn crypto_freesession(session: *mut crypto_session);
    /// `CRYPTOCAP_F_*` of the session's driver.
    pub fn crypto_ses2caps(session: *mut crypto_session) -> u32;
    /// Number of the session's driver.
    pub fn crypto_ses2hid(session: *mut crypto_session) -> u32;
    /// Makes an empty request of a session, whatever the memory held.
    pub fn crypto_initreq(request: *mut cryptop, session: *mut crypto_session);
    /// Ends a request that is not under way.
    pub fn crypto_destroyreq(request: *mut cryptop);
    /// Hands in a request. Whether it succeeded is in its `crp_etype` once it is done.
    pub fn crypto_dispatch(request: *mut cryptop) -> c_int;

    // credentials
    /// One more reference; returns its argument.
    pub fn crhold(cred: *mut ucred) -> *mut ucred;
    /// One less.
    pub fn crfree(cred: *mut ucred);
}
