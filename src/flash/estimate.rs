//! How long a change takes, foreseen from what chips of a kind need. An operator plans with it;
//! nothing is decided by it.

use super::{Change, FlashPlan, Geometry, Placement, WriteRule};
use crate::flash::plan::written_ranges;

/// What is asked of a chip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Eraseblocks to erase.
    pub erases: u64,
    /// Sum of their lengths.
    pub erase_bytes: u64,
    /// Bytes to write.
    pub write_bytes: u64,
    /// Bytes to read: backup, second read, read back, final comparison.
    pub read_bytes: u64,
}

/// How long it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// With the times that a data sheet calls typical, in milliseconds.
    pub typical_ms: u64,
    /// With those that it calls maximal, in milliseconds.
    pub longest_ms: u64,
}

/// Times of one kind of chip, in microseconds.
struct Pace {
    /// Erase of an eraseblock of at most 4 KiB.
    small_erase_us: u64,
    /// Erase of 64 KiB in larger eraseblocks; NAND: of any eraseblock.
    large_erase_us: u64,
    /// Write of 256 bytes; NAND: of a page.
    page_us: u64,
    /// Read of 1 KiB.
    read_us: u64,
}

/// SPI NOR: Macronix MX25L25635E, a slow chip among those that hold firmware (data sheet, "AC
/// characteristics": sector erase 60 ms, at most 300; block erase 0.7 s, at most 2; page program
/// 1.4 ms, at most 5); reads at 50 MHz and at 10 MHz on one line.
const NOR: [Pace; 2] = [
    Pace { small_erase_us: 60_000, large_erase_us: 700_000, page_us: 1_400, read_us: 164 },
    Pace { small_erase_us: 300_000, large_erase_us: 2_000_000, page_us: 5_000, read_us: 820 },
];

/// SLC NAND: Micron MT29F4G08 (data sheet, "Program/erase characteristics": erase 0.7 ms, at most
/// 3; page program 0.2 ms, at most 0.6); reads at 20 MB/s and at 5 MB/s.
const NAND: [Pace; 2] = [
    Pace { small_erase_us: 700, large_erase_us: 700, page_us: 200, read_us: 50 },
    Pace { small_erase_us: 3_000, large_erase_us: 3_000, page_us: 600, read_us: 200 },
];

/// RAM takes next to no time.
const RAM: Pace = Pace { small_erase_us: 0, large_erase_us: 0, page_us: 1, read_us: 1 };

const SMALL_ERASE_BYTES: u64 = 4 << 10;
const LARGE_ERASE_BYTES: u64 = 64 << 10;
const NOR_PAGE_BYTES: u64 = 256;

impl Estimate {
    /// Foresees the time for `work` on a chip like this.
    pub fn of(work: Workload, geometry: &Geometry) -> Self {
        let [typical, longest] = match geometry.rule() {
            WriteRule::ClearBits => &NOR,
            WriteRule::PageOnce => &NAND,
            WriteRule::Overwrite => &[RAM, RAM],
        };
        Self {
            typical_ms: typical.total_us(work, geometry) / 1000,
            longest_ms: longest.total_us(work, geometry) / 1000,
        }
    }
}

impl Pace {
    fn total_us(&self, work: Workload, geometry: &Geometry) -> u64 {
        let nand = geometry.rule() == WriteRule::PageOnce;
        let average_bytes = work.erase_bytes.checked_div(work.erases).unwrap_or(0);
        let erase_us = match average_bytes {
            _ if nand => work.erases * self.large_erase_us,
            0..=SMALL_ERASE_BYTES => work.erases * self.small_erase_us,
            _ => work.erase_bytes * self.large_erase_us / LARGE_ERASE_BYTES,
        };
        let page_bytes = if nand { geometry.write_bytes().into() } else { NOR_PAGE_BYTES };
        let write_us = work.write_bytes.div_ceil(page_bytes) * self.page_us;
        erase_us + write_us + work.read_bytes / 1024 * self.read_us
    }
}

impl FlashPlan {
    /// Returns what the plan asks of the chip, from the backup to the final comparison.
    pub fn workload(&self, placement: &Placement, geometry: &Geometry) -> Workload {
        // The backup, and the comparison of everything.
        let read_bytes = 2 * placement.image_bytes() as u64;
        let mut work = Workload { read_bytes, ..Workload::default() };
        for operation in self.operations() {
            let contents = &self.target()[placement.range(operation.block)];
            let length_bytes = contents.len() as u64;
            // The second read of the backup, and the read back.
            work.read_bytes += 2 * length_bytes;
            let written = match &operation.change {
                Change::WriteOnly(ranges) => ranges.clone(),
                Change::EraseAndWrite => {
                    work.erases += 1;
                    work.erase_bytes += length_bytes;
                    written_ranges(contents, geometry.write_bytes() as usize)
                }
            };
            work.write_bytes += written.iter().map(|range| range.len() as u64).sum::<u64>();
        }
        work
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The pace of a known update: 64 MiB of an MX25L25635E's 4 KiB blocks, erased in over 16
    /// minutes.
    #[test]
    fn erases_dominate_on_nor() {
        let chip = Geometry::uniform(64 << 20, 4096, 1, WriteRule::ClearBits).unwrap();
        let (erases, bytes) = (16384, 64 << 20);
        let work =
            Workload { erases, erase_bytes: bytes, write_bytes: bytes, read_bytes: 4 * bytes };
        let estimate = Estimate::of(work, &chip);
        assert_eq!(estimate.typical_ms, (16384 * 60_000 + 262_144 * 1_400 + 262_144 * 164) / 1000);
        assert!(estimate.longest_ms > 4 * 16384 * 60);
        assert_eq!(Estimate::of(Workload::default(), &chip), Estimate::default());
    }
}
