//! What a person is shown of a fleet: on the page, in the terminal, by the API. Words and rules
//! stand here once.
//!
//! | file | what it has |
//! | --- | --- |
//! | [`overview`] | all rollouts, a line each |
//! | [`rollout`] | one rollout: its waves, and all of the below |
//! | [`wave`] | one of its waves |
//! | [`budget`] | how much of each limit is used, and what happens when it is reached |
//! | [`grid`] | a cell for each host, by site and rack |
//! | [`mark`] | what stands in a cell: letter, shape, colour, words |
//! | [`next`] | what happens next, when, and what a person may type |
//! | [`host`] | one host, its attempts, what its flash holds |
//! | [`progress`] | how many hosts are where |
//! | [`seen`] | what was read of a rollout, from which pictures are made |
//! | [`gather`] | reads it from the store; all else is pure |
//! | [`words`] | times, spans, commands |
//!
//! Names of hosts, labels, waves and reasons are as the store has them, with any bytes: whoever
//! shows them escapes them for where they go. Commands are escaped for a shell already.
//!
//! A further view is a file here: a function from [`seen::Seen`], or from what a new function in
//! [`gather`] reads, to a struct that can be serialised. The terminal shows it by a new view in
//! `fleet/src/commands/top/view`.

pub mod budget;
pub mod call;
pub mod gather;
pub mod grid;
pub mod host;
pub mod mark;
pub mod next;
pub mod overview;
pub mod progress;
pub mod rollout;
#[cfg(test)]
pub(crate) mod samples;
pub mod seen;
pub mod wave;
pub mod words;
