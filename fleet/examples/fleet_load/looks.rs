//! The end of a wave whose hosts nobody has seen in time: all of them have failed, at once.

use std::time::Instant;

use firmcast_fleet::model::WaveState;
use firmcast_fleet::store::Store;
use serde_json::{Value, json};

use super::fleet::{confirm_all, move_wave};

pub(crate) fn run(store: &mut dyn Store, hosts: usize) -> Value {
    let rollout = confirm_all(store, hosts);
    let steps = [WaveState::Running, WaveState::Soaking, WaveState::Looking];
    for step in steps.windows(2) {
        move_wave(store, rollout, 0, step[0], step[1]);
    }
    let begun = Instant::now();
    move_wave(store, rollout, 0, WaveState::Looking, WaveState::Finished);
    json!({ "seconds": begun.elapsed().as_secs_f64() })
}
