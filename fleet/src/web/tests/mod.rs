#![allow(clippy::unwrap_used)]

mod addressing;
mod connections;
mod desk;
mod metrics;
mod rollouts;
