//! What a host says of the backup that it wants to give into its manager's keeping
//! (docs/PROTOCOL.md, section "Escrow").

use std::fmt;
use std::ops::Range;

use super::broadcast::TransferParameters;
use super::codec::{DecodeError, Reader, Writer};

/// Most ranges of a backup that its host may not read.
pub const CLOSED_RANGES_MAX: usize = 16;

/// An offer to upload the backup of the chip, from its first byte on.
///
/// | bytes | field |
/// | --- | --- |
/// | 0..46 | transfer parameters, made by the host |
/// | 46..78 | SHA-256 of the backup |
/// | 78 | number of ranges that the host may not read, at most [`CLOSED_RANGES_MAX`] |
/// | 79 + 8 n | offset 4, length 4 of such a range |
///
/// The payload is the backup as it was read, not compressed. The ranges are sorted, apart, and
/// inside the backup, which has FFh there.
#[derive(Clone, PartialEq, Eq)]
pub struct BackupOffer {
    /// Campaign, size, and the key that the host drew for this one upload.
    pub parameters: TransferParameters,
    /// SHA-256 of the backup.
    pub digest: [u8; 32],
    /// What the host may not read.
    pub closed: Vec<Range<u32>>,
}

impl fmt::Debug for BackupOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest: String = self.digest.iter().map(|byte| format!("{byte:02x}")).collect();
        f.debug_struct("BackupOffer")
            .field("parameters", &self.parameters)
            .field("digest", &digest)
            .field("closed", &self.closed)
            .finish()
    }
}

impl BackupOffer {
    /// Reads the fields of an offer.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let parameters = TransferParameters::parse(reader.take(TransferParameters::SIZE)?)?;
        let digest = reader.array()?;
        let closed = read_closed(reader, parameters.payload_size_bytes)?;
        Ok(Self { parameters, digest, closed })
    }

    /// Writes the fields of an offer.
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.bytes(&self.parameters.emit()).bytes(&self.digest);
        let closed = &self.closed[..self.closed.len().min(CLOSED_RANGES_MAX)];
        writer.u8(closed.len() as u8);
        for range in closed {
            writer.u32(range.start).u32(range.end.saturating_sub(range.start));
        }
    }
}

fn read_closed(reader: &mut Reader<'_>, size_bytes: u32) -> Result<Vec<Range<u32>>, DecodeError> {
    let invalid = DecodeError::Value("closed ranges");
    let count = usize::from(reader.u8()?);
    if count > CLOSED_RANGES_MAX {
        return Err(invalid);
    }
    let mut closed: Vec<Range<u32>> = Vec::with_capacity(count);
    for _ in 0..count {
        let (start, length) = (reader.u32()?, reader.u32()?);
        let end = start.checked_add(length).filter(|end| *end <= size_bytes).ok_or(invalid)?;
        let is_apart = closed.last().is_none_or(|last| last.end < start);
        if length == 0 || !is_apart {
            return Err(invalid);
        }
        closed.push(start..end);
    }
    Ok(closed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::broadcast::FecScheme;
    use super::*;
    use crate::wire::broadcast::GroupKey;

    fn offer(closed: Vec<Range<u32>>) -> Vec<u8> {
        let parameters = TransferParameters {
            campaign: 7,
            group_key: GroupKey::new([1; 32]),
            payload_size_bytes: 0x1_0000,
            fragment_size_bytes: 1024,
            fec: FecScheme::Doubled,
        };
        let mut writer = Writer::new();
        BackupOffer { parameters, digest: [2; 32], closed }.write(&mut writer);
        writer.finish()
    }

    fn read(bytes: &[u8]) -> Result<BackupOffer, DecodeError> {
        let mut reader = Reader::new(bytes);
        let offer = BackupOffer::read(&mut reader)?;
        reader.finish()?;
        Ok(offer)
    }

    fn ranges(pairs: &[(u32, u32)]) -> Vec<Range<u32>> {
        pairs.iter().map(|(start, end)| *start..*end).collect()
    }

    #[test]
    fn closed_ranges_are_sorted_apart_and_inside() {
        let most: Vec<_> = (0..CLOSED_RANGES_MAX as u32).map(|n| (2 * n, 2 * n + 1)).collect();
        let good: [&[(u32, u32)]; 4] = [&[], &[(0, 0x1_0000)], &[(1, 2), (3, 4)], &most];
        for closed in good.map(ranges) {
            assert_eq!(read(&offer(closed.clone())).unwrap().closed, closed);
        }
        let bad: [&[(u32, u32)]; 4] =
            [&[(5, 5)], &[(0, 0x1_0001)], &[(3, 4), (1, 2)], &[(1, 2), (2, 3)]];
        for closed in bad.map(ranges) {
            assert!(read(&offer(closed.clone())).is_err(), "{closed:?}");
        }
        let mut many = offer(ranges(&[(0, 1)]));
        many[78] = CLOSED_RANGES_MAX as u8 + 1;
        many.resize(79 + 8 * (CLOSED_RANGES_MAX + 1), 0);
        assert_eq!(read(&many), Err(DecodeError::Value("closed ranges")));
    }
}
