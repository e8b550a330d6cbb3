// SPDX-License-Identifier: BSD-2-Clause
//! kldload(8) and kldunload(8) from where the file is relocated: dependencies, sysinits in their order, module events,
//! and what a module registers in them. As sys/kern/kern_linker.c and kern_module.c do it.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;
use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex};

use freebsd_kernel_sys::offsets as off;

use super::{File, Kld, State, get, memory, put, text, thread, with};
use crate::clone::ModuleOps;
use crate::kernel::Kernel;
use crate::layout::lock;
use crate::lock::{kpi_sx_destroy, kpi_sx_init};
use crate::thread::{check_sleep, kernel, violation};
use crate::vnet::current;

const ENXIO: c_int = 6;
const ENOEXEC: c_int = 8;
const EINVAL: c_int = 22;
const EOPNOTSUPP: c_int = 45;

/// What the running kernel offers to modules, with versions: itself (`__FreeBSD_version` of 14.2) and the crypto framework.
const OFFERED: &[(&str, c_int)] = &[("kernel", 1_402_000), ("crypto", 1)];
/// `SBT_1S` / hz, which is 100.
const TICK: i64 = (1 << 32) / 100;
const METHODS: usize = 6;

/// `struct moduledata`.
#[repr(C)]
struct Data {
    name: *const c_char,
    event: Option<unsafe extern "C-unwind" fn(*mut c_void, c_int, *mut c_void) -> c_int>,
    private: *mut c_void,
}

/// A module of the file.
#[derive(Clone, Copy)]
pub(super) struct Registered {
    data: *const Data,
    /// What its MOD_LOAD said, once it was asked.
    loaded: Option<c_int>,
}

// SAFETY: a static of the module.
unsafe impl Send for Registered {}

impl Registered {
    fn event(&self, what: u32) -> c_int {
        // SAFETY: what the module declared.
        unsafe {
            let data = &*self.data;
            match data.event {
                None => EOPNOTSUPP,
                Some(event) => event(
                    self.data.cast_mut().cast(),
                    what.cast_signed(),
                    data.private,
                ),
            }
        }
    }

    fn name(&self) -> &str {
        // SAFETY: as above.
        text(unsafe { (*self.data).name })
    }
}

/// An entry of a module's metadata.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Metadata {
    /// DECLARE_MODULE: its name, and where its `moduledata_t` is.
    Module(String, usize),
    /// MODULE_VERSION.
    Version(String, i32),
    /// MODULE_DEPEND: name, and the least, preferred and greatest version.
    Depend(String, [i32; 3]),
}

/// Reads the metadata that `entries` point to.
///
/// # Errors
/// Of a structure that is not known.
///
/// # Safety
/// They point to `struct mod_metadata` of a relocated file.
pub unsafe fn metadata(entries: &[usize]) -> Result<Vec<Metadata>, String> {
    let read = |&at: &usize| {
        let entry: *const c_void = ptr::with_exposed_provenance(at);
        // SAFETY: version, type, data and name, as the caller says; data by the type.
        unsafe {
            let version: u32 = get(entry, 0);
            let kind: u32 = get(entry, 4);
            let data: *const c_void = get(entry, 8);
            let name = text(get(entry, 16)).to_string();
            if version != off::KPI_MDT_STRUCT_VERSION {
                return Err(format!("metadata of version {version}"));
            }
            match kind {
                off::KPI_MDT_MODULE => Ok(Metadata::Module(name, data.expose_provenance())),
                off::KPI_MDT_VERSION => Ok(Metadata::Version(name, get(data, 0))),
                off::KPI_MDT_DEPEND => Ok(Metadata::Depend(name, get(data, 0))),
                _ => Err(format!("metadata of type {kind}")),
            }
        }
    };
    entries.iter().map(read).collect()
}

/// The entry points of a module that comes from a file: `load` has to place the file and pass it to [`load`], in the kernel of
/// the running frame.
#[must_use]
pub fn module_ops(load: unsafe extern "C" fn() -> c_int) -> ModuleOps {
    ModuleOps {
        load,
        can_unload: quiesce,
        unload,
        cloner_name,
        clone_create,
        clone_destroy,
        prison_remove,
        destroys: true,
    }
}

/// Loads a placed and relocated file into the kernel of the running frame: registers its modules and runs its sysinits.
///
/// # Safety
/// The file is what it says, and its code is a module's for this kernel.
///
/// # Errors
/// ENOEXEC for metadata that is not known or a dependency that is not met, with a line in the log; or what the module says to
/// MOD_LOAD (where kldload(8) would only say that it failed).
pub unsafe fn load(file: File) -> Result<(), c_int> {
    check_sleep("kldload");
    let k = kernel();
    // SAFETY: as the caller says.
    let metadata = match unsafe { metadata(&file.metadata) } {
        Ok(metadata) => metadata,
        Err(why) => {
            k.machine.log(&why);
            return Err(ENOEXEC);
        }
    };
    for entry in &metadata {
        if let Metadata::Depend(name, [least, _, greatest]) = entry {
            let fits = |(n, v): &(&str, c_int)| n == name && (least..=greatest).contains(&v);
            if !OFFERED.iter().any(fits) {
                let why = format!("depends on {name} - not available or version mismatch");
                k.machine.log(&why);
                return Err(ENOEXEC);
            }
        }
    }
    let kld = Arc::new(Kld {
        file,
        state: Mutex::new(State::default()),
    });
    for entry in metadata {
        if let Metadata::Module(_, data) = entry {
            kld.state().modules.push(Registered {
                data: ptr::with_exposed_provenance(data),
                loaded: None,
            });
        }
    }
    // SAFETY: variables of the file, of these types.
    unsafe { kld.fill(&k) };
    k.kld.set(kld.clone());
    let vnets = k.vnets.read().unwrap().clone();
    for v in &vnets {
        kld.add_vnet(v);
    }
    thread::begin(current());
    run(&kld.file.sysinits, false);
    let error = kld.state().modules.iter().find_map(|m| match m.loaded {
        Some(0) => None,
        said => Some(said.unwrap_or(ENOEXEC)),
    });
    match error {
        None => Ok(()),
        Some(error) => {
            // A file whose modules have failed is unloaded.
            end(&k, &kld);
            Err(error)
        }
    }
}

impl Kld {
    /// Gives the kernel's variables their values.
    unsafe fn fill(&self, k: &Kernel) {
        let cpus = u32::try_from(k.ncpu).unwrap_or(u32::MAX);
        // SAFETY: as the caller says.
        unsafe {
            self.variable::<u32>("mp_ncpus").write(cpus);
            self.variable::<u32>("mp_maxid").write(cpus - 1);
            let set = self.variable::<u8>("all_cpus");
            for cpu in 0..k.ncpu {
                *set.add(cpu / 8) |= 1 << (cpu % 8);
            }
            self.variable::<usize>("__pcpu").write(memory::PCPU);
            self.variable::<i64>("tick_sbt").write(TICK);
            self.variable::<usize>("zone_mbuf").write(memory::ZONE_MBUF);
            self.variable::<usize>("zone_pack").write(memory::ZONE_PACK);
            let epoch: *const *mut c_void = (&raw const crate::epoch::net_epoch_preempt).cast();
            self.variable::<*mut c_void>("net_epoch_preempt")
                .write(epoch.read());
            for (name, label) in LOCKS {
                kpi_sx_init(self.variable::<lock>(name), label.as_ptr());
            }
        }
    }
}

const LOCKS: [(&str, &CStr); 2] = [
    ("ifnet_detach_sxlock", c"ifnet_detach_sx"),
    ("vnet_sxlock", c"vnet list sx lock"),
];

/// Runs sysinits or, in the reverse order, sysuninits.
fn run(entries: &[usize], reverse: bool) {
    type Function = unsafe extern "C-unwind" fn(*const c_void);
    // SAFETY: `struct sysinit` of the file: subsystem and order come first, each of the size of an enum.
    let order = |&at: &usize| unsafe {
        let entry: *const c_void = ptr::with_exposed_provenance(at);
        (get::<u32>(entry, 0), get::<u32>(entry, 4))
    };
    let mut sorted = entries.to_vec();
    match reverse {
        false => sorted.sort_by_key(order),
        true => sorted.sort_by_key(|at| core::cmp::Reverse(order(at))),
    }
    for at in sorted {
        if order(&at).0 == 0 {
            // SI_SUB_DUMMY is for linkers.
            continue;
        }
        let entry: *const c_void = ptr::with_exposed_provenance(at);
        // SAFETY: as above.
        unsafe {
            let function: Function = get(entry, off::KPI_OFF_SYSINIT_FUNC);
            function(get(entry, off::KPI_OFF_SYSINIT_UDATA));
        }
    }
}

/// What is the same for a file that goes and for one that could not come.
fn end(k: &Kernel, kld: &Kld) {
    run(&kld.file.sysuninits, true);
    for (name, _) in LOCKS {
        // SAFETY: initialized by `fill`.
        unsafe { kpi_sx_destroy(kld.variable::<lock>(name)) };
    }
    let left: HashMap<&str, usize> = {
        let s = kld.state();
        HashMap::from([
            (
                "vnet constructors",
                s.constructors.len() + s.destructors.len(),
            ),
            ("hooks of jails", s.jails.iter().flatten().count()),
            ("cloners", s.cloners.len()),
            ("malloc types", s.types.len()),
            ("sysctl contexts", s.contexts.len()),
            ("addresses of sockets", s.names),
        ])
    };
    if let Some((what, n)) = left.into_iter().find(|(_, n)| *n != 0) {
        violation(
            "kld-leak",
            format_args!("{n} {what} stay after the module is unloaded"),
        );
    }
    k.kld.clear();
}

unsafe extern "C" fn quiesce() -> c_int {
    let modules = with("kldunload", |_, kld| kld.state().modules.clone());
    let veto = |m: &Registered| match m.event(off::KPI_MOD_QUIESCE) {
        0 | EOPNOTSUPP | EINVAL => None,
        error => Some(error),
    };
    modules.iter().find_map(veto).unwrap_or(0)
}

unsafe extern "C" fn unload() -> c_int {
    let modules = with("kldunload", |_, kld| kld.state().modules.clone());
    if let Some(error) = modules
        .iter()
        .map(|m| m.event(off::KPI_MOD_UNLOAD))
        .find(|e| *e != 0)
    {
        return error;
    }
    with("kldunload", end);
    0
}

/// The sysinit of DECLARE_MODULE.
pub(super) unsafe extern "C-unwind" fn module_register_init(data: *const c_void) {
    let find = |kld: &Kld| {
        let state = kld.state();
        state.modules.iter().position(|m| m.data.cast() == data)
    };
    let found = with("module_register_init", |_, kld| {
        find(kld).map(|i| (i, kld.state().modules[i]))
    });
    let Some((i, module)) = found else {
        violation("kld", format_args!("a module that is not in the metadata"));
    };
    let error = module.event(off::KPI_MOD_LOAD);
    if error != 0 {
        module.event(off::KPI_MOD_UNLOAD);
        let name = module.name();
        let line = format!("module_register_init: MOD_LOAD ({name}) error {error}");
        kernel().machine.log(&line);
    }
    with("module_register_init", |_, kld| {
        kld.state().modules[i].loaded = Some(error);
    });
}

/// The methods of one slot of osd(9).
#[derive(Clone, Copy)]
pub(super) struct Methods([Option<Method>; METHODS]);

type Method = unsafe extern "C-unwind" fn(*const c_void, *mut c_void) -> c_int;

const _: () = assert!((off::KPI_PR_METHOD_REMOVE as usize) < METHODS);

pub(super) unsafe extern "C-unwind" fn osd_register(
    kind: u32,
    _destructor: *const c_void,
    methods: *const [Option<Method>; METHODS],
) -> c_int {
    check_sleep("osd_register");
    if kind != off::KPI_OSD_JAIL {
        violation("kld", format_args!("osd_register of type {kind}"));
    }
    with("osd_register", |_, kld| {
        let jails = &mut kld.state().jails;
        // SAFETY: the caller's table.
        jails.push(Some(Methods(unsafe { *methods })));
        jails.len() as c_int
    })
}

pub(super) unsafe extern "C-unwind" fn osd_deregister(_kind: u32, slot: u32) {
    check_sleep("osd_deregister");
    with("osd_deregister", |_, kld| {
        let mut state = kld.state();
        let at = (slot as usize).wrapping_sub(1);
        if state.jails.get_mut(at).and_then(Option::take).is_none() {
            violation("osd", format_args!("slot {slot} is not registered"));
        }
    });
}

unsafe extern "C" fn prison_remove(prison: *const c_void) {
    let jails = with("prison_remove", |_, kld| kld.state().jails.clone());
    for Methods(methods) in jails.into_iter().flatten() {
        if let Some(method) = methods[off::KPI_PR_METHOD_REMOVE as usize] {
            // SAFETY: what the module registered.
            unsafe { method(prison, ptr::null_mut()) };
        }
    }
}

type Create = unsafe extern "C-unwind" fn(
    *mut Cloner,
    *mut c_char,
    usize,
    *mut c_void,
    *mut *mut c_void,
) -> c_int;
type Destroy = unsafe extern "C-unwind" fn(*mut Cloner, *mut c_void, u32) -> c_int;

/// `struct if_clone`.
pub(super) struct Cloner {
    name: CString,
    vnet: *mut c_void,
    create: Create,
    destroy: Destroy,
}

// SAFETY: vnets live as long as their kernel.
unsafe impl Send for Cloner {}

pub(super) unsafe extern "C-unwind" fn ifc_attach_cloner(
    name: *const c_char,
    request: *const c_void,
) -> *mut Cloner {
    check_sleep("ifc_attach_cloner");
    let vnet = thread::vnet();
    // SAFETY: the caller's name and `struct if_clone_addreq`.
    let mut cloner = unsafe {
        if get::<u32>(request, 4) & off::KPI_IFC_F_AUTOUNIT == 0 {
            violation("kld", format_args!("a cloner that numbers by itself"));
        }
        Box::new(Cloner {
            name: CStr::from_ptr(name).to_owned(),
            vnet,
            create: get(request, off::KPI_OFF_IFC_ADDREQ_CREATE),
            destroy: get(request, off::KPI_OFF_IFC_ADDREQ_DESTROY),
        })
    };
    let p: *mut Cloner = &raw mut *cloner;
    with("ifc_attach_cloner", |_, kld| {
        let cloners = &mut kld.state().cloners;
        if cloners.iter().any(|c| c.vnet == vnet) {
            violation("if_clone", format_args!("a vnet has two cloners"));
        }
        cloners.push(cloner);
    });
    p
}

/// Destroys the interfaces that are left, then the cloner.
pub(super) unsafe extern "C-unwind" fn ifc_detach_cloner(cloner: *mut Cloner) {
    check_sleep("ifc_detach_cloner");
    let k = kernel().arc();
    let vnet = super::vnet::host(thread::vnet());
    // SAFETY: a live cloner.
    if unsafe { (*cloner).vnet } != thread::vnet() {
        violation("vnet", format_args!("a cloner is detached in another vnet"));
    }
    k.destroy_all_of(vnet);
    with("ifc_detach_cloner", |_, kld| {
        let cloners = &mut kld.state().cloners;
        let before = cloners.len();
        cloners.retain(|c| !ptr::eq(&raw const **c, cloner));
        if cloners.len() + 1 != before {
            violation("if_clone", format_args!("a cloner is detached twice"));
        }
    });
}

/// The cloner of the present vnet.
fn cloner() -> Option<*mut Cloner> {
    let vnet = thread::vnet();
    with("if_clone", |_, kld| {
        let mut state = kld.state();
        let found = state.cloners.iter_mut().find(|c| c.vnet == vnet);
        found.map(|c| &raw mut **c)
    })
}

unsafe extern "C" fn cloner_name() -> *const c_char {
    // SAFETY: cloners stay until they are detached, which does not happen meanwhile.
    cloner().map_or(ptr::null(), |c| unsafe { (*c).name.as_ptr() })
}

unsafe extern "C" fn clone_create(unit: u32, to: *mut *mut c_void) -> c_int {
    let Some(cloner) = cloner() else {
        return ENXIO;
    };
    let mut data = [0u64; off::KPI_LEN_IFC_DATA as usize / 8];
    let mut name: [c_char; 16] = [0; _];
    // SAFETY: `struct ifc_data`, and what the module registered.
    unsafe {
        let data: *mut c_void = data.as_mut_ptr().cast();
        put(data, off::KPI_OFF_IFC_DATA_UNIT, unit);
        ((*cloner).create)(cloner, name.as_mut_ptr(), name.len(), data, to)
    }
}

unsafe extern "C" fn clone_destroy(ifp: *mut c_void) -> c_int {
    let Some(cloner) = cloner() else {
        return ENXIO;
    };
    // SAFETY: what the module registered, and an interface of it.
    unsafe { ((*cloner).destroy)(cloner, ifp, 0) }
}
