//! What has to be true before a host leaves its normal operating system for an update.
//!
//! What a check opened, read or surveyed on its way is handed on in `Ready`, so that what was
//! checked is what is used.

mod drivers;
mod flash;
mod hooks;
mod host;
mod network;
mod reading;
mod recovery;
mod rescue;
mod sealed;
mod watchdogs;
mod work;

use super::check::{Checklist, Subject};
use super::doubt;
use super::local_machine::LocalMachine;
use super::machine::UpdateOrder;
use super::outlook::{
    check_boot_guard, check_host_may_write, check_layout, check_shared_eraseblocks,
};
use crate::flash::{Flash as _, FlashError, Geometry};
use crate::host::drivers::default_interface;
use crate::image::boot_guard::not_known;
use crate::image::{Board, Contents, Fitting, Manifest, left_out, wrong_order};
use crate::kexec::RecoveryFiles;
use crate::keys::HostSecretKey;
use crate::mtd::ChipInfo;
use crate::net::InterfaceConfig;
use crate::power::Power;
use crate::reason::{Condition, Reason, Refusal, with_causes};
use reading::RawContents;
pub(super) use sealed::disks_to_bind;
use std::net::SocketAddr;

/// Who wants to know; the chip is read accordingly.
#[derive(Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// A manager that looks around, which must cost little.
    Query,
    /// An instruction, whose bundle and manager have preconditions of their own.
    Order(&'a UpdateOrder<'a>),
    /// A person at this machine.
    Check,
}

impl<'a> Purpose<'a> {
    fn order(self) -> Option<&'a UpdateOrder<'a>> {
        match self {
            Self::Order(order) => Some(order),
            Self::Query | Self::Check => None,
        }
    }
}

/// What an update of this machine starts with: everything that its preconditions were checked on.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) key: HostSecretKey,
    pub(super) board: Board,
    /// How the manager is reached; empty where recovery has to ask DHCP.
    pub(super) network: Vec<InterfaceConfig>,
    pub(super) files: RecoveryFiles,
    pub(super) chip: ChipContents,
    pub(super) doubt: Option<String>,
}

impl Ready {
    /// What the chip's contents look like: this machine has started from them.
    pub(super) fn condition(&self) -> Condition {
        match self.doubt {
            Some(_) => Condition::Doubtful,
            None => Condition::Whole,
        }
    }
}

/// What a chip holds, and how it is divided.
#[derive(Debug)]
pub(super) struct ChipContents {
    pub(super) contents: Contents,
    pub(super) geometry: Geometry,
}

/// What a manager that looks around learns beside the checklist.
#[derive(Debug)]
pub(super) struct Overview {
    pub(super) board: Board,
    pub(super) flash: Option<ChipInfo>,
}

/// Every precondition of an update of this machine, whatever the bundle. Reads the chip.
pub fn check(machine: &LocalMachine) -> Checklist {
    look(machine, Purpose::Check, None).list
}

/// The preconditions that can be told without reading the chip, for the manager at `asker`.
pub(super) fn query(machine: &LocalMachine, asker: SocketAddr) -> (Checklist, Overview) {
    let Findings { list, board, flash, .. } = look(machine, Purpose::Query, Some(asker));
    (list, Overview { board, flash })
}

/// Every precondition of this update; and what it starts with, if all of them are met.
pub(super) fn order(machine: &LocalMachine, order: &UpdateOrder<'_>) -> (Checklist, Option<Ready>) {
    look(machine, Purpose::Order(order), Some(order.manager_address)).ready()
}

/// The preconditions, and what was found on the way.
struct Findings {
    list: Checklist,
    key: Option<HostSecretKey>,
    board: Board,
    flash: Option<ChipInfo>,
    chip: Option<ChipContents>,
    doubt: Option<String>,
    network: Option<Vec<InterfaceConfig>>,
    files: Option<RecoveryFiles>,
}

impl Findings {
    /// What an update starts with, if nothing is in its way and nothing is missing.
    fn ready(self) -> (Checklist, Option<Ready>) {
        let Self { list, key, board, network, files, chip, doubt, .. } = self;
        let ready = || {
            Some(Ready { key: key?, board, network: network?, files: files?, chip: chip?, doubt })
        };
        let ready = if list.verdict().is_ok() { ready() } else { None };
        (list, ready)
    }
}

/// `manager` is the one that instructs or asks.
fn look(machine: &LocalMachine, purpose: Purpose<'_>, manager: Option<SocketAddr>) -> Findings {
    let by_manager = purpose.order().map(|order| order.accepted).unwrap_or_default();
    let mut list = Checklist::new(machine.accepted(by_manager));
    let key = host::host_key(&mut list, machine, purpose);
    host::trusted_keys(&mut list, machine);
    host::listen(&mut list, machine, purpose);
    host::state_folder(&mut list, machine);
    let mut board = host::board(&mut list, machine, key.as_ref());
    work::work(&mut list, &machine.root);
    sealed::sealed_disks(&mut list, machine);
    watchdogs::watchdogs(&mut list, &machine.root, purpose);
    hooks::hooks(&mut list, &machine.root);
    let mut device = flash::flash(&mut list, machine);
    let (mut chip, mut doubt) = (None, None);
    match &mut device {
        Some(device) => {
            board.flash_size_bytes = device.geometry().size_bytes();
            bundle(&mut list, &board, purpose.order());
            flash::flash_locks(&mut list, device);
            let raw = reading::read_chip(&mut list, device, purpose);
            chip = raw.and_then(|raw| {
                let geometry = device.geometry().clone();
                let contents = contents(&mut list, machine, raw, purpose)?;
                Some(ChipContents { contents, geometry })
            });
        }
        None => list.unknown(Subject::FlashLocks, "no flash chip to ask"),
    }
    if let Some(chip) = &chip {
        order_of_chips(&mut list, chip);
        doubt = firmware(&mut list, machine, &chip.contents, &board.bios_version);
        if let Some(order) = purpose.order() {
            layout(&mut list, chip, order.manifest);
            boot_guard(&mut list, &chip.contents, order.manifest);
        }
    }
    let flash = device.map(|device| device.info().clone());
    let mut of_network = Checklist::default();
    let network = network::network(&mut of_network, machine, manager);
    let interfaces = interfaces(machine, network.as_deref(), purpose.order());
    let devices = flash.iter().flat_map(ChipInfo::devices);
    let mtd: Vec<u32> = devices.map(|device| device.index).collect();
    let files =
        recovery::recovery(&mut list, machine, board.flash_size_bytes, &mtd, &interfaces, purpose);
    power(&mut list, machine);
    list.append(of_network);
    if matches!(purpose, Purpose::Check) {
        rescue::rescue(&mut list, machine);
    }
    Findings { list, key, board, flash, chip, doubt, network, files }
}

fn bundle(list: &mut Checklist, board: &Board, order: Option<&UpdateOrder<'_>>) {
    let Some(order) = order else { return };
    match board.admit(order.manifest) {
        Ok(()) => list.ok(Subject::Bundle, order.manifest.version()),
        Err(refusal) => {
            list.not_ok(Subject::Bundle, refusal.reason, refusal.detail, refusal.reason.advice())
        }
    }
}

/// Returns what of the chip is its contents: what is closed to the host is not.
fn contents(
    list: &mut Checklist,
    machine: &LocalMachine,
    raw: RawContents,
    purpose: Purpose<'_>,
) -> Option<Contents> {
    let untouched = match purpose.order() {
        Some(order) => Fitting::untouched(order.manifest),
        None => left_out(machine.state.known_good().ok().flatten().as_ref()),
    };
    match Contents::new(raw.bytes, &raw.unread, &untouched) {
        Ok(contents) => Some(contents),
        Err(error) => {
            let (advice, problem) = (Reason::BackupFailed.advice(), with_causes(&error));
            list.not_ok(Subject::Firmware, Reason::BackupFailed, problem, advice);
            None
        }
    }
}

/// Returns why the firmware that runs looks doubtful.
fn firmware(
    list: &mut Checklist,
    machine: &LocalMachine,
    contents: &Contents,
    bios_version: &str,
) -> Option<String> {
    let doubt =
        doubt::of(contents, machine.state.known_good().ok().flatten().as_ref(), bios_version);
    match &doubt {
        None => list.ok(Subject::Firmware, "nothing speaks against what the chip holds"),
        Some(why) => list.unknown(
            Subject::Firmware,
            format_args!("looks doubtful, although this machine has started from it: {why}"),
        ),
    }
    doubt
}

/// Recovery looks again: there the drivers may name the chips differently.
fn order_of_chips(list: &mut Checklist, chip: &ChipContents) {
    if let Some(why) = wrong_order(chip.contents.bytes(), chip.geometry.joints()) {
        let error = FlashError::WrongOrder(why);
        list.not_ok(Subject::Flash, error.reason(), error, "");
    }
}

fn layout(list: &mut Checklist, chip: &ChipContents, manifest: &Manifest) {
    match check_layout(&chip.contents, manifest) {
        Ok(fitting) => {
            match check_host_may_write(&chip.contents, manifest, &fitting) {
                Ok(()) => list.ok(Subject::Layout, "the image's, or of no account"),
                Err(refusal) => {
                    let Refusal { reason, detail } = refusal;
                    list.not_ok(Subject::Layout, reason, detail, reason.advice());
                }
            }
            shared_eraseblocks(list, chip, manifest, &fitting);
        }
        Err(refusal) => {
            let advice = Reason::LayoutMismatch.advice();
            list.not_ok(Subject::Layout, refusal.reason, refusal.detail, advice);
        }
    }
}

fn shared_eraseblocks(
    list: &mut Checklist,
    chip: &ChipContents,
    manifest: &Manifest,
    fitting: &Fitting,
) {
    let subject = Subject::SharedEraseblocks;
    match check_shared_eraseblocks(&chip.contents, manifest, fitting, &chip.geometry) {
        Ok(unknown) if unknown.is_empty() => {
            list.ok(subject, "what the bundle keeps has eraseblocks of its own");
        }
        Ok(unknown) => list.unknown(
            subject,
            format_args!(
                "some bytes of {unknown} are kept and others may have to change, which recovery \
                 would refuse: try the bundle on a backup of this host (firmcast bundle try)"
            ),
        ),
        Err(refusal) => {
            list.not_ok(subject, refusal.reason, refusal.detail, refusal.reason.advice());
        }
    }
}

fn boot_guard(list: &mut Checklist, contents: &Contents, manifest: &Manifest) {
    let advice = Reason::BootGuardMismatch.advice();
    match check_boot_guard(contents, manifest) {
        Ok(kinds) if kinds.is_empty() => {
            list.ok(Subject::BootGuard, "the image has what the chip has, or is meant otherwise");
        }
        Ok(kinds) => list.unknown(Subject::BootGuard, not_known(&kinds)),
        Err(refusal) => list.not_ok(Subject::BootGuard, refusal.reason, refusal.detail, advice),
    }
}

fn power(list: &mut Checklist, machine: &LocalMachine) {
    match Power::read(&machine.root) {
        Power::Safe(why) => list.ok(Subject::Power, why),
        Power::Unknown(why) => list.unknown(Subject::Power, why),
        Power::Unsafe(why) => {
            list.not_ok(Subject::Power, Reason::PowerUnsafe, why, Reason::PowerUnsafe.advice());
        }
    }
}

/// The interfaces whose drivers recovery needs.
fn interfaces(
    machine: &LocalMachine,
    network: Option<&[InterfaceConfig]>,
    order: Option<&UpdateOrder<'_>>,
) -> Vec<String> {
    match (network, order) {
        (Some(found), _) => found.iter().map(|interface| interface.name.clone()).collect(),
        (None, Some(_)) => Vec::new(),
        (None, None) => default_interface(&machine.root).into_iter().collect(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::flash::WriteRule;
    use crate::keys::SecretKey as _;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    const CHIP_BYTES: usize = 0x2000;

    /// Kernel and initramfs, as far as anybody looks at them here.
    fn files() -> RecoveryFiles {
        let folder = tempfile::tempdir().unwrap();
        let (kernel, initramfs) = (folder.path().join("kernel"), folder.path().join("initramfs"));
        let mut head = vec![0; 0x40];
        head[0x38..0x3c].copy_from_slice(b"ARM\x64");
        std::fs::write(&kernel, head).unwrap();
        std::fs::write(&initramfs, "070701").unwrap();
        crate::kexec::preflight(&kernel, &initramfs).into_files().unwrap()
    }

    fn findings() -> Findings {
        let geometry =
            Geometry::uniform(CHIP_BYTES as u64, 0x1000, 1, WriteRule::ClearBits).unwrap();
        let interface = InterfaceConfig { name: "eth7".into(), ..InterfaceConfig::default() };
        Findings {
            list: Checklist::default(),
            key: Some(HostSecretKey::generate(&mut ChaCha20Rng::from_seed([9; 32]))),
            board: Board { security_version_floor: 7, ..Board::default() },
            flash: None,
            chip: Some(ChipContents { contents: Contents::whole(vec![3; CHIP_BYTES]), geometry }),
            doubt: Some("at 0x10: torn".into()),
            network: Some(vec![interface]),
            files: Some(files()),
        }
    }

    /// What an update starts with when all is met.
    pub(in crate::agent) fn ready() -> Ready {
        findings().ready().1.unwrap()
    }

    #[test]
    fn an_update_starts_with_what_its_preconditions_were_checked_on() {
        let key = findings().key.unwrap();
        let (_, ready) = findings().ready();
        let ready = ready.unwrap();
        assert_eq!(*ready.key.to_text(), *key.to_text());
        assert_eq!((ready.board.security_version_floor, ready.network.len()), (7, 1));
        assert_eq!(ready.chip.contents.bytes(), [3; CHIP_BYTES]);
        assert_eq!(
            (ready.condition(), ready.doubt.as_deref()),
            (Condition::Doubtful, Some("at 0x10: torn"))
        );
        let whole = Ready { doubt: None, ..ready };
        assert_eq!(whole.condition(), Condition::Whole);
    }

    #[test]
    fn nothing_starts_when_something_is_missing_or_in_the_way() {
        let lacking: [fn(&mut Findings); 4] = [
            |found| found.key = None,
            |found| found.network = None,
            |found| found.files = None,
            |found| found.chip = None,
        ];
        for (index, remove) in lacking.iter().enumerate() {
            let mut found = findings();
            remove(&mut found);
            assert!(found.ready().1.is_none(), "{index}");
        }
        let mut found = findings();
        found.list.not_ok(Subject::RecoveryDrivers, Reason::RecoveryLacksDriver, "", "");
        let (list, ready) = found.ready();
        assert_eq!(list.verdict().unwrap_err().reason, Reason::RecoveryLacksDriver);
        assert!(ready.is_none());
    }
}
