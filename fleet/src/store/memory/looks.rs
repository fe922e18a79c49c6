use super::super::error::StoreError;
use super::super::requests::{Changed, LookRequest, WaveChange, judge_look, last_look, told_look};
use super::MemoryStore;
use crate::model::{
    Attempt, AttemptId, EventKind, Health, Look, RolloutId, RolloutState, WaveState,
};

impl MemoryStore {
    pub(super) fn begin_looks(
        &mut self,
        request: &LookRequest<'_>,
    ) -> Result<Vec<Attempt>, StoreError> {
        let may = |state| matches!(state, RolloutState::Running | RolloutState::Paused);
        let lacks = |release: &String| request.lacking.contains(release);
        let under_way = self.rollouts.iter().filter(|kept| may(kept.rollout.state));
        let under_way = under_way.filter(|kept| !lacks(&kept.rollout.release));
        let looking = under_way.flat_map(|kept| {
            let waves = kept.waves.iter().filter(|wave| wave.state == WaveState::Looking);
            waves.map(|wave| (kept.rollout.id, wave.number))
        });
        let unseen = looking.flat_map(|(rollout, wave)| self.attempts.unseen(rollout, wave));
        let due = unseen.filter(|attempt| self.attempts.may_be_looked_at(attempt, request));
        let due: Vec<AttemptId> = due.take(request.limit).map(|attempt| attempt.id).collect();
        due.into_iter().map(|id| self.attempts.hold_look(id, request)).collect()
    }

    pub(super) fn end_look(
        &mut self,
        id: AttemptId,
        worker: &str,
        look: &Look,
    ) -> Result<Changed, StoreError> {
        let attempt = self.attempts.one(id)?.clone();
        if judge_look(&attempt, worker, look)? == Changed::Before {
            return Ok(Changed::Before);
        }
        self.keep_look(&attempt, worker, look)?;
        if look.health == Health::Sick {
            let cohort = self.attempts.cohort(id);
            let reached = self.kept(attempt.rollout)?.budget.reached_by(cohort);
            if let Some(reached) = reached {
                self.halt(attempt.rollout, &reached, worker, look.at)?;
            }
        }
        Ok(Changed::Now)
    }

    /// The time for looks is over in a wave: who was not seen healthy is sick.
    pub(super) fn end_looks(
        &mut self,
        rollout: RolloutId,
        wave: u32,
        change: &WaveChange<'_>,
    ) -> Result<(), StoreError> {
        let unseen: Vec<Attempt> = self.attempts.unseen(rollout, wave).cloned().collect();
        if unseen.is_empty() {
            return Ok(());
        }
        for attempt in unseen {
            self.keep_look(&attempt, change.by, &last_look(attempt.look.as_ref(), change.at))?;
        }
        match self.kept(rollout)?.budget.reached() {
            Some(reached) => self.halt(rollout, &reached, change.by, change.at),
            None => Ok(()),
        }
    }

    fn keep_look(&mut self, attempt: &Attempt, by: &str, look: &Look) -> Result<(), StoreError> {
        let round = self.attempts.keep_look(attempt.id, look)?;
        self.tell_of(attempt, EventKind::Looked, by, look.at, &told_look(look));
        if look.health == Health::Sick {
            let cohort = self.attempts.cohort(attempt.id);
            self.kept(attempt.rollout)?.budget.fall_sick(cohort, round);
        }
        Ok(())
    }
}
