//! What a host records of what is done to it: itself, whatever a manager or a store may say.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::SystemTime;

use firmcast_manager::clock::unix_micros;
use serde_json::{Value, json};

use crate::chip::changes;
use crate::update::host::{Place, VirtualHost};
use crate::update::truth::Holds;

/// Maximum number of addresses that a host remembers to have spoken to.
const ADDRESSES_MAX: usize = 1024;

/// Where a host is, as far as it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Home,
    /// It has accepted to leave for this campaign.
    Accepted(u64),
    /// On its way there or back.
    Booting,
    Recovery {
        campaign: u64,
        /// A flash job runs.
        works: bool,
        /// It has changed the chip.
        changed: bool,
    },
    Dead,
}

/// What was seen of a host so far.
#[derive(Debug)]
pub(super) struct Sight {
    stage: Stage,
    spoken: BTreeSet<SocketAddr>,
}

impl Sight {
    pub(super) fn new(host: &VirtualHost) -> Self {
        Self { stage: stage(host), spoken: BTreeSet::new() }
    }

    /// Records whom the host speaks to for the first time.
    pub(super) fn speaks(&mut self, host: &VirtualHost, to: SocketAddr) {
        if self.spoken.len() == ADDRESSES_MAX {
            self.spoken.clear();
        }
        if self.spoken.insert(to) {
            record(host, "spoke", json!({ "to": to.to_string() }));
        }
    }

    /// Records what has changed since the last look. Call it after each step.
    pub(super) fn look(&mut self, host: &VirtualHost) {
        let now = stage(host);
        let before = std::mem::replace(&mut self.stage, now);
        if before == now {
            return;
        }
        match now {
            Stage::Home => record(host, "home", json!({ "holds": holds(host) })),
            Stage::Accepted(campaign) => {
                let manager = host.computer.loaded.as_ref().map(|to| to.manager_address);
                let manager = manager.map(|address| address.to_string());
                let campaign = number(campaign);
                record(host, "accepted", json!({ "campaign": campaign, "manager": manager }));
            }
            Stage::Booting => {}
            Stage::Dead => record(host, "dead", json!({})),
            Stage::Recovery { campaign, works, changed } => {
                let (campaign, holds) = (number(campaign), holds(host));
                let was = match before {
                    Stage::Recovery { works, changed, .. } => (works, changed),
                    _ => (false, false),
                };
                let facts = json!({ "campaign": campaign, "holds": holds });
                match (was, works, changed) {
                    ((false, _), true, _) => record(host, "job", facts),
                    ((_, false), _, true) => record(host, "changes", facts),
                    ((true, _), false, _) => record(host, "job-over", facts),
                    _ => record(host, "recovery", facts),
                }
            }
        }
    }
}

fn stage(host: &VirtualHost) -> Stage {
    match (&host.place, &host.computer.loaded) {
        (Place::Os(_) | Place::Leaving(..), Some(to)) => Stage::Accepted(to.campaign),
        (Place::Os(_), None) => Stage::Home,
        (Place::Leaving(..) | Place::Booting { .. }, _) => Stage::Booting,
        (Place::Recovery(stay), _) => Stage::Recovery {
            campaign: stay.campaign,
            works: stay.job.is_some(),
            changed: changes(&host.computer.flash) != (0, 0),
        },
        (Place::Dead, _) => Stage::Dead,
    }
}

fn number(campaign: u64) -> String {
    format!("{campaign:016x}")
}

fn holds(host: &VirtualHost) -> &'static str {
    match host.computer.holds() {
        Holds::Old => "old",
        Holds::New => "new",
        Holds::Other => "other",
    }
}

/// Writes a line of the record.
pub(super) fn record(host: &VirtualHost, what: &str, facts: Value) {
    let at = unix_micros(SystemTime::now());
    println!("{}", json!({ "at": at, "host": host.computer.number, "is": what, "facts": facts }));
}
