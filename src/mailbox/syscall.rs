//! `FS_IOC_FIEMAP`: where a file is on its disk (`linux/fiemap.h`).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Extents asked for: one is wanted, a second would show that it is not all.
pub(super) const EXTENTS: usize = 2;

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extent {
    pub(super) logical: u64,
    pub(super) physical: u64,
    pub(super) length: u64,
    reserved64: [u64; 2],
    pub(super) flags: u32,
    reserved: [u32; 3],
}

/// `struct fiemap` with room for [`EXTENTS`].
#[repr(C)]
#[derive(Debug)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
    extents: [Extent; EXTENTS],
}

/// `FS_IOC_FIEMAP`: _IOWR('f', 11, struct fiemap).
const FS_IOC_FIEMAP: libc::c_ulong = 0xc020_660b;
/// `FIEMAP_FLAG_SYNC`: data on the disk before it is mapped.
const FLAG_SYNC: u32 = 1;

const _: () = assert!(size_of::<Extent>() == 56);
const _: () = assert!(size_of::<Fiemap>() == 32 + EXTENTS * 56);

/// Returns the first [`EXTENTS`] extents of the file.
pub(super) fn extents(file: BorrowedFd<'_>) -> io::Result<Vec<Extent>> {
    let mut map = Fiemap {
        start: 0,
        length: u64::MAX,
        flags: FLAG_SYNC,
        mapped_extents: 0,
        extent_count: EXTENTS as u32,
        reserved: 0,
        extents: [Extent::default(); EXTENTS],
    };
    // SAFETY:
    // - the descriptor is open for the length of the call, because it is borrowed;
    // - the kernel reads and writes the 32 bytes of `struct fiemap` and at most `extent_count`
    //   extents behind it, which is what `Fiemap` holds (repr(C), sizes asserted), and `map` lives
    //   until the call is over;
    // - every bit pattern is valid in it.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP as _, &raw mut map) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let count = (map.mapped_extents as usize).min(EXTENTS);
    Ok(map.extents[..count].to_vec())
}
