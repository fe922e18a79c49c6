//! What a worker takes of memory. The goals for all of a site's machine are 64 KiB for each host in
//! flight, and 1 KiB for each host known. The worker's own part is small, and is held here to
//! limits that show when it keeps, or reads, more than it has to.
//!
//! Counted is all that the worker and its store, a file of SQLite, ask of the allocator. SQLite's
//! own memory is not counted: its cache has a fixed size. Most of what a host in flight takes is in
//! the process of its campaign: `tests/bench/run fleet-memory` measures both from outside, and
//! `manager/tests/serve.rs` holds the campaigns of `firmcast serve` to the goal.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "store/fleet.rs"]
mod fleet;

use std::time::Duration;

use firmcast_fleet::model::Host;
use firmcast_fleet::store::{SqliteStore, Store};
use firmcast_fleet::work::crew::{Campaign, Crew, Exit, HostEnd, Order, Purpose, Sight, Sighting};
use peak_alloc::PeakAlloc;
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const SITE: &str = "berlin";
/// Longer than leases are kept without renewal, in microseconds.
const TURN_US: i64 = 2_500_000;
/// Turns within which all is over, and how long one waits when nobody is in flight: the canaries
/// soak for a second.
const TURNS_MAX: usize = 200;
const PAUSE: Duration = Duration::from_millis(100);
/// What a campaign says of a host at its end, as long as it may be with a backup's name.
const DETAIL_BYTES: usize = 200;

/// Maximum number of bytes for a host in flight, of the worker alone.
const IN_FLIGHT_BYTES_MAX: usize = 4 << 10;
/// Maximum number of bytes for a host that is known. A worker that would read all of them, even for
/// a moment, takes more.
const KNOWN_BYTES_MAX: usize = 64;

const FEW: usize = 50;
const MORE_IN_FLIGHT: usize = 500;
const KNOWN: usize = 1000;
const MORE_KNOWN: usize = 10_000;
/// Where thousands of commits cost nothing, if there is such a place.
const IN_MEMORY: &str = "/dev/shm";

/// The waves and limits of a rollout that begins with all hosts of its first wave at once.
fn rollout(canaries: usize) -> String {
    format!(
        "[[wave]]\nname = \"canary\"\ncount = {canaries}\nsoak = \"1 s\"\n\
         [[wave]]\nname = \"rest\"\nrest = true\napproval = \"person\"\n\
         [limits]\nin-flight = [{{ per = \"all\", hosts = {canaries} }}]\n\
         failures = [{{ per = \"all\", hosts = 1 }}, {{ per = \"rack\", hosts = 1 }}]\n"
    )
}

fn start(store: &mut dyn Store, known: usize, canaries: usize) {
    let hosts: Vec<Host> =
        (0..known).map(|number| fleet::host(number, SITE, number % 20)).collect();
    fleet::put(store, &hosts);
    fleet::start(store, "winter", &rollout(canaries));
}

/// What a campaign tells of its hosts: two stages, or all there is.
fn tell(crew: &mut Crew, campaign: &Campaign, now: i64, is_over: bool) {
    let Campaign { number, purpose, hosts, .. } = campaign;
    for Host { name, .. } in hosts {
        let (reason, detail) = ("confirmed".to_owned(), "d".repeat(DETAIL_BYTES));
        match (purpose, is_over) {
            (Purpose::Update, false) => crew.handle_stage(*number, name, "receiving", now),
            (Purpose::Update, true) => {
                let flash = "updated".to_owned();
                crew.handle_end(
                    *number,
                    name,
                    HostEnd { confirmed: true, reason, flash, detail },
                    now,
                );
            }
            (Purpose::Look, false) => {}
            (Purpose::Look, true) => {
                let sighting = Sighting { sight: Sight::Holds, reason, detail };
                crew.handle_sighting(*number, name, sighting, now);
            }
        }
    }
    if is_over {
        crew.handle_exit(*number, "", Exit::BrokeOff, now);
    }
}

/// Returns the most bytes that a worker has asked for at a time, from its start to the look at the
/// last canary. All canaries are in flight at once.
fn peak(known: usize, canaries: usize) -> usize {
    let folder = TempDir::new_in(IN_MEMORY).or_else(|_| TempDir::new()).unwrap();
    start(&mut SqliteStore::open(folder.path()).unwrap(), known, canaries);
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let mut store = SqliteStore::open(folder.path()).unwrap();
    let mut crew = Crew::new(SITE, "worker", canaries, Vec::new());
    let (mut begun, mut ending) = (Vec::new(), Vec::new());
    let (mut seen, mut most) = (0, 0);
    for turn in 1..=TURNS_MAX {
        let now = turn as i64 * TURN_US;
        crew.handle_shelf([fleet::release().digest].into());
        crew.turn(&mut store, now).unwrap();
        most = most.max(crew.in_hand());
        for campaign in std::mem::take(&mut ending) {
            tell(&mut crew, &campaign, now, true);
            seen += if campaign.purpose == Purpose::Look { campaign.hosts.len() } else { 0 };
        }
        begun.iter().for_each(|campaign| tell(&mut crew, campaign, now, false));
        ending = std::mem::take(&mut begun);
        begun.extend(crew.take_orders().into_iter().filter_map(|order| match order {
            Order::Begin(campaign) => Some(campaign),
            // Nothing is drained, and nothing has to be fetched.
            Order::Run(_) | Order::Stop { .. } | Order::Kill { .. } | Order::Fetch { .. } => None,
        }));
        if begun.is_empty() && ending.is_empty() {
            std::thread::sleep(PAUSE);
        }
        if seen == canaries {
            assert_eq!(most, canaries, "not all were in flight at once");
            return ALLOCATOR.peak_usage() - before;
        }
    }
    panic!("{seen} of {canaries} hosts were looked at after {TURNS_MAX} turns");
}

/// Bytes for each of the hosts that make the difference.
fn each(few: usize, many: usize, hosts: usize) -> usize {
    many.saturating_sub(few) / hosts
}

/// One test: the allocator counts for the whole process.
#[test]
fn a_worker_takes_little_for_a_host_in_flight_and_nothing_for_one_that_is_only_known() {
    let few = peak(KNOWN, FEW);
    let in_flight = each(few, peak(KNOWN, FEW + MORE_IN_FLIGHT), MORE_IN_FLIGHT);
    let known = each(few, peak(KNOWN + MORE_KNOWN, FEW), MORE_KNOWN);
    println!("{in_flight} bytes for each host in flight, {known} for each one known");
    // It has at least a name.
    assert!(
        (16..=IN_FLIGHT_BYTES_MAX).contains(&in_flight),
        "{in_flight} bytes for each in flight"
    );
    assert!(known <= KNOWN_BYTES_MAX, "{known} bytes for each host known");
}
