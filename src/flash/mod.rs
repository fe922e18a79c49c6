//! The flash engine: from a [`VerifiedImage`](crate::image::VerifiedImage) in memory to a chip that
//! holds it.
//!
//! ```text
//! VerifiedImage --> Job --> Placement  which eraseblocks the image lies on (good blocks, in order)
//!                    |----> Backup     what they hold now, in memory, proven by a second read
//!                    |----> FlashPlan  which of them change, how, and in which order (pure)
//!                    '----> Execution  erase, write, read back; compare everything;
//!                              |       restore on failure
//!                            Flash     MtdDevice (crate::mtd) or SimulatedFlash
//! ```
//!
//! The engine owns no clock and no thread. Its owner calls [`Job::step`] until the job has ended;
//! each call does at most [`BATCH_BYTES_MAX`] (or one eraseblock) of changes, so that the network
//! can be served in between.
//!
//! # A flash job on the simulated chip
//!
//! ```
//! use firmcast::flash::{Flash, Geometry, Job, SimulatedFlash, Step, WriteRule};
//! # use firmcast::image::{Description, Manifest, PayloadFormat, SignedManifest, VerifiedManifest};
//! # use firmcast::keys::{ReleaseSecretKey, SecretKey};
//! # use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
//!
//! let (old, new) = (vec![0x11; 256 * 1024], vec![0x22; 256 * 1024]);
//! // A `VerifiedImage` comes only from a signature check; `image` has that as an example.
//! # let release = ReleaseSecretKey::generate(&mut ChaCha20Rng::from_seed([1; 32]));
//! # let (vendor, products) = ("ACME".into(), vec!["S1".into()]);
//! # let description =
//! #     Description { version: "2".into(), vendor, products, ..Description::default() };
//! # let manifest = Manifest::describe(description, &new, PayloadFormat::Raw, &new)?;
//! # let signed = SignedManifest::sign(&manifest, &release)?;
//! let manifest = VerifiedManifest::verify(&signed, &[release.public()])?;
//! let image = manifest.open_payload(&new)?;
//!
//! // NOR flash: 64 eraseblocks of 4 KiB, written byte by byte.
//! let geometry = Geometry::uniform(256 * 1024, 4096, 1, WriteRule::ClearBits)?;
//! let mut chip = SimulatedFlash::new(geometry, old.clone());
//! let mut job = Job::new(image);
//! loop {
//!     match job.step(&mut chip) {
//!         Step::Continue => {} // serve the network here
//!         Step::ReadyToChange => {
//!             assert_eq!(chip.contents(), old, "until here nothing was changed");
//!             job.allow_change(); // stop the watchdog before this
//!         }
//!         Step::Ended => break,
//!     }
//! }
//! let end = job.into_end().expect("the job has ended");
//! assert!(end.contents_changed(), "{end}");
//! assert_eq!(chip.contents(), new);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod block;
mod block_fault;
mod contents_digest;
mod dump;
mod error;
mod estimate;
mod execute;
mod fitness;
mod geometry;
mod job;
mod live;
mod locks;
mod move_order;
mod outcome;
mod own_bytes;
mod phase;
mod placement;
mod plan;
mod prepare;
mod reading;
mod report;
mod simulated;
#[cfg(test)]
mod tests;

use std::io;

pub use block_fault::BlockFault;
pub use dump::{DumpError, DumpFacts, EraseblockFacts};
pub use error::FlashError;
pub use estimate::{Estimate, Workload};
pub use execute::{
    BATCH_BYTES_MAX, BLOCK_ATTEMPTS_MAX, FOREIGN_REPAIRS_MAX, UNPLANNED_REPAIRS_MAX,
};
pub use geometry::{
    BLOCKS_MAX, EraseBlock, EraseRegion, Geometry, GeometryError, REGIONS_MAX, WriteRule,
};
pub use job::{Job, JobBackup, Step};
pub use live::Live;
pub use outcome::{
    BlockHolds, End, FOREIGN_RANGES_TOLD_MAX, ForeignChange, ForeignKind, LockChanges, MixedBlocks,
    Outcome, Progress, Statistics,
};
pub use own_bytes::read_twice;
pub use phase::Phase;
pub use placement::Placement;
pub use plan::{Change, FlashPlan, Operation};
pub use prepare::SPAN_BYTES_MAX;
pub use reading::{ContentsError, READ_ATTEMPTS_MAX, read_contents};
pub(crate) use reading::{GoodBlock, good_blocks, read_block};
pub use report::{PlanReport, refusal_json};
pub use simulated::{Asked, Fault, ForeignWrite, Locking, SimulatedFlash};

/// A flash chip, or the part of one that may be used.
///
/// Offsets are bytes from the start of the chip. An operation that returns an error may have been
/// done in part.
pub trait Flash {
    /// Size, eraseblocks and write rule. Never changes.
    fn geometry(&self) -> &Geometry;

    /// Fills `buffer` with the bytes at `offset_bytes`.
    ///
    /// # Errors
    /// What the device reports, and `EBADMSG` when bytes were read that ECC could not correct: then
    /// they are not the chip's contents.
    fn read(&mut self, offset_bytes: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Sets every byte of `block` to FFh.
    ///
    /// # Errors
    /// What the device reports; the block's contents are unknown then.
    fn erase(&mut self, block: EraseBlock) -> io::Result<()>;

    /// Writes `data` at `offset_bytes`, both multiples of the geometry's write size.
    ///
    /// # Errors
    /// What the device reports; the range's contents are unknown then.
    fn write(&mut self, offset_bytes: u64, data: &[u8]) -> io::Result<()>;

    /// Whether any byte of `block` is protected against change. A device without locks says
    /// `false`.
    ///
    /// # Errors
    /// What the device reports; whoever asks takes that as locked.
    fn is_locked(&mut self, block: EraseBlock) -> io::Result<bool>;

    /// Takes the protection of a range of whole eraseblocks away. A chip with few lock bits may
    /// unlock more, or refuse a range that its bits cannot express.
    ///
    /// # Errors
    /// What the device reports.
    fn unlock(&mut self, offset_bytes: u64, length_bytes: u64) -> io::Result<()>;

    /// Protects a range of whole eraseblocks against change. A chip with few lock bits may protect
    /// less or more, or refuse a range that its bits cannot express.
    ///
    /// # Errors
    /// What the device reports; a part of the range may be protected then.
    fn protect(&mut self, offset_bytes: u64, length_bytes: u64) -> io::Result<()>;

    /// Whether `block` is marked bad. A device without bad blocks says `false`.
    ///
    /// # Errors
    /// What the device reports.
    fn is_bad(&mut self, block: EraseBlock) -> io::Result<bool>;
}
