//! `firmcast update` as a process, against scripted hosts on real sockets.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // Shared with the campaign's own tests.
#[path = "../src/campaign/tests/host.rs"]
mod host;
#[path = "update/kept.rs"]
mod kept;
#[path = "update/lab.rs"]
mod lab;
#[path = "update/readers.rs"]
mod readers;
#[allow(dead_code)] // Shared with the tests of the service.
mod stuck_pipe;
#[path = "update/terminals.rs"]
mod terminals;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use firmcast::keys::{PublicKey as _, SecretKey as _};
use firmcast::reason::Reason;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use host::Script;
use lab::{Manager, Server, events, quick, text, wait_for_record};

/// The program under test.
fn firmcast() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_firmcast"))
}

#[test]
fn hosts_are_updated_over_real_sockets_and_one_refusal_makes_exit_status_1() {
    let manager = Manager::new();
    let refusing = Script { refuse: Some(Reason::WrongBoard), ..quick() };
    let good = Server::start(0, quick(), &manager);
    let bad = Server::start(1, refusing, &manager);
    manager.enrol(&[&good, &bad]);

    let output = manager.update(&["--json", "--host", "host-0"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let events = events(&output);
    assert_eq!(events[0]["event"], "started");
    assert_eq!(events[0]["bundle"]["version"], "2.0");
    let result = events.iter().find(|event| event["event"] == "result").unwrap();
    assert_eq!((&result["reason"], &result["bios_version"]), (&"confirmed".into(), &"2.0".into()));
    assert_eq!(events.last().unwrap()["confirmed"], 1);
    assert!(events.iter().all(|event| event["campaign"] == events[0]["campaign"]));

    let output = manager.update(&["--all"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("host-0: confirmed, BIOS version 2.0"), "{text}");
    assert!(text.contains("host-1: FAILED: the bundle is for another board"), "{text}");

    let history = manager.run(&["history", "--json"]);
    let history: Value = serde_json::from_slice(&history.stdout).unwrap();
    assert_eq!(history[0]["confirmed"], 1);
    assert_eq!(history[1]["hosts"][1]["result"]["reason"], "wrong-board");
    assert!(history.as_array().unwrap().iter().all(|campaign| campaign["state"] == "finished"));
}

#[test]
fn a_manager_whose_clock_was_ahead_is_heard_when_it_is_right_again() {
    let manager = Manager::new();
    let host = Server::start(0, quick(), &manager);
    manager.enrol(&[&host]);
    // As a campaign leaves it that ran while the clock said 2100.
    let key = manager.key().public().fingerprint().to_string();
    let ahead = 4_102_444_800_000_000_u64;
    let text = serde_json::json!({ "form": 1, "last": { key.as_str(): ahead } }).to_string();
    std::fs::write(manager.path("state/stamps.json"), text).unwrap();
    for _ in 0..2 {
        let output = manager.update(&["--all", "--dry-run"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let told = self::text(&output.stderr);
        assert!(told.contains("WARNING: the clock is") && told.contains("behind"), "{told}");
    }
    let kept = std::fs::read(manager.path("state/stamps.json")).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    assert!(kept["last"][&key].as_u64().unwrap() > ahead + 2, "{kept}");
}

#[test]
fn a_dry_run_says_and_records_what_it_is() {
    let manager = Manager::new();
    let good = Server::start(0, quick(), &manager);
    manager.enrol(&[&good]);
    let output = manager.update(&["--all", "--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stdout);
    let foreseen =
        "host-0: an update could start: at most 16 of 512 eraseblocks change, in about 1 s";
    assert!(said.contains("dry run ") && said.contains(foreseen), "{said}");
    assert!(said.contains("finished: 1 could be updated, 0 could not"), "{said}");
    let shown = text(&manager.run(&["history"]).stdout);
    assert!(shown.contains("dry run: 1 of 1 could be updated, finished"), "{shown}");
    assert!(shown.contains(foreseen), "{shown}");
    assert!(!said.contains("confirmed") && !shown.contains("confirmed"), "{said}{shown}");

    let output = manager.update(&["--all", "--dry-run", "--json"]);
    for event in events(&output) {
        if ["started", "result", "finished"].contains(&event["event"].as_str().unwrap()) {
            assert_eq!(event["kind"], "dry-run", "{event}");
        }
        if event["event"] == "result" {
            assert_eq!(event["foreseen"]["changed_blocks_max"], 16, "{event}");
        }
    }
    let history: Value =
        serde_json::from_slice(&manager.run(&["history", "--json"]).stdout).unwrap();
    assert_eq!((&history[1]["kind"], &history[1]["confirmed"]), (&"dry-run".into(), &1.into()));
}

#[test]
fn a_host_that_could_not_keep_its_floor_is_confirmed_but_told_apart() {
    const WHY: &str = "security version floor not raised: no space left on device";
    let manager = Manager::new();
    let host = Server::start(0, Script { cannot_keep: WHY, ..quick() }, &manager);
    manager.enrol(&[&host]);
    let output = manager.update(&["--all"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let but = format!("host-0: confirmed, BIOS version 2.0, BUT {WHY}; mend the host's state_dir");
    let (said, history) = (text(&output.stdout), text(&manager.run(&["history"]).stdout));
    assert!(said.contains(&but) && history.contains(&but), "{said}{history}");
    let history = manager.run(&["history", "--json"]);
    let history: Value = serde_json::from_slice(&history.stdout).unwrap();
    let result = &history[0]["hosts"][0]["result"];
    assert_eq!((&result["confirmed"], &result["detail"]), (&true.into(), &WHY.into()));
    assert!(result["advice"].as_str().unwrap().contains("state_dir"), "{result}");
}

#[test]
fn an_interrupt_lets_the_host_go_and_a_killed_manager_leaves_an_unfinished_record() {
    let manager = Manager::new();
    let slow = Script { recovery_boot: Duration::from_secs(60), ..quick() };
    let host = Server::start(0, slow, &manager);
    manager.enrol(&[&host]);
    let start = || {
        let mut command = manager.update_command(&["--json", "--all"]);
        let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        wait_for_record(&manager, "entering-recovery");
        child
    };
    let interrupted = start();
    kill(Pid::from_raw(interrupted.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = interrupted.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let events = events(&output);
    assert!(events.iter().any(|event| event["event"] == "interrupted"));
    let result = events.iter().find(|event| event["event"] == "result").unwrap();
    assert_eq!(result["reason"], "interrupted");

    drop(host);
    std::fs::remove_dir_all(manager.path("state/campaigns")).unwrap();
    let host = Server::start(0, slow, &manager);
    manager.enrol(&[&host]);
    let mut killed = start();
    let state = || -> Value {
        serde_json::from_slice(&manager.run(&["history", "--json"]).stdout).unwrap()
    };
    assert_eq!(state()[0]["state"], "running");
    let second = manager.update(&["--all"]);
    assert_eq!(second.status.code(), Some(3));
    assert!(text(&second.stderr).contains("which is running"), "{second:?}");
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(state()[0]["state"], "unfinished");
    assert_eq!(state()[0]["hosts"][0]["stage"], "entering-recovery");
}

/// Both look for running campaigns as soon as they may.
#[test]
fn of_two_updates_of_a_host_that_start_at_the_same_moment_one_is_refused() {
    let manager = Manager::new();
    let slow = Script { recovery_boot: Duration::from_secs(60), ..quick() };
    let hosts = [Server::start(0, slow, &manager), Server::start(1, quick(), &manager)];
    manager.enrol(&[&hosts[0], &hosts[1]]);
    let lock = std::fs::File::create(manager.path("state/campaigns.lock")).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno).unwrap();
    let start = |host| {
        let mut command = manager.update_command(&["--host", host]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let (mut same, mut other) = (["host-0", "host-0"].map(start), start("host-1"));
    // All have asked their hosts, and wait for their turn.
    std::thread::sleep(Duration::from_secs(3));
    assert!(same.iter_mut().all(|update| update.try_wait().unwrap().is_none()));
    drop(lock);
    assert_eq!(stuck_pipe::wait(&mut other).code(), Some(0), "hosts of nobody else");
    wait_for_record(&manager, "entering-recovery");
    let mut refused = Vec::from(same);
    let end = Instant::now() + Duration::from_secs(20);
    while refused.iter_mut().all(|update| update.try_wait().unwrap().is_none()) {
        assert!(Instant::now() < end, "both work on one host");
        std::thread::sleep(Duration::from_millis(20));
    }
    let started: Vec<Child> =
        refused.extract_if(.., |update| update.try_wait().unwrap().is_none()).collect();
    assert_eq!((refused.len(), started.len()), (1, 1));
    for update in refused {
        let output = update.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let error = text(&output.stderr);
        assert!(error.contains("host-0 takes part in campaign"), "{error}");
    }
    for mut update in started {
        assert_eq!(stuck_pipe::end(&mut update, Signal::SIGTERM).code(), Some(1));
    }
}

#[test]
fn nothing_is_started_when_anything_is_off_and_wrong_usage_is_told_apart() {
    let manager = Manager::new();
    let status = |output: &Output| (output.status.code(), text(&output.stderr));
    std::fs::write(manager.path("not-a-directory"), "").unwrap();
    let starts: [(&[&str], &str); 5] = [
        (&["--all"], "inventory is empty"),
        (&["--host", "127.0.0.1:9", "--bundle-missing"], ""),
        (&["--host", "127.0.0.1:9", "--trust", "manager.pub"], "expected a release key"),
        (&["--host", "no such name"], "neither in the inventory"),
        (&["--host", "127.0.0.1:9", "127.0.0.1:9"], "named twice"),
    ];
    for (arguments, expected) in starts {
        let (code, error) = status(&manager.update(arguments));
        let usage = arguments.contains(&"--bundle-missing");
        assert_eq!(code, Some(if usage { 2 } else { 3 }), "{arguments:?} {error}");
        assert!(error.contains(expected), "{arguments:?} {error}");
    }
    let common = [
        "update",
        "--bundle",
        "b.fcb",
        "--key",
        "manager.key",
        "--port",
        "0",
        "--unicast",
        "--host",
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_firmcast"));
    command.current_dir(manager.directory.path()).args(["--state", "not-a-directory"]);
    let (code, error) = status(&command.args(common).arg("127.0.0.1:9").output().unwrap());
    assert_eq!(code, Some(3), "{error}");
    assert!(error.contains("not-a-directory") && error.contains("nothing was started"), "{error}");

    for arguments in [
        &["update", "--bundle", "b.fcb"][..],
        &["update", "--all"],
        &["update", "--bundle", "b.fcb", "--all", "--host", "a"],
        &["update", "--bundle", "b.fcb", "--all", "--unicast", "--group", "239.0.0.1"],
        &["update", "--bundle", "b.fcb", "--all", "--rate", "0"],
        &["discover", "--replace"],
    ] {
        assert_eq!(manager.run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert!(!Path::new(&manager.path("state")).exists(), "nothing was left behind");
}
