//! The BMC as the kernel's driver shows it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::c_long;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::message::{Ipmi, MESSAGE_SIZE_MAX, Request, Response};
use super::{BmcError, syscall};

/// What the kernel's `ipmi_devintf` calls the first BMC, and what devfs and udev of old called it.
const PATHS: [&str; 3] = ["/dev/ipmi0", "/dev/ipmi/0", "/dev/ipmidev/0"];

/// How long one request may take. The kernel's driver gives up on a KCS interface that hangs after
/// 5 s.
const REQUEST_TIMEOUT_MS: u64 = 5_000;

/// The first BMC of this computer.
#[derive(Debug)]
pub(super) struct Device {
    file: File,
    last_id: c_long,
    deadline: Instant,
    limit_ms: u64,
}

impl Device {
    /// Opens it for requests that together take no longer than this.
    ///
    /// # Errors
    /// When there is none, or it cannot be opened.
    pub(super) fn open(limit_ms: u64) -> Result<Self, BmcError> {
        for path in PATHS {
            match OpenOptions::new().read(true).write(true).open(path) {
                Ok(file) => {
                    let deadline = Instant::now() + Duration::from_millis(limit_ms);
                    return Ok(Self { file, last_id: 0, deadline, limit_ms });
                }
                // ENXIO and ENODEV: a name without a driver behind it.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        || matches!(
                            Errno::from_raw(error.raw_os_error().unwrap_or(0)),
                            Errno::ENXIO | Errno::ENODEV
                        ) => {}
                Err(source) => return Err(BmcError::Open { path, source }),
            }
        }
        Err(BmcError::NoDevice { tried: PATHS.join(", ") })
    }

    /// Waits for the response with this number. Late responses to requests that were given up, and
    /// events, are dropped.
    fn wait(&self, request: &Request, until: Instant) -> Result<Option<Vec<u8>>, BmcError> {
        let failed = |source| BmcError::Driver { request: request.name, source };
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
            match syscall::receive(&self.file) {
                Ok(got) if got.is_response && got.id == self.last_id => return Ok(Some(got.data)),
                Ok(_) => {}
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN | Errno::EINTR) => {}
                    Some(Errno::EMSGSIZE) => {
                        let problem = format!("longer than {MESSAGE_SIZE_MAX} bytes");
                        return Err(BmcError::Garbled { request: request.name, problem });
                    }
                    _ => return Err(failed(error)),
                },
            }
        }
    }
}

impl Ipmi for Device {
    fn request(&mut self, request: &Request) -> Result<Response, BmcError> {
        let too_slow = BmcError::TooSlow { request: request.name, limit_ms: self.limit_ms };
        let now = Instant::now();
        if now >= self.deadline {
            return Err(too_slow);
        }
        self.last_id += 1;
        syscall::send(&self.file, self.last_id, request)
            .map_err(|source| BmcError::Driver { request: request.name, source })?;
        let own_limit = now + Duration::from_millis(REQUEST_TIMEOUT_MS);
        match self.wait(request, own_limit.min(self.deadline))?.as_deref() {
            Some([code, data @ ..]) => Ok(Response { code: *code, data: data.to_vec() }),
            Some([]) => {
                Err(BmcError::Garbled { request: request.name, problem: "it is empty".into() })
            }
            None if own_limit <= self.deadline => {
                Err(BmcError::Timeout { request: request.name, timeout_ms: REQUEST_TIMEOUT_MS })
            }
            None => Err(too_slow),
        }
    }

    fn pause(&mut self, pause_ms: u64) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        thread::sleep(Duration::from_millis(pause_ms).min(left));
    }
}
