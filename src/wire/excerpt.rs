//! Which pieces of an image travel, and which a chip holds (docs/PROTOCOL.md, section "Transfer").

use super::codec::{DecodeError, Reader, Writer};

/// Most pieces of an image; a manifest has no more digests of them.
pub const PIECES_MAX: usize = 1024;

/// A set of the pieces of an image, by their numbers.
///
/// | bytes | field |
/// | --- | --- |
/// | 0..2 | pieces of the image u16, 1 to [`PIECES_MAX`] |
/// | 2.. | a bit for each, from the highest one of the first byte on; bits behind the last are 0 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceSet {
    pieces: u16,
    bits: [u8; PIECES_MAX / 8],
}

impl PieceSet {
    /// Returns a set without any of the image's `pieces`; `None` when these are none or too many.
    pub fn none_of(pieces: usize) -> Option<Self> {
        let pieces = u16::try_from(pieces).ok()?;
        (1..=PIECES_MAX)
            .contains(&usize::from(pieces))
            .then_some(Self { pieces, bits: [0; PIECES_MAX / 8] })
    }

    /// Returns a set with all of the image's `pieces`; `None` when these are none or too many.
    pub fn all_of(pieces: usize) -> Option<Self> {
        let mut set = Self::none_of(pieces)?;
        (0..pieces).for_each(|piece| set.insert(piece));
        Some(set)
    }

    /// How many pieces the image has.
    pub fn pieces(&self) -> usize {
        self.pieces.into()
    }

    /// How many of them are in the set.
    pub fn count(&self) -> usize {
        self.bits.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// Returns whether none is in the set.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Returns whether this piece is in the set.
    pub fn contains(&self, piece: usize) -> bool {
        piece < self.pieces() && self.bits[piece / 8] & bit(piece) != 0
    }

    /// Adds a piece; one that the image does not have changes nothing.
    pub fn insert(&mut self, piece: usize) {
        if piece < self.pieces() {
            self.bits[piece / 8] |= bit(piece);
        }
    }

    /// Returns whether every piece of `other` is in this set, too; never for another number of
    /// pieces.
    pub fn covers(&self, other: &Self) -> bool {
        let has_all = self.bits.iter().zip(&other.bits).all(|(own, other)| other & !own == 0);
        self.pieces == other.pieces && has_all
    }

    /// Adds every piece of `other`.
    pub fn add(&mut self, other: &Self) {
        other.iter().for_each(|piece| self.insert(piece));
    }

    /// Returns the numbers of the pieces in the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.pieces()).filter(|piece| self.contains(*piece))
    }

    /// Reads a set.
    ///
    /// # Errors
    /// [`DecodeError`] when bytes are missing, or bits are set behind the last piece.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const WRONG: DecodeError = DecodeError::Value("pieces");
        let mut set = Self::none_of(reader.u16()?.into()).ok_or(WRONG)?;
        let bytes = reader.take(set.pieces().div_ceil(8))?;
        set.bits[..bytes.len()].copy_from_slice(bytes);
        let is_behind = |piece: usize| set.bits[piece / 8] & bit(piece) != 0;
        match (set.pieces()..8 * bytes.len()).any(is_behind) {
            true => Err(WRONG),
            false => Ok(set),
        }
    }

    /// Writes the set.
    pub fn write(&self, writer: &mut Writer) {
        writer.u16(self.pieces).bytes(&self.bits[..self.pieces().div_ceil(8)]);
    }
}

/// The bit of a piece in its byte.
fn bit(piece: usize) -> u8 {
    0x80 >> (piece % 8)
}

/// What a payload is that does not carry all of an image: these pieces of it, one behind the other,
/// as one Zstandard frame (RFC 8878).
///
/// | bytes | field |
/// | --- | --- |
/// | 0..32 | SHA-256 of the payload |
/// | 32.. | the pieces, at least one: [`PieceSet`] |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// SHA-256 of the payload: nothing else is decompressed.
    pub payload_digest: [u8; 32],
    /// The pieces that it carries.
    pub carried: PieceSet,
}

impl Excerpt {
    /// Reads the fields.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let excerpt = Self { payload_digest: reader.array()?, carried: PieceSet::read(reader)? };
        match excerpt.carried.is_empty() {
            true => Err(DecodeError::Value("carried pieces")),
            false => Ok(excerpt),
        }
    }

    /// Writes the fields.
    pub(super) fn write(&self, writer: &mut Writer) {
        self.carried.write(writer.bytes(&self.payload_digest));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_sets() {
        for (pieces, chosen, golden) in [
            (1, &[0][..], &[0, 1, 0x80][..]),
            (10, &[0, 7, 9], &[0, 10, 0x81, 0x40]),
            (16, &[], &[0, 16, 0, 0]),
        ] {
            let mut set = PieceSet::none_of(pieces).unwrap();
            chosen.iter().for_each(|piece| set.insert(*piece));
            let mut writer = Writer::new();
            set.write(&mut writer);
            assert_eq!(writer.finish(), golden);
            assert_eq!(set.iter().collect::<Vec<_>>(), chosen);
        }
        for wrong in [&[0, 0][..], &[0, 1], &[0, 1, 0xc0], &[4, 1], &[4, 1, 0]] {
            assert!(PieceSet::read(&mut Reader::new(wrong)).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_set_comes_back_and_is_what_was_put_in(
            pieces in 1..=PIECES_MAX,
            chosen in proptest::collection::btree_set(0..PIECES_MAX, 0..50),
        ) {
            let mut set = PieceSet::none_of(pieces).unwrap();
            chosen.iter().for_each(|piece| set.insert(*piece));
            let inside: Vec<usize> = chosen.into_iter().filter(|piece| *piece < pieces).collect();
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), inside);
            let mut writer = Writer::new();
            set.write(&mut writer);
            let bytes = writer.finish();
            prop_assert_eq!(PieceSet::read(&mut Reader::new(&bytes)), Ok(set));
            for length in 0..bytes.len() {
                prop_assert!(PieceSet::read(&mut Reader::new(&bytes[..length])).is_err());
            }
            let all = PieceSet::all_of(pieces).unwrap();
            prop_assert!(all.covers(&set));
            prop_assert_eq!(set.covers(&all), set.count() == pieces);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = PieceSet::read(&mut Reader::new(&bytes));
            let _ = Excerpt::read(&mut Reader::new(&bytes));
        }
    }
}
