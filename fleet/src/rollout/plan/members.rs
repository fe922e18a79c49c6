//! Who is in which wave, and who is left out.

use std::fmt;

use serde::{Serialize, Serializer};

use super::super::file::{CONFIRMED, Members, Occasion, RolloutFile};
use super::LeftOut;
use super::order::spread;
use crate::model::{Host, Release};

/// Why a host that the file selects is not touched. As JSON it is the words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Its board is not one of the release.
    OtherBoard {
        /// The host's vendor and product.
        board: String,
    },
    /// It has the release's version.
    HasIt,
    /// A newer security version was confirmed there.
    SecurityFloor {
        /// The host's floor.
        floor: u64,
        /// The release's security version.
        offered: u64,
    },
    /// It has no site, and workers only serve the hosts of theirs.
    NoSite,
    /// Drain or undrain cannot be run for it.
    NoCommand(String),
    /// No wave takes it.
    NoWave,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherBoard { board } => {
                write!(f, "the release is not for board \"{board}\"")
            }
            Self::HasIt => f.write_str("already has this version"),
            Self::SecurityFloor { floor, offered } => {
                write!(f, "requires security version {floor}, the release has {offered}")
            }
            Self::NoSite => f.write_str("has no label site, so no worker serves it"),
            Self::NoCommand(error) => write!(f, "drain or undrain: {error}"),
            Self::NoWave => f.write_str("no wave takes it"),
        }
    }
}

impl Serialize for Why {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Divides the selected hosts into the waves of the file, each in its order; and into who is left.
pub(super) fn divide<'a>(
    file: &RolloutFile,
    release: &Release,
    selected: &[&'a Host],
) -> (Vec<Vec<&'a Host>>, Vec<LeftOut>) {
    let mut left_out = Vec::new();
    let mut hosts = Vec::with_capacity(selected.len());
    for host in selected {
        match against(file, release, host) {
            Some(why) => left_out.push(LeftOut { name: host.name.clone(), why }),
            None => hosts.push(*host),
        }
    }
    let all = hosts.len();
    let mut left = spread(&hosts);
    let mut waves = Vec::with_capacity(file.waves.len());
    for wave in &file.waves {
        let taken: Vec<&Host> = match &wave.members {
            Members::Rest => std::mem::take(&mut left),
            Members::Select(selector) => {
                let (taken, rest) = left.into_iter().partition(|host| selector.matches(host));
                left = rest;
                taken
            }
            Members::Count(count) => take(&mut left, *count as usize),
            Members::Percent(percent) => take(&mut left, share(*percent, all)),
        };
        waves.push(spread(&taken));
    }
    let none = left.iter().map(|host| LeftOut { name: host.name.clone(), why: Why::NoWave });
    left_out.extend(none);
    (waves, left_out)
}

/// How many hosts a percentage of all is, rounded up.
pub(super) fn share(percent: u32, all: usize) -> usize {
    all.saturating_mul(percent as usize).div_ceil(100)
}

fn take<'a>(left: &mut Vec<&'a Host>, count: usize) -> Vec<&'a Host> {
    let rest = left.split_off(count.min(left.len()));
    std::mem::replace(left, rest)
}

/// What speaks against touching a host, if anything.
fn against(file: &RolloutFile, release: &Release, host: &Host) -> Option<Why> {
    if !release.is_for(host) {
        let (vendor, product) = (host.vendor.trim(), host.product.trim());
        return Some(Why::OtherBoard { board: format!("{vendor} {product}").trim().to_owned() });
    }
    if release.is_on(host) {
        return Some(Why::HasIt);
    }
    let (floor, offered) = (host.security_version_floor, release.security_version);
    if offered < floor {
        return Some(Why::SecurityFloor { floor, offered });
    }
    if host.site().is_empty() {
        return Some(Why::NoSite);
    }
    let occasion = Occasion {
        host: &host.name,
        site: host.site(),
        version: &release.version,
        rollout: &file.name,
        outcome: CONFIRMED,
    };
    let commands = [&file.drain, &file.undrain].into_iter().flatten();
    let mut errors = commands.filter_map(|command| command.argv(&occasion).err());
    errors.next().map(|error| Why::NoCommand(error.to_string()))
}
