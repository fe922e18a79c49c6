//! What the stream carries: all of the image, or only what some host lacks.
//!
//! Hosts say which pieces of the image their chips lack when they accept the update. The stream
//! carries the union, and each host takes the rest from its own chip. Where a host has not said so,
//! or cannot do so, the stream carries everything.

use std::time::Duration;

use firmcast::time::Time;
use firmcast::wire::excerpt::{Excerpt, PieceSet};
use sha2::{Digest as _, Sha256};
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

/// How long hosts that could join wait at most for what others say that they lack. They are
/// instructed at the same time, so most have said it long before.
pub(super) const SAYING_MAX: Duration = Duration::from_secs(30);

/// Hosts wait while the excerpt is compressed: a level that takes a fraction of a second.
const COMPRESSION_LEVEL: i32 = 6;

/// Largest distance that the hosts' decompressor looks back: 8 MiB.
const WINDOW_LOG_MAX: u32 = 23;

/// The image, of which pieces may be left out.
#[derive(Clone, Debug)]
pub struct Pieces {
    /// All of the image.
    pub image: Vec<u8>,
    /// Size of the pieces that the manifest has digests of; the last one may be shorter.
    pub piece_bytes: usize,
}

/// What may be carried, and whether that is settled.
#[derive(Debug)]
pub(super) struct Cargo {
    /// As the bundle has it.
    payload: Vec<u8>,
    /// None where the operator wants everything sent, and in rescues.
    pieces: Option<Pieces>,
    /// Until when it may stay unsettled, from the first host on that could join.
    pub(super) settle_by: Option<Time>,
}

impl Cargo {
    pub(super) fn new(payload: Vec<u8>, pieces: Option<Pieces>) -> Self {
        Self { payload, pieces, settle_by: None }
    }

    /// The payload that carries everything.
    pub(super) fn whole(&self) -> Vec<u8> {
        self.payload.clone()
    }

    /// Returns the payload that carries what hosts lack, which each of them has said or not; `None`
    /// where it must carry everything, or would not be smaller.
    pub(super) fn part(
        &self,
        lacking: impl Iterator<Item = Option<PieceSet>>,
    ) -> Option<(Vec<u8>, Excerpt)> {
        let pieces = self.pieces.as_ref()?;
        let count = pieces.image.len().div_ceil(pieces.piece_bytes.max(1));
        let mut carried = PieceSet::none_of(count)?;
        for lacking in lacking {
            let lacking = lacking.filter(|lacking| lacking.pieces() == count)?;
            carried.add(&lacking);
        }
        if carried.is_empty() {
            // A payload has at least one byte.
            carried.insert(count - 1);
        }
        if carried.count() == count {
            return None;
        }
        let payload = pieces.compressed(&carried)?;
        let payload_digest = Sha256::digest(&payload).into();
        let is_smaller = payload.len() < self.payload.len();
        is_smaller.then_some((payload, Excerpt { payload_digest, carried }))
    }
}

impl Pieces {
    fn compressed(&self, carried: &PieceSet) -> Option<Vec<u8>> {
        let pieces = self.image.chunks(self.piece_bytes).enumerate();
        let carried: Vec<u8> = pieces
            .filter(|(piece, _)| carried.contains(*piece))
            .flat_map(|(_, bytes)| bytes)
            .copied()
            .collect();
        let mut compressor = Compressor::new(COMPRESSION_LEVEL).ok()?;
        compressor.set_parameter(CParameter::WindowLog(WINDOW_LOG_MAX)).ok()?;
        compressor.compress(&carried).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PIECE: usize = 0x1_0000;

    fn set(pieces: &[usize]) -> Option<PieceSet> {
        let mut set = PieceSet::none_of(8).unwrap();
        pieces.iter().for_each(|piece| set.insert(*piece));
        Some(set)
    }

    #[test]
    fn what_some_host_lacks_is_carried_unless_one_has_not_said_so() {
        let image: Vec<u8> = (0..8 * PIECE).map(|n| (n / 3) as u8 ^ (n >> 11) as u8).collect();
        let pieces = Pieces { image: image.clone(), piece_bytes: PIECE };
        let cargo = Cargo::new(image.clone(), Some(pieces));
        let carried = |lacking: &[Option<PieceSet>]| {
            cargo.part(lacking.iter().copied()).map(|(payload, excerpt)| {
                assert_eq!(excerpt.payload_digest, *Sha256::digest(&payload));
                let raw = zstd::bulk::decompress(&payload, image.len()).unwrap();
                let expected: Vec<u8> = excerpt
                    .carried
                    .iter()
                    .flat_map(|piece| image[piece * PIECE..][..PIECE].to_vec())
                    .collect();
                assert!(raw == expected);
                excerpt.carried.iter().collect::<Vec<_>>()
            })
        };
        assert_eq!(carried(&[set(&[1]), set(&[1, 6]), set(&[])]), Some(vec![1, 6]));
        assert_eq!(carried(&[set(&[])]), Some(vec![7]));
        assert_eq!(carried(&[set(&[1]), None]), None);
        assert_eq!(carried(&[PieceSet::all_of(8)]), None);
        assert_eq!(carried(&[PieceSet::all_of(9)]), None);
        assert!(Cargo::new(image.clone(), None).part([set(&[1])].into_iter()).is_none());
        let tiny = Pieces { image: image.clone(), piece_bytes: PIECE };
        assert!(Cargo::new(vec![1], Some(tiny)).part([set(&[1])].into_iter()).is_none());
    }
}
