use std::collections::{BTreeMap, BTreeSet};

use firmcast::reason::Reason;

use super::{Crew, Order};
use crate::model::{AttemptId, Health, RolloutId, RolloutState, Stamp};
use crate::store::{Store, StoreError};
use crate::work::drains::Script;
use crate::work::party::{Campaign, Exit, HostEnd, Party, Purpose, Sight, Sighting};
use crate::work::strays::{Stray, Verdict, Why};

impl Crew {
    /// Begins with hosts of a rollout: they are drained first, if its file says so.
    pub(super) fn start(
        &mut self,
        store: &mut dyn Store,
        rollout: RolloutId,
        hosts: BTreeMap<String, AttemptId>,
    ) -> Result<(), StoreError> {
        if self.script(store, rollout)?.is_some_and(Script::drains) {
            self.drains.wait(rollout, hosts);
            return Ok(());
        }
        self.update(store, rollout, hosts)
    }

    /// Begins a campaign that writes.
    pub(super) fn update(
        &mut self,
        store: &mut dyn Store,
        rollout: RolloutId,
        hosts: BTreeMap<String, AttemptId>,
    ) -> Result<(), StoreError> {
        let Some(found) = store.rollout(rollout)? else { return Ok(()) };
        self.begin(store, rollout, Purpose::Update, found.rollout.release, hosts)
    }

    fn begin(
        &mut self,
        store: &mut dyn Store,
        rollout: RolloutId,
        purpose: Purpose,
        release: String,
        hosts: BTreeMap<String, AttemptId>,
    ) -> Result<(), StoreError> {
        let mut known = Vec::with_capacity(hosts.len());
        for name in hosts.keys() {
            known.extend(store.host(name)?);
        }
        if known.is_empty() {
            return Ok(());
        }
        let number = self.orders.next_number();
        let campaign = Campaign { number, purpose, release, hosts: known };
        self.parties.insert(number, Party { rollout, purpose, hosts });
        self.orders.give(Order::Begin(campaign));
        Ok(())
    }

    /// A host has come to another stage of a campaign.
    pub fn handle_stage(&mut self, number: u64, host: &str, stage: &str, at: Stamp) {
        let Some(party) = self.parties.get(&number) else { return };
        if let (Some(attempt), Purpose::Update) = (party.hosts.get(host), party.purpose) {
            self.reports.stage(*attempt, stage, at);
        }
    }

    /// A campaign has ended for a host.
    pub fn handle_end(&mut self, number: u64, host: &str, end: HostEnd, at: Stamp) {
        let Some(party) = self.parties.get_mut(&number) else { return };
        let Some(attempt) = party.hosts.remove(host) else { return };
        if self.is_stopping && end.reason == Reason::Interrupted.name() {
            // Let go because of the stop: whoever takes over begins with it anew.
            self.drains.forget(attempt);
            return;
        }
        if party.purpose == Purpose::Update {
            self.end(attempt, end, at);
        }
    }

    /// A campaign that looks has seen a host.
    pub fn handle_sighting(&mut self, number: u64, host: &str, sighting: Sighting, at: Stamp) {
        let Some(party) = self.parties.get_mut(&number) else { return };
        let Some(attempt) = party.hosts.remove(host) else { return };
        if party.purpose == Purpose::Look {
            self.follow(attempt, sighting, at);
        }
    }

    /// Goes on with a host that was looked at.
    fn follow(&mut self, attempt: AttemptId, sighting: Sighting, at: Stamp) {
        let Some(stray) = self.strays.get_mut(&attempt) else { return };
        match stray.judge(sighting, at) {
            Verdict::Again | Verdict::Home => {}
            Verdict::Ended(end) => {
                self.strays.remove(&attempt);
                self.end(attempt, end, at);
            }
            Verdict::Seen(look) => {
                if look.health != Health::Unclear {
                    self.strays.remove(&attempt);
                }
                self.reports.look(attempt, look);
            }
        }
    }

    /// A campaign is over, with these words where it could not be begun or broke off.
    pub fn handle_exit(&mut self, number: u64, words: &str, exit: Exit, at: Stamp) {
        let Some(party) = self.parties.remove(&number) else { return };
        if self.is_stopping {
            party.hosts.into_values().for_each(|attempt| self.drains.forget(attempt));
            return;
        }
        for (host, attempt) in party.hosts {
            let stray = |why| {
                self.strays.insert(attempt, Stray::new(at, party.rollout, host, why));
            };
            match (party.purpose, exit) {
                (Purpose::Update, Exit::CutOff) => stray(Why::TakenOver),
                (Purpose::Update, Exit::BrokeOff) => stray(Why::BrokenOff(words.to_owned())),
                (Purpose::Update, Exit::NotBegun) => {
                    self.end(attempt, HostEnd::interrupted(words), at);
                }
                (Purpose::Look, _) => {
                    let reason = Reason::Interrupted.name().to_owned();
                    let (sight, detail) = (Sight::Unclear, words.to_owned());
                    self.follow(attempt, Sighting { sight, reason, detail }, at);
                }
            }
        }
    }

    /// Looks at hosts that may be anywhere, and goes on with those that are home.
    pub(super) fn look_again(
        &mut self,
        store: &mut dyn Store,
        now: Stamp,
    ) -> Result<(), StoreError> {
        self.report_broken_off(now);
        let busy: BTreeSet<AttemptId> = self.in_parties().collect();
        let mut due: BTreeMap<(RolloutId, bool), BTreeMap<String, AttemptId>> = BTreeMap::new();
        for (attempt, stray) in &self.strays {
            let is_home = stray.is_home();
            if (is_home || stray.look_at <= now) && !busy.contains(attempt) {
                let hosts = due.entry((stray.rollout, is_home)).or_default();
                hosts.insert(stray.host.clone(), *attempt);
            }
        }
        for ((rollout, is_home), hosts) in due {
            let Some(found) = store.rollout(rollout)? else { continue };
            let release = found.rollout.release;
            if !is_home {
                self.begin(store, rollout, Purpose::Look, release, hosts)?;
                continue;
            }
            self.strays.retain(|attempt, _| !hosts.values().any(|home| home == attempt));
            if found.rollout.state == RolloutState::Running {
                self.start(store, rollout, hosts)?;
                continue;
            }
            for attempt in hosts.into_values() {
                if !self.drains.send_back(attempt) {
                    let words = "its worker died, and the rollout does not run any more";
                    self.end(attempt, HostEnd::interrupted(words), now);
                }
            }
        }
        Ok(())
    }

    /// A host that is home again from a campaign that broke off here is not tried twice.
    fn report_broken_off(&mut self, now: Stamp) {
        let mut home = Vec::new();
        self.strays.retain(|attempt, stray| match &stray.why {
            Why::BrokenOff(words) if stray.is_home() => {
                home.push((*attempt, HostEnd::interrupted(words)));
                false
            }
            _ => true,
        });
        for (attempt, end) in home {
            self.end(attempt, end, now);
        }
    }
}
