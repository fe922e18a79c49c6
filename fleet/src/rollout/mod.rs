//! The rollout as one file: who would be touched, in which order, and what the limits say.
//!
//! | file | what it has |
//! | --- | --- |
//! | [`mod@file`] | the file that an operator writes, with all its errors at once |
//! | [`plan`] | who would be touched in which wave and order, how long, and what limits do |
//! | [`prediction`] | how long the update of a host takes |
//! | [`states`] | what comes next while it runs |
//! | [`selector`] | which hosts: a small language |
//! | [`limits`] | how many hosts at a time, and what happens after failures |
//! | [`window`] | when hosts of a site may begin |
//! | [`approval`] | a signed word that a wave may begin |
//! | [`duration`] | `30 min`, `2 h` |

pub mod approval;
pub mod duration;
pub mod file;
pub mod limits;
pub mod plan;
pub mod prediction;
#[cfg(test)]
pub(crate) mod samples;
pub mod selector;
pub mod states;
pub mod window;
