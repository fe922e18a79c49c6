//! Which MTD device holds this machine's firmware, where no setting says so: the one chip that a
//! driver of the board calls so, and that is large enough for what the firmware says of itself.

use std::path::Path;

use crate::host::drivers::of_mtd;
use crate::mtd::{MtdError, MtdInfo, MtdKind, Overlap};

/// What drivers and boards call the chip or partition with the firmware, in any case:
/// drivers/spi/spi-intel.c, drivers/mtd/maps.
const NAMES: [&str; 3] = ["bios", "firmware", "uefi"];

/// Drivers of controllers that have nothing but the firmware's chip behind them.
const CONTROLLERS: [&str; 6] = [
    "spi_intel",
    "spi_intel_pci",
    "spi_intel_platform",
    "intel_spi",
    "intel_spi_pci",
    "intel_spi_platform",
];

/// The firmware's own table (SMBIOS type 0), as the kernel shows it to root.
const BIOS_INFORMATION: &str = "sys/firmware/dmi/entries/0-0/raw";

/// Returns the chips that may be the firmware's: there is no doubt only when it is one.
///
/// # Errors
/// sysfs cannot be read or understood.
pub(super) fn candidates(root: &Path) -> Result<Vec<MtdInfo>, MtdError> {
    let sysfs = root.join("sys/class/mtd");
    let devices = MtdInfo::list(&sysfs)?;
    let rom_bytes = std::fs::read(root.join(BIOS_INFORMATION)).ok().and_then(|raw| rom_size(&raw));
    let mut found = Vec::new();
    for device in devices {
        let is_large_enough = rom_bytes.is_none_or(|bytes| device.size_bytes >= bytes);
        if device.kind == MtdKind::Nor
            && is_large_enough
            && (is_named(&device) || is_behind_controller(root, &device))
            && !is_part_of_another(&sysfs, &device)?
        {
            found.push(device);
        }
    }
    Ok(found)
}

/// Returns the chip that is the firmware's without doubt, by a name that is its alone: in the
/// recovery environment chips may have other numbers.
pub(super) fn the_firmwares(root: &Path) -> Option<MtdInfo> {
    let [only] = <[MtdInfo; 1]>::try_from(candidates(root).ok()?).ok()?;
    let named = MtdInfo::find(&root.join("sys/class/mtd"), &only.name).ok()?;
    (named.index == only.index).then_some(only)
}

fn is_named(device: &MtdInfo) -> bool {
    NAMES.iter().any(|name| device.name.eq_ignore_ascii_case(name))
}

fn is_behind_controller(root: &Path, device: &MtdInfo) -> bool {
    let drivers = of_mtd(root, device.index);
    let modules = drivers.bound.iter().chain(&drivers.built_in).chain(&drivers.beside);
    modules.into_iter().any(|module| CONTROLLERS.contains(&module.as_str()))
}

/// Whether a larger device has all of this one, as a chip has its partitions.
fn is_part_of_another(sysfs: &Path, device: &MtdInfo) -> Result<bool, MtdError> {
    let overlaps = Overlap::list(sysfs, device)?;
    let around = overlaps
        .iter()
        .filter(|overlap| overlap.start_bytes == 0 && overlap.end_bytes == device.size_bytes);
    for overlap in around {
        let other = MtdInfo::find(sysfs, &format!("/dev/mtd{}", overlap.index))?;
        if other.size_bytes > device.size_bytes {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the size of the firmware in bytes by SMBIOS type 0, from its fields BIOS ROM Size
/// (offset 09h) and Extended BIOS ROM Size (18h), DSP0134 section 7.1. Boards may count a region of
/// the chip alone.
fn rom_size(raw: &[u8]) -> Option<u64> {
    let length = usize::from(*raw.get(1)?);
    if raw.first() != Some(&0) {
        return None;
    }
    let small = *raw.get(9)?;
    if small != 0xff {
        return Some((u64::from(small) + 1) << 16);
    }
    let extended = raw.get(0x18..0x1a).filter(|_| length >= 0x1a)?;
    let extended = u16::from_le_bytes([extended[0], extended[1]]);
    let amount = u64::from(extended & 0x3fff);
    match extended >> 14 {
        0 => Some(amount << 20),
        1 => Some(amount << 30),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    fn add(root: &Path, index: u32, name: &str, kind: &str, size: u64) {
        let folder = root.join(format!("sys/class/mtd/mtd{index}"));
        fs::create_dir_all(&folder).unwrap();
        let write = |file: &str, text: String| fs::write(folder.join(file), text + "\n").unwrap();
        write("name", name.into());
        write("type", kind.into());
        write("flags", "0xc00".into());
        write("size", size.to_string());
        write("erasesize", "4096".into());
        write("writesize", "1".into());
        write("oobsize", "0".into());
    }

    fn names(root: &Path) -> Vec<String> {
        candidates(root).unwrap().into_iter().map(|device| device.name).collect()
    }

    #[test]
    fn a_chip_that_is_called_so_and_large_enough_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert!(names(root).is_empty());
        add(root, 0, "data", "nor", 16 << 20);
        add(root, 1, "BIOS", "nand", 16 << 20);
        assert!(names(root).is_empty());
        add(root, 2, "BIOS", "nor", 16 << 20);
        assert!(the_firmwares(root).is_none(), "recovery could not tell it from the NAND");
        add(root, 1, "other", "nand", 16 << 20);
        assert_eq!(names(root), ["BIOS"]);
        assert_eq!(the_firmwares(root).unwrap().index, 2);
        let table = root.join(BIOS_INFORMATION);
        fs::create_dir_all(table.parent().unwrap()).unwrap();
        let mut raw = vec![0; 0x1a];
        (raw[1], raw[9]) = (0x1a, 0xff);
        raw[0x18] = 32;
        fs::write(&table, &raw).unwrap();
        assert!(names(root).is_empty(), "32 MiB of firmware are in no chip of 16 MiB");
        raw[0x18] = 16;
        fs::write(&table, &raw).unwrap();
        add(root, 3, "bios", "nor", 32 << 20);
        assert_eq!(names(root), ["BIOS", "bios"], "two banks are for a person to tell apart");
    }

    #[test]
    fn the_size_is_read_as_smbios_has_it() {
        let raw = |length: u8, small: u8, extended: u16| {
            let mut raw = vec![0; 0x1a];
            (raw[1], raw[9]) = (length, small);
            raw[0x18..].copy_from_slice(&extended.to_le_bytes());
            raw
        };
        assert_eq!(rom_size(&raw(0x18, 0, 0)), Some(64 << 10));
        assert_eq!(rom_size(&raw(0x18, 0xfe, 0)), Some(255 << 16));
        assert_eq!(rom_size(&raw(0x1a, 0xff, 32)), Some(32 << 20));
        assert_eq!(rom_size(&raw(0x1a, 0xff, 0x4001)), Some(1 << 30));
        assert_eq!(rom_size(&raw(0x18, 0xff, 32)), None);
        for length in 0..10 {
            assert_eq!(rom_size(&raw(0x1a, 0, 0)[..length]), None);
        }
        assert_eq!(rom_size(&[1; 32]), None);
    }
}
