//! What a whole chip holds.

use std::io;

use super::{Access, MtdDevice, MtdError};
use crate::flash::Flash as _;

/// Why the contents of a chip are not known.
#[derive(Debug, thiserror::Error)]
pub enum ChipReadError {
    /// The chip cannot be opened.
    #[error("the flash chip {device} cannot be opened")]
    Open {
        /// Its name, or the path of its device node.
        device: String,
        /// Why.
        source: MtdError,
    },
    /// A part of the chip cannot be read.
    #[error("the flash chip {device} cannot be read at {offset_bytes:#x}")]
    Read {
        /// Its name, or the path of its device node.
        device: String,
        /// Where.
        offset_bytes: u64,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Returns what the chip holds; of NAND, what its good blocks hold.
///
/// # Errors
/// [`ChipReadError`].
pub fn read_chip(device: &str) -> Result<Vec<u8>, ChipReadError> {
    let mut flash = MtdDevice::open(device, Access::ReadOnly)
        .map_err(|source| ChipReadError::Open { device: device.to_owned(), source })?;
    let blocks: Vec<_> = flash.geometry().blocks().collect();
    let mut contents = Vec::new();
    for block in blocks {
        let offset_bytes = block.offset_bytes();
        let failed =
            |source| ChipReadError::Read { device: device.to_owned(), offset_bytes, source };
        if flash.is_bad(block).map_err(failed)? {
            continue;
        }
        let start = contents.len();
        contents.resize(start + block.length_bytes() as usize, 0);
        flash.read(offset_bytes, &mut contents[start..]).map_err(failed)?;
    }
    Ok(contents)
}
