//! A host that was rescued again and again without its system staying up: another image does not
//! help. It tells a manager, and boots on if it can, else it waits.

use std::time::{Duration, Instant};

use log::{info, warn};

use super::conclude::rescues;
use super::intent::{Intent, Way};
use super::screen::Screen;
use crate::handover::Provision;
use crate::mailbox::{Rescues, clock_s};
use crate::platform::Platform;
use crate::wire::help::{CONFIRMED_STAY, RESCUES_IN_VAIN};

/// Pause of a recovery image that cannot boot on, between two looks at whether it may ask again.
const PAUSE: Duration = Duration::from_secs(3600);

/// Longest sleep without feeding the watchdogs.
const FEEDING_INTERVAL: Duration = Duration::from_secs(1);

/// What is known of the rescues of this host.
pub(super) struct Vain {
    rescues: Rescues,
    /// There is a place for them.
    are_kept: bool,
}

impl Vain {
    /// Looks, where an image is wanted. A host without a place for the count knows of no rescue: a
    /// manager counts, too.
    pub(super) fn of(platform: &mut Platform, provision: &Provision, intent: Intent) -> Self {
        let place = provision.result_mailbox.as_ref().filter(|_| intent.wants_image());
        let kept = place.and_then(|place| rescues(platform, place));
        let are_kept = kept.is_some();
        let rescues = kept.unwrap_or_default();
        if !rescues.times().is_empty() {
            info!("rescues without a confirmed stay: {}", rescues.times().len());
        }
        Self { rescues, are_kept }
    }

    /// Returns how many a manager is told of; none where there is no place for them.
    pub(super) fn told(&self) -> Option<u8> {
        self.are_kept.then(|| u8::try_from(self.rescues.recent(clock_s())).unwrap_or(u8::MAX))
    }

    /// Returns what the host does now: nobody is asked for an image that does not help.
    pub(super) fn limit(&self, intent: Intent, way: Way) -> Intent {
        limit(intent, way, &self.rescues, clock_s())
    }

    /// Returns what a person and a manager read, while another image does not help.
    pub(super) fn why(&self) -> Option<String> {
        let now_s = clock_s();
        let count = self.rescues.recent(now_s);
        self.rescues.are_in_vain(now_s).then(|| {
            format!(
                "rescued {count} times in a day and never up for {} minutes: no image is asked for",
                CONFIRMED_STAY.as_secs() / 60
            )
        })
    }

    /// Waits for as long as another image does not help; only a recovery image does, which cannot
    /// boot on. `tell` tells a manager, once in each pause.
    pub(super) fn wait(
        &self,
        platform: &mut Platform,
        screen: &mut Screen,
        mut tell: impl FnMut(&mut Platform, &mut Screen, String),
    ) {
        while let Some(why) = self.why() {
            warn!("{why}; waiting");
            tell(platform, screen, why.clone());
            screen.tell(
                &why,
                "Something damages this firmware again and again. See firmcast status, then \
                restart this computer.",
            );
            let end = Instant::now() + PAUSE;
            while Instant::now() < end {
                platform.watchdogs().feed();
                std::thread::sleep(FEEDING_INTERVAL);
            }
        }
    }
}

/// A boot that can go on does so; a manager is told for a bounded time. A recovery image waits
/// before it asks.
fn limit(intent: Intent, way: Way, rescues: &Rescues, now_s: u64) -> Intent {
    match way {
        Way::Hook(_) if intent.wants_image() && rescues.are_in_vain(now_s) => {
            warn!("{RESCUES_IN_VAIN} rescues were in vain; booting on when a manager is told");
            Intent::Tell
        }
        _ => intent,
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::When;
    use super::*;

    #[test]
    fn a_boot_that_can_go_on_asks_for_no_fourth_image_whatever_the_verdict() {
        let after = |count: u64| (0..count).fold(Rescues::default(), |all, at| all.with(1000 + at));
        let (ask, now_s) = (Intent::AskForImage(None), 2000);
        for when in [When::Auto, When::Force] {
            let way = Way::Hook(when);
            assert_eq!(limit(ask, way, &after(2), now_s), ask);
            assert_eq!(limit(ask, way, &after(3), now_s), Intent::Tell);
            assert_eq!(limit(ask, way, &after(3), now_s + 24 * 3600), ask, "a day later");
            assert_eq!(limit(Intent::BootOn, way, &after(3), now_s), Intent::BootOn);
            // One that cannot go on waits first.
            assert_eq!(limit(ask, Way::Dedicated(when), &after(3), now_s), ask);
        }
    }

    #[test]
    fn what_is_told_names_the_count() {
        let now_s = clock_s();
        let vain = |times: &[u64]| Vain { rescues: Rescues::of(times), are_kept: true };
        let three = vain(&[now_s, now_s, now_s]);
        assert!(three.why().is_some_and(|why| why.starts_with("rescued 3 times in a day")));
        assert_eq!((vain(&[now_s, now_s]).why(), three.told()), (None, Some(3)));
        assert_eq!(vain(&[]).told(), Some(0), "a stay was confirmed");
        assert_eq!(Vain { are_kept: false, ..vain(&[]) }.told(), None, "nobody counts here");
    }
}
