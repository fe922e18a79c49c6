//! Every store counts the same, and Prometheus reads it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use firmcast_fleet::metrics::{FAMILIES, Look, page};
use firmcast_fleet::model::{Delivery, RolloutState, Worker};
use firmcast_fleet::rollout::limits::{Action, Amount, FailureLimit, InFlightLimit, Limits, Scope};
use firmcast_fleet::store::requests::{DrainStep, LACKING_MAX, Outcome, StateChange, Survey};
use firmcast_fleet::store::{Store, StoreError};

use super::samples::{LEASE_US, Stores, claim, host, limited, release, start, webhook};

/// A site whose name would end a label, a line and a comment.
const HOSTILE: &str = "ri\"ga\\\n# HELP } 1 {ä=\"🔥\"";

const FAILED: Outcome<'_> =
    Outcome { confirmed: false, reason: Some("drain-failed"), flash: Some("old"), detail: "" };

#[test]
fn every_store_counts_the_same_and_promtool_finds_nothing_wrong() {
    let mut stores = Stores::new();
    let mut pages = Vec::new();
    for (name, store) in &mut stores.each {
        eprintln!("store: {name}");
        assert_eq!(store.survey(0).unwrap(), Survey::default());
        a_worker_that_was_not_seen_for_a_day_is_forgotten(store.as_mut());
        fill(store.as_mut());
        let survey = store.survey(LEASE_US + 30).unwrap();
        let look = Look { version: "1", at: LEASE_US + 30, took_s: 0.25, survey: Some(&survey) };
        pages.push(page(&look));
    }
    let text = &pages[0];
    assert!(pages.iter().all(|each| each == text), "{pages:#?}");
    for line in [
        "firmcast_fleet_store_up 1",
        "firmcast_fleet_hosts 4",
        "firmcast_fleet_rollouts{state=\"paused\"} 1",
        "firmcast_fleet_rollouts{state=\"error\"} 1",
        "firmcast_fleet_rollout_state{rollout=\"first\",state=\"paused\"} 1",
        "firmcast_fleet_rollout_state{rollout=\"first\",state=\"running\"} 0",
        "firmcast_fleet_rollout_wave_state{rollout=\"first\",wave=\"rest\",state=\"waiting\"} 1",
        "firmcast_fleet_rollout_limit_used_hosts{rollout=\"first\",limit=\"in-flight\",\
         scope=\"site\",allows=\"50%\",then=\"wait\"} 1",
        "firmcast_fleet_rollout_limit_max_hosts{rollout=\"first\",limit=\"in-flight\",\
         scope=\"site\",allows=\"50%\",then=\"wait\"} 1",
        "firmcast_fleet_rollout_limit_used_hosts{rollout=\"first\",limit=\"failures\",\
         scope=\"all\",allows=\"1\",then=\"pause\"} 1",
        "firmcast_fleet_rollout_oldest_in_flight_seconds\
         {rollout=\"first\",site=\"south\"} 10.000019",
        "firmcast_fleet_rollout_overdue_attempts{rollout=\"first\",site=\"south\"} 1",
        "firmcast_fleet_workers{site=\"south\"} 1",
        "firmcast_fleet_workers_waiting_for_bundle{site=\"south\"} 1",
        "firmcast_fleet_workers_waiting_for_bundle{site=\"north\"} 0",
        "firmcast_fleet_leases_expired_total 1",
        "firmcast_fleet_rollout_draining_hosts\
         {rollout=\"first\",site=\"south\",program=\"drain\"} 1",
        "firmcast_fleet_rollout_draining_hosts\
         {rollout=\"first\",site=\"south\",program=\"undrain\"} 0",
        "firmcast_fleet_drain_failures_total{program=\"drain\"} 1",
        "firmcast_fleet_drain_failures_total{program=\"undrain\"} 1",
        "firmcast_fleet_webhook_sender_up 0",
        "firmcast_fleet_webhook_failing{webhook=\"chat\"} 1",
        "firmcast_fleet_webhook_lag_events{webhook=\"chat\"} 12",
        "firmcast_fleet_left_out{what=\"rollouts\"} 0",
    ] {
        assert!(text.lines().any(|each| each == line), "{line} is missing:\n{text}");
    }
    let escaped = r##"site="ri\"ga\\\n# HELP } 1 {ä=\"🔥\"",state="failed"} 1"##;
    assert!(text.lines().any(|line| line.ends_with(escaped)), "{text}");
    assert!(!text.contains("\"second\""), "what has ended has no series of its own");
    for family in FAMILIES {
        assert!(text.contains(&format!("# TYPE {} ", family.name)), "{}", family.name);
    }
    promtool_checks(text);
    promtool_checks(&page(&Look { version: "1", at: 0, took_s: 10.0, survey: None }));
}

/// A rollout that a failure paused, while a host is in flight; and one that was aborted.
fn fill(store: &mut dyn Store) {
    let hosts = [("a", HOSTILE), ("b", "south"), ("c", "south"), ("d", HOSTILE)];
    let hosts = hosts.map(|(name, site)| host(name, site));
    store.put_hosts(&hosts).unwrap();
    store.add_release(&release()).unwrap();
    let planned: Vec<_> = hosts.iter().cloned().zip([0, 0, 0, 1]).collect();
    let id = store.create_rollout(&limited("first", limits(), &planned)).unwrap();
    start(store, id);
    let begun = store.claim(&claim(HOSTILE, "w1", 10, 9)).unwrap().remove(0).attempt;
    assert_eq!(store.claim(&claim("south", "w2", 11, 9)).unwrap().len(), 1, "half of the site");
    let taken = store.claim(&claim("south", "w3", LEASE_US + 11, 9)).unwrap().remove(0).attempt;
    store.tell_drain(taken.id, "w3", &DrainStep::Drain, LEASE_US + 12).unwrap();
    for step in
        [DrainStep::Drain, DrainStep::Undrain(Some(FAILED)), DrainStep::UndrainFailed("away")]
    {
        store.tell_drain(begun.id, "w1", &step, 19).unwrap();
    }
    store.report(begun.id, "w1", &FAILED, 20).unwrap();
    let ended = store.create_rollout(&limited("second", Limits::default(), &planned)).unwrap();
    let (from, to) = (&[RolloutState::Ready], RolloutState::Error);
    let abort = StateChange { from, to, reason: "", by: "ann", at: 21, revision: None };
    store.change_state(ended, &abort).unwrap();
    store.add_webhook(&webhook("chat", "http://127.0.0.1/")).unwrap();
    let kept = store.webhooks().unwrap().remove(0);
    let failing = Delivery { delivered: 2, failures: 8, next_at: 1, trouble: "x".to_owned() };
    store.tell_delivery(kept.id, &failing).unwrap();
    let see = |store: &mut dyn Store, name: &str, site: &str, seen_at, lacking: &[&str]| {
        let lacking: Vec<String> = lacking.iter().map(|digest| (*digest).to_owned()).collect();
        let (name, site, waits_for) = (name.to_owned(), site.to_owned(), lacking.join(" "));
        store.see_worker(&Worker { name, site, seen_at, waits_for, lacking })
    };
    see(store, "w1", HOSTILE, 5, &["ab"]).unwrap();
    see(store, "w1", HOSTILE, 6, &[]).unwrap();
    see(store, "w2", "north", 6, &[]).unwrap();
    see(store, "w3", "south", 7, &["ab", "cd"]).unwrap();
    assert!(matches!(see(store, "", "south", 7, &[]), Err(StoreError::Text { .. })));
    let many = vec!["ab"; LACKING_MAX + 1];
    assert!(matches!(see(store, "w1", "south", 7, &many), Err(StoreError::TooMuch { .. })));
}

fn limits() -> Limits {
    let (scope, amount) = (Scope::Label("site".to_owned()), Amount::Percent(50));
    let failures = FailureLimit {
        scope: Scope::All,
        amount: Amount::Hosts(1),
        sample: 0,
        unreachable: false,
        action: Action::Pause,
    };
    Limits { in_flight: vec![InFlightLimit { scope, amount }], failures: vec![failures] }
}

fn a_worker_that_was_not_seen_for_a_day_is_forgotten(store: &mut dyn Store) {
    const DAY_US: i64 = 86_400_000_000;
    let seen = |name: &str, seen_at| Worker {
        name: name.into(),
        site: "a".into(),
        seen_at,
        waits_for: format!("bundle {seen_at}"),
        lacking: vec!["ab".to_owned(), format!("{seen_at}")],
    };
    store.see_worker(&seen("old", 0)).unwrap();
    store.see_worker(&seen("w1", DAY_US)).unwrap();
    assert_eq!(store.survey(DAY_US).unwrap().workers.len(), 2);
    store.see_worker(&seen("w1", DAY_US + 1)).unwrap();
    assert_eq!(store.survey(DAY_US).unwrap().workers, [seen("w1", DAY_US + 1)]);
    assert_eq!(store.workers().unwrap(), [seen("w1", DAY_US + 1)]);
}

#[track_caller]
fn promtool_checks(page: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool: install Debian's package prometheus");
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}\n{page}");
}
