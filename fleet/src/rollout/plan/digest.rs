//! What is frozen. The digest of a plan is the SHA-256 of this text, in UTF-8: one JSON array in
//! each line, without spaces, each line ended by a line feed. So no value can be taken for another,
//! and another program can compute it again.
//!
//! | line | which |
//! | --- | --- |
//! | `["firmcast-fleet plan 1"]` | the first |
//! | `["rollout",NAME,RELEASE]` | one; the release's digest |
//! | `["in-flight",PER,UNIT,NUMBER]` | each limit; the unit is `"hosts"` or `"percent"` |
//! | `["failures",PER,UNIT,NUMBER,SAMPLE,UNREACHABLE,ACTION]` | each limit |
//! | `["window",SITES,DAYS,FROM,TO,ZONE]` | each window; sites may be null, Monday is 1 |
//! | `["drain",WORDS,SECONDS]`, `["undrain",WORDS,SECONDS]` | what there is of them |
//! | `["healthy",SECONDS]` | one |
//! | `["wave",NUMBER,NAME,APPROVAL,SOAK]` | each wave, from 0; after it its hosts |
//! | `["host",NAME,KEY,SITE,[[PER,VALUE],...]]` | each host, in its order |
//!
//! Limits and windows are in the file's order. The last field of a host has the domains in which
//! the limits count it.

use std::fmt::Write as _;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::super::file::{Command, RolloutFile, WindowEntry, per_word};
use super::super::limits::{Action, Amount, Domain};
use super::PlannedWave;
use crate::model::Release;

/// Returns the digest of a plan, 64 hexadecimal digits.
pub(super) fn digest(file: &RolloutFile, release: &Release, waves: &[PlannedWave]) -> String {
    let mut text = Text::default();
    text.line(&("firmcast-fleet plan 1",));
    text.line(&("rollout", &file.name, &release.digest));
    for limit in &file.limits.in_flight {
        let (unit, number) = amount(limit.amount);
        text.line(&("in-flight", per_word(&limit.scope), unit, number));
    }
    for limit in &file.limits.failures {
        let (unit, number) = amount(limit.amount);
        let action = match limit.action {
            Action::Pause => "pause",
            Action::Stop => "stop",
        };
        let per = per_word(&limit.scope);
        text.line(&("failures", per, unit, number, limit.sample, limit.unreachable, action));
    }
    for WindowEntry { sites, window } in &file.windows {
        let days: Vec<i8> = window.days.iter().map(|day| day.to_monday_one_offset()).collect();
        let (from, to) = (window.from.to_string(), window.to.to_string());
        text.line(&("window", sites, days, from, to, window.zone.iana_name()));
    }
    for (word, command) in [("drain", &file.drain), ("undrain", &file.undrain)] {
        if let Some(Command { run, within_s }) = command {
            text.line(&(word, run, within_s));
        }
    }
    text.line(&("healthy", file.healthy_within_s));
    for wave in waves {
        text.line(&("wave", wave.number, &wave.name, wave.approval, wave.soak_s));
        for host in &wave.hosts {
            let domains = host.domains.iter().map(|Domain(scope, value)| (per_word(scope), value));
            let domains: Vec<_> = domains.collect();
            text.line(&("host", &host.name, &host.key, &host.site, domains));
        }
    }
    text.hash.finalize().iter().fold(String::new(), |mut digits, byte| {
        // Writing into a string never fails.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

fn amount(amount: Amount) -> (&'static str, u32) {
    match amount {
        Amount::Hosts(hosts) => ("hosts", hosts),
        Amount::Percent(percent) => ("percent", percent),
    }
}

#[derive(Default)]
struct Text {
    hash: Sha256,
}

impl Text {
    fn line<T: Serialize>(&mut self, values: &T) {
        // Text, numbers and lists of them can always be written.
        let line = serde_json::to_string(values).unwrap_or_default();
        self.hash.update(line.as_bytes());
        self.hash.update(b"\n");
    }
}
