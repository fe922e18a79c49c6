//! The agent is killed while it makes its key.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::process::{text, write_config};

/// Most calls of one kind for the files of a host key.
const CALLS_MAX: usize = 40;

/// Starts that end by themselves behind the making of the key: this machine has no such address.
fn start_and_end(folder: &Path, before: &[&str]) -> bool {
    let config = write_config(folder, "192.0.2.1:9847".parse().unwrap(), "/none.pub");
    let (program, before) = before.split_first().unwrap_or((&"env", &[]));
    let mut command = Command::new(program);
    command.args(before).arg(env!("CARGO_BIN_EXE_firmcastd")).arg("--foreground").arg("--config");
    let output = command.arg(config).env_remove("FIRMCAST_LISTEN").output().unwrap();
    text(&output.stderr).contains("cannot listen on 192.0.2.1")
}

/// Kills the agent at each call that changes a file of its key, and starts it again; how often.
fn cut_everywhere(prepare: impl Fn(&Path)) -> usize {
    let mut cuts = 0;
    for call in ["openat", "?unlink", "?unlinkat", "write", "fsync", "?rename", "?renameat"] {
        for number in 1..=CALLS_MAX {
            let folder = tempfile::tempdir().unwrap();
            prepare(folder.path());
            let trace = format!("trace={call}");
            let inject = format!("inject={call}:signal=KILL:when={number}");
            let mut strace = vec!["strace", "-f", "-o", "/dev/null", "-e", &trace, "-e", &inject];
            let names = ["key", "pub", "machine", "key.former"].map(|end| format!("host.{end}"));
            let all = names.iter().flat_map(|name| [name.clone(), format!("{name}.new")]);
            let paths: Vec<String> = all.map(|name| at(folder.path(), &name)).collect();
            strace.extend(paths.iter().flat_map(|path| ["-P", path.as_str()]));
            if start_and_end(folder.path(), &strace) {
                break;
            }
            cuts += 1;
            assert!(number < CALLS_MAX, "{call} never comes to an end");
            assert!(start_and_end(folder.path(), &[]), "after {call} {number}");
            let made = fs::read(folder.path().join("host.pub")).unwrap();
            assert!(start_and_end(folder.path(), &[]), "after {call} {number}");
            assert_eq!(fs::read(folder.path().join("host.pub")).unwrap(), made);
            let left =
                paths.iter().filter(|path| path.ends_with(".new") && Path::new(path).exists());
            assert_eq!(left.count(), 0, "after {call} {number}");
        }
    }
    cuts
}

fn at(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

#[test]
fn killed_at_any_call_the_agent_starts_again_with_a_key_that_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let probe = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        eprintln!("skipped: strace is not installed, or may not trace");
        return;
    }
    assert!(start_and_end(folder.path(), &[]));
    let first = fs::read_to_string(folder.path().join("host.machine")).unwrap();
    assert!(cut_everywhere(|_| {}) >= 10);
    // The same on another machine: each trait that tells something is another one there.
    let mut other: serde_json::Value = serde_json::from_str(&first).unwrap();
    for told in other["machine"].as_object_mut().unwrap().values_mut() {
        *told = format!("{}0", told.as_str().unwrap()).into();
    }
    let clone = |disk: &Path| {
        for name in ["host.key", "host.pub"] {
            fs::copy(folder.path().join(name), disk.join(name)).unwrap();
        }
        fs::write(disk.join("host.machine"), other.to_string()).unwrap();
    };
    assert!(cut_everywhere(clone) > 0);
}
