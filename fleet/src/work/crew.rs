//! The worker: it holds leases on hosts, and a host is in one of its campaigns as long as it holds
//! the lease.
//!
//! A lease is renewed four times within its time. Where that fails until the time is over, somebody
//! else may have the host: the campaign is ended at once, and its hosts get out by themselves, as
//! they do whenever a manager dies. Hosts come back as takeovers, here or elsewhere.
//!
//! A host that was taken over, or whose campaign broke off, is first looked at, until it is home.
//! If it holds the release then, it is confirmed, whoever wrote it. Else one that was taken over
//! begins anew, if its rollout still runs, and so does one whose campaign the worker itself ended;
//! one whose campaign broke off has failed. Confirmed hosts are looked at once more when the soak
//! time of their wave is over.
//!
//! Nothing is begun whose bundle is not on the shelf: it is fetched first ([`Order::Fetch`]), by
//! somebody else than who renews the leases.
//!
//! | file | what the worker does there |
//! | --- | --- |
//! | `crew/leases.rs` | renews leases, and gives up what is no longer its own |
//! | `crew/claiming.rs` | claims hosts, and takes them over |
//! | `crew/campaigns.rs` | has campaigns begun, and follows them: updates, and looks |
//! | `crew/draining.rs` | drains and undrains hosts, where the rollout's file says so |
//! | `crew/orders.rs` | what it has others do |
//! | `crew/reports.rs` | what it tells the store |

mod campaigns;
mod claiming;
mod draining;
mod leases;
mod orders;
mod reports;

use std::collections::{BTreeMap, BTreeSet};

use firmcast::keys::ManagerPublicKey;

pub use super::drains::{DRAINS_AT_ONCE_MAX, UNDRAINS_AT_ONCE_MAX};
use super::drains::{Drains, STOPPED, Script};
use super::party::Party;
pub use super::party::{Campaign, Exit, HostEnd, Program, ProgramEnd, Purpose, Sight, Sighting};
use super::steering::Courses;
use super::strays::Stray;
pub use super::strays::{HOME_US, LOOK_AGAIN_US};
pub use super::supply::FETCH_AGAIN_US;
use super::supply::{Supply, begun};
use crate::model::{AttemptId, RolloutId, Stamp};
use crate::store::{Store, StoreError};
pub use orders::Order;
use orders::Orders;
use reports::Reports;
pub use reports::STAGES_MAX;

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

/// A worker of a site.
#[derive(Debug)]
pub struct Crew {
    site: String,
    name: String,
    hosts_max: usize,
    is_stopping: bool,
    courses: Courses,
    parties: BTreeMap<u64, Party>,
    strays: BTreeMap<AttemptId, Stray>,
    drains: Drains,
    /// The programs of rollouts of which it has hosts.
    scripts: BTreeMap<RolloutId, Script>,
    supply: Supply,
    reports: Reports,
    orders: Orders,
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
            parties: BTreeMap::new(),
            strays: BTreeMap::new(),
            drains: Drains::default(),
            scripts: BTreeMap::new(),
            supply: Supply::default(),
            reports: Reports::default(),
            orders: Orders::default(),
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
        self.reports.forget_looks();
        let updates = self.parties.values().filter(|party| party.purpose == Purpose::Update);
        let updated = updates.flat_map(|party| party.hosts.values().copied()).collect();
        self.drains.drop_lost(&updated);
        self.recall(None, STOPPED, now);
    }

    /// Hosts in flight on which it holds a lease, as far as it knows.
    pub fn in_hand(&self) -> usize {
        let is_looked_at = |attempt: &AttemptId| {
            self.strays.get(attempt).is_some_and(Stray::has_soaked)
                || self.reports.have_look(*attempt)
        };
        self.held().into_iter().filter(|attempt| !is_looked_at(attempt)).count()
    }

    fn in_parties(&self) -> impl Iterator<Item = AttemptId> {
        self.parties.values().flat_map(|party| party.hosts.values().copied())
    }

    fn held(&self) -> BTreeSet<AttemptId> {
        let in_parties = self.in_parties().chain(self.drains.attempts());
        in_parties.chain(self.strays.keys().copied()).chain(self.reports.attempts()).collect()
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
        self.reports.tell(store, &self.name, at.saturating_sub(now))?;
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
        words.iter().for_each(|words| self.reports.bundle(words.clone(), at));
        words
    }

    /// Returns what is to be done, in this order.
    pub fn take_orders(&mut self) -> Vec<Order> {
        self.orders.take()
    }

    /// Has the next bundle fetched that the site needs and the shelf lacks.
    fn fetch(&mut self, store: &mut dyn Store, now: Stamp) -> Result<(), StoreError> {
        let due = store.releases_due(&self.site)?;
        if self.is_stopping {
            return Ok(());
        }
        if let Some(release) = self.supply.need(due, now) {
            self.reports.bundle(begun(&release), now);
            self.orders.give(Order::Fetch { release });
        }
        Ok(())
    }
}
