//! The backups that hosts gave into the manager's keeping before their flash was changed.
//!
//! They lie in `backups/` of the state directory: the bytes in a file named by their SHA-256, and
//! beside it, with `.jsonl` behind the name, one JSON line for each time that a host gave these
//! bytes. Both are replaced as a whole and made durable before the host is told that it may change
//! its flash.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use firmcast::durable;
use firmcast::image::{Manifest, Region};
use firmcast::keys::{HostPublicKey, PublicKey as _};
use firmcast::wire::answer::Identity;
use firmcast::wire::broadcast::PAYLOAD_SIZE_MAX;
use nix::fcntl::Flock;
use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::{owner, whole_file};
use crate::campaign::{Backup, Host};
use crate::clock;
use crate::news::{campaign_text, hex};

/// The largest list of records of one backup that is read: some ten thousand hosts with the same
/// bytes.
const RECORDS_SIZE_MAX: u64 = 16 * 1024 * 1024;

/// Digits of a SHA-256 in hexadecimal.
const DIGEST_DIGITS: usize = 64;

/// Why a backup could not be kept or found.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The file system refused.
    #[error("cannot {action} {path} (make room, or choose another --state directory)")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Too little room for the backups of a campaign.
    #[error(
        "the backups of {hosts} hosts take {need} bytes, {path} has {free} free: make room, or \
         choose another --state \
         directory"
    )]
    NoRoom {
        /// Hosts of the campaign.
        hosts: usize,
        /// Bytes that their backups take.
        need: u64,
        /// Bytes that are there.
        free: u64,
        /// Where.
        path: PathBuf,
    },
    /// Not a record.
    #[error("{path} is damaged, its backup can be listed no more")]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A backup that rotted.
    #[error("{path} is damaged: expected SHA-256 {expected}, got {got}; do not restore it")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its name.
        expected: String,
        /// Digest of what it holds.
        got: String,
    },
}

/// One time that a host gave its backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// When, RFC 3339 in UTC.
    pub time: String,
    /// The campaign, 16 hexadecimal digits.
    pub campaign: String,
    /// SHA-256 of the backup: the name of its file.
    pub sha256: String,
    /// Size of the backup.
    pub size_bytes: u64,
    /// The host, as the operator called it.
    pub host: String,
    /// Fingerprint of its key.
    pub key: String,
    /// What it called itself.
    pub host_name: String,
    /// DMI `sys_vendor`.
    pub vendor: String,
    /// DMI `product_name`.
    pub product: String,
    /// DMI `bios_version` that ran from these bytes.
    pub bios_version: String,
    /// Its security version floor then.
    pub security_version_floor: u64,
    /// Regions that its firmware may change when it runs, as the bundle of the campaign named them.
    #[serde(default)]
    pub regions: Vec<RegionFacts>,
    /// What the host may not read: FFh in the backup, and never written back.
    #[serde(default)]
    pub closed: Vec<ClosedRange>,
}

/// A range of the chip that its host may not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedRange {
    /// First byte.
    pub offset_bytes: u64,
    /// Length.
    pub length_bytes: u64,
}

impl From<&Range<u32>> for ClosedRange {
    fn from(range: &Range<u32>) -> Self {
        let (start, end) = (u64::from(range.start), u64::from(range.end));
        Self { offset_bytes: start, length_bytes: end - start }
    }
}

impl BackupRecord {
    /// The record of a backup that `host` just gave in a campaign.
    pub fn now(campaign: u64, host: &Host, backup: &Backup, regions: Vec<RegionFacts>) -> Self {
        let target = host.target();
        let key = target.key.and_then(|key| HostPublicKey::from_exchange(key).ok());
        let identity = host.identity();
        let text = |of: fn(&Identity) -> &String| identity.map(of).cloned().unwrap_or_default();
        Self {
            time: clock::rfc3339(SystemTime::now()),
            campaign: campaign_text(campaign),
            sha256: hex(&backup.digest),
            size_bytes: backup.bytes.len() as u64,
            host: target.name.clone(),
            key: key.map(|key| key.fingerprint().to_string()).unwrap_or_default(),
            host_name: text(|identity| &identity.host_name),
            vendor: text(|identity| &identity.vendor),
            product: text(|identity| &identity.product),
            bios_version: text(|identity| &identity.bios_version),
            security_version_floor: identity.map_or(0, |identity| identity.security_version_floor),
            regions,
            closed: backup.closed.iter().map(ClosedRange::from).collect(),
        }
    }
}

/// A region of the chip that had a rule of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionFacts {
    /// Name, for people.
    pub name: String,
    /// First byte.
    pub offset_bytes: u64,
    /// Length.
    pub length_bytes: u64,
}

impl RegionFacts {
    /// Returns those of a bundle, by their places on the chip. Where its image covers a part, only
    /// each chip tells these.
    pub fn of(manifest: &Manifest) -> Vec<Self> {
        match manifest.parts() {
            [] => manifest.regions().iter().map(Self::from).collect(),
            _ => Vec::new(),
        }
    }
}

impl From<&Region> for RegionFacts {
    fn from(region: &Region) -> Self {
        let Region { name, offset_bytes, length_bytes, .. } = region.clone();
        Self { name, offset_bytes, length_bytes }
    }
}

/// Where backups are kept.
#[derive(Clone, Debug)]
pub struct BackupStore {
    directory: PathBuf,
}

impl BackupStore {
    /// The backups of this state directory; nothing is made or read yet.
    pub fn new(state: &Path) -> Self {
        Self { directory: state.join("backups") }
    }

    /// Makes sure that the backups of a campaign will find room.
    ///
    /// # Errors
    /// When the directory cannot be made, or has too little room: the campaign must not start.
    pub fn prepare(&self, hosts: usize, size_bytes: usize) -> Result<(), BackupError> {
        let directory = &self.directory;
        owner::make_directory(directory).map_err(failed("create", directory))?;
        let space =
            statvfs(directory).map_err(|errno| failed("look at", directory)(errno.into()))?;
        let free = space.blocks_available().saturating_mul(space.fragment_size());
        let need = (hosts as u64).saturating_mul(size_bytes as u64);
        match need > free {
            true => Err(BackupError::NoRoom { hosts, need, free, path: directory.clone() }),
            false => Ok(()),
        }
    }

    /// Keeps the backup that `host` just gave in a campaign, durably.
    ///
    /// # Errors
    /// As [`BackupStore::put`], and [`BackupError::NoRoom`].
    pub fn keep(
        &self,
        campaign: u64,
        host: &Host,
        backup: &Backup,
        regions: Vec<RegionFacts>,
    ) -> Result<(), BackupError> {
        self.prepare(1, backup.bytes.len())?;
        let record = BackupRecord::now(campaign, host, backup, regions);
        self.put(&record, &backup.bytes).map(drop)
    }

    /// Keeps `bytes`, whose SHA-256 `record` names, durably. A backup that is there already gets
    /// one more record.
    ///
    /// # Errors
    /// When anything could not be written and made durable: the host must not change its flash.
    pub fn put(&self, record: &BackupRecord, bytes: &[u8]) -> Result<PathBuf, BackupError> {
        // Another manager may keep the same bytes of another host right now.
        let _alone = self.lock()?;
        self.clear().map_err(failed("clear", &self.directory))?;
        let path = self.directory.join(&record.sha256);
        whole_file::replace(&path, bytes).map_err(failed("write", &path))?;
        let records = records_path(&path);
        let mut lines = match read_limited(&records, RECORDS_SIZE_MAX) {
            Ok(lines) => lines,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed("read", &records)(error)),
        };
        lines.extend(serde_json::to_string(record).unwrap_or_default().into_bytes());
        lines.push(b'\n');
        whole_file::replace(&records, &lines).map_err(failed("write", &records))?;
        Ok(path)
    }

    /// All records, the oldest first, and what could not be read.
    ///
    /// # Errors
    /// When the directory is there but cannot be read.
    pub fn list(&self) -> Result<(Vec<BackupRecord>, Vec<BackupError>), BackupError> {
        let files = match std::fs::read_dir(&self.directory) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
            Err(error) => return Err(failed("read", &self.directory)(error)),
        };
        let (mut records, mut problems) = (Vec::new(), Vec::new());
        for file in files {
            let path = file.map_err(failed("read", &self.directory))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_ours = name.strip_suffix(".jsonl").is_some_and(is_digest);
            if is_ours {
                match read_records(&path) {
                    Ok(found) => records.extend(found),
                    Err(error) => problems.push(error),
                }
            }
        }
        records.sort_by(|a, b| (&a.time, &a.host).cmp(&(&b.time, &b.host)));
        Ok((records, problems))
    }

    /// The bytes of the backup with this SHA-256, checked.
    ///
    /// # Errors
    /// When they cannot be read, or are no longer what was stored.
    pub fn read(&self, sha256: &str) -> Result<Vec<u8>, BackupError> {
        let path = self.directory.join(sha256);
        let bytes = read_limited(&path, PAYLOAD_SIZE_MAX.into()).map_err(failed("read", &path))?;
        let got = hex(&Sha256::digest(&bytes));
        match got == sha256 {
            true => Ok(bytes),
            false => Err(BackupError::Damaged { path, expected: sha256.to_owned(), got }),
        }
    }

    /// Removes what a power cut has left of backups, which may never come again.
    fn clear(&self) -> io::Result<()> {
        for file in std::fs::read_dir(&self.directory)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "new") {
                durable::remove_leftover(&path.with_extension(""));
            }
        }
        Ok(())
    }

    fn lock(&self) -> Result<Flock<File>, BackupError> {
        let path = self.directory.with_extension("lock");
        whole_file::lock(&path).map_err(failed("lock", &path))
    }
}

fn is_digest(name: &str) -> bool {
    name.len() == DIGEST_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn records_path(backup: &Path) -> PathBuf {
    backup.with_extension("jsonl")
}

fn read_records(path: &Path) -> Result<Vec<BackupRecord>, BackupError> {
    let lines = read_limited(path, RECORDS_SIZE_MAX).map_err(failed("read", path))?;
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(serde_json::from_slice)
        .collect::<Result<_, _>>()
        .map_err(|source| BackupError::Record { path: path.to_owned(), source })
}

fn read_limited(path: &Path, size_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(size_max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > size_max {
        true => Err(io::Error::other(format!("it is larger than {size_max} bytes"))),
        false => Ok(bytes),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn record(host: &str, bytes: &[u8]) -> BackupRecord {
        BackupRecord {
            time: format!("2026-01-01T00:00:00.00{}Z", host.len()),
            campaign: "1".into(),
            sha256: hex(&Sha256::digest(bytes)),
            size_bytes: bytes.len() as u64,
            host: host.into(),
            key: "SHA256:x".into(),
            host_name: host.into(),
            vendor: "V".into(),
            product: "P".into(),
            bios_version: "1.0".into(),
            security_version_floor: 3,
            regions: vec![RegionFacts { name: "vars".into(), offset_bytes: 0, length_bytes: 2 }],
            closed: Vec::new(),
        }
    }

    #[test]
    fn equal_backups_share_a_file_and_each_host_has_its_record() {
        let state = tempfile::tempdir().unwrap();
        let store = BackupStore::new(state.path());
        assert!(store.list().unwrap().0.is_empty(), "nothing is there yet");
        store.prepare(2, 4).unwrap();
        let (a, b, other) = (record("a", b"same"), record("bb", b"same"), record("ccc", b"more"));
        let path = store.put(&b, b"same").unwrap();
        store.put(&a, b"same").unwrap();
        store.put(&other, b"more").unwrap();
        // What a manager leaves that dies while it writes, and what stays until the next backup.
        let leftover = path.with_file_name("0123.jsonl.new");
        std::fs::write(&leftover, "half").unwrap();
        let (records, problems) = store.list().unwrap();
        assert_eq!(records, [a.clone(), b, other]);
        assert!(problems.is_empty());
        assert_eq!(store.read(&a.sha256).unwrap(), b"same");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        store.put(&a, b"same").unwrap();
        assert!(!leftover.exists());
    }

    #[test]
    fn a_rotten_backup_and_a_rotten_record_are_told() {
        let state = tempfile::tempdir().unwrap();
        let store = BackupStore::new(state.path());
        store.prepare(1, 4).unwrap();
        let record = record("a", b"good");
        let path = store.put(&record, b"good").unwrap();
        std::fs::write(&path, "evil").unwrap();
        assert!(matches!(store.read(&record.sha256), Err(BackupError::Damaged { .. })));
        // Stored again, it is whole again.
        store.put(&record, b"good").unwrap();
        assert_eq!(store.read(&record.sha256).unwrap(), b"good");
        std::fs::write(records_path(&path), "{").unwrap();
        let (records, problems) = store.list().unwrap();
        assert!(records.is_empty() && problems.len() == 1, "{problems:?}");
    }

    #[test]
    fn too_little_room_is_noticed_before_a_campaign_starts() {
        let state = tempfile::tempdir().unwrap();
        let error = BackupStore::new(state.path()).prepare(usize::MAX, 1 << 24).unwrap_err();
        assert!(matches!(error, BackupError::NoRoom { .. }), "{error}");
        std::fs::write(state.path().join("file"), "").unwrap();
        let error = BackupStore::new(&state.path().join("file")).prepare(1, 1).unwrap_err();
        assert!(error.to_string().contains("--state"), "{error}");
    }
}
