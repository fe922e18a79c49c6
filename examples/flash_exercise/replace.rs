//! One job whose steps can be watched, for cutting the power at one of them.

use std::io::{self, Write as _};

use anyhow::{Context as _, bail};
use firmcast::flash::{Flash, Job, Outcome, Step};
use firmcast::image::{Region, RegionAction, VerifiedImage};
use firmcast::mtd::{Access, MtdDevice};

use super::sign;

/// Brings the chip to the contents of `file`; says whether it did. `options` are pairs of
/// `--preserve` and `NAME,OFFSET,LENGTH`.
pub(super) fn replace(
    device: &str,
    file: &str,
    options: &[&str],
    job: fn(VerifiedImage) -> Job,
) -> anyhow::Result<bool> {
    let image = std::fs::read(file).with_context(|| format!("cannot read {file}"))?;
    let mut job = job(sign(image, preserved(options)?)?);
    let mut chip = MtdDevice::open(device, Access::Exclusive)?;
    watch(&mut job, &mut chip)?;
    let end = job.into_end().context("an ended job has no end")?;
    if let Some(error) = &end.error {
        println!("error: {error}");
    }
    println!("end: {end} ({:?})", end.statistics);
    Ok(end.outcome == Outcome::Updated)
}

/// Steps the job to its end and shows where it is before each step.
fn watch(job: &mut Job, chip: &mut dyn Flash) -> io::Result<()> {
    let mut out = io::stdout();
    loop {
        let progress = job.progress();
        writeln!(out, "{:?} {}/{}", progress.phase, progress.done_blocks, progress.total_blocks)?;
        out.flush()?;
        match job.step(chip) {
            Step::Continue => {}
            Step::ReadyToChange => job.allow_change(),
            Step::Ended => return Ok(()),
        }
    }
}

fn preserved(options: &[&str]) -> anyhow::Result<Vec<Region>> {
    let mut regions = Vec::new();
    for option in options.chunks(2) {
        let ["--preserve", region] = option else { bail!("unknown option {option:?}") };
        let [name, offset, length] = region.split(',').collect::<Vec<_>>()[..] else {
            bail!("expected NAME,OFFSET,LENGTH, got {region}")
        };
        let number = |text: &str| text.parse().with_context(|| format!("not a number: {text}"));
        let (offset_bytes, length_bytes) = (number(offset)?, number(length)?);
        let action = RegionAction::Preserve;
        regions.push(Region { name: name.to_owned(), offset_bytes, length_bytes, action });
    }
    Ok(regions)
}
