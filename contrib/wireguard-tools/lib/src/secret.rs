// SPDX-License-Identifier: BSD-2-Clause
//! Files that hold keys, and a process that does.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::process::{Resource, Rlimit};
use zeroize::Zeroizing;

/// Sees to it that no memory of this process ends up in a core file, and that processes of the same user cannot read
/// it as a debugger does. A system that refuses is no reason to stop.
pub fn harden() {
    let _ = rustix::process::setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    );
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    #[cfg(target_os = "freebsd")]
    let _ = rustix::process::set_dumpable_behavior(
        None,
        rustix::process::DumpableBehavior::NotDumpable,
    );
}

/// Reads a whole file into memory that is wiped when dropped.
///
/// # Errors
/// The system's.
pub fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let expected = file.metadata().map_or(0, |m| m.len());
    read_all(file, usize::try_from(expected).unwrap_or(0))
}

/// Reads to the end. A vector that grows by itself would leave copies in freed memory.
///
/// # Errors
/// The reader's.
pub fn read_all(mut from: impl Read, expected: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut buffer = Zeroizing::new(vec![0; expected.clamp(4095, 1 << 30) + 1]);
    let mut len = 0;
    loop {
        if len == buffer.len() {
            let mut larger = Zeroizing::new(vec![0; 2 * len]);
            larger[..len].copy_from_slice(&buffer);
            buffer = larger;
        }
        match from.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    buffer.truncate(len);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_more_than_expected() {
        let data: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        assert_eq!(*read_all(&*data, 0).unwrap(), data);
        assert_eq!(*read_all(&*data, data.len()).unwrap(), data);
        assert!(read_all(&b""[..], 0).unwrap().is_empty());
    }
}
