//! Rollouts over fleets: which hosts get which firmware, in which order, and how much of it at a
//! time. The program `firmcast-fleet` stands on this library.
//!
//! | room | duty | may import |
//! | --- | --- | --- |
//! | [`web`] | the page for browsers | all below |
//! | [`picture`] | what a person is shown, wherever | `store`, `rollout`, `model` |
//! | [`webhooks`] | who is told of events over HTTP | `store`, `model` |
//! | [`deeds`] | what people do with rollouts; the store is its only I/O | the three below `work` |
//! | [`top`] | the same in a terminal: views and keys; pure | `picture` and below |
//! | [`work`] | what a worker of a site does; its store is the only I/O | the three below |
//! | [`metrics`] | what Prometheus is told; pure | `store`'s requests, `rollout`, `model` |
//! | [`people`] | who may act: passwords, sessions, tokens | `model` |
//! | [`store`] | what the programs know together: SQLite, PostgreSQL, memory | `rollout`, `model` |
//! | [`exchange`] | lists of hosts that others write and read; pure | `model` |
//! | [`rollout`] | the rollout's file, its plan, its limits; pure | `model` |
//! | [`model`] | hosts, releases, rollouts, attempts, events | nothing here |

#![warn(missing_docs)]

pub mod deeds;
pub mod exchange;
pub mod metrics;
pub mod model;
pub mod people;
pub mod picture;
pub mod rollout;
pub mod store;
pub mod top;
pub mod web;
pub mod webhooks;
pub mod work;
