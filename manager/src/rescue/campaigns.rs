//! The campaigns of the service: a course for each bundle whose payload was read, and the backups
//! that arrive there.

use firmcast::random;
use firmcast::session::PeerKey;
use firmcast::time::Time;
use firmcast::wire::finding::Acceptance;
use rand_core::RngCore as _;

use super::caller::Caller;
use super::note::{Note, ServiceEvent};
use super::service::{Load, Running, Service};
use super::shelf::{BundleId, Shelved};
use crate::campaign::{Backup, Contents, Course, Host, Purpose, Rescue, Terms};
use crate::news::{Kind, Narrator};

/// A backup that arrived whole. The driver makes it durable and says so with
/// [`Service::backup_stored`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deposit {
    /// The campaign in which it was given.
    pub campaign: u64,
    /// The backup.
    pub backup: Backup,
}

impl Service {
    /// The next bundle whose payload is wanted.
    pub fn poll_load(&mut self) -> Option<Load> {
        self.loads.pop_front()
    }

    /// Takes the payload of a bundle that was wanted, checked against its manifest, or why it
    /// cannot be had.
    pub fn loaded(&mut self, now: Time, id: &BundleId, payload: Result<Vec<u8>, String>) {
        self.loading.retain(|loading| loading != id);
        let begun = payload.and_then(|payload| self.begin(now, id, payload));
        if let Err(why) = begun {
            if let Some(bundle) = self.shelf.get(id) {
                let file = bundle.file.clone();
                self.note(Note::of(ServiceEvent::BundleRefused { file, why: why.clone() }));
            }
            self.shelf.refuse(id, why);
        }
        let waits = |caller: &mut Caller| caller.waits_for.take_if(|wanted| wanted == id).is_some();
        let waiting: Vec<PeerKey> = (self.callers.iter_mut())
            .filter_map(|(key, caller)| waits(caller).then_some(*key))
            .collect();
        for key in waiting {
            self.answer_request(now, &key);
        }
        self.settle(now);
    }

    /// Begins the campaign for a bundle.
    fn begin(&mut self, now: Time, id: &BundleId, payload: Vec<u8>) -> Result<(), String> {
        let bundle = self.shelf.get(id).cloned().ok_or("it is gone from the bundle directory")?;
        let manifest = &bundle.manifest;
        let terms = Terms {
            // Zero means no campaign.
            campaign: self.rng.next_u64().max(1),
            delivery: self.settings.delivery,
            rate_bits_per_s: self.settings.rate_bits_per_s,
            is_polite: self.settings.is_polite,
            fragment_size_bytes: self.settings.fragment_size_bytes,
            escrow: self.policy.escrow,
            purpose: Purpose::Update,
            accepted: Acceptance::default(),
            rescue: Some(Rescue { gather: self.policy.gather() }),
            deadlines: self.settings.deadlines,
            seed: random::seed(&mut self.rng),
        };
        let contents = Contents {
            manifest: bundle.signed.to_vec(),
            payload,
            pieces: None,
            image_size_bytes: manifest.image_size_bytes(),
            is_part: !manifest.parts().is_empty(),
            expect_version: None,
            stable_digest: *manifest.stable_digest(),
        };
        let course =
            Course::new(now, &terms, contents, Vec::new()).map_err(|error| error.to_string())?;
        let line = super::Line::Service(ServiceEvent::CampaignStarted {
            bundle: bundle.facts(),
            escrow: terms.escrow,
        });
        self.note(Note { campaign: Some(terms.campaign), line });
        let narrator = Narrator::new(Kind::Rescue);
        self.courses.push(Running { course, bundle, narrator, rescued: 0, failed: 0 });
        self.sharing = 0;
        Ok(())
    }

    /// The next backup to be made durable.
    pub fn poll_backup(&mut self) -> Option<Deposit> {
        self.courses.iter_mut().find_map(|running| {
            let backup = running.course.poll_backup()?;
            Some(Deposit { campaign: running.course.campaign(), backup })
        })
    }

    /// The host of a backup, and the bundle that it is going to get.
    pub fn depositor(&self, deposit: &Deposit) -> Option<(&Host, &Shelved)> {
        let running = self.running(deposit.campaign)?;
        Some((running.course.hosts().get(deposit.backup.host)?, &running.bundle))
    }

    /// Takes note that this backup is durable, or why it is not.
    pub fn backup_stored(&mut self, now: Time, deposit: &Deposit, stored: Result<(), String>) {
        let Deposit { campaign, backup } = deposit;
        let by_number = |running: &&mut Running| running.course.campaign() == *campaign;
        let Some(running) = self.courses.iter_mut().find(by_number) else { return };
        let course = &mut running.course;
        match stored {
            Ok(()) => {
                course.backup_stored(now, backup.host, backup.digest);
                let news = Narrator::backup_stored(&course.hosts()[backup.host], backup);
                self.note(Note::in_campaign(*campaign, news));
            }
            Err(why) => course.backup_not_stored(now, backup.host, why),
        }
        self.settle(now);
    }

    fn running(&self, campaign: u64) -> Option<&Running> {
        self.courses.iter().find(|running| running.course.campaign() == campaign)
    }
}
