//! The pages.

pub(super) mod calls;
pub(super) mod events;
mod grid;
pub(super) mod host;
pub(super) mod live;
pub(super) mod metrics;
mod parts;
pub(super) mod people;
pub(super) mod rollout;
pub(super) mod rollouts;
