//! The service's state, as `firmcast status` shows it.

use firmcast::session::PeerKey;
use firmcast::time::Time;

use super::caller::Caller;
use super::service::{Running, Service};
use super::snapshot::{BundleStatus, CampaignStatus, HostStatus, Snapshot};
use crate::campaign::{Host, Stage};
use crate::news::{HostResult, Kind, campaign_text};

impl Service {
    /// All that is known now.
    pub fn status(&self, now: Time) -> Snapshot {
        let usable = self.shelf.bundles().iter().map(|bundle| BundleStatus {
            file: bundle.file.clone(),
            usable: true,
            why: String::new(),
            vendor: bundle.manifest.vendor().to_owned(),
            products: bundle.manifest.products().to_vec(),
            version: bundle.manifest.version().to_owned(),
            security_version: bundle.manifest.security_version(),
        });
        let refused = self.shelf.refused().iter().map(|refused| BundleStatus {
            file: refused.file.clone(),
            usable: false,
            why: refused.why.clone(),
            vendor: String::new(),
            products: Vec::new(),
            version: String::new(),
            security_version: 0,
        });
        Snapshot {
            bundles: usable.chain(refused).collect(),
            campaigns: self.courses.iter().map(Running::status).collect(),
            hosts: self
                .callers
                .iter()
                .map(|(key, caller)| self.host_status(now, key, caller))
                .collect(),
        }
    }

    fn host_status(&self, now: Time, key: &PeerKey, caller: &Caller) -> HostStatus {
        let host = self.course_of(key).and_then(|index| self.courses[index].course.host(key));
        let host = host.filter(|host| host.stage() != Stage::Ended);
        let (done, total) = host.map_or((0, 0), Host::progress);
        let request = caller.request.as_deref();
        let identity = request.map(|request| &request.identity);
        HostStatus {
            host: caller.name.clone(),
            key: caller.fingerprint.to_string(),
            known: caller.is_known,
            address: caller.address.to_string(),
            silent_s: now.since(caller.seen).as_secs(),
            vendor: identity.map(|identity| identity.vendor.clone()).unwrap_or_default(),
            product: identity.map(|identity| identity.product.clone()).unwrap_or_default(),
            finding: request.map_or("", |request| request.finding.name()).to_owned(),
            why: request.map(|request| request.why.clone()).unwrap_or_default(),
            stage: host.map_or("waiting", |host| host.stage().name()).to_owned(),
            phase: host.map_or("", |host| host.phase().name()).to_owned(),
            done,
            total,
            file: caller.file.clone(),
            attempts: caller.attempts,
            failures: caller.failures,
            rescues: caller.rescues(now),
            parked: caller.is_parked,
            conflict: caller.boots.are_of_many(),
            held: caller.held.map(|reason| reason.name().to_owned()),
            last: caller
                .last
                .as_ref()
                .map(|outcome| HostResult::new(Kind::Rescue, &caller.name, outcome)),
        }
    }
}

impl Running {
    fn status(&self) -> CampaignStatus {
        let stream = self.course.stream();
        let active = self.course.hosts().iter().filter(|host| host.stage() != Stage::Ended);
        CampaignStatus {
            campaign: campaign_text(self.course.campaign()),
            file: self.bundle.file.clone(),
            version: self.bundle.manifest.version().to_owned(),
            started: stream.has_started(),
            active: active.count(),
            rescued: self.rescued,
            failed: self.failed,
            rate_bits_per_s: stream.rate_bits_per_s(),
            wire_bytes: stream.stats().wire_bytes,
        }
    }
}
