//! When the administrator's programs run: before recovery is entered, and when the campaign has
//! ended, was taken back, or could not go on.
//!
//! ```text
//!   Idle --> Prepared --> Draining --> Drained --(kexec)--> the next boot: Undraining --> Idle
//!                            |            |
//!                            '------------'--> Undraining --> Idle
//!                              failed, taken back, or recovery could not be entered
//! ```
//!
//! What has begun is recorded first: an agent that is started anew undoes it. So a program in
//! post-update.d may run twice. Sans-IO: jobs are handed out, and what they came to is handed in.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::{info, warn};

use super::hooks::{self, ALL_TIMEOUT, Occasion, When, programs};
use super::state::{ProgramsRecord, State, StateError};
use crate::reason::{Reason, Refusal};
use crate::wire::answer::Programs;

/// How long after a boot a measurement waits for programs in post-update.d, to tell what they came
/// to. A manager waits 180 s for it.
pub(super) const MEASUREMENT_WAIT_MAX: Duration = Duration::from_secs(60);

/// Parts of the time in which recovery must call: programs before an update have a half, and those
/// that undo it while the manager still waits have a quarter.
const BEFORE_PART: u32 = 2;
const UNDO_PART: u32 = 4;

/// Runs programs; for a thread of its own.
pub(super) struct Job {
    root: PathBuf,
    when: When,
    occasion: Occasion,
    limit: Duration,
}

impl Job {
    pub(super) fn run(self) -> Programs {
        hooks::run(&self.root, self.when, &self.occasion, self.limit)
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:016x}", self.when, self.occasion.campaign)
    }
}

/// What there is to do now that programs have ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing; perhaps there is another job.
    Nothing,
    /// Recovery may be entered.
    Enter,
    /// The campaign is refused after all.
    Refuse(Refusal),
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Idle,
    /// Recovery is loaded; it must call within this time.
    Prepared(Occasion, Duration),
    Draining(Occasion, Duration),
    Drained(Occasion, Duration),
    Undraining {
        since: Instant,
        /// Why the campaign is refused, said when this has ended; none after a boot, or when nobody
        /// waits for it.
        refusal: Option<Refusal>,
    },
}

/// The programs of one campaign at a time.
#[derive(Debug)]
pub(super) struct Drain {
    root: PathBuf,
    state: State,
    step: Step,
    job: Option<Job>,
    record: Option<ProgramsRecord>,
}

impl Drain {
    pub(super) fn new(root: &Path, state: &State) -> Self {
        let (root, state) = (root.to_owned(), state.clone());
        Self { root, state, step: Step::Idle, job: None, record: None }
    }

    /// Undoes what an agent before this one began and did not undo. `end` says how a campaign
    /// ended, as far as that is known.
    pub(super) fn look_back(&mut self, now: Instant, end: impl FnOnce(u64) -> Reason) {
        self.record = self.state.programs().unwrap_or_else(|error| {
            warn!("{error}");
            None
        });
        let Some(record) = self.record.as_ref().filter(|record| !record.is_undone) else { return };
        let (campaign, version) = (record.campaign, record.version.clone());
        let occasion = Occasion { campaign, version, end: end(campaign) };
        self.undrain(now, occasion, ALL_TIMEOUT, None);
    }

    /// Whether programs run, or are about to.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.step, Step::Draining(..) | Step::Undraining { .. })
    }

    /// Whether a measurement should wait until they have ended.
    pub(super) fn holds_measurement(&self, now: Instant) -> bool {
        matches!(self.step, Step::Undraining { since, .. }
            if now.saturating_duration_since(since) < MEASUREMENT_WAIT_MAX)
    }

    /// What the programs of this campaign have come to so far, if any ran.
    pub(super) fn told(&self, campaign: u64) -> Option<Programs> {
        let record = self.record.as_ref().filter(|record| record.campaign == campaign)?;
        let mut programs = record.programs.clone();
        if let Step::Undraining { .. } = self.step {
            programs.add(Programs { failed: false, told: "post-update.d still runs".to_owned() });
        }
        Some(programs)
    }

    /// Recovery is loaded and must call within `reach`.
    pub(super) fn prepare(&mut self, campaign: u64, version: &str, reach: Duration) {
        let occasion = Occasion { campaign, version: version.to_owned(), end: Reason::None };
        self.step = Step::Prepared(occasion, reach);
    }

    /// Before recovery is entered. Returns whether programs run first.
    ///
    /// # Errors
    /// It cannot be recorded that they run.
    pub(super) fn begin(&mut self) -> Result<bool, Refusal> {
        let Step::Prepared(occasion, reach) = &self.step else { return Ok(false) };
        let (occasion, reach) = (occasion.clone(), *reach);
        let is_empty = |when| programs(&self.root, when).is_ok_and(|found| found.is_empty());
        if When::ALL.into_iter().all(is_empty) {
            return Ok(false);
        }
        self.keep(ProgramsRecord {
            campaign: occasion.campaign,
            version: occasion.version.clone(),
            ..ProgramsRecord::default()
        })
        .map_err(|error| Refusal::new(Reason::NotPossibleNow, error))?;
        self.start(When::PreUpdate, occasion.clone(), reach / BEFORE_PART);
        self.step = Step::Draining(occasion, reach);
        Ok(true)
    }

    /// Programs that are to be started now.
    pub(super) fn take_job(&mut self) -> Option<Job> {
        self.job.take()
    }

    /// The job has ended. `entering` is the campaign that was not taken back meanwhile.
    pub(super) fn ended(&mut self, now: Instant, said: Programs, entering: Option<u64>) -> Then {
        match std::mem::take(&mut self.step) {
            Step::Draining(occasion, reach) => {
                self.note(&said, false);
                let is_wanted = entering == Some(occasion.campaign);
                if is_wanted && !said.failed {
                    self.step = Step::Drained(occasion, reach);
                    return Then::Enter;
                }
                let refusal = is_wanted.then(|| Refusal::new(Reason::HookFailed, said.told));
                self.take_back(now, occasion, reach, refusal);
                Then::Nothing
            }
            Step::Undraining { refusal, .. } => {
                self.note(&said, true);
                refusal.map_or(Then::Nothing, |Refusal { reason, detail }| {
                    Then::Refuse(Refusal::new(reason, format!("{detail}; {}", said.told)))
                })
            }
            other => {
                self.step = other;
                Then::Nothing
            }
        }
    }

    /// Recovery could not be entered. Returns what is to be said now: nothing while it is being
    /// undone.
    pub(super) fn failed(&mut self, now: Instant, refusal: Refusal) -> Option<Refusal> {
        match std::mem::take(&mut self.step) {
            Step::Drained(occasion, reach) => {
                self.take_back(now, occasion, reach, Some(refusal));
                None
            }
            other => {
                self.step = other;
                Some(refusal)
            }
        }
    }

    /// The campaign is off, and nobody waits for a word. What runs is let end first.
    pub(super) fn abandon(&mut self, now: Instant) {
        match std::mem::take(&mut self.step) {
            Step::Drained(occasion, reach) => self.take_back(now, occasion, reach, None),
            Step::Idle | Step::Prepared(..) => {}
            running => self.step = running,
        }
    }

    /// Undoes it; says `refusal` when that is done, while the manager still waits for recovery.
    fn take_back(
        &mut self,
        now: Instant,
        occasion: Occasion,
        reach: Duration,
        refusal: Option<Refusal>,
    ) {
        let end = refusal.as_ref().map_or(Reason::Interrupted, |refusal| refusal.reason);
        let limit = if refusal.is_some() { reach / UNDO_PART } else { ALL_TIMEOUT };
        self.undrain(now, Occasion { end, ..occasion }, limit, refusal);
    }

    fn undrain(
        &mut self,
        now: Instant,
        occasion: Occasion,
        limit: Duration,
        refusal: Option<Refusal>,
    ) {
        self.start(When::PostUpdate, occasion, limit);
        self.step = Step::Undraining { since: now, refusal };
    }

    fn start(&mut self, when: When, occasion: Occasion, limit: Duration) {
        self.job = Some(Job { root: self.root.clone(), when, occasion, limit });
    }

    /// Logs and records what programs came to.
    fn note(&mut self, said: &Programs, is_undone: bool) {
        let Some(mut record) = self.record.clone() else { return };
        let (campaign, told) = (record.campaign, &said.told);
        match said.failed {
            true => warn!("campaign {campaign:016x}: {told}"),
            false => info!("campaign {campaign:016x}: {told}"),
        }
        record.programs.add(said.clone());
        record.is_undone = is_undone;
        if let Err(error) = self.keep(record) {
            warn!("{error}");
        }
    }

    fn keep(&mut self, record: ProgramsRecord) -> Result<(), StateError> {
        let kept = self.state.record_programs(&record);
        self.record = Some(record);
        kept
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::hooks::tests::put;
    use super::*;

    const CAMPAIGN: u64 = 7;
    const REACH: Duration = Duration::from_secs(300);

    struct World {
        root: tempfile::TempDir,
        now: Instant,
        drain: Drain,
    }

    impl World {
        /// A machine with programs before and after an update, prepared for one.
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            put(root.path(), "pre-update.d/10-drain", "exit 0", 0o755);
            put(root.path(), "post-update.d/10-undrain", "exit 0", 0o755);
            let mut world = Self { now: Instant::now(), drain: started(root.path()), root };
            world.drain.prepare(CAMPAIGN, "2", REACH);
            world
        }

        fn script(&self, folder: &str, text: &str) {
            put(self.root.path(), folder, text, 0o755);
        }

        /// Runs the job and hands in what it came to.
        fn run(&mut self, entering: Option<u64>) -> Then {
            let said = self.drain.take_job().unwrap().run();
            self.drain.ended(self.now, said, entering)
        }

        fn told(&self) -> String {
            self.drain.told(CAMPAIGN).unwrap().told
        }
    }

    /// The agent, after a start.
    fn started(root: &Path) -> Drain {
        Drain::new(root, &State::new(root.join("state")))
    }

    #[test]
    fn without_programs_nothing_runs() {
        let root = tempfile::tempdir().unwrap();
        let mut drain = started(root.path());
        drain.prepare(CAMPAIGN, "2", REACH);
        assert_eq!(drain.begin(), Ok(false));
        drain.abandon(Instant::now());
        drain.look_back(Instant::now(), |_| Reason::Updated);
        assert!(drain.take_job().is_none() && !drain.is_running());
        assert_eq!(drain.told(CAMPAIGN), None);
    }

    #[test]
    fn an_update_is_begun_after_them_and_undone_in_the_next_boot() {
        let mut world = World::new();
        let text = "test $FIRMCAST_RESULT = updated && test $FIRMCAST_VERSION = 2";
        world.script("post-update.d/10-undrain", text);
        assert_eq!(world.drain.begin(), Ok(true));
        assert_eq!(world.drain.job.as_ref().unwrap().limit, REACH / 2);
        assert_eq!(world.run(Some(CAMPAIGN)), Then::Enter);
        assert!(!world.drain.is_running());

        world.drain = started(world.root.path());
        world.drain.look_back(world.now, |campaign| {
            assert_eq!(campaign, CAMPAIGN);
            Reason::Updated
        });
        assert!(world.drain.is_running() && world.drain.holds_measurement(world.now));
        assert!(!world.drain.holds_measurement(world.now + MEASUREMENT_WAIT_MAX));
        assert_eq!(world.told(), "pre-update.d: 10-drain 0; post-update.d still runs");
        assert_eq!(world.run(None), Then::Nothing);
        assert!(!world.drain.holds_measurement(world.now) && !world.drain.is_running());
        let told = "pre-update.d: 10-drain 0; post-update.d: 10-undrain 0";
        assert_eq!(world.told(), told);

        world.drain = started(world.root.path());
        world.drain.look_back(world.now, |_| Reason::Updated);
        assert!(world.drain.take_job().is_none(), "it is undone once");
        assert_eq!(world.told(), told);
        assert_eq!(world.drain.told(CAMPAIGN + 1), None);
    }

    #[test]
    fn what_fails_is_undone_before_the_campaign_is_refused() {
        let mut world = World::new();
        world.script("pre-update.d/10-drain", "echo no; exit 3");
        world.script("post-update.d/10-undrain", "test $FIRMCAST_RESULT = hook-failed");
        assert_eq!(world.drain.begin(), Ok(true));
        assert_eq!(world.run(Some(CAMPAIGN)), Then::Nothing);
        assert!(world.drain.is_running());
        let detail = "pre-update.d/10-drain ended with status 3: no; post-update.d: 10-undrain 0";
        let refusal = Refusal::new(Reason::HookFailed, detail);
        assert_eq!(world.run(Some(CAMPAIGN)), Then::Refuse(refusal));
        world.drain.abandon(world.now);
        assert!(world.drain.take_job().is_none());
    }

    #[test]
    fn what_could_not_be_entered_is_undone_before_that_is_said() {
        let mut world = World::new();
        let refusal = || Refusal::new(Reason::KexecUnavailable, "EPERM");
        assert_eq!(world.drain.failed(world.now, refusal()), Some(refusal()));
        world.drain.begin().unwrap();
        assert_eq!(world.run(Some(CAMPAIGN)), Then::Enter);
        assert_eq!(world.drain.failed(world.now, refusal()), None);
        let said = Refusal::new(Reason::KexecUnavailable, "EPERM; post-update.d: 10-undrain 0");
        assert_eq!(world.run(Some(CAMPAIGN)), Then::Refuse(said));
    }

    #[test]
    fn what_is_taken_back_is_let_end_and_then_undone() {
        let mut world = World::new();
        world.script("post-update.d/10-undrain", "test $FIRMCAST_RESULT = interrupted");
        world.drain.begin().unwrap();
        world.drain.abandon(world.now);
        assert!(world.drain.is_running(), "what runs is let end");
        assert_eq!(world.run(None), Then::Nothing);
        assert_eq!(world.run(None), Then::Nothing);
        let told = "pre-update.d: 10-drain 0; post-update.d: 10-undrain 0";
        assert_eq!((world.told().as_str(), world.drain.is_running()), (told, false));

        world.drain.prepare(CAMPAIGN, "2", REACH);
        world.drain.begin().unwrap();
        assert_eq!(world.run(Some(CAMPAIGN)), Then::Enter);
        world.drain.abandon(world.now);
        assert_eq!(world.run(None), Then::Nothing);
        assert!(!world.drain.is_running());
    }

    #[test]
    fn an_agent_that_was_restarted_meanwhile_undoes_it() {
        let mut world = World::new();
        world.drain.begin().unwrap();
        world.drain = started(world.root.path());
        world.drain.look_back(world.now, |_| Reason::Interrupted);
        assert_eq!(world.run(None), Then::Nothing);
        assert_eq!(world.told(), "post-update.d: 10-undrain 0");
    }

    #[test]
    fn what_cannot_be_recorded_is_not_begun_and_what_may_not_run_fails() {
        let mut world = World::new();
        std::fs::write(world.root.path().join("state"), "a file").unwrap();
        assert_eq!(world.drain.begin().unwrap_err().reason, Reason::NotPossibleNow);
        assert!(world.drain.take_job().is_none());

        let mut world = World::new();
        put(world.root.path(), "pre-update.d/10-drain", "exit 0", 0o777);
        assert_eq!(world.drain.begin(), Ok(true));
        assert_eq!(world.run(Some(CAMPAIGN)), Then::Nothing);
        let Then::Refuse(refusal) = world.run(Some(CAMPAIGN)) else { panic!() };
        assert!(refusal.detail.contains("chmod go-w"), "{refusal}");
    }
}
