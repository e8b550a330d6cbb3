// SPDX-License-Identifier: BSD-2-Clause
//! Seal and open of every packet backend, in place, on one core.
//!
//! Prints a line `backend operation bytes GB/s` for each; `tools/bench.py crypto` makes a table of
//! them. Packets are worked on in batches, as the driver's tasks do, and each figure is the best of
//! several rounds: what disturbs a round can only make it slower.

use std::time::{Duration, Instant};

use hostkern_malloc as _; // the allocator's symbols
use wg::messages::TAG_LEN;
use wg::wg_crypto::{Aead, BATCH, PORTABLE};

const SIZES: [usize; 4] = [64, 256, 1440, 8192];
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(60);

fn main() {
    backend(&PORTABLE);
    #[cfg(feature = "ring")]
    backend(&wg::wg_crypto::RING);
}

fn backend(aead: &'static dyn Aead) {
    for size in SIZES {
        let key = [7; 32];
        let mut packets = vec![vec![0u8; size + TAG_LEN]; BATCH];
        let mut best = [f64::MAX; 2];
        for _ in 0..ROUNDS {
            let mut spent = [Duration::ZERO; 2];
            let mut batches = 0u32;
            while spent[0] + spent[1] < ROUND {
                // What is sealed is opened again, so that each round begins with plaintext.
                spent[0] += time(aead, &mut packets, |p, counter| aead.seal(&key, counter, p));
                spent[1] += time(aead, &mut packets, |p, counter| aead.open(&key, counter, p));
                batches += 1;
            }
            for (best, spent) in best.iter_mut().zip(spent) {
                *best = best.min(spent.as_secs_f64() / f64::from(batches));
            }
        }
        for (operation, seconds) in ["seal", "open"].into_iter().zip(best) {
            let rate = (size * BATCH) as f64 / seconds / 1e9;
            println!("{} {operation} {size} {rate:.3}", aead.name());
        }
    }
}

/// How long `work` takes on every packet of a batch.
fn time(
    aead: &dyn Aead,
    packets: &mut [Vec<u8>],
    work: impl Fn(&mut [u8], u64) -> bool,
) -> Duration {
    let start = Instant::now();
    aead.batch(&mut || {
        for (counter, packet) in packets.iter_mut().enumerate() {
            assert!(work(packet, counter as u64), "{} failed", aead.name());
        }
    });
    start.elapsed()
}
