//! Cabinets of LVFS: metainfo, payload, and a signature beside it.

use std::io::{Cursor, Read as _};

use cab::Cabinet;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::WrappingError;
use super::cabinet_tables::{self, SIGNATURE};
use super::members::{self, Member, last_part};
use super::metainfo::{METAINFO_BYTES_MAX, Metainfo, Release};

/// The payload's name where the metainfo does not tell.
const PAYLOAD: &str = "firmware.bin";
const METAINFO: &str = ".metainfo.xml";
const DETACHED_SIGNATURE: &str = ".jcat";

/// Most cabinets in a program that are looked into.
const INSIDE_MAX: usize = 4;

/// What was taken out of a cabinet.
pub(super) struct Unpacked {
    pub(super) name: String,
    pub(super) contents: Vec<u8>,
    /// What the maker says of it, with the release that it is of.
    pub(super) metainfo: Option<Metainfo>,
    /// What was compared, and what was not.
    pub(super) notes: Vec<String>,
}

/// Returns whether a cabinet begins here.
pub(super) fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(SIGNATURE)
}

/// Returns where cabinets begin inside a program, the first [`INSIDE_MAX`] of them.
pub(super) fn inside(bytes: &[u8]) -> impl Iterator<Item = usize> {
    memchr::memmem::find_iter(bytes, SIGNATURE)
        .filter(|start| cabinet_tables::begins(&bytes[*start..]))
        .take(INSIDE_MAX)
}

/// Unpacks the payload that the metainfo names, or that the operator did.
///
/// # Errors
/// [`WrappingError`] for a cabinet or metainfo that cannot be read, a payload that is missing or
/// differs from its digest, and where several could be meant.
pub(super) fn unpack(bytes: &[u8], wanted: Option<&str>) -> Result<Unpacked, WrappingError> {
    cabinet_tables::check(bytes)?;
    let mut cabinet = Cabinet::new(Cursor::new(bytes)).map_err(|error| unreadable(&error))?;
    let files = cabinet.folder_entries().flat_map(|folder| folder.file_entries());
    let list: Vec<Member> = files
        .map(|file| Member {
            name: file.name().to_owned(),
            size_bytes: file.uncompressed_size().into(),
            packed_bytes: None,
        })
        .collect();
    let metainfos = read_metainfos(&mut cabinet, &list)?;
    let mut payloads = payloads(metainfos, &list);
    let number = match wanted {
        None if !payloads.is_empty() => one_payload(&payloads, &list)?,
        _ => members::choose(&list, wanted, |number| read(&mut cabinet, &list[number]))?,
    };
    let contents = read(&mut cabinet, &list[number])?;
    let place = payloads.iter().position(|payload| payload.number == number);
    let metainfo = place.map(|place| payloads.swap_remove(place).metainfo);
    let release = metainfo.as_ref().and_then(|metainfo| metainfo.releases.first());
    let mut notes = release.map_or(Ok(Vec::new()), |release| compare(release, &contents))?;
    if let Some(signature) = list.iter().find(|file| file.name.ends_with(DETACHED_SIGNATURE)) {
        notes.push(format!("the signature in {:?} is not checked", signature.name));
    }
    Ok(Unpacked { name: list[number].name.clone(), contents, metainfo, notes })
}

/// A member that a release of a metainfo names.
struct Payload {
    number: usize,
    /// With this release alone.
    metainfo: Metainfo,
}

fn read_metainfos(
    cabinet: &mut Cabinet<Cursor<&[u8]>>,
    list: &[Member],
) -> Result<Vec<Metainfo>, WrappingError> {
    let files = list.iter().filter(|file| file.name.ends_with(METAINFO));
    files
        .map(|file| {
            if file.size_bytes > METAINFO_BYTES_MAX as u64 {
                let Member { name, size_bytes, .. } = file.clone();
                let max_bytes = METAINFO_BYTES_MAX as u64;
                return Err(WrappingError::MemberSize { name, size_bytes, max_bytes });
            }
            let text = String::from_utf8(read(cabinet, file)?)
                .map_err(|error| bad_member(&file.name, &error))?;
            Metainfo::parse(&text).map_err(|error| bad_member(&file.name, &error))
        })
        .collect()
}

/// Returns the members that releases name. Of several releases with one payload the first counts:
/// the newest one.
fn payloads(metainfos: Vec<Metainfo>, list: &[Member]) -> Vec<Payload> {
    let mut found: Vec<Payload> = Vec::new();
    for metainfo in metainfos {
        for release in &metainfo.releases {
            let name = release.payload.as_deref().unwrap_or(PAYLOAD);
            let is_it = |file: &Member| last_part(&file.name) == last_part(name);
            let numbers = (0..list.len()).filter(|number| is_it(&list[*number]));
            for number in numbers {
                if found.iter().all(|payload| payload.number != number) {
                    let releases = vec![release.clone()];
                    found.push(Payload {
                        number,
                        metainfo: Metainfo { releases, ..metainfo.clone() },
                    });
                }
            }
        }
    }
    found
}

fn one_payload(payloads: &[Payload], list: &[Member]) -> Result<usize, WrappingError> {
    if let [one] = payloads {
        return Ok(one.number);
    }
    let named: Vec<String> =
        payloads.iter().map(|payload| format!("{:?}", list[payload.number].name)).collect();
    Err(WrappingError::SeveralMembers { all: named.join(", ") })
}

fn read(cabinet: &mut Cabinet<Cursor<&[u8]>>, file: &Member) -> Result<Vec<u8>, WrappingError> {
    members::check_size(file)?;
    let reader = cabinet.read_file(&file.name).map_err(|error| bad_member(&file.name, &error))?;
    let mut contents = Vec::with_capacity(file.size_bytes as usize);
    reader
        .take(file.size_bytes)
        .read_to_end(&mut contents)
        .map_err(|error| bad_member(&file.name, &error))?;
    if contents.len() as u64 != file.size_bytes {
        let why = format!("it has 0x{:x} bytes, expected 0x{:x}", contents.len(), file.size_bytes);
        return Err(bad_member(&file.name, &why));
    }
    Ok(contents)
}

/// Compares the digests that the metainfo has, and says so.
fn compare(release: &Release, contents: &[u8]) -> Result<Vec<String>, WrappingError> {
    let mut notes = Vec::new();
    for expected in &release.digests {
        let (name, got) = match expected.len() {
            40 => ("SHA-1", hex(&Sha1::digest(contents))),
            64 => ("SHA-256", hex(&Sha256::digest(contents))),
            _ => continue,
        };
        if !expected.eq_ignore_ascii_case(&got) {
            return Err(WrappingError::Digest { name, got, expected: expected.clone() });
        }
        notes.push(format!("its {name} is that of the metainfo"));
    }
    Ok(notes)
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unreadable(error: &std::io::Error) -> WrappingError {
    WrappingError::Archive { kind: "cabinet", why: error.to_string() }
}

fn bad_member(name: &str, why: &impl ToString) -> WrappingError {
    WrappingError::Member { name: name.to_owned(), why: why.to_string() }
}
