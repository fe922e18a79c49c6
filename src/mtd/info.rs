//! MTD devices as sysfs describes them (Linux `Documentation/ABI/testing/sysfs-class-mtd`).

use std::fs;
use std::path::{Path, PathBuf};

use super::MtdError;
use crate::flash::WriteRule;
use crate::order::sort_by_rank;

/// Where sysfs lists the MTD devices.
pub const SYSFS_MTD: &str = "/sys/class/mtd";

/// The driver allows writes (`mtd-abi.h`, like the other flags).
pub const MTD_WRITEABLE: u32 = 0x400;
/// Single bits can be written, again and again.
pub const MTD_BIT_WRITEABLE: u32 = 0x800;
/// No erase is necessary.
pub const MTD_NO_ERASE: u32 = 0x1000;
/// The chip is locked after each reset.
pub const MTD_POWERUP_LOCK: u32 = 0x2000;

/// What kind of memory a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MtdKind {
    /// RAM, or something that behaves so.
    Ram,
    /// NOR flash: parallel, or behind SPI.
    Nor,
    /// NAND flash, SLC or MLC.
    Nand,
    /// Atmel's DataFlash.
    Dataflash,
    /// A kind that firmware is not flashed to, by its name in sysfs.
    Other(String),
}

/// One MTD device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MtdInfo {
    /// The N of `/dev/mtdN`.
    pub index: u32,
    /// Name from the driver or the partition table.
    pub name: String,
    /// What it is.
    pub kind: MtdKind,
    /// `MTD_WRITEABLE` and so on.
    pub flags: u32,
    /// Size.
    pub size_bytes: u64,
    /// Size of an eraseblock; of the largest, where they differ.
    pub erase_bytes: u32,
    /// Smallest write.
    pub write_bytes: u32,
    /// Spare bytes of each page (NAND).
    pub oob_bytes: u32,
}

impl MtdInfo {
    /// Returns all devices under `sysfs_mtd` (see [`SYSFS_MTD`]), by number. None when the kernel
    /// has no MTD support loaded.
    ///
    /// # Errors
    /// sysfs cannot be read or understood.
    pub fn list(sysfs_mtd: &Path) -> Result<Vec<Self>, MtdError> {
        let sysfs = |source| MtdError::Sysfs { path: sysfs_mtd.to_owned(), source };
        let entries = match fs::read_dir(sysfs_mtd) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(sysfs)?,
        };
        let mut devices = Vec::new();
        for entry in entries {
            let entry = entry.map_err(sysfs)?;
            // Each device is there twice: mtdN and its read-only twin mtdNro.
            if let Some(index) = entry.file_name().to_str().and_then(parse_index) {
                devices.push(Self::read(&entry.path(), index)?);
            }
        }
        sort_by_rank(&mut devices, |device| [device.index.into()]);
        Ok(devices)
    }

    /// Returns the device that `selector` means: a name, `mtdN`, or `/dev/mtdN`.
    ///
    /// # Errors
    /// As [`MtdInfo::list`]; no device is meant, or several are.
    pub fn find(sysfs_mtd: &Path, selector: &str) -> Result<Self, MtdError> {
        let mut devices = Self::list(sysfs_mtd)?;
        let path_index = selector.strip_prefix("/dev/").and_then(parse_index);
        let mut meant: Vec<usize> = match path_index {
            Some(index) => (0..devices.len()).filter(|at| devices[*at].index == index).collect(),
            None => (0..devices.len()).filter(|at| devices[*at].name == selector).collect(),
        };
        if meant.is_empty() {
            // "mtd0" is a number only where no device has that very name.
            meant = (0..devices.len())
                .filter(|at| Some(devices[*at].index) == parse_index(selector))
                .collect();
        }
        match meant[..] {
            [] => {
                Err(MtdError::NotFound { selector: selector.to_owned(), known: describe(&devices) })
            }
            [only] => Ok(devices.swap_remove(only)),
            [first, ..] => Err(MtdError::Ambiguous {
                selector: selector.to_owned(),
                count: meant.len(),
                first: devices[first].index,
            }),
        }
    }

    fn read(directory: &Path, index: u32) -> Result<Self, MtdError> {
        let number = |name: &str| number(&directory.join(name));
        // A value that does not fit is not cut to one that does.
        let narrow = |name: &str| {
            let wide = number(name)?;
            let malformed =
                |_| MtdError::Malformed { path: directory.join(name), text: wide.to_string() };
            u32::try_from(wide).map_err(malformed)
        };
        Ok(Self {
            index,
            name: text(&directory.join("name"))?,
            kind: MtdKind::from_sysfs(text(&directory.join("type"))?),
            flags: narrow("flags")?,
            size_bytes: number("size")?,
            erase_bytes: narrow("erasesize")?,
            write_bytes: narrow("writesize")?,
            oob_bytes: narrow("oobsize")?,
        })
    }

    /// Returns the device node.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/mtd{}", self.index))
    }

    /// Returns whether the driver allows writes.
    pub fn is_writeable(&self) -> bool {
        self.flags & MTD_WRITEABLE != 0
    }

    /// Returns what a write may do; `None` for a kind that firmware is not flashed to.
    pub fn write_rule(&self) -> Option<WriteRule> {
        match self.kind {
            MtdKind::Other(_) => None,
            _ if self.flags & MTD_NO_ERASE != 0 => Some(WriteRule::Overwrite),
            _ if self.flags & MTD_BIT_WRITEABLE != 0 => Some(WriteRule::ClearBits),
            _ => Some(WriteRule::PageOnce),
        }
    }
}

impl MtdKind {
    fn from_sysfs(kind: String) -> Self {
        match kind.as_str() {
            "ram" => Self::Ram,
            "nor" => Self::Nor,
            "nand" | "mlc-nand" => Self::Nand,
            "dataflash" => Self::Dataflash,
            _ => Self::Other(kind),
        }
    }
}

impl std::fmt::Display for MtdKind {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Ram => "ram",
            Self::Nor => "nor",
            Self::Nand => "nand",
            Self::Dataflash => "dataflash",
            Self::Other(kind) => kind,
        })
    }
}

pub(super) fn parse_index(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("mtd")?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn describe(devices: &[MtdInfo]) -> String {
    if devices.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<String> =
        devices.iter().map(|device| format!("mtd{} \"{}\"", device.index, device.name)).collect();
    names.join(", ")
}

fn text(path: &Path) -> Result<String, MtdError> {
    let text = fs::read_to_string(path)
        .map_err(|source| MtdError::Sysfs { path: path.to_owned(), source })?;
    Ok(text.trim_end_matches('\n').to_owned())
}

/// `flags` is hexadecimal with 0x, the others are decimal.
pub(super) fn number(path: &Path) -> Result<u64, MtdError> {
    let text = text(path)?;
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| MtdError::Malformed { path: path.to_owned(), text })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn add(root: &Path, directory: &str, fields: [&str; 7]) {
        let directory = root.join(directory);
        fs::create_dir(&directory).unwrap();
        let files = ["name", "type", "flags", "size", "erasesize", "writesize", "oobsize"];
        for (file, value) in files.iter().zip(fields) {
            fs::write(directory.join(file), format!("{value}\n")).unwrap();
        }
    }

    /// Values as Linux 6.1 shows them for the CFI chip of QEMU, nandsim, and two partitions of the
    /// same name.
    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let flash = ["physmap-flash.0", "nor", "0xc00", "2097152", "4096", "1", "0"];
        add(root.path(), "mtd0", flash);
        add(root.path(), "mtd0ro", flash);
        add(
            root.path(),
            "mtd1",
            ["NAND simulator partition 0", "nand", "0x400", "8589934592", "131072", "2048", "64"],
        );
        add(root.path(), "mtd2", ["bios", "nor", "0x800", "4096", "4096", "1", "0"]);
        add(root.path(), "mtd10", ["bios", "ram", "0x1c00", "4096", "4096", "1", "0"]);
        add(root.path(), "mtd11", ["mtd2", "rom", "0x0", "4096", "4096", "1", "0"]);
        root
    }

    #[test]
    fn devices_are_found_by_name_number_and_path() {
        let root = tree();
        let index = |selector| MtdInfo::find(root.path(), selector).unwrap().index;
        assert_eq!((index("physmap-flash.0"), index("mtd0"), index("/dev/mtd0")), (0, 0, 0));
        assert_eq!((index("mtd2"), index("/dev/mtd2")), (11, 2), "a name counts before a number");
        let listed: Vec<u32> =
            MtdInfo::list(root.path()).unwrap().iter().map(|device| device.index).collect();
        assert_eq!(listed, [0, 1, 2, 10, 11]);
        let nand = MtdInfo::find(root.path(), "/dev/mtd1").unwrap();
        assert_eq!(
            (nand.size_bytes, nand.oob_bytes, nand.write_rule()),
            (8 << 30, 64, Some(WriteRule::PageOnce))
        );
    }

    #[test]
    fn flags_say_what_a_write_may_do() {
        let root = tree();
        let of = |selector| {
            let info = MtdInfo::find(root.path(), selector).unwrap();
            (info.is_writeable(), info.write_rule())
        };
        assert_eq!(of("/dev/mtd0"), (true, Some(WriteRule::ClearBits)));
        assert_eq!(of("/dev/mtd2"), (false, Some(WriteRule::ClearBits)));
        assert_eq!(of("/dev/mtd10"), (true, Some(WriteRule::Overwrite)));
        assert_eq!(of("/dev/mtd11"), (false, None));
    }

    #[test]
    fn what_cannot_be_found_is_said_with_what_there_is() {
        let root = tree();
        let error = |selector: &str| MtdInfo::find(root.path(), selector).unwrap_err().to_string();
        assert!(
            error("bios")
                .contains("2 MTD devices are named \"bios\": name one by its path, as /dev/mtd2")
        );
        for selector in
            ["", "mtd", "mtd3", "mtd+1", "/dev/mtd0ro", "/dev/mtd99999999999", "/dev/bios"]
        {
            assert!(error(selector).contains("mtd0 \"physmap-flash.0\", mtd1 "), "{selector}");
        }
        let none = MtdInfo::find(&root.path().join("missing"), "bios").unwrap_err().to_string();
        assert!(none.contains("there is: none."), "{none}");
    }

    #[test]
    fn broken_sysfs_files_are_named() {
        let root = tree();
        fs::write(root.path().join("mtd0/size"), "-1\n").unwrap();
        let error = MtdInfo::list(root.path()).unwrap_err().to_string();
        assert!(
            error.ends_with("mtd0/size holds \"-1\", which is not a number that can be there"),
            "{error}"
        );
        fs::remove_file(root.path().join("mtd0/size")).unwrap();
        assert!(MtdInfo::list(root.path()).unwrap_err().to_string().contains("mtd0/size"));
    }
}
