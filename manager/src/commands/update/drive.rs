//! The loop around a campaign: socket, clock, signals, record and display.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use firmcast::time::Time;
use firmcast_manager::campaign::{Campaign, Event};
use firmcast_manager::news::{self, Entry, HostResult, News, hex};
use firmcast_manager::store::flash_backups::{self, RegionFacts, Store};
use firmcast_manager::store::records::{self, Record};
use mio::net::UdpSocket;

use crate::driver::display::Display;
use crate::driver::sender::Sender;
use crate::driver::socket;
use crate::driver::wait::Waiter;

/// A host's progress is told at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// The table is drawn this often.
const REFRESH_INTERVAL: Duration = Duration::from_millis(200);

/// How long the last datagrams, to hosts that end, may take to leave.
const LINGER: Duration = Duration::from_millis(200);

/// What a campaign has to do with.
pub(crate) struct Outside {
    pub(crate) record: Record,
    pub(crate) display: Display,
    pub(crate) waiter: Waiter,
    pub(crate) socket: UdpSocket,
    pub(crate) backups: Store,
    /// What is kept with each backup: regions of the chip that firmware changes itself.
    pub(crate) regions: Vec<RegionFacts>,
}

/// A campaign that is under way.
pub(crate) struct Drive {
    number: u64,
    campaign: Campaign,
    record: Record,
    record_failed: bool,
    display: Display,
    waiter: Waiter,
    socket: UdpSocket,
    backups: Store,
    regions: Vec<RegionFacts>,
    sender: Sender,
    /// When each host's progress was last told.
    told: Vec<Option<Time>>,
    refreshed: Time,
    /// Told, but not yet in the record.
    unrecorded: Vec<Entry>,
}

impl Drive {
    pub(crate) fn new(
        number: u64,
        campaign: Campaign,
        outside: Outside,
        group: Option<SocketAddr>,
    ) -> Self {
        let Outside { record, display, waiter, socket, backups, regions } = outside;
        let told = vec![None; campaign.hosts().len()];
        Self {
            number,
            campaign,
            record,
            record_failed: false,
            display,
            waiter,
            socket,
            backups,
            regions,
            sender: Sender::new(group),
            told,
            refreshed: Time::ZERO,
            unrecorded: Vec::new(),
        }
    }

    /// Runs it to its end.
    pub(crate) fn run(mut self) -> ExitCode {
        let worked = self.work();
        if let Err(error) = &worked {
            self.warn(format!(
                "{error:#}; the manager cannot go on, hosts get out of it by themselves"
            ));
        }
        let confirmed = self.confirmed();
        let failed = self.campaign.hosts().len() - confirmed;
        self.tell(News::Finished { confirmed, failed });
        self.keep();
        self.display.finish(&self.campaign);
        let all_well = worked.is_ok() && failed == 0 && !self.record_failed;
        if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn work(&mut self) -> anyhow::Result<()> {
        while !self.campaign.is_finished() {
            self.turn(None)?;
        }
        // The last releases are still to be sent.
        let end = self.waiter.now() + LINGER;
        while self.waiter.now() < end {
            self.turn(Some(end))?;
        }
        Ok(())
    }

    fn turn(&mut self, until: Option<Time>) -> anyhow::Result<()> {
        let now = self.waiter.now();
        let campaign = &mut self.campaign;
        let warning = self.sender.send(now, &mut |now| campaign.poll_transmit(now), &self.socket);
        if let Some(warning) = warning {
            self.warn(warning);
        }
        self.tell_news(now);
        self.refresh(now);
        let due = [self.campaign.poll_timeout(), self.sender.poll_timeout(), until];
        let refresh = self.refreshed + REFRESH_INTERVAL;
        self.waiter.wait(due.into_iter().flatten().min().unwrap_or(refresh).min(refresh))?;
        let now = self.waiter.now();
        for _ in 0..self.waiter.stop_requests()? {
            self.interrupt(now);
        }
        self.receive(now);
        self.store_backups(now);
        if self.campaign.poll_timeout().is_some_and(|due| due <= now) {
            self.campaign.handle_timeout(now);
        }
        Ok(())
    }

    fn receive(&mut self, now: Time) {
        let campaign = &mut self.campaign;
        let trouble = socket::receive(&self.socket, |from, bytes| {
            campaign.handle_datagram(now, from, bytes);
        });
        if let Some(trouble) = trouble {
            self.warn(trouble);
        }
    }

    /// Makes the backups durable that arrived whole. Their hosts are told only then that they may go on.
    fn store_backups(&mut self, now: Time) {
        while let Some(backup) = self.campaign.poll_backup() {
            let (host, digest) = (backup.host, backup.digest);
            let depositor = &self.campaign.hosts()[host];
            let record =
                flash_backups::Record::now(self.number, depositor, &backup, self.regions.clone());
            match self.backups.put(&record, &backup.bytes) {
                Ok(_) => {
                    self.tell(News::BackupStored {
                        host: self.campaign.hosts()[host].target().name.clone(),
                        sha256: hex(&digest),
                        size_bytes: backup.bytes.len() as u64,
                    });
                    self.campaign.backup_stored(now, host, digest);
                }
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    self.campaign.backup_not_stored(now, host, error);
                }
            }
        }
    }

    fn interrupt(&mut self, now: Time) {
        let again = self.campaign.is_interrupted();
        self.tell(News::Interrupted);
        self.campaign.interrupt(now);
        if !again && !self.campaign.is_finished() {
            self.warn(
                "interrupted: hosts that do not write their flash are sent back, the others are let \
                 finish; once more to stop at once"
                    .into(),
            );
        }
    }

    fn tell_news(&mut self, now: Time) {
        while let Some(event) = self.campaign.poll_event() {
            if let Some(news) = self.news(now, event) {
                self.tell(news);
            }
        }
        self.keep();
    }

    fn news(&mut self, now: Time, event: Event) -> Option<News> {
        let name = |host: usize| self.campaign.hosts()[host].target().name.as_str();
        Some(match event {
            Event::Stage { host, stage } => news::stage(name(host), stage),
            Event::Ended { host, outcome } => {
                News::Result(Box::new(HostResult::new(name(host), &outcome)))
            }
            Event::TransferStarted { hosts } => News::TransferStarted { hosts },
            Event::Progress { host } => {
                let told = self.told.get_mut(host)?;
                if told.is_some_and(|told| now.since(told) < PROGRESS_INTERVAL) {
                    return None;
                }
                *told = Some(now);
                news::progress(self.campaign.stream(), host, &self.campaign.hosts()[host])
            }
        })
    }

    fn warn(&mut self, message: String) {
        self.tell(News::Warning { message });
    }

    fn tell(&mut self, news: News) {
        let entry = Entry::now(self.number, news);
        self.display.tell(&entry);
        if records::is_kept(&entry.news) {
            self.unrecorded.push(entry);
        }
    }

    /// Makes durable what was told. Without a record the hosts are still brought to a safe end.
    fn keep(&mut self) {
        let entries = std::mem::take(&mut self.unrecorded);
        if let Err(error) = self.record.append(&entries)
            && !std::mem::replace(&mut self.record_failed, true)
        {
            let error = anyhow::Error::from(error);
            let message = format!("THE RECORD IS NOT KEPT: {error:#}");
            self.display.tell(&Entry::now(self.number, News::Warning { message }));
        }
    }

    fn refresh(&mut self, now: Time) {
        if now.since(self.refreshed) >= REFRESH_INTERVAL {
            self.refreshed = now;
            self.display.refresh(now, &self.campaign);
        }
    }

    fn confirmed(&self) -> usize {
        let hosts = self.campaign.hosts().iter();
        hosts.filter(|host| host.outcome().is_some_and(|outcome| outcome.is_confirmed())).count()
    }
}
