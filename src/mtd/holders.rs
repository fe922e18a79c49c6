//! Who else has an MTD device open.
//!
//! The kernel lets any number of programs open an MTD device for writing: there is no exclusive
//! open, and programs such as flashcp take no lock. So the open files of all processes are looked
//! through. Root sees them all.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Major number of `/dev/mtdN`: N has the minors 2N and 2N+1, the second for `/dev/mtdNro` (Linux
/// `Documentation/admin-guide/devices.txt`).
const MTD_CHAR_MAJOR: u64 = 90;
/// Major number of `/dev/mtdblockN`, minor N.
const MTD_BLOCK_MAJOR: u64 = 31;

/// Another process that has the device open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: u32,
    pub(super) program: String,
}

/// The first process other than this one that has MTD device `index` open, as character or as block
/// device. `proc` is `/proc`.
///
/// Processes that go away meanwhile, or that may not be looked at, are passed over.
pub(super) fn find(proc: &Path, index: u32) -> Option<Holder> {
    let own = std::process::id();
    let processes = fs::read_dir(proc).ok()?.flatten();
    for process in processes {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if pid != own && has_open(&process.path(), index) {
            let program = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(Holder { pid, program: program.trim_end().to_owned() });
        }
    }
    None
}

fn has_open(process: &Path, index: u32) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    files
        .flatten()
        .any(|file| fs::metadata(file.path()).is_ok_and(|metadata| is_device(&metadata, index)))
}

fn is_device(metadata: &fs::Metadata, index: u32) -> bool {
    let (major, minor) =
        (nix::sys::stat::major(metadata.rdev()), nix::sys::stat::minor(metadata.rdev()));
    let kind = metadata.file_type();
    (kind.is_char_device() && major == MTD_CHAR_MAJOR && minor / 2 == u64::from(index))
        || (kind.is_block_device() && major == MTD_BLOCK_MAJOR && minor == u64::from(index))
}
