//! What comes next in a rollout: which state it and its waves get, and when to look again.
//!
//! The words are those of hawkBit.
//!
//! | rollout | what happens | next |
//! | --- | --- | --- |
//! | ready | nothing | scheduled, when a person starts it |
//! | scheduled | its first window is waited for | running |
//! | running | its waves follow each other | finished, paused, error |
//! | paused | no host begins; who has begun goes on | running, when a person resumes; error |
//! | finished | nothing: every wave is finished | |
//! | error | nothing: it was aborted, by a person or a limit | |
//!
//! | wave | what happens | next |
//! | --- | --- | --- |
//! | waiting | the wave before it is not finished | running, awaits-approval |
//! | awaits-approval | a person has to approve it | running |
//! | running | its hosts begin | soaking, when each has ended |
//! | soaking | it is watched; then each confirmed host must be seen healthy | finished |
//! | finished | nothing | |
//!
//! The first wave may wait for its approval while the rollout is scheduled. A wave without hosts
//! has no soak time. While a rollout is paused its waves stay as they are.
//!
//! [`steer`] only moves forward along these rows. What a person does (start, pause, resume, abort,
//! retry) is no part of it. A retry that plans hosts of a finished wave again has to set that wave
//! to running itself; until then the rollout is not finished.

use super::duration::duration_words;
use crate::model::{Approval, RolloutState, Stamp, WaveState};

/// Attempts of a wave, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Nobody has begun.
    pub planned: u64,
    /// A worker holds a lease.
    pub in_flight: u64,
    /// Confirmed, failed or skipped.
    pub ended: u64,
}

impl Attempts {
    fn are_open(self) -> bool {
        self.planned > 0 || self.in_flight > 0
    }

    fn is_empty(self) -> bool {
        !self.are_open() && self.ended == 0
    }
}

/// What looks at the confirmed hosts of a soaking wave say. A host is healthy when it answers and
/// has the version and the digest as signed. Hosts that were found sick before the rollout was last
/// resumed are not counted: a person has accepted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// Hosts that have not been seen healthy since the soak time was over.
    pub unseen: u64,
    /// Hosts that answered and were not healthy in their last look.
    pub sick: u64,
}

/// A wave as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaveView<'a> {
    /// Its name, for reasons.
    pub name: &'a str,
    /// Its state.
    pub state: WaveState,
    /// Since when.
    pub since: Stamp,
    /// How it begins.
    pub approval: Approval,
    /// Whether somebody who may has approved it; approvals that come early count.
    pub is_approved: bool,
    /// How long it is watched, in seconds.
    pub soak_s: u32,
    /// Its attempts.
    pub attempts: Attempts,
    /// What is known of its confirmed hosts; only looked at while it soaks.
    pub looks: Looks,
}

/// A rollout as it is.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Its state.
    pub state: RolloutState,
    /// Its waves, in their order.
    pub waves: &'a [WaveView<'a>],
    /// When it was last resumed, if it ever was.
    pub resumed_at: Option<Stamp>,
    /// How late a host may be seen healthy after the soak time, in seconds.
    pub healthy_within_s: u32,
    /// The first moment, now or later, at which a host of it may begin; nothing when no window is
    /// ever long enough. Only looked at while it is scheduled.
    pub opens_at: Option<Stamp>,
}

/// A change to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Of a wave, from 0.
    Wave {
        /// Its number.
        number: u32,
        /// The state in which it must still be.
        from: WaveState,
        /// The state that it gets.
        to: WaveState,
    },
    /// Of the rollout.
    Rollout {
        /// The state in which it must still be.
        from: RolloutState,
        /// The state that it gets.
        to: RolloutState,
        /// Why, in words; empty where that is plain.
        reason: String,
    },
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Changes to be made now, in this order. When they are made, there are none for the same
    /// moment.
    pub changes: Vec<Change>,
    /// When to look again, if nothing happens before: no attempt ends, nobody approves or resumes.
    pub look_at: Option<Stamp>,
}

/// Says what is to be done now.
pub fn steer(view: &View<'_>, now: Stamp) -> Steps {
    let mut course = Course { view, now, state: view.state, steps: Steps::default() };
    match view.state {
        RolloutState::Scheduled => course.open(),
        RolloutState::Running => {}
        _ => return course.steps,
    }
    let mut are_finished = true;
    for (number, wave) in (0_u32..).zip(view.waves) {
        match course.advance(number, wave, are_finished) {
            Ok(state) => are_finished &= state == WaveState::Finished && !wave.attempts.are_open(),
            Err(reason) => {
                course.become_state(RolloutState::Paused, reason);
                return course.steps;
            }
        }
    }
    if are_finished {
        if course.state == RolloutState::Scheduled {
            // There is no host, and so no window.
            course.become_state(RolloutState::Running, String::new());
        }
        course.become_state(RolloutState::Finished, String::new());
        course.steps.look_at = None;
    }
    course.steps
}

/// What the soak of a wave comes to now.
enum Soak {
    Over,
    /// Goes on, at least until then.
    Until(Stamp),
    /// A person has to look at it.
    Pause(String),
}

/// The rollout while changes are gathered.
struct Course<'a> {
    view: &'a View<'a>,
    now: Stamp,
    /// The rollout's state when the changes so far are made.
    state: RolloutState,
    steps: Steps,
}

impl Course<'_> {
    fn become_state(&mut self, to: RolloutState, reason: String) {
        self.steps.changes.push(Change::Rollout { from: self.state, to, reason });
        self.state = to;
    }

    fn look_no_later(&mut self, at: Stamp) {
        self.steps.look_at = Some(self.steps.look_at.map_or(at, |known| known.min(at)));
    }

    /// A scheduled rollout runs when its first window opens.
    fn open(&mut self) {
        match self.view.opens_at {
            Some(at) if at <= self.now => {
                self.become_state(RolloutState::Running, String::new());
            }
            Some(at) => self.look_no_later(at),
            None => {}
        }
    }

    /// Moves a wave as far as it goes now, and returns where it then is. Fails with the reason why
    /// the rollout has to be paused.
    fn advance(
        &mut self,
        number: u32,
        wave: &WaveView<'_>,
        may_begin: bool,
    ) -> Result<WaveState, String> {
        let is_permitted = wave.approval == Approval::Automatic || wave.is_approved;
        let (mut state, mut since) = (wave.state, wave.since);
        loop {
            let to = match state {
                WaveState::Waiting if may_begin && !is_permitted => WaveState::AwaitsApproval,
                WaveState::Waiting if may_begin => WaveState::Running,
                WaveState::AwaitsApproval if is_permitted => WaveState::Running,
                WaveState::Running if !wave.attempts.are_open() => WaveState::Soaking,
                WaveState::Soaking if !wave.attempts.are_open() => {
                    match self.soak(number, wave, since) {
                        Soak::Over => WaveState::Finished,
                        Soak::Pause(reason) => return Err(reason),
                        Soak::Until(at) => {
                            self.look_no_later(at);
                            return Ok(state);
                        }
                    }
                }
                _ => return Ok(state),
            };
            self.steps.changes.push(Change::Wave { number, from: state, to });
            (state, since) = (to, self.now);
        }
    }

    fn soak(&self, number: u32, wave: &WaveView<'_>, since: Stamp) -> Soak {
        if wave.soak_s == 0 || wave.attempts.is_empty() {
            return Soak::Over;
        }
        let name = format!("wave {} {:?}", u64::from(number) + 1, wave.name);
        let Looks { sick, unseen } = wave.looks;
        if sick > 0 {
            return Soak::Pause(format!(
                "{sick} hosts of {name} were confirmed and are not healthy any more: look at them, \
                 then resume without them, or abort"
            ));
        }
        let over_at = after(since, wave.soak_s);
        if self.now < over_at {
            return Soak::Until(over_at);
        }
        let late_at = after(over_at, self.view.healthy_within_s);
        if unseen == 0 || self.view.resumed_at.is_some_and(|at| at >= late_at) {
            return Soak::Over;
        }
        if self.now < late_at {
            return Soak::Until(late_at);
        }
        let within = duration_words(u64::from(self.view.healthy_within_s));
        Soak::Pause(format!(
            "{unseen} hosts of {name} were not seen healthy within {within} after the soak time: \
             look at them, then resume without them, or abort"
        ))
    }
}

/// The moment so many seconds later.
fn after(at: Stamp, seconds: u32) -> Stamp {
    at.saturating_add(i64::from(seconds) * 1_000_000)
}

#[cfg(test)]
mod tests;
