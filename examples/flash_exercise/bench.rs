//! How long the engine takes, and how much of that the chip.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use firmcast::flash::{Job, Outcome, Step};
use firmcast::mtd::{Access, MtdDevice};
use nix::sys::resource::{UsageWho, getrusage};

use super::own::Own;
use super::sign;
use super::timed::{Timed, milliseconds};

/// Flashes each file and prints a JSON object for each.
pub(super) fn bench(device: &str, files: &[&str]) -> anyhow::Result<()> {
    for file in files {
        let image = std::fs::read(file).with_context(|| format!("cannot read {file}"))?;
        let image = sign(image, Vec::new())?;
        // The bundle was checked when it was received; this is the time of the chip.
        let started = Instant::now();
        let mut chip = Timed::new(MtdDevice::open(device, Access::Exclusive)?);
        let open_ms = milliseconds(started.elapsed());
        let (mut job, mut own) = (Job::new(image), Own::default());
        loop {
            match own.step(job.progress().phase, &mut chip, |chip| job.step(chip)) {
                Step::Continue => {}
                Step::ReadyToChange => job.allow_change(),
                Step::Ended => break,
            }
        }
        let end = job.into_end().context("an ended job has no end")?;
        let time_ms = milliseconds(started.elapsed());
        let asked = Instant::now();
        let are_known = end.before_digest().is_some() && end.after_digest().is_some();
        ensure!(are_known, "the report has no digests");
        let digest_ms = milliseconds(asked.elapsed());
        let (statistics, device_ms) = (end.statistics, milliseconds(chip.device_time()));
        println!(
            "{{\"tool\":\"firmcast\",\"device\":\"{device}\",\"file\":\"{file}\",\
             \"time_ms\":{time_ms},\"device_ms\":{device_ms},\"digest_ms\":{digest_ms},\
             \"open_ms\":{open_ms},\"own\":{own},\
             \"read\":{},\"erase\":{},\"write\":{},\"status\":{},\"erases\":{},\
             \"bytes_written\":{},\"updated\":{}}}",
            chip.read,
            chip.erase,
            chip.write,
            chip.status,
            statistics.erases,
            statistics.bytes_written,
            end.outcome == Outcome::Updated
        );
        ensure!(end.outcome == Outcome::Updated, "{end}: {:?}", end.error);
    }
    Ok(())
}

/// Runs a command and prints how long it took, from before its start to after its end, and the most
/// memory that it had (which cannot be shown as less than this program itself has). Says whether it
/// succeeded.
pub(super) fn time(command: &[&str]) -> anyhow::Result<bool> {
    let [program, arguments @ ..] = command else { bail!("a command is needed") };
    let started = Instant::now();
    let status = Command::new(program).args(arguments).status();
    let time_ms = milliseconds(started.elapsed());
    let memory_kib = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    println!("{{\"command\":\"{program}\",\"time_ms\":{time_ms},\"memory_kib\":{memory_kib}}}");
    Ok(status.with_context(|| format!("cannot run {program}"))?.success())
}
