//! What came out of worlds in which no invariant was broken.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Of one world, or of many together: sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// What happened, as one number; of one world only.
    pub(crate) digest: u64,
    pub(crate) steps: u64,
    pub(crate) virtual_time: Duration,
    pub(crate) campaigns: u64,
    /// Streams that began, and those of them that carried only some pieces of the image.
    pub(crate) streams: u64,
    pub(crate) excerpts: u64,
    /// Hosts that stay in recovery with a chip that could not be written while the faults lasted.
    pub(crate) rescues: usize,
    /// How many ends of each kind the managers saw: whether the faults bite.
    pub(crate) ends: BTreeMap<&'static str, u64>,
}

impl Summary {
    pub(crate) fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.virtual_time += other.virtual_time;
        self.campaigns += other.campaigns;
        self.streams += other.streams;
        self.excerpts += other.excerpts;
        self.rescues += other.rescues;
        for (reason, count) in other.ends {
            *self.ends.entry(reason).or_default() += count;
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, campaigns, rescues, .. } = self;
        let ends = self.ends.iter().map(|(reason, count)| format!("{reason} {count}"));
        writeln!(f, "ends that managers saw: {}", ends.collect::<Vec<_>>().join(", "))?;
        writeln!(
            f,
            "{rescues} hosts were left with mixed flash by chips that failed for too long, and \
            did not reboot"
        )?;
        let Self { streams, excerpts, .. } = self;
        writeln!(f, "{streams} streams, {excerpts} of them of some pieces of the image")?;
        let hours = self.virtual_time.as_secs() / 3600;
        write!(f, "{campaigns} campaigns, {steps} steps, {hours} virtual hours")
    }
}
