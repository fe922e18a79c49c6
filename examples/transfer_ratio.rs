//! What a transfer costs on the wire and in processor time: `cargo run --profile fast --example
//! transfer_ratio`.
//!
//! 16 MiB to 8 receivers on a virtual network; whole Ethernet frames are counted, status requests
//! among them. *left* is what a receiver has still to decode, to hash and to copy when it has
//! enough; in this network it does the other work while the stream goes on.

#[path = "../tests/room/mod.rs"]
mod room;

use std::time::{Duration, Instant};

use room::{Faults, Room};

const PAYLOAD_SIZE: usize = 16 * 1024 * 1024;
const RECEIVERS: usize = 8;
const SEEDS: u64 = 10;
const GOAL: f64 = 1.06;

fn main() {
    println!("loss  wire/payload mean  worst  goal    passes  virtual s    left ms");
    let mut is_goal_met = true;
    for loss in [0.0, 0.01, 0.05, 0.10, 0.20] {
        is_goal_met &= measure(loss);
    }
    measure_several_blocks();
    std::process::exit(i32::from(!is_goal_met));
}

/// 96 MiB in six code blocks to one host.
fn measure_several_blocks() {
    let begun = Instant::now();
    let mut room = Room::new(6 * PAYLOAD_SIZE, 1444, 800, 1);
    room.add_hosts(1, Faults { loss: 0.05, ..Faults::default() });
    assert!(room.run(Duration::from_secs(60)), "not done in a minute");
    let ratio = room.sender.stats().wire_bytes as f64 / room.payload.len() as f64;
    room.assert_all_have_the_payload();
    println!(
        "seven blocks, 96 MiB, 5 %: {ratio:.4}, {:.1} s in all",
        begun.elapsed().as_secs_f64()
    );
}

/// True when the mean over the seeds meets the goal.
fn measure(loss: f64) -> bool {
    let (mut ratios, mut passes, mut seconds) = (Vec::new(), 0, 0.0);
    let mut decode = Duration::ZERO;
    for seed in 0..SEEDS {
        let mut room = Room::new(PAYLOAD_SIZE, 1444, 800, seed);
        room.add_hosts(RECEIVERS, Faults { loss, answer_loss: loss, ..Faults::default() });
        assert!(room.run(Duration::from_secs(60)), "not done in a minute");
        ratios.push(room.sender.stats().wire_bytes as f64 / PAYLOAD_SIZE as f64);
        passes += room.sender.stats().passes;
        seconds += room.now.as_micros() as f64 / 1e6;
        let begun = Instant::now();
        room.assert_all_have_the_payload();
        decode += begun.elapsed() / RECEIVERS as u32;
    }
    let count = SEEDS as f64;
    let mean = ratios.iter().sum::<f64>() / count;
    let worst = ratios.iter().copied().fold(0.0, f64::max);
    let goal = GOAL / (1.0 - loss);
    println!(
        "{:3.0} %  {mean:17.4}  {worst:.4}  {goal:.4}  {:6.1}  {:9.3}  {:9.1}",
        loss * 100.0,
        f64::from(passes) / count,
        seconds / count,
        decode.as_secs_f64() * 1000.0 / count,
    );
    mean <= goal
}
