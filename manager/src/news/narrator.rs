//! The events of one campaign as news. Progress that comes too often is held back.

use std::collections::BTreeMap;
use std::time::Duration;

use firmcast::time::Time;

use super::{HostResult, Kind, News, hex};
use crate::campaign::{Backup, CampaignEvent, Host, Stream};

/// Interval between two tellings of a host's progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Tells of one campaign.
#[derive(Debug)]
pub struct Narrator {
    kind: Kind,
    /// When each host's progress was last told.
    told: BTreeMap<usize, Time>,
}

impl Narrator {
    /// Returns a narrator of a campaign of this kind.
    pub fn new(kind: Kind) -> Self {
        Self { kind, told: BTreeMap::new() }
    }

    /// Returns what is told of `event`; none when it is too early to tell of progress again.
    pub fn tell(
        &mut self,
        now: Time,
        hosts: &[Host],
        stream: &Stream,
        event: &CampaignEvent,
    ) -> Option<News> {
        let name = |host: usize| hosts[host].target().name.clone();
        Some(match event {
            CampaignEvent::Stage { host, stage } => {
                News::Stage { host: name(*host), stage: stage.name().to_owned() }
            }
            CampaignEvent::Ended { host, outcome } => {
                News::Result(Box::new(HostResult::of(self.kind, &hosts[*host], outcome)))
            }
            CampaignEvent::Twins { host } => {
                News::Warning { message: super::twins_text(&name(*host)) }
            }
            CampaignEvent::TransferStarted { hosts } => News::TransferStarted { hosts: *hosts },
            CampaignEvent::Progress { host } => {
                let told = self.told.get(host);
                if told.is_some_and(|told| now.since(*told) < PROGRESS_INTERVAL) {
                    return None;
                }
                self.told.insert(*host, now);
                progress(stream, *host, &hosts[*host])
            }
        })
    }

    /// Returns the news that this host's backup is durable.
    pub fn backup_stored(host: &Host, backup: &Backup) -> News {
        News::BackupStored {
            host: host.target().name.clone(),
            sha256: hex(&backup.digest),
            size_bytes: backup.bytes.len() as u64,
        }
    }

    /// Returns the news that the campaign is over.
    pub fn finished(&self, confirmed: usize, failed: usize) -> News {
        News::Finished { kind: self.kind, confirmed, failed }
    }
}

fn progress(stream: &Stream, index: usize, host: &Host) -> News {
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
