//! The manager's library: what it knows and decides. The program `firmcast` stands on it.
//!
//! | room | duty | may import |
//! | --- | --- | --- |
//! | [`rescue`] | campaigns for dead hosts that ask, sans-IO | `news`, `campaign`, `clock` |
//! | [`store`] | what outlives one run, on disk | `news`, `campaign`, `clock` |
//! | [`news`] | what happens in a campaign, as JSON and in words | `campaign`, `clock` |
//! | [`wrapping`] | makers' files: what a file is, and the image in it, sans-IO | nothing here |
//! | [`contents`] | what images consist of, compared and drawn, sans-IO | nothing here |
//! | [`campaign`] | one campaign over many hosts, sans-IO | nothing here |
//! | [`clock`] | wall-clock time for people | nothing here |
//!
//! The program has two shelves above these rooms: `driver` does the I/O and imports the library
//! alone, `commands` is what an operator types and imports everything.

#![warn(missing_docs)]

pub mod campaign;
pub mod clock;
pub mod contents;
pub mod news;
pub mod rescue;
pub mod store;
pub mod trial;
pub mod wrapping;
