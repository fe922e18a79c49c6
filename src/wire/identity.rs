//! Who a host is (docs/PROTOCOL.md, section "Answers"); discovery answers and requests for help
//! carry it too.

use std::ops::Range;

use super::MESSAGE_SIZE_MAX;
use super::codec::{DecodeError, Reader, Writer};
use super::finding::Finding;
use crate::reason::{Condition, Ending, FlashState, Reason};

/// Maximum length of a name in an [`Identity`], in bytes.
pub const NAME_SIZE_MAX: usize = 64;

/// Most learned ranges in an [`Identity`]; fewer where its texts are long.
pub const LEARNED_MAX: usize = 8;

/// Offset and length.
const LEARNED_RANGE_BYTES: usize = 8;

/// Longest explanation, in bytes.
pub const DETAIL_SIZE_MAX: usize = 200;

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
    /// What stands in the way, in words, and what a person should hear of although it does not.
    pub obstacle_detail: String,
    /// What the contents of the flash chip look like; whole when nobody has looked.
    pub firmware: Condition,
    /// Why the firmware is not whole, at most [`DETAIL_SIZE_MAX`] bytes; empty when it is.
    pub doubt: String,
    /// How the last campaign ended here, when known.
    pub last_end: Option<End>,
    /// The preconditions of an update that are not simply met, at most [`FINDINGS_MAX`].
    ///
    /// [`FINDINGS_MAX`]: super::finding::FINDINGS_MAX
    pub findings: Vec<Finding>,
    /// What the firmware was seen to write on its chip by itself, in bytes, at most
    /// [`LEARNED_MAX`].
    pub learned: Vec<Range<u32>>,
}

/// How an earlier campaign ended on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The campaign.
    pub campaign: u64,
    /// How it ended; its detail has at most [`DETAIL_SIZE_MAX`] bytes.
    pub ending: Ending,
}

impl Identity {
    /// Reads the fields of an identity, but for findings and what follows: these end a message that
    /// has them.
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
            firmware: Condition::from_code(reader.u8()?),
            doubt: reader.text("doubt", DETAIL_SIZE_MAX)?,
            last_end: match reader.u8()? {
                0 => None,
                1 => Some(End::read(reader)?),
                _ => return Err(DecodeError::Value("last end")),
            },
            findings: Vec::new(),
            learned: Vec::new(),
        })
    }

    /// Reads what ends an identity: findings, then learned ranges (count u8, of each offset u32 and
    /// length u32). A sender of an older version has neither.
    pub(crate) fn read_growth(self, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let findings = Finding::read_all(reader)?;
        let count = if reader.is_at_end() { 0 } else { usize::from(reader.u8()?) };
        if count > LEARNED_MAX {
            return Err(DecodeError::Value("number of learned ranges"));
        }
        let range = |_| {
            let (start, length) = (reader.u32()?, reader.u32()?);
            let end = start.checked_add(length).ok_or(DecodeError::Value("learned range"))?;
            Ok(start..end)
        };
        let learned = (0..count).map(range).collect::<Result<_, DecodeError>>()?;
        Ok(Self { findings, learned, ..self })
    }

    /// Writes what ends an identity: findings, and as many learned ranges as fit into a message.
    pub(crate) fn write_growth(&self, writer: &mut Writer) {
        Finding::write_all(&self.findings, writer);
        let room_bytes = MESSAGE_SIZE_MAX.saturating_sub(writer.len() + 2);
        let count = self.learned.len().min(LEARNED_MAX).min(room_bytes / LEARNED_RANGE_BYTES);
        let learned = &self.learned[..count];
        if learned.is_empty() {
            return;
        }
        if self.findings.is_empty() {
            writer.u8(0);
        }
        writer.u8(learned.len() as u8);
        for Range { start, end } in learned {
            writer.u32(*start).u32(end.saturating_sub(*start));
        }
    }

    /// Writes the fields of an identity, but for findings and what follows.
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
            ending: ending(
                read_reason(reader)?,
                reader.u8()?,
                reader.text("end detail", DETAIL_SIZE_MAX)?,
            ),
        })
    }

    fn write(&self, writer: &mut Writer) {
        let Ending { reason, flash, detail } = &self.ending;
        writer.u64(self.campaign).u16(reason.code()).u8(flash.code()).text(detail, DETAIL_SIZE_MAX);
    }
}

/// Reads a reason; one that this version does not know is kept as its number.
pub(super) fn read_reason(reader: &mut Reader<'_>) -> Result<Reason, DecodeError> {
    Ok(Reason::from_code(reader.u16()?))
}

/// Returns how something ended. A flash state that this version does not know is unknown, and its
/// number stands in the detail.
pub(super) fn ending(reason: Reason, flash_code: u8, detail: String) -> Ending {
    let flash = FlashState::from_code(flash_code);
    let detail = match flash.code() == flash_code {
        true => detail,
        false => format!("flash state {flash_code} of a newer version; {detail}"),
    };
    Ending { reason, flash, detail }
}
