//! The second cpio archive, which brings the handoff into the recovery initramfs.
//!
//! The kernel unpacks any number of archives that stand one after the other, compressed or not,
//! when each begins at a multiple of four bytes
//! (Documentation/driver-api/early-userspace/buffer-format.rst). So the distribution's initramfs is
//! left as it is, and nothing is written to a disk: the joined archives live in a memfd.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use cpio::newc::{Builder, ModeFileType, trailer};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::KexecError;
use crate::handover::{HANDOFF_PATH, Handoff};

/// Largest recovery initramfs, in bytes. It and the image have to fit into RAM together.
pub const INITRAMFS_SIZE_MAX: u64 = 1 << 30;

/// What the kernel's unpacker wants each archive to begin at a multiple of.
const ARCHIVE_ALIGNMENT: u64 = 4;

/// The recovery initramfs followed by the archive with the handoff, as a file in memory.
///
/// # Errors
/// [`KexecError::InitramfsSize`], [`KexecError::Initramfs`] when it cannot be read or copied, and
/// those of [`Handoff::to_json`].
pub(super) fn join(initramfs: &mut File, handoff: &Handoff) -> Result<File, KexecError> {
    let json = handoff.to_json()?;
    let mut copy = || -> io::Result<(File, u64)> {
        let mut joined = File::from(memory_file()?);
        let length = io::copy(&mut initramfs.take(INITRAMFS_SIZE_MAX + 1), &mut joined)?;
        Ok((joined, length))
    };
    let (mut joined, length) = copy().map_err(KexecError::Initramfs)?;
    if length == 0 || length > INITRAMFS_SIZE_MAX {
        return Err(KexecError::InitramfsSize { size: length, limit: INITRAMFS_SIZE_MAX });
    }
    let padding = length.next_multiple_of(ARCHIVE_ALIGNMENT) - length;
    joined
        .write_all(&[0; ARCHIVE_ALIGNMENT as usize][..padding as usize])
        .and_then(|()| write_archive(&mut joined, HANDOFF_PATH, &json))
        .map_err(KexecError::Initramfs)?;
    Ok(joined)
}

fn memory_file() -> io::Result<OwnedFd> {
    Ok(memfd_create(c"firmcast-initramfs", MFdFlags::MFD_CLOEXEC)?)
}

/// An archive with one file in one directory; both belong to root, and nobody else may read them.
///
/// # Errors
/// Those of `out`.
pub fn write_archive<W: Write>(mut out: W, path: &str, contents: &[u8]) -> io::Result<()> {
    let path = path.trim_start_matches('/');
    let directory = path.split('/').next().unwrap_or(path);
    Builder::new(directory)
        .ino(1)
        .mode(0o700)
        .set_mode_file_type(ModeFileType::Directory)
        .nlink(2)
        .write(&mut out, 0)
        .finish()?;
    // Handoff and provision have passed their limits, far below this.
    let mut file = Builder::new(path)
        .ino(2)
        .mode(0o600)
        .set_mode_file_type(ModeFileType::Regular)
        .write(&mut out, contents.len() as u32);
    file.write_all(contents)?;
    file.finish()?;
    trailer(&mut out)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::handover::handoff_example as example;
    use cpio::newc::Reader;
    use std::io::{Seek, SeekFrom};

    #[test]
    fn the_second_archive_is_aligned_private_and_whole() {
        for length in [1usize, 2, 3, 4, 4097] {
            let mut first = tempfile::tempfile().unwrap();
            first.write_all(&vec![0x5a; length]).unwrap();
            first.rewind().unwrap();
            let mut joined = join(&mut first, &example()).unwrap();

            joined.seek(SeekFrom::Start(length.next_multiple_of(4) as u64)).unwrap();
            let entry = Reader::new(joined).unwrap();
            assert_eq!((entry.entry().name(), entry.entry().mode()), ("firmcast", 0o040_700));
            let mut entry = Reader::new(entry.finish().unwrap()).unwrap();
            assert_eq!(entry.entry().name(), "firmcast/handoff.json");
            assert_eq!(
                (entry.entry().mode(), entry.entry().uid(), entry.entry().gid()),
                (0o100_600, 0, 0)
            );
            let mut json = Vec::new();
            entry.read_to_end(&mut json).unwrap();
            assert_eq!(Handoff::from_json(&json).unwrap(), example());
            assert!(Reader::new(entry.finish().unwrap()).unwrap().entry().is_trailer());
        }
    }

    #[test]
    fn refuses_an_empty_initramfs() {
        let mut empty = tempfile::tempfile().unwrap();
        assert!(matches!(
            join(&mut empty, &example()),
            Err(KexecError::InitramfsSize { size: 0, .. })
        ));
    }
}
