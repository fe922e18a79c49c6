//! Loads the fleet's store as workers do, for benchmarks; see `tests/bench/measure/fleet`.
//!
//! | file | what it does |
//! | --- | --- |
//! | `fleet.rs` | a fleet, and a rollout over it that runs |
//! | `claims.rs` | workers that claim hosts and say how they ended |
//! | `live.rs` | how long an event takes to the open pages |
//! | `looks.rs` | the end of a wave whose hosts nobody has seen |
//! | `turns.rs` | what a worker asks when there is nothing to do |
//!
//! Results are one line of JSON.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod claims;
mod fleet;
mod live;
mod looks;
// Shared with the tests.
#[path = "../../tests/store/fleet.rs"]
mod made;
mod turns;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::Parser;
use firmcast_fleet::store::{Backup, PostgresStore, SqliteStore, Store};

/// What is to be done with the store: a folder for SQLite, or `postgres://...`.
#[derive(Debug, Parser)]
enum Load {
    /// Make a fleet and a rollout over it, in which some hosts have ended and some are in flight.
    Fill {
        store: String,
        #[arg(long)]
        hosts: usize,
        #[arg(long)]
        ended: usize,
        #[arg(long)]
        in_flight: usize,
    },
    /// Claim hosts and report them as confirmed, in a rollout of its own.
    Claims {
        store: String,
        #[arg(long)]
        workers: usize,
        /// Hosts in one claim
        #[arg(long)]
        at_once: usize,
        #[arg(long)]
        seconds: f64,
    },
    /// Tell one event after the other, and wait for each on all open streams of the page.
    Live {
        store: String,
        #[arg(long)]
        page: SocketAddr,
        #[arg(long)]
        streams: usize,
        #[arg(long)]
        events: usize,
    },
    /// Tell one event for each line of the standard input, and answer with a line.
    Stir { store: String },
    /// Close a wave of this many confirmed hosts that nobody has looked at.
    Looks {
        store: String,
        #[arg(long)]
        hosts: usize,
    },
    /// Let a worker look for something to do.
    Turns {
        store: String,
        #[arg(long)]
        turns: usize,
    },
}

fn open(store: &str) -> Box<dyn Store> {
    if store.starts_with("postgres://") {
        return Box::new(PostgresStore::open(store, Backup::Unconfirmed).unwrap());
    }
    std::fs::create_dir_all(store).unwrap();
    Box::new(SqliteStore::open(Path::new(store)).unwrap())
}

fn main() {
    match Load::parse() {
        Load::Fill { store, hosts, ended, in_flight } => {
            fleet::fill(open(&store).as_mut(), hosts, ended, in_flight);
        }
        Load::Claims { store, workers, at_once, seconds } => {
            let rollout = fleet::begin(open(&store).as_mut());
            let stores = (0..workers).map(|_| open(&store)).collect();
            println!("{}", claims::run(stores, rollout, at_once, Duration::from_secs_f64(seconds)));
            fleet::abort(open(&store).as_mut(), rollout);
        }
        Load::Live { store, page, streams, events } => {
            println!("{}", live::run(open(&store), page, streams, events));
        }
        Load::Stir { store } => {
            let mut teller = fleet::Teller::new(open(&store));
            for line in std::io::stdin().lines() {
                line.unwrap();
                teller.tell();
                println!("told");
            }
        }
        Load::Turns { store, turns } => println!("{}", turns::run(open(&store).as_mut(), turns)),
        Load::Looks { store, hosts } => println!("{}", looks::run(open(&store).as_mut(), hosts)),
    }
}
