//! An MTD device that is open.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::{Holders, MtdError, MtdInfo, MtdKind, Protection, SYSFS_MTD, ioctl};
use crate::flash::{EraseBlock, EraseRegion, Flash, Geometry, WriteRule};
use crate::helper;
use crate::order::sort_by_rank;

/// What a device is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To look at it, whoever else uses it.
    ReadOnly,
    /// To change it, alone.
    Exclusive,
}

/// Counters that a device keeps since its driver was loaded (`ECCGETSTATS`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EccCounters {
    /// Bits that ECC corrected.
    pub corrected_bits: u32,
    /// Errors that ECC could not correct.
    pub failed: u32,
    /// Eraseblocks that are marked bad.
    pub bad_blocks: u32,
}

/// An open MTD device.
#[derive(Debug)]
pub struct MtdDevice {
    handle: Handle,
    info: MtdInfo,
    geometry: Geometry,
    protection: Protection,
}

/// The open file; with the lock, where it is held for changes.
#[derive(Debug)]
enum Handle {
    Shared(File),
    Locked(Flock<File>),
}

impl Deref for Handle {
    type Target = File;

    fn deref(&self) -> &File {
        match self {
            Handle::Shared(file) => file,
            Handle::Locked(file) => file,
        }
    }
}

impl MtdDevice {
    /// Opens the device that `selector` means: a name, `mtdN`, or `/dev/mtdN`.
    ///
    /// # Errors
    /// It is not found, is of a kind that firmware is not flashed to, contradicts itself, or cannot
    /// be opened. For [`Access::Exclusive`] also: it is read-only, or another program has it open.
    pub fn open(selector: &str, access: Access) -> Result<Self, MtdError> {
        let info = MtdInfo::find(Path::new(SYSFS_MTD), selector)?;
        let rule = Self::check_kind(&info)?;
        let path = info.path();
        let protection = Protection::of(Path::new(SYSFS_MTD), &info)?;
        let handle = match access {
            Access::ReadOnly => {
                let file = Self::open_to_read(info.index)
                    .map_err(|source| MtdError::Open { path: path.clone(), source })?;
                Handle::Shared(file)
            }
            Access::Exclusive => open_exclusive(&info, &path, &protection)?,
        };
        check_identity(&handle, &info, &path)?;
        let geometry = read_geometry(&handle, &info, rule, path)?;
        Ok(Self { handle, info, geometry, protection })
    }

    /// Opens the node of device `index` for reading.
    ///
    /// # Errors
    /// As it is opened.
    pub fn open_to_read(index: u32) -> io::Result<File> {
        match helper::ask(&format!("chip {index}"), &[]) {
            Some(answer) => Ok(File::from(answer?.file.ok_or(ErrorKind::NotFound)?)),
            None => File::open(format!("/dev/mtd{index}")),
        }
    }

    /// Returns what a write to such a device may do.
    ///
    /// # Errors
    /// [`MtdError::Unsupported`]: it is of a kind that firmware is not flashed to.
    pub(crate) fn check_kind(info: &MtdInfo) -> Result<WriteRule, MtdError> {
        info.write_rule().ok_or_else(|| MtdError::Unsupported {
            index: info.index,
            name: info.name.clone(),
            kind: info.kind.to_string(),
        })
    }

    /// Returns what sysfs says of the device.
    pub fn info(&self) -> &MtdInfo {
        &self.info
    }

    /// Returns what sysfs says of its write protection, as it was when the device was opened.
    pub fn protection(&self) -> &Protection {
        &self.protection
    }

    /// ECC and bad block counters.
    ///
    /// # Errors
    /// What the device reports.
    pub fn ecc_counters(&self) -> io::Result<EccCounters> {
        let stats = ioctl::ecc_stats(&self.handle)?;
        Ok(EccCounters {
            corrected_bits: stats.corrected,
            failed: stats.failed,
            bad_blocks: stats.badblocks,
        })
    }

    /// Marks a block bad, for good.
    ///
    /// # Errors
    /// What the device reports; `EOPNOTSUPP` where blocks cannot be marked.
    pub fn mark_bad(&mut self, block: EraseBlock) -> io::Result<()> {
        ioctl::mark_bad(&self.handle, block.offset_bytes())
    }
}

fn open_exclusive(
    info: &MtdInfo,
    path: &Path,
    protection: &Protection,
) -> Result<Handle, MtdError> {
    if !info.is_writeable() {
        return Err(MtdError::ReadOnly { index: info.index, name: info.name.clone() });
    }
    if !protection.locks.is_empty() {
        let locks = protection.locks.join(", ");
        return Err(MtdError::Protected { path: path.to_owned(), locks });
    }
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.map_err(|source| MtdError::Open { path: path.to_owned(), source })?;
    let locked =
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => MtdError::Locked { path: path.to_owned() },
            errno => MtdError::Open { path: path.to_owned(), source: errno.into() },
        })?;
    match Holders::users(Path::new("/"), std::slice::from_ref(info))?.first {
        Some(held) => Err(MtdError::InUse { held }),
        None => Ok(Handle::Locked(locked)),
    }
}

/// A device node can be stale, and sysfs of another namespace: what is flashed is what was asked
/// for, or nothing.
fn check_identity(device: &File, info: &MtdInfo, path: &Path) -> Result<(), MtdError> {
    let answer = ioctl::info(device).map_err(|source| MtdError::Ioctl {
        path: path.to_owned(),
        ioctl: "MEMGETINFO",
        source,
    })?;
    let pairs = [
        ("flags", answer.flags, info.flags),
        ("size (low 32 bits)", answer.size, info.size_bytes as u32),
        ("eraseblock size", answer.erasesize, info.erase_bytes),
        ("write size", answer.writesize, info.write_bytes),
        ("spare size", answer.oobsize, info.oob_bytes),
    ];
    for (what, device, sysfs) in pairs {
        if device != sysfs {
            let (device, sysfs) = (u64::from(device), u64::from(sysfs));
            return Err(MtdError::Disagree { path: path.to_owned(), what, device, sysfs });
        }
    }
    Ok(())
}

fn read_geometry(
    device: &File,
    info: &MtdInfo,
    rule: WriteRule,
    path: PathBuf,
) -> Result<Geometry, MtdError> {
    let ioctl_error = |ioctl| {
        let path = path.clone();
        move |source| MtdError::Ioctl { path, ioctl, source }
    };
    let count = ioctl::region_count(device).map_err(ioctl_error("MEMGETREGIONCOUNT"))?;
    let geometry = if count == 0 {
        Geometry::uniform(info.size_bytes, info.erase_bytes, info.write_bytes, rule)
    } else {
        let mut regions = Vec::new();
        for index in 0..count {
            let region = ioctl::region(device, index).map_err(ioctl_error("MEMGETREGIONINFO"))?;
            regions.push((region.offset, region.erasesize, region.numblocks));
        }
        sort_by_rank(&mut regions, |&(offset, erase_bytes, blocks)| {
            [offset.into(), erase_bytes.into(), blocks.into()]
        });
        let regions: Vec<EraseRegion> = regions
            .iter()
            .map(|&(_, block_bytes, blocks)| EraseRegion {
                block_bytes,
                block_count: u64::from(blocks),
            })
            .collect();
        Geometry::new(info.size_bytes, &regions, info.write_bytes, rule)
    };
    geometry.map_err(|source| MtdError::Geometry { path, source })
}

/// A number for an ioctl that takes 32 bits.
fn below_4_gib(bytes: u64) -> io::Result<u32> {
    u32::try_from(bytes).map_err(|_| Errno::EFBIG.into())
}

impl Flash for MtdDevice {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn read(&mut self, offset_bytes: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.info.kind != MtdKind::Nand {
            return self.handle.read_exact_at(buffer, offset_bytes);
        }
        // read(2) of an MTD device hands out bytes that ECC could not correct as if nothing had
        // happened; only the counter tells.
        let failed_before = ioctl::ecc_stats(&self.handle)?.failed;
        self.handle.read_exact_at(buffer, offset_bytes)?;
        match ioctl::ecc_stats(&self.handle)?.failed == failed_before {
            true => Ok(()),
            false => Err(Errno::EBADMSG.into()),
        }
    }

    fn erase(&mut self, block: EraseBlock) -> io::Result<()> {
        ioctl::erase(&self.handle, block.offset_bytes(), u64::from(block.length_bytes()))
    }

    fn write(&mut self, offset_bytes: u64, data: &[u8]) -> io::Result<()> {
        self.handle.write_all_at(data, offset_bytes)
    }

    fn is_locked(&mut self, block: EraseBlock) -> io::Result<bool> {
        let read_only = self.protection.read_only_in(block.offset_bytes(), block.end_bytes());
        if read_only.is_some() {
            return Ok(true);
        }
        // The ioctl takes 32-bit offsets. Beyond them the question is only whether the device has
        // locks at all.
        let beyond = block.end_bytes() > u64::from(u32::MAX);
        let offset_bytes = if beyond { 0 } else { block.offset_bytes() as u32 };
        match ioctl::is_locked(&self.handle, offset_bytes, block.length_bytes()) {
            Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => Ok(false),
            Ok(_) if beyond => Err(Errno::EFBIG.into()),
            answer => answer,
        }
    }

    fn unlock(&mut self, offset_bytes: u64, length_bytes: u64) -> io::Result<()> {
        ioctl::unlock(&self.handle, below_4_gib(offset_bytes)?, below_4_gib(length_bytes)?)
    }

    fn protect(&mut self, offset_bytes: u64, length_bytes: u64) -> io::Result<()> {
        ioctl::lock(&self.handle, below_4_gib(offset_bytes)?, below_4_gib(length_bytes)?)
    }

    fn is_bad(&mut self, block: EraseBlock) -> io::Result<bool> {
        ioctl::is_bad(&self.handle, block.offset_bytes())
    }
}
