//! Flash chips as Linux shows them: MTD devices.
//!
//! [`MtdInfo`] describes and finds them (sysfs); [`MtdDevice`] is one that is open, as a
//! [`Flash`](crate::flash::Flash). The firmware lies in one, or in several that are joined:
//! [`ChipInfo`] finds those, [`Chip`] is them open, [`read_chip`] reads all of them.

mod chip;
mod contents;
mod device;
mod error;
mod held;
mod holders;
mod info;
mod ioctl;
mod overlap;
mod protection;
#[cfg(test)]
pub(crate) mod testing;

pub use chip::{Chip, ChipInfo, JOINED_MAX};
pub use contents::{ChipReadError, read_chip};
pub use device::{Access, EccCounters, MtdDevice};
pub use error::MtdError;
pub use held::{Held, HeldBy};
pub use holders::Holders;
pub use info::{
    MTD_BIT_WRITEABLE, MTD_NO_ERASE, MTD_POWERUP_LOCK, MTD_WRITEABLE, MtdInfo, MtdKind, SYSFS_MTD,
};
pub use overlap::Overlap;
pub use protection::Protection;
