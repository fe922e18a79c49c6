//! Flash chips as Linux shows them: MTD devices.
//!
//! [`MtdInfo`] describes and finds them (sysfs); [`MtdDevice`] is one that is open, as a
//! [`Flash`](crate::flash::Flash).

mod device;
mod error;
mod holders;
mod info;
mod ioctl;

pub use device::{Access, EccCounters, MtdDevice};
pub use error::MtdError;
pub use info::{
    MTD_BIT_WRITEABLE, MTD_NO_ERASE, MTD_POWERUP_LOCK, MTD_WRITEABLE, MtdInfo, MtdKind, SYSFS_MTD,
};
