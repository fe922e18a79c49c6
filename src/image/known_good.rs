//! The firmware that was good when it was last seen: what a later look at the chip is compared with.
//!
//! The record lies where the recovery environment finds it (`crate::handover::Provision`), as JSON.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::layout::{Layout, RegionKind};
use super::validity::{Evidence, Verdict, validate};
use super::{Manifest, REGIONS_MAX};

/// The chip is recorded in pieces of this size, so that a difference has a place.
const PIECE_BYTES: usize = 64 * 1024;

/// Most pieces of a record.
pub const PIECES_MAX: usize = 4096;

/// Bytes of each piece's digest that are kept. They only say where to look; the digest of the whole decides.
const PIECE_DIGEST_BYTES: usize = 4;

/// A chip's contents as they were when they were good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownGood {
    /// What people call it: the bundle's version, or the firmware's own.
    pub version: String,
    /// DMI `bios_version` of the machine then; empty when it is not known. Another one means that someone else has replaced the firmware since, and
    /// that it ran.
    pub bios_version: String,
    /// Security version of its bundle; 0 when it came from none.
    pub security_version: u64,
    /// Bytes of the chip that were recorded, from its first one on.
    pub size_bytes: u64,
    /// First byte and length of what firmware changes itself, sorted: not recorded.
    pub left_out: Vec<(u64, u64)>,
    /// SHA-256 of the rest, in hexadecimal.
    pub digest: String,
    /// The first bytes of the SHA-256 of each 64 KiB, without what is left out, in hexadecimal.
    pub pieces: Vec<String>,
}

impl KnownGood {
    /// Records a chip that holds the manifest's image.
    pub fn of_update(contents: &[u8], manifest: &Manifest, bios_version: &str) -> Self {
        let regions = manifest.regions().iter();
        let left_out = regions.map(|region| (region.offset_bytes, region.length_bytes)).collect();
        let size_bytes = manifest.image_size_bytes().min(contents.len());
        let good =
            Self::record(&contents[..size_bytes], left_out, manifest.version(), bios_version);
        Self { security_version: manifest.security_version(), ..good }
    }

    /// The record of a chip that was compared with the manifest's image. Which version the firmware shows when it runs, only the next
    /// start can tell, so this record is for the agent to be checked and completed.
    pub fn of_manifest(manifest: &Manifest) -> Self {
        let regions = manifest.regions().iter();
        Self {
            version: manifest.version().to_owned(),
            bios_version: manifest.expect_version().unwrap_or_default().to_owned(),
            security_version: manifest.security_version(),
            size_bytes: manifest.image_size_bytes() as u64,
            left_out: regions.map(|region| (region.offset_bytes, region.length_bytes)).collect(),
            digest: hex(manifest.stable_digest()),
            pieces: Vec::new(),
        }
    }

    /// The same record with places, if `contents`, a whole chip, are what it says.
    pub fn confirm(&self, contents: &[u8], bios_version: &str) -> Option<Self> {
        let contents = contents.get(..usize::try_from(self.size_bytes).ok()?)?;
        let found = Self::record(contents, self.left_out.clone(), &self.version, bios_version);
        let security_version = self.security_version;
        (found.digest == self.digest).then_some(Self { security_version, ..found })
    }

    /// Records a chip as it is, without the regions that usually change. `None` when its firmware is damaged: that is nothing to
    /// go back to.
    pub fn of_chip(contents: &[u8], bios_version: &str) -> Option<Self> {
        let layout = match validate(contents) {
            Verdict::Invalid { .. } => return None,
            Verdict::Valid { .. } | Verdict::Unknown { .. } => Layout::read(contents).ok()?,
        };
        let changes = |kind| {
            matches!(
                kind,
                RegionKind::VariableStore | RegionKind::Me | RegionKind::Gbe | RegionKind::Vpd
            )
        };
        let mut left_out: Vec<(u64, u64)> = Vec::new();
        for region in layout.regions().iter().filter(|region| changes(region.kind)) {
            // Sorted as they are, a region lies inside the one before it or behind it.
            let end = left_out.last().map_or(0, |(offset, length)| offset + length);
            if region.offset_bytes >= end {
                left_out.push((region.offset_bytes, region.length_bytes));
            }
        }
        Some(Self::record(contents, left_out, bios_version, bios_version))
    }

    fn record(
        contents: &[u8],
        left_out: Vec<(u64, u64)>,
        version: &str,
        bios_version: &str,
    ) -> Self {
        let mut good = Self {
            version: version.to_owned(),
            bios_version: bios_version.to_owned(),
            security_version: 0,
            size_bytes: contents.len() as u64,
            left_out,
            digest: String::new(),
            pieces: Vec::new(),
        };
        good.digest = hex(&good.digest_of(contents));
        let pieces = contents.chunks(PIECE_BYTES).enumerate().take(PIECES_MAX);
        good.pieces = pieces.map(|(nth, piece)| good.piece_digest(nth, piece)).collect();
        good
    }

    /// What `contents`, a whole chip, are by this record: `None` when it says nothing about them, because the machine's firmware
    /// was replaced by someone else since.
    pub fn judge(&self, contents: &[u8], bios_version: &str) -> Option<Verdict> {
        let recorded = usize::try_from(self.size_bytes).ok().and_then(|size| contents.get(..size));
        if let Some(contents) = recorded
            && hex(&self.digest_of(contents)) == self.digest
        {
            return Some(Verdict::Valid {
                by: vec![Evidence::KnownGood { version: self.version.clone() }],
            });
        }
        if self.is_outdated(bios_version) {
            return None;
        }
        // Where a structure is broken, it says more than a digest.
        if let invalid @ Verdict::Invalid { .. } = validate(contents) {
            return Some(invalid);
        }
        let offset_bytes = recorded.map_or(0, |contents| self.first_difference(contents));
        let version = match self.version.as_str() {
            "" => String::new(),
            version => format!(" (version {version})"),
        };
        let why = format!(
            "not the firmware that was recorded as good{version}; if it was replaced on purpose, run: firmcastd rescue-archive --renew"
        );
        Some(Verdict::Invalid { offset_bytes, why })
    }

    /// Whether the firmware that runs calls itself otherwise than the recorded one did.
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

    /// The parts of `whole` that are recorded.
    fn kept(&self, whole: Range<usize>) -> Vec<Range<usize>> {
        let mut kept = Vec::new();
        let mut start = whole.start;
        for (offset_bytes, length_bytes) in self.left_out.iter().take(REGIONS_MAX) {
            let at =
                |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX).clamp(start, whole.end);
            let (from, to) = (at(*offset_bytes), at(offset_bytes.saturating_add(*length_bytes)));
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

/// Whether `contents`, a whole chip, are good firmware: by the record if it says anything, else by their own structure.
pub fn assess(contents: &[u8], good: Option<&KnownGood>, bios_version: &str) -> Verdict {
    good.and_then(|good| good.judge(contents, bios_version)).unwrap_or_else(|| validate(contents))
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
        KnownGood::record(&contents(), vec![(0x8000, 0x1000), (0x1ff00, 0x200)], "1.2", "B")
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_found_where_it_is_unless_it_is_left_out(at in 0usize..0x30000) {
            let good = good();
            let mut contents = contents();
            contents[at] ^= 1;
            let is_left_out = (0x8000..0x9000).contains(&at) || (0x1ff00..0x20100).contains(&at);
            match good.judge(&contents, "B").unwrap() {
                Verdict::Valid { .. } => prop_assert!(is_left_out),
                Verdict::Invalid { offset_bytes, why } => {
                    prop_assert!(!is_left_out && why.contains("1.2"));
                    prop_assert_eq!(offset_bytes, at as u64 / 0x10000 * 0x10000);
                }
                Verdict::Unknown { .. } => prop_assert!(false),
            }
        }

        #[test]
        fn a_record_of_anything_is_judged_without_a_panic(
            left_out in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..6),
            size_bytes in any::<u64>(),
            length in 0usize..0x20000,
        ) {
            let odd = KnownGood { left_out, size_bytes, ..good() };
            let _ = odd.judge(&contents()[..length], "B");
        }
    }

    #[test]
    fn a_record_of_another_firmware_says_nothing_once_that_ran() {
        let changed = vec![7; 0x30000];
        assert!(good().judge(&contents(), "C").is_some(), "it is there again");
        assert_eq!(good().judge(&changed, "C"), None);
        assert!(matches!(good().judge(&changed, "B"), Some(Verdict::Invalid { .. })));
        assert!(matches!(good().judge(&changed, ""), Some(Verdict::Invalid { .. })));
        assert!(matches!(assess(&contents(), Some(&good()), "C"), Verdict::Valid { .. }));
        assert!(matches!(assess(&[0xff; 64], None, "C"), Verdict::Invalid { .. }));
    }

    #[test]
    fn damaged_firmware_is_not_recorded() {
        assert_eq!(KnownGood::of_chip(&[0xff; 0x10000], "B"), None);
        let json = serde_json::to_string(&good()).unwrap();
        assert_eq!(serde_json::from_str::<KnownGood>(&json).unwrap(), good());
    }
}
