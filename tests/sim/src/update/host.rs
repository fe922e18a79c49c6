//! One virtual host: the real agent, the real recovery environment and the real flash job, on a
//! simulated computer.
//!
//! ```text
//!   Os (agent) -EnterRecovery-> Leaving -kexec-> Booting -> Recovery -Reboot-> Booting -> Os
//!        '------ power cut or restart, also while the chip is being changed -> Booting -> Os
//!                                                                                 |
//!                                             its firmware does not start: Dead <-'
//! ```
//! The safety invariants of a host are checked after every step, right here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use firmcast::agent::{self, Agent};
use firmcast::flash::read_twice;
use firmcast::keys::SecretKey as _;
use firmcast::reason::{Reason, Refusal};
use firmcast::recovery::flashing::Flashing;
use firmcast::recovery::machine::{Action, Recovery};
use firmcast::time::Time;
use firmcast::wire::answer::End;

use firmcast_manager::campaign::Backup;

use crate::chip::changes;
use crate::engine::Violation;
use crate::outbox::Outbox;
use crate::update::computer::Computer;
use crate::update::scenario::Scenario;
use crate::update::stay::{Stay, check_end, check_image, check_reboot};
use crate::update::truth::{Holds, Truth};

/// Longest datagram that the agent's driver takes.
const AGENT_DATAGRAM_MAX: usize = 1535;
/// An orderly shutdown before the kexec: the agent still answers.
const SHUTDOWN_MAX: Duration = Duration::from_secs(3);

pub(crate) enum Place {
    Os(Box<Agent>),
    /// The agent still answers, and the shutdown goes on until then.
    Leaving(Box<Agent>, Time),
    Booting {
        until: Time,
        into_recovery: bool,
    },
    Recovery(Box<Stay>),
    /// Its power failed while its chip was written, and what is left there starts no machine.
    Dead,
}

pub(crate) struct VirtualHost {
    pub(crate) address: SocketAddr,
    pub(crate) computer: Computer,
    pub(crate) place: Place,
    /// The clock of the environment that runs began here.
    origin: Time,
    /// Campaigns that told this host to write, as the managers say; in those with escrow, after
    /// they stored its backup.
    pub(crate) commits: Vec<u64>,
    /// Campaigns that told this host to read and upload its backup.
    pub(crate) escrows: Vec<u64>,
    /// Campaigns in which another manager may have told this host to finish. Broken contents are
    /// then replaced without a backup, which the host says.
    recalls: Vec<u64>,
    /// Campaigns that told this host to go as far as the first change.
    pub(crate) rehearsals: Vec<u64>,
    /// The campaigns in which the chip was changed, and when that was last.
    pub(crate) changed_in: BTreeMap<u64, Time>,
    /// The campaigns whose manager said at their end that the chip is untouched.
    pub(crate) ended_untouched: Vec<u64>,
    /// How the last stay in recovery ended.
    pub(crate) last_end: Option<End>,
    pub(crate) outbox: Outbox,
    scenario: Rc<Scenario>,
    /// Whether chips and kexec may still fail.
    pub(crate) faulty: bool,
}

impl VirtualHost {
    pub(crate) fn new(
        number: usize,
        scenario: Rc<Scenario>,
        truth: Rc<Truth>,
        is_current: bool,
    ) -> Self {
        let octets = (number as u16 + 256).to_be_bytes();
        let computer = Computer::new(number, truth, &scenario, is_current);
        let mut host = Self {
            address: SocketAddr::from(([10, 0, octets[0], octets[1]], 9847)),
            computer,
            place: Place::Booting { until: Time::ZERO, into_recovery: false },
            origin: Time::ZERO,
            commits: Vec::new(),
            escrows: Vec::new(),
            recalls: Vec::new(),
            rehearsals: Vec::new(),
            changed_in: BTreeMap::new(),
            ended_untouched: Vec::new(),
            last_end: None,
            outbox: Outbox::default(),
            faulty: scenario.faults_end > Duration::ZERO,
            scenario,
        };
        host.place = Place::Os(host.fresh_agent());
        host
    }

    fn fresh_agent(&mut self) -> Box<Agent> {
        let truth = self.computer.truth.clone();
        let managers = truth.managers.iter().map(|manager| manager.public()).collect();
        let (key, seed) = (truth.host_key(self.computer.number), self.computer.chance.seed());
        Box::new(Agent::new(key, managers, vec![truth.release.clone()], seed))
    }

    pub(crate) fn is_home(&self) -> bool {
        matches!(self.place, Place::Os(_))
    }

    /// Its agent runs, and does not leave for this campaign: it may leave for another one already.
    pub(crate) fn came_home_from(&self, campaign: u64) -> bool {
        let is_loaded = || self.computer.loaded.as_ref().is_some_and(|to| to.campaign == campaign);
        match self.place {
            Place::Os(_) => true,
            Place::Leaving(..) => !is_loaded(),
            Place::Booting { .. } | Place::Recovery(_) | Place::Dead => false,
        }
    }

    /// It stays in recovery with a chip that nobody could repair while the faults lasted, or is
    /// dead.
    pub(crate) fn needs_rescue(&self) -> bool {
        match &self.place {
            Place::Recovery(stay) => stay.needs_rescue(),
            place => matches!(place, Place::Dead),
        }
    }

    /// The faults are over for this host.
    pub(crate) fn faults_end(&mut self) {
        self.faulty = false;
        self.outbox.mend();
        self.computer.flash.clear_faults();
    }

    /// A manager of `campaign` stores this backup now: while the host waits for that, its chip must
    /// hold it.
    pub(crate) fn check_backup(&self, campaign: u64, backup: &Backup) -> Result<(), Violation> {
        let Place::Recovery(stay) = &self.place else { return Ok(()) };
        let waits = stay.campaign == campaign && stay.job.is_some() && !stay.changing;
        match waits {
            true => self.computer.check_backup(backup),
            false => Ok(()),
        }
    }

    pub(crate) fn is_confirmed(&self) -> bool {
        self.is_home() && self.computer.runs_new() && self.computer.holds() == Holds::New
    }

    pub(crate) fn hears_group(&self) -> bool {
        matches!(&self.place, Place::Recovery(stay) if stay.group_joined)
    }

    /// Where it is, for a person.
    pub(crate) fn describe(&self) -> String {
        match &self.place {
            Place::Os(_) => "os".into(),
            Place::Leaving(..) => "leaving".into(),
            Place::Booting { into_recovery: true, .. } => "booting into recovery".into(),
            Place::Booting { .. } => "booting".into(),
            Place::Dead => "dead".into(),
            Place::Recovery(stay) => {
                let report = stay.recovery.report();
                let (done, total) = (report.done, report.total);
                let (phase, flash) = (report.phase.name(), report.ending.flash);
                format!("recovery {phase} {done}/{total} {:?} {flash}", report.ending.reason)
            }
        }
    }

    /// When it wants to be woken.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        match &self.place {
            Place::Os(_) | Place::Dead => None,
            Place::Leaving(_, until) | Place::Booting { until, .. } => Some(*until),
            Place::Recovery(stay) => {
                let timer =
                    stay.recovery.poll_timeout().map(|at| self.origin + at.since(Time::ZERO));
                [timer, stay.job.as_ref().map(|(_, at)| *at)].into_iter().flatten().min()
            }
        }
    }

    pub(crate) fn handle_datagram(
        &mut self,
        now: Time,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let local = self.local(now);
        if self.outbox.is_cut_off() {
            return Ok(());
        }
        match &mut self.place {
            Place::Os(agent) | Place::Leaving(agent, _) if bytes.len() <= AGENT_DATAGRAM_MAX => {
                agent.handle_datagram(local, from, bytes, &mut self.computer);
            }
            Place::Recovery(stay) => {
                stay.recovery.handle_datagram(local, from, bytes);
                // Another datagram may wait already, or none; what is sealed is random.
                if bytes.last().is_some_and(|byte| byte % 4 == 0) {
                    stay.recovery.work(local);
                }
            }
            _ => {}
        }
        self.follow(now)
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) -> Result<(), Violation> {
        match &self.place {
            Place::Booting { until, into_recovery } if *until <= now => {
                let into_recovery = *into_recovery;
                self.come_up(now, into_recovery)?;
            }
            Place::Leaving(_, until) if *until <= now => self.kexec(now),
            Place::Recovery(_) => self.stay_on(now)?,
            _ => {}
        }
        self.follow(now)
    }

    /// The power fails, or somebody resets it. False when that makes no difference.
    pub(crate) fn restart(&mut self, now: Time) -> bool {
        let is_on = !matches!(self.place, Place::Dead);
        if is_on {
            self.computer.power_returns();
            self.boot(now, false);
            let silence = if self.faulty { self.scenario.silences } else { 0.0 };
            self.outbox.restart(&mut self.computer.chance, silence);
        }
        is_on
    }

    fn local(&self, now: Time) -> Time {
        Time::ZERO + now.since(self.origin)
    }

    /// Another manager finds it in recovery, and may tell it to finish what it is in.
    pub(crate) fn recalled(&mut self) {
        if let Place::Recovery(stay) = &self.place {
            self.recalls.push(stay.campaign);
        }
    }

    fn boot(&mut self, now: Time, into_recovery: bool) {
        let spans = &self.scenario;
        let span = if into_recovery { &spans.recovery_boot } else { &spans.os_boot };
        let mut until = now + self.computer.chance.span(span.clone());
        if self.faulty {
            until += self.computer.chance.span(Duration::ZERO..self.scenario.slow_boot);
        }
        self.place = Place::Booting { until, into_recovery };
    }

    fn come_up(&mut self, now: Time, into_recovery: bool) -> Result<(), Violation> {
        self.origin = now;
        if into_recovery && let Some(mission) = self.computer.mission() {
            let seed = self.computer.chance.seed();
            self.place = Place::Recovery(Box::new(Stay {
                campaign: mission.campaign,
                firmware: mission.identity.firmware,
                recovery: Recovery::new(Time::ZERO, mission, seed),
                job: None,
                held: self.computer.holds(),
                contents: self.computer.flash.contents().to_vec(),
                changes: changes(&self.computer.flash),
                was_verified: false,
                changing: false,
                group_joined: false,
                flashed: false,
                is_finished_by_another: false,
                damages: 0,
            }));
            return Ok(());
        }
        if !self.computer.boot_os() {
            if self.computer.was_torn() {
                self.place = Place::Dead;
                return Ok(());
            }
            return Err(
                "it booted with a chip that holds neither the old nor the new firmware".into()
            );
        }
        self.place = Place::Os(self.fresh_agent());
        Ok(())
    }

    /// The shutdown is over. What was taken back meanwhile leads to a plain reboot.
    fn kexec(&mut self, now: Time) {
        let into_recovery = self.computer.loaded.is_some();
        self.boot(now, into_recovery);
    }

    fn stay_on(&mut self, now: Time) -> Result<(), Violation> {
        let local = self.local(now);
        let Place::Recovery(stay) = &mut self.place else { return Ok(()) };
        stay.recovery.handle_timeout(local);
        let may_be_finished_by_another = stay.may_be_finished_by_another();
        let Some((flashing, at)) = &mut stay.job else { return Ok(()) };
        if *at > now {
            return Ok(());
        }
        let chance = &mut self.computer.chance;
        let refuses = self.faulty && chance.happens(self.scenario.flash_faults * 0.02);
        let changing = &mut stay.changing;
        let goes_on = flashing.step(local, &mut self.computer.flash, &mut stay.recovery, || {
            *changing = !refuses;
            match refuses {
                true => Err(Refusal::new(Reason::WatchdogRuns, "watchdog0 runs on")),
                false => Ok(()),
            }
        });
        let changed = changes(&self.computer.flash);
        if changed != stay.changes {
            stay.changes = changed;
            stay.is_finished_by_another |= may_be_finished_by_another
                && !self.commits.contains(&stay.campaign)
                && self.recalls.contains(&stay.campaign);
            let is_told = stay.is_finished_by_another || self.commits.contains(&stay.campaign);
            if !is_told && self.escrows.contains(&stay.campaign) {
                return Err("the chip was changed before the manager had its backup".into());
            }
            if !stay.changing || !stay.was_verified || !is_told {
                return Err("the chip was changed before verification or commit".into());
            }
            if self.ended_untouched.contains(&stay.campaign) {
                return Err("the chip was changed after the manager said it is untouched".into());
            }
            self.changed_in.insert(stay.campaign, now);
        }
        if !self.computer.flash.is_powered() {
            // Nobody hears what it says about this.
            self.restart(now);
            return Ok(());
        }
        if goes_on {
            *at = now + self.scenario.flash_step;
            return Ok(());
        }
        stay.job = None;
        let flash = stay.recovery.report().ending.flash;
        stay.changing = flash.is_unfinished();
        stay.damages += u32::from(stay.changing);
        check_end(stay, &self.computer, flash)
    }

    /// Takes what the state machines want to send and done, then looks at the invariants.
    fn follow(&mut self, now: Time) -> Result<(), Violation> {
        match &mut self.place {
            Place::Os(agent) | Place::Leaving(agent, _) => {
                self.outbox.put(std::iter::from_fn(|| agent.poll_transmit()));
                if let Some(agent::Action::EnterRecovery) = agent.poll_action() {
                    self.enter_recovery(now);
                }
            }
            Place::Recovery(stay) => {
                self.outbox.put(std::iter::from_fn(|| stay.recovery.poll_transmit()));
                stay.look()?;
                while let Place::Recovery(stay) = &mut self.place
                    && let Some(action) = stay.recovery.poll_action()
                {
                    self.act(now, action)?;
                }
            }
            Place::Booting { .. } | Place::Dead => {}
        }
        self.outbox.close()?;
        self.computer.wrong.take().map_or(Ok(()), Err)?;
        self.computer.check_carried()?;
        self.check_untouched()
    }

    fn enter_recovery(&mut self, now: Time) {
        let place =
            std::mem::replace(&mut self.place, Place::Booting { until: now, into_recovery: false });
        let (Place::Os(mut agent) | Place::Leaving(mut agent, _)) = place else { return };
        let chance = &mut self.computer.chance;
        if self.faulty && chance.happens(0.03) {
            let refusal = Refusal::new(Reason::KexecUnavailable, "not today");
            let local = Time::ZERO + now.since(self.origin);
            agent.recovery_failed(local, &refusal, &mut self.computer);
            self.outbox.put(std::iter::from_fn(|| agent.poll_transmit()));
            self.place = Place::Os(agent);
        } else {
            let until = now + chance.span(Duration::ZERO..SHUTDOWN_MAX);
            self.place = Place::Leaving(agent, until);
        }
    }

    fn act(&mut self, now: Time, action: Action) -> Result<(), Violation> {
        let local = self.local(now);
        let Place::Recovery(stay) = &mut self.place else { return Ok(()) };
        match action {
            Action::JoinGroup(_) => stay.group_joined = true,
            Action::ReadPiece { piece, range } => {
                let read = read_twice(&mut self.computer.flash, range);
                stay.recovery.piece_read(local, piece, read);
            }
            Action::Flash { image, flash, drill } => {
                let tellers = match drill {
                    true => [&self.rehearsals, &self.rehearsals],
                    false => [&self.commits, &self.escrows],
                };
                let is_told = tellers.iter().any(|told| told.contains(&stay.campaign));
                check_image(stay, &self.computer.truth, is_told, &image, flash)?;
                self.computer.check_dump(&image)?;
                stay.flashed = true;
                let chance = &mut self.computer.chance;
                let flashing = match drill {
                    true => Flashing::drill(image, flash),
                    false => Flashing::new(image, flash),
                };
                if self.faulty && chance.happens(self.scenario.flash_faults * 0.03) {
                    stay.recovery.flash_ended(
                        local,
                        flashing.not_started(Reason::FlashUnsupported, "no such device"),
                    );
                    stay.damages += u32::from(stay.changing);
                    return Ok(());
                }
                if self.faulty && chance.happens(self.scenario.flash_faults) {
                    self.computer.break_flash();
                }
                if self.faulty && self.computer.chance.happens(self.scenario.power_cuts) {
                    self.computer.cut_power();
                }
                self.computer.write_foreign(self.scenario.foreign);
                stay.job = Some((flashing, now + self.scenario.flash_step));
            }
            Action::Leave(end) => {
                check_reboot(stay, &self.computer, &end)?;
                if self.scenario.mailbox {
                    self.computer.leave_word(end.clone());
                }
                self.last_end = Some(end);
                self.boot(now, false);
            }
        }
        Ok(())
    }

    /// Outside of a flash job nothing may change the chip, and a job changes it only in its own
    /// steps.
    fn check_untouched(&self) -> Result<(), Violation> {
        let Place::Recovery(stay) = &self.place else {
            return match changes(&self.computer.flash) {
                (0, 0) => Ok(()),
                _ if matches!(self.place, Place::Booting { .. } | Place::Dead) => Ok(()),
                _ => Err("the chip was changed in the normal OS".into()),
            };
        };
        match stay.changes == changes(&self.computer.flash) {
            true => Ok(()),
            false => Err("the chip was changed outside of a flash job".into()),
        }
    }
}
