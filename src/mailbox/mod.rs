//! The result mailbox: how a recovery that ended without an update tells the agent of the normal OS
//! why, though it mounts no disk.
//!
//! The agent keeps one block of its own in its state directory, knows from the file system where on
//! the disk that block is, and hands the place over with a nonce. Recovery looks at that place on
//! every disk, and only where it finds the nonce it overwrites the block, as GRUB does with its
//! environment block. The file system's own structures are never touched: the file has been written
//! in full before, so its place and size stay.
//!
//! - [`Word`] and its codec are pure;
//! - [`prepare`], [`read`] and [`forget_rescues`] are the agent's; [`deliver`], [`look`] and
//!   [`rescues`] are recovery's.
//!
//! The block also has when the host was rescued ([`Rescues`]): words come and go, these stay until
//! the agent forgets them.

use std::io;
use std::path::PathBuf;

mod deliver;
mod prepare;
mod rescues;
mod syscall;
mod word;

pub use deliver::{deliver, look, rescues};
#[cfg(test)]
pub(crate) use prepare::rescued;
pub use prepare::{FILE_NAME, forget_rescues, prepare, read};
pub use rescues::{RESCUES_MAX, RESCUES_MEMORY, Rescues, clock_s};
pub use word::{TEXT_LENGTH_MAX, Word};

/// Size of the file, and of the one block that it occupies.
pub const MAILBOX_SIZE: usize = 4096;

/// Why the mailbox cannot be used, or holds nothing. An update does not depend on it.
#[derive(Debug, thiserror::Error)]
pub enum MailboxError {
    /// A file could not be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file system, or what lies under it, is none on which a block may be rewritten in place.
    #[error(
        "{} is no place for the result of a recovery: {reason}; the agent will infer it",
        path.display()
    )]
    Unsuitable {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The block is none of this format.
    #[error("the result mailbox is malformed: {0}")]
    Malformed(&'static str),
    /// The nonce in the handoff is no nonce.
    #[error("the mailbox's nonce has {got} characters, expected 64 hexadecimal digits")]
    Nonce {
        /// Its length.
        got: usize,
    },
    /// No disk has the block.
    #[error(
        "none of {looked_at} block devices has the result mailbox at {offset_bytes:#x}; the agent \
        will infer the result"
    )]
    NotFound {
        /// How many were read.
        looked_at: usize,
        /// Where.
        offset_bytes: u64,
    },
}
