//! What the stream carries is settled when the first host could join, and once again, to
//! everything, when a host turns up that this does not help.

use firmcast::random;
use firmcast::reason::{Reason, Refusal};
use firmcast::time::Time;
use firmcast::wire::broadcast::{FecScheme, GroupKey, TransferParameters};
use firmcast::wire::excerpt::Excerpt;

use super::super::cargo::SAYING_MAX;
use super::super::host::Host;
use super::super::legs::next::{Next, Start};
use super::super::retry::Retry;
use super::super::stage::Stage;
use super::Course;

impl Course {
    /// Settles what the stream carries, once that can be said.
    pub(super) fn settle_cargo(&mut self, now: Time) {
        if !self.plan.is_settled {
            self.choose_cargo(now);
        }
        let joins = |stage| matches!(stage, Stage::Join | Stage::Transfer);
        let is_in_need = |index: usize| {
            let host = &self.hosts[index];
            let why = host.contact.cannot_follow(&self.plan).filter(|_| joins(host.stage()))?;
            Some((index, why))
        };
        let in_need: Vec<_> = (0..self.hosts.len()).filter_map(is_in_need).collect();
        if in_need.is_empty() {
            return;
        }
        if !self.stream.has_started() && self.carry_everything(now) {
            return;
        }
        for (index, why) in in_need {
            let why = Refusal::new(Reason::LeftBehind, why);
            self.touch(now, index, |host, plan, _| host.follow(now, Next::release(why), plan));
        }
    }

    /// Hosts that could join wait for what the others say, for a while.
    fn choose_cargo(&mut self, now: Time) {
        if !self.hosts.iter().any(|host| host.stage() == Stage::Join) {
            return;
        }
        let settle_by = *self.cargo.settle_by.get_or_insert(now + SAYING_MAX);
        let is_silent = |host: &Host| host.stage() < Stage::Reach;
        if now < settle_by && self.hosts.iter().any(is_silent) {
            return;
        }
        // Who is silent for so long may be off, and must not cost the others the whole image.
        let is_coming = |host: &&Host| !is_silent(host) && host.stage() <= Stage::Transfer;
        let coming = || self.hosts.iter().filter(is_coming);
        let fec = match coming().all(|host| host.contact.speaks_excerpts()) {
            true => FecScheme::Fitted,
            false => FecScheme::Doubled,
        };
        match self.cargo.part(coming().map(|host| host.contact.lacking)) {
            Some((payload, excerpt)) => self.carry(payload, Some(excerpt), fec),
            None => self.carry(self.cargo.whole(), None, fec),
        };
        self.plan.is_settled = true;
        self.join_again(now, Stage::Join);
    }

    /// Who has joined has to do so again, before anything was sent. False where that failed.
    fn carry_everything(&mut self, now: Time) -> bool {
        let fragment_bytes = u32::from(self.plan.parameters.fragment_size_bytes.max(1));
        let given_up = self.plan.parameters.payload_size_bytes.div_ceil(fragment_bytes);
        let is_carried = self.carry(self.cargo.whole(), None, FecScheme::Doubled);
        if is_carried {
            self.plan.given_up_fragments = Some(given_up);
            self.join_again(now, Stage::Transfer);
            self.join_again(now, Stage::Join);
        }
        is_carried
    }

    /// Another payload has another key: no two fragments are sealed alike.
    fn carry(&mut self, payload: Vec<u8>, excerpt: Option<Excerpt>, fec: FecScheme) -> bool {
        let parameters = TransferParameters {
            campaign: self.plan.campaign(),
            group_key: GroupKey::new(random::seed(&mut self.rng)),
            payload_size_bytes: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            fragment_size_bytes: self.plan.parameters.fragment_size_bytes,
            fec,
        };
        let is_carried = self.stream.carry(payload, &parameters).is_ok();
        if is_carried {
            (self.plan.parameters, self.plan.excerpt) = (parameters, excerpt);
        }
        is_carried
    }

    /// Tells the hosts of this stage at once what to receive.
    fn join_again(&mut self, now: Time, stage: Stage) {
        for index in 0..self.hosts.len() {
            if self.hosts[index].stage() != stage {
                continue;
            }
            self.touch(now, index, |host, plan, _| match stage {
                Stage::Join => host.contact.retry = Retry::starting(now),
                _ => host.follow(now, Next::Go(Start::Join), plan),
            });
        }
    }
}
