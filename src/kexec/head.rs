//! The beginning of a file, which tells what the file is.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

/// Bytes of a file that are enough to tell what it is; x86's setup header lies within.
pub(super) const HEAD_SIZE: usize = 0x1000;

/// A file and its beginning.
pub(super) struct Headed {
    /// The file, at its start.
    pub(super) file: File,
    /// Its first bytes, [`HEAD_SIZE`] of them where it has so many.
    pub(super) head: Vec<u8>,
    pub(super) size_bytes: u64,
}

impl Headed {
    /// Opens the regular file at `path`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut headed = Self { file, head: Vec::new(), size_bytes: metadata.len() };
        headed.extend(HEAD_SIZE)?;
        Ok(headed)
    }

    /// Reads on until the head has `size` bytes, or all of the file.
    pub(super) fn extend(&mut self, size: usize) -> io::Result<()> {
        if size > self.head.len() {
            self.head.clear();
            Read::by_ref(&mut self.file).take(size as u64).read_to_end(&mut self.head)?;
            self.file.rewind()?;
        }
        Ok(())
    }
}

/// Whether `expected` stands at `offset`.
pub(super) fn at(bytes: &[u8], offset: usize, expected: &[u8]) -> bool {
    bytes.get(offset..offset + expected.len()) == Some(expected)
}
