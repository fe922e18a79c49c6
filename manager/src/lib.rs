//! The manager's library: what the command line is made of.
//!
//! - [`campaign`]: a campaign over many hosts, sans-IO; [`rescue`]: campaigns for dead hosts that ask for help, sans-IO.
//! - [`news`]: what happens in a campaign, as JSON; [`record`] keeps it durably.
//! - [`inventory`]: the hosts that the manager knows; [`backups`]: what their flash held before an update.
//! - [`state`]: where the manager keeps what outlives one run; [`clock`]: time for people.

pub mod backups;
pub mod campaign;
pub mod clock;
pub mod inventory;
pub mod news;
pub mod record;
pub mod rescue;
pub mod state;
