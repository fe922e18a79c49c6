//! The watchdog's ioctls (`linux/watchdog.h`).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct watchdog_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct WatchdogInfo {
    pub(super) options: u32,
    pub(super) firmware_version: u32,
    pub(super) identity: [u8; 32],
}

/// `WDIOC_GETSUPPORT`.
const GET_SUPPORT: libc::c_ulong = 0x8028_5700;
/// `WDIOC_SETTIMEOUT`.
const SET_TIMEOUT: libc::c_ulong = 0xc004_5706;
/// `WDIOC_GETTIMEOUT`.
const GET_TIMEOUT: libc::c_ulong = 0x8004_5707;

// The numbers hold the sizes: _IOR('W', 0, struct watchdog_info), _IOWR('W', 6, int),
// _IOR('W', 7, int).
const _: () = assert!(size_of::<WatchdogInfo>() == (GET_SUPPORT as usize >> 16) & 0x3fff);
const _: () = assert!(size_of::<libc::c_int>() == (SET_TIMEOUT as usize >> 16) & 0x3fff);
const _: () = assert!(size_of::<libc::c_int>() == (GET_TIMEOUT as usize >> 16) & 0x3fff);

/// Returns what the watchdog is and can.
pub(super) fn watchdog_info(watchdog: BorrowedFd<'_>) -> io::Result<WatchdogInfo> {
    let mut info = WatchdogInfo { options: 0, firmware_version: 0, identity: [0; 32] };
    // SAFETY:
    // - the descriptor is open for the length of the call, because it is borrowed;
    // - the kernel writes at most one `struct watchdog_info`, whose layout `WatchdogInfo` has
    //   (repr(C), size asserted) and of which every bit pattern is valid, to `info`, which lives
    //   until the call is over.
    let result = unsafe { libc::ioctl(watchdog.as_raw_fd(), GET_SUPPORT as _, &raw mut info) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(info) }
}

/// Sets the time after which the watchdog resets the machine; returns the one that the hardware
/// chose.
pub(super) fn set_watchdog_timeout(watchdog: BorrowedFd<'_>, timeout_s: i32) -> io::Result<i32> {
    let mut value: libc::c_int = timeout_s;
    // SAFETY:
    // - the descriptor is open for the length of the call, because it is borrowed;
    // - the kernel reads and writes one int, which `value` is, and which lives until the call is
    //   over.
    let result = unsafe { libc::ioctl(watchdog.as_raw_fd(), SET_TIMEOUT as _, &raw mut value) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Returns the time after which the watchdog resets the machine.
pub(super) fn watchdog_timeout(watchdog: BorrowedFd<'_>) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    // SAFETY:
    // - the descriptor is open for the length of the call, because it is borrowed;
    // - the kernel writes one int, which `value` is, and which lives until the call is over.
    let result = unsafe { libc::ioctl(watchdog.as_raw_fd(), GET_TIMEOUT as _, &raw mut value) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}
