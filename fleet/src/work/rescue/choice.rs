use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::model::{Host, Release};

/// The label by which an operator says what a host gets when it is dead: `no`, or a version.
pub const LABEL: &str = "rescue";

/// The value of [`LABEL`] for nothing.
const NOTHING: &str = "no";

/// What a dead host gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rescue<'a> {
    /// This release.
    Release(&'a Release),
    /// Nothing: an operator says so.
    Held,
    /// Nothing: there is no release that it may have.
    None,
}

/// Vendor and product.
pub(super) type Board<'a> = (&'a str, &'a str);

pub(super) fn board(host: &Host) -> Board<'_> {
    (host.vendor.trim(), host.product.trim())
}

/// The releases of a fleet, and which of them the hosts of a site run.
#[derive(Debug)]
pub(super) struct Choices<'a> {
    /// Of releases for one board with the same version the one that was added last.
    by_board: BTreeMap<Board<'a>, Vec<&'a Release>>,
    /// How many hosts of a board run a version.
    runs: BTreeMap<(Board<'a>, &'a str), usize>,
}

impl<'a> Choices<'a> {
    /// Returns what there is to choose from: `releases` whose bundles can be had, for `hosts`.
    pub(super) fn new(releases: &'a [Release], hosts: &'a [Host]) -> Self {
        let mut by_board = BTreeMap::<Board<'a>, BTreeMap<&str, &Release>>::new();
        for release in releases {
            for product in &release.products {
                let board = (release.vendor.as_str(), product.as_str());
                let version = by_board.entry(board).or_default().entry(&release.version);
                let kept = version.or_insert(release);
                let age = |release: &Release| (release.added_at, release.digest.clone());
                if age(kept) < age(release) {
                    *kept = release;
                }
            }
        }
        let mut runs = BTreeMap::new();
        for host in hosts {
            *runs.entry((board(host), host.bios_version.trim())).or_default() += 1;
        }
        let by_board = by_board.into_iter();
        let by_board = by_board.map(|(board, kept)| (board, kept.into_values().collect()));
        Self { by_board: by_board.collect(), runs }
    }

    /// Returns what a host gets: what its label says; else the version that it ran last; else the
    /// one that most hosts of its board run here; else the newest. Never one below its floor of
    /// security versions, which it would refuse.
    pub(super) fn rescue(&self, host: &'a Host) -> Rescue<'a> {
        let said = host.label(LABEL).trim();
        if said == NOTHING {
            return Rescue::Held;
        }
        let board = board(host);
        let of_board = self.by_board.get(&board).into_iter().flatten().copied();
        let may_have = |release: &&Release| {
            release.security_version >= host.security_version_floor
                && (said.is_empty() || release.version == said)
        };
        let best = of_board.filter(may_have).max_by_key(|release| {
            let runs = self.runs.get(&(board, release.version.as_str())).copied();
            let newest = (release.security_version, release.added_at);
            (release.is_on(host), runs.unwrap_or_default(), newest, Reverse(&release.digest))
        });
        best.map_or(Rescue::None, Rescue::Release)
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::{host, release};
    use super::*;

    #[test]
    fn a_dead_host_gets_what_it_ran_and_never_just_the_newest() {
        let releases = [
            release("1.0", 1, 10),
            release("2.0", 2, 20),
            release("3.0", 3, 30),
            Release { digest: "again".to_owned(), ..release("2.0", 2, 25) },
            Release { vendor: "W".to_owned(), ..release("9.0", 9, 90) },
        ];
        let on =
            |name, version, floor| Host { security_version_floor: floor, ..host(name, version) };
        let labelled = |said: &str| Host {
            labels: [(LABEL.to_owned(), said.to_owned())].into(),
            ..host("f", "2.0")
        };
        let hosts = [
            on("a", " 2.0 ", 1),
            on("b", "1.0", 1),
            on("c", "1.0", 2),
            on("d", "0.9", 1),
            on("e", "", 4),
            labelled("3.0"),
            labelled("no"),
            labelled("7.0"),
            Host { product: "Q".to_owned(), ..host("g", "1.0") },
        ];
        let choices = Choices::new(&releases, &hosts);
        let got: Vec<&str> = (hosts.iter())
            .map(|host| match choices.rescue(host) {
                Rescue::Release(release) => release.digest.as_str(),
                Rescue::Held => "held",
                Rescue::None => "none",
            })
            .collect();
        // c may not go back to 1.0; most of those like d run 2.0; nothing is new enough for e.
        let wanted = ["again", "1.0", "again", "again", "none", "3.0", "held", "none", "none"];
        assert_eq!(got, wanted);
        let nobody = Choices::new(&releases, &[]);
        let newest = nobody.rescue(&hosts[3]);
        assert_eq!(newest, Rescue::Release(&releases[2]), "nobody runs any of them");
    }
}
