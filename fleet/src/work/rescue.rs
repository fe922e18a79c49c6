//! Dead hosts of a site: what the service that answers them is told, and what it tells.
//!
//! The service is `firmcast serve`; who runs it gives it a [`Plan`], and hears from it by
//! [`Hearing`]. A dead host gets what it ran when it was heard last, never just the newest: who
//! gets another release when, rollouts say.
//!
//! | file | what it has |
//! | --- | --- |
//! | `rescue/choice.rs` | which release a host gets |
//! | `rescue/plan.rs` | the same for all hosts of a site, as the service reads it |
//! | `rescue/hearing.rs` | who calls, and what happened to whom |

mod choice;
mod hearing;
mod plan;

pub use choice::LABEL;
pub use hearing::{Heard, Hearing, NEWS_MAX};
pub use plan::{Draft, Plan, PolicyLimits, RELEASES_MAX};
