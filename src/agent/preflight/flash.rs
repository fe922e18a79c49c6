//! The flash chip: that it is there, of a kind that is understood, not protected, and nobody
//! else's.

use nix::sys::utsname::uname;

use crate::agent::check::{Checklist, Subject};
use crate::agent::firmware_chip::{candidates, the_firmwares};
use crate::agent::local_machine::LocalMachine;
use crate::flash::{Flash as _, Geometry};
use crate::host::flash_controller::{Built, Undriven, undriven};
use crate::mtd::{
    Access, Chip, ChipInfo, Holders, MTD_POWERUP_LOCK, MtdError, MtdInfo, Protection,
};
use crate::reason::{Reason, with_causes};

/// Most eraseblocks that are asked whether they are locked: a question takes a chip up to 0.1 ms.
const LOCK_PROBES_MAX: u32 = 1024;

/// What to do about a driver or a board that forbids writes.
const UNLOCK: &str = "load its driver with writing enabled, lift the board's write protection";

/// Looks at the chip that the configuration names. Returns it if it can at least be read.
pub(super) fn flash(list: &mut Checklist, machine: &LocalMachine) -> Option<Chip> {
    let sysfs = machine.root.join("sys/class/mtd");
    let info = match &machine.config.flash {
        selector if selector.is_empty() => find_the_firmwares(list, machine)?.into(),
        selector => match ChipInfo::find(&sysfs, selector) {
            Ok(info) => info,
            Err(error) => {
                let problem = with_causes(&error);
                let (reason, advice) = (error.reason(), "");
                not_found(list, machine, Trouble { problem, reason, advice });
                return None;
            }
        },
    };
    let chip = open(list, &info);
    let of_each = info.devices().iter().map(|device| Protection::of(&sysfs, device));
    protection(list, of_each.collect());
    users(list, Holders::writers(&machine.root, info.devices()));
    chip
}

/// The one chip that is the firmware's. Where it is not one, says which there are and what to
/// write.
fn find_the_firmwares(list: &mut Checklist, machine: &LocalMachine) -> Option<MtdInfo> {
    if let Some(only) = the_firmwares(&machine.root) {
        return Some(only);
    }
    let found = match candidates(&machine.root) {
        Ok(found) => found,
        Err(error) => {
            list.not_ok(Subject::Flash, error.reason(), with_causes(&error), "");
            return None;
        }
    };
    let all = MtdInfo::list(&machine.root.join("sys/class/mtd")).unwrap_or_default();
    let described = |devices: &[MtdInfo]| -> String {
        let each = devices.iter().map(|device| {
            format!("mtd{} \"{}\" of {:#x} bytes", device.index, device.name, device.size_bytes)
        });
        each.collect::<Vec<_>>().join(", ")
    };
    let (problem, advice) = match (found.as_slice(), all.as_slice()) {
        ([], []) => (
            "the kernel shows no MTD device, so no driver has the flash chip".to_owned(),
            "load the driver of the chip's controller, e.g. spi-intel-pci",
        ),
        ([], all) => (
            format!("none of {} is the firmware's for certain", described(all)),
            "set flash in agent.toml to the one with the firmware, e.g. flash = \"mtd0\"",
        ),
        ([one], _) => (
            format!("others have the name of {} too", described(std::slice::from_ref(one))),
            "set flash in agent.toml to a device that the recovery environment finds too",
        ),
        (several, _) => (
            format!("several may be the firmware's: {}", described(several)),
            "set flash in agent.toml to the one that this machine starts from; or to both names, \
             as \"LOW+HIGH\", if its firmware lies in both",
        ),
    };
    not_found(list, machine, Trouble { problem, reason: Reason::FlashNotFound, advice });
    None
}

/// Why there is no chip.
struct Trouble {
    problem: String,
    reason: Reason,
    advice: &'static str,
}

/// Tells of a chip that is not there; of a controller without a driver rather than of that.
fn not_found(list: &mut Checklist, machine: &LocalMachine, trouble: Trouble) {
    let release = uname().map(|name| name.release().to_string_lossy().into_owned());
    let release = release.unwrap_or_default();
    let undriven = undriven(&machine.root);
    let Some(Undriven { device, driver }) = undriven.first() else {
        let Trouble { problem, reason, advice } = trouble;
        return list.not_ok(Subject::Flash, reason, problem, advice);
    };
    let module = driver.module;
    let (state, advice) = match driver.built(&machine.root, &release) {
        Built::Module => (
            "is a module that is not loaded",
            "load the module (modprobe), and have it loaded at each boot by a line in \
             /etc/modules-load.d/firmcast.conf",
        ),
        Built::In => (
            "is part of this kernel and does not take it",
            "see what the kernel's log says of the controller (journalctl -k)",
        ),
        Built::Not => (
            "is not built for this kernel",
            "use a kernel that is built with this option, or build the module for this one",
        ),
        Built::Unknown => (
            "may not be built for this kernel, whose configuration is not in /boot",
            "load the module (modprobe); if there is none, use a kernel that has it",
        ),
    };
    let Trouble { problem, .. } = trouble;
    let option = driver.option();
    list.not_ok(
        Subject::Flash,
        Reason::FlashDriverMissing,
        format_args!("{problem}; {device} has no driver: {module} ({option}) {state} ({release})"),
        advice,
    );
}

fn open(list: &mut Checklist, info: &ChipInfo) -> Option<Chip> {
    match Chip::open_found(info.clone(), Access::ReadOnly) {
        Ok(chip) => {
            let shown = shown(info, chip.geometry());
            if info.is_writeable() {
                list.ok(Subject::Flash, shown);
            } else {
                let problem = format!("{shown}: read-only");
                list.not_ok(Subject::Flash, Reason::FlashLocked, problem, UNLOCK);
            }
            Some(chip)
        }
        Err(error) => {
            list.not_ok(Subject::Flash, error.reason(), with_causes(&error), "");
            None
        }
    }
}

fn shown(info: &ChipInfo, geometry: &Geometry) -> String {
    let (size, blocks, runs) = (info.size_bytes(), geometry.block_count(), runs(geometry));
    let mut kinds: Vec<String> =
        info.devices().iter().map(|device| device.kind.to_string()).collect();
    kinds.dedup();
    let kinds = kinds.join(" and ");
    format!("{info}, {kinds}, {size:#x} bytes in {blocks} eraseblocks ({runs})")
}

/// "512 of 0x1000", or "8 of 0x2000, 31 of 0x10000" on chips whose eraseblocks differ.
fn runs(geometry: &Geometry) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for block in geometry.blocks() {
        match runs.last_mut() {
            Some((count, bytes)) if *bytes == block.length_bytes() => *count += 1,
            _ => runs.push((1, block.length_bytes())),
        }
    }
    let runs: Vec<String> =
        runs.iter().map(|(count, bytes)| format!("{count} of {bytes:#x}")).collect();
    runs.join(", ")
}

/// Every source counts, whatever the others say.
fn protection(list: &mut Checklist, of_each: Result<Vec<Protection>, MtdError>) {
    const NAME: Subject = Subject::FlashProtection;
    let found = match of_each {
        Ok(found) => found,
        Err(error) => {
            list.not_ok(NAME, Reason::FlashLocked, with_causes(&error), UNLOCK);
            return;
        }
    };
    let (mut locks, mut remarks) = (Vec::new(), Vec::new());
    for device in found {
        // Chips behind one controller say the same.
        add_new(&mut locks, device.locks);
        add_new(&mut remarks, device.remarks);
        locks.extend(device.read_only.iter().map(|part| {
            let (start, last, index) = (part.start_bytes, part.end_bytes - 1, part.index);
            format!("{start:#x}-{last:#x} is mtd{index} \"{}\", which is read-only", part.name)
        }));
    }
    if locks.is_empty() {
        let remarks = remarks.join(", ");
        list.ok(NAME, if remarks.is_empty() { "none" } else { &remarks });
    } else {
        list.not_ok(NAME, Reason::FlashLocked, locks.join("; "), UNLOCK);
    }
}

fn add_new(known: &mut Vec<String>, told: Vec<String>) {
    for text in told {
        if !known.contains(&text) {
            known.push(text);
        }
    }
}

fn users(list: &mut Checklist, holders: Result<Holders, MtdError>) {
    const NAME: Subject = Subject::FlashUsers;
    match holders {
        Ok(Holders { first: Some(held), .. }) => {
            let advice = Reason::FlashBusy.advice();
            list.not_ok(NAME, Reason::FlashBusy, held, advice);
        }
        Ok(Holders { unseen_processes: 0, .. }) => list.ok(NAME, "nothing else writes to it"),
        Ok(Holders { unseen_processes, .. }) => list.unknown(
            NAME,
            format_args!(
                "none found, but {unseen_processes} processes may not be looked at; recovery \
                looks again"
            ),
        ),
        Err(error) => list.not_ok(NAME, Reason::FlashBusy, with_causes(&error), ""),
    }
}

/// Asks every eraseblock, or on chips with very many as many as [`LOCK_PROBES_MAX`], evenly spread:
/// those lock in ranges. Recovery asks each block again before it changes it.
pub(super) fn flash_locks(list: &mut Checklist, flash: &mut Chip) {
    let step = flash.geometry().block_count().div_ceil(LOCK_PROBES_MAX).max(1);
    let blocks: Vec<_> = flash.geometry().blocks().step_by(step as usize).collect();
    let mut locked = Vec::new();
    for block in &blocks {
        match flash.is_locked(*block) {
            Ok(false) => {}
            Ok(true) => locked.push(block.offset_bytes()),
            Err(error) => {
                let offset = block.offset_bytes();
                let problem =
                    format!("the chip does not say whether {offset:#x} is locked: {error}");
                list.not_ok(Subject::FlashLocks, Reason::FlashLocked, problem, "");
                return;
            }
        }
    }
    let Some(first) = locked.first() else {
        list.ok(Subject::FlashLocks, "none");
        return;
    };
    let (count, asked) = (locked.len(), blocks.len());
    let found = format!("{count} of {asked} eraseblocks are locked, the first at {first:#x}");
    let mut devices = flash.info().devices().iter();
    if devices.all(|device| device.flags & MTD_POWERUP_LOCK != 0) {
        list.ok(
            Subject::FlashLocks,
            format_args!("{found}, as after each power-up; they can be unlocked"),
        );
    } else {
        let advice = Reason::FlashLocked.advice();
        list.not_ok(Subject::FlashLocks, Reason::FlashLocked, found, advice);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::check::Verdict;
    use crate::agent::config::Config;
    use crate::agent::trust::Trust;
    use crate::flash::{EraseRegion, WriteRule};
    use crate::mtd::MtdDevice;
    use crate::mtd::testing::SysfsTree;

    const CONTROLLER: &str = "sys/devices/pci0000:00/0000:00:1f.5";
    const CHIP: &str = "devices/pci0000:00/0000:00:1f.5/spi_master/spi0/spi0.0/mtd/mtd990";

    /// What is found about the chip of `tree`, whose device node does not exist: (verdict, reason,
    /// detail).
    fn looked_at(tree: &SysfsTree, subject: Subject) -> (Verdict, Reason, String) {
        let config = Config { flash: "part990".into(), ..Config::default() };
        let mut machine = LocalMachine::new(config, Trust::default());
        machine.root = tree.root().to_owned();
        let mut list = Checklist::default();
        assert!(flash(&mut list, &machine).is_none(), "there is no device node");
        let check = list.checks().iter().find(|check| check.subject == subject).unwrap();
        (check.verdict, check.reason, check.detail.clone())
    }

    fn writeable_chip() -> SysfsTree {
        let tree = SysfsTree::new();
        tree.add(990, CHIP, 0xc00, 0x10000, None);
        tree
    }

    #[test]
    fn each_source_of_protection_refuses_alone() {
        let tree = writeable_chip();
        let none = (Verdict::Ok, Reason::None, "none".to_owned());
        assert_eq!(looked_at(&tree, Subject::FlashProtection), none);

        tree.put(&format!("{CONTROLLER}/intel_spi_locked"), "1\n");
        let (verdict, _, detail) = looked_at(&tree, Subject::FlashProtection);
        assert_eq!((verdict, detail.as_str()), (Verdict::Ok, "intel_spi_locked is 1"));

        tree.put(&format!("{CONTROLLER}/intel_spi_protected"), "0\n");
        tree.put(&format!("{CONTROLLER}/intel_spi_bios_locked"), "1\n");
        let (_, reason, detail) = looked_at(&tree, Subject::FlashProtection);
        assert_eq!((reason, detail.as_str()), (Reason::FlashLocked, "intel_spi_bios_locked is 1"));

        let tree = writeable_chip();
        tree.add(991, &format!("{CHIP}/mtd991"), 0x800, 0x1000, Some(0xf000));
        let (_, reason, detail) = looked_at(&tree, Subject::FlashProtection);
        let expected = "0xf000-0xffff is mtd991 \"part991\", which is read-only";
        assert_eq!((reason, detail.as_str()), (Reason::FlashLocked, expected));
    }

    #[test]
    fn a_user_of_any_part_of_the_chip_is_in_the_way() {
        let tree = writeable_chip();
        tree.add(991, &format!("{CHIP}/mtd991"), 0xc00, 0x1000, Some(0));
        tree.put("proc/mounts", "proc /proc proc rw 0 0\n");
        assert_eq!(looked_at(&tree, Subject::FlashUsers).0, Verdict::Ok);
        tree.put("proc/mounts", "/dev/mtdblock991 /mnt jffs2 rw 0 0\n");
        let (_, reason, detail) = looked_at(&tree, Subject::FlashUsers);
        let expected = "/dev/mtd991 is in use by the file system that is mounted on /mnt";
        assert_eq!((reason, detail.as_str()), (Reason::FlashBusy, expected));
    }

    #[test]
    fn kinds_and_sizes_that_are_not_understood_are_refused() {
        let cases = [
            ("type", "rom", "firmware can be flashed to nor, nand, dataflash and ram"),
            ("type", "absent", "is of type \"absent\""),
            ("size", "4294967296x", "is not a number"),
            ("erasesize", "4294967296", "4294967296"),
        ];
        for (file, value, says) in cases {
            let tree = writeable_chip();
            tree.write(990, file, value);
            let system_info = MtdInfo::find(&tree.mtd(), "part990");
            let refused = match system_info {
                Ok(info) => MtdDevice::check_kind(&info).unwrap_err(),
                Err(error) => error,
            };
            assert!(refused.to_string().contains(says), "{file} {value}: {refused}");
            assert_eq!(refused.reason(), Reason::FlashUnsupported);
        }
        let tree = writeable_chip();
        for (size, erase) in [("0", "4096"), ("65536", "0"), ("65536", "131072"), ("65537", "4096")]
        {
            tree.write(990, "size", size);
            tree.write(990, "erasesize", erase);
            let info = MtdInfo::find(&tree.mtd(), "part990").unwrap();
            let rule = info.write_rule().unwrap();
            let made = Geometry::uniform(info.size_bytes, info.erase_bytes, info.write_bytes, rule);
            assert!(made.is_err(), "{size} in {erase}");
        }
    }

    #[test]
    fn eraseblocks_of_different_sizes_are_shown() {
        let regions = [
            EraseRegion { block_bytes: 0x2000, block_count: 8 },
            EraseRegion { block_bytes: 0x10000, block_count: 31 },
        ];
        let chip = Geometry::new(0x20_0000, &regions, 1, WriteRule::ClearBits).unwrap();
        assert_eq!(runs(&chip), "8 of 0x2000, 31 of 0x10000");
    }
}
