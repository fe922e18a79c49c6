//! The firmware that was good when it was last seen: what a later look at the chip is compared
//! with.
//!
//! The record lies where the recovery environment finds it (`crate::handover::Provision`), as JSON.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::layout::{Layout, RegionKind};
use super::validity::{Evidence, Verdict, validate_contents};
use super::{ByteRanges, Contents};
use super::{Manifest, REGIONS_MAX};

/// The chip is recorded in pieces of this size, so that a difference has a place.
const PIECE_BYTES: usize = 64 * 1024;

/// Most pieces of a record.
pub const PIECES_MAX: usize = 4096;

/// Most ranges that are left out: those of a manifest, and as many that the host may not read.
const LEFT_OUT_MAX: usize = 2 * REGIONS_MAX;

/// Bytes of each piece's digest that are kept. They only say where to look; the digest of the whole
/// decides.
const PIECE_DIGEST_BYTES: usize = 4;

/// A chip's contents as they were when they were good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownGood {
    /// What people call it: the bundle's version, or the firmware's own.
    pub version: String,
    /// DMI `bios_version` of the machine then; empty when it is not known. Another one means that
    /// someone else has replaced the firmware since, and that it ran.
    pub bios_version: String,
    /// Security version of its bundle; 0 when it came from none.
    pub security_version: u64,
    /// Bytes of the chip that were recorded, from its first one on.
    pub size_bytes: u64,
    /// First byte and length of what is not recorded, sorted: what firmware changes itself, and
    /// what the host could not read.
    pub left_out: ByteRanges,
    /// The part of it that the host could not read.
    #[serde(default, skip_serializing_if = "ByteRanges::is_empty")]
    pub closed: ByteRanges,
    /// SHA-256 of the rest, in hexadecimal.
    pub digest: String,
    /// The first bytes of the SHA-256 of each 64 KiB, without what is left out, in hexadecimal.
    pub pieces: Vec<String>,
}

impl KnownGood {
    /// Records a chip that holds the manifest's image.
    pub fn of_update(contents: &Contents, manifest: &Manifest, bios_version: &str) -> Self {
        let size_bytes = manifest.image_size_bytes().min(contents.bytes().len());
        let good = Self::record(
            &contents.bytes()[..size_bytes],
            named_by(manifest),
            contents.closed().before(size_bytes as u64),
            manifest.version(),
            bios_version,
        );
        Self { security_version: manifest.security_version(), ..good }
    }

    /// Returns the record of a chip that was compared with the manifest's image. Which version the
    /// firmware shows when it runs, only the next start can tell, so this record is for the agent
    /// to be checked and completed.
    pub fn of_manifest(manifest: &Manifest) -> Self {
        Self {
            version: manifest.version().to_owned(),
            bios_version: manifest.expect_version().unwrap_or_default().to_owned(),
            security_version: manifest.security_version(),
            size_bytes: manifest.image_size_bytes() as u64,
            left_out: named_by(manifest),
            closed: ByteRanges::default(),
            digest: hex(manifest.stable_digest()),
            pieces: Vec::new(),
        }
    }

    /// Returns the same record with places, if `contents`, a whole chip, are what it says. Every
    /// byte that the record is about has to be readable for that.
    pub fn confirm(&self, contents: &Contents, bios_version: &str) -> Option<Self> {
        let closed = contents.closed().before(self.size_bytes);
        let contents = contents.bytes().get(..usize::try_from(self.size_bytes).ok()?)?;
        let left_out = self.left_out.clone();
        let found = Self::record(contents, left_out, closed, &self.version, bios_version);
        let security_version = self.security_version;
        (found.digest == self.digest).then_some(Self { security_version, ..found })
    }

    /// Records a chip as it is, without the regions that usually change and without what the host
    /// cannot read. `None` when its firmware is damaged: that is nothing to go back to.
    pub fn of_chip(contents: &Contents, bios_version: &str) -> Option<Self> {
        if let Verdict::Invalid { .. } = validate_contents(contents) {
            return None;
        }
        // A chip that is only doubtful runs, even where its regions contradict one another.
        let regions = Layout::told_regions(contents.bytes());
        let changes = |kind| {
            matches!(
                kind,
                RegionKind::VariableStore | RegionKind::Me | RegionKind::Gbe | RegionKind::Vpd
            )
        };
        let changing = regions.iter().filter(|region| changes(region.kind));
        let left_out = changing.map(|region| region.range()).collect();
        let closed = contents.closed().clone();
        Some(Self::record(contents.bytes(), left_out, closed, bios_version, bios_version))
    }

    fn record(
        contents: &[u8],
        left_out: ByteRanges,
        closed: ByteRanges,
        version: &str,
        bios_version: &str,
    ) -> Self {
        let mut good = Self {
            version: version.to_owned(),
            bios_version: bios_version.to_owned(),
            security_version: 0,
            size_bytes: contents.len() as u64,
            left_out: left_out.union(&closed),
            closed,
            digest: String::new(),
            pieces: Vec::new(),
        };
        good.digest = hex(&good.digest_of(contents));
        let pieces = contents.chunks(PIECE_BYTES).enumerate().take(PIECES_MAX);
        good.pieces = pieces.map(|(nth, piece)| good.piece_digest(nth, piece)).collect();
        good
    }

    /// Returns what `contents`, a whole chip, are by this record: `None` when it says nothing about
    /// them, because the machine's firmware was replaced by someone else since, or because too
    /// little of what was recorded can be read now.
    pub fn judge(&self, contents: &Contents, bios_version: &str) -> Option<Verdict> {
        let difference = self.compare(contents)?;
        let Some(offset_bytes) = difference else {
            return Some(Verdict::Valid {
                by: vec![Evidence::KnownGood { version: self.version.clone() }],
            });
        };
        if self.is_outdated(bios_version) {
            return None;
        }
        // Where a structure is broken, it says more than a digest.
        if let invalid @ Verdict::Invalid { .. } = validate_contents(contents) {
            return Some(invalid);
        }
        let version = match self.version.as_str() {
            "" => String::new(),
            version => format!(" (version {version})"),
        };
        let why = format!(
            "not the firmware that was recorded as good{version}; if it was replaced on purpose, \
            run: firmcastd rescue-archive --renew"
        );
        Some(Verdict::Invalid { offset_bytes, why })
    }

    /// Returns where the first difference is, if there is any; `None` when nothing can be compared.
    fn compare(&self, contents: &Contents) -> Option<Option<u64>> {
        let recorded =
            usize::try_from(self.size_bytes).ok().and_then(|size| contents.bytes().get(..size));
        let Some(recorded) = recorded else { return Some(Some(0)) };
        // Readable when they were recorded, and not any more.
        let unseen = contents.closed().before(self.size_bytes).without(&self.left_out);
        if unseen.is_empty() {
            let is_same = hex(&self.digest_of(recorded)) == self.digest;
            return Some((!is_same).then(|| self.first_difference(recorded)));
        }
        let pieces = recorded.chunks(PIECE_BYTES).zip(&self.pieces).enumerate();
        let mut seen = pieces.filter(|(nth, (piece, _))| {
            let start = (nth * PIECE_BYTES) as u64;
            !unseen.overlaps(&(start..start + piece.len() as u64))
        });
        let mut compared = false;
        let differs = seen.find(|(nth, (piece, good))| {
            compared = true;
            self.piece_digest(*nth, piece) != **good
        });
        let difference = differs.map(|(nth, _)| (nth * PIECE_BYTES) as u64);
        compared.then_some(difference)
    }

    /// Returns whether the firmware that runs calls itself otherwise than the recorded one did.
    pub fn is_outdated(&self, bios_version: &str) -> bool {
        let both_known = !self.bios_version.is_empty() && !bios_version.is_empty();
        both_known && self.bios_version != bios_version
    }

    fn digest_of(&self, contents: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        for range in self.kept(0..contents.len()) {
            hash.update(&contents[range]);
        }
        hash.finalize().into()
    }

    fn piece_digest(&self, nth: usize, piece: &[u8]) -> String {
        let start = nth * PIECE_BYTES;
        let mut hash = Sha256::new();
        for range in self.kept(start..start + piece.len()) {
            hash.update(&piece[range.start - start..range.end - start]);
        }
        hex(&hash.finalize()[..PIECE_DIGEST_BYTES])
    }

    fn first_difference(&self, contents: &[u8]) -> u64 {
        let mut pieces = contents.chunks(PIECE_BYTES).zip(&self.pieces).enumerate();
        let differs = pieces.find(|(nth, (piece, good))| self.piece_digest(*nth, piece) != **good);
        differs.map_or(0, |(nth, _)| (nth * PIECE_BYTES) as u64)
    }

    /// Returns the parts of `whole` that are recorded.
    fn kept(&self, whole: Range<usize>) -> Vec<Range<usize>> {
        let mut kept = Vec::new();
        let mut start = whole.start;
        for left_out in self.left_out.iter().take(LEFT_OUT_MAX) {
            let at =
                |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX).clamp(start, whole.end);
            let (from, to) = (at(left_out.start), at(left_out.end));
            if start < from {
                kept.push(start..from);
            }
            start = to;
        }
        if start < whole.end {
            kept.push(start..whole.end);
        }
        kept
    }
}

/// What a record is not about: it need not be readable.
pub fn left_out(good: Option<&KnownGood>) -> ByteRanges {
    good.map(|good| good.left_out.clone()).unwrap_or_default()
}

/// What a bundle names is not recorded: the firmware changes it, or it stays.
fn named_by(manifest: &Manifest) -> ByteRanges {
    let regions = manifest.regions().iter();
    regions.map(|region| region.offset_bytes..region.offset_bytes + region.length_bytes).collect()
}

/// Returns whether `contents`, a whole chip, are good firmware: by the record if it says anything,
/// else by their own structure. What the host may not read of them does not count.
pub fn assess(contents: &Contents, good: Option<&KnownGood>, bios_version: &str) -> Verdict {
    let recorded = good.and_then(|good| good.judge(contents, bios_version));
    recorded.unwrap_or_else(|| validate_contents(contents))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn contents() -> Vec<u8> {
        (0..0x30000u32).map(|n| (n >> 8) as u8 ^ n as u8).collect()
    }

    fn good() -> KnownGood {
        let left_out = ByteRanges::from(vec![(0x8000, 0x1000), (0x1ff00, 0x200)]);
        KnownGood::record(&contents(), left_out, ByteRanges::default(), "1.2", "B")
    }

    /// `bytes` of which nothing between `start` and `end` can be read.
    fn with_closed(bytes: Vec<u8>, start: u64, end: u64) -> Contents {
        let closed: ByteRanges = std::iter::once(start..end).collect();
        Contents::new(bytes, &closed, &closed).unwrap()
    }

    fn verdict(good: &KnownGood, bytes: Vec<u8>, bios_version: &str) -> Option<Verdict> {
        good.judge(&Contents::whole(bytes), bios_version)
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_found_where_it_is_unless_it_is_left_out(at in 0usize..0x30000) {
            let good = good();
            let mut contents = contents();
            contents[at] ^= 1;
            let is_left_out = (0x8000..0x9000).contains(&at) || (0x1ff00..0x20100).contains(&at);
            match verdict(&good, contents, "B").unwrap() {
                Verdict::Valid { .. } => prop_assert!(is_left_out),
                Verdict::Invalid { offset_bytes, why } => {
                    prop_assert!(!is_left_out && why.contains("1.2"));
                    prop_assert_eq!(offset_bytes, at as u64 / 0x10000 * 0x10000);
                }
                Verdict::Doubtful { .. } | Verdict::Unknown { .. } => prop_assert!(false),
            }
        }

        /// A record is as strict about what can be read as if all could be, and says nothing of the
        /// rest.
        #[test]
        fn a_closed_range_never_counts(
            start in 0u64..0x3_0000,
            length in 1u64..0x2_0000,
            at in 0usize..0x3_0000,
            was_closed in any::<bool>(),
        ) {
            let end = (start + length).min(0x3_0000);
            let closed = start..end;
            let before = match was_closed {
                true => with_closed(contents(), start, end),
                false => Contents::whole(contents()),
            };
            let left_out = ByteRanges::from(vec![(0x8000, 0x1000)]);
            let ranges = before.closed().clone();
            let good = KnownGood::record(before.bytes(), left_out, ranges, "1.2", "B");
            let mut bytes = contents();
            bytes[at] ^= 1;
            let piece = at as u64 / 0x1_0000 * 0x1_0000;
            let at_left_out = (0x8000..0x9000).contains(&at);
            let at_closed = closed.contains(&(at as u64));
            let counts = !at_left_out && !at_closed;
            let is_recorded = !(at_left_out || was_closed && at_closed);
            let left_out = ByteRanges::from(vec![(0x8000, 0x1000)]);
            let unseen = std::iter::once(closed.clone()).collect::<ByteRanges>().without(&left_out);
            let is_seen = was_closed || !unseen.overlaps(&(piece..piece + 0x1_0000));
            for now_closed in [true, false] {
                let now = match now_closed {
                    true => with_closed(bytes.clone(), start, end),
                    false => Contents::whole(bytes.clone()),
                };
                match good.judge(&now, "B") {
                    Some(Verdict::Valid { .. }) if now_closed => prop_assert!(!counts || !is_seen),
                    Some(Verdict::Invalid { offset_bytes, .. }) if now_closed => {
                        prop_assert!(counts && is_seen);
                        prop_assert_eq!(offset_bytes, piece);
                    }
                    None => prop_assert!(now_closed && !was_closed),
                    Some(found) => {
                        let is_valid = matches!(found, Verdict::Valid { .. });
                        prop_assert_eq!(is_valid, !is_recorded);
                    }
                }
            }
        }

        #[test]
        fn a_record_of_anything_is_judged_without_a_panic(
            left_out in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..6),
            size_bytes in any::<u64>(),
            length in 0usize..0x20000,
        ) {
            let odd = KnownGood { left_out: left_out.into(), size_bytes, ..good() };
            let _ = verdict(&odd, contents()[..length].to_vec(), "B");
            let _ = odd.judge(&with_closed(contents(), length as u64, 0x2_0000), "B");
        }
    }

    #[test]
    fn a_record_of_another_firmware_says_nothing_once_that_ran() {
        let changed = vec![7; 0x30000];
        let judge = |bytes: &Vec<u8>, bios_version| verdict(&good(), bytes.clone(), bios_version);
        assert!(judge(&contents(), "C").is_some(), "it is there again");
        assert_eq!(judge(&changed, "C"), None);
        assert!(matches!(judge(&changed, "B"), Some(Verdict::Invalid { .. })));
        assert!(matches!(judge(&changed, ""), Some(Verdict::Invalid { .. })));
        let good = good();
        let assess = |bytes, good: Option<&KnownGood>| assess(&Contents::whole(bytes), good, "C");
        assert!(matches!(assess(contents(), Some(&good)), Verdict::Valid { .. }));
        assert!(matches!(assess(vec![0xff; 64], None), Verdict::Invalid { .. }));
    }

    #[test]
    fn damaged_firmware_is_not_recorded() {
        assert_eq!(KnownGood::of_chip(&Contents::whole(vec![0xff; 0x10000]), "B"), None);
        let json = serde_json::to_string(&good()).unwrap();
        assert_eq!(serde_json::from_str::<KnownGood>(&json).unwrap(), good());
        assert!(!json.contains("closed"), "where nothing is closed, older programs can read it");
    }
}
