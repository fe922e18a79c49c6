//! What comes next in each rollout, and where a window is open.

use std::collections::BTreeMap;

use firmcast::keys::ManagerPublicKey;

use super::supply::Supply;
use crate::model::{AttemptState, Rollout, RolloutId, Stamp, Wave};
use crate::rollout::approval::{Answer, Question};
use crate::rollout::file::RolloutFile;
use crate::rollout::states::{Attempts, Change, View, WaveView, steer};
use crate::rollout::window::Openings;
use crate::store::requests::{
    Changed, Count, OPEN_MAX, Open, PAGE_MAX, RolloutWaves, SignedApproval, StateChange, WaveChange,
};
use crate::store::{Store, StoreError};

/// How far ahead the closing of a window is looked for, in seconds: no host takes longer.
const AHEAD_S: u32 = 7 * 86_400;

/// A rollout under way, as a worker of one site sees it.
struct Course {
    release: String,
    file: RolloutFile,
    openings: Openings,
}

/// The rollouts under way.
pub(super) struct Courses {
    site: String,
    approvers: Vec<ManagerPublicKey>,
    by_id: BTreeMap<RolloutId, Course>,
}

impl std::fmt::Debug for Courses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.by_id.keys()).finish()
    }
}

impl Courses {
    pub(super) fn new(site: &str, approvers: Vec<ManagerPublicKey>) -> Self {
        Self { site: site.to_owned(), approvers, by_id: BTreeMap::new() }
    }

    /// Says whether a rollout under way drains its hosts.
    pub(super) fn drains(&self, rollout: RolloutId) -> bool {
        self.by_id.get(&rollout).is_some_and(|course| course.file.drain.is_some())
    }

    /// Makes the changes that are due in every rollout, and returns the rollouts whose hosts may
    /// begin at this site now: the window is open, and the bundle is there.
    pub(super) fn steer(
        &mut self,
        store: &mut dyn Store,
        supply: &Supply,
        by: &str,
        now: Stamp,
    ) -> Result<Vec<Open>, StoreError> {
        let mut live = Vec::new();
        for id in under_way(store)? {
            let Some(found) = store.rollout(id)? else { continue };
            if !self.by_id.contains_key(&id) {
                let Ok(file) = RolloutFile::parse(&found.rollout.file) else { continue };
                let openings = Openings::new(file.windows_of(&self.site));
                let release = found.rollout.release.clone();
                self.by_id.insert(id, Course { release, file, openings });
            }
            let Some(course) = self.by_id.get_mut(&id) else { continue };
            course.advance(store, &found, &self.approvers, by, now)?;
            live.push(id);
        }
        self.by_id.retain(|id, _| live.contains(id));
        let open = live.iter().filter_map(|id| {
            let course = self.by_id.get_mut(id).filter(|course| supply.has(&course.release))?;
            let seconds = course.open_for(now)?;
            Some(Open { rollout: *id, seconds })
        });
        Ok(open.take(OPEN_MAX).collect())
    }
}

/// Numbers of the rollouts that are scheduled or run.
fn under_way(store: &mut dyn Store) -> Result<Vec<RolloutId>, StoreError> {
    let mut ids = Vec::new();
    loop {
        let page = store.under_way(ids.last().copied().unwrap_or_default(), PAGE_MAX)?;
        if page.is_empty() {
            return Ok(ids);
        }
        ids.extend(page);
    }
}

impl Course {
    fn advance(
        &mut self,
        store: &mut dyn Store,
        found: &RolloutWaves,
        approvers: &[ManagerPublicKey],
        by: &str,
        now: Stamp,
    ) -> Result<(), StoreError> {
        let counts = store.counts(found.rollout.id)?;
        let approvals = store.approvals(found.rollout.id)?;
        let view = |wave| {
            let is_approved = is_approved(&found.rollout, wave, &approvals, approvers);
            WaveView { is_approved, ..view(wave, &counts) }
        };
        let waves: Vec<WaveView> = found.waves.iter().map(view).collect();
        let view = View {
            state: found.rollout.state,
            waves: &waves,
            healthy_within_s: self.file.healthy_within_s,
            opens_at: self.opens_at(&counts, now),
        };
        let mut revision = found.rollout.revision;
        for change in steer(&view, now).changes {
            match make(store, found.rollout.id, &change, (by, now, revision))? {
                Some(Changed::Now) => revision += i64::from(change.raises_revision()),
                Some(Changed::Before) => {}
                // Somebody else was faster: what is due now is seen at the next turn.
                None => break,
            }
        }
        Ok(())
    }

    /// The first moment at which a host may begin at any site that has one.
    fn opens_at(&self, counts: &[Count], now: Stamp) -> Option<Stamp> {
        let sites = counts.iter().map(|count| count.site.as_str());
        sites.filter_map(|site| self.file.next_start(site, 0, now)).min()
    }

    /// For how many seconds the window is open at this site; nothing when it is closed.
    fn open_for(&mut self, now: Stamp) -> Option<u32> {
        let fits =
            |openings: &mut Openings, seconds| openings.next_start(now, seconds) == Some(now);
        if !fits(&mut self.openings, 0) {
            return None;
        }
        if fits(&mut self.openings, AHEAD_S) {
            return Some(u32::MAX);
        }
        let (mut fitting, mut too_long) = (0, AHEAD_S);
        while too_long - fitting > 1 {
            let middle = fitting + (too_long - fitting) / 2;
            match fits(&mut self.openings, middle) {
                true => fitting = middle,
                false => too_long = middle,
            }
        }
        Some(fitting)
    }
}

fn is_approved(
    rollout: &Rollout,
    wave: &Wave,
    approvals: &[SignedApproval],
    approvers: &[ManagerPublicKey],
) -> bool {
    let Rollout { plan_digest, created_by, .. } = rollout;
    let question = Question { plan_digest, wave: &wave.name, created_by };
    let of_wave = approvals.iter().filter(|approval| approval.wave == wave.number);
    of_wave.into_iter().any(|SignedApproval { key, signature, by, .. }| {
        question.is_answered(&Answer { key, signature, by }, approvers)
    })
}

fn view(wave: &Wave, counts: &[Count]) -> WaveView {
    let (mut attempts, mut unseen) = (Attempts::default(), 0);
    for count in counts.iter().filter(|count| count.wave == wave.number) {
        *match count.state {
            AttemptState::Planned => &mut attempts.planned,
            AttemptState::InFlight => &mut attempts.in_flight,
            AttemptState::Confirmed | AttemptState::Failed | AttemptState::Skipped => {
                &mut attempts.ended
            }
        } += count.attempts;
        if count.state == AttemptState::Confirmed {
            unseen += count.attempts.saturating_sub(count.healthy);
        }
    }
    WaveView {
        state: wave.state,
        since: wave.since,
        approval: wave.approval,
        is_approved: false,
        soak_s: wave.soak_s,
        attempts,
        unseen,
    }
}

/// Makes a change, if the rollout is where it was seen.
fn make(
    store: &mut dyn Store,
    rollout: RolloutId,
    change: &Change,
    (by, at, revision): (&str, Stamp, i64),
) -> Result<Option<Changed>, StoreError> {
    let revision = Some(revision);
    let made = match change {
        Change::Wave { number, from, to } => {
            let change = WaveChange { from: &[*from], to: *to, by, at, revision };
            store.change_wave(rollout, *number, &change)
        }
        Change::Rollout { from, to, reason } => {
            let change = StateChange { from: &[*from], to: *to, reason, by, at, revision };
            store.change_state(rollout, &change)
        }
    };
    match made {
        Ok(changed) => Ok(Some(changed)),
        Err(StoreError::RolloutMoved { .. } | StoreError::WaveMoved { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
