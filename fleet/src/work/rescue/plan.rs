use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use firmcast::keys::PublicKey as _;
use firmcast_manager::store::inventory::Entry;

use super::choice::{Board, Choices, Rescue};
use crate::model::{Host, Release};

/// Maximum number of releases that are kept at hand for the dead hosts of a site.
pub const RELEASES_MAX: usize = 64;

/// What stands for the address of a host that has none: nobody calls it by that.
const NO_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What a policy file may have.
#[derive(Clone, Copy, Debug)]
pub struct PolicyLimits {
    /// Maximum number of rules.
    pub rules: usize,
    /// Maximum number of bytes.
    pub bytes: usize,
}

/// What the service that answers dead hosts of a site is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// The hosts that it answers.
    pub known: Vec<Entry>,
    /// The policy file: which version each of them gets.
    pub policy: String,
    /// Digests of the releases that it may bring, those that most hosts get first; at most
    /// [`RELEASES_MAX`].
    pub releases: Vec<String>,
    /// Hosts whose key is none, which nobody can answer, and those for which the policy has no
    /// room.
    pub left_out: Vec<String>,
}

/// Makes a [`Plan`] of hosts that come one by one, twice: there may be many.
#[derive(Debug)]
pub struct Planner<'a> {
    choices: Choices<'a>,
    hosts_max: usize,
    known: Vec<Entry>,
    /// What each of them gets.
    gets: Vec<Rescue<'a>>,
    left_out: Vec<String>,
}

impl<'a> Planner<'a> {
    /// Begins with releases whose bundles can be had, for at most `hosts_max` hosts.
    pub fn new(releases: &'a [Release], hosts_max: usize) -> Self {
        let (choices, gets) = (Choices::new(releases), Vec::new());
        Self { choices, hosts_max, known: Vec::new(), gets, left_out: Vec::new() }
    }

    /// Counts what a host runs. Each host of the site is, before any is added.
    pub fn count(&mut self, host: &Host) {
        self.choices.count(host);
    }

    /// Adds a host.
    pub fn add(&mut self, host: &Host) {
        match entry(host).filter(|_| self.known.len() < self.hosts_max) {
            Some(entry) => {
                self.known.push(entry);
                self.gets.push(self.choices.rescue(host));
            }
            None => self.left_out.push(host.name.clone()),
        }
    }

    /// Returns the plan. What most hosts of a board get is one rule for the board; others have
    /// rules of their own before it.
    pub fn plan(self, limits: PolicyLimits) -> Plan {
        let Self { known, gets, mut left_out, .. } = self;
        let usual = usual(known.iter().zip(&gets));
        let boards: String =
            usual.iter().map(|(board, rescue)| of_board(*board, *rescue)).collect();
        let mut policy = String::new();
        let mut rules = usual.len();
        let mut no_room = BTreeSet::new();
        for (host, rescue) in known.iter().zip(&gets) {
            if usual.get(&board(host)) == Some(rescue) {
                continue;
            }
            let key = host.key.fingerprint().to_string();
            let rule = format!("[[rule]]\nhost = {}\n{}", quoted(&key), what(*rescue));
            rules += 1;
            if rules > limits.rules || policy.len() + rule.len() + boards.len() > limits.bytes {
                // It is not answered rather than given what others get.
                no_room.insert(host.name.clone());
                continue;
            }
            policy += &rule;
        }
        policy += &boards;
        let releases = brought(&gets);
        let mut known = known;
        known.retain(|host| !no_room.contains(&host.name));
        left_out.extend(no_room);
        Plan { known, policy, releases, left_out }
    }
}

/// The releases that hosts get, those that most of them get first.
fn brought(all: &[Rescue<'_>]) -> Vec<String> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for rescue in all {
        if let Rescue::Release(release) = rescue {
            *counts.entry(&release.digest).or_default() += 1;
        }
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, hosts)| Reverse(*hosts));
    counts.into_iter().take(RELEASES_MAX).map(|(digest, _)| digest.to_owned()).collect()
}

fn board(host: &Entry) -> Board<'_> {
    (host.vendor.trim(), host.product.trim())
}

fn entry(host: &Host) -> Option<Entry> {
    Some(Entry {
        name: host.name.clone(),
        key: host.key.parse().ok()?,
        address: host.addresses.first().copied().unwrap_or(NO_ADDRESS),
        vendor: host.vendor.clone(),
        product: host.product.clone(),
        security_version_floor: host.security_version_floor,
    })
}

/// What most hosts of each board get.
fn usual<'a>(
    all: impl Iterator<Item = (&'a Entry, &'a Rescue<'a>)>,
) -> BTreeMap<Board<'a>, Rescue<'a>> {
    let mut counts = BTreeMap::<Board<'a>, BTreeMap<&str, (usize, Rescue<'a>)>>::new();
    for (host, rescue) in all {
        let name = match rescue {
            Rescue::Release(release) => release.digest.as_str(),
            Rescue::Held | Rescue::None => continue,
        };
        counts.entry(board(host)).or_default().entry(name).or_insert((0, *rescue)).0 += 1;
    }
    let most = |counts: BTreeMap<&str, (usize, Rescue<'a>)>| {
        counts.into_values().max_by_key(|(hosts, _)| *hosts).map(|(_, rescue)| rescue)
    };
    counts.into_iter().filter_map(|(board, counts)| Some((board, most(counts)?))).collect()
}

fn of_board((vendor, product): Board<'_>, rescue: Rescue<'_>) -> String {
    let mut rule = String::from("[[rule]]\n");
    for (key, value) in [("vendor", vendor), ("product", product)] {
        // A string takes everything.
        let _ = writeln!(rule, "{key} = {}", quoted(value));
    }
    rule + &what(rescue)
}

fn what(rescue: Rescue<'_>) -> String {
    match rescue {
        Rescue::Release(release) => format!("version = {}\n", quoted(&release.version)),
        Rescue::Held | Rescue::None => "hold = true\n".to_owned(),
    }
}

/// A string as TOML 1.0 has it: as JSON has it, but for DEL.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::expect_used)]
    use firmcast::keys::{HostPublicKey, HostSecretKey, SecretKey as _};
    use firmcast_manager::rescue::Policy;
    use firmcast_manager::rescue::policy::BundleChoice;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    use super::*;

    pub(in crate::work::rescue) fn release(version: &str, security: u64, added_at: i64) -> Release {
        Release {
            digest: version.to_owned(),
            version: version.to_owned(),
            security_version: security,
            vendor: "V".to_owned(),
            products: vec!["P".to_owned(), "P2".to_owned()],
            size_bytes: 1,
            added_at,
        }
    }

    pub(in crate::work::rescue) fn host(name: &str, version: &str) -> Host {
        Host {
            name: name.to_owned(),
            key: key(name).to_string(),
            addresses: Vec::new(),
            vendor: "V".to_owned(),
            product: "P".to_owned(),
            bios_version: version.to_owned(),
            agent_version: String::new(),
            security_version_floor: 0,
            labels: BTreeMap::new(),
        }
    }

    fn key(name: &str) -> HostPublicKey {
        let mut seed = [0; 32];
        seed[..name.len()].copy_from_slice(name.as_bytes());
        HostSecretKey::generate(&mut ChaCha20Rng::from_seed(seed)).public()
    }

    fn planned(
        hosts: &[Host],
        releases: &[Release],
        hosts_max: usize,
        limits: PolicyLimits,
    ) -> Plan {
        let mut planner = Planner::new(releases, hosts_max);
        hosts.iter().for_each(|host| planner.count(host));
        hosts.iter().for_each(|host| planner.add(host));
        planner.plan(limits)
    }

    const ROOM: PolicyLimits = PolicyLimits { rules: 100, bytes: 100_000 };

    #[test]
    fn the_policy_gives_each_host_what_was_chosen_for_it() {
        let strange = "2.0\"\n[[rule]]\nhold = true # \u{7f}";
        let releases = [release("1.0", 1, 1), release(strange, 2, 2), release("3.0", 3, 3)];
        let mut hosts: Vec<Host> = (0..9)
            .map(|index| host(&format!("h{index}"), ["1.0", strange, "0.1"][index % 3]))
            .collect();
        hosts.push(Host { product: "P2".to_owned(), ..host("p2", "3.0") });
        hosts.push(Host { product: "Q".to_owned(), ..host("no-release", "1.0") });
        hosts.push(Host { security_version_floor: 4, ..host("too-high", "1.0") });
        hosts.push(Host { key: "none".to_owned(), ..host("no-key", "1.0") });
        let held = ("rescue".to_owned(), "no".to_owned());
        hosts.push(Host { labels: [held].into(), ..host("held", "1.0") });
        let plan = planned(&hosts, &releases, 100, ROOM);
        assert_eq!(plan.left_out, ["no-key"]);
        assert_eq!(plan.known.len(), hosts.len() - 1);
        let policy = Policy::parse(&plan.policy).expect("a policy");
        let mut choices = Choices::new(&releases);
        hosts.iter().for_each(|host| choices.count(host));
        for host in hosts.iter().filter(|host| host.name != "no-key") {
            let Host { vendor, product, name, .. } = host;
            let key = key(name).fingerprint();
            let wanted = match choices.rescue(host) {
                Rescue::Release(release) => BundleChoice::Pinned(release.version.clone()),
                Rescue::Held | Rescue::None => BundleChoice::Hold,
            };
            assert_eq!(policy.choice(vendor, product, name, &key), &wanted, "{name}");
        }
        assert_eq!(plan.releases, ["1.0", strange, "3.0"]);
        // The usual one of each board, strange versions, those that get nothing.
        assert_eq!(policy.rules.len(), 2 + 3 + 3);
    }

    #[test]
    fn who_finds_no_room_in_the_policy_is_left_out_rather_than_given_what_others_get() {
        let releases = [release("1.0", 1, 1), release("2.0", 2, 2)];
        let hosts = [host("a", "1.0"), host("b", "1.0"), host("c", "2.0"), host("d", "2.0")];
        let hosts = [&hosts[..], &[host("e", "1.0")]].concat();
        let limits = PolicyLimits { rules: 2, ..ROOM };
        let plan = planned(&hosts, &releases, 100, limits);
        let known: Vec<&str> = plan.known.iter().map(|host| host.name.as_str()).collect();
        assert_eq!((known, plan.left_out), (vec!["a", "b", "c", "e"], vec!["d".to_owned()]));
        let plan = planned(&hosts, &releases, 4, ROOM);
        assert_eq!(plan.left_out, ["e"], "more than the service takes");
    }
}
