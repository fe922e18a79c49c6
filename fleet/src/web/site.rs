use super::pool::StorePool;

/// What the pages work with.
#[derive(Clone, Debug)]
pub struct Site {
    /// The store.
    pub store: StorePool,
}
