//! Choosing the image among the members of an archive.

use firmcast::image::{FirmwareFormat, IMAGE_MAX};

use super::capsule::Capsule;
use super::{WrappingError, chip, foreign, is_archive};

/// Most members of an archive.
pub(super) const MEMBERS_MAX: usize = 4096;
/// Most bytes that are unpacked to find out which member is the image.
const LOOKED_AT_MAX: u64 = 1 << 30;
/// How many times as large as in the archive a member may be.
const RATIO_MAX: u64 = 1000;
/// Most names in a message.
const NAMES_MAX: usize = 16;

/// A file in an archive, as the archive lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) size_bytes: u64,
    /// What it takes in the archive, if that is known.
    pub(super) packed_bytes: Option<u64>,
}

/// How much a member is like what is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    None,
    /// Something that may hold an image, or is of a chip's size.
    Perhaps,
    /// Firmware, or a capsule.
    Image,
}

/// Returns the number of the member that the operator named, or of the only one that is an image.
///
/// # Errors
/// [`WrappingError`] where none or several are, with their names; and whatever `read` returns.
pub(super) fn choose(
    members: &[Member],
    wanted: Option<&str>,
    read: impl FnMut(usize) -> Result<Vec<u8>, WrappingError>,
) -> Result<usize, WrappingError> {
    let candidates = match wanted {
        Some(name) => named(members, name),
        None => most_alike(members, read)?,
    };
    match (&candidates[..], wanted) {
        ([one], _) => check_size(&members[*one]).map(|()| *one),
        ([], Some(name)) => Err(WrappingError::NoSuchMember {
            name: name.to_owned(),
            all: names(members, 0..members.len()),
        }),
        ([], None) => Err(WrappingError::NoMember { all: names(members, 0..members.len()) }),
        (several, _) => {
            Err(WrappingError::SeveralMembers { all: names(members, several.iter().copied()) })
        }
    }
}

/// Fails for a member that is larger than any image, or than what it could be packed into.
pub(super) fn check_size(member: &Member) -> Result<(), WrappingError> {
    let Member { name, size_bytes, packed_bytes } = member;
    let packed_max = packed_bytes.map(|packed| packed.saturating_mul(RATIO_MAX));
    let max_bytes = packed_max.unwrap_or(u64::MAX).min(IMAGE_MAX as u64);
    if *size_bytes > max_bytes {
        let name = name.clone();
        return Err(WrappingError::MemberSize { name, size_bytes: *size_bytes, max_bytes });
    }
    Ok(())
}

/// Members of this name, or whose path ends with it.
fn named(members: &[Member], name: &str) -> Vec<usize> {
    let all = || (0..members.len()).zip(members);
    let exact: Vec<usize> =
        all().filter(|(_, member)| member.name == name).map(|(number, _)| number).collect();
    if !exact.is_empty() {
        return exact;
    }
    all().filter(|(_, member)| last_part(&member.name) == name).map(|(number, _)| number).collect()
}

/// Returns the name without folders, of either kind of slash.
pub(super) fn last_part(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

fn most_alike(
    members: &[Member],
    mut read: impl FnMut(usize) -> Result<Vec<u8>, WrappingError>,
) -> Result<Vec<usize>, WrappingError> {
    let (mut best, mut found, mut looked_at) = (Likeness::Perhaps, Vec::new(), 0u64);
    for (number, member) in members.iter().enumerate() {
        if member.size_bytes == 0 || check_size(member).is_err() {
            continue;
        }
        looked_at = looked_at.saturating_add(member.size_bytes);
        if looked_at > LOOKED_AT_MAX {
            return Err(WrappingError::TooMuch { max_bytes: LOOKED_AT_MAX });
        }
        let likeness = likeness(&read(number)?);
        if likeness > best {
            (best, found) = (likeness, vec![number]);
        } else if likeness == best {
            found.push(number);
        }
    }
    Ok(found)
}

fn likeness(bytes: &[u8]) -> Likeness {
    if foreign::sentence(bytes).is_some() {
        return Likeness::None;
    }
    if is_archive(bytes) || foreign::program(bytes).is_some() {
        return Likeness::Perhaps;
    }
    let is_capsule = !matches!(Capsule::find(bytes), Ok(None));
    if is_capsule || chip::looks_whole(bytes) || FirmwareFormat::recognise(bytes).is_some() {
        return Likeness::Image;
    }
    if chip::is_chip_size(bytes.len()) { Likeness::Perhaps } else { Likeness::None }
}

/// Returns the names as an operator can type them, and how many more there are.
fn names(members: &[Member], numbers: impl ExactSizeIterator<Item = usize>) -> String {
    let more = numbers.len().saturating_sub(NAMES_MAX);
    let shown: Vec<String> =
        numbers.take(NAMES_MAX).map(|number| format!("{:?}", members[number].name)).collect();
    match (shown.is_empty(), more) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}
