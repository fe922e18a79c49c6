//! What a status request asks, under its seal.

use super::codec::{DecodeError, Reader, Writer};

/// Longest answer window that a status request may name, in milliseconds.
pub const ANSWER_WINDOW_MS_MAX: u32 = 10_000;

/// Size of the sealed part, in bytes.
pub(super) const STATUS_REQUEST_SIZE: usize = 12;

const FLAG_REPEAT_COMPLETE: u32 = 1;

/// What a status request asks, under its seal.
///
/// | bytes | field |
/// | --- | --- |
/// | 0..4 | answer window in ms u32, at most [`ANSWER_WINDOW_MS_MAX`] |
/// | 4..8 | fragments sent so far u32, modulo 2^32 |
/// | 8..12 | flags u32: bit 0, see below; the others are zero |
///
/// With bit 0, hosts that are complete and have said so must say it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRequest {
    /// Number of the request; stands in the header.
    pub round: u32,
    /// Each host answers after a random delay that is shorter than this, in milliseconds.
    pub answer_window_ms: u32,
    /// Fragments that the sender has sent so far, modulo 2^32, so that a host can tell its loss.
    pub sent_fragments: u32,
    /// Whether hosts that already answered that they are complete must answer again.
    pub repeat_complete: bool,
}

impl StatusRequest {
    /// Reads what was sealed.
    ///
    /// # Errors
    /// [`DecodeError`] when it has another size, a window out of bounds, or unknown flags.
    pub fn parse(round: u32, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let answer_window_ms = reader.u32()?;
        let sent_fragments = reader.u32()?;
        let flags = reader.u32()?;
        reader.finish()?;
        if answer_window_ms > ANSWER_WINDOW_MS_MAX {
            return Err(DecodeError::Value("answer window"));
        }
        if flags & !FLAG_REPEAT_COMPLETE != 0 {
            return Err(DecodeError::Value("flags"));
        }
        let repeat_complete = flags & FLAG_REPEAT_COMPLETE != 0;
        Ok(Self { round, answer_window_ms, sent_fragments, repeat_complete })
    }

    /// Writes what is to be sealed.
    pub(super) fn emit(&self) -> Vec<u8> {
        Writer::new()
            .u32(self.answer_window_ms)
            .u32(self.sent_fragments)
            .u32(if self.repeat_complete { FLAG_REPEAT_COMPLETE } else { 0 })
            .finish()
    }
}
