//! What goes wrong with a scripted host.

use std::time::Duration;

use firmcast::reason::{FlashState, Reason};

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    pub(crate) silent: bool,
    /// Its chip holds the release from the start.
    pub(crate) has_release: bool,
    pub(crate) refuse: Option<Reason>,
    /// How long it takes to write on a slow chip, as it foresees.
    pub(crate) longest_write: Duration,
    pub(crate) recovery_boot: Duration,
    pub(crate) home_boot: Duration,
    pub(crate) dies_in_kexec: bool,
    pub(crate) gives_up_in_recovery: bool,
    pub(crate) deaf_to_fragments: bool,
    /// Its answers to status requests cannot be.
    pub(crate) answers_nonsense: bool,
    /// It says that it is updated when it is told to receive.
    pub(crate) claims_update: bool,
    /// Another machine with its key answers behind it each time.
    pub(crate) has_twin: bool,
    /// It answers in recovery, but takes no manifest.
    pub(crate) loses_manifests: bool,
    pub(crate) backup: ScriptedBackup,
    pub(crate) dies_while_flashing: bool,
    /// In the middle of a write; then its normal OS starts.
    pub(crate) loses_power_while_flashing: bool,
    /// Answers after the campaign brought it home, or after it came home by itself; then it is
    /// silent.
    pub(crate) answers_at_home: Option<u32>,
    pub(crate) cannot_measure: bool,
    /// Its measurement is one of the boot before.
    pub(crate) measured_before: bool,
    pub(crate) fails_to_write: Option<FlashState>,
    pub(crate) fails_once: bool,
    pub(crate) reboots_without_release: bool,
    pub(crate) never_boots_again: bool,
    pub(crate) other_digest: bool,
    pub(crate) other_version: bool,
    /// What its agent cannot keep when it has measured the new firmware.
    pub(crate) cannot_keep: &'static str,
    /// What recovery says beside that it has updated the chip.
    pub(crate) remark: &'static str,
    /// What its administrator's programs came to.
    pub(crate) programs: &'static str,
    /// It knows no drills: it says so, or nothing.
    pub(crate) knows_no_drills: Option<Unknown>,
    /// It takes a rehearsal for a commit.
    pub(crate) writes_in_drill: bool,
    /// Which pieces of the image its chip lacks, if it says so.
    pub(crate) lacks: Option<&'static [usize]>,
    /// In recovery its chip does not read as before.
    pub(crate) lacks_more: bool,
}

/// What a host makes of a command that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    Told,
    Ignored,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            silent: false,
            has_release: false,
            refuse: None,
            longest_write: Duration::from_millis(2001),
            recovery_boot: Duration::from_secs(15),
            home_boot: Duration::from_secs(40),
            dies_in_kexec: false,
            gives_up_in_recovery: false,
            deaf_to_fragments: false,
            answers_nonsense: false,
            claims_update: false,
            has_twin: false,
            loses_manifests: false,
            backup: ScriptedBackup::Good,
            dies_while_flashing: false,
            loses_power_while_flashing: false,
            answers_at_home: None,
            cannot_measure: false,
            measured_before: false,
            fails_to_write: None,
            fails_once: false,
            reboots_without_release: false,
            never_boots_again: false,
            other_digest: false,
            other_version: false,
            cannot_keep: "",
            remark: "",
            programs: "",
            knows_no_drills: None,
            writes_in_drill: false,
            lacks: None,
            lacks_more: false,
        }
    }
}

/// What a host uploads when it is asked for its backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScriptedBackup {
    Good,
    /// It says that it is on it, and no more.
    Nothing,
    OtherSize,
    OtherDigest,
    /// It falls silent when it has offered its backup.
    Offer,
    /// It offers another one with each heartbeat.
    AlwaysAnother,
    /// It sends a fragment shortly before each deadline.
    Drop,
}
