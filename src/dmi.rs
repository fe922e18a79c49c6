//! What the firmware says about the board, as the kernel shows it in /sys/class/dmi/id (SMBIOS
//! types 0 and 1), or, on boards without SMBIOS, in the device tree.

use std::path::Path;

use crate::host::read_line;
use crate::image::Board;
use crate::keys::Fingerprint;

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
        let (vendor, product) = match (text("sys_vendor"), text("product_name")) {
            (vendor, product) if vendor.is_empty() && product.is_empty() => compatible(root),
            names => names,
        };
        let (bios_vendor, bios_version) = (text("bios_vendor"), text("bios_version"));
        Self { vendor, product, bios_vendor, bios_version }
    }
}

/// Vendor and product of the first entry of the device tree's `compatible`, the most specific one
/// (Devicetree Specification v0.4, section 2.3.1: "manufacturer,model"); empty where there is none.
fn compatible(root: &Path) -> (String, String) {
    let text = read_line(&root.join("proc/device-tree/compatible")).unwrap_or_default();
    let first = text.split('\0').next().unwrap_or_default();
    let (vendor, product) = first.split_once(',').unwrap_or_default();
    (vendor.to_owned(), product.to_owned())
}

impl Dmi {
    /// Returns what this host is for a bundle: the board, with a chip of this size, this floor of
    /// security versions, and this key.
    pub fn board(
        self,
        flash_size_bytes: u64,
        security_version_floor: u64,
        host: Option<Fingerprint>,
    ) -> Board {
        let Self { vendor, product, bios_version, .. } = self;
        Board { vendor, product, bios_version, flash_size_bytes, security_version_floor, host }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    #[test]
    fn boards_without_smbios_have_a_device_tree() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("proc/device-tree");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("compatible");
        fs::write(&file, "ampere,mtjade\0ampere,altra\0").unwrap();
        let named = |root| {
            let Dmi { vendor, product, .. } = Dmi::read(root);
            (vendor, product)
        };
        assert_eq!(named(root.path()), ("ampere".into(), "mtjade".into()));
        for nothing in ["", "\0", "nocomma\0a,b\0"] {
            fs::write(&file, nothing).unwrap();
            assert_eq!(named(root.path()), (String::new(), String::new()), "{nothing:?}");
        }
        let dmi = root.path().join("sys/class/dmi/id");
        fs::create_dir_all(&dmi).unwrap();
        fs::write(&file, "a,b").unwrap();
        fs::write(dmi.join("sys_vendor"), "ACME").unwrap();
        assert_eq!(named(root.path()), ("ACME".into(), String::new()));
    }

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
