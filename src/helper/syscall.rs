//! The one place of this module that takes over descriptors by their numbers.
#![allow(unsafe_code)]

use std::io::{self, ErrorKind, IoSliceMut};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// Maximum number of files that come with a message; the kernel closes those that are too many.
const FILES_MAX: usize = 2;

/// Receives one message: its length in bytes, and the files that came with it.
///
/// # Errors
/// Those of `recvmsg(2)`; `InvalidData` when the message is longer than `buffer`.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = nix::cmsg_space!([RawFd; FILES_MAX]);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let mut files = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            // SAFETY: the kernel has just opened these descriptors for this process, and nobody
            // else in it knows their numbers.
            files.extend(numbers.iter().map(|number| unsafe { OwnedFd::from_raw_fd(*number) }));
        }
    }
    match message.flags.contains(MsgFlags::MSG_TRUNC) {
        true => Err(ErrorKind::InvalidData.into()),
        false => Ok((message.bytes, files)),
    }
}
