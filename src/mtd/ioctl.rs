//! The ioctls of an MTD character device, one function each (Linux `include/uapi/mtd/mtd-abi.h`).

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::libc::{Ioctl, c_int};
use nix::{ioctl_read_bad, ioctl_readwrite_bad, ioctl_write_ptr_bad};

/// `struct mtd_info_user`: what `MEMGETINFO` says.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MtdInfoUser {
    /// `MTD_NORFLASH` and the like.
    pub(super) kind: u8,
    pub(super) flags: u32,
    /// Low 32 bits of the size.
    pub(super) size: u32,
    pub(super) erasesize: u32,
    pub(super) writesize: u32,
    pub(super) oobsize: u32,
    padding: u64,
}

/// `struct region_info_user`: a run of eraseblocks of the same size.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RegionInfoUser {
    pub(super) offset: u32,
    pub(super) erasesize: u32,
    pub(super) numblocks: u32,
    regionindex: u32,
}

/// `struct mtd_ecc_stats`: counters since the device was found.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EccStats {
    /// Bits that were corrected.
    pub(super) corrected: u32,
    /// Errors that could not be corrected.
    pub(super) failed: u32,
    /// Bad blocks.
    pub(super) badblocks: u32,
    /// Blocks that hold bad block tables.
    pub(super) bbtblocks: u32,
}

/// `struct erase_info_user`: a range below 4 GiB.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct EraseInfoUser {
    start: u32,
    length: u32,
}

/// `struct erase_info_user64`: a range anywhere.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct EraseInfoUser64 {
    start: u64,
    length: u64,
}

const MEMGETINFO: Ioctl = nix::request_code_read!(b'M', 1, size_of::<MtdInfoUser>()) as Ioctl;
const MEMLOCK: Ioctl = nix::request_code_write!(b'M', 5, size_of::<EraseInfoUser>()) as Ioctl;
const MEMUNLOCK: Ioctl = nix::request_code_write!(b'M', 6, size_of::<EraseInfoUser>()) as Ioctl;
const MEMGETREGIONCOUNT: Ioctl = nix::request_code_read!(b'M', 7, size_of::<c_int>()) as Ioctl;
const MEMGETREGIONINFO: Ioctl =
    nix::request_code_readwrite!(b'M', 8, size_of::<RegionInfoUser>()) as Ioctl;
const MEMGETBADBLOCK: Ioctl = nix::request_code_write!(b'M', 11, size_of::<i64>()) as Ioctl;
const MEMSETBADBLOCK: Ioctl = nix::request_code_write!(b'M', 12, size_of::<i64>()) as Ioctl;
const ECCGETSTATS: Ioctl = nix::request_code_read!(b'M', 18, size_of::<EccStats>()) as Ioctl;
const MEMERASE64: Ioctl = nix::request_code_write!(b'M', 20, size_of::<EraseInfoUser64>()) as Ioctl;
const MEMISLOCKED: Ioctl = nix::request_code_read!(b'M', 23, size_of::<EraseInfoUser>()) as Ioctl;

// As a C compiler computes them from the kernel's header, on every architecture with the generic
// _IOC layout.
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "arm",
    target_arch = "riscv64"
))]
const _: () = {
    assert!(MEMGETINFO == 0x8020_4d01_u32 as Ioctl);
    assert!(MEMLOCK == 0x4008_4d05_u32 as Ioctl);
    assert!(MEMUNLOCK == 0x4008_4d06_u32 as Ioctl);
    assert!(MEMGETREGIONCOUNT == 0x8004_4d07_u32 as Ioctl);
    assert!(MEMGETREGIONINFO == 0xc010_4d08_u32 as Ioctl);
    assert!(MEMGETBADBLOCK == 0x4008_4d0b_u32 as Ioctl);
    assert!(MEMSETBADBLOCK == 0x4008_4d0c_u32 as Ioctl);
    assert!(ECCGETSTATS == 0x8010_4d12_u32 as Ioctl);
    assert!(MEMERASE64 == 0x4010_4d14_u32 as Ioctl);
    assert!(MEMISLOCKED == 0x8008_4d17_u32 as Ioctl);
    assert!(std::mem::offset_of!(MtdInfoUser, flags) == 4);
    assert!(std::mem::offset_of!(MtdInfoUser, oobsize) == 20);
    assert!(std::mem::offset_of!(MtdInfoUser, padding) == 24);
};

ioctl_read_bad!(memgetinfo, MEMGETINFO, MtdInfoUser);
ioctl_write_ptr_bad!(memlock, MEMLOCK, EraseInfoUser);
ioctl_write_ptr_bad!(memunlock, MEMUNLOCK, EraseInfoUser);
ioctl_read_bad!(memgetregioncount, MEMGETREGIONCOUNT, c_int);
ioctl_readwrite_bad!(memgetregioninfo, MEMGETREGIONINFO, RegionInfoUser);
ioctl_write_ptr_bad!(memgetbadblock, MEMGETBADBLOCK, i64);
ioctl_write_ptr_bad!(memsetbadblock, MEMSETBADBLOCK, i64);
ioctl_read_bad!(eccgetstats, ECCGETSTATS, EccStats);
ioctl_write_ptr_bad!(memerase64, MEMERASE64, EraseInfoUser64);
// The header says "read", but the kernel only reads the range and answers with the return value.
ioctl_write_ptr_bad!(memislocked, MEMISLOCKED, EraseInfoUser);

/// Returns what the device is.
pub(super) fn info(device: &File) -> io::Result<MtdInfoUser> {
    let mut info = MtdInfoUser::default();
    // SAFETY: the fd is open for the whole call, as `device` is borrowed. The kernel writes one
    // `struct mtd_info_user`, whose size and layout `MtdInfoUser` has (asserted above); any bytes
    // are valid in it.
    unsafe { memgetinfo(device.as_raw_fd(), &mut info) }?;
    Ok(info)
}

/// Returns how many runs of eraseblocks of different sizes there are; 0 for a uniform device.
pub(super) fn region_count(device: &File) -> io::Result<u32> {
    let mut count: c_int = 0;
    // SAFETY: the fd is open for the whole call. The kernel writes one int.
    unsafe { memgetregioncount(device.as_raw_fd(), &mut count) }?;
    u32::try_from(count).map_err(io::Error::other)
}

/// Returns the run with this index.
pub(super) fn region(device: &File, index: u32) -> io::Result<RegionInfoUser> {
    let mut region = RegionInfoUser { regionindex: index, ..RegionInfoUser::default() };
    // SAFETY: the fd is open for the whole call. The kernel reads `regionindex` and writes `struct
    // region_info_user`, whose size `RegionInfoUser` has (part of the asserted ioctl number); any
    // bytes are valid in it.
    unsafe { memgetregioninfo(device.as_raw_fd(), &mut region) }?;
    Ok(region)
}

/// Returns whether the eraseblock at this offset is marked bad.
pub(super) fn is_bad(device: &File, offset_bytes: u64) -> io::Result<bool> {
    let offset = loff(offset_bytes)?;
    // SAFETY: the fd is open for the whole call. The kernel reads one 64-bit offset from the
    // pointer and keeps nothing.
    Ok(unsafe { memgetbadblock(device.as_raw_fd(), &offset) }? > 0)
}

/// Marks the eraseblock at this offset bad, for good.
pub(super) fn mark_bad(device: &File, offset_bytes: u64) -> io::Result<()> {
    let offset = loff(offset_bytes)?;
    // SAFETY: the fd is open for the whole call. The kernel reads one 64-bit offset from the
    // pointer and keeps nothing.
    unsafe { memsetbadblock(device.as_raw_fd(), &offset) }?;
    Ok(())
}

/// ECC and bad block counters.
pub(super) fn ecc_stats(device: &File) -> io::Result<EccStats> {
    let mut stats = EccStats::default();
    // SAFETY: the fd is open for the whole call. The kernel writes one `struct mtd_ecc_stats`,
    // whose size `EccStats` has (part of the asserted ioctl number); any bytes are valid in it.
    unsafe { eccgetstats(device.as_raw_fd(), &mut stats) }?;
    Ok(stats)
}

/// Erases a range of whole eraseblocks; returns when it is done.
pub(super) fn erase(device: &File, offset_bytes: u64, length_bytes: u64) -> io::Result<()> {
    let range = EraseInfoUser64 { start: offset_bytes, length: length_bytes };
    // SAFETY: the fd is open for the whole call. The kernel reads one `struct erase_info_user64`,
    // whose size `EraseInfoUser64` has (part of the asserted ioctl number), checks the range
    // against the device, and keeps nothing.
    unsafe { memerase64(device.as_raw_fd(), &range) }?;
    Ok(())
}

/// Returns whether a range below 4 GiB is locked.
pub(super) fn is_locked(device: &File, offset_bytes: u32, length_bytes: u32) -> io::Result<bool> {
    let range = EraseInfoUser { start: offset_bytes, length: length_bytes };
    // SAFETY: the fd is open for the whole call. The kernel reads one `struct erase_info_user`,
    // whose size `EraseInfoUser` has (part of the asserted ioctl number), and writes nothing back.
    Ok(unsafe { memislocked(device.as_raw_fd(), &range) }? > 0)
}

/// Unlocks a range below 4 GiB.
pub(super) fn unlock(device: &File, offset_bytes: u32, length_bytes: u32) -> io::Result<()> {
    let range = EraseInfoUser { start: offset_bytes, length: length_bytes };
    // SAFETY: the fd is open for the whole call. The kernel reads one `struct erase_info_user`,
    // whose size `EraseInfoUser` has (part of the asserted ioctl number), and keeps nothing.
    unsafe { memunlock(device.as_raw_fd(), &range) }?;
    Ok(())
}

/// Locks a range below 4 GiB.
pub(super) fn lock(device: &File, offset_bytes: u32, length_bytes: u32) -> io::Result<()> {
    let range = EraseInfoUser { start: offset_bytes, length: length_bytes };
    // SAFETY: the fd is open for the whole call. The kernel reads one `struct erase_info_user`,
    // whose size `EraseInfoUser` has (part of the asserted ioctl number), and keeps nothing.
    unsafe { memlock(device.as_raw_fd(), &range) }?;
    Ok(())
}

fn loff(offset_bytes: u64) -> io::Result<i64> {
    i64::try_from(offset_bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}
