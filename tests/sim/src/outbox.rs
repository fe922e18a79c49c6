//! What a simulated host wants to send, and what of it leaves the host.

use std::ops::Range;

use firmcast::recovery::machine::FRAGMENTS_WAITING_MAX;
use firmcast::session::Transmit;

use crate::chance::Chance;
use crate::engine::Violation;

/// Maximum number of datagrams that a host may want to send after one thing happened to it.
const TRANSMITS_MAX: usize = FRAGMENTS_WAITING_MAX + 32;
/// How many datagrams a host still sends that falls silent after its power failed.
const LAST_WORDS: Range<u64> = 1..8;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    transmits: Vec<Transmit>,
    /// Datagrams that leave before nothing is heard any more; none when the network works.
    words_left: Option<u64>,
}

impl Outbox {
    /// The power failed: with this probability, little is heard from now on.
    pub(crate) fn restart(&mut self, chance: &mut Chance, silence: f64) {
        let falls_silent = chance.happens(silence);
        let words = chance.within(LAST_WORDS);
        self.words_left = falls_silent.then_some(words);
    }

    /// The network works again.
    pub(crate) fn mend(&mut self) {
        self.words_left = None;
    }

    /// Nothing comes in or leaves.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.words_left == Some(0)
    }

    pub(crate) fn put(&mut self, transmits: impl Iterator<Item = Transmit>) {
        self.transmits.extend(transmits);
    }

    /// Ends what one thing led to. Returns how many datagrams leave.
    pub(crate) fn close(&mut self) -> Result<usize, Violation> {
        if let Some(left) = &mut self.words_left {
            self.transmits.truncate(*left as usize);
            *left -= self.transmits.len() as u64;
        }
        match self.transmits.len() {
            said @ ..=TRANSMITS_MAX => Ok(said),
            said => Err(format!("{said} datagrams at once")),
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Transmit> {
        std::mem::take(&mut self.transmits)
    }
}
