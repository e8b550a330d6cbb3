// SPDX-License-Identifier: BSD-2-Clause
//! Life of the module and its interfaces; ioctls, output, input.

use std::time::Duration;

use hostkern::sim::{Host, Sim};
use hostkern::{RouteArg, as_user, linked_module};
use kpi::ioctl::{SIOCADDMULTI, SIOCGTUNFIB, SIOCGWG, SIOCSWG};
use kpi::net::encode_sockaddr;

use crate::seeds;

const ENOENT: i32 = 2;
const ENXIO: i32 = 6;
const EPERM: i32 = 1;
const E2BIG: i32 = 7;
const EINVAL: i32 = 22;
const ENOTTY: i32 = 25;
const EMSGSIZE: i32 = 40;
const EAFNOSUPPORT: i32 = 47;
const ELOOP: i32 = 62;
const EHOSTUNREACH: i32 = 65;

/// Two hosts with the module loaded and an interface each that has the other as its peer.
struct Pair {
    sim: Sim,
    a: Host,
    b: Host,
}

fn loaded(seed: u64) -> Sim {
    let sim = Sim::new(seed);
    sim.load(linked_module!()).unwrap();
    sim
}

fn set_peer(sim: &Sim, h: &Host, name: &str, peer: &str) -> Result<(), i32> {
    let mut bytes = [0; 28];
    let n = encode_sockaddr(
        &format!("{peer}:{}", super::toy::PORT).parse().unwrap(),
        &mut bytes,
    );
    sim.ioctl_data(h, name, SIOCSWG, &mut bytes[..n]).map(drop)
}

fn pair(seed: u64) -> Pair {
    let sim = loaded(seed);
    let a = sim.host("a", &["192.0.2.1", "2001:db8::1"]);
    let b = sim.host("b", &["192.0.2.2", "2001:db8::2"]);
    for (h, peer) in [(&a, "192.0.2.2"), (&b, "192.0.2.1")] {
        assert_eq!(sim.create(h, "wg0"), Ok("wg0".into()));
        set_peer(&sim, h, "wg0", peer).unwrap();
        sim.set_up(h, "wg0", true).unwrap();
    }
    Pair { sim, a, b }
}

impl Pair {
    fn finish(self) {
        self.sim.finish();
    }
}

fn ipv4(len: usize) -> Vec<u8> {
    let mut p = vec![0; len.max(20)];
    p[0] = 0x45;
    p[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    p[8] = 64;
    p[9] = 17;
    p[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    p
}

fn ipv6(len: usize) -> Vec<u8> {
    let mut p = vec![0; len.max(40)];
    p[0] = 0x60;
    p[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
    p[6] = 17;
    p[7] = 64;
    p[23] = 1;
    p[39] = 2;
    p
}

#[test]
fn life() {
    let p = pair(1);
    let ifp = p.sim.interface(&p.a, "wg0");
    assert!(ifp.is_up() && ifp.is_running());
    assert_eq!((ifp.mtu(), ifp.link_state()), (1420, 2));
    p.sim.set_up(&p.a, "wg0", false).unwrap();
    assert!(!ifp.is_running());
    p.sim.destroy(&p.a, "wg0").unwrap();
    drop(ifp);
    assert_eq!(p.sim.destroy(&p.a, "wg0"), Err(ENXIO));
    p.finish();
}

#[test]
fn ioctls() {
    let p = pair(2);
    let Pair { sim, a, .. } = &p;
    let mut buf = [0; 64];
    let n = sim.ioctl_data(a, "wg0", SIOCGWG, &mut buf).unwrap();
    assert_eq!((n, &buf[..8]), (16, &[16, 2, 3, 232, 192, 0, 2, 2][..]));
    assert_eq!(as_user(|| set_peer(sim, a, "wg0", "192.0.2.9")), Err(EPERM));
    assert_eq!(sim.ioctl_data(a, "wg0", SIOCSWG, &mut [0; 65]), Err(E2BIG));
    assert_eq!(sim.ioctl_data(a, "wg0", SIOCSWG, &mut [0; 16]), Err(EINVAL));

    let mut ifreq = [0; 32];
    ifreq[..3].copy_from_slice(b"wg0");
    assert_eq!(sim.ioctl(a, SIOCGTUNFIB, &mut ifreq), Ok(()));
    assert_eq!(sim.ioctl(a, 0xc020_69ff, &mut ifreq), Err(ENOTTY));
    // The kernel's own calls have another argument or none: the driver cannot read it as something
    // else.
    assert_eq!(sim.ioctl(a, SIOCADDMULTI, &mut ifreq), Ok(()));
    // The command of a 32-bit process.
    assert_eq!(sim.ioctl(a, 0xc018_69d2, &mut ifreq[..24]), Err(ENOTTY));

    let fresh = sim.create(a, "wg").unwrap();
    assert_eq!(sim.ioctl_data(a, &fresh, SIOCGWG, &mut buf), Err(ENOENT));
    p.finish();
}

#[test]
fn packets_pass() {
    for seed in 0..seeds(50) {
        let p = pair(seed);
        let Pair { sim, a, b } = &p;
        for (n, packet) in [ipv4(100), ipv6(1000), ipv4(28), ipv6(40)]
            .iter()
            .enumerate()
        {
            sim.output(a, "wg0", packet).unwrap();
            sim.run_for(Duration::from_millis(100));
            let got = sim.delivered(b, "wg0");
            assert_eq!(got.len(), 1, "seed {seed}, packet {n}");
            assert_eq!(&got[0].packet, packet, "seed {seed}, packet {n}");
            assert!(got[0].checksums_valid);
        }
        let ifp = sim.interface(a, "wg0");
        assert_eq!((ifp.counter(2), ifp.counter(6)), (4, 1168));
        drop(ifp);
        let ifp = sim.interface(b, "wg0");
        assert_eq!((ifp.counter(0), ifp.counter(5)), (4, 1168));
        drop(ifp);
        p.finish();
    }
}

#[test]
fn packets_over_ipv6() {
    let p = pair(3);
    let Pair { sim, a, b } = &p;
    set_peer(sim, a, "wg0", "[2001:db8::2]").unwrap();
    sim.output(a, "wg0", &ipv4(1420)).unwrap();
    sim.run_for(Duration::from_secs(1));
    assert_eq!(sim.delivered(b, "wg0").len(), 1);
    p.finish();
}

#[test]
fn route_overrides() {
    let p = pair(4);
    let Pair { sim, a, b } = &p;
    let route = |mtu| RouteArg {
        mtu,
        ..RouteArg::default()
    };
    assert_eq!(
        sim.output_routed(a, "wg0", &ipv4(1000), route(900)),
        Err(EMSGSIZE)
    );
    assert_eq!(sim.icmp(a).len(), 1);
    // Larger than the interface's, for sockets that have their own idea.
    sim.output_routed(a, "wg0", &ipv4(1500), route(1600))
        .unwrap();
    sim.run_for(Duration::from_secs(1));
    assert_eq!(sim.delivered(b, "wg0").len(), 1);
    p.finish();
}

/// What a bpf(4) writer can do: any length, any family, in both forms of the header.
#[test]
fn bpf_writes() {
    let p = pair(5);
    let Pair { sim, a, b } = &p;
    let mut sent = 0;
    for form in [0, 31] {
        for af in [0, 1, 2, 28, 31, 255, 0x0200_0000, u32::MAX] {
            for len in [0, 1, 4, 19, 20, 21, 27, 39, 40, 41, 60, 1420, 1421] {
                for first in [0x45, 0x60, 0x4f, 0x00, 0xff] {
                    let mut packet = vec![first; len];
                    if let Some(b) = packet.get_mut(2) {
                        *b = 0;
                    }
                    let mut sa = [0; 16];
                    sa[1] = form;
                    sa[2..6].copy_from_slice(&af.to_ne_bytes());
                    let result = sim.kernel().output_raw(a, "wg0", &packet, &sa);
                    let fits = match af {
                        2 => first >> 4 == 4,
                        28 => first >> 4 == 6,
                        _ => false,
                    };
                    let want = match len {
                        _ if af != 2 && af != 28 => Err(EAFNOSUPPORT),
                        0 => Err(EINVAL),
                        _ if !fits => Err(EAFNOSUPPORT),
                        1421 => Err(EMSGSIZE),
                        _ => Ok(()),
                    };
                    assert_eq!(
                        result, want,
                        "form {form}, family {af}, {len} bytes of {first:#x}"
                    );
                    sent += u64::from(result.is_ok());
                }
            }
        }
    }
    sim.run_for(Duration::from_secs(1));
    let lost = sim.interface(b, "wg0").counter(9);
    assert_eq!(sim.delivered(b, "wg0").len() as u64 + lost, sent);
    p.finish();
}

#[test]
fn loops_are_cut() {
    let p = pair(6);
    let Pair { sim, a, .. } = &p;
    // The way to the peer leads into the tunnel itself.
    sim.route(a, "192.0.2.2", 32, "wg0").unwrap();
    let result = sim.output(a, "wg0", &ipv4(100));
    assert!(matches!(result, Ok(()) | Err(ELOOP)), "{result:?}");
    sim.run_for(Duration::from_secs(1));
    assert!(sim.interface(a, "wg0").counter(3) >= 1);
    p.finish();
}

#[test]
fn no_peer_gives_icmp() {
    let sim = loaded(7);
    let a = sim.host("a", &["192.0.2.1"]);
    sim.create(&a, "wg0").unwrap();
    sim.set_up(&a, "wg0", true).unwrap();
    for packet in [ipv4(28), ipv4(20), ipv6(40), ipv6(1280)] {
        assert_eq!(sim.output(&a, "wg0", &packet), Err(EHOSTUNREACH));
    }
    assert_eq!(sim.icmp(&a).len(), 4);
    // No header to answer to: a length that is none, and options that are not there.
    let (mut short, mut long, mut options) = (ipv4(28), ipv4(28), ipv4(28));
    short[3] = 19;
    long[3] = 29;
    options[0] = 0x4f;
    for packet in [short, long, options] {
        assert_eq!(sim.output(&a, "wg0", &packet), Err(EHOSTUNREACH));
    }
    assert_eq!(sim.icmp(&a).len(), 0);
    sim.finish();
}

#[test]
fn jail_goes() {
    let p = pair(8);
    let Pair { sim, a, .. } = &p;
    sim.kernel().remove_prison(a).unwrap();
    assert!(!sim.interface(a, "wg0").is_running());
    // The driver says EBUSY, which the kernel keeps for itself.
    sim.set_up(a, "wg0", true).unwrap();
    assert!(!sim.interface(a, "wg0").is_running());
    p.finish();
}

#[test]
fn moves_between_vnets() {
    let p = pair(9);
    let Pair { sim, a, b } = &p;
    let c = sim.host("c", &["192.0.2.3"]);
    sim.kernel().move_to(a, "wg0", &c).unwrap();
    assert!(!sim.interface(&c, "wg0").is_running());
    sim.set_up(&c, "wg0", true).unwrap();
    // Its sockets are still at home.
    sim.output(&c, "wg0", &ipv4(100)).unwrap();
    sim.run_for(Duration::from_secs(1));
    assert_eq!(sim.delivered(b, "wg0").len(), 1);
    p.finish();
}

#[test]
fn sysctls() {
    let sim = loaded(10);
    let a = sim.host("a", &["192.0.2.1"]);
    sim.create(&a, "wg0").unwrap();
    let k = sim.kernel();
    assert_eq!(k.sysctl_number("net.wg.limit"), Ok(16));
    assert_eq!(k.set_sysctl("net.wg.limit", 65), Err(EINVAL));
    assert_eq!(k.set_sysctl("net.wg.limit", 64), Ok(()));
    assert_eq!(k.sysctl_number("net.wg.limit"), Ok(64));
    assert!(k.set_sysctl("net.wg.created", 5).is_err());
    assert_eq!(k.sysctl_number("net.wg.twice"), Ok(2));
    assert_eq!(k.sysctl_text("net.wg.about"), Ok("toy, 1 made".into()));
    sim.finish();
}

/// Destroys and unloads while packets and timers are under way.
#[test]
fn ends_under_traffic() {
    for seed in 0..seeds(60) {
        let p = pair(seed);
        let Pair { sim, a, b } = &p;
        sim.preempt_one_in(3);
        for _ in 0..20 {
            let _ = sim.output(a, "wg0", &ipv4(100));
            let _ = sim.output(b, "wg0", &ipv6(200));
            sim.run_for(Duration::from_micros(seed * 37));
        }
        if seed % 3 == 0 {
            sim.destroy(b, "wg0").unwrap();
        } else if seed % 3 == 1 {
            sim.set_up(b, "wg0", false).unwrap();
        }
        let _ = sim.output(a, "wg0", &ipv4(100));
        p.finish();
    }
}

/// Every allocation of load, create, configure, up, send, destroy, unload fails once.
#[test]
fn every_allocation_fails_once() {
    for n in 1.. {
        let sim = Sim::new(n);
        let a = sim.host("a", &["192.0.2.1"]);
        sim.shapes(false);
        sim.fail_nth(n);
        let done = sim.load(linked_module!()).is_ok()
            && sim.create(&a, "wg0").is_ok()
            && set_peer(&sim, &a, "wg0", "192.0.2.2").is_ok()
            && sim.set_up(&a, "wg0", true).is_ok()
            && sim.output(&a, "wg0", &ipv4(100)).is_ok();
        sim.run_for(Duration::from_secs(1));
        sim.fail_nth(0);
        let _ = sim.unload();
        sim.run_until_idle();
        sim.kernel().assert_no_leaks();
        if done {
            assert!(n > 10, "{n} allocations are too few to be true");
            return;
        }
    }
}
