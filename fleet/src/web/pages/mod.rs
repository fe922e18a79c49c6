//! The pages.

pub(super) mod metrics;
pub(super) mod rollouts;
