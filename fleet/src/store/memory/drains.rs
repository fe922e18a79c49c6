use super::super::error::StoreError;
use super::super::requests::{DrainStep, check_held, put_back_state, told_put_back};
use super::MemoryStore;
use crate::model::{AttemptId, EventKind, Stamp};

impl MemoryStore {
    pub(super) fn keep_drain(
        &mut self,
        id: AttemptId,
        worker: &str,
        step: &DrainStep<'_>,
        at: Stamp,
    ) -> Result<(), StoreError> {
        let attempt = self.attempts.one(id)?.clone();
        check_held(&attempt, worker)?;
        self.attempts.drain(id, step)?;
        if let Some((kind, words)) = step.told() {
            self.tell_of(&attempt, kind, worker, at, words);
        }
        Ok(())
    }

    pub(super) fn undo_claim(
        &mut self,
        id: AttemptId,
        worker: &str,
        why: &str,
        at: Stamp,
    ) -> Result<(), StoreError> {
        let attempt = self.attempts.one(id)?.clone();
        check_held(&attempt, worker)?;
        let state = put_back_state(self.kept(attempt.rollout)?.rollout.state);
        self.attempts.put_back(id, state, at)?;
        self.tell_of(&attempt, EventKind::PutBack, worker, at, &told_put_back(state, why));
        let cohort = self.attempts.cohort(id);
        self.kept(attempt.rollout)?.budget.put_back(cohort);
        Ok(())
    }
}
