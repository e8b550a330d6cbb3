// SPDX-License-Identifier: BSD-2-Clause
//! Standard output.

use std::io::{self, IsTerminal, Write};

use zeroize::{Zeroize, Zeroizing};

use crate::Failure;

/// Bytes that are written at a time.
const CHUNK: usize = 1 << 16;

/// Standard output through a buffer that is wiped, since keys pass through it. The standard library's own would keep
/// them.
pub struct Out {
    /// Never grows.
    buffer: Zeroizing<Vec<u8>>,
}

impl Out {
    /// An empty buffer.
    pub fn new() -> Out {
        Out {
            buffer: Zeroizing::new(Vec::with_capacity(CHUNK)),
        }
    }

    /// Writes what is left.
    pub fn finish(mut self) -> Result<(), Failure> {
        Ok(self.flush()?)
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > CHUNK {
            self.flush()?;
        }
        let n = bytes.len().min(CHUNK);
        self.buffer.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut rest = &self.buffer[..];
        while !rest.is_empty() {
            match rustix::io::write(rustix::stdio::stdout(), rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => rest = &rest[n..],
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.buffer.as_mut_slice().zeroize();
        self.buffer.clear();
        Ok(())
    }
}

/// Reports that standard output does not work. One whose reader has left ends the program as it ends any other, by
/// SIGPIPE.
pub fn report(e: &io::Error) {
    if e.kind() == io::ErrorKind::BrokenPipe {
        let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGPIPE);
    }
    eprintln!("Unable to write: {}", wgtools::error_text(e));
}

/// Whether standard output is a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}
