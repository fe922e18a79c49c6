//! Why an eraseblock did not take its contents.

use std::io;

/// Why an eraseblock did not take its contents.
#[derive(Debug, thiserror::Error)]
pub enum BlockFault {
    /// The erase failed.
    #[error("the erase failed")]
    Erase(#[source] io::Error),
    /// A write failed.
    #[error("the write of {length_bytes:#x} bytes at {offset_bytes:#x} failed")]
    Write {
        /// Offset on the chip.
        offset_bytes: u64,
        /// Length of the write.
        length_bytes: u64,
        /// What the device said.
        source: io::Error,
    },
    /// The block could not be read back.
    #[error("the read back failed")]
    ReadBack(#[source] io::Error),
    /// The device reported success, but holds other bytes.
    #[error("the byte at {offset_bytes:#x} reads back as {got:#04x} instead of {expected:#04x}")]
    Differs {
        /// Offset of the first byte that differs.
        offset_bytes: u64,
        /// As it was written.
        expected: u8,
        /// As it was read.
        got: u8,
    },
}
