//! What stands in the way of how many: `firmcast discover --summary`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use firmcast::reason::Reason;
use firmcast::wire::finding::{Finding, Verdict};
use serde::Serialize;

use crate::driver::interview::Found;

/// Most names of hosts that are shown for a finding; JSON has all of them.
const SHOWN_MAX: usize = 5;

/// How ready the hosts that answered are. The names are part of the command's interface.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    hosts: usize,
    can_update: usize,
    /// Those that refuse without a finding, because they are older or speak another protocol.
    obstacles: Vec<Obstacle>,
    findings: Vec<Counted>,
}

/// A reason that hosts name, most frequent first.
#[derive(Debug, Serialize)]
struct Obstacle {
    reason: &'static str,
    advice: &'static str,
    hosts: Vec<String>,
}

/// A finding that hosts have, what is in the way first.
#[derive(Debug, Serialize)]
struct Counted {
    check: &'static str,
    verdict: &'static str,
    reason: Option<&'static str>,
    advice: Option<&'static str>,
    hosts: Vec<String>,
}

impl Summary {
    pub(super) fn of(found: &[Found]) -> Self {
        let mut obstacles: BTreeMap<u16, Vec<String>> = BTreeMap::new();
        let mut findings: Vec<(Finding, Vec<String>)> = Vec::new();
        for host in found {
            let name = host.identity.host_name.clone();
            let is_obstacle = |finding: &&Finding| finding.verdict == Verdict::NotOk;
            let obstacle = host.identity.obstacle;
            if obstacle != Reason::None && !host.identity.findings.iter().any(|f| is_obstacle(&f)) {
                obstacles.entry(obstacle.code()).or_default().push(name.clone());
            }
            for finding in &host.identity.findings {
                match findings.iter_mut().find(|(known, _)| known == finding) {
                    Some((_, hosts)) => hosts.push(name.clone()),
                    None => findings.push((*finding, vec![name.clone()])),
                }
            }
        }
        findings.sort_by_key(|(finding, hosts)| {
            (std::cmp::Reverse(finding.verdict), std::cmp::Reverse(hosts.len()), finding.subject)
        });
        let can_update = found.iter().filter(|host| host.identity.obstacle == Reason::None).count();
        Self {
            hosts: found.len(),
            can_update,
            obstacles: obstacles.into_iter().map(Obstacle::new).collect(),
            findings: findings.into_iter().map(Counted::new).collect(),
        }
    }

    pub(super) fn to_text(&self) -> String {
        let Self { hosts, can_update, obstacles, findings } = self;
        let mut text = format!("{can_update} of {hosts} hosts can be updated\n");
        let mut line = |what: &str, named: &[String], advice: Option<&str>| {
            let mut shown = named.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join(", ");
            if named.len() > SHOWN_MAX {
                shown.push_str(", ...");
            }
            let _ = writeln!(text, "{:>6}  {what}: {shown}", named.len());
            if let Some(advice) = advice {
                let _ = writeln!(text, "        -> {advice}");
            }
        };
        for Obstacle { reason, advice, hosts } in obstacles {
            line(&format!("CANNOT ({reason})"), hosts, Some(advice));
        }
        for Counted { check, verdict, reason, advice, hosts } in findings {
            let verdict = if *verdict == "not-ok" { "NOT OK" } else { verdict };
            let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            line(&format!("{verdict} {check}{reason}"), hosts, *advice);
        }
        text
    }
}

impl Obstacle {
    fn new((code, hosts): (u16, Vec<String>)) -> Self {
        let reason = Reason::from_code(code);
        Self { reason: reason.name(), advice: reason.advice(), hosts }
    }
}

impl Counted {
    fn new((finding, hosts): (Finding, Vec<String>)) -> Self {
        let reason = Some(finding.reason).filter(|reason| *reason != Reason::None);
        Self {
            check: finding.subject.name(),
            verdict: finding.verdict.name(),
            reason: reason.map(Reason::name),
            advice: reason.map(Reason::advice),
            hosts,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;
    use firmcast::keys::{HostSecretKey, SecretKey as _};
    use firmcast::wire::answer::Identity;
    use firmcast::wire::finding::Subject;
    use firmcast::wire::samples;
    use rand_core::OsRng;

    fn host(number: usize, findings: &[(Subject, Verdict, Reason)]) -> Found {
        let findings: Vec<Finding> = (findings.iter())
            .map(|&(subject, verdict, reason)| Finding { subject, verdict, reason })
            .collect();
        let refused = findings.iter().find(|finding| finding.verdict == Verdict::NotOk);
        let obstacle = refused.map_or(Reason::None, |finding| finding.reason);
        let host_name = format!("s{number}");
        let identity = Identity { host_name, obstacle, findings, ..samples::identity() };
        let key = HostSecretKey::generate(&mut OsRng).public();
        let (address, twins) = ("10.0.0.1:9847".parse().unwrap(), BTreeSet::new());
        Found { key, address, identity, twins }
    }

    #[test]
    fn what_is_in_the_way_of_most_comes_first_and_nobody_is_left_out() {
        let sealed = (Subject::SealedDisks, Verdict::NotOk, Reason::DisksSealed);
        let locked = (Subject::FlashProtection, Verdict::NotOk, Reason::FlashLocked);
        let guests = (Subject::Workloads, Verdict::Told, Reason::None);
        let mut hosts: Vec<Found> = (0..7).map(|number| host(number, &[sealed, guests])).collect();
        hosts.push(host(7, &[locked, guests]));
        hosts.push(host(8, &[]));
        // One that says no more than why not, as older ones do.
        let mut old = host(9, &[]);
        old.identity.obstacle = Reason::PowerUnsafe;
        hosts.push(old);

        let summary = Summary::of(&hosts);
        assert_eq!((summary.hosts, summary.can_update), (10, 1));
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["findings"][0]["check"], "sealed-disks");
        assert_eq!(json["findings"][0]["hosts"].as_array().unwrap().len(), 7);
        assert_eq!(json["findings"][1]["check"], "flash-protection");
        assert_eq!(json["findings"][2]["verdict"], "told");
        assert_eq!(json["obstacles"][0]["reason"], "power-unsafe");
        let text = summary.to_text();
        assert!(text.starts_with("1 of 10 hosts can be updated\n"), "{text}");
        assert!(
            text.contains("     7  NOT OK sealed-disks (disks-sealed): s0, s1, s2, s3, s4, ...\n"),
            "{text}"
        );
        assert!(text.contains("     8  told workloads: s0"), "{text}");
    }
}
