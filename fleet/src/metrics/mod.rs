//! What Prometheus is told of a fleet, in its text format.
//!
//! | file | what it has |
//! | --- | --- |
//! | `family.rs` | every metric, with its name and help |
//! | `exposition.rs` | the text format |
//! | `page.rs` | a survey of the store as metrics |
//! | `budget.rs` | how full each limit is |
//!
//! No series names a host: their number grows with sites, waves and limits of the rollouts that
//! are open, not with the fleet.

mod budget;
mod exposition;
mod family;
mod page;

pub use exposition::SERIES_MAX;
pub use family::{FAMILIES, Family, Kind};
pub use page::{Look, page};

/// The media type of [`page`]: Prometheus text format 0.0.4.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
