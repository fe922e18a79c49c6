//! One suite for all stores. PostgreSQL is Debian's, started here in a temporary folder.
//!
//! | file | what it does |
//! | --- | --- |
//! | `server.rs` | a PostgreSQL server of its own |
//! | `samples.rs` | hosts, releases, rollouts |
//! | `receiver.rs` | an HTTP server that fails in all ways |
//! | `sender.rs` | webhooks: delivered in order, at least once, whatever fails |
//! | `calls.rs` | dead hosts that call for help |
//! | `foresights.rs` | how long updates take |
//! | `suite.rs` | what holds for every store |
//! | `bundles.rs` | bundles in chunks, and who needs them where |
//! | `limits.rs` | what limits and windows do |
//! | `survey.rs` | what Prometheus is told |
//! | `fleet.rs` | a fleet such as operators have |
//! | `worker.rs` | what a worker makes of the end of a campaign |
//! | `watch.rs` | what must hold after each step, from the attempts alone |
//! | `model.rs` | random workers, step by step: all stores do the same |
//! | `crowd.rs` | real workers at once |
//! | `tls.rs` | TLS to PostgreSQL: whom it trusts |
//! | `trouble.rs` | older and newer schemas, a server that is gone |
#![allow(clippy::unwrap_used)]

#[path = "store/bundles.rs"]
mod bundles;
#[path = "store/calls.rs"]
mod calls;
#[path = "store/crowd.rs"]
mod crowd;
#[path = "store/fleet.rs"]
mod fleet;
#[path = "store/foresights.rs"]
mod foresights;
#[path = "store/limits.rs"]
mod limits;
#[path = "store/model.rs"]
mod model;
#[path = "store/receiver.rs"]
mod receiver;
#[path = "store/samples.rs"]
mod samples;
#[path = "store/sender.rs"]
mod sender;
#[path = "store/server.rs"]
mod server;
#[path = "store/suite.rs"]
mod suite;
#[path = "store/survey.rs"]
mod survey;
#[path = "store/tls.rs"]
mod tls;
#[path = "store/trouble.rs"]
mod trouble;
#[path = "store/watch.rs"]
mod watch;
#[path = "store/worker.rs"]
mod worker;
