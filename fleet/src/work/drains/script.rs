//! The programs of a rollout, as its file has them.

use crate::rollout::file::{Command, CommandError, Occasion, RolloutFile};
use crate::work::party::Program;

/// A program for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::work) enum Task {
    Drain,
    Undrain,
}

/// The programs of a rollout.
#[derive(Debug)]
pub(in crate::work) struct Script {
    rollout: String,
    version: String,
    drain: Option<Command>,
    undrain: Option<Command>,
}

impl Script {
    /// Returns what the file of a rollout says, with the version of its release.
    pub(in crate::work) fn new(file: &str, rollout: String, version: String) -> Self {
        // What could not be read was created by another version, and no worker claims from it.
        let file = RolloutFile::parse(file).ok();
        let (drain, undrain) = file.map_or((None, None), |file| (file.drain, file.undrain));
        Self { rollout, version, drain, undrain }
    }

    pub(in crate::work) fn drains(&self) -> bool {
        self.drain.is_some()
    }

    pub(in crate::work) fn undrains(&self) -> bool {
        self.undrain.is_some()
    }

    /// Returns a program for a host at a site, with a number; nothing when the file has none.
    ///
    /// # Errors
    /// The host's values make no argument.
    pub(super) fn program(
        &self,
        task: Task,
        number: u64,
        (host, site): (&str, &str),
        outcome: &str,
    ) -> Result<Option<Program>, CommandError> {
        let command = match task {
            Task::Drain => &self.drain,
            Task::Undrain => &self.undrain,
        };
        let Some(command) = command else { return Ok(None) };
        let (version, rollout) = (&self.version, &self.rollout);
        let argv = command.argv(&Occasion { host, site, version, rollout, outcome })?;
        Ok(Some(Program { number, argv, within_s: command.within_s }))
    }
}
