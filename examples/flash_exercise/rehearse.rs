//! The same job on a chip in memory, to count the engine's own instructions: no kernel, no root.

use anyhow::{Context as _, ensure};
use firmcast::flash::{Geometry, Job, Outcome, SimulatedFlash, WriteRule};

use super::{run, sign};

/// Size of the eraseblocks of the chip in memory.
const BLOCK_BYTES: u32 = 4096;

/// Brings a chip that holds `old` to `new`.
pub(super) fn rehearse(old: &str, new: &str) -> anyhow::Result<()> {
    let read = |file: &str| std::fs::read(file).with_context(|| format!("cannot read {file}"));
    let (old, new) = (read(old)?, read(new)?);
    let image = sign(new, Vec::new())?;
    let geometry = Geometry::uniform(old.len() as u64, BLOCK_BYTES, 1, WriteRule::ClearBits)?;
    let mut chip = SimulatedFlash::new(geometry, old);
    let end = run(Job::new(image), &mut chip)?;
    println!("{end} ({:?})", end.statistics);
    ensure!(end.outcome == Outcome::Updated, "{end}: {:?}", end.error);
    Ok(())
}
