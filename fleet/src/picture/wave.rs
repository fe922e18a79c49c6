//! The waves of a rollout.

use serde::Serialize;

use super::progress::Progress;
use crate::model::{Approval, Stamp, WaveState};

/// A wave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WavePicture {
    /// Its place in the order, from 0.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// What it does now.
    pub state: WaveState,
    /// Since when.
    pub since: Stamp,
    /// How it begins.
    pub approval: Approval,
    /// How long it is watched after its last host ended, in seconds.
    pub soak_s: u32,
    /// Where its hosts are.
    pub progress: Progress,
}
