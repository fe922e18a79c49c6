//! That an MTD device is in use, and by whom.

use std::fmt;

/// Who uses a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// A process has it open, as character or as block device.
    Process {
        /// Its number.
        pid: u32,
        /// Its name (`/proc/PID/comm`).
        program: String,
    },
    /// A file system on it is mounted.
    Mount {
        /// Where.
        target: String,
    },
    /// UBI is attached to it.
    Ubi {
        /// The N of `ubiN`.
        index: String,
    },
}

/// A device in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The N of `/dev/mtdN`.
    pub index: u32,
    /// By whom.
    pub by: HeldBy,
}

impl fmt::Display for Held {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "/dev/mtd{} is in use by ", self.index)?;
        match &self.by {
            HeldBy::Process { pid, program } => write!(out, "{program} (process {pid})"),
            HeldBy::Mount { target } => write!(out, "the file system that is mounted on {target}"),
            HeldBy::Ubi { index } => write!(out, "ubi{index}"),
        }
    }
}
