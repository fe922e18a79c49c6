//! What is handed over to the recovery environment, as JSON files that only root may read.
//!
//! - `handoff`: what the agent says when it sends this host there for one campaign.
//! - `provision`: what the environment has when nobody sent the host: keys, managers, the record of
//!   good firmware.

use std::io;
use std::path::PathBuf;

mod handoff;
mod provision;

pub use handoff::{
    Deadlines, Drill, HANDOFF_PATH, HANDOFF_SIZE_MAX, HANDOFF_VERSION, Handoff, MailboxPlace,
    ManagerContact, SecretText,
};
pub use provision::{
    MANAGERS_MAX, OnUnknown, PROVISION_PATH, PROVISION_SIZE_MAX, PROVISION_VERSION, Provision,
};

#[cfg(test)]
pub(crate) use {
    handoff::tests::example as handoff_example, provision::tests::example as provision_example,
};

/// Why a handoff or a provision cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The file is there but cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Where it is.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no provision.
    #[error(
        "there is no {PROVISION_PATH}: load the archive that `firmcastd rescue-archive` writes \
        behind this initramfs"
    )]
    NoProvision,
    /// The handoff is larger than recovery would read.
    #[error(
        "the handoff has {size_bytes} bytes, expected at most {HANDOFF_SIZE_MAX}; trust fewer keys"
    )]
    HandoffTooLarge {
        /// Its size in bytes.
        size_bytes: usize,
    },
    /// The provision is larger than recovery would read.
    #[error(
        "the provision has {size_bytes} bytes, expected at most {PROVISION_SIZE_MAX}; trust fewer \
        keys, or name fewer managers"
    )]
    ProvisionTooLarge {
        /// Its size in bytes.
        size_bytes: usize,
    },
    /// The handoff is not what this version writes.
    #[error(
        "the handoff is malformed; build the recovery initramfs again with the installed firmcastd"
    )]
    HandoffForm(#[source] serde_json::Error),
    /// The provision is not what this version writes.
    #[error("{PROVISION_PATH} is not a provision; write it again with `firmcastd rescue-archive`")]
    ProvisionForm(#[source] serde_json::Error),
    /// The handoff is of another version.
    #[error(
        "the handoff has version {got}, expected {HANDOFF_VERSION}; build the recovery initramfs \
        again with the installed firmcastd"
    )]
    HandoffVersion {
        /// The version in the file.
        got: u32,
    },
    /// The provision is of another version.
    #[error(
        "the provision has version {got}, expected {PROVISION_VERSION}; write it again with the \
        firmcastd of this environment"
    )]
    ProvisionVersion {
        /// The version in the file.
        got: u32,
    },
}
