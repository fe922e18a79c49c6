//! ZIP archives, also behind the program that unpacks them.

use std::io::{Cursor, Read as _};

use zip::ZipArchive;

use super::WrappingError;
use super::members::{self, MEMBERS_MAX, Member};

/// The mark of each entry in the table of contents.
const ENTRY_MARK: &[u8; 4] = b"PK\x01\x02";
/// The mark of the table's end.
const END_MARK: &[u8; 4] = b"PK\x05\x06";

/// Returns whether the table of contents of an archive ends somewhere in `bytes`.
pub(super) fn has_end(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, END_MARK).is_some()
}

/// Returns name and contents of the chosen member. No path is ever used.
///
/// # Errors
/// [`WrappingError`] for an archive that cannot be read, and where no member or no single one is to
/// be chosen.
pub(super) fn unpack(
    bytes: &[u8],
    wanted: Option<&str>,
) -> Result<(String, Vec<u8>), WrappingError> {
    // Each entry takes memory, however the table of contents is found.
    let entries = memchr::memmem::find_iter(bytes, ENTRY_MARK).take(MEMBERS_MAX + 1).count();
    if entries > MEMBERS_MAX {
        return Err(WrappingError::Members { max: MEMBERS_MAX });
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(unreadable)?;
    let mut list = Vec::with_capacity(archive.len());
    for number in 0..archive.len() {
        let entry = archive.by_index_raw(number).map_err(unreadable)?;
        let size_bytes = if entry.is_dir() { 0 } else { entry.size() };
        let packed_bytes = Some(entry.compressed_size());
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        list.push(Member { name, size_bytes, packed_bytes });
    }
    let number =
        members::choose(&list, wanted, |number| read(&mut archive, number, &list[number]))?;
    let contents = read(&mut archive, number, &list[number])?;
    Ok((list[number].name.clone(), contents))
}

fn read(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    number: usize,
    member: &Member,
) -> Result<Vec<u8>, WrappingError> {
    members::check_size(member)?;
    let entry = archive.by_index(number).map_err(unreadable)?;
    let mut contents = Vec::with_capacity(member.size_bytes as usize);
    // One byte more is asked for, so that the end is seen and the CRC-32 is compared.
    entry.take(member.size_bytes + 1).read_to_end(&mut contents).map_err(|error| {
        WrappingError::Member { name: member.name.clone(), why: error.to_string() }
    })?;
    if contents.len() as u64 != member.size_bytes {
        let why = format!("expected 0x{:x} bytes, got others", member.size_bytes);
        return Err(WrappingError::Member { name: member.name.clone(), why });
    }
    Ok(contents)
}

fn unreadable(error: zip::result::ZipError) -> WrappingError {
    WrappingError::Archive { kind: "ZIP archive", why: error.to_string() }
}
