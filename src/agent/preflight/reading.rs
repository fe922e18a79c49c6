//! Whether the chip's bytes read the same twice: a backup of a chip that does not is worth nothing.

use std::io;
use std::time::Instant;

use crate::agent::check::Checklist;
use crate::flash::{EraseBlock, Flash};
use crate::reason::Reason;

use super::Purpose;

/// Chips up to this size are read as a whole for a person who asks, in bytes; of larger ones a sample of this size.
const CHECK_BYTES_MAX: u64 = 64 << 20;

/// The sample that an instruction waits for, in bytes. Recovery reads everything twice before it changes anything.
const ORDER_BYTES_MAX: u64 = 1 << 20;

const NAME: &str = "flash-reads";

/// Why the bytes of an eraseblock cannot be relied on.
#[derive(Debug)]
enum Misread {
    Failed(u64, io::Error),
    Differs(u64, u32),
}

/// Reads eraseblocks, evenly spread over the chip, and then all of them again.
pub(super) fn reads_the_same(list: &mut Checklist, flash: &mut dyn Flash, purpose: Purpose<'_>) {
    let (bytes_max, is_patient) = match purpose {
        Purpose::Query => return,
        Purpose::Order(_) => (ORDER_BYTES_MAX, false),
        Purpose::Check => (CHECK_BYTES_MAX, true),
    };
    let step = flash.geometry().size_bytes().div_ceil(bytes_max).max(1);
    let blocks: Vec<_> = flash.geometry().blocks().step_by(step as usize).collect();
    let advice = Reason::BackupFailed.advice();
    match read_twice(flash, &blocks, is_patient) {
        Ok(blocks) if step == 1 => {
            list.ok(NAME, format_args!("all {blocks} eraseblocks, twice the same"))
        }
        Ok(blocks) => {
            list.ok(NAME, format_args!("{blocks} eraseblocks, one of {step}, twice the same"))
        }
        Err(Misread::Failed(offset, error)) => {
            let problem = format!("the eraseblock at {offset:#x} cannot be read: {error}");
            list.not_ok(NAME, Reason::BackupFailed, problem, advice);
        }
        Err(Misread::Differs(offset, length)) => {
            let problem =
                format!("the {length:#x} bytes at {offset:#x} did not read the same twice");
            list.not_ok(NAME, Reason::BackupFailed, problem, advice);
        }
    }
}

/// How many blocks were read; bad ones are not. Whoever `is_patient` leaves the chip to others as long as each read took.
fn read_twice(
    flash: &mut dyn Flash,
    blocks: &[EraseBlock],
    is_patient: bool,
) -> Result<usize, Misread> {
    let mut firsts = Vec::with_capacity(blocks.len());
    for block in blocks {
        let failed = |error| Misread::Failed(block.offset_bytes(), error);
        if !flash.is_bad(*block).map_err(failed)? {
            firsts.push((*block, checksum(flash, *block, 0x55, is_patient).map_err(failed)?));
        }
    }
    for (block, first) in &firsts {
        let second = checksum(flash, *block, 0xaa, is_patient);
        let second = second.map_err(|error| Misread::Failed(block.offset_bytes(), error))?;
        if second != *first {
            return Err(Misread::Differs(block.offset_bytes(), block.length_bytes()));
        }
    }
    Ok(firsts.len())
}

/// `filler` differs from read to read, so that one that does nothing is noticed.
fn checksum(
    flash: &mut dyn Flash,
    block: EraseBlock,
    filler: u8,
    is_patient: bool,
) -> io::Result<u32> {
    let started = Instant::now();
    let mut contents = vec![filler; block.length_bytes() as usize];
    flash.read(block.offset_bytes(), &mut contents)?;
    if is_patient {
        std::thread::sleep(started.elapsed());
    }
    Ok(crc32fast::hash(&contents))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::check::Verdict;
    use crate::flash::{Geometry, WriteRule};

    /// Which reads go wrong, by their number, and how.
    struct Chip {
        geometry: Geometry,
        reads: u32,
        bad_read: u32,
        error: Option<i32>,
        bad_block: Option<u32>,
    }

    impl Flash for Chip {
        fn geometry(&self) -> &Geometry {
            &self.geometry
        }
        fn read(&mut self, offset_bytes: u64, buffer: &mut [u8]) -> io::Result<()> {
            self.reads += 1;
            buffer.fill((offset_bytes >> 12) as u8);
            match (self.reads == self.bad_read, self.error) {
                (true, Some(errno)) => return Err(io::Error::from_raw_os_error(errno)),
                (true, None) => buffer[17] ^= 4,
                (false, _) => {}
            }
            Ok(())
        }
        fn erase(&mut self, _: EraseBlock) -> io::Result<()> {
            panic!("a check erases nothing")
        }
        fn write(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
            panic!("a check writes nothing")
        }
        fn is_locked(&mut self, _: EraseBlock) -> io::Result<bool> {
            Ok(false)
        }
        fn unlock(&mut self, _: EraseBlock) -> io::Result<()> {
            panic!("a check unlocks nothing")
        }
        fn is_bad(&mut self, block: EraseBlock) -> io::Result<bool> {
            Ok(Some(block.index()) == self.bad_block)
        }
    }

    fn chip(size_bytes: u64) -> Chip {
        let geometry = Geometry::uniform(size_bytes, 0x1000, 1, WriteRule::ClearBits).unwrap();
        Chip { geometry, reads: 0, bad_read: 0, error: None, bad_block: None }
    }

    fn verdict(chip: &mut Chip, purpose: Purpose<'_>) -> Option<(Verdict, Reason, String)> {
        let mut list = Checklist::default();
        reads_the_same(&mut list, chip, purpose);
        list.checks().first().map(|check| (check.verdict, check.reason, check.detail.clone()))
    }

    #[test]
    fn a_single_bit_in_any_read_is_noticed() {
        for bad_read in 1..=8 {
            let mut chip = Chip { bad_read, ..chip(0x4000) };
            let (_, reason, detail) = verdict(&mut chip, Purpose::Check).unwrap();
            let offset = (bad_read - 1) % 4 * 0x1000;
            let expected = format!("the 0x1000 bytes at {offset:#x} did not read the same twice");
            assert_eq!((reason, detail), (Reason::BackupFailed, expected));
        }
        let mut chip = Chip { bad_read: 6, error: Some(5), ..chip(0x4000) };
        let (verdict, reason, detail) = verdict(&mut chip, Purpose::Check).unwrap();
        assert_eq!((verdict, reason), (Verdict::NotOk, Reason::BackupFailed));
        assert!(detail.contains("0x1000 cannot be read"), "{detail}");
    }

    #[test]
    fn as_much_is_read_as_the_purpose_is_worth() {
        let mut small = Chip { bad_block: Some(2), ..chip(0x4000) };
        let (found, _, detail) = verdict(&mut small, Purpose::Check).unwrap();
        assert_eq!((found, small.reads), (Verdict::Ok, 6), "a bad block is not read");
        assert_eq!(detail, "all 3 eraseblocks, twice the same");

        let (size_bytes, rule) = (CHECK_BYTES_MAX * 3 / 2, WriteRule::ClearBits);
        let geometry = Geometry::uniform(size_bytes, 0x10_0000, 1, rule).unwrap();
        let mut large = Chip { geometry, ..chip(0x4000) };
        let (_, _, detail) = verdict(&mut large, Purpose::Check).unwrap();
        assert_eq!(detail, "48 eraseblocks, one of 2, twice the same");

        let mut unread = chip(0x4000);
        assert_eq!((verdict(&mut unread, Purpose::Query), unread.reads), (None, 0));
    }
}
