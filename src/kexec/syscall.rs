//! The system call of this module: `kexec_file_load(2)`.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `KEXEC_FILE_UNLOAD` of `linux/kexec.h`: forget the loaded kernel.
const KEXEC_FILE_UNLOAD: libc::c_ulong = 0x1;

/// A flag that no kernel knows: with it the call ends after the checks of permission and support.
const KEXEC_FILE_UNKNOWN_FLAG: libc::c_ulong = 0x4000_0000;

/// Loads `kernel` with `initramfs` and `cmdline` for the next `reboot(LINUX_REBOOT_CMD_KEXEC)`.
///
/// # Errors
/// The errno of `kexec_file_load(2)`: `EPERM` without CAP_SYS_BOOT or when loading is disabled or,
/// under lockdown, when the signature does not hold; `ENOEXEC` when the file is no kernel that can
/// be started; `ENOMEM`; `ENOSYS`.
pub(super) fn kexec_file_load(
    kernel: BorrowedFd<'_>,
    initramfs: BorrowedFd<'_>,
    cmdline: &CStr,
) -> io::Result<()> {
    // SAFETY:
    // - both descriptors are open for the length of the call, because they are borrowed;
    // - `cmdline` is a NUL-terminated string, the length counts the NUL as the kernel asks, and the
    //   kernel only reads it;
    // - the call changes no memory of this process.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initramfs.as_raw_fd(),
            cmdline.to_bytes_with_nul().len() as libc::c_ulong,
            cmdline.as_ptr(),
            0 as libc::c_ulong,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Forgets a loaded kernel, so that a later reboot is an ordinary one.
///
/// # Errors
/// The errno of `kexec_file_load(2)`.
pub(super) fn kexec_file_unload() -> io::Result<()> {
    // SAFETY: with KEXEC_FILE_UNLOAD the kernel reads neither descriptors nor the command line
    // (length 0, null).
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            -1 as libc::c_int,
            -1 as libc::c_int,
            0 as libc::c_ulong,
            std::ptr::null::<libc::c_char>(),
            KEXEC_FILE_UNLOAD,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks whether `kexec_file_load(2)` is there and allowed, without loading anything.
///
/// # Errors
/// `EPERM` when it is not allowed, `ENOSYS` when the kernel has been built without it.
pub(super) fn kexec_file_load_is_allowed() -> io::Result<()> {
    // SAFETY: the unknown flag makes the kernel return EINVAL right after its permission check
    // (kernel/kexec_file.c), before it looks at descriptors or the command line (length 0, null).
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            -1 as libc::c_int,
            -1 as libc::c_int,
            0 as libc::c_ulong,
            std::ptr::null::<libc::c_char>(),
            KEXEC_FILE_UNKNOWN_FLAG,
        )
    };
    if result == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        error => Err(error),
    }
}
