use std::collections::BTreeMap;

use firmcast::reason::Reason;
use firmcast_manager::rescue::Snapshot;
use firmcast_manager::rescue::snapshot::HostStatus;

use crate::model::{Call, CallNews, CallTurn, Stamp};

/// Maximum number of news that wait to be told; of more the newest are left out.
pub const NEWS_MAX: usize = 1000;

/// The stage of a host that is in no campaign, as the service names it.
const WAITING: &str = "waiting";

/// How much later than its last word a host that was rescued is heard again if it calls anew, in
/// microseconds: the service says it to a second.
const BACK_US: i64 = 5_000_000;

/// What is known of a host that called.
#[derive(Debug, Default)]
struct Known {
    since: Stamp,
    /// How many of its attempts are told.
    attempts: u32,
    /// When it was heard last before it was rescued.
    rescued: Option<Stamp>,
    is_parked: bool,
}

/// What was heard of the service.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Who calls now.
    pub calls: Vec<Call>,
    /// What happened since it was heard last.
    pub news: Vec<CallNews>,
}

/// Follows what the service that answers dead hosts says.
#[derive(Debug)]
pub struct Hearing {
    site: String,
    hosts: BTreeMap<String, Known>,
}

impl Hearing {
    /// Begins to follow a service that was just started, for a site.
    pub fn new(site: &str) -> Self {
        Self { site: site.to_owned(), hosts: BTreeMap::new() }
    }

    /// Takes what the service says at `at`, by the store's clock. `release` tells the digest of the
    /// release that is in one of its files, and its version.
    pub fn hear(
        &mut self,
        snapshot: &Snapshot,
        at: Stamp,
        release: impl Fn(&str) -> Option<(String, String)>,
    ) -> Heard {
        let mut heard = Heard::default();
        for status in &snapshot.hosts {
            let silent_us = i64::try_from(status.silent_s).unwrap_or(i64::MAX);
            let heard_at = at.saturating_sub(silent_us.saturating_mul(1_000_000));
            let known = self.hosts.entry(status.host.clone()).or_insert_with(|| {
                heard.news.push(news(status, CallTurn::Called, called(status)));
                Known { since: heard_at, ..Known::default() }
            });
            let brought = release(&status.file);
            let ended = known.end(status, heard_at, brought.as_ref());
            heard.news.extend(ended.map(|(turn, detail)| news(status, turn, detail)));
            if known.is_back(heard_at) {
                (known.rescued, known.since) = (None, heard_at);
                heard.news.push(news(status, CallTurn::Called, called(status)));
            }
            if status.parked && !known.is_parked {
                heard.news.push(news(status, CallTurn::Parked, parked(status)));
            }
            known.is_parked = status.parked;
            if known.rescued.is_some() {
                continue;
            }
            let version = brought.map_or_else(String::new, |(_, version)| version);
            heard.calls.push(call(status, &self.site, known.since, heard_at, version));
        }
        heard.news.truncate(NEWS_MAX);
        heard
    }
}

impl Known {
    /// How its last attempt ended, if that is new.
    fn end(
        &mut self,
        status: &HostStatus,
        heard_at: Stamp,
        brought: Option<&(String, String)>,
    ) -> Option<(CallTurn, String)> {
        let last = status.last.as_ref()?;
        if status.stage != WAITING || status.attempts <= self.attempts {
            return None;
        }
        self.attempts = status.attempts;
        let with = brought.map(|(_, version)| format!(" with {version}")).unwrap_or_default();
        if last.reason != Reason::Rescued.name() {
            return Some((CallTurn::Failed, format!("failed: {}{with}", last.reason)));
        }
        self.rescued = Some(heard_at);
        let digest = brought.map(|(digest, _)| digest.clone()).unwrap_or_default();
        Some((CallTurn::Rescued(digest), format!("repaired itself{with}")))
    }

    /// Says whether it calls again after it was rescued.
    fn is_back(&self, heard_at: Stamp) -> bool {
        self.rescued.is_some_and(|rescued| heard_at > rescued.saturating_add(BACK_US))
    }
}

fn news(status: &HostStatus, what: CallTurn, detail: String) -> CallNews {
    CallNews { host: status.host.clone(), what, detail }
}

fn called(status: &HostStatus) -> String {
    let HostStatus { finding, why, address, .. } = status;
    let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
    let finding = if finding.is_empty() { "not known yet" } else { finding };
    format!("firmware {finding}{why}, from {address}")
}

fn parked(status: &HostStatus) -> String {
    match status.failures {
        0 => format!("left alone: rescued {} times within a day, and calls again", status.rescues),
        failures => format!("left alone: failed {failures} times"),
    }
}

fn call(status: &HostStatus, site: &str, since: Stamp, heard_at: Stamp, version: String) -> Call {
    let status = status.clone();
    Call {
        host: status.host,
        site: site.to_owned(),
        worker: String::new(),
        since,
        heard_at,
        address: status.address,
        finding: status.finding,
        why: status.why,
        stage: status.stage,
        done: status.done,
        total: status.total,
        version,
        attempts: status.attempts,
        failures: status.failures,
        rescues: status.rescues,
        parked: status.parked,
        conflict: status.conflict,
        held: status.held.unwrap_or_default(),
        last: status.last.map(|last| last.reason).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use firmcast_manager::rescue::snapshot::HostStatus;

    use super::*;

    const S: Stamp = 1_000_000;

    fn status(stage: &str, attempts: u32, last: Option<&str>) -> HostStatus {
        let last = last.map(|reason| {
            serde_json::from_value(serde_json::json!({
                "host": "a", "confirmed": false, "reason": reason, "code": 1, "message": "",
                "advice": "", "detail": "", "flash": "unknown", "reboot_safe": false,
            }))
            .expect("a result")
        });
        HostStatus {
            host: "a".to_owned(),
            key: "SHA256:x".to_owned(),
            known: true,
            address: "192.0.2.7:9847".to_owned(),
            silent_s: 0,
            vendor: "V".to_owned(),
            product: "P".to_owned(),
            finding: "invalid".to_owned(),
            why: "no volume".to_owned(),
            stage: stage.to_owned(),
            phase: String::new(),
            done: 0,
            total: 0,
            file: if attempts > 0 { "d.fcb".to_owned() } else { String::new() },
            attempts,
            failures: 0,
            rescues: 0,
            parked: false,
            conflict: false,
            held: None,
            last,
        }
    }

    fn hear(hearing: &mut Hearing, at_s: Stamp, host: HostStatus) -> Heard {
        let snapshot = Snapshot { bundles: Vec::new(), campaigns: Vec::new(), hosts: vec![host] };
        let release = |file: &str| Some((file.strip_suffix(".fcb")?.to_owned(), "2.0".to_owned()));
        hearing.hear(&snapshot, at_s * S, release)
    }

    fn told(heard: &Heard) -> Vec<(CallTurn, &str)> {
        heard.news.iter().map(|news| (news.what.clone(), news.detail.as_str())).collect()
    }

    #[test]
    fn each_turn_is_told_once_and_who_is_rescued_calls_no_more() {
        let mut hearing = Hearing::new("north");
        let held = HostStatus { held: Some("no-bundle".to_owned()), ..status("waiting", 0, None) };
        let heard = hear(&mut hearing, 10, held.clone());
        let words = "firmware invalid (no volume), from 192.0.2.7:9847";
        assert_eq!(told(&heard), [(CallTurn::Called, words)]);
        assert_eq!((heard.calls[0].held.as_str(), heard.calls[0].since), ("no-bundle", 10 * S));
        assert_eq!(told(&hear(&mut hearing, 11, held)), []);

        let heard = hear(&mut hearing, 20, status("receiving", 1, None));
        assert_eq!((told(&heard), heard.calls[0].version.as_str()), (vec![], "2.0"));
        let heard = hear(&mut hearing, 30, status("waiting", 1, Some("write-failed")));
        let failed = (CallTurn::Failed, "failed: write-failed with 2.0");
        assert_eq!(told(&heard), [failed]);
        // It is in its second attempt: how the first one ended is told already.
        assert_eq!(told(&hear(&mut hearing, 40, status("flashing", 2, Some("write-failed")))), []);
        let rescued = status("waiting", 2, Some("rescued"));
        let heard = hear(&mut hearing, 50, rescued.clone());
        let with = (CallTurn::Rescued("d".to_owned()), "repaired itself with 2.0");
        assert_eq!((told(&heard), heard.calls.as_slice()), (vec![with], &[][..]));
        // Its last word, said to a second; then it calls again.
        let silent = HostStatus { silent_s: 9, ..rescued.clone() };
        let heard = hear(&mut hearing, 60, silent);
        assert_eq!((told(&heard), heard.calls.as_slice()), (vec![], &[][..]));
        let parked = HostStatus { parked: true, rescues: 3, ..rescued };
        let heard = hear(&mut hearing, 100, parked.clone());
        let alone = "left alone: rescued 3 times within a day, and calls again";
        assert_eq!(told(&heard), [(CallTurn::Called, words), (CallTurn::Parked, alone)]);
        assert_eq!((heard.calls[0].since, heard.calls[0].last.as_str()), (100 * S, "rescued"));
        assert_eq!(told(&hear(&mut hearing, 101, parked)), []);
    }
}
