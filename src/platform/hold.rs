//! Holds off what asks for the end of the process or of the machine, while the flash may be
//! half-written.
//!
//! Signals that would end or stop this process are blocked: they stay pending, are told once, and
//! what they ask for happens after a safe end. Ctrl-alt-del is such a signal to PID 1 (`SIGINT`),
//! once the kernel has been told not to reboot for it. The magic SysRq keys are off meanwhile.
//! `SIGKILL` cannot be held off, except that nobody can send it to PID 1.

use std::path::Path;

use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::PlatformError;

/// What the SysRq keys may do; there unless the kernel was built without them.
const SYSRQ: &str = "/proc/sys/kernel/sysrq";

/// Signals that tell of an error in this very process, which blocking would only hide, and those of
/// children.
const NOT_HELD: &[Signal] = &[
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGABRT,
    Signal::SIGTRAP,
    Signal::SIGSYS,
    Signal::SIGCHLD,
];

/// While it lives, nobody ends this process by a signal. Threads that are started meanwhile are
/// held off too; earlier ones must have done it themselves.
#[derive(Debug)]
pub(super) struct Hold {
    before: SigSet,
    pending: SignalFd,
    came: Vec<i32>,
    sysrq: Option<String>,
}

impl Hold {
    /// Blocks the signals of this thread. The SysRq keys are left as they are until
    /// [`Hold::forbid_sysrq`].
    pub(super) fn signals() -> Result<Self, PlatformError> {
        let held = held_signals();
        let before = SigSet::thread_get_mask().map_err(PlatformError::Signals)?;
        held.thread_block().map_err(PlatformError::Signals)?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let pending = SignalFd::with_flags(&held, flags).map_err(PlatformError::Signals)?;
        Ok(Self { before, pending, came: Vec::new(), sysrq: None })
    }

    /// Takes the SysRq keys away, sysrq-b among them.
    pub(super) fn forbid_sysrq(&mut self) -> Result<(), PlatformError> {
        let path = Path::new(SYSRQ);
        if self.sysrq.is_some() || !path.exists() {
            return Ok(());
        }
        let failed =
            |action| move |source| PlatformError::File { action, path: SYSRQ.into(), source };
        let before = std::fs::read_to_string(path).map_err(failed("read"))?;
        std::fs::write(path, "0\n").map_err(failed("write 0 to"))?;
        self.sysrq = Some(before);
        Ok(())
    }

    /// Tells of signals that came, each kind once.
    pub(super) fn tell(&mut self) {
        while let Ok(Some(info)) = self.pending.read_signal() {
            let number = info.ssi_signo as i32;
            if !self.came.contains(&number) {
                self.came.push(number);
                let name = Signal::try_from(number).map_or("a signal", Signal::as_str);
                log::warn!("{name} of process {} is held off", info.ssi_pid);
            }
        }
    }

    /// The flash is safe: gives the SysRq keys back.
    pub(super) fn allow_sysrq(&mut self) {
        if let Some(before) = self.sysrq.take()
            && let Err(error) = std::fs::write(SYSRQ, before)
        {
            log::warn!("cannot write to {SYSRQ}: {error}");
        }
    }

    /// The flash is safe: does what the signals that came ask for, which may end this process.
    pub(super) fn release(mut self) {
        self.allow_sysrq();
        self.tell();
        let _ = self.before.thread_set_mask();
        for signal in self.came.drain(..).filter_map(|number| Signal::try_from(number).ok()) {
            let _ = raise(signal);
        }
    }
}

/// Blocks, for good, what [`Hold`] holds off, in a thread that has nothing to do with it.
pub(super) fn block_signals_of_thread() {
    let _ = held_signals().thread_block();
}

fn held_signals() -> SigSet {
    let mut held = SigSet::all();
    NOT_HELD.iter().for_each(|signal| held.remove(*signal));
    held
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    const MARK: &str = "FIRMCAST_TEST_HELD";

    /// Runs itself again, as a process that signals itself while it holds off signals: this thread,
    /// because the others of the test harness hold off nothing.
    #[test]
    fn signals_wait_for_the_release_and_then_end_the_process() {
        const NAME: &str = "signals_wait_for_the_release_and_then_end_the_process";
        if std::env::var_os(MARK).is_some() {
            let mut hold = Hold::signals().unwrap();
            for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGPWR, Signal::SIGTERM] {
                raise(signal).unwrap();
            }
            hold.tell();
            assert_eq!(hold.came.len(), 3, "each kind once: {:?}", hold.came);
            println!("still here");
            hold.release();
            println!("not reached");
            return;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "--test-threads=1"])
            .arg(format!("{}::{NAME}", module_path!().split_once("::").unwrap().1))
            .env(MARK, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("still here") && !said.contains("not reached"), "{output:?}");
        let ended_by = output.status.signal();
        assert!([Signal::SIGTERM, Signal::SIGINT].map(|s| Some(s as i32)).contains(&ended_by));
    }
}
