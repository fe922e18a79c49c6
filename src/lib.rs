//! firmcast replaces and rescues the firmware of many networked computers at once.
//!
//! This library is what the host's `firmcastd` and the manager's `firmcast` are made of.
//! Dependencies point down:
//!
//! ```text
//! agent, environment           what firmcastd does: in the normal OS; in the recovery environment
//! rescue, recovery             a host's part in finding help; in one campaign; kept apart
//! platform, mailbox, kexec     what PID 1 owes the machine; word to the agent; the way to recovery
//! handover                     what is handed over to the recovery environment
//! net, bmc, host, dmi, disks, tpm, power, mtd, flash
//!                              the outside world in small rooms; flash is pure but for its device
//! image                        bundles: from untrusted bytes to a VerifiedImage
//! transfer, session, keys      fragments and erasure code; Noise sessions; who may do what
//! wire, reason                 bytes and messages; why something ended
//! time, random, usage, helper  time as handed in; what machines draw from seeds; what one may
//!                              type; what the confined agent has done for it
//! durable, order               files that are written whole or not at all; one sort for all
//! ```
//!
//! `wire`, `session`, `transfer`, `image`, `flash`, `rescue`, `recovery` and the machines of
//! `agent` and `environment` are sans-IO: they take time, bytes and a seed, and return bytes,
//! deadlines and actions. docs/ARCHITECTURE.md follows an update through the rooms.

#![warn(missing_docs)]

pub mod agent;
pub mod backoff;
pub mod bmc;

pub mod disks;
pub mod dmi;
pub mod durable;
pub mod environment;
pub mod flash;
pub mod handover;
pub mod helper;
pub mod host;
pub mod image;
pub mod kexec;
pub mod keys;
pub mod mailbox;
pub mod manager_url;
pub mod mtd;
pub mod net;
pub(crate) mod order;
pub mod platform;
pub(crate) mod power;
pub mod random;
pub mod reason;
pub mod recovery;
pub mod rescue;
pub mod session;
pub mod time;
pub mod tpm;
pub mod transfer;
pub mod usage;
pub mod wire;
