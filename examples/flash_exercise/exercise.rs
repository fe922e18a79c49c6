//! What the engine promises, checked on a chip; its contents are put back at the end.

use std::fs::File;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use firmcast::flash::{
    End, EraseBlock, Flash, FlashError, Geometry, Job, Outcome, Placement, Step, WriteRule,
};
use firmcast::image::{Region, RegionAction};
use firmcast::mtd::{Access, MtdDevice, MtdError};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore as _, SeedableRng as _};

use super::{run, sign};

/// The chip under exercise.
struct Bench {
    device: String,
    chip: MtdDevice,
    rng: ChaCha20Rng,
    failed: bool,
}

type Check = fn(&mut Bench) -> anyhow::Result<String>;

/// Prints a line for each check; says whether all held.
pub(super) fn exercise(device: &str) -> anyhow::Result<bool> {
    match another_user(device) {
        Ok(detail) => println!("ok another user: {detail}"),
        Err(error) => bail!("another user: {error:#}"),
    }
    let chip = MtdDevice::open(device, Access::Exclusive)?;
    let mut bench = Bench {
        device: device.to_owned(),
        chip,
        rng: ChaCha20Rng::seed_from_u64(1),
        failed: false,
    };
    let original = bench.contents()?;
    let checks: [(&str, Check); 11] = [
        ("geometry", geometry),
        ("exclusive use", exclusive_use),
        ("sizes that do not fit", wrong_sizes),
        ("full rewrite", full_rewrite),
        ("rewrite of the same", same_again),
        ("differential rewrite", differential),
        ("bits that only go from 1 to 0", cleared_bits),
        ("preserved regions", preserved),
        ("a preserved region inside a changing block", preserved_inside),
        ("cancelled before the change", cancelled),
        ("bad blocks", bad_blocks),
    ];
    for (name, check) in checks {
        bench.report(name, check);
    }
    // On NAND, a block may have become bad since.
    if bench.contents()?.len() == original.len() {
        bench.put_back(original)?;
    }
    println!("ecc: {:?}", bench.chip.ecc_counters()?);
    Ok(!bench.failed)
}

impl Bench {
    fn report(&mut self, name: &str, check: Check) {
        match check(self) {
            Ok(detail) => println!("ok {name}: {detail}"),
            Err(error) => {
                println!("FAIL {name}: {error:#}");
                self.failed = true;
            }
        }
    }

    fn geometry(&self) -> Geometry {
        self.chip.geometry().clone()
    }

    fn blocks(&mut self) -> anyhow::Result<Vec<EraseBlock>> {
        let mut good = Vec::new();
        for block in self.geometry().blocks() {
            if !self.chip.is_bad(block)? {
                good.push(block);
            }
        }
        Ok(good)
    }

    /// What the good blocks hold, read in another way than the engine reads: in small pieces.
    fn contents(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut contents = Vec::new();
        for block in self.blocks()? {
            for at in (0..u64::from(block.length_bytes())).step_by(2048) {
                let mut piece = vec![0; 2048.min(block.length_bytes() as usize - at as usize)];
                self.chip.read(block.offset_bytes() + at, &mut piece)?;
                contents.extend(piece);
            }
        }
        Ok(contents)
    }

    /// Puts the contents of before the exercise back. A blank chip is no firmware: that must be
    /// refused, and a mark makes it acceptable.
    fn put_back(&mut self, mut original: Vec<u8>) -> anyhow::Result<()> {
        if original.iter().all(|byte| *byte == original[0]) {
            let end = self.flash(original.clone(), Vec::new())?;
            let refused = matches!(end.error, Some(FlashError::ImageInvalid { .. }));
            ensure!(refused && end.outcome == Outcome::Unchanged, "a blank image: {end}");
            println!("ok a blank image is refused");
            original[0] ^= 0x5A;
        }
        let end = self.flash(original, Vec::new())?;
        ensure!(end.outcome == Outcome::Updated, "cannot put the contents back: {end}");
        Ok(())
    }

    fn random_image(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut image = vec![0; self.contents()?.len()];
        self.rng.fill_bytes(&mut image);
        Ok(image)
    }

    fn flash(&mut self, image: Vec<u8>, regions: Vec<Region>) -> anyhow::Result<End> {
        run(Job::new(sign(image, regions)?), &mut self.chip)
    }

    /// Flashes and compares: what the chip holds then must be `image`, proven by the reads of
    /// `contents`.
    fn update(&mut self, image: &[u8]) -> anyhow::Result<End> {
        let end = self.flash(image.to_vec(), Vec::new())?;
        ensure!(end.outcome == Outcome::Updated, "{end}: {:?}", end.error);
        ensure!(self.contents()? == image, "the chip does not hold the image");
        Ok(end)
    }
}

fn geometry(bench: &mut Bench) -> anyhow::Result<String> {
    let geometry = bench.geometry();
    let end = geometry
        .blocks()
        .try_fold(0, |end, block| (block.offset_bytes() == end).then(|| block.end_bytes()));
    ensure!(end == Some(geometry.size_bytes()), "the eraseblocks do not cover the chip");
    let locked =
        geometry.blocks().filter(|block| bench.chip.is_locked(*block).unwrap_or(true)).count();
    Ok(format!(
        "{} \"{}\", {:#x} bytes, {} eraseblocks ({}), writes of {:#x} bytes, {:?}, {locked} locked",
        bench.chip.info().kind,
        bench.chip.info().name,
        geometry.size_bytes(),
        geometry.block_count(),
        if geometry.is_uniform() { "uniform" } else { "of several sizes" },
        geometry.write_bytes(),
        geometry.rule(),
    ))
}

fn exclusive_use(bench: &mut Bench) -> anyhow::Result<String> {
    match MtdDevice::open(&bench.device, Access::Exclusive) {
        Err(error @ MtdError::Locked { .. }) => Ok(error.to_string()),
        other => bail!("expected that the device is locked, got {other:?}"),
    }
}

/// A program that knows nothing of locks has the device open.
fn another_user(device: &str) -> anyhow::Result<String> {
    let node = MtdDevice::open(device, Access::ReadOnly)?.info().path();
    let mut user = Command::new("sleep").arg("30").stdin(File::open(node)?).spawn()?;
    let opened = MtdDevice::open(device, Access::Exclusive);
    user.kill()?;
    user.wait()?;
    match opened {
        Err(error @ MtdError::InUse { .. }) => Ok(error.to_string()),
        other => bail!("expected that the device is in use, got {other:?}"),
    }
}

fn wrong_sizes(bench: &mut Bench) -> anyhow::Result<String> {
    let before = bench.contents()?;
    let block_bytes = bench.blocks()?[0].length_bytes() as usize;
    let mut lengths = vec![bench.geometry().size_bytes() as usize + block_bytes];
    lengths.push(before.len() - block_bytes / 2);
    let mut sentence = String::new();
    for length in lengths {
        let end = bench.flash(vec![0x5A; length], Vec::new())?;
        ensure!(
            end.outcome == Outcome::Unchanged && end.reboot_is_safe(),
            "{length:#x} bytes: {end}"
        );
        sentence = end.error.context("refused without an error")?.to_string();
    }
    ensure!(bench.contents()? == before, "a refused image changed the chip");
    Ok(sentence)
}

fn full_rewrite(bench: &mut Bench) -> anyhow::Result<String> {
    let image = bench.random_image()?;
    let started = Instant::now();
    let end = bench.update(&image)?;
    ensure!(
        end.statistics.bytes_written == image.len() as u64 && end.statistics.retries == 0,
        "{:?}",
        end.statistics
    );
    Ok(format!("{} ms, {:?}", started.elapsed().as_millis(), end.statistics))
}

fn same_again(bench: &mut Bench) -> anyhow::Result<String> {
    let image = bench.contents()?;
    let end = bench.update(&image)?;
    ensure!(
        (end.statistics.erases, end.statistics.bytes_written) == (0, 0),
        "{:?}",
        end.statistics
    );
    ensure!(
        !end.contents_changed() && end.before_digest() == end.after_digest(),
        "the digests differ"
    );
    Ok("nothing erased, nothing written".to_owned())
}

fn differential(bench: &mut Bench) -> anyhow::Result<String> {
    let mut image = bench.contents()?;
    let block_bytes = bench.blocks()?[0].length_bytes() as usize;
    // Every seventh block gets new contents, the first half of them nothing but FFh.
    let mut changed = 0;
    for block in image.chunks_mut(block_bytes).step_by(7) {
        let half = block.len() / 2;
        bench.rng.fill_bytes(&mut block[half..]);
        block[..half].fill(0xFF);
        changed += 1;
    }
    let end = bench.update(&image)?;
    let statistics = end.statistics;
    ensure!(statistics.blocks_changed == changed, "{changed} blocks differ: {statistics:?}");
    ensure!(statistics.erases + statistics.erases_saved == changed, "{statistics:?}");
    if bench.geometry().rule() != WriteRule::Overwrite {
        ensure!(
            statistics.bytes_written == u64::from(changed) * block_bytes as u64 / 2,
            "{statistics:?}"
        );
    }
    Ok(format!("{statistics:?}"))
}

fn cleared_bits(bench: &mut Bench) -> anyhow::Result<String> {
    let mut image = bench.contents()?;
    let middle = image.len() / 2;
    image[middle..middle + 16].fill(0);
    let end = bench.update(&image)?;
    let erases = u32::from(bench.geometry().rule() == WriteRule::PageOnce);
    ensure!(end.statistics.erases == erases, "{:?}", end.statistics);
    Ok(format!("{:?}", end.statistics))
}

fn preserved(bench: &mut Bench) -> anyhow::Result<String> {
    let before = bench.contents()?;
    let image = bench.random_image()?;
    let block_bytes = u64::from(bench.blocks()?[0].length_bytes());
    let region = |name: &str, offset_bytes, length_bytes| Region {
        name: name.to_owned(),
        offset_bytes,
        length_bytes,
        action: RegionAction::Preserve,
    };
    let regions =
        vec![region("first", 0, 2 * block_bytes), region("middle", 5 * block_bytes, block_bytes)];
    let mut expected = image.clone();
    for region in &regions {
        let range =
            region.offset_bytes as usize..(region.offset_bytes + region.length_bytes) as usize;
        expected[range.clone()].copy_from_slice(&before[range]);
    }
    let end = bench.flash(image, regions)?;
    ensure!(end.outcome == Outcome::Updated, "{end}: {:?}", end.error);
    ensure!(
        bench.contents()? == expected,
        "the chip holds something else than image and preserved regions"
    );
    Ok(format!("{:?}", end.statistics))
}

fn preserved_inside(bench: &mut Bench) -> anyhow::Result<String> {
    let before = bench.contents()?;
    let image = bench.random_image()?;
    let end = bench.flash(
        image,
        vec![Region {
            name: "mac".to_owned(),
            offset_bytes: 0x10,
            length_bytes: 6,
            action: RegionAction::Preserve,
        }],
    )?;
    ensure!(end.outcome == Outcome::Unchanged && bench.contents()? == before, "{end}");
    match end.error {
        Some(error @ FlashError::PreserveShares { .. }) => Ok(error.to_string()),
        error => bail!("refused for another reason: {error:?}"),
    }
}

fn cancelled(bench: &mut Bench) -> anyhow::Result<String> {
    let before = bench.contents()?;
    let mut job = Job::new(sign(bench.random_image()?, Vec::new())?);
    while job.step(&mut bench.chip) == Step::Continue {}
    ensure!(
        job.cancel(&mut bench.chip),
        "the job was not ready to be cancelled: {:?}",
        job.progress()
    );
    ensure!(bench.contents()? == before, "the chip changed before it was allowed");
    Ok(job.into_end().context("no end")?.to_string())
}

/// Marks a block bad where that can be done, and shows that the image is laid around it.
fn bad_blocks(bench: &mut Bench) -> anyhow::Result<String> {
    let blocks = bench.blocks()?;
    if bench.geometry().rule() != WriteRule::PageOnce {
        ensure!(
            blocks.len() as u32 == bench.geometry().block_count(),
            "a chip that is not NAND has bad blocks"
        );
        return Ok("none can be".to_owned());
    }
    let bad = blocks[3];
    bench.chip.mark_bad(bad)?;
    ensure!(bench.chip.is_bad(bad)?, "the block at {:#x} cannot be marked bad", bad.offset_bytes());
    let full = vec![0x5A; blocks.len() * bad.length_bytes() as usize];
    let end = bench.flash(full, Vec::new())?;
    let Some(error @ FlashError::TooFewGoodBlocks { .. }) = end.error else {
        bail!("not refused: {end}")
    };
    let image = bench.random_image()?;
    bench.update(&image)?;
    let placement = Placement::survey(&mut bench.chip, image.len())?;
    ensure!(
        (0..placement.block_count()).all(|nth| placement.block(nth) != bad),
        "the image lies on the bad block"
    );
    Ok(format!("image laid around {:#x}; {error}", bad.offset_bytes()))
}

/// On a device too large to be read as a whole: offsets of more than 32 bits reach the right block.
pub(super) fn beyond_4_gib(device: &str) -> anyhow::Result<()> {
    let mut chip = MtdDevice::open(device, Access::Exclusive)?;
    let last = chip.geometry().size_bytes() - 1;
    let high = chip.geometry().block_at(last).context("the device is empty")?;
    ensure!(high.offset_bytes() >= 1 << 32, "the device ends at {last:#x}");
    let low = chip.geometry().block_at(high.offset_bytes() % (1 << 32)).context("no such block")?;
    let length = high.length_bytes() as usize;
    let (mut low_before, mut low_after) = (vec![0; length], vec![0; length]);
    let mut read = vec![0; length];
    chip.read(low.offset_bytes(), &mut low_before)?;
    ensure!(!chip.is_bad(high)? && !chip.is_locked(high)?, "the last block is bad or locked");
    chip.erase(high)?;
    chip.read(high.offset_bytes(), &mut read)?;
    ensure!(read.iter().all(|byte| *byte == 0xFF), "the last block was not erased");
    let data: Vec<u8> = (0..length).map(|at| at as u8 ^ 0x5A).collect();
    chip.write(high.offset_bytes(), &data)?;
    chip.read(high.offset_bytes(), &mut read)?;
    ensure!(read == data, "the last block does not hold what was written");
    chip.read(low.offset_bytes(), &mut low_after)?;
    ensure!(low_before == low_after, "the block 4 GiB below changed");
    println!("ok beyond 4 GiB: the block at {:#x} of {last:#x}", high.offset_bytes());
    Ok(())
}
