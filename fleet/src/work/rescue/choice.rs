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

/// The releases of a fleet, and which of them the hosts of a site run.
#[derive(Debug)]
pub(super) struct Choices<'a> {
    /// Of releases for one board with the same version the one that was added last, and how many
    /// hosts of the board run it.
    by_board: BTreeMap<Board<'a>, BTreeMap<&'a str, (&'a Release, usize)>>,
}

impl<'a> Choices<'a> {
    /// Returns what there is to choose from: releases whose bundles can be had.
    pub(super) fn new(releases: &'a [Release]) -> Self {
        let mut by_board = BTreeMap::<Board<'a>, BTreeMap<&str, (&Release, usize)>>::new();
        for release in releases {
            for product in &release.products {
                let board = (release.vendor.as_str(), product.as_str());
                let versions = by_board.entry(board).or_default();
                let (kept, _) = versions.entry(&release.version).or_insert((release, 0));
                let age = |release: &'a Release| (release.added_at, &release.digest);
                if age(kept) < age(release) {
                    *kept = release;
                }
            }
        }
        Self { by_board }
    }

    /// Counts what a host runs. Each host of the site is, before any is asked about.
    pub(super) fn count(&mut self, host: &Host) {
        let board = (host.vendor.trim(), host.product.trim());
        let of_board = self.by_board.iter_mut().filter(|(known, _)| **known == board);
        let runs = of_board.flat_map(|(_, versions)| versions.values_mut());
        for (_, hosts) in runs.filter(|(release, _)| release.is_on(host)) {
            *hosts += 1;
        }
    }

    /// Returns what a host gets: what its label says; else the version that it ran last; else the
    /// one that most hosts of its board run here; else the newest. Never one below its floor of
    /// security versions, which it would refuse.
    pub(super) fn rescue(&self, host: &Host) -> Rescue<'a> {
        let said = host.label(LABEL).trim();
        if said == NOTHING {
            return Rescue::Held;
        }
        let versions = self.by_board.get(&(host.vendor.trim(), host.product.trim()));
        let may_have = |release: &Release| {
            release.security_version >= host.security_version_floor
                && (said.is_empty() || release.version == said)
        };
        let of_board = versions.into_iter().flat_map(BTreeMap::values);
        let best =
            of_board.filter(|(release, _)| may_have(release)).max_by_key(|(release, hosts)| {
                let newest = (release.security_version, release.added_at);
                (release.is_on(host), *hosts, newest, Reverse(&release.digest))
            });
        best.map_or(Rescue::None, |(release, _)| Rescue::Release(release))
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
        let mut choices = Choices::new(&releases);
        hosts.iter().for_each(|host| choices.count(host));
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
        let nobody = Choices::new(&releases);
        let newest = nobody.rescue(&hosts[3]);
        assert_eq!(newest, Rescue::Release(&releases[2]), "nobody runs any of them");
    }
}
