use serde::{Deserialize, Serialize};

use crate::model::{Host, POWER, RACK, SITE};

/// Whose hosts a limit counts together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// All of the rollout.
    All,
    /// Those of one wave.
    Wave,
    /// Those with the same value of this label. Hosts without the label count together. Racks and
    /// power feeds are told apart by site.
    Label(String),
}

/// Hosts that one limit counts together: the scope, and the wave's number or the label's value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Domain(pub Scope, pub String);

impl Domain {
    /// Returns the domain of `host`, in wave `wave` from 0, for a limit of `scope`.
    pub fn of(scope: &Scope, wave: u32, host: &Host) -> Self {
        let value = match scope {
            Scope::All => String::new(),
            Scope::Wave => wave.to_string(),
            Scope::Label(label) if label == RACK || label == POWER => {
                format!("{}/{}", host.label(SITE), host.label(label))
            }
            Scope::Label(label) => host.label(label).to_owned(),
        };
        Self(scope.clone(), value)
    }

    /// Returns the domain in words.
    pub fn words(&self) -> String {
        let Self(scope, value) = self;
        match scope {
            Scope::All => "the rollout".to_owned(),
            Scope::Wave => {
                let wave = value.parse::<u64>().map_or(0, |number| number.saturating_add(1));
                format!("wave {wave}")
            }
            Scope::Label(label) if value.is_empty() => format!("hosts without {label}"),
            Scope::Label(label) => format!("{label} {value:?}"),
        }
    }
}
