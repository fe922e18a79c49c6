//! Where the manager is, as the BMC remembers it: a BMC outlives a dead BIOS. And its watchdog.
//!
//! ```text
//! command, look_up     what an operator and the recovery environment ask for
//! inventory            FRU devices, one after the other; system info
//! storage, sdr, system_info
//!                      dialogues: the bytes of a FRU device, the list of devices, a string
//! commands, message    requests and responses as bytes, when to ask again
//! watchdog, timer      the timer that resets the host
//! fru                  the contents of a FRU device, and safe changes to them
//! device, syscall      the kernel's IPMI device
//! ```
//!
//! All but `device`, `watchdog` and `syscall` is sans-IO: it speaks with an [`Ipmi`], which is the
//! kernel's device or a simulated BMC. What a BMC says is a hint where to ask; whom to trust is
//! decided by keys alone. docs/BMC.md has the formats and how to write the record from outside.

pub mod command;
mod commands;
mod completion;
mod device;
mod error;
pub mod fru;
mod inventory;
mod look_up;
mod message;
mod sdr;
#[cfg(test)]
mod simulated;
mod storage;
mod syscall;
mod system_info;
mod timer;
pub mod watchdog;

pub use error::BmcError;
pub use look_up::{LOOK_UP_LIMIT_MS, LookUp, look_up, look_up_with};
pub use message::{Ipmi, Request, Response};
pub use timer::TimerState;
