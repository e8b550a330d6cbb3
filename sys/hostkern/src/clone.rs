// SPDX-License-Identifier: BSD-2-Clause
//! Loading the driver, if_clone(9), and what ifconfig(8) does.

use core::ffi::{c_char, c_int, c_ulong, c_void};
use core::ptr;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::backend::Errno;
use crate::ifnet::{Ifnet, RouteArg};
use crate::kernel::Kernel;
use crate::mbuf::Packet;
use crate::thread::{Kind, enter, enter_as, name_of};
use crate::vnet::{Route, Vnet, is_root, with_user_memory};

const EPERM: Errno = 1;
const ENXIO: Errno = 6;
const EEXIST: Errno = 17;
const EBUSY: Errno = 16;
const EINVAL: Errno = 22;
const ENOSPC: Errno = 28;

const SIOCSIFFLAGS: c_ulong = 0x8020_6910;
const SIOCGIFFLAGS: c_ulong = 0xc020_6911;
const SIOCSIFNAME: c_ulong = 0x8020_6928;
const SIOCGIFMTU: c_ulong = 0xc020_6933;
const SIOCSIFMTU: c_ulong = 0x8020_6934;
const IFF_UP: i32 = 1;
/// `IFF_CANTCHANGE`.
const CANTCHANGE: i32 = 0x2 | 0x10 | 0x40 | 0x400 | 0x800 | 0x8000 | 0x200 | 0x100 | 0x20_0000;
/// `IF_MINMTU` and `IF_MAXMTU` of net/if.h: what the generic code lets through to the driver.
const MTU: core::ops::RangeInclusive<i32> = 72..=65535;
const IFNAMSIZ: usize = 16;
const MAXUNIT: u32 = 0x7fff;

/// The module's entry points, `kpi_rs_*` of kpi_shim.h. [`crate::linked_module!`] makes them from
/// the symbols that `kpi::declare_module!` defines.
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "documented in kpi_shim.h")]
pub struct ModuleOps {
    pub load: unsafe extern "C" fn() -> c_int,
    pub can_unload: unsafe extern "C" fn() -> c_int,
    pub unload: unsafe extern "C" fn() -> c_int,
    pub cloner_name: unsafe extern "C" fn() -> *const c_char,
    pub clone_create: unsafe extern "C" fn(u32, *mut *mut c_void) -> c_int,
    pub clone_destroy: unsafe extern "C" fn(*mut c_void) -> c_int,
    pub prison_remove: unsafe extern "C" fn(*const c_void),
    /// Whether `unload` destroys the interfaces that are left, as one that comes from a file does.
    pub destroys: bool,
}

/// The [`ModuleOps`] of the driver that the final program is linked with.
#[macro_export]
macro_rules! linked_module {
    () => {{
        unsafe extern "C" {
            fn kpi_rs_load() -> ::core::ffi::c_int;
            fn kpi_rs_can_unload() -> ::core::ffi::c_int;
            fn kpi_rs_unload() -> ::core::ffi::c_int;
            fn kpi_rs_cloner_name() -> *const ::core::ffi::c_char;
            fn kpi_rs_clone_create(
                unit: u32,
                ifpp: *mut *mut ::core::ffi::c_void,
            ) -> ::core::ffi::c_int;
            fn kpi_rs_clone_destroy(ifp: *mut ::core::ffi::c_void) -> ::core::ffi::c_int;
            fn kpi_rs_prison_remove(pr: *const ::core::ffi::c_void);
        }
        $crate::ModuleOps {
            load: kpi_rs_load,
            can_unload: kpi_rs_can_unload,
            unload: kpi_rs_unload,
            cloner_name: kpi_rs_cloner_name,
            clone_create: kpi_rs_clone_create,
            clone_destroy: kpi_rs_clone_destroy,
            prison_remove: kpi_rs_prison_remove,
            destroys: false,
        }
    }};
}

/// The loaded module of one kernel.
#[derive(Default)]
pub(crate) struct Module {
    ops: Option<ModuleOps>,
    gone: bool,
    /// Units in use: (vnet, unit).
    units: BTreeSet<(u32, u32)>,
    /// Interfaces of the cloner: (vnet, unit, address).
    cloned: Vec<(u32, u32, usize)>,
    pub attach_error: Option<Errno>,
}

fn result(e: c_int) -> Result<(), Errno> {
    if e == 0 { Ok(()) } else { Err(e) }
}

impl Kernel {
    /// Whether a module was loaded and is not there any more.
    pub(crate) fn is_unloaded(&self) -> bool {
        self.module.lock().unwrap().gone
    }

    fn ops(&self) -> Result<ModuleOps, Errno> {
        self.module.lock().unwrap().ops.ok_or(ENXIO)
    }

    /// kldload(8).
    ///
    /// # Errors
    /// EEXIST when a module is loaded, else what the module says.
    pub fn load(self: &Arc<Self>, ops: ModuleOps) -> Result<(), Errno> {
        if self.module.lock().unwrap().ops.is_some() {
            return Err(EEXIST);
        }
        enter(self, Kind::Process, None, || {
            // SAFETY: the module's entry point, called once before any other.
            result(unsafe { (ops.load)() })
        })?;
        let mut module = self.module.lock().unwrap();
        module.ops = Some(ops);
        module.gone = false;
        Ok(())
    }

    /// kldunload(8): every interface is destroyed first.
    ///
    /// # Errors
    /// EBUSY when the module says so; it then stays loaded.
    pub fn unload(self: &Arc<Self>) -> Result<(), Errno> {
        let ops = self.ops()?;
        enter(self, Kind::Process, None, || {
            // SAFETY: the module is loaded.
            result(unsafe { (ops.can_unload)() })
        })?;
        // One that comes from a file destroys them itself.
        loop {
            if ops.destroys {
                break;
            }
            let first = self.module.lock().unwrap().cloned.last().copied();
            let Some((_, unit, p)) = first else { break };
            let Some(ifp) = self.interfaces.by_pointer(ptr::without_provenance(p)) else {
                break;
            };
            self.destroy_cloned(&ifp, unit)?;
        }
        enter(self, Kind::Process, None, || {
            // SAFETY: no interface of the module is left.
            result(unsafe { (ops.unload)() }).inspect(|()| self.check_unloaded())
        })?;
        let mut module = self.module.lock().unwrap();
        module.ops = None;
        module.gone = true;
        Ok(())
    }

    /// The module's unload routine alone, its interfaces left: as when one is made while the cloners
    /// are detached.
    ///
    /// # Errors
    /// ENXIO without a module, or what it says; it then stays loaded.
    pub fn unload_alone(self: &Arc<Self>) -> Result<(), Errno> {
        let ops = self.ops()?;
        enter(self, Kind::Process, None, || {
            // SAFETY: the module is loaded. It refuses if it has interfaces.
            let unload = || result(unsafe { (ops.unload)() }).inspect(|()| self.check_unloaded());
            #[cfg(feature = "kld")]
            if let Some(kld) = self.kld.current() {
                return kld.without_vnets(unload);
            }
            unload()
        })?;
        let mut module = self.module.lock().unwrap();
        module.ops = None;
        module.gone = true;
        Ok(())
    }

    /// `ifconfig NAME create` in a vnet: `wg` takes the lowest free unit, `wg7` that unit. Returns
    /// the name.
    ///
    /// # Errors
    /// EINVAL for a name that is not the cloner's, EEXIST, ENOSPC, or what the driver says.
    pub fn create(self: &Arc<Self>, vnet: &Arc<Vnet>, name: &str) -> Result<String, Errno> {
        self.create_as(vnet, name, vnet)
    }

    /// The same in a thread with the credential of the processes of `who`, as netlink(4) does it for
    /// whoever asks: its threads are the host's.
    ///
    /// # Errors
    /// See [`create`](Self::create).
    pub fn create_as(
        self: &Arc<Self>,
        vnet: &Arc<Vnet>,
        name: &str,
        who: &Arc<Vnet>,
    ) -> Result<String, Errno> {
        let ops = self.ops()?;
        let cloner = enter(self, Kind::Process, Some(vnet), || {
            // SAFETY: the module is loaded; the name is a static string.
            name_of(unsafe { (ops.cloner_name)() })
        });
        let digits = name.strip_prefix(cloner).ok_or(EINVAL)?;
        let unit = if digits.is_empty() {
            (0..=MAXUNIT)
                .find(|&u| self.take_unit(vnet, cloner, u).is_ok())
                .ok_or(ENOSPC)?
        } else {
            let leading_zero = digits.len() > 1 && digits.starts_with('0');
            if leading_zero || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(EINVAL);
            }
            let u = digits.parse::<u32>().map_err(|_| EINVAL)?;
            if u > MAXUNIT {
                return Err(ENOSPC);
            }
            self.take_unit(vnet, cloner, u)?;
            u
        };
        let mut ifp: *mut c_void = ptr::null_mut();
        let made = enter_as(self, Kind::Process, Some(vnet), Some(who), || {
            // SAFETY: the module is loaded; the unit is ours.
            result(unsafe { (ops.clone_create)(unit, &mut ifp) })
        });
        let mut module = self.module.lock().unwrap();
        if let Err(e) = made {
            module.units.remove(&(vnet.id, unit));
            return Err(e);
        }
        let attach_error = module.attach_error.take();
        module.cloned.push((vnet.id, unit, ifp.addr()));
        drop(module);
        let ifp = self.interfaces.by_pointer(ifp.cast()).ok_or(ENXIO)?;
        ifp.cloned.store(true, Ordering::SeqCst);
        if let Some(e) = attach_error {
            self.destroy_cloned(&ifp, unit)?;
            return Err(e);
        }
        Ok(ifp.name())
    }

    fn take_unit(&self, vnet: &Arc<Vnet>, cloner: &str, unit: u32) -> Result<(), Errno> {
        if self
            .interfaces
            .find(vnet, &format!("{cloner}{unit}"))
            .is_some()
        {
            return Err(EEXIST);
        }
        let fresh = self.module.lock().unwrap().units.insert((vnet.id, unit));
        if fresh { Ok(()) } else { Err(EEXIST) }
    }

    fn destroy_cloned(self: &Arc<Self>, ifp: &Arc<Ifnet>, unit: u32) -> Result<(), Errno> {
        let ops = self.ops()?;
        if !ifp.cloned.swap(false, Ordering::SeqCst) {
            return Err(EBUSY);
        }
        let p = Arc::as_ptr(ifp).cast_mut();
        // SAFETY: vnets live as long as the kernel.
        let vnet = unsafe { &*ifp.vnet.load(Ordering::Acquire) };
        let r = enter(self, Kind::Process, Some(vnet), || {
            // SAFETY: an interface of the module that nobody destroyed before.
            result(unsafe { (ops.clone_destroy)(p.cast()) })
        });
        if r.is_err() {
            ifp.cloned.store(true, Ordering::SeqCst);
            return r;
        }
        let mut m = self.module.lock().unwrap();
        if let Some(i) = m.cloned.iter().position(|c| c.2 == p.addr()) {
            let (v, u, _) = m.cloned.remove(i);
            debug_assert_eq!(u, unit);
            m.units.remove(&(v, u));
        }
        Ok(())
    }

    /// Destroys the interfaces of the cloner of a vnet. One that refuses stays.
    #[cfg(feature = "kld")]
    pub(crate) fn destroy_all_of(self: &Arc<Self>, vnet: &Vnet) {
        let mut of = self.module.lock().unwrap().cloned.clone();
        of.retain(|c| c.0 == vnet.id);
        for (_, unit, p) in of.into_iter().rev() {
            if let Some(ifp) = self.interfaces.by_pointer(ptr::without_provenance(p)) {
                let _ = self.destroy_cloned(&ifp, unit);
            }
        }
    }

    /// `ifconfig NAME destroy`.
    ///
    /// # Errors
    /// ENXIO when there is none, EBUSY when another destroys it, or what the driver says.
    pub fn destroy(self: &Arc<Self>, vnet: &Arc<Vnet>, name: &str) -> Result<(), Errno> {
        let ifp = self.interface(vnet, name)?;
        let p = Arc::as_ptr(&ifp).addr();
        let unit = {
            let m = self.module.lock().unwrap();
            m.cloned
                .iter()
                .find(|c| c.2 == p)
                .map(|c| c.1)
                .ok_or(EINVAL)?
        };
        self.destroy_cloned(&ifp, unit)
    }

    /// The attached interface of that name.
    ///
    /// # Errors
    /// ENXIO.
    pub fn interface(&self, vnet: &Arc<Vnet>, name: &str) -> Result<Arc<Ifnet>, Errno> {
        self.interfaces.find(vnet, name).ok_or(ENXIO)
    }

    /// Names of the attached interfaces of a vnet.
    pub fn interfaces(&self, vnet: &Arc<Vnet>) -> Vec<String> {
        self.interfaces.of(vnet).iter().map(|i| i.name()).collect()
    }

    /// ioctl(2) on a socket of a process in `vnet`. `data` is the command's structure, which begins
    /// with the name of the interface; pointers in it reach all of this process's memory.
    ///
    /// # Errors
    /// What the kernel or the driver says. `data` may be changed even so, though a real kernel
    /// would not copy it out.
    pub fn ioctl(
        self: &Arc<Self>,
        vnet: &Arc<Vnet>,
        cmd: u64,
        data: &mut [u8],
    ) -> Result<(), Errno> {
        let size = (cmd >> 16 & 0x1fff) as usize;
        if data.len() < size || size < IFNAMSIZ {
            return Err(EINVAL);
        }
        let end = data[..IFNAMSIZ]
            .iter()
            .position(|&b| b == 0)
            .unwrap_or(IFNAMSIZ);
        let name = std::str::from_utf8(&data[..end])
            .map_err(|_| ENXIO)?
            .to_string();
        let ifp = self.interface(vnet, &name)?;
        enter(self, Kind::Process, Some(vnet), || {
            self.ioctl_in(vnet, &ifp, cmd, data)
        })
    }

    fn ioctl_in(
        &self,
        vnet: &Arc<Vnet>,
        ifp: &Arc<Ifnet>,
        cmd: c_ulong,
        data: &mut [u8],
    ) -> Result<(), Errno> {
        let int = |d: &[u8]| i32::from_ne_bytes([d[16], d[17], d[18], d[19]]);
        match cmd {
            SIOCGIFFLAGS => {
                data[16..20].copy_from_slice(&ifp.flags().to_ne_bytes());
                Ok(())
            }
            SIOCGIFMTU => {
                data[16..20].copy_from_slice(&ifp.mtu().to_ne_bytes());
                Ok(())
            }
            SIOCSIFFLAGS | SIOCSIFMTU | SIOCSIFNAME if !is_root() => Err(EPERM),
            SIOCSIFFLAGS => {
                let new = int(data);
                let old = ifp.flags();
                let flags = old & CANTCHANGE | new & !CANTCHANGE;
                ifp.flags.store(flags, Ordering::SeqCst);
                // The driver's answer is ignored, as in net/if.c.
                let _ = ifp.ioctl(cmd, data.as_mut_ptr());
                if (old ^ flags) & IFF_UP != 0
                    && let Some(t) = ifp.tun()
                {
                    t.set_up(flags & IFF_UP != 0);
                }
                Ok(())
            }
            SIOCSIFMTU if !MTU.contains(&int(data)) => Err(EINVAL),
            SIOCSIFNAME => {
                let mut to = [0u8; IFNAMSIZ];
                to.copy_from_slice(&data[16..32]);
                let end = to.iter().position(|&b| b == 0).ok_or(EINVAL)?;
                let to = std::str::from_utf8(&to[..end]).map_err(|_| EINVAL)?;
                self.rename_in(vnet, ifp, to)
            }
            _ => result(ifp.ioctl(cmd, data.as_mut_ptr())),
        }
    }

    fn rename_in(&self, vnet: &Vnet, ifp: &Arc<Ifnet>, to: &str) -> Result<(), Errno> {
        if to.is_empty() {
            return Err(EINVAL);
        }
        if self.interfaces.find(vnet, to).is_some() {
            return Err(EEXIST);
        }
        *ifp.name.write().unwrap() = to.to_string();
        if let Some(t) = ifp.tun() {
            t.rename(to);
        }
        Ok(())
    }

    /// An ioctl whose structure is name, pointer, size (`struct wg_data_io`): `SIOCSWG` and
    /// `SIOCGWG`. `buf` is the only memory that the driver may copy from and to. Returns the size
    /// that the driver left.
    ///
    /// # Errors
    /// What the kernel or the driver says.
    pub fn ioctl_data(
        self: &Arc<Self>,
        vnet: &Arc<Vnet>,
        name: &str,
        cmd: u64,
        buf: &mut [u8],
    ) -> Result<usize, Errno> {
        let p = if buf.is_empty() {
            ptr::null_mut()
        } else {
            buf.as_mut_ptr()
        };
        let mut io = ifreq(name);
        io[16..24].copy_from_slice(&p.expose_provenance().to_ne_bytes());
        io[24..32].copy_from_slice(&buf.len().to_ne_bytes());
        with_user_memory(p.addr(), buf.len(), || self.ioctl(vnet, cmd, &mut io))?;
        let mut n = [0; 8];
        n.copy_from_slice(&io[24..32]);
        Ok(usize::from_ne_bytes(n))
    }

    /// `ifconfig NAME up` or `down`.
    ///
    /// # Errors
    /// ENXIO. Whether the driver came up, [`Ifnet::is_running`] tells.
    pub fn set_up(self: &Arc<Self>, vnet: &Arc<Vnet>, name: &str, up: bool) -> Result<(), Errno> {
        let flags = self.interface(vnet, name)?.flags();
        let flags = if up { flags | IFF_UP } else { flags & !IFF_UP };
        let mut io = ifreq(name);
        io[16..20].copy_from_slice(&flags.to_ne_bytes());
        self.ioctl(vnet, SIOCSIFFLAGS, &mut io)
    }

    /// SIOCADDMULTI, SIOCDELMULTI or SIOCSIFADDR as the network stack may send them: from where
    /// nobody must sleep, with an argument that is no `ifreq` or none.
    ///
    /// # Errors
    /// ENXIO, or what the driver says.
    pub fn ioctl_of_the_stack(
        self: &Arc<Self>,
        vnet: &Arc<Vnet>,
        name: &str,
        cmd: u64,
    ) -> Result<(), Errno> {
        let ifp = self.interface(vnet, name)?;
        enter(self, Kind::Callout, Some(vnet), || {
            result(ifp.ioctl_in_place(cmd, ptr::null_mut()))
        })
    }

    /// `ifconfig NAME debug` or `-debug`.
    ///
    /// # Errors
    /// ENXIO.
    pub fn set_debug(
        self: &Arc<Self>,
        vnet: &Arc<Vnet>,
        name: &str,
        on: bool,
    ) -> Result<(), Errno> {
        let flags = self.interface(vnet, name)?.flags();
        let flags = if on { flags | 4 } else { flags & !4 };
        let mut io = ifreq(name);
        io[16..20].copy_from_slice(&flags.to_ne_bytes());
        self.ioctl(vnet, SIOCSIFFLAGS, &mut io)
    }

    /// `ifconfig NAME mtu N`.
    ///
    /// # Errors
    /// ENXIO, EINVAL.
    pub fn set_mtu(self: &Arc<Self>, vnet: &Arc<Vnet>, name: &str, mtu: i32) -> Result<(), Errno> {
        let mut io = ifreq(name);
        io[16..20].copy_from_slice(&mtu.to_ne_bytes());
        self.ioctl(vnet, SIOCSIFMTU, &mut io)
    }

    /// `ifconfig NAME name TO`.
    ///
    /// # Errors
    /// ENXIO, EEXIST, EINVAL.
    pub fn rename(self: &Arc<Self>, vnet: &Arc<Vnet>, name: &str, to: &str) -> Result<(), Errno> {
        if to.len() >= IFNAMSIZ {
            return Err(EINVAL);
        }
        let mut io = ifreq(name);
        io[16..16 + to.len()].copy_from_slice(to.as_bytes());
        self.ioctl(vnet, SIOCSIFNAME, &mut io)
    }

    /// if_down(9): what netlink(4) does, and a move to another vnet before the driver hears of it.
    ///
    /// # Errors
    /// ENXIO.
    pub fn mark_down(&self, vnet: &Arc<Vnet>, name: &str) -> Result<(), Errno> {
        let ifp = self.interface(vnet, name)?;
        ifp.flags.fetch_and(!IFF_UP, Ordering::SeqCst);
        Ok(())
    }

    /// `ifconfig NAME vnet TO`.
    ///
    /// # Errors
    /// ENXIO, EEXIST.
    pub fn move_to(
        self: &Arc<Self>,
        from: &Arc<Vnet>,
        name: &str,
        to: &Arc<Vnet>,
    ) -> Result<(), Errno> {
        let ifp = self.interface(from, name)?;
        if self.interfaces.find(to, name).is_some() {
            return Err(EEXIST);
        }
        enter(self, Kind::Process, Some(from), || ifp.reassign(to));
        Ok(())
    }

    /// Jail removal: the jail is dying from now on, and the driver lets go of the vnet's credential.
    /// Interfaces in it are destroyed by the caller.
    ///
    /// # Errors
    /// ENXIO without a module.
    pub fn remove_prison(self: &Arc<Self>, vnet: &Arc<Vnet>) -> Result<(), Errno> {
        let ops = self.ops()?;
        vnet.kill_prison();
        enter(self, Kind::Process, None, || {
            // SAFETY: the module is loaded; the prison lives as long as the kernel.
            unsafe { (ops.prison_remove)(vnet.prison()) }
        });
        Ok(())
    }

    /// Routes a prefix of a vnet into an interface: for tunnels in tunnels and for forwarding.
    ///
    /// # Errors
    /// ENXIO.
    pub fn add_route(
        &self,
        vnet: &Arc<Vnet>,
        net: IpAddr,
        len: u8,
        name: &str,
    ) -> Result<(), Errno> {
        let to = self.interface(vnet, name)?;
        vnet.routes.write().unwrap().push(Route { net, len, to });
        vnet.has_routes.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Sends an IP packet of the host into an interface, as `ip_output` would; `dst` is the route's
    /// next hop, the packet's own destination if none.
    ///
    /// # Errors
    /// EINVAL for what is not IP, ENXIO, or what the driver says.
    pub fn output(
        self: &Arc<Self>,
        vnet: &Arc<Vnet>,
        name: &str,
        packet: &[u8],
        dst: Option<IpAddr>,
        route: Option<RouteArg>,
    ) -> Result<(), Errno> {
        let ifp = self.interface(vnet, name)?;
        let dst = dst
            .or_else(|| crate::packet::ip_dst(packet))
            .ok_or(EINVAL)?;
        enter(self, Kind::Output, Some(vnet), || {
            let p = self.machine.shape_packet(packet).ok_or(55)?;
            ifp.output(p, &(dst, 0).into(), route)
        })
    }

    /// The same with a packet of the caller's making, which `make` returns (inside the kernel).
    ///
    /// # Errors
    /// As [`output`](Self::output); ENOBUFS if `make` returns none.
    pub fn output_packet(
        self: &Arc<Self>,
        vnet: &Arc<Vnet>,
        name: &str,
        dst: IpAddr,
        make: impl FnOnce() -> Option<Packet>,
    ) -> Result<(), Errno> {
        let ifp = self.interface(vnet, name)?;
        enter(self, Kind::Output, Some(vnet), || {
            ifp.output(make().ok_or(55)?, &(dst, 0).into(), None)
        })
    }

    /// A write of raw bytes with any address family, as a bpf(4) writer can make: `sockaddr` is
    /// passed as it is (two bytes at least).
    ///
    /// # Errors
    /// What the driver says.
    pub fn output_raw(
        self: &Arc<Self>,
        vnet: &Arc<Vnet>,
        name: &str,
        packet: &[u8],
        sockaddr: &[u8],
    ) -> Result<(), Errno> {
        let ifp = self.interface(vnet, name)?;
        let mut sa = [0u8; 128];
        let n = sockaddr.len().min(128);
        sa[..n].copy_from_slice(&sockaddr[..n]);
        enter(self, Kind::Output, Some(vnet), || {
            ifp.output_raw(Packet::from_slice(packet).ok_or(55)?, &sa)
        })
    }

    /// Calls the driver's transmit method, as netmap does.
    ///
    /// # Errors
    /// What the driver says.
    pub fn transmit(
        self: &Arc<Self>,
        vnet: &Arc<Vnet>,
        name: &str,
        packet: &[u8],
    ) -> Result<(), Errno> {
        let ifp = self.interface(vnet, name)?;
        enter(self, Kind::Output, Some(vnet), || {
            ifp.transmit(Packet::from_slice(packet).ok_or(55)?)
        })
    }
}

/// A 32-byte `struct ifreq` with its name set.
fn ifreq(name: &str) -> [u8; 32] {
    let mut io = [0; 32];
    let n = name.len().min(IFNAMSIZ - 1);
    io[..n].copy_from_slice(&name.as_bytes()[..n]);
    io
}
