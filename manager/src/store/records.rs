//! The durable record of campaigns: one file each, one JSON object per line, made durable before
//! the manager goes on.
//!
//! The file lies in `campaigns/` of the state directory, named by time and campaign. While a
//! manager works on the campaign it holds a lock on the file, so that history can tell a running
//! campaign from one whose manager died.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, fallocate};
use thiserror::Error;

use super::{owner, whole_file};
use crate::news::{Entry, News};

/// Room that is reserved for a campaign, so that a full disk shows before it starts.
const RESERVED_BYTES: i64 = 64 * 1024;
const RESERVED_BYTES_PER_HOST: i64 = 4 * 1024;

/// The longest line that is read: the first one of a campaign of
/// [`HOSTS_MAX`](crate::campaign::config::HOSTS_MAX) hosts.
const LINE_SIZE_MAX: u64 = 16 * 1024 * 1024;

/// Why a record could not be kept or read.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The record of this campaign is not kept.
    #[error("cannot {action} {path} (make room, or choose another --state directory)")]
    NotKept {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Nobody can tell which hosts another campaign works on.
    #[error(
        "cannot tell from {path} which hosts are in a campaign: make it readable, or move it away \
         when \
         no manager works on it"
    )]
    Unreadable {
        /// The record, or its directory.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
}

/// The record of the campaign that this manager works on.
#[derive(Debug)]
pub struct CampaignRecord {
    file: Flock<File>,
    path: PathBuf,
    /// The last line may lack its end.
    is_torn: bool,
}

/// Where the records lie.
pub fn directory(state: &Path) -> PathBuf {
    state.join("campaigns")
}

impl CampaignRecord {
    /// Begins the record with its first entry, durably, with room for all that may come.
    ///
    /// # Errors
    /// When the directory or file cannot be made, written or made durable: the campaign must not
    /// start.
    pub fn create(state: &Path, started: &Entry, hosts: usize) -> Result<Self, RecordError> {
        let directory = directory(state);
        owner::make_directory(&directory).map_err(failed("create", &directory))?;
        let time: String = started.time.chars().filter(char::is_ascii_alphanumeric).collect();
        let path = directory.join(format!("{time}-{}.jsonl", started.campaign));
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("create", &path))?;
        let mut record = owner::hand_over(&file, &path)
            .map_err(failed("hand over", &path))
            .and_then(|()| Self::begin(file, path.clone(), hosts))
            .inspect_err(|_| drop(fs::remove_file(&path)))?;
        record
            .append(std::slice::from_ref(started))
            .inspect_err(|_| drop(fs::remove_file(&path)))?;
        File::open(&directory)
            .and_then(|dir| dir.sync_all())
            .map_err(failed("sync", &directory))?;
        Ok(record)
    }

    fn begin(file: File, path: PathBuf, hosts: usize) -> Result<Self, RecordError> {
        let hosts = i64::try_from(hosts).unwrap_or(i64::MAX);
        let length = hosts.saturating_mul(RESERVED_BYTES_PER_HOST).saturating_add(RESERVED_BYTES);
        match fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length) {
            // Not every file system can reserve.
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {}
            Err(errno) => return Err(failed("reserve room for", &path)(errno.into())),
        }
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { file, path, is_torn: false }),
            Err((_, errno)) => Err(failed("lock", &path)(errno.into())),
        }
    }

    /// Appends entries and makes them durable.
    ///
    /// # Errors
    /// When they cannot be written or made durable; some may stand there then.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), RecordError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut lines = String::from(if self.is_torn { "\n" } else { "" });
        for entry in entries {
            lines += &entry.to_line();
            lines.push('\n');
        }
        let written = self.file.write_all(lines.as_bytes()).and_then(|()| self.file.sync_data());
        self.is_torn = written.is_err();
        written.map_err(failed("write", &self.path))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The right to start a campaign, which one process has at a time: between the look at those that
/// are running and the record of its own.
#[derive(Debug)]
pub struct StartTurn {
    _lock: Flock<File>,
}

impl StartTurn {
    /// Waits for the turn; it ends when the result is dropped.
    ///
    /// # Errors
    /// When the lock cannot be made, or another process does not end to start a campaign.
    pub fn take(state: &Path) -> Result<Self, RecordError> {
        owner::make_directory(state).map_err(failed("create", state))?;
        let path = state.join("campaigns.lock");
        let lock = whole_file::lock(&path).map_err(failed("lock", &path))?;
        Ok(Self { _lock: lock })
    }
}

/// The first entries of all campaigns that a manager works on right now, without the hosts for
/// which they are over.
///
/// # Errors
/// When the directory or a record cannot be read, or the record of a running campaign is damaged:
/// its hosts could be told two things at once.
pub fn running(state: &Path) -> Result<Vec<Entry>, RecordError> {
    let directory = directory(state);
    let mut running = Vec::new();
    for path in paths(state).map_err(unreadable(&directory))? {
        running.extend(running_entry(&path).map_err(unreadable(&path))?);
    }
    Ok(running)
}

/// The records of all campaigns, the oldest first.
///
/// # Errors
/// When the directory is there but cannot be read.
pub fn paths(state: &Path) -> io::Result<Vec<PathBuf>> {
    let files = match fs::read_dir(directory(state)) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for file in files {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn running_entry(path: &Path) -> io::Result<Option<Entry>> {
    let file = File::open(path)?;
    if !is_worked_on(&file)? {
        return Ok(None);
    }
    let (mut reader, mut line) = (BufReader::new(file), String::new());
    reader.by_ref().take(LINE_SIZE_MAX).read_line(&mut line)?;
    if line.is_empty() {
        // A rescue that begins just now; it has no hosts yet.
        return Ok(None);
    }
    let mut started: Entry = serde_json::from_str(&line)?;
    if let News::Started { hosts, .. } = &mut started.news {
        let ended = ended_hosts(reader)?;
        hosts.retain(|host| !ended.contains(&host.host));
    }
    Ok(Some(started))
}

/// Names of the hosts whose end is told in the rest of a record. What cannot be read there leaves
/// its host in the campaign.
fn ended_hosts(mut record: impl BufRead) -> io::Result<BTreeSet<String>> {
    let (mut ended, mut line) = (BTreeSet::new(), String::new());
    loop {
        line.clear();
        if record.by_ref().take(LINE_SIZE_MAX).read_line(&mut line)? == 0 {
            return Ok(ended);
        }
        if let Ok(Entry { news: News::Result(result), .. }) = serde_json::from_str(&line) {
            ended.insert(result.host);
        }
    }
}

/// Whether a manager works on the campaign of this record.
///
/// # Errors
/// When the file system cannot tell.
pub fn is_worked_on(record: &File) -> io::Result<bool> {
    match Flock::lock(record.try_clone()?, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// Whether news belong into the record; progress would only wear the disk.
pub fn is_kept(news: &News) -> bool {
    !matches!(news, News::Progress { .. })
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::NotKept { action, path, source }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::Unreadable { path, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use firmcast::reason::{Ending, FlashState, Reason};
    use serde_json::{Value, json};

    use super::*;
    use crate::campaign::Outcome;
    use crate::news::{HostResult, Kind};

    fn started() -> Entry {
        Entry::now(7, News::TransferStarted { hosts: 1, pieces: None })
    }

    fn started_with(hosts: &[&str]) -> Entry {
        let hosts: Vec<Value> = hosts
            .iter()
            .map(|host| json!({ "host": host, "address": "192.0.2.1:9847", "key": host }))
            .collect();
        let bundle = json!({
            "file": "b.fcb", "version": "2.0", "security_version": 1, "vendor": "V",
            "products": ["P"], "image_sha256": "", "image_size_bytes": 1, "payload_size_bytes": 1,
            "signer": "", "signature_checked": false,
        });
        let news = json!({
            "event": "started", "bundle": bundle, "delivery": "broadcast", "rate_mbit": 100,
            "hosts": hosts,
        });
        Entry::now(7, serde_json::from_value(news).unwrap())
    }

    #[test]
    fn entries_are_appended_as_lines() {
        let state = tempfile::tempdir().unwrap();
        let mut record = CampaignRecord::create(state.path(), &started(), 1).unwrap();
        record.append(&[Entry::now(7, News::Interrupted)]).unwrap();
        let text = fs::read_to_string(record.path()).unwrap();
        let events: Vec<Entry> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.len(), 2);
        assert_eq!(events[1].news, News::Interrupted);
        assert_eq!(running(state.path()).unwrap(), events[..1]);
        drop(record);
        assert_eq!(running(state.path()).unwrap(), []);
    }

    #[test]
    fn a_running_campaign_that_is_over_for_a_host_has_it_no_more() {
        let state = tempfile::tempdir().unwrap();
        let mut record =
            CampaignRecord::create(state.path(), &started_with(&["a", "b"]), 2).unwrap();
        let ending = Ending::new(Reason::Confirmed, FlashState::Updated, "");
        let outcome = Outcome { ending, bios_version: None, digests: None, programs: None };
        let result = HostResult::new(Kind::Update, "a", &outcome);
        record.append(&[Entry::now(7, News::Result(Box::new(result)))]).unwrap();
        assert_eq!(running(state.path()).unwrap()[0].news, started_with(&["b"]).news);
    }

    #[test]
    fn a_state_directory_that_cannot_be_written_is_noticed_at_the_start() {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join("file");
        fs::write(&file, "").unwrap();
        let error = CampaignRecord::create(&file, &started(), 1).unwrap_err().to_string();
        assert!(error.contains("--state") && error.contains("file/campaigns"), "{error}");
    }

    #[test]
    fn a_running_campaign_whose_record_is_damaged_is_not_nobodys_work() {
        let state = tempfile::tempdir().unwrap();
        let record = CampaignRecord::create(state.path(), &started(), 1).unwrap();
        fs::write(record.path(), "{").unwrap();
        let error = running(state.path()).unwrap_err().to_string();
        assert!(error.contains("which hosts") && error.contains("jsonl"), "{error}");
        drop(record);
        assert_eq!(running(state.path()).unwrap(), [], "nobody works on it any more");
    }

    #[test]
    fn a_full_disk_is_an_error_of_the_append() {
        // Every write to this device fails as on a full disk.
        let file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let file = Flock::lock(file, FlockArg::LockSharedNonblock).map_err(|(_, e)| e).unwrap();
        let mut record = CampaignRecord { file, path: "/dev/full".into(), is_torn: false };
        let error = record.append(&[started()]).unwrap_err();
        let RecordError::NotKept { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    }
}
