//! What a worker asks of its store at each turn when nothing happens.

use std::time::Instant;

use firmcast_fleet::store::Store;
use firmcast_fleet::work::crew::Crew;
use serde_json::{Value, json};

use super::claims::middle_and_worst;
use super::fleet::site;
use super::made::release;

/// Between two turns of a worker, in microseconds.
const TURN_US: i64 = 1_000_000;

/// Lets a worker have turns. All hosts that its limits allow are in flight with others.
pub(crate) fn run(store: &mut dyn Store, turns: usize) -> Value {
    let mut crew = Crew::new(&site(0), "idle", 1000, Vec::new());
    let turn = |number: usize| {
        crew.handle_shelf([release().digest].into());
        let begun = Instant::now();
        crew.turn(store, number as i64 * TURN_US).unwrap();
        begun.elapsed()
    };
    let times: Vec<_> = (1..=turns).map(turn).collect();
    assert_eq!(crew.in_hand(), 0, "it found something to do");
    json!({ "turn_ms": middle_and_worst(times.iter()) })
}
