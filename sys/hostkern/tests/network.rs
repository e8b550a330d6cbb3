// SPDX-License-Identifier: BSD-2-Clause
//! The virtual network, through sockets as the driver opens them.

mod common;

use std::ffi::c_void;
use std::net::SocketAddr;
use std::ptr;
use std::sync::Mutex;
use std::time::Duration;

use hostkern::backend::Family;
use hostkern::mbuf::{m_copydata, m_freem};
use hostkern::sim::{Host, Link, Sim, for_seeds};
use hostkern::socket::*;
use hostkern::{Packet, crfree, kpi_cred_current};

/// What a socket has received: source, destination, payload.
type Log = Mutex<Vec<(SocketAddr, SocketAddr, Vec<u8>)>>;

struct Sock {
    so: *const Socket,
    port: u16,
    log: *mut Log,
}

fn address(sa: &[u8]) -> SocketAddr {
    let port = u16::from_be_bytes([sa[2], sa[3]]);
    if sa[1] == 2 {
        let ip: [u8; 4] = sa[4..8].try_into().unwrap();
        SocketAddr::new(ip.into(), port)
    } else {
        let ip: [u8; 16] = sa[8..24].try_into().unwrap();
        SocketAddr::new(ip.into(), port)
    }
}

fn raw(a: &SocketAddr) -> [u8; 28] {
    let mut b = [0; 28];
    b[2..4].copy_from_slice(&a.port().to_be_bytes());
    match a {
        SocketAddr::V4(a) => {
            (b[0], b[1]) = (16, 2);
            b[4..8].copy_from_slice(&a.ip().octets());
        }
        SocketAddr::V6(a) => {
            (b[0], b[1]) = (28, 28);
            b[8..24].copy_from_slice(&a.ip().octets());
        }
    }
    b
}

unsafe extern "C-unwind" fn input(
    m: *mut hostkern::layout::mbuf,
    off: i32,
    _inp: *mut c_void,
    sa: *const u8,
    log: *mut c_void,
) -> bool {
    // SAFETY: the callback's contract: a packet that starts at its IP header, two sockaddrs, our
    // log.
    unsafe {
        let n = usize::from(*sa);
        let both = std::slice::from_raw_parts(sa, 2 * n);
        // The headers are contiguous in front.
        assert!((*m).m_len >= off + 8);
        let mut all = vec![0u8; (*m).len as usize];
        m_copydata(m, 0, all.len() as i32, all.as_mut_ptr());
        let v4 = n == 16;
        assert_eq!(off, if v4 { 20 } else { 40 });
        let udp = &all[off as usize..];
        let (src, dst) = (address(&both[..n]), address(&both[n..]));
        assert_eq!(u16::from_be_bytes([udp[0], udp[1]]), src.port());
        assert_eq!(u16::from_be_bytes([udp[2], udp[3]]), dst.port());
        assert_eq!(usize::from(u16::from_be_bytes([udp[4], udp[5]])), udp.len());
        if v4 {
            assert_eq!(usize::from(u16::from_be_bytes([all[2], all[3]])), all.len());
        }
        let log = &*log.cast::<Log>();
        log.lock().unwrap().push((src, dst, udp[8..].to_vec()));
        m_freem(m);
    }
    true
}

fn open(sim: &Sim, h: &Host, af: i32, port: u16) -> Result<Sock, i32> {
    sim.process(h, || {
        let log: *mut Log = Box::into_raw(Box::default());
        let (mut so, mut bound) = (ptr::null(), 0);
        let arg = log.cast();
        // SAFETY: the callback's log lives until `close`.
        unsafe {
            let cred = kpi_cred_current();
            let e = kpi_udp_open(af, port, 0, 0, cred, Some(input), arg, &mut so, &mut bound);
            crfree(cred);
            if e == 0 {
                Ok(Sock {
                    so,
                    port: bound,
                    log,
                })
            } else {
                drop(Box::from_raw(log));
                Err(e)
            }
        }
    })
}

impl Sock {
    fn send(&self, sim: &Sim, h: &Host, dst: &str, src: Option<&str>, data: &[u8]) -> i32 {
        let dst = raw(&dst.parse().unwrap());
        let src = src.map(|s| raw(&SocketAddr::new(s.parse().unwrap(), 0)));
        sim.process(h, || {
            // `send` takes the mbuf; a packet is made here because it needs a frame.
            let p = Packet::from_slice(data).unwrap();
            let m = p.into_raw();
            // SAFETY: an open socket, a packet of ours, whole addresses.
            unsafe {
                let src = src.as_ref().map_or(ptr::null(), |s| s.as_ptr());
                kpi_udp_send(self.so, m, dst.as_ptr(), src)
            }
        })
    }

    fn take(&self) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        // SAFETY: the log lives until `close`.
        std::mem::take(&mut unsafe { &*self.log }.lock().unwrap())
    }

    fn close(self, sim: &Sim, h: &Host) {
        // SAFETY: open; no callback runs in simulation after the close, so the log may go.
        sim.process(h, || unsafe {
            kpi_udp_close(self.so);
            drop(Box::from_raw(self.log));
        });
    }
}

#[test]
fn datagrams_of_both_families() {
    for_seeds(10, |seed| {
        let sim = Sim::new(seed);
        let a = sim.host("a", &["192.0.2.1", "2001:db8::1"]);
        let b = sim.host("b", &["192.0.2.2", "2001:db8::2"]);
        let (a4, a6) = (
            open(&sim, &a, 2, 0).unwrap(),
            open(&sim, &a, 28, 51820).unwrap(),
        );
        let (b4, b6) = (
            open(&sim, &b, 2, 1000).unwrap(),
            open(&sim, &b, 28, 1000).unwrap(),
        );
        assert_ne!(a4.port, 0);
        for n in [0, 1, 148, 1420, 9000, 60000] {
            let data: Vec<u8> = (0..n).map(|i| i as u8).collect();
            assert_eq!(a4.send(&sim, &a, "192.0.2.2:1000", None, &data), 0);
            assert_eq!(a6.send(&sim, &a, "[2001:db8::2]:1000", None, &data), 0);
            sim.run_until_idle();
            let got = b4.take();
            assert_eq!(got.len(), 1);
            assert_eq!(
                got[0].0,
                SocketAddr::new("192.0.2.1".parse().unwrap(), a4.port)
            );
            assert_eq!(got[0].1, "192.0.2.2:1000".parse().unwrap());
            assert_eq!(got[0].2, data);
            assert_eq!(b6.take()[0].0, "[2001:db8::1]:51820".parse().unwrap());
        }
        for (s, h) in [(a4, &a), (a6, &a), (b4, &b), (b6, &b)] {
            s.close(&sim, h);
        }
        sim.finish();
    });
}

#[test]
fn errors_of_bind_and_send() {
    let sim = Sim::new(1);
    let a = sim.host("a", &["192.0.2.1"]);
    let b = sim.host("b", &["192.0.2.2"]);
    let s = open(&sim, &a, 2, 5000).unwrap();
    assert_eq!(open(&sim, &a, 2, 5000).err(), Some(48));
    // The other family and the other host have their own ports.
    open(&sim, &a, 28, 5000).unwrap().close(&sim, &a);
    open(&sim, &b, 2, 5000).unwrap().close(&sim, &b);
    assert_eq!(s.send(&sim, &a, "192.0.2.2:1", Some("192.0.2.9"), b"x"), 49);
    assert_eq!(s.send(&sim, &a, "192.0.2.2:1", Some("192.0.2.1"), b"x"), 0);
    assert_eq!(s.send(&sim, &a, "[2001:db8::1]:1", None, b"x"), 47);
    assert_eq!(s.send(&sim, &a, "192.0.2.2:1", None, &[0; 65508]), 40);
    assert_eq!(s.send(&sim, &a, "192.0.2.2:0", None, b"x"), 49);
    sim.link_one_way(
        &a,
        &b,
        Link {
            unreachable: true,
            ..Link::default()
        },
    );
    assert_eq!(s.send(&sim, &a, "192.0.2.2:1", None, b"x"), 65);
    s.close(&sim, &a);
    // The port is free again.
    open(&sim, &a, 2, 5000).unwrap().close(&sim, &a);
    sim.finish();
}

#[test]
fn faults_happen_at_about_their_rates() {
    let sim = Sim::new(5);
    let a = sim.host("a", &["192.0.2.1"]);
    let b = sim.host("b", &["192.0.2.2"]);
    sim.link(
        &a,
        &b,
        Link {
            loss: 0.2,
            duplicate: 0.1,
            corrupt: 0.1,
            mtu: 1000,
            ..Link::default()
        },
    );
    let (s, r) = (open(&sim, &a, 2, 1).unwrap(), open(&sim, &b, 2, 2).unwrap());
    let count = if cfg!(miri) { 20 } else { 1000 };
    for _ in 0..count {
        s.send(&sim, &a, "192.0.2.2:2", None, &[0; 100]);
    }
    s.send(&sim, &a, "192.0.2.2:2", None, &[0; 1000]);
    sim.run_until_idle();
    let n = sim.stats();
    let got = r.take();
    assert!(cfg!(miri) || (150..250).contains(&n.lost), "{n:?}");
    assert!(cfg!(miri) || (50..120).contains(&n.duplicated), "{n:?}");
    assert_eq!(n.too_big, 1);
    assert_eq!(got.len() as u64, n.delivered);
    assert_eq!(
        got.iter().filter(|d| d.2 != [0; 100]).count() as u64,
        n.corrupted
    );
    s.close(&sim, &a);
    r.close(&sim, &b);
    sim.finish();
}

#[test]
fn nat_maps_filters_and_forgets() {
    let sim = Sim::new(9);
    let nat = sim.nat(&["198.51.100.1"], Duration::from_secs(30));
    let a = sim.host_behind(nat, "a", &["10.0.0.2"]);
    let c = sim.host_behind(nat, "c", &["10.0.0.3"]);
    let b = sim.host("b", &["192.0.2.2"]);
    let x = sim.host("x", &["192.0.2.3"]);
    let (sa, sc) = (
        open(&sim, &a, 2, 5000).unwrap(),
        open(&sim, &c, 2, 5000).unwrap(),
    );
    let (sb, sx) = (
        open(&sim, &b, 2, 6000).unwrap(),
        open(&sim, &x, 2, 6000).unwrap(),
    );
    sa.send(&sim, &a, "192.0.2.2:6000", None, b"1");
    sim.run_until_idle();
    let seen = sb.take()[0].0;
    assert_eq!(seen, "198.51.100.1:5000".parse().unwrap());
    // The other inside host gets another port.
    sc.send(&sim, &c, "192.0.2.2:6000", None, b"2");
    sim.run_until_idle();
    let other = sb.take()[0].0;
    assert_ne!(other.port(), 5000);
    // Answers pass, strangers do not.
    sb.send(&sim, &b, &seen.to_string(), None, b"answer");
    sx.send(&sim, &x, &seen.to_string(), None, b"stranger");
    sim.run_until_idle();
    let got = sa.take();
    assert_eq!(got.len(), 1);
    assert_eq!(
        (got[0].0, got[0].1),
        (
            "192.0.2.2:6000".parse().unwrap(),
            "10.0.0.2:5000".parse().unwrap()
        )
    );
    // After the timeout nothing passes inwards.
    sim.run_for(Duration::from_secs(31));
    sb.send(&sim, &b, &seen.to_string(), None, b"late");
    sim.run_until_idle();
    assert!(sa.take().is_empty());
    // A rebinding box shows another port for the same socket.
    sa.send(&sim, &a, "192.0.2.2:6000", None, b"3");
    sim.rebind(nat);
    sa.send(&sim, &a, "192.0.2.2:6000", None, b"4");
    sim.run_until_idle();
    let ports: Vec<u16> = sb.take().iter().map(|d| d.0.port()).collect();
    assert_eq!(ports.len(), 2);
    assert_ne!(ports[0], ports[1]);
    // The two inside hosts talk to each other directly.
    sa.send(&sim, &a, "10.0.0.3:5000", None, b"5");
    sim.run_until_idle();
    assert_eq!(sc.take()[0].0, "10.0.0.2:5000".parse().unwrap());
    for (s, h) in [(sa, &a), (sc, &c), (sb, &b), (sx, &x)] {
        s.close(&sim, h);
    }
    sim.finish();
}

#[test]
fn roaming() {
    let sim = Sim::new(11);
    let a = sim.host("a", &["192.0.2.1"]);
    let b = sim.host("b", &["192.0.2.2"]);
    let (sa, sb) = (open(&sim, &a, 2, 1).unwrap(), open(&sim, &b, 2, 2).unwrap());
    sim.move_host(&a, &["203.0.113.7"]);
    sa.send(&sim, &a, "192.0.2.2:2", None, b"hi");
    assert_eq!(
        sa.send(&sim, &a, "192.0.2.2:2", Some("192.0.2.1"), b"old"),
        49
    );
    // What is under way to the old address is lost.
    sb.send(&sim, &b, "203.0.113.7:1", None, b"x");
    sim.move_host(&a, &["203.0.113.8"]);
    sim.run_until_idle();
    assert_eq!(sb.take()[0].0, "203.0.113.7:1".parse().unwrap());
    assert!(sa.take().is_empty());
    sa.close(&sim, &a);
    sb.close(&sim, &b);
    sim.finish();
}

#[test]
fn a_test_plays_the_peer() {
    let sim = Sim::new(12);
    let a = sim.host("a", &["192.0.2.1"]);
    let t = sim.host("t", &["192.0.2.99"]);
    sim.listen(&t, Family::V4, 7);
    let s = open(&sim, &a, 2, 1).unwrap();
    s.send(&sim, &a, "192.0.2.99:7", None, b"ping");
    sim.send_datagram(&t, 7, "192.0.2.1:1".parse().unwrap(), b"pong")
        .unwrap();
    sim.spoof_datagram(
        &t,
        "198.51.100.66:66".parse().unwrap(),
        "192.0.2.1:1".parse().unwrap(),
        b"spoofed",
    );
    let mut seen = 0;
    sim.on_wire(move |d| {
        seen += 1;
        d.payload != b"blocked" && seen < 100
    });
    s.send(&sim, &a, "192.0.2.99:7", None, b"blocked");
    sim.run_until_idle();
    let got = sim.take_datagrams(&t, Family::V4, 7);
    assert_eq!(got, [("192.0.2.1:1".parse().unwrap(), b"ping".to_vec())]);
    assert_eq!(s.take().len(), 2);
    s.close(&sim, &a);
    sim.finish();
}
