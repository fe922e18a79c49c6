#![allow(clippy::unwrap_used)]

mod addressing;
mod calls;
mod connections;
mod desk;
mod metrics;
mod pages;
mod rollouts;
mod streams;
