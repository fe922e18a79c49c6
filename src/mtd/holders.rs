//! Who else uses an MTD device.
//!
//! The kernel lets any number of programs open an MTD device for writing: there is no exclusive
//! open, and programs such as flashcp take no lock. So the open files of all processes are looked
//! through, then mounted file systems and UBI. Root sees the files of all processes, unless it has
//! given up its capabilities (`CAP_SYS_PTRACE`), as the agent's service does: that one asks the
//! [`helper`].

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::{Held, HeldBy, MtdError, MtdInfo, Overlap};
use crate::helper;

/// Major number of `/dev/mtdN`: N has the minors 2N and 2N+1, the second for `/dev/mtdNro` (Linux
/// `Documentation/admin-guide/devices.txt`).
const MTD_CHAR_MAJOR: u64 = 90;
/// Major number of `/dev/mtdblockN`, minor N.
const MTD_BLOCK_MAJOR: u64 = 31;
/// `O_ACCMODE` of the octal flags in `/proc/PID/fdinfo/N`: 0 is `O_RDONLY`.
const ACCESS_MODE: u32 = 0o3;

/// Which open files count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opened {
    /// All.
    Anyhow,
    /// Those that can be written through.
    ForWriting,
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// The first that uses one of the devices.
    pub first: Option<Held>,
    /// Processes that may not be looked at.
    pub unseen_processes: usize,
}

impl Holders {
    /// Who else could write to the bytes of `devices` now, through them or through other devices
    /// that have some of them. `root` is `/`.
    ///
    /// # Errors
    /// sysfs cannot be read or understood.
    pub fn writers(root: &Path, devices: &[MtdInfo]) -> Result<Self, MtdError> {
        Self::of(root, devices, Opened::ForWriting)
    }

    /// Returns the same with those that can only read.
    ///
    /// # Errors
    /// As [`Holders::writers`].
    pub fn users(root: &Path, devices: &[MtdInfo]) -> Result<Self, MtdError> {
        Self::of(root, devices, Opened::Anyhow)
    }

    fn of(root: &Path, devices: &[MtdInfo], opened: Opened) -> Result<Self, MtdError> {
        let mut all = Vec::new();
        for device in devices {
            let overlaps = Overlap::list(&root.join("sys/class/mtd"), device)?;
            all.push((device.index, device.name.clone()));
            all.extend(overlaps.into_iter().map(|other| (other.index, other.name)));
        }
        let named: Vec<_> = all.iter().map(|(index, name)| (*index, name.as_str())).collect();
        find(root, &named, opened).map_err(|source| MtdError::Helper { source })
    }

    /// Answers what another process asks of the [`helper`], behind its word `holders`: `any` or
    /// `writing`, the process that asks, and the numbers of devices. The answer is the number of
    /// unseen processes; then, if one uses a device, that device, the process and its program.
    /// None when the question is not understood.
    pub fn answer(root: &Path, question: &str) -> Option<String> {
        let mut words = question.split(' ');
        let opened = match words.next()? {
            "any" => Opened::Anyhow,
            "writing" => Opened::ForWriting,
            _ => return None,
        };
        let asks = words.next()?.parse().ok()?;
        let devices: Vec<u32> = words.map(str::parse).collect::<Result<_, _>>().ok()?;
        let Holders { first, unseen_processes } = processes(root, &devices, opened, asks);
        Some(match first {
            Some(Held { index, by: HeldBy::Process { pid, program } }) => {
                format!("{unseen_processes} {index} {pid} {program}")
            }
            _ => unseen_processes.to_string(),
        })
    }

    fn from_answer(answer: &str) -> Option<Self> {
        let mut words = answer.splitn(4, ' ');
        let unseen_processes = words.next()?.parse().ok()?;
        let Some(index) = words.next() else { return Some(Self { first: None, unseen_processes }) };
        let (index, pid) = (index.parse().ok()?, words.next()?.parse().ok()?);
        let by = HeldBy::Process { pid, program: words.next()?.to_owned() };
        Some(Self { first: Some(Held { index, by }), unseen_processes })
    }
}

/// Who else uses one of `devices` (number and name). `root` is `/`.
fn find(root: &Path, devices: &[(u32, &str)], opened: Opened) -> io::Result<Holders> {
    if let Some(first) = mounted(root, devices).or_else(|| attached(root, devices)) {
        return Ok(Holders { first: Some(first), unseen_processes: 0 });
    }
    let numbers: Vec<u32> = devices.iter().map(|(index, _)| *index).collect();
    ask(&numbers, opened)
        .unwrap_or_else(|| Ok(processes(root, &numbers, opened, std::process::id())))
}

/// Asks the helper, if this process has one.
fn ask(devices: &[u32], opened: Opened) -> Option<io::Result<Holders>> {
    let opened = match opened {
        Opened::Anyhow => "any",
        Opened::ForWriting => "writing",
    };
    let mut question = format!("holders {opened} {}", std::process::id());
    for device in devices {
        question += &format!(" {device}");
    }
    let answer = helper::ask(&question, &[])?;
    Some(answer.and_then(|answer| {
        Holders::from_answer(&answer.text).ok_or_else(|| ErrorKind::InvalidData.into())
    }))
}

/// Which other process than `own` uses one of `devices`. `root` is `/`.
///
/// Processes that go away meanwhile are passed over.
fn processes(root: &Path, devices: &[u32], opened: Opened, own: u32) -> Holders {
    let mut holders = Holders::default();
    for process in fs::read_dir(root.join("proc")).into_iter().flatten().flatten() {
        let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.filter(|pid| *pid != own && holders.first.is_none()) else { continue };
        match open_device(&process.path(), devices, opened) {
            Ok(Some(index)) => {
                let program = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                let by = HeldBy::Process { pid, program: program.trim_end().to_owned() };
                holders.first = Some(Held { index, by });
            }
            Ok(None) => {}
            Err(Unseen) => holders.unseen_processes += 1,
        }
    }
    holders
}

struct Unseen;

fn open_device(process: &Path, devices: &[u32], opened: Opened) -> Result<Option<u32>, Unseen> {
    let files = match fs::read_dir(process.join("fd")) {
        Ok(files) => files,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(Unseen),
        Err(_) => return Ok(None),
    };
    for file in files.flatten() {
        let metadata = match fs::metadata(file.path()) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(Unseen),
            Err(_) => continue,
        };
        let index = devices.iter().copied().find(|index| is_device(&metadata, *index));
        let info = process.join("fdinfo").join(file.file_name());
        if index.is_some() && (opened == Opened::Anyhow || is_for_writing(&info)) {
            return Ok(index);
        }
    }
    Ok(None)
}

fn is_device(metadata: &fs::Metadata, index: u32) -> bool {
    let (major, minor) =
        (nix::sys::stat::major(metadata.rdev()), nix::sys::stat::minor(metadata.rdev()));
    let kind = metadata.file_type();
    (kind.is_char_device() && major == MTD_CHAR_MAJOR && minor / 2 == u64::from(index))
        || (kind.is_block_device() && major == MTD_BLOCK_MAJOR && minor == u64::from(index))
}

/// A file whose flags cannot be read counts as open for writing.
fn is_for_writing(fdinfo: &Path) -> bool {
    let text = fs::read_to_string(fdinfo).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok());
    flags.is_none_or(|flags| flags & ACCESS_MODE != 0)
}

/// File systems on `/dev/mtdblockN`; JFFS2 also calls it `mtdN` and `mtd:NAME`.
fn mounted(root: &Path, devices: &[(u32, &str)]) -> Option<Held> {
    let mounts = fs::read(root.join("proc/mounts")).unwrap_or_default();
    let mounts = String::from_utf8_lossy(&mounts);
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(source), Some(target)) = (fields.next(), fields.next()) else { continue };
        let is_source = |(index, name): &&(u32, &str)| {
            let number = source.strip_prefix("/dev/").unwrap_or(source);
            let number = number.strip_prefix("mtdblock").or_else(|| number.strip_prefix("mtd"));
            number.is_some_and(|number| number.parse() == Ok(*index))
                || source.strip_prefix("mtd:") == Some(name.replace(' ', "\\040").as_str())
        };
        if let Some((index, _)) = devices.iter().find(is_source) {
            let by = HeldBy::Mount { target: target.to_owned() };
            return Some(Held { index: *index, by });
        }
    }
    None
}

/// UBI writes whenever it likes (wear levelling), mounted or not.
fn attached(root: &Path, devices: &[(u32, &str)]) -> Option<Held> {
    let ubis = fs::read_dir(root.join("sys/class/ubi")).into_iter().flatten().flatten();
    for ubi in ubis {
        let number = fs::read_to_string(ubi.path().join("mtd_num")).unwrap_or_default();
        let index = devices.iter().find(|(index, _)| number.trim().parse() == Ok(*index));
        if let Some((index, _)) = index {
            let name = ubi.file_name().to_string_lossy().into_owned();
            let name = name.strip_prefix("ubi").unwrap_or(&name).to_owned();
            return Some(Held { index: *index, by: HeldBy::Ubi { index: name } });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    use std::os::unix::fs::symlink;

    const DEVICES: &[(u32, &str)] = &[(3, "BIOS"), (4, "two words")];

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn first(root: &Path, opened: Opened) -> Option<String> {
        find(root, DEVICES, opened).unwrap().first.map(|held| held.to_string())
    }

    /// A process with one open file; whether this machine lets tests make device nodes.
    fn process(root: &Path, pid: u32, kind: SFlag, numbers: (u64, u64), flags: &str) -> bool {
        let node = root.join(format!("node{pid}"));
        if mknod(&node, kind, Mode::empty(), makedev(numbers.0, numbers.1)).is_err() {
            eprintln!("skipped: making device nodes needs root");
            return false;
        }
        put(root, &format!("proc/{pid}/comm"), "flashcp\n");
        put(root, &format!("proc/{pid}/fdinfo/5"), &format!("pos:\t0\nflags:\t{flags}\n"));
        fs::create_dir_all(root.join(format!("proc/{pid}/fd"))).unwrap();
        symlink(node, root.join(format!("proc/{pid}/fd/5"))).unwrap();
        true
    }

    #[test]
    fn mounted_file_systems_and_ubi_are_found() {
        let mounts = [
            ("/dev/mtdblock3 /mnt jffs2 rw 0 0\n", Some(3)),
            ("proc /proc proc rw 0 0\nmtd4 /mnt jffs2 rw 0 0\n", Some(4)),
            ("mtd:two\\040words /mnt jffs2 rw 0 0\n", Some(4)),
            ("/dev/mtdblock33 /mnt jffs2 rw 0 0\nmtd: /mnt x\n/dev/sda3 / ext4 rw 0 0\n\n", None),
        ];
        for (text, index) in mounts {
            let root = tempfile::tempdir().unwrap();
            put(root.path(), "proc/mounts", text);
            let expected = index.map(|index: u32| {
                format!("/dev/mtd{index} is in use by the file system that is mounted on /mnt")
            });
            assert_eq!(first(root.path(), Opened::ForWriting), expected, "{text}");
        }
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "sys/class/ubi/ubi0/mtd_num", "30\n");
        assert_eq!(first(root.path(), Opened::ForWriting), None);
        put(root.path(), "sys/class/ubi/ubi7/mtd_num", "3\n");
        assert_eq!(first(root.path(), Opened::ForWriting).unwrap(), "/dev/mtd3 is in use by ubi7");
    }

    #[test]
    fn programs_that_can_write_are_told_from_readers() {
        // Kind, major, minor, flags; found for writing, found at all.
        let cases = [
            (SFlag::S_IFCHR, 90, 6, "0100002", true, true),
            (SFlag::S_IFCHR, 90, 7, "0100001", true, true),
            (SFlag::S_IFBLK, 31, 4, "0100002", true, true),
            (SFlag::S_IFCHR, 90, 6, "0100000", false, true),
            (SFlag::S_IFCHR, 90, 6, "nonsense", true, true),
            (SFlag::S_IFCHR, 90, 3, "0100002", false, false),
            (SFlag::S_IFBLK, 90, 6, "0100002", false, false),
        ];
        for (kind, major, minor, flags, writes, uses) in cases {
            let root = tempfile::tempdir().unwrap();
            let pid = std::process::id() + 1;
            if !process(root.path(), pid, kind, (major, minor), flags) {
                return;
            }
            let found = |opened| {
                first(root.path(), opened)
                    .is_some_and(|held| held.ends_with(&format!("flashcp (process {pid})")))
            };
            let case = (major, minor, flags);
            assert_eq!(found(Opened::ForWriting), writes, "{case:?}");
            assert_eq!(found(Opened::Anyhow), uses, "{case:?}");

            let answer = Holders::answer(root.path(), "any 1 7 3 4").unwrap();
            let told = Holders::from_answer(&answer).unwrap();
            let itself = find(root.path(), DEVICES, Opened::Anyhow).unwrap();
            assert_eq!(told, itself, "{case:?}: a helper tells the same");
        }
    }

    #[test]
    fn what_a_helper_says_is_not_taken_for_more_than_it_is() {
        let root = tempfile::tempdir().unwrap();
        for question in ["", "any", "some 1 3", "any x 3", "any 1 3 x"] {
            assert_eq!(Holders::answer(root.path(), question), None, "{question:?}");
        }
        for answer in ["", "x", "0 3", "0 3 7", "0 x 7 flashcp"] {
            assert_eq!(Holders::from_answer(answer), None, "{answer:?}");
        }
        let by = HeldBy::Process { pid: 7, program: "two words".into() };
        let first = Some(Held { index: 3, by });
        let held = Holders { first, unseen_processes: 2 };
        assert_eq!(Holders::from_answer("2 3 7 two words"), Some(held));
    }
}
