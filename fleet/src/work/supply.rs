//! Which bundles a worker has at hand, and which one it fetches next.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Stamp;
use crate::store::requests::LACKING_MAX;

/// After how long a bundle that could not be fetched is tried again, in microseconds.
pub const FETCH_AGAIN_US: i64 = 10_000_000;

/// Maximum number of digits of a digest that a person is told.
const DIGEST_SHOWN: usize = 16;

/// The bundles of a worker.
#[derive(Debug, Default)]
pub(super) struct Supply {
    /// Digests of those that are on the shelf.
    shelf: BTreeSet<String>,
    /// Those that the site needs and the shelf has not, in order.
    lacking: Vec<String>,
    /// The one that is being fetched, and since when.
    fetching: Option<(String, Stamp)>,
    /// Those that could not be fetched: why, and when each is tried again.
    failed: BTreeMap<String, (String, Stamp)>,
}

impl Supply {
    /// The shelf has these.
    pub(super) fn stock(&mut self, shelf: BTreeSet<String>) {
        self.shelf = shelf;
    }

    pub(super) fn has(&self, release: &str) -> bool {
        self.shelf.contains(release)
    }

    pub(super) fn lacking(&self) -> &[String] {
        &self.lacking
    }

    /// The site needs these. Returns the one whose fetch begins now: one at a time, and first the
    /// one that has waited longest since it failed.
    pub(super) fn need(&mut self, due: Vec<String>, now: Stamp) -> Option<String> {
        let lacks = |release: &String| !self.shelf.contains(release);
        self.lacking = due.into_iter().filter(lacks).take(LACKING_MAX).collect();
        let lacking = &self.lacking;
        self.failed.retain(|release, _| lacking.contains(release));
        if self.fetching.is_some() {
            return None;
        }
        let again_at = |release: &&String| self.failed.get(*release).map(|(_, at)| *at);
        let next = self.lacking.iter().min_by_key(again_at)?;
        if again_at(&next).is_some_and(|at| at > now) {
            return None;
        }
        self.fetching = Some((next.clone(), now));
        Some(next.clone())
    }

    /// A fetch is over: with the bundle on the shelf, or with why not. Returns what is to be told;
    /// the same reason twice is told once.
    pub(super) fn fetched(
        &mut self,
        release: &str,
        result: Result<(), String>,
        now: Stamp,
    ) -> Option<String> {
        let begun = match self.fetching.take() {
            Some((fetching, since)) if fetching == release => since,
            other => {
                self.fetching = other;
                now
            }
        };
        let digest = shown(release);
        let Err(why) = result else {
            self.failed.remove(release);
            self.shelf.insert(release.to_owned());
            self.lacking.retain(|lacking| lacking != release);
            let seconds = now.saturating_sub(begun) / 1_000_000;
            return Some(format!("has bundle {digest}, after {seconds} s"));
        };
        let words = format!("cannot have bundle {digest}, tries again: {why}");
        let until = now.saturating_add(FETCH_AGAIN_US);
        let before = self.failed.insert(release.to_owned(), (why, until));
        let is_new =
            before.map(|(why, _)| why).as_ref() != self.failed.get(release).map(|(why, _)| why);
        is_new.then_some(words)
    }

    /// What the worker waits for, in words; empty when it has all that it needs.
    pub(super) fn waits_for(&self) -> String {
        let Some(release) = self.lacking.first() else { return String::new() };
        let (digest, others) = (shown(release), self.lacking.len() - 1);
        let others = if others == 0 { String::new() } else { format!(" and {others} more") };
        match self.failed.get(release) {
            Some((why, _)) => format!("bundle {digest}{others}: {why}"),
            None => format!("bundle {digest}{others}"),
        }
    }
}

/// What an event says when a fetch begins.
pub(super) fn begun(release: &str) -> String {
    format!("fetches bundle {}", shown(release))
}

fn shown(digest: &str) -> String {
    digest.chars().take(DIGEST_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(releases: &[&str]) -> Vec<String> {
        releases.iter().map(|release| (*release).to_owned()).collect()
    }

    #[test]
    fn one_bundle_at_a_time_and_what_fails_waits_behind_the_others() {
        let mut supply = Supply::default();
        supply.stock(["c".to_owned()].into());
        let needed = || due(&["a", "b", "c"]);
        assert_eq!(supply.need(needed(), 0).as_deref(), Some("a"));
        assert_eq!(supply.need(needed(), 1), None, "one is on its way");
        assert_eq!(supply.lacking(), due(&["a", "b"]));
        let full = || Err("the disk is full".to_owned());
        let told = supply.fetched("a", full(), 5).expect("told");
        assert_eq!(told, "cannot have bundle a, tries again: the disk is full");
        assert_eq!(supply.waits_for(), "bundle a and 1 more: the disk is full");
        assert_eq!(supply.need(needed(), 6).as_deref(), Some("b"));
        let told = supply.fetched("b", Ok(()), 2_000_006).expect("told");
        assert_eq!(told, "has bundle b, after 2 s");
        assert_eq!(supply.need(needed(), 2_000_007), None, "it waits");
        let later = 5 + FETCH_AGAIN_US;
        assert_eq!(supply.need(needed(), later).as_deref(), Some("a"));
        assert_eq!(supply.fetched("a", full(), later), None, "told before");
        assert_eq!(supply.need(due(&["b"]), later), None);
        assert_eq!((supply.waits_for(), supply.lacking()), (String::new(), &[][..]));
    }
}
