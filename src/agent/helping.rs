//! What `firmcastd helper` does for the confined agent: it answers its questions.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use super::hooks;
use crate::bmc;
use crate::disks::Found;
use crate::helper::{self, Answer};
use crate::host::work::Work;
use crate::kexec::{self, KexecError};
use crate::mtd::{Holders, MtdDevice};
use crate::reason::with_causes;
use crate::tpm::Kept;

/// Answers what comes over the socket that is this process's standard input, until the agent hangs
/// up.
///
/// # Errors
/// Standard input is no such socket, or nobody takes an answer.
pub fn run() -> io::Result<()> {
    helper::serve(io::stdin().as_fd(), answer)
}

fn answer(question: &str, files: Vec<OwnedFd>) -> io::Result<Answer> {
    let (word, rest) = question.split_once(' ').unwrap_or((question, ""));
    let done = |result: Result<(), KexecError>| match result {
        Ok(()) => Ok(Answer::default()),
        Err(KexecError::Load(error)) => Err(error),
        Err(error) => Err(io::Error::other(with_causes(&error))),
    };
    let not_understood = || ErrorKind::InvalidInput.into();
    match (word, files.as_slice()) {
        ("chip", []) => {
            let index = rest.parse().map_err(|_| ErrorKind::InvalidInput)?;
            let file = MtdDevice::open_to_read(index)?;
            Ok(Answer { file: Some(file.into()), ..Answer::default() })
        }
        ("holders", []) => {
            let text = Holders::answer(Path::new("/"), rest).ok_or_else(not_understood)?;
            Ok(Answer { text, ..Answer::default() })
        }
        ("work", []) if rest.is_empty() => {
            Ok(Answer { text: Work::look(Path::new("/")).to_text(), ..Answer::default() })
        }
        ("disks", []) => Ok(Answer { text: Found::answer(Path::new("/")), ..Answer::default() }),
        ("kept", []) => Ok(Answer { text: Kept::answer(Path::new("/"))?, ..Answer::default() }),
        ("keep", []) => Kept::do_keep(Path::new("/"), rest).map(|()| Answer::default()),
        ("bmc-timer", []) if rest.is_empty() => {
            let text = bmc::watchdog::timer_answer()?;
            Ok(Answer { text, ..Answer::default() })
        }
        ("hooks", []) => {
            let text = hooks::answer(Path::new("/"), rest).ok_or_else(not_understood)?;
            Ok(Answer { text, ..Answer::default() })
        }
        ("may-load", []) => kexec::may_load().map(|()| Answer::default()),
        ("load", [kernel, initramfs]) => {
            done(kexec::load_files(kernel.as_fd(), initramfs.as_fd(), rest))
        }
        ("unload", []) => done(kexec::unload()),
        ("start", []) => done(kexec::start()),
        _ => Err(not_understood()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_known_questions_are_answered() {
        let file = || OwnedFd::from(tempfile::tempfile().unwrap());
        for (question, files) in [
            ("", vec![]),
            ("chip", vec![]),
            ("chip ../sda", vec![]),
            ("chip 1", vec![file()]),
            ("holders some 1 2", vec![]),
            ("work hard", vec![]),
            ("hooks pre-update", vec![]),
            ("disks", vec![file()]),
            ("kept", vec![file()]),
            ("keep none", vec![]),
            ("load root=/dev/sda", vec![file()]),
            ("load", vec![]),
            ("bmc-timer 24", vec![]),
            ("reboot", vec![]),
        ] {
            let error = answer(question, files).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{question:?}");
        }
        let long = "a".repeat(kexec::CMDLINE_LENGTH_MAX + 1);
        let error = answer(&format!("load {long}"), vec![file(), file()]).unwrap_err();
        assert!(error.to_string().contains("at most"), "{error}");
        assert!(Work::from_text(&answer("work", vec![]).unwrap().text).is_some());
        assert!(answer("holders any 1 7", vec![]).unwrap().text.starts_with(char::is_numeric));
    }
}
