//! A manager reaches a real agent that somebody floods who has its public key.

use std::path::Path;
use std::time::Duration;

#[path = "../examples/flood.rs"]
mod flood;

/// What a strange host sends easily, and far above what the agent handles for those who have proved
/// nothing. The benchmark takes a hundred times as much.
const PER_SECOND: u32 = 2_000;

/// A call, and another one with the cookie; more for a machine that does much else. Without the
/// guard one call of a hundred gets through.
const CALLS_MAX: usize = 8;

/// More memory than this is no rounding.
const GROWTH_MAX_KIB: u64 = 256;

#[test]
fn no_flood_keeps_the_manager_out_or_fills_the_memory() {
    let program = Path::new(env!("CARGO_BIN_EXE_firmcastd"));
    for kind in flood::Kind::ALL {
        let outcome = flood::run(program, kind, PER_SECOND, Duration::from_millis(500), 3);
        assert!(outcome.flooded.is_some(), "{kind:?}: the manager did not get through");
        let calls = outcome.calls;
        assert!(calls <= CALLS_MAX, "{kind:?}: the manager had to call {calls} times");
        let (before, after) = outcome.memory_kib;
        assert!(after <= before + GROWTH_MAX_KIB, "{kind:?}: {before} KiB, then {after} KiB");
    }
}
