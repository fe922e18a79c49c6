//! Which versions of the messages a side understands (docs/PROTOCOL.md, section "Versions").

use std::fmt;

use super::codec::{DecodeError, Reader, Writer};

/// From this version on messages grow: whatever follows the last known field is ignored.
pub const GROWTH: u8 = 3;

/// From this version on a payload may be an excerpt of an image: the host takes the other pieces
/// from its own chip.
pub const EXCERPTS: u8 = 4;

/// The versions that a side understands, from the oldest to its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub lowest: u8,
    /// The newest.
    pub highest: u8,
}

impl Versions {
    /// Those of this program.
    pub const OURS: Self = Self { lowest: 2, highest: EXCERPTS };

    /// Those of a side that says nothing of versions.
    pub const UNSAID: Self = Self { lowest: 2, highest: 2 };

    /// Returns the version that two sides speak: the newest that both understand.
    pub fn common(self, other: Self) -> Option<u8> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest.max(other.lowest)).then_some(highest)
    }

    /// Reads two bytes.
    ///
    /// # Errors
    /// [`DecodeError`] when they are not there or are no range.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (lowest, highest) = (reader.u8()?, reader.u8()?);
        match lowest <= highest {
            true => Ok(Self { lowest, highest }),
            false => Err(DecodeError::Value("versions")),
        }
    }

    /// Writes two bytes.
    pub fn write(self, writer: &mut Writer) -> &mut Writer {
        writer.u8(self.lowest).u8(self.highest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lowest == self.highest {
            true => write!(f, "protocol {}", self.lowest),
            false => write!(f, "protocols {} to {}", self.lowest, self.highest),
        }
    }
}

/// Two sides without a version in common. Shown, it says which one to update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What this side speaks.
    pub ours: Versions,
    /// What the other side speaks.
    pub theirs: Versions,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ours, theirs } = self;
        let older = if theirs.highest < ours.lowest { "the other side" } else { "this side" };
        write!(f, "it speaks {theirs}, this side {ours}: update firmcast on {older} first")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_that_both_understand_is_spoken() {
        let versions = |lowest, highest| Versions { lowest, highest };
        for (one, other, common) in [
            (versions(2, 3), versions(2, 2), Some(2)),
            (versions(2, 3), versions(3, 7), Some(3)),
            (versions(2, 9), versions(4, 5), Some(5)),
            (versions(2, 3), versions(4, 5), None),
        ] {
            assert_eq!(one.common(other), common);
            assert_eq!(other.common(one), common);
        }
        assert!(Versions::OURS.common(Versions::UNSAID).is_some());
        let newer = Mismatch { ours: versions(2, 3), theirs: versions(4, 5) };
        assert!(newer.to_string().ends_with("update firmcast on this side first"), "{newer}");
        let older = Mismatch { ours: versions(4, 5), theirs: versions(2, 3) };
        assert!(older.to_string().ends_with("on the other side first"), "{older}");
        assert!(Versions::read(&mut Reader::new(&[3, 2])).is_err());
    }
}
