//! What came out of worlds in which no invariant was broken.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::traffic::Amount;

/// Of one world, or of many together: times and counts are sums, what ends in `max` is the largest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// What happened, as one number; of one world only.
    pub(crate) digest: u64,
    pub(crate) steps: u64,
    pub(crate) virtual_time: Duration,
    pub(crate) hosts: usize,
    pub(crate) image_bytes: usize,
    /// Times that a host was enlisted.
    pub(crate) attempts: u64,
    /// How long hosts needed from their first word until they received an image, sorted.
    pub(crate) joined_after: Vec<Duration>,
    /// From the first word of the host that came last until all had first verified an image.
    pub(crate) verified_after_last_word: Duration,
    pub(crate) power_cuts: u64,
    pub(crate) manager_deaths: u64,
    /// Times that a host was told to leave a campaign of a manager that is gone.
    pub(crate) recalled: u64,
    pub(crate) parked: u64,
    /// How attempts ended, and why hosts were put off: whether the faults bite.
    pub(crate) ends: BTreeMap<String, u64>,
    pub(crate) held: BTreeMap<String, u64>,
    pub(crate) answers: Amount,
    pub(crate) requests: Amount,
    pub(crate) stream: Amount,
    pub(crate) answers_max: Amount,
    pub(crate) requests_max: Amount,
    /// Most memory that a manager held, payloads included.
    pub(crate) held_bytes_max: i64,
    /// What it still held at the end.
    pub(crate) held_bytes_left: i64,
}

impl Summary {
    pub(crate) fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.virtual_time += other.virtual_time;
        self.hosts += other.hosts;
        self.image_bytes += other.image_bytes;
        self.attempts += other.attempts;
        self.power_cuts += other.power_cuts;
        self.manager_deaths += other.manager_deaths;
        self.recalled += other.recalled;
        self.parked += other.parked;
        for (reason, count) in other.ends {
            *self.ends.entry(reason).or_default() += count;
        }
        for (reason, count) in other.held {
            *self.held.entry(reason).or_default() += count;
        }
        self.answers.add_all(other.answers);
        self.requests.add_all(other.requests);
        self.stream.add_all(other.stream);
        self.answers_max.raise_to(other.answers_max);
        self.requests_max.raise_to(other.requests_max);
        self.held_bytes_max = self.held_bytes_max.max(other.held_bytes_max);
    }
}

impl Summary {
    /// Returns the figures of one world, for `tests/bench`.
    pub(crate) fn to_json(&self, elapsed: Duration) -> String {
        let per_host = |amount: Amount| amount.bytes / self.hosts as u64;
        let joined_after = |percent: usize| {
            let index = (self.joined_after.len() * percent / 100).saturating_sub(1);
            self.joined_after.get(index).map_or(0.0, Duration::as_secs_f64)
        };
        let figures: [(&str, f64); 16] = [
            ("hosts", self.hosts as f64),
            ("image_bytes", self.image_bytes as f64),
            ("virtual_s", self.virtual_time.as_secs_f64()),
            ("elapsed_s", elapsed.as_secs_f64()),
            ("memory_bytes", self.held_bytes_max as f64),
            ("memory_left_bytes", self.held_bytes_left as f64),
            ("stream_bytes", self.stream.bytes as f64),
            ("answer_bytes_per_host", per_host(self.answers) as f64),
            ("request_bytes_per_host", per_host(self.requests) as f64),
            ("answers", self.answers.datagrams as f64),
            ("requests", self.requests.datagrams as f64),
            ("answers_per_host_and_second_max", self.answers_max.datagrams as f64),
            ("attempts", self.attempts as f64),
            ("joined_after_p99_s", joined_after(99)),
            ("joined_after_max_s", joined_after(100)),
            ("verified_after_last_word_s", self.verified_after_last_word.as_secs_f64()),
        ];
        let fields = figures.map(|(name, figure)| format!("\"{name}\": {figure}"));
        format!("{{{}}}", fields.join(", "))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |map: &BTreeMap<String, u64>| {
            map.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        };
        let Self { hosts, attempts, power_cuts, manager_deaths, recalled, parked, .. } = self;
        writeln!(
            f,
            "{hosts} dead hosts, {attempts} attempts, {power_cuts} power cuts, {manager_deaths} \
            ends of managers; {recalled} recalled, {parked} parked"
        )?;
        writeln!(f, "ends of attempts: {}", list(&self.ends))?;
        writeln!(f, "put off: {}", list(&self.held))?;
        let Self { answers_max: answers, requests_max: requests, .. } = self;
        let kib = self.held_bytes_max / 1024;
        writeln!(f, "most memory that a manager held: {kib} KiB")?;
        writeln!(
            f,
            "the busiest second of a host: {} answers of {} bytes, {} requests of {} bytes",
            answers.datagrams, answers.bytes, requests.datagrams, requests.bytes
        )?;
        let hours = self.virtual_time.as_secs() / 3600;
        write!(f, "{} steps, {hours} virtual hours", self.steps)
    }
}
