//! Whether the recovery environment has the drivers that hold this machine's devices now. Without
//! them it would find neither the chip nor the manager, and the machine would be away for nothing.

use std::collections::BTreeSet;

use crate::agent::check::{Checklist, Subject};
use crate::host::drivers::{
    Drivers, is_out_of_tree, of_bmc_watchdog, of_interface, of_mtd, watchdogs,
};
use crate::kexec::{InitramfsImage, KernelImage, Listed, ModuleList, modules_not_for_devices};
use crate::reason::Reason;

use std::path::Path;

const NAME: Subject = Subject::RecoveryDrivers;

/// What an update would start.
pub(super) struct RecoveryImage<'a> {
    /// The initramfs.
    pub(super) path: &'a Path,
    /// It is one of those that `firmcast-mkrecovery --all` keeps.
    pub(super) is_kept: bool,
    pub(super) kernel: Option<&'a KernelImage>,
    pub(super) initramfs: Option<&'a InitramfsImage>,
}

/// Compares the drivers of the MTD devices `mtd`, of the network `interfaces`, and of the watchdogs
/// with the modules of the recovery initramfs.
pub(super) fn drivers(
    list: &mut Checklist,
    root: &Path,
    recovery: &RecoveryImage<'_>,
    mtd: &[u32],
    interfaces: &[String],
) {
    let Some(image) = recovery.initramfs else {
        list.unknown(NAME, "no recovery initramfs to compare with");
        return;
    };
    let path = recovery.path.display();
    let Some(modules) = &image.modules else {
        let problem = "does not tell its modules; build it again with firmcast-mkrecovery";
        list.unknown(NAME, format_args!("{path} {problem}"));
        return;
    };
    let kernel = recovery.kernel.and_then(|kernel| kernel.release.as_deref());
    let release = image.release.as_deref().or(kernel);
    let cmdline = std::fs::read_to_string(root.join("proc/cmdline")).unwrap_or_default();
    let withheld = modules_not_for_devices(&cmdline);
    let mut comparison =
        Comparison { root, modules, withheld, found: Vec::new(), lacking: Vec::new() };
    for &index in mtd {
        comparison.add(&format!("mtd{index}"), &of_mtd(root, index));
    }
    for interface in interfaces {
        comparison.add(interface, &of_interface(root, interface));
    }
    for watchdog in watchdogs(root) {
        if watchdog.is_active {
            comparison.add(&watchdog.name, &watchdog.drivers);
        }
    }
    comparison.add("the BMC", &of_bmc_watchdog(root));
    match comparison.lacking.as_slice() {
        [] if comparison.found.is_empty() => list.ok(NAME, "all are part of the kernel"),
        [] => list.ok(NAME, comparison.found.join(", ")),
        lacking => {
            let what: Vec<String> = lacking.iter().map(ToString::to_string).collect();
            let problem = format!(
                "{}; build it again: {}",
                what.join(", "),
                rebuild(release, recovery, lacking)
            );
            list.not_ok(
                NAME,
                Reason::RecoveryLacksDriver,
                problem,
                Reason::RecoveryLacksDriver.advice(),
            );
        }
    }
}

/// One module that recovery would need.
#[derive(Debug, PartialEq, Eq)]
struct Lacking {
    module: String,
    /// The module that has to be asked for by name.
    load: String,
    of: String,
    /// It is there, but nothing loads it.
    is_there: bool,
}

impl std::fmt::Display for Lacking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { module, of, is_there, .. } = self;
        match is_there {
            true => write!(f, "nothing in the initramfs loads {module} (of {of})"),
            false => write!(f, "the initramfs lacks {module} (of {of})"),
        }
    }
}

struct Comparison<'a> {
    root: &'a Path,
    modules: &'a ModuleList,
    /// The kernel's command line keeps devices from bringing them in.
    withheld: BTreeSet<String>,
    found: Vec<String>,
    lacking: Vec<Lacking>,
}

impl Comparison<'_> {
    fn add(&mut self, of: &str, drivers: &Drivers) {
        let asked_for = self.loaded_with(&drivers.bound);
        for module in &drivers.bound {
            self.compare(module, of, !asked_for.contains(module.as_str()));
        }
        for module in &drivers.built_in {
            // What no kernel can have as a module is in no list.
            if self.modules.find(module).is_some() {
                self.compare(module, of, !asked_for.contains(module.as_str()));
            }
        }
        for module in &drivers.beside {
            self.compare(module, of, false);
        }
        for module in &drivers.suspected {
            // What users of the chip there are, such as UBI, is known and left out on purpose.
            if self.modules.find(module) != Some(Listed::LeftOut) {
                self.compare(module, of, is_out_of_tree(self.root, module));
            }
        }
    }

    /// What the loaded ones of `modules` bring with them.
    fn loaded_with(&self, modules: &BTreeSet<String>) -> BTreeSet<String> {
        let needs = modules.iter().filter_map(|module| match self.modules.find(module)? {
            Listed::Here { is_loaded: true, needs } if self.may_come_in(module) => Some(needs),
            _ => None,
        });
        needs.flat_map(str::split_ascii_whitespace).map(str::to_owned).collect()
    }

    /// Whether nothing keeps recovery from loading `module` for its device.
    fn may_come_in(&self, module: &str) -> bool {
        !self.withheld.contains(module) || self.modules.is_loaded_by_name(module)
    }

    /// Whether recovery has `module` at all.
    fn has(&self, module: &str) -> bool {
        matches!(self.modules.find(module), Some(Listed::BuiltIn | Listed::Here { .. }))
    }

    /// Looks for `module` and all that it needs.
    fn compare(&mut self, module: &str, of: &str, must_be_loaded: bool) {
        let lacking = |name: &str, is_there| {
            let (module, load, of) = (name.to_owned(), module.to_owned(), of.to_owned());
            Lacking { module, load, of, is_there }
        };
        let new = match self.modules.find(module) {
            Some(Listed::BuiltIn) => return,
            Some(Listed::Here { is_loaded, .. })
                if must_be_loaded && !(is_loaded && self.may_come_in(module)) =>
            {
                vec![lacking(module, true)]
            }
            Some(Listed::Here { needs, .. }) => needs
                .split_ascii_whitespace()
                .filter(|need| !self.has(need))
                .map(|need| lacking(need, false))
                .collect(),
            None | Some(Listed::LeftOut | Listed::Lacking) => vec![lacking(module, false)],
        };
        if new.is_empty() {
            self.found.push(format!("{module} (of {of})"));
        }
        for lacking in new {
            if self.lacking.iter().all(|known| known.module != lacking.module) {
                self.lacking.push(lacking);
            }
        }
    }
}

fn rebuild(release: Option<&str>, recovery: &RecoveryImage<'_>, lacking: &[Lacking]) -> String {
    let names: BTreeSet<String> = lacking.iter().map(|lacking| lacking.load.clone()).collect();
    let options: String = names.iter().map(|name| format!(" --load {name}")).collect();
    if recovery.is_kept {
        return format!(
            "put OPTIONS={} into /etc/firmcast/recovery.conf, then firmcast-mkrecovery --all",
            options.trim_start()
        );
    }
    let (release, path) = (release.unwrap_or("\"$(uname -r)\""), recovery.path.display());
    format!("firmcast-mkrecovery --kernel-version {release} --output {path}{options}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::check::Verdict;
    use std::fs;
    use std::os::unix::fs::symlink;

    const NIC: &str = "sys/devices/pci0000:00/0000:00:02.0";

    /// A machine whose NIC is driven by e1000e, and whose chip some user of the MTD core has made:
    /// cfi_probe, ubi or my_flash.
    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for folder in ["sys/devices/virtual/mtd/mtd0", "sys/class/mtd", "sys/class/net", NIC] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for user in ["cfi_probe", "ubi", "my_flash"] {
            fs::create_dir_all(at(&format!("sys/module/mtd/holders/{user}"))).unwrap();
        }
        fs::create_dir_all(at("sys/module/my_flash")).unwrap();
        fs::write(at("sys/module/my_flash/taint"), "OE\n").unwrap();
        symlink(at("sys/devices/virtual/mtd/mtd0"), at("sys/class/mtd/mtd0")).unwrap();
        fs::create_dir_all(at("sys/bus/pci/drivers/e1000e")).unwrap();
        fs::create_dir_all(at("sys/module/e1000e")).unwrap();
        fs::write(at("sys/module/e1000e/initstate"), "live\n").unwrap();
        symlink(at("sys/module/e1000e"), at("sys/bus/pci/drivers/e1000e/module")).unwrap();
        symlink(at("sys/bus/pci/drivers/e1000e"), at(&format!("{NIC}/driver"))).unwrap();
        fs::create_dir_all(at(&format!("{NIC}/net/eth0"))).unwrap();
        symlink(at(&format!("{NIC}/net/eth0")), at("sys/class/net/eth0")).unwrap();
        root
    }

    fn compared(list: Option<&str>) -> (Verdict, Reason, String) {
        compared_on(&machine(), list)
    }

    fn compared_on(root: &tempfile::TempDir, list: Option<&str>) -> (Verdict, Reason, String) {
        let modules = list.map(|text| ModuleList::new(text.into()));
        let formats = Some(crate::kexec::Formats::OWN);
        let release = Some("6.1.0-40".into());
        let image = InitramfsImage { size_bytes: 1, release, formats, modules };
        let path = Path::new("/boot/r.img");
        let recovery =
            RecoveryImage { path, is_kept: false, kernel: None, initramfs: Some(&image) };
        let mut checks = Checklist::default();
        let interfaces = ["eth0".to_owned()];
        drivers(&mut checks, root.path(), &recovery, &[0], &interfaces);
        let check = checks.checks()[0].clone();
        (check.verdict, check.reason, check.detail)
    }

    const WHOLE: &str =
        "+my_flash: map_funcs mtd\n~cfi_probe:\n-ubi\ne1000e: ptp\nmap_funcs:\nmtd:\nptp\n";

    #[test]
    fn an_image_with_all_that_holds_the_machine_now_is_taken() {
        let (verdict, _, detail) = compared(Some(WHOLE));
        assert_eq!(verdict, Verdict::Ok, "{detail}");
        assert_eq!(detail, "cfi_probe (of mtd0), my_flash (of mtd0), e1000e (of eth0)");
        assert_eq!(compared(Some(&WHOLE.replace("+my", "my"))).0, Verdict::Ok);
    }

    #[test]
    fn what_is_missing_is_named_with_the_command_that_brings_it() {
        let command =
            "build it again: firmcast-mkrecovery --kernel-version 6.1.0-40 --output /boot/r.img";
        let cases = [
            (
                "+my_flash: map_funcs mtd\n",
                "",
                "the initramfs lacks my_flash (of mtd0)",
                "my_flash",
            ),
            ("e1000e: ptp\n", "", "the initramfs lacks e1000e (of eth0)", "e1000e"),
            ("\nptp\n", "\n", "the initramfs lacks ptp (of eth0)", "e1000e"),
            ("\nmap_funcs:\n", "\n", "the initramfs lacks map_funcs (of mtd0)", "my_flash"),
            ("+my", "~my", "nothing in the initramfs loads my_flash (of mtd0)", "my_flash"),
            ("e1000e:", "~e1000e:", "nothing in the initramfs loads e1000e (of eth0)", "e1000e"),
        ];
        for (old, new, says, load) in cases {
            let (verdict, reason, detail) = compared(Some(&WHOLE.replace(old, new)));
            assert_eq!((verdict, reason), (Verdict::NotOk, Reason::RecoveryLacksDriver), "{old}");
            assert_eq!(detail, format!("{says}; {command} --load {load}"));
        }
    }

    #[test]
    fn a_driver_that_is_part_of_the_running_kernel_may_be_a_module_of_recoverys() {
        let root = machine();
        let is_module = root.path().join("sys/module/e1000e/initstate");
        fs::remove_file(is_module).unwrap();
        let compared = |list: &str| compared_on(&root, Some(list));
        // As on the same kernel, and on one that says nothing of it.
        for same in ["e1000e", "e1000e: ptp", ""] {
            let (verdict, _, detail) = compared(&WHOLE.replace("e1000e: ptp", same));
            assert_eq!(verdict, Verdict::Ok, "{same:?}: {detail}");
        }
        for (other, says) in [
            ("!e1000e", "the initramfs lacks e1000e (of eth0)"),
            ("-e1000e", "the initramfs lacks e1000e (of eth0)"),
            ("~e1000e: ptp", "nothing in the initramfs loads e1000e (of eth0)"),
            ("e1000e: mii", "the initramfs lacks mii (of eth0)"),
        ] {
            let (verdict, reason, detail) = compared(&WHOLE.replace("e1000e: ptp", other));
            assert_eq!((verdict, reason), (Verdict::NotOk, Reason::RecoveryLacksDriver), "{other}");
            assert!(detail.starts_with(says), "{detail}");
            assert!(detail.ends_with(" --load e1000e"), "{detail}");
        }
    }

    #[test]
    fn a_driver_that_the_command_line_withholds_from_devices_has_to_be_loaded_by_name() {
        let root = machine();
        fs::create_dir_all(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/cmdline"), "ro modprobe.blacklist=e1000e,x\n").unwrap();
        let (verdict, reason, detail) = compared_on(&root, Some(WHOLE));
        assert_eq!((verdict, reason), (Verdict::NotOk, Reason::RecoveryLacksDriver));
        assert!(detail.starts_with("nothing in the initramfs loads e1000e"), "{detail}");
        let by_name = WHOLE.replace("e1000e:", "+e1000e:");
        let (verdict, _, detail) = compared_on(&root, Some(&by_name));
        assert_eq!(verdict, Verdict::Ok, "{detail}");
    }

    #[test]
    fn an_image_that_does_not_tell_is_told_and_not_refused() {
        let (verdict, _, detail) = compared(None);
        assert_eq!(verdict, Verdict::Unknown);
        assert!(detail.contains("build it again with firmcast-mkrecovery"), "{detail}");
    }
}
