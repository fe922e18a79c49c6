//! What a host finds about the preconditions of an update, one by one (docs/PROTOCOL.md, section
//! "Answers"); what an operator may accept although it is in the way.

use std::fmt;

use super::codec::{DecodeError, Reader, Writer};
use crate::reason::Reason;

/// Maximum number of findings in one message.
pub const FINDINGS_MAX: usize = 24;

/// Bytes of a finding in a message.
const FINDING_SIZE: usize = 4;

macro_rules! subjects {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal;)*) => {
        /// What a check looks at. docs/OPERATIONS.md has a line for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Subject {
            $($(#[$doc])* $variant,)*
            /// A code that this version does not know: the host is newer.
            Other(u8),
        }

        impl Subject {
            /// Every subject, in the order in which an update would be refused for them.
            pub const ALL: &'static [Subject] = &[$(Subject::$variant,)*];

            /// The name, the same in every version.
            pub fn name(self) -> &'static str {
                match self { $(Subject::$variant => $name,)* Subject::Other(_) => "unknown-check" }
            }

            /// The code in messages, which is never reused.
            pub fn code(self) -> u8 {
                match self { $(Subject::$variant => $code,)* Subject::Other(code) => code }
            }

            /// The subject with this code.
            pub fn from_code(code: u8) -> Self {
                match code { $($code => Subject::$variant,)* other => Subject::Other(other) }
            }
        }
    };
}

subjects! {
    /// The secret key of this host.
    HostKey = 0, "host-key";
    /// Keys of managers.
    TrustedManagers = 1, "trusted-managers";
    /// Keys that bundles are signed with.
    TrustedReleases = 2, "trusted-releases";
    /// Where it listens, and whether discovery reaches it there.
    Listen = 3, "listen";
    /// The folder for what outlives a reboot.
    StateDir = 4, "state-dir";
    /// What the firmware calls its board.
    Board = 5, "board";
    /// The floor of security versions.
    SecurityVersion = 6, "security-version";
    /// Whether packages are being installed.
    PackageManager = 25, "package-manager";
    /// Who forbids a shutdown.
    Inhibitors = 26, "inhibitors";
    /// Virtual machines and containers that run.
    Workloads = 27, "workloads";
    /// Who is logged in.
    Sessions = 28, "sessions";
    /// A shutdown that somebody has scheduled.
    ScheduledShutdown = 29, "scheduled-shutdown";
    /// Disks that another firmware does not unlock.
    SealedDisks = 30, "sealed-disks";
    /// What resets the machine by itself.
    Watchdogs = 31, "watchdogs";
    /// The administrator's programs before and after an update.
    Hooks = 32, "hooks";
    /// The chip.
    Flash = 7, "flash";
    /// What forbids writes to all of the chip or a range.
    FlashProtection = 8, "flash-protection";
    /// Who else uses the chip.
    FlashUsers = 9, "flash-users";
    /// Whether the bundle of an instruction is for this host.
    Bundle = 10, "bundle";
    /// Locks of eraseblocks.
    FlashLocks = 11, "flash-locks";
    /// Whether the chip reads the same twice.
    FlashReads = 12, "flash-reads";
    /// What the chip holds.
    Firmware = 13, "firmware";
    /// Whether the image of an instruction divides the chip as it is divided now.
    Layout = 14, "layout";
    /// Whether what the bundle of an instruction keeps shares eraseblocks with what changes.
    SharedEraseblocks = 34, "shared-eraseblocks";
    /// Whether the image of an instruction has what Intel Boot Guard finds on the chip.
    BootGuard = 33, "boot-guard";
    /// The recovery images that are kept, one for each kernel.
    RecoveryImages = 15, "recovery-images";
    /// The kernel for recovery.
    RecoveryKernel = 16, "recovery-kernel";
    /// The initramfs for recovery.
    RecoveryInitramfs = 17, "recovery-initramfs";
    /// Whether that initramfs has the drivers in use.
    RecoveryDrivers = 18, "recovery-drivers";
    /// Whether the kernel loads another one.
    Kexec = 19, "kexec";
    /// Memory for loading it.
    Memory = 20, "memory";
    /// Memory for its work.
    RecoveryMemory = 21, "recovery-memory";
    /// Mains and batteries.
    Power = 22, "power";
    /// The way to the manager of an instruction.
    Network = 23, "network";
    /// Whether this machine could come into recovery by itself.
    Rescue = 24, "rescue";
}

impl Subject {
    /// What may be accepted although it is in the way: what costs the operator something, and not
    /// the machine its firmware.
    pub const ACCEPTABLE: &'static [Subject] =
        &[Subject::PackageManager, Subject::Inhibitors, Subject::SealedDisks, Subject::FlashLocks];
}

/// What was found about one precondition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Verdict {
    /// Met.
    Ok = 0,
    /// Met, and something that an operator should know.
    Told = 1,
    /// Cannot be told from here; an update is not refused for it.
    Unknown = 2,
    /// Not met, and accepted by name.
    Accepted = 3,
    /// Not met: an update is refused.
    NotOk = 4,
}

impl Verdict {
    const ALL: [Verdict; 5] =
        [Verdict::Ok, Verdict::Told, Verdict::Unknown, Verdict::Accepted, Verdict::NotOk];

    /// The word in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Told => "told",
            Self::Unknown => "unknown",
            Self::Accepted => "accepted",
            Self::NotOk => "not-ok",
        }
    }

    /// The verdict with this code; one of a newer version is unknown.
    fn from_code(code: u8) -> Self {
        Self::ALL.into_iter().find(|verdict| *verdict as u8 == code).unwrap_or(Self::Unknown)
    }
}

/// One precondition, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub subject: Subject,
    /// What was found.
    pub verdict: Verdict,
    /// Why an update is refused, or would be if it were not accepted; [`Reason::None`] else.
    pub reason: Reason,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.subject.name(), self.verdict.name())?;
        match self.reason {
            Reason::None => Ok(()),
            reason => write!(f, " ({})", reason.name()),
        }
    }
}

impl Finding {
    /// Reads a list of findings: count u8, then of each subject u8, verdict u8, reason u16. A
    /// sender of an older version has none.
    pub(crate) fn read_all(reader: &mut Reader<'_>) -> Result<Vec<Self>, DecodeError> {
        if reader.is_at_end() {
            return Ok(Vec::new());
        }
        let count = usize::from(reader.u8()?);
        if count > FINDINGS_MAX {
            return Err(DecodeError::Value("number of findings"));
        }
        (0..count).map(|_| Self::read(reader)).collect()
    }

    /// The first of `findings` that fit into so many bytes.
    pub(crate) fn fitting(findings: &[Self], bytes: usize) -> &[Self] {
        &findings[..findings.len().min(bytes.saturating_sub(1) / FINDING_SIZE)]
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            subject: Subject::from_code(reader.u8()?),
            verdict: Verdict::from_code(reader.u8()?),
            reason: Reason::from_code(reader.u16()?),
        })
    }

    /// Writes the first [`FINDINGS_MAX`] of `findings`, and nothing where there are none.
    pub(crate) fn write_all(findings: &[Self], writer: &mut Writer) {
        let findings = &findings[..findings.len().min(FINDINGS_MAX)];
        if findings.is_empty() {
            return;
        }
        writer.u8(findings.len() as u8);
        for Finding { subject, verdict, reason } in findings {
            writer.u8(subject.code()).u8(*verdict as u8).u16(reason.code());
        }
    }
}

/// What an operator accepts although it is in the way: a bit for the code of each subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acceptance(u64);

impl Acceptance {
    /// What these bits stand for; those of what cannot be accepted stand for nothing.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// What is accepted by these names.
    ///
    /// # Errors
    /// A name that is none, or of something that cannot be accepted; with those that can.
    pub fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        names.into_iter().try_fold(Self::default(), |accepted, name| {
            let subject = Subject::ACCEPTABLE.iter().find(|subject| subject.name() == name);
            let subject = subject.ok_or_else(|| {
                let known: Vec<&str> = Subject::ACCEPTABLE.iter().map(|one| one.name()).collect();
                format!("`{name}` cannot be accepted; what can is {}", known.join(", "))
            })?;
            Ok(Self(accepted.0 | bit(*subject)))
        })
    }

    /// Whether this is accepted.
    pub fn contains(self, subject: Subject) -> bool {
        Subject::ACCEPTABLE.contains(&subject) && self.0 & bit(subject) != 0
    }

    /// What either accepts.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The names, in order.
    pub fn names(self) -> Vec<&'static str> {
        let accepted = Subject::ACCEPTABLE.iter().filter(|subject| self.contains(**subject));
        accepted.map(|subject| subject.name()).collect()
    }
}

fn bit(subject: Subject) -> u64 {
    1_u64.checked_shl(subject.code().into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn codes_and_names_stand_for_one_subject_each() {
        for subject in Subject::ALL {
            assert_eq!(Subject::from_code(subject.code()), *subject);
            let same = Subject::ALL.iter().filter(|other| other.name() == subject.name());
            assert_eq!(same.count(), 1, "{subject:?}");
            assert!(subject.code() < 64, "has no bit in an acceptance");
        }
        assert_eq!(Subject::from_code(255).code(), 255);
    }

    #[test]
    fn only_what_may_be_accepted_is() {
        let accepted = Acceptance::of_names(["sealed-disks", "inhibitors"]).unwrap();
        assert_eq!(accepted.names(), ["inhibitors", "sealed-disks"]);
        assert_eq!(Acceptance::from_bits(accepted.bits()), accepted);
        assert!(!accepted.contains(Subject::PackageManager));
        let all = Acceptance::from_bits(u64::MAX);
        assert!(!all.contains(Subject::FlashProtection) && !all.contains(Subject::Other(255)));
        assert_eq!(all.names().len(), Subject::ACCEPTABLE.len());
        for refused in ["flash-protection", "sealed", ""] {
            let why = Acceptance::of_names([refused]).unwrap_err();
            assert!(why.contains("what can is package-manager"), "{why}");
        }
    }

    #[test]
    fn findings_of_newer_hosts_are_kept_and_too_many_refused() {
        let newer = [1, 200, 99, 0xff, 0xfe];
        let read = |bytes: &[u8]| Finding::read_all(&mut Reader::new(bytes));
        let found = read(&newer).unwrap();
        assert_eq!(found[0].subject, Subject::Other(200));
        assert_eq!((found[0].verdict, found[0].reason), (Verdict::Unknown, Reason::Other(0xfffe)));
        assert_eq!(read(&[]), Ok(Vec::new()));
        assert!(read(&[FINDINGS_MAX as u8 + 1; 200]).is_err());
        assert!(read(&newer[..4]).is_err());
        let mut writer = Writer::new();
        Finding::write_all(&[found[0]; FINDINGS_MAX + 9], &mut writer);
        assert_eq!(writer.finish().len(), 1 + 4 * FINDINGS_MAX);
    }
}
