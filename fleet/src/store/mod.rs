//! What the fleet's programs know together, in one of three stores.
//!
//! | file | what it does |
//! | --- | --- |
//! | `contract.rs` | the trait [`Store`] |
//! | `requests.rs`, `requests/` | what is asked for, and the rules that all stores follow |
//! | `error.rs` | why something was not done |
//! | `clock.rs` | the clock of stores on this machine |
//! | `text.rs` | what text is kept |
//! | `words.rs` | states as words |
//! | `pages.rs` | all of a list, page by page |
//! | `memory/` | the store of the simulator, the model for the others |
//! | `relational/` | the store in SQL, with files of the same names |
//! | `sqlite.rs`, `postgres.rs` | the databases |
//!
//! # How a worker uses it
//!
//! Times are passed in, in microseconds since 1970: workers pass what [`Store::now`] told shortly
//! before, so that leases go by one clock. A time that is a little old is safe: who claims sees a
//! lease run out later, and who renews has it end earlier. Every call happens whole or not at all.
//!
//! 1. [`Store::claim`] with the rollouts whose windows are open at the site, and for how long. It
//!    returns the hosts that may begin now: every limit is kept at every moment, whoever else
//!    claims. A claim with [`requests::Claim::taken_from`] was begun by a worker that fell silent:
//!    the host may be anywhere on its way, so it is looked for before anything is sent to it.
//! 2. [`Store::renew`] several times within the time of a lease, for all that the worker has in
//!    hand. An attempt that is missing in the answer is lost: the host is left alone.
//!    [`Store::tell_stage`] on the way.
//! 3. [`Store::report`] when a host has ended. If that reaches a limit of failures, the rollout is
//!    paused or stopped in the same transaction, with the reason in words.
//! 4. [`Store::wait`], then from 1. Nothing to claim may mean that a limit is full, that a window
//!    is closed, or that others hold the hosts just now: only [`Store::counts`] tells whether all
//!    have ended.
//!
//! Who changes states ([`Store::change_state`], [`Store::change_wave`]) names those that it saw, so
//! of two who act at once one is told that it came too late. A claim ends before the change or
//! comes after it: once a pause is answered, no host begins.
//!
//! On [`StoreError::Busy`] nothing was done: ask again. On [`StoreError::Gone`] it may have been:
//! ask again, too, as a repeated report, renewal or change of state changes nothing, and hosts of a
//! claim whose answer was lost come back as takeovers when their leases run out.
//!
//! ```
//! use firmcast_fleet::store::requests::{ClaimRequest, Open, Outcome};
//! use firmcast_fleet::store::{MemoryStore, Store, StoreError};
//!
//! # fn main() -> Result<(), StoreError> {
//! let mut store = MemoryStore::default();
//! let open = [Open { rollout: 1, seconds: u32::MAX }];
//! let (site, worker, lease_us) = ("berlin", "worker-1", 10_000_000);
//! let lacking = [];
//! let request =
//!     ClaimRequest { site, worker, at: 0, lease_us, limit: 8, open: &open, lacking: &lacking };
//! for claim in store.claim(&request)? {
//!     store.renew(worker, &[claim.attempt.id], 3_000_000, lease_us)?;
//!     let outcome = Outcome { confirmed: true, reason: None, flash: None, detail: "" };
//!     store.report(claim.attempt.id, worker, &outcome, 6_000_000)?;
//! }
//! # Ok(())
//! # }
//! ```

mod clock;
mod contract;
mod error;
mod memory;
mod pages;
mod postgres;
mod relational;
pub mod requests;
mod sqlite;
pub mod text;
mod words;

pub use contract::Store;
pub use error::{DriverError, StoreError};
pub use memory::MemoryStore;
pub use pages::{all_attempts, all_hosts, all_releases, all_rollouts};
pub use postgres::{Backup, Postgres, PostgresStore};
pub use relational::Relational;
pub use sqlite::{FILE, Sqlite, SqliteStore};
pub use words::word;
