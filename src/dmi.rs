//! What the firmware says about the board, as the kernel shows it in /sys/class/dmi/id (SMBIOS types 0 and 1).

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Longest SMBIOS string that is read, in bytes.
const TEXT_SIZE_MAX: u64 = 256;

/// The strings that tell boards and firmware versions apart. Empty where the firmware says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dmi {
    /// `sys_vendor`.
    pub vendor: String,
    /// `product_name`.
    pub product: String,
    /// `bios_vendor`.
    pub bios_vendor: String,
    /// `bios_version`.
    pub bios_version: String,
}

impl Dmi {
    /// Reads the strings below `root`, which is `/` outside of tests.
    pub fn read(root: &Path) -> Self {
        let folder = root.join("sys/class/dmi/id");
        let text = |name| read_line(&folder.join(name)).unwrap_or_default();
        Self {
            vendor: text("sys_vendor"),
            product: text("product_name"),
            bios_vendor: text("bios_vendor"),
            bios_version: text("bios_version"),
        }
    }
}

/// `/proc/sys/kernel/random/boot_id`; zeros when it cannot be read, which no boot has.
pub fn boot_id(root: &Path) -> [u8; 16] {
    let text = read_line(&root.join("proc/sys/kernel/random/boot_id")).unwrap_or_default();
    let digits: String = text.chars().filter(|digit| *digit != '-').collect();
    u128::from_str_radix(&digits, 16).unwrap_or(0).to_be_bytes()
}

/// The text of a small file of the kernel's, without the spaces around it.
pub fn read_line(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(TEXT_SIZE_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    #[test]
    fn strings_are_trimmed_and_may_be_missing() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sys/class/dmi/id");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("sys_vendor"), "QEMU\n").unwrap();
        fs::write(folder.join("product_name"), b" Standard PC \xff\n").unwrap();
        let dmi = Dmi::read(root.path());
        assert_eq!((dmi.vendor.as_str(), dmi.bios_version.as_str()), ("QEMU", ""));
        assert_eq!(dmi.product, "Standard PC \u{fffd}");
    }
}
