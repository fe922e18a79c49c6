//! The pages.

pub(super) mod rollouts;
