//! The order of hosts, so that limits bind as little as they can: neighbours in it stand at
//! different sites, in different racks, on different power feeds.

use std::collections::BTreeMap;

use crate::model::{Host, POWER, RACK};

/// Returns the hosts in an order that only depends on which they are: sites take turns, at a site
/// its racks do, and from rack to rack the power feeds do. Where one has no more, the others go on.
pub(super) fn spread<'a>(hosts: &[&'a Host]) -> Vec<&'a Host> {
    let mut hosts = hosts.to_vec();
    hosts.sort_by_key(|host| &host.name);
    take_turns(grouped(hosts, |host| host.site()).into_iter().map(spread_site))
}

fn spread_site(hosts: Vec<&Host>) -> Vec<&Host> {
    // Racks on one feed stand apart from each other in the order, too.
    let racks = grouped(hosts, |host| host.label(RACK));
    let racks = take_turns(grouped(racks, |rack| rack[0].label(POWER)));
    let racks = racks.into_iter().enumerate().map(|(number, rack)| {
        let mut feeds = grouped(rack, |host| host.label(POWER));
        let first = number % feeds.len();
        feeds.rotate_left(first);
        take_turns(feeds)
    });
    take_turns(racks)
}

/// Groups by a text, in the order of the texts. No group is empty.
fn grouped<T>(all: Vec<T>, text: impl Fn(&T) -> &str) -> Vec<Vec<T>> {
    let mut groups: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for each in all {
        groups.entry(text(&each).to_owned()).or_default().push(each);
    }
    groups.into_values().collect()
}

/// The first of each group, then the second of each, and so on.
fn take_turns<T>(groups: impl IntoIterator<Item = Vec<T>>) -> Vec<T> {
    let mut turns = Vec::new();
    for group in groups {
        turns.extend(group.into_iter().enumerate());
    }
    // A stable sort keeps the order of the groups.
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, each)| each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::samples::host;

    #[test]
    fn sites_racks_and_feeds_take_turns() {
        let mut hosts = Vec::new();
        for (name, site, rack, power) in [
            ("1", "berlin", "r1", "a"),
            ("2", "berlin", "r1", "b"),
            ("3", "berlin", "r1", "a"),
            ("4", "berlin", "r2", "a"),
            ("5", "berlin", "r2", "b"),
            ("6", "riga", "r1", "a"),
            ("7", "riga", "r2", "a"),
            ("8", "riga", "r3", "b"),
        ] {
            hosts.push(host(name, site, rack, power));
        }
        let names = |hosts: &[&Host]| -> Vec<String> {
            spread(hosts).iter().map(|host| host.name.clone()).collect()
        };
        let mut shown: Vec<&Host> = hosts.iter().collect();
        // Berlin: rack 1 begins with feed a, rack 2 with feed b. Riga: feed b comes second.
        let wanted = ["1", "6", "5", "8", "2", "7", "4", "3"];
        assert_eq!(names(&shown), wanted);
        shown.reverse();
        assert_eq!(names(&shown), wanted);
        assert_eq!(names(&[]), [""; 0]);
    }
}
