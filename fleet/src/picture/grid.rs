//! The hosts of a rollout by site and rack, a cell each.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Serialize;

use super::mark::{Mark, Tally};
use super::seen::Seen;
use crate::model::Stamp;

/// All hosts of a rollout, each in one cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Grid<'a> {
    /// How many have which mark.
    pub tally: Tally,
    /// The sites by name, numbers in it by their value.
    pub sites: Vec<Site<'a>>,
}

/// The hosts of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Site<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many have which mark.
    pub tally: Tally,
    /// The racks by name; that without a name has the hosts without a rack.
    pub racks: Vec<Rack<'a>>,
}

/// The hosts of a rack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rack<'a> {
    /// Its name; empty when the hosts have none.
    pub name: &'a str,
    /// How many have which mark.
    pub tally: Tally,
    /// The hosts by name.
    pub cells: Vec<Cell<'a>>,
}

/// A host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cell<'a> {
    /// Its name.
    pub host: &'a str,
    /// Where it stands.
    pub mark: Mark,
}

impl<'a> Grid<'a> {
    /// Returns the grid of a rollout.
    pub fn new(seen: &'a Seen, now: Stamp) -> Self {
        let mut racks: BTreeMap<(&str, &str), Vec<Cell<'_>>> = BTreeMap::new();
        for attempt in &seen.attempts {
            let place = (attempt.site.as_str(), seen.rack(&attempt.host));
            let cell = Cell { host: &attempt.host, mark: Mark::of(attempt, now) };
            racks.entry(place).or_default().push(cell);
        }
        let mut grid = Self::default();
        let mut racks: Vec<_> = racks.into_iter().collect();
        racks.sort_by(|((site, rack), _), ((other, beside), _)| {
            by_number(site, other).then_with(|| by_number(rack, beside))
        });
        for ((site, name), mut cells) in racks {
            cells.sort_by(|one, other| by_number(one.host, other.host));
            let mut tally = Tally::default();
            cells.iter().for_each(|cell| tally.add(cell.mark));
            if grid.sites.last().is_none_or(|last| last.name != site) {
                let (tally, racks) = (Tally::default(), Vec::new());
                grid.sites.push(Site { name: site, tally, racks });
            }
            if let Some(last) = grid.sites.last_mut() {
                last.tally.add_all(&tally);
                last.racks.push(Rack { name, tally, cells });
            }
            grid.tally.add_all(&tally);
        }
        grid
    }

    /// Returns the hosts in the order of the grid.
    pub fn cells(&self) -> impl Iterator<Item = &Cell<'a>> {
        self.sites.iter().flat_map(|site| &site.racks).flat_map(|rack| &rack.cells)
    }
}

/// Compares names so that r2 comes before r10. Names that differ are never equal.
fn by_number(one: &str, other: &str) -> Ordering {
    let (mut left, mut right) = (one.as_bytes(), other.as_bytes());
    loop {
        let (a, b) = match (left, right) {
            ([a, ..], [b, ..]) => (*a, *b),
            _ => return left.len().cmp(&right.len()).then_with(|| one.cmp(other)),
        };
        let order = if a.is_ascii_digit() && b.is_ascii_digit() {
            let (value, beside) = (number(&mut left), number(&mut right));
            value.len().cmp(&beside.len()).then_with(|| value.cmp(beside))
        } else {
            (left, right) = (&left[1..], &right[1..]);
            a.cmp(&b)
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Takes the digits at the beginning, and returns them without leading zeros.
fn number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::samples::{Sample, seen};
    use super::*;

    #[test]
    fn numbers_in_names_are_compared_by_their_value() {
        let mut names = ["r10", "r2", "r02", "r", "q11", "r2a", "", "r2"];
        names.sort_by(|one, other| by_number(one, other));
        assert_eq!(names, ["", "q11", "r", "r02", "r2", "r2", "r2a", "r10"]);
    }

    #[test]
    fn ten_thousand_hosts_are_ordered_in_one_pass() {
        let places = (0..10_000).map(|index| (index % 5, index % 200, index % 7));
        let seen = seen(&Sample { places: places.collect(), ..Sample::default() });
        let grid = Grid::new(&seen, seen.at);
        assert_eq!((grid.tally.total(), grid.sites.len()), (10_000, 5));
        assert_eq!(grid.sites[0].racks.len(), 40);
    }

    proptest! {
        #[test]
        fn every_host_is_in_exactly_one_cell(
            places in prop::collection::vec((0..4_usize, 0..6_usize, 0..8_usize), 0..60),
        ) {
            let seen = seen(&Sample { places, ..Sample::default() });
            let grid = Grid::new(&seen, seen.at);
            let hosts: Vec<&str> = grid.cells().map(|cell| cell.host).collect();
            let unique: BTreeSet<&str> = hosts.iter().copied().collect();
            prop_assert_eq!(hosts.len(), unique.len());
            let expected: BTreeSet<&str> =
                seen.attempts.iter().map(|attempt| attempt.host.as_str()).collect();
            prop_assert_eq!(unique, expected);
            for site in &grid.sites {
                for rack in &site.racks {
                    prop_assert_eq!(rack.tally.total() as usize, rack.cells.len());
                    for cell in &rack.cells {
                        let attempt = seen.attempts.iter().find(|each| each.host == cell.host);
                        prop_assert_eq!(attempt.map(|each| each.site.as_str()), Some(site.name));
                        prop_assert_eq!(seen.rack(cell.host), rack.name);
                    }
                }
            }
        }
    }
}
