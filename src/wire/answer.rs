//! What a host says to its manager inside a session (docs/PROTOCOL.md, section "Answers").
//!
//! In the normal OS a host only answers. In the recovery environment it repeats its [`Report`]
//! until the manager acts on it, so no answer needs an acknowledgement of its own.

use super::codec::{DecodeError, Reader, Writer};
use super::escrow::BackupOffer;
use super::foresight::Foresight;
use super::fragment_status::FragmentStatus;
use super::help::HelpRequest;
use crate::reason::{Condition, Ending, FlashState, Reason};

/// Maximum length of a name in an [`Identity`], in bytes.
pub const NAME_SIZE_MAX: usize = 64;

/// Longest explanation, in bytes.
pub const DETAIL_SIZE_MAX: usize = 200;

/// Where a host stands in a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// The agent waits for instructions.
    Idle = 0,
    /// Preflight passed, the recovery environment is being started.
    Accepted = 1,
    /// Preflight failed; nothing has happened.
    Refused = 2,
    /// In the recovery environment, waiting for the manifest and the transfer.
    Ready = 3,
    /// Receiving fragments.
    Receiving = 4,
    /// The whole image is verified in RAM; waits for the commit.
    Verified = 5,
    /// Reading the backup.
    BackingUp = 6,
    /// Erasing and writing.
    Writing = 7,
    /// Comparing the whole chip with the image.
    Verifying = 8,
    /// Writing the backup back after a failure.
    Restoring = 9,
    /// The new firmware stands in flash; waits for the release.
    Updated = 10,
    /// Ended without an update; reason and flash state say how.
    Failed = 11,
    /// About to reboot.
    Rebooting = 12,
    /// Uploading the backup; the flash is untouched until the manager keeps it.
    Escrow = 13,
}

impl Phase {
    /// Every phase, in the order of the codes.
    pub const ALL: [Phase; 14] = [
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
        }
    }
}

/// How an earlier campaign ended on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The campaign.
    pub campaign: u64,
    /// How it ended; its detail has at most [`DETAIL_SIZE_MAX`] bytes.
    pub ending: Ending,
}

/// Where the host's software runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Environment {
    /// The agent in the normal operating system.
    NormalOs = 0,
    /// The recovery environment.
    Recovery = 1,
}

/// Who a host is and whether it could be updated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Where this answer comes from.
    pub environment: Environment,
    /// `/proc/sys/kernel/random/boot_id`: another value, another boot.
    pub boot_id: [u8; 16],
    /// Size of the flash chip in bytes; 0 when it was not found.
    pub flash_size_bytes: u64,
    /// [`Reason::None`] when an update could start, else the first thing in the way.
    pub obstacle: Reason,
    /// Highest security version confirmed on this host.
    pub security_version_floor: u64,
    /// Host name.
    pub host_name: String,
    /// DMI `sys_vendor`.
    pub vendor: String,
    /// DMI `product_name`.
    pub product: String,
    /// DMI `bios_version`.
    pub bios_version: String,
    /// Name of the flash chip's MTD.
    pub flash_name: String,
    /// Version of firmcastd.
    pub agent_version: String,
    /// What stands in the way, in words.
    pub obstacle_detail: String,
    /// What the contents of the flash chip look like; whole when nobody has looked.
    pub firmware: Condition,
    /// Why the firmware is not whole, at most [`DETAIL_SIZE_MAX`] bytes; empty when it is.
    pub doubt: String,
    /// How the last campaign ended here, when known.
    pub last_end: Option<End>,
}

/// Where a host stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Campaign that the report is about; 0 for none.
    pub campaign: u64,
    /// Phase.
    pub phase: Phase,
    /// How the campaign ended here or was refused. Before: [`Reason::None`], what the flash holds
    /// now, and no detail. The detail has at most [`DETAIL_SIZE_MAX`] bytes.
    pub ending: Ending,
    /// Steps of the phase done: fragments while receiving or uploading, eraseblocks while flashing.
    pub done: u32,
    /// Steps of the phase in all.
    pub total: u32,
    /// SHA-256 of the whole chip before and after, once both are known.
    pub digests: Option<([u8; 32], [u8; 32])>,
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
    /// Why it could not be measured; with `matches`, what the agent could not keep of it, such as the
    /// security version floor. Empty when all went well.
    pub detail: String,
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
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    /// Every byte sequence that is not an answer of this version is a [`DecodeError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let answer = match reader.u8()? {
            0x81 => Self::Identity(Identity::read(&mut reader)?),
            0x82 => Self::Report(Report::read(&mut reader)?),
            0x83 => Self::ManifestHeld { campaign: reader.u64()?, held_bytes: reader.u32()? },
            0x84 => Self::FragmentStatus(FragmentStatus::parse(reader.rest())?),
            0x85 => Self::Measurement(Measurement::read(&mut reader)?),
            0x86 => Self::BackupOffer(BackupOffer::read(&mut reader)?),
            0x87 => Self::Foresight(Foresight::read(&mut reader)?),
            0x88 => Self::HelpRequest(Box::new(HelpRequest::read(&mut reader)?)),
            other => return Err(DecodeError::UnknownType(other)),
        };
        reader.finish()?;
        Ok(answer)
    }

    /// Writes the answer.
    pub fn emit(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Self::Identity(identity) => identity.write(writer.u8(0x81)),
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
        }
        writer.finish()
    }
}

impl Identity {
    /// Reads the fields of an identity; discovery answers carry one too.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            environment: match reader.u8()? {
                0 => Environment::NormalOs,
                1 => Environment::Recovery,
                _ => return Err(DecodeError::Value("environment")),
            },
            boot_id: reader.array()?,
            flash_size_bytes: reader.u64()?,
            obstacle: read_reason(reader)?,
            security_version_floor: reader.u64()?,
            host_name: reader.text("host name", NAME_SIZE_MAX)?,
            vendor: reader.text("vendor", NAME_SIZE_MAX)?,
            product: reader.text("product", NAME_SIZE_MAX)?,
            bios_version: reader.text("BIOS version", NAME_SIZE_MAX)?,
            flash_name: reader.text("flash name", NAME_SIZE_MAX)?,
            agent_version: reader.text("agent version", NAME_SIZE_MAX)?,
            obstacle_detail: reader.text("obstacle detail", DETAIL_SIZE_MAX)?,
            firmware: read_condition(reader)?,
            doubt: reader.text("doubt", DETAIL_SIZE_MAX)?,
            last_end: match reader.u8()? {
                0 => None,
                1 => Some(End::read(reader)?),
                _ => return Err(DecodeError::Value("last end")),
            },
        })
    }

    /// Writes the fields of an identity.
    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .u8(self.environment as u8)
            .bytes(&self.boot_id)
            .u64(self.flash_size_bytes)
            .u16(self.obstacle.code())
            .u64(self.security_version_floor)
            .text(&self.host_name, NAME_SIZE_MAX)
            .text(&self.vendor, NAME_SIZE_MAX)
            .text(&self.product, NAME_SIZE_MAX)
            .text(&self.bios_version, NAME_SIZE_MAX)
            .text(&self.flash_name, NAME_SIZE_MAX)
            .text(&self.agent_version, NAME_SIZE_MAX)
            .text(&self.obstacle_detail, DETAIL_SIZE_MAX)
            .u8(self.firmware as u8)
            .text(&self.doubt, DETAIL_SIZE_MAX)
            .u8(u8::from(self.last_end.is_some()));
        if let Some(end) = &self.last_end {
            end.write(writer);
        }
    }
}

impl End {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            campaign: reader.u64()?,
            ending: Ending {
                reason: read_reason(reader)?,
                flash: read_flash(reader)?,
                detail: reader.text("end detail", DETAIL_SIZE_MAX)?,
            },
        })
    }

    fn write(&self, writer: &mut Writer) {
        let Ending { reason, flash, detail } = &self.ending;
        writer.u64(self.campaign).u16(reason.code()).u8(flash.code()).text(detail, DETAIL_SIZE_MAX);
    }
}

impl Report {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (campaign, phase) = (reader.u64()?, read_phase(reader)?);
        let (reason, flash) = (read_reason(reader)?, read_flash(reader)?);
        let (done, total) = (reader.u32()?, reader.u32()?);
        let digests = match reader.u8()? {
            0 => None,
            1 => Some((reader.array()?, reader.array()?)),
            _ => return Err(DecodeError::Value("digests")),
        };
        let detail = reader.text("detail", DETAIL_SIZE_MAX)?;
        let ending = Ending { reason, flash, detail };
        Ok(Self { campaign, phase, ending, done, total, digests })
    }

    fn write(&self, writer: &mut Writer) {
        let Ending { reason, flash, detail } = &self.ending;
        writer
            .u64(self.campaign)
            .u8(self.phase as u8)
            .u16(reason.code())
            .u8(flash.code())
            .u32(self.done)
            .u32(self.total)
            .u8(u8::from(self.digests.is_some()));
        if let Some((before, after)) = &self.digests {
            writer.bytes(before).bytes(after);
        }
        writer.text(detail, DETAIL_SIZE_MAX);
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
    }
}

pub(super) fn read_reason(reader: &mut Reader<'_>) -> Result<Reason, DecodeError> {
    Reason::from_code(reader.u16()?).ok_or(DecodeError::Value("reason"))
}

fn read_flash(reader: &mut Reader<'_>) -> Result<FlashState, DecodeError> {
    FlashState::from_code(reader.u8()?).ok_or(DecodeError::Value("flash state"))
}

fn read_condition(reader: &mut Reader<'_>) -> Result<Condition, DecodeError> {
    Condition::from_code(reader.u8()?).ok_or(DecodeError::Value("firmware condition"))
}

fn read_phase(reader: &mut Reader<'_>) -> Result<Phase, DecodeError> {
    let code = reader.u8()?;
    Phase::ALL.get(usize::from(code)).copied().ok_or(DecodeError::Value("phase"))
}
