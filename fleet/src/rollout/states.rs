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
//! | soaking | it is watched | looking, when the soak time is over |
//! | looking | each confirmed host is looked at | finished, when all are seen, or time is over |
//! | finished | nothing | |
//!
//! The first wave may wait for its approval while the rollout is scheduled. A wave without hosts
//! has no soak time, and one without soak time has no looks. While a rollout is paused its waves
//! stay as they are. A host that is not healthy counts as failed, as does one that was not seen in
//! time: what follows from that, the limits of failures say.
//!
//! [`steer`] only moves forward along these rows. What a person does (start, pause, resume, abort,
//! retry) is no part of it. A retry that plans hosts of a finished wave again sets that wave to
//! running; until then the rollout is not finished.

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

/// A wave as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaveView {
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
    /// Confirmed hosts that nobody has seen healthy yet.
    pub unseen: u64,
}

impl WaveView {
    fn needs_no_soak(&self) -> bool {
        self.soak_s == 0 || self.attempts.is_empty()
    }
}

/// A rollout as it is.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Its state.
    pub state: RolloutState,
    /// Its waves, in their order.
    pub waves: &'a [WaveView],
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

impl Change {
    /// Whether the rollout has another revision after it.
    pub fn raises_revision(&self) -> bool {
        matches!(self, Self::Rollout { .. })
    }
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
        let state = course.advance(number, wave, are_finished);
        are_finished &= state == WaveState::Finished && !wave.attempts.are_open();
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

    /// Moves a wave as far as it goes now, and returns where it then is.
    fn advance(&mut self, number: u32, wave: &WaveView, may_begin: bool) -> WaveState {
        let is_permitted = wave.approval == Approval::Automatic || wave.is_approved;
        let is_open = wave.attempts.are_open();
        let (mut state, mut since) = (wave.state, wave.since);
        loop {
            let to = match state {
                WaveState::Waiting if may_begin && !is_permitted => WaveState::AwaitsApproval,
                WaveState::Waiting if may_begin => WaveState::Running,
                WaveState::AwaitsApproval if is_permitted => WaveState::Running,
                WaveState::Running if !is_open => WaveState::Soaking,
                WaveState::Soaking if !is_open && wave.needs_no_soak() => WaveState::Finished,
                WaveState::Soaking if !is_open && self.is_past(after(since, wave.soak_s)) => {
                    WaveState::Looking
                }
                WaveState::Looking if !is_open && self.are_looks_over(wave, since) => {
                    WaveState::Finished
                }
                _ => return state,
            };
            self.steps.changes.push(Change::Wave { number, from: state, to });
            (state, since) = (to, self.now);
        }
    }

    /// Whether there is nobody to be looked at any more, or no time.
    fn are_looks_over(&mut self, wave: &WaveView, since: Stamp) -> bool {
        wave.unseen == 0 || self.is_past(after(since, self.view.healthy_within_s))
    }

    /// Whether a moment has come; else it is looked again then.
    fn is_past(&mut self, at: Stamp) -> bool {
        if at > self.now {
            self.look_no_later(at);
        }
        at <= self.now
    }
}

/// The moment so many seconds later.
fn after(at: Stamp, seconds: u32) -> Stamp {
    at.saturating_add(i64::from(seconds) * 1_000_000)
}

#[cfg(test)]
mod tests;
