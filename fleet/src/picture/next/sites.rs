//! What hosts wait for at their sites: a bundle, a window, a worker.

use std::collections::BTreeMap;

use super::super::seen::Seen;
use super::super::words::{SECOND_US, distance, hosts, moment, span, work_command};
use super::Next;
use crate::model::{AttemptState, Stamp, Wave, WaveState};
use crate::rollout::file::RolloutFile;

/// Maximum number of sites that are told one by one.
const SITES_MAX: usize = 4;

/// How long a wave may run before it is asked why nobody begins at a site, in microseconds.
const IDLE_US: i64 = 30 * SECOND_US;

/// Where hosts that are planned wait for a bundle, as no worker of their site has it.
pub(super) fn bundles(seen: &Seen, now: Stamp) -> Vec<Next> {
    let mut sites: BTreeMap<&str, u64> = BTreeMap::new();
    let planned = seen.attempts.iter().filter(|attempt| attempt.state == AttemptState::Planned);
    planned.for_each(|attempt| *sites.entry(&attempt.site).or_default() += 1);
    let waits = sites.into_iter().filter_map(|(site, planned)| {
        let waiting = seen.waiting_workers(site, now);
        let (first, others) = waiting.split_first()?;
        let others = match others.len() {
            0 => String::new(),
            others => format!(" (and {others} more)"),
        };
        Some(Next::said(format!(
            "{} at site {site} wait for the bundle: worker {}{others} waits for {}",
            hosts(planned),
            first.name,
            first.waits_for
        )))
    });
    at_most(SITES_MAX, waits.collect())
}

fn at_most(max: usize, mut next: Vec<Next>) -> Vec<Next> {
    let others = next.len().saturating_sub(max);
    next.truncate(max);
    if others > 0 {
        next.push(Next::said(format!("and {others} further sites wait")));
    }
    next
}

/// The hosts of a wave that have not begun at a site.
#[derive(Clone, Default)]
struct Waiting<'a> {
    in_flight: u64,
    /// The longest time that each of the planned ones takes, in seconds, and its name; those that
    /// take the shortest time first.
    planned: Vec<(u32, &'a str)>,
}

fn by_site<'a>(seen: &'a Seen, wave: &Wave) -> BTreeMap<&'a str, Waiting<'a>> {
    let mut sites: BTreeMap<&str, Waiting<'_>> = BTreeMap::new();
    for attempt in seen.attempts.iter().filter(|attempt| attempt.wave == wave.number) {
        let site = sites.entry(&attempt.site).or_default();
        match attempt.state {
            AttemptState::Planned => site.planned.push((attempt.predicted_s, &attempt.host)),
            AttemptState::InFlight => site.in_flight += 1,
            AttemptState::Confirmed | AttemptState::Failed | AttemptState::Skipped => {}
        }
    }
    sites.retain(|_, site| !site.planned.is_empty());
    sites.values_mut().for_each(|site| site.planned.sort_unstable());
    sites
}

/// Where a wave waits: for windows, the soonest first, or for workers. Of those that wait for a
/// bundle [`bundles`] tells.
pub(super) fn sites(seen: &Seen, wave: &Wave, now: Stamp) -> Vec<Next> {
    let Some(file) = &seen.file else { return Vec::new() };
    let runs_long = wave.state == WaveState::Running && wave.since.saturating_add(IDLE_US) < now;
    let mut next: Vec<(Stamp, Next)> = Vec::new();
    for (site, waiting) in by_site(seen, wave) {
        let fits = |(seconds, _): &(u32, &str)| file.next_start(site, *seconds, now).is_some();
        let (fitting, never) = waiting.planned.split_at(waiting.planned.partition_point(fits));
        next.extend(never_begin(site, never).map(|next| (now, next)));
        let Some((shortest_s, _)) = fitting.first() else { continue };
        let planned = hosts(fitting.len() as u64);
        match file.next_start(site, *shortest_s, now) {
            Some(at) if at > now => {
                let words = format!(
                    "{planned} at site {site} wait for the window: it opens {}, {}",
                    on_the_wall(file, site, at),
                    distance(at, now)
                );
                next.push((at, Next::said(words).at(at)));
            }
            Some(_) if !seen.has_worker(site, now) => {
                let words = format!(
                    "{planned} at site {site} may begin, and no worker runs there: start one"
                );
                next.push((now, Next::said(words).typed(work_command(site))));
            }
            Some(_) if !seen.waiting_workers(site, now).is_empty() => {}
            Some(_) if runs_long && waiting.in_flight == 0 => {
                let words = format!(
                    "{planned} at site {site} may begin and none does, though a worker runs \
                     there: a limit is full, or the worker has all the hosts that it takes"
                );
                next.push((now, Next::said(words)));
            }
            _ => {}
        }
    }
    next.sort_by_key(|(at, _)| *at);
    at_most(SITES_MAX, next.into_iter().map(|(_, next)| next).collect())
}

/// Of hosts for which no window is long enough, the one that takes the shortest time first.
fn never_begin(site: &str, never: &[(u32, &str)]) -> Option<Next> {
    let (shortest_s, first) = never.first()?;
    Some(Next::said(format!(
        "{} at site {site} never begin, {first} among them: no window is long enough for the {} \
         that it may take; end this rollout and create one with longer windows",
        hosts(never.len() as u64),
        span(i64::from(*shortest_s) * SECOND_US)
    )))
}

/// A moment by the clock of a site's window.
fn on_the_wall(file: &RolloutFile, site: &str, at: Stamp) -> String {
    let entry = file.windows.iter().find(|entry| entry.covers(site));
    let Some(zone) = entry.map(|entry| &entry.window.zone) else { return String::new() };
    format!("{} ({})", moment(at, zone), zone.iana_name().unwrap_or("its time zone"))
}
