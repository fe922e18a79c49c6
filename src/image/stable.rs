//! The digest of what an update changes for good.

use sha2::{Digest as _, Sha256};

use super::{Digest, Manifest, Region};

/// SHA-256 over the first `image size` bytes of a chip or image, in order, with the bytes of
/// [`Manifest::regions`] left out.
///
/// Firmware rewrites its variable store whenever it runs, so only this digest tells whether a
/// machine still holds what was flashed. Chunks may be of any size; bytes behind the image's size
/// are ignored.
#[derive(Clone, Debug)]
pub struct StableHasher<'a> {
    hash: Sha256,
    position_bytes: u64,
    image_bytes: u64,
    /// Regions that end behind the position, sorted.
    regions: &'a [Region],
}

impl Manifest {
    /// Returns a hasher to be fed with the contents of a chip from its first byte on.
    pub fn stable_hasher(&self) -> StableHasher<'_> {
        StableHasher {
            hash: Sha256::new(),
            position_bytes: 0,
            image_bytes: self.image_bytes,
            regions: self.regions(),
        }
    }

    /// Returns the digest of `contents`, which is a chip or an image as a whole.
    pub fn stable_digest_of(&self, contents: &[u8]) -> Digest {
        let mut hasher = self.stable_hasher();
        hasher.update(contents);
        hasher.finish()
    }
}

impl StableHasher<'_> {
    /// Takes the next bytes.
    pub fn update(&mut self, mut chunk: &[u8]) {
        while !chunk.is_empty() && self.position_bytes < self.image_bytes {
            let (skip, until_bytes) = self.stretch();
            let stretch_bytes = usize::try_from(until_bytes - self.position_bytes);
            let (now, later) = chunk.split_at(chunk.len().min(stretch_bytes.unwrap_or(usize::MAX)));
            if !skip {
                self.hash.update(now);
            }
            self.position_bytes += now.len() as u64;
            chunk = later;
        }
    }

    /// Returns the digest of all bytes so far.
    pub fn finish(self) -> Digest {
        self.hash.finalize().into()
    }

    /// Returns whether the bytes at the position are left out, and where that changes next.
    fn stretch(&mut self) -> (bool, u64) {
        while let Some((first, rest)) = self.regions.split_first()
            && first.offset_bytes + first.length_bytes <= self.position_bytes
        {
            self.regions = rest;
        }
        match self.regions.first() {
            Some(region) if region.offset_bytes <= self.position_bytes => {
                (true, region.offset_bytes + region.length_bytes)
            }
            Some(region) => (false, region.offset_bytes),
            None => (false, self.image_bytes),
        }
    }
}
