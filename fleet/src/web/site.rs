use std::sync::Arc;

use super::door::Door;
use super::live::Live;
use super::pool::StorePool;
use super::seen::SeenCache;

/// What the pages work with.
#[derive(Clone, Debug)]
pub struct Site {
    /// The store.
    pub store: StorePool,
    /// What keeps open pages up to date.
    pub live: Live,
    /// What was read of rollouts lately.
    pub seen: SeenCache,
}

/// What the routes work with that change something.
#[derive(Clone, Debug)]
pub(super) struct Acting {
    pub(super) store: StorePool,
    pub(super) door: Arc<Door>,
}
