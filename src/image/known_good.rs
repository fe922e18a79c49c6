//! The firmware that was good when it was last seen: what a later look at the chip is compared
//! with.
//!
//! The record lies where the recovery environment finds it (`crate::handover::Provision`), as JSON.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::layout::{Layout, LayoutRegion, RegionKind};
use super::validity::{Evidence, Verdict, validate_around, validate_contents};
use super::{ByteRanges, Contents, Fitting, Manifest, REGIONS_MAX, Region, RegionAction};

/// The chip is recorded in pieces of this size, so that a difference has a place.
const PIECE_BYTES: usize = 64 * 1024;

/// Most pieces of a record.
pub const PIECES_MAX: usize = 4096;

/// Most ranges that are left out: those of a manifest, as many that the host may not read, and as
/// many that were learned.
const LEFT_OUT_MAX: usize = 3 * REGIONS_MAX;

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
    /// The part of it that the firmware writes itself: its structure is not judged either.
    #[serde(default, skip_serializing_if = "ByteRanges::is_empty")]
    pub volatile: ByteRanges,
    /// The part of that which nobody has named: the firmware was seen to write it.
    #[serde(default, skip_serializing_if = "ByteRanges::is_empty")]
    pub learned: ByteRanges,
    /// SHA-256 of the rest, in hexadecimal.
    pub digest: String,
    /// The first bytes of the SHA-256 of each 64 KiB, without what is left out, in hexadecimal.
    pub pieces: Vec<String>,
}

impl KnownGood {
    /// Records a chip that holds the manifest's image.
    pub fn of_update(contents: &Contents, manifest: &Manifest, bios_version: &str) -> Self {
        if !manifest.parts().is_empty() {
            let good = Self::of_parts(contents.bytes(), contents.closed(), manifest);
            return Self { bios_version: bios_version.to_owned(), ..good };
        }
        let size_bytes = manifest.image_size_bytes().min(contents.bytes().len());
        let good = Self::of_manifest(manifest);
        let bios_version = bios_version.to_owned();
        let closed = contents.closed().before(size_bytes as u64);
        let left_out = good.left_out.union(&closed);
        Self { bios_version, left_out, closed, ..good }.seal(&contents.bytes()[..size_bytes])
    }

    /// Records a chip that holds, or is to hold, the parts that the manifest's image covers: these
    /// as the bundle says, and the rest as a chip is recorded. What is `closed` to the host, or was
    /// not read well enough, is left out.
    pub fn of_parts(contents: &[u8], closed: &ByteRanges, manifest: &Manifest) -> Self {
        let (changing, volatile) = changing(contents);
        let fitting = Fitting::on_live(manifest, contents)
            .or_else(|_| Fitting::on_broken(manifest, contents));
        let (named, named_volatile, covered) = match &fitting {
            Ok(fitting) => {
                let named = |is_meant: fn(&Region) -> bool| -> ByteRanges {
                    let regions = fitting.named().filter(|region| is_meant(region));
                    regions.map(|region| region.range64()).collect()
                };
                let is_volatile = |region: &Region| region.action != RegionAction::Preserve;
                (named(|_| true), named(is_volatile), fitting.covered())
            }
            Err(_) => Default::default(),
        };
        let volatile = volatile.without(&covered).union(&named_volatile);
        let good = Self {
            size_bytes: contents.len() as u64,
            left_out: changing.without(&covered).union(&named).union(&volatile).union(closed),
            closed: closed.clone(),
            volatile,
            ..Self::of_manifest(manifest)
        };
        good.seal(contents)
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
            left_out: named_by(manifest, |_| true),
            closed: ByteRanges::default(),
            volatile: named_by(manifest, |action| action != RegionAction::Preserve),
            learned: ByteRanges::default(),
            digest: hex(manifest.stable_digest()),
            pieces: Vec::new(),
        }
    }

    /// Returns the same record with places, if `contents`, a whole chip, are what it says. Every
    /// byte that the record is about has to be readable for that.
    pub fn confirm(&self, contents: &Contents, bios_version: &str) -> Option<Self> {
        let closed = contents.closed().before(self.size_bytes);
        let contents = contents.bytes().get(..usize::try_from(self.size_bytes).ok()?)?;
        let (bios_version, left_out) = (bios_version.to_owned(), self.left_out.union(&closed));
        let found = Self { bios_version, left_out, closed, ..self.clone() }.seal(contents);
        (found.digest == self.digest).then_some(found)
    }

    /// Records a chip as it is, without the regions that usually change and without what the host
    /// cannot read. `None` when its firmware is damaged: that is nothing to go back to.
    pub fn of_chip(contents: &Contents, bios_version: &str) -> Option<Self> {
        if let Verdict::Invalid { .. } = validate_contents(contents) {
            return None;
        }
        let (changing, volatile) = changing(contents.bytes());
        let good = Self {
            version: bios_version.to_owned(),
            bios_version: bios_version.to_owned(),
            security_version: 0,
            size_bytes: contents.bytes().len() as u64,
            left_out: changing.union(&volatile).union(contents.closed()),
            closed: contents.closed().clone(),
            volatile,
            learned: ByteRanges::default(),
            digest: String::new(),
            pieces: Vec::new(),
        };
        Some(good.seal(contents.bytes()))
    }

    /// Returns the same record of the same `contents` without `learned` ranges, which the firmware
    /// was seen to write by itself.
    pub fn without_learned(self, learned: &ByteRanges, contents: &Contents) -> Self {
        let learned = self.learned.union(&learned.before(self.size_bytes));
        let recorded = usize::try_from(self.size_bytes).ok();
        match recorded.and_then(|size_bytes| contents.bytes().get(..size_bytes)) {
            Some(contents) if learned != self.learned => {
                let left_out = self.left_out.union(&learned);
                let volatile = self.volatile.union(&learned);
                Self { left_out, volatile, learned, ..self }.seal(contents)
            }
            _ => self,
        }
    }

    /// Takes the digests of `contents`, which are of the recorded size.
    fn seal(mut self, contents: &[u8]) -> Self {
        self.digest = hex(&self.digest_of(contents));
        let pieces = contents.chunks(PIECE_BYTES).enumerate().take(PIECES_MAX);
        self.pieces = pieces.map(|(nth, piece)| self.piece_digest(nth, piece)).collect();
        self
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
        let unjudged = contents.closed().union(&self.volatile);
        if let invalid @ Verdict::Invalid { .. } = validate_around(contents.bytes(), &unjudged) {
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
            return Some(if is_same { None } else { self.first_difference(recorded) });
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

    /// Returns where the first piece is that differs, of contents that differ as a whole. None when
    /// the firmware writes every such piece itself: an older program has recorded them.
    fn first_difference(&self, contents: &[u8]) -> Option<u64> {
        let volatile = volatile(&Layout::told_regions(contents));
        let mut ranges = self.differing_pieces(contents);
        let Some(first) = ranges.next() else { return Some(0) };
        let is_written = |range: &Range<u64>| volatile.covers(range);
        match is_written(&first) {
            true => ranges.find(|range| !is_written(range)).map(|range| range.start),
            false => Some(first.start),
        }
    }

    fn differing_pieces(&self, contents: &[u8]) -> impl Iterator<Item = Range<u64>> {
        let pieces = contents.chunks(PIECE_BYTES).zip(&self.pieces).enumerate();
        let differing =
            pieces.filter(|(nth, (piece, good))| self.piece_digest(*nth, piece) != **good);
        differing.map(|(nth, (piece, _))| {
            let start = (nth * PIECE_BYTES) as u64;
            start..start + piece.len() as u64
        })
    }

    /// Returns where `contents` are not what was recorded, apart from the pieces with `learned`
    /// ranges in them.
    pub fn differs_beside(&self, learned: &ByteRanges, contents: &Contents) -> Option<u64> {
        let size_bytes = usize::try_from(self.size_bytes).ok()?;
        let Some(recorded) = contents.bytes().get(..size_bytes) else { return Some(0) };
        let readable = learned.union(&contents.closed().without(&self.left_out));
        self.differing_pieces(recorded).find(|piece| !readable.overlaps(piece)).map(|p| p.start)
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

/// What the firmware writes itself, as far as the kinds of the regions tell.
fn volatile(regions: &[LayoutRegion]) -> ByteRanges {
    let is_volatile =
        |region: &&LayoutRegion| region.kind.usual_action() == Some(RegionAction::Volatile);
    regions.iter().filter(is_volatile).map(LayoutRegion::range).collect()
}

/// What others than the firmware write at times, and what the firmware writes itself, on a chip as
/// a whole. A chip that is only doubtful runs, even where its regions contradict one another.
fn changing(contents: &[u8]) -> (ByteRanges, ByteRanges) {
    let regions = Layout::told_regions(contents);
    let changes = |kind| matches!(kind, RegionKind::Gbe | RegionKind::Vpd);
    let changing = regions.iter().filter(|region| changes(region.kind));
    (changing.map(LayoutRegion::range).collect(), volatile(&regions))
}

/// What a bundle names is not recorded: the firmware changes it, or it stays.
fn named_by(manifest: &Manifest, is_meant: impl Fn(RegionAction) -> bool) -> ByteRanges {
    let regions = manifest.regions().iter().filter(|region| is_meant(region.action));
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
mod tests;
