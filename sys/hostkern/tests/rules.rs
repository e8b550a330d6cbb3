// SPDX-License-Identifier: BSD-2-Clause
//! Each rule of the kernel, broken once: the panic names it.

mod common;

use std::ffi::c_void;
use std::ptr;

use common::*;
use hostkern::ifnet::*;
use hostkern::mbuf::*;
use hostkern::sim::{Host, Sim};
use hostkern::socket::*;
use hostkern::{Kind, Packet, Ucred, crfree, kpi_cred_current};

fn world() -> (Sim, Host) {
    let sim = Sim::new(1);
    let h = sim.host("h", &["192.0.2.1"]);
    (sim, h)
}

fn in_process(f: impl FnOnce()) {
    let (sim, h) = world();
    sim.process(&h, f);
}

macro_rules! rule {
    ($($name:ident $rule:literal $body:expr;)*) => {$(
        #[test]
        #[should_panic(expected = $rule)]
        fn $name() {
            let body: fn() = $body;
            in_process(body);
        }
    )*};
}

unsafe extern "C-unwind" {
    fn kpi_malloc(size: usize, flags: i32) -> *mut c_void;
}

fn malloc_waitok() {
    // SAFETY: plain allocation, never returned: the rule panics.
    unsafe { kpi_malloc(8, M_WAITOK) };
}
const M_WAITOK: i32 = 2;

rule! {
    sleep_in_epoch_malloc "[no-sleep] malloc(M_WAITOK) inside an epoch" || {
        let _s = Section::enter();
        malloc_waitok();
    };
    sleep_in_epoch_wait "[no-sleep] epoch_wait inside an epoch" || {
        let _s = Section::enter();
        epoch_wait();
    };
    sleep_in_epoch_sx "[no-sleep] sx_slock inside an epoch" || {
        let sx = Sx::new(c"sx");
        let _s = Section::enter();
        sx.slock();
    };
    sleep_in_epoch_callout_drain "[no-sleep] callout_drain inside an epoch" || {
        let t = Timer::new(|| ());
        let _s = Section::enter();
        t.drain();
    };
    sleep_in_epoch_task_drain "[no-sleep] grouptask_block inside an epoch" || {
        let w = Work::new(0, || ());
        let _s = Section::enter();
        w.block();
    };
    sleep_with_mutex "[no-sleep] epoch_wait with lock \"m\" held" || {
        let m = Mtx::new(c"m");
        m.lock();
        epoch_wait();
    };
    sleep_with_rwlock "[no-sleep] malloc(M_WAITOK) with lock \"rw\" held" || {
        let rw = Rw::new(c"rw");
        rw.rlock();
        malloc_waitok();
    };
    sx_under_mutex "[no-sleep] sx_xlock with lock \"m\" held" || {
        let (m, sx) = (Mtx::new(c"m"), Sx::new(c"sx"));
        m.lock();
        sx.xlock();
    };
    lock_order "[lock-order] \"a\" taken with \"b\" held, but the order known is a -> b" || {
        let (a, b) = (Mtx::new(c"a"), Mtx::new(c"b"));
        a.lock();
        b.lock();
        b.unlock();
        a.unlock();
        b.lock();
        a.lock();
    };
    lock_order_three "the order known is a -> b -> c" || {
        let (a, b, c) = (Mtx::new(c"a"), Rw::new(c"b"), Mtx::new(c"c"));
        a.lock();
        b.wlock();
        b.wunlock();
        a.unlock();
        b.rlock();
        c.lock();
        c.unlock();
        b.runlock();
        c.lock();
        a.lock();
    };
    lock_same_class "[lock-order] second lock of the same class \"peer\"" || {
        let (a, b) = (Mtx::new(c"peer"), Mtx::new(c"peer"));
        a.lock();
        b.lock();
    };
    lock_recursion "[lock-recursion] lock \"m\"" || {
        let m = Mtx::new(c"m");
        m.lock();
        m.lock();
    };
    lock_recursion_read "[lock-recursion] lock \"rw\"" || {
        let rw = Rw::new(c"rw");
        rw.rlock();
        rw.wlock();
    };
    lock_not_owner "[lock-owner] lock \"m\"" || {
        let m = Mtx::new(c"m");
        m.unlock();
    };
    lock_read_not_held "[lock-owner] lock \"rw\"" || {
        let rw = Rw::new(c"rw");
        rw.runlock();
    };
    lock_leak "[lock-leak] lock \"m\" held on return" || {
        let m = Mtx::new(c"m");
        m.lock();
    };
    lock_destroy_held "[lock-destroy] lock \"m\"" || {
        let m = Mtx::new(c"m");
        m.lock();
        m.destroy();
    };
    lock_uninitialized "[lock-init]" || {
        let mut l = zeroed::<hostkern::layout::lock>();
        // SAFETY: the memory is a lock's, not initialized: the rule panics.
        unsafe { hostkern::lock::kpi_mtx_lock(&mut *l) };
    };
    epoch_left_open "[epoch-balance] 1 epoch sections open on return" || {
        Section::enter();
    };
    epoch_exit_without_enter "[epoch-balance] epoch exit without its enter" || {
        let mut t = zeroed();
        // SAFETY: the memory is a tracker's, never entered: the rule panics.
        unsafe { hostkern::epoch::_epoch_exit_preempt(ptr::null_mut(), &mut *t) };
    };
    callout_uninitialized "[callout-init]" || {
        let mut c = zeroed::<hostkern::layout::callout>();
        // SAFETY: the memory is a callout's, not initialized: the rule panics.
        unsafe { hostkern::callout::kpi_callout_stop(&mut *c) };
    };
    task_not_attached "[task-attach] grouptask_block of a task that is not attached" || {
        let mut gt = zeroed::<hostkern::layout::grouptask>();
        // SAFETY: the memory is a task's, not attached: the rule panics.
        unsafe { hostkern::task::grouptask_block(&mut *gt) };
    };
    task_enqueue_detached "[task-attach] a task was enqueued that is not attached" || {
        let mut gt = zeroed::<hostkern::layout::grouptask>();
        // SAFETY: as above.
        unsafe { hostkern::task::grouptaskqueue_enqueue(ptr::null_mut(), &mut gt.gt_task) };
    };
    mbuf_double_free "[mbuf-double-free]" || {
        let m = kpi_m_alloc(100);
        // SAFETY: the second free is what the rule is about; simulation looks the address up first.
        unsafe {
            m_freem(m);
            m_freem(m);
        }
    };
    mbuf_use_after_free "[mbuf-use-after-free] m_adj" || {
        let m = kpi_m_alloc(100);
        // SAFETY: as above.
        unsafe {
            m_freem(m);
            m_adj(m, 1);
        }
    };
    mbuf_length "[mbuf-pkthdr] m_mapped: m_pkthdr.len is 5 but the chain has 4" || {
        let m = kpi_m_alloc(100);
        // SAFETY: a fresh packet with wrong lengths: the rule panics.
        unsafe {
            (*m).m_len = 4;
            (*m).len = 5;
            kpi_m_mapped(m);
        }
    };
    mbuf_no_header "[mbuf-pkthdr] m_mapped: no packet header" || {
        let m = kpi_m_alloc(100);
        // SAFETY: a fresh packet whose flag is taken away.
        unsafe {
            (*m).m_tf = 1;
            kpi_m_mapped(m);
        }
    };
    mbuf_copy_range "[mbuf-range] m_copydata past the end" || {
        let m = kpi_m_alloc(100);
        let mut b = [0u8; 4];
        // SAFETY: the packet is empty: the rule panics.
        unsafe { m_copydata(m, 0, 4, b.as_mut_ptr()) };
    };
    netisr_outside_epoch "[epoch-required] netisr_dispatch outside of the net epoch" || {
        let ifp = if_alloc(248);
        // SAFETY: no packet.
        unsafe { kpi_if_input(ifp, ptr::null_mut()) };
    };
    icmp_outside_epoch "[epoch-required] icmp_error outside of the net epoch" || {
        let ifp = if_alloc(248);
        // SAFETY: no packet.
        unsafe { kpi_icmp_error(ifp, ptr::null_mut(), 2, 0, 0) };
    };
    ifnet_after_free "[ifnet-use-after-free] if_getsoftc after if_free" || {
        let ifp = if_alloc(248);
        if_free(ifp);
        if_getsoftc(ifp);
    };
    ifnet_double_free "[ifnet-use-after-free]" || {
        let ifp = if_alloc(248);
        if_free(ifp);
        if_free(ifp);
    };
    ifnet_free_attached "[ifnet-free-attached]" || {
        let ifp = if_alloc(248);
        if_attach(ifp);
        if_free(ifp);
    };
    cred_overfree "[cred] a credential was freed more often than held" || {
        let c = kpi_cred_current();
        // SAFETY: one free too many: the rule panics.
        unsafe {
            crfree(c);
            crfree(c);
        }
    };
    fpu_lock "[fpu] lock between fpu_kern_enter and leave" || {
        let m = Mtx::new(c"m");
        hostkern::misc::kpi_fpu_enter();
        m.lock();
    };
    fpu_sleep "[fpu] epoch_wait between fpu_kern_enter and leave" || {
        hostkern::misc::kpi_fpu_enter();
        epoch_wait();
    };
    fpu_mbuf "[fpu] m_get between fpu_kern_enter and leave" || {
        hostkern::misc::kpi_fpu_enter();
        kpi_m_alloc(10);
    };
    fpu_nested "[fpu] fpu_kern_enter nested" || {
        hostkern::misc::kpi_fpu_enter();
        hostkern::misc::kpi_fpu_enter();
    };
}

unsafe extern "C-unwind" fn swallow(
    m: *mut hostkern::layout::mbuf,
    _off: i32,
    _inp: *mut c_void,
    _sa: *const u8,
    _ctx: *mut c_void,
) -> bool {
    // SAFETY: ours.
    unsafe { m_freem(m) };
    true
}

fn open_socket() -> (*const Socket, *mut Ucred) {
    let (mut so, mut port) = (ptr::null(), 0);
    let cred = kpi_cred_current();
    // SAFETY: callback without context, a live credential.
    let e = unsafe {
        kpi_udp_open(
            2,
            0,
            0,
            0,
            cred,
            Some(swallow),
            ptr::null_mut(),
            &mut so,
            &mut port,
        )
    };
    assert_eq!(e, 0);
    assert_ne!(port, 0);
    (so, cred)
}

#[test]
#[should_panic(expected = "[socket-closed] sosend on a closed socket")]
fn send_on_closed_socket() {
    in_process(|| {
        let (so, _) = open_socket();
        let dst = [16u8, 2, 0, 9, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let m = kpi_m_alloc(100);
        // SAFETY: closed sockets stay in memory: the rule panics.
        unsafe {
            kpi_udp_close(so);
            kpi_udp_send(so, m, dst.as_ptr(), ptr::null());
        }
    });
}

#[test]
#[should_panic(expected = "[no-sleep] soclose inside an epoch section")]
fn close_in_epoch() {
    in_process(|| {
        let (so, _) = open_socket();
        let _s = Section::enter();
        // SAFETY: open.
        unsafe { kpi_udp_close(so) };
    });
}

#[test]
#[should_panic(expected = "[no-sleep] malloc(M_WAITOK) in a callout")]
fn sleep_in_callout() {
    let (sim, h) = world();
    sim.process(&h, || Timer::new(malloc_waitok).at(0));
    sim.run_until_idle();
}

#[test]
#[should_panic(expected = "[no-sleep] malloc(M_WAITOK) in an epoch callback")]
fn sleep_in_epoch_callback() {
    let (sim, h) = world();
    sim.process(&h, || defer(malloc_waitok));
    sim.run_until_idle();
}

#[test]
#[should_panic(expected = "[callout-freed] an armed callout was freed or overwritten")]
fn callout_freed_armed() {
    let (sim, h) = world();
    sim.process(&h, || {
        let t = Timer::new(|| ());
        t.at(0);
        // SAFETY: the memory stays, its content goes: as after free(9) with INVARIANTS.
        unsafe { ptr::write_bytes(t.c, 0xde, 1) };
    });
    sim.run_until_idle();
}

#[test]
#[should_panic(expected = "[task-freed]")]
fn task_freed_queued() {
    let (sim, h) = world();
    sim.preempt_one_in(0);
    sim.process(&h, || {
        let w = Work::new(0, || ());
        w.enqueue();
        // SAFETY: as above.
        unsafe { ptr::write_bytes(&raw mut (*w.gt).gt_task, 0, 1) };
    });
    sim.run_until_idle();
}

#[test]
#[should_panic(expected = "[leak] 1 mbufs and 1 clusters")]
fn mbuf_leak() {
    let (sim, h) = world();
    sim.process(&h, || std::mem::forget(Packet::from_slice(&[0; 1000])));
    sim.assert_no_leaks();
}

#[test]
#[should_panic(expected = "1 open sockets")]
fn socket_leak() {
    let (sim, h) = world();
    sim.process(&h, || {
        open_socket();
    });
    sim.assert_no_leaks();
}

#[test]
#[should_panic(expected = "1 credential references in vnet h")]
fn cred_leak() {
    let (sim, h) = world();
    sim.process(&h, || {
        kpi_cred_current();
    });
    sim.assert_no_leaks();
}

#[test]
#[should_panic(expected = "1 armed callouts")]
fn callout_leak() {
    let (sim, h) = world();
    sim.process(&h, || Timer::new(|| ()).at(u64::MAX));
    sim.assert_no_leaks();
}

#[test]
#[should_panic(expected = "1 attached group tasks")]
fn task_leak() {
    let (sim, h) = world();
    sim.process(&h, || {
        Work::new(0, || ());
    });
    sim.assert_no_leaks();
}

#[test]
#[should_panic(expected = "1 initialized locks")]
fn lock_not_destroyed() {
    let (sim, h) = world();
    sim.process(&h, || {
        Mtx::new(c"m");
    });
    sim.assert_no_leaks();
}

#[test]
#[should_panic(expected = "1 interfaces")]
fn interface_leak() {
    let (sim, h) = world();
    sim.process(&h, || {
        if_alloc(248);
    });
    sim.assert_no_leaks();
}

#[test]
#[should_panic(expected = "memory: 1 of 1 allocations live")]
fn memory_leak() {
    let (sim, h) = world();
    // SAFETY: plain allocation, leaked on purpose.
    sim.process(&h, || unsafe { kpi_malloc(8, 1) });
    sim.assert_no_leaks();
}

#[test]
#[should_panic(expected = "[deadlock]")]
fn sleep_for_ever() {
    let (sim, h) = world();
    // A task that waits for itself.
    sim.process(&h, || {
        let w: &'static std::sync::OnceLock<Work> = Box::leak(Box::default());
        let _ = w.set(Work::new(0, || w.get().unwrap().block()));
        w.get().unwrap().enqueue();
    });
    sim.run_until_idle();
}

#[test]
#[should_panic(expected = "[no-kernel]")]
fn outside_of_a_kernel() {
    hostkern::misc::kpi_uptime_ns();
}

#[test]
fn kinds_that_may_sleep() {
    let (sim, h) = world();
    for kind in [Kind::Process, Kind::Task] {
        sim.frame(&h, kind, epoch_wait);
    }
}
