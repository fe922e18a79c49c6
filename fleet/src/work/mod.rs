//! What a worker of a site does: it takes hosts that may begin, has campaigns run for them, and
//! says what became of them. Sans-IO but for the store: who runs the campaigns is told what to
//! begin and what to end, and tells what happens.
//!
//! | file | what it has |
//! | --- | --- |
//! | [`crew`] | the worker: leases, campaigns, reports |
//! | `drains.rs` | the hosts that are drained and undrained |
//! | `party.rs` | the hosts of one campaign, and what it says of them |
//! | [`rescue`] | dead hosts: what the service that answers them is told, and what it tells |
//! | `strays.rs` | hosts that are looked at, and what is made of that |
//! | `supply.rs` | which bundles it has, and which one it fetches next |
//! | `steering.rs` | what comes next in each rollout, and where a window is open |

pub mod crew;
mod drains;
mod party;
pub mod rescue;
mod steering;
mod strays;
mod supply;
