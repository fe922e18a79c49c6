//! What the firmware of a board was seen to write itself, as `firmcastd learn --json` tells it.

use anyhow::{Context as _, ensure};
use firmcast::image::{ByteRanges, Region, RegionAction};
use serde::Deserialize;

/// The part of the report that matters for a bundle.
#[derive(Debug, Deserialize)]
pub(super) struct Learned {
    /// Size of the chip.
    chip_bytes: u64,
    /// What the firmware writes itself.
    learned: Vec<LearnedRange>,
}

#[derive(Debug, Deserialize)]
struct LearnedRange {
    offset_bytes: u64,
    length_bytes: u64,
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
