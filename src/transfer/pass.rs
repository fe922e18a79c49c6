//! What goes out between two looks at what hosts lack.

use std::collections::VecDeque;

use super::geometry::Geometry;
use crate::wire::broadcast::FragmentRange;

/// Fragments that go out one after the other before it is looked again what hosts lack.
#[derive(Debug)]
pub(super) enum Pass {
    /// The source fragments of a block, or of all, as they lie in the payload.
    Source { next: u32, end: u32 },
    /// These fragments.
    Repair(VecDeque<FragmentRange>),
}

impl Pass {
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Source { next, end } => next == end,
            Self::Repair(ranges) => ranges.is_empty(),
        }
    }

    /// Block and number of the next fragment, if there is one.
    pub(super) fn next(&mut self, geometry: &Geometry) -> Option<(u16, u32)> {
        match self {
            Self::Source { next, end } if *next < *end => {
                *next += 1;
                Some(geometry.source_at(*next - 1))
            }
            Self::Source { .. } => None,
            Self::Repair(ranges) => {
                let range = ranges.front_mut()?;
                let fragment = (range.block, range.first);
                range.first += 1;
                range.count -= 1;
                if range.count == 0 {
                    ranges.pop_front();
                }
                Some(fragment)
            }
        }
    }
}
