//! The one place of this module that takes over a descriptor by its number.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first descriptor that systemd hands over (`SD_LISTEN_FDS_START` of sd-daemon.h).
const LISTEN_FD: RawFd = 3;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes over the first inherited descriptor, once in the life of the process, after the caller has
/// read in the environment that systemd passed one. None the second time, and when nothing is open
/// there.
pub(super) fn take_listen_fd() -> Option<OwnedFd> {
    let is_open = std::fs::symlink_metadata(format!("/proc/self/fd/{LISTEN_FD}")).is_ok();
    if !is_open || TAKEN.swap(true, Ordering::SeqCst) {
        return None;
    }
    // SAFETY:
    // - the descriptor is open (just seen);
    // - nobody else in this process owns it: by the protocol of sd_listen_fds(3) it is the
    //   service's to take, the caller has checked LISTEN_PID and LISTEN_FDS, and `TAKEN` lets only
    //   one caller ever have it.
    Some(unsafe { OwnedFd::from_raw_fd(LISTEN_FD) })
}
