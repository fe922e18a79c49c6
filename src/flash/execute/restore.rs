//! Writing the backup over what was touched, and reading what the chip holds since.

use sha2::{Digest, Sha256};

use super::{BLOCK_ATTEMPTS_MAX, Execution, FOREIGN_REPAIRS_MAX, State, put};
use crate::flash::block::complement;
use crate::flash::plan::{Decider, is_erased};
use crate::flash::prepare::Work;
use crate::flash::reading::read;
use crate::flash::{BlockHolds, EraseBlock, Flash, ForeignKind, MixedBlocks, Statistics};

/// What the reads after a restore have ruled out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) not_all_new: bool,
    pub(super) not_all_old: bool,
}

impl Execution {
    /// In the plan's order, so that the block that makes the firmware bootable is the last one
    /// here, too; where something moves, the other blocks in the reverse order: it is back at its
    /// old place before its new one is lost. Where it cannot be brought back, what was given up is
    /// tried once more, and then what has it at its new place, and tells that, stays. Of a chip
    /// that tells neither place a rescue keeps the new one.
    pub(super) fn restore(
        &mut self,
        next: usize,
        attempts: u32,
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) {
        let Some(nth) = self.back.get(next).copied() else {
            if self.has_no_way_back() && !std::mem::replace(&mut self.retook, true) {
                let given_up = std::mem::take(&mut self.given_up);
                self.back.retain(|block| given_up.contains(block));
                self.state = State::Restoring { next: 0, attempts: 0 };
                return;
            }
            self.state =
                State::Confirming { next_block: 0, hasher: Some(Sha256::new()), mixed: Vec::new() };
            return;
        };
        let after = State::Restoring { next: next + 1, attempts: 0 };
        if self.has_no_way_back() && self.work.plan.order().is_way_there(nth) {
            self.given_up.push(nth);
            self.state = after;
            return;
        }
        let Some(contents) = self.old(nth) else {
            self.state = after;
            return;
        };
        let block = self.work.placement.block(nth);
        self.state = match put(flash, block, contents, statistics) {
            Ok(()) => after,
            Err(_) if attempts + 1 < BLOCK_ATTEMPTS_MAX => {
                State::Restoring { next, attempts: attempts + 1 }
            }
            // The others have their turn all the same, and the confirmation says what this one
            // holds.
            Err(_) => {
                self.given_up.push(nth);
                after
            }
        };
    }

    /// Returns the touched blocks in the order in which they are restored.
    pub(super) fn order_back(&self) -> Vec<usize> {
        let plan = &self.work.plan;
        let begun = plan.operations()[..self.touched].iter();
        let mut planned: Vec<usize> = begun.map(|operation| operation.block).collect();
        if !plan.moved().is_empty() {
            planned.reverse();
        }
        let unplanned = self.unplanned.iter().map(|unplanned| unplanned.block);
        // As of the planned ones: new places of what moves come last.
        let (new_places, others): (Vec<_>, Vec<_>) =
            unplanned.partition(|block| plan.order().is_new_place(*block));
        let mut order = [others, planned, new_places].concat();
        let is_boot_block = |block: &usize| plan.boot_block() == Some(*block);
        if let Some(at) = order.iter().position(is_boot_block) {
            order[at..].rotate_left(1);
        }
        order
    }

    /// Whether something that moves cannot be brought back to its old place, or what tells that
    /// place cannot.
    fn has_no_way_back(&self) -> bool {
        let order = self.work.plan.order();
        self.given_up.iter().any(|block| order.is_way_back(*block))
    }

    /// What a block held before this job wrote to it, if that is known.
    pub(super) fn old(&self, nth: usize) -> Option<&[u8]> {
        let before = self.unplanned.iter().find(|unplanned| unplanned.block == nth);
        match before {
            Some(unplanned) => Some(&unplanned.before),
            None => {
                let contents = &self.work.backup[self.work.placement.range(nth)];
                self.work.readable[nth].then_some(contents)
            }
        }
    }

    pub(super) fn confirm(
        &mut self,
        nth: usize,
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) {
        if self.work.plan.is_unread(nth) {
            if let State::Confirming { next_block, hasher, .. } = &mut self.state {
                (*next_block, *hasher) = (nth + 1, None);
            }
            return;
        }
        let block = self.work.placement.block(nth);
        let is_touched = self.is_touched[nth];
        let (mut hold, mut bytes) = self.read_hold(nth, flash, statistics);
        // A restore that succeeded was read back: who changed it since was somebody else. It may be
        // the only whole copy of what it holds, so a single read is no reason to write.
        let mut repairs = 0;
        while is_touched
            && hold != BlockHolds::Old
            && repairs < FOREIGN_REPAIRS_MAX
            && !self.given_up.contains(&nth)
            && let Some(contents) = self.old(nth)
        {
            repairs += 1;
            let found = bytes.as_deref();
            if found.is_some_and(|found| self.is_found_again(nth, found, flash, statistics))
                && put(flash, block, contents, statistics).is_ok()
            {
                self.foreign.insert(nth, ForeignKind::Repaired);
            }
            (hold, bytes) = self.read_hold(nth, flash, statistics);
        }
        self.rule_out(nth, bytes.as_deref());
        let decider = self.work.plan.decider(nth);
        let foreign = match (hold, &bytes) {
            // Now it holds what somebody else made of it.
            _ if self.unplanned.iter().any(|one| one.block == nth) => {
                Some(ForeignKind::Left).filter(|_| hold == BlockHolds::Old)
            }
            _ if is_touched || decider == Decider::ChipUnread => None,
            (BlockHolds::Old, _) => None,
            // Nobody knows what it held before.
            _ if self.old(nth).is_none() => None,
            (_, Some(_)) => Some(ForeignKind::Left),
            (_, None) if decider == Decider::Image => None,
            (_, None) => Some(ForeignKind::Unreadable),
        };
        let is_mixed = hold != BlockHolds::Old && decider != Decider::ChipUnread;
        let is_mixed = is_mixed && foreign.is_none();
        if let Some(kind) = foreign {
            self.foreign.insert(nth, kind);
        }
        let State::Confirming { next_block, hasher, mixed } = &mut self.state else { return };
        *next_block += 1;
        match (hasher, bytes) {
            (Some(hasher), Some(bytes)) => hasher.update(&bytes),
            (hasher, _) => *hasher = None,
        }
        if is_mixed {
            push(mixed, block, hold);
        }
    }

    /// Takes what was read of a block that the job was to change.
    fn rule_out(&mut self, nth: usize, bytes: Option<&[u8]>) {
        let new = &self.work.plan.target()[self.work.placement.range(nth)];
        let old = self.old(nth);
        let Some(bytes) = bytes.filter(|_| old != Some(new)) else { return };
        let untouched = self.work.unlike(nth);
        // A byte that is as it was before the read may never have been read.
        let rules_out = |expected: &[u8]| {
            let bytes = bytes.iter().zip(&untouched).zip(expected);
            bytes.into_iter().any(|((got, before), expected)| got != before && got != expected)
        };
        let (not_new, not_old) = (rules_out(new), old.is_some_and(rules_out));
        self.seen.not_all_new |= not_new;
        self.seen.not_all_old |= not_old;
    }

    /// Whether another read finds the same, into a buffer that is filled in another way.
    fn is_found_again(
        &self,
        nth: usize,
        found: &[u8],
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) -> bool {
        let mut bytes = complement(found);
        let offset_bytes = self.work.placement.block(nth).offset_bytes();
        read(flash, offset_bytes, &mut bytes, statistics).is_ok() && bytes == found
    }

    fn read_hold(
        &self,
        nth: usize,
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) -> (BlockHolds, Option<Vec<u8>>) {
        let mut bytes = self.work.unlike(nth);
        let offset_bytes = self.work.placement.block(nth).offset_bytes();
        match read(flash, offset_bytes, &mut bytes, statistics) {
            Ok(()) if self.old(nth) == Some(&bytes) => (BlockHolds::Old, Some(bytes)),
            Ok(()) => (self.work.classify(nth, &bytes), Some(bytes)),
            Err(_) => (BlockHolds::Unknown, None),
        }
    }
}

impl Work {
    /// A buffer that differs in every byte from the old, the new, and the erased contents of a
    /// block.
    fn unlike(&self, nth: usize) -> Vec<u8> {
        let range = self.placement.range(nth);
        let (old, new) = (&self.backup[range.clone()], &self.plan.target()[range]);
        let other = |(old, new)| (0..3).find(|byte| byte != old && byte != new).unwrap_or_default();
        old.iter().zip(new).map(other).collect()
    }

    fn classify(&self, nth: usize, bytes: &[u8]) -> BlockHolds {
        let range = self.placement.range(nth);
        match bytes {
            bytes if self.readable[nth] && *bytes == self.backup[range.clone()] => BlockHolds::Old,
            bytes if *bytes == self.plan.target()[range] => BlockHolds::New,
            bytes if is_erased(bytes) => BlockHolds::Erased,
            _ => BlockHolds::Unknown,
        }
    }
}

fn push(mixed: &mut Vec<MixedBlocks>, block: EraseBlock, hold: BlockHolds) {
    let length_bytes = u64::from(block.length_bytes());
    match mixed.last_mut() {
        Some(last)
            if last.hold == hold
                && last.offset_bytes + last.length_bytes == block.offset_bytes() =>
        {
            last.length_bytes += length_bytes;
        }
        _ => mixed.push(MixedBlocks { offset_bytes: block.offset_bytes(), length_bytes, hold }),
    }
}
