//! All that a chip holds.

use super::{Access, Chip, MtdError};
use crate::flash::{ContentsError, read_contents};
use crate::image::{ByteRanges, Contents};

/// Why the contents of a chip could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ChipReadError {
    /// It could not be opened.
    #[error("the flash chip {device} cannot be opened")]
    Open {
        /// Its name.
        device: String,
        /// Why.
        source: MtdError,
    },
    /// It could not be read.
    #[error("the flash chip {device} cannot be read")]
    Read {
        /// Its name.
        device: String,
        /// Where, and why.
        source: ContentsError,
    },
}

/// Returns what the host can read of the chip; of NAND, what its good blocks hold. `untouched`
/// bytes need not be readable ([`Contents::new`]).
///
/// # Errors
/// [`ChipReadError`].
pub fn read_chip(device: &str, untouched: &ByteRanges) -> Result<Contents, ChipReadError> {
    let mut flash = Chip::open(device, Access::ReadOnly)
        .map_err(|source| ChipReadError::Open { device: device.to_owned(), source })?;
    read_contents(&mut flash, untouched)
        .map_err(|source| ChipReadError::Read { device: device.to_owned(), source })
}
