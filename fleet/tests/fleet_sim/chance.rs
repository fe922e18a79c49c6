//! Seeded chance.

use std::ops::Range;

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore as _, SeedableRng as _};

/// Microseconds of a second.
pub(crate) const SECOND: i64 = 1_000_000;

/// The source of everything random in a world.
#[derive(Debug)]
pub(crate) struct Chance(ChaCha20Rng);

impl Chance {
    /// `purpose` keeps the parts of one seed apart.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&purpose.to_le_bytes());
        Self(ChaCha20Rng::from_seed(bytes))
    }

    /// Returns a number of the range, which is not empty.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.0.next_u64() % (range.end - range.start)
    }

    /// Returns an index below `len`, which is not zero.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.within(0..len as u64) as usize
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.within(0..times) == 0
    }

    /// Returns microseconds, from a range of milliseconds.
    pub(crate) fn ms(&mut self, range: Range<u64>) -> i64 {
        self.within(range.start * 1000..range.end * 1000) as i64
    }
}
