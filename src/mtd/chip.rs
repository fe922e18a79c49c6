//! What the firmware lies in: one MTD device, or several that are one BIOS together.
//!
//! Some boards have their BIOS on two chips, one behind the other in the processor's address space.
//! Each has a device of its own: only a device tree can have the kernel join them
//! (`CONFIG_MTD_VIRT_CONCAT`). Here the names are joined, as `LOW+HIGH`.

use std::fmt;
use std::io;
use std::path::Path;

use nix::errno::Errno;

use super::{Access, MtdDevice, MtdError, MtdInfo, MtdKind, Overlap, SYSFS_MTD};
use crate::flash::{EraseBlock, Flash, Geometry};

/// Most devices that are joined.
pub const JOINED_MAX: usize = 4;

/// Between the names of devices that are joined.
const AND: char = '+';

/// What sysfs says of the devices that the firmware lies in; of one at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChipInfo {
    devices: Vec<MtdInfo>,
}

impl ChipInfo {
    /// Returns the device that `selector` means ([`MtdInfo::find`]), or the devices whose names it
    /// joins by `+`, from the lowest address on.
    ///
    /// # Errors
    /// As [`MtdInfo::find`]; devices that cannot be one chip.
    pub fn find(sysfs_mtd: &Path, selector: &str) -> Result<Self, MtdError> {
        let names: Vec<&str> = selector.split(AND).collect();
        match MtdInfo::find(sysfs_mtd, selector) {
            Err(MtdError::NotFound { .. }) if names.len() > 1 => {}
            found => return found.map(Self::from),
        }
        let refuse = |why: String| MtdError::NotJoined { selector: selector.to_owned(), why };
        if names.len() > JOINED_MAX {
            return Err(refuse(format!("at most {JOINED_MAX} are joined")));
        }
        let mut devices: Vec<MtdInfo> = Vec::with_capacity(names.len());
        for name in names {
            let device = MtdInfo::find(sysfs_mtd, name)?;
            if device.name != name {
                let (index, own) = (device.index, &device.name);
                let why = format!(
                    "mtd{index} is given by its number, which may be another in the recovery \
                     environment: give its name \"{own}\""
                );
                return Err(refuse(why));
            }
            if device.kind == MtdKind::Nand {
                return Err(refuse(format!("\"{name}\" is NAND flash, whose blocks may go bad")));
            }
            let overlaps = Overlap::list(sysfs_mtd, &device)?;
            let shares = |other: &&MtdInfo| {
                let index = other.index;
                index == device.index || overlaps.iter().any(|overlap| overlap.index == index)
            };
            if let Some(other) = devices.iter().find(shares) {
                return Err(refuse(format!("\"{name}\" and \"{}\" share bytes", other.name)));
            }
            devices.push(device);
        }
        Ok(Self { devices })
    }

    /// Returns the devices, from the lowest address on.
    pub fn devices(&self) -> &[MtdInfo] {
        &self.devices
    }

    /// Returns the name that finds them again.
    pub fn name(&self) -> String {
        let names: Vec<&str> = self.devices.iter().map(|device| device.name.as_str()).collect();
        names.join(&AND.to_string())
    }

    /// Size of all of them, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.devices.iter().fold(0, |sum, device| sum.saturating_add(device.size_bytes))
    }

    /// Returns whether the drivers allow writes.
    pub fn is_writeable(&self) -> bool {
        self.devices.iter().all(MtdInfo::is_writeable)
    }
}

impl From<MtdInfo> for ChipInfo {
    fn from(device: MtdInfo) -> Self {
        Self { devices: vec![device] }
    }
}

/// Node and name of each: `/dev/mtd0 "bios"`.
impl fmt::Display for ChipInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, device) in self.devices.iter().enumerate() {
            let separator = if nth > 0 { " and " } else { "" };
            write!(f, "{separator}{} \"{}\"", device.path().display(), device.name)?;
        }
        Ok(())
    }
}

/// The open devices, as one [`Flash`].
#[derive(Debug)]
pub struct Chip {
    info: ChipInfo,
    devices: Vec<MtdDevice>,
    geometry: Geometry,
}

impl Chip {
    /// Opens what `selector` means, as [`ChipInfo::find`].
    ///
    /// # Errors
    /// As [`ChipInfo::find`] and [`MtdDevice::open`], and devices that are written in different
    /// ways.
    pub fn open(selector: &str, access: Access) -> Result<Self, MtdError> {
        Self::open_found(ChipInfo::find(Path::new(SYSFS_MTD), selector)?, access)
    }

    /// Opens these devices.
    ///
    /// # Errors
    /// As [`Chip::open`]; they are no longer what was found.
    pub fn open_found(info: ChipInfo, access: Access) -> Result<Self, MtdError> {
        let mut devices = Vec::with_capacity(info.devices.len());
        for found in &info.devices {
            let path = found.path();
            let device = MtdDevice::open(&path.to_string_lossy(), access)?;
            if device.info() != found {
                return Err(MtdError::Changed { path });
            }
            devices.push(device);
        }
        let geometries: Vec<&Geometry> = devices.iter().map(Flash::geometry).collect();
        let geometry = Geometry::join(&geometries).map_err(|error| MtdError::NotJoined {
            selector: info.name(),
            why: error.to_string(),
        })?;
        Ok(Self { info, devices, geometry })
    }

    /// Returns what sysfs says of the devices.
    pub fn info(&self) -> &ChipInfo {
        &self.info
    }

    /// Calls `each` with every device that has bytes of a range, the place on it, and how many of
    /// the range's bytes are there. What reaches beyond the end is left to the last device to
    /// refuse.
    fn on_each(
        &mut self,
        offset_bytes: u64,
        length_bytes: u64,
        mut each: impl FnMut(&mut MtdDevice, u64, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let end = offset_bytes.saturating_add(length_bytes);
        let last = self.devices.len().saturating_sub(1);
        let mut starts = 0;
        for (nth, device) in self.devices.iter_mut().enumerate() {
            let ends = if nth == last { u64::MAX } else { starts + device.geometry().size_bytes() };
            let (from, to) = (offset_bytes.max(starts), end.min(ends));
            if from < to {
                each(device, from - starts, to - from)?;
            }
            starts = ends;
        }
        Ok(())
    }

    /// The device that has this eraseblock, and its own eraseblock.
    fn own_block(&mut self, block: EraseBlock) -> io::Result<(&mut MtdDevice, EraseBlock)> {
        let mut starts = 0;
        for device in &mut self.devices {
            let ends = starts + device.geometry().size_bytes();
            if (starts..ends).contains(&block.offset_bytes()) {
                let own = device.geometry().block_at(block.offset_bytes() - starts);
                let own = own.filter(|own| own.length_bytes() == block.length_bytes());
                return own.map(|own| (device, own)).ok_or_else(|| Errno::EINVAL.into());
            }
            starts = ends;
        }
        Err(Errno::EINVAL.into())
    }
}

impl Flash for Chip {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn read(&mut self, offset_bytes: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut rest = buffer;
        self.on_each(offset_bytes, rest.len() as u64, |device, own_offset_bytes, length_bytes| {
            let (part, behind) = std::mem::take(&mut rest).split_at_mut(length_bytes as usize);
            rest = behind;
            device.read(own_offset_bytes, part)
        })
    }

    fn erase(&mut self, block: EraseBlock) -> io::Result<()> {
        let (device, own) = self.own_block(block)?;
        device.erase(own)
    }

    fn write(&mut self, offset_bytes: u64, data: &[u8]) -> io::Result<()> {
        let mut rest = data;
        self.on_each(offset_bytes, data.len() as u64, |device, own_offset_bytes, length_bytes| {
            let (part, behind) = rest.split_at(length_bytes as usize);
            rest = behind;
            device.write(own_offset_bytes, part)
        })
    }

    fn is_locked(&mut self, block: EraseBlock) -> io::Result<bool> {
        let (device, own) = self.own_block(block)?;
        device.is_locked(own)
    }

    fn unlock(&mut self, offset_bytes: u64, length_bytes: u64) -> io::Result<()> {
        self.on_each(offset_bytes, length_bytes, MtdDevice::unlock)
    }

    fn protect(&mut self, offset_bytes: u64, length_bytes: u64) -> io::Result<()> {
        self.on_each(offset_bytes, length_bytes, MtdDevice::protect)
    }

    fn is_bad(&mut self, block: EraseBlock) -> io::Result<bool> {
        let (device, own) = self.own_block(block)?;
        device.is_bad(own)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::mtd::testing::SysfsTree;
    use crate::reason::Reason;

    /// Two chips, and a partition of the first.
    fn board() -> SysfsTree {
        let tree = SysfsTree::new();
        tree.add(0, "devices/low/mtd/mtd0", 0xc00, 0x10000, None);
        tree.add(1, "devices/low/mtd/mtd0/mtd1", 0xc00, 0x1000, Some(0));
        tree.add(2, "devices/high/mtd/mtd2", 0xc00, 0x20000, None);
        tree
    }

    #[test]
    fn names_that_are_joined_mean_chips_in_this_order() {
        let tree = board();
        let found = |selector: &str| ChipInfo::find(&tree.mtd(), selector).unwrap();
        let both = found("part0+part2");
        assert_eq!((both.name().as_str(), both.size_bytes()), ("part0+part2", 0x30000));
        assert_eq!(both.to_string(), "/dev/mtd0 \"part0\" and /dev/mtd2 \"part2\"");
        assert_eq!(found("part2+part0").devices()[0].index, 2);
        assert_eq!(found("mtd2").name(), "part2");
        // A name may have the sign in it.
        tree.write(2, "name", "part0+part1");
        assert_eq!(found("part0+part1").devices()[0].index, 2);
    }

    #[test]
    fn devices_that_are_no_two_chips_are_not_joined() {
        let tree = board();
        for (selector, says, reason) in [
            ("part0+part0", "share bytes", Reason::FlashUnsupported),
            ("part0+part1", "\"part1\" and \"part0\" share bytes", Reason::FlashUnsupported),
            ("part0+mtd2", "give its name \"part2\"", Reason::FlashUnsupported),
            ("part0+", "no MTD device \"\"", Reason::FlashNotFound),
            ("part0+part7", "no MTD device \"part7\"", Reason::FlashNotFound),
            ("part0+part1+part2+part0+part0", "at most 4", Reason::FlashUnsupported),
        ] {
            let error = ChipInfo::find(&tree.mtd(), selector).unwrap_err();
            assert!(error.to_string().contains(says), "{selector}: {error}");
            assert_eq!(error.reason(), reason, "{selector}");
        }
        tree.write(2, "name", "part0");
        let error = ChipInfo::find(&tree.mtd(), "part0+part1").unwrap_err();
        assert!(error.to_string().contains("2 MTD devices are named \"part0\""), "{error}");
        let tree = board();
        tree.write(2, "type", "nand");
        let error = ChipInfo::find(&tree.mtd(), "part0+part2").unwrap_err();
        assert!(error.to_string().contains("\"part2\" is NAND"), "{error}");
    }
}
