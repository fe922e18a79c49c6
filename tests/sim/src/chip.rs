//! The chip of a simulated host: what fails on it, and what the host may not read of it.

use std::ops::Range;

use firmcast::flash::{Fault, Flash as _, Geometry, SimulatedFlash, WriteRule};
use firmcast::image::ByteRanges;
use firmcast_manager::campaign::Backup;

use crate::chance::Chance;
use crate::engine::Violation;

/// Erase and program unit of the chips.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// Flash operations in a row that go wrong: once, a few, or for good.
const FAULT_LENGTHS: [u64; 5] = [1, 1, 3, 12, 2000];

/// What a chipset keeps from the host's processor, as it does with a locked management engine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Closed {
    range: Range<usize>,
    /// Reads of it are answered FFh instead of failing.
    is_silent: bool,
}

impl Closed {
    /// All or the first blocks of a region that bundles preserve, with this probability.
    pub(crate) fn draw(chance: &mut Chance, probability: f64, preserve: &[Range<usize>]) -> Self {
        if preserve.is_empty() || !chance.happens(probability) {
            return Self::default();
        }
        let region = chance.pick(preserve).clone();
        let blocks = match chance.happens(0.5) {
            true => region.len() / BLOCK_BYTES,
            false => chance.within(1..(region.len() / BLOCK_BYTES) as u64 + 1) as usize,
        };
        let end = region.start + blocks * BLOCK_BYTES;
        Self { range: region.start..end, is_silent: chance.happens(0.3) }
    }

    pub(crate) fn contains(&self, offset_bytes: usize) -> bool {
        self.range.contains(&offset_bytes)
    }

    /// Reads of it do not fail: nobody could tell it from a fault.
    pub(crate) fn silent(self) -> Self {
        Self { is_silent: true, ..self }
    }

    /// A chip with these contents, of which this is closed.
    pub(crate) fn chip(&self, contents: Vec<u8>) -> SimulatedFlash {
        let size_bytes = contents.len() as u64;
        let geometry = Geometry::uniform(size_bytes, BLOCK_BYTES as u32, 1, WriteRule::ClearBits)
            .expect("whole blocks");
        let mut flash = SimulatedFlash::new(geometry, contents);
        if !self.range.is_empty() {
            flash.close(self.range.start as u64..self.range.end as u64);
        }
        if self.is_silent {
            flash.answer_closed_reads();
        }
        flash
    }

    /// Checks a backup against the chip: what it calls closed is preserved and reads FFh, all else
    /// is what the chip holds, and nothing of what fails to be read is taken for contents.
    pub(crate) fn check_backup(
        &self,
        backup: &Backup,
        flash: &SimulatedFlash,
        preserve: &[Range<usize>],
    ) -> Result<(), Violation> {
        let at = |range: &Range<u32>| u64::from(range.start)..u64::from(range.end);
        let told: ByteRanges = backup.closed.iter().map(at).collect();
        let at = |range: &Range<usize>| range.start as u64..range.end as u64;
        let kept: ByteRanges = preserve.iter().map(at).collect();
        if !told.iter().all(|range| kept.covers(range)) {
            return Err(format!("its backup has holes where nothing is preserved: {told}"));
        }
        if !self.range.is_empty() && !self.is_silent && !told.covers(&at(&self.range)) {
            return Err(format!("its backup has contents of {:x?}, which is closed", self.range));
        }
        let mut expected = flash.contents().to_vec();
        let holes = told.iter().map(|range| range.start as usize..range.end as usize);
        holes.chain([self.range.clone()]).for_each(|range| expected[range].fill(0xFF));
        match backup.bytes == expected {
            true => Ok(()),
            false => Err("its backup is not what the chip holds".into()),
        }
    }
}

/// A flash job begins: something will be wrong with one of its operations, or with many.
pub(crate) fn break_flash(flash: &mut SimulatedFlash, chance: &mut Chance) {
    let blocks = u64::from(flash.geometry().block_count());
    let first = flash.operations() + chance.within(0..2 * blocks + 8);
    let fault = *chance.pick(&[Fault::Error, Fault::HalfDone, Fault::WrongByte]);
    let count = match fault {
        // A chip that reads the same wrong byte twice is believed by everybody.
        Fault::WrongByte => 1,
        _ => *chance.pick(&FAULT_LENGTHS),
    };
    (first..first + count).for_each(|operation| flash.inject(operation, fault));
}

/// Erases and bytes written so far.
pub(crate) fn changes(flash: &SimulatedFlash) -> (u64, u64) {
    (flash.erases(), flash.bytes_written())
}

/// Whether a chip holds an image outside of these regions, which are sorted.
pub(crate) fn equal_outside(regions: &[Range<usize>], chip: &[u8], image: &[u8]) -> bool {
    let mut at = 0;
    for region in regions {
        if chip[at..region.start] != image[at..region.start] {
            return false;
        }
        at = region.end;
    }
    chip[at..] == image[at..]
}

/// The bytes of these regions, one region after the other.
pub(crate) fn inside(regions: &[Range<usize>], chip: &[u8]) -> Vec<u8> {
    regions.iter().flat_map(|region| chip[region.clone()].iter().copied()).collect()
}
