use firmcast::image::BUNDLE_MAX;

use super::unknown;
use crate::model::{Release, RolloutState};
use crate::store::error::StoreError;
use crate::store::text;

/// Bytes of each chunk of a bundle but the last one, which may have fewer. Who fetches a bundle
/// holds one chunk in memory, and a slow line has each within the time that a call may take.
pub const CHUNK_BYTES: usize = 256 << 10;

/// Maximum number of releases that a worker names as those that it lacks.
pub const LACKING_MAX: usize = 1000;

/// Returns how many chunks a bundle of this size has.
///
/// # Errors
/// When it is larger than any bundle may be.
pub fn chunks(size_bytes: u64) -> Result<u32, StoreError> {
    let max = BUNDLE_MAX as u64;
    if size_bytes > max {
        return Err(StoreError::TooMuch { what: "the size of a bundle", got: size_bytes, max });
    }
    let count = size_bytes.div_ceil(CHUNK_BYTES as u64);
    // BUNDLE_MAX is far below the limit of the number.
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Refuses a chunk that the bundle of a release cannot have: each one but the last is full.
pub(in crate::store) fn check_chunk(
    release: &Release,
    number: u32,
    bytes: &[u8],
) -> Result<(), StoreError> {
    if number >= chunks(release.size_bytes)? {
        return Err(unknown("chunk", number));
    }
    let before = u64::from(number) * CHUNK_BYTES as u64;
    let expected = (release.size_bytes - before).min(CHUNK_BYTES as u64);
    if bytes.len() as u64 != expected {
        let problem = format!("has {} bytes, expected {expected}", bytes.len());
        let what = format!("chunk {number} of bundle {}", release.digest);
        return Err(StoreError::Text { what, problem });
    }
    Ok(())
}

/// Refuses to close a bundle whose chunks are not all there.
pub(in crate::store) fn check_whole(release: &Release, got: u64) -> Result<(), StoreError> {
    let expected = u64::from(chunks(release.size_bytes)?);
    if got != expected {
        let digest = release.digest.clone();
        return Err(StoreError::Unfinished { digest, got, expected });
    }
    Ok(())
}

/// Says whether a rollout in this state may still send its release to somebody.
pub(in crate::store) fn needs_release(state: RolloutState) -> bool {
    !matches!(state, RolloutState::Finished | RolloutState::Error)
}

/// Checks the releases that a worker lacks.
pub(in crate::store) fn check_lacking(lacking: &[String]) -> Result<(), StoreError> {
    text::at_most("the number of releases that a worker lacks", lacking.len(), LACKING_MAX)?;
    lacking.iter().try_for_each(|digest| text::words("the digest of a release", digest))
}
