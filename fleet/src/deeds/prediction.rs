use crate::model::Foresight;
use crate::rollout::prediction::Predictions;
use crate::store::requests::PAGE_MAX;
use crate::store::{Store, StoreError};

/// Reads how long updates to a release take, as far as that is known.
pub(super) fn predictions(store: &mut dyn Store, release: &str) -> Result<Predictions, StoreError> {
    let mut foresights = Vec::new();
    loop {
        let after = foresights.last().map_or(String::new(), |last: &Foresight| last.host.clone());
        let page = store.foresights(release, &after, PAGE_MAX)?;
        if page.is_empty() {
            return Ok(Predictions::new(foresights, store.board_times()?));
        }
        foresights.extend(page);
    }
}
