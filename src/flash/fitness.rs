//! Whether image and chip fit together: decided from the bytes of both, before anything changes.

use std::ops::Range;

use super::{EraseBlock, FlashError, Live};
use crate::image::boot_guard::BootGuard;
use crate::image::layout::{Told, host_access};
use crate::image::validity::{Verdict, validate_around, validate_told};
use crate::image::{ByteRanges, Misfit, VerifiedImage};
use crate::reason::Condition;

/// What the bytes on the chip say about the update.
#[derive(Debug)]
pub(super) struct Fitness {
    /// What the contents look like: no better than the order says, and broken only when the order
    /// says so.
    pub(super) condition: Condition,
    /// What the host's processor may not write.
    no_write: Vec<Range<u64>>,
    /// What Boot Guard finds on the chip, where the image has to have it, too.
    boot_guard: Option<BootGuard>,
}

impl Fitness {
    /// Looks at what the chip holds. Contents that only look wrong are doubtful: the machine has
    /// started from them. `told` is by the live contents.
    pub(super) fn of(
        image: &VerifiedImage,
        live: Live<'_>,
        told: &Told<'_>,
    ) -> Result<Self, FlashError> {
        // Blocks that could not be read say nothing.
        let is_whole = live.readable.iter().all(|readable| *readable);
        let looks_wrong = || {
            let verdict = validate_told(told, live.closed);
            matches!(verdict, Verdict::Doubtful { .. } | Verdict::Invalid { .. })
        };
        // Contents that are said to be doubtful or broken get no better by looking through them.
        let condition = match live.condition {
            Condition::Whole if is_whole && looks_wrong() => Condition::Doubtful,
            condition => condition,
        };
        let manifest = image.manifest();
        if condition == Condition::Broken {
            let no_write = host_access(live.contents).map_or(Vec::new(), |access| access.no_write);
            return Ok(Self { condition, no_write, boot_guard: None });
        }
        let no_write = host_access(live.contents)
            .map_err(|error| FlashError::Misfit(Box::new(Misfit::LiveLayout(error))))?
            .no_write;
        let boot_guard =
            (!manifest.may_change_boot_guard()).then(|| BootGuard::read(live.contents));
        Ok(Self { condition, no_write, boot_guard })
    }

    /// Fails unless `target` has what Boot Guard finds on the chip now, is whole firmware as far as
    /// it is not `closed`, and all `blocks` may be written. What only deviates is the maker's
    /// business, who signed it.
    pub(super) fn check(
        &self,
        target: &[u8],
        closed: &ByteRanges,
        blocks: impl Iterator<Item = EraseBlock>,
    ) -> Result<(), FlashError> {
        if let Some(live) = &self.boot_guard
            && let Err(mismatch) = BootGuard::read(target).check_against(live)
        {
            return Err(FlashError::BootGuardMismatch(Box::new(mismatch)));
        }
        let verdict = validate_around(target, closed);
        if let Verdict::Invalid { offset_bytes, why } = verdict {
            return Err(FlashError::ImageInvalid { offset_bytes, why });
        }
        for block in blocks {
            let (start, end) = (block.offset_bytes(), block.end_bytes());
            if self.no_write.iter().any(|range| range.start < end && start < range.end) {
                return Err(FlashError::NotForHost { offset_bytes: start });
            }
        }
        Ok(())
    }
}
