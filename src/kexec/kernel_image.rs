//! What a kernel file says about itself.

use std::fs::File;
use std::path::Path;

use super::KexecError;
use super::head::{Headed, at};
use super::zboot;

/// Longest version text taken from a kernel image.
pub(super) const KERNEL_VERSION_LENGTH_MAX: usize = 256;

/// What a kernel file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelImage {
    /// The size of the file in bytes.
    pub size_bytes: u64,
    /// The release it was built as ("6.1.0-40-amd64"), where the format tells it.
    pub release: Option<String>,
}

impl KernelImage {
    /// Opens `path` and checks that it looks like a kernel.
    pub(super) fn open(path: &Path) -> Result<(File, Self), KexecError> {
        let unreadable = |source| KexecError::KernelFile { path: path.to_owned(), source };
        let mut start = Headed::open(path).map_err(unreadable)?;
        // The version text of an x86 kernel may lie in any of its setup sectors.
        if let Some(offset) = x86_version_offset(&start.head) {
            start.extend(offset + KERNEL_VERSION_LENGTH_MAX).map_err(unreadable)?;
        }
        let Headed { file, head, size_bytes } = start;
        match release_of_kernel(&head) {
            Ok(release) => Ok((file, Self { size_bytes, release })),
            Err(found) => Err(KexecError::KernelForm { path: path.to_owned(), found }),
        }
    }
}

/// The release in the head of a kernel file (Documentation/arch/x86/boot.rst,
/// arch/arm64/booting.rst), or what the file looks like instead.
fn release_of_kernel(head: &[u8]) -> Result<Option<String>, &'static str> {
    if at(head, 0x1fe, &[0x55, 0xaa]) && at(head, 0x202, b"HdrS") {
        return Ok(x86_version_offset(head).and_then(|offset| release_at(head, offset)));
    }
    if at(head, 0x38, b"ARM\x64") && !at(head, 4, b"zimg") {
        return Ok(None);
    }
    if let Some(found) = zboot::recognise(head) {
        return Err(found);
    }
    Err(match head {
        [] => "an empty file",
        [0x1f, 0x8b, ..] => "a gzip file (unpack it first)",
        [0x7f, b'E', b'L', b'F', ..] => "an ELF file (use the bzImage, usually /boot/vmlinuz-*)",
        [b'M', b'Z', ..] => "an EFI program without a Linux header",
        [b'0', b'7', b'0', b'7', ..] => "a cpio archive (kernel and initramfs exchanged?)",
        _ => "an unknown format",
    })
}

/// `kernel_version` of the setup header, little-endian, counted from 0x200; 0 means none.
fn x86_version_offset(head: &[u8]) -> Option<usize> {
    if !at(head, 0x202, b"HdrS") {
        return None;
    }
    let field = head.get(0x20e..0x210)?;
    match u16::from_le_bytes([field[0], field[1]]) {
        0 => None,
        offset => Some(usize::from(offset) + 0x200),
    }
}

fn release_at(head: &[u8], offset: usize) -> Option<String> {
    let text = head.get(offset..)?;
    let text = &text[..text.len().min(KERNEL_VERSION_LENGTH_MAX)];
    let end = text.iter().position(|&byte| byte == b' ' || byte == 0)?;
    let release = std::str::from_utf8(&text[..end]).ok()?;
    let is_plain = !release.is_empty() && release.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then(|| release.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::kexec::samples::{bzimage, file_of};
    use proptest::prelude::*;
    use std::io::Seek as _;

    #[test]
    fn tells_a_kernel_and_its_release_from_other_files() {
        for offset in [0x300, 0xfff, 0x3d40] {
            let kernel = file_of(&bzimage(offset, "6.1.0-40-amd64 (debian-kernel@) #1"));
            let (mut file, image) = KernelImage::open(kernel.path()).unwrap();
            assert_eq!(image.release.as_deref(), Some("6.1.0-40-amd64"));
            assert_eq!((image.size_bytes, file.stream_position().unwrap()), (0x6000, 0));
        }
        for (bytes, word) in [(&b"070701"[..], "cpio"), (b"\x7fELF\x02", "ELF"), (b"", "empty")] {
            let error = KernelImage::open(file_of(bytes).path()).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(matches!(KernelImage::open(Path::new("/")), Err(KexecError::KernelFile { .. })));
        assert!(matches!(
            KernelImage::open(Path::new("/nowhere")),
            Err(KexecError::KernelFile { .. })
        ));
    }

    proptest! {
        #[test]
        fn any_head_is_an_answer(mut head in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = release_of_kernel(&head);
            if head.len() >= 0x210 {
                head[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
                head[0x202..0x206].copy_from_slice(b"HdrS");
                prop_assert!(release_of_kernel(&head).is_ok());
            }
        }
    }
}
