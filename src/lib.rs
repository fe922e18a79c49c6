//! firmcast replaces and rescues the firmware of many networked computers at once.
//!
//! This library is what the host's `firmcastd` and the manager's `firmcast` are made of. Dependencies point down:
//!
//! ```text
//! agent, rescue, recovery      state machines and their loops
//! kexec, net, bmc, dmi, power, mtd, flash
//!                              the outside world in few small rooms; flash is pure but for its device
//! image                        bundles: from untrusted bytes to a VerifiedImage
//! transfer, session, keys      fragments and erasure code; Noise sessions; who may do what
//! wire, reason, time           bytes and messages; why something ended; time as it is handed in
//! ```
//!
//! `wire`, `session`, `transfer`, `image`, `flash` and the machines of `agent`, `rescue` and `recovery` are sans-IO: they take time, bytes
//! and a seed, and give back bytes, deadlines and actions. docs/ARCHITECTURE.md follows an update through the rooms.

pub mod agent;
pub mod bmc;
pub mod dmi;
pub mod flash;
pub mod image;
pub mod kexec;
pub mod keys;
pub mod manager_url;
pub mod mtd;
pub mod net;
pub mod power;
pub mod reason;
pub mod recovery;
pub mod rescue;
pub mod session;
pub mod time;
pub mod transfer;
pub mod wire;
