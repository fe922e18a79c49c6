//! What a host is told that asks for help, and what becomes of it when an attempt ends.

use firmcast::reason::{Ending, Reason};
use firmcast::session::PeerKey;
use firmcast::time::Time;
use firmcast::wire::answer::{DETAIL_SIZE_MAX, Report};
use firmcast::wire::command::Command;
use firmcast::wire::help::HelpRequest;
use rand_core::RngCore as _;

use super::caller::ENLISTMENTS_PER_HOUR_MAX;
use super::note::{HelpFacts, Note, ServiceEvent};
use super::policy::BundleChoice;
use super::service::{COURSES_MAX, Load, Running, Service};
use super::shelf::BundleId;
use crate::campaign::{HOLD_TOLD_S, Outcome, Stage, Target, awaits_release};
use crate::news::{News, twins_text};

/// How long hosts are put off for which there is nothing, on average; spread by a quarter.
const HOLD_S: u16 = 60;

/// How long hosts are put off that only have to wait for others.
const HOLD_BUSY_S: u16 = 10;

/// What a request is answered with.
enum Answer {
    Enlist(usize),
    /// As soon as this bundle was read.
    Load(BundleId),
    Hold(Reason, String),
}

impl Service {
    /// A host asks for help. It is answered at most once, and not more often than it may ask.
    pub(super) fn handle_request(&mut self, now: Time, key: &PeerKey, request: Box<HelpRequest>) {
        let Some(caller) = self.callers.get_mut(key) else { return };
        if !caller.limit.take(now) || self.is_stopping {
            return;
        }
        if caller.boots.take(request.identity.boot_id) {
            let message = twins_text(&caller.name);
            let line = super::Line::Campaign(News::Warning { message });
            self.notes.push_back(Note { campaign: None, line });
        }
        let is_news = caller.request.as_ref().is_none_or(|before| **before != *request);
        let (wants_image, end) = (request.wants_image, request.identity.last_end.clone());
        let told = request.rescues;
        if is_news {
            let facts = HelpFacts {
                host: caller.name.clone(),
                key: caller.fingerprint.to_string(),
                known: caller.is_known,
                address: caller.address.to_string(),
                wants_image,
                finding: request.finding.name().to_owned(),
                offset_bytes: request.offset_bytes,
                why: request.why.clone(),
                host_name: request.identity.host_name.clone(),
                vendor: request.identity.vendor.clone(),
                product: request.identity.product.clone(),
                last_end: end.as_ref().map(|end| end.ending.reason.name().to_owned()),
            };
            caller.request = Some(request);
            self.note(Note::of(ServiceEvent::HelpRequest(Box::new(facts))));
        }
        if !wants_image {
            if told.is_some() {
                self.look_at_rescues(now, key, told);
            }
            self.send_hold(now, key, HOLD_TOLD_S, Reason::None, String::new());
            return;
        }
        self.end_failed_attempt(now, key, end.map(|end| (end.campaign, end.ending)));
        self.look_at_rescues(now, key, told);
        self.answer_request(now, key);
    }

    /// A host that asks again after as many rescues as it may fail is left alone. `told` is its own
    /// count.
    fn look_at_rescues(&mut self, now: Time, key: &PeerKey, told: Option<u8>) {
        let rescues_max = self.policy.attempts_max;
        let Some(caller) = self.callers.get_mut(key) else { return };
        if caller.rescued_in_vain(now, told, rescues_max) {
            self.note_parked(now, key);
        }
    }

    fn note_parked(&mut self, now: Time, key: &PeerKey) {
        let Some(caller) = self.callers.get(key) else { return };
        // Without an attempt here, the host has told of its rescues.
        let reason = caller.last.as_ref().map_or(Reason::Rescued, |last| last.ending.reason);
        self.note(Note::of(ServiceEvent::Parked {
            host: caller.name.clone(),
            failures: caller.failures,
            rescues: caller.rescues(now),
            reason: reason.name().to_owned(),
        }));
    }

    /// A host that asks although it is enlisted says that its attempt is over; whether that counts,
    /// depends on how far it was.
    fn end_failed_attempt(&mut self, now: Time, key: &PeerKey, end: Option<(u64, Ending)>) {
        let Some(index) = self.course_of(key) else { return };
        let course = &mut self.courses[index].course;
        let said = end.filter(|(campaign, _)| *campaign == course.campaign());
        let said = said.map(|(_, ending)| ending);
        course.ask_again(now, key, said);
        // The course goes on for the host that is about to begin anew, even if it was the last one.
        while let Some(event) = self.courses[index].course.poll_event() {
            self.handle_event(now, index, event);
        }
    }

    /// Answers a host whose request is known.
    pub(super) fn answer_request(&mut self, now: Time, key: &PeerKey) {
        let answer = match self.decide(now, key) {
            Some(answer) => answer,
            None => return,
        };
        match answer {
            Answer::Enlist(index) => self.enlist(now, key, index),
            Answer::Load(id) => {
                if let Some(caller) = self.callers.get_mut(key) {
                    caller.waits_for = Some(id);
                }
                let file = self.shelf.get(&id).map(|bundle| bundle.file.clone());
                if let Some(file) = file.filter(|_| !self.loading.contains(&id)) {
                    self.loading.push(id);
                    self.loads.push_back(Load { id, file });
                }
            }
            Answer::Hold(reason, detail) => self.hold(now, key, reason, detail),
        }
    }

    fn decide(&self, now: Time, key: &PeerKey) -> Option<Answer> {
        let caller = self.callers.get(key)?;
        let identity = &caller.request.as_ref()?.identity;
        let in_course = self.course_of(key).filter(|index| {
            let host = self.courses[*index].course.host(key);
            host.is_some_and(|host| host.stage() != Stage::Ended)
        });
        if let Some(index) = in_course {
            return Some(Answer::Enlist(index));
        }
        if caller.is_parked {
            let reason = caller.last.as_ref().map_or(Reason::None, |outcome| outcome.ending.reason);
            let detail = match (caller.failures, caller.rescues(now)) {
                (0, rescues) => format!("it was rescued {rescues} times within a day"),
                (failures, _) => format!("it failed {failures} times, last: {}", reason.name()),
            };
            return Some(Answer::Hold(Reason::Parked, detail));
        }
        let (vendor, product) = (&identity.vendor, &identity.product);
        let choice = self.policy.choice(vendor, product, &caller.name, &caller.fingerprint);
        let pinned = match choice {
            BundleChoice::Hold => return Some(Answer::Hold(Reason::Held, String::new())),
            BundleChoice::Pinned(version) => Some(version.as_str()),
            BundleChoice::Newest => None,
        };
        Some(match self.shelf.choose(identity, self.known.floor(key), caller.fingerprint, pinned) {
            Err(why) => Answer::Hold(Reason::NoBundle, why),
            Ok(bundle) => {
                let at = self.courses.iter().position(|running| running.bundle.id == bundle.id);
                match at {
                    Some(index) => Answer::Enlist(index),
                    None if self.courses.len() + self.loading.len() >= COURSES_MAX
                        && !self.loading.contains(&bundle.id) =>
                    {
                        let detail = format!("{COURSES_MAX} other images are on their way");
                        Answer::Hold(Reason::Busy, detail)
                    }
                    None => Answer::Load(bundle.id),
                }
            }
        })
    }

    fn enlist(&mut self, now: Time, key: &PeerKey, index: usize) {
        let Some(caller) = self.callers.get_mut(key) else { return };
        let Some(request) = &caller.request else { return };
        let Running { course, bundle, .. } = &mut self.courses[index];
        let target = Target { name: caller.name.clone(), key: Some(*key), address: caller.address };
        let stage = course.host(key).map_or(Stage::Ended, |host| host.stage());
        let begins = stage != Stage::Enlist;
        if begins && !caller.may_enlist(now) {
            let detail = format!("it was enlisted {ENLISTMENTS_PER_HOUR_MAX} times within an hour");
            self.hold(now, key, Reason::Busy, detail);
            return;
        }
        if !course.enlist(now, target, request, caller.is_known) {
            self.hold(now, key, Reason::Busy, "the campaign has as many hosts as it can".into());
            return;
        }
        if begins {
            caller.enlist(now);
        }
        (caller.campaign, caller.held) = (Some(course.campaign()), None);
        caller.file.clone_from(&bundle.file);
    }

    pub(super) fn hold(&mut self, now: Time, key: &PeerKey, reason: Reason, detail: String) {
        let Some(caller) = self.callers.get_mut(key) else { return };
        let host = caller.name.clone();
        if caller.held.replace(reason) != Some(reason) {
            let (reason, detail) = (reason.name().to_owned(), detail.clone());
            self.note(Note::of(ServiceEvent::Held { host, reason, detail }));
        }
        let mean_s = if reason == Reason::Busy { HOLD_BUSY_S } else { HOLD_S };
        let spread_s = self.rng.next_u32() % u32::from(mean_s / 2);
        let again_s = mean_s * 3 / 4 + u16::try_from(spread_s).unwrap_or(0);
        self.send_hold(now, key, again_s, reason, detail);
    }

    fn send_hold(
        &mut self,
        now: Time,
        key: &PeerKey,
        again_s: u16,
        reason: Reason,
        mut detail: String,
    ) {
        while detail.len() > DETAIL_SIZE_MAX {
            detail.pop();
        }
        self.endpoint.send(now, key, &Command::Hold { again_s, reason, detail }.emit());
    }

    /// A host reports on a campaign that nobody does any more: a manager before this one did, or it
    /// is over. It is let go, and asks for help again if it still needs it.
    pub(super) fn handle_stray(&mut self, now: Time, key: &PeerKey, report: &Report) {
        let waits = awaits_release(report.phase);
        let Some(caller) = self.callers.get_mut(key) else { return };
        if !waits || !caller.limit.take(now) {
            return;
        }
        let is_news = caller.recalled.replace(report.campaign) != Some(report.campaign);
        let (host, phase) = (caller.name.clone(), report.phase.name().to_owned());
        self.endpoint.send(now, key, &Command::Release { campaign: report.campaign }.emit());
        if is_news {
            let line = super::Line::Service(ServiceEvent::Recalled { host, phase });
            self.note(Note { campaign: Some(report.campaign), line });
        }
    }

    /// An attempt of this host ended.
    pub(super) fn attempt_ended(&mut self, now: Time, key: &PeerKey, outcome: &Outcome) {
        let failures_max = self.policy.attempts_max;
        let Some(caller) = self.callers.get_mut(key) else { return };
        if caller.attempt_ended(now, outcome, failures_max) {
            self.note_parked(now, key);
        }
    }
}
