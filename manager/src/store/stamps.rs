//! The stamps of a manager's key: `stamps.json` in the state directory.
//!
//! A host takes a call or a question only with a stamp above all that it has seen of the key. The
//! clock gives the stamps, but a clock can be set back, and then no host would listen any more. So
//! the last stamp of each key is kept, and the next one is above it whatever the clock says.
//! Several processes use one key: each reserves its stamps before it uses them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use firmcast::keys::{ManagerPublicKey, PublicKey as _};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{owner, whole_file};
use crate::clock;

/// Stamps that a campaign reserves at a time: more than its hosts can be called in
/// [`RENEWAL_INTERVAL`], and about a second of the clock.
pub const CAMPAIGN_STAMPS: u64 = 1 << 20;

/// How often a campaign reserves stamps anew, so that they follow the clock. Another machine with
/// the same key shuts this one out for no longer than this.
pub const RENEWAL_INTERVAL: Duration = Duration::from_secs(10);

/// Maximum number of keys whose last stamp is kept.
const KEYS_MAX: usize = 4096;

/// Largest file that is read, in bytes.
const FILE_SIZE_MAX: u64 = 1024 * 1024;

/// How far the last stamp may be after the clock before that is told. Campaigns reserve ahead.
const AHEAD_MAX: Duration = Duration::from_secs(300);

/// How far the clock may be after the last stamp before that is told.
const BEHIND_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// The only form of the file so far.
const FORM: u32 = 1;

/// Why no stamps could be reserved.
#[derive(Debug, Error)]
pub enum StampError {
    /// The file system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file does not hold stamps.
    #[error(
        "{path} does not hold stamps: {reason}; move it away when the clock is right, and has \
         never been ahead"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// How far clock and last stamp are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The last stamp is so far after the clock.
    ClockBehind(Duration),
    /// The clock is so far after the last stamp.
    ClockAhead(Duration),
}

impl Gap {
    /// What an operator has to know of it.
    pub fn to_text(self) -> String {
        match self {
            Self::ClockBehind(by) => format!(
                "the clock is {} behind the last stamp of this key: it was set back, or had been \
                 ahead. Hosts are called with later stamps; another machine with this key is \
                 heard again once it was told of them (OPERATIONS.md)",
                span_text(by)
            ),
            Self::ClockAhead(by) => format!(
                "the clock is {} after the last stamp of this key: if it is wrong, set it right \
                 first. Hosts remember the latest stamp, and heed no earlier one",
                span_text(by)
            ),
        }
    }
}

fn span_text(span: Duration) -> String {
    match span.as_secs() {
        seconds if seconds < 2 * 3600 => format!("{} min", seconds / 60),
        seconds if seconds < 2 * 24 * 3600 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / (24 * 3600)),
    }
}

/// Stamps that nobody else uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// The first one; as many follow as were wanted.
    pub first: u64,
    /// A large gap between the clock and the last stamp.
    pub gap: Option<Gap>,
}

/// The stamps of one key.
#[derive(Clone, Debug)]
pub struct Stamps {
    state: PathBuf,
    key: String,
}

/// The file: the last stamp of each key, by its fingerprint.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    form: u32,
    last: BTreeMap<String, u64>,
}

impl Stamps {
    /// The stamps of `key`, kept in this state directory; nothing is made or read yet.
    pub fn new(state: &Path, key: &ManagerPublicKey) -> Self {
        Self { state: state.to_owned(), key: key.fingerprint().to_string() }
    }

    /// Reserves `count` stamps, durably: above all that were reserved before, and not before `now`.
    ///
    /// # Errors
    /// When they cannot be kept; they must not be used then.
    pub fn reserve(&self, now: SystemTime, count: u64) -> Result<Reserved, StampError> {
        let clock = clock::unix_micros(now);
        let mut reserved = Reserved { first: clock, gap: None };
        self.change(|last| {
            let first = last.map_or(clock, |last| clock.max(last.saturating_add(1)));
            reserved = Reserved { first, gap: last.and_then(|last| gap(clock, last)) };
            first.saturating_add(count.max(1) - 1)
        })?;
        Ok(reserved)
    }

    fn change(&self, next: impl FnOnce(Option<u64>) -> u64) -> Result<(), StampError> {
        owner::make_directory(&self.state).map_err(self.failed("create the directory of"))?;
        let lock = self.state.join("stamps.lock");
        let _alone = whole_file::lock(&lock).map_err(self.failed("lock"))?;
        let mut kept = self.load()?;
        let next = next(kept.last.get(&self.key).copied());
        kept.last.insert(self.key.clone(), next);
        if kept.last.len() > KEYS_MAX {
            // The key that was used longest ago is not likely to be used again.
            let others = kept.last.iter().filter(|(key, _)| **key != self.key);
            let oldest = others.min_by_key(|(_, last)| **last);
            let oldest = oldest.map(|(key, _)| key.clone()).unwrap_or_default();
            kept.last.remove(&oldest);
        }
        let text = serde_json::to_string(&kept).map_err(io::Error::from);
        let text = text.map_err(self.failed("encode"))? + "\n";
        whole_file::replace(&self.path(), text.as_bytes()).map_err(self.failed("write"))
    }

    fn load(&self) -> Result<Kept, StampError> {
        let file = match File::open(self.path()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Kept { form: FORM, last: BTreeMap::new() });
            }
            Err(error) => return Err(self.failed("read")(error)),
        };
        let mut text = String::new();
        file.take(FILE_SIZE_MAX).read_to_string(&mut text).map_err(self.failed("read"))?;
        let damaged = |reason| StampError::Damaged { path: self.path(), reason };
        let kept: Kept = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        match kept.form {
            FORM => Ok(kept),
            other => Err(damaged(format!("form {other}, expected {FORM}"))),
        }
    }

    fn path(&self) -> PathBuf {
        self.state.join("stamps.json")
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> StampError {
        let path = self.path();
        move |source| StampError::Io { action, path, source }
    }
}

fn gap(clock: u64, last: u64) -> Option<Gap> {
    let ahead = Duration::from_micros(last.saturating_sub(clock));
    let behind = Duration::from_micros(clock.saturating_sub(last));
    if ahead > AHEAD_MAX {
        return Some(Gap::ClockBehind(ahead));
    }
    (behind > BEHIND_MAX).then_some(Gap::ClockAhead(behind))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::time::UNIX_EPOCH;

    use firmcast::keys::{ManagerSecretKey, SecretKey as _};
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    fn stamps(state: &Path, key: u8) -> Stamps {
        let secret = ManagerSecretKey::generate(&mut ChaCha20Rng::from_seed([key; 32]));
        Stamps::new(state, &secret.public())
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn stamps_grow_although_the_clock_goes_back() {
        let state = tempfile::tempdir().unwrap();
        let stamps = stamps(state.path(), 1);
        let right = stamps.reserve(at(1_000_000_000), 10).unwrap();
        assert_eq!(right, Reserved { first: 1_000_000_000_000_000, gap: None });
        // Reserved is reserved, also when nothing of it was used.
        let next = stamps.reserve(at(1_000_000_000), 1).unwrap();
        assert_eq!(next.first, right.first + 10);

        let later = stamps.reserve(at(2_000_000_000), 1).unwrap();
        assert_eq!(later.first, 2_000_000_000_000_000);
        assert!(matches!(later.gap, Some(Gap::ClockAhead(_))), "{later:?}");
        let back = stamps.reserve(at(1_000_000_060), 5).unwrap();
        assert_eq!(back.first, later.first + 1);
        let text = back.gap.unwrap().to_text();
        assert!(text.contains("11574 days behind"), "{text}");
    }

    #[test]
    fn each_key_has_its_own() {
        let state = tempfile::tempdir().unwrap();
        let (one, other) = (stamps(state.path(), 1), stamps(state.path(), 2));
        one.reserve(at(7_000), 1).unwrap();
        assert_eq!(one.reserve(at(1_001), 1).unwrap().first, 7_000_000_001);
        assert_eq!(other.reserve(at(1_001), 1).unwrap().first, 1_001_000_000);
    }

    #[test]
    fn processes_that_reserve_at_once_share_no_stamp() {
        let state = tempfile::tempdir().unwrap();
        let reserve = |_| {
            let stamps = stamps(state.path(), 1);
            std::thread::spawn(move || {
                let firsts = (0..20).map(|_| stamps.reserve(at(5), 3).unwrap().first);
                firsts.collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (0..4).map(reserve).collect();
        let mut firsts: Vec<u64> =
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        firsts.sort_unstable();
        let expected: Vec<u64> = (0..80).map(|nth| 5_000_000 + 3 * nth).collect();
        assert_eq!(firsts, expected);
    }

    #[test]
    fn a_damaged_file_is_told_and_not_taken_for_an_empty_one() {
        let state = tempfile::tempdir().unwrap();
        let stamps = stamps(state.path(), 1);
        stamps.reserve(at(5), 1).unwrap();
        let text = fs::read_to_string(stamps.path()).unwrap();
        for length in 0..text.trim_end().len() {
            fs::write(stamps.path(), &text[..length]).unwrap();
            let error = stamps.reserve(at(5), 1).unwrap_err().to_string();
            assert!(error.contains("stamps.json"), "{error}");
        }
    }
}
