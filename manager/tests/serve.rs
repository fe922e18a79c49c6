//! `firmcast serve` and `firmcast status` as processes, against the real machine of dead hosts on
//! real sockets.
#![allow(clippy::unwrap_used)]

#[path = "serve/dead_hosts.rs"]
mod dead_hosts;
#[path = "serve/service.rs"]
mod service;
#[allow(dead_code)] // Shared with the tests of updates.
mod stuck_pipe;

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use serde_json::Value;

use dead_hosts::Hosts;
use service::{Manager, PATIENCE};

#[test]
fn dead_hosts_are_rescued_and_the_status_shows_it() {
    let manager = Manager::new();
    manager.enrol(2);
    std::fs::write(manager.path("policy.toml"), "gather_s = 1").unwrap();
    let service = manager.serve(&["--policy", "policy.toml", "--trust", "release.pub"]);
    let hosts = Hosts::start(0..3, &manager, Duration::from_secs(2));
    service.wait_for(|event| event["stage"] == "flashing");
    let status = manager.status();
    assert_eq!(status["bundles"][0]["file"], "good.fcb");
    assert_eq!(status["campaigns"][0]["active"], 2);
    assert_eq!(status["hosts"].as_array().unwrap().len(), 2, "the third is not known: {status}");
    hosts.wait_for(2);
    service.wait_for(|event| event["event"] == "finished" && event["confirmed"] == 2);
    let text = String::from_utf8(manager.run(&["status"]).stdout).unwrap();
    assert!(text.contains("good.fcb: V / P version 2.0") && text.contains("host-1"), "{text}");
    assert!(text.contains("the host repaired its firmware"), "{text}");

    // Now the third is enrolled.
    manager.enrol(3);
    service.signal(Signal::SIGHUP);
    hosts.wait_for(3);
    service.wait_for(|event| event["host"] == "host-2" && event["reason"] == "rescued");
    let events = service.stop();
    let results = events.iter().filter(|event| event["event"] == "result");
    assert_eq!(results.count(), 3);
    assert!(!manager.path("state/serve.sock").exists());
    assert!(!manager.run(&["status"]).status.success());

    let history = manager.run(&["history", "--json"]);
    let history: Value = serde_json::from_slice(&history.stdout).unwrap();
    let campaigns = history.as_array().unwrap();
    assert!(!campaigns.is_empty(), "the rescues are in no history");
    for campaign in campaigns {
        assert_eq!((&campaign["kind"], &campaign["state"]), (&"rescue".into(), &"finished".into()));
    }
    let rescued: u64 = campaigns.iter().map(|one| one["confirmed"].as_u64().unwrap()).sum();
    assert_eq!(rescued, 3, "{history}");
    let text = String::from_utf8(manager.run(&["history"]).stdout).unwrap();
    assert!(text.contains("rescue: 2 of 2 rescued, finished"), "{text}");
    assert!(text.contains("host-2: the host repaired its firmware and starts it"), "{text}");
}

#[test]
fn a_reader_that_stops_stops_neither_the_service_nor_its_signals() {
    let manager = Manager::new();
    manager.enrol(1);
    let (reader, pipe) = stuck_pipe::stuck_pipe();
    let mut service = manager.serve_command(&[]).stdout(pipe).spawn().unwrap();
    let hosts = Hosts::start(0..1, &manager, Duration::from_millis(10));
    hosts.wait_for(1);
    assert_eq!(manager.status()["hosts"][0]["attempts"], 1);

    // Programs that only print are ended by the signal itself.
    for words in [&["status"][..], &["status", "--json"], &["history"], &["history", "--json"]] {
        let (_reader, pipe) = stuck_pipe::stuck_pipe();
        let mut child = manager.command(words).stdout(pipe).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(child.try_wait().unwrap(), None, "{words:?} wrote into a full pipe");
        let status = stuck_pipe::end(&mut child, Signal::SIGTERM);
        assert_eq!(status.signal(), Some(Signal::SIGTERM as i32), "{words:?}");
    }

    assert!(stuck_pipe::end(&mut service, Signal::SIGTERM).success());
    drop(reader);

    // Who reads again gets all of it.
    let (reader, pipe) = stuck_pipe::stuck_pipe();
    let mut service = manager.serve_command(&[]).stdout(pipe).spawn().unwrap();
    let end = Instant::now() + PATIENCE;
    while !manager.run(&["status"]).status.success() {
        assert!(Instant::now() < end, "it does not serve");
    }
    let reading = std::thread::spawn(move || reader.read());
    assert!(stuck_pipe::end(&mut service, Signal::SIGINT).success());
    let told = reading.join().unwrap();
    assert!(told.contains("\"serving\"") && told.contains("\"stopped\""), "{told}");
}

/// Also while it serves: its socket and locks.
#[test]
fn what_a_service_writes_is_for_its_owner_alone() {
    // Nothing is left to the umask.
    umask(Mode::empty());
    let manager = Manager::new();
    manager.must(&["key", "new", "--role", "manager"]);
    let mut service = manager.serve_command(&[]).stdout(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + PATIENCE;
    while !manager.run(&["status"]).status.success() {
        assert!(Instant::now() < end, "it does not serve");
    }
    let mut found: Vec<String> = (std::fs::read_dir(manager.path("state")).unwrap())
        .map(|entry| {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            format!("{} {mode:o}", entry.file_name().to_str().unwrap())
        })
        .collect();
    found.sort();
    assert!(stuck_pipe::end(&mut service, Signal::SIGTERM).success());
    let expected = ["manager.key 600", "manager.pub 644", "serve.lock 600", "serve.sock 600"];
    assert_eq!(found, expected);
    let state = std::fs::metadata(manager.path("state")).unwrap().permissions().mode();
    assert_eq!(state & 0o777, 0o700);
}

/// A network of its own, with one interface whose address has no `brd`.
const WITHOUT_BRD: &str = "ip link set lo up; ip link add name fc0 type veth peer name fc1; \
                           ip link set fc0 up; ip link set fc1 up; \
                           ip addr add 10.9.8.1/24 dev fc0; \
                           exec \"$0\" --exact inside_a_network_without_brd --ignored --nocapture";

#[test]
fn a_network_without_brd_is_reached() {
    let in_network = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net"]).args(words).output()
    };
    let may =
        in_network(&["ip", "link", "add", "name", "fc0", "type", "veth", "peer", "name", "fc1"]);
    if !may.as_ref().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no network namespace can be made here: {may:?}");
        return;
    }
    let own = std::env::current_exe().unwrap();
    let output = in_network(&["sh", "-ec", WITHOUT_BRD, own.to_str().unwrap()]).unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

#[test]
#[ignore = "runs in the network that the test before makes"]
fn inside_a_network_without_brd() {
    let mut manager = Manager::new();
    manager.address = "10.9.8.1:9848".parse().unwrap();
    manager.enrol(1);
    let listen = |address: &str| {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    // The broadcast address hears broadcasts only, the own one what is sent to it alone.
    let (everybody, own) = (listen("10.9.8.255:9849"), listen("10.9.8.1:9849"));
    let discover = ["discover", "--key", "manager.key", "--timeout", "1", "--agent-port", "9849"];
    let output = manager.run(&discover);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no host answered"), "{output:?}");
    let mut buffer = [0; 2048];
    assert!(own.recv_from(&mut buffer).is_err(), "it asks itself");
    assert_eq!(everybody.recv_from(&mut buffer).unwrap().0, 1232);

    let service = manager.serve(&[]);
    let hosts = Hosts::start_at("0.0.0.0:9847", 0..1, &manager, Duration::from_millis(10));
    hosts.wait_for(1);
    service.stop();
}

fn history(manager: &Manager) -> Value {
    serde_json::from_slice(&manager.run(&["history", "--json"]).stdout).unwrap()
}

#[test]
fn a_killed_service_is_replaced_and_goes_on() {
    let manager = Manager::new();
    manager.enrol(1);
    std::fs::write(manager.path("policy.toml"), "gather_s = 1").unwrap();
    let mut first = manager.serve(&["--policy", "policy.toml"]);
    let second = manager.serve_command(&[]).output().unwrap();
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && error.contains("another firmcast serve"), "{error}");
    let hosts = Hosts::start(0..1, &manager, Duration::from_secs(3));
    first.wait_for(|event| event["stage"] == "flashing");
    // What is told is recorded a moment later.
    let told = Instant::now();
    while history(&manager)[0]["hosts"][0]["stage"] != "flashing" {
        assert!(told.elapsed() < Duration::from_secs(2), "the stage is not recorded");
    }
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    assert!(manager.path("state/serve.sock").exists(), "a stale socket");
    let service = manager.serve(&["--policy", "policy.toml"]);
    hosts.wait_for(1);
    let recalled = service.wait_for(|event| event["event"] == "recalled");
    assert_eq!((&recalled["host"], &recalled["phase"]), (&"host-0".into(), &"updated".into()));
    service.stop();
    let history = history(&manager);
    assert_eq!(
        (&history[0]["kind"], &history[0]["state"]),
        (&"rescue".into(), &"unfinished".into())
    );
    assert_eq!(history[0]["hosts"][0]["stage"], "flashing");
}

#[test]
fn what_is_broken_is_named_and_the_rest_is_served() {
    let manager = Manager::new();
    manager.bundle("a.fcb", "3.0", 2, "release.key");
    manager.bundle("b.fcb", "3.0", 3, "release.key");
    manager.bundle("foreign.fcb", "9.0", 4, "other.key");
    let good = std::fs::read(manager.path("bundles/good.fcb")).unwrap();
    std::fs::write(manager.path("bundles/cut.fcb"), &good[..good.len() - 1]).unwrap();
    std::fs::write(manager.path("bundles/copy.fcb"), &good).unwrap();
    std::os::unix::fs::symlink("nowhere", manager.path("bundles/dangling.fcb")).unwrap();
    std::fs::write(manager.path("bundles/.hidden"), "x").unwrap();
    std::fs::write(manager.path("policy.toml"), "escrow = false\n\ngather = 5\n").unwrap();
    let arguments = ["--policy", "policy.toml", "--trust", "release.pub"];
    let refused = manager.serve_command(&arguments).output().unwrap();
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(error.contains("policy.toml") && error.contains("line 3"), "{error}");
    assert!(error.contains("unknown field `gather`"), "{error}");

    std::fs::write(manager.path("policy.toml"), "gather_s = 1").unwrap();
    let service = manager.serve(&arguments);
    let why = |file: &str| {
        let is = |event: &Value| event["event"] == "bundle-refused" && event["file"] == file;
        service.wait_for(is)["why"].as_str().unwrap().to_owned()
    };
    assert!(why("a.fcb").contains("b.fcb is version 3.0 for the same board too"));
    assert!(why("b.fcb").contains("a.fcb is version 3.0"));
    assert!(why("foreign.fcb").contains("SHA256:"), "{}", why("foreign.fcb"));
    assert!(why("good.fcb").contains("the same bundle as copy.fcb"));
    assert!(!why("cut.fcb").is_empty() && why("dangling.fcb").contains("No such file"));
    assert_eq!(service.wait_for(|event| event["event"] == "serving")["bundles"], 1);

    std::fs::write(manager.path("policy.toml"), "attempts_max = 0").unwrap();
    service.signal(Signal::SIGHUP);
    let warning = service.wait_for(|event| event["event"] == "warning");
    let message = warning["message"].as_str().unwrap();
    assert!(message.contains("line 1") && message.contains("the policy stays"), "{message}");
    service.wait_for(|event| event["event"] == "reloaded");
    service.stop();

    for (arguments, expected) in [
        (&["--bundles", "nowhere"][..], "nowhere"),
        (&["--trust", "manager.pub"], "expected a release key"),
        (&["--policy", "nowhere"], "cannot read the policy nowhere"),
    ] {
        let mut command = manager.command(&["serve", "--key", "manager.key", "--unicast"]);
        if arguments[0] != "--bundles" {
            command.args(["--bundles", "bundles"]);
        }
        let output = command.args(arguments).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(expected), "{error}");
    }
}

#[test]
fn three_hundred_hosts_cost_little_memory() {
    const HOSTS: usize = 300;
    let manager = Manager::new();
    manager.enrol(HOSTS);
    let service = manager.serve(&[]);
    let before = service.memory_kib("VmRSS");
    let hosts = Hosts::start(0..HOSTS, &manager, Duration::from_millis(200));
    hosts.wait_for(HOSTS);
    let per_host = (service.memory_kib("VmHWM") - before) / HOSTS;
    eprintln!("{per_host} KiB per host");
    assert!(per_host <= 64, "{per_host} KiB per host");
    // Who calls when the first stream is under way already, gets a campaign of its own.
    service.wait_for_confirmed(HOSTS);
    service.stop();
}
