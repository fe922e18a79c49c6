//! How a simulated chip locks: each eraseblock by itself, or one range by few bits.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use nix::libc::EINVAL;

use super::{Fault, SimulatedFlash};
use crate::flash::EraseBlock;

/// What a chip can lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locking {
    /// Any set of eraseblocks.
    #[default]
    Single,
    /// As SPI NOR does by block protect bits, and the kernel's driver for them: 1, 2, 4, 8 ... or
    /// all eraseblocks at the chip's top, or at its bottom where `at_bottom`.
    Range {
        /// Whether the range may begin at the chip's start instead.
        at_bottom: bool,
    },
}

impl Locking {
    /// What is locked when `asked` is to be locked, too; `None` where the bits cannot express it.
    /// The size is rounded down, and never becomes less than it is.
    pub(super) fn lock(
        self,
        locked: &BTreeSet<u32>,
        asked: Range<u32>,
        count: u32,
    ) -> Option<BTreeSet<u32>> {
        let Self::Range { at_bottom } = self else {
            return Some(locked.iter().copied().chain(asked).collect());
        };
        let are_locked = |mut range: Range<u32>| range.all(|index| locked.contains(&index));
        if are_locked(asked.clone()) {
            return Some(locked.clone());
        }
        let range = if are_locked(asked.end..count) {
            count - rounded(count - asked.start, count)..count
        } else if at_bottom && are_locked(0..asked.start) {
            0..rounded(asked.end, count)
        } else {
            return None;
        };
        let now: BTreeSet<u32> = range.collect();
        (now.len() >= locked.len()).then_some(now)
    }

    /// What is locked when `asked` is no longer to be; `None` where the bits cannot express it. The
    /// size of what stays locked is rounded down, and never becomes more than it is. The range may
    /// go to the chip's other end: the kernel's driver compares sizes only.
    pub(super) fn unlock(
        self,
        locked: &BTreeSet<u32>,
        asked: Range<u32>,
        count: u32,
    ) -> Option<BTreeSet<u32>> {
        let Self::Range { at_bottom } = self else {
            return Some(locked.iter().copied().filter(|index| !asked.contains(index)).collect());
        };
        let are_open = |mut range: Range<u32>| !range.any(|index| locked.contains(&index));
        let range = if are_open(0..asked.start) {
            count - rounded(count - asked.end, count)..count
        } else if at_bottom && are_open(asked.end..count) {
            0..rounded(asked.start, count)
        } else {
            return None;
        };
        let now: BTreeSet<u32> = range.collect();
        (now.len() <= locked.len()).then_some(now)
    }
}

impl SimulatedFlash {
    /// Locks a block: `for_good`, or so that it unlocks when asked to and is locked again after
    /// each power cut.
    pub fn lock(&mut self, block: EraseBlock, for_good: bool) {
        self.locked.insert(block.index());
        match for_good {
            true => self.stays_locked.insert(block.index()),
            false => self.locked_at_power_on.insert(block.index()),
        };
    }

    /// Lets it lock as chips do that have few bits for it. What is locked already stays so.
    pub fn lock_by(&mut self, locking: Locking) {
        self.locking = locking;
    }

    /// Numbers of the blocks that are locked, whatever its answers say.
    pub fn locked(&self) -> &BTreeSet<u32> {
        &self.locked
    }

    /// Whether nothing unlocks this block.
    pub fn is_locked_for_good(&self, block: EraseBlock) -> bool {
        self.stays_locked.contains(&block.index())
    }

    /// What an unlock or a lock comes to; `locked` is missing where the chip refuses it.
    pub(super) fn become_locked(
        &mut self,
        fault: Option<Fault>,
        locked: Option<BTreeSet<u32>>,
    ) -> io::Result<()> {
        self.finish(fault)?;
        if fault != Some(Fault::NotDone) {
            self.locked = locked.ok_or_else(|| io::Error::from_raw_os_error(EINVAL))?;
            self.locked.extend(&self.stays_locked);
        }
        Ok(())
    }

    /// Numbers of the blocks of a range, which are whole ones.
    pub(super) fn indices(&self, offset_bytes: u64, length_bytes: u64) -> io::Result<Range<u32>> {
        let invalid = || io::Error::from_raw_os_error(EINVAL);
        let range = self.range(offset_bytes, length_bytes as usize)?;
        let first = self.geometry.block_at(range.start as u64).ok_or_else(invalid)?;
        let last =
            self.geometry.block_at(range.end.saturating_sub(1) as u64).ok_or_else(invalid)?;
        let is_whole =
            (first.offset_bytes(), last.end_bytes()) == (range.start as u64, range.end as u64);
        is_whole.then(|| first.index()..last.index() + 1).ok_or_else(invalid)
    }
}

/// The largest size that the bits can express, and that is not above `blocks`.
fn rounded(blocks: u32, count: u32) -> u32 {
    match blocks {
        0 => 0,
        all if all == count => all,
        blocks => 1 << blocks.ilog2(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(range: Range<u32>) -> BTreeSet<u32> {
        range.collect()
    }

    #[test]
    fn few_bits_refuse_or_round_what_they_cannot_express() {
        let top = Locking::Range { at_bottom: false };
        let both = Locking::Range { at_bottom: true };
        // Of 16 blocks, the upper 8 are locked.
        let half = set(8..16);
        assert_eq!(top.unlock(&half, 8..16, 16), Some(set(0..0)));
        assert_eq!(top.unlock(&half, 8..9, 16), Some(set(12..16)), "more than was asked for");
        assert_eq!(top.unlock(&half, 15..16, 16), None, "the lower ones would be unlocked");
        assert_eq!(both.unlock(&half, 15..16, 16), Some(set(0..8)), "the other end");
        assert_eq!(both.unlock(&set(0..4), 0..1, 16), None, "half of the chip would be locked");
        assert_eq!(both.unlock(&set(0..8), 4..8, 16), Some(set(0..4)));
        assert_eq!(top.lock(&set(0..0), 8..16, 16), Some(half.clone()));
        assert_eq!(top.lock(&set(0..0), 9..16, 16), Some(set(12..16)), "less than was asked for");
        assert_eq!(top.lock(&set(0..0), 3..4, 16), None);
        assert_eq!(top.lock(&set(0..0), 0..4, 16), None);
        assert_eq!(both.lock(&set(0..0), 0..4, 16), Some(set(0..4)));
        assert_eq!(top.lock(&half, 0..16, 16), Some(set(0..16)));
        assert_eq!(top.lock(&half, 10..11, 16), Some(half.clone()), "it is locked already");
        assert_eq!(both.lock(&half, 6..8, 16), Some(half.clone()));
    }

    #[test]
    fn single_locks_do_what_they_are_asked_for() {
        let single = Locking::Single;
        assert_eq!(single.lock(&set(0..2), 5..6, 8), Some([0, 1, 5].into()));
        assert_eq!(single.unlock(&set(0..4), 1..2, 8), Some([0, 2, 3].into()));
    }
}
