//! What the firmware of a board was seen to write itself, as `firmcastd learn --json` tells it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use firmcast::image::{ByteRanges, Region, RegionAction};
use firmcast::wire::answer::Identity;
use serde::{Deserialize, Serialize};

use super::file;

/// The part of the report that matters for a bundle.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Learned {
    /// Size of the chip.
    chip_bytes: u64,
    /// What the firmware writes itself.
    learned: Vec<LearnedRange>,
}

#[derive(Debug, Deserialize, Serialize)]
struct LearnedRange {
    offset_bytes: u64,
    length_bytes: u64,
}

/// Writes what hosts have learned to a file, which must not exist, in the same form.
///
/// # Errors
/// When their chips are of several sizes, nobody has learned anything, or it cannot be written.
pub(crate) fn write_learned<'a>(
    path: &Path,
    hosts: impl Iterator<Item = &'a Identity>,
) -> anyhow::Result<()> {
    let hosts: Vec<&Identity> = hosts.filter(|host| !host.learned.is_empty()).collect();
    let what = "no learned ranges were written";
    let sizes: BTreeSet<u64> = hosts.iter().map(|host| host.flash_size_bytes).collect();
    let chip_bytes = match sizes.into_iter().collect::<Vec<_>>()[..] {
        [chip_bytes] => chip_bytes,
        [] => bail!(
            "{what}: these hosts have learned nothing yet; each drill goes through their firmware \
             once, so another one may teach more"
        ),
        _ => bail!("{what}: the hosts' chips are of several sizes; drill one kind at a time"),
    };
    let ranges = hosts.iter().flat_map(|host| &host.learned);
    let ranges: ByteRanges =
        ranges.map(|range| u64::from(range.start)..u64::from(range.end)).collect();
    let learned = ranges.iter().map(LearnedRange::from).collect();
    let json = serde_json::to_vec_pretty(&Learned { chip_bytes, learned })?;
    file::write_new(path, &json, file::Readers::Everybody)
}

impl From<&Range<u64>> for LearnedRange {
    fn from(range: &Range<u64>) -> Self {
        Self { offset_bytes: range.start, length_bytes: range.end - range.start }
    }
}

impl Learned {
    /// Parses the report, which has to be of a chip of the image's size.
    pub(super) fn parse(json: &[u8], image_bytes: u64) -> anyhow::Result<Self> {
        let learned: Self = serde_json::from_slice(json)
            .context("expected the output of firmcastd learn --json")?;
        let chip_bytes = learned.chip_bytes;
        ensure!(
            chip_bytes == image_bytes,
            "they are of a chip of {chip_bytes:#x} bytes, the image has {image_bytes:#x}: learn \
             them on a machine of the kind that the image is for"
        );
        Ok(learned)
    }

    /// Returns regions for what no other region is about yet.
    pub(super) fn regions(&self, named: &[Region]) -> Vec<Region> {
        let named: ByteRanges =
            named.iter().map(|r| r.offset_bytes..r.offset_bytes + r.length_bytes).collect();
        let ranges = self.learned.iter();
        let ranges: ByteRanges =
            ranges.map(|r| r.offset_bytes..r.offset_bytes.saturating_add(r.length_bytes)).collect();
        let left = ranges.without(&named);
        let numbered = left.iter().enumerate();
        numbered
            .map(|(nth, range)| Region {
                name: format!("learned-{}", nth + 1),
                offset_bytes: range.start,
                length_bytes: range.end - range.start,
                action: RegionAction::Volatile,
            })
            .collect()
    }
}
