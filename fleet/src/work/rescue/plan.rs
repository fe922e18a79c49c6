use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use firmcast::keys::PublicKey as _;
use firmcast_manager::store::inventory::Entry;
use sha2::{Digest as _, Sha256};

use super::choice::{Choices, Rescue};
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

/// What hosts of a board get, by the release's digest, and how many.
type Tally<'a> = BTreeMap<&'a str, (usize, Rescue<'a>)>;

/// What is to be planned for a site. Its hosts are gone through one by one, and several times:
/// there may be many.
#[derive(Debug)]
pub struct Draft<'a> {
    choices: Choices<'a>,
    boards: BTreeMap<(String, String), Tally<'a>>,
    all: Sha256,
}

impl<'a> Draft<'a> {
    /// Begins with releases whose bundles can be had.
    pub fn new(releases: &'a [Release]) -> Self {
        Self { choices: Choices::new(releases), boards: BTreeMap::new(), all: Sha256::new() }
    }

    /// Counts what a host runs. First, each host of the site is.
    pub fn count(&mut self, host: &Host) {
        self.choices.count(host);
    }

    /// Weighs what a host gets. Then, each host of the site is.
    pub fn weigh(&mut self, host: &Host) {
        let rescue = self.choices.rescue(host);
        let Host { name, key, vendor, product, security_version_floor: floor, .. } = host;
        let gets = match rescue {
            Rescue::Release(release) => release.digest.as_str(),
            Rescue::Held => "held",
            Rescue::None => "none",
        };
        // What makes a difference to what is written.
        self.all.update(format!("{name:?}{key:?}{vendor:?}{product:?}{floor}{gets:?}"));
        if let Rescue::Release(release) = rescue {
            let board = (vendor.trim().to_owned(), product.trim().to_owned());
            let tally = self.boards.entry(board).or_default();
            tally.entry(&release.digest).or_insert((0, rescue)).0 += 1;
        }
    }

    /// Digests of the releases that hosts get, those that most of them get first; at most
    /// [`RELEASES_MAX`].
    pub fn releases(&self) -> Vec<String> {
        let mut counts = BTreeMap::<&str, usize>::new();
        for (digest, (hosts, _)) in self.boards.values().flatten() {
            *counts.entry(digest).or_default() += hosts;
        }
        let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
        counts.sort_by_key(|(_, hosts)| Reverse(*hosts));
        counts.into_iter().take(RELEASES_MAX).map(|(digest, _)| digest.to_owned()).collect()
    }

    /// SHA-256 over all that makes a difference to the plan.
    pub fn digest(&self) -> [u8; 32] {
        self.all.clone().finalize().into()
    }

    /// Begins the plan, for at most `hosts_max` hosts. What most hosts of a board get is one rule
    /// for the board; others have rules of their own before it.
    pub fn plan(self, hosts_max: usize, limits: PolicyLimits) -> Plan<'a> {
        let most = |tally: Tally<'a>| tally.into_values().max_by_key(|(hosts, _)| *hosts);
        let boards = self.boards.into_iter();
        let usual: BTreeMap<(String, String), Rescue<'a>> =
            boards.filter_map(|(board, tally)| Some((board, most(tally)?.1))).collect();
        let boards = usual.iter().map(|(board, rescue)| of_board(board, *rescue)).collect();
        let rules = usual.len();
        let choices = self.choices;
        Plan { choices, usual, hosts_max, limits, boards, rules, rest: String::new(), hosts: 0 }
    }
}

/// What the service that answers dead hosts of a site is told.
#[derive(Debug)]
pub struct Plan<'a> {
    choices: Choices<'a>,
    usual: BTreeMap<(String, String), Rescue<'a>>,
    hosts_max: usize,
    limits: PolicyLimits,
    /// The rules for boards, and for hosts.
    boards: String,
    rest: String,
    rules: usize,
    hosts: usize,
}

impl Plan<'_> {
    /// Returns a host as the service knows it. Nothing where it is left out: its key is none, which
    /// nobody can answer, or there is no room for it.
    pub fn take(&mut self, host: &Host) -> Option<Entry> {
        let entry = entry(host).filter(|_| self.hosts < self.hosts_max)?;
        let rescue = self.choices.rescue(host);
        let board = (host.vendor.trim().to_owned(), host.product.trim().to_owned());
        if self.usual.get(&board) != Some(&rescue) {
            let key = entry.key.fingerprint().to_string();
            let rule = format!("[[rule]]\nhost = {}\n{}", quoted(&key), gets(rescue));
            let bytes = self.rest.len() + rule.len() + self.boards.len();
            if self.rules >= self.limits.rules || bytes > self.limits.bytes {
                // It is not answered rather than given what others get.
                return None;
            }
            self.rules += 1;
            self.rest += &rule;
        }
        self.hosts += 1;
        Some(entry)
    }

    /// The policy file: which version each host gets that was taken.
    pub fn into_policy(self) -> String {
        self.rest + &self.boards
    }
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

fn of_board((vendor, product): &(String, String), rescue: Rescue<'_>) -> String {
    let mut rule = String::from("[[rule]]\n");
    for (key, value) in [("vendor", vendor), ("product", product)] {
        // A string takes everything.
        let _ = writeln!(rule, "{key} = {}", quoted(value));
    }
    rule + &gets(rescue)
}

fn gets(rescue: Rescue<'_>) -> String {
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

    /// The names of the hosts that are taken, the policy, and the releases.
    fn planned(
        hosts: &[Host],
        releases: &[Release],
        hosts_max: usize,
        limits: PolicyLimits,
    ) -> (Vec<String>, String, Vec<String>) {
        let mut draft = Draft::new(releases);
        hosts.iter().for_each(|host| draft.count(host));
        hosts.iter().for_each(|host| draft.weigh(host));
        let brought = draft.releases();
        let mut plan = draft.plan(hosts_max, limits);
        let taken = hosts.iter().filter_map(|host| plan.take(host)).map(|entry| entry.name);
        (taken.collect(), plan.into_policy(), brought)
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
        let (taken, policy, brought) = planned(&hosts, &releases, 100, ROOM);
        let with_key = hosts.iter().filter(|host| host.name != "no-key");
        assert_eq!(taken, with_key.map(|host| host.name.clone()).collect::<Vec<_>>());
        let policy = Policy::parse(&policy).expect("a policy");
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
        assert_eq!(brought, ["1.0", strange, "3.0"]);
        // The usual one of each board, strange versions, those that get nothing.
        assert_eq!(policy.rules.len(), 2 + 3 + 3);
    }

    #[test]
    fn who_finds_no_room_in_the_policy_is_left_out_rather_than_given_what_others_get() {
        let releases = [release("1.0", 1, 1), release("2.0", 2, 2)];
        let hosts = [host("a", "1.0"), host("b", "1.0"), host("c", "2.0"), host("d", "2.0")];
        let hosts = [&hosts[..], &[host("e", "1.0")]].concat();
        let limits = PolicyLimits { rules: 2, ..ROOM };
        let (taken, ..) = planned(&hosts, &releases, 100, limits);
        assert_eq!(taken, ["a", "b", "c", "e"]);
        let (taken, ..) = planned(&hosts, &releases, 4, ROOM);
        assert_eq!(taken, ["a", "b", "c", "d"], "no more than the service takes");
    }
}
