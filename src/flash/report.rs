//! What an update would do to a chip, for people: `firmcastd plan` on a host, `firmcast bundle try`
//! on a dump.

use std::fmt;
use std::ops::Range;

use serde_json::{Value, json};

use super::{Change, Estimate, Flash, FlashPlan, Job, Placement, Step};
use crate::image::boot_guard::{BootGuard, not_known};
use crate::image::layout::{LayoutRegion, boot_offset_reason};
use crate::image::{ByteRanges, Contents, Moved, Region, RegionAction, VerifiedImage};
use crate::reason::{Reason, Refusal};

/// What an update with a bundle would do to the chip.
#[derive(Clone, Debug)]
pub struct PlanReport {
    version: String,
    device: String,
    chip_bytes: u64,
    block_count: usize,
    /// Ranges of the chip that change, in the order in which they do, and whether they are erased
    /// first.
    changes: Vec<(Range<u64>, bool)>,
    changed_blocks: usize,
    boot_block: Option<Range<u64>>,
    /// Why the processor starts there.
    boot_reason: String,
    locked_blocks: u32,
    doubt: Option<String>,
    /// What there is to say about Intel Boot Guard.
    boot_guard: Option<String>,
    lacks_variable_store: bool,
    regions: Vec<Region>,
    moved: Vec<Moved>,
    lost: Vec<LayoutRegion>,
    /// What the host may not read.
    closed: ByteRanges,
    erases: u64,
    write_bytes: u64,
    estimate: Estimate,
}

impl PlanReport {
    /// Looks at the chip, and changes nothing. `device` is what people call it; `doubt` tells why
    /// what it holds looks doubtful.
    ///
    /// # Errors
    /// Why an update with this image would be refused.
    pub fn new(
        image: &VerifiedImage,
        flash: &mut dyn Flash,
        device: String,
        doubt: impl FnOnce(&Contents) -> Option<String>,
    ) -> Result<Self, Refusal> {
        let mut job = Job::preview(image.clone());
        while job.step(flash) == Step::Continue {}
        if let Some(error) = job.end().and_then(|end| end.error.as_ref()) {
            return Err(error.into());
        }
        let (plan, placement, locked_blocks) =
            job.plan().ok_or_else(|| Refusal::new(Reason::FlashUnsupported, "no plan was made"))?;
        let backup = job
            .backup()
            .ok_or_else(|| Refusal::new(Reason::BackupFailed, "the chip was not read"))?;
        let closed = backup.closed.clone();
        let contents = Contents::new(backup.bytes.to_vec(), &closed, &closed)
            .map_err(|error| Refusal::new(Reason::BackupFailed, error))?;
        let (manifest, geometry) = (image.manifest(), flash.geometry());
        let work = plan.workload(placement, geometry);
        Ok(Self {
            version: manifest.version().to_owned(),
            device,
            chip_bytes: geometry.size_bytes(),
            block_count: placement.block_count(),
            changes: changes(plan, placement),
            changed_blocks: plan.operations().len(),
            boot_reason: manifest
                .boot_offset_bytes()
                .map(|offset_bytes| boot_offset_reason(image.bytes(), offset_bytes))
                .unwrap_or_default(),
            boot_block: plan.boot_block().map(|block| chip_range(placement, block)),
            locked_blocks,
            doubt: doubt(&contents),
            boot_guard: boot_guard(plan.target(), &contents),
            lacks_variable_store: manifest.lacks_variable_store(),
            regions: plan.regions().to_vec(),
            moved: plan.moved().to_vec(),
            lost: plan.lost().to_vec(),
            closed,
            erases: work.erases,
            write_bytes: work.write_bytes,
            estimate: Estimate::of(work, geometry),
        })
    }

    /// One object; docs/OPERATIONS.md explains the fields.
    pub fn to_json(&self) -> Value {
        let change = |(range, erased): &(Range<u64>, bool)| {
            json!({
                "offset_bytes": range.start,
                "length_bytes": range.end - range.start,
                "operation": if *erased { "erase-and-write" } else { "write" },
            })
        };
        let closed = |range: &Range<u64>| {
            let length_bytes = range.end - range.start;
            json!({ "offset_bytes": range.start, "length_bytes": length_bytes })
        };
        let lost = |region: &LayoutRegion| {
            json!({
                "name": region.name,
                "offset_bytes": region.offset_bytes,
                "length_bytes": region.length_bytes,
            })
        };
        let moved = |moved: &Moved| {
            json!({
                "from_offset_bytes": moved.from.start,
                "to_offset_bytes": moved.to.start,
                "length_bytes": moved.from.end - moved.from.start,
            })
        };
        let region = |region: &Region| {
            json!({
                "name": region.name,
                "offset_bytes": region.offset_bytes,
                "length_bytes": region.length_bytes,
                "action": region.action.name(),
            })
        };
        json!({
            "possible": true,
            "version": self.version,
            "device": self.device,
            "chip_bytes": self.chip_bytes,
            "eraseblocks": self.block_count,
            "changed_eraseblocks": self.changed_blocks,
            "changes": self.changes.iter().map(change).collect::<Vec<_>>(),
            "boot_block_offset_bytes": self.boot_block.as_ref().map(|range| range.start),
            "lacks_variable_store": self.lacks_variable_store,
            "boot_offset_reason": self.boot_reason,
            "regions": self.regions.iter().map(region).collect::<Vec<_>>(),
            "moved": self.moved.iter().map(moved).collect::<Vec<_>>(),
            "lost": self.lost.iter().map(lost).collect::<Vec<_>>(),
            "closed": self.closed.iter().map(closed).collect::<Vec<_>>(),
            "backup_bytes": self.chip_bytes,
            "locked_eraseblocks": self.locked_blocks,
            "firmware": if self.doubt.is_some() { "doubtful" } else { "whole" },
            "doubt": self.doubt,
            "boot_guard": self.boot_guard,
            "erases": self.erases,
            "write_bytes": self.write_bytes,
            "typical_ms": self.estimate.typical_ms,
            "longest_ms": self.estimate.longest_ms,
        })
    }
}

/// What `--json` prints instead when an update would be refused.
pub fn refusal_json(refusal: &Refusal) -> Value {
    json!({
        "possible": false,
        "reason": refusal.reason.name(),
        "detail": refusal.detail,
        "advice": refusal.reason.advice(),
    })
}

/// Nothing where neither the chip nor the image has to do with it. An image that does not fit is
/// refused before.
fn boot_guard(target: &[u8], contents: &Contents) -> Option<String> {
    let (new, live) = (BootGuard::read(target), BootGuard::read(contents.bytes()));
    if new.components().is_empty() && live.components().is_empty() {
        return None;
    }
    Some(match new.check_against(&live) {
        Ok(kinds) if kinds.is_empty() => "the image has what the chip has, by the same keys".into(),
        Ok(kinds) => not_known(&kinds),
        Err(mismatch) => format!("the bundle says that it is meant: {mismatch}"),
    })
}

fn chip_range(placement: &Placement, block: usize) -> Range<u64> {
    let block = placement.block(block);
    block.offset_bytes()..block.end_bytes()
}

/// Neighbours that change in the same way, one after the other, are one range.
fn changes(plan: &FlashPlan, placement: &Placement) -> Vec<(Range<u64>, bool)> {
    let mut changes: Vec<(Range<u64>, bool)> = Vec::new();
    for operation in plan.operations() {
        let range = chip_range(placement, operation.block);
        let erased = operation.change == Change::EraseAndWrite;
        match changes.last_mut() {
            Some((last, same)) if last.end == range.start && *same == erased => {
                last.end = range.end;
            }
            _ => changes.push((range, erased)),
        }
    }
    changes
}

impl fmt::Display for PlanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "bundle     version {}", self.version)?;
        writeln!(
            f,
            "chip       {}, {:#x} bytes in {} eraseblocks",
            self.device, self.chip_bytes, self.block_count
        )?;
        if let Some(why) = &self.doubt {
            writeln!(
                f,
                "firmware   looks doubtful, although this machine has started from it: {why}"
            )?;
        }
        if let Some(text) = &self.boot_guard {
            writeln!(f, "boot guard {text}")?;
        }
        if self.lacks_variable_store {
            writeln!(
                f,
                "WARNING    no variable store is known in this UEFI image: settings, boot order \
                 and Secure Boot keys of this host are overwritten, unless they lie in another chip"
            )?;
        }
        writeln!(f, "backup     {:#x} bytes, in memory until the end", self.chip_bytes)?;
        for Region { name, offset_bytes, length_bytes, action } in &self.regions {
            let last = offset_bytes + length_bytes - 1;
            let from = match action {
                RegionAction::Preserve => "keeps what the chip holds",
                RegionAction::Volatile => "keeps what the chip holds, and the firmware writes it",
                RegionAction::Reset => "is erased",
                RegionAction::Replace => "gets the image's contents",
            };
            writeln!(f, "region     {name} at {offset_bytes:#x}-{last:#x} {from}")?;
        }
        for Moved { from, to } in &self.moved {
            let (start, last, to) = (from.start, from.end - 1, to.start);
            writeln!(f, "moved      what the chip holds at {start:#x}-{last:#x} comes to {to:#x}")?;
        }
        for region in &self.lost {
            writeln!(
                f,
                "LOST       {region}: the image has no place for what this host has there"
            )?;
        }
        if !self.closed.is_empty() {
            writeln!(
                f,
                "closed     {}: the host may not read it, and it stays as it is",
                self.closed
            )?;
        }
        let (changed, all) = (self.changed_blocks, self.block_count);
        let (erases, bytes) = (self.erases, self.write_bytes);
        writeln!(
            f,
            "changes    {changed} of {all} eraseblocks: {erases} erases, {bytes:#x} bytes written"
        )?;
        for (range, erased) in &self.changes {
            let how = if *erased { "erase and write" } else { "write" };
            writeln!(f, "           {:#x}-{:#x} {how}", range.start, range.end - 1)?;
        }
        if let Some(boot) = &self.boot_block {
            let (start, last) = (boot.start, boot.end - 1);
            writeln!(
                f,
                "last       {start:#x}-{last:#x}, where the processor starts, if it changes: {}",
                self.boot_reason
            )?;
        }
        if self.locked_blocks > 0 {
            writeln!(
                f,
                "locked     {} eraseblocks; the update unlocks them, or is refused as a whole",
                self.locked_blocks
            )?;
        }
        let Estimate { typical_ms, longest_ms } = self.estimate;
        let (typical_s, longest_s) = (typical_ms.div_ceil(1000), longest_ms.div_ceil(1000));
        writeln!(
            f,
            "time       about {typical_s} s, at most {longest_s} s on a slow chip, without \
            transfer and reboots"
        )
    }
}
