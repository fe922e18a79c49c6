use thiserror::Error;

use crate::model::{RolloutState, WaveState};

/// What a driver of a database says.
pub type DriverError = Box<dyn std::error::Error + Send + Sync>;

/// Why the store did not do something. Nothing is half done: either all of it happened, or nothing;
/// for [`StoreError::Gone`] the caller has to look which.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Text that no store keeps.
    #[error("{what} {problem}; change it and try again")]
    Text {
        /// Whose text.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// More than one call may ask for, or a number outside its range.
    #[error("{what} is {got}, expected at most {max}; ask for less at once")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much was asked for.
        got: u64,
        /// How much is allowed.
        max: u64,
    },
    /// Two hosts cannot have one key.
    #[error(
        "the key of host {name} belongs to host {owner} already; \
         give {name} a key of its own, or rename {owner}"
    )]
    KeyOfAnother {
        /// Who was to get the key.
        name: String,
        /// Who has it.
        owner: String,
    },
    /// There is a rollout of this name.
    #[error("there is a rollout named {name} already; give this one another name")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A host stands twice in one plan.
    #[error("host {host} is in the plan twice; name it in one wave only")]
    HostTwice {
        /// Its name.
        host: String,
    },
    /// The limits would not count a host, or count it in a way that nobody planned.
    #[error("the plan has host {host} in other domains than its limits count; make the plan again")]
    OtherDomains {
        /// Its name.
        host: String,
    },
    /// Nothing of this name or number.
    #[error("there is no {what} {name}; look at the list of them for its name")]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// Its name or number.
        name: String,
    },
    /// Somebody was faster, or the rollout is not where the caller believes.
    #[error(
        "rollout {name} is {} at revision {revision}, so it was not changed; \
         look at it again, then decide",
        super::words::word(state)
    )]
    RolloutMoved {
        /// The rollout.
        name: String,
        /// What it does now.
        state: RolloutState,
        /// Its revision now.
        revision: i64,
    },
    /// As [`StoreError::RolloutMoved`], for a wave.
    #[error(
        "wave {wave} is {} now, so it was not changed; look at the rollout again, then decide",
        super::words::word(state)
    )]
    WaveMoved {
        /// The wave, from 0.
        wave: u32,
        /// What it does now.
        state: WaveState,
    },
    /// A worker reports on a host that is another's by now.
    #[error(
        "the lease of {worker} on host {host} is lost{}; leave the host alone and claim again",
        holder.as_ref().map_or(String::new(), |name| format!(" to {name}"))
    )]
    LeaseLost {
        /// Who reported.
        worker: String,
        /// On which host.
        host: String,
        /// Who holds the lease now; nobody when the attempt has ended.
        holder: Option<String>,
    },
    /// A bundle was not put whole.
    #[error(
        "{got} of {expected} chunks of bundle {digest} are in the store; \
         add the bundle again with firmcast-fleet release add"
    )]
    Unfinished {
        /// Digest of the bundle.
        digest: String,
        /// How many are there.
        got: u64,
        /// How many it has.
        expected: u64,
    },
    /// A rollout needs the release.
    #[error("rollout {rollout} needs release {digest}; wait for its end, or abort it")]
    Needed {
        /// Digest of the release.
        digest: String,
        /// The rollout.
        rollout: String,
    },
    /// No connection with TLS, as the operator wants it.
    #[error("no safe connection to the database, nothing was sent: {problem}")]
    Tls {
        /// What is wrong, and what to do.
        problem: String,
    },
    /// No room on the disk.
    #[error("the store's disk is full, nothing was changed; free space there and try again")]
    Full {
        /// What the driver said.
        source: DriverError,
    },
    /// Another program holds the database for too long.
    #[error("the store is busy, nothing was changed; try again")]
    Busy {
        /// What the driver said.
        source: DriverError,
    },
    /// The connection broke, or could not be made.
    #[error(
        "the store cannot be reached, so the last change may be done or not; \
         the next call connects again: see that the database runs, or that its file can be read \
         and written, then look at the state"
    )]
    Gone {
        /// What the driver said.
        source: DriverError,
    },
    /// Made by a newer version of this program.
    #[error(
        "the store has schema {found}, this program knows up to {known}; \
         update this program, or restore the backup that was made before the store was updated"
    )]
    Newer {
        /// Of the store.
        found: i64,
        /// Of this program.
        known: i64,
    },
    /// Made by an older version, and nobody said that there is a backup.
    #[error(
        "the store has schema {found} and must be changed to {known}; make a backup with pg_dump, \
         then confirm that there is one"
    )]
    BackupNeeded {
        /// Of the store.
        found: i64,
        /// Of this program.
        known: i64,
    },
    /// What is in the store cannot be.
    #[error("the store is damaged: {problem}; restore a backup")]
    Damaged {
        /// What is wrong.
        problem: String,
    },
    /// The database refused otherwise.
    #[error("the store refused, nothing was changed; see the cause, and the database's own log")]
    Refused {
        /// What the driver said.
        source: DriverError,
    },
}
