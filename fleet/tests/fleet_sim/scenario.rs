//! What a seed stands for: hosts, rollouts with limits and windows, workers.

use std::fmt::Write as _;

use firmcast_fleet::model::{Host, Release, Stamp};
use firmcast_fleet::rollout::prediction::{Prediction, Source};

use super::chance::{Chance, SECOND};

/// When worlds begin: 1 March 2027, 10:05 UTC.
pub(crate) const BEGIN: Stamp = 1_803_895_500 * SECOND;

/// Windows of some rollouts, in minutes of the day: a world begins in the first one.
pub(crate) const WINDOWS: [(i64, i64); 2] = [(600, 640), (655, 1380)];

#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) hosts: usize,
    pub(crate) racks: usize,
    pub(crate) sites: usize,
    /// By number; worker `n` works for site `n % sites`.
    pub(crate) workers: usize,
    /// Maximum number of hosts of one worker.
    pub(crate) hosts_max: usize,
    /// Each a file, and whether it has windows.
    pub(crate) rollouts: Vec<(String, bool)>,
    /// Until when faults come, in seconds.
    pub(crate) faults_s: i64,
    /// Of so many calls of the store one breaks off.
    pub(crate) breaks_every: Option<u64>,
    /// The clocks of those workers that are not far off are off by at most this, in milliseconds.
    pub(crate) skew_ms: u64,
    /// Between two turns of a worker, in milliseconds.
    pub(crate) turn_ms: u64,
    /// Of so many hosts one refuses, and as many fail to be written.
    pub(crate) bad_every: u64,
}

impl Scenario {
    pub(crate) fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed, 1);
        let sites = chance.index(3) + 1;
        let hosts = chance.index(18) + 3;
        let rollouts = (0..chance.index(3) + 1).map(|number| rollout(&mut chance, number));
        Self {
            seed,
            rollouts: rollouts.collect(),
            hosts,
            racks: chance.index(4) + 1,
            sites,
            workers: sites + chance.index(3),
            hosts_max: chance.index(8) + 2,
            faults_s: chance.within(120..900) as i64,
            breaks_every: (!chance.once_in(4)).then(|| chance.within(10..200)),
            skew_ms: chance.within(1..1001),
            turn_ms: chance.within(500..2000),
            bad_every: chance.within(5..30),
        }
    }

    /// Fifty thousand hosts at five sites, one worker each, all of them as large as may be.
    pub(crate) fn large() -> Self {
        let limits = "in-flight = [{ per = \"all\", hosts = 5000 }, \
                      { per = \"site\", percent = 10 }, { per = \"rack\", percent = 50 }]\n\
                      failures = [{ per = \"all\", percent = 60, sample = 100 }]\n";
        Self {
            seed: 2,
            hosts: 50_000,
            racks: 500,
            sites: 5,
            workers: 5,
            hosts_max: 1000,
            rollouts: vec![(text(0, "count = 500", (60, 0, 600), limits, false), false)],
            faults_s: 900,
            breaks_every: Some(2000),
            skew_ms: 1000,
            turn_ms: 2500,
            bad_every: 200,
        }
    }

    pub(crate) fn site(&self, index: usize) -> String {
        format!("site{}", index % self.sites)
    }

    /// Hosts are predicted to take different times, some longer than the first window.
    pub(crate) fn prediction(&self, host: &Host) -> Prediction {
        let sum = host.name.bytes().map(u32::from).sum::<u32>();
        let longest_s = 60 + (sum + self.seed as u32) % 41 * 60;
        let source = Source::Host { asked_at: BEGIN };
        Prediction { typical_s: longest_s / 2, longest_s, source }
    }

    pub(crate) fn host(&self, index: usize) -> Host {
        let labels = [("site", self.site(index)), ("rack", format!("r{}", index % self.racks))];
        Host {
            name: format!("host{index:05}"),
            key: format!("key {index}"),
            addresses: vec!["192.0.2.1:9847".parse().unwrap()],
            vendor: "V".to_owned(),
            product: "P".to_owned(),
            bios_version: "1".to_owned(),
            agent_version: "1".to_owned(),
            security_version_floor: 0,
            labels: labels.map(|(name, value)| (name.to_owned(), value)).into(),
        }
    }
}

/// The release of a rollout, from 0: rollouts take turns with two of them.
pub(crate) fn release(number: usize) -> Release {
    Release {
        digest: ["ab", "cd"][number % 2].repeat(32),
        version: format!("{}.0", number % 2 + 2),
        security_version: 4,
        vendor: "V".to_owned(),
        products: vec!["P".to_owned()],
        size_bytes: 1 << 20,
        added_at: BEGIN,
    }
}

fn rollout(chance: &mut Chance, number: usize) -> (String, bool) {
    let members = ["count = 2", "percent = 30", "percent = 100"][chance.index(3)];
    let mut limits = "in-flight = [".to_owned();
    for per in ["all", "site", "rack"] {
        let _ = match chance.index(3) {
            0 => Ok(()),
            1 => write!(limits, "{{ per = \"{per}\", hosts = {} }}, ", chance.within(1..6)),
            _ => write!(limits, "{{ per = \"{per}\", percent = {} }}, ", chance.within(1..60)),
        };
    }
    limits += "]\nfailures = [";
    for per in ["all", "wave", "rack"] {
        if chance.once_in(2) {
            let amount = match chance.once_in(2) {
                true => format!("hosts = {}", chance.within(1..5)),
                false => format!("percent = {}, sample = 3", chance.within(20..80)),
            };
            let action = if chance.once_in(6) { "stop" } else { "pause" };
            let unreachable = chance.once_in(2);
            let _ = write!(
                limits,
                "{{ per = \"{per}\", {amount}, unreachable = {unreachable}, \
                 action = \"{action}\" }}, "
            );
        }
    }
    limits += "]\n";
    let has_windows = chance.once_in(3);
    let rest_s = if chance.once_in(2) { chance.within(0..90) } else { 0 };
    let times = (chance.within(0..90), rest_s, chance.within(20..400));
    let mut text = text(number, members, times, &limits, has_windows);
    if chance.once_in(2) {
        text += "[drain]\nrun = [\"/lb\", \"drain\", \"{host}\"]\nwithin = \"40 s\"\n\
                 [undrain]\nrun = [\"/lb\", \"undrain\", \"{host}\", \"{outcome}\"]\n\
                 within = \"20 s\"\n";
    }
    (text, has_windows)
}

/// A rollout's file. The times are the waves' soak times and the one for looks, in seconds.
fn text(
    number: usize,
    members: &str,
    (canary_s, rest_s, within_s): (u64, u64, u64),
    limits: &str,
    has_windows: bool,
) -> String {
    let digest = release(number).digest;
    let mut text = format!(
        "name = \"rollout{number}\"\nrelease = \"{digest}\"\nhosts = \"all\"\n\
         [[wave]]\nname = \"canary\"\n{members}\nsoak = \"{canary_s} s\"\n\
         [[wave]]\nname = \"rest\"\nrest = true\nsoak = \"{rest_s} s\"\n\
         [healthy]\nwithin = \"{within_s} s\"\n[limits]\n{limits}"
    );
    for (from, to) in WINDOWS.iter().filter(|_| has_windows) {
        let clock = |minutes: i64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let (from, to) = (clock(*from), clock(*to));
        let _ = write!(text, "[[window]]\nfrom = \"{from}\"\nto = \"{to}\"\nzone = \"UTC\"\n");
    }
    text
}
