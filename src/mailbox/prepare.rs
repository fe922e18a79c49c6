//! The agent's side: makes the file, finds its place on the disk, and reads what recovery has left.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::statfs::{EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, fstatfs};
use rand_core::{OsRng, RngCore};

use super::word::{Block, NONCE_LEN, nonce_text};
use super::{MAILBOX_SIZE, MailboxError, Rescues, Word, syscall};
use crate::handover::MailboxPlace;

/// The file's name in the state directory.
pub const FILE_NAME: &str = "recovery-result";

/// Extents with none of these flags hold plain file data at a fixed place. Of `linux/fiemap.h`:
/// UNKNOWN, DELALLOC, ENCODED, DATA_ENCRYPTED, NOT_ALIGNED, DATA_INLINE, DATA_TAIL, UNWRITTEN,
/// SHARED.
const FLAGS_REFUSED: u32 = 0x2f8e;

/// Empties the mailbox in `state_dir`, or makes one, all of it on the disk, and says where it is.
/// One that is whole keeps its nonce: archives that were written before still lead to it. It keeps
/// its rescues, too.
///
/// # Errors
/// [`MailboxError::Unsuitable`] on file systems and devices where a block must not be rewritten
/// behind their back (anything but ext2/3/4 and XFS on a plain disk or partition);
/// [`MailboxError::File`].
pub fn prepare(state_dir: &Path) -> Result<MailboxPlace, MailboxError> {
    let path = state_dir.join(FILE_NAME);
    let failed = |action| {
        let path = path.clone();
        move |source| MailboxError::File { action, path, source }
    };
    let old = block_in(state_dir)?;
    let rescues = old.as_ref().map(Block::rescues).unwrap_or_default();
    let nonce = match old.and_then(|block| block.nonce()) {
        Some(nonce) => nonce,
        None => {
            clear(state_dir)?;
            new_nonce()
        }
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed("make"))?;
    let block = Block::empty(&nonce).with_rescues(&rescues);
    file.write_all_at(&block.0, 0).and_then(|()| file.sync_all()).map_err(failed("write"))?;
    File::open(state_dir).and_then(|directory| directory.sync_all()).map_err(failed("sync"))?;
    let placed = place_of(&file, &path).and_then(|offset_bytes| {
        verify(&file, &path, offset_bytes, &block)?;
        Ok(MailboxPlace { offset_bytes, nonce: nonce_text(&nonce) })
    });
    if placed.is_err() {
        clear(state_dir)?;
    }
    placed
}

fn new_nonce() -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    OsRng.fill_bytes(&mut nonce);
    nonce
}

/// Where the file begins in its block device.
fn place_of(file: &File, path: &Path) -> Result<u64, MailboxError> {
    let unsuitable = |reason: String| MailboxError::Unsuitable { path: path.to_owned(), reason };
    let kind = fstatfs(file).map_err(|errno| unsuitable(errno.to_string()))?.filesystem_type();
    if kind != EXT4_SUPER_MAGIC && kind != XFS_SUPER_MAGIC {
        return Err(unsuitable(format!("file system of type {:#x}, expected ext4 or XFS", kind.0)));
    }
    let extents = syscall::extents(file.as_fd()).map_err(|error| unsuitable(error.to_string()))?;
    let [extent] = extents.as_slice() else {
        return Err(unsuitable(format!("it lies in {} pieces, expected 1", extents.len())));
    };
    if extent.flags & FLAGS_REFUSED != 0
        || extent.logical != 0
        || extent.length < MAILBOX_SIZE as u64
    {
        return Err(unsuitable(format!("its extent has the flags {:#x}", extent.flags)));
    }
    Ok(extent.physical)
}

/// Reads the block from the device itself, where recovery will look for it. Without permission to
/// read the device, which a confined agent may lack, recovery's own check is the only one.
fn verify(file: &File, path: &Path, offset_bytes: u64, block: &Block) -> Result<(), MailboxError> {
    let unsuitable = |reason: &str| MailboxError::Unsuitable {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let device = file.metadata().map_err(|_| unsuitable("its device is unknown"))?.dev();
    let sysfs = sysfs_of(device);
    if sysfs.join("dm").exists() || sysfs.join("md").exists() {
        return Err(unsuitable("it is on LVM, RAID or an encrypted disk"));
    }
    let Some(node) = node_of(&sysfs) else { return Err(unsuitable("its device has no node")) };
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&node);
    let device = match opened {
        Ok(device) => device,
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied) => return Ok(()),
        Err(source) => return Err(MailboxError::File { action: "open", path: node, source }),
    };
    let mut found = Block([0; MAILBOX_SIZE]);
    let read = device.read_exact_at(&mut found.0, offset_bytes);
    read.map_err(|source| MailboxError::File { action: "read", path: node, source })?;
    if found == *block { Ok(()) } else { Err(unsuitable("it is not where the file system says")) }
}

fn sysfs_of(device: u64) -> PathBuf {
    let (major, minor) = (libc::major(device), libc::minor(device));
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))
}

fn node_of(sysfs: &Path) -> Option<PathBuf> {
    let uevent = fs::read_to_string(sysfs.join("uevent")).ok()?;
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(Path::new("/dev").join(name))
}

/// What recovery has left in `state_dir`; `None` when it left nothing, or when there is no mailbox.
///
/// # Errors
/// [`MailboxError::Malformed`], [`MailboxError::File`].
pub fn read(state_dir: &Path) -> Result<Option<Word>, MailboxError> {
    match block_in(state_dir)? {
        Some(block) => block.word(),
        None => Ok(None),
    }
}

/// Forgets the rescues in the mailbox of `state_dir`, whatever word is in it. Returns how many
/// there were.
///
/// # Errors
/// [`MailboxError::File`].
pub fn forget_rescues(state_dir: &Path) -> Result<usize, MailboxError> {
    let Some(block) = block_in(state_dir)?.filter(|block| !block.rescues().times().is_empty())
    else {
        return Ok(0);
    };
    let count = block.rescues().times().len();
    let path = state_dir.join(FILE_NAME);
    let block = block.with_rescues(&Rescues::default());
    let file = OpenOptions::new().write(true).open(&path);
    let written =
        file.and_then(|file| file.write_all_at(&block.0, 0).and_then(|()| file.sync_all()));
    written.map_err(|source| MailboxError::File { action: "write", path, source })?;
    Ok(count)
}

/// A mailbox file with these rescues in `state_dir`.
#[cfg(test)]
pub(crate) fn rescued(state_dir: &Path, rescues: &Rescues) -> io::Result<()> {
    let block = Block::empty(&new_nonce()).with_rescues(rescues);
    fs::write(state_dir.join(FILE_NAME), block.0)
}

/// The mailbox's file, if it is there; one of another size is damaged in every byte.
fn block_in(state_dir: &Path) -> Result<Option<Block>, MailboxError> {
    let path = state_dir.join(FILE_NAME);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(MailboxError::File { action: "open", path, source }),
    };
    // Recovery wrote below the file system: what this kernel may remember of the file is not what
    // the disk holds.
    let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    let mut bytes = Vec::with_capacity(MAILBOX_SIZE + 1);
    let read = file.take(MAILBOX_SIZE as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|source| MailboxError::File { action: "read", path, source })?;
    Ok(Some(Block(bytes.try_into().unwrap_or([0; MAILBOX_SIZE]))))
}

fn clear(state_dir: &Path) -> Result<(), MailboxError> {
    let path = state_dir.join(FILE_NAME);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(MailboxError::File { action: "remove", path, source: error })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_what_is_there_and_tells_what_is_not_right() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()).unwrap(), None);
        let path = directory.path().join(FILE_NAME);
        let word = Word { campaign: 9, reason: 4, flash_state: 1, text: "no link".into() };
        fs::write(&path, Block::full(&[1; NONCE_LEN], &word).0).unwrap();
        assert_eq!(read(directory.path()).unwrap(), Some(word));
        for length in [0, 4095, 4097] {
            fs::write(&path, vec![0; length]).unwrap();
            assert!(matches!(read(directory.path()), Err(MailboxError::Malformed(_))));
        }
        clear(directory.path()).unwrap();
        clear(directory.path()).unwrap();
        assert_eq!(read(directory.path()).unwrap(), None);
    }

    /// An archive in an initramfs is older than the last word that the agent has read.
    #[test]
    fn a_mailbox_stays_where_it_is_and_a_damaged_one_is_made_anew() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let Ok(place) = prepare(directory.path()) else {
            eprintln!("no file system here that has a place for it");
            return;
        };
        let path = directory.path().join(FILE_NAME);
        let nonce = super::super::word::parse_nonce(&place.nonce).unwrap();
        let word = Word { campaign: 9, reason: 4, flash_state: 1, text: "no link".into() };
        let rescues = Rescues::default().with(7);
        fs::write(&path, Block::full(&nonce, &word).with_rescues(&rescues).0).unwrap();
        assert_eq!(read(directory.path()).unwrap(), Some(word));
        assert_eq!(prepare(directory.path()).unwrap().nonce, place.nonce);
        assert_eq!(read(directory.path()).unwrap(), None);
        assert_eq!(block_in(directory.path()).unwrap().unwrap().rescues(), rescues);
        for damaged in [vec![0; 4096], vec![0xff; 5000], Vec::new()] {
            fs::write(&path, damaged).unwrap();
            assert_ne!(prepare(directory.path()).unwrap().nonce, place.nonce);
            assert_eq!(fs::read(&path).unwrap().len(), MAILBOX_SIZE);
        }
    }

    #[test]
    fn rescues_are_forgotten_and_the_word_stays() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(forget_rescues(directory.path()).unwrap(), 0);
        let path = directory.path().join(FILE_NAME);
        let word = Word { campaign: 9, reason: 4, flash_state: 1, text: "no link".into() };
        let rescues = Rescues::of(&[1, 2]);
        fs::write(&path, Block::full(&[1; NONCE_LEN], &word).with_rescues(&rescues).0).unwrap();
        assert_eq!(forget_rescues(directory.path()).unwrap(), 2);
        assert_eq!(forget_rescues(directory.path()).unwrap(), 0);
        assert_eq!(read(directory.path()).unwrap(), Some(word));
    }

    #[test]
    fn leaves_nothing_behind_where_it_cannot_be() {
        let shared_memory = Path::new("/dev/shm");
        if !shared_memory.is_dir() {
            eprintln!("no tmpfs here to try");
            return;
        }
        let directory = tempfile::tempdir_in(shared_memory).unwrap();
        assert!(matches!(prepare(directory.path()), Err(MailboxError::Unsuitable { .. })));
        assert!(!directory.path().join(FILE_NAME).exists());
        assert!(matches!(prepare(Path::new("/nonexistent")), Err(MailboxError::File { .. })));
    }
}
