//! The loop around a campaign: socket, clock, signals, backups and what is told.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use firmcast::reason::Reason;
use firmcast::time::Time;
use firmcast_manager::campaign::{Campaign, Outcome};
use firmcast_manager::news::{Narrator, News};
use firmcast_manager::rescue::Note;
use firmcast_manager::store::flash_backups::{BackupStore, RegionFacts};
use firmcast_manager::store::inventory::Inventory;
use mio::net::UdpSocket;

use crate::commands::bundle;
use crate::driver::mouth::Mouth;
use crate::driver::network::Route;
use crate::driver::sender::Sender;
use crate::driver::socket;
use crate::driver::stamper::Stamper;
use crate::driver::wait::Waiter;

/// Interval between two drawings of the table.
const REFRESH_INTERVAL: Duration = Duration::from_millis(200);

/// How long the last datagrams, to hosts that end, may take to leave.
const LINGER: Duration = Duration::from_millis(200);

/// The way to the hosts.
pub(super) struct WayOut {
    pub(super) socket: UdpSocket,
    pub(super) waiter: Waiter,
    pub(super) route: Route,
}

/// Everything outside a campaign that it reads or writes.
pub(super) struct CampaignIo {
    pub(super) mouth: Mouth,
    pub(super) way: WayOut,
    pub(super) stamper: Stamper,
    pub(super) backups: BackupStore,
    /// The state directory, for what is kept of confirmed hosts.
    pub(super) state: PathBuf,
    /// The bundle's security version.
    pub(super) security_version: u64,
    /// What is kept with each backup: regions of the chip that firmware changes itself.
    pub(super) regions: Vec<RegionFacts>,
}

/// A campaign that is under way.
pub(super) struct Drive {
    number: u64,
    narrator: Narrator,
    campaign: Campaign,
    io: CampaignIo,
    sender: Sender,
    refreshed: Time,
    /// A confirmed host could not keep something.
    fell_short: bool,
}

impl Drive {
    pub(super) fn new(number: u64, narrator: Narrator, campaign: Campaign, io: CampaignIo) -> Self {
        let sender = Sender::new(io.way.route.group);
        let refreshed = Time::ZERO;
        Self { number, narrator, campaign, io, sender, refreshed, fell_short: false }
    }

    /// Runs it to its end.
    pub(super) fn run(mut self, learned: Option<PathBuf>) -> ExitCode {
        let worked = self.work();
        if let Err(error) = &worked {
            self.warn(format!(
                "{error:#}; the manager cannot go on, hosts get out of it by themselves"
            ));
        }
        self.keep_floors();
        if let Some(path) = learned {
            let identities = self.campaign.hosts().iter().filter_map(|host| host.identity());
            if let Err(error) = bundle::write_learned(&path, identities) {
                self.fell_short = true;
                self.warn(format!("{error:#}"));
            }
        }
        let confirmed = self.confirmed();
        let failed = self.campaign.hosts().len() - confirmed;
        self.tell(self.narrator.finished(confirmed, failed));
        let mouth = &mut self.io.mouth;
        mouth.keep();
        mouth.display().finish(&self.campaign);
        let waiter = &mut self.io.way.waiter;
        mouth.display().wait(|| waiter.stop_requests().is_ok_and(|stops| stops > 0));
        let complete = !mouth.record_has_failed() && !self.fell_short;
        let all_well = worked.is_ok() && failed == 0 && complete;
        if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn work(&mut self) -> anyhow::Result<()> {
        while !self.campaign.is_finished() {
            self.turn(None)?;
        }
        // The last releases are still to be sent.
        let end = self.now() + LINGER;
        while self.now() < end {
            self.turn(Some(end))?;
        }
        Ok(())
    }

    fn turn(&mut self, until: Option<Time>) -> anyhow::Result<()> {
        let now = self.now();
        self.send(now);
        self.tell_events(now);
        self.refresh(now);
        self.campaign.work();
        let due = [self.campaign.poll_timeout(), self.sender.poll_timeout(), until];
        let refresh = self.refreshed + REFRESH_INTERVAL;
        let due = due.into_iter().flatten().min().unwrap_or(refresh).min(refresh);
        self.io.way.waiter.wait(due)?;
        let now = self.now();
        for _ in 0..self.io.way.waiter.stop_requests()? {
            self.interrupt(now);
        }
        self.receive(now);
        self.store_backups(now);
        self.renew_stamps(now);
        if self.campaign.poll_timeout().is_some_and(|due| due <= now) {
            self.campaign.handle_timeout(now);
        }
        Ok(())
    }

    fn now(&self) -> Time {
        self.io.way.waiter.now()
    }

    fn renew_stamps(&mut self, now: Time) {
        match self.io.stamper.renew(now) {
            Some(Ok(stamp)) => self.campaign.set_stamp(stamp),
            Some(Err(warning)) => self.warn(warning),
            None => {}
        }
    }

    fn send(&mut self, now: Time) {
        let campaign = &mut self.campaign;
        let source = &mut |now| campaign.poll_transmit(now);
        if let Some(warning) = self.sender.send(now, source, &self.io.way.socket) {
            self.warn(warning);
        }
    }

    fn receive(&mut self, now: Time) {
        let campaign = &mut self.campaign;
        let trouble = socket::receive(&self.io.way.socket, |from, bytes| {
            campaign.handle_datagram(now, from, bytes);
        });
        if let Some(trouble) = trouble {
            self.warn(trouble);
        }
    }

    /// Makes the backups durable that arrived whole. Only then their hosts are told that they may
    /// go on.
    fn store_backups(&mut self, now: Time) {
        while let Some(backup) = self.campaign.poll_backup() {
            let host = &self.campaign.hosts()[backup.host];
            let CampaignIo { backups, regions, .. } = &self.io;
            match backups.keep(self.number, host, &backup, regions.clone()) {
                Ok(()) => {
                    self.tell(Narrator::backup_stored(host, &backup));
                    self.campaign.backup_stored(now, backup.host, backup.digest);
                }
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    self.campaign.backup_not_stored(now, backup.host, error);
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
                "interrupted: hosts that write their flash finish, the others are sent back; \
                 interrupt \
                 again to stop at once"
                    .into(),
            );
        }
    }

    fn tell_events(&mut self, now: Time) {
        while let Some(event) = self.campaign.poll_event() {
            let campaign = &self.campaign;
            let news = self.narrator.tell(now, campaign.hosts(), campaign.stream(), &event);
            if let Some(news) = news {
                self.tell(news);
            }
        }
        self.io.mouth.keep();
    }

    fn warn(&mut self, message: String) {
        self.io.mouth.warn(Some(self.number), message);
    }

    fn tell(&mut self, news: News) {
        if let News::Result(result) = &news {
            self.fell_short |= result.shortfall().is_some();
        }
        self.io.mouth.tell(Note::in_campaign(self.number, news));
    }

    fn refresh(&mut self, now: Time) {
        if now.since(self.refreshed) >= REFRESH_INTERVAL {
            self.refreshed = now;
            self.io.mouth.display().refresh(now, &self.campaign);
        }
    }

    /// What was confirmed on hosts of the inventory is their floor from now on.
    fn keep_floors(&mut self) {
        // A dry run and a drill end well, too, and confirm nothing.
        let is_confirmed = |outcome: &Outcome| outcome.ending.reason == Reason::Confirmed;
        let hosts = self.campaign.hosts().iter();
        let confirmed = hosts.filter(|host| host.outcome().is_some_and(is_confirmed));
        let keys: Vec<[u8; 32]> = confirmed.filter_map(|host| host.target().key).collect();
        if keys.is_empty() || self.io.security_version == 0 {
            return;
        }
        let security_version = self.io.security_version;
        let kept = Inventory::change(&self.io.state, |inventory| {
            keys.iter().for_each(|key| inventory.raise_floor(key, security_version));
        });
        if let Err(error) = kept {
            let error = anyhow::Error::from(error);
            self.warn(format!("the hosts' floors are not kept: {error:#}"));
        }
    }

    fn confirmed(&self) -> usize {
        let hosts = self.campaign.hosts().iter();
        hosts.filter(|host| host.outcome().is_some_and(|outcome| outcome.is_confirmed())).count()
    }
}
