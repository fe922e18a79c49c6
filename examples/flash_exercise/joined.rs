//! Reads, writes and locks across the place where one chip ends and the next begins.

use anyhow::{Context as _, bail, ensure};
use firmcast::flash::{EraseBlock, Flash as _};
use firmcast::mtd::{Access, Chip, MtdDevice, MtdError};

/// How far the checks reach on either side, in bytes.
const REACH_BYTES: usize = 600;

/// Exercises the chips whose names `selector` joins; two eraseblocks of them are put back.
pub(super) fn joined(selector: &str) -> anyhow::Result<()> {
    let mut chip = Chip::open(selector, Access::Exclusive)?;
    let names: Vec<String> =
        chip.info().devices().iter().map(|device| device.name.clone()).collect();
    for name in &names {
        match MtdDevice::open(name, Access::Exclusive) {
            Err(MtdError::Locked { .. }) => {}
            other => bail!("{name} is not locked: {other:?}"),
        }
    }
    let joint = *chip.geometry().joints().first().context("there is one chip alone")?;
    let at = |offset_bytes| chip.geometry().block_at(offset_bytes).context("no such block");
    let (below, above) = (at(joint - 1)?, at(joint)?);
    ensure!(below.end_bytes() == joint && above.offset_bytes() == joint, "blocks cross the joint");
    let before = [contents(&mut chip, below)?, contents(&mut chip, above)?];

    for block in [below, above] {
        ensure!(!chip.is_bad(block)? && !chip.is_locked(block)?, "a block is bad or locked");
        chip.erase(block)?;
    }
    let start = joint - REACH_BYTES as u64;
    let data: Vec<u8> = (0..2 * REACH_BYTES).map(|at| at as u8 ^ 0x5a).collect();
    chip.write(start, &data)?;
    let mut read = vec![0; data.len()];
    chip.read(start, &mut read)?;
    ensure!(read == data, "what was written across the joint is not read there");
    let (mut low, mut high) = (vec![0; REACH_BYTES], vec![0; REACH_BYTES]);
    let [first, second, ..] = names.as_slice() else { bail!("expected two names") };
    MtdDevice::open(first, Access::ReadOnly)?.read(start, &mut low)?;
    MtdDevice::open(second, Access::ReadOnly)?.read(0, &mut high)?;
    ensure!([low, high].concat() == data, "the chips do not have their own parts of it");

    let range = (below.offset_bytes(), above.end_bytes() - below.offset_bytes());
    chip.protect(range.0, range.1)?;
    let locked = [chip.is_locked(below)?, chip.is_locked(above)?];
    chip.unlock(range.0, range.1)?;
    // QEMU's chips take the command and do not lock.
    ensure!(locked[0] == locked[1], "only one chip was locked: {locked:?}");

    for (block, before) in [below, above].into_iter().zip(before) {
        chip.erase(block)?;
        chip.write(block.offset_bytes(), &before)?;
        ensure!(contents(&mut chip, block)? == before, "a block was not put back");
    }
    let beyond = chip.read(chip.geometry().size_bytes() - 1, &mut [0; 2]);
    ensure!(beyond.is_err(), "more can be read than there is");
    println!("ok joined: {} at {joint:#x}", chip.info());
    Ok(())
}

fn contents(chip: &mut Chip, block: EraseBlock) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; block.length_bytes() as usize];
    chip.read(block.offset_bytes(), &mut bytes)?;
    Ok(bytes)
}
