#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::limits::{Amount, InFlightLimit, Scope};
use super::super::samples::{WINTER, host};
use super::super::window::next_start;
use super::*;
use crate::model::SITE;

const S: Stamp = 1_000_000;

/// 2026-01-02T12:00Z, a Friday.
const NOW: Stamp = 1_767_355_200 * S;

fn release() -> Release {
    Release {
        digest: "ab".repeat(32),
        version: "2.1.0".to_owned(),
        security_version: 3,
        vendor: "ACME".to_owned(),
        products: vec!["S1".to_owned(), "S2".to_owned()],
        size_bytes: 16 << 20,
        added_at: 0,
    }
}

/// A file with these waves and limits, and without windows and commands.
fn file(waves: &str, limits: &str) -> RolloutFile {
    let head = "name = \"w\"\nrelease = \"2.1.0\"\nhosts = 'not name=\"out\"'";
    let text = format!("{head}\n{waves}\n[limits]\n{limits}\n");
    RolloutFile::parse(&text).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

const NO_LIMITS: &str = "in-flight = []\nfailures = []";

fn planned(file: &RolloutFile, hosts: &[Host], predicted: &dyn Fn(&Host) -> Option<u32>) -> Plan {
    let predicted = |host: &Host| predicted(host).map_or(Prediction::ASSUMED, |s| takes(s, s));
    planned_by(file, hosts, &predicted)
}

fn planned_by(file: &RolloutFile, hosts: &[Host], predicted: &dyn Fn(&Host) -> Prediction) -> Plan {
    plan(&Given { file, release: &release(), hosts, predicted, now: NOW }).unwrap()
}

/// What a host foresees.
fn takes(typical_s: u32, longest_s: u32) -> Prediction {
    Prediction { typical_s, longest_s, source: Source::Host { asked_at: NOW } }
}

/// `count` hosts at two sites with three racks each, two hosts in a rack on one feed.
fn fleet(count: usize) -> Vec<Host> {
    let one = |index: usize| {
        let site = if index.is_multiple_of(2) { "berlin" } else { "riga" };
        let power = if (index / 6).is_multiple_of(2) { "a" } else { "b" };
        host(&format!("h{index:03}"), site, &format!("r{}", index / 2 % 3), power)
    };
    (0..count).map(one).collect()
}

#[test]
fn who_is_left_out_is_told_why() {
    let mut hosts = fleet(8);
    hosts[0].name = "out".to_owned();
    hosts[1].product = "S9".to_owned();
    hosts[2].bios_version = "2.1.0".to_owned();
    hosts[3].security_version_floor = 4;
    hosts[4].labels.remove(SITE);
    hosts[5].name = "-x".to_owned();
    let mut file = file("[[wave]]\nname = \"a\"\ncount = 1", NO_LIMITS);
    file.drain = RolloutFile::parse(WINTER).unwrap().drain;
    let plan = planned(&file, &hosts, &|_| Some(60));
    let told: Vec<_> =
        plan.left_out.iter().map(|each| format!("{}: {}", each.name, each.why)).collect();
    assert_eq!(
        told,
        [
            "-x: drain or undrain: {host} is \"-x\" here, which the program would take for an \
             option: rename it",
            "h001: the release is not for board \"ACME S9\"",
            "h002: already has this version",
            "h003: requires security version 4, the release has 3",
            "h004: has no label site, so no worker serves it",
            "h007: no wave takes it",
        ]
    );
    assert_eq!((plan.known, plan.selected, plan.touched()), (8, 7, 1));
    // The drain command may take 5 min, and 10 s to end.
    assert_eq!(plan.waves[0].hosts[0].longest_s, 370);
    let other = Release { version: "3".to_owned(), ..release() };
    let predicted = |_: &_| Prediction::ASSUMED;
    let given = Given { file: &file, release: &other, hosts: &[], predicted: &predicted, now: NOW };
    assert!(matches!(plan_error(&given), PlanError::OtherRelease { .. }));
    let twice = [hosts[6].clone(), hosts[6].clone()];
    let given = Given { release: &release(), hosts: &twice, ..given };
    assert_eq!(plan_error(&given), PlanError::HostTwice("h006".to_owned()));
}

fn plan_error(given: &Given<'_>) -> PlanError {
    plan(given).unwrap_err()
}

#[test]
fn time_is_what_limits_and_windows_make_of_it() {
    let waves =
        "[[wave]]\nname = \"a\"\ncount = 6\nsoak = \"30 min\"\n[[wave]]\nname = \"b\"\nrest = true";
    let limits = "in-flight = [{ per = \"rack\", hosts = 1 }, { per = \"all\", hosts = 4 }]\n\
                  failures = []";
    let mut file = file(waves, limits);
    let hosts = fleet(24);
    let plan = planned(&file, &hosts, &|_| Some(600));
    // Wave 1: six racks, four at a time: twice 10 min. Wave 2: 18 hosts, 3 of each rack, need five
    // times at least.
    assert_eq!(plan.waves[0].runs, Some((NOW, NOW + 1200 * S)));
    let second = NOW + (1200 + 1800) * S;
    assert_eq!(plan.waves[1].runs, Some((second, second + 3000 * S)));
    assert_eq!(plan.ends_at, Some(second + 3000 * S));
    let racks: BTreeSet<_> =
        plan.waves[0].hosts.iter().map(|host| (&host.site, &host.rack)).collect();
    assert_eq!(racks.len(), 6);

    file.windows = RolloutFile::parse(WINTER).unwrap().windows;
    let plan = planned(&file, &hosts, &|host| Some(if host.name == "h000" { 29_000 } else { 600 }));
    // The window opens on Sunday at 22:00 in Berlin, for 7 hours; h000 takes longer.
    let opens = NOW + (2 * 24 + 9) * 3600 * S;
    assert_eq!(plan.waves[0].runs.map(|(_, end)| end), Some(opens + 1200 * S));
    let warning = plan.warnings.iter().find(|warning| warning.contains("never begin")).unwrap();
    assert!(warning.starts_with("1 of 24 hosts never begin, as no window"), "{warning}");
}

/// A window of two hours for hosts that take half an hour, and an hour and a half at most.
#[test]
fn hosts_take_their_typical_time_and_their_longest_has_to_fit() {
    let mut file = file(
        "[[wave]]\nname = \"a\"\nrest = true",
        "in-flight = [{ per = \"all\", hosts = 1 }]\nfailures = []",
    );
    file.windows = RolloutFile::parse(WINTER).unwrap().windows;
    file.windows.truncate(1);
    file.windows[0].sites = None;
    file.windows[0].window.to = jiff::civil::time(0, 0, 0, 0);
    let plan = planned_by(&file, &fleet(3), &|_| takes(1800, 5400));
    // Sunday, 22:00 and 22:30 in Berlin; at 23:00 an hour is left.
    let opens = NOW + (2 * 24 + 9) * 3600 * S;
    let begins: Vec<_> = plan.waves[0].hosts.iter().filter_map(|host| host.begins_at).collect();
    assert_eq!(begins, [opens, opens + 1800 * S, opens + 24 * 3600 * S]);
    assert_eq!(plan.ends_at, Some(opens + (24 * 3600 + 1800) * S));
}

#[test]
fn a_wave_has_an_order_of_its_own() {
    let mut hosts = Vec::new();
    let of = [
        ("a", "r1", "db"),
        ("b", "r1", "db"),
        ("c", "r2", "x"),
        ("d", "r2", "x"),
        ("e", "r2", "db"),
    ];
    for (name, rack, role) in of {
        let mut host = host(name, "berlin", rack, "p");
        host.labels.insert("role".to_owned(), role.to_owned());
        hosts.push(host);
    }
    let file = file("[[wave]]\nname = \"w\"\nselect = 'role=db'", NO_LIMITS);
    let plan = planned(&file, &hosts, &|_| None);
    let names: Vec<_> = plan.waves[0].hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!(names, ["a", "e", "b"]);
}

#[test]
fn what_is_odd_is_warned_of() {
    let waves = "[[wave]]\nname = \"a\"\npercent = 99\n[[wave]]\nname = \"b\"\nselect = 'x=y'";
    let file = file(waves, NO_LIMITS);
    let plan = planned(&file, &fleet(4), &|_| None);
    let wanted = [
        "hosts selects every known host, 4",
        "wave 1 \"a\": 99 %, rounded up, are all 4 hosts",
        "wave 2 \"b\" is empty",
        "failures = []: it goes on however many hosts fail",
        "in-flight = []: all hosts of a wave begin at the same time",
        "nothing is foreseen for 4 of 4 hosts, which are taken to need 1 h: at each site, run \
         firmcast-fleet hosts foresee --release 2.1.0 --site SITE",
    ];
    assert_eq!(plan.warnings, wanted);
    let mut out = fleet(1);
    out[0].name = "out".to_owned();
    assert_eq!(
        planned(&file, &out, &|_| None).warnings[0],
        "hosts selects none of the 1 known hosts"
    );
    assert_eq!(planned(&file, &[], &|_| None).warnings[0], "no host is known: import some");
}

#[test]
fn it_reads_well_in_80_columns() {
    let mut file = RolloutFile::parse(WINTER).unwrap();
    let label = Scope::Label("\u{1b}[2J".to_owned());
    file.limits.in_flight.push(InFlightLimit { scope: label, amount: SEVEN });
    let mut hosts = fleet(30);
    hosts[7].labels.insert("canary".to_owned(), "yes".to_owned());
    hosts[8].bios_version = "2.1.0".to_owned();
    hosts[9].product = "S9".to_owned();
    hosts[10].labels.insert("role".to_owned(), "lab".to_owned());
    hosts[11].name = format!("\u{1b}[31m<b>{}", "x".repeat(300));
    let slow = |host: &Host| match host.name.as_str() {
        "h012" => Prediction::ASSUMED,
        "h013" => Prediction { source: Source::Board, ..takes(1200, 1500) },
        _ => takes(1200, 1500),
    };
    let text = planned_by(&file, &hosts, &slow).to_string();
    let long = text.lines().find(|line| line.chars().count() > 80);
    assert_eq!(long, None, "{text}");
    assert!(!text.contains('\u{1b}'));
    for wanted in [
        "Rollout \"winter\": version 2.1.0\n",
        "  hosts    28 of 30 known hosts are selected: 27 are touched, 1 left out\n",
        "Wave 1 \"canary\": 1 host, begins by itself; about 2d 10h, then watched 30 min\n",
        "Wave 2 \"tenth\": 3 hosts, begins when another person has approved it; about",
        "  per rack, 25 %:\n    1 of 5: rack \"berlin/r0\"",
        "  times    25 foreseen by their hosts since 01-02 12:00 UTC, 1 measured on their\n",
        // Drain and undrain may each take 10 s more to end.
        "      1 h007                 riga/r0          b    27m 20s 32m 20s  01-04 21:00\n",
        "  pauses when 10 % of those that ended in one wave have failed, 20 or more\n  ended; unr",
        "  stops for good when 30 hosts have failed in all; unreachable hosts count\n",
        "  per label:\\u{1b}[2J, 7 hosts:\n    7 of 27: hosts without \\u{1b}[2J\n",
        "  1 host because: the release is not for board \"ACME S9\"\n    h009\n",
    ] {
        assert!(text.contains(wanted), "no {wanted:?} in:\n{text}");
    }
    let json = serde_json::to_value(planned(&file, &hosts, &|_| Some(1500))).unwrap();
    assert_eq!(json["waves"][0]["hosts"][0]["name"], "h007");
    assert_eq!(json["left_out"][0]["why"], "the release is not for board \"ACME S9\"");
}

/// Each host is in one of three racks at two sites, on a feed, of a role, with a name of its own.
fn hosts() -> impl Strategy<Value = Vec<Host>> {
    let one = (0..2u8, 0..3u8, 0..2u8, 0..3u8, 0..6u8);
    prop::collection::vec(one, 0..40).prop_map(|places| {
        let hosts = places.iter().enumerate().map(|(index, (site, rack, power, role, state))| {
            let (site, rack) = (format!("s{site}"), format!("r{rack}"));
            let mut host = host(&format!("h{index}"), &site, &rack, &format!("p{power}"));
            host.labels.insert("role".to_owned(), format!("role{role}"));
            match state {
                0 => host.bios_version = "2.1.0".to_owned(),
                1 => host.product = "S9".to_owned(),
                _ => {}
            }
            host
        });
        hosts.collect()
    })
}

fn files() -> impl Strategy<Value = RolloutFile> {
    let wave = prop_oneof![
        (0..3u8).prop_map(|role| format!("select = 'role=role{role}'")),
        (1..9u8).prop_map(|count| format!("count = {count}")),
        (1..=100u8).prop_map(|percent| format!("percent = {percent}")),
    ];
    let amount = prop_oneof![
        (1..4u8).prop_map(|hosts| format!("hosts = {hosts}")),
        (1..=100u8).prop_map(|percent| format!("percent = {percent}")),
    ];
    let per = prop::sample::select(vec!["all", "site", "rack", "power", "role", "label:none"]);
    let limit = (per, amount).prop_map(|(per, amount)| format!("{{ per = \"{per}\", {amount} }}"));
    let waves = prop::collection::vec(wave, 1..4);
    (waves, any::<bool>(), prop::collection::vec(limit, 0..4), any::<bool>()).prop_map(
        |(mut waves, has_rest, limits, has_windows)| {
            if has_rest {
                waves.push("rest = true".to_owned());
            }
            let waves: Vec<_> = waves
                .iter()
                .enumerate()
                .map(|(index, members)| format!("[[wave]]\nname = \"w{index}\"\n{members}\n"))
                .collect();
            let limits = format!("in-flight = [{}]\nfailures = []", limits.join(", "));
            let mut file = file(&waves.concat(), &limits);
            if has_windows {
                let mut windows = RolloutFile::parse(WINTER).unwrap().windows;
                windows[0].sites = Some(vec!["s0".to_owned()]);
                windows[1].sites = None;
                file.windows = windows;
            }
            file
        },
    )
}

/// Between half an hour and an hour and a half, by name.
fn foresee(host: &Host) -> Option<u32> {
    Some(1800 + host.name.bytes().map(u32::from).sum::<u32>() * 7 % 3600)
}

/// How many hosts of each domain of a limit may be on their way at a time.
fn most(limit: Amount, planned: usize) -> usize {
    match limit {
        Amount::Hosts(hosts) => hosts as usize,
        Amount::Percent(percent) => (planned * percent as usize / 100).max(1),
    }
}

const CHANGES_OF_THE_FILE: [fn(&mut RolloutFile); 7] = [
    |file| file.name.push('x'),
    |file| file.healthy_within_s += 1,
    |file| file.limits.in_flight.push(InFlightLimit { scope: Scope::All, amount: SEVEN }),
    |file| {
        let limits = RolloutFile::parse(WINTER).unwrap().limits;
        file.limits.failures.push(limits.failures[0].clone());
    },
    |file| file.windows.extend(RolloutFile::parse(WINTER).unwrap().windows),
    |file| file.drain = RolloutFile::parse(WINTER).unwrap().drain,
    |file| file.undrain = RolloutFile::parse(WINTER).unwrap().drain,
];

const SEVEN: Amount = Amount::Hosts(7);

const CHANGES_OF_A_WAVE: [fn(&mut PlannedWave); 8] = [
    |wave| wave.name.push('x'),
    |wave| wave.soak_s += 1,
    |wave| wave.approval = Approval::Person,
    |wave| wave.hosts.rotate_left(1),
    |wave| drop(wave.hosts.pop()),
    |wave| wave.hosts[0].key.push('x'),
    |wave| wave.hosts[0].site.push('x'),
    |wave| wave.hosts[0].domains.push(Domain(Scope::Wave, "9".to_owned())),
];

proptest! {
    #[test]
    fn every_selected_host_is_in_one_wave_or_left_out_for_a_reason(
        file in files(), hosts in hosts(),
    ) {
        let plan = planned(&file, &hosts, &foresee);
        let mut seen = BTreeSet::new();
        for name in plan.waves.iter().flat_map(|wave| &wave.hosts).map(|host| &host.name)
            .chain(plan.left_out.iter().map(|each| &each.name))
        {
            prop_assert!(seen.insert(name.clone()), "{name} twice");
        }
        let selected = hosts.iter().filter(|host| file.hosts.matches(host));
        prop_assert_eq!(seen, selected.map(|host| host.name.clone()).collect());
        let touched: BTreeSet<_> =
            plan.waves.iter().flat_map(|wave| &wave.hosts).map(|host| host.name.as_str()).collect();
        for host in &hosts {
            let could = host.product == "S1" && host.bios_version != "2.1.0";
            prop_assert!(could || !touched.contains(host.name.as_str()));
        }
    }

    #[test]
    fn the_digest_is_of_the_set(
        (hosts, shuffled) in hosts().prop_flat_map(|hosts| {
            (Just(hosts.clone()), Just(hosts).prop_shuffle())
        }),
        file in files(),
        which in any::<prop::sample::Index>(),
    ) {
        let one = planned(&file, &hosts, &foresee);
        prop_assert_eq!(&one, &planned(&file, &shuffled, &foresee));
        let longer = planned(&file, &hosts, &|_| Some(9));
        prop_assert_eq!(&one.digest, &longer.digest);
        let waves = &one.waves;
        prop_assert_eq!(&digest::digest(&file, &release(), waves), &one.digest);
        let other = Release { digest: "cd".repeat(32), ..release() };
        prop_assert_ne!(&digest::digest(&file, &other, waves), &one.digest);
        for (index, change) in CHANGES_OF_THE_FILE.iter().enumerate() {
            let mut changed = file.clone();
            change(&mut changed);
            let digest = digest::digest(&changed, &release(), waves);
            prop_assert_ne!(digest, one.digest.clone(), "change {}", index);
        }
        let with_hosts = (0..waves.len()).filter(|wave| waves[*wave].hosts.len() > 1);
        let with_hosts: Vec<_> = with_hosts.collect();
        if with_hosts.is_empty() {
            return Ok(());
        }
        let wave = with_hosts[which.index(with_hosts.len())];
        for (index, change) in CHANGES_OF_A_WAVE.iter().enumerate() {
            let mut changed = waves.clone();
            change(&mut changed[wave]);
            let digest = digest::digest(&file, &release(), &changed);
            prop_assert_ne!(digest, one.digest.clone(), "change {}", index);
        }
        if wave + 1 < waves.len() {
            let mut moved = waves.clone();
            let last = moved[wave].hosts.pop().unwrap();
            moved[wave + 1].hosts.insert(0, last);
            prop_assert_ne!(&digest::digest(&file, &release(), &moved), &one.digest);
        }
    }

    /// Holds the schedule against limits and windows at each moment at which a host begins, and no
    /// host waits although it could begin.
    #[test]
    fn the_schedule_keeps_limits_and_windows(file in files(), hosts in hosts()) {
        let predicted = |host: &Host| {
            let longest_s = foresee(host).unwrap();
            takes(longest_s / 2, longest_s)
        };
        let plan = planned_by(&file, &hosts, &predicted);
        let by_name: BTreeMap<_, _> = hosts.iter().map(|host| (&host.name, host)).collect();
        let rows: Vec<(u32, &Host, Stamp, Stamp, u32)> = plan.waves.iter().flat_map(|wave| {
            wave.hosts.iter().map(|planned| {
                let begin = planned.begins_at.unwrap();
                let end = begin + i64::from(planned.typical_s) * S;
                (wave.number, by_name[&planned.name], begin, end, planned.longest_s)
            })
        }).collect();
        let full = |number: u32, host: &Host, at: Stamp, but: &str| {
            file.limits.in_flight.iter().find_map(|limit| {
                let domain = Domain::of(&limit.scope, number, host);
                let same = |other: &Host| Domain::of(&limit.scope, number, other) == domain;
                let of = rows.iter().filter(|(_, other, ..)| same(other)).count();
                let flying = rows.iter().filter(|(_, other, from, to, _)| {
                    same(other) && other.name != but && *from <= at && at < *to
                }).count();
                (flying >= most(limit.amount, of)).then_some(limit.clone())
            })
        };
        let moments = rows.iter().flat_map(|(.., begin, end, _)| [*begin, *end]);
        let moments: Vec<Stamp> = moments.collect();
        for (number, host, begin, _, longest_s) in &rows {
            prop_assert_eq!(full(*number, host, *begin, &host.name), None);
            let windows = file.windows_of(host.site());
            prop_assert_eq!(next_start(&windows, *begin, *longest_s), Some(*begin));
            let (opens, _) = plan.waves[*number as usize].runs.unwrap();
            prop_assert!(*begin >= opens);
            for at in moments.iter().filter(|at| (opens..*begin).contains(*at)) {
                let is_open = next_start(&windows, *at, *longest_s) == Some(*at);
                prop_assert!(!is_open || full(*number, host, *at, &host.name).is_some());
            }
        }
        for pair in plan.waves.windows(2) {
            prop_assert!(pair[0].runs.unwrap().1 <= pair[1].runs.unwrap().0);
        }
    }
}

/// Not too slow for a large fleet, whatever its labels are.
#[test]
fn a_large_fleet_is_planned() {
    let hosts: Vec<Host> = (0..20_000)
        .map(|index| {
            let site = format!("s{}", index % 5);
            let mut host = host(&format!("h{index}"), &site, &format!("r{}", index % 977), "a");
            host.labels.insert("own".to_owned(), index.to_string());
            host
        })
        .collect();
    let limits = "in-flight = [{ per = \"label:own\", hosts = 1 }, { per = \"all\", hosts = 50 }, \
                  { per = \"rack\", percent = 25 }]\nfailures = []";
    let mut file = file("[[wave]]\nname = \"a\"\nrest = true", limits);
    file.windows = RolloutFile::parse(WINTER).unwrap().windows;
    file.windows[0].sites = None;
    let plan = planned(&file, &hosts, &|_| Some(1800));
    assert_eq!(plan.touched(), 20_000);
    // 50 at a time, 14 times a night, five nights a week: 29 nights.
    assert!(plan.ends_at.is_some_and(|end| end > NOW + 5 * 7 * 86_400 * S), "{:?}", plan.ends_at);
}
