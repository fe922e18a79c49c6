//! What is shipped for Prometheus and Grafana, against the metrics that there are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use firmcast_fleet::metrics::FAMILIES;
use serde_json::Value;

use super::Desk;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[track_caller]
fn promtool(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("promtool");
    let output = command.current_dir(folder).args(arguments).output();
    let output = output.expect("promtool: install Debian's package prometheus");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

/// Names in a text that look like metrics of ours.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let is_other = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
    text.split(is_other).filter(|word| word.starts_with("firmcast_fleet_")).collect()
}

#[track_caller]
fn assert_known(text: &str) {
    let known: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    let unknown: Vec<_> = metrics_in(text).difference(&known).copied().collect();
    assert!(unknown.is_empty(), "no such metrics: {unknown:?}");
}

#[test]
fn alerts_fire_when_they_should_on_metrics_that_there_are() {
    let folder = root().join("packaging/monitoring");
    promtool(&folder, &["check", "rules", "alerts.yml"]);
    promtool(&folder, &["test", "rules", "alerts-test.yml"]);
    let rules = std::fs::read_to_string(folder.join("alerts.yml")).unwrap();
    let tests = std::fs::read_to_string(folder.join("alerts-test.yml")).unwrap();
    assert_known(&rules);
    assert_known(&tests);
    let operations = std::fs::read_to_string(root().join("docs/OPERATIONS.md")).unwrap();
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} is not tested");
        assert!(operations.contains(&format!("`{alert}`")), "{alert}: not in OPERATIONS.md");
    }
    for family in FAMILIES {
        let row = format!("| `{}` |", family.name);
        assert!(operations.contains(&row), "{}: not in OPERATIONS.md", family.name);
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are_in_queries_that_prometheus_reads() {
    let text = std::fs::read_to_string(root().join("packaging/monitoring/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut numbers = BTreeSet::new();
    let mut rules = "groups: [{name: dashboard, rules: [".to_owned();
    for panel in panels {
        assert!(numbers.insert(panel["id"].as_u64().unwrap()), "panel {} twice", panel["id"]);
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            assert!(!metrics_in(query).is_empty(), "{query}");
            let query = query.replace("$rollout", "winter").replace("$__rate_interval", "5m");
            let query = serde_json::to_string(&query).unwrap();
            rules += &format!("{{record: \"a:b{}\", expr: {query}}},", rules.len());
        }
    }
    assert_known(&text);
    assert!(panels.len() >= 8, "a dashboard with {} panels", panels.len());
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("rules.yml"), rules + "]}]\n").unwrap();
    promtool(folder.path(), &["check", "rules", "rules.yml"]);
}

#[test]
fn metrics_are_written_also_of_a_store_that_does_not_answer() {
    let desk = Desk::new();
    desk.says(&["rollout", "create", "winter.toml"]);
    desk.says(&["rollout", "start", "winter"]);
    let said = desk.says(&["metrics"]);
    let planned = "firmcast_fleet_rollout_attempts{rollout=\"winter\",wave=\"rest\",\
                   site=\"riga\",state=\"planned\"} 9\n";
    assert!(said.contains(planned), "{said}");
    assert!(said.contains("firmcast_fleet_workers{site=\"riga\"} 0\n"), "{said}");
    let away = desk.run(&["metrics", "--store", "postgres://nobody@127.0.0.1:1/nothing"]);
    assert_eq!(away.status.code(), Some(1));
    let said = String::from_utf8(away.stdout).unwrap();
    assert!(said.contains("firmcast_fleet_store_up 0\n"), "{said}");
    assert!(!said.contains("firmcast_fleet_hosts"), "{said}");
}
