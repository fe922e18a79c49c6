//! What a host foresees of an update (docs/PROTOCOL.md, section "Answers").

use std::fmt;

use super::codec::{DecodeError, Reader, Writer};
use super::finding::Finding;
use super::identity::{DETAIL_SIZE_MAX, read_reason};
use crate::reason::Reason;

/// What an update would change on the host, or why it cannot be. The host knows only the manifest,
/// not the image: its digests are of larger pieces than eraseblocks, so the numbers are upper
/// bounds.
///
/// | bytes | field |
/// | --- | --- |
/// | 0..8 | campaign whose manifest was looked at |
/// | 8..10 | reason that the update would be refused for; 0 when it could start |
/// | 10..14 | eraseblocks of the chip |
/// | 14..18 | eraseblocks that change, at most |
/// | 18..22 | time for that in ms, with the times that data sheets call typical |
/// | 22..26 | the same with those that they call maximal |
/// | 26.. | why it would be refused, in words |
/// | then | findings |
///
/// When the update could start, the words say why the firmware that runs looks doubtful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foresight {
    /// Campaign whose manifest was looked at.
    pub campaign: u64,
    /// Why the update would be refused; [`Reason::None`] when it could start.
    pub reason: Reason,
    /// Eraseblocks of the chip.
    pub blocks: u32,
    /// Eraseblocks that change, at most.
    pub changed_blocks_max: u32,
    /// How long that takes on a typical chip, in milliseconds.
    pub typical_ms: u32,
    /// How long on a slow one, in milliseconds.
    pub longest_ms: u32,
    /// Why it would be refused; when it could start, why the firmware that runs looks doubtful.
    pub detail: String,
    /// The preconditions that are not simply met.
    pub findings: Vec<Finding>,
}

impl fmt::Display for Foresight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (changed, blocks) = (self.changed_blocks_max, self.blocks);
        let [typical_s, longest_s] = [self.typical_ms, self.longest_ms].map(|ms| ms.div_ceil(1000));
        write!(
            f,
            "at most {changed} of {blocks} eraseblocks change, in about {typical_s} s, \
            {longest_s} s on a slow chip"
        )?;
        match self.detail.as_str() {
            "" => {}
            doubt => write!(f, "; the firmware that runs looks doubtful: {doubt}")?,
        }
        match self.remarks() {
            remarks if remarks.is_empty() => Ok(()),
            remarks => write!(f, "; {remarks}"),
        }
    }
}

impl Foresight {
    /// What the host finds of the preconditions that are not simply met, in words.
    pub fn remarks(&self) -> String {
        let remarks: Vec<String> = self.findings.iter().map(ToString::to_string).collect();
        remarks.join(", ")
    }
}

impl Foresight {
    /// Reads the fields.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            campaign: reader.u64()?,
            reason: read_reason(reader)?,
            blocks: reader.u32()?,
            changed_blocks_max: reader.u32()?,
            typical_ms: reader.u32()?,
            longest_ms: reader.u32()?,
            detail: reader.text("foresight detail", DETAIL_SIZE_MAX)?,
            findings: Finding::read_all(reader)?,
        })
    }

    /// Writes the fields.
    pub(super) fn write(&self, writer: &mut Writer) {
        writer
            .u64(self.campaign)
            .u16(self.reason.code())
            .u32(self.blocks)
            .u32(self.changed_blocks_max)
            .u32(self.typical_ms)
            .u32(self.longest_ms)
            .text(&self.detail, DETAIL_SIZE_MAX);
        Finding::write_all(&self.findings, writer);
    }
}
