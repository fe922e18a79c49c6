//! A simulator of fleets: the real worker ([`firmcast_fleet::work`]), the real store and the real
//! course of rollouts, with one virtual clock and one seed. Simulated are the hosts and the
//! campaigns. Workers die and return, the store is away, sites are cut off, hosts die or refuse,
//! people act at once.
//!
//! One world again, with all that happens:
//! `FLEET_SEED=7 cargo test -p firmcast-fleet --test fleet_sim one_world -- --nocapture`
//!
//! | file | what it has |
//! | --- | --- |
//! | `scenario.rs` | what a seed stands for |
//! | `world.rs` | the clock and the workers |
//! | `campaigns.rs`, `programs.rs` | what workers have run |
//! | `faults.rs` | what goes wrong |
//! | `computer.rs` | a simulated host |
//! | `line.rs` | the line to the store, which may be cut |
//! | `people.rs` | who starts, pauses, resumes, retries and aborts |
//! | `watch.rs` | what must hold after each step |
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "fleet_sim/chance.rs"]
mod chance;
#[path = "fleet_sim/computer.rs"]
mod computer;
#[allow(dead_code)] // Shared with the tests of the stores.
#[path = "store/watch.rs"]
mod counting;
#[path = "fleet_sim/line.rs"]
mod line;
#[path = "fleet_sim/people.rs"]
mod people;
#[path = "fleet_sim/scenario.rs"]
mod scenario;
#[allow(dead_code)] // Shared with the tests of the stores.
#[path = "store/server.rs"]
mod server;
#[path = "fleet_sim/watch.rs"]
mod watch;
#[path = "fleet_sim/world.rs"]
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use firmcast_fleet::store::{Backup, MemoryStore, PostgresStore, SqliteStore, Store};
use peak_alloc::PeakAlloc;
use tempfile::TempDir;

use scenario::Scenario;
use server::Server;
use watch::Tally;
use world::World;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

fn allocated() -> usize {
    ALLOCATOR.current_usage()
}

/// Worlds in memory, by two threads.
const SEEDS: u64 = 300;
const SEEDS_OF_DATABASES: Range<u64> = 1000..1003;

fn run(seed: u64, store: &mut dyn Store) -> Tally {
    let world = || {
        let mut world = World::new(Scenario::of(seed), store, false, allocated);
        std::mem::take(world.run())
    };
    catch_unwind(AssertUnwindSafe(world)).unwrap_or_else(|_| panic!("see FLEET_SEED={seed}"))
}

/// So much happened that the worlds are worth something.
fn assert_eventful(tallies: &[Tally]) {
    let sum = |count: fn(&Tally) -> u64| tallies.iter().map(count).sum::<u64>();
    let all = [
        sum(|tally| tally.begun),
        sum(|tally| tally.confirmed),
        sum(|tally| tally.failed),
        sum(|tally| tally.taken_over),
        sum(|tally| tally.halted),
        sum(|tally| tally.healthy),
        sum(|tally| tally.sick),
        sum(|tally| tally.fetched),
        sum(|tally| tally.drained),
        sum(|tally| tally.not_drained),
        sum(|tally| tally.undrained),
        sum(|tally| tally.not_undrained),
        sum(|tally| tally.put_back),
    ];
    let cut_off = sum(|tally| tally.cut_off);
    println!(
        "{} worlds, begun, confirmed, failed, taken over, halted, healthy, sick, fetched, drained, \
         not drained, undrained, not undrained, put back: {all:?}, of these cut off {cut_off}",
        tallies.len()
    );
    assert!(all.iter().all(|count| *count > tallies.len() as u64 / 4), "{all:?}");
    // That a worker ends a program, and has its leases renewed just in time, is rare.
    assert!(cut_off >= tallies.len() as u64 / 10, "{cut_off}");
}

fn small_worlds(seeds: Range<u64>) {
    let run = |seed| run(seed, &mut MemoryStore::default());
    assert_eventful(&seeds.map(run).collect::<Vec<_>>());
}

#[test]
fn all_holds_in_small_worlds_of_the_first_half() {
    small_worlds(0..SEEDS / 2);
}

#[test]
fn all_holds_in_small_worlds_of_the_second_half() {
    small_worlds(SEEDS / 2..SEEDS);
}

#[test]
fn all_holds_in_small_worlds_with_sqlite() {
    let run = |seed| {
        let folder = TempDir::new().unwrap();
        run(seed, &mut SqliteStore::open(folder.path()).unwrap())
    };
    assert_eventful(&SEEDS_OF_DATABASES.map(run).collect::<Vec<_>>());
}

#[test]
fn all_holds_in_small_worlds_with_postgres() {
    let server = Server::start();
    let run = |seed| {
        let database = server.database();
        run(seed, &mut PostgresStore::open(&database, Backup::Unconfirmed).unwrap())
    };
    assert_eventful(&SEEDS_OF_DATABASES.map(run).collect::<Vec<_>>());
}

/// Does nothing unless FLEET_SEED names a world.
#[test]
fn one_world() {
    let Ok(seed) = std::env::var("FLEET_SEED") else { return };
    let scenario = Scenario::of(seed.parse().unwrap());
    println!("{scenario:#?}");
    let mut store = MemoryStore::default();
    let mut world = World::new(scenario, &mut store, true, allocated);
    println!("{:#?}", world.run());
}

/// 50,000 hosts. What is measured depends on nothing but the seed, but for the time.
#[test]
#[ignore = "takes minutes; prints time and memory"]
fn fifty_thousand_hosts() {
    let (begun, before) = (Instant::now(), allocated());
    let mut store = MemoryStore::default();
    let scenario = Scenario::large();
    let hosts = scenario.hosts;
    let mut world = World::new(scenario, &mut store, false, allocated);
    let known = allocated() - before;
    let tally = std::mem::take(world.run());
    let (begun_hosts, tally) = (tally.begun, format!("{tally:?}"));
    let (largest, steps) = (world.largest, world.steps);
    println!("{tally}\n{steps} steps in {:?}", begun.elapsed());
    println!("at the start {} bytes for each host, with the simulator's own", known / hosts);
    println!("largest worker that died: {largest:?}");
    println!("peak {} MiB, with all events", ALLOCATOR.peak_usage_as_mb());
    assert!(largest.hosts > 0 && largest.bytes / largest.hosts < 64 << 10);
    assert!(begun_hosts >= hosts as u64, "somebody aborted it before all had begun: {tally}");
}
