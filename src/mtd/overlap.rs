//! Which MTD devices share bytes: a chip and its partitions, partitions in partitions, partitions
//! that overlap.
//!
//! Linux shows a partition below its chip (`.../spi0.0/mtd/mtd0/mtd1`) where the kernel keeps the
//! chip as a device of its own (`CONFIG_MTD_PARTITIONED_MASTER`), else beside the other partitions
//! (`.../spi0.0/mtd/mtd0`, `mtd1`). Only partitions have the file `offset`
//! (`Documentation/ABI/testing/sysfs-class-mtd`), which counts from what they are a partition of.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::info::{number, parse_index};
use super::{MtdError, MtdInfo};

/// Another MTD device that has bytes of the one in question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The N of its `/dev/mtdN`.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether the kernel allows writes through it.
    pub is_writeable: bool,
    /// The first common byte, from the start of the device in question.
    pub start_bytes: u64,
    /// The first byte after the common ones.
    pub end_bytes: u64,
}

/// Where a device lies.
struct Place {
    /// Devices with the same chip lie on the same chip.
    chip: PathBuf,
    start_bytes: u64,
    end_bytes: u64,
}

impl Overlap {
    /// Returns all other devices that share bytes with `device`, by number. `sysfs_mtd` is
    /// [`SYSFS_MTD`](super::SYSFS_MTD).
    ///
    /// # Errors
    /// sysfs cannot be read or understood: then nobody knows what else would be written to.
    pub fn list(sysfs_mtd: &Path, device: &MtdInfo) -> Result<Vec<Self>, MtdError> {
        let own = Place::of(sysfs_mtd, device)?;
        let mut overlaps = Vec::new();
        for other in MtdInfo::list(sysfs_mtd)? {
            if other.index == device.index {
                continue;
            }
            let place = Place::of(sysfs_mtd, &other)?;
            let start = place.start_bytes.max(own.start_bytes);
            let end = place.end_bytes.min(own.end_bytes);
            if place.chip == own.chip && start < end {
                overlaps.push(Self {
                    index: other.index,
                    is_writeable: other.is_writeable(),
                    name: other.name,
                    start_bytes: start - own.start_bytes,
                    end_bytes: end - own.start_bytes,
                });
            }
        }
        Ok(overlaps)
    }
}

impl Place {
    fn of(sysfs_mtd: &Path, device: &MtdInfo) -> Result<Self, MtdError> {
        let mut at = device_folder(sysfs_mtd, device.index)?;
        let mut start_bytes = 0u64;
        // Ends at the device of the chip, or outside of all MTD devices.
        while is_mtd(&at)
            && let Some(offset_bytes) = offset(&at)?
        {
            start_bytes = start_bytes.saturating_add(offset_bytes);
            at.pop();
        }
        let end_bytes = start_bytes.saturating_add(device.size_bytes);
        Ok(Self { chip: at, start_bytes, end_bytes })
    }
}

/// Returns the folder of a device below `/sys/devices`.
pub(super) fn device_folder(sysfs_mtd: &Path, index: u32) -> Result<PathBuf, MtdError> {
    let link = sysfs_mtd.join(format!("mtd{index}"));
    link.canonicalize().map_err(|source| MtdError::Sysfs { path: link, source })
}

fn is_mtd(folder: &Path) -> bool {
    folder.file_name().and_then(|name| name.to_str()).and_then(parse_index).is_some()
}

/// `None` for a device that is no partition.
fn offset(folder: &Path) -> Result<Option<u64>, MtdError> {
    match number(&folder.join("offset")) {
        Ok(offset_bytes) => Ok(Some(offset_bytes)),
        Err(MtdError::Sysfs { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::mtd::testing::SysfsTree;

    fn overlaps(tree: &SysfsTree, selector: &str) -> Vec<(u32, bool, u64, u64)> {
        let device = MtdInfo::find(&tree.mtd(), selector).unwrap();
        let list = Overlap::list(&tree.mtd(), &device).unwrap();
        list.iter().map(|o| (o.index, o.is_writeable, o.start_bytes, o.end_bytes)).collect()
    }

    #[test]
    fn a_chip_its_partitions_and_theirs_share_bytes() {
        let tree = SysfsTree::new();
        let spi = "devices/pci0000:00/0000:00:1f.5/spi_master/spi0/spi0.0/mtd/mtd0";
        tree.add(0, spi, 0xc00, 0x10000, None);
        tree.add(1, &format!("{spi}/mtd1"), 0x800, 0x4000, Some(0));
        tree.add(2, &format!("{spi}/mtd2"), 0xc00, 0xc000, Some(0x4000));
        tree.add(3, &format!("{spi}/mtd2/mtd3"), 0x800, 0x1000, Some(0x2000));
        // Another chip that the kernel does not show, only its partitions.
        let other = "devices/platform/soc/10000000.flash/mtd";
        tree.add(4, &format!("{other}/mtd4"), 0xc00, 0x8000, Some(0));
        tree.add(5, &format!("{other}/mtd5"), 0x800, 0x8000, Some(0x8000));
        tree.add(6, &format!("{other}/mtd6"), 0x800, 0x1000, Some(0x7800));
        assert_eq!(
            overlaps(&tree, "/dev/mtd0"),
            [(1, false, 0, 0x4000), (2, true, 0x4000, 0x10000), (3, false, 0x6000, 0x7000)]
        );
        assert_eq!(
            overlaps(&tree, "/dev/mtd2"),
            [(0, true, 0, 0xc000), (3, false, 0x2000, 0x3000)]
        );
        assert_eq!(overlaps(&tree, "/dev/mtd4"), [(6, false, 0x7800, 0x8000)]);
        assert_eq!(overlaps(&tree, "/dev/mtd6"), [(4, true, 0, 0x800), (5, false, 0x800, 0x1000)]);
    }

    #[test]
    fn chips_without_hardware_behind_them_are_not_taken_for_one() {
        let tree = SysfsTree::new();
        tree.add(0, "devices/virtual/mtd/mtd0", 0x800, 0x1000, None);
        tree.add(1, "devices/virtual/mtd/mtd1", 0xc00, 0x1000, None);
        assert_eq!(overlaps(&tree, "/dev/mtd0"), []);
        tree.write(0, "offset", "x");
        let device = MtdInfo::find(&tree.mtd(), "/dev/mtd1").unwrap();
        let error = Overlap::list(&tree.mtd(), &device).unwrap_err().to_string();
        assert!(
            error.ends_with("mtd0/offset holds \"x\", which is not a number that can be there"),
            "{error}"
        );
    }
}
