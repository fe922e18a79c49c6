//! The legs of a host's way, one file each: what it is told, what its answers mean, and how long
//! each may take.
//!
//! | leg | stages |
//! | --- | --- |
//! | [`agent`] | connect, recall, manifest, foresee, begin, reach |
//! | [`recovery`] | enlist, manifest, join, transfer |
//! | [`escrow`] | escrow |
//! | [`flashing`] | commit, flash |
//! | [`release`] | release |
//! | [`confirmation`] | reboot, manifest, measure |
//!
//! A leg does not know the others: it says where the host goes ([`next`]), and the host goes there.

pub(super) mod agent;
pub(super) mod confirmation;
pub(super) mod ending;
pub(super) mod escrow;
pub(super) mod flashing;
pub(super) mod next;
pub(super) mod recovery;
pub(super) mod release;
