//! The payload that a sender cuts into fragments, shared with whoever else holds it.

use std::ops::Range;
use std::sync::Arc;

use super::geometry::Geometry;

/// Bytes of a payload as source fragments, without a copy of them.
#[derive(Debug)]
pub(super) struct Payload {
    bytes: Arc<Vec<u8>>,
    /// The last source fragment, filled up with zeros.
    last: Vec<u8>,
}

impl Payload {
    /// `bytes` has the size that `geometry` says.
    pub(super) fn new(bytes: Arc<Vec<u8>>, geometry: &Geometry) -> Self {
        let start = geometry.padded_size() - geometry.fragment_size();
        let mut last = bytes[start..].to_vec();
        last.resize(geometry.fragment_size(), 0);
        Self { bytes, last }
    }

    /// Returns the source fragment that lies at `place` of the payload.
    pub(super) fn fragment(&self, place: Range<usize>) -> &[u8] {
        // Only the last fragment may reach beyond the payload.
        self.bytes.get(place).unwrap_or(&self.last)
    }
}
