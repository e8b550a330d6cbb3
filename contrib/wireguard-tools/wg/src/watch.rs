// SPDX-License-Identifier: BSD-2-Clause
//! `wg show --watch`: what flows, peer by peer, again and again.
//!
//! On a terminal a table takes the screen's place. Elsewhere each round prints a line for every peer, with tabs:
//! Unix time, interface, public key, bytes received and sent per second, bytes received and sent altogether, Unix time
//! of the latest handshake (0 for never).

use std::collections::HashMap;
use std::io::{self, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

use wgtools::device::{Device, Peer};
use wgtools::key::PublicKey;
use wgtools::pretty::scaled;

use crate::out::{self, Out};
use crate::show;
use crate::{Outcome, Program};

/// How to watch.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Between two rounds.
    interval: Duration,
    /// Rounds to print; endless without.
    count: Option<u64>,
}

impl Options {
    /// Reads `--watch`, `--watch=SECONDS` and `--count=NUMBER`; `None` if they are not these.
    pub fn parse(options: &[&str]) -> Option<Options> {
        let mut interval = None;
        let mut count = None;
        for option in options {
            if *option == "--watch" {
                interval = Some(2.0);
            } else if let Some(seconds) = option.strip_prefix("--watch=") {
                let seconds: f64 = seconds.parse().ok()?;
                interval = Some(seconds).filter(|s| (0.1..=86400.0).contains(s));
                interval?;
            } else {
                let number: u64 = option.strip_prefix("--count=")?.parse().ok()?;
                count = Some(number).filter(|&n| n != 0);
                count?;
            }
        }
        Some(Options {
            interval: Duration::from_secs_f64(interval?),
            count,
        })
    }
}

/// Counters of an earlier round.
type Counters = HashMap<(String, PublicKey), (u64, u64)>;

/// Watches one interface or all, until the reader has enough.
pub fn watch(program: &Program, target: Option<&str>, options: &Options) -> Outcome {
    let terminal = out::is_terminal();
    let mut before: Option<(Instant, Counters)> = None;
    let mut round = 0;
    loop {
        let mut devices = Vec::new();
        let taken = Instant::now();
        show::each(program, target, |device, _| {
            devices.push(device);
            Ok(())
        })?;
        let counters = counters(&devices);
        // The first round has nothing to compare with, and is not printed.
        if let Some((then, counters)) = &before {
            let seconds = taken.duration_since(*then).as_secs_f64();
            let rows = rows(&devices, counters, seconds);
            let mut out = Out::new();
            if terminal {
                table(&mut out, &rows)
            } else {
                lines(&mut out, &rows)
            }?;
            out.finish()?;
            round += 1;
            if options.count.is_some_and(|count| round >= count) {
                return Ok(());
            }
        }
        before = Some((taken, counters));
        sleep(options.interval);
    }
}

fn counters(devices: &[Device]) -> Counters {
    let of_peer = |device: &Device, peer: &Peer| {
        (
            (device.name.clone(), peer.public_key),
            (peer.rx_bytes, peer.tx_bytes),
        )
    };
    devices
        .iter()
        .flat_map(|d| d.peers.iter().map(move |p| of_peer(d, p)))
        .collect()
}

/// A peer's line.
struct Row<'a> {
    interface: &'a str,
    peer: &'a Peer,
    /// Bytes per second received and sent.
    rates: (u64, u64),
}

fn rows<'a>(devices: &'a [Device], before: &Counters, seconds: f64) -> Vec<Row<'a>> {
    let rate = |now: u64, then: u64| (now.saturating_sub(then) as f64 / seconds).round() as u64;
    let mut rows = Vec::new();
    for device in devices {
        for peer in &device.peers {
            // A peer that is new, or new again, began at nothing.
            let key = (device.name.clone(), peer.public_key);
            let (rx, tx) = before.get(&key).copied().unwrap_or_default();
            let rates = (rate(peer.rx_bytes, rx), rate(peer.tx_bytes, tx));
            rows.push(Row {
                interface: &device.name,
                peer,
                rates,
            });
        }
    }
    rows
}

fn lines(out: &mut impl Write, rows: &[Row<'_>]) -> io::Result<()> {
    let now = show::now();
    for Row {
        interface,
        peer,
        rates: (rx, tx),
    } in rows
    {
        let Peer {
            public_key,
            rx_bytes,
            tx_bytes,
            ..
        } = peer;
        let handshake = peer.last_handshake.map_or(0, |(seconds, _)| seconds);
        writeln!(
            out,
            "{now}\t{interface}\t{public_key}\t{rx}\t{tx}\t{rx_bytes}\t{tx_bytes}\t{handshake}"
        )?;
    }
    Ok(())
}

fn table(out: &mut impl Write, rows: &[Row<'_>]) -> io::Result<()> {
    let now = show::now();
    // Home; each line clears what it leaves of the one below it, and the end clears the rest.
    let end = "\x1b[K\n";
    write!(out, "\x1b[H")?;
    write!(
        out,
        "{:<15} {:<44} {:>14} {:>14} {:>12} {:>12} {:>10}{end}",
        "interface", "peer", "received/s", "sent/s", "received", "sent", "handshake"
    )?;
    let mut sorted: Vec<&Row<'_>> = rows.iter().collect();
    sorted.sort_by_key(|row| std::cmp::Reverse(row.rates.0.saturating_add(row.rates.1)));
    for row in sorted {
        let handshake = match row.peer.last_handshake {
            Some((then, _)) => format!("{} s ago", now.saturating_sub(then)),
            None => "never".to_owned(),
        };
        let (rx, tx) = row.rates;
        write!(
            out,
            "{:<15} {:<44} {:>14} {:>14} {:>12} {:>12} {:>10}{end}",
            row.interface,
            row.peer.public_key,
            amount(rx),
            amount(tx),
            amount(row.peer.rx_bytes),
            amount(row.peer.tx_bytes),
            handshake
        )?;
    }
    write!(out, "\x1b[J")
}

fn amount(bytes: u64) -> String {
    let (number, unit) = scaled(bytes);
    format!("{number} {unit}")
}
