//! What happens in a campaign, one JSON object per event: for `--json`, and for the record.
//!
//! Every object has `time` (RFC 3339, UTC), `campaign` (16 hexadecimal digits) and `event`; the
//! other fields follow from `event`. docs/EVENTS.md lists them for users. Fields may be added; none
//! changes its meaning.
//!
//! `facts`: what is known before; `narrator`: events of the campaign as news; `result`: how it
//! ended for a host; `words`: all of it in words.

mod facts;
mod narrator;
mod result;
mod words;

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::clock;
pub use facts::{BundleFacts, HostFacts, Kind};
pub use narrator::Narrator;
pub use result::{Foreseen, HostResult, StageTime};
pub use words::count_of_hosts;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When, RFC 3339 in UTC.
    pub time: String,
    /// Campaign, 16 hexadecimal digits.
    pub campaign: String,
    /// What happened.
    #[serde(flatten)]
    pub news: News,
}

impl Entry {
    /// An entry about something that happens now.
    pub fn now(campaign: u64, news: News) -> Self {
        Self { time: clock::rfc3339(SystemTime::now()), campaign: campaign_text(campaign), news }
    }

    /// The entry as one line of JSON, without line end.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A campaign's number as it is written everywhere.
pub fn campaign_text(campaign: u64) -> String {
    format!("{campaign:016x}")
}

/// Pieces of an image that a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pieces {
    /// How many it carries.
    pub sent: usize,
    /// How many the image has.
    pub of: usize,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum News {
    /// The campaign begins; nothing was sent yet.
    Started {
        /// What the campaign is for; absent in records of updates before there were kinds.
        #[serde(default)]
        kind: Kind,
        /// What is brought to the hosts.
        bundle: BundleFacts,
        /// `broadcast`, `multicast` or `unicast`.
        delivery: String,
        /// Cap on the rate.
        rate_mbit: u32,
        /// Whether hosts give their backup into keeping before their flash is changed.
        #[serde(default)]
        escrow: bool,
        /// Whether hosts are only asked what an update would change: `kind` says so too.
        #[serde(default)]
        dry_run: bool,
        /// Checks whose problem the operator accepted, by name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        accepted: Vec<String>,
        /// The hosts; of a rescue none, because they call one after the other.
        hosts: Vec<HostFacts>,
    },
    /// A host came to another stage.
    Stage {
        /// Host name.
        host: String,
        /// Name of the stage.
        stage: String,
    },
    /// A host got on. Not kept in the record.
    Progress {
        /// Host name.
        host: String,
        /// Name of the stage.
        stage: String,
        /// What the host says it does.
        phase: String,
        /// Steps done: fragments, or eraseblocks while the chip is read or written.
        done: u32,
        /// Steps in all.
        total: u32,
        /// Fragments lost on the way to this host so far, when known.
        #[serde(skip_serializing_if = "Option::is_none")]
        loss_percent: Option<f64>,
    },
    /// The stream of fragments began.
    TransferStarted {
        /// Hosts that had joined by then.
        hosts: usize,
        /// What of the image it carries, where that is not all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pieces: Option<Pieces>,
    },
    /// A host's backup is durable; from here on its flash may be changed.
    BackupStored {
        /// Host name.
        host: String,
        /// SHA-256 of the backup.
        sha256: String,
        /// Its size.
        size_bytes: u64,
    },
    /// The campaign is over for a host.
    Result(Box<HostResult>),
    /// The operator interrupted the campaign.
    Interrupted,
    /// Something that the operator must know, which does not end the campaign.
    Warning {
        /// What.
        message: String,
    },
    /// The campaign is over.
    Finished {
        /// What the campaign was for.
        #[serde(default)]
        kind: Kind,
        /// Hosts that ended well.
        confirmed: usize,
        /// The others; in a rescue, attempts.
        failed: usize,
    },
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is told of a key that several machines have.
pub(crate) fn twins_text(host: &str) -> String {
    format!(
        "CONFLICT: several machines answer with the key of {host}, as copies of one disk do; give \
         all but one a new key (remove host.key from their state_dir, restart firmcastd) and enrol \
         them"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::campaign::Outcome;
    use firmcast::reason::{Condition, Ending, FlashState, Reason};

    #[test]
    fn a_line_has_the_documented_fields_and_is_read_again() {
        let outcome = Outcome {
            ending: Ending::new(
                Reason::WriteFailed,
                FlashState::Restored(Condition::Doubtful),
                "eraseblock at 0x1000",
            ),
            bios_version: None,
            digests: Some(([1; 32], [2; 32])),
            programs: None,
        };
        let result = News::Result(Box::new(HostResult::new(Kind::Update, "a", &outcome)));
        let entry = Entry { news: result, ..Entry::now(0xabc, News::Interrupted) };
        let json: serde_json::Value = serde_json::from_str(&entry.to_line()).unwrap();
        assert_eq!(json["campaign"], "0000000000000abc");
        assert_eq!(json["event"], "result");
        assert_eq!((&json["host"], &json["reason"]), (&"a".into(), &"write-failed".into()));
        assert_eq!((&json["flash"], &json["reboot_safe"]), (&"restored".into(), &true.into()));
        assert_eq!(json["condition"], "doubtful");
        assert_eq!(json["sha256_after"], "02".repeat(32));
        assert_eq!(serde_json::from_str::<Entry>(&entry.to_line()).unwrap(), entry);
    }

    #[test]
    fn a_dry_run_tells_of_firmware_that_looks_doubtful() {
        let flash = FlashState::Untouched(Condition::Doubtful);
        let outcome = Outcome {
            ending: Ending::new(Reason::Possible, flash, "at most 1 of 2 eraseblocks change"),
            bios_version: None,
            digests: None,
            programs: None,
        };
        let result = HostResult::new(Kind::DryRun, "a", &outcome);
        let text = HostResult { doubt: Some("checksum of file X".into()), ..result }.to_text();
        let expected = "an update could start: at most 1 of 2 eraseblocks change; its firmware is \
                        doubtful: checksum of file X";
        assert_eq!(text, expected);
    }
}
