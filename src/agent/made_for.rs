//! For which machine the host key was made: a file beside the key says so.
//!
//! A disk that was cloned brings the key of another machine with it, and two hosts with one key are
//! one host to a manager.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use log::warn;
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::host::read_line;
use crate::keys::Fingerprint;

/// Maximum size of the file, in bytes.
const FILE_SIZE_MAX: u64 = 16 * 1024;

/// What vendors write into every machine alike, in small letters.
const PLACEHOLDERS: &[&str] = &[
    "to be filled by o.e.m.",
    "default string",
    "system serial number",
    "not specified",
    "not applicable",
    "not available",
    "none",
    "n/a",
    "unknown",
    "empty",
    "invalid",
    "oem",
    "123456789",
    "0123456789",
    "1234567890",
    "03000200-0400-0500-0006-000700080009",
];

/// What tells a machine from others; empty where it tells nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Traits {
    machine_id: String,
    product_uuid: String,
    product_serial: String,
}

/// The file's contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MadeFor {
    /// The fingerprint of the key that this is said of.
    pub(super) key: String,
    /// The machine.
    pub(super) machine: Traits,
    /// Why the key was made in place of another one; empty for a host's first key.
    #[serde(default)]
    pub(super) made_anew: String,
}

impl Traits {
    /// Reads those of the machine at `root`, which is `/` outside of tests.
    pub(super) fn read(root: &Path) -> Self {
        let dmi = |name: &str| {
            let text = read_line(&root.join("sys/class/dmi/id").join(name)).unwrap_or_default();
            if is_placeholder(&text) { String::new() } else { text }
        };
        Self {
            machine_id: machine_id(&root.join("etc/machine-id")),
            product_uuid: dmi("product_uuid").to_lowercase(),
            product_serial: dmi("product_serial"),
        }
    }

    /// Those of a machine with this machine-id, product UUID and product serial number.
    #[cfg(test)]
    pub(super) fn of([machine_id, product_uuid, product_serial]: [&str; 3]) -> Self {
        Self {
            machine_id: machine_id.into(),
            product_uuid: product_uuid.into(),
            product_serial: product_serial.into(),
        }
    }

    /// Returns in words what tells `other` from this machine; empty where nothing does. What only
    /// one of them has tells nothing.
    pub(super) fn differences(&self, other: &Self) -> String {
        let pairs = self.named().into_iter().zip(other.named());
        let words: Vec<&str> = pairs
            .filter(|((_, own), (_, other))| !own.is_empty() && !other.is_empty() && own != other)
            .map(|((name, _), _)| name)
            .collect();
        words.join(", ")
    }

    /// Returns whether what tells them apart is the firmware's word alone: no machine-id says
    /// otherwise.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        let either = [&self.machine_id, &other.machine_id];
        either.iter().any(|id| id.is_empty()) || self.machine_id == other.machine_id
    }

    /// Returns this machine's traits, with those of `before` where it shows none now.
    pub(super) fn or(self, before: &Self) -> Self {
        let either = |now: String, before: &str| match now.is_empty() {
            true => before.to_owned(),
            false => now,
        };
        Self {
            machine_id: either(self.machine_id, &before.machine_id),
            product_uuid: either(self.product_uuid, &before.product_uuid),
            product_serial: either(self.product_serial, &before.product_serial),
        }
    }

    fn named(&self) -> [(&'static str, &str); 3] {
        [
            ("machine-id", &self.machine_id),
            ("product UUID", &self.product_uuid),
            ("product serial number", &self.product_serial),
        ]
    }
}

/// One that is made anew at each boot, and so lies in memory, is none. An overlay may have its
/// upper half there.
fn machine_id(path: &Path) -> String {
    let text = read_line(path).unwrap_or_default();
    let is_id = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let in_memory = [TMPFS_MAGIC, OVERLAYFS_SUPER_MAGIC];
    let is_kept = statfs(path).is_ok_and(|found| !in_memory.contains(&found.filesystem_type()));
    if is_id && is_kept { text } else { String::new() }
}

fn is_placeholder(text: &str) -> bool {
    let text = text.to_lowercase();
    let mut digits = text.chars().filter(|digit| digit.is_alphanumeric());
    let first = digits.next();
    PLACEHOLDERS.contains(&text.as_str()) || digits.all(|digit| Some(digit) == first)
}

impl MadeFor {
    /// Returns what the file beside the key in `key_path` says of the key with this `fingerprint`;
    /// nothing when there is none, or when it is said of another key.
    pub(super) fn load(key_path: &Path, fingerprint: Fingerprint) -> Option<Self> {
        let path = path(key_path);
        let read = match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            other => other.and_then(|text| Ok(serde_json::from_slice::<Self>(text.as_bytes())?)),
        };
        let made_for = read.inspect_err(|error| warn!("{}: {error}", path.display())).ok();
        made_for.filter(|made_for| made_for.key == fingerprint.to_string())
    }

    /// Writes the file, unless it says the same already. Should that fail, the key is still this
    /// host's.
    pub(super) fn save(&self, key_path: &Path) {
        let path = path(key_path);
        durable::remove_leftover(&path);
        let saved =
            serde_json::to_string_pretty(self).map_err(io::Error::from).and_then(
                |text| match read(&path).is_ok_and(|old| old == text) {
                    true => Ok(()),
                    false => durable::replace(&path, durable::PRIVATE, text.as_bytes()),
                },
            );
        if let Err(error) = saved {
            warn!("cannot write {}: {error}", path.display());
        }
    }
}

/// Returns the file beside the key in `key_path`: `host.machine` for `host.key`.
pub(super) fn path(key_path: &Path) -> PathBuf {
    key_path.with_extension("machine")
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_SIZE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    #[test]
    fn what_many_machines_have_alike_tells_nothing_apart() {
        for text in [
            "",
            "To be filled by O.E.M.",
            "Default string",
            "0",
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "xxxxxxx",
            "03000200-0400-0500-0006-000700080009",
        ] {
            assert!(is_placeholder(text), "{text}");
        }
        for text in ["S1234", "4c4c4544-0042-3510-8052-b4c04f4e4c31", "1100"] {
            assert!(!is_placeholder(text), "{text}");
        }
    }

    #[test]
    fn only_a_machine_id_that_lasts_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine-id");
        let on_disk = statfs(folder.path()).unwrap().filesystem_type() != TMPFS_MAGIC;
        for (text, is_id) in [
            ("0123456789abcdef0123456789abcdef\n", on_disk),
            ("uninitialized\n", false),
            ("", false),
            ("0123456789abcdef\n", false),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(!machine_id(&path).is_empty(), is_id, "{text}");
        }
        // Where it is made anew at each boot: in memory.
        let in_memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = in_memory.path().join("machine-id");
        fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
        assert_eq!(machine_id(&path), "");
    }
}
