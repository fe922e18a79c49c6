//! What a key may be used for.

use std::fmt;
use std::str::FromStr;

/// What a key may be used for. A key of one role is never accepted for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Signs bundles.
    Release,
    /// Gives instructions to hosts.
    Manager,
    /// Identifies one host.
    Host,
}

/// Not the name of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown role: expected release, manager or host")]
pub struct UnknownRole;

impl Role {
    /// Returns the first word of the key's text form; also separates the roles in fingerprints.
    pub const fn word(self) -> &'static str {
        match self {
            Role::Release => "firmcast-release-key",
            Role::Manager => "firmcast-manager-key",
            Role::Host => "firmcast-host-key",
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Role> {
        [Role::Release, Role::Manager, Role::Host].into_iter().find(|role| role.word() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::Release => "release",
            Role::Manager => "manager",
            Role::Host => "host",
        })
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Role, UnknownRole> {
        [Role::Release, Role::Manager, Role::Host]
            .into_iter()
            .find(|role| role.to_string() == name)
            .ok_or(UnknownRole)
    }
}
