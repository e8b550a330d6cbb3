// SPDX-License-Identifier: BSD-2-Clause
//! Writes the seeds to the corpora, beside what is there.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let seeds = wg_fuzz_targets::seeds::all();
    for (target, name, bytes) in &seeds {
        let folder = corpora.join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)?;
    }
    println!("{} seeds", seeds.len());
    Ok(())
}
