//! One dead host: the real search for help and the real flash job, on a simulated computer.
//!
//! ```text
//!   Well --dies--> Booting --> Stay (recovery environment) --repaired, or told--> Home
//!                     ^             | power cut at any time, also in the middle of an erase
//!                     '-------------'
//! ```
//! The safety invariants of a host are checked after every step, right here.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use firmcast::environment::stay::{Conclusion, Stay as HostStay, StayAction};
use firmcast::image::VerifiedImage;
use firmcast::image::validity::Verdict;
use firmcast::reason::{Condition, FlashState, Reason, Refusal};
use firmcast::recovery::flashing::Flashing;
use firmcast::rescue::search::SearchEnd;
use firmcast::rescue::seek::{Candidate, Source};
use firmcast::time::Time;
use firmcast::wire::help::RESCUES_IN_VAIN;
use firmcast_manager::campaign::Backup;
use firmcast_manager::news::HostResult;

use super::claims::{Beginning, Claims};
use super::computer::{Computer, Kind};
use super::scenario::Scenario;
use super::stay::{Attempt, Stay, check_image};
use super::truth::Truth;
use crate::chip::changes;
use crate::engine::Violation;
use crate::outbox::Outbox;

pub(crate) enum Place {
    /// It has not died yet, or it is repaired, or has told what it had to tell.
    Home,
    Booting(Time),
    Stay(Box<Stay>),
}

pub(crate) struct VirtualHost {
    pub(crate) address: SocketAddr,
    pub(crate) computer: Computer,
    place: Place,
    /// The clock of the environment that runs began here.
    origin: Time,
    /// Counts the times that it came up: what was asked for in an earlier life is not answered in a
    /// later one.
    pub(crate) life: u64,
    /// Campaigns that told this host to write, as the managers say; in those with escrow, after
    /// they stored its backup.
    pub(crate) commits: Vec<u64>,
    /// Campaigns that told this host to read and upload its backup.
    pub(crate) escrows: Vec<u64>,
    claims: Claims,
    changes: (u64, u64),
    pub(crate) is_over: bool,
    pub(crate) outbox: Outbox,
    scenario: Rc<Scenario>,
    /// Whether chips may still fail.
    pub(crate) faulty: bool,
    /// Attempts that it was enlisted for.
    pub(crate) attempts: u64,
    /// How long it took in each stay from its first word until it received an image.
    pub(crate) joined_after: Vec<Duration>,
    /// When it said its first word, and when it first had a whole image verified.
    pub(crate) first_word: Option<Time>,
    pub(crate) verified: Option<Time>,
}

impl VirtualHost {
    pub(crate) fn new(number: usize, scenario: Rc<Scenario>, truth: Rc<Truth>) -> Self {
        let octets = (number as u16 + 256).to_be_bytes();
        let computer = Computer::new(number, &scenario, truth);
        Self {
            address: SocketAddr::from(([10, 0, octets[0], octets[1]], 9847)),
            changes: changes(&computer.flash),
            computer,
            place: Place::Home,
            origin: Time::ZERO,
            life: 0,
            commits: Vec::new(),
            escrows: Vec::new(),
            claims: Claims::default(),
            is_over: false,
            outbox: Outbox::default(),
            faulty: !scenario.faults_end.is_zero(),
            scenario,
            attempts: 0,
            joined_after: Vec::new(),
            first_word: None,
            verified: None,
        }
    }

    pub(crate) fn hears_group(&self) -> bool {
        matches!(&self.place, Place::Stay(stay) if stay.group_joined)
    }

    pub(crate) fn stay(&mut self) -> Option<&mut Stay> {
        match &mut self.place {
            Place::Stay(stay) => Some(stay),
            _ => None,
        }
    }

    /// Where it is, for a person.
    pub(crate) fn describe(&self) -> String {
        match &self.place {
            Place::Home if self.is_over => "home".into(),
            Place::Home => "not dead yet".into(),
            Place::Booting(_) => "booting".into(),
            Place::Stay(stay) => {
                format!("{:?}, {:?}", self.computer.kind, stay.rescue.situation())
            }
        }
    }

    /// When it wants to be woken.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        match &self.place {
            Place::Home => None,
            Place::Booting(until) => Some(*until),
            Place::Stay(stay) => {
                let timer = stay.rescue.poll_timeout().map(|at| self.origin + at.since(Time::ZERO));
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
        if let Place::Stay(stay) = &mut self.place {
            stay.rescue.handle_datagram(local, from, bytes);
        }
        self.follow(now)
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) -> Result<(), Violation> {
        match &self.place {
            Place::Booting(until) if *until <= now => self.come_up(now),
            Place::Stay(_) => self.stay_on(now)?,
            _ => {}
        }
        self.follow(now)
    }

    pub(crate) fn found(
        &mut self,
        now: Time,
        source: Source,
        found: Result<Vec<Candidate>, String>,
    ) -> Result<(), Violation> {
        let local = self.local(now);
        if let Place::Stay(stay) = &mut self.place {
            stay.rescue.found(local, source, found);
        }
        self.follow(now)
    }

    /// It comes up with nobody having told it to; the first time because its firmware is dead.
    pub(crate) fn boot(&mut self, now: Time) {
        self.life += 1;
        self.computer.power_on();
        self.place = Place::Booting(now + self.computer.chance.span(self.scenario.boot.clone()));
    }

    /// The power fails. While the chip is being changed, that hits what is being done there. False
    /// when nothing happens.
    pub(crate) fn cut(&mut self, now: Time) -> Result<bool, Violation> {
        match &mut self.place {
            Place::Home => return Ok(false),
            Place::Booting(_) => {}
            Place::Stay(stay) => {
                let local = Time::ZERO + now.since(self.origin);
                if let (Some((mut flashing, _)), Some(recovery)) =
                    (stay.job.take(), stay.rescue.recovery())
                {
                    self.computer.cut_soon();
                    // Nobody sees any more what it says about this.
                    let _ = flashing.step(local, &mut self.computer.flash, recovery, || {
                        Err(Refusal::new(Reason::RecoveryFailed, "the power fails"))
                    });
                    if self.changes != changes(&self.computer.flash)
                        && let Some(attempt) = stay.attempt
                    {
                        self.claims.changed(now, attempt.campaign);
                    }
                    self.changes = changes(&self.computer.flash);
                }
            }
        }
        self.boot(now);
        let silence = if self.faulty { self.scenario.silences } else { 0.0 };
        self.outbox.restart(&mut self.computer.chance, silence);
        match self.computer.preserved_is_intact() {
            true => Ok(true),
            false => Err("a preserved region was changed when the power failed".into()),
        }
    }

    /// A manager of `campaign` stores this backup now: while the host waits for that, its chip must
    /// hold it.
    pub(crate) fn check_backup(&self, campaign: u64, backup: &Backup) -> Result<(), Violation> {
        let Place::Stay(stay) = &self.place else { return Ok(()) };
        let is_same = stay.attempt.is_some_and(|attempt| attempt.campaign == campaign);
        let waits = is_same && stay.job.is_some() && !stay.is_changing;
        match waits {
            true => self.computer.check_backup(backup),
            false => Ok(()),
        }
    }

    /// The faults are over for this host.
    pub(crate) fn faults_end(&mut self) {
        self.faulty = false;
        self.outbox.mend();
        self.computer.flash.clear_faults();
    }

    /// A campaign enlists it. What an attempt of this stay left unfinished is broken.
    pub(crate) fn is_enlisted(&mut self, now: Time, campaign: u64) {
        let condition = match &self.place {
            Place::Stay(stay) if stay.is_changing => Condition::Broken,
            Place::Stay(stay) => stay.began.condition(),
            _ => self.computer.condition(),
        };
        self.claims.enlist(now, campaign, &self.computer, condition);
    }

    /// A campaign tells it to write, or to upload its backup first.
    pub(crate) fn is_told(&mut self, campaign: u64, is_escrow: bool) {
        if is_escrow { &mut self.escrows } else { &mut self.commits }.push(campaign);
        self.claims.tell(campaign);
    }

    /// What a manager says of this host at the end of an attempt is true of its chip.
    pub(crate) fn check_result(&self, campaign: u64, result: &HostResult) -> Result<(), Violation> {
        // One that was let go as repaired and asks again, after a farewell that nobody heard.
        let relapses =
            self.computer.rescues() > 0 && result.reason == Reason::LostWhileFlashing.name();
        let fails = !self.scenario.faults_end.is_zero() || relapses;
        if result.flash == FlashState::Unknown.name() && !fails {
            return Err(format!("nothing failed, yet {result:?}"));
        }
        self.claims
            .check(campaign, result, &self.computer)
            .map_err(|violation| format!("it is {}: {violation}", self.describe()))
    }

    fn local(&self, now: Time) -> Time {
        Time::ZERO + now.since(self.origin)
    }

    fn come_up(&mut self, now: Time) {
        self.origin = now;
        let Some(patient) = self.computer.patient(clock_s(now)) else {
            (self.place, self.is_over) = (Place::Home, true);
            return;
        };
        let was_broken = !patient.flash.reboot_is_safe();
        let began = Beginning::of(&self.computer);
        self.place = Place::Stay(Box::new(Stay {
            rescue: HostStay::by_itself(Time::ZERO, patient, self.computer.chance.seed()),
            was_broken,
            attempt: None,
            job: None,
            is_rescue_job: false,
            job_flash: FlashState::UNTOUCHED,
            job_may_fail: false,
            is_changing: false,
            flashed: false,
            group_joined: false,
            began,
            held: None,
            lookups: Vec::new(),
            first_word: None,
            joined_after: None,
        }));
    }

    fn stay_on(&mut self, now: Time) -> Result<(), Violation> {
        let local = self.local(now);
        let Place::Stay(stay) = &mut self.place else { return Ok(()) };
        stay.rescue.handle_timeout(local);
        let (Some((flashing, at)), Some(recovery)) = (&mut stay.job, stay.rescue.recovery()) else {
            return Ok(());
        };
        if *at > now {
            return Ok(());
        }
        let refuses =
            self.faulty && self.computer.chance.happens(self.scenario.flash_faults * 0.02);
        let is_changing = &mut stay.is_changing;
        let goes_on = flashing.step(local, &mut self.computer.flash, recovery, || {
            *is_changing |= !refuses;
            match refuses {
                true => Err(Refusal::new(Reason::WatchdogRuns, "watchdog0 runs on")),
                false => Ok(()),
            }
        });
        *at = now + self.scenario.flash_step;
        let flash = recovery.report().ending.flash;
        if !goes_on {
            stay.job = None;
            stay.is_changing &= !flash.reboot_is_safe();
            // A rescue that is given up goes by what it was given.
            stay.began.check(&self.computer, stay.job_flash, flash, stay.job_may_fail)?;
        }
        self.check_change(now)
    }

    /// After a step of a flash job: only told and verified jobs change the chip, and never what is
    /// preserved.
    fn check_change(&mut self, now: Time) -> Result<(), Violation> {
        let changed = changes(&self.computer.flash);
        let Place::Stay(stay) = &self.place else { return Ok(()) };
        if changed == self.changes {
            return Ok(());
        }
        self.changes = changed;
        if let Some(attempt) = stay.attempt {
            self.claims.changed(now, attempt.campaign);
        }
        let is_told = |attempt: Attempt| {
            let campaign = attempt.campaign;
            let without_backup = stay.is_rescue_job && self.escrows.contains(&campaign);
            attempt.was_verified && (self.commits.contains(&campaign) || without_backup)
        };
        if !stay.attempt.is_some_and(is_told) {
            return Err("the chip was changed before verification, stored backup or commit".into());
        }
        match self.computer.preserved_is_intact() {
            true => Ok(()),
            false => Err("a preserved region was changed".into()),
        }
    }

    /// Takes what the state machines want to send and done, then looks at the invariants.
    fn follow(&mut self, now: Time) -> Result<(), Violation> {
        let local = self.local(now);
        while let Place::Stay(stay) = &mut self.place {
            let said = std::iter::from_fn(|| stay.rescue.poll_transmit());
            self.outbox.put(said.inspect(|_| _ = stay.first_word.get_or_insert(now)));
            let had_joined = stay.joined_after.is_some();
            self.attempts += u64::from(stay.look(now)?);
            self.joined_after.extend(stay.joined_after.filter(|_| !had_joined));
            self.first_word = self.first_word.or(stay.first_word);
            if stay.attempt.is_some_and(|attempt| attempt.was_verified) {
                self.verified.get_or_insert(now);
            }
            if let Some(recovery) = stay.rescue.recovery() {
                let report = recovery.report();
                self.claims.report(report.campaign, report.ending.flash);
            }
            match stay.rescue.poll_action(local) {
                None => break,
                Some(StayAction::LookUp(source)) => stay.lookups.push(source),
                Some(StayAction::JoinGroup(_)) => stay.group_joined = true,
                Some(StayAction::ReadPiece { .. }) => {
                    return Err("a rescue left out a piece of the image".into());
                }
                Some(StayAction::Flash { image, flash, .. }) => {
                    self.begin_job(now, image, flash)?
                }
                Some(StayAction::Conclude(conclusion)) => self.conclude(now, &conclusion)?,
            }
        }
        let said = self.outbox.close()?;
        if let Place::Stay(stay) = &mut self.place {
            stay.watch_silence(now, said)?;
        }
        match self.changes == changes(&self.computer.flash) {
            true => Ok(()),
            false => Err("the chip was changed outside of a flash job".into()),
        }
    }

    fn begin_job(
        &mut self,
        now: Time,
        image: VerifiedImage,
        flash: FlashState,
    ) -> Result<(), Violation> {
        let local = self.local(now);
        let Place::Stay(stay) = &mut self.place else { return Ok(()) };
        let attempt = stay.attempt.ok_or("an image shall be written without a campaign")?;
        let campaign = attempt.campaign;
        let told = self.commits.contains(&campaign) || self.escrows.contains(&campaign);
        check_image(&self.computer, attempt, told, &image)?;
        // A chip that the stay has not changed is written once for each word of the manager.
        if stay.flashed && !stay.is_changing {
            return Err("an unchanged chip shall be written again without a commit".into());
        }
        stay.flashed = true;
        let is_rescue = stay.was_broken || stay.is_changing;
        if flash.reboot_is_safe() == is_rescue {
            return Err(format!("it goes by {flash:?}, the chip needs a rescue: {is_rescue}"));
        }
        let chance = &mut self.computer.chance;
        let flashing = Flashing::new(image, flash);
        if self.faulty && chance.happens(self.scenario.flash_faults * 0.03) {
            let end = flashing.not_started(Reason::FlashUnsupported, "no such device");
            if let Some(recovery) = stay.rescue.recovery() {
                recovery.flash_ended(local, end);
            }
            return Ok(());
        }
        if self.faulty && chance.happens(self.scenario.flash_faults) {
            self.computer.break_flash();
        }
        (stay.is_rescue_job, stay.job_flash) = (is_rescue, flash);
        stay.job_may_fail = self.faulty;
        stay.job = Some((flashing, now + self.scenario.flash_step));
        Ok(())
    }

    /// It boots. Only repaired firmware may be booted, or what it was told to boot in any case.
    fn conclude(&mut self, now: Time, conclusion: &Conclusion) -> Result<(), Violation> {
        let Place::Stay(stay) = std::mem::replace(&mut self.place, Place::Home) else {
            return Ok(());
        };
        self.is_over = true;
        let wants_image = self.computer.wants_image(clock_s(now));
        let is_quiet = stay.job.is_none() && !stay.is_changing;
        match conclusion {
            Conclusion::Repaired { known_good, .. } => {
                let contents = self.computer.contents(known_good.as_deref());
                let is_good = known_good.as_ref().is_some_and(|good| {
                    matches!(good.judge(&contents, ""), Some(Verdict::Valid { .. }))
                });
                let is_right = self.computer.is_repaired() && self.computer.preserved_is_intact();
                match wants_image && is_quiet && is_right && is_good {
                    true => self.relapse(now),
                    false => Err(format!(
                        "repaired, it says: wants an image {wants_image}, quiet {is_quiet}, chip \
                        right {is_right}, record good {is_good}: {conclusion:?}"
                    )),
                }
            }
            Conclusion::Unchanged(_) if !wants_image && stay.attempt.is_none() => Ok(()),
            // Nobody helped it in time, and it is as it was.
            Conclusion::Unchanged(SearchEnd::NotHelped)
                if self.computer.kind == Kind::Doubtful
                    && stay.began.is_untouched(&self.computer) =>
            {
                Ok(())
            }
            _ => Err(format!("it boots damaged firmware: {conclusion:?}")),
        }
    }

    /// It is rescued. Where that does not help it is back at its next boot, but not for ever.
    fn relapse(&mut self, now: Time) -> Result<(), Violation> {
        let Some(is_damaged) = self.computer.relapses(clock_s(now)) else { return Ok(()) };
        if self.computer.rescues() > RESCUES_IN_VAIN {
            return Err(format!("it was rescued {} times in a row", self.computer.rescues()));
        }
        if is_damaged {
            self.claims.relapsed(now);
            self.changes = changes(&self.computer.flash);
        }
        self.is_over = false;
        self.boot(now);
        Ok(())
    }
}

/// The clock of a host.
fn clock_s(now: Time) -> u64 {
    now.since(Time::ZERO).as_secs()
}
