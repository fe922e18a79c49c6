//! What a host says to its manager inside a session (docs/PROTOCOL.md, section "Answers").
//!
//! In the normal OS a host only answers. In the recovery environment it repeats its [`Report`]
//! until the manager acts on it, so no answer needs an acknowledgement of its own.

use serde::{Deserialize, Serialize};

use super::codec::{DecodeError, Reader, Writer};
use super::escrow::BackupOffer;
use super::excerpt::PieceSet;
use super::foresight::Foresight;
use super::fragment_status::FragmentStatus;
use super::help::HelpRequest;
pub use super::identity::{
    DETAIL_SIZE_MAX, End, Environment, Identity, LEARNED_MAX, NAME_SIZE_MAX,
};
use super::identity::{ending, read_reason};
use super::versions::{EXCERPTS, GROWTH};
use crate::reason::Ending;

/// Where a host stands in a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// The agent waits for instructions.
    Idle,
    /// Preflight passed, the recovery environment is being started.
    Accepted,
    /// Preflight failed; nothing has happened.
    Refused,
    /// In the recovery environment, waiting for the manifest and the transfer.
    Ready,
    /// Receiving fragments.
    Receiving,
    /// The whole image is verified in RAM; waits for the commit.
    Verified,
    /// Reading the backup.
    BackingUp,
    /// Erasing and writing.
    Writing,
    /// Comparing the whole chip with the image.
    Verifying,
    /// Writing the backup back after a failure.
    Restoring,
    /// The new firmware stands in flash; waits for the release.
    Updated,
    /// Ended without an update; reason and flash state say how.
    Failed,
    /// About to reboot.
    Rebooting,
    /// Uploading the backup; the flash is untouched until the manager keeps it.
    Escrow,
    /// The end of a drill: the first change would come next; waits for the release.
    Drilled,
    /// A code that this version does not know: the host is newer, and does something.
    Other(u8),
}

impl Phase {
    /// Every phase that this version knows, in the order of the codes.
    pub const ALL: [Phase; 15] = [
        Self::Idle,
        Self::Accepted,
        Self::Refused,
        Self::Ready,
        Self::Receiving,
        Self::Verified,
        Self::BackingUp,
        Self::Writing,
        Self::Verifying,
        Self::Restoring,
        Self::Updated,
        Self::Failed,
        Self::Rebooting,
        Self::Escrow,
        Self::Drilled,
    ];

    /// Returns the name in JSON, logs and the manager's table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Ready => "ready",
            Self::Receiving => "receiving",
            Self::Verified => "verified",
            Self::BackingUp => "backing-up",
            Self::Writing => "writing",
            Self::Verifying => "verifying",
            Self::Restoring => "restoring",
            Self::Updated => "updated",
            Self::Failed => "failed",
            Self::Rebooting => "rebooting",
            Self::Escrow => "escrow",
            Self::Drilled => "drilled",
            Self::Other(_) => "unknown",
        }
    }

    /// Returns the phase with this code.
    pub fn from_code(code: u8) -> Self {
        Self::ALL.get(usize::from(code)).copied().unwrap_or(Self::Other(code))
    }

    /// Returns the code in datagrams.
    pub fn code(self) -> u8 {
        match self {
            Self::Other(code) => code,
            known => Self::ALL.iter().position(|phase| *phase == known).unwrap_or_default() as u8,
        }
    }
}

/// Where a host stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Campaign that the report is about; 0 for none.
    pub campaign: u64,
    /// Phase.
    pub phase: Phase,
    /// How the campaign ended here or was refused. Before:
    /// [`Reason::None`](crate::reason::Reason::None), what the flash holds now, and no detail. The
    /// detail has at most [`DETAIL_SIZE_MAX`] bytes.
    pub ending: Ending,
    /// Steps of the phase done: fragments while receiving or uploading, eraseblocks while flashing.
    pub done: u32,
    /// Steps of the phase in all.
    pub total: u32,
    /// SHA-256 of the whole chip before and after, once both are known.
    pub digests: Option<([u8; 32], [u8; 32])>,
    /// Of a host that is accepted, the pieces of the image that its chip lacks; of one that
    /// receives an excerpt, those that neither the excerpt nor its chip has, if there are any.
    pub lacking: Option<PieceSet>,
}

/// What the agent finds in flash after the boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// Campaign whose manifest was compared.
    pub campaign: u64,
    /// Whether the chip equals the image outside the preserved regions.
    pub matches: bool,
    /// SHA-256 of the chip outside the preserved regions; zeros when it could not be read.
    pub stable_digest: [u8; 32],
    /// As in [`Identity`].
    pub boot_id: [u8; 16],
    /// DMI `bios_version`.
    pub bios_version: String,
    /// DMI `bios_vendor`.
    pub bios_vendor: String,
    /// Why it could not be measured; with `matches`, what the agent could not keep of it, such as
    /// the security version floor. Empty when all went well.
    pub detail: String,
    /// What the administrator's programs came to, if any ran for this campaign.
    pub programs: Option<Programs>,
}

/// What the administrator's programs before and after an update came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programs {
    /// Whether one of them did not end with status 0.
    pub failed: bool,
    /// Each program with its status, at most [`DETAIL_SIZE_MAX`] bytes on the wire.
    pub told: String,
}

impl Programs {
    /// Adds what later ones came to. What failed stands first, because long texts are cut.
    pub fn add(&mut self, later: Self) {
        let parts = match later.failed && !self.failed {
            true => [&later.told, &self.told],
            false => [&self.told, &later.told],
        };
        let parts: Vec<&str> = parts.into_iter().map(String::as_str).collect();
        let told = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
        *self = Self { failed: self.failed || later.failed, told };
    }
}

/// One answer. The first byte is the type, then come the fields in the order of docs/PROTOCOL.md.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `81`: identity.
    Identity(Identity),
    /// `82`: report.
    Report(Report),
    /// `83`: bytes of the manifest that the host holds from its start: campaign u64, count u32.
    ManifestHeld {
        /// Campaign.
        campaign: u64,
        /// Bytes held without a gap from the start.
        held_bytes: u32,
    },
    /// `84`: the answer to a broadcast status request.
    FragmentStatus(FragmentStatus),
    /// `85`: measurement.
    Measurement(Measurement),
    /// `86`: the backup is read and can be uploaded.
    BackupOffer(BackupOffer),
    /// `87`: what an update would change.
    Foresight(Foresight),
    /// `88`: the host's firmware is invalid, or may be.
    HelpRequest(Box<HelpRequest>),
    /// `89`: the host does not know commands of this type: type u8. Never answered.
    NotUnderstood {
        /// The first byte of the command.
        kind: u8,
    },
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    /// [`DecodeError`] when fields are missing or outside their definition. What follows the last
    /// field is a newer version's, and ignored.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let answer = match reader.u8()? {
            0x81 => Self::Identity(Identity::read(&mut reader)?.read_growth(&mut reader)?),
            0x82 => Self::Report(Report::read(&mut reader)?),
            0x83 => Self::ManifestHeld { campaign: reader.u64()?, held_bytes: reader.u32()? },
            0x84 => Self::FragmentStatus(FragmentStatus::parse(reader.rest())?),
            0x85 => Self::Measurement(Measurement::read(&mut reader)?),
            0x86 => Self::BackupOffer(BackupOffer::read(&mut reader)?),
            0x87 => Self::Foresight(Foresight::read(&mut reader)?),
            0x88 => Self::HelpRequest(Box::new(HelpRequest::read(&mut reader)?)),
            0x89 => Self::NotUnderstood { kind: reader.u8()? },
            other => return Err(DecodeError::UnknownType(other)),
        };
        // A newer host may have more to say.
        Ok(answer)
    }

    /// Leaves out what a manager does not understand that speaks `version`, or has said nothing of
    /// versions.
    #[must_use]
    pub fn for_version(mut self, version: Option<u8>) -> Self {
        if version.is_none_or(|version| version < GROWTH) {
            match &mut self {
                Self::Identity(Identity { findings, learned, .. }) => {
                    findings.clear();
                    learned.clear();
                }
                Self::Foresight(Foresight { findings, .. }) => findings.clear(),
                Self::Measurement(measurement) => measurement.programs = None,
                Self::HelpRequest(request) => request.rescues = None,
                _ => {}
            }
        }
        if let (false, Self::Report(report)) =
            (version.is_some_and(|version| version >= EXCERPTS), &mut self)
        {
            report.lacking = None;
        }
        self
    }

    /// Writes the answer.
    pub fn emit(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Self::Identity(identity) => {
                identity.write(writer.u8(0x81));
                identity.write_growth(&mut writer);
            }
            Self::Report(report) => report.write(writer.u8(0x82)),
            Self::ManifestHeld { campaign, held_bytes } => {
                writer.u8(0x83).u64(*campaign).u32(*held_bytes);
            }
            Self::FragmentStatus(status) => {
                writer.u8(0x84).bytes(&status.emit());
            }
            Self::Measurement(measurement) => measurement.write(writer.u8(0x85)),
            Self::BackupOffer(offer) => offer.write(writer.u8(0x86)),
            Self::Foresight(foresight) => foresight.write(writer.u8(0x87)),
            Self::HelpRequest(request) => request.write(writer.u8(0x88)),
            Self::NotUnderstood { kind } => {
                writer.u8(0x89).u8(*kind);
            }
        }
        writer.finish()
    }
}

impl Report {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (campaign, phase) = (reader.u64()?, Phase::from_code(reader.u8()?));
        let (reason, flash) = (read_reason(reader)?, reader.u8()?);
        let (done, total) = (reader.u32()?, reader.u32()?);
        let digests = match reader.optional("digests")? {
            false => None,
            true => Some((reader.array()?, reader.array()?)),
        };
        let detail = reader.text("detail", DETAIL_SIZE_MAX)?;
        let ending = ending(reason, flash, detail);
        let lacking = match !reader.is_at_end() && reader.optional("lacking pieces")? {
            false => None,
            true => Some(PieceSet::read(reader)?),
        };
        Ok(Self { campaign, phase, ending, done, total, digests, lacking })
    }

    fn write(&self, writer: &mut Writer) {
        let Ending { reason, flash, detail } = &self.ending;
        writer
            .u64(self.campaign)
            .u8(self.phase.code())
            .u16(reason.code())
            .u8(flash.code())
            .u32(self.done)
            .u32(self.total)
            .u8(u8::from(self.digests.is_some()));
        if let Some((before, after)) = &self.digests {
            writer.bytes(before).bytes(after);
        }
        writer.text(detail, DETAIL_SIZE_MAX);
        if let Some(lacking) = &self.lacking {
            lacking.write(writer.u8(1));
        }
    }
}

impl Measurement {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            campaign: reader.u64()?,
            matches: match reader.u8()? {
                0 => false,
                1 => true,
                _ => return Err(DecodeError::Value("matches")),
            },
            stable_digest: reader.array()?,
            boot_id: reader.array()?,
            bios_version: reader.text("BIOS version", NAME_SIZE_MAX)?,
            bios_vendor: reader.text("BIOS vendor", NAME_SIZE_MAX)?,
            detail: reader.text("detail", DETAIL_SIZE_MAX)?,
            programs: Programs::read(reader)?,
        })
    }

    fn write(&self, writer: &mut Writer) {
        writer
            .u64(self.campaign)
            .u8(u8::from(self.matches))
            .bytes(&self.stable_digest)
            .bytes(&self.boot_id)
            .text(&self.bios_version, NAME_SIZE_MAX)
            .text(&self.bios_vendor, NAME_SIZE_MAX)
            .text(&self.detail, DETAIL_SIZE_MAX);
        if let Some(Programs { failed, told }) = &self.programs {
            writer.u8(u8::from(*failed)).text(told, DETAIL_SIZE_MAX);
        }
    }
}

impl Programs {
    /// An older sender, and one without programs, has none.
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        if reader.is_at_end() {
            return Ok(None);
        }
        // Any number but 0 says that something went wrong.
        let failed = reader.u8()? != 0;
        Ok(Some(Self { failed, told: reader.text("programs", DETAIL_SIZE_MAX)? }))
    }
}
