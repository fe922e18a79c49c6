#![allow(clippy::unwrap_used)]

use jiff::civil::Weekday;
use proptest::prelude::*;

use super::*;
use crate::model::Approval;
use crate::rollout::limits::{Action, Amount, FailureLimit, InFlightLimit, Scope};
use crate::rollout::samples::WINTER;

#[test]
fn the_example_is_read() {
    let file = RolloutFile::parse(WINTER).unwrap();
    assert_eq!((file.name.as_str(), file.release.as_str()), ("winter", "2.1.0"));
    let waves: Vec<_> =
        file.waves.iter().map(|wave| (wave.name.as_str(), wave.approval, wave.soak_s)).collect();
    let person = Approval::Person;
    assert_eq!(
        waves,
        [("canary", Approval::Automatic, 1800), ("tenth", person, 86_400), ("rest", person, 0)]
    );
    assert_eq!(file.waves[1].members, Members::Percent(10));
    assert_eq!(file.limits.in_flight.len(), 4);
    let rack = Scope::Label("rack".into());
    assert_eq!(
        file.limits.in_flight[2],
        InFlightLimit { scope: rack, amount: Amount::Percent(25) }
    );
    let wave = FailureLimit {
        scope: Scope::Wave,
        amount: Amount::Percent(10),
        sample: 20,
        unreachable: false,
        action: Action::Pause,
    };
    assert_eq!(file.limits.failures[0], wave);
    assert_eq!(file.limits.failures[2].action, Action::Stop);
    assert!(file.limits.failures[2].unreachable);
    assert_eq!(file.windows[0].window.days.len(), 5);
    assert!(!file.windows[0].window.days.contains(&Weekday::Friday));
    assert_eq!(file.windows[1].window.days.len(), 7);
    assert_eq!(file.windows_of("austin"), [file.windows[1].window.clone()]);
    assert_eq!(file.windows_of("oslo"), []);
    assert_eq!(file.drain.unwrap().within_s, 300);
    assert_eq!(file.healthy_within_s, 600);
}

fn problems(text: &str) -> Vec<String> {
    let error = RolloutFile::parse(text).expect_err(text);
    error.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn all_that_is_wrong_is_told_with_its_line() {
    let text = r#"
name = ""
release = 2
hosts = 'site='
wnidow = 1

[[wave]]
name = "a"
count = 0
soak = "5 m"

[[wave]]
name = "a"
rest = true
percent = 101

[[wave]]
name = "b"
approval = "boss"

[limits]
in-flight = [
    { per = "wave", hosts = 1 },
    { per = "rack" },
]
failures = [{ per = "rak", percent = 10 }, { per = "all", hosts = 1, sample = 3 }]

[[window]]
days = ["fry"]
from = "24:00"
to = "2:00"
zone = "Europe/Bremen"

[drain]
run = ["balancer", "{hots}"]
within = "0 s"
"#;
    let wanted = [
        "line 2: name: must not be empty, nor have control characters",
        "line 3: release: expected text in quotes, found 2",
        "line 4: hosts: at character 6: expected a value, found the end",
        "line 5: wnidow: unknown; there are: name, release, hosts, limits, wave, window, drain, \
         undrain, healthy",
        "line 9: wave 1: count: expected a whole number from 1 to 1000000, found 0",
        "line 10: wave 1: soak: \"5 m\" is not a duration: write for example \"30 min\" or \"2 h\"",
        "line 12: wave 2: write one of select, count, percent, rest; there is percent and rest",
        "line 13: wave 2: name: another wave is called \"a\"",
        "line 15: wave 2: percent: expected a whole number from 1 to 100, found 101",
        "line 17: wave 3: stands after rest = true, which leaves no host: put it before",
        "line 17: wave 3: write one of select, count, percent, rest; there is none",
        "line 19: wave 3: approval: \"boss\" is unknown: write one of \"automatic\", \"person\"",
        "line 23: limits: in-flight 1: per: one wave runs at a time: write \"all\"",
        "line 24: limits: in-flight 2: write either hosts or percent",
        "line 26: limits: failures 1: sample: is missing",
        "line 26: limits: failures 1: per: \"rak\" is unknown: write one of all, wave, site, rack, \
         power, role, or label:NAME",
        "line 26: limits: failures 2: sample: belongs to percent: leave it out",
        "line 29: window 1: days: \"fry\" is no day: write for example \"sat\", or \"mon-fri\" for \
         several",
        "line 30: window 1: from: \"24:00\" is no time of the day: write for example \"22:00\"",
        "line 31: window 1: to: \"2:00\" is no time of the day: write for example \"22:00\"",
        "line 32: window 1: zone: no time zone is called \"Europe/Bremen\": write for example \
         Europe/Berlin",
        "line 35: drain: run: {hots} is unknown: there are {host}, {site}, {version}, {rollout}",
        "line 36: drain: within: must be longer than 0 s",
    ];
    assert_eq!(problems(text), wanted);
}

#[test]
fn what_is_no_toml_or_has_nothing_in_it_is_told() {
    assert_eq!(
        problems(""),
        [
            "line 1: name: is missing",
            "line 1: release: is missing",
            "line 1: hosts: is missing",
            "line 1: limits: is missing: write [limits]",
            "line 1: wave: is missing: write at least one [[wave]]",
        ]
    );
    assert!(problems("a = 1\nname = \"winter\nb = 2\n")[0].starts_with("line 2: "));
    assert!(problems("a = 1\n\na = 2\n")[0].starts_with("line 3: "));
    assert!(problems(&"x".repeat(FILE_BYTES_MAX + 1))[0].contains("1048577 bytes"));
    assert!(problems(&"a=[".repeat(100_000)).len() <= PROBLEMS_MAX);
}

#[test]
fn numbers_are_read_as_toml_has_them() {
    let text =
        WINTER.replace("percent = 10\n", "count = 1_0\n").replace("hosts = 50", "hosts = 0x10");
    let file = RolloutFile::parse(&text).unwrap();
    assert_eq!(file.waves[1].members, Members::Count(10));
    assert_eq!(file.limits.in_flight[0].amount, Amount::Hosts(16));
}

#[test]
fn days_go_over_the_end_of_the_week() {
    let text = WINTER.replace("\"mon-thu\", \"sun\"", "\"fri-mon\", \"sat\"");
    let days = RolloutFile::parse(&text).unwrap().windows[0].window.days.clone();
    assert_eq!(days, [Weekday::Monday, Weekday::Friday, Weekday::Saturday, Weekday::Sunday]);
}

#[test]
fn a_command_gets_values_and_no_options() {
    let command = Command {
        run: [
            "/bin/x",
            "{host}",
            "--at={site}",
            "{\"v\":\"{version}\"}{",
            "{rollout}",
            "{outcome}",
        ]
        .map(str::to_owned)
        .to_vec(),
        within_s: 1,
    };
    let occasion = Occasion {
        host: "{site}",
        site: "-s",
        version: "2.1",
        rollout: "winter; rm -rf /",
        outcome: FAILED,
    };
    let argv = command.argv(&occasion).unwrap();
    let filled = ["{site}", "--at=-s", "{\"v\":\"2.1\"}{", "winter; rm -rf /", "failed"];
    assert_eq!(argv[1..], filled);
    let dashed = Occasion { host: "--kubeconfig=/tmp/x", ..occasion };
    assert!(matches!(command.argv(&dashed), Err(CommandError::Option { word: "host", .. })));
    let nul = Occasion { rollout: "a\0", ..occasion };
    assert!(matches!(command.argv(&nul), Err(CommandError::Nul { word: "rollout", .. })));
}

#[test]
fn undrain_alone_knows_the_outcome_and_follows_a_drain() {
    let section = |name: &str, word: &str| {
        format!("[{name}]\nrun = [\"/bin/x\", \"{word}\"]\nwithin = \"1 s\"\n")
    };
    let base = WINTER.split("[drain]").next().unwrap();
    let drain = section("drain", "{host}");
    let file = RolloutFile::parse(&format!("{base}{drain}{}", section("undrain", "{outcome}")));
    assert_eq!(file.unwrap().undrain.unwrap().longest_s(), 1 + GRACE_S);
    let told = problems(&format!("{base}{}", section("drain", "{outcome}")));
    assert!(told[0].contains("{outcome} is unknown"), "{told:?}");
    let told = problems(&format!("{base}{}", section("undrain", "{host}")));
    assert!(told[0].contains("would never run"), "{told:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Takes pieces out of the example, doubles or replaces them: most are nearly right.
    #[test]
    fn any_text_is_answered(
        from in any::<prop::sample::Index>(),
        length in 0..40usize,
        with in "\\PC{0,20}|[\\[\\]{}=\"'\n,.a-z0-9 ]{0,20}",
    ) {
        let letters: Vec<char> = WINTER.chars().collect();
        let from = from.index(letters.len());
        let to = (from + length).min(letters.len());
        let text: String = letters[..from].iter().chain(with.chars().collect::<Vec<_>>().iter())
            .chain(&letters[to..]).collect();
        if let Err(error) = RolloutFile::parse(&text) {
            let lines = text.matches('\n').count() + 1;
            prop_assert!(!error.problems.is_empty() && error.problems.len() <= PROBLEMS_MAX);
            prop_assert!(error.problems.iter().all(|problem| (1..=lines).contains(&problem.line)));
        }
    }

    /// Keys at random, so that each reader meets each type.
    #[test]
    fn any_table_is_answered(
        keys in prop::collection::vec((
            prop::sample::select(vec![
                "name", "release", "hosts", "wave", "wave.name", "wave.percent", "limits",
                "limits.in-flight", "limits.failures", "window", "drain.run", "healthy.within",
            ]),
            prop::sample::select(vec![
                "1", "-1", "1.5", "true", "\"x\"", "[]", "[[]]", "[{}]", "{}", "2026-01-01",
                "[{ per = 1 }]", "[{ per = \"all\", hosts = 0x10 }]", "[{ rest = false }]",
            ]),
        ), 0..8),
    ) {
        let lines: Vec<_> = keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        prop_assert!(RolloutFile::parse(&lines.concat()).is_err());
    }
}
