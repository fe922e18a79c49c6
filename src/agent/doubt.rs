//! Whether the firmware that this machine has started from looks doubtful.
//!
//! Whatever a record or a checksum says, the machine runs: its firmware is doubtful at worst, never
//! broken. A read of the chip takes seconds, so what was found is kept, and what a manager that
//! looks around is told is what was found last.

use std::time::{Duration, Instant};

use crate::flash::{EraseBlock, Flash as _, read_block};
use crate::image::{ByteRanges, Contents, KnownGood, assess};
use crate::mtd::{Access, Chip};
use crate::reason::Condition;
use crate::wire::answer::DETAIL_SIZE_MAX;

/// How long a judgement is told; a question after it has the chip read once more.
pub const JUDGEMENT_LIFETIME: Duration = Duration::from_secs(3600);

/// How much of the chip is read in one step, in bytes, or one eraseblock if that is larger.
const STEP_BYTES: usize = 64 * 1024;

/// What is told before anybody has looked.
const NOT_LOOKED_AT: &str = "not looked at since the agent started; ask again";

/// Why what the chip holds looks doubtful: by the record of good firmware if it says anything, else
/// by the structure. Nothing where nothing speaks against it.
pub fn of(contents: &Contents, good: Option<&KnownGood>, bios_version: &str) -> Option<String> {
    let mut why = assess(contents, good, bios_version).doubt()?;
    let ends = (0..=DETAIL_SIZE_MAX.min(why.len())).rev();
    let end = ends.into_iter().find(|end| why.is_char_boundary(*end));
    why.truncate(end.unwrap_or(0));
    Some(why)
}

/// What was found about the firmware that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    doubt: Option<String>,
    /// When somebody looked.
    made: Option<Instant>,
    /// The chip could not be read.
    is_unread: bool,
}

impl Judgement {
    /// The judgement by somebody who has read the chip.
    pub fn new(doubt: Option<String>, now: Instant) -> Self {
        Self { doubt, made: Some(now), is_unread: false }
    }

    /// Judges `contents`; none when the chip could not be read.
    pub fn of(
        contents: Option<&Contents>,
        good: Option<&KnownGood>,
        bios_version: &str,
        now: Instant,
    ) -> Self {
        match contents {
            Some(contents) => Self::new(of(contents, good, bios_version), now),
            None => Self { doubt: None, made: Some(now), is_unread: true },
        }
    }

    /// How long ago somebody looked.
    pub fn age(&self) -> Option<Duration> {
        self.made.map(|made| made.elapsed())
    }

    /// As an answer has it: the condition, and what there is to say about it.
    pub fn told(&self) -> (Condition, String) {
        match &self.doubt {
            Some(why) => (Condition::Doubtful, why.clone()),
            None if self.made.is_none() => (Condition::Whole, NOT_LOOKED_AT.to_owned()),
            None if self.is_unread => (Condition::Whole, "the chip cannot be read".to_owned()),
            None => (Condition::Whole, String::new()),
        }
    }
}

/// A read of the whole chip, step by step.
#[derive(Debug)]
pub struct Look {
    flash: Chip,
    blocks: std::vec::IntoIter<EraseBlock>,
    bytes: Vec<u8>,
    unread: ByteRanges,
    /// What need not be readable.
    untouched: ByteRanges,
}

impl Look {
    /// Opens the chip; nothing is read yet.
    pub fn start(device: &str, untouched: ByteRanges) -> Option<Self> {
        if device.is_empty() {
            return None;
        }
        let flash = Chip::open(device, Access::ReadOnly).ok()?;
        let blocks: Vec<_> = flash.geometry().blocks().collect();
        let bytes = Vec::with_capacity(flash.geometry().size_bytes() as usize);
        let (blocks, unread) = (blocks.into_iter(), ByteRanges::default());
        Some(Self { flash, blocks, bytes, unread, untouched })
    }

    /// Reads a part.
    ///
    /// # Errors
    /// The end: what the chip holds, or nothing if it cannot be read.
    pub fn step(mut self) -> Result<Self, Option<Contents>> {
        let mut read_bytes = 0;
        while read_bytes < STEP_BYTES {
            let Some(block) = self.blocks.next() else {
                return Err(Contents::new(self.bytes, &self.unread, &self.untouched).ok());
            };
            match self.flash.is_bad(block) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(_) => return Err(None),
            }
            let (start, length) = (self.bytes.len(), block.length_bytes() as usize);
            self.bytes.resize(start + length, 0);
            for part in read_block(&mut self.flash, block, &mut self.bytes[start..]).iter() {
                self.unread.insert(start as u64 + part.start..start as u64 + part.end);
            }
            read_bytes += length;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_runs_has_doubtful_firmware_at_worst() {
        let now = Instant::now();
        assert_eq!(Judgement::default().told(), (Condition::Whole, NOT_LOOKED_AT.to_owned()));
        let erased = Judgement::of(Some(&Contents::whole(vec![0xff; 0x1000])), None, "1", now);
        let (condition, why) = erased.told();
        assert_eq!(condition, Condition::Doubtful);
        assert!(why.starts_with("at 0x") && why.len() <= DETAIL_SIZE_MAX, "{why}");
        let unread = Judgement::of(None, None, "1", now);
        assert_eq!(unread.told(), (Condition::Whole, "the chip cannot be read".to_owned()));
        assert_eq!(Judgement::new(None, now).told(), (Condition::Whole, String::new()));
    }

    #[test]
    fn a_record_that_does_not_fit_is_a_reason_for_doubt() {
        let bytes: Vec<u8> = (0..0x3_0000u32).map(|n| (n >> 8) as u8 ^ n as u8).collect();
        let mut changed = bytes.clone();
        changed[0x2_8000] ^= 1;
        let (whole, changed) = (Contents::whole(bytes), Contents::whole(changed));
        let good = KnownGood::of_chip(&whole, "1");
        assert!(good.is_some());
        assert_eq!(of(&whole, good.as_ref(), "1"), None);
        let why = of(&changed, good.as_ref(), "1").unwrap_or_default();
        assert!(why.starts_with("at 0x20000: not the firmware that was recorded"), "{why}");
        assert_eq!(of(&changed, good.as_ref(), "2"), None, "somebody has replaced it since");
    }
}
