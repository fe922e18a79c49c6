//! The events of one campaign as news. Progress that comes too often is held back.

use std::collections::BTreeMap;
use std::time::Duration;

use firmcast::time::Time;

use super::{HostResult, Kind, News, Pieces, StageTime, hex};
use crate::campaign::{Backup, CampaignEvent, Host, Stage, Stream};

/// Interval between two tellings of a host's progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Tells of one campaign.
#[derive(Debug)]
pub struct Narrator {
    kind: Kind,
    /// When each host's progress was last told.
    told: BTreeMap<usize, Time>,
    /// Where each host that is under way has spent its time.
    ways: BTreeMap<usize, Way>,
}

/// The stages that a host came to, each once, with the time in them.
#[derive(Debug, Default)]
struct Way {
    times: Vec<(Stage, Duration)>,
    /// The present one, and since when.
    now: Option<(Stage, Time)>,
}

impl Way {
    fn come_to(&mut self, now: Time, stage: Stage) {
        if let Some((before, since)) = self.now.replace((stage, now)) {
            let spent = now.since(since);
            match self.times.iter_mut().find(|(known, _)| *known == before) {
                Some((_, time)) => *time += spent,
                None => self.times.push((before, spent)),
            }
        }
    }

    fn times(mut self, now: Time) -> Vec<StageTime> {
        self.come_to(now, Stage::Ended);
        let seconds = |time: Duration| time.as_millis() as f64 / 1000.0;
        let times = self.times.into_iter();
        times
            .map(|(stage, time)| StageTime { stage: stage.name().into(), seconds: seconds(time) })
            .collect()
    }
}

impl Narrator {
    /// Returns a narrator of a campaign of this kind.
    pub fn new(kind: Kind) -> Self {
        Self { kind, told: BTreeMap::new(), ways: BTreeMap::new() }
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
                self.ways.entry(*host).or_default().come_to(now, *stage);
                News::Stage { host: name(*host), stage: stage.name().to_owned() }
            }
            CampaignEvent::Ended { host, outcome } => {
                let way = self.ways.remove(host).unwrap_or_default();
                let result = HostResult::of(self.kind, &hosts[*host], outcome);
                News::Result(Box::new(HostResult { stages: way.times(now), ..result }))
            }
            CampaignEvent::Twins { host } => {
                News::Warning { message: super::twins_text(&name(*host)) }
            }
            CampaignEvent::TransferStarted { hosts, pieces } => News::TransferStarted {
                hosts: *hosts,
                pieces: pieces.map(|(sent, of)| Pieces { sent, of }),
            },
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
