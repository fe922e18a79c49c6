//! Write protection that sysfs knows of beside the device's own flag and locks (`MTD_WRITEABLE`,
//! `MEMISLOCKED`): the SPI controller of Intel's chipsets, and partitions that the kernel keeps
//! read-only.
//!
//! The sources are independent of each other and may disagree. Whatever one of them says is locked
//! counts as locked, and so does a source that is there but cannot be read or understood.
//!
//! The controller's driver has three files (Linux
//! `Documentation/ABI/testing/sysfs-driver-spi-intel`, since 6.13; `drivers/spi/spi-intel.c`):
//!
//! | file | 1 means | forbids writes |
//! | --- | --- | --- |
//! | `intel_spi_protected` | a protected range covers a region, or `writeable=1` is missing | yes |
//! | `intel_spi_bios_locked` | the BIOS write enable bit is not set | yes |
//! | `intel_spi_locked` | FLOCKDN: registers are frozen until the next reset | no |
//!
//! `writeable=1` is an option of the driver. It could not set the BIOS write enable bit, or was not
//! told to. FLOCKDN freezes the registers that hold opcodes, regions and protected ranges.
//!
//! `intel_spi_locked` alone does not forbid writes. The driver then keeps to the opcodes that the
//! firmware left in the opcode menu and goes on writing with them, and controllers that have no
//! such menu write as before. Nearly every board sets it: fwupd's host security checks even ask for
//! it. What it freezes shows in the other two files.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::overlap::device_folder;
use super::{MtdError, MtdInfo, Overlap};

/// Files of the controller's driver, and whether a 1 in them forbids writes.
const CONTROLLER_FILES: &[(&str, bool)] =
    &[("intel_spi_protected", true), ("intel_spi_bios_locked", true), ("intel_spi_locked", false)];

/// What sysfs says of the write protection of one MTD device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// Why nothing on the chip may be changed, in words for the operator; empty if nothing says so.
    pub locks: Vec<String>,
    /// Facts that forbid nothing.
    pub remarks: Vec<String>,
    /// Other devices through which the kernel allows no writes to bytes of this one.
    pub read_only: Vec<Overlap>,
}

impl Protection {
    /// Asks all sources in `sysfs_mtd` (see [`SYSFS_MTD`](super::SYSFS_MTD)) about `device`.
    ///
    /// # Errors
    /// sysfs cannot be read or understood; that counts as locked.
    pub fn of(sysfs_mtd: &Path, device: &MtdInfo) -> Result<Self, MtdError> {
        let mut protection = Self::default();
        let folder = device_folder(sysfs_mtd, device.index)?;
        // The controller is an ancestor: .../0000:00:1f.5/spi_master/spi0/spi0.0/mtd/mtd0.
        for ancestor in folder.ancestors() {
            for (file, forbids) in CONTROLLER_FILES {
                protection.ask(&ancestor.join(file), file, *forbids);
            }
        }
        protection.read_only =
            Overlap::list(sysfs_mtd, device)?.into_iter().filter(|o| !o.is_writeable).collect();
        Ok(protection)
    }

    /// Returns the first read-only device that has bytes of a range.
    pub fn read_only_in(&self, start_bytes: u64, end_bytes: u64) -> Option<&Overlap> {
        self.read_only.iter().find(|o| o.start_bytes < end_bytes && start_bytes < o.end_bytes)
    }

    fn ask(&mut self, path: &Path, file: &str, forbids: bool) {
        let said = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            said => said.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()),
        };
        match (said.as_deref(), forbids) {
            (Ok("0"), _) => {}
            (Ok("1"), true) => self.locks.push(format!("{file} is 1")),
            (Ok("1"), false) => self.remarks.push(format!("{file} is 1")),
            (Ok(text), _) => self.locks.push(format!(
                "{file} holds \"{}\", which is neither 0 nor 1",
                text.escape_debug()
            )),
            (Err(error), _) => self.locks.push(format!("{file} cannot be read ({error})")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::mtd::testing::SysfsTree;

    const CONTROLLER: &str = "sys/devices/pci0000:00/0000:00:1f.5";
    const CHIP: &str = "devices/pci0000:00/0000:00:1f.5/spi_master/spi0/spi0.0/mtd/mtd0";

    fn intel() -> SysfsTree {
        let tree = SysfsTree::new();
        tree.add(0, CHIP, 0xc00, 0x10000, None);
        for (file, _) in CONTROLLER_FILES {
            tree.put(&format!("{CONTROLLER}/{file}"), "0\n");
        }
        tree
    }

    fn protection(tree: &SysfsTree) -> Protection {
        let device = MtdInfo::find(&tree.mtd(), "/dev/mtd0").unwrap();
        Protection::of(&tree.mtd(), &device).unwrap()
    }

    #[test]
    fn one_source_that_says_locked_is_enough() {
        let tree = intel();
        assert_eq!(protection(&tree), Protection::default(), "all say unlocked");
        for file in ["intel_spi_protected", "intel_spi_bios_locked"] {
            let tree = intel();
            tree.put(&format!("{CONTROLLER}/{file}"), "1\n");
            assert_eq!(protection(&tree).locks, [format!("{file} is 1")]);
        }
        let tree = intel();
        tree.put(&format!("{CONTROLLER}/intel_spi_locked"), "1\n");
        let found = protection(&tree);
        assert_eq!((found.locks.len(), found.remarks.len()), (0, 1), "frozen is not locked");
    }

    #[test]
    fn a_source_that_cannot_be_understood_counts_as_locked() {
        for (file, _) in CONTROLLER_FILES {
            for nonsense in ["", "2\n", "yes\n", "\u{7f}\n", "01\n", "0 1\n"] {
                let tree = intel();
                tree.put(&format!("{CONTROLLER}/{file}"), nonsense);
                let locks = protection(&tree).locks;
                assert!(locks[0].starts_with(file) && locks.len() == 1, "{nonsense:?}: {locks:?}");
            }
            // Root may read any file; a folder in its place cannot be read by anyone.
            let tree = intel();
            let path = tree.root().join(CONTROLLER).join(file);
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            assert!(protection(&tree).locks[0].contains("cannot be read"));
        }
    }

    #[test]
    fn controllers_without_these_files_and_older_kernels_say_nothing() {
        let tree = SysfsTree::new();
        tree.add(0, CHIP, 0xc00, 0x10000, None);
        assert_eq!(protection(&tree), Protection::default());
    }

    #[test]
    fn bytes_of_a_read_only_partition_are_read_only() {
        let tree = intel();
        tree.add(1, &format!("{CHIP}/mtd1"), 0x800, 0x1000, Some(0x2000));
        tree.add(2, &format!("{CHIP}/mtd2"), 0xc00, 0x1000, Some(0x4000));
        let found = protection(&tree);
        let index = |start, end| found.read_only_in(start, end).map(|o| o.index);
        assert_eq!(index(0x1000, 0x2000), None);
        assert_eq!(index(0x1000, 0x2001), Some(1));
        assert_eq!(index(0x2fff, 0x3000), Some(1));
        assert_eq!(index(0x3000, 0x10000), None, "mtd2 is writeable");
    }
}
