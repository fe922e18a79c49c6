//! Somebody else writes to the chip while a job runs: once at each operation, or before every one.

use firmcast::flash::{EraseBlock, Flash as _, ForeignChange, ForeignKind, ForeignWrite, Outcome};

use super::log::Log;
use super::subject::{Subject, range};
use super::totals::Totals;
use super::trial::{Bundle, Trial, Trust};
use crate::chance::Chance;
use crate::engine::Violation;

/// Who decides what a block holds in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The image, and the block has to change.
    Planned,
    /// The image, and the block holds its bytes already.
    Equal,
    /// All of it is preserved.
    Preserved,
    /// Some of it is preserved, and the rest is equal.
    Shared,
    /// The image does not lie on it.
    Outside,
}

const KINDS: [Kind; 5] = [Kind::Planned, Kind::Equal, Kind::Preserved, Kind::Shared, Kind::Outside];

/// Lets somebody else write to a block of each kind, before each of so many operations.
pub(crate) fn writes(
    subject: &Subject,
    operations: u64,
    log: &mut Log,
    totals: &mut Totals,
) -> Result<(), Violation> {
    for (number, kind) in (0..).zip(KINDS) {
        let mut chance = Chance::new(subject.seed, 3 << 32 | number);
        let blocks = blocks_of(subject, kind);
        if blocks.is_empty() {
            continue;
        }
        for operation in 0..operations {
            // A large chip has one kind at each operation.
            if subject.large && operation % KINDS.len() as u64 != number {
                continue;
            }
            let block = *chance.pick(&blocks);
            log.begin(format!("somebody else writes to {block:?}, {kind:?}, before {operation}"));
            let write = somewhere(&mut chance, block);
            once(subject, kind, operation, write, log, totals)?;
        }
        let block = *chance.pick(&blocks);
        log.begin(format!("somebody else writes to {block:?}, {kind:?}, all the time"));
        all_the_time(subject, kind, block, &mut chance, log, totals)?;
    }
    Ok(())
}

fn blocks_of(subject: &Subject, kind: Kind) -> Vec<EraseBlock> {
    let blocks = subject.chip.geometry().blocks();
    blocks.filter(|block| kind_of(subject, *block) == Some(kind)).collect()
}

/// None for a block that cannot be read.
fn kind_of(subject: &Subject, block: EraseBlock) -> Option<Kind> {
    let bytes = range(block);
    let stored = subject.chip.stored(block)?;
    let touches = |kept: &&std::ops::Range<usize>| kept.start < bytes.end && bytes.start < kept.end;
    Some(match subject.preserved.iter().find(touches) {
        _ if !subject.blocks.contains(&block) => Kind::Outside,
        Some(kept) if kept.start <= bytes.start && bytes.end <= kept.end => Kind::Preserved,
        Some(_) => Kind::Shared,
        None if *stored == subject.target[bytes] => Kind::Equal,
        None => Kind::Planned,
    })
}

fn somewhere(chance: &mut Chance, block: EraseBlock) -> ForeignWrite {
    let offset_bytes = chance.within(block.offset_bytes()..block.end_bytes());
    ForeignWrite { offset_bytes, mask: 1 << chance.within(0..8) }
}

fn once(
    subject: &Subject,
    kind: Kind,
    operation: u64,
    write: ForeignWrite,
    log: &mut Log,
    totals: &mut Totals,
) -> Result<(), Violation> {
    let mut chip = subject.chip.clone();
    chip.inject_foreign(operation, write);
    totals.foreign_writes += 1;
    let ended = trial(subject).run(&mut chip, log, totals)?;
    // Bytes that the plan relies on must not change before they have been read twice.
    let may_refuse = matches!(kind, Kind::Planned | Kind::Shared);
    match ended.outcome {
        Outcome::Updated => Ok(()),
        Outcome::Unchanged if may_refuse && ended.error.contains("something else writes") => Ok(()),
        // A bit that was to be preserved in a block that changes now: such a block is refused.
        Outcome::Unchanged if kind == Kind::Shared && ended.error.contains("preserved region") => {
            Ok(())
        }
        outcome => {
            Err(format!("one write by somebody else, and it ends {outcome:?}: {}", ended.error))
        }
    }
}

fn all_the_time(
    subject: &Subject,
    kind: Kind,
    block: EraseBlock,
    chance: &mut Chance,
    log: &mut Log,
    totals: &mut Totals,
) -> Result<(), Violation> {
    let mut chip = subject.chip.clone();
    for operation in 0..100 * subject.blocks.len() as u64 {
        chip.inject_foreign(operation, somewhere(chance, block));
    }
    totals.foreign_storms += 1;
    let ended = trial(subject).run(&mut chip, log, totals)?;
    let is_told = |change: &ForeignChange| change.kind == ForeignKind::Left;
    let is_placed = kind != Kind::Outside;
    match (kind, &ended.outcome) {
        (Kind::Preserved | Kind::Outside, Outcome::Updated)
            if ended.foreign.iter().any(is_told) == is_placed =>
        {
            Ok(())
        }
        (Kind::Preserved | Kind::Outside, outcome) => Err(format!(
            "what is none of its business changes, and it ends {outcome:?}, told {:?}: {}",
            ended.foreign, ended.error
        )),
        // Whatever it says has been looked at already.
        _ => Ok(()),
    }
}

fn trial(subject: &Subject) -> Trial<'_> {
    let (bundle, trust) = (Bundle::New, Trust::Full);
    Trial { subject, bundle, rescue: false, trust, errors_last: false }
}
