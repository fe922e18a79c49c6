//! A chip that is watched: the invariants that hold after each single operation.

use std::io;
use std::ops::Range;

use firmcast::flash::{EraseBlock, Flash, Geometry, SimulatedFlash, WriteRule};

use super::log::Log;
use super::subject::{self, range};

/// What a job may do to the chip, worked out from the chip and its target alone.
#[derive(Debug)]
pub(crate) struct Rules {
    /// What the chip held before the job.
    pub(crate) before: SimulatedFlash,
    /// By block number: whether it may be erased and written.
    pub(crate) may_change: Vec<bool>,
    /// By block number: whether it may when somebody else has written to it, because the image
    /// decides all of it.
    pub(crate) may_repair: Vec<bool>,
    /// The backup may have holes: a block that could not be read is written, whatever it holds.
    pub(crate) may_have_holes: bool,
    /// What the whole chip shall hold.
    pub(crate) target: Vec<u8>,
    /// The block that makes the firmware bootable.
    pub(crate) boot: Option<EraseBlock>,
    /// No operation of this job lies: then the chip's rules can be held against the engine.
    pub(crate) honest: bool,
    pub(crate) operations_max: u64,
}

#[derive(Debug)]
pub(crate) struct Watch<'a> {
    chip: &'a mut SimulatedFlash,
    rules: &'a Rules,
    log: &'a mut Log,
    frozen: Vec<Range<usize>>,
    /// Blocks of which a read has failed in this job.
    unread: Vec<bool>,
    /// The block that has to come last, until it is begun.
    boot: Option<EraseBlock>,
    pub(crate) operations: u64,
    /// Erases and writes that were asked for.
    pub(crate) changes: u64,
    /// The first one counts.
    pub(crate) violation: Option<String>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(chip: &'a mut SimulatedFlash, rules: &'a Rules, log: &'a mut Log) -> Self {
        let blocks = || chip.geometry().blocks();
        let may_change = |block: &EraseBlock| rules.may_change[block.index() as usize];
        let mut frozen: Vec<Range<usize>> = Vec::new();
        for range in blocks().filter(|block| !may_change(block)).map(range) {
            match frozen.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => frozen.push(range),
            }
        }
        Self {
            rules,
            log,
            frozen,
            unread: vec![false; rules.may_change.len()],
            boot: rules.boot,
            operations: 0,
            changes: 0,
            violation: None,
            chip,
        }
    }

    /// Returns how many steps a job may take.
    pub(crate) fn steps_max(&self) -> u64 {
        // A step without any operation only goes from one phase to the next.
        self.rules.operations_max + 20
    }

    fn violate(&mut self, violation: String) {
        self.violation.get_or_insert(violation);
    }

    fn count(&mut self) {
        self.operations += 1;
        if self.operations > self.rules.operations_max {
            self.violate(format!("more than {} operations", self.rules.operations_max));
        }
    }

    /// Before an erase or a write of a range.
    fn before_change(&mut self, what: &str, bytes: Range<usize>) {
        self.changes += 1;
        let geometry = self.chip.geometry().clone();
        let blocks: Vec<EraseBlock> = geometry
            .blocks()
            .filter(|block| range(*block).start < bytes.end && bytes.start < range(*block).end)
            .collect();
        for block in &blocks {
            let number = block.index() as usize;
            let may_repair = self.rules.may_repair[number] && self.may_be_other(*block);
            if !(self.rules.may_change[number] || may_repair) {
                self.violate(format!("{what} of {bytes:#x?} outside of the plan"));
            }
        }
        if let Some(boot) = self.boot.take_if(|boot| blocks.contains(boot)) {
            self.check_all_but(boot);
        }
    }

    /// The boot block may be begun only when all others are done.
    fn check_all_but(&mut self, boot: EraseBlock) {
        let rules = self.rules;
        let undone = self.chip.geometry().blocks().find(|block| {
            rules.may_change[block.index() as usize]
                && *block != boot
                && self.chip.foreign_operation(*block).is_none()
                && self.chip.stored(*block) != Some(&rules.target[range(*block)])
        });
        if let Some(block) = undone
            && rules.honest
        {
            self.violate(format!(
                "the boot block is begun while the one at {:#x} is not done",
                block.offset_bytes()
            ));
        }
    }

    fn after_change(&mut self) {
        let (now, before) = (self.chip.contents(), self.rules.before.contents());
        let mut changed =
            self.frozen.iter().filter(|range| now[(*range).clone()] != before[(*range).clone()]);
        if let Some(range) = changed.find(|range| !self.is_foreign(range)) {
            self.violate(format!("something changed in {range:#x?}, outside of the plan"));
        }
    }

    /// Returns whether somebody else has changed this range, or nobody could read it: the writes of
    /// the job are looked at one by one.
    fn is_foreign(&self, range: &Range<usize>) -> bool {
        let (now, before) = (self.chip.contents(), self.rules.before.contents());
        let inside = |block: &EraseBlock| {
            range.start <= block.offset_bytes() as usize && block.end_bytes() as usize <= range.end
        };
        let mut blocks = self.chip.geometry().blocks().filter(inside);
        blocks.all(|block| {
            let bytes = subject::range(block);
            now[bytes.clone()] == before[bytes] || self.may_be_other(block)
        })
    }

    /// Returns whether a block need not hold what the plan takes for its contents: somebody else
    /// has changed it, or nobody could read it.
    fn may_be_other(&self, block: EraseBlock) -> bool {
        let is_hole = self.rules.may_have_holes && self.unread[block.index() as usize];
        is_hole || self.chip.foreign_operation(block).is_some()
    }

    fn note<T: std::fmt::Debug>(&mut self, what: std::fmt::Arguments<'_>, result: &io::Result<T>) {
        let number = self.chip.operations();
        match result {
            Ok(answer) => self.log.line(format_args!("{number:>5} {what}: {answer:?}")),
            Err(error) => self.log.line(format_args!("{number:>5} {what}: {error}")),
        }
    }
}

impl Flash for Watch<'_> {
    fn geometry(&self) -> &Geometry {
        self.chip.geometry()
    }

    fn read(&mut self, offset_bytes: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.count();
        let result = self.chip.read(offset_bytes, buffer);
        if result.is_err() {
            let (start, end) = (offset_bytes, offset_bytes + buffer.len() as u64);
            for block in self.chip.geometry().blocks() {
                self.unread[block.index() as usize] |=
                    block.offset_bytes() < end && start < block.end_bytes();
            }
        }
        self.note(format_args!("read {offset_bytes:#x} +{:#x}", buffer.len()), &result);
        result
    }

    fn erase(&mut self, block: EraseBlock) -> io::Result<()> {
        self.count();
        self.before_change("erase", range(block));
        if self.chip.geometry().rule() == WriteRule::Overwrite {
            self.violate("erase of a chip that is not erased".into());
        }
        let result = self.chip.erase(block);
        self.after_change();
        self.note(format_args!("erase {:#x}", block.offset_bytes()), &result);
        result
    }

    fn write(&mut self, offset_bytes: u64, data: &[u8]) -> io::Result<()> {
        self.count();
        let bytes = offset_bytes as usize..offset_bytes as usize + data.len();
        self.before_change("write", bytes.clone());
        if self.rules.honest && !self.chip.is_writable(offset_bytes, data.len()) {
            self.violate(format!("write of {bytes:#x?} over pages that are not erased"));
        }
        let result = self.chip.write(offset_bytes, data);
        self.after_change();
        self.note(format_args!("write {offset_bytes:#x} +{:#x}", data.len()), &result);
        result
    }

    fn is_locked(&mut self, block: EraseBlock) -> io::Result<bool> {
        self.count();
        let result = self.chip.is_locked(block);
        self.note(format_args!("is {:#x} locked", block.offset_bytes()), &result);
        result
    }

    fn unlock(&mut self, offset_bytes: u64, length_bytes: u64) -> io::Result<()> {
        self.count();
        let result = self.chip.unlock(offset_bytes, length_bytes);
        self.note(format_args!("unlock {offset_bytes:#x} +{length_bytes:#x}"), &result);
        result
    }

    fn protect(&mut self, offset_bytes: u64, length_bytes: u64) -> io::Result<()> {
        self.count();
        let result = self.chip.protect(offset_bytes, length_bytes);
        self.note(format_args!("lock {offset_bytes:#x} +{length_bytes:#x}"), &result);
        result
    }

    fn is_bad(&mut self, block: EraseBlock) -> io::Result<bool> {
        self.count();
        let result = self.chip.is_bad(block);
        self.note(format_args!("is {:#x} bad", block.offset_bytes()), &result);
        result
    }
}
