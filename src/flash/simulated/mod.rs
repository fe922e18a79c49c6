//! A flash chip in memory that keeps the rules of real ones, and breaks on request.

mod cells;
mod fault;
mod locking;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use nix::libc::{EBADMSG, EINVAL, EIO, ENODEV, EROFS};

use super::{EraseBlock, Flash, Geometry};
use crate::image::ByteRanges;
use cells::{Cells, Part, random_byte};
pub use fault::{Asked, Fault, ForeignWrite};
pub use locking::Locking;

/// What the host may not read, as an Intel chipset keeps it from the ME's region.
#[derive(Clone, Debug, Default)]
struct Closed {
    ranges: ByteRanges,
    /// Answers FFh instead of failing.
    is_silent: bool,
    refused_reads: u64,
}

/// A simulated NOR, NAND or RAM chip.
///
/// Operations are numbered from 0 in the order in which they are asked for; a fault is bound to
/// such a number.
#[derive(Clone, Debug)]
pub struct SimulatedFlash {
    geometry: Geometry,
    cells: Cells,
    bad: BTreeSet<u32>,
    locking: Locking,
    locked: BTreeSet<u32>,
    /// Locked again each time that the chip gets power.
    locked_at_power_on: BTreeSet<u32>,
    stays_locked: BTreeSet<u32>,
    worn_out: BTreeSet<u32>,
    closed: Closed,
    reads_short: bool,
    faults: BTreeMap<u64, Fault>,
    foreign_writes: BTreeMap<u64, ForeignWrite>,
    /// Positions that somebody else has written, and the operation before which that was done last.
    foreign_positions: BTreeMap<usize, u64>,
    /// Those of them that no read has covered since.
    unseen: BTreeSet<usize>,
    powered: bool,
    history: Vec<Asked>,
    erases: u64,
    bytes_written: u64,
    corrected_bits: u64,
    touched: BTreeSet<u32>,
}

impl SimulatedFlash {
    /// A chip with these contents.
    ///
    /// # Panics
    /// `contents` must have the size of the geometry.
    pub fn new(geometry: Geometry, contents: Vec<u8>) -> Self {
        assert_eq!(geometry.size_bytes(), contents.len() as u64, "contents must fill the chip");
        Self {
            cells: Cells::new(geometry.rule(), geometry.write_bytes() as usize, contents),
            geometry,
            bad: BTreeSet::new(),
            locking: Locking::default(),
            locked: BTreeSet::new(),
            locked_at_power_on: BTreeSet::new(),
            stays_locked: BTreeSet::new(),
            worn_out: BTreeSet::new(),
            closed: Closed::default(),
            reads_short: false,
            faults: BTreeMap::new(),
            foreign_writes: BTreeMap::new(),
            foreign_positions: BTreeMap::new(),
            unseen: BTreeSet::new(),
            powered: true,
            history: Vec::new(),
            erases: 0,
            bytes_written: 0,
            corrected_bits: 0,
            touched: BTreeSet::new(),
        }
    }

    /// Makes the operation with this number go wrong.
    pub fn inject(&mut self, operation: u64, fault: Fault) {
        self.faults.insert(operation, fault);
    }

    /// Lets somebody else write to the chip just before the operation with this number.
    pub fn inject_foreign(&mut self, operation: u64, write: ForeignWrite) {
        self.foreign_writes.insert(operation, write);
    }

    /// The operation before which somebody else wrote to this block last.
    pub fn foreign_operation(&self, block: EraseBlock) -> Option<u64> {
        let range = block.offset_bytes() as usize..block.end_bytes() as usize;
        self.foreign_positions.range(range).map(|(_, operation)| *operation).max()
    }

    /// Whether somebody else wrote to this block after it was read last.
    pub fn is_unseen(&self, block: EraseBlock) -> bool {
        let range = block.offset_bytes() as usize..block.end_bytes() as usize;
        self.unseen.range(range).next().is_some()
    }

    /// Takes all faults away that were injected. What they did to the chip stays, but its reads are
    /// whole again.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
        self.reads_short = false;
    }

    /// Marks a block bad.
    pub fn mark_bad(&mut self, block: EraseBlock) {
        self.bad.insert(block.index());
    }

    /// Lets every erase and write of a block fail from now on.
    pub fn wear_out(&mut self, block: EraseBlock) {
        self.worn_out.insert(block.index());
    }

    /// Lets every read that reaches into a range fail with `EIO` from now on.
    pub fn close(&mut self, range: Range<u64>) {
        self.closed.ranges.insert(range);
    }

    /// Lets the closed ranges read as FFh instead of failing.
    pub fn answer_closed_reads(&mut self) {
        self.closed.is_silent = true;
    }

    /// What the host may not read.
    pub fn closed(&self) -> &ByteRanges {
        &self.closed.ranges
    }

    /// Reads that reached into closed ranges so far.
    pub fn refused_reads(&self) -> u64 {
        self.closed.refused_reads
    }

    /// Lets a page of a NAND block no longer match its ECC, until the block is erased.
    pub fn decay(&mut self, block: EraseBlock) {
        self.cells.decay(block.offset_bytes() as usize);
    }

    /// Ends a power cut.
    pub fn power_on(&mut self) {
        self.powered = true;
        self.locked = self.locked_at_power_on.union(&self.stays_locked).copied().collect();
    }

    /// Whether the chip has power.
    pub fn is_powered(&self) -> bool {
        self.powered
    }

    /// What is on the chip, whatever its reads say.
    pub fn contents(&self) -> &[u8] {
        self.cells.bytes()
    }

    /// What an honest read of a block would give; `None` where ECC cannot correct it, or the host
    /// may not read it.
    pub fn stored(&self, block: EraseBlock) -> Option<&[u8]> {
        let range = block.offset_bytes() as usize..block.end_bytes() as usize;
        let is_closed = self.closed.ranges.overlaps(&(block.offset_bytes()..block.end_bytes()));
        let is_readable = !is_closed && self.cells.is_correctable(range.clone());
        is_readable.then(|| &self.contents()[range])
    }

    /// Whether a block can be given any contents: it is not bad, worn out or locked for good, and
    /// none of its bits stays 0.
    pub fn takes_contents(&self, block: EraseBlock) -> bool {
        let lost = [&self.bad, &self.worn_out, &self.stays_locked];
        lost.iter().all(|blocks| !blocks.contains(&block.index()))
            && !self.cells.is_stuck(block.offset_bytes() as usize..block.end_bytes() as usize)
    }

    /// Whether a write of this range keeps the rule that a page takes one write after an erase;
    /// always true for other chips.
    pub fn is_writable(&self, offset_bytes: u64, length: usize) -> bool {
        self.range(offset_bytes, length).is_ok_and(|range| self.cells.is_writable(range))
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.history.len() as u64
    }

    /// The operations so far, by number.
    pub fn history(&self) -> &[Asked] {
        &self.history
    }

    /// Erases so far.
    pub fn erases(&self) -> u64 {
        self.erases
    }

    /// Bytes that were written so far.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Bits that ECC corrected so far.
    pub fn corrected_bits(&self) -> u64 {
        self.corrected_bits
    }

    /// Numbers of the blocks on which an erase or a write was tried.
    pub fn touched(&self) -> &BTreeSet<u32> {
        &self.touched
    }

    /// Numbers an operation and says what goes wrong with it.
    fn begin(&mut self, asked: Asked) -> io::Result<Option<Fault>> {
        if !self.powered {
            return Err(io::Error::from_raw_os_error(ENODEV));
        }
        self.write_foreign();
        let fault = self.faults.get(&self.operations()).copied();
        let fault = fault.filter(|fault| fault.applies_to(asked, self.geometry.rule()));
        self.history.push(asked);
        self.powered = !matches!(fault, Some(Fault::CutBefore));
        match fault {
            Some(Fault::CutBefore | Fault::Error) => Err(io::Error::from_raw_os_error(EIO)),
            fault => Ok(fault),
        }
    }

    /// Somebody else's write takes what it needs, an erase if need be: afterwards the block is
    /// whole.
    fn write_foreign(&mut self) {
        let operation = self.operations();
        if let Some(write) = self.foreign_writes.get(&operation).copied() {
            let at = write.offset_bytes as usize;
            self.cells.flip(at, write.mask);
            self.foreign_positions.insert(at, operation);
            self.unseen.insert(at);
        }
    }

    /// What an operation reports in the end.
    fn finish(&mut self, fault: Option<Fault>) -> io::Result<()> {
        if fault.is_some_and(Fault::is_cut) {
            self.powered = false;
        }
        match fault {
            Some(Fault::HalfDone | Fault::CutInside | Fault::CutTorn | Fault::WearOut) => {
                Err(io::Error::from_raw_os_error(EIO))
            }
            _ => Ok(()),
        }
    }

    /// What a read of a range says of what is closed in it.
    fn keep_closed(&mut self, range: &Range<usize>, buffer: &mut [u8]) -> io::Result<()> {
        if !self.closed.ranges.overlaps(&(range.start as u64..range.end as u64)) {
            return Ok(());
        }
        self.closed.refused_reads += 1;
        for part in self.closed.ranges.iter() {
            let place = |at: u64| (at as usize).clamp(range.start, range.end) - range.start;
            buffer[place(part.start)..place(part.end)].fill(0xff);
        }
        match self.closed.is_silent {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(EIO)),
        }
    }

    fn range(&self, offset_bytes: u64, length: usize) -> io::Result<Range<usize>> {
        let end = offset_bytes
            .checked_add(length as u64)
            .filter(|end| *end <= self.geometry.size_bytes());
        let end = end.ok_or_else(|| io::Error::from_raw_os_error(EINVAL))? as usize;
        Ok(end - length..end)
    }

    /// What happens to a block that is about to change.
    fn change_block(&mut self, block: EraseBlock, fault: Option<Fault>) -> io::Result<()> {
        self.touched.insert(block.index());
        if fault == Some(Fault::Lock) {
            self.lock(block, true);
        }
        if self.locked.contains(&block.index()) {
            return Err(io::Error::from_raw_os_error(EROFS));
        }
        if self.bad.contains(&block.index()) || self.worn_out.contains(&block.index()) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        if fault == Some(Fault::WearOut) {
            self.wear_out(block);
        }
        Ok(())
    }

    /// What becomes of the bytes of a range that was changed in whole.
    fn spoil(&mut self, range: Range<usize>, fault: Option<Fault>) {
        let at = self.somewhere(&range);
        match fault {
            Some(Fault::WrongByte) => self.cells.flip(at, 0x5A),
            Some(Fault::StuckBits) => {
                self.cells.stick(at, 0x10);
                self.cells.stick(range.start, 0x04);
            }
            _ => {}
        }
    }

    /// Differs from operation to operation.
    fn noise(&self) -> u64 {
        self.operations()
    }

    /// A position in a range that is not empty.
    fn somewhere(&self, range: &Range<usize>) -> usize {
        range.start + usize::from(random_byte(self.noise(), 0)) * range.len() / 256
    }

    fn answer(&mut self, fault: Option<Fault>, truth: bool) -> io::Result<bool> {
        self.finish(fault)?;
        Ok(truth != (fault == Some(Fault::WrongByte)))
    }
}

impl Flash for SimulatedFlash {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn read(&mut self, offset_bytes: u64, buffer: &mut [u8]) -> io::Result<()> {
        let fault = self.begin(Asked::Read)?;
        let range = self.range(offset_bytes, buffer.len())?;
        self.reads_short |= fault == Some(Fault::ShortReads);
        let half = range.start + range.len() / 2;
        let filled = match fault {
            Some(Fault::NotDone) => range.start..range.start,
            Some(Fault::ShortRead | Fault::HalfDone | Fault::CutInside) => range.start..half,
            _ if self.reads_short => range.start..half,
            _ => range.clone(),
        };
        self.unseen.retain(|at| !filled.contains(at));
        buffer[..filled.len()].copy_from_slice(&self.cells.bytes()[filled]);
        let allowed = self.keep_closed(&range, buffer);
        match fault {
            Some(Fault::WrongByte) if !range.is_empty() => {
                buffer[self.somewhere(&range) - range.start] ^= 0x5A;
            }
            Some(Fault::Corrected) => self.corrected_bits += 1,
            Some(Fault::Decay) if !range.is_empty() => self.cells.decay(self.somewhere(&range)),
            _ => {}
        }
        self.finish(fault)?;
        allowed?;
        match self.cells.is_correctable(range) {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(EBADMSG)),
        }
    }

    fn erase(&mut self, block: EraseBlock) -> io::Result<()> {
        let fault = self.begin(Asked::Erase)?;
        let range = self.range(block.offset_bytes(), block.length_bytes() as usize)?;
        self.change_block(block, fault)?;
        self.erases += 1;
        let (half, noise) = (range.len() / 2, self.noise());
        match fault {
            Some(Fault::NotDone) => {}
            Some(Fault::HalfDone | Fault::CutInside | Fault::WearOut) => {
                self.cells.erase_in_part(range, half, noise);
            }
            Some(Fault::CutTorn) => self.cells.erase_in_part(range, 0, noise),
            _ => {
                self.cells.erase(range.clone());
                self.spoil(range, fault);
            }
        }
        self.finish(fault)
    }

    fn write(&mut self, offset_bytes: u64, data: &[u8]) -> io::Result<()> {
        let fault = self.begin(Asked::Write)?;
        let range = self.range(offset_bytes, data.len())?;
        let write_bytes = self.geometry.write_bytes() as usize;
        if range.is_empty() || range.start % write_bytes != 0 || range.end % write_bytes != 0 {
            return Err(io::Error::from_raw_os_error(EINVAL));
        }
        let victim = self.geometry.block_at((range.start + data.len() / 2) as u64);
        let mut next = self.geometry.block_at(offset_bytes);
        while let Some(block) = next.filter(|block| block.offset_bytes() < range.end as u64) {
            let fault = fault.filter(|_| victim == Some(block));
            if let Err(error) = self.change_block(block, fault) {
                // The blocks before it were written.
                let before = (block.offset_bytes() as usize).saturating_sub(range.start);
                self.cells.write(range.start, &data[..before]);
                return Err(error);
            }
            next = self.geometry.block_at(block.end_bytes());
        }
        self.bytes_written += data.len() as u64;
        let (start, noise) = (range.start, self.noise());
        let inside = Part { done_bytes: data.len() / 2, torn_bytes: write_bytes };
        let torn = Part { done_bytes: 0, torn_bytes: data.len() };
        match fault {
            Some(Fault::NotDone) => {}
            Some(Fault::HalfDone | Fault::CutInside | Fault::WearOut) => {
                self.cells.write_in_part(start, data, inside, noise);
            }
            Some(Fault::CutTorn) => self.cells.write_in_part(start, data, torn, noise),
            _ => {
                self.cells.write(start, data);
                self.spoil(range, fault);
            }
        }
        self.finish(fault)
    }

    fn is_locked(&mut self, block: EraseBlock) -> io::Result<bool> {
        let fault = self.begin(Asked::IsLocked)?;
        if fault == Some(Fault::Lock) {
            self.lock(block, true);
        }
        self.answer(fault, self.locked.contains(&block.index()))
    }

    fn unlock(&mut self, offset_bytes: u64, length_bytes: u64) -> io::Result<()> {
        let fault = self.begin(Asked::Unlock)?;
        let asked = self.indices(offset_bytes, length_bytes)?;
        let count = self.geometry.block_count();
        let locked = self.locking.unlock(&self.locked, asked.clone(), count);
        self.become_locked(fault, locked)?;
        match asked.into_iter().any(|index| self.stays_locked.contains(&index)) {
            true => Err(io::Error::from_raw_os_error(EROFS)),
            false => Ok(()),
        }
    }

    fn protect(&mut self, offset_bytes: u64, length_bytes: u64) -> io::Result<()> {
        let fault = self.begin(Asked::Protect)?;
        let asked = self.indices(offset_bytes, length_bytes)?;
        let locked = self.locking.lock(&self.locked, asked, self.geometry.block_count());
        self.become_locked(fault, locked)
    }

    fn is_bad(&mut self, block: EraseBlock) -> io::Result<bool> {
        let fault = self.begin(Asked::IsBad)?;
        self.answer(fault, self.bad.contains(&block.index()))
    }
}
