//! What goes out between two looks at what hosts lack.

use std::collections::VecDeque;

use super::geometry::Geometry;
use crate::wire::broadcast::FragmentRange;

/// Fragments that go out one after the other before it is looked again what hosts lack.
#[derive(Debug)]
pub(super) enum Pass {
    /// Source fragments, as they lie in the payload.
    Source { next: u32, end: u32 },
    /// These fragments.
    Repair(VecDeque<FragmentRange>),
}

impl Pass {
    /// Source fragments of one block, or of all: at most so many from `next` on.
    pub(super) fn source(geometry: &Geometry, next: u32, count_max: u32) -> Self {
        Self::Source { next, end: geometry.block_end(next).min(next + count_max) }
    }

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
