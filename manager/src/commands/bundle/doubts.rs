//! What hosts would say of an image: told before it is signed.

use std::iter;

use anyhow::bail;
use firmcast::image::layout::{Fit, boot_offset};
use firmcast::image::validity::{Verdict, validate_around};
use firmcast::image::{ByteRanges, FirmwareFormat, Region, RegionAction};
use firmcast_manager::wrapping::is_chip_size;

use crate::driver::stderr;

/// What many chips erase at once, in bytes.
const LARGE_BLOCK_BYTES: u64 = 64 << 10;

/// An image that is to be signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubts<'a> {
    /// Its files, for messages.
    pub(super) name: &'a str,
    pub(super) image: &'a [u8],
    /// What the bundle does with regions of it.
    pub(super) regions: &'a [Region],
    /// Whether it is of parts of a chip.
    pub(super) is_part: bool,
    /// Whether the operator said where the processor starts.
    pub(super) has_boot_offset: bool,
}

impl Doubts<'_> {
    /// Fails for an image that every host would refuse, and tells what deviates without proof. What
    /// the chip keeps or erases says nothing, so that is not looked at. Parts are judged by hosts
    /// alone, together with the rest of the chip.
    ///
    /// # Errors
    /// When something is damaged that every host would write.
    pub(super) fn ensure_whole(&self) -> anyhow::Result<()> {
        let written = |region: &&Region| region.action == RegionAction::Replace;
        let elsewhere = self.regions.iter().filter(|region| !written(region)).map(range);
        let elsewhere: ByteRanges = elsewhere.collect();
        match validate_around(self.image, &elsewhere) {
            Verdict::Invalid { offset_bytes, why } if self.is_part => stderr::tell(format_args!(
                "warning: at {offset_bytes:#x} this part looks damaged: {why}; each host judges \
                 the whole chip with it, and refuses what is damaged"
            )),
            Verdict::Invalid { offset_bytes, why } => bail!(
                "the image is damaged at {offset_bytes:#x}: {why}; every host would refuse it, so \
                 nothing was signed: get the file again, or build it anew"
            ),
            Verdict::Doubtful { offset_bytes, why } if !self.is_part => {
                stderr::tell(format_args!(
                    "warning: at {offset_bytes:#x} the image deviates: {why}; hosts take it, but \
                     check that it is what the chip should hold"
                ));
            }
            _ => {}
        }
        Ok(())
    }

    /// Tells what nothing in the image says, although a host may refuse it for that, or a power cut
    /// may make it matter.
    pub(super) fn tell(&self) {
        if FirmwareFormat::recognise(self.image).is_none() {
            stderr::tell(format_args!(
                "warning: {} is of no firmware format known here: check that it is what the chip \
                 should hold",
                self.name
            ));
        }
        if let Err(flaw) = Fit::find(self.image) {
            stderr::tell(format_args!(
                "warning: at {:#x}: {flaw}; hosts with Intel Boot Guard will refuse the image",
                flaw.offset_bytes
            ));
        }
        if !self.is_part {
            self.tell_of_chip();
        }
    }

    /// Tells what only a whole chip's image can be doubted for.
    fn tell_of_chip(&self) {
        let image_bytes = self.image.len();
        if !is_chip_size(image_bytes) {
            stderr::tell(format_args!(
                "warning: the image has {image_bytes:#x} bytes, which no chip has (a power of two \
                 from 64 KiB, or the sum of two): hosts whose chip has another size refuse it"
            ));
        }
        let boot = boot_offset(self.image);
        if !self.has_boot_offset && !boot.by.is_known() {
            stderr::tell(format_args!(
                "warning: where the processor starts is {}: {:#x} is written last; give \
                 --boot-offset if it is elsewhere",
                boot.by, boot.offset_bytes
            ));
        }
        let shared = sharing_large_blocks(self.regions, image_bytes as u64);
        if !shared.is_empty() {
            stderr::tell(format_args!(
                "warning: {} would share 64 KiB with bytes that are written: hosts whose chip \
                 erases 64 KiB at once refuse this bundle; keep all of these 64 KiB with \
                 --preserve NAME=OFFSET:LENGTH, or write the regions with --replace",
                shared.join(", ")
            ));
        }
    }
}

/// Returns the kept regions that begin or end inside a large block of which other bytes are
/// written.
fn sharing_large_blocks(regions: &[Region], image_bytes: u64) -> Vec<String> {
    let kept = || regions.iter().filter(|region| region.action.keeps_chip());
    let all_kept: ByteRanges = kept().map(range).collect();
    let is_shared = |boundary: u64| {
        let start = boundary / LARGE_BLOCK_BYTES * LARGE_BLOCK_BYTES;
        let end = start.saturating_add(LARGE_BLOCK_BYTES).min(image_bytes);
        let block: ByteRanges = iter::once(start..end).collect();
        !boundary.is_multiple_of(LARGE_BLOCK_BYTES) && !block.without(&all_kept).is_empty()
    };
    let shared = kept().filter(|region| {
        let range = range(region);
        is_shared(range.start) || is_shared(range.end)
    });
    shared
        .map(|region| {
            let range = range(region);
            format!("{} at {:#x}-{:#x}", region.name, range.start, range.end.saturating_sub(1))
        })
        .collect()
}

fn range(region: &Region) -> std::ops::Range<u64> {
    region.offset_bytes..region.offset_bytes.saturating_add(region.length_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_that_share_a_large_block_with_written_bytes_are_named() {
        let region = |name: &str, offset_bytes, length_bytes, action| Region {
            name: name.to_owned(),
            offset_bytes,
            length_bytes,
            action,
        };
        use RegionAction::{Preserve, Replace, Reset, Volatile};
        let fd = region("fd", 0, 0x1000, Preserve);
        let gbe = region("gbe", 0x1000, 0x2000, Preserve);
        let me = region("me", 0x3000, 0x1_d000, Volatile);
        let names = |regions: &[Region]| sharing_large_blocks(regions, 0x4_0000).join(", ");
        assert_eq!(names(&[fd.clone(), gbe.clone(), me]), "", "the ME region fills the block");
        assert_eq!(names(&[fd, gbe.clone()]), "fd at 0x0-0xfff, gbe at 0x1000-0x2fff");
        assert_eq!(names(&[region("vars", 0x1_0000, 0x1_0000, Volatile)]), "");
        assert_eq!(names(&[region("vars", 0, 0x1_0001, Volatile)]), "vars at 0x0-0x10000");
        assert_eq!(names(&[region("a", 5, 7, Replace), region("b", 99, 7, Reset)]), "");
        assert_eq!(names(&[region("last", 0x3_8000, 0x8000, Preserve)]), "last at 0x38000-0x3ffff");
    }
}
