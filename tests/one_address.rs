//! A host that listens at one of its addresses, and a manager that does not know it yet: real
//! programs in two network namespaces.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Two namespaces, joined by two cables. At the first the manager has 10.77.0.1, and the host .2
/// and .3. The other one is somebody else's network, 10.88.0.0, until the host's address comes
/// there. Its arguments: a folder, the two programs, and what the agent listens at.
const ROOM: &str = r#"
set -eu
cd "$1"
agent=$2 manager=$3 listen=$4
ip link set lo up
ip link add cable type veth peer name other
ip link add tenants type veth peer name strange
unshare --net sleep 100 >/dev/null 2>&1 &
host=$!
trap 'kill $host $daemon 2>/dev/null || true' EXIT
daemon=$host
until [ "$(readlink /proc/$host/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link set other netns $host
ip addr add 10.77.0.1/24 brd + dev cable
ip link set cable up
ip link set strange netns $host
ip addr add 10.88.0.1/24 brd + dev tenants
ip link set tenants up
there() { nsenter --target $host --net "$@"; }
there ip link set lo up
there ip addr add 10.77.0.2/24 brd + dev other
there ip addr add 10.77.0.3/24 brd + dev other
there ip link set other up
there ip addr add 10.88.0.2/24 brd + dev strange
there ip link set strange up
"$manager" --state state key new --role manager >said
cat >agent.toml <<END
listen = "$listen:9847"
host_key = "$1/host.key"
state_dir = "$1/agent"
trusted_managers = ["$1/state/manager.pub"]
trusted_dir = ""
END
nsenter --target $host --net "$agent" --foreground --config agent.toml >/dev/null 2>log &
daemon=$!
until grep -q "listens on" log; do kill -0 $daemon; sleep 0.05; done
discover() { "$manager" --state state discover --json --timeout 2 "$@" || true; }
discover --interface cable >broadcast.json
discover --interface tenants >strange.json
for at in 2 3; do discover --host 10.77.0.$at >at$at.json; done
there ip addr del $listen/24 dev other
there ip addr add $listen/24 dev strange
# The host has to answer through that cable.
ip addr add 10.77.0.9/24 dev tenants
there ip route replace 10.88.0.0/24 dev strange
discover --interface cable >left.json
discover --interface tenants >moved.json
"#;

/// The addresses of the hosts that a `firmcast discover --json` has found.
fn found(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let hosts: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let hosts = hosts.as_array().cloned().unwrap_or_default();
    hosts.iter().map(|host| host["address"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn who_listens_at_one_address_hears_broadcasts_and_nothing_for_the_others() {
    let agent = Path::new(env!("CARGO_BIN_EXE_firmcastd"));
    let manager = agent.with_file_name("firmcast");
    let own = ["--map-root-user", "--net", "--mount"];
    let probe = "ip link add cable type veth peer name other && unshare --net true";
    let probe = Command::new("unshare").args(own).args(["sh", "-c", probe]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) || !manager.exists() {
        eprintln!("skipped: this needs network namespaces, ip(8), and firmcast beside firmcastd");
        return;
    }
    for listen in ["10.77.0.2", "10.77.0.3"] {
        let folder = tempfile::tempdir().unwrap();
        let mut room = Command::new("unshare");
        room.args(own).args(["timeout", "90", "sh", "-c", ROOM, "sh"]).arg(folder.path());
        let output = room.arg(agent).arg(&manager).arg(listen).output().unwrap();
        let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        assert!(output.status.success(), "{log}{}", String::from_utf8_lossy(&output.stderr));
        let at = format!("{listen}:9847");
        let heard = |name: &str| found(&folder.path().join(name));
        assert_eq!(heard("broadcast.json"), [at.as_str()], "{log}");
        assert_eq!(heard("strange.json"), [""; 0], "{log}");
        assert_eq!(heard("left.json"), [""; 0], "{log}");
        assert_eq!(heard("moved.json"), [at.as_str()], "{log}");
        for last in [2, 3] {
            let asked = format!("10.77.0.{last}");
            let heard = heard(&format!("at{last}.json"));
            assert_eq!(heard, if asked == listen { vec![at.clone()] } else { vec![] }, "{log}");
        }
    }
}
