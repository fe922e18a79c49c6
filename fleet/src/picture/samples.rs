//! Rollouts for tests.

use std::collections::BTreeMap;

use crate::model::{
    Approval, Attempt, AttemptState, Drain, Rollout, RolloutState, Stamp, Wave, WaveState, Worker,
};
use crate::picture::seen::Seen;
use crate::rollout::file::RolloutFile;
use crate::rollout::limits::Counts;
use crate::rollout::samples::WINTER;
use crate::store::requests::RolloutWaves;

/// Friday, 2026-01-02, 12:00 UTC: an hour earlier than in Berlin.
pub(crate) const NOON: Stamp = 1_767_355_200_000_000;

/// What a rollout is to be like.
pub(crate) struct Sample {
    pub(crate) state: RolloutState,
    pub(crate) reason: &'static str,
    pub(crate) waves: [WaveState; 3],
    /// For each host its site, its rack, and what became of it: an index into [`STATES`].
    pub(crate) places: Vec<(usize, usize, usize)>,
    /// The sites where a worker is.
    pub(crate) workers: Vec<usize>,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            state: RolloutState::Running,
            reason: "",
            waves: [WaveState::Running, WaveState::Waiting, WaveState::Waiting],
            places: Vec::new(),
            workers: (0..SITES.len()).collect(),
        }
    }
}

/// What became of a host: state, stage, reason, flash.
type State = (AttemptState, Option<&'static str>, Option<&'static str>, Option<&'static str>);

/// States of hosts.
pub(crate) const STATES: [State; 8] = [
    (AttemptState::Planned, None, None, None),
    (AttemptState::InFlight, None, None, None),
    (AttemptState::InFlight, Some("receiving"), None, None),
    (AttemptState::InFlight, Some("flashing"), None, None),
    (AttemptState::Confirmed, Some("ended"), Some("confirmed"), Some("updated")),
    (AttemptState::Failed, Some("ended"), Some("write-failed"), Some("mixed")),
    (AttemptState::Failed, Some("ended"), Some("wrong-board"), Some("untouched")),
    (AttemptState::Skipped, None, None, None),
];

/// Sites with a window, without, with another one; and a name of another kind.
pub(crate) const SITES: [&str; 5] = ["berlin", "kiel", "austin", "riga", "-\u{1b}'"];

/// An attempt of host `h INDEX`, in the first wave.
pub(crate) fn attempt(index: usize, site: usize, state: usize) -> Attempt {
    let (state, stage, reason, flash) = STATES[state % STATES.len()];
    let has_begun = !matches!(state, AttemptState::Planned | AttemptState::Skipped);
    let has_ended = has_begun && state != AttemptState::InFlight;
    let owned = |text: &str| text.to_owned();
    Attempt {
        id: index as i64 + 1,
        rollout: 1,
        wave: 0,
        position: index as u32,
        host: format!("h{index}"),
        site: owned(SITES[site % SITES.len()]),
        predicted_s: 3600,
        retry: 0,
        state,
        stage: stage.map(owned),
        worker: has_begun.then(|| owned("w1")),
        lease_until: (state == AttemptState::InFlight).then_some(NOON + 8_000_000),
        reason: reason.map(owned),
        flash: flash.map(owned),
        detail: String::new(),
        started_at: has_begun.then_some(NOON - 1_200_000_000),
        ended_at: has_ended.then_some(NOON - 600_000_000),
        drain: Drain::NotStarted,
        look: None,
    }
}

fn worker(site: &str) -> Worker {
    let (name, seen_at) = (format!("worker of {site}"), NOON - 9_000_000);
    let (waits_for, lacking) = (String::new(), Vec::new());
    Worker { name, site: site.to_owned(), seen_at, waits_for, lacking }
}

/// What is read of such a rollout.
pub(crate) fn seen(sample: &Sample) -> Seen {
    let file = RolloutFile::parse(WINTER).expect("the example");
    let attempts = sample.places.iter().enumerate();
    let racks = attempts.clone().filter(|(_, (_, rack, _))| *rack > 0);
    let racks: BTreeMap<String, String> =
        racks.map(|(index, (_, rack, _))| (format!("h{index}"), format!("r{rack}"))).collect();
    let attempts = attempts.map(|(index, (site, _, state))| attempt(index, *site, *state));
    let waves = file.waves.iter().zip(sample.waves).zip(0_u32..);
    let waves = waves.map(|((entry, state), number)| Wave {
        number,
        name: entry.name.clone(),
        state,
        approval: if number == 0 { Approval::Automatic } else { Approval::Person },
        soak_s: entry.soak_s,
        since: NOON - 60_000_000,
    });
    let rollout = Rollout {
        id: 1,
        name: "winter".to_owned(),
        release: "00ff".to_owned(),
        file: WINTER.to_owned(),
        plan_digest: "0123".to_owned(),
        state: sample.state,
        reason: sample.reason.to_owned(),
        created_by: "ann".to_owned(),
        created_at: NOON - 3_600_000_000,
        revision: 3,
    };
    let limits = file.limits.clone();
    Seen {
        at: NOON,
        found: RolloutWaves { rollout, waves: waves.collect(), limits },
        file: Some(file),
        version: "2.1.0".to_owned(),
        counters: Counts::default(),
        approvals: Vec::new(),
        attempts: attempts.collect(),
        not_undrained: Vec::new(),
        racks,
        workers: sample.workers.iter().map(|site| worker(SITES[*site])).collect(),
    }
}
