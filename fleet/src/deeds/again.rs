use std::collections::BTreeMap;

use crate::model::Stamp;
use crate::rollout::duration::duration_words;
use crate::rollout::file::RolloutFile;
use crate::store::requests::Replanned;

/// Maximum number of hosts that are named.
const NAMED_MAX: usize = 10;

/// Hosts that are planned again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Again {
    /// How many.
    pub hosts: usize,
    /// How many of them with other predicted times than before.
    pub newer: usize,
    /// Those that never begin, as no window of their site is long enough, each with the longest
    /// time that it may take, in seconds.
    pub never: Vec<(String, u32)>,
}

impl Again {
    /// Returns what hosts that were planned at `now` come to, by the windows of the rollout's file.
    pub(super) fn of(planned: &[Replanned], file: Option<&RolloutFile>, now: Stamp) -> Self {
        // Many hosts of a site take the same time.
        let mut fits = BTreeMap::<(&str, u32), bool>::new();
        let mut never = Vec::new();
        for Replanned { host, site, predicted_s, .. } in planned {
            let fits = fits.entry((site, *predicted_s)).or_insert_with(|| {
                file.is_none_or(|file| file.next_start(site, *predicted_s, now).is_some())
            });
            if !*fits {
                never.push((host.clone(), *predicted_s));
            }
        }
        let is_newer = |host: &&Replanned| host.predicted_s != host.before_s;
        Self { hosts: planned.len(), newer: planned.iter().filter(is_newer).count(), never }
    }

    /// Returns it in words.
    pub fn words(&self, name: &str) -> String {
        let Self { hosts, newer, never } = self;
        let mut words = format!("{hosts} hosts of rollout {name} are planned again");
        if *newer > 0 {
            words += &format!(", {newer} of them with newer predicted times");
        }
        if never.is_empty() {
            return words;
        }
        let each = |(host, seconds): &(String, u32)| {
            format!("{host} ({})", duration_words(u64::from(*seconds)))
        };
        let named: Vec<String> = never.iter().take(NAMED_MAX).map(each).collect();
        let others = never.len() - named.len();
        let others = if others > 0 { format!(" and {others} more") } else { String::new() };
        words += &format!(
            "; {} of them never begin, as no window of their site is long enough: {}{others}",
            never.len(),
            named.join(", ")
        );
        words
    }
}
