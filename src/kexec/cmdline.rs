//! The recovery kernel's command line, made from the running kernel's.

use std::collections::BTreeSet;

/// Where the recovery initramfs has firmcastd, which is its init.
pub const RECOVERY_INIT: &str = "/usr/sbin/firmcastd";

/// Longest command line, without the closing NUL (`COMMAND_LINE_SIZE` of x86 is 2048; arm64 has the
/// same).
pub const CMDLINE_LENGTH_MAX: usize = 2047;

/// What recovery always gets.
/// - `efi=noruntime`: no firmware code runs while its flash is rewritten;
/// - `panic=30`: a crash before the first erase ends in a reboot to the normal OS. The platform
///   sets it to 0 for the time in which the flash is not whole.
const ALWAYS: &[&str] = &["efi=noruntime", "panic=30"];

/// Parameters of the running kernel that recovery needs too: the ones that say where to show what
/// happens, and the ones with which this hardware is made to work. Anything else (root file system,
/// credentials, `quiet`, `init=`) stays behind.
const KEPT_NAMES: &[&str] = &[
    // Where the operator looks.
    "console",
    "earlycon",
    "earlyprintk",
    "keep_bootcon",
    "loglevel",
    "video",
    // Quirks of this board, without which the kernel or its devices may not start.
    "acpi",
    "acpi_enforce_resources",
    "acpi_osi",
    "acpi_rsdp",
    "amd_iommu",
    "apic",
    "clocksource",
    "hpet",
    "idle",
    "intel_iommu",
    "iommu",
    "irqpoll",
    "maxcpus",
    "mem",
    "memmap",
    "mitigations",
    // Drivers that must not take a device here, as where two know one NIC.
    "modprobe.blacklist",
    "module_blacklist",
    "no_timer_check",
    "noapic",
    "nolapic",
    "nomodeset",
    "nosmp",
    "pci",
    "pcie_aspm",
    "pcie_ports",
    "processor.max_cstate",
    "swiotlb",
    "tsc",
    "vmalloc",
];

/// Modules whose parameters the running system sets on the command line, and that matter for flash,
/// BMC or network.
const KEPT_MODULES: &[&str] = &["spi_intel", "intel_spi", "ipmi_si", "mtdparts", "physmap"];

/// The recovery kernel's command line.
///
/// `running` is the text of `/proc/cmdline`. `acpi_rsdp` is the address of the ACPI root pointer
/// when the running kernel's firmware tables are found through EFI, which the next kernel can be
/// told only this way when this one runs without EFI runtime services. Parameters that would make
/// the line longer than [`CMDLINE_LENGTH_MAX`] are left out.
pub fn recovery_cmdline(running: &str, acpi_rsdp: Option<u64>) -> String {
    let mut line = format!("rdinit={RECOVERY_INIT}");
    for parameter in ALWAYS {
        push(&mut line, parameter);
    }
    if let Some(address) = acpi_rsdp {
        push(&mut line, &format!("acpi_rsdp={address:#x}"));
    }
    for parameter in kernel_parameters(running).filter(|parameter| is_kept(parameter)) {
        push(&mut line, parameter);
    }
    line
}

fn push(line: &mut String, parameter: &str) {
    let is_there = line.split(' ').any(|earlier| earlier == parameter);
    if !is_there && line.len() + 1 + parameter.len() <= CMDLINE_LENGTH_MAX {
        line.push(' ');
        line.push_str(parameter);
    }
}

/// The parameters that are the kernel's: what follows `--` is the init's.
fn kernel_parameters(running: &str) -> impl Iterator<Item = &str> {
    running.split_ascii_whitespace().take_while(|parameter| *parameter != "--")
}

fn is_kept(parameter: &str) -> bool {
    if parameter.contains(['"', '\0']) {
        return false;
    }
    let name = parameter.split('=').next().unwrap_or(parameter);
    let module = name.split('.').next().unwrap_or(name);
    KEPT_NAMES.contains(&name) || KEPT_MODULES.contains(&module)
}

/// The modules that no device may bring in, by the command line `running`: names as the kernel has
/// them, with "_". Recovery gets these parameters too.
pub fn modules_not_for_devices(running: &str) -> BTreeSet<String> {
    let values = kernel_parameters(running)
        .filter_map(|parameter| parameter.strip_prefix("modprobe.blacklist="));
    values.flat_map(|value| value.split(',')).map(|name| name.replace('-', "_")).collect()
}

/// The address of the ACPI root pointer in the text of `/sys/firmware/efi/systab`.
pub(super) fn rsdp_of_systab(systab: &str) -> Option<u64> {
    let address = |key: &str| {
        let value = systab.lines().find_map(|line| line.strip_prefix(key))?;
        u64::from_str_radix(value.trim().strip_prefix("0x")?, 16).ok()
    };
    address("ACPI20=").or_else(|| address("ACPI="))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keeps_consoles_and_quirks_and_nothing_else() {
        let running = "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro quiet console=tty0 \
                       console=ttyS0,115200n8 \
                       pci=noaer rd.luks.key=secret password=x init=/bin/sh efi=debug panic=1 \
                       spi_intel.writeable=1 modprobe.blacklist=one,two module_blacklist=three \
                       -- console=bad";
        assert_eq!(
            recovery_cmdline(running, None),
            "rdinit=/usr/sbin/firmcastd efi=noruntime panic=30 console=tty0 console=ttyS0,115200n8 \
             pci=noaer spi_intel.writeable=1 modprobe.blacklist=one,two module_blacklist=three"
        );
    }

    #[test]
    fn modules_that_devices_do_not_bring_in_are_known_by_the_kernels_names() {
        let running = "ro modprobe.blacklist=8139cp,spi-amd quiet -- modprobe.blacklist=other";
        let names: Vec<String> = modules_not_for_devices(running).into_iter().collect();
        assert_eq!(names, ["8139cp", "spi_amd"]);
    }

    #[test]
    fn tells_the_acpi_root_pointer_once() {
        let line = recovery_cmdline("acpi_rsdp=0x7fb7e014", Some(0x7fb7_e014));
        assert_eq!(line, "rdinit=/usr/sbin/firmcastd efi=noruntime panic=30 acpi_rsdp=0x7fb7e014");
        assert_eq!(
            rsdp_of_systab("MPS=0x1\nACPI20=0x7fb7e014\nACPI=0x7fb7e000\n"),
            Some(0x7fb7_e014)
        );
        assert_eq!(rsdp_of_systab("ACPI=0x12\n"), Some(0x12));
        assert_eq!(rsdp_of_systab("ACPI20=zz\n"), None);
    }

    proptest::proptest! {
        #[test]
        fn never_too_long_and_always_ours(running in ".{0,6000}") {
            let line = recovery_cmdline(&running, None);
            assert!(line.len() <= CMDLINE_LENGTH_MAX && !line.contains('\0'));
            assert!(line.starts_with("rdinit=/usr/sbin/firmcastd efi=noruntime panic=30"));
        }

        #[test]
        fn a_long_running_line_is_cut_at_a_parameter(count in 1usize..400) {
            let running: Vec<String> = (0..count).map(|n| format!("console=ttyS{n}")).collect();
            let running = running.join(" ");
            let line = recovery_cmdline(&running, None);
            assert!(line.len() <= CMDLINE_LENGTH_MAX);
            let is_running = |parameter| running.split(' ').any(|known| known == parameter);
            assert!(line.split(' ').skip(3).all(is_running));
        }
    }
}
