use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::Stamp;

/// Now, by this machine's clock.
pub(super) fn now() -> Stamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Stamp::try_from(since.as_micros()).unwrap_or(Stamp::MAX)
}
