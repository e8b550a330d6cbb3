// SPDX-License-Identifier: BSD-2-Clause
//! What happened lately, for whoever has to understand a failure; and packets as a pcap file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// The last events and, if asked for, a packet dump.
pub(crate) struct Trace {
    lines: VecDeque<(u64, String)>,
    keep: usize,
    dump: Option<BufWriter<File>>,
    pub echo: bool,
}

impl Trace {
    pub fn new(keep: usize) -> Self {
        Self {
            lines: VecDeque::new(),
            keep,
            dump: None,
            echo: false,
        }
    }

    pub fn add(&mut self, now: u64, line: String) {
        if self.echo {
            eprintln!("{} {line}", stamp(now));
        }
        if self.lines.len() == self.keep {
            self.lines.pop_front();
        }
        self.lines.push_back((now, line));
    }

    /// The last events, oldest first.
    pub fn text(&self) -> String {
        self.lines
            .iter()
            .map(|(t, l)| format!("{} {l}\n", stamp(*t)))
            .collect()
    }

    /// Starts a pcap file of raw IP packets (LINKTYPE_RAW).
    pub fn open(&mut self, path: &Path) -> io::Result<()> {
        let mut f = BufWriter::new(File::create(path)?);
        f.write_all(&0xa1b2_3c4du32.to_le_bytes())?; // nanoseconds
        f.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
        f.write_all(&65535u32.to_le_bytes())?;
        f.write_all(&101u32.to_le_bytes())?;
        self.dump = Some(f);
        Ok(())
    }

    /// Writes a packet to the pcap file, if there is one.
    pub fn packet(&mut self, now: u64, ip: &[u8]) {
        let Some(f) = &mut self.dump else { return };
        let mut rec = Vec::with_capacity(16 + ip.len());
        rec.extend_from_slice(&((now / 1_000_000_000) as u32).to_le_bytes());
        rec.extend_from_slice(&((now % 1_000_000_000) as u32).to_le_bytes());
        rec.extend_from_slice(&(ip.len() as u32).to_le_bytes());
        rec.extend_from_slice(&(ip.len() as u32).to_le_bytes());
        rec.extend_from_slice(ip);
        // A full disk must not fail the test that is being looked at.
        let _ = f.write_all(&rec);
    }

    pub fn dumping(&self) -> bool {
        self.dump.is_some()
    }
}

fn stamp(now: u64) -> String {
    format!(
        "[{:6}.{:06}]",
        now / 1_000_000_000,
        now % 1_000_000_000 / 1000
    )
}
