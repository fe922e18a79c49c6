//! What an operator should look at before a rollout is created.

use std::collections::BTreeSet;

use super::super::duration::duration_words;
use super::super::file::{Members, RolloutFile, per_word};
use super::super::limits::Scope;
use super::super::prediction::ASSUMED_S;
use super::members::share;
use super::schedule::Begin;
use super::{Plan, Planned, Why};

/// Returns all that is worth a look.
pub(super) fn warnings(
    plan: &Plan,
    file: &RolloutFile,
    hosts: &[Planned<'_>],
    begins: &[Begin],
) -> Vec<String> {
    let mut found = Vec::new();
    selection(plan, &mut found);
    waves(plan, file, &mut found);
    limits(file, hosts, &mut found);
    windows(file, hosts, begins, &mut found);
    if plan.times.assumed > 0 {
        let takes = duration_words(u64::from(ASSUMED_S));
        found.push(format!(
            "nothing is foreseen for {} of {} hosts, which are taken to need {takes}: at each \
             site, run firmcast-fleet hosts foresee --release {} --site SITE",
            plan.times.assumed,
            hosts.len(),
            plan.version
        ));
    }
    found
}

fn selection(plan: &Plan, found: &mut Vec<String>) {
    match (plan.known, plan.selected) {
        (0, _) => found.push("no host is known: import some".to_owned()),
        (known, 0) => found.push(format!("hosts selects none of the {known} known hosts")),
        (known, selected) if known == selected => {
            found.push(format!("hosts selects every known host, {known}"));
        }
        _ => {}
    }
    if plan.selected > 0 && plan.touched() == 0 {
        found.push("no host would be touched".to_owned());
    }
}

fn waves(plan: &Plan, file: &RolloutFile, found: &mut Vec<String>) {
    let none = plan.left_out.iter().filter(|each| each.why == Why::NoWave).count();
    let all = plan.touched() + none;
    for (wave, entry) in plan.waves.iter().zip(&file.waves) {
        let name = format!("wave {} {:?}", wave.number + 1, wave.name);
        let taken = wave.hosts.len();
        if taken == 0 {
            found.push(format!("{name} is empty"));
            continue;
        }
        match entry.members {
            Members::Count(count) if taken < count as usize => {
                found.push(format!("{name} has {taken} hosts, as no more are left; not {count}"));
            }
            Members::Percent(percent) if percent < 100 && share(percent, all) == all => {
                found.push(format!("{name}: {percent} %, rounded up, are all {all} hosts"));
            }
            _ => {}
        }
    }
    if none > 0 {
        found.push(format!("no wave takes {none} selected hosts: add a wave with rest = true"));
    }
}

fn limits(file: &RolloutFile, hosts: &[Planned<'_>], found: &mut Vec<String>) {
    let in_flight = file.limits.in_flight.iter().map(|limit| &limit.scope);
    let scopes: BTreeSet<_> =
        in_flight.chain(file.limits.failures.iter().map(|limit| &limit.scope)).collect();
    for scope in scopes {
        let Scope::Label(label) = scope else { continue };
        let without = hosts.iter().filter(|planned| planned.host.label(label).is_empty()).count();
        if without > 0 {
            let per = per_word(scope);
            found.push(format!(
                "{without} hosts have no label {label:?}: per {per} counts them together"
            ));
        }
    }
    if file.limits.failures.is_empty() {
        found.push("failures = []: it goes on however many hosts fail".to_owned());
    }
    if file.limits.in_flight.is_empty() {
        found.push("in-flight = []: all hosts of a wave begin at the same time".to_owned());
    }
}

fn windows(file: &RolloutFile, hosts: &[Planned<'_>], begins: &[Begin], found: &mut Vec<String>) {
    if !file.windows.is_empty() {
        let sites: BTreeSet<&str> = hosts.iter().map(|planned| planned.host.site()).collect();
        let open = sites.iter().filter(|site| !file.windows.iter().any(|each| each.covers(site)));
        for site in open {
            found.push(format!("site {site:?} has no window: its hosts may begin at any time"));
        }
        for window in &file.windows {
            for site in window.sites.iter().flatten().filter(|site| !sites.contains(site.as_str()))
            {
                found.push(format!("a window is for site {site:?}, where no host is planned"));
            }
        }
    }
    let pairs = || hosts.iter().zip(begins);
    let mut never = pairs().filter(|(_, begin)| **begin == Begin::Never);
    if let Some((first, _)) = never.next() {
        let count = 1 + never.count();
        let takes = duration_words(u64::from(first.prediction.longest_s));
        found.push(format!(
            "{count} of {} hosts never begin, as no window of their site is long enough; the first \
             is {:?}, which may take {takes}",
            hosts.len(),
            first.host.name
        ));
    }
    if pairs().any(|(_, begin)| *begin == Begin::Unknown) {
        found.push("it takes too long to be foreseen to its end".to_owned());
    }
}
