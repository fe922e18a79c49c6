//! `firmcast-fleet` as a process: from a list of hosts and a bundle to a rollout that is aborted.
#![allow(clippy::unwrap_used)]

#[path = "commands/monitoring.rs"]
mod monitoring;
#[path = "commands/top.rs"]
mod top;
#[path = "commands/web.rs"]
mod web;
#[path = "commands/webhooks.rs"]
mod webhooks;

use std::path::Path;
use std::process::{Command, Output};

use firmcast::image::{Bundle, Description, Manifest, PayloadFormat, SignedManifest};
use firmcast::keys::{HostPublicKey, ReleaseSecretKey};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use serde_json::Value;
use tempfile::TempDir;

/// Hosts of the lists.
const HOSTS: u8 = 12;

const ROLLOUT: &str = r#"
name = "winter"
release = "2.0"
hosts = "role!=lab"

[[wave]]
name = "canary"
count = 2
soak = "30 min"

[[wave]]
name = "rest"
rest = true
approval = "person"

[limits]
in-flight = [{ per = "rack", hosts = 1 }]
failures = [{ per = "all", hosts = 2 }]
"#;

/// A state directory, and the program on it.
struct Desk {
    directory: TempDir,
}

impl Desk {
    /// Returns one with twelve hosts and a release.
    fn new() -> Self {
        let desk = Self::empty();
        let mut table = "name,key,addresses,vendor,product,version,site,rack,role\n".to_owned();
        for number in 0..HOSTS {
            let key = HostPublicKey::from_exchange([number + 9; 32]).unwrap();
            let role = if number == 0 { "lab" } else { "db" };
            table += &format!(
                "h{number},{key},192.0.2.{number},ACME,S1,1.9,riga,r{},{role}\n",
                number % 3
            );
        }
        desk.write("hosts.csv", table.as_bytes());
        desk.write("b.fcb", &bundle());
        desk.write("winter.toml", ROLLOUT.as_bytes());
        assert!(desk.says(&["hosts", "import", "hosts.csv"]).starts_with("12 hosts new"));
        desk.says(&["release", "add", "b.fcb"]);
        desk
    }

    fn empty() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.directory.path().join(name), bytes).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firmcast-fleet"));
        command.current_dir(self.directory.path()).env_remove("FIRMCAST_FLEET_STORE");
        command.args(["--state", "state"]).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    #[track_caller]
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.says(arguments)).unwrap()
    }

    fn state(&self) -> String {
        let shown = self.json(&["rollout", "show", "winter", "--json"]);
        shown["rollout"]["state"].as_str().unwrap().to_owned()
    }
}

fn bundle() -> Vec<u8> {
    let release = ReleaseSecretKey::generate(&mut ChaCha20Rng::from_seed([7; 32]));
    let image = vec![0x5a; 64 * 1024];
    let description = Description {
        version: "2.0".into(),
        security_version: 1,
        vendor: "ACME".into(),
        products: vec!["S1".into()],
        ..Description::default()
    };
    let manifest = Manifest::describe(description, &image, PayloadFormat::Raw, &image).unwrap();
    let manifest = SignedManifest::sign(&manifest, &release).unwrap();
    Bundle { manifest: &manifest, payload: &image }.emit().unwrap()
}

#[test]
fn a_rollout_is_planned_created_started_paused_resumed_and_aborted_each_once() {
    let desk = Desk::new();
    let plan = desk.json(&["rollout", "plan", "winter.toml", "--json"]);
    assert_eq!(plan["waves"][0]["hosts"].as_array().unwrap().len(), 2);
    assert_eq!(plan["waves"][1]["hosts"].as_array().unwrap().len(), 9);
    let digest = plan["digest"].as_str().unwrap();
    assert!(desk.says(&["rollout", "plan", "winter.toml"]).contains("canary"));
    assert!(desk.refuses(&["rollout", "show", "winter"]).contains("rollout list"), "only shown");

    let other = "0".repeat(64);
    let refused = desk.refuses(&["rollout", "create", "winter.toml", "--plan", &other]);
    assert!(refused.contains("nothing was created") && refused.contains(digest), "{refused}");
    desk.says(&["rollout", "create", "winter.toml", "--plan", digest]);
    assert_eq!(desk.state(), "ready");
    let shown = desk.says(&["rollout", "show", "winter"]);
    let next =
        "next: nobody is touched until it is started\n      firmcast-fleet rollout start winter";
    assert!(shown.contains(next), "{shown}");
    let refused = desk.refuses(&["rollout", "create", "winter.toml"]);
    assert!(refused.contains("already"), "{refused}");

    // What comes later does not belong to it.
    let key = HostPublicKey::from_exchange([99; 32]).unwrap();
    let late =
        format!("name,key,addresses,vendor,product,site\nlate,{key},192.0.2.99,ACME,S1,riga\n");
    desk.write("late.csv", late.as_bytes());
    desk.says(&["hosts", "import", "late.csv"]);
    for told in ["is started", "nothing was changed"] {
        assert!(desk.says(&["rollout", "start", "winter"]).contains(told));
        assert_eq!(desk.state(), "scheduled");
    }
    let shown = desk.json(&["rollout", "show", "winter", "--json"]);
    assert_eq!(shown["rollout"]["plan_digest"], digest);
    assert_eq!(shown["waves"][1]["attempts"]["planned"], 9);

    for (deed, state) in [("pause", "paused"), ("resume", "running"), ("abort", "error")] {
        desk.says(&["rollout", deed, "winter"]);
        assert_eq!(desk.state(), state);
        assert!(desk.says(&["rollout", deed, "winter"]).contains("nothing was changed"), "{deed}");
    }
    let shown = desk.json(&["rollout", "show", "winter", "--json"]);
    assert_eq!(shown["waves"][1]["attempts"]["skipped"], 9);
    for deed in ["start", "pause", "resume", "retry"] {
        desk.refuses(&["rollout", deed, "winter"]);
        assert_eq!(desk.state(), "error", "{deed}");
    }
}

#[test]
fn a_file_with_errors_creates_nothing_and_says_in_which_lines() {
    let desk = Desk::new();
    let wrong = ROLLOUT.replace("count = 2", "count = \"two\"").replace("\"person\"", "\"me\"");
    desk.write("winter.toml", wrong.as_bytes());
    for deed in ["plan", "create"] {
        let refused = desk.refuses(&["rollout", deed, "winter.toml"]);
        assert!(refused.contains("line 8") && refused.contains("line 14"), "{refused}");
    }
    desk.write("winter.toml", ROLLOUT.replace("\"2.0\"", "\"2.2\"").as_bytes());
    assert!(desk.refuses(&["rollout", "create", "winter.toml"]).contains("release add"));
    desk.write("winter.toml", ROLLOUT.replace("role!=lab", "role=web").as_bytes());
    assert!(desk.refuses(&["rollout", "create", "winter.toml"]).contains("no host"));
    let drain = "[undrain]\nrun = [\"/bin/true\"]\nwithin = \"1 min\"\n";
    desk.write("winter.toml", format!("{ROLLOUT}\n{drain}").as_bytes());
    let refused = desk.refuses(&["rollout", "create", "winter.toml"]);
    assert!(refused.contains("would never run"), "{refused}");
    assert_eq!(desk.says(&["rollout", "list", "--json"]), "");
}

#[test]
fn lists_of_others_change_what_they_say_and_nothing_else() {
    let desk = Desk::new();
    let all = desk.says(&["hosts", "export", "--format", "csv"]);
    desk.write("all.csv", all.as_bytes());
    desk.write("all.json", desk.says(&["hosts", "export", "--format", "ansible"]).as_bytes());
    for list in ["all.csv", "all.json"] {
        let told = desk.says(&["hosts", "import", list]);
        assert_eq!(told, "0 hosts new, 0 changed, 0 passed over\n", "{list}");
    }
    // As `ansible-inventory --list` writes it: h1 moves, and the printer is none of ours.
    let listed = r#"{"_meta": {"hostvars": {
        "h1": {"firmcast_labels": {"rack": "r9"}},
        "printer": {"ansible_host": "printer.example"}}}, "all": {"children": ["ungrouped"]}}"#;
    desk.write("listed.json", listed.as_bytes());
    let told = desk.says(&["hosts", "import", "listed.json", "--dry-run"]);
    assert_eq!(told, "0 hosts would be new, 1 would be changed, 1 passed over\n");
    assert_eq!(desk.says(&["hosts", "export", "--format", "csv"]), all);
    desk.says(&["hosts", "import", "listed.json"]);
    let moved = desk.json(&["hosts", "list", "rack=r9 site=riga", "--json"]);
    assert_eq!((&moved["name"], &moved["labels"]["role"]), (&"h1".into(), &"db".into()));

    // Nothing of a list with a mistake is taken.
    desk.write("wrong.csv", b"name,site\nh1,berlin\nh99,berlin\n");
    assert!(desk.refuses(&["hosts", "import", "wrong.csv"]).contains("h99: is new"));
    let berlin = desk.run(&["hosts", "list", "site=berlin", "--json"]);
    assert_eq!(berlin.stdout, b"");
    assert!(String::from_utf8(berlin.stderr).unwrap().contains("matches none of 12 hosts"));
}

#[test]
fn a_store_that_a_newer_program_made_is_left_alone() {
    let desk = Desk::new();
    let path = desk.directory.path().join("state/fleet.sqlite");
    newer(&path);
    let refused = desk.refuses(&["hosts", "list"]);
    assert!(refused.contains("update this program"), "{refused}");
}

fn newer(path: &Path) {
    let file = rusqlite::Connection::open(path).unwrap();
    file.execute("UPDATE schema_version SET version = 1000", []).unwrap();
}
