//! The worker: it holds leases on hosts, and a host is in one of its campaigns as long as it holds
//! the lease.
//!
//! A lease is renewed four times within its time. Where that fails until the time is over, somebody
//! else may have the host: the campaign is ended at once, and its hosts get out by themselves, as
//! they do whenever a manager dies. Hosts come back as takeovers, here or elsewhere.
//!
//! A host that was taken over, or whose campaign broke off, is first looked at, until it is home.
//! If it holds the release then, it is confirmed, whoever wrote it. Else one that was taken over
//! begins anew, if its rollout still runs; one whose campaign broke off has failed. Confirmed hosts
//! are looked at once more when the soak time of their wave is over.
//!
//! Nothing is begun whose bundle is not on the shelf: it is fetched first ([`Order::Fetch`]), by
//! somebody else than who renews the leases.
//!
//! | file | what the worker does there |
//! | --- | --- |
//! | `crew/claiming.rs` | claims hosts, looks at them, and begins campaigns |
//! | `crew/draining.rs` | drains and undrains hosts, where the rollout's file says so |

mod claiming;
mod draining;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use firmcast::keys::ManagerPublicKey;
use firmcast::reason::Reason;

pub use super::drains::{DRAINS_AT_ONCE_MAX, UNDRAINS_AT_ONCE_MAX};
use super::drains::{Drains, Fate, STOPPED, Script};
use super::party::Party;
pub use super::party::{Campaign, HostEnd, Program, ProgramEnd, Purpose, Sight, Sighting};
use super::steering::Courses;
pub use super::strays::{HOME_US, LOOK_AGAIN_US};
use super::strays::{Stray, Verdict, Why};
pub use super::supply::FETCH_AGAIN_US;
use super::supply::{Supply, begun};
use crate::model::{AttemptId, Health, Look, RolloutId, Stamp, Worker};
use crate::store::requests::Outcome;
use crate::store::{Store, StoreError};

/// How long a lease holds, in microseconds: a worker that died is followed by another one within
/// ten seconds.
pub const LEASE_US: i64 = 8_000_000;

/// After how long leases are renewed, in microseconds.
pub const RENEW_US: i64 = 2_000_000;

/// After how long a worker says that it is there, in microseconds.
pub const SEEN_US: i64 = 15_000_000;

/// How long before the end of its leases a worker ends its campaigns, in microseconds: the time
/// that this may take, and what its clock and the store's may drift apart within a lease.
pub const MARGIN_US: i64 = 2_000_000;

/// Maximum number of confirmed hosts that a worker looks at, at a time.
pub const LOOKS_AT_ONCE_MAX: usize = 200;

/// Maximum number of stages that wait to be told; of more the oldest are left out.
pub const STAGES_MAX: usize = 10_000;

/// Maximum number of words on bundles that wait to be told; of more the newest are left out.
const SUPPLIES_MAX: usize = 100;

/// What whoever runs the campaigns has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Begin a campaign.
    Begin(Campaign),
    /// Run a program for a host, to its end or the end of its time.
    Run(Program),
    /// Ask a program to end, as if its time were over.
    Stop {
        /// Its number.
        number: u64,
    },
    /// End a campaign or a program at once, as if its machine lost its power.
    Kill {
        /// Its number.
        number: u64,
    },
    /// Fetch a bundle out of the store onto the shelf, then [`Crew::handle_fetched`].
    Fetch {
        /// Digest of the release.
        release: String,
    },
}

/// A report that the store has not taken yet.
#[derive(Debug)]
struct Report {
    attempt: AttemptId,
    fate: Fate,
    at: Stamp,
}

/// A worker of a site.
#[derive(Debug)]
pub struct Crew {
    site: String,
    name: String,
    hosts_max: usize,
    is_stopping: bool,
    courses: Courses,
    last_number: u64,
    parties: BTreeMap<u64, Party>,
    strays: BTreeMap<AttemptId, Stray>,
    drains: Drains,
    /// The programs of rollouts of which it has hosts.
    scripts: BTreeMap<RolloutId, Script>,
    reports: Vec<Report>,
    /// What looks at hosts that have soaked came to, to be told.
    looks: Vec<(AttemptId, Look)>,
    stages: VecDeque<(AttemptId, String, Stamp)>,
    supply: Supply,
    /// How bundles fare, to be told.
    supplies: Vec<(String, Stamp)>,
    /// What nobody has been told yet.
    orders: Vec<Order>,
    renewed_at: Stamp,
    /// When it said last that it is there, and which bundle it waited for.
    seen: Option<(Stamp, String)>,
}

impl Crew {
    /// Returns the worker `name` of a site, which has at most `hosts_max` hosts at a time. The word
    /// of one of the `approvers` lets a wave begin that waits for a person.
    pub fn new(site: &str, name: &str, hosts_max: usize, approvers: Vec<ManagerPublicKey>) -> Self {
        Self {
            site: site.to_owned(),
            name: name.to_owned(),
            hosts_max,
            is_stopping: false,
            courses: Courses::new(site, approvers),
            last_number: 0,
            parties: BTreeMap::new(),
            strays: BTreeMap::new(),
            drains: Drains::default(),
            scripts: BTreeMap::new(),
            reports: Vec::new(),
            looks: Vec::new(),
            stages: VecDeque::new(),
            supply: Supply::default(),
            supplies: Vec::new(),
            orders: Vec::new(),
            renewed_at: 0,
            seen: None,
        }
    }

    /// Takes no further hosts: the worker is to stop. Hosts that it waits for, and those that it
    /// lets go, are left to whoever takes them over. Those that it drains go back, and they and
    /// those that have ended are undrained before it goes.
    pub fn take_no_more(&mut self, now: Stamp) {
        (self.hosts_max, self.is_stopping) = (0, true);
        self.strays.clear();
        self.looks.clear();
        let updates = self.parties.values().filter(|party| party.purpose == Purpose::Update);
        let updated = updates.flat_map(|party| party.hosts.values().copied()).collect();
        self.drains.drop_lost(&updated);
        self.recall(None, STOPPED, now);
    }

    /// When its campaigns have to be over, unless the leases are renewed before.
    pub fn leases_end(&self) -> Stamp {
        match self.parties.is_empty() && !self.drains.are_busy() {
            true => Stamp::MAX,
            false => self.renewed_at.saturating_add(LEASE_US - MARGIN_US),
        }
    }

    /// Hosts in flight on which it holds a lease, as far as it knows.
    pub fn in_hand(&self) -> usize {
        let is_looked_at = |attempt: &AttemptId| {
            self.strays.get(attempt).is_some_and(Stray::has_soaked)
                || self.looks.iter().any(|(seen, _)| seen == attempt)
        };
        self.held().into_iter().filter(|attempt| !is_looked_at(attempt)).count()
    }

    fn in_parties(&self) -> impl Iterator<Item = AttemptId> {
        self.parties.values().flat_map(|party| party.hosts.values().copied())
    }

    fn held(&self) -> BTreeSet<AttemptId> {
        let ended = self.reports.iter().map(|report| report.attempt);
        let ended = ended.chain(self.looks.iter().map(|(attempt, _)| *attempt));
        let in_parties = self.in_parties().chain(self.drains.attempts());
        in_parties.chain(self.strays.keys().copied()).chain(ended).collect()
    }

    /// Does all that is due with the store, whose clock says when leases and windows end. `now` is
    /// a clock of the worker's own that never steps, wherever it begins, as in all calls here. It
    /// is read before the turn, so leases end here no later than in the store. Call it every
    /// second, and when something happened; then [`Crew::give_up_leases`], [`Crew::take_orders`].
    ///
    /// # Errors
    /// The store does not answer, or refuses. Nothing is lost: the next turn goes on.
    pub fn turn(&mut self, store: &mut dyn Store, now: Stamp) -> Result<(), StoreError> {
        let at = store.now()?;
        self.renew(store, now, at)?;
        self.be_seen(store, now, at)?;
        self.tell(store, at.saturating_sub(now))?;
        self.fetch(store, now)?;
        let open = self.courses.steer(store, &self.supply, &self.name, at)?;
        self.claim(store, now, at, open)?;
        self.claim_looks(store, now, at)?;
        self.look_again(store, now)?;
        self.go_on_draining(store, now, at.saturating_sub(now))
    }

    /// The shelf has bundles of these digests. To be called before each turn.
    pub fn handle_shelf(&mut self, shelf: BTreeSet<String>) {
        self.supply.stock(shelf);
    }

    /// The fetch of a bundle is over: it is on the shelf, or could not be had, for this reason.
    /// Returns that in words, but the same reason only once.
    pub fn handle_fetched(
        &mut self,
        release: &str,
        result: Result<(), String>,
        at: Stamp,
    ) -> Option<String> {
        let words = self.supply.fetched(release, result, at);
        self.tell_later(words.clone(), at);
        words
    }

    /// Returns what is to be done, in this order.
    pub fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// Ends the campaigns and programs whose leases may be over: whether the store answers or not,
    /// and however long a turn took.
    pub fn give_up_leases(&mut self, now: Stamp) {
        if now < self.renewed_at.saturating_add(LEASE_US - MARGIN_US) {
            return;
        }
        self.strays.clear();
        self.reports.clear();
        self.looks.clear();
        self.stages.clear();
        self.renewed_at = now;
        let programs = self.drains.retain(|_| false);
        for number in std::mem::take(&mut self.parties).into_keys().chain(programs) {
            self.kill(number);
        }
    }

    /// Returns the next number of a campaign or program.
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Has a campaign or program ended, or not begun.
    fn kill(&mut self, number: u64) {
        let is_its_begin = |order: &Order| match order {
            Order::Begin(campaign) => campaign.number == number,
            Order::Run(program) => program.number == number,
            Order::Stop { .. } | Order::Kill { .. } | Order::Fetch { .. } => false,
        };
        match self.orders.iter().position(is_its_begin) {
            Some(place) => drop(self.orders.remove(place)),
            None => self.orders.push(Order::Kill { number }),
        }
    }

    /// A host has come to another stage of a campaign.
    pub fn handle_stage(&mut self, number: u64, host: &str, stage: &str, at: Stamp) {
        let Some(party) = self.parties.get(&number) else { return };
        if let (Some(attempt), Purpose::Update) = (party.hosts.get(host), party.purpose) {
            if self.stages.len() == STAGES_MAX {
                self.stages.pop_front();
            }
            self.stages.push_back((*attempt, stage.to_owned(), at));
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
                self.looks.push((attempt, look));
            }
        }
    }

    /// A campaign is over, with these words where it could not be begun or broke off. One that has
    /// `begun` may have told its hosts to write.
    pub fn handle_exit(&mut self, number: u64, words: &str, begun: bool, at: Stamp) {
        let Some(party) = self.parties.remove(&number) else { return };
        if self.is_stopping {
            party.hosts.into_values().for_each(|attempt| self.drains.forget(attempt));
            return;
        }
        for (host, attempt) in party.hosts {
            match party.purpose {
                Purpose::Update if begun => {
                    let why = Why::BrokenOff(words.to_owned());
                    self.strays.insert(attempt, Stray::new(at, party.rollout, host, why));
                }
                Purpose::Update => self.end(attempt, interrupted(words), at),
                Purpose::Look => {
                    let reason = Reason::Interrupted.name().to_owned();
                    let (sight, detail) = (Sight::Unclear, words.to_owned());
                    self.follow(attempt, Sighting { sight, reason, detail }, at);
                }
            }
        }
    }

    fn renew(&mut self, store: &mut dyn Store, now: Stamp, at: Stamp) -> Result<(), StoreError> {
        if now < self.renewed_at.saturating_add(RENEW_US) {
            return Ok(());
        }
        let held: Vec<AttemptId> = self.held().into_iter().collect();
        let kept = store.renew(&self.name, &held, at, LEASE_US)?;
        self.renewed_at = now;
        let is_lost = |attempt: &AttemptId| kept.binary_search(attempt).is_err();
        self.reports.retain(|report| !is_lost(&report.attempt));
        self.looks.retain(|(attempt, _)| !is_lost(attempt));
        self.strays.retain(|attempt, _| !is_lost(attempt));
        let programs = self.drains.retain(|attempt| !is_lost(&attempt));
        programs.into_iter().for_each(|number| self.kill(number));
        let lost: Vec<u64> = self
            .parties
            .iter()
            .filter(|(_, party)| party.hosts.values().any(is_lost))
            .map(|(number, _)| *number)
            .collect();
        for number in lost {
            // A campaign cannot lose one host: the others are looked for.
            self.kill(number);
            let Some(party) = self.parties.remove(&number) else { continue };
            let kept = party.hosts.into_iter().filter(|(_, attempt)| !is_lost(attempt));
            for (host, attempt) in kept {
                if party.purpose == Purpose::Update && !self.is_stopping {
                    let stray = Stray::new(now, party.rollout, host, Why::TakenOver);
                    self.strays.insert(attempt, stray);
                }
            }
        }
        Ok(())
    }

    /// Says that it is there.
    fn be_seen(&mut self, store: &mut dyn Store, now: Stamp, at: Stamp) -> Result<(), StoreError> {
        let waits_for = self.supply.waits_for();
        let is_known = |(seen, waited_for): &(Stamp, String)| {
            now < seen.saturating_add(SEEN_US) && *waited_for == waits_for
        };
        if self.seen.as_ref().is_some_and(is_known) {
            return Ok(());
        }
        let worker = Worker {
            name: self.name.clone(),
            site: self.site.clone(),
            seen_at: at,
            waits_for,
            lacking: self.supply.lacking().to_vec(),
        };
        store.see_worker(&worker)?;
        self.seen = Some((now, worker.waits_for));
        Ok(())
    }

    fn tell_later(&mut self, words: Option<String>, at: Stamp) {
        let room = SUPPLIES_MAX.saturating_sub(self.supplies.len());
        self.supplies.extend(words.map(|words| (words, at)).into_iter().take(room));
    }

    /// Has the next bundle fetched that the site needs and the shelf lacks.
    fn fetch(&mut self, store: &mut dyn Store, now: Stamp) -> Result<(), StoreError> {
        let due = store.releases_due(&self.site)?;
        if self.is_stopping {
            return Ok(());
        }
        if let Some(release) = self.supply.need(due, now) {
            self.tell_later(Some(begun(&release)), now);
            self.orders.push(Order::Fetch { release });
        }
        Ok(())
    }

    /// Reports what ended, and tells stages. What somebody else has by now is theirs to report.
    /// The store's clock is ahead of the worker's by `ahead_us`.
    fn tell(&mut self, store: &mut dyn Store, ahead_us: i64) -> Result<(), StoreError> {
        while let Some((attempt, stage, at)) = self.stages.front() {
            match store.tell_stage(*attempt, &self.name, stage, at.saturating_add(ahead_us)) {
                Ok(()) | Err(StoreError::LeaseLost { .. }) => {}
                Err(error) => return Err(error),
            }
            self.stages.pop_front();
        }
        while let Some(Report { attempt, fate, at }) = self.reports.last() {
            let at = at.saturating_add(ahead_us);
            let told = match fate {
                Fate::Ended(end) => {
                    store.report(*attempt, &self.name, &outcome(end), at).map(|_changed| ())
                }
                Fate::Back(why) => store.put_back(*attempt, &self.name, why, at),
            };
            match told {
                Ok(()) | Err(StoreError::LeaseLost { .. }) => {}
                Err(error) => return Err(error),
            }
            self.reports.pop();
        }
        while let Some((words, at)) = self.supplies.first() {
            store.tell_bundle(&self.name, words, at.saturating_add(ahead_us))?;
            self.supplies.remove(0);
        }
        while let Some((attempt, look)) = self.looks.last() {
            let look = Look { at: look.at.saturating_add(ahead_us), ..look.clone() };
            match store.report_look(*attempt, &self.name, &look) {
                Ok(_) | Err(StoreError::LeaseLost { .. }) => {}
                Err(error) => return Err(error),
            }
            self.looks.pop();
        }
        Ok(())
    }
}

/// What the store is told of an end.
fn outcome(end: &HostEnd) -> Outcome<'_> {
    let HostEnd { confirmed, reason, flash, detail } = end;
    Outcome { confirmed: *confirmed, reason: Some(reason), flash: Some(flash), detail }
}

/// The end of a host whose campaign did not come to one: nobody has said what its chip holds.
fn interrupted(words: &str) -> HostEnd {
    HostEnd {
        confirmed: false,
        reason: Reason::Interrupted.name().to_owned(),
        flash: "unknown".to_owned(),
        detail: words.to_owned(),
    }
}
