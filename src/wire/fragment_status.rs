//! A host's answer to a status request; it travels inside the host's session.

use super::codec::{DecodeError, Reader, Writer};

/// The most code blocks that a payload is cut into.
pub const BLOCKS_MAX: usize = 16;

/// Maximum number of ranges of missing fragments that an answer names, so that it stays below 1100
/// bytes.
pub const RANGES_MAX: usize = 132;

const HEADER_SIZE: usize = 40;
const RANGE_SIZE: usize = 8;
const _: () = assert!(HEADER_SIZE + RANGES_MAX * RANGE_SIZE <= 1100);

const FORM_COUNTS: u8 = 0;
const FORM_NUMBERS: u8 = 1;

/// Fragments of one block with consecutive numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FragmentRange {
    /// Code block.
    pub block: u16,
    /// First number.
    pub first: u32,
    /// How many, at least one.
    pub count: u16,
}

impl FragmentRange {
    /// Returns the number behind the last one.
    pub fn end(&self) -> u64 {
        u64::from(self.first) + u64::from(self.count)
    }

    /// Adds a fragment that lies behind the last of `ranges`.
    pub(crate) fn append(ranges: &mut Vec<Self>, block: u16, number: u32) {
        match ranges.last_mut() {
            Some(last)
                if last.block == block
                    && last.end() == u64::from(number)
                    && last.count < u16::MAX =>
            {
                last.count += 1;
            }
            _ => ranges.push(Self { block, first: number, count: 1 }),
        }
    }
}

/// What a host lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// For each block, how many more fragments it needs, whichever they are; all blocks in order.
    Counts(Vec<u16>),
    /// Exactly these source fragments: sorted, not touching each other. Empty when nothing is
    /// missing.
    Numbers(Vec<FragmentRange>),
}

/// How far a host is.
///
/// | bytes | field |
/// | --- | --- |
/// | 0..8 | campaign u64 |
/// | 8..12 | round of the status request u32 |
/// | 12..16 | fragments still needed, of all blocks u32 |
/// | 16..20 | useful fragments received u32 |
/// | 20..24 | corrupt u32 |
/// | 24..28 | duplicate u32 |
/// | 28..32 | of a foreign campaign u32 |
/// | 32..36 | out of range u32 |
/// | 36 | form u8: 0 counts, 1 numbers |
/// | 37 | reserved u8, zero |
/// | 38..40 | entries u16 |
/// | 40.. | counts: needed u16 each. numbers: block u16, first u32, count u16 each |
///
/// The five counters count datagrams since the host joined, modulo 2^32, up to the arrival of the
/// request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentStatus {
    /// Campaign.
    pub campaign: u64,
    /// Round of the status request that this answers.
    pub round: u32,
    /// Fragments still needed, of all blocks; zero when the host is complete.
    pub missing_total: u32,
    /// Fragments that were of use.
    pub received: u32,
    /// Datagrams of the campaign that did not open.
    pub corrupt: u32,
    /// Fragments that the host held or no longer needed.
    pub duplicate: u32,
    /// Datagrams of another campaign.
    pub foreign: u32,
    /// Fragments with a block, number or size that the transfer does not have.
    pub out_of_range: u32,
    /// What is missing.
    pub missing: Missing,
}

impl FragmentStatus {
    /// Reads an answer.
    ///
    /// # Errors
    /// [`DecodeError`] when fields are missing or outside their definition, or the entries do not
    /// add up to the total.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let campaign = reader.u64()?;
        let mut counters = [0; 7];
        for counter in &mut counters {
            *counter = reader.u32()?;
        }
        let [round, missing_total, received, corrupt, duplicate, foreign, out_of_range] = counters;
        let form = reader.u8()?;
        if reader.u8()? != 0 {
            return Err(DecodeError::Value("reserved"));
        }
        let entries = usize::from(reader.u16()?);
        let missing = match form {
            FORM_COUNTS => Missing::Counts(read_counts(&mut reader, entries)?),
            FORM_NUMBERS => Missing::Numbers(read_ranges(&mut reader, entries)?),
            _ => return Err(DecodeError::Value("form")),
        };
        if missing.total() != u64::from(missing_total) {
            return Err(DecodeError::Value("missing total"));
        }
        Ok(Self {
            campaign,
            round,
            missing_total,
            received,
            corrupt,
            duplicate,
            foreign,
            out_of_range,
            missing,
        })
    }

    /// Writes the answer.
    pub fn emit(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u64(self.campaign).u32(self.round).u32(self.missing_total).u32(self.received);
        writer.u32(self.corrupt).u32(self.duplicate).u32(self.foreign).u32(self.out_of_range);
        match &self.missing {
            Missing::Counts(counts) => {
                writer.u8(FORM_COUNTS).u8(0).u16(counts.len() as u16);
                for count in counts {
                    writer.u16(*count);
                }
            }
            Missing::Numbers(ranges) => {
                writer.u8(FORM_NUMBERS).u8(0).u16(ranges.len() as u16);
                for range in ranges {
                    writer.u16(range.block).u32(range.first).u16(range.count);
                }
            }
        }
        writer.finish()
    }
}

impl Missing {
    fn total(&self) -> u64 {
        match self {
            Self::Counts(counts) => counts.iter().copied().map(u64::from).sum(),
            Self::Numbers(ranges) => ranges.iter().map(|range| u64::from(range.count)).sum(),
        }
    }
}

fn read_counts(reader: &mut Reader<'_>, entries: usize) -> Result<Vec<u16>, DecodeError> {
    if !(1..=BLOCKS_MAX).contains(&entries) {
        return Err(DecodeError::Value("count of blocks"));
    }
    (0..entries).map(|_| reader.u16()).collect()
}

fn read_ranges(reader: &mut Reader<'_>, entries: usize) -> Result<Vec<FragmentRange>, DecodeError> {
    if entries > RANGES_MAX {
        return Err(DecodeError::Value("count of ranges"));
    }
    let mut ranges: Vec<FragmentRange> = Vec::with_capacity(entries);
    for _ in 0..entries {
        let range =
            FragmentRange { block: reader.u16()?, first: reader.u32()?, count: reader.u16()? };
        let in_order = ranges.last().is_none_or(|last| {
            range.block > last.block
                || range.block == last.block && u64::from(range.first) > last.end()
        });
        if range.count == 0 || !in_order || range.end() > u64::from(u32::MAX) {
            return Err(DecodeError::Value("range"));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn status(missing: Missing) -> FragmentStatus {
        FragmentStatus {
            campaign: 0x0102_0304_0506_0708,
            round: 3,
            missing_total: missing.total() as u32,
            received: 100,
            corrupt: 1,
            duplicate: 2,
            foreign: 4,
            out_of_range: 5,
            missing,
        }
    }

    #[test]
    fn golden_bytes_and_every_truncation() {
        let named = Missing::Numbers(vec![
            FragmentRange { block: 0, first: 7, count: 2 },
            FragmentRange { block: 1, first: 0, count: 1 },
        ]);
        let head =
            "0102030405060708_00000003_00000003_00000064_00000001_00000002_00000004_00000005";
        for (missing, tail) in [
            (named, "01_00_0002_0000_00000007_0002_0001_00000000_0001"),
            (Missing::Counts(vec![1, 2]), "00_00_0002_0001_0002"),
        ] {
            let status = status(missing);
            let bytes = status.emit();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, format!("{head}{tail}").replace('_', ""));
            assert_eq!(FragmentStatus::parse(&bytes).unwrap(), status);
            for length in 0..bytes.len() {
                assert!(FragmentStatus::parse(&bytes[..length]).is_err());
            }
        }
    }

    #[test]
    fn ranges_must_be_in_order_and_add_up() {
        let range = |block, first, count| FragmentRange { block, first, count };
        for ranges in [
            vec![range(0, 5, 0)],
            vec![range(0, 5, 1), range(0, 4, 1)],
            vec![range(0, 5, 2), range(0, 7, 1)],
            vec![range(1, 5, 1), range(0, 9, 1)],
            vec![range(0, u32::MAX, 1)],
        ] {
            let bytes = status(Missing::Numbers(ranges)).emit();
            assert_eq!(FragmentStatus::parse(&bytes), Err(DecodeError::Value("range")));
        }
        let mut wrong = status(Missing::Counts(vec![4]));
        wrong.missing_total = 5;
        let error = Err(DecodeError::Value("missing total"));
        assert_eq!(FragmentStatus::parse(&wrong.emit()), error);
    }

    proptest! {
        #[test]
        fn what_parses_is_emitted_alike(
            mut bytes in proptest::collection::vec(any::<u8>(), 40..80),
            form in 0u8..3,
            entries in 0u8..6,
        ) {
            bytes[36..40].copy_from_slice(&[form, 0, 0, entries]);
            let entry_bytes = if form == 0 { 2 } else { 8 };
            bytes.truncate(40 + usize::from(entries) * entry_bytes);
            // An entry of any form ends with a count, in two bytes.
            let total: u32 = bytes[40..]
                .chunks_exact(entry_bytes)
                .map(|entry| u16::from_be_bytes([entry[entry_bytes - 2], entry[entry_bytes - 1]]))
                .map(u32::from)
                .sum();
            bytes[12..16].copy_from_slice(&total.to_be_bytes());
            if let Ok(status) = FragmentStatus::parse(&bytes) {
                prop_assert_eq!(status.emit(), bytes);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
            let _ = FragmentStatus::parse(&bytes);
        }
    }
}
