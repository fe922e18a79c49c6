//! Workers that answer dead hosts, with the real `firmcast serve`, over the real machine of dead
//! hosts.

#[path = "../../../manager/tests/serve/dead_hosts.rs"]
mod dead_hosts;

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use firmcast::keys::SecretKey as _;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::lab::Manager;
use super::{Fleet, PATIENCE, ROLLOUT};
use dead_hosts::{Hosts, Managed, host_key};

/// Dead hosts know the fleet's manager, and call where a worker listens.
struct Called<'a>(&'a Manager, SocketAddr);

impl Managed for Called<'_> {
    fn address(&self) -> SocketAddr {
        self.1
    }

    fn key_file(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    fn flash_size_bytes(&self) -> usize {
        std::fs::metadata(self.0.path("image")).unwrap().len().try_into().unwrap()
    }
}

#[test]
fn dead_hosts_are_given_what_they_ran_and_the_next_worker_answers_when_one_is_killed() {
    let fleet = Fleet::known(Vec::new(), ROLLOUT);
    // A newer release is no reason to give it to a dead host.
    fleet.manager.must(&[
        "bundle",
        "create",
        "--image",
        "image",
        "--version",
        "3.0",
        "--security-version",
        "2",
        "--vendor",
        "V",
        "--product",
        "P",
        "--key",
        "release.key",
        "--out",
        "newer.fcb",
    ]);
    fleet.says(&["release", "add", "newer.fcb"]);
    let mut table = "name,key,addresses,vendor,product,version,site\n".to_owned();
    for index in 0..3 {
        let key = host_key(index).public();
        table += &format!("dead-{index},{key},127.0.0.1:9,V,P,{},a\n", ["2.0", "2.0", ""][index]);
    }
    std::fs::write(fleet.manager.path("dead.csv"), table).unwrap();
    fleet.says(&["hosts", "import", "dead.csv"]);
    let listen = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let at = Called(&fleet.manager, listen);
    let calls = || -> Vec<Value> {
        let said = fleet.says(&["calls", "--json"]);
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let wait = |what: &str, holds: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < PATIENCE, "{what} did not come: {:#?}", calls());
            std::thread::sleep(Duration::from_millis(100));
        }
    };

    let first = fleet.rescuer("a", "first", listen);
    let slow = Hosts::start(0..1, &at, Duration::from_secs(600));
    wait("the first call", &|| calls().first().is_some_and(|call| call["stage"] == "flashing"));
    let call = calls().remove(0);
    let told = [&call["host"], &call["worker"], &call["version"], &call["finding"]];
    assert_eq!(told, ["dead-0", "first", "2.0", "invalid"], "{call:#}");
    // It answers on this machine as soon as the first one does so no more.
    let mut second = fleet.rescuer("a", "second", listen);
    first.signal(Signal::SIGKILL);
    // Whoever the first one would still enlist would wait for it for two minutes.
    wait("the second one", &|| calls().iter().any(|call| call["worker"] == "second"));
    let quick = Hosts::start(1..3, &at, Duration::from_secs(1));
    quick.wait_for(2);
    let of = |kind: &str| -> Vec<String> {
        let events = fleet.says(&["events", "--json"]);
        let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let events = events.filter(|event| event["kind"] == kind);
        events
            .map(|event| format!("{} {} {}", event["by"], event["host"], event["detail"]))
            .collect()
    };
    wait("both rescues", &|| of("rescued").len() == 2);
    let mut rescued = of("rescued");
    rescued.sort();
    let wanted =
        [1, 2].map(|index| format!("\"second\" \"dead-{index}\" \"repaired itself with 2.0\""));
    assert_eq!(rescued, wanted);
    let called = of("called");
    let first_call = "\"first\" \"dead-0\" \"firmware invalid (torn), from 127.0.0.1:";
    assert!(called.iter().any(|call| call.starts_with(first_call)), "{called:?}");
    let hosts = fleet.says(&["hosts", "list", "--json"]);
    assert_eq!(hosts.matches("\"bios_version\":\"2.0\"").count(), 3, "{hosts}");
    drop(slow);
    second.signal(Signal::SIGTERM);
    assert_eq!(second.0.wait().unwrap().code(), Some(0));
    assert!(calls().iter().all(|call| call["worker"] != "second"), "{:#?}", calls());
}
