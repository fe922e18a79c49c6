//! Which kernel modules drive a device now, as the links of sysfs show it (Linux
//! `Documentation/driver-api/driver-model`).
//!
//! Every directory on the way from a device up to `/sys/devices` may have a link `driver`, whose
//! driver has a link `module`. A module that is part of the running kernel has no `initstate` in
//! `/sys/module`; another kernel may have it as a loadable one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::read_line;

/// Most interfaces below one another that are followed.
const STACK_DEPTH_MAX: usize = 8;

/// The modules that a device depends on now. Names as the kernel has them, with "_".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drivers {
    /// Loaded modules whose drivers are bound to the device, or to one that it stands on.
    pub(crate) bound: BTreeSet<String>,
    /// Parts of the running kernel whose drivers are bound there.
    pub(crate) built_in: BTreeSet<String>,
    /// Modules of which one may have made the device, where sysfs does not tell which.
    pub(crate) suspected: BTreeSet<String>,
    /// Modules without which the device is not found, although nothing is bound.
    pub(crate) beside: BTreeSet<String>,
}

/// A watchdog of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watchdog {
    /// Its name, `watchdog0`.
    pub(crate) name: String,
    /// It runs, or may run: it resets the machine unless somebody feeds it.
    pub(crate) is_active: bool,
    /// What drives it.
    pub(crate) drivers: Drivers,
}

/// What drives MTD device `index` of the system below `root`.
pub(crate) fn of_mtd(root: &Path, index: u32) -> Drivers {
    let Ok(place) = root.join(format!("sys/class/mtd/mtd{index}")).canonicalize() else {
        return Drivers::default();
    };
    let mut drivers = Drivers::default();
    drivers.add_bound(root, &place);
    let below = |folder: &str| {
        let folder = root.join(folder).canonicalize().ok()?;
        place.strip_prefix(&folder).ok().map(Path::to_owned)
    };
    if below("sys/devices/virtual").is_some() {
        // Map drivers register their chip with the MTD core and leave no link.
        drivers.suspected = match module_names(&root.join("sys/module/mtd/holders")) {
            users if users.is_empty() => out_of_tree(root),
            users => users,
        };
    } else if let Some(way) = below("sys/devices/platform")
        && let Some(first) = way.components().next()
    {
        let made = root.join("sys/devices/platform").join(first);
        let is_described = ["of_node", "firmware_node"].iter().any(|link| made.join(link).exists());
        if !is_described {
            drivers.suspected = out_of_tree(root);
        }
    }
    drivers
}

/// What drives the network interface `name`, and the NICs below it.
pub(crate) fn of_interface(root: &Path, name: &str) -> Drivers {
    let mut drivers = Drivers::default();
    let mut level = vec![name.to_owned()];
    for _ in 0..STACK_DEPTH_MAX {
        let mut lower = Vec::new();
        for name in &level {
            let folder = root.join("sys/class/net").join(name);
            for link in ["", "phydev"] {
                if let Ok(place) = folder.join(link).canonicalize() {
                    drivers.add_bound(root, &place);
                }
            }
            let kind = fs::read_to_string(folder.join("uevent")).unwrap_or_default();
            for (kind_of, module) in [("DEVTYPE=vlan", "8021q"), ("DEVTYPE=bond", "bonding")] {
                if kind.lines().any(|line| line == kind_of) {
                    drivers.beside.insert(module.to_owned());
                }
            }
            let names = children(&folder).filter_map(|path| {
                Some(path.file_name()?.to_str()?.strip_prefix("lower_")?.to_owned())
            });
            lower.extend(names);
        }
        level = lower;
    }
    drivers
}

/// The watchdogs of the system below `root`.
pub(crate) fn watchdogs(root: &Path) -> Vec<Watchdog> {
    let mut links: Vec<PathBuf> = children(&root.join("sys/class/watchdog")).collect();
    links.sort();
    let watchdog = |link: PathBuf| {
        let name = link.file_name()?.to_str()?.to_owned();
        let state = read_line(&link.join("state"));
        let mut drivers = Drivers::default();
        drivers.add_bound(root, &link.canonicalize().ok()?);
        Some(Watchdog { name, is_active: state.is_none_or(|state| state == "active"), drivers })
    };
    links.into_iter().filter_map(watchdog).collect()
}

/// What reaches the BMC, where the driver of its watchdog is loaded, which arms it at a kexec.
pub(crate) fn of_bmc_watchdog(root: &Path) -> Drivers {
    let mut drivers = Drivers::default();
    if root.join("sys/module/ipmi_watchdog").exists() {
        if let Ok(place) = root.join("sys/class/ipmi/ipmi0/device").canonicalize() {
            drivers.add_bound(root, &place);
        }
        drivers.beside.insert("ipmi_devintf".to_owned());
    }
    drivers
}

/// The interface of the default route with the lowest metric, of IPv4 or else of IPv6.
pub(crate) fn default_interface(root: &Path) -> Option<String> {
    let v4 = fs::read_to_string(root.join("proc/net/route")).unwrap_or_default();
    // Iface Destination Gateway Flags RefCnt Use Metric Mask ...
    let v4 = v4.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_default = fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000");
        is_default.then_some((fields.get(6)?.parse::<u64>().ok()?, (*fields.first()?).to_owned()))
    });
    let v6 = fs::read_to_string(root.join("proc/net/ipv6_route")).unwrap_or_default();
    // destination prefix_len source prefix_len next_hop metric refcnt use flags device
    let v6 = v6.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_default = fields.get(1) == Some(&"00") && fields.get(9) != Some(&"lo");
        let metric = u64::from_str_radix(fields.get(5)?, 16).ok()?;
        is_default.then_some((metric, (*fields.get(9)?).to_owned()))
    });
    let interface = |(_, name): (u64, String)| name;
    v4.min_by_key(|(metric, _)| *metric)
        .map(interface)
        .or_else(|| v6.min_by_key(|(metric, _)| *metric).map(interface))
}

impl Drivers {
    /// Adds the modules of the drivers that are bound to `place` or above it.
    fn add_bound(&mut self, root: &Path, place: &Path) {
        let Ok(devices) = root.join("sys/devices").canonicalize() else { return };
        for folder in place.ancestors().take_while(|folder| **folder != *devices) {
            let module = fs::read_link(folder.join("driver/module")).ok();
            let name = module.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
            let Some(name) = name else { continue };
            match is_loadable(root, name) {
                true => self.bound.insert(name.to_owned()),
                false => self.built_in.insert(name.to_owned()),
            };
        }
    }
}

fn is_loadable(root: &Path, module: &str) -> bool {
    root.join("sys/module").join(module).join("initstate").exists()
}

/// The loaded modules that are not part of the kernel's own tree.
pub(crate) fn out_of_tree(root: &Path) -> BTreeSet<String> {
    let mut modules = module_names(&root.join("sys/module"));
    modules.retain(|module| is_out_of_tree(root, module));
    modules
}

/// Whether the loaded module `name` is not part of the kernel's own tree (`TAINT_OOT_MODULE`).
pub(crate) fn is_out_of_tree(root: &Path, name: &str) -> bool {
    let taint = read_line(&root.join("sys/module").join(name).join("taint"));
    taint.is_some_and(|flags| flags.contains('O'))
}

fn module_names(folder: &Path) -> BTreeSet<String> {
    children(folder).filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
}

fn children(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    const PCI: &str = "sys/devices/pci0000:00";

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            tree.folder("sys/devices/virtual");
            tree.folder("sys/devices/platform");
            tree
        }

        fn folder(&self, path: &str) -> PathBuf {
            let folder = self.0.path().join(path);
            fs::create_dir_all(&folder).unwrap();
            folder
        }

        fn put(&self, path: &str, text: &str) {
            self.folder(path.rsplit_once('/').unwrap().0);
            fs::write(self.0.path().join(path), text).unwrap();
        }

        fn link(&self, from: &str, to: &str) {
            self.folder(from.rsplit_once('/').unwrap().0);
            symlink(self.folder(to), self.0.path().join(from)).unwrap();
        }

        /// A device with a driver of `module`, which is loadable unless its name begins with
        /// "built".
        fn device(&self, place: &str, module: &str) {
            self.link(&format!("{place}/driver"), &format!("sys/bus/any/drivers/{module}"));
            let link = format!("sys/bus/any/drivers/{module}/module");
            if !self.0.path().join(&link).exists() {
                self.link(&link, &format!("sys/module/{module}"));
            }
            if !module.starts_with("built") {
                self.put(&format!("sys/module/{module}/initstate"), "live\n");
            }
        }
    }

    fn names(modules: &[&str]) -> BTreeSet<String> {
        modules.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn all_drivers_on_the_way_to_a_chip_count_and_those_in_the_kernel_apart() {
        let tree = Tree::new();
        tree.device(&format!("{PCI}/0000:00:1c.0"), "built_in_port");
        let controller = format!("{PCI}/0000:00:1c.0/0000:01:00.0");
        tree.device(&controller, "spi_intel_pci");
        tree.device(&format!("{controller}/spi_master/spi0/spi0.0"), "spi_nor");
        let chip = format!("{controller}/spi_master/spi0/spi0.0/mtd/mtd0");
        tree.link("sys/class/mtd/mtd0", &chip);
        tree.link("sys/class/mtd/mtd1", &format!("{chip}/mtd1"));
        for index in [0, 1] {
            let drivers = of_mtd(tree.0.path(), index);
            assert_eq!(drivers.bound, names(&["spi_intel_pci", "spi_nor"]), "mtd{index}");
            assert_eq!(drivers.built_in, names(&["built_in_port"]), "mtd{index}");
            assert!(drivers.suspected.is_empty());
        }
        assert_eq!(of_mtd(tree.0.path(), 7), Drivers::default());
    }

    #[test]
    fn a_chip_without_a_device_is_laid_to_the_users_of_the_mtd_core() {
        let tree = Tree::new();
        tree.link("sys/class/mtd/mtd0", "sys/devices/virtual/mtd/mtd0");
        tree.put("sys/module/board_flash/taint", "OE\n");
        tree.put("sys/module/e1000e/taint", "\n");
        assert_eq!(of_mtd(tree.0.path(), 0).suspected, names(&["board_flash"]));
        tree.folder("sys/module/mtd/holders/cfi_probe");
        tree.folder("sys/module/mtd/holders/my_map");
        assert_eq!(of_mtd(tree.0.path(), 0).suspected, names(&["cfi_probe", "my_map"]));

        let made = "sys/devices/platform/physmap-flash.0";
        tree.device(made, "physmap");
        tree.link("sys/class/mtd/mtd1", &format!("{made}/mtd/mtd1"));
        let drivers = of_mtd(tree.0.path(), 1);
        assert_eq!(
            (drivers.bound, drivers.suspected),
            (names(&["physmap"]), names(&["board_flash"]))
        );
        tree.folder(&format!("{made}/of_node"));
        assert!(of_mtd(tree.0.path(), 1).suspected.is_empty());
    }

    #[test]
    fn a_vlan_on_a_bond_stands_on_its_nics_and_their_phys() {
        let tree = Tree::new();
        tree.put("sys/class/net/bond0.7/uevent", "DEVTYPE=vlan\nINTERFACE=bond0.7\n");
        tree.folder("sys/class/net/bond0.7/lower_bond0");
        tree.put("sys/class/net/bond0/uevent", "DEVTYPE=bond\nINTERFACE=bond0\n");
        for (nic, module) in [("eth0", "igb"), ("eth1", "r8169")] {
            tree.folder(&format!("sys/class/net/bond0/lower_{nic}"));
            tree.device(&format!("{PCI}/{nic}.device"), module);
            tree.link(&format!("sys/class/net/{nic}"), &format!("{PCI}/{nic}.device/net/{nic}"));
        }
        tree.device(&format!("{PCI}/eth1.device/mdio_bus/r8169/phy0"), "realtek");
        let phy = format!("{PCI}/eth1.device/mdio_bus/r8169/phy0");
        tree.link(&format!("{PCI}/eth1.device/net/eth1/phydev"), &phy);
        let drivers = of_interface(tree.0.path(), "bond0.7");
        assert_eq!(drivers.bound, names(&["igb", "r8169", "realtek"]));
        assert_eq!(drivers.beside, names(&["8021q", "bonding"]));
    }

    #[test]
    fn watchdogs_and_the_default_route_are_found() {
        let tree = Tree::new();
        tree.device(&format!("{PCI}/tco"), "iTCO_wdt");
        tree.link("sys/class/watchdog/watchdog0", &format!("{PCI}/tco/watchdog/watchdog0"));
        let running = || watchdogs(tree.0.path())[0].is_active;
        assert!(running(), "one that does not say is taken for one that runs");
        tree.put(&format!("{PCI}/tco/watchdog/watchdog0/state"), "inactive\n");
        assert!(!running());
        assert_eq!(watchdogs(tree.0.path())[0].drivers.bound, names(&["iTCO_wdt"]));

        assert_eq!(default_interface(tree.0.path()), None);
        let zeros = "0".repeat(32);
        let v6 = format!(
            "{zeros} 00 {zeros} 00 {zeros} 00000400 1 0 3 eth6\n\
             {zeros} 00 {zeros} 00 {zeros} ffffffff 1 0 3 lo\n"
        );
        tree.put("proc/net/ipv6_route", &v6);
        assert_eq!(default_interface(tree.0.path()).as_deref(), Some("eth6"));
        let v4 = "Iface Destination Gateway Flags RefCnt Use Metric Mask\n\
                  eth1 00000000 01004D0A 0003 0 0 100 00000000 0 0 0\n\
                  eth0 00000000 01004D0A 0003 0 0 20 00000000 0 0 0\n\
                  eth2 00004D0A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n";
        tree.put("proc/net/route", v4);
        assert_eq!(default_interface(tree.0.path()).as_deref(), Some("eth0"));
    }
}
