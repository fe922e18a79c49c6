//! An image of which only some pieces travelled: the others are the chip's own.

use std::collections::BTreeMap;
use std::ops::Range;

use super::payload::{ImageError, check_digest, decompress};
use super::{Digest, Manifest, VerifiedImage, VerifiedManifest, sha256};
use crate::wire::excerpt::{Excerpt, PIECES_MAX, PieceSet};

const _: () = assert!(PIECES_MAX == super::BLOCKS_MAX);

/// Pieces of an image that a host has from its own chip, by their numbers.
pub type OwnPieces = BTreeMap<usize, Vec<u8>>;

impl Manifest {
    /// Returns where a piece with a digest of its own lies in the image; empty where there is no
    /// such piece.
    pub fn piece(&self, piece: usize) -> Range<usize> {
        let at = |piece: usize| {
            piece.saturating_mul(self.block_size_bytes()).min(self.image_size_bytes())
        };
        at(piece)..at(piece.saturating_add(1))
    }

    /// Returns whether `bytes` are this piece of the image.
    pub fn is_piece(&self, piece: usize, bytes: &[u8]) -> bool {
        self.block_digests().get(piece).is_some_and(|digest| sha256(bytes) == *digest)
    }

    /// Returns whether a host can take pieces of the image from its own chip: it has them where
    /// the image has them.
    pub fn lies_as_on_chip(&self) -> bool {
        self.parts().is_empty()
    }

    /// Size of the pieces in the set together.
    fn size_of(&self, pieces: &PieceSet) -> usize {
        pieces.iter().map(|piece| self.piece(piece).len()).sum()
    }
}

impl VerifiedManifest {
    /// Returns the image, of which `payload` carries the pieces that `excerpt` names, and `own` has
    /// the others. `digest` is the payload's SHA-256; it is checked first, then the payload is
    /// decompressed, then the whole image is checked as if all of it had travelled.
    ///
    /// # Errors
    /// When anything differs from what the excerpt or the manifest say, or a piece is missing.
    pub fn open_excerpt(
        &self,
        payload: Vec<u8>,
        digest: &Digest,
        excerpt: &Excerpt,
        own: &OwnPieces,
    ) -> Result<VerifiedImage, ImageError> {
        check_digest(excerpt.payload_digest, *digest)?;
        let carried_bytes = self.size_of(&excerpt.carried);
        let carried = decompress(&payload, carried_bytes)?;
        if carried.len() != carried_bytes {
            let (expected_bytes, got_bytes) = (carried_bytes, carried.len());
            return Err(ImageError::ImageSize { expected_bytes, got_bytes });
        }
        drop(payload);
        let image = self.merge(&carried, &excerpt.carried, own)?;
        drop(carried);
        self.check_image(&image)?;
        Ok(VerifiedImage::new(image, self))
    }

    fn merge(
        &self,
        mut carried: &[u8],
        pieces: &PieceSet,
        own: &OwnPieces,
    ) -> Result<Vec<u8>, ImageError> {
        let mut image = Vec::with_capacity(self.image_size_bytes());
        for piece in 0..self.block_digests().len() {
            let range = self.piece(piece);
            if pieces.contains(piece)
                && let Some((bytes, rest)) = carried.split_at_checked(range.len())
            {
                image.extend_from_slice(bytes);
                carried = rest;
            } else if let Some(bytes) = own.get(&piece).filter(|own| own.len() == range.len()) {
                image.extend_from_slice(bytes);
            } else {
                return Err(ImageError::PieceMissing { offset_bytes: range.start });
            }
        }
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::image::{Description, PayloadFormat, SignedManifest};
    use crate::keys::{ReleaseSecretKey, SecretKey as _};
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    const PIECE: usize = 0x1_0000;

    fn image() -> Vec<u8> {
        // The last piece is shorter.
        (0..4 * PIECE + 0x1000).map(|n| (n / 0x333) as u8 ^ (n >> 16) as u8).collect()
    }

    fn manifest(image: &[u8]) -> VerifiedManifest {
        let release = ReleaseSecretKey::generate(&mut ChaCha20Rng::from_seed([1; 32]));
        let description = Description {
            version: "1".into(),
            vendor: "V".into(),
            products: vec!["P".into()],
            ..Description::default()
        };
        let manifest = Manifest::describe(description, image, PayloadFormat::Raw, image).unwrap();
        let signed = SignedManifest::sign(&manifest, &release).unwrap();
        VerifiedManifest::verify(&signed, &[release.public()]).unwrap()
    }

    fn open(
        manifest: &VerifiedManifest,
        payload: Vec<u8>,
        excerpt: &Excerpt,
        own: &OwnPieces,
    ) -> Result<VerifiedImage, ImageError> {
        let digest = sha256(&payload);
        manifest.open_excerpt(payload, &digest, excerpt, own)
    }

    /// A payload of these pieces of `from`, and the other pieces.
    fn split(
        manifest: &VerifiedManifest,
        from: &[u8],
        carried: &[usize],
    ) -> (Vec<u8>, Excerpt, OwnPieces) {
        let mut set = PieceSet::none_of(manifest.block_digests().len()).unwrap();
        carried.iter().for_each(|piece| set.insert(*piece));
        let raw: Vec<u8> =
            set.iter().flat_map(|piece| from[manifest.piece(piece)].to_vec()).collect();
        let payload = zstd::bulk::compress(&raw, 3).unwrap();
        let excerpt = Excerpt { payload_digest: sha256(&payload), carried: set };
        let others = (0..set.pieces()).filter(|piece| !set.contains(*piece));
        let own = others.map(|piece| (piece, from[manifest.piece(piece)].to_vec())).collect();
        (payload, excerpt, own)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        /// Whoever changes a byte of what travelled, or of the chip, gets no image.
        #[test]
        fn only_the_signed_image_comes_out(
            carried in proptest::collection::btree_set(0usize..5, 1..5),
            changed in 0usize..4 * PIECE + 0x1000,
        ) {
            let image = image();
            let manifest = manifest(&image);
            let carried: Vec<usize> = carried.into_iter().collect();
            let (payload, excerpt, own) = split(&manifest, &image, &carried);
            let opened = open(&manifest, payload.clone(), &excerpt, &own).unwrap();
            prop_assert_eq!(opened.bytes(), &image[..]);
            let mut other = image.clone();
            other[changed] ^= 1;
            let (payload, excerpt, own) = split(&manifest, &other, &carried);
            prop_assert!(open(&manifest, payload, &excerpt, &own).is_err());
        }
    }

    #[test]
    fn another_payload_is_not_even_decompressed_and_nothing_may_be_missing() {
        let image = image();
        let manifest = manifest(&image);
        let (mut payload, excerpt, own) = split(&manifest, &image, &[1, 4]);
        let mut less = own.clone();
        less.remove(&0);
        let opened = open(&manifest, payload.clone(), &excerpt, &less);
        assert_eq!(opened.unwrap_err(), ImageError::PieceMissing { offset_bytes: 0 });
        let more = PieceSet::all_of(excerpt.carried.pieces()).unwrap();
        let larger = Excerpt { carried: more, ..excerpt };
        let opened = open(&manifest, payload.clone(), &larger, &own);
        assert!(matches!(opened, Err(ImageError::ImageSize { .. })), "{opened:?}");
        payload[9] ^= 1;
        let opened = open(&manifest, payload, &excerpt, &own);
        assert!(matches!(opened, Err(ImageError::PayloadDigest { .. })), "{opened:?}");
    }
}
