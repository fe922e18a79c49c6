//! Taking from the host's own chip what an excerpt of the image leaves out.
//!
//! The pieces are read one after the other while the excerpt arrives. Each is checked against the
//! manifest; one that is not the image's leaves the host without an image, and its manager is told.

use std::collections::VecDeque;
use std::ops::Range;

use log::{info, warn};

use super::{Action, Recovery, State};
use crate::image::{
    ImageError, Manifest, OwnPieces, VerifiedImage, VerifiedManifest, check_digest,
};
use crate::time::Time;
use crate::transfer::ReceivedPayload;
use crate::wire::excerpt::{Excerpt, PieceSet};

/// What comes from where, when not all of the image travels.
#[derive(Debug)]
pub(super) struct Merge {
    excerpt: Excerpt,
    /// Pieces that are still to be read; the first one is being read.
    waiting: VecDeque<usize>,
    own: OwnPieces,
    /// Pieces that neither travel nor are on the chip.
    lacking: PieceSet,
    /// The excerpt that travelled.
    payload: Option<ReceivedPayload>,
}

impl Merge {
    /// Returns what is to be done; `None` when the excerpt is of another image, or of one that
    /// does not lie on the chip as it is.
    pub(super) fn of(excerpt: Excerpt, manifest: &Manifest) -> Option<Self> {
        let pieces = manifest.block_digests().len();
        let fits = excerpt.carried.pieces() == pieces && manifest.lies_as_on_chip();
        let waiting = (0..pieces).filter(|piece| !excerpt.carried.contains(*piece)).collect();
        let lacking = PieceSet::none_of(pieces).filter(|_| fits)?;
        Some(Self { excerpt, waiting, own: OwnPieces::new(), lacking, payload: None })
    }

    /// Returns the piece that is to be read next, and where it lies.
    pub(super) fn next(&self, manifest: &Manifest) -> Option<(usize, Range<u64>)> {
        let piece = *self.waiting.front()?;
        let Range { start, end } = manifest.piece(piece);
        Some((piece, start as u64..end as u64))
    }

    /// Keeps what travelled, unless it is not the excerpt. The manager hears of that while it
    /// still sends, however long the chip takes.
    ///
    /// # Errors
    /// [`ImageError::PayloadDigest`].
    pub(super) fn keep(&mut self, payload: ReceivedPayload) -> Result<(), ImageError> {
        check_digest(self.excerpt.payload_digest, payload.digest)?;
        self.payload = Some(payload);
        Ok(())
    }

    /// Returns the image of what travelled and what is the chip's own, once both are there.
    ///
    /// # Errors
    /// When it is not the image that was signed.
    pub(super) fn open(
        &mut self,
        manifest: &VerifiedManifest,
    ) -> Option<Result<VerifiedImage, ImageError>> {
        if !self.waiting.is_empty() || !self.lacking.is_empty() {
            return None;
        }
        let ReceivedPayload { bytes, digest } = self.payload.take()?;
        Some(manifest.open_excerpt(bytes, &digest, &self.excerpt, &self.own))
    }

    /// Takes what was read; nothing where that failed.
    fn take(&mut self, piece: usize, bytes: Option<Vec<u8>>, manifest: &Manifest) {
        self.waiting.pop_front();
        match bytes.filter(|bytes| manifest.is_piece(piece, bytes)) {
            Some(bytes) => _ = self.own.insert(piece, bytes),
            None => self.lacking.insert(piece),
        }
    }
}

impl Recovery {
    /// Takes a piece that [`Action::ReadPiece`] asked for, as it was read; `None` when it could not
    /// be read, or not twice the same.
    pub fn piece_read(&mut self, now: Time, piece: usize, bytes: Option<Vec<u8>>) {
        let (Some(merge), Some(manifest)) = (&mut self.merge, &self.manifest) else { return };
        // Another one may be asked for meanwhile.
        if merge.waiting.front() != Some(&piece) || !matches!(self.state, State::Receiving) {
            return;
        }
        merge.take(piece, bytes, manifest);
        if let Some((piece, range)) = merge.next(manifest) {
            self.actions.push_back(Action::ReadPiece { piece, range });
            return;
        }
        let (own, lacking) = (merge.own.len(), merge.lacking);
        match lacking.is_empty() {
            true => info!("{own} pieces of the image are the chip's own"),
            false => {
                warn!("the chip lacks {} pieces that are not sent either", lacking.count());
                self.report.lacking = Some(lacking);
                self.send_report(now);
            }
        }
        self.open_merged(now);
    }
}
