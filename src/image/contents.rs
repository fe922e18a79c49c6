//! What the host can read of a chip, and what of the rest counts: the one rule for all who look at
//! a chip.
//!
//! - Bytes that were read are the chip's: compared, recorded and judged.
//! - Bytes that cannot be read are *closed* in a range that is not the host's or that stays as it
//!   is: not changed, compared, recorded or judged.
//! - FFh throughout a region that the Intel flash descriptor closes is closed, too: the controller
//!   answers so instead of failing.
//! - Bytes that cannot be read elsewhere are a fault of the hardware: no backup, so no update.
//!
//! Not the host's are the regions of an Intel flash descriptor but for the descriptor itself and
//! the BIOS, and areas of a flash map for the same purposes. A closed range reads as FFh here, and
//! in a backup.

use std::ops::Range;

use super::layout::{DESCRIPTOR_BYTES, foreign_ranges};
use super::{ByteRanges, Region};

/// A chip's contents, as far as the host may read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    bytes: Vec<u8>,
    closed: ByteRanges,
}

/// Bytes that cannot be read although nothing closes them to the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} cannot be read, and nothing closes it to this host: see the kernel log, and check the \
    chip and its connection"
)]
pub struct Unreadable(pub ByteRanges);

impl Contents {
    /// Returns all of a chip.
    pub fn whole(bytes: Vec<u8>) -> Self {
        Self { bytes, closed: ByteRanges::default() }
    }

    /// `bytes` of a chip whose `unread` ones could not be read; `untouched` ones stay as they are
    /// whatever they hold, by a bundle or by a record.
    ///
    /// # Errors
    /// [`Unreadable`] bytes.
    pub fn new(
        mut bytes: Vec<u8>,
        unread: &ByteRanges,
        untouched: &ByteRanges,
    ) -> Result<Self, Unreadable> {
        let closed = closed_in(&mut bytes, unread, untouched)?;
        Ok(Self { bytes, closed })
    }

    /// Returns the bytes from the first one on; FFh where they are closed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns what is closed to the host.
    pub fn closed(&self) -> &ByteRanges {
        &self.closed
    }
}

/// Returns which of `bytes` are closed to the host; they become FFh. The arguments are those of
/// [`Contents::new`].
///
/// # Errors
/// [`Unreadable`] bytes.
pub fn closed_in(
    bytes: &mut [u8],
    unread: &ByteRanges,
    untouched: &ByteRanges,
) -> Result<ByteRanges, Unreadable> {
    let unread = unread.before(bytes.len() as u64);
    unread.iter().for_each(|range| bytes[position(range)].fill(0xff));
    // Only what was not read needs a flash map to explain it. The descriptor stands at the start.
    let telling_bytes = if unread.is_empty() { DESCRIPTOR_BYTES } else { bytes.len() };
    let foreign = foreign_ranges(&bytes[..telling_bytes.min(bytes.len())]);
    let expected = untouched.union(&foreign.all);
    let faulty: ByteRanges = unread.without(&expected);
    if !faulty.is_empty() {
        return Err(Unreadable(faulty));
    }
    let end_bytes = bytes.len() as u64;
    let inside = |range: &Range<u64>| range.start.min(end_bytes)..range.end.min(end_bytes);
    let silent = |range: &Range<u64>| bytes[position(range)].iter().all(|byte| *byte == 0xff);
    let silent: ByteRanges = foreign.no_read.iter().map(inside).filter(silent).collect();
    Ok(unread.union(&silent))
}

/// Returns the bytes that stay on the chip by these regions of a bundle.
pub fn preserved(regions: &[Region]) -> ByteRanges {
    let preserved = regions.iter().filter(|region| region.action.keeps_chip());
    let end = |region: &Region| region.offset_bytes.saturating_add(region.length_bytes);
    preserved.map(|region| region.offset_bytes..end(region)).collect()
}

/// Returns what a verdict or a record is not about, for people.
pub fn closed_note(closed: &ByteRanges) -> String {
    format!("not looked at: {closed}, which this host may not read")
}

/// Returns the place of a range that lies inside the bytes.
fn position(range: &Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

#[cfg(test)]
mod tests;
