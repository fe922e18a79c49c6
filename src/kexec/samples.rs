//! Files of the tests.
#![allow(clippy::unwrap_used)]

use std::io::Write;

pub(super) fn bzimage(version_offset: usize, version: &str) -> Vec<u8> {
    let mut image = vec![0; 0x6000];
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x20e..0x210].copy_from_slice(&((version_offset - 0x200) as u16).to_le_bytes());
    image[version_offset..version_offset + version.len()].copy_from_slice(version.as_bytes());
    image
}

pub(super) fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// What firmcast-mkrecovery puts before an initramfs.
pub(super) fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, contents) in files {
        let builder = cpio::newc::Builder::new(name).mode(0o100_600);
        let mut entry = builder.write(&mut archive, contents.len() as u32);
        entry.write_all(contents.as_bytes()).unwrap();
        entry.finish().unwrap();
    }
    cpio::newc::trailer(&mut archive).unwrap();
    archive
}
