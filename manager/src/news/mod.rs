//! What happens in a campaign, one JSON object per event: for `--json`, and for the record.
//!
//! Every object has `time` (RFC 3339, UTC), `campaign` (16 hexadecimal digits) and `event`; the other fields follow from
//! `event`. docs/EVENTS.md lists them for users; new fields may be added, none changes its meaning.

use std::time::SystemTime;

use firmcast::image::Manifest;
use firmcast::keys::Fingerprint;
use firmcast::reason::{FlashState, Reason};
use serde::{Deserialize, Serialize};

use crate::campaign::{Host, Outcome, Stage, Stream};
use crate::clock;

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

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum News {
    /// The campaign begins; nothing was sent yet.
    Started {
        /// What is brought to the hosts.
        bundle: BundleFacts,
        /// `broadcast`, `multicast` or `unicast`.
        delivery: String,
        /// Cap on the rate.
        rate_mbit: u32,
        /// Whether hosts give their backup into keeping before their flash is changed.
        #[serde(default)]
        escrow: bool,
        /// Whether hosts are only asked what an update would change.
        #[serde(default)]
        dry_run: bool,
        /// The hosts.
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
        /// Hosts that run the new firmware.
        confirmed: usize,
        /// The others.
        failed: usize,
    },
}

/// What is known of the bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BundleFacts {
    /// File that it came from.
    pub file: String,
    /// Version of the firmware.
    pub version: String,
    /// Its security version.
    pub security_version: u64,
    /// Vendor of the boards.
    pub vendor: String,
    /// Products that it is for.
    pub products: Vec<String>,
    /// SHA-256 of the image.
    pub image_sha256: String,
    /// Size of the image.
    pub image_size_bytes: u64,
    /// Size of the payload as it travels.
    pub payload_size_bytes: u64,
    /// Fingerprint of the release key that signed it.
    pub signer: String,
    /// Whether the signature was checked against a key that the operator gave.
    pub signature_checked: bool,
}

impl BundleFacts {
    /// What is known of the bundle in `file`.
    pub fn new(
        file: String,
        manifest: &Manifest,
        signer: &Fingerprint,
        signature_checked: bool,
    ) -> Self {
        Self {
            file,
            version: manifest.version().to_owned(),
            security_version: manifest.security_version(),
            vendor: manifest.vendor().to_owned(),
            products: manifest.products().to_vec(),
            image_sha256: hex(manifest.image_digest()),
            image_size_bytes: manifest.image_size_bytes() as u64,
            payload_size_bytes: manifest.payload_size_bytes() as u64,
            signer: signer.to_string(),
            signature_checked,
        }
    }
}

/// One of the hosts of a campaign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Name or address, as the operator gave it.
    pub host: String,
    /// Where its agent listens.
    pub address: String,
    /// Fingerprint of its key; none when it did not answer.
    pub key: Option<String>,
}

/// How it ended for one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostResult {
    /// Host name.
    pub host: String,
    /// Whether it was seen running the new firmware, or was dead and repaired itself.
    pub confirmed: bool,
    /// Name of the reason.
    pub reason: String,
    /// Code of the reason.
    pub code: u16,
    /// The reason in words.
    pub message: String,
    /// What to do next.
    pub advice: String,
    /// What more is known, maybe empty.
    pub detail: String,
    /// `untouched`, `updated`, `restored`, `damaged` or `unknown`.
    pub flash: String,
    /// Whether the host may be reset: the chip holds all of the old or all of the new image.
    pub reboot_safe: bool,
    /// DMI BIOS version after the boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bios_version: Option<String>,
    /// SHA-256 of the whole chip before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256_before: Option<String>,
    /// SHA-256 of the whole chip after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256_after: Option<String>,
}

impl HostResult {
    /// The outcome of `host`.
    pub fn new(host: &str, outcome: &Outcome) -> Self {
        let Outcome { reason, flash, detail, bios_version, digests } = outcome;
        Self {
            host: host.to_owned(),
            confirmed: outcome.is_confirmed(),
            reason: reason.name().to_owned(),
            code: reason.code(),
            message: reason.sentence().to_owned(),
            advice: reason.advice().to_owned(),
            detail: detail.clone(),
            flash: flash.map_or("unknown", FlashState::name).to_owned(),
            reboot_safe: flash.is_some_and(FlashState::reboot_is_safe),
            bios_version: bios_version.clone(),
            sha256_before: digests.map(|(before, _)| hex(&before)),
            sha256_after: digests.map(|(_, after)| hex(&after)),
        }
    }

    /// One line for people.
    pub fn to_text(&self) -> String {
        let Self { message, detail, advice, flash, .. } = self;
        let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
        if self.code == Reason::Rescued.code() {
            return message.clone();
        }
        if self.confirmed {
            let version = self.bios_version.as_deref().unwrap_or("unknown");
            return format!("confirmed, BIOS version {version}");
        }
        let reboot = if self.reboot_safe { "safe" } else { "NOT known to be safe" };
        format!("FAILED: {message}{detail}; flash {flash}, reset {reboot}; {advice}")
    }
}

/// News of a host's stage.
pub fn stage(host: &str, stage: Stage) -> News {
    News::Stage { host: host.to_owned(), stage: stage.name().to_owned() }
}

/// News of how far a host is in its stage.
pub fn progress(stream: &Stream, index: usize, host: &Host) -> News {
    let progress = stream.host_progress(index);
    let loss_percent = progress.map(|progress| (progress.loss * 1000.0).round() / 10.0);
    let (done, total) = host.progress();
    News::Progress {
        host: host.target().name.clone(),
        stage: host.stage().name().to_owned(),
        phase: host.phase().name().to_owned(),
        done,
        total,
        loss_percent,
    }
}

/// A number of hosts, in words.
pub fn hosts(count: usize) -> String {
    if count == 1 { "1 host".to_owned() } else { format!("{count} hosts") }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_has_the_documented_fields_and_is_read_again() {
        let outcome = Outcome {
            reason: Reason::WriteFailed,
            flash: Some(FlashState::Restored(firmcast::reason::Condition::Whole)),
            detail: "eraseblock at 0x1000".into(),
            bios_version: None,
            digests: Some(([1; 32], [2; 32])),
        };
        let result = News::Result(Box::new(HostResult::new("a", &outcome)));
        let entry = Entry { news: result, ..Entry::now(0xabc, News::Interrupted) };
        let json: serde_json::Value = serde_json::from_str(&entry.to_line()).unwrap();
        assert_eq!(json["campaign"], "0000000000000abc");
        assert_eq!(json["event"], "result");
        assert_eq!((&json["host"], &json["reason"]), (&"a".into(), &"write-failed".into()));
        assert_eq!((&json["flash"], &json["reboot_safe"]), (&"restored".into(), &true.into()));
        assert_eq!(json["sha256_after"], "02".repeat(32));
        assert_eq!(serde_json::from_str::<Entry>(&entry.to_line()).unwrap(), entry);
    }
}
