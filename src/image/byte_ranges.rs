//! Sets of bytes, as ranges.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Ranges that are shown to people; the others are counted.
const SHOWN_MAX: usize = 4;

/// Ranges of bytes: sorted, none empty, none touching another. Shown as `0x1000-0x2fff,
/// 0x8000-0x8fff`, in JSON a list of offsets and lengths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct ByteRanges(Vec<Range<u64>>);

impl ByteRanges {
    /// Adds the bytes of `range`.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|known| known.end < range.start);
        let after = self.0.partition_point(|known| known.start <= range.end);
        let start = self.0.get(first).map_or(range.start, |known| known.start.min(range.start));
        let last = self.0[first..after].last();
        let end = last.map_or(range.end, |known| known.end.max(range.end));
        let joined = if first < after { start..end } else { range };
        self.0.splice(first..after, [joined]);
    }

    /// Returns whether there is no byte in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        self.0.iter()
    }

    /// Returns how many bytes are in it.
    pub fn total_bytes(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Returns whether any byte of `range` is in it.
    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        let next = self.0.partition_point(|known| known.end <= range.start);
        !range.is_empty() && self.0.get(next).is_some_and(|known| known.start < range.end)
    }

    /// Returns whether every byte of `range` is in it.
    pub fn covers(&self, range: &Range<u64>) -> bool {
        let next = self.0.partition_point(|known| known.end <= range.start);
        let covering = |known: &Range<u64>| known.start <= range.start && range.end <= known.end;
        range.is_empty() || self.0.get(next).is_some_and(covering)
    }

    /// Returns the bytes of both.
    pub fn union(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).cloned().collect()
    }

    /// Returns the bytes that are not in `other`.
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Self::default();
        for range in self.iter() {
            let mut start = range.start;
            for taken in other.iter().filter(|taken| taken.start < range.end) {
                left.insert(start..taken.start.max(start));
                start = start.max(taken.end);
            }
            left.insert(start..range.end.max(start));
        }
        left
    }

    /// Returns the bytes before `end_bytes`.
    pub fn before(&self, end_bytes: u64) -> Self {
        self.iter().map(|range| range.start..range.end.min(end_bytes)).collect()
    }
}

impl FromIterator<Range<u64>> for ByteRanges {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

impl From<Vec<(u64, u64)>> for ByteRanges {
    /// From offsets and lengths, in any order.
    fn from(pairs: Vec<(u64, u64)>) -> Self {
        pairs.into_iter().map(|(offset, length)| offset..offset.saturating_add(length)).collect()
    }
}

impl From<ByteRanges> for Vec<(u64, u64)> {
    fn from(ranges: ByteRanges) -> Self {
        ranges.iter().map(|range| (range.start, range.end - range.start)).collect()
    }
}

impl fmt::Display for ByteRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.iter().take(SHOWN_MAX).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{:#x}-{:#x}", range.start, range.end - 1)?;
        }
        match self.0.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn range() -> impl Strategy<Value = Range<u64>> {
        (0u64..64, 0u64..12).prop_map(|(start, length)| start..start + length)
    }

    fn ranges() -> impl Strategy<Value = Vec<Range<u64>>> {
        proptest::collection::vec(range(), 0..8)
    }

    fn has(ranges: &[Range<u64>], byte: u64) -> bool {
        ranges.iter().any(|range| range.contains(&byte))
    }

    proptest! {
        #[test]
        fn it_is_the_set_of_its_bytes(a in ranges(), b in ranges(), asked in range()) {
            let (left, right): (ByteRanges, ByteRanges) =
                (a.iter().cloned().collect(), b.iter().cloned().collect());
            let (both, rest) = (left.union(&right), left.without(&right));
            for byte in 0..80u64 {
                let one = byte..byte + 1;
                prop_assert_eq!(left.covers(&one), has(&a, byte));
                prop_assert_eq!(both.covers(&one), has(&a, byte) || has(&b, byte));
                prop_assert_eq!(rest.covers(&one), has(&a, byte) && !has(&b, byte));
                prop_assert_eq!(left.before(20).covers(&one), has(&a, byte) && byte < 20);
            }
            prop_assert_eq!(left.overlaps(&asked), asked.clone().any(|byte| has(&a, byte)));
            prop_assert_eq!(left.covers(&asked), asked.clone().all(|byte| has(&a, byte)));
            let found: Vec<_> = left.iter().cloned().collect();
            prop_assert!(found.iter().all(|range| !range.is_empty()));
            prop_assert!(found.windows(2).all(|pair| pair[0].end < pair[1].start));
            let count = (0..80).filter(|byte| has(&a, *byte)).count();
            prop_assert_eq!(left.total_bytes(), count as u64);
            let json = serde_json::to_string(&left).unwrap();
            prop_assert_eq!(serde_json::from_str::<ByteRanges>(&json).unwrap(), left);
        }
    }

    #[test]
    fn it_shows_last_bytes_and_counts_what_it_does_not_show() {
        let pairs = vec![(0x8000, 0x1000), (0x1000, 0x2000)];
        assert_eq!(ByteRanges::from(pairs).to_string(), "0x1000-0x2fff, 0x8000-0x8fff");
        let many: ByteRanges = (0..6).map(|n| n * 16..n * 16 + 1).collect();
        assert!(many.to_string().ends_with("0x30-0x30 and 2 more"), "{many}");
        assert!(
            ByteRanges::from(vec![(u64::MAX, u64::MAX)]).is_empty(),
            "no byte is behind the last"
        );
    }
}
