//! What the manager keeps on disk, in its state directory.
//!
//! - [`state`]: where that directory is, and the manager's key in it.
//! - [`inventory`]: the hosts that the manager knows.
//! - [`records`]: what happened in each campaign, durably.
//! - [`flash_backups`]: what the flash of hosts held before an update.
//! - [`known_bundles`]: bundles that an operator has let pass although settings may be lost.
//! - [`stamps`]: which stamps a manager's key has used.
//! - [`owner`]: whose these files are; `whole_file`: how one is replaced.

pub mod flash_backups;
pub mod inventory;
pub mod known_bundles;
pub mod owner;
pub mod records;
pub mod stamps;
pub mod state;
mod whole_file;
