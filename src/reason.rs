//! Why something ended: one list for host, manager, history and documents.
//!
//! A [`Reason`] travels as its code (docs/PROTOCOL.md, section "Reasons"); codes are never reused.
//! docs/OPERATIONS.md says what to do about each.

mod condition;
mod ending;
mod flash_state;

use std::fmt;

pub use condition::Condition;
pub use ending::{Ending, LESS_PROTECTED, MORE_PROTECTED, Refusal};
pub use flash_state::FlashState;

macro_rules! reasons {
    ($(
        $(#[$doc:meta])*
        $variant:ident = $code:literal, $name:literal, $sentence:literal, $advice:literal;
    )*) => {
        /// Why a host refused, failed, or ended well.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
            /// A code that this version does not know: the other side is newer.
            Other(u16),
        }

        impl Reason {
            /// Every reason that has a name of its own, in the order of the codes.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The reason with this code.
            pub fn from_code(code: u16) -> Self {
                match code { $($code => Reason::$variant,)* other => Reason::Other(other) }
            }

            /// The code in datagrams.
            pub fn code(self) -> u16 {
                match self { $(Reason::$variant => $code,)* Reason::Other(code) => code }
            }

            /// The name in JSON and documents.
            pub fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* Reason::Other(_) => "unknown-reason" }
            }

            /// What happened, for an operator.
            pub fn sentence(self) -> &'static str {
                match self {
                    $(Reason::$variant => $sentence,)*
                    Reason::Other(_) => "a reason that this version does not know",
                }
            }

            /// What to do next.
            pub fn advice(self) -> &'static str {
                match self {
                    $(Reason::$variant => $advice,)*
                    Reason::Other(_) => "the other side is newer: update firmcast on this side",
                }
            }
        }
    };
}

reasons! {
    /// No end yet, or nothing to say.
    None = 0, "none",
        "nothing to report",
        "nothing to do";

    // 1 to 99: refused by the host; nothing has happened.
    /// Signature by no trusted release key.
    ManifestUntrusted = 1, "manifest-untrusted",
        "no trusted release key signed this bundle",
        "check which release key signed it (firmcast bundle show) and the host's trusted_releases";
    /// Bytes that are no manifest.
    ManifestMalformed = 2, "manifest-malformed",
        "the manifest cannot be understood",
        "make the bundle again, and update firmcastd if the bundle comes from a newer firmcast";
    /// Vendor or product does not match.
    WrongBoard = 3, "wrong-board",
        "the bundle is for another board",
        "use the bundle whose vendor and product match what firmcast discover shows for this host";
    /// Below the version floor.
    SecurityVersionTooOld = 4, "security-version-too-old",
        "the bundle's security version is below this host's floor",
        "use a bundle with a security version at least as high as the one installed";
    /// Installed version is not one the bundle may start from.
    UpdateFromNotMet = 5, "update-from-not-met",
        "the installed version is not one that this bundle updates from",
        "install the intermediate version that the bundle names first";
    /// Image and chip differ in size.
    ImageSizeMismatch = 6, "image-size-mismatch",
        "the image does not have the size of the flash chip",
        "use an image of the whole chip for this board";
    /// No such MTD.
    FlashNotFound = 7, "flash-not-found",
        "the flash chip was not found",
        "load the chip's MTD driver and set flash in agent.toml to a name from /proc/mtd";
    /// Write protection in force.
    FlashLocked = 8, "flash-locked",
        "the flash chip is write protected",
        "lift the protection in the firmware setup or by the board's jumper";
    /// Device understood not to be usable.
    FlashUnsupported = 9, "flash-unsupported",
        "the flash device cannot be updated",
        "see the detail; firmcastd check shows what was found";
    /// Recovery kernel or initramfs unusable.
    RecoveryMissing = 10, "recovery-missing",
        "the recovery kernel or initramfs is missing or unreadable",
        "run firmcast-mkrecovery --all; if agent.toml names recovery files, check them";
    /// kexec forbidden or failed.
    KexecUnavailable = 11, "kexec-unavailable",
        "the kernel does not let firmcastd load the recovery kernel",
        "see the detail: kexec_load_disabled, lockdown without a signed kernel, or missing \
        CAP_SYS_BOOT";
    /// Not enough RAM.
    MemoryTooLow = 12, "memory-too-low",
        "there is not enough free memory for the image and a complete backup",
        "free memory on the host and try again";
    /// Another campaign holds the host.
    Busy = 13, "busy",
        "another campaign is under way on this host",
        "wait for the other campaign or end it first";
    /// Instruction for a campaign whose manifest the host does not hold.
    ManifestIncomplete = 14, "manifest-incomplete",
        "the host does not hold this campaign's manifest",
        "start the update again";
    /// Not the time for this command.
    NotPossibleNow = 15, "not-possible-now",
        "the host cannot do this in its present state",
        "look at the host's phase and start the update again";
    /// Network configuration could not be read.
    NetworkUnknown = 16, "network-unknown",
        "the network configuration towards the manager could not be read",
        "check the route from the host to the manager";
    /// Layouts of image and chip differ.
    LayoutMismatch = 17, "layout-mismatch",
        "the image's layout is not the flash chip's",
        "use the image for this board, or only its BIOS region (bundle create --region bios); the \
        detail says what does not fit";
    /// Made from another host's backup.
    WrongHost = 18, "wrong-host",
        "the bundle is a backup of another host",
        "restore the backup that was made on this host";
    /// On battery, or the mains failed.
    PowerUnsafe = 19, "power-unsafe",
        "the machine may lose its power while its flash is written",
        "connect it to the mains, wait until the UPS is no longer on battery, and start the \
        update again";
    /// Something else writes, or may write, to the chip.
    FlashBusy = 20, "flash-busy",
        "something else uses the flash chip",
        "end the program or unmount the file system that the detail names, and start the update \
        again";
    /// What would stand in flash would not start.
    ImageInvalid = 21, "image-invalid",
        "the image is broken in itself",
        "get the image again from its maker and make a new bundle";
    /// Recovery would not find the chip or the network.
    RecoveryLacksDriver = 22, "recovery-lacks-driver",
        "the recovery initramfs lacks a driver that this machine needs",
        "build it again with the command that the detail names";
    /// Packages are being installed.
    PackageManagerBusy = 23, "package-manager-busy",
        "packages are being installed or removed",
        "wait until the package manager has finished, and start the update again";
    /// A program forbids the shutdown.
    ShutdownInhibited = 24, "shutdown-inhibited",
        "a program on the host forbids a shutdown",
        "wait for the program that the detail names, or --accept inhibitors";
    /// Disks that the TPM unlocks for the present firmware only.
    DisksSealed = 25, "disks-sealed",
        "disks are unlocked by the TPM for the present firmware, and would ask for a passphrase",
        "have the recovery key of each disk at hand and --accept sealed-disks; bind the disks \
        again after the update";
    /// A watchdog that resets the machine while its flash is written.
    WatchdogRuns = 26, "watchdog-runs",
        "a watchdog that cannot be stopped would reset the machine while its flash is written",
        "stop the watchdog that the detail names, or unload its driver";
    /// The administrator's program said no, or did not end.
    HookFailed = 27, "hook-failed",
        "a program in pre-update.d failed",
        "see the detail, and on the host journalctl -t firmcastd; run the program by hand";
    /// Recovery could not set up the network.
    NetworkNotCarried = 28, "network-not-carried",
        "the recovery environment cannot set up this network",
        "see the detail; give the host another way to the manager";
    /// The controller is there, its driver is not.
    FlashDriverMissing = 29, "flash-driver-missing",
        "the kernel has no driver for the flash chip's controller",
        "see the detail for the module; use a kernel that has it";
    /// The processor would not start the image.
    BootGuardMismatch = 30, "boot-guard-mismatch",
        "the image lacks what Intel Boot Guard finds on the chip, or has other keys",
        "use the image for this board; if it is meant so, make the bundle with --new-boot-guard";

    // 100 to 199: ends of the recovery environment.
    /// All well.
    Updated = 100, "updated",
        "the new image stands in flash and was verified",
        "nothing to do";
    /// Image already there.
    AlreadyCurrent = 101, "already-current",
        "the flash already held this image",
        "nothing to do";
    /// The manager let the host go.
    Released = 102, "released",
        "the manager ended the campaign before flashing",
        "start the update again when ready";
    /// No session with the manager.
    ManagerNotReached = 103, "manager-not-reached",
        "the manager was not reached from the recovery environment",
        "check that the manager still runs and that UDP passes both ways; then start the update \
        again";
    /// Transfer deadline passed.
    TransferTimedOut = 104, "transfer-timed-out",
        "the transfer did not complete in time",
        "check the manager and the network, lower --rate, and start the update again";
    /// Bytes arrived whole but are not the signed image.
    PayloadInvalid = 105, "payload-invalid",
        "the received image does not match the signed manifest",
        "look for a second sender in the network; start the update again";
    /// No link or address.
    NetworkUnavailable = 106, "network-unavailable",
        "no network link or address in the recovery environment",
        "check cable, VLAN and DHCP, and that the NIC's module is in the recovery initramfs";
    /// Backup impossible.
    BackupFailed = 107, "backup-failed",
        "a complete backup of the flash could not be read",
        "the chip does not read reliably; check the hardware before the next try";
    /// Write failed, old image back.
    WriteFailed = 108, "write-failed",
        "the flash could not be written",
        "see the detail for the failing block; check write protection and the chip";
    /// Nobody asked for the reboot or said what to do.
    RecoveryFailed = 109, "recovery-failed",
        "the recovery environment could not go on",
        "see the detail and the host's console";
    /// Came back without a record of why.
    ReturnedSilently = 110, "returned-silently",
        "the host came back from recovery without a record of why",
        "look at the host's console; only a measurement tells what the flash holds, start the \
        update again";
    /// The manager did not say that it keeps the backup.
    EscrowFailed = 111, "escrow-failed",
        "the backup could not be stored at the manager, so the flash was not changed",
        "see the detail: room in the manager's state directory, and UDP from the host to the \
        manager; then start the update again";

    /// A drill: the first change would have come next.
    Drilled = 112, "drilled",
        "everything up to the first erase was done, and nothing was changed",
        "nothing to do; start the update when you want it";

    // 200 to 299: what the manager finds.
    /// No answer from the agent.
    HostUnreachable = 200, "host-unreachable",
        "the host does not answer",
        "check address, port, firewall, and that the host trusts this manager's key";
    /// Recovery never called.
    NoReady = 201, "no-ready",
        "the host did not call back from the recovery environment",
        "look at its console; without contact it returns to its normal OS by itself";
    /// Left behind.
    LeftBehind = 202, "left-behind",
        "the host made no progress during the transfer and was left behind",
        "it returns to its normal OS by itself; check its link and start the update again for it";
    /// Lost while flashing.
    LostWhileFlashing = 203, "lost-while-flashing",
        "the host fell silent after it was told to write its flash",
        "do not power it off; look at its console";
    /// No agent after the reboot.
    NoAgentAfterReboot = 204, "no-agent-after-reboot",
        "the host did not answer after the reboot",
        "look at its console or BMC; flash updated means that it was verified before the reboot";
    /// Other version after the boot.
    WrongVersion = 205, "wrong-version",
        "the host runs another version than the bundle names",
        "check that the board booted from the chip that was written; a power cycle may be needed";
    /// Other digest after the boot.
    WrongDigest = 206, "wrong-digest",
        "the flash does not hold the bundle's image outside its preserved regions",
        "check what changed the chip at boot; name what the firmware writes itself with --volatile";
    /// New version confirmed.
    Confirmed = 207, "confirmed",
        "the host booted and runs the new firmware",
        "nothing to do";
    /// Operator's interrupt.
    Interrupted = 208, "interrupted",
        "the operator interrupted the campaign",
        "start the update again; hosts return to their normal OS by themselves";
    /// Manager's own trouble.
    ManagerFailed = 209, "manager-failed",
        "the manager could not go on",
        "see the detail";
    /// Dry run only: nothing is in the way.
    Possible = 210, "possible",
        "an update could start",
        "start it without --dry-run";
    /// A dead host was repaired.
    Rescued = 211, "rescued",
        "the host repaired its firmware and starts it",
        "nothing to do";
    /// Nothing in the bundle directory for this board.
    NoBundle = 212, "no-bundle",
        "no bundle of the manager fits this host's board",
        "put a bundle for its vendor and product into the manager's bundle directory; the host \
        keeps asking";
    /// The policy says hold.
    Held = 213, "held",
        "the manager's policy holds this host back",
        "change the policy file to have the host repaired; it keeps asking";
    /// Failed too often.
    Parked = 214, "parked",
        "the host failed too often and is left alone for now",
        "see why the attempts failed; restart the manager's service or change its policy file to \
        try again";
    /// The agent is back, and cannot read the chip.
    NotMeasured = 215, "not-measured",
        "the host is back, but could not measure its flash",
        "see the detail and firmcastd check on the host; then start the update again";
    /// No version of the protocol in common.
    ProtocolMismatch = 216, "protocol-mismatch",
        "host and manager have no version of the protocol in common",
        "update the side that the detail names";
    /// The fleet's program before the host said no, or did not end in time.
    DrainFailed = 217, "drain-failed",
        "the rollout's drain program failed, and the host was not touched",
        "see the detail; run the program by hand for this host, then try it again";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())?;
        match self {
            Self::Other(code) => write!(f, " ({code})"),
            _ => Ok(()),
        }
    }
}

/// Returns an error and its causes in one line, as messages and details hold them.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_unique_and_found_again() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(Reason::from_code(reason.code()), *reason);
            assert!(Reason::ALL[..index].iter().all(|other| other.name() != reason.name()));
        }
        let newer = Reason::from_code(65535);
        assert_eq!((newer, newer.code()), (Reason::Other(65535), 65535));
        assert!(newer.to_string().contains("65535"));
    }

    #[test]
    fn the_operations_manual_explains_each_reason() {
        let manual = include_str!("../docs/OPERATIONS.md");
        let (_, reasons) = manual.split_once("\n## Reasons\n").expect("a chapter for the reasons");
        let mut sections = reasons.split("\n#### ").skip(1);
        for reason in &Reason::ALL[1..] {
            let section =
                sections.next().expect("a section for each reason, in the order of codes");
            let (heading, text) = section.split_once('\n').expect("text below a heading");
            assert_eq!(heading, format!("{} {}", reason.code(), reason.name()));
            let to_do = format!("\n- **What to do:** {}", reason.advice());
            for part in
                [reason.sentence(), "\n- **What it means.** ", "\n- **The flash:** ", &to_do]
            {
                assert!(text.contains(part), "docs/OPERATIONS.md: {heading} lacks {part:?}");
            }
        }
        assert_eq!(sections.next(), None, "sections behind the last reason");
    }

    #[test]
    fn the_operations_manual_says_of_each_flash_state_what_the_program_says() {
        let manual = include_str!("../docs/OPERATIONS.md").replace("**", "");
        let (_, manual) = manual.split_once("\n## When something fails\n").expect("a chapter");
        for state in FlashState::ALL {
            let mut rows = manual.lines().map(|line| line.split('|').map(str::trim));
            let row = rows.find(|cells| cells.clone().nth(1) == Some(state.name()));
            let mut cells = row.expect("a row for each state").skip(2);
            let holds = cells.next().expect("what it holds");
            assert!(holds.starts_with(state.holds()), "{holds:?}");
            let reboot = cells.next().expect("whether a reboot is safe");
            match state.condition() {
                Some(Condition::Broken) => assert!(manual.contains(state.reset_advice())),
                _ => assert!(reboot.starts_with(state.reset_advice()), "{reboot:?}"),
            }
        }
    }
}
