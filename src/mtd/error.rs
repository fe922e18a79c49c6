//! What can go wrong with finding and opening an MTD device.

use std::io;
use std::path::PathBuf;

use super::Held;
use crate::flash::GeometryError;
use crate::reason::Reason;

/// Why an MTD device cannot be used. None of these changes anything on a chip.
#[derive(Debug, thiserror::Error)]
pub enum MtdError {
    /// No device has this name or number.
    #[error(
        "there is no MTD device \"{selector}\"; there is: {known}. Load the driver of the flash \
        chip, or name one of these"
    )]
    NotFound {
        /// What was asked for.
        selector: String,
        /// What there is, for people.
        known: String,
    },
    /// Several devices have this name.
    #[error(
        "{count} MTD devices are named \"{selector}\": name one by its path, as /dev/mtd{first}"
    )]
    Ambiguous {
        /// What was asked for.
        selector: String,
        /// How many have the name.
        count: usize,
        /// Number of the first.
        first: u32,
    },
    /// Devices that cannot be one chip together.
    #[error("the devices of \"{selector}\" cannot be taken for one chip: {why}")]
    NotJoined {
        /// What was asked for.
        selector: String,
        /// Why not, and what to do.
        why: String,
    },
    /// The device is another one than a moment ago.
    #[error("{} is not what sysfs said of it: try again", path.display())]
    Changed {
        /// The device node.
        path: PathBuf,
    },
    /// sysfs cannot be read.
    #[error("cannot read {}: is sysfs mounted, and the device still there?", path.display())]
    Sysfs {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// sysfs says something that is not understood.
    #[error("{} holds \"{text}\", which is not a number that can be there", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
    /// Not a kind of memory that firmware is flashed to.
    #[error(
        "MTD device {index} (\"{name}\") is of type \"{kind}\"; firmware can be flashed to nor, \
        nand, dataflash and ram"
    )]
    Unsupported {
        /// Number of the device.
        index: u32,
        /// Its name.
        name: String,
        /// Its type.
        kind: String,
    },
    /// The driver allows no writes.
    #[error(
        "MTD device {index} (\"{name}\") is read-only: load its driver with writing enabled (e.g. \
         intel-spi with writeable=1), and take the write protection of the board away"
    )]
    ReadOnly {
        /// Number of the device.
        index: u32,
        /// Its name.
        name: String,
    },
    /// The device node cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The device node.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another firmcast has it.
    #[error(
        "{} is locked by another program that flashes it: wait until that ends",
        path.display()
    )]
    Locked {
        /// The device node.
        path: PathBuf,
    },
    /// Something else uses it, or another device that has bytes of it.
    #[error("{held}: stop that first")]
    InUse {
        /// Who, and what of.
        held: Held,
    },
    /// Another source than the device's own flag says that it is write protected.
    #[error(
        "{} is write protected: {locks}; load its driver with writing enabled (e.g. spi_intel with \
         writeable=1), and take the write protection of the board away",
        path.display()
    )]
    Protected {
        /// The device node.
        path: PathBuf,
        /// What says so.
        locks: String,
    },
    /// Nobody tells this process who uses the device.
    #[error("cannot find out who uses the chip")]
    Helper {
        /// Why.
        source: io::Error,
    },
    /// The device does not answer.
    #[error("{} does not answer {ioctl}", path.display())]
    Ioctl {
        /// The device node.
        path: PathBuf,
        /// What was asked.
        ioctl: &'static str,
        /// What came back.
        source: io::Error,
    },
    /// The device node is not the device that sysfs describes.
    #[error(
        "{} has {what} {device:#x}, but sysfs says {sysfs:#x}: the device node belongs to another \
        device",
        path.display()
    )]
    Disagree {
        /// The device node.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// The device's answer.
        device: u64,
        /// The answer of sysfs.
        sysfs: u64,
    },
    /// Eraseblocks that make no sense.
    #[error("the eraseblocks of {} make no sense", path.display())]
    Geometry {
        /// The device node.
        path: PathBuf,
        /// Why.
        source: GeometryError,
    },
}

impl MtdError {
    /// Why an update is refused then.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotFound { .. } | Self::Ambiguous { .. } => Reason::FlashNotFound,
            Self::ReadOnly { .. } | Self::Protected { .. } => Reason::FlashLocked,
            Self::Locked { .. } | Self::InUse { .. } | Self::Helper { .. } => Reason::FlashBusy,
            _ => Reason::FlashUnsupported,
        }
    }
}
