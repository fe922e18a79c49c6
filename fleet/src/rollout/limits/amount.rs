use serde::{Deserialize, Serialize};

/// How much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Amount {
    /// This many hosts, at least 1.
    Hosts(u32),
    /// This part of the hosts, 1 to 100.
    Percent(u32),
}

impl Amount {
    /// Returns how many of `of` hosts it is, rounded down, but at least 1: a small fleet can still
    /// move one host.
    pub fn of(self, of: u32) -> u32 {
        match self {
            Self::Hosts(hosts) => hosts.max(1),
            Self::Percent(percent) => {
                let share = u64::from(of) * u64::from(percent.min(100)) / 100;
                u32::try_from(share).unwrap_or(u32::MAX).max(1)
            }
        }
    }
}

/// What happens when a limit of failures is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// No host begins until a person resumes the rollout.
    Pause,
    /// The rollout ends.
    Stop,
}
