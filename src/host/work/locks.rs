//! Who changes packages now: the locks of package managers.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::stat::{major, minor};

use super::{Found, program, read};

/// Files that package managers hold locked while they change packages.
const LOCK_FILES: [&str; 8] = [
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/lock",
    "var/lib/rpm/.rpm.lock",
    "usr/lib/sysimage/rpm/.rpm.lock",
    "run/dnf/rpmtransaction.lock",
    "run/rpmtransaction.lock",
    "lib/apk/db/lock",
    "usr/lib/apk/db/lock",
];
/// Files with the number of the process that changes packages, which may have ended.
const PID_FILES: [&str; 2] = ["run/zypp.pid", "run/yum.pid"];
/// Files that are there only meanwhile.
const MARKS: [&str; 1] = ["var/lib/pacman/db.lck"];
/// Folders of the package managers whose locks are known.
const DATABASES: [&str; 6] = [
    "var/lib/dpkg",
    "var/lib/rpm",
    "usr/lib/sysimage/rpm",
    "var/lib/pacman",
    "lib/apk/db",
    "usr/lib/apk/db",
];

/// A lock for writing in `/proc/locks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteLock {
    /// Its process; none of a lock that belongs to an open file.
    pub pid: Option<u32>,
    /// Major and minor number of the file system's device.
    pub device: (u64, u64),
    /// The locked file.
    pub inode: u64,
}

/// The locks for writing in the text of `/proc/locks` (Linux `fs/locks.c`, `lock_get_status`), and
/// the first line that cannot be understood. Who waits for a lock (`->`) has none.
pub fn write_locks(text: &str) -> (Vec<WriteLock>, Option<&str>) {
    let (mut locks, mut odd) = (Vec::new(), None);
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [_, "->", ..] | [_, "LEASE" | "DELEG" | "LAYOUT", ..] => {}
            [_, _, _, "READ" | "UNLCK" | "NONE", ..] => {}
            [_, _, _, "WRITE" | "RW", pid, file, _, _] => match write_lock(pid, file) {
                Some(lock) => locks.push(lock),
                None => odd = odd.or(Some(line)),
            },
            _ => odd = odd.or(Some(line)),
        }
    }
    (locks, odd)
}

fn write_lock(pid: &str, file: &str) -> Option<WriteLock> {
    let pid: i64 = pid.parse().ok()?;
    let mut parts = file.split(':');
    let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
    let device = (number()?, number()?);
    let inode = parts.next()?.parse().ok()?;
    let is_whole = parts.next().is_none();
    // -1 of a lock of an open file, 0 of a process in another namespace.
    is_whole.then_some(WriteLock {
        pid: u32::try_from(pid).ok().filter(|pid| *pid > 0),
        device,
        inode,
    })
}

/// Who changes packages.
pub(super) fn package_manager(root: &Path) -> Found {
    let (mut busy, mut problems) = (Vec::new(), Vec::new());
    let mut is_known = DATABASES.iter().any(|folder| root.join(folder).is_dir());
    let text = read(&root.join("proc/locks"));
    let (locks, odd) = match &text {
        Ok(text) => write_locks(text),
        Err(error) => {
            problems.push(format!("/proc/locks: {error}"));
            (Vec::new(), None)
        }
    };
    problems.extend(odd.map(|line| format!("/proc/locks: {line}")));
    for file in LOCK_FILES {
        match fs::metadata(root.join(file)) {
            Ok(metadata) => {
                is_known = true;
                holder(root, file, &metadata, &locks, &mut busy, &mut problems);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => problems.push(format!("/{file}: {error}")),
        }
    }
    pid_files(root, &mut busy, &mut problems);
    let marks = MARKS.iter().filter(|mark| root.join(mark).exists());
    busy.extend(marks.map(|mark| format!("/{mark} is there")));
    if !is_known && problems.is_empty() && busy.is_empty() {
        return Found::unknown("no package manager that is known here");
    }
    Found::of(&busy, &problems, "no package manager holds its lock")
}

/// Adds who holds a file locked.
fn holder(
    root: &Path,
    file: &str,
    metadata: &Metadata,
    locks: &[WriteLock],
    busy: &mut Vec<String>,
    problems: &mut Vec<String>,
) {
    let device = (major(metadata.dev()), minor(metadata.dev()));
    for lock in locks.iter().filter(|lock| lock.inode == metadata.ino()) {
        let who = match lock.pid {
            Some(pid) => format!("{} (process {pid})", program(root, pid)),
            None => "a program".to_owned(),
        };
        // btrfs and overlayfs show programs another device than the one that is locked.
        match (lock.device == device, lock.pid) {
            (true, _) => busy.push(format!("/{file} is locked by {who}")),
            (false, Some(pid)) if has_open(root, pid, metadata) => {
                busy.push(format!("/{file} is locked by {who}"));
            }
            (false, Some(_)) => {}
            (false, None) => problems.push(format!("/{file} may be locked by {who}")),
        }
    }
}

/// Whether a process has this file open. One whose files may not be looked at may have.
fn has_open(root: &Path, pid: u32, file: &Metadata) -> bool {
    match fs::read_dir(root.join(format!("proc/{pid}/fd"))) {
        Ok(files) => files
            .flatten()
            .filter_map(|open| fs::metadata(open.path()).ok())
            .any(|open| (open.dev(), open.ino()) == (file.dev(), file.ino())),
        Err(error) => error.kind() == ErrorKind::PermissionDenied,
    }
}

fn pid_files(root: &Path, busy: &mut Vec<String>, problems: &mut Vec<String>) {
    for file in PID_FILES {
        let text = match read(&root.join(file)) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                problems.push(format!("/{file}: {error}"));
                continue;
            }
        };
        match text.trim().parse::<u32>() {
            Ok(pid) if root.join(format!("proc/{pid}")).is_dir() => {
                busy.push(format!("/{file} names {} (process {pid})", program(root, pid)));
            }
            Ok(_) => {}
            // Emptied by the one that ends.
            Err(_) if text.trim().is_empty() => {}
            Err(_) => problems.push(format!("/{file} has no number")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::State;
    use super::super::tests::put;
    use super::*;

    /// A machine with dpkg, on which `line` is in /proc/locks, with the numbers of dpkg's lock put
    /// in for MINE and those of a file of the same number on another device for OTHER.
    fn found(line: &str) -> Found {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "var/lib/dpkg/lock-frontend", "");
        let file = fs::metadata(root.path().join("var/lib/dpkg/lock-frontend")).unwrap();
        let (dev, inode) = (file.dev(), file.ino());
        let mine = format!("{:02x}:{:02x}:{inode}", major(dev), minor(dev));
        let line = line.replace("MINE", &mine).replace("OTHER", &format!("ff:77:{inode}"));
        put(
            root.path(),
            "proc/locks",
            &format!("1: POSIX  ADVISORY  READ 1 00:0f:1 0 EOF\n{line}"),
        );
        put(root.path(), "proc/77/comm", "apt-get\n");
        fs::create_dir_all(root.path().join("proc/77/fd")).unwrap();
        package_manager(root.path())
    }

    #[test]
    fn a_lock_for_writing_of_a_known_file_is_busy() {
        for line in [
            "2: POSIX  ADVISORY  WRITE 77 MINE 0 EOF\n",
            "2: FLOCK  ADVISORY  WRITE 77 MINE 0 EOF\n",
            "2: POSIX  ADVISORY  WRITE 77 MINE 0 EOF\n2: -> POSIX  ADVISORY  WRITE 9 MINE 0 EOF\n",
        ] {
            let found = found(line);
            let said = "/var/lib/dpkg/lock-frontend is locked by apt-get (process 77)";
            assert_eq!((found.state, found.detail.as_str()), (State::Busy, said), "{line}");
        }
        assert_eq!(found("2: OFDLCK ADVISORY  WRITE -1 MINE 0 EOF\n").state, State::Busy);
    }

    #[test]
    fn readers_waiters_and_other_files_are_not() {
        for line in [
            "",
            "2: POSIX  ADVISORY  READ 77 MINE 0 EOF\n",
            "2: -> POSIX  ADVISORY  WRITE 77 MINE 0 EOF\n",
            "2: POSIX  ADVISORY  WRITE 77 OTHER 0 EOF\n",
            "2: LEASE  ACTIVE    READ 77 MINE 0 EOF\n",
        ] {
            assert_eq!(found(line).state, State::Clear, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_unknown() {
        for line in [
            "2: OFDLCK ADVISORY  WRITE -1 OTHER 0 EOF\n",
            "2: POSIX  ADVISORY  WRITE x MINE 0 EOF\n",
            "2: POSIX  ADVISORY  WRITE 77 MINE:1 0 EOF\n",
            "2: POSIX  ADVISORY  SOMETHING 77 MINE 0 EOF\n",
            "nonsense\n",
        ] {
            assert_eq!(found(line).state, State::Unknown, "{line}");
        }
    }

    #[test]
    fn a_file_system_that_shows_another_device_is_seen_through() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "var/lib/rpm/.rpm.lock", "");
        let lock = root.path().join("var/lib/rpm/.rpm.lock");
        let inode = fs::metadata(&lock).unwrap().ino();
        put(root.path(), "proc/locks", &format!("1: POSIX ADVISORY WRITE 7 ff:77:{inode} 0 0\n"));
        put(root.path(), "proc/7/comm", "rpm");
        fs::create_dir_all(root.path().join("proc/7/fd")).unwrap();
        assert_eq!(package_manager(root.path()).state, State::Clear);
        std::os::unix::fs::symlink(&lock, root.path().join("proc/7/fd/3")).unwrap();
        let said = "/var/lib/rpm/.rpm.lock is locked by rpm (process 7)";
        assert_eq!(package_manager(root.path()).detail, said);
    }

    #[test]
    fn zypp_counts_while_its_process_runs() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "proc/locks", "");
        put(root.path(), "var/lib/rpm/Packages", "");
        put(root.path(), "run/zypp.pid", "7\n");
        assert_eq!(package_manager(root.path()).state, State::Clear);
        put(root.path(), "proc/7/comm", "zypper\n");
        assert_eq!(package_manager(root.path()).detail, "/run/zypp.pid names zypper (process 7)");
        put(root.path(), "run/zypp.pid", "seven");
        assert_eq!(package_manager(root.path()).state, State::Unknown);
    }
}
