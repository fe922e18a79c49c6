//! What an initramfs file says about itself.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use super::formats::Formats;
use super::head::{HEAD_SIZE, Headed};
use super::kernel_image::KERNEL_VERSION_LENGTH_MAX;
use super::modules::{MODULE_LIST_SIZE_MAX, ModuleList};
use super::{INITRAMFS_SIZE_MAX, KexecError};

/// cpio (newc, newc with checksum) and the compressions of the kernel's lib/decompress.c.
const INITRAMFS_MAGICS: &[&[u8]] = &[
    b"070701",
    b"070702",
    &[0x1f, 0x8b],
    &[0xfd, b'7', b'z', b'X', b'Z', 0],
    &[0x28, 0xb5, 0x2f, 0xfd],
    &[0x02, 0x21, 0x4c, 0x18],
    &[0x5d, 0, 0],
    &[0x89, b'L', b'Z', b'O'],
    b"BZh",
];

/// Names of the files in the first archive of an initramfs that firmcast-mkrecovery has made. The
/// one with the release comes first.
pub(super) const RELEASE_FILE: &str = "firmcast-kernel-release";
pub(super) const FORMATS_FILE: &str = "firmcast-formats";
pub(super) const MODULES_FILE: &str = "firmcast-modules";

/// What an initramfs file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitramfsImage {
    /// The size of the file in bytes.
    pub size_bytes: u64,
    /// The release of the kernel that its modules are for; firmcast-mkrecovery writes it.
    pub release: Option<String>,
    /// What its firmcastd understands; firmcast-mkrecovery writes it. Images that it has not made
    /// do not tell.
    pub formats: Option<Formats>,
    /// Its modules; firmcast-mkrecovery writes the list.
    pub modules: Option<ModuleList>,
}

impl InitramfsImage {
    /// Opens `path` and checks that it looks like an initramfs.
    pub(super) fn open(path: &Path) -> Result<(File, Self), KexecError> {
        let unreadable = |source| KexecError::InitramfsFile { path: path.to_owned(), source };
        let Headed { mut file, head, size_bytes } = Headed::open(path).map_err(unreadable)?;
        if size_bytes == 0 || size_bytes > INITRAMFS_SIZE_MAX {
            return Err(KexecError::InitramfsSize { size: size_bytes, limit: INITRAMFS_SIZE_MAX });
        }
        if !INITRAMFS_MAGICS.iter().any(|magic| head.starts_with(magic)) {
            return Err(KexecError::InitramfsForm { path: path.to_owned() });
        }
        let Marks { release, formats, modules } = Marks::read(&mut file);
        file.rewind().map_err(unreadable)?;
        let formats = formats.or(release.as_ref().map(|_| Formats::UNTOLD));
        Ok((file, Self { size_bytes, release, formats, modules }))
    }
}

/// What firmcast-mkrecovery has written about an initramfs.
#[derive(Debug, Default)]
struct Marks {
    release: Option<String>,
    formats: Option<Formats>,
    modules: Option<ModuleList>,
}

impl Marks {
    /// Reads the first archive of an initramfs, as far as it is one of these.
    fn read(initramfs: impl Read) -> Self {
        let mut marks = Self::default();
        let limit = MODULE_LIST_SIZE_MAX + HEAD_SIZE as u64;
        let Ok(mut first) = cpio::newc::Reader::new(initramfs.take(limit)) else { return marks };
        if first.entry().name() != RELEASE_FILE {
            return marks;
        }
        marks.release = text(&mut first, KERNEL_VERSION_LENGTH_MAX as u64)
            .map(|release| release.trim().to_owned());
        let mut next = first.finish().and_then(cpio::newc::Reader::new);
        if let Ok(mut formats) = next {
            if formats.entry().name() == FORMATS_FILE {
                marks.formats =
                    text(&mut formats, HEAD_SIZE as u64).and_then(|text| Formats::parse(&text));
                next = formats.finish().and_then(cpio::newc::Reader::new);
            } else {
                next = Ok(formats);
            }
        }
        if let Ok(mut next) = next
            && next.entry().name() == MODULES_FILE
        {
            marks.modules = text(&mut next, MODULE_LIST_SIZE_MAX).map(ModuleList::new);
        }
        marks
    }
}

/// The whole of a short file.
fn text(entry: &mut cpio::newc::Reader<impl Read>, size_max: u64) -> Option<String> {
    let size = u64::from(entry.entry().file_size());
    let mut text = String::new();
    let is_whole = size <= size_max && entry.read_to_string(&mut text).ok()? as u64 == size;
    is_whole.then_some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::kexec::samples::{archive, file_of};
    use proptest::prelude::*;

    #[test]
    fn tells_an_initramfs_from_other_files() {
        let size = |bytes| InitramfsImage::open(file_of(bytes).path()).unwrap().1.size_bytes;
        assert_eq!(size(b"070701rest"), 10);
        assert_eq!(size(&[0x28, 0xb5, 0x2f, 0xfd, 1]), 5);
        assert!(matches!(
            InitramfsImage::open(file_of(b"hello").path()),
            Err(KexecError::InitramfsForm { .. })
        ));
        assert!(matches!(
            InitramfsImage::open(file_of(b"").path()),
            Err(KexecError::InitramfsSize { .. })
        ));
    }

    #[test]
    fn the_list_of_modules_is_read_from_the_first_archive_alone() {
        let list = "e1000e: ptp\n".repeat(1000);
        let marked = archive(&[(RELEASE_FILE, "6.1\n"), (MODULES_FILE, &list)]);
        let image = |bytes: &[u8]| InitramfsImage::open(file_of(bytes).path()).unwrap();
        let (mut file, found) = image(&marked);
        assert_eq!(found.release.as_deref(), Some("6.1"));
        assert!(found.modules.unwrap().find("e1000e").is_some());
        assert_eq!(file.stream_position().unwrap(), 0);

        let older = image(&archive(&[(RELEASE_FILE, "6.1\n"), ("usr", "")])).1;
        assert_eq!((older.release.as_deref(), older.modules), (Some("6.1"), None));
        let foreign = image(&archive(&[(MODULES_FILE, &list)])).1;
        assert_eq!((foreign.release, foreign.modules), (None, None));
        for end in 0..marked.len().min(500) {
            assert_eq!(Marks::read(&marked[..end]).modules, None);
        }
        let cut = Marks::read(&marked[..marked.len() / 2]);
        assert_eq!((cut.release.as_deref(), cut.modules), (Some("6.1"), None));
        let huge = "x".repeat(MODULE_LIST_SIZE_MAX as usize + 1);
        let too_long = Marks::read(&archive(&[(RELEASE_FILE, "6.1\n"), (MODULES_FILE, &huge)])[..]);
        assert_eq!(too_long.modules, None);
    }

    proptest! {
        #[test]
        fn any_beginning_is_an_answer(head in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = Marks::read(&head[..]);
        }
    }
}
