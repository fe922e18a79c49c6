use crate::model::{BoardTimes, Foresight};
use crate::store::error::StoreError;
use crate::store::text;

/// Maximum number of foresights that one call keeps.
pub const FORESIGHTS_AT_ONCE_MAX: usize = 10_000;

const US_PER_S: i64 = 1_000_000;

/// Checks foresights that are to be kept, and returns them by host and release: so two who keep
/// some hold the hosts in one order.
pub(in crate::store) fn in_order(foresights: &[Foresight]) -> Result<Vec<&Foresight>, StoreError> {
    text::at_most("the number of foresights", foresights.len(), FORESIGHTS_AT_ONCE_MAX)?;
    for foresight in foresights {
        text::name("the name of a host", &foresight.host)?;
        text::name("the digest of a release", &foresight.release)?;
        text::words("the version of a host's firmware", &foresight.from_version)?;
    }
    let mut sorted: Vec<_> = foresights.iter().collect();
    sorted.sort_by(|one, other| (&one.host, &one.release).cmp(&(&other.host, &other.release)));
    Ok(sorted)
}

/// Returns the times of a board, of which there are some: the sum and the longest, in microseconds.
pub(in crate::store) fn board_times(
    (vendor, product): (String, String),
    updates: u64,
    (sum_us, longest_us): (i64, i64),
) -> BoardTimes {
    let seconds = |us: i64| u32::try_from((us + US_PER_S - 1) / US_PER_S).unwrap_or(u32::MAX);
    let mean_us = sum_us / i64::try_from(updates).unwrap_or(i64::MAX).max(1);
    let (typical_s, longest_s) = (seconds(mean_us.max(0)), seconds(longest_us.max(0)));
    BoardTimes { vendor, product, updates, typical_s, longest_s }
}
