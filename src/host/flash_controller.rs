//! Controllers with a flash chip behind them, known by their identity even where no driver has
//! them, and what the running kernel was built with.
//!
//! Sources: the device tables of Linux `drivers/spi/spi-intel-pci.c`, `drivers/mfd/lpc_ich.c`
//! (makes the platform device `intel-spi`), `drivers/spi/spi-amd.c` and
//! `drivers/mtd/spi-nor/core.c`.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::read_line;

/// Most devices of a bus that are looked at.
const DEVICES_MAX: usize = 8192;

/// Longest configuration of a kernel that is read, in bytes.
const CONFIG_SIZE_MAX: u64 = 2 << 20;

/// A driver: its module, and the option that a kernel is built with to have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Driver {
    /// The module's name as modprobe takes it.
    pub(crate) module: &'static str,
    option: &'static str,
}

const SPI_INTEL_PCI: Driver = Driver { module: "spi-intel-pci", option: "CONFIG_SPI_INTEL_PCI" };
const SPI_INTEL_PLATFORM: Driver =
    Driver { module: "spi-intel-platform", option: "CONFIG_SPI_INTEL_PLATFORM" };
const SPI_AMD: Driver = Driver { module: "spi-amd", option: "CONFIG_SPI_AMD" };
const SPI_NOR: Driver = Driver { module: "spi-nor", option: "CONFIG_MTD_SPI_NOR" };

/// Intel's PCI devices that are such a controller.
const INTEL_PCI: [&str; 19] = [
    "0x02a4", "0x06a4", "0x18e0", "0x19e0", "0x1bca", "0x34a4", "0x38a4", "0x43a4", "0x4b24",
    "0x4da4", "0x51a4", "0x54a4", "0x7a24", "0x7aa4", "0xa0a4", "0xa1a4", "0xa224", "0xa324",
    "0xa3a4",
];

/// Names of devices on the platform and ACPI buses, up to their instance.
const NAMED: [(&str, Driver); 4] = [
    ("intel-spi", SPI_INTEL_PLATFORM),
    ("AMDI0061:", SPI_AMD),
    ("AMDI0062:", SPI_AMD),
    ("AMDI0063:", SPI_AMD),
];

/// A controller, or a chip on the bus of one, that no driver has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Undriven {
    /// The device, for a person.
    pub(crate) device: String,
    /// What would drive it.
    pub(crate) driver: Driver,
}

/// Whether a kernel has a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Built {
    /// As a module, which may be installed in a package of its own.
    Module,
    /// As a part of the kernel.
    In,
    /// No.
    Not,
    /// The kernel's configuration is not there, or does not say.
    Unknown,
}

/// Returns the controllers of the system below `root` that no driver has.
pub(crate) fn undriven(root: &Path) -> Vec<Undriven> {
    let mut found = Vec::new();
    for folder in devices(root, "pci") {
        let name = name_of(&folder);
        let field = |name| read_line(&folder.join(name)).unwrap_or_default();
        let (vendor, device) = (field("vendor"), field("device"));
        if vendor == "0x8086" && INTEL_PCI.contains(&device.as_str()) {
            let number = device.trim_start_matches("0x");
            found.push((format!("PCI 8086:{number} at {name}"), folder, SPI_INTEL_PCI));
        }
    }
    for folder in devices(root, "platform") {
        let name = name_of(&folder);
        let named = NAMED.iter().find(|(start, _)| name.starts_with(start));
        found.extend(named.map(|(_, driver)| (name, folder, *driver)));
    }
    for folder in devices(root, "spi") {
        let alias = read_line(&folder.join("modalias")).unwrap_or_default();
        if alias.contains("spi-nor") {
            found.push((format!("chip {}", name_of(&folder)), folder, SPI_NOR));
        }
    }
    found.retain(|(_, folder, _)| !folder.join("driver").exists());
    found.into_iter().map(|(device, _, driver)| Undriven { device, driver }).collect()
}

fn devices(root: &Path, bus: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.join("sys/bus").join(bus).join("devices"));
    let entries = entries.into_iter().flatten().flatten().take(DEVICES_MAX);
    let mut devices: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    devices.sort();
    devices
}

fn name_of(device: &Path) -> String {
    device.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Driver {
    /// Whether the kernel of this release has it, by its configuration in /boot.
    pub(crate) fn built(self, root: &Path, release: &str) -> Built {
        let mut config = Vec::new();
        let file = File::open(root.join(format!("boot/config-{release}")));
        if file.and_then(|file| file.take(CONFIG_SIZE_MAX).read_to_end(&mut config)).is_err() {
            return Built::Unknown;
        }
        let config = String::from_utf8_lossy(&config);
        let is_off = |line: &str| {
            line.strip_prefix("# ").and_then(|line| line.strip_suffix(" is not set"))
                == Some(self.option)
        };
        let answer = config.lines().find_map(|line| match line.split_once('=') {
            Some((name, "m")) if name == self.option => Some(Built::Module),
            Some((name, "y")) if name == self.option => Some(Built::In),
            _ if is_off(line) => Some(Built::Not),
            _ => None,
        });
        // What is not asked for on this architecture, or was added later, is not there.
        answer.unwrap_or(if config.contains("CONFIG_") { Built::Not } else { Built::Unknown })
    }

    /// The option that a kernel with this driver is built with.
    pub(crate) fn option(self) -> &'static str {
        self.option
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn add(root: &Path, device: &str, files: &[(&str, &str)]) {
        let folder = root.join("sys/bus").join(device);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    #[test]
    fn controllers_without_a_driver_are_named_and_others_are_not() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!(undriven(root), []);
        let ids = |device| [("vendor", "0x8086\n"), ("device", device)];
        add(root, "pci/devices/0000:00:1f.5", &ids("0xa324\n"));
        add(root, "pci/devices/0000:00:1f.6", &ids("0x15bb\n"));
        add(root, "pci/devices/0000:00:1f.7", &ids("0xa3a4\n"));
        fs::create_dir(root.join("sys/bus/pci/devices/0000:00:1f.7/driver")).unwrap();
        add(root, "platform/devices/AMDI0061:00", &[]);
        add(root, "platform/devices/serial8250", &[]);
        add(root, "spi/devices/spi0.0", &[("modalias", "spi:spi-nor\n")]);
        add(
            root,
            "spi/devices/spi0.1",
            &[("modalias", b"spi:other\xff".escape_ascii().to_string().as_str())],
        );
        let found: Vec<(String, &str)> = (undriven(root).into_iter())
            .map(|Undriven { device, driver }| (device, driver.module))
            .collect();
        let expected = [
            ("PCI 8086:a324 at 0000:00:1f.5".to_owned(), "spi-intel-pci"),
            ("AMDI0061:00".to_owned(), "spi-amd"),
            ("chip spi0.0".to_owned(), "spi-nor"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_a_kernel_was_built_with_stands_in_its_configuration() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("boot")).unwrap();
        for (config, expected) in [
            ("CONFIG_SPI_INTEL=m\nCONFIG_SPI_INTEL_PCI=m\n", Built::Module),
            ("CONFIG_SPI_INTEL_PCI=y\n", Built::In),
            ("# CONFIG_SPI_INTEL_PCI is not set\n", Built::Not),
            ("CONFIG_SPI=y\nCONFIG_SPI_INTEL_PCIE=m\n", Built::Not),
            ("\u{0}", Built::Unknown),
        ] {
            fs::write(root.path().join("boot/config-6.1"), config).unwrap();
            assert_eq!(SPI_INTEL_PCI.built(root.path(), "6.1"), expected, "{config}");
        }
        assert_eq!(SPI_INTEL_PCI.built(root.path(), "6.2"), Built::Unknown);
    }
}
