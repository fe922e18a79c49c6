//! One dead host: the real search for help and the real flash job, on a simulated computer.
//!
//! ```text
//!   Well --dies--> Booting --> Stay (recovery environment) --repaired, or told--> Home
//!                     ^             | power cut at any time, also in the middle of an erase
//!                     '-------------'
//! ```
//! The safety invariants of a host are checked after every step, right here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use firmcast::environment::stay::{Conclusion, Situation, Stay as HostStay, StayAction};
use firmcast::image::validity::Verdict;
use firmcast::image::{Contents, VerifiedImage};
use firmcast::reason::{FlashState, Reason};
use firmcast::recovery::flashing::Flashing;
use firmcast::recovery::machine::FRAGMENTS_WAITING_MAX;
use firmcast::rescue::search::{SearchEnd, SearchSituation};
use firmcast::rescue::seek::{Candidate, Source};
use firmcast::session::Transmit;
use firmcast::time::Time;
use firmcast::wire::answer::Phase;

use firmcast_manager::news::HostResult;

use super::computer::{Computer, Kind};
use super::scenario::Scenario;
use super::truth::Truth;
use crate::engine::Violation;

/// So many datagrams a host may want to send after one thing happened to it.
const TRANSMITS_MAX: usize = FRAGMENTS_WAITING_MAX + 32;
/// A host that falls silent after its power failed says fewer datagrams than this before.
const LAST_WORDS_MAX: u64 = 8;
/// A host that was put off says nothing for so long: the shortest pause that a manager names, less
/// the jitter.
const HELD_SILENCE: Duration = Duration::from_secs(5);

pub(crate) enum Place {
    /// It has not died yet, or it is repaired, or has told what it had to tell.
    Home,
    Booting(Time),
    Stay(Box<Stay>),
}

/// One stay in the recovery environment.
pub(crate) struct Stay {
    rescue: HostStay,
    /// Its firmware was known to be broken when it came up.
    was_broken: bool,
    attempt: Option<Attempt>,
    job: Option<(Flashing, Time)>,
    /// It was told to write in this attempt.
    flashed: bool,
    /// The job is for a chip that was broken before: of that no backup is kept.
    is_rescue_job: bool,
    /// The chip was written to in this stay, and not known to hold all of an image since.
    is_changing: bool,
    group_joined: bool,
    /// Erases and bytes written before this stay.
    changes_before: (u64, u64),
    /// Since when it is put off.
    held: Option<Time>,
    /// The places that it wants looked up.
    pub(crate) lookups: Vec<Source>,
}

/// The campaign that it takes part in.
#[derive(Clone, Copy)]
struct Attempt {
    campaign: u64,
    was_verified: bool,
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
    /// Campaigns as they enlisted this host: when, and what its chip held then.
    pub(crate) enlisted: BTreeMap<u64, (Time, u64)>,
    /// The campaigns in which the chip was changed, and when that was last.
    pub(crate) changed_in: BTreeMap<u64, Time>,
    changes: (u64, u64),
    /// Datagrams that it still sends before nothing is heard of it; none when its network works.
    words_left: Option<u64>,
    pub(crate) is_over: bool,
    pub(crate) outbox: Vec<Transmit>,
    scenario: Rc<Scenario>,
    /// Whether chips may still fail.
    pub(crate) faulty: bool,
    /// Attempts that it was enlisted for.
    pub(crate) attempts: u64,
}

impl VirtualHost {
    pub(crate) fn new(number: usize, scenario: Rc<Scenario>, truth: Rc<Truth>) -> Self {
        let octets = (number as u16 + 256).to_be_bytes();
        let computer = Computer::new(number, &scenario, truth);
        Self {
            address: SocketAddr::from(([10, 0, octets[0], octets[1]], 9847)),
            changes: computer.changes(),
            computer,
            place: Place::Home,
            origin: Time::ZERO,
            life: 0,
            commits: Vec::new(),
            escrows: Vec::new(),
            enlisted: BTreeMap::new(),
            changed_in: BTreeMap::new(),
            words_left: None,
            is_over: false,
            outbox: Vec::new(),
            faulty: !scenario.faults_end.is_zero(),
            scenario,
            attempts: 0,
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
        if self.words_left == Some(0) {
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
                        Err("the power fails".into())
                    });
                    if self.changes != self.computer.changes()
                        && let Some(attempt) = stay.attempt
                    {
                        self.changed_in.insert(attempt.campaign, now);
                    }
                    self.changes = self.computer.changes();
                }
            }
        }
        self.boot(now);
        let falls_silent = self.faulty && self.computer.chance.happens(self.scenario.silences);
        let words = self.computer.chance.within(1..LAST_WORDS_MAX);
        self.words_left = falls_silent.then_some(words);
        match self.computer.preserved_is_intact() {
            true => Ok(true),
            false => Err("a preserved region was changed when the power failed".into()),
        }
    }

    /// A manager of `campaign` stores this backup now: while the host waits for that, its chip must
    /// hold it.
    pub(crate) fn check_backup(&self, campaign: u64, backup: &[u8]) -> Result<(), Violation> {
        let Place::Stay(stay) = &self.place else { return Ok(()) };
        let is_same = stay.attempt.is_some_and(|attempt| attempt.campaign == campaign);
        let waits = is_same && stay.job.is_some() && !stay.is_changing;
        match waits && backup != self.computer.flash.contents() {
            true => Err("its backup is not what the chip holds".into()),
            false => Ok(()),
        }
    }

    /// The faults are over for this host.
    pub(crate) fn faults_end(&mut self) {
        (self.faulty, self.words_left) = (false, None);
        self.computer.flash.clear_faults();
    }

    /// What a manager says of this host at the end of an attempt is true of its chip. What nobody
    /// could know, and nothing else, it calls unknown.
    pub(crate) fn check_result(&self, campaign: u64, result: &HostResult) -> Result<(), Violation> {
        let computer = &self.computer;
        let (since, held) = *self.enlisted.get(&campaign).ok_or("it was never enlisted")?;
        let changed_here = self.changed_in.get(&campaign).is_some_and(|at| *at >= since);
        // A campaign speaks of its own work, not of what others do at the same time.
        let others = |(other, at): (&u64, &Time)| *other != campaign && *at >= since;
        let changed_by_others = self.changed_in.iter().any(others);
        let is_same = held == computer.print();
        let is_true = match result.flash.as_str() {
            "updated" => computer.is_repaired(),
            // That a second try in the same stay changed nothing does not mean that the stay did
            // not.
            "untouched" if result.condition.as_deref() == Some("broken") => true,
            "untouched" => !changed_here && (changed_by_others || is_same),
            "restored" => changed_by_others || is_same,
            "mixed" => !computer.is_repaired(),
            "unknown" => {
                let was_told = self.commits.contains(&campaign) || self.escrows.contains(&campaign);
                // What an attempt before this one began is still the host's word.
                let began = !self.changed_in.is_empty();
                (was_told || began) && !self.scenario.faults_end.is_zero()
            }
            _ => false,
        };
        let is_safe = || changed_by_others || computer.starts();
        match is_true && (!result.reboot_safe || is_safe()) {
            true => Ok(()),
            false => Err(format!(
                "{result:?}, but it is {}, repaired: {}, as before: {is_same}",
                self.describe(),
                computer.is_repaired()
            )),
        }
    }

    fn local(&self, now: Time) -> Time {
        Time::ZERO + now.since(self.origin)
    }

    fn come_up(&mut self, now: Time) {
        self.origin = now;
        let Some(patient) = self.computer.patient() else {
            (self.place, self.is_over) = (Place::Home, true);
            return;
        };
        let was_broken = !patient.flash.reboot_is_safe();
        self.place = Place::Stay(Box::new(Stay {
            rescue: HostStay::by_itself(Time::ZERO, patient, self.computer.chance.seed()),
            was_broken,
            attempt: None,
            job: None,
            is_rescue_job: false,
            is_changing: false,
            flashed: false,
            group_joined: false,
            changes_before: self.changes,
            held: None,
            lookups: Vec::new(),
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
            if refuses { Err("the watchdog cannot be stopped".into()) } else { Ok(()) }
        });
        *at = now + self.scenario.flash_step;
        let flash = recovery.report().ending.flash;
        if !goes_on {
            stay.job = None;
            stay.is_changing &= !flash.reboot_is_safe();
        }
        self.check_change(now)
    }

    /// After a step of a flash job: only told and verified jobs change the chip, and never what is
    /// preserved.
    fn check_change(&mut self, now: Time) -> Result<(), Violation> {
        let changed = self.computer.changes();
        let Place::Stay(stay) = &self.place else { return Ok(()) };
        if changed == self.changes {
            return Ok(());
        }
        self.changes = changed;
        if let Some(attempt) = stay.attempt {
            self.changed_in.insert(attempt.campaign, now);
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
        let before = self.outbox.len();
        while let Place::Stay(stay) = &mut self.place {
            self.outbox.extend(std::iter::from_fn(|| stay.rescue.poll_transmit()));
            self.attempts += u64::from(stay.look()?);
            match stay.rescue.poll_action(local) {
                None => break,
                Some(StayAction::LookUp(source)) => stay.lookups.push(source),
                Some(StayAction::JoinGroup(_)) => stay.group_joined = true,
                Some(StayAction::Flash { image, flash }) => self.begin_job(now, image, flash)?,
                Some(StayAction::Conclude(conclusion)) => self.conclude(&conclusion)?,
            }
        }
        if let Some(left) = &mut self.words_left {
            self.outbox.truncate(before + *left as usize);
            *left -= (self.outbox.len() - before) as u64;
        }
        let said = self.outbox.len() - before;
        if said > TRANSMITS_MAX {
            return Err(format!("{said} datagrams at once"));
        }
        if let Place::Stay(stay) = &mut self.place {
            stay.watch_silence(now, said)?;
        }
        match self.changes == self.computer.changes() {
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
        stay.is_rescue_job = is_rescue;
        stay.job = Some((flashing, now + self.scenario.flash_step));
        Ok(())
    }

    /// It boots. Only repaired firmware may be booted, or what it was told to boot in any case.
    fn conclude(&mut self, conclusion: &Conclusion) -> Result<(), Violation> {
        let Place::Stay(stay) = std::mem::replace(&mut self.place, Place::Home) else {
            return Ok(());
        };
        self.is_over = true;
        let wants_image = self.computer.kind != Kind::Telling;
        let is_quiet = stay.job.is_none() && !stay.is_changing;
        match conclusion {
            Conclusion::Repaired { known_good, .. } => {
                let contents = Contents::whole(self.computer.flash.contents().to_vec());
                let is_good = known_good.as_ref().is_some_and(|good| {
                    matches!(good.judge(&contents, ""), Some(Verdict::Valid { .. }))
                });
                let is_right = self.computer.is_repaired() && self.computer.preserved_is_intact();
                match wants_image && is_quiet && is_right && is_good {
                    true => Ok(()),
                    false => Err(format!(
                        "repaired, it says: wants an image {wants_image}, quiet {is_quiet}, chip \
                        right {is_right}, record good {is_good}: {conclusion:?}"
                    )),
                }
            }
            Conclusion::Unchanged(_) if !wants_image && stay.attempt.is_none() => Ok(()),
            // Nobody helped it in time, and it is as it was.
            Conclusion::Unchanged(SearchEnd::NotHelped)
                if self.computer.kind == Kind::Doubtful && stay.changes_before == self.changes =>
            {
                Ok(())
            }
            _ => Err(format!("it boots damaged firmware: {conclusion:?}")),
        }
    }
}

impl Stay {
    /// Notes what is going on in the campaign, if any. True when one began.
    fn look(&mut self) -> Result<bool, Violation> {
        let Some(recovery) = self.rescue.recovery() else { return Ok(false) };
        let report = recovery.report();
        let (campaign, phase) = (report.campaign, report.phase);
        if matches!(phase, Phase::Failed | Phase::Updated | Phase::Rebooting)
            && report.ending.reason == Reason::None
        {
            return Err(format!("{phase:?} without a reason"));
        }
        let begins = self.attempt.is_none_or(|attempt| attempt.campaign != campaign)
            || phase == Phase::Ready;
        if begins {
            self.flashed = false;
            // The same campaign may enlist it again.
            let is_new = self.attempt.replace(Attempt { campaign, was_verified: false });
            return Ok(
                is_new.is_none_or(|before| before.campaign != campaign || before.was_verified)
            );
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.was_verified |= phase == Phase::Verified;
        }
        Ok(false)
    }

    /// Somebody who is told to wait waits.
    fn watch_silence(&mut self, now: Time, said: usize) -> Result<(), Violation> {
        let is_held = matches!(
            self.rescue.situation(),
            Situation::Searching(SearchSituation::Asking { held: Some(_), .. })
        );
        match (self.held, is_held) {
            (None, true) => self.held = Some(now),
            (Some(_), false) => self.held = None,
            (Some(since), true) if said > 0 && now.since(since) < HELD_SILENCE => {
                return Err("it was put off, and asks again at once".into());
            }
            _ => {}
        }
        Ok(())
    }
}

/// Only the right board's signed image, only after verification and commit.
fn check_image(
    computer: &Computer,
    attempt: Attempt,
    is_told: bool,
    image: &VerifiedImage,
) -> Result<(), Violation> {
    if image.bytes() != computer.board_truth().new {
        return Err("an image shall be written that is not the right one".into());
    }
    match attempt.was_verified && is_told {
        true => Ok(()),
        false => Err("an image shall be written without verification or commit".into()),
    }
}
