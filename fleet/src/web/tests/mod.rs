#![allow(clippy::unwrap_used)]

mod acting;
mod addressing;
mod calls;
mod connections;
mod desk;
mod metrics;
mod pages;
mod rollouts;
mod streams;
