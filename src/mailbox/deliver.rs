//! Recovery's side: finds the mailbox on the disks, and reads it or overwrites it in place.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::word::{Block, NONCE_LEN, parse_nonce};
use super::{MAILBOX_SIZE, MailboxError, Rescues, Word};
use crate::handover::MailboxPlace;

/// Most block devices that are looked at.
const DEVICES_MAX: usize = 1024;

/// Devices that are no disks, or whose content is the same as that of disks below them. Flash is
/// never looked at through them either.
const SKIPPED: &[&str] = &["loop", "ram", "zram", "dm-", "md", "mtdblock", "nbd", "sr", "fd"];

/// Leaves `word` at `place`, and adds a rescue that ended at `rescued_at_s` to those that stand
/// there. Nothing is written unless a whole mailbox with the nonce stands there.
///
/// # Errors
/// [`MailboxError::NotFound`], also when the disk has not appeared yet; [`MailboxError::File`] when
/// writing fails; [`MailboxError::Nonce`].
pub fn deliver(
    place: &MailboxPlace,
    word: &Word,
    rescued_at_s: Option<u64>,
) -> Result<(), MailboxError> {
    deliver_among(&block_devices(), place, word, rescued_at_s)
}

fn deliver_among(
    devices: &[PathBuf],
    place: &MailboxPlace,
    word: &Word,
    rescued_at_s: Option<u64>,
) -> Result<(), MailboxError> {
    let nonce = parse_nonce(&place.nonce)?;
    let mut found = false;
    for device in devices {
        if let Some(old) = mailbox_on(device, place.offset_bytes, &nonce) {
            let rescues = rescued_at_s.into_iter().fold(old.rescues(), Rescues::with);
            let block = Block::full(&nonce, word).with_rescues(&rescues);
            write(device, place.offset_bytes, &block).map_err(|source| MailboxError::File {
                action: "write the result to",
                path: device.clone(),
                source,
            })?;
            found = true;
        }
    }
    if found {
        return Ok(());
    }
    Err(not_found(devices, place))
}

/// Returns the word that stands at `place`, if the agent has not read and emptied it yet.
///
/// # Errors
/// As [`deliver`].
pub fn look(place: &MailboxPlace) -> Result<Option<Word>, MailboxError> {
    look_among(&block_devices(), place)
}

/// Returns the rescues that stand at `place`.
///
/// # Errors
/// As [`look`].
pub fn rescues(place: &MailboxPlace) -> Result<Rescues, MailboxError> {
    block_among(&block_devices(), place).map(|block| block.rescues())
}

fn look_among(devices: &[PathBuf], place: &MailboxPlace) -> Result<Option<Word>, MailboxError> {
    block_among(devices, place)?.word()
}

fn block_among(devices: &[PathBuf], place: &MailboxPlace) -> Result<Block, MailboxError> {
    let nonce = parse_nonce(&place.nonce)?;
    let found = devices.iter().find_map(|device| mailbox_on(device, place.offset_bytes, &nonce));
    found.ok_or_else(|| not_found(devices, place))
}

fn not_found(devices: &[PathBuf], place: &MailboxPlace) -> MailboxError {
    MailboxError::NotFound { looked_at: devices.len(), offset_bytes: place.offset_bytes }
}

fn block_devices() -> Vec<PathBuf> {
    let entries = fs::read_dir("/sys/class/block").into_iter().flatten().filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| !SKIPPED.iter().any(|prefix| name.starts_with(prefix)))
        .take(DEVICES_MAX)
        .map(|name| Path::new("/dev").join(name.replace('!', "/")))
        .collect()
}

/// Reads around the page cache: the disk's own bytes count.
fn mailbox_on(device: &Path, offset_bytes: u64, nonce: &[u8; NONCE_LEN]) -> Option<Block> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(device).ok()?;
    let mut block = Block([0; MAILBOX_SIZE]);
    file.read_exact_at(&mut block.0, offset_bytes).ok()?;
    block.is_mailbox_of(nonce).then_some(block)
}

/// Writes through to the medium and reads it back.
fn write(device: &Path, offset_bytes: u64, block: &Block) -> io::Result<()> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT | libc::O_SYNC)
        .open(device)?;
    file.write_all_at(&block.0, offset_bytes)?;
    file.sync_all()?;
    let mut written = Block([0; MAILBOX_SIZE]);
    file.read_exact_at(&mut written.0, offset_bytes)?;
    if written == *block {
        return Ok(());
    }
    Err(io::Error::other("the disk gives back other bytes than were written"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::word::nonce_text;
    use super::*;

    /// Files stand for disks: they take direct reads and writes where their file system does.
    #[test]
    fn writes_only_where_the_nonce_stands() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let offset = 3 * MAILBOX_SIZE;
        let nonce = [7; NONCE_LEN];
        let disk = |name: &str, at: usize, nonce: &[u8; NONCE_LEN]| {
            let mut bytes = vec![0x11; 8 * MAILBOX_SIZE];
            bytes[at..at + MAILBOX_SIZE].copy_from_slice(&Block::empty(nonce).0);
            let path = directory.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let right = disk("right", offset, &nonce);
        let others = [
            disk("other-place", 4 * MAILBOX_SIZE, &nonce),
            disk("other-nonce", offset, &[8; NONCE_LEN]),
            directory.path().join("gone"),
        ];
        let before: Vec<_> = others.iter().map(|path| fs::read(path).ok()).collect();
        let right_before = fs::read(&right).unwrap();
        let place = MailboxPlace { offset_bytes: offset as u64, nonce: nonce_text(&nonce) };
        let word = Word { campaign: 5, reason: 6, flash_state: 0, text: "no manager".into() };

        let error = deliver_among(&others, &place, &word, None).unwrap_err();
        assert!(matches!(error, MailboxError::NotFound { looked_at: 3, .. }), "{error}");
        assert!(matches!(look_among(&others, &place), Err(MailboxError::NotFound { .. })));
        let devices: Vec<PathBuf> = others.iter().chain([&right]).cloned().collect();
        assert_eq!(look_among(&devices, &place).unwrap(), None);
        deliver_among(&devices, &place, &word, Some(50)).unwrap();
        deliver_among(&devices, &place, &word, None).unwrap();
        deliver_among(&devices, &place, &word, Some(60)).unwrap();
        assert_eq!(block_among(&devices, &place).unwrap().rescues(), Rescues::of(&[50, 60]));
        assert_eq!(look_among(&devices, &place).unwrap().as_ref(), Some(&word));

        assert_eq!(others.iter().map(|path| fs::read(path).ok()).collect::<Vec<_>>(), before);
        let after = fs::read(&right).unwrap();
        assert_eq!(after[..offset], right_before[..offset]);
        assert_eq!(after[offset + MAILBOX_SIZE..], right_before[offset + MAILBOX_SIZE..]);
        let block: [u8; MAILBOX_SIZE] = after[offset..offset + MAILBOX_SIZE].try_into().unwrap();
        assert_eq!(Block(block).word().unwrap(), Some(word));
    }
}
