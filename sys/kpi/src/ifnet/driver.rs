// SPDX-License-Identifier: BSD-2-Clause
//! What a driver implements, and the C functions that call it.

use core::ffi::{CStr, c_char, c_int, c_ulong, c_void};
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};

use freebsd_kernel_sys as sys;
use kpi_alloc::{How, KArc, KVec, Sleepable};

use super::handle::{Counter, IfNet};
use super::netmap;
use crate::cred::{Prison, VnetId};
use crate::epoch::{Epoch, epoch_wait, in_net_epoch, section};
use crate::ioctl::Ioctl;
use crate::mbuf::{Mbuf, ReceivedBy};
use crate::net::Family;
use crate::sync::SxLock;
use crate::sysctl::Registrar;
use crate::{Errno, Result};

/// State and life of the module as a whole. It exists before the first interface and after the last
/// one.
pub trait Module: Send + Sync + Sized + 'static {
    /// The module is being loaded. An error refuses the load.
    fn load(cx: &Sleepable) -> Result<Self>;

    /// Offers numbers and texts to sysctl(8), under `net.<cloner's name>`.
    fn sysctls(_registrar: &mut Registrar<'_, Self>) -> Result {
        Ok(())
    }

    /// Whether an unload may be tried. An error refuses it, unless it is forced.
    fn can_unload(&self) -> Result {
        Ok(())
    }

    /// The module is being unloaded; no interface is left.
    fn unload(&self, _cx: &Sleepable) {}
}

/// A driver: one value for each interface.
///
/// The order of the calls in an interface's life is in the [module documentation](super).
pub trait IfDriver: Send + Sync + Sized + 'static {
    /// What all its interfaces have in common.
    type Module: Module;

    /// Name of the cloner and of interfaces before their number; also of their group.
    const CLONER: &'static CStr;
    /// MTU of a new interface.
    const MTU: u32;

    /// Makes the driver's side of an interface that is not attached yet: nothing calls it before
    /// this has returned, and `ifp` can be kept but not used for more than its name and debug
    /// lines.
    fn create(ifp: IfNet, module: &KArc<Self::Module>, cx: &Sleepable) -> Result<KArc<Self>>;

    /// The interface is attached, and every hook that concerns it finds it from now on. An error
    /// destroys it, and is what its creator gets.
    fn attached(_this: &KArc<Self>, _cx: &Sleepable) -> Result {
        Ok(())
    }

    /// The interface is about to be destroyed, as soon as the calls that run have returned: a hint
    /// to those that take long.
    fn leaving(_this: &KArc<Self>) {}

    /// Stops everything. When this returns, no socket, task or timer of the driver's runs or uses
    /// the interface any more. The kernel calls nothing of the driver during or after this.
    fn destroy(this: &KArc<Self>, cx: &Sleepable);

    /// Whether the driver has nothing to do for an ioctl that is to succeed. Such a one is answered
    /// without a lock: the network stack may send it from where it must not sleep.
    fn ignores(_cmd: u64) -> bool {
        false
    }

    /// An ioctl. Several may run at once. `ENOTTY` for what is not known.
    fn ioctl(this: &KArc<Self>, io: &mut Ioctl<'_>, cx: &Sleepable) -> Result;

    /// Sends an IP packet of family `af`, as the stack says: whether the packet agrees, and is one,
    /// is for the driver to check. `route_mtu` overrides the interface's MTU. The driver counts and
    /// answers what it does not send; `from` is for such an answer.
    fn output<'e>(
        &self,
        ep: &'e Epoch,
        m: Mbuf,
        af: Family,
        route_mtu: Option<u32>,
        from: ReceivedBy<'e>,
    ) -> Result;

    /// The interface moves to another vnet: it must go down. Its sockets stay where they are. The
    /// caller holds locks of the whole host: do not wait for what somebody in a jail may hold.
    fn reassign(this: &KArc<Self>, to: Option<VnetId>, cx: &Sleepable);

    /// A jail is being removed: let go of a credential of it, with all that needs one. The caller
    /// holds the lock of all jails: do not wait for what somebody in a jail may hold.
    fn cred_gone(this: &KArc<Self>, prison: &Prison, cx: &Sleepable);
}

/// What `if_softc` points to.
pub(crate) struct Softc<D: IfDriver> {
    driver: KArc<D>,
    ifnet: IfNet,
    /// Shared by each call that may sleep and uses the driver; exclusive for a moment in destroy.
    gate: SxLock<()>,
    /// Keeps the module's state, and by that the module, while an interface is there.
    _state: KArc<State<D>>,
}

/// State of the module, in the kernel's slot for it.
pub(crate) struct State<D: IfDriver> {
    pub(crate) module: KArc<D::Module>,
    /// Every interface from its attachment to the begin of its destruction. Protects `if_softc`
    /// too.
    interfaces: SxLock<KVec<KArc<Softc<D>>>>,
}

impl<D: IfDriver> State<D> {
    pub(crate) fn new(module: KArc<D::Module>) -> Self {
        Self {
            module,
            interfaces: SxLock::new(c"kpi interfaces", KVec::new()),
        }
    }
}

/// Makes an interface.
///
/// # Safety
///
/// Called from the cloner, in the vnet that the interface is to live in.
pub(crate) unsafe fn create<D: IfDriver>(
    state: &KArc<State<D>>,
    unit: u32,
    cx: &Sleepable,
) -> Result<NonNull<sys::ifnet>> {
    let unit = c_int::try_from(unit).map_err(|_| Errno::EINVAL)?;
    // SAFETY: a type number; may sleep: `cx`.
    let ifp = unsafe { sys::if_alloc(sys::KPI_IFT_WIREGUARD as u8) };
    let Some(result) = NonNull::new(ifp) else {
        return Err(Errno::ENOSPC);
    };
    // SAFETY: ours, not attached; the name is static.
    unsafe { sys::if_initname(ifp, D::CLONER.as_ptr(), unit) };
    // SAFETY: live.
    let made = unsafe { make_softc::<D>(ifp, state, cx) };
    let softc = match made {
        Ok(softc) => softc,
        Err(e) => {
            // SAFETY: ours, never attached; the driver has let go or holds a reference to the
            // memory.
            unsafe { sys::if_free(ifp) };
            return Err(e);
        }
    };
    // SAFETY: ours, not attached.
    unsafe { attach(&softc, ifp) };
    let listed = {
        let mut interfaces = state.interfaces.write(cx);
        interfaces.try_push(softc.clone(), How::Wait(cx))
    };
    if listed.is_err() {
        teardown(&softc, state, cx);
        return Err(Errno::ENOMEM);
    }
    if let Err(e) = D::attached(&softc.driver, cx) {
        teardown(&softc, state, cx);
        return Err(e);
    }
    Ok(result)
}

/// # Safety
///
/// `ifp` is a live interface that is not attached.
unsafe fn make_softc<D: IfDriver>(
    ifp: *mut sys::ifnet,
    state: &KArc<State<D>>,
    cx: &Sleepable,
) -> Result<KArc<Softc<D>>> {
    // SAFETY: live.
    let ifnet = unsafe { IfNet::new(ifp, cx) }?;
    let driver = D::create(ifnet.clone(), &state.module, cx)?;
    let softc = KArc::new_with(How::Wait(cx), || Softc {
        driver: driver.clone(),
        ifnet: ifnet.clone(),
        gate: SxLock::new(c"kpi ioctl gate", ()),
        _state: state.clone(),
    });
    softc.map_err(|e| {
        ifnet.set_gone();
        D::destroy(&driver, cx);
        e.into()
    })
}

/// # Safety
///
/// `ifp` is the softc's interface, not attached yet, and `softc` is not its softc yet.
unsafe fn attach<D: IfDriver>(softc: &KArc<Softc<D>>, ifp: *mut sys::ifnet) {
    let raw = KArc::into_raw(softc.clone());
    let mtu = c_int::try_from(D::MTU).unwrap_or(c_int::MAX);
    let (flags, caps) = (
        sys::IFF_NOARP | sys::IFF_MULTICAST,
        sys::KPI_IFCAP_LINKSTATE,
    );
    // SAFETY: ours alone until it is attached. The reference that the softc pointer holds is taken
    // back by destroy. Each method has the type that the kernel calls it with, and finds a softc of
    // its own type `D`, as only this function sets these methods, with that softc.
    unsafe {
        sys::if_setsoftc(ifp, raw.cast_mut().cast());
        sys::if_setcapabilities(ifp, caps as c_int);
        sys::if_setcapenable(ifp, caps as c_int);
        sys::if_setmtu(ifp, mtu);
        sys::if_setflags(ifp, flags as c_int);
        sys::if_setinitfn(ifp, Some(init));
        sys::if_setqflushfn(ifp, Some(qflush));
        sys::if_setinputfn(ifp, Some(input));
        sys::if_settransmitfn(ifp, Some(transmit::<D>));
        sys::if_setoutputfn(ifp, Some(output::<D>));
        sys::if_setioctlfn(ifp, Some(ioctl::<D>));
        sys::if_setreassignfn(ifp, Some(reassign::<D>));
    }
    // SAFETY: complete, in the current vnet.
    unsafe { sys::if_attach(ifp) };
    // SAFETY: attached; four bytes of address family before each packet.
    unsafe { sys::bpfattach(ifp, sys::DLT_NULL, 4) };
    // SAFETY: attached.
    unsafe { sys::kpi_if_nd6_setup(ifp) };
}

/// Ends an interface; from the cloner.
///
/// # Safety
///
/// `ifp` was made by [`create`] with the same `D`, and the cloner asks for its end, which it does
/// once.
pub(crate) unsafe fn destroy<D: IfDriver>(
    state: &KArc<State<D>>,
    ifp: *mut sys::ifnet,
    cx: &Sleepable,
) -> Result {
    let softc = {
        let interfaces = state.interfaces.read(cx);
        interfaces.iter().find(|s| s.ifnet.as_ptr() == ifp).cloned()
    };
    let softc = softc.ok_or(Errno::ENXIO)?;
    teardown(&softc, state, cx);
    Ok(())
}

/// See the module's documentation for the order and why.
fn teardown<D: IfDriver>(softc: &KArc<Softc<D>>, state: &KArc<State<D>>, cx: &Sleepable) {
    let ifp = softc.ifnet.as_ptr();
    let (pointer, listed) = {
        let mut interfaces = state.interfaces.write(cx);
        // SAFETY: live. Under the exclusive lock no ioctl reads the pointer.
        let pointer = unsafe { sys::if_getsoftc(ifp) };
        // SAFETY: the same.
        unsafe { sys::if_setsoftc(ifp, ptr::null_mut()) };
        let at = interfaces.iter().position(|s| KArc::ptr_eq(s, softc));
        let listed = at.and_then(|i| interfaces.swap_remove(i));
        if interfaces.is_empty() {
            // An unload counts what is allocated, and this is no sign of an interface.
            *interfaces = KVec::new();
        }
        (pointer, listed)
    };
    D::leaving(&softc.driver);
    drop(softc.gate.write(cx));
    epoch_wait(cx);

    softc.ifnet.link_up(false);
    // SAFETY: attached. May sleep: `cx`.
    unsafe { sys::kpi_if_purgeaddrs(ifp) };
    D::destroy(&softc.driver, cx);

    softc.ifnet.set_gone();
    epoch_wait(cx);
    // SAFETY: attached; nobody calls the driver or uses a handle of it in the stack any more.
    unsafe { sys::bpfdetach(ifp) };
    // SAFETY: the same.
    unsafe { sys::if_detach(ifp) };
    // SAFETY: ours to free; `IfNet` handles hold references of their own.
    unsafe { sys::if_free(ifp) };

    drop(listed);
    if !pointer.is_null() {
        // SAFETY: `attach` put the reference there, and this is the only place that takes it back;
        // output, which borrows it, was waited for.
        drop(unsafe { KArc::from_raw(pointer.cast::<Softc<D>>().cast_const()) });
    }
}

/// Tells every interface that a jail goes.
pub(crate) fn prison_remove<D: IfDriver>(state: &KArc<State<D>>, prison: &Prison, cx: &Sleepable) {
    // Shared through the calls: destroy waits until they have returned.
    for softc in state.interfaces.read(cx).iter() {
        D::cred_gone(&softc.driver, prison, cx);
    }
}

/// Runs `f` with the driver behind `ifp`, held off from being destroyed. `ENXIO` if it is being
/// destroyed already.
///
/// # Safety
///
/// `ifp` is an interface with methods of `D`, in a call of the kernel's that may sleep.
unsafe fn with_driver<D: IfDriver>(
    ifp: *mut sys::ifnet,
    f: impl FnOnce(&KArc<D>, &Sleepable) -> Result,
) -> Result {
    // SAFETY: the contract.
    let cx = &unsafe { Sleepable::assume() };
    let state = crate::module::state::<D>().ok_or(Errno::ENXIO)?;
    let interfaces = state.interfaces.read(cx);
    // SAFETY: live; read under the lock.
    let pointer = unsafe { sys::if_getsoftc(ifp) };
    if pointer.is_null() {
        return Err(Errno::ENXIO);
    }
    // SAFETY: while the lock is held the reference behind the pointer is not taken back, so it can
    // be borrowed to clone it.
    let softc =
        unsafe { ManuallyDrop::new(KArc::from_raw(pointer.cast::<Softc<D>>().cast_const())) };
    let softc = KArc::clone(&softc);
    let gate = softc.gate.read(cx);
    drop(interfaces);
    let result = f(&softc.driver, cx);
    drop(gate);
    result
}

/// What is behind `ifp`, for this epoch section. `None` if it is being destroyed.
///
/// # Safety
///
/// `ifp` is an interface with methods of `D`.
unsafe fn in_epoch_with_driver<D: IfDriver>(
    ifp: *mut sys::ifnet,
    _ep: &Epoch,
) -> Option<&Softc<D>> {
    // SAFETY: live.
    let pointer = unsafe { sys::if_getsoftc(ifp) };
    // SAFETY: null, or a softc that destroy lets go of after this epoch section.
    unsafe { pointer.cast::<Softc<D>>().as_ref() }
}

/// `if_ioctl`.
///
/// # Safety
///
/// Called by the kernel for an interface with methods of `D`, with the argument of `cmd`; may
/// sleep.
unsafe extern "C" fn ioctl<D: IfDriver>(
    ifp: *mut sys::ifnet,
    cmd: c_ulong,
    data: sys::caddr_t,
) -> c_int {
    if D::ignores(cmd) {
        return 0;
    }
    // SAFETY: the kernel's argument for this command, through this call.
    let mut io = unsafe { Ioctl::new(cmd, data) };
    // SAFETY: the contract.
    Errno::from_result(unsafe { with_driver::<D>(ifp, |driver, cx| D::ioctl(driver, &mut io, cx)) })
}

/// `if_reassign`.
///
/// # Safety
///
/// Called by the kernel for an interface with methods of `D`; may sleep.
unsafe extern "C" fn reassign<D: IfDriver>(
    ifp: *mut sys::ifnet,
    to: *mut sys::vnet,
    _unused: *mut c_char,
) {
    // SAFETY: the contract. An interface that is being destroyed is down already.
    let _ = unsafe {
        with_driver::<D>(ifp, |driver, cx| {
            D::reassign(driver, VnetId::of(to), cx);
            Ok(())
        })
    };
}

/// `if_output`: from the network stack, or from a bpf(4) write.
///
/// # Safety
///
/// Called by the kernel in the net epoch for an interface with methods of `D`; `m` is a packet to
/// take; `dst` has 16 bytes or more; `ro` is null or a route.
unsafe extern "C" fn output<D: IfDriver>(
    ifp: *mut sys::ifnet,
    m: *mut sys::mbuf,
    dst: *const sys::sockaddr,
    ro: *mut sys::route,
) -> c_int {
    // SAFETY: whole structures.
    let (af, mtu) = unsafe { destination(dst, ro) };
    let mtu = (mtu != 0).then_some(mtu);
    // SAFETY: the kernel is in the net epoch through this call; `m` is given to us, and an interface
    // that a packet has come in by stays through the section in which the stack forwards it.
    let result = unsafe {
        in_net_epoch(|ep| {
            let (m, from) = Mbuf::adopt_from(m, ep);
            send::<D>(ep, ifp, m, af, mtu, from)
        })
    };
    Errno::from_result(result)
}

/// Family of the packet, and MTU of the route or 0.
///
/// # Safety
///
/// `dst` has 16 bytes or more; `ro` is null or a route; in the net epoch.
unsafe fn destination(dst: *const sys::sockaddr, ro: *const sys::route) -> (u32, u32) {
    // SAFETY: a whole structure.
    let family = u32::from(unsafe { (*dst).sa_family });
    if family == sys::AF_UNSPEC || family == sys::pseudo_AF_HDRCMPLT {
        // A bpf(4) write: the four bytes that the writer put before the packet are here, whatever
        // they are.
        // SAFETY: 14 bytes, at no alignment.
        let af = unsafe { (&raw const (*dst).sa_data).cast::<u32>().read_unaligned() };
        return (af, 0);
    }
    let (mut af, mut mtu) = (family, 0);
    // SAFETY: the contract; the results go to locals.
    unsafe { sys::kpi_route_get(ro, dst, &raw mut af, &raw mut mtu) };
    (af, mtu)
}

/// The part of output that is the same for all ways to come here. Takes care of counting until the
/// driver has the packet.
///
/// # Safety
///
/// `ifp` is an interface with methods of `D`.
unsafe fn send<'e, D: IfDriver>(
    ep: &'e Epoch,
    ifp: *mut sys::ifnet,
    m: Option<Mbuf>,
    af: u32,
    mtu: Option<u32>,
    from: ReceivedBy<'e>,
) -> Result {
    // SAFETY: the contract.
    let Some(softc) = (unsafe { in_epoch_with_driver::<D>(ifp, ep) }) else {
        return Err(Errno::ENXIO);
    };
    let refuse = |e| {
        softc.ifnet.count(Counter::OutErrors, 1);
        Err(e)
    };
    let Some(m) = m else {
        return refuse(Errno::ENOBUFS);
    };
    let Some(family) = Family::from_af(af) else {
        return refuse(Errno::EAFNOSUPPORT);
    };
    if softc.ifnet.dying() {
        return refuse(Errno::ENXIO);
    }
    if m.is_empty() {
        return refuse(Errno::EINVAL);
    }
    if netmap::enabled(ifp) {
        return netmap::from_host(ep, ifp, m, family).or_else(refuse);
    }
    softc.driver.output(ep, m, family, mtu, from)
}

/// `if_transmit`: only netmap(4) calls it, with packets of its transmit ring.
///
/// # Safety
///
/// Called by the kernel for an interface with methods of `D`; `m` is a packet to take.
unsafe extern "C" fn transmit<D: IfDriver>(ifp: *mut sys::ifnet, m: *mut sys::mbuf) -> c_int {
    // SAFETY: `m` is given to us.
    let m = unsafe { Mbuf::adopt(m) };
    let result = section(|ep| {
        // SAFETY: the contract.
        let Some(softc) = (unsafe { in_epoch_with_driver::<D>(ifp, ep) }) else {
            return Err(Errno::ENXIO);
        };
        let packet = if netmap::enabled(ifp) {
            m.ok_or(Errno::ENOBUFS).and_then(netmap::unwrap)
        } else {
            Err(Errno::EOPNOTSUPP)
        };
        match packet {
            Ok((m, family)) => softc.driver.output(ep, m, family, None, ReceivedBy::NOBODY),
            Err(e) => {
                softc.ifnet.count(Counter::OutErrors, 1);
                Err(e)
            }
        }
    });
    match result {
        // netmap keeps a packet that was not taken and tries again; it shall not do that with one
        // that can never be sent.
        Err(e) if e == Errno::ENOBUFS => e.to_raw(),
        _ => 0,
    }
}

/// `if_input`: only netmap(4) calls it, with packets that go up to the host; and bpf(4) with copies
/// of what was written, which are of no use to anyone here.
///
/// # Safety
///
/// Called by the kernel for one of our interfaces; `m` is a packet to take.
unsafe extern "C" fn input(ifp: *mut sys::ifnet, m: *mut sys::mbuf) {
    // SAFETY: `m` is given to us.
    let Some(m) = (unsafe { Mbuf::adopt(m) }) else {
        return;
    };
    if !netmap::enabled(ifp) {
        return;
    }
    let packet = netmap::unwrap(m)
        .ok()
        .and_then(|(m, _)| m.pullup(1)?.for_stack());
    section(|_| {
        let refused = match packet {
            // SAFETY: netmap holds the interface while it calls; the packet is given away and its
            // first segment has a byte.
            Some(m) => unsafe { sys::kpi_if_input(ifp, m.into_raw()) },
            None => 1,
        };
        if refused != 0 {
            // SAFETY: the same interface.
            unsafe { sys::if_inc_counter(ifp, sys::IFCOUNTER_IERRORS, i64::from(refused)) };
        }
    });
}

/// `if_init`: drivers of physical interfaces start here; ours does on `SIOCSIFFLAGS`.
extern "C" fn init(_softc: *mut c_void) {}

/// `if_qflush`: the kernel has just marked the interface down. There is no send queue to flush; but
/// those who have seen the interface up must be done with giving packets to the stack when this
/// returns. Nothing else tells us of a move to another vnet in time, see `kpi_if_input`.
extern "C" fn qflush(_ifp: *mut sys::ifnet) {
    // SAFETY: only if_down(9) calls this, from ioctls, netlink and the detach, which all may sleep.
    epoch_wait(&unsafe { Sleepable::assume() });
}
