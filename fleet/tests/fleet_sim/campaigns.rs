//! Campaigns with simulated hosts.

use std::collections::BTreeMap;

use firmcast::reason::Reason;
use firmcast_fleet::work::crew::{Campaign, HostEnd, Purpose, Sight, Sighting};

use super::super::chance::SECOND;
use super::super::computer::{CampaignId, Computer, Place};
use super::super::scenario::release;
use super::{BOOT_WAIT, Due, Happening, Leg, Running, World};

impl World<'_> {
    pub(super) fn end_campaigns(&mut self, worker: usize, why: &str) {
        for campaign in self.workers[worker].campaigns.clone().into_values() {
            self.end_campaign(campaign, why, true);
        }
    }

    /// A campaign ends at once; its hosts before the commit go home by themselves.
    pub(super) fn end_campaign(&mut self, campaign: CampaignId, why: &str, is_told: bool) {
        let Some(running) = self.campaigns.remove(&campaign) else { return };
        self.say(|| format!("campaign {campaign} ends: {why}"));
        let Running { worker, number, legs, .. } = running;
        self.workers[worker].campaigns.remove(&number);
        for host in legs.into_keys() {
            if self.computers[host].place == Place::Recovery(Some(campaign)) {
                self.go(host, Place::Recovery(None));
            }
        }
        if is_told {
            self.tell(worker, Happening::Exit(number));
        }
    }

    pub(super) fn begin(&mut self, worker: usize, campaign: Campaign) {
        let Campaign { number, purpose, release: digest, hosts } = campaign;
        assert!(self.workers[worker].shelf.contains(&digest), "its bundle is not there");
        self.last_campaign += 1;
        let id = self.last_campaign;
        let mut legs = BTreeMap::new();
        for host in &hosts {
            let index = self.watch.index(&host.name);
            legs.insert(index, Leg::Knock);
            let pause = self.chance.ms(100..4000);
            self.after(pause, Due::Leg(id, index));
            let other = self
                .campaigns
                .values()
                .find(|other| other.purpose == Purpose::Update && other.legs.contains_key(&index));
            let is_twice = purpose == Purpose::Update && other.is_some();
            assert!(!is_twice, "host {index} is in two campaigns that write");
            if purpose == Purpose::Update {
                self.check_drained(index);
            }
        }
        self.say(|| format!("worker {worker} begins campaign {id}: {purpose:?} {:?}", legs.keys()));
        let release = usize::from(digest == release(1).digest);
        self.campaigns.insert(id, Running { worker, number, purpose, release, legs });
        self.workers[worker].campaigns.insert(number, id);
    }

    /// A campaign goes on with a host.
    pub(super) fn leg(&mut self, campaign: CampaignId, host: usize) {
        let Some(running) = self.campaigns.get(&campaign) else { return };
        let Some(leg) = running.legs.get(&host).copied() else { return };
        let (purpose, release) = (running.purpose, running.release);
        let Computer { place, firmware, refuses, is_mute, .. } = self.computers[host];
        let is_mine = place == Place::Recovery(Some(campaign));
        let away = if matches!(place, Place::Recovery(_)) {
            Reason::Busy
        } else {
            Reason::HostUnreachable
        };
        match (leg, purpose) {
            (Leg::Knock, Purpose::Look) => {
                let reason = match place {
                    Place::Home if is_mute => Reason::NotMeasured,
                    Place::Home if firmware == Some(release) => Reason::Confirmed,
                    Place::Home => Reason::WrongDigest,
                    _ => away,
                };
                self.see(campaign, host, reason);
            }
            (Leg::Knock, _) if place != Place::Home => self.end(campaign, host, away, false),
            (Leg::Knock, _) if firmware == Some(release) => {
                self.end(campaign, host, Reason::Confirmed, true);
            }
            (Leg::Knock, _) if refuses => self.end(campaign, host, Reason::FlashLocked, false),
            (Leg::Knock, _) => {
                self.go(host, Place::Recovery(Some(campaign)));
                self.pass(campaign, host, Leg::Receive, "recovery");
            }
            (Leg::Receive, _) if is_mine => self.pass(campaign, host, Leg::Commit, "receiving"),
            (Leg::Commit, _) if is_mine => {
                self.go(host, Place::Flashing(release));
                self.pass(campaign, host, Leg::Await(self.now + BOOT_WAIT), "commit");
            }
            (Leg::Receive | Leg::Commit, _) => {
                self.end(campaign, host, Reason::HostUnreachable, false);
            }
            (Leg::Await(_), _) if place == Place::Home && firmware == Some(release) => {
                self.end(campaign, host, Reason::Confirmed, true);
            }
            (Leg::Await(_), _) if place == Place::Home => {
                self.end(campaign, host, Reason::FlashLocked, false);
            }
            (Leg::Await(until), _) if self.now > until => {
                self.end(campaign, host, Reason::HostUnreachable, false);
            }
            (Leg::Await(_), _) => self.after(5 * SECOND, Due::Leg(campaign, host)),
        }
    }

    pub(super) fn pass(
        &mut self,
        campaign: CampaignId,
        host: usize,
        leg: Leg,
        stage: &'static str,
    ) {
        let Some(running) = self.campaigns.get_mut(&campaign) else { return };
        running.legs.insert(host, leg);
        let (worker, number) = (running.worker, running.number);
        let name = self.scenario.host(host).name;
        self.tell(worker, Happening::Stage(number, name, stage));
        let pause = self.chance.ms(2000..30_000);
        self.after(pause, Due::Leg(campaign, host));
    }

    /// A campaign that looks says what it saw.
    pub(super) fn see(&mut self, campaign: CampaignId, host: usize, reason: Reason) {
        let Some(running) = self.campaigns.get_mut(&campaign) else { return };
        running.legs.remove(&host);
        let (worker, number, release) = (running.worker, running.number, running.release);
        let is_last = running.legs.is_empty();
        let (sight, reason) = (Sight::of_reason(reason.name()), reason.name().to_owned());
        self.watch.measured.insert(host);
        self.watch.held.insert(host, self.computers[host].firmware);
        self.watch.seen.insert((host, release), sight);
        self.say(|| format!("campaign {campaign} sees host {host}: {reason}"));
        let name = self.scenario.host(host).name;
        let sighting = Sighting { sight, reason, detail: String::new() };
        self.tell(worker, Happening::Sighting(number, name, sighting));
        if is_last {
            self.end_campaign(campaign, "all its hosts were seen", true);
        }
    }

    /// A campaign says how a host ended; after the last one it is over.
    pub(super) fn end(
        &mut self,
        campaign: CampaignId,
        host: usize,
        reason: Reason,
        confirmed: bool,
    ) {
        let Some(running) = self.campaigns.get_mut(&campaign) else { return };
        running.legs.remove(&host);
        let (worker, number) = (running.worker, running.number);
        let is_last = running.legs.is_empty();
        if self.computers[host].place == Place::Recovery(Some(campaign)) {
            self.go(host, Place::Recovery(None));
        }
        self.watch.measured.insert(host);
        self.watch.held.insert(host, self.computers[host].firmware);
        let end = HostEnd {
            confirmed,
            reason: reason.name().to_owned(),
            flash: "simulated".to_owned(),
            detail: String::new(),
        };
        self.say(|| format!("campaign {campaign} says of host {host}: {}", end.reason));
        let name = self.scenario.host(host).name;
        self.tell(worker, Happening::End(number, name, end));
        if is_last {
            self.end_campaign(campaign, "all its hosts have ended", true);
        }
    }
}
