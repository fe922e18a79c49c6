//! A flash chip in memory that keeps the rules of real ones, and breaks on request.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use nix::libc::{EBADMSG, EINVAL, EIO, ENODEV, EROFS};

use super::{EraseBlock, Flash, Geometry, WriteRule};

/// What goes wrong with one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It reports `EIO` and does nothing.
    Error,
    /// It is done in part and reports `EIO`.
    HalfDone,
    /// It is done in part, and everything after it fails until [`SimulatedFlash::power_on`].
    PowerCut,
    /// It reports success, but a byte of its range is wrong: in the buffer for a read, on the chip
    /// for the others.
    WrongByte,
}

/// A simulated NOR, NAND or RAM chip.
///
/// Reads, erases and writes are numbered from 0 in the order in which they are asked for; a fault
/// is bound to such a number.
#[derive(Clone, Debug)]
pub struct SimulatedFlash {
    geometry: Geometry,
    contents: Vec<u8>,
    pages: Vec<Page>,
    bad: BTreeSet<u32>,
    locked: BTreeSet<u32>,
    stays_locked: bool,
    worn_out: BTreeSet<u32>,
    faults: BTreeMap<u64, Fault>,
    powered: bool,
    operations: u64,
    erases: u64,
    bytes_written: u64,
    touched: BTreeSet<u32>,
}

/// State of one page of a chip with [`WriteRule::PageOnce`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Erased,
    Programmed,
    /// Its ECC does not match its data.
    Uncorrectable,
}

impl SimulatedFlash {
    /// A chip with these contents.
    ///
    /// # Panics
    /// `contents` must have the size of the geometry.
    pub fn new(geometry: Geometry, contents: Vec<u8>) -> Self {
        assert_eq!(geometry.size_bytes(), contents.len() as u64, "contents must fill the chip");
        let page_count = match geometry.rule() {
            WriteRule::PageOnce => contents.len() / geometry.write_bytes() as usize,
            WriteRule::Overwrite | WriteRule::ClearBits => 0,
        };
        Self {
            geometry,
            contents,
            pages: vec![Page::Programmed; page_count],
            bad: BTreeSet::new(),
            locked: BTreeSet::new(),
            stays_locked: false,
            worn_out: BTreeSet::new(),
            faults: BTreeMap::new(),
            powered: true,
            operations: 0,
            erases: 0,
            bytes_written: 0,
            touched: BTreeSet::new(),
        }
    }

    /// Makes the operation with this number go wrong.
    pub fn inject(&mut self, operation: u64, fault: Fault) {
        self.faults.insert(operation, fault);
    }

    /// Takes all faults away that were injected.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
    }

    /// Marks a block bad.
    pub fn mark_bad(&mut self, block: EraseBlock) {
        self.bad.insert(block.index());
    }

    /// Lets every erase and write of a block fail from now on.
    pub fn wear_out(&mut self, block: EraseBlock) {
        self.worn_out.insert(block.index());
    }

    /// Locks a block; `for_good` chips do not unlock.
    pub fn lock(&mut self, block: EraseBlock, for_good: bool) {
        self.locked.insert(block.index());
        self.stays_locked |= for_good;
    }

    /// Ends a power cut.
    pub fn power_on(&mut self) {
        self.powered = true;
    }

    /// Whether the chip has power.
    pub fn is_powered(&self) -> bool {
        self.powered
    }

    /// What is on the chip, whatever its reads say.
    pub fn contents(&self) -> &[u8] {
        &self.contents
    }

    /// Reads, erases and writes so far.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Erases so far.
    pub fn erases(&self) -> u64 {
        self.erases
    }

    /// Bytes that were written so far.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Numbers of the blocks on which an erase or a write was tried.
    pub fn touched(&self) -> &BTreeSet<u32> {
        &self.touched
    }

    /// Counts an operation and says what goes wrong with it.
    fn begin(&mut self) -> io::Result<Option<Fault>> {
        if !self.powered {
            return Err(io::Error::from_raw_os_error(ENODEV));
        }
        let fault = self.faults.get(&self.operations).copied();
        self.operations += 1;
        match fault {
            Some(Fault::Error) => Err(io::Error::from_raw_os_error(EIO)),
            fault => Ok(fault),
        }
    }

    /// What an operation that was done reports.
    fn finish(&mut self, fault: Option<Fault>) -> io::Result<()> {
        match fault {
            Some(Fault::PowerCut) => self.powered = false,
            Some(Fault::HalfDone | Fault::Error) => {}
            Some(Fault::WrongByte) | None => return Ok(()),
        }
        Err(io::Error::from_raw_os_error(EIO))
    }

    fn range(&self, offset_bytes: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
        let end = offset_bytes
            .checked_add(length as u64)
            .filter(|end| *end <= self.geometry.size_bytes());
        let end = end.ok_or_else(|| io::Error::from_raw_os_error(EINVAL))? as usize;
        Ok(end - length..end)
    }

    fn check_writable(&mut self, block: EraseBlock) -> io::Result<()> {
        self.touched.insert(block.index());
        if self.locked.contains(&block.index()) {
            return Err(io::Error::from_raw_os_error(EROFS));
        }
        if self.bad.contains(&block.index()) || self.worn_out.contains(&block.index()) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(())
    }

    fn set_pages(&mut self, range: std::ops::Range<usize>, page: Page) {
        let page_bytes = self.geometry.write_bytes() as usize;
        if !self.pages.is_empty() {
            self.pages[range.start / page_bytes..range.end.div_ceil(page_bytes)].fill(page);
        }
    }

    fn program(&mut self, start: usize, data: &[u8]) {
        let page_bytes = self.geometry.write_bytes() as usize;
        for (at, byte) in (start..).zip(data) {
            match self.geometry.rule() {
                WriteRule::Overwrite => self.contents[at] = *byte,
                WriteRule::ClearBits | WriteRule::PageOnce => self.contents[at] &= byte,
            }
        }
        if !self.pages.is_empty() {
            for page in
                &mut self.pages[start / page_bytes..(start + data.len()).div_ceil(page_bytes)]
            {
                *page = if *page == Page::Erased { Page::Programmed } else { Page::Uncorrectable };
            }
        }
    }
}

impl Flash for SimulatedFlash {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn read(&mut self, offset_bytes: u64, buffer: &mut [u8]) -> io::Result<()> {
        let fault = self.begin()?;
        let range = self.range(offset_bytes, buffer.len())?;
        let page_bytes = self.geometry.write_bytes() as usize;
        let pages = range.start / page_bytes..range.end.div_ceil(page_bytes);
        buffer.copy_from_slice(&self.contents[range]);
        if !self.pages.is_empty() && self.pages[pages].contains(&Page::Uncorrectable) {
            return Err(io::Error::from_raw_os_error(EBADMSG));
        }
        match (fault, buffer.len()) {
            (Some(Fault::WrongByte), length @ 1..) => buffer[length / 3] ^= 0x5A,
            (Some(Fault::HalfDone | Fault::PowerCut), length) => buffer[length / 2..].fill(0),
            _ => {}
        }
        self.finish(fault)
    }

    fn erase(&mut self, block: EraseBlock) -> io::Result<()> {
        let fault = self.begin()?;
        let range = self.range(block.offset_bytes(), block.length_bytes() as usize)?;
        self.check_writable(block)?;
        self.erases += 1;
        let middle = range.start + range.len() / 2;
        match fault {
            Some(Fault::HalfDone | Fault::PowerCut) => {
                // An erase raises the cells slowly: some bits are up, others not yet.
                self.contents[range.start..middle].fill(0xFF);
                self.contents[middle..range.end].iter_mut().for_each(|byte| *byte |= 0xA5);
                self.set_pages(range, Page::Uncorrectable);
            }
            Some(Fault::WrongByte) => {
                self.contents[range.clone()].fill(0xFF);
                self.set_pages(range, Page::Erased);
                self.contents[middle] = 0x7F;
            }
            _ => {
                self.contents[range.clone()].fill(0xFF);
                self.set_pages(range, Page::Erased);
            }
        }
        self.finish(fault)
    }

    fn write(&mut self, offset_bytes: u64, data: &[u8]) -> io::Result<()> {
        let fault = self.begin()?;
        let range = self.range(offset_bytes, data.len())?;
        let write_bytes = self.geometry.write_bytes() as usize;
        if range.is_empty() || range.start % write_bytes != 0 || range.end % write_bytes != 0 {
            return Err(io::Error::from_raw_os_error(EINVAL));
        }
        let mut next = Some(offset_bytes);
        while let Some(block) = next.and_then(|offset| self.geometry.block_at(offset)) {
            self.check_writable(block)?;
            next = (block.end_bytes() < range.end as u64).then(|| block.end_bytes());
        }
        self.bytes_written += data.len() as u64;
        let middle = (data.len() / 2).next_multiple_of(write_bytes);
        match fault {
            Some(Fault::HalfDone | Fault::PowerCut) => {
                self.program(range.start, &data[..middle]);
                // The page that was being written: some of its bits are down already.
                self.contents[range.start + middle - 1] &= data[middle - 1] | 0x0F;
                self.set_pages(
                    range.start + middle - write_bytes..range.start + middle,
                    Page::Uncorrectable,
                );
            }
            _ => self.program(range.start, data),
        }
        if fault == Some(Fault::WrongByte) {
            self.contents[range.start + data.len() / 3] ^= 0x5A;
        }
        self.finish(fault)
    }

    fn is_locked(&mut self, block: EraseBlock) -> io::Result<bool> {
        Ok(self.locked.contains(&block.index()))
    }

    fn unlock(&mut self, block: EraseBlock) -> io::Result<()> {
        if self.stays_locked {
            return Err(io::Error::from_raw_os_error(EROFS));
        }
        self.locked.remove(&block.index());
        Ok(())
    }

    fn is_bad(&mut self, block: EraseBlock) -> io::Result<bool> {
        Ok(self.bad.contains(&block.index()))
    }
}
