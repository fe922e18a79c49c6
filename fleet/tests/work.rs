//! Workers as processes, with the real `firmcast`, against scripted hosts on real sockets.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // Shared with the manager's own tests.
#[path = "../../manager/src/campaign/tests/host.rs"]
mod host;
#[allow(dead_code)] // Shared with the manager's own tests.
#[path = "../../manager/tests/update/lab.rs"]
mod lab;
#[path = "work/rescue.rs"]
mod rescue;

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use firmcast::reason::Reason;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use host::Script;
use lab::{Manager, Server, quick};

/// How long a rollout of this size may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The manager's program, which the whole workspace is built with.
fn firmcast() -> &'static Path {
    static PROGRAM: LazyLock<std::path::PathBuf> = LazyLock::new(|| {
        let program = Path::new(env!("CARGO_BIN_EXE_firmcast-fleet")).with_file_name("firmcast");
        assert!(program.exists(), "build it first: cargo build -p firmcast-manager");
        program
    });
    &PROGRAM
}

/// Hosts, a release, and a rollout in two waves: one host first, then the others.
struct Fleet {
    manager: Manager,
    /// They answer as long as they are held.
    servers: Vec<Server>,
}

impl Fleet {
    /// Returns one with a host for each script, at the sites a and b by turns.
    fn new(scripts: Vec<Script>) -> Self {
        Self::with(scripts, ROLLOUT)
    }

    /// As [`Fleet::new`], with a rollout of its own.
    fn with(scripts: Vec<Script>, rollout: &str) -> Self {
        let fleet = Self::known(scripts, rollout);
        fleet.says(&["rollout", "create", "winter.toml"]);
        fleet.says(&["rollout", "start", "winter"]);
        fleet
    }

    /// As [`Fleet::with`], without the rollout.
    fn known(scripts: Vec<Script>, rollout: &str) -> Self {
        let manager = Manager::new();
        let start = |(index, script)| Server::start(index, script, &manager);
        let servers: Vec<Server> = scripts.into_iter().enumerate().map(start).collect();
        let mut table = "name,key,addresses,vendor,product,site\n".to_owned();
        for (index, Server { name, key, address, .. }) in servers.iter().enumerate() {
            let site = if index % 2 == 0 { "a" } else { "b" };
            table += &format!("{name},{key},{address},V,P,{site}\n");
        }
        std::fs::write(manager.path("hosts.csv"), table).unwrap();
        let balancer = manager.path("balancer").display().to_string();
        let rollout = rollout.replace("BALANCER", &balancer);
        std::fs::write(manager.path("winter.toml"), rollout).unwrap();
        std::fs::write(&balancer, BALANCER).unwrap();
        std::fs::set_permissions(balancer, Permissions::from_mode(0o755)).unwrap();
        let fleet = Self { manager, servers };
        fleet.says(&["hosts", "import", "hosts.csv"]);
        fleet.says(&["release", "add", "b.fcb"]);
        fleet
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firmcast-fleet"));
        command.current_dir(self.manager.directory.path()).env_remove("FIRMCAST_FLEET_STORE");
        command.env("SUDO_USER", "carl").args(["--state", "fleet"]).args(arguments);
        command
    }

    /// Somebody else approves the second wave.
    fn approve(&self) {
        let approve = ["rollout", "approve", "winter", "rest", "--key", "manager.key"];
        assert!(!self.command(&approve).status().unwrap().success(), "he created it");
        let approved = self.command(&approve).env("SUDO_USER", "anna").status().unwrap();
        assert!(approved.success());
    }

    #[track_caller]
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn worker(&self, site: &str, name: &str) -> Worker {
        self.worker_with(&[], site, name)
    }

    /// A worker with global options.
    fn worker_with(&self, options: &[&str], site: &str, name: &str) -> Worker {
        let command = self.command(options);
        Self::work(command, site, name, &["--no-rescue"])
    }

    /// A worker that answers dead hosts at an address.
    fn rescuer(&self, site: &str, name: &str, listen: SocketAddr) -> Worker {
        let listen = listen.to_string();
        Self::work(self.command(&[]), site, name, &["--rescue-listen", &listen])
    }

    fn work(mut command: Command, site: &str, name: &str, options: &[&str]) -> Worker {
        command.args(["work", "--site", site, "--name", name]).args(options);
        command.args(["--key", "manager.key", "--approver", "manager.pub"]);
        command.arg("--firmcast").arg(firmcast());
        command.args(["--", "--unicast", "--boot-timeout", "30"]);
        Worker(command.stdout(Stdio::null()).spawn().unwrap())
    }

    /// Asks the hosts of a site, or all.
    fn foresee(&self, more: &[&str]) -> Output {
        let mut command = self.command(&["hosts", "foresee", "--release", "2.0"]);
        command.args(["--key", "manager.key", "--firmcast"]).arg(firmcast()).args(more);
        command.output().unwrap()
    }

    fn rollout(&self) -> Value {
        let shown = self.says(&["rollout", "show", "winter", "--json"]);
        serde_json::from_str(&shown).unwrap()
    }

    /// Waits until the rollout looks like that.
    #[track_caller]
    fn wait_for(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let shown = self.rollout();
            if holds(&shown) {
                return shown;
            }
            assert!(begun.elapsed() < PATIENCE, "{what} did not come: {shown:#}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

const ROLLOUT: &str = r#"
name = "winter"
release = "2.0"
hosts = "all"

[[wave]]
name = "canary"
count = 1
soak = "1 s"

[[wave]]
name = "rest"
rest = true
approval = "person"

[healthy]
within = "5 s"

[limits]
in-flight = [{ per = "all", hosts = 2 }]
failures = [{ per = "all", hosts = 1, action = "pause" }]
"#;

/// As above, in one wave; each host is drained.
const DRAINED: &str = r#"
name = "winter"
release = "2.0"
hosts = "all"

[[wave]]
name = "all"
rest = true

[limits]
in-flight = []
failures = []

[drain]
run = ["BALANCER", "drain", "{host}", "{version}"]
within = "6 s"

[undrain]
run = ["BALANCER", "undrain", "{host}", "{outcome}"]
within = "1 min"
"#;

/// Writes what it is called with. What `drain` does to a host stands in a file of its name.
const BALANCER: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
echo "$*" >> calls
case "$1 $(cat "$2.does" 2> /dev/null)" in
    'drain fails' | 'undrain fails') echo 'no other server' >&2; exit 3 ;;
    'drain hangs') echo $$ > "$2.pid"; sleep 600 ;;
esac
"#;

/// A worker, which does not outlive its test.
struct Worker(Child);

impl Worker {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is(shown: &Value, state: &str) -> bool {
    shown["rollout"]["state"] == state
}

fn attempts(shown: &Value, state: &str) -> u64 {
    let waves = shown["waves"].as_array().unwrap();
    waves.iter().map(|wave| wave["attempts"][state].as_u64().unwrap()).sum()
}

#[test]
fn what_hosts_foresee_is_asked_kept_and_planned_with() {
    let slow = Script { longest_write: Duration::from_secs(600), ..quick() };
    let refusing = Script { refuse: Some(Reason::FlashLocked), ..quick() };
    let silent = Script { silent: true, ..quick() };
    let fleet = Fleet::known(vec![quick(), refusing, slow, quick(), silent], ROLLOUT);
    let plan = || -> Value {
        serde_json::from_str(&fleet.says(&["rollout", "plan", "winter.toml", "--json"])).unwrap()
    };
    let before = plan();
    assert_eq!(before["times"]["assumed"], 5, "{before:#}");
    let told = "at each site, run firmcast-fleet hosts foresee --release 2.0 --site SITE";
    assert!(before["warnings"].to_string().contains(told), "{before:#}");

    // What is for updates alone, as the workers of the site may have it, is in no dry run's way.
    let of_b = fleet.foresee(&["--site", "b", "--json", "--", "--group", "239.1.2.3", "--escrow"]);
    assert_eq!(of_b.status.code(), Some(1), "{of_b:?}");
    let said = lab::text(&of_b.stdout);
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let each: Vec<_> = lines.iter().map(|line| (&line["host"], &line["answer"])).collect();
    let (refused, possible) = (Value::from("refused"), Value::from("possible"));
    let wanted = [(&"host-1".into(), &refused), (&"host-3".into(), &possible)];
    assert_eq!(each, wanted, "{of_b:?}");
    assert_eq!(lines[0]["reason"], "flash-locked");
    let of_a = fleet.foresee(&["name!=host-4", "--site", "a", "--", "--unicast"]);
    assert_eq!(of_a.status.code(), Some(0), "{of_a:?}");
    let said = lab::text(&fleet.foresee(&[]).stdout);
    for wanted in [
        "3 of 5 hosts could be updated to 2.0; writing takes 1 s on the slowest of them, 10 min at",
        "1 refuse: flash-locked: ",
        "  host-1\n",
        "1 did not answer: host-unreachable: ",
        "  host-4\n",
    ] {
        assert!(said.contains(wanted), "no {wanted:?} in {said}");
    }

    let after = plan();
    assert_eq!((&after["times"]["foreseen"], &after["times"]["assumed"]), (&3.into(), &2.into()));
    assert_eq!(after["digest"], before["digest"], "the same hosts in the same order");
    let waves = after["waves"].as_array().unwrap();
    let hosts = waves.iter().flat_map(|wave| wave["hosts"].as_array().unwrap());
    let times = hosts.map(|host| (host["name"].as_str().unwrap(), host["longest_s"].clone()));
    let times: BTreeMap<_, _> = times.collect();
    let hour = || Value::from(3600);
    // What it takes around writing, half an hour at most.
    let wanted = [
        ("host-0", 1803.into()),
        ("host-1", hour()),
        ("host-2", 2400.into()),
        ("host-3", 1803.into()),
        ("host-4", hour()),
    ];
    assert_eq!(times, wanted.into());
}

#[test]
fn workers_of_two_sites_bring_a_rollout_to_its_end_wave_by_wave() {
    let fleet = Fleet::new(vec![quick(); 5]);
    let (_a, mut b) = (fleet.worker("a", "worker-a"), fleet.worker("b", "worker-b"));
    let waits = |shown: &Value| shown["waves"][1]["wave"]["state"] == "awaits-approval";
    let shown = fleet.wait_for("the second wave", waits);
    assert_eq!((attempts(&shown, "confirmed"), attempts(&shown, "planned")), (1, 4), "{shown:#}");
    fleet.approve();
    let shown = fleet.wait_for("the end", |shown| is(shown, "finished"));
    assert_eq!(attempts(&shown, "confirmed"), 5, "{shown:#}");
    // A worker without hosts goes when it is told.
    b.signal(Signal::SIGTERM);
    assert_eq!(b.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_failure_pauses_the_rollout_before_the_next_wave() {
    let refusing = Script { refuse: Some(Reason::FlashLocked), ..quick() };
    let fleet = Fleet::new(vec![refusing, quick(), quick()]);
    let _workers = (fleet.worker("a", "worker-a"), fleet.worker("b", "worker-b"));
    let shown = fleet.wait_for("a pause", |shown| is(shown, "paused"));
    assert_eq!(attempts(&shown, "failed"), 1, "{shown:#}");
    assert_eq!(attempts(&shown, "planned"), 2, "{shown:#}");
    let reason = shown["rollout"]["reason"].as_str().unwrap();
    assert!(reason.contains("1 of 1 hosts failed"), "{reason}");
    fleet.says(&["rollout", "resume", "winter"]);
    fleet.approve();
    let shown = fleet.wait_for("the end", |shown| is(shown, "finished"));
    assert_eq!((attempts(&shown, "failed"), attempts(&shown, "confirmed")), (1, 2), "{shown:#}");
}

#[test]
fn a_canary_that_falls_silent_after_it_was_confirmed_counts_as_failed() {
    let mut fleet = Fleet::new(vec![quick(), quick()]);
    let _workers = (fleet.worker("a", "worker-a"), fleet.worker("b", "worker-b"));
    fleet.wait_for("its confirmation", |shown| attempts(shown, "confirmed") == 1);
    fleet.servers.clear();
    let shown = fleet.wait_for("a pause", |shown| is(shown, "paused"));
    assert_eq!((attempts(&shown, "failed"), attempts(&shown, "planned")), (1, 1), "{shown:#}");
    assert!(fleet.says(&["events", "--json"]).contains("sick: no-agent-after-reboot"));
}

#[test]
fn what_a_killed_worker_had_in_hand_is_measured_by_the_next_one_and_not_written_twice() {
    let lonely = Script { reboots_without_release: true, ..quick() };
    let fleet = Fleet::new(vec![lonely]);
    fleet.approve();
    let first = fleet.worker("a", "first");
    // Beyond the commit: the host finishes by itself.
    let flashing = || fleet.says(&["events", "--json"]).contains("\"detail\":\"flashing\"");
    fleet.wait_for("flashing", |_| flashing());
    first.signal(Signal::SIGKILL);
    let _second = fleet.worker("a", "second");
    let taken = || fleet.says(&["events", "--json"]).contains("lease-lost");
    fleet.wait_for("a takeover", |_| taken());
    let shown = fleet.wait_for("the end", |shown| is(shown, "finished"));
    assert_eq!(attempts(&shown, "confirmed"), 1, "{shown:#}");
    let begun = fleet.says(&["events", "--json"]).matches("\"detail\":\"commit\"").count();
    assert!(begun <= 1, "it was told to write again");
}

#[test]
fn hosts_that_cannot_be_drained_in_time_are_not_touched_and_all_are_undrained() {
    let fleet = Fleet::with(vec![quick(); 5], DRAINED);
    let name = |index: usize| fleet.servers[index].name.clone();
    let (good, fails, hangs) = (name(0), name(2), name(4));
    std::fs::write(fleet.manager.path(&format!("{fails}.does")), "fails").unwrap();
    std::fs::write(fleet.manager.path(&format!("{hangs}.does")), "hangs").unwrap();
    let _worker = fleet.worker("a", "worker-a");
    let shown = fleet.wait_for("the ends", |shown| {
        attempts(shown, "planned") == 2 && attempts(shown, "in-flight") == 0
    });
    assert_eq!((attempts(&shown, "failed"), attempts(&shown, "confirmed")), (2, 1), "{shown:#}");
    let calls = std::fs::read_to_string(fleet.manager.path("calls")).unwrap();
    for (host, outcome) in [(&good, "confirmed"), (&fails, "untouched"), (&hangs, "untouched")] {
        let of_host: Vec<&str> = calls.lines().filter(|call| call.contains(host)).collect();
        let wanted = [format!("drain {host} 2.0"), format!("undrain {host} {outcome}")];
        assert_eq!(of_host, wanted, "{calls}");
    }
    let events = fleet.says(&["events", "--json"]);
    for (host, is_undrained) in [(&fails, false), (&hangs, true)] {
        let of_host = events.lines().filter(|event| event.contains(&format!("\"{host}\"")));
        let mut told: Vec<Value> =
            of_host.map(|event| serde_json::from_str(event).unwrap()).collect();
        let all = told.len();
        told.retain(|event| event["kind"] != "undrain-failed");
        assert_eq!(told.len() == all, is_undrained, "{events}");
        let details: Vec<&str> =
            told.iter().map(|event| event["detail"].as_str().unwrap()).collect();
        assert_eq!(details, ["", "draining", "undraining", "failed: drain-failed"], "{host}");
    }
    let shown = fleet.says(&["rollout", "show", "winter"]);
    let next = format!(
        "next: undrain failed for {fails}, which may get no load; on the machine of worker \
         worker-a\n      {} undrain {fails} untouched\n",
        fleet.manager.path("balancer").display()
    );
    assert!(shown.contains(&next) && !shown.contains(&format!("undrain {hangs}")), "{shown}");
    // Nothing was known of their times when the rollout was created.
    fleet.foresee(&["--site", "a"]);
    let said = fleet.says(&["rollout", "retry", "winter"]);
    let told =
        "2 hosts of rollout winter are planned again, 2 of them with newer predicted times\n";
    assert_eq!(said, told);
}

#[test]
fn drains_that_end_with_their_worker_fail_nobody_and_the_next_worker_drains_again() {
    let fleet = Fleet::with(vec![quick(); 2], &DRAINED.replace("6 s", "10 min"));
    let [killed, stopped] = fleet.servers.as_slice() else { panic!("two hosts") };
    let read = |name: &str| std::fs::read_to_string(fleet.manager.path(name)).unwrap_or_default();
    let does = |host: &Server| fleet.manager.path(&format!("{}.does", host.name));
    fleet.servers.iter().for_each(|host| std::fs::write(does(host), "hangs").unwrap());
    let [first, mut second] = ["a", "b"].map(|site| fleet.worker(site, site));
    let program = |host: &Server| read(&format!("{}.pid", host.name)).trim().to_owned();
    fleet.wait_for("both drains", |_| fleet.servers.iter().all(|host| !program(host).is_empty()));
    fleet.servers.iter().for_each(|host| std::fs::remove_file(does(host)).unwrap());
    first.signal(Signal::SIGKILL);
    second.signal(Signal::SIGTERM);
    assert_eq!(second.0.wait().unwrap().code(), Some(0));
    let is_gone = |host: &Server| {
        let line = std::fs::read_to_string(format!("/proc/{}/cmdline", program(host)));
        line.map_or(true, |line| line.is_empty())
    };
    fleet.wait_for("the ends of both drains", |_| fleet.servers.iter().all(is_gone));
    let _next = ["a", "b"].map(|site| fleet.worker(site, &format!("next-{site}")));
    let shown = fleet.wait_for("the end", |shown| is(shown, "finished"));
    assert_eq!((attempts(&shown, "confirmed"), attempts(&shown, "failed")), (2, 0), "{shown:#}");
    let calls = |host: &Server| {
        let calls = read("calls");
        let of_host = calls.lines().filter(|call| call.contains(&host.name));
        of_host.map(|call| call.replace(&host.name, "HOST")).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(calls(killed), "drain HOST 2.0, drain HOST 2.0, undrain HOST confirmed");
    let back = "drain HOST 2.0, undrain HOST untouched";
    assert_eq!(calls(stopped), format!("{back}, drain HOST 2.0, undrain HOST confirmed"));
    let events = fleet.says(&["events", "--json"]);
    assert!(events.contains("planned: its worker was told to stop"), "{events}");
}

#[test]
fn a_worker_that_is_told_to_stop_lets_its_hosts_go_and_fails_nothing() {
    let slow = Script { recovery_boot: Duration::from_secs(60), ..quick() };
    let fleet = Fleet::new(vec![slow]);
    let mut worker = fleet.worker("a", "worker-a");
    let is_leaving = || fleet.says(&["events", "--json"]).contains("entering-recovery");
    fleet.wait_for("the way to recovery", |_| is_leaving());
    let said = lab::text(&fleet.foresee(&[]).stdout);
    assert!(said.contains("1 not asked: it is in flight in a rollout\n  host-0"), "{said}");
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.0.wait().unwrap().code(), Some(0));
    let shown = fleet.rollout();
    assert_eq!((attempts(&shown, "in-flight"), attempts(&shown, "failed")), (1, 0), "{shown:#}");
    assert!(is(&shown, "running"), "{shown:#}");
}

#[test]
fn a_bundle_crosses_to_a_site_by_itself_and_a_worker_that_dies_on_the_way_leaves_nothing() {
    let fleet = Fleet::new(vec![quick()]);
    fleet.approve();
    // Nobody has put anything here. Whoever writes just now holds the lock.
    let shelf = fleet.manager.path("site");
    std::fs::create_dir(&shelf).unwrap();
    let lock = std::fs::File::create(shelf.join("lock")).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
    std::fs::write(shelf.join("0123.unfinished"), "left by one that was killed").unwrap();
    let options = ["--shelf", "site"];
    let first = fleet.worker_with(&options, "a", "first");
    let _second = fleet.worker_with(&options, "a", "second");
    let told = |worker: &str, words: &str| {
        let events = fleet.says(&["events", "--json"]);
        let of_worker = format!("\"by\":\"{worker}\"");
        events.lines().any(|event| event.contains(&of_worker) && event.contains(words))
    };
    let wait = |shown: &Value| {
        attempts(shown, "planned") == 1 && ["first", "second"].iter().all(|by| told(by, "fetches"))
    };
    fleet.wait_for("two workers that fetch", wait);
    first.signal(Signal::SIGKILL);
    drop(lock);
    let shown = fleet.wait_for("the end", |shown| is(shown, "finished"));
    assert_eq!(attempts(&shown, "confirmed"), 1, "{shown:#}");
    assert!(told("second", "has bundle") && !told("first", "has bundle"));
    let names = std::fs::read_dir(&shelf).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    let [bundle, lock] = names.as_slice() else { panic!("{names:?}") };
    assert!(bundle.ends_with(".fcb") && lock == "lock", "{names:?}");
    let bytes = |path| std::fs::read(path).unwrap();
    assert_eq!(bytes(shelf.join(bundle)), bytes(fleet.manager.path("b.fcb")));
    // Over, the release can go; the rollout still names it.
    let places = |shelf: &str| {
        let listed = fleet.says(&["--shelf", shelf, "release", "list", "--json"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        (listed["in_store"].as_bool().unwrap(), listed["on_shelf"].as_bool().unwrap())
    };
    assert_eq!((places("site"), places("elsewhere")), ((true, true), (true, false)));
    fleet.says(&["--shelf", "site", "release", "remove", "2.0"]);
    assert_eq!(places("site"), (false, false));
}
