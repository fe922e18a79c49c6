//! What the chip holds, and whether its bytes read the same twice: a backup of a chip that does not
//! is worth nothing.
//!
//! The chip is read once, and a part of it once more. What the first read found is handed on.

use std::ops::Range;
use std::time::Instant;

use crate::agent::check::{Checklist, Subject};
use crate::flash::{ContentsError, EraseBlock, Flash, GoodBlock, good_blocks, read_block};
use crate::image::layout::{DESCRIPTOR_BYTES, foreign_ranges};
use crate::image::{ByteRanges, Fitting, IMAGE_MAX};
use crate::reason::{Reason, with_causes};

use super::Purpose;

/// Chips up to this size are read twice as a whole for a person who asks, in bytes; of larger ones
/// a sample of this size.
const CHECK_BYTES_MAX: u64 = 64 << 20;

/// The sample that is read twice for an instruction, in bytes. Recovery reads everything twice
/// before it changes anything.
const ORDER_BYTES_MAX: u64 = 1 << 20;

const NAME: Subject = Subject::FlashReads;

/// Why the bytes of an eraseblock cannot be relied on.
#[derive(Debug)]
enum Misread {
    /// The chip does not say which ones are bad.
    Survey(ContentsError),
    Differs(u64, u32),
}

/// How much of a chip is read.
#[derive(Clone, Copy, Debug)]
struct Extent {
    /// All of it is read once, and kept.
    is_whole: bool,
    /// One eraseblock of so many is read twice.
    step: usize,
    /// The chip is left to others as long as each read took.
    is_patient: bool,
}

impl Extent {
    /// For an instruction all of the chip is read unless something is in the way already; for a
    /// person in any case.
    fn of(purpose: Purpose<'_>, size_bytes: u64, list: &Checklist) -> Option<Self> {
        let step = |bytes_max| size_bytes.div_ceil(bytes_max).max(1) as usize;
        match purpose {
            Purpose::Query => None,
            Purpose::Order(_) => Some(Self {
                is_whole: list.verdict().is_ok(),
                step: step(ORDER_BYTES_MAX),
                is_patient: false,
            }),
            Purpose::Check => Some(Self {
                is_whole: size_bytes <= IMAGE_MAX as u64,
                step: step(CHECK_BYTES_MAX),
                is_patient: true,
            }),
        }
    }
}

/// All that the good eraseblocks of a chip hold, one behind the other.
#[derive(Debug, Default)]
pub(super) struct RawContents {
    pub(super) bytes: Vec<u8>,
    /// What of these bytes could not be read.
    pub(super) unread: ByteRanges,
}

/// What two reads of the same bytes came to.
#[derive(Debug, Default)]
struct Twice {
    /// Eraseblocks that were read twice.
    blocks: usize,
    /// Where the contents start on the chip.
    start_bytes: u64,
    /// What failed, both times where it was tried twice; by its place in the contents.
    unread: ByteRanges,
    /// What is FFh throughout, by its place in the contents.
    erased: ByteRanges,
    /// What the chip holds, when all of it was read.
    contents: Option<RawContents>,
}

/// Reads the chip, and eraseblocks that are evenly spread over it once more. What the host may not
/// read is told; what cannot be read otherwise is in the way ([`crate::image::Contents`]). Returns
/// what the chip holds, if nothing is in the way of reading all of it.
pub(super) fn read_chip(
    list: &mut Checklist,
    flash: &mut dyn Flash,
    purpose: Purpose<'_>,
) -> Option<RawContents> {
    let extent = Extent::of(purpose, flash.geometry().size_bytes(), list)?;
    let untouched = purpose.order().map(|order| Fitting::untouched(order.manifest));
    reads_the_same(list, flash, extent, &untouched.unwrap_or_default())
}

fn reads_the_same(
    list: &mut Checklist,
    flash: &mut dyn Flash,
    extent: Extent,
    untouched: &ByteRanges,
) -> Option<RawContents> {
    let advice = Reason::BackupFailed.advice();
    let mut refuse = |problem: String| {
        list.not_ok(NAME, Reason::BackupFailed, problem, advice);
        None
    };
    let twice = match read_twice(flash, extent) {
        Ok(twice) => twice,
        Err(Misread::Survey(error)) => return refuse(with_causes(&error)),
        Err(Misread::Differs(offset, length)) => {
            let problem =
                format!("the {length:#x} bytes at {offset:#x} did not read the same twice");
            return refuse(problem);
        }
    };
    match closed(flash, &twice, untouched) {
        Err(faulty) => {
            refuse(format!("{faulty} cannot be read, and nothing closes it to this host"))
        }
        Ok(closed) => {
            list.ok(NAME, told(twice.blocks, extent.step, &closed));
            twice.contents
        }
    }
}

fn told(blocks: usize, step: usize, closed: &ByteRanges) -> String {
    let read = match step {
        1 => format!("all {blocks} eraseblocks, twice the same"),
        _ => format!("{blocks} eraseblocks, one of {step}, twice the same"),
    };
    match closed.is_empty() {
        true => read,
        false => format!("{read}; {closed} is closed to this host and stays as it is"),
    }
}

/// What of the chip is closed to the host, as far as it was looked at; or what should not have
/// failed.
fn closed(
    flash: &mut dyn Flash,
    twice: &Twice,
    untouched: &ByteRanges,
) -> Result<ByteRanges, ByteRanges> {
    let (start, size_bytes) = (twice.start_bytes, flash.geometry().size_bytes());
    let mut page = vec![0; (size_bytes - start).min(DESCRIPTOR_BYTES as u64) as usize];
    // Without it nothing is known to be closed.
    let has_page = flash.read(start, &mut page).is_ok();
    let foreign = if has_page { foreign_ranges(&page) } else { Default::default() };
    let faulty = twice.unread.without(&untouched.union(&foreign.all));
    if !faulty.is_empty() {
        return Err(faulty);
    }
    let silent = foreign.no_read.into_iter().filter(|range| twice.erased.covers(range));
    Ok(twice.unread.union(&silent.collect()))
}

/// Bad blocks are not read.
fn read_twice(flash: &mut dyn Flash, extent: Extent) -> Result<Twice, Misread> {
    let Extent { is_whole, step, is_patient } = extent;
    let good = good_blocks(flash).map_err(Misread::Survey)?;
    let mut twice = Twice { contents: is_whole.then(RawContents::default), ..Twice::default() };
    twice.start_bytes = good.first().map_or(0, |first| first.block.offset_bytes());
    let mut firsts = Vec::new();
    let mut buffer = Vec::new();
    for (index, GoodBlock { block, contents_offset_bytes }) in good.into_iter().enumerate() {
        let is_sampled = index % step == 0;
        if !is_whole && !is_sampled {
            continue;
        }
        let first = look(flash, block, 0x55, is_patient, &mut buffer);
        twice.add(contents_offset_bytes, &first, &buffer);
        if is_sampled {
            firsts.push((block, first));
        }
    }
    for (block, first) in &firsts {
        if look(flash, *block, 0xaa, is_patient, &mut buffer) != *first {
            return Err(Misread::Differs(block.offset_bytes(), block.length_bytes()));
        }
    }
    twice.blocks = firsts.len();
    Ok(twice)
}

impl Twice {
    /// Adds what the first read of a block found, whose bytes are at `start` of the contents.
    fn add(&mut self, start: u64, look: &Look, bytes: &[u8]) {
        let place = |range: &Range<u64>| start + range.start..start + range.end;
        look.unread.iter().for_each(|range| self.unread.insert(place(range)));
        if look.is_erased {
            self.erased.insert(start..start + bytes.len() as u64);
        }
        if let Some(contents) = &mut self.contents {
            look.unread.iter().for_each(|range| contents.unread.insert(place(range)));
            contents.bytes.extend_from_slice(bytes);
        }
    }
}

/// What a read of an eraseblock shows.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    checksum: u32,
    /// From the start of the block; FFh for the checksum.
    unread: ByteRanges,
    is_erased: bool,
}

/// Reads `block` into `contents`. `filler` differs from read to read, so that one that does nothing
/// is noticed.
fn look(
    flash: &mut dyn Flash,
    block: EraseBlock,
    filler: u8,
    is_patient: bool,
    contents: &mut Vec<u8>,
) -> Look {
    let started = Instant::now();
    contents.clear();
    contents.resize(block.length_bytes() as usize, filler);
    let unread = read_block(flash, block, contents);
    if is_patient {
        std::thread::sleep(started.elapsed());
    }
    unread.iter().for_each(|part| contents[part.start as usize..part.end as usize].fill(0xff));
    let is_erased = contents.iter().all(|byte| *byte == 0xff);
    Look { checksum: crc32fast::hash(contents), unread, is_erased }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io;

    use crate::agent::check::Verdict;
    use crate::flash::{Geometry, SimulatedFlash, WriteRule};

    /// Which reads go wrong, by their number.
    struct Chip {
        geometry: Geometry,
        reads: u32,
        bad_read: u32,
        bad_block: Option<u32>,
    }

    impl Flash for Chip {
        fn geometry(&self) -> &Geometry {
            &self.geometry
        }
        fn read(&mut self, offset_bytes: u64, buffer: &mut [u8]) -> io::Result<()> {
            self.reads += 1;
            buffer.fill((offset_bytes >> 12) as u8);
            if self.reads == self.bad_read {
                buffer[17] ^= 4;
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
        fn unlock(&mut self, _: u64, _: u64) -> io::Result<()> {
            panic!("a check unlocks nothing")
        }
        fn protect(&mut self, _: u64, _: u64) -> io::Result<()> {
            panic!("a check locks nothing")
        }
        fn is_bad(&mut self, block: EraseBlock) -> io::Result<bool> {
            Ok(Some(block.index()) == self.bad_block)
        }
    }

    fn chip(size_bytes: u64) -> Chip {
        let geometry = Geometry::uniform(size_bytes, 0x1000, 1, WriteRule::ClearBits).unwrap();
        Chip { geometry, reads: 0, bad_read: 0, bad_block: None }
    }

    #[test]
    fn the_chip_is_read_once_and_what_it_holds_is_handed_on() {
        let mut list = Checklist::default();
        let mut chip = Chip { bad_block: Some(1), ..chip(0x4000) };
        let extent = Extent { is_whole: true, step: 2, is_patient: false };
        let contents = reads_the_same(&mut list, &mut chip, extent, &ByteRanges::default());
        // Three good blocks, of which two once more, and the descriptor's page.
        assert_eq!(chip.reads, 6);
        let bytes: Vec<u8> = [0, 2, 3].iter().flat_map(|fill| [*fill; 0x1000]).collect();
        let contents = contents.unwrap();
        assert_eq!((contents.bytes == bytes, contents.unread.is_empty()), (true, true));
        assert_eq!(list.checks()[0].detail, "2 eraseblocks, one of 2, twice the same");

        let sample = Extent { is_whole: false, ..extent };
        chip.reads = 0;
        let contents = reads_the_same(&mut list, &mut chip, sample, &ByteRanges::default());
        assert_eq!((contents.is_some(), chip.reads), (false, 5));

        // What is wrong beyond the sample is noticed, too.
        let mut torn = simulated((0..0x4000u32).map(|n| (n >> 8) as u8).collect());
        torn.close(0x1000..0x2000);
        assert!(reads_the_same(&mut list, &mut torn, extent, &ByteRanges::default()).is_none());
        let preserved: ByteRanges = std::iter::once(0x1000..0x2000).collect();
        let contents = reads_the_same(&mut list, &mut torn, extent, &preserved).unwrap();
        assert_eq!((contents.bytes.len(), contents.unread), (0x4000, preserved));
    }

    fn verdict(chip: &mut dyn Flash, purpose: Purpose<'_>) -> Option<(Verdict, Reason, String)> {
        let mut list = Checklist::default();
        read_chip(&mut list, chip, purpose);
        list.checks().first().map(|check| (check.verdict, check.reason, check.detail.clone()))
    }

    #[test]
    fn a_single_bit_in_any_read_is_noticed() {
        for bad_read in 1..=8 {
            // The reads of the blocks come first.
            let mut chip = Chip { bad_read, ..chip(0x4000) };
            let (_, reason, detail) = verdict(&mut chip, Purpose::Check).unwrap();
            let offset = (bad_read - 1) % 4 * 0x1000;
            let expected = format!("the 0x1000 bytes at {offset:#x} did not read the same twice");
            assert_eq!((reason, detail), (Reason::BackupFailed, expected));
        }
    }

    /// A NAND chip of eraseblocks of 16 KiB, of which the first and the third are bad, holds a
    /// descriptor that closes the second 16 KiB of its contents.
    #[test]
    fn what_is_closed_counts_from_the_first_good_block() {
        const BLOCK: usize = 0x4000;
        let rule = WriteRule::PageOnce;
        let geometry = Geometry::uniform(6 * BLOCK as u64, BLOCK as u32, 0x800, rule).unwrap();
        let blocks: Vec<EraseBlock> = geometry.blocks().collect();
        let mut contents: Vec<u8> = (0..4 * BLOCK).map(|n| (n >> 8) as u8 & 0x7f).collect();
        write_descriptor(&mut contents, [(0, 3), (8, 15), (4, 7)]);
        let mut bytes = vec![0; 6 * BLOCK];
        for (good, part) in [1, 3, 4, 5].into_iter().zip(contents.chunks(BLOCK)) {
            bytes[good * BLOCK..][..BLOCK].copy_from_slice(part);
        }
        for (unreadable, is_closed) in [(3, true), (4, false)] {
            let mut chip = SimulatedFlash::new(geometry.clone(), bytes.clone());
            [0, 2].iter().for_each(|bad| chip.mark_bad(blocks[*bad]));
            chip.close(blocks[unreadable].offset_bytes()..blocks[unreadable].end_bytes());
            let (found, _, detail) = verdict(&mut chip, Purpose::Check).unwrap();
            let expected = if is_closed { Verdict::Ok } else { Verdict::NotOk };
            assert_eq!(found, expected, "{unreadable}: {detail}");
            assert_eq!(detail.contains("0x4000-0x7fff is closed"), is_closed, "{detail}");
        }
    }

    fn simulated(contents: Vec<u8>) -> SimulatedFlash {
        SimulatedFlash::new(chip(contents.len() as u64).geometry, contents)
    }

    /// Puts an Intel flash descriptor into the first page: descriptor, BIOS and ME lie in these
    /// first and last pages. The host may read what has its bit at 8 and 9.
    fn write_descriptor(contents: &mut [u8], [own, bios, me]: [(u32, u32); 3]) {
        contents[..0x1000].fill(0xff);
        let unused = (0x4c..0x80).step_by(4).map(|at| (at, 0x7fff));
        let words =
            [(0x10, 0x0ff0_a55a), (0x14, 0x0004_0003), (0x18, 0x4510_0208), (0x1c, 0x0031_0330)];
        let region = |(first, last)| last << 16 | first;
        let regions = [(0x40, region(own)), (0x44, region(bios)), (0x48, region(me))];
        let access = [(0x80, 0b11 << 8)];
        for (at, word) in words.into_iter().chain(regions).chain(access).chain(unused) {
            contents[at..at + 4].copy_from_slice(&u32::to_le_bytes(word));
        }
    }

    #[test]
    fn what_fails_is_in_the_way_unless_it_is_closed() {
        let mut broken = simulated((0..0x4000u32).map(|n| (n >> 8) as u8).collect());
        broken.close(0x1000..0x3000);
        let (found, reason, detail) = verdict(&mut broken, Purpose::Check).unwrap();
        assert_eq!((found, reason), (Verdict::NotOk, Reason::BackupFailed));
        assert!(detail.starts_with("0x1000-0x2fff cannot be read"), "{detail}");

        let mut contents: Vec<u8> = (0..0x4000u32).map(|n| (n >> 8) as u8).collect();
        write_descriptor(&mut contents, [(0, 0), (3, 3), (1, 2)]);
        for answers in [false, true] {
            let mut locked = simulated(contents.clone());
            locked.close(0x1000..0x3000);
            if answers {
                locked.answer_closed_reads();
            }
            let (found, _, detail) = verdict(&mut locked, Purpose::Check).unwrap();
            assert_eq!(found, Verdict::Ok, "{detail}");
            assert!(detail.contains("0x1000-0x2fff is closed to this host"), "{detail}");
        }
    }

    #[test]
    fn as_much_is_read_as_the_purpose_is_worth() {
        let mut small = Chip { bad_block: Some(2), ..chip(0x4000) };
        let (found, _, detail) = verdict(&mut small, Purpose::Check).unwrap();
        assert_eq!((found, small.reads), (Verdict::Ok, 7), "a bad block is not read");
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
