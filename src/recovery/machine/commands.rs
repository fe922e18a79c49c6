//! Doing what the manager says.

use std::num::NonZeroU32;
use std::time::Duration;

use log::warn;

use super::escrow::EscrowOrder;
use super::{Action, REPORT_INTERVAL_MS, Recovery, State};
use crate::backoff::Backoff;
use crate::reason::{Reason, Refusal};
use crate::time::Time;
use crate::wire::answer::{Answer, Phase};
use crate::wire::codec::DecodeError;
use crate::wire::command::Command;

impl Recovery {
    /// Takes a message from the manager. Commands for another campaign, and those that only an
    /// agent can follow, are answered with the report alone.
    pub(super) fn handle_command(&mut self, now: Time, bytes: &[u8]) {
        let command = match Command::parse(bytes) {
            Err(error) => {
                warn!("command from the manager not understood: {error}");
                if let DecodeError::UnknownType(kind) = error {
                    self.send(now, &Answer::NotUnderstood { kind });
                }
                return;
            }
            // Nothing can be said in another way.
            Ok(Command::NotUnderstood { kind }) => {
                warn!("the manager does not know answers of type {kind:#04x}: update it");
                return;
            }
            Ok(command) => command,
        };
        if command.campaign().is_some_and(|campaign| campaign != self.mission.campaign) {
            self.send_report(now);
            return;
        }
        if !matches!(command, Command::Query | Command::Enlist { .. }) {
            // It repeats what it does not see followed.
            self.report_waits = Backoff::steady(self.report_interval);
        }
        match command {
            Command::Query => self.send(now, &Answer::Identity(self.mission.identity.clone())),
            Command::ManifestPart { total_bytes, offset_bytes, bytes, .. } => {
                self.take_manifest(now, total_bytes, offset_bytes, &bytes);
            }
            Command::BackupStatus(status) => self.handle_backup_status(now, &status),
            command => {
                self.follow(now, command);
                self.send_report(now);
            }
        }
    }

    /// Follows a command that is answered with the report.
    fn follow(&mut self, now: Time, command: Command) {
        match command {
            Command::Join { parameters, report_interval_ms, group, excerpt } => {
                let interval = report_interval_ms
                    .clamp(*REPORT_INTERVAL_MS.start(), *REPORT_INTERVAL_MS.end());
                self.report_interval = Duration::from_millis(interval.into());
                self.join(now, parameters, group, excerpt);
            }
            Command::Commit { .. } if !self.mission.drill => self.commit(None),
            Command::CommitWithEscrow { rate_kbit_s, unless_broken, .. } if !self.mission.drill => {
                self.commit(Some(EscrowOrder { rate_kbit_s, unless_broken }));
            }
            Command::Rehearse { escrow_rate_kbit_s, .. } if self.mission.drill => {
                let rate = escrow_rate_kbit_s.map(NonZeroU32::get);
                let unless_broken = false;
                self.commit(rate.map(|rate_kbit_s| EscrowOrder { rate_kbit_s, unless_broken }));
            }
            Command::BackupStored { digest, .. } => self.handle_backup_stored(&digest),
            Command::Release { .. } => self.release(now),
            _ => {}
        }
    }

    /// Flashes, or rehearses that; with an order for escrow, not before the manager keeps the
    /// backup.
    fn commit(&mut self, escrow: Option<EscrowOrder>) {
        if matches!(self.state, State::Verified | State::Unfinished { .. }) {
            self.escrow.begin(escrow, self.flash);
            self.flash();
        }
    }

    pub(super) fn flash(&mut self) {
        let Some(image) = self.image.clone() else { return };
        self.state = State::Flashing(Phase::BackingUp);
        self.report.phase = Phase::BackingUp;
        (self.report.done, self.report.total) = (0, 0);
        let drill = self.mission.drill;
        self.actions.push_back(Action::Flash { image, flash: self.flash, drill });
    }

    fn release(&mut self, now: Time) {
        match self.state {
            State::Waiting | State::Receiving | State::Verified => {
                self.give_up(now, &Refusal::new(Reason::Released, ""));
                self.reboot();
            }
            State::Ended { .. } => self.reboot(),
            // Without effect once the chip may be changed.
            State::Flashing(_) => self.escrow.withdraw(Refusal::new(Reason::Released, "")),
            State::Unfinished { .. } | State::Rebooting => {}
        }
    }
}
