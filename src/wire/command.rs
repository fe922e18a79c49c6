//! What a manager says to a host inside a session (docs/PROTOCOL.md, section "Commands").
//!
//! Commands are idempotent: the manager repeats one until the host's answer shows that it was done.

use std::net::IpAddr;
use std::num::NonZeroU32;

use super::MESSAGE_SIZE_MAX;
use super::broadcast::{FecScheme, TransferParameters};
use super::codec::{DecodeError, Reader, Writer};
use super::excerpt::Excerpt;
use super::finding::Acceptance;
use super::fragment_status::FragmentStatus;
use super::identity::{DETAIL_SIZE_MAX, read_reason};
use super::versions::GROWTH;
use crate::reason::Reason;

/// Maximum number of bytes of a manifest in one [`Command::ManifestPart`].
pub const MANIFEST_PART_SIZE_MAX: usize = 1024;

/// Longest manifest that may be sent, in bytes.
pub const MANIFEST_SIZE_MAX: u32 = 64 * 1024;

const _: () = assert!(MANIFEST_PART_SIZE_MAX + 17 <= MESSAGE_SIZE_MAX);

/// An instruction or a question. The first byte is the type, then come the fields in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `01`: who are you, and how are you? Answered with an identity.
    Query,
    /// `02`: a piece of the campaign's signed manifest: campaign u64, total u32, offset u32, then
    /// the bytes. Answered with how many bytes from the start the host holds now.
    ManifestPart {
        /// Campaign that the manifest is for.
        campaign: u64,
        /// Size of the whole manifest in bytes, at most [`MANIFEST_SIZE_MAX`].
        total_bytes: u32,
        /// Where this piece begins.
        offset_bytes: u32,
        /// The piece, at most [`MANIFEST_PART_SIZE_MAX`] bytes.
        bytes: Vec<u8>,
    },
    /// `03`: begin the recovery procedure: campaign u64, reach deadline u16, transfer deadline u16,
    /// what is accepted u64. Answered with a report: accepted or refused. `0F`: the same for a
    /// drill, with a type of its own so that an older host does not take it for an update.
    Begin {
        /// Campaign whose manifest the host holds.
        campaign: u64,
        /// How long the recovery environment looks for the manager, in seconds.
        reach_timeout_s: u16,
        /// How long it waits without any progress of the transfer, in seconds.
        transfer_timeout_s: u16,
        /// What the operator accepts although it is in the way; an older manager accepts nothing.
        accepted: Acceptance,
        /// Whether it is a drill: the recovery environment goes as far as the first erase, and no
        /// command makes it go further.
        drill: bool,
    },
    /// `04`: receive the image: transfer parameters (46 bytes), report interval u16, then the
    /// address family of the multicast group u8 (0 for none, 4, 6) and the group's address. Then,
    /// unless there is nothing to say, the FEC scheme u8, and what the payload
    /// is, if it does not carry all of the image.
    Join {
        /// Group key and shape of the transfer.
        parameters: TransferParameters,
        /// How often the host repeats its report, in milliseconds.
        report_interval_ms: u16,
        /// Multicast group to join; none for broadcast and unicast.
        group: Option<IpAddr>,
        /// What the payload is when it does not carry all of the image; only for a host that
        /// speaks [`EXCERPTS`](super::versions::EXCERPTS).
        excerpt: Option<Excerpt>,
    },
    /// `05`: write the verified image to flash: campaign u64.
    Commit {
        /// Campaign to commit.
        campaign: u64,
    },
    /// `06`: the campaign is over for this host, reboot if that is safe: campaign u64.
    Release {
        /// Campaign to end.
        campaign: u64,
    },
    /// `07`: compare what stands in flash now with the manifest that the host holds: campaign u64.
    /// Answered with a measurement.
    Measure {
        /// Campaign whose manifest the host holds.
        campaign: u64,
    },
    /// `08`: write the verified image to flash, but not before this manager keeps the backup:
    /// campaign u64, rate of the upload in kbit/s u32, unless broken u8 (0 or 1). Answered with a
    /// report; the host sends a backup offer when it has read the backup.
    CommitWithEscrow {
        /// Campaign to commit.
        campaign: u64,
        /// The most that the upload may take on the wire, in 1000 bits per second of whole frames;
        /// not 0.
        rate_kbit_s: u32,
        /// Whether a chip whose contents are broken may be written without a stored backup.
        unless_broken: bool,
    },
    /// `09`: how much of the backup has arrived; the manager is the receiver here. Answers a status
    /// request of the upload, or with round 0 the offer.
    BackupStatus(FragmentStatus),
    /// `0A`: the backup with this digest is durable at the manager, the flash may be changed:
    /// campaign u64, SHA-256.
    BackupStored {
        /// Campaign of the backup.
        campaign: u64,
        /// SHA-256 of what was stored.
        digest: [u8; 32],
    },
    /// `0B`: would an update with the manifest that the host holds start, and how much would
    /// change: campaign u64, what is accepted u64. Answered with a foresight; nothing is done.
    Foresee {
        /// Campaign whose manifest the host holds.
        campaign: u64,
        /// As in [`Command::Begin`].
        accepted: Acceptance,
    },
    /// `0C`: you asked for help, take part in this campaign: campaign u64, transfer deadline u16.
    /// Answered with reports of that campaign.
    Enlist {
        /// Campaign to take part in.
        campaign: u64,
        /// How long the host waits without any progress before it asks for help again, in seconds.
        transfer_timeout_s: u16,
    },
    /// `0D`: you asked for help, or told something; there is no image for you now: seconds u16,
    /// reason u16, detail.
    Hold {
        /// When to ask again, in seconds.
        again_s: u16,
        /// Why not now; [`Reason::None`] when the host only told something.
        reason: Reason,
        /// Explanation, at most [`DETAIL_SIZE_MAX`] bytes.
        detail: String,
    },
    /// `10`: in a drill, in place of a commit: read the chip, plan, and stop before the first
    /// change: campaign u64, rate of the backup's upload in kbit/s u32, 0 for no upload.
    Rehearse {
        /// Campaign to rehearse.
        campaign: u64,
        /// As in [`Command::CommitWithEscrow`]; none when the manager keeps no backup.
        escrow_rate_kbit_s: Option<NonZeroU32>,
    },
    /// `0E`: the manager does not know answers of this type: type u8. Never answered.
    NotUnderstood {
        /// The first byte of the answer.
        kind: u8,
    },
}

impl Command {
    /// Returns the campaign that the command is for; `None` for what is said to any host, and for a
    /// status, which its transfer tells apart.
    pub fn campaign(&self) -> Option<u64> {
        match self {
            Self::Query
            | Self::BackupStatus(_)
            | Self::Hold { .. }
            | Self::NotUnderstood { .. } => None,
            Self::Join { parameters, .. } => Some(parameters.campaign),
            Self::ManifestPart { campaign, .. }
            | Self::Begin { campaign, .. }
            | Self::Commit { campaign }
            | Self::Release { campaign }
            | Self::Measure { campaign }
            | Self::CommitWithEscrow { campaign, .. }
            | Self::BackupStored { campaign, .. }
            | Self::Foresee { campaign, .. }
            | Self::Rehearse { campaign, .. }
            | Self::Enlist { campaign, .. } => Some(*campaign),
        }
    }

    /// Reads a command.
    ///
    /// # Errors
    /// [`DecodeError`] when fields are missing or outside their definition. What follows the last
    /// field is a newer version's, and ignored.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let command = match reader.u8()? {
            0x01 => Self::Query,
            0x02 => return Self::parse_manifest_part(reader),
            kind @ (0x03 | 0x0f) => Self::Begin {
                campaign: reader.u64()?,
                reach_timeout_s: reader.u16()?,
                transfer_timeout_s: reader.u16()?,
                accepted: read_acceptance(&mut reader)?,
                drill: kind == 0x0f,
            },
            0x04 => Self::read_join(&mut reader)?,
            0x05 => Self::Commit { campaign: reader.u64()? },
            0x06 => Self::Release { campaign: reader.u64()? },
            0x07 => Self::Measure { campaign: reader.u64()? },
            0x08 => Self::CommitWithEscrow {
                campaign: reader.u64()?,
                rate_kbit_s: match reader.u32()? {
                    0 => return Err(DecodeError::Value("rate of the upload")),
                    rate => rate,
                },
                unless_broken: match reader.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(DecodeError::Value("unless broken")),
                },
            },
            0x09 => Self::BackupStatus(FragmentStatus::parse(reader.rest())?),
            0x0b => {
                Self::Foresee { campaign: reader.u64()?, accepted: read_acceptance(&mut reader)? }
            }
            0x0a => Self::BackupStored { campaign: reader.u64()?, digest: reader.array()? },
            0x0c => Self::Enlist { campaign: reader.u64()?, transfer_timeout_s: reader.u16()? },
            0x0d => Self::Hold {
                again_s: reader.u16()?,
                reason: read_reason(&mut reader)?,
                detail: reader.text("detail", DETAIL_SIZE_MAX)?,
            },
            0x10 => Self::Rehearse {
                campaign: reader.u64()?,
                escrow_rate_kbit_s: NonZeroU32::new(reader.u32()?),
            },
            0x0e => Self::NotUnderstood { kind: reader.u8()? },
            other => return Err(DecodeError::UnknownType(other)),
        };
        // A newer manager may have more to say.
        Ok(command)
    }

    fn read_join(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut parameters = TransferParameters::parse(reader.take(TransferParameters::SIZE)?)?;
        let (report_interval_ms, group) = (reader.u16()?, parse_group(reader)?);
        let mut excerpt = None;
        if !reader.is_at_end() {
            parameters.fec = FecScheme::read(reader)?;
            if reader.optional("excerpt")? {
                excerpt = Some(Excerpt::read(reader)?);
            }
        }
        Ok(Self::Join { parameters, report_interval_ms, group, excerpt })
    }

    fn parse_manifest_part(mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        let campaign = reader.u64()?;
        let total_bytes = reader.u32()?;
        let offset_bytes = reader.u32()?;
        let bytes = reader.rest();
        let end = u64::from(offset_bytes) + bytes.len() as u64;
        if total_bytes > MANIFEST_SIZE_MAX || bytes.is_empty() || end > u64::from(total_bytes) {
            return Err(DecodeError::Value("manifest part"));
        }
        if bytes.len() > MANIFEST_PART_SIZE_MAX {
            return Err(DecodeError::Value("manifest part size"));
        }
        Ok(Self::ManifestPart { campaign, total_bytes, offset_bytes, bytes: bytes.to_vec() })
    }

    /// Leaves out what a host does not understand that speaks `version`: it has no checks that one
    /// could accept. One that has said nothing of versions yet may be of today.
    #[must_use]
    pub fn for_version(mut self, version: Option<u8>) -> Self {
        if version.is_some_and(|version| version < GROWTH)
            && let Self::Begin { accepted, .. } | Self::Foresee { accepted, .. } = &mut self
        {
            *accepted = Acceptance::default();
        }
        self
    }

    /// Writes the command.
    pub fn emit(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Self::Query => writer.u8(0x01),
            Self::ManifestPart { campaign, total_bytes, offset_bytes, bytes } => {
                writer.u8(0x02).u64(*campaign).u32(*total_bytes).u32(*offset_bytes).bytes(bytes)
            }
            Self::Begin { campaign, reach_timeout_s, transfer_timeout_s, accepted, drill } => {
                let kind = if *drill { 0x0f } else { 0x03 };
                writer.u8(kind).u64(*campaign).u16(*reach_timeout_s).u16(*transfer_timeout_s);
                write_acceptance(&mut writer, *accepted)
            }
            Self::Join { parameters, report_interval_ms, group, excerpt } => {
                writer.u8(0x04).bytes(&parameters.emit()).u16(*report_interval_ms);
                emit_group(&mut writer, *group);
                if parameters.fec != FecScheme::Doubled || excerpt.is_some() {
                    writer.u8(parameters.fec.code()).u8(u8::from(excerpt.is_some()));
                }
                if let Some(excerpt) = excerpt {
                    excerpt.write(&mut writer);
                }
                &mut writer
            }
            Self::Commit { campaign } => writer.u8(0x05).u64(*campaign),
            Self::Release { campaign } => writer.u8(0x06).u64(*campaign),
            Self::Measure { campaign } => writer.u8(0x07).u64(*campaign),
            Self::CommitWithEscrow { campaign, rate_kbit_s, unless_broken } => {
                writer.u8(0x08).u64(*campaign).u32(*rate_kbit_s).u8(u8::from(*unless_broken))
            }
            Self::BackupStatus(status) => writer.u8(0x09).bytes(&status.emit()),
            Self::Foresee { campaign, accepted } => {
                writer.u8(0x0b).u64(*campaign);
                write_acceptance(&mut writer, *accepted)
            }
            Self::BackupStored { campaign, digest } => writer.u8(0x0a).u64(*campaign).bytes(digest),
            Self::Enlist { campaign, transfer_timeout_s } => {
                writer.u8(0x0c).u64(*campaign).u16(*transfer_timeout_s)
            }
            Self::Rehearse { campaign, escrow_rate_kbit_s } => {
                let rate = escrow_rate_kbit_s.map_or(0, NonZeroU32::get);
                writer.u8(0x10).u64(*campaign).u32(rate)
            }
            Self::NotUnderstood { kind } => writer.u8(0x0e).u8(*kind),
            Self::Hold { again_s, reason, detail } => {
                writer.u8(0x0d).u16(*again_s).u16(reason.code()).text(detail, DETAIL_SIZE_MAX)
            }
        };
        writer.finish()
    }
}

fn read_acceptance(reader: &mut Reader<'_>) -> Result<Acceptance, DecodeError> {
    let bits = if reader.is_at_end() { 0 } else { reader.u64()? };
    Ok(Acceptance::from_bits(bits))
}

/// Nothing stands for nothing, as older managers have it.
fn write_acceptance(writer: &mut Writer, accepted: Acceptance) -> &mut Writer {
    match accepted.bits() {
        0 => writer,
        bits => writer.u64(bits),
    }
}

fn parse_group(reader: &mut Reader<'_>) -> Result<Option<IpAddr>, DecodeError> {
    let group = match reader.u8()? {
        0 => return Ok(None),
        4 => IpAddr::from(reader.array::<4>()?),
        6 => IpAddr::from(reader.array::<16>()?),
        _ => return Err(DecodeError::Value("group family")),
    };
    if group.is_multicast() { Ok(Some(group)) } else { Err(DecodeError::Value("group address")) }
}

fn emit_group(writer: &mut Writer, group: Option<IpAddr>) -> &mut Writer {
    match group {
        None => writer.u8(0),
        Some(IpAddr::V4(address)) => writer.u8(4).bytes(&address.octets()),
        Some(IpAddr::V6(address)) => writer.u8(6).bytes(&address.octets()),
    }
}
