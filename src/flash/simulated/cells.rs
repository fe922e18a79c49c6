//! The storage of a simulated chip: what an erase or a write does to it, whole or in part.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::WriteRule;

/// Bytes, and for each page whether its ECC matches them.
#[derive(Clone, Debug)]
pub(super) struct Cells {
    rule: WriteRule,
    page_bytes: usize,
    bytes: Vec<u8>,
    /// Empty unless the rule is [`WriteRule::PageOnce`].
    pages: Vec<Page>,
    /// Bits that stay 0, by position.
    stuck: BTreeMap<usize, u8>,
}

/// State of one page of a chip with [`WriteRule::PageOnce`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Erased,
    Programmed,
    /// Its ECC does not match its data.
    Uncorrectable,
}

impl Cells {
    pub(super) fn new(rule: WriteRule, page_bytes: usize, bytes: Vec<u8>) -> Self {
        let page_count = match rule {
            WriteRule::PageOnce => bytes.len() / page_bytes,
            WriteRule::Overwrite | WriteRule::ClearBits => 0,
        };
        let pages = vec![Page::Programmed; page_count];
        Self { rule, page_bytes, bytes, pages, stuck: BTreeMap::new() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns whether ECC vouches for all bytes of the range.
    pub(super) fn is_correctable(&self, range: Range<usize>) -> bool {
        !self.pages_of(range).contains(&Page::Uncorrectable)
    }

    /// Returns whether the range was not written since its erase.
    pub(super) fn is_writable(&self, range: Range<usize>) -> bool {
        self.pages_of(range).iter().all(|page| *page == Page::Erased)
    }

    pub(super) fn erase(&mut self, range: Range<usize>) {
        self.bytes[range.clone()].fill(0xFF);
        self.set_pages(range.clone(), Page::Erased);
        self.hold_stuck(range);
    }

    /// An erase that was interrupted. It raises the cells slowly: some bits are up, others are not
    /// yet, behind `middle` bytes that are done.
    pub(super) fn erase_in_part(&mut self, range: Range<usize>, middle: usize, noise: u64) {
        let (start, done) = (range.start, range.start + middle);
        self.bytes[start..done].fill(0xFF);
        for (at, byte) in (done..range.end).zip(&mut self.bytes[done..range.end]) {
            *byte |= random_byte(noise, at);
        }
        self.set_pages(range.clone(), Page::Uncorrectable);
        self.hold_stuck(range);
    }

    pub(super) fn write(&mut self, start: usize, data: &[u8]) {
        let range = start..start + data.len();
        for (byte, data) in self.bytes[range.clone()].iter_mut().zip(data) {
            *byte = match self.rule {
                WriteRule::Overwrite => *data,
                WriteRule::ClearBits | WriteRule::PageOnce => *byte & data,
            };
        }
        for page in self.pages_of_mut(range.clone()) {
            *page = if *page == Page::Erased { Page::Programmed } else { Page::Uncorrectable };
        }
        self.hold_stuck(range);
    }

    /// A write that was interrupted: behind `middle` bytes that are done, up to `torn` bytes hold
    /// something between before and after.
    pub(super) fn write_in_part(&mut self, start: usize, data: &[u8], part: Part, noise: u64) {
        let middle = part.done_bytes.next_multiple_of(self.page_bytes).min(data.len());
        self.write(start, &data[..middle]);
        let torn = start + middle..start + data.len().min(middle + part.torn_bytes);
        for at in torn.clone() {
            let (data, random) = (data[at - start], random_byte(noise, at));
            match self.rule {
                WriteRule::Overwrite if random & 1 == 0 => self.bytes[at] = data,
                WriteRule::Overwrite => {}
                WriteRule::ClearBits | WriteRule::PageOnce => self.bytes[at] &= data | random,
            }
        }
        self.set_pages(torn, Page::Uncorrectable);
    }

    pub(super) fn flip(&mut self, at: usize, mask: u8) {
        self.bytes[at] ^= mask;
    }

    /// Lets the page at this position no longer match its ECC.
    pub(super) fn decay(&mut self, at: usize) {
        self.set_pages(at..at + 1, Page::Uncorrectable);
    }

    /// Lets these bits be 0 for good.
    pub(super) fn stick(&mut self, at: usize, mask: u8) {
        *self.stuck.entry(at).or_default() |= mask;
        self.hold_stuck(at..at + 1);
    }

    /// Returns whether a bit of the range stays 0.
    pub(super) fn is_stuck(&self, range: Range<usize>) -> bool {
        self.stuck.range(range).next().is_some()
    }

    fn hold_stuck(&mut self, range: Range<usize>) {
        for (at, mask) in self.stuck.range(range) {
            self.bytes[*at] &= !mask;
        }
    }

    fn page_numbers(&self, range: Range<usize>) -> Range<usize> {
        match self.pages.is_empty() || range.is_empty() {
            true => 0..0,
            false => range.start / self.page_bytes..range.end.div_ceil(self.page_bytes),
        }
    }

    fn pages_of(&self, range: Range<usize>) -> &[Page] {
        &self.pages[self.page_numbers(range)]
    }

    fn pages_of_mut(&mut self, range: Range<usize>) -> &mut [Page] {
        let numbers = self.page_numbers(range);
        &mut self.pages[numbers]
    }

    fn set_pages(&mut self, range: Range<usize>, page: Page) {
        self.pages_of_mut(range).fill(page);
    }
}

/// How far an interrupted write came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) done_bytes: usize,
    pub(super) torn_bytes: usize,
}

/// Returns a byte that depends on both numbers and on nothing else (the finaliser of SplitMix64).
pub(super) fn random_byte(noise: u64, at: usize) -> u8 {
    let mut mixed = noise.wrapping_add((at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed >> 56) as u8
}
