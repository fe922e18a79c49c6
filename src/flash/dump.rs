//! The contents of a chip in a file, and beside it what else an update depends on: written by
//! `firmcastd backup`, tried by `firmcast bundle try`.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{EraseRegion, Geometry, GeometryError, SimulatedFlash, WriteRule};
use crate::image::{Board, ByteRanges};
use crate::keys::Fingerprint;

/// Size of the eraseblocks of a chip of which nothing is known, in bytes: that of SPI NOR.
const USUAL_BLOCK_BYTES: u32 = 4096;

/// Most regions of equal eraseblocks in a file.
const REGIONS_MAX: usize = 16;

/// The machine that a dump is of. One JSON object in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DumpFacts {
    /// DMI `sys_vendor`, as the host tells it.
    pub vendor: String,
    /// DMI `product_name`.
    pub product: String,
    /// DMI `bios_version`.
    pub bios_version: String,
    /// Highest security version that was confirmed there.
    #[serde(default)]
    pub security_version_floor: u64,
    /// Fingerprint of the host's key, if it has one.
    #[serde(default)]
    pub host: Option<String>,
    /// Eraseblocks from the start of the chip on; empty where they are not known.
    #[serde(default)]
    pub eraseblocks: Vec<EraseblockFacts>,
    /// Where further chips begin, in bytes, if the dump is of several that are one BIOS.
    #[serde(default)]
    pub joints: Vec<u64>,
    /// Smallest write, in bytes; 1 where it is not known.
    #[serde(default)]
    pub write_bytes: Option<u32>,
    /// What a write may do; clear bits where it is not known, as on all NOR flash.
    #[serde(default)]
    pub write_rule: Option<WriteRule>,
    /// First byte and length of what the host may not read; FFh in the dump.
    #[serde(default)]
    pub closed: ByteRanges,
}

/// Eraseblocks of one size, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EraseblockFacts {
    /// Size of each, in bytes.
    pub bytes: u32,
    /// How many.
    pub count: u64,
}

/// Why a dump cannot be tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// The facts are of another chip.
    #[error("the board file's chip is not that of the dump: {0}; use the file that belongs to it")]
    Geometry(#[from] GeometryError),
    /// Too many regions.
    #[error("the board file has {0} regions of eraseblocks, expected at most {REGIONS_MAX}")]
    Regions(usize),
    /// Not a fingerprint.
    #[error("the board file's host is no fingerprint of a host's key")]
    Host,
}

impl DumpFacts {
    /// Returns the file beside a dump that holds these facts.
    pub fn file_of(dump: &Path) -> PathBuf {
        let mut name = dump.as_os_str().to_owned();
        name.push(".json");
        name.into()
    }

    /// Returns what is known of a chip and its machine.
    pub fn of(board: &Board, geometry: &Geometry, closed: &ByteRanges) -> Self {
        let mut eraseblocks: Vec<EraseblockFacts> = Vec::new();
        for block in geometry.blocks() {
            match eraseblocks.last_mut() {
                Some(last) if last.bytes == block.length_bytes() => last.count += 1,
                _ => eraseblocks.push(EraseblockFacts { bytes: block.length_bytes(), count: 1 }),
            }
        }
        Self {
            vendor: board.vendor.clone(),
            product: board.product.clone(),
            bios_version: board.bios_version.clone(),
            security_version_floor: board.security_version_floor,
            host: board.host.map(|host| host.to_string()),
            eraseblocks,
            joints: geometry.joints().to_vec(),
            write_bytes: Some(geometry.write_bytes()),
            write_rule: Some(geometry.rule()),
            closed: closed.clone(),
        }
    }

    /// Returns what the machine knows of itself.
    ///
    /// # Errors
    /// [`DumpError::Host`].
    pub fn board(&self, flash_size_bytes: u64) -> Result<Board, DumpError> {
        let host: Option<Result<Fingerprint, _>> = self.host.as_ref().map(|host| host.parse());
        Ok(Board {
            vendor: self.vendor.clone(),
            product: self.product.clone(),
            bios_version: self.bios_version.clone(),
            flash_size_bytes,
            security_version_floor: self.security_version_floor,
            host: host.transpose().map_err(|_| DumpError::Host)?,
        })
    }

    /// Returns a chip that holds the dump.
    ///
    /// # Errors
    /// Eraseblocks that are not those of a chip of the dump's size.
    pub fn chip(&self, dump: Vec<u8>) -> Result<SimulatedFlash, DumpError> {
        let size_bytes = dump.len() as u64;
        let write_bytes = self.write_bytes.unwrap_or(1);
        let rule = self.write_rule.unwrap_or(WriteRule::ClearBits);
        let geometry = match self.eraseblocks.as_slice() {
            [] => Geometry::uniform(size_bytes, USUAL_BLOCK_BYTES, write_bytes, rule)?,
            known if known.len() > REGIONS_MAX => return Err(DumpError::Regions(known.len())),
            known => {
                let regions: Vec<EraseRegion> = known
                    .iter()
                    .map(|facts| EraseRegion { block_bytes: facts.bytes, block_count: facts.count })
                    .collect();
                Geometry::new(size_bytes, &regions, write_bytes, rule)?
            }
        };
        let mut chip = SimulatedFlash::new(geometry.joined_at(&self.joints)?, dump);
        // Whoever wrote the file may have got the order wrong.
        let inside = |range: &&Range<u64>| range.start < range.end && range.end <= size_bytes;
        self.closed.iter().filter(inside).for_each(|range| chip.close(range.clone()));
        Ok(chip)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::flash::Flash as _;

    #[test]
    fn a_dump_becomes_the_chip_that_it_was_read_from() {
        let regions = [
            EraseRegion { block_bytes: 0x1000, block_count: 4 },
            EraseRegion { block_bytes: 0x4000, block_count: 1 },
        ];
        let geometry = Geometry::new(0x8000, &regions, 1, WriteRule::ClearBits).unwrap();
        let geometry = geometry.joined_at(&[0x4000]).unwrap();
        let board = Board { vendor: "V".into(), product: "P".into(), ..Board::default() };
        let closed: ByteRanges = std::iter::once(0x1000..0x2000).collect();
        let facts = DumpFacts::of(&board, &geometry, &closed);
        let text = serde_json::to_string(&facts).unwrap();
        let facts: DumpFacts = serde_json::from_str(&text).unwrap();
        let mut chip = facts.chip(vec![7; 0x8000]).unwrap();
        assert_eq!(*chip.geometry(), geometry);
        assert!(chip.read(0x1000, &mut [0; 1]).is_err());
        assert_eq!(facts.board(0x8000).unwrap(), Board { flash_size_bytes: 0x8000, ..board });
        assert!(matches!(facts.chip(vec![7; 0x9000]), Err(DumpError::Geometry(_))));
        // Of a chip of which nothing is known.
        let chip = DumpFacts::default().chip(vec![7; 0x8000]).unwrap();
        assert_eq!(chip.geometry().block_count(), 8);
    }
}
