//! What an execution came to.

use sha2::Digest;

use super::{Execution, State};
use crate::flash::contents_digest::ContentsDigest;
use crate::flash::{End, ForeignChange, ForeignKind, LockChanges, Outcome, Statistics};
use crate::order::sort_by_rank;

impl Execution {
    fn foreign(&self) -> Vec<ForeignChange> {
        let mut changes: Vec<ForeignChange> = self
            .foreign
            .iter()
            .map(|(nth, kind)| {
                let block = self.work.placement.block(*nth);
                let (offset_bytes, length_bytes) =
                    (block.offset_bytes(), block.length_bytes().into());
                ForeignChange { offset_bytes, length_bytes, kind: *kind }
            })
            .collect();
        sort_by_rank(&mut changes, |change| [change.offset_bytes]);
        ForeignChange::join(changes)
    }

    pub(super) fn end(&mut self, mut statistics: Statistics) -> End {
        statistics.blocks_changed = self.touched_count() as u32;
        statistics.blocks_equal =
            (self.work.placement.block_count() - self.work.plan.operations().len()) as u32;
        let is_untouched = self.touched_count() == 0;
        let (outcome, hasher) = match &mut self.state {
            State::Confirming { hasher, .. } if is_untouched => (Outcome::Unchanged, hasher.take()),
            State::Confirming { hasher, mixed, .. } => match std::mem::take(mixed) {
                blocks if blocks.is_empty() => (Outcome::Restored, hasher.take()),
                blocks => (Outcome::Mixed { blocks }, hasher.take()),
            },
            State::Verifying { .. } => (Outcome::Updated, None),
            State::Writing { .. } | State::Restoring { .. } => {
                unreachable!("only complete reads of the chip end a job")
            }
        };
        let is_mixed = matches!(outcome, Outcome::Mixed { .. });
        let foreign = self.foreign();
        let after = match outcome {
            _ if self.work.plan.has_unread() => None,
            // Not all of it was compared with what it should be.
            _ if foreign.iter().any(|change| change.kind != ForeignKind::Repaired) => None,
            // Every byte was compared with these.
            Outcome::Updated => Some(self.work.plan.target_digest()),
            _ => hasher.map(|hasher| ContentsDigest::Known(hasher.finalize().into())),
        };
        End {
            outcome,
            error: self.error.take(),
            before: self.work.before(),
            after,
            statistics,
            foreign,
            locks: LockChanges::default(),
            condition: self.work.plan.condition(),
            is_known_mixed: is_mixed && self.seen.not_all_new && self.seen.not_all_old,
        }
    }
}
