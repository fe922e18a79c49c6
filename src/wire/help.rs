//! The request for help of a host whose firmware is invalid (docs/PROTOCOL.md, section "Recovery
//! requests").

use std::time::Duration;

use super::codec::{DecodeError, Reader, Writer};
use super::identity::{DETAIL_SIZE_MAX, Identity};

/// Rescues within a day without a confirmed stay in between, after which a host asks for no image
/// any more, and a manager brings it none.
pub const RESCUES_IN_VAIN: usize = 3;

/// How long an operating system runs until its stay is confirmed: the rescue has helped then.
pub const CONFIRMED_STAY: Duration = Duration::from_secs(600);

/// What the host found about its own firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Finding {
    /// It is whole; the operator forces a recovery all the same.
    Valid = 0,
    /// It is damaged.
    Invalid = 1,
    /// Nothing tells whether it is whole.
    Unknown = 2,
}

impl Finding {
    /// Returns the name in JSON and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Unknown => "unknown",
        }
    }
}

/// A host in the recovery environment tells its manager what it found, and mostly asks for an
/// image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelpRequest {
    /// Whether it waits for an image. Else it only tells, and boots on.
    pub wants_image: bool,
    /// What it found.
    pub finding: Finding,
    /// Where the damage is, from the start of the chip; 0 without damage.
    pub offset_bytes: u64,
    /// Why, in words, at most [`DETAIL_SIZE_MAX`] bytes.
    pub why: String,
    /// Who asks. `last_end` is how its last attempt in this stay ended; `doubt` is not sent, as
    /// [`Self::why`] says it.
    pub identity: Identity,
    /// How often it was rescued in a day without a confirmed stay; none where it keeps no count.
    pub rescues: Option<u8>,
}

impl HelpRequest {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let request = Self {
            wants_image: match reader.u8()? {
                0 => false,
                1 => true,
                _ => return Err(DecodeError::Value("wants image")),
            },
            finding: match reader.u8()? {
                0 => Finding::Valid,
                1 => Finding::Invalid,
                2 => Finding::Unknown,
                _ => return Err(DecodeError::Value("finding")),
            },
            offset_bytes: reader.u64()?,
            why: reader.text("why", DETAIL_SIZE_MAX)?,
            identity: Identity::read(reader)?,
            // A host of an older version, or without a mailbox, tells no count.
            rescues: if reader.is_at_end() { None } else { Some(reader.u8()?) },
        };
        if !request.identity.doubt.is_empty() {
            return Err(DecodeError::Value("doubt beside why"));
        }
        Ok(request)
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer
            .u8(u8::from(self.wants_image))
            .u8(self.finding as u8)
            .u64(self.offset_bytes)
            .text(&self.why, DETAIL_SIZE_MAX);
        // With both texts the longest request would not fit a message.
        Identity { doubt: String::new(), ..self.identity.clone() }.write(writer);
        if let Some(rescues) = self.rescues {
            writer.u8(rescues);
        }
    }
}
