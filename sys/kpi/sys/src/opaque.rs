// SPDX-License-Identifier: BSD-2-Clause
//! Structures known by address only.

use core::marker::{PhantomData, PhantomPinned};

macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[repr(C)]
        pub struct $name {
            _data: [u8; 0],
            _marker: PhantomData<(*mut u8, PhantomPinned)>,
        }
    )*};
}

opaque! {
    /// A thread; only ever the current one, and only the shims name it.
    thread
    /// A network interface (`if_t` points to it).
    ifnet
    /// A socket.
    socket
    /// A kernel TLS session.
    ktls_session
    /// A send tag of a rate limiter.
    m_snd_tag
    /// A device (`device_t` points to it); always null here.
    _device
    /// An interrupt resource; always null here.
    resource
    /// One queue of a task queue group.
    gtaskqueue
    /// A group of per-CPU task queues.
    taskqgroup
    /// WITNESS's record of a lock.
    witness
    /// Where threads wait for a lock.
    turnstile
    /// An epoch; only ever the net epoch.
    epoch
    /// A credential, with a reference count of its own.
    ucred
    /// A jail.
    prison
    /// An internet protocol control block.
    inpcb
    /// A cached route.
    route
    /// A network stack instance.
    vnet
    /// A session of the crypto framework.
    crypto_session
    /// A scattered buffer; none is used here.
    uio
    /// A page; none is used here.
    vm_page
    /// A sysctl context of ours, see `shim/sysctl.c`.
    kpi_sysctl
}
