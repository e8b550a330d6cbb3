// SPDX-License-Identifier: BSD-2-Clause
//! Two interfaces in one process on a simulated network, for systems where no TUN device may be made.
//!
//! What is simulated is the network, the clock and the scheduler. The driver, its wrappers and the way of
//! configuration are those of `wgd` and of the kernel module.

mod packets;
mod show;

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use hostkern::sim::{Host, Link, Sim};
use nv::wgconf::GetReply;
use zeroize::Zeroizing;

use crate::convert::{DriverErrno, decode, encode};
use crate::instance::{SIOCGWG, SIOCSWG};
use crate::uapi::{Decoder, Event, Request};

/// Name of the interface on either host.
const IFNAME: &str = "wg0";
/// Packets of the stream, and the bytes in each.
const STREAM: usize = 20_000;
const PAYLOAD: usize = 1392;
/// Packets handed over before the simulation goes on, as an application's write would.
const BURST: usize = 64;

/// One of the two hosts.
struct Side {
    host: Host,
    name: &'static str,
    /// On the simulated internet.
    outer: IpAddr,
    /// Inside the tunnel.
    inner: Ipv4Addr,
    private: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

/// Runs the demonstration with this seed and prints what happens.
///
/// # Errors
/// What did not work.
pub fn run(seed: u64) -> Result<(), String> {
    let began = Instant::now();
    let sim = Sim::new(seed);
    // Whole packets, as from a TUN device; the tests see to the odd ones.
    sim.shapes(false);
    sim.load(crate::thunk::module()).map_err(driver)?;
    say(
        &sim,
        format_args!("driver loaded into a simulated kernel (seed {seed})"),
    );

    let mut alice = side(&sim, "alice", [192, 0, 2, 1], [10, 0, 0, 1])?;
    let mut bob = side(&sim, "bob", [192, 0, 2, 2], [10, 0, 0, 2])?;
    let link = Link {
        delay: Duration::from_millis(10),
        ..Link::default()
    };
    sim.link(&alice.host, &bob.host, link.clone());
    keys(&sim, &mut alice, 1)?;
    keys(&sim, &mut bob, 2)?;
    peer(&sim, &alice, &bob, true)?;
    peer(&sim, &bob, &alice, false)?;
    for side in [&alice, &bob] {
        sim.set_up(&side.host, IFNAME, true).map_err(driver)?;
    }
    say(
        &sim,
        "wg0 on alice and wg0 on bob configured through the text protocol, and up",
    );

    ping(&sim, &alice, &bob)?;
    ping(&sim, &bob, &alice)?;
    let whole = stream(&sim, &alice, &bob)?;
    if whole != STREAM {
        return Err(format!(
            "{} packets were lost on a network that loses none",
            STREAM - whole
        ));
    }

    let bad = Link {
        loss: 0.02,
        duplicate: 0.02,
        jitter: Duration::from_millis(2),
        ..link
    };
    sim.link(&alice.host, &bob.host, bad);
    say(&sim, "the network now loses, doubles and reorders packets");
    let most = stream(&sim, &bob, &alice)?;
    if most < STREAM * 9 / 10 {
        return Err(format!("only {most} of {STREAM} packets arrived"));
    }

    sim.run_for(Duration::from_secs(200));
    say(&sim, "200 quiet seconds later the session has expired");
    sim.link(&alice.host, &bob.host, Link::default());
    ping(&sim, &alice, &bob)?;

    for side in [&alice, &bob] {
        println!("\n{}:", side.name);
        print!(
            "{}",
            show::summary(&configuration(&sim, side)?, &side.public)
        );
        sim.destroy(&side.host, IFNAME).map_err(driver)?;
    }
    println!();
    sim.finish();
    println!(
        "All memory, locks and packets of the driver are given back. Took {:.1} s.",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

fn driver(errno: i32) -> String {
    format!("the driver says: {}", DriverErrno(errno))
}

/// A line of progress with the virtual time.
fn say(sim: &Sim, what: impl Display) {
    println!(
        "[{:>9.3} s] {what}",
        Duration::from_nanos(sim.now()).as_secs_f64()
    );
}

fn side(sim: &Sim, name: &'static str, outer: [u8; 4], inner: [u8; 4]) -> Result<Side, String> {
    let outer = IpAddr::from(outer);
    let host = sim.host(name, &[&outer.to_string()]);
    sim.create(&host, IFNAME).map_err(driver)?;
    let (inner, private) = (Ipv4Addr::from(inner), Zeroizing::new([0; 32]));
    Ok(Side {
        host,
        name,
        outer,
        inner,
        private,
        public: [0; 32],
    })
}

/// Gives the side a private key, which need not be secret, and asks for the public one.
fn keys(sim: &Sim, side: &mut Side, seed: u8) -> Result<(), String> {
    side.private.fill(seed);
    let port = 51820;
    set(
        sim,
        side,
        &format!("private_key={}\nlisten_port={port}\n", hex(&*side.private)),
    )?;
    let nvlist = nvlist(sim, side)?;
    let reply = GetReply::parse(&nvlist).map_err(|e| e.to_string())?;
    side.public = *reply.public_key.ok_or("the driver made no public key")?;
    Ok(())
}

/// Tells `of` about `other`; where it is, only if asked to, since it is learned from the handshake.
fn peer(sim: &Sim, of: &Side, other: &Side, endpoint: bool) -> Result<(), String> {
    let mut text = format!(
        "public_key={}\nallowed_ip={}/32\n",
        hex(&other.public),
        other.inner
    );
    if endpoint {
        text += &format!("endpoint={}:51820\n", other.outer);
    }
    set(sim, of, &text)
}

/// A `set` request, on the way that one from the control socket takes.
fn set(sim: &Sim, side: &Side, lines: &str) -> Result<(), String> {
    let text = Zeroizing::new(format!("set=1\n{lines}\n"));
    match Decoder::new(|_| None).feed(&mut text.as_bytes()) {
        Some(Event::Request(Request::Set(request))) => {
            let mut nvlist = encode(&request).map_err(|e| format!("{e:?}"))?;
            let done = sim.ioctl_data(&side.host, IFNAME, SIOCSWG, &mut nvlist);
            done.map(drop).map_err(driver)
        }
        Some(Event::Fault(_, fault)) => Err(fault.to_string()),
        _ => Err("not a request".into()),
    }
}

fn nvlist(sim: &Sim, side: &Side) -> Result<Zeroizing<Vec<u8>>, String> {
    let call = |buffer: &mut [u8]| sim.ioctl_data(&side.host, IFNAME, SIOCGWG, buffer);
    // Nothing else runs, so the size stands.
    let size = call(&mut []).map_err(driver)?;
    let mut nvlist = Zeroizing::new(vec![0; size]);
    call(&mut nvlist).map_err(driver)?;
    Ok(nvlist)
}

/// The text of a `get` reply.
fn configuration(sim: &Sim, side: &Side) -> Result<Zeroizing<String>, String> {
    let text = decode(&nvlist(sim, side)?).ok_or("the driver's reply makes no sense")?;
    String::from_utf8(text.to_vec())
        .map(Zeroizing::new)
        .map_err(|e| e.to_string())
}

/// Four echo requests; the other host's answer is made here, since no IP stack is part of the demonstration.
fn ping(sim: &Sim, from: &Side, to: &Side) -> Result<(), String> {
    for sequence in 0..4 {
        let sent = sim.now();
        let request = packets::echo(from.inner, to.inner, sequence, false);
        sim.output(&from.host, IFNAME, &request).map_err(driver)?;
        let got = arrive(sim, to)?;
        if got != request {
            return Err(format!(
                "{} got another packet than {} sent",
                to.name, from.name
            ));
        }
        let reply = packets::echo(to.inner, from.inner, sequence, true);
        sim.output(&to.host, IFNAME, &reply).map_err(driver)?;
        if arrive(sim, from)? != reply {
            return Err(format!("{} got a wrong answer", from.name));
        }
        let time = Duration::from_nanos(sim.now() - sent).as_secs_f64() * 1000.0;
        let (a, b) = (from.name, to.name);
        say(
            sim,
            format_args!(
                "{a} pings {b} ({}): seq={sequence} time={time:.2} ms",
                to.inner
            ),
        );
    }
    Ok(())
}

/// The next packet out of the side's tunnel.
fn arrive(sim: &Sim, side: &Side) -> Result<Vec<u8>, String> {
    let mut got = Vec::new();
    sim.run_until(Duration::from_secs(10), || {
        got.extend(sim.delivered(&side.host, IFNAME));
        !got.is_empty()
    });
    match got.pop() {
        Some(delivered) => Ok(delivered.packet),
        None => Err(format!("nothing arrived at {} within 10 s", side.name)),
    }
}

/// Many numbered datagrams one way. Returns how many arrived; a wrong or repeated one is an error.
fn stream(sim: &Sim, from: &Side, to: &Side) -> Result<usize, String> {
    let (began, virtual_begin) = (Instant::now(), sim.now());
    let mut seen = vec![false; STREAM];
    let mut count = 0;
    let mut next = 0;
    while next < STREAM {
        for _ in 0..BURST.min(STREAM - next) {
            let packet = packets::numbered(from.inner, to.inner, next, PAYLOAD);
            sim.output(&from.host, IFNAME, &packet).map_err(driver)?;
            next += 1;
        }
        sim.run_for(Duration::from_micros(200));
        count += check(sim, to, &mut seen)?;
    }
    sim.run_for(Duration::from_secs(1));
    count += check(sim, to, &mut seen)?;
    let wall = began.elapsed().as_secs_f64();
    let mbits = (count * PAYLOAD * 8) as f64 / 1e6;
    let took = Duration::from_nanos(sim.now() - virtual_begin).as_secs_f64() - 1.0;
    say(
        sim,
        format_args!(
            "{} streams to {}: {count} of {STREAM} packets, {mbits:.0} Mbit in {took:.2} s of virtual \
             and {wall:.2} s of real time",
            from.name, to.name
        ),
    );
    Ok(count)
}

fn check(sim: &Sim, to: &Side, seen: &mut [bool]) -> Result<usize, String> {
    let mut count = 0;
    for delivered in sim.delivered(&to.host, IFNAME) {
        let number = packets::number(&delivered.packet).ok_or("a packet was damaged")?;
        match seen.get_mut(number) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(format!("packet {number} came twice")),
        }
        count += 1;
    }
    Ok(count)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
