//! What stands in the mailbox: a word as bytes, and back.

use super::rescues::{RESCUES_MAX, Rescues};
use super::{MAILBOX_SIZE, MailboxError};
use crate::reason::{Ending, FlashState, Reason};

/// Longest text in bytes.
pub const TEXT_LENGTH_MAX: usize = 1024;

/// Length of the nonce in bytes.
pub(super) const NONCE_LEN: usize = 32;

/// A block of the mailbox, aligned as direct reads and writes of disks want it.
#[repr(C, align(4096))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block(pub(super) [u8; MAILBOX_SIZE]);

/// What recovery tells the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The campaign that recovery belonged to.
    pub campaign: u64,
    /// The reason's code.
    pub reason: u16,
    /// The code of what is known about the flash.
    pub flash_state: u8,
    /// The reason in words, for the log. Longer texts are cut to [`TEXT_LENGTH_MAX`] bytes.
    pub text: String,
}

impl Word {
    /// Returns the word of a campaign that ended this way.
    pub fn of(campaign: u64, ending: &Ending) -> Self {
        let (reason, flash_state) = (ending.reason.code(), ending.flash.code());
        Self { campaign, reason, flash_state, text: ending.detail.clone() }
    }

    /// Returns how the campaign ended.
    pub fn ending(self) -> Ending {
        let reason = Reason::from_code(self.reason);
        let flash = FlashState::from_code(self.flash_state);
        Ending { reason, flash, detail: self.text }
    }
}

// The block, big-endian:
//
//   offset  length  field
//   0x000   16      "firmcast-mailbox"
//   0x010   2       version, 1
//   0x012   2       0: empty, 1: holds a word
//   0x014   32      nonce
//   0x034   8       campaign       }
//   0x03c   2       reason         }
//   0x03e   1       flash state    } zero when empty
//   0x03f   1       zero           }
//   0x040   2       text length    }
//   0x042   1024    text (UTF-8), zero after its end
//   0x442   1       number of rescues, at most 8
//   0x443   1       zero
//   0x444   8 each  when they were, in seconds since 1970; zero after the last one
//   0x484   2936    zero
//   0xffc   4       CRC-32 (IEEE) of everything before
const MAGIC: &[u8; 16] = b"firmcast-mailbox";
const VERSION: u16 = 1;
const EMPTY: u16 = 0;
const FULL: u16 = 1;
const NONCE_AT: usize = 0x14;
const CAMPAIGN_AT: usize = 0x34;
const REASON_AT: usize = 0x3c;
const FLASH_STATE_AT: usize = 0x3e;
const TEXT_LENGTH_AT: usize = 0x40;
const TEXT_AT: usize = 0x42;
const RESCUES_AT: usize = 0x442;
const RESCUE_TIMES_AT: usize = 0x444;
const CRC_AT: usize = MAILBOX_SIZE - 4;

impl Block {
    /// Returns the block without a word.
    pub(super) fn empty(nonce: &[u8; NONCE_LEN]) -> Self {
        let mut block = Block([0; MAILBOX_SIZE]);
        block.0[..MAGIC.len()].copy_from_slice(MAGIC);
        block.0[0x10..0x12].copy_from_slice(&VERSION.to_be_bytes());
        block.0[0x12..0x14].copy_from_slice(&EMPTY.to_be_bytes());
        block.0[NONCE_AT..NONCE_AT + NONCE_LEN].copy_from_slice(nonce);
        block.seal();
        block
    }

    /// Returns the block with `word`.
    pub(super) fn full(nonce: &[u8; NONCE_LEN], word: &Word) -> Self {
        let mut block = Block::empty(nonce);
        let bytes = &mut block.0;
        bytes[0x12..0x14].copy_from_slice(&FULL.to_be_bytes());
        bytes[CAMPAIGN_AT..CAMPAIGN_AT + 8].copy_from_slice(&word.campaign.to_be_bytes());
        bytes[REASON_AT..REASON_AT + 2].copy_from_slice(&word.reason.to_be_bytes());
        bytes[FLASH_STATE_AT] = word.flash_state;
        let fits = |end: &usize| word.text.is_char_boundary(*end);
        let end = (0..=word.text.len().min(TEXT_LENGTH_MAX)).rev().find(fits).unwrap_or(0);
        let text = &word.text.as_bytes()[..end];
        bytes[TEXT_LENGTH_AT..TEXT_AT].copy_from_slice(&(text.len() as u16).to_be_bytes());
        bytes[TEXT_AT..TEXT_AT + text.len()].copy_from_slice(text);
        block.seal();
        block
    }

    /// Returns the block with these rescues instead of its own.
    pub(super) fn with_rescues(mut self, rescues: &Rescues) -> Self {
        let times = rescues.times();
        self.0[RESCUES_AT] = times.len() as u8;
        let room = &mut self.0[RESCUE_TIMES_AT..RESCUE_TIMES_AT + 8 * RESCUES_MAX];
        room.fill(0);
        room.chunks_exact_mut(8)
            .zip(times)
            .for_each(|(field, time)| field.copy_from_slice(&time.to_be_bytes()));
        self.seal();
        self
    }

    /// Returns the rescues; none of a block that is not whole.
    pub(super) fn rescues(&self) -> Rescues {
        let count = usize::from(self.0[RESCUES_AT]).min(RESCUES_MAX);
        if self.check().is_err() {
            return Rescues::default();
        }
        let fields = self.0[RESCUE_TIMES_AT..RESCUE_TIMES_AT + 8 * count].as_chunks::<8>().0;
        Rescues::of(&fields.iter().map(|field| u64::from_be_bytes(*field)).collect::<Vec<_>>())
    }

    fn seal(&mut self) {
        let crc = crc32fast::hash(&self.0[..CRC_AT]);
        self.0[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
    }

    /// Returns whether this is the whole, undamaged mailbox with `nonce`.
    pub(super) fn is_mailbox_of(&self, nonce: &[u8; NONCE_LEN]) -> bool {
        self.nonce().as_ref() == Some(nonce)
    }

    /// Returns its nonce, if it is whole.
    pub(super) fn nonce(&self) -> Option<[u8; NONCE_LEN]> {
        self.check().ok()?;
        self.0[NONCE_AT..NONCE_AT + NONCE_LEN].try_into().ok()
    }

    /// Returns the word, if it holds one.
    ///
    /// # Errors
    /// [`MailboxError::Malformed`].
    pub(super) fn word(&self) -> Result<Option<Word>, MailboxError> {
        self.check()?;
        match self.u16_at(0x12) {
            EMPTY => return Ok(None),
            FULL => {}
            _ => return Err(MailboxError::Malformed("neither empty nor full")),
        }
        let length = usize::from(self.u16_at(TEXT_LENGTH_AT));
        if length > TEXT_LENGTH_MAX {
            return Err(MailboxError::Malformed("text too long"));
        }
        let text = std::str::from_utf8(&self.0[TEXT_AT..TEXT_AT + length])
            .map_err(|_| MailboxError::Malformed("text is not UTF-8"))?;
        let mut campaign = [0; 8];
        campaign.copy_from_slice(&self.0[CAMPAIGN_AT..CAMPAIGN_AT + 8]);
        Ok(Some(Word {
            campaign: u64::from_be_bytes(campaign),
            reason: self.u16_at(REASON_AT),
            flash_state: self.0[FLASH_STATE_AT],
            text: text.to_owned(),
        }))
    }

    fn check(&self) -> Result<(), MailboxError> {
        if self.0[..MAGIC.len()] != *MAGIC {
            return Err(MailboxError::Malformed("no mailbox"));
        }
        if self.u16_at(0x10) != VERSION {
            return Err(MailboxError::Malformed("another version"));
        }
        if crc32fast::hash(&self.0[..CRC_AT]).to_be_bytes() != self.0[CRC_AT..] {
            return Err(MailboxError::Malformed("wrong checksum"));
        }
        Ok(())
    }

    fn u16_at(&self, offset: usize) -> u16 {
        u16::from_be_bytes([self.0[offset], self.0[offset + 1]])
    }
}

/// 64 hexadecimal digits.
pub(super) fn nonce_text(nonce: &[u8; NONCE_LEN]) -> String {
    nonce.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the inverse of [`nonce_text`].
///
/// # Errors
/// [`MailboxError::Nonce`].
pub(super) fn parse_nonce(text: &str) -> Result<[u8; NONCE_LEN], MailboxError> {
    let wrong = || MailboxError::Nonce { got: text.len() };
    if text.len() != 2 * NONCE_LEN || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut nonce = [0; NONCE_LEN];
    for (number, byte) in nonce.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * number..2 * number + 2], 16).map_err(|_| wrong())?;
    }
    Ok(nonce)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const NONCE: [u8; NONCE_LEN] = [0xa5; NONCE_LEN];

    #[test]
    fn golden_bytes() {
        let word = Word { campaign: 7, reason: 0x0102, flash_state: 3, text: "no manager".into() };
        let block = Block::full(&NONCE, &word);
        assert_eq!(&block.0[..0x14], b"firmcast-mailbox\x00\x01\x00\x01");
        assert_eq!(&block.0[0x34..0x4c], b"\0\0\0\0\0\0\0\x07\x01\x02\x03\0\0\x0ano manager");
        assert_eq!(block.0[0xffc..], crc32fast::hash(&block.0[..0xffc]).to_be_bytes());
        assert_eq!(Block::empty(&NONCE).0[0xffc..], [0x2d, 0xd7, 0x6d, 0xbf]);
    }

    #[test]
    fn rescues_stand_beside_any_word() {
        let word = Word { campaign: 7, reason: 1, flash_state: 3, text: "x".repeat(1024) };
        let times: Vec<u64> = (1..=RESCUES_MAX as u64).map(|nth| nth << 40).collect();
        let rescues = Rescues::of(&times);
        let block = Block::full(&NONCE, &word).with_rescues(&rescues);
        assert_eq!((block.rescues(), block.word().unwrap()), (rescues, Some(word)));
        assert_eq!(block.0[0x442..0x44c], [8, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
        let none = block.with_rescues(&Rescues::default());
        assert_eq!(none.rescues(), Rescues::default());
        // What older programs wrote has none.
        assert_eq!(Block::empty(&NONCE).rescues(), Rescues::default());
        let mut many = Block::empty(&NONCE);
        many.0[0x442] = 255;
        many.seal();
        assert_eq!(many.rescues().times().len(), RESCUES_MAX);
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let word = Word { campaign: 1, reason: 2, flash_state: 0, text: "x".into() };
        let good = Block::full(&NONCE, &word);
        assert!(good.is_mailbox_of(&NONCE) && !good.is_mailbox_of(&[0; NONCE_LEN]));
        for offset in 0..MAILBOX_SIZE {
            let mut bad = good.clone();
            bad.0[offset] ^= 1;
            assert!(bad.word().is_err() && !bad.is_mailbox_of(&NONCE), "{offset:#x}");
        }
    }

    #[test]
    fn endings_come_back_and_unknown_codes_are_nothing_safe() {
        let ending = Ending::new(Reason::WriteFailed, FlashState::Mixed, "0x1000-0x1fff erased");
        let word = Word::of(7, &ending);
        assert_eq!((word.campaign, word.clone().ending()), (7, ending));
        assert_eq!(Word { reason: 999, ..word.clone() }.ending().reason, Reason::Other(999));
        assert_eq!(Word { flash_state: 99, ..word }.ending().flash, FlashState::Unknown);
    }

    #[test]
    fn nonces_come_back_and_others_are_refused() {
        assert_eq!(parse_nonce(&nonce_text(&NONCE)).unwrap(), NONCE);
        for text in ["", "a5", &"g5".repeat(32), &"ä".repeat(32)] {
            assert!(parse_nonce(text).is_err());
        }
    }

    proptest! {
        #[test]
        fn words_come_back(campaign: u64, reason: u16, flash_state: u8, text in ".{0,600}") {
            let word = Word { campaign, reason, flash_state, text };
            let back = Block::full(&NONCE, &word).word().unwrap().unwrap();
            prop_assert!(word.text.starts_with(&back.text));
            prop_assert!(back.text == word.text || back.text.len() > TEXT_LENGTH_MAX - 4);
            prop_assert_eq!(Word { text: back.text.clone(), ..word }, back);
            prop_assert_eq!(Block::empty(&NONCE).word().unwrap(), None);
        }

        /// Right checksum over any content: an answer or an error, never a panic.
        #[test]
        fn any_sealed_content_is_survived(head in proptest::collection::vec(any::<u8>(), 0x60)) {
            let mut block = Block::empty(&NONCE);
            block.0[0x12..0x12 + 0x60].copy_from_slice(&head);
            block.seal();
            let _ = block.word();
        }
    }
}
