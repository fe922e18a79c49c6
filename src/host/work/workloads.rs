//! Virtual machines and containers that run here: by the names that libvirt, podman, Docker,
//! Kubernetes, LXC and systemd-nspawn give their control groups, and virtual machines by their
//! programs, too.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Found, named, program, read};

/// Maximum depth of control groups that is looked at.
const DEPTH_MAX: usize = 8;
/// Maximum number of control groups that is looked at.
const GROUPS_MAX: usize = 20_000;
/// How the programs of virtual machines begin; the kernel keeps 15 bytes of a name.
const MACHINES: [&str; 8] = [
    "qemu-system-",
    "qemu-kvm",
    "cloud-hyperviso",
    "firecracker",
    "crosvm",
    "VBoxHeadless",
    "VirtualBoxVM",
    "vmware-vmx",
];

/// Says what runs in the control group `name` inside of `parent`; none where it is nothing of that
/// kind.
pub fn workload(parent: &str, name: &str) -> Option<String> {
    if let Some(machine) = name.strip_prefix("machine-").and_then(|it| it.strip_suffix(".scope")) {
        return Some(format!("machine {}", machine.replace("\\x2d", "-")));
    }
    if let Some(machine) = name.strip_prefix("systemd-nspawn@") {
        return Some(format!("machine {}", machine.strip_suffix(".service")?));
    }
    if let Some(container) = name.strip_prefix("lxc.payload.") {
        return Some(format!("container {container}"));
    }
    if parent == "lxc" {
        return Some(format!("container {name}"));
    }
    let id = match name.strip_suffix(".scope") {
        Some(scope) => ["libpod-", "docker-", "cri-containerd-", "crio-", "nerdctl-"]
            .into_iter()
            .find_map(|prefix| scope.strip_prefix(prefix))?,
        None => name,
    };
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| format!("container {}", &id[..12]))
}

/// Whether a program of this name is a virtual machine.
pub fn is_machine(program: &str) -> bool {
    MACHINES.iter().any(|machine| program.starts_with(machine))
}

/// What runs here.
pub(super) fn workloads(root: &Path) -> Found {
    let (mut groups, mut problems) = (Groups::default(), Vec::new());
    let tree = root.join("sys/fs/cgroup");
    // One tree (v2); else systemd's own among those of v1.
    let trees = [tree.clone(), tree.join("unified"), tree.join("systemd")];
    match trees.iter().find(|tree| tree.join("cgroup.procs").is_file()) {
        Some(tree) => groups.look(tree, "", 0),
        None => problems.push("no control groups in /sys/fs/cgroup".to_owned()),
    }
    if groups.are_too_many {
        problems.push("more control groups than are looked at".to_owned());
    }
    let mut found = groups.found;
    if let Err(problem) = machines(root, &groups.names, &mut found) {
        problems.push(problem);
    }
    match found.len() {
        0 | 1 => Found::of(&found, &problems, "no virtual machine, no container"),
        count => {
            let said = format!("{count} run: {}", named(&found));
            Found::of(&[said], &problems, "")
        }
    }
}

/// What was found among the control groups.
#[derive(Default)]
struct Groups {
    found: Vec<String>,
    names: Vec<String>,
    looked_at: usize,
    are_too_many: bool,
}

impl Groups {
    fn look(&mut self, folder: &Path, parent: &str, depth: usize) {
        let mut folders: Vec<PathBuf> = (fs::read_dir(folder).into_iter().flatten().flatten())
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        folders.sort();
        for folder in folders {
            self.looked_at += 1;
            if depth >= DEPTH_MAX || self.looked_at > GROUPS_MAX {
                self.are_too_many = true;
                return;
            }
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match workload(parent, &name) {
                Some(_) if is_empty(&folder) => {}
                Some(said) => {
                    self.found.push(said);
                    self.names.push(name);
                }
                None => self.look(&folder, &name, depth + 1),
            }
        }
    }
}

/// Whether a control group has no process. Where that cannot be told it counts.
fn is_empty(group: &Path) -> bool {
    let events = read(&group.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "populated 0")
}

/// Adds the virtual machines that are in none of the control groups `known`.
fn machines(root: &Path, known: &[String], found: &mut Vec<String>) -> Result<(), String> {
    let processes = fs::read_dir(root.join("proc")).map_err(|error| format!("/proc: {error}"))?;
    for process in processes.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some(program) = machine_program(root, pid) else { continue };
        let groups = read(&process.path().join("cgroup")).unwrap_or_default();
        let mut folders = groups.lines().flat_map(|line| line.split('/'));
        if !folders.any(|folder| known.iter().any(|known| known == folder)) {
            found.push(format!("{program} (process {pid})"));
        }
    }
    Ok(())
}

/// The program of a process that is a virtual machine: the name that it has given itself, or its
/// file's.
fn machine_program(root: &Path, pid: u32) -> Option<String> {
    let comm = program(root, pid);
    if is_machine(&comm) {
        return Some(comm);
    }
    let file = fs::read_link(root.join(format!("proc/{pid}/exe"))).ok()?;
    let file = file.file_name()?.to_string_lossy().into_owned();
    is_machine(&file).then_some(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::State;
    use super::super::tests::put;
    use super::*;

    #[test]
    fn control_groups_are_known_by_their_names() {
        let id = "0123456789abcdef".repeat(4);
        for (parent, name, said) in [
            ("machine.slice", r"machine-qemu\x2d1\x2dweb.scope", "machine qemu-1-web"),
            ("machine.slice", "systemd-nspawn@build.service", "machine build"),
            ("", "lxc.payload.db", "container db"),
            ("lxc", "db", "container db"),
            ("machine.slice", &format!("libpod-{id}.scope"), "container 0123456789ab"),
            ("system.slice", &format!("docker-{id}.scope"), "container 0123456789ab"),
            (
                "kubepods-pod1.slice",
                &format!("cri-containerd-{id}.scope"),
                "container 0123456789ab",
            ),
            ("docker", &id, "container 0123456789ab"),
        ] {
            assert_eq!(workload(parent, name).as_deref(), Some(said), "{name}");
        }
        for name in [
            "machine.slice".to_owned(),
            format!("libpod-conmon-{id}.scope"),
            "docker.service".to_owned(),
            "session-1.scope".to_owned(),
            "é".repeat(32),
            String::new(),
        ] {
            assert_eq!(workload("system.slice", &name), None, "{name}");
        }
    }

    #[test]
    fn a_machine_in_a_control_group_counts_once_and_an_empty_group_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let group = r"sys/fs/cgroup/machine.slice/machine-qemu\x2d1\x2dweb.scope";
        put(root.path(), "sys/fs/cgroup/cgroup.procs", "1\n");
        put(root.path(), "proc/1/comm", "systemd\n");
        assert_eq!(workloads(root.path()).state, State::Clear);
        put(root.path(), &format!("{group}/cgroup.events"), "populated 0\nfrozen 0\n");
        assert_eq!(workloads(root.path()).state, State::Clear);
        put(root.path(), &format!("{group}/cgroup.events"), "populated 1\nfrozen 0\n");
        put(root.path(), "proc/7/comm", "qemu-system-x86\n");
        let inside = r"0::/machine.slice/machine-qemu\x2d1\x2dweb.scope/emulator";
        put(root.path(), "proc/7/cgroup", inside);
        assert_eq!(workloads(root.path()).detail, "machine qemu-1-web");
        put(root.path(), "proc/9/comm", "renamed\n");
        std::os::unix::fs::symlink("/usr/bin/firecracker", root.path().join("proc/9/exe")).unwrap();
        let said = "2 run: machine qemu-1-web, firecracker (process 9)";
        assert_eq!(workloads(root.path()).detail, said);
    }

    #[test]
    fn without_control_groups_programs_are_seen_and_the_rest_is_unknown() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "proc/1/comm", "init\n");
        assert_eq!(workloads(root.path()).state, State::Unknown);
        put(root.path(), "proc/7/comm", "qemu-system-x86\n");
        let found = workloads(root.path());
        assert_eq!(found.state, State::Busy);
        assert!(found.detail.starts_with("qemu-system-x86 (process 7); not"), "{}", found.detail);
    }

    #[test]
    fn a_tree_that_is_too_deep_is_unknown() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "sys/fs/cgroup/cgroup.procs", "");
        fs::create_dir_all(root.path().join("proc")).unwrap();
        fs::create_dir_all(root.path().join("sys/fs/cgroup").join("a/".repeat(DEPTH_MAX))).unwrap();
        assert_eq!(workloads(root.path()).state, State::Clear);
        let deep = root.path().join("sys/fs/cgroup").join("a/".repeat(DEPTH_MAX + 1));
        fs::create_dir_all(deep).unwrap();
        assert_eq!(workloads(root.path()).state, State::Unknown);
    }
}
