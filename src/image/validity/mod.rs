//! Validity: what the bytes of a firmware image say about whether it is whole.
//!
//! This is no proof that the firmware boots, only that none of the structures found in it is
//! damaged.
//!
//! # Invalid or doubtful
//!
//! What proves damage is *invalid*: a wrong checksum or digest of programs or their headers, erased
//! blocks where programs are, compressed bytes that do not unpack to what they should, files that
//! have lost their volume. What only deviates from the specifications or from what makers do is
//! *doubtful*: firmware may live with it, and the machine that has just started from the chip does.
//!
//! Accepted, because specification or makers allow it: a file checksum of 5Ah without the attribute
//! for one, file headers that say of themselves that they are invalid, a constant for the checksum
//! of a volume of variables, a spare copy of a volume's header, a descriptor of nothing but its
//! signature. Doubtful: a file of size 0, another volume with a wrong header checksum but all else
//! right, regions that contradict one another or end behind the chip.
//!
//! # What was looked at
//!
//! *Valid* needs programs, of which every byte of half was looked at: a checksum is right, a stream
//! was unpacked to its end, a block of code is not erased. Else the verdict is *unknown*, with that
//! share. A reset vector alone proves nothing.
//! - Compressed sections are unpacked within the limits of [`unpack`], and walked like the rest.
//!   Brotli and compressed coreboot files are not.
//! - A volume of which nothing is left is not missed. Only a digest of what should be there can
//!   tell that.
//! - Variables are left out, they change all the time.
//! - What the host may not read does not count: a structure that reaches into a closed range is
//!   neither evidence nor damage.

pub(in crate::image) mod cbfs;
pub mod ffs;
mod interface_table;
pub(in crate::image) mod lost;
mod place;
mod program;
mod reset_vector;
pub(in crate::image) mod section;
pub mod unpack;
pub(in crate::image) mod volumes;

use std::fmt;

use super::layout::{DESCRIPTOR_BYTES, Descriptor, FlashMap, LayoutError, RegionKind, Told};
use super::{ByteRanges, Contents};
use place::Seen;
pub use place::Share;

/// So much of the firmware must have been looked at for it to be called valid.
const SHARE_PERCENT_MIN: u8 = 50;

/// Whether an image is whole firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that is known of its formats was found, and whole.
    Valid {
        /// What was checked.
        by: Vec<Evidence>,
    },
    /// Something contradicts what the specifications or the makers do, but nothing proves damage,
    /// and there is firmware that lives with it.
    Doubtful {
        /// Where, from the start of the image.
        offset_bytes: u64,
        /// What, for an operator.
        why: String,
    },
    /// Something is damaged.
    Invalid {
        /// Where, from the start of the image.
        offset_bytes: u64,
        /// What, for an operator.
        why: String,
    },
    /// Nothing in it can be checked.
    Unknown {
        /// Why not, for an operator.
        why: String,
    },
}

/// A structure that was found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The Intel flash descriptor, its regions apart and inside the image.
    Descriptor,
    /// The flash map, its areas inside the image.
    FlashMap,
    /// Coreboot file systems.
    CorebootFiles {
        /// How many files.
        files: usize,
        /// How many of them have a SHA-256 digest, which was checked.
        digests: usize,
    },
    /// UEFI firmware volumes, those inside files included.
    Volumes {
        /// How many volumes.
        volumes: usize,
        /// How many files are in them.
        files: usize,
        /// How many of these have a checksum of their contents, which was checked.
        checksums: usize,
    },
    /// An x86 reset vector before the end of the image.
    ResetVector,
    /// The digest of firmware that was recorded as good.
    KnownGood {
        /// Its version.
        version: String,
    },
    /// A legacy BIOS: a far jump at the reset vector, and code where it leads.
    LegacyBios,
    /// How much of the image was looked at.
    Share(Share),
}

impl Evidence {
    /// Returns whether it shows that there are whole programs, not only that places for them were
    /// found.
    fn is_of_programs(&self) -> bool {
        match self {
            // A jump proves nothing about where it leads.
            Self::Descriptor
            | Self::FlashMap
            | Self::ResetVector
            | Self::LegacyBios
            | Self::Share(_) => false,
            Self::Volumes { files, .. } | Self::CorebootFiles { files, .. } => *files > 0,
            Self::KnownGood { .. } => true,
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Descriptor => f.write_str("intel flash descriptor"),
            Self::FlashMap => f.write_str("flash map"),
            Self::CorebootFiles { files, digests } => {
                write!(f, "{files} coreboot files, {digests} of them with a digest")
            }
            Self::Volumes { volumes, files, checksums } => write!(
                f,
                "{volumes} firmware volumes with {files} files, {checksums} of them with a \
                checksum of the contents"
            ),
            Self::ResetVector => f.write_str("reset vector"),
            Self::KnownGood { version } if version.is_empty() => {
                f.write_str("digest, recorded as good")
            }
            Self::KnownGood { version } => {
                write!(f, "digest of version {version}, recorded as good")
            }
            Self::LegacyBios => f.write_str("legacy reset vector"),
            Self::Share(share) => write!(f, "{} % of it looked at", share.percent()),
        }
    }
}

impl Verdict {
    /// Returns why firmware from which a machine has started looks doubtful all the same.
    pub fn doubt(&self) -> Option<String> {
        match self {
            Self::Valid { .. } | Self::Unknown { .. } => None,
            Self::Doubtful { offset_bytes, why } | Self::Invalid { offset_bytes, why } => {
                Some(format!("at {offset_bytes:#x}: {why}"))
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid { by } => {
                f.write_str("valid: ")?;
                for (index, evidence) in by.iter().enumerate() {
                    write!(f, "{}{evidence}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::Doubtful { offset_bytes, why } => {
                write!(f, "doubtful at 0x{offset_bytes:x}: {why}")
            }
            Self::Invalid { offset_bytes, why } => {
                write!(f, "invalid at 0x{offset_bytes:x}: {why}")
            }
            Self::Unknown { why } => write!(f, "unknown: {why}"),
        }
    }
}

/// How much something says against an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    /// It deviates; firmware lives with it.
    Doubt,
    /// It proves damage.
    Broken,
}

/// Something damaged, or odd.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Damage {
    severity: Severity,
    /// Where, from the start of the image.
    offset_bytes: usize,
    /// What.
    why: String,
}

impl Damage {
    fn new(offset_bytes: usize, why: impl Into<String>) -> Self {
        Self { severity: Severity::Broken, offset_bytes, why: why.into() }
    }

    fn doubt(offset_bytes: usize, why: impl Into<String>) -> Self {
        Self { severity: Severity::Doubt, offset_bytes, why: why.into() }
    }

    /// The verdict on an image of so many bytes. What a layout points to may lie outside.
    fn verdict(self, image_bytes: usize) -> Verdict {
        let Self { severity, offset_bytes, why } = self;
        let offset_bytes = offset_bytes.min(image_bytes) as u64;
        match severity {
            Severity::Doubt => Verdict::Doubtful { offset_bytes, why },
            Severity::Broken => Verdict::Invalid { offset_bytes, why },
        }
    }
}

/// A layout has no checksum, so a contradiction in it proves nothing.
impl From<LayoutError> for Damage {
    fn from(error: LayoutError) -> Self {
        Self::doubt(error.offset_bytes() as usize, error.to_string())
    }
}

/// Checks all of `image`, a whole chip or the image for one, that is of a known format.
pub fn validate(image: &[u8]) -> Verdict {
    validate_around(image, &ByteRanges::default())
}

/// Returns the same for what the host can read of a chip.
pub fn validate_contents(contents: &Contents) -> Verdict {
    validate_around(contents.bytes(), contents.closed())
}

/// Returns the same for an image of which the `closed` ranges are not known.
pub fn validate_around(image: &[u8], closed: &ByteRanges) -> Verdict {
    validate_told(&Told::by(image), closed)
}

/// Returns the same for an image of which more is asked: what it tells is searched for once.
pub fn validate_told(told: &Told<'_>, closed: &ByteRanges) -> Verdict {
    let (mut doubts, mut seen) = (Doubts::default(), Seen::default());
    let image = told.bytes();
    match collect_evidence(told, closed, &mut doubts, &mut seen) {
        Err(damage) => damage.verdict(image.len()),
        Ok(by) => match doubts.0 {
            Some(doubt) => doubt.verdict(image.len()),
            None => weigh(by, || seen.share(image, &left_out(told, closed))),
        },
    }
}

/// Returns the verdict on an image in which nothing is wrong: whole programs, and enough of it
/// looked at. That is only asked where there are programs: it takes a pass over all bytes.
fn weigh(mut by: Vec<Evidence>, share: impl FnOnce() -> Share) -> Verdict {
    if !by.iter().any(Evidence::is_of_programs) {
        return Verdict::Unknown {
            why: "no program in it is of a known format (UEFI, coreboot) that tells whether it is \
                  whole: 0 % of it could be looked at"
                .to_owned(),
        };
    }
    let share = share();
    if share.percent() < SHARE_PERCENT_MIN {
        return Verdict::Unknown {
            why: format!(
                "only {} % of it could be looked at, 0x{:x} of 0x{:x} bytes, expected at least \
                {SHARE_PERCENT_MIN} %",
                share.percent(),
                share.seen_bytes,
                share.all_bytes
            ),
        };
    }
    by.push(Evidence::Share(share));
    Verdict::Valid { by }
}

/// Returns what is not the processor's program: closed to the host, foreign, variables, the
/// descriptor.
fn left_out(told: &Told<'_>, closed: &ByteRanges) -> ByteRanges {
    let is_no_program = |kind| {
        use RegionKind::{
            Descriptor, EmbeddedController, Gbe, Me, PlatformData, VariableStore, Vpd,
        };
        matches!(
            kind,
            Descriptor | EmbeddedController | Gbe | Me | PlatformData | VariableStore | Vpd
        )
    };
    let mut left_out = closed.union(&told.foreign().all);
    for region in told.regions() {
        if is_no_program(region.kind) {
            left_out.insert(region.range());
        }
    }
    left_out
}

/// The first thing that deviates, if any does: no reason to look no further.
#[derive(Debug, Default)]
struct Doubts(Option<Damage>);

impl Doubts {
    fn add(&mut self, doubt: Damage) {
        self.0.get_or_insert(doubt);
    }

    /// Returns what there is. What deviates is kept; what is broken ends the look.
    fn sort<T>(&mut self, found: Result<T, impl Into<Damage>>) -> Result<Option<T>, Damage> {
        match found.map_err(Into::into) {
            Ok(found) => Ok(Some(found)),
            Err(damage) if damage.severity == Severity::Doubt => {
                self.add(damage);
                Ok(None)
            }
            Err(damage) => Err(damage),
        }
    }
}

fn collect_evidence(
    told: &Told<'_>,
    closed: &ByteRanges,
    doubts: &mut Doubts,
    seen: &mut Seen,
) -> Result<Vec<Evidence>, Damage> {
    let image = told.bytes();
    check_not_blank(image, closed)?;
    let has_descriptor = !reaches_into(closed, 0..DESCRIPTOR_BYTES);
    let has_map = !is_map_cut(image, closed);
    if has_descriptor && has_map {
        doubts.sort(told.layout())?;
    }
    doubts.sort(interface_table::check(image, closed))?;
    let mut by = Vec::new();
    let descriptor = match has_descriptor {
        true => doubts.sort(told.descriptor())?.flatten(),
        false => None,
    };
    doubts.sort(check_limits(descriptor, image.len() as u64))?;
    if descriptor.is_none()
        && has_descriptor
        && let Some(doubt) = lost::descriptor_doubt(image)
    {
        doubts.add(doubt);
    }
    by.extend(descriptor.map(|_| Evidence::Descriptor));
    let map = if has_map { doubts.sort(told.map())?.flatten() } else { None };
    by.extend(map.map(|_| Evidence::FlashMap));
    let file_systems = map.map(|map| cbfs::areas(map, image.len()));
    let file_systems = file_systems.unwrap_or_default();
    let coreboot = cbfs::check(image, &file_systems, closed, seen)?;
    by.extend(coreboot.evidence());
    let found = volumes::check(told, &file_systems, closed, doubts, seen)?;
    by.extend(found.evidence());
    let needs_reset_vector = coreboot.ends_with_boot_block
        || found.needs_reset_vector(image)
        || descriptor.is_some_and(|descriptor| descriptor.needs_reset_vector(image.len() as u64));
    by.extend(reset_vector::check(image, closed, needs_reset_vector, by.is_empty())?);
    Ok(by)
}

/// Some boards have a limit behind the chip's end; but so has an image of which the end is missing.
fn check_limits(descriptor: Option<&Descriptor>, image_bytes: u64) -> Result<(), Damage> {
    let mut regions = descriptor.into_iter().flat_map(Descriptor::regions);
    match regions.find(|region| region.range().end > image_bytes) {
        None => Ok(()),
        Some(region) => Err(Damage::doubt(
            region.offset_bytes as usize,
            format!("region {region} ends behind the 0x{image_bytes:x} bytes of the image"),
        )),
    }
}

/// Erased flash, or one that does not answer. One that is closed as a whole says nothing.
fn check_not_blank(image: &[u8], closed: &ByteRanges) -> Result<(), Damage> {
    if image.is_empty() {
        return Err(Damage::new(0, "the image has 0 bytes, expected firmware"));
    }
    let all: ByteRanges = std::iter::once(0..image.len() as u64).collect();
    let open = all.without(closed);
    let open = || open.iter().map(|range| &image[range.start as usize..range.end as usize]);
    let Some(&first) = open().next().and_then(<[u8]>::first) else { return Ok(()) };
    if matches!(first, 0x00 | 0xff) && open().flatten().all(|&byte| byte == first) {
        return Err(Damage::new(0, format!("every byte is 0x{first:02x}, expected firmware")));
    }
    Ok(())
}

/// Returns whether a flash map may reach into what is closed.
fn is_map_cut(image: &[u8], closed: &ByteRanges) -> bool {
    !closed.is_empty() && FlashMap::places(image).any(|place| reaches_into(closed, place))
}

/// Returns whether any of these bytes of the image is closed to the host.
fn reaches_into(closed: &ByteRanges, range: std::ops::Range<usize>) -> bool {
    closed.overlaps(&(range.start as u64..range.end as u64))
}

#[cfg(test)]
mod tests;
